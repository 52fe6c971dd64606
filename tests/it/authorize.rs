//! The filter `authorize`: what a caller must be, whatever has found out who is calling (#92).

use edgeway_tests::{Answer, Echo, Gateway, Setup};
use serde_json::{Value, json};

use crate::jwt::tokens::{SECRET, token};

fn setup(rules: &str) -> Setup {
    let rules = rules.replace('\n', " ");
    Gateway::setup(&format!(
        "
        filters: [access_log]
        routes:
          - filters:
              - jwt: {{ algorithms: [HS256], secret: {SECRET}, optional: true, require_exp: false }}
              - authorize: {{ {rules} }}
            respond: {{ text: welcome }}
        "
    ))
}

fn ask(gateway: &Gateway, claims: Value) -> Answer {
    gateway.request("GET", "/").bearer(&token(claims)).send()
}

#[test]
fn roles_scopes_claims_and_names_decide() {
    let gateway = setup(
        "any: [
           { roles: [admin, operator] },
           { scopes: orders:read, claims: { tenant: acme } },
           { all: [{ scopes: a }, { scopes: b }] },
           { subjects: 'svc-*' }]",
    )
    .start();
    for (claims, expected) in [
        (json!({"sub": "ann", "roles": ["operator"]}), 200),
        (json!({"sub": "ann", "roles": ["guest"]}), 403),
        (
            json!({"sub": "ann", "scope": "x orders:read", "tenant": "acme"}),
            200,
        ),
        (json!({"sub": "ann", "scope": "x orders:read"}), 403),
        (json!({"sub": "ann", "scp": ["a", "b"]}), 200),
        (json!({"sub": "ann", "scp": ["a"]}), 403),
        (json!({"sub": "svc-billing"}), 200),
        (json!({"sub": "ann"}), 403),
    ] {
        assert_eq!(ask(&gateway, claims.clone()).status, expected, "{claims}");
    }
}

#[test]
fn nobody_is_asked_and_somebody_is_told_no() {
    let gateway =
        setup("roles: admin, roles_claim: realm_access.roles, challenge: 'Bearer realm=\"shop\"'")
            .start();
    let answer = gateway.get("/");
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("WWW-Authenticate"),
        Some("Bearer realm=\"shop\"")
    );
    let answer = ask(
        &gateway,
        json!({"sub": "ann", "realm_access": {"roles": ["user"]}}),
    );
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("WWW-Authenticate"), None);
    assert!(!answer.text().contains("admin"), "{}", answer.text());
    let line = gateway.wait_for_output("has none of the roles `admin`");
    for part in [
        r#""filter":"authorize""#,
        r#""rule":"roles""#,
        r#""key":"ann""#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let claims = json!({"sub": "ann", "realm_access": {"roles": ["user", "admin"]}});
    assert_eq!(ask(&gateway, claims).status, 200);
}

#[test]
fn it_does_not_matter_what_has_found_out_who_is_calling() {
    let echo = Echo::start();
    // bcrypt of `open sesame`.
    let ann = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
    let yaml = format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: /password/ }}
            filters:
              - basic_auth: {{ users: {{ ann: '{ann}' }}, groups_file: groups }}
              - authorize: {{ roles: staff }}
            upstream: echo
          - match: {{ path: /key/ }}
            filters:
              - api_key:
                  keys:
                    - id: acme
                      hash: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
                      roles: [staff]
              - authorize: {{ roles: staff }}
            upstream: echo
        "
    );
    let gateway = Gateway::setup(&yaml).file("groups", "staff: ann\n").start();
    let ask = |target: &str, name: &str, value: &str| {
        gateway
            .request("GET", target)
            .header(name, value)
            .send()
            .status
    };
    let password = "Basic YW5uOm9wZW4gc2VzYW1l";
    assert_eq!(ask("/password/", "Authorization", password), 200);
    assert_eq!(ask("/key/", "X-API-Key", "abc"), 200);
    // Who is no longer in the group is out.
    gateway.write("groups", "staff: bob\n");
    edgeway_tests::eventually(edgeway_tests::PATIENCE, || {
        ask("/password/", "Authorization", password) == 403
    });
}

#[test]
fn a_rule_that_would_let_everybody_pass_is_refused() {
    for (rules, text) in [
        ("roles_claim: groups", "would let everybody pass"),
        ("any: [{ roles: a }, {}]", "would let everybody pass"),
        ("role: admin", "unknown key `role`"),
        ("any: [{ role: admin }]", "unknown key `role`"),
        ("roles: []", "the list is empty"),
    ] {
        let said = setup(rules).refused();
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn a_filter_that_only_reports_lets_all_pass_and_tells() {
    let gateway = Gateway::start(
        "
        filters: [access_log]
        routes:
          - filters:
              - authorize: { roles: admin }
                mode: report
            respond: { text: welcome }
        ",
    );
    assert_eq!(gateway.get("/").status, 200);
    let line = gateway.wait_for_output(r#""reported""#);
    assert!(line.contains("nobody"), "{line}");
}
