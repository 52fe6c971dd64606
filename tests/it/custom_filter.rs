//! A filter that somebody else wrote: `gateway/core/examples/tenants.rs`.

use std::process::Command;

use edgeway_tests::{Finished, Gateway, Setup, program};

const PROGRAM: &str = "examples/tenants";

/// The filter, in the middle of others.
const SHOP: &str = "
    filters:
      - request_id
      - access_log
      - cors: { origins: [https://app.example.com] }
    routes:
      - match: { path: /shop/ }
        filters:
          - headers: { response: { set: { X-Above: 'yes' } } }
          - tenants: { allow: [acme, globex] }
          - headers: { response: { set: { X-Tenant: '{header.x-tenant}' } } }
        respond: { text: welcome }
";

fn setup(yaml: &str) -> Setup {
    Gateway::setup(yaml).program(PROGRAM)
}

fn checked(tenants: &str) -> Finished {
    let yaml = format!(
        "
        routes:
          - filters:
              - request_id
              - tenants: {tenants}
            respond: {{ text: welcome }}
        "
    );
    setup(&yaml).run("check")
}

#[test]
fn a_known_tenant_enters_and_an_unknown_one_does_not() {
    // #96
    let gateway = setup(SHOP).start();
    let known = gateway
        .request("GET", "/shop/")
        .header("X-Tenant", "acme")
        .send();
    assert_eq!((known.status, known.text()), (200, "welcome"));
    // #7
    assert_eq!(known.header("X-Tenant"), Some("acme"));

    let unknown = gateway
        .request("GET", "/shop/")
        .header("X-Tenant", "initech")
        .send();
    assert_eq!(unknown.status, 403);
    assert_eq!(
        unknown.header("Content-Type"),
        Some("application/problem+json")
    );
    assert_eq!(unknown.json()["title"], "Forbidden");
    assert_eq!(gateway.get("/shop/").status, 403);
    assert_eq!(gateway.get("/").status, 404);
}

#[test]
fn its_refusal_goes_up_the_chain_of_the_standard_filters() {
    let gateway = setup(SHOP).start();
    let request = gateway
        .request("GET", "/shop/")
        .header("Origin", "https://app.example.com");
    let refused = request.header("X-Tenant", "initech").send();
    assert_eq!(refused.status, 403);
    let id = refused.header("X-Request-Id").expect("an id");
    assert_eq!(refused.json()["request_id"], id);
    let allowed = refused.header("Access-Control-Allow-Origin");
    assert_eq!(allowed, Some("https://app.example.com"));
    assert_eq!(refused.header("X-Above"), Some("yes"));
    // Below the one that refused, no filter has seen the request, so none sees the response.
    assert_eq!(refused.header("X-Tenant"), None);

    let line = gateway.wait_for_output(id);
    assert!(line.contains(r#""status":403"#), "{line}");
    assert!(line.contains(r#""filter":"tenants""#), "{line}");
}

#[test]
fn a_misspelt_key_of_it_is_told_with_its_place_and_the_right_word() {
    let finished = checked("{ alow: [acme] }");
    assert_eq!(finished.code, Some(2));
    let log = finished.log;
    assert!(log.contains("edgeway.yaml:4:20"), "{log}");
    assert!(log.contains("- tenants: { alow: [acme] }"), "{log}");
    assert!(log.contains("routes[0].filters[1].tenants"), "{log}");
    assert!(log.contains("did you mean `allow`?"), "{log}");
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_its_place() {
    for (written, place, path) in [
        (
            "{ allow: acme }",
            "edgeway.yaml:4:27",
            "routes[0].filters[1].tenants.allow",
        ),
        (
            "{ allow: [acme, [globex]] }",
            "edgeway.yaml:4:34",
            "routes[0].filters[1].tenants.allow[1]",
        ),
        ("{}", "edgeway.yaml:4:9", "routes[0].filters[1].tenants"),
        ("acme", "edgeway.yaml:4:18", "routes[0].filters[1].tenants"),
    ] {
        let finished = checked(written);
        assert_eq!(finished.code, Some(2), "{written}");
        assert!(finished.log.contains(place), "{}", finished.log);
        assert!(finished.log.contains(path), "{}", finished.log);
    }
}

#[test]
fn a_running_gateway_keeps_the_old_configuration_when_the_new_one_misspells_it() {
    let gateway = setup(SHOP).start();
    assert!(!gateway.reload(&SHOP.replace("allow:", "alow:")));
    let known = gateway
        .request("GET", "/shop/")
        .header("X-Tenant", "acme")
        .send();
    assert_eq!(known.status, 200);
    assert!(gateway.reload(&SHOP.replace("globex", "initech")));
    let other = gateway
        .request("GET", "/shop/")
        .header("X-Tenant", "initech")
        .send();
    assert_eq!(other.status, 200);
}

#[test]
fn it_is_listed_and_shown_in_its_chain() {
    let listed = Command::new(program(PROGRAM))
        .arg("filters")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        names.contains(&"tenants") && names.contains(&"jwt"),
        "{listed}"
    );

    let routes = setup(SHOP).run("routes");
    assert_eq!(routes.code, Some(0), "{}", routes.log);
    let row = routes
        .output
        .lines()
        .find(|line| line.contains("/shop/"))
        .unwrap();
    assert!(
        row.contains("request_id > access_log > cors > headers > tenants > headers"),
        "{row}"
    );
}

#[test]
fn the_gateway_itself_does_not_know_it() {
    let finished = Gateway::setup(SHOP).run("check");
    assert_eq!(finished.code, Some(2));
    assert!(
        finished.log.contains("unknown filter `tenants`"),
        "{}",
        finished.log
    );
}
