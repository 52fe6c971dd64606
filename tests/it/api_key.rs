//! The filter `api_key`: programs that call with a key.

use std::fs;

use edgeway_tests::{Echo, Gateway, PATIENCE, Setup, eventually};

use crate::cli::{edgeway, edgeway_with};

/// The hash of the key `abc`.
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn setup(echo: &Echo, filter: &str) -> Setup {
    let filter = filter.replace('\n', " ");
    Gateway::setup(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        filters: [access_log]
        routes:
          - filters:
              - api_key: {{ {filter} }}
              - headers: {{ request: {{ set: {{ X-Subject: '{{subject}}', X-Seats: '{{claim.seats}}' }} }} }}
            upstream: echo
        "
    ))
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway
        .request("GET", "/")
        .header("X-API-Key", key)
        .send()
        .status
}

#[test]
fn a_new_key_opens_once_its_hash_is_in_the_file() {
    let echo = Echo::start();
    let made = edgeway(&["api-key"]);
    let [key, hash] = made.output.lines().collect::<Vec<_>>()[..] else {
        panic!("{made:?}")
    };
    let entry = |id: &str, hash: &str| format!("- {{ id: {id}, hash: '{hash}' }}\n");
    let setup = setup(&echo, "keys_file: keys.yaml");
    let gateway = setup.file("keys.yaml", entry("acme", ABC)).start();
    assert_eq!(status(&gateway, "abc"), 200);
    assert_eq!(status(&gateway, key), 401);
    // Both, for as long as it takes to hand out the new one.
    gateway.write("keys.yaml", entry("acme", ABC) + &entry("acme", hash));
    eventually(PATIENCE, || status(&gateway, key) == 200);
    assert_eq!(status(&gateway, "abc"), 200);
    gateway.write("keys.yaml", entry("acme", hash));
    eventually(PATIENCE, || status(&gateway, "abc") == 401);
    assert_eq!(status(&gateway, key), 200);
    assert_eq!(status(&gateway, hash), 401, "who has the hash has no key");

    gateway.write("keys.yaml", format!("- id: acme\n  hash: {key}\n"));
    let warning = gateway.wait_for_log("expected `sha256:`");
    assert!(
        warning.contains("line 1 of") && !warning.contains(key),
        "{warning}"
    );
    assert_eq!(status(&gateway, key), 200);
    fs::remove_file(gateway.folder().join("keys.yaml")).unwrap();
    gateway.wait_for_log("No such file");
    assert_eq!(status(&gateway, key), 200);
    gateway.write("keys.yaml", "[]");
    eventually(PATIENCE, || status(&gateway, key) == 401);
    assert!(
        !gateway.reload_files(),
        "a reload does not begin without keys"
    );
}

#[test]
fn who_has_no_key_never_reaches_the_upstream() {
    let echo = Echo::start();
    let gateway = setup(
        &echo,
        &format!("keys: [{{ id: acme, hash: '{ABC}' }}], realm: orders"),
    )
    .start();
    for key in ["", "ab", "abcd", "ABC", ABC] {
        assert_eq!(status(&gateway, key), 401, "{key}");
    }
    let request = gateway.request("GET", "/");
    let twice = request
        .header("X-API-Key", "abc")
        .header("X-API-Key", "abd")
        .send();
    assert_eq!(twice.status, 400);
    let answer = gateway.get("/?api_key=abc");
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("WWW-Authenticate"),
        Some("ApiKey realm=\"orders\"")
    );
    assert_eq!(echo.stats().requests, 0);
    for rule in ["missing", "unknown", "ambiguous"] {
        gateway.wait_for_output(&format!(r#""rule":"{rule}""#));
    }
}

#[test]
fn a_key_in_the_query_reaches_neither_the_upstream_nor_the_log() {
    let echo = Echo::start();
    let keys = format!("keys: [{{ id: acme, hash: '{ABC}' }}]");
    let gateway = setup(&echo, &format!("{keys}, from: [{{ query: k }}]")).start();
    gateway.wait_for_log("not hidden in logs");
    for (target, expected) in [("/a?x=1&k=abc&y=2", 200), ("/b?k=sesame&z=3", 401)] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, expected);
        if expected == 200 {
            assert_eq!(answer.json()["query"], "x=1&y=2");
        }
    }
    gateway.wait_for_output("/b?z=3");
    assert!(!gateway.output().contains("sesame") && !gateway.output().contains("abc"));
    let gateway = setup(
        &echo,
        &format!("{keys}, from: [{{ query: api_key }}], strip: false"),
    )
    .start();
    assert_eq!(gateway.get("/?api_key=abc").json()["query"], "api_key=abc");
    let line = gateway.wait_for_output("api_key=");
    assert!(line.contains("api_key=***"), "{line}");
}

#[test]
fn the_upstream_learns_whose_key_it_is_and_not_the_key() {
    let echo = Echo::start();
    let gateway = setup(
        &echo,
        "from: [bearer, { header: X-Key }], forward: { id: X-Caller, plan: X-Plan, roles: X-Roles },
         keys: [{ id: acme, hash: env:ACME, roles: [a, b], metadata: { plan: gold, seats: 3 } }]",
    )
    .env("ACME", ABC)
    .start();
    let request = gateway.request("GET", "/").bearer("abc");
    let answer = request
        .header("X-Caller", "root")
        .header("X_Caller", "root")
        .send();
    assert_eq!(answer.status, 200);
    for (header, value) in [
        ("x-caller", &["acme"][..]),
        ("x-plan", &["gold"]),
        ("x-roles", &["a,b"]),
        ("x-subject", &["acme"]),
        ("x-seats", &["3"]),
        ("authorization", &[]),
        ("x_caller", &[]),
    ] {
        assert_eq!(answer.received(header), value, "{header}");
    }
    let answer = gateway.request("GET", "/").header("X-Key", "abc").send();
    assert_eq!(answer.received("x-key"), [""; 0]);
    gateway.wait_for_output(r#""subject":"acme""#);
}

#[test]
fn a_key_is_over_at_its_time() {
    let echo = Echo::start();
    let key = |until: &str| format!("keys: [{{ id: acme, hash: '{ABC}', not_after: {until} }}]");
    let gateway = setup(&echo, &key("2999-12-31")).start();
    assert_eq!(status(&gateway, "abc"), 200);
    let gateway = setup(&echo, &key("2020-06-30T12:00:00Z")).start();
    assert_eq!(status(&gateway, "abc"), 401);
    let line = gateway.wait_for_output(r#""rule":"expired""#);
    assert!(
        line.contains("Tue, 30 Jun 2020 12:00:00 GMT") && line.contains(r#""key":"acme""#),
        "{line}"
    );
}

#[test]
fn without_a_key_a_request_passes_only_where_it_may() {
    let echo = Echo::start();
    let filter = format!(
        "keys: [{{ id: acme, hash: '{ABC}' }}], optional: true, forward: {{ id: X-Caller }}"
    );
    let gateway = setup(&echo, &filter).start();
    let answer = gateway
        .request("GET", "/")
        .header("X-Caller", "root")
        .send();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("x-caller"), [""; 0]);
    assert_eq!(status(&gateway, "wrong"), 401);
}

#[test]
fn keys_that_are_wrong_are_shown_where_they_stand() {
    let echo = Echo::start();
    for (filter, text) in [
        ("keys_file: none.yaml", "none.yaml`: No such file"),
        ("keys_file: keys.yaml", "line 3 of"),
        ("keys: [{ id: a, hash: abc }]", "expected `sha256:`"),
        ("realm: a", "there is no key"),
        (
            "keys: [{ id: a, hash: env:NOT_SET }]",
            "`NOT_SET` is not set",
        ),
    ] {
        let setup = setup(&echo, filter);
        let file = format!("- id: a\n  hash: {ABC}\n- id: b\n  hash: {ABC}\n");
        let said = setup.file("keys.yaml", file).refused();
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn each_caller_has_a_limit_of_its_own() {
    let hashes = ["abc", "abd"].map(|key| {
        let made = edgeway_with(&["api-key", "--existing"], key);
        made.output.trim_end().to_owned()
    });
    let [one, two] = hashes;
    let gateway = Gateway::start(&format!(
        "
        routes:
          - filters:
              - api_key: {{ keys: [{{ id: one, hash: '{one}' }}, {{ id: two, hash: '{two}' }}] }}
              - rate_limit: {{ rate: 1/h, burst: 2, key: '{{subject}}' }}
            respond: {{ text: welcome }}
        "
    ));
    for (key, expected) in [
        ("abc", 200),
        ("abc", 200),
        ("abc", 200),
        ("abc", 429),
        ("abd", 200),
        ("abc", 429),
    ] {
        assert_eq!(status(&gateway, key), expected, "{key}");
    }
}
