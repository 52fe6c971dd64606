//! Changes that are written to the file of the endpoints.

use super::*;

fn discovering(more: &str, content: &str) -> Gateway {
    let text = configuration(&format!(
        "discover: {{ file: endpoints.yaml, interval: 50ms }}{more}"
    ));
    Gateway::setup(&text)
        .file("endpoints.yaml", content)
        .start()
}

fn file(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.folder().join("endpoints.yaml")).unwrap()
}

fn persisted(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    send(gateway, method, &format!("{path}?persist=true"), body)
}

#[test]
fn a_change_is_written_is_in_force_at_once_and_survives_the_process() {
    let [a, b] = two();
    let mut gateway = discovering("", &format!("# ours\nendpoints:\n  - {a} # the first\n"));
    let body = json!({ "address": b.to_string(), "weight": 3 });
    let answer = persisted(&gateway, "POST", ENDPOINTS, &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["origin"], "discovery");
    assert_eq!(
        file(&gateway),
        format!("# ours\nendpoints:\n  - {a} # the first\n  - {{ address: {b}, weight: 3 }}\n")
    );
    assert_eq!(shares(&gateway, 8), are(&[("a", 2), ("b", 6)]));
    assert_eq!(pool(&gateway)["changed"], false);
    let source = pool(&gateway)["source"].as_str().unwrap().to_owned();
    assert!(
        source.starts_with("file=/") && source.ends_with("endpoints.yaml"),
        "{source}"
    );
    let answer = persisted(&gateway, "PATCH", &path_of(&b), &json!({ "weight": 1 }));
    assert_eq!((answer.status, &answer.json()["weight"]), (200, &json!(1)));
    assert_eq!(shares(&gateway, 4), are(&[("a", 2), ("b", 2)]));
    done(&ask(&gateway, "DELETE", &format!("{}?persist=true", path_of(&a))).send());
    assert_eq!(shares(&gateway, 4), are(&[("b", 4)]));
    assert_eq!(file(&gateway), format!("# ours\nendpoints:\n  - {b}\n"));
    let written = file(&gateway);
    assert!(gateway.stop().success());
    let next = discovering("", &written);
    assert_eq!(names(&next), [b.to_string()]);
}

#[test]
fn what_was_said_before_does_not_hide_what_is_written() {
    let [a, b] = two();
    let gateway = discovering("", &format!("endpoints: [{a}, {b}]\n"));
    patch(&gateway, &a, &json!({ "weight": 5, "state": "drain" }));
    let answer = persisted(&gateway, "PATCH", &path_of(&a), &json!({ "weight": 2 }));
    let endpoint = answer.json();
    assert_eq!(
        (&endpoint["weight"], &endpoint["state"]),
        (&json!(2), &json!("drain"))
    );
    assert!(file(&gateway).contains("weight: 2") && !file(&gateway).contains("drain"));
    done(&ask(&gateway, "DELETE", &path_of(&b)).send());
    let answer = persisted(
        &gateway,
        "POST",
        ENDPOINTS,
        &json!({ "address": b.to_string(), "weight": 4 }),
    );
    assert_eq!(
        (answer.status, &answer.json()["weight"]),
        (201, &json!(4)),
        "{}",
        answer.text()
    );
    assert_eq!(names(&gateway).len(), 2);
}

#[test]
fn changes_at_the_same_time_do_not_lose_each_other() {
    let a = Endpoint::start("a");
    let gateway = discovering("", &format!("endpoints:\n  - {a}\n"));
    let address = gateway.address_of("admin");
    let callers: Vec<_> = (1..=20)
        .map(|number| {
            thread::spawn(move || {
                let body = json!({ "address": format!("127.0.0.1:{number}") });
                Request::to(address, "POST", &format!("{ENDPOINTS}?persist=true"))
                    .header("Content-Type", "application/json")
                    .body(body.to_string())
                    .send()
                    .status
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), 201);
    }
    assert_eq!(file(&gateway).lines().count(), 22, "{}", file(&gateway));
    assert_eq!(names(&gateway).len(), 21);
}

#[test]
fn what_no_file_holds_can_not_be_written() {
    let [a, b] = two();
    let without = gateway(&format!("endpoints: [{a}]"));
    let body = json!({ "address": b.to_string() });
    let no_file = "no `discover: { file: ... }`";
    problem(&persisted(&without, "POST", ENDPOINTS, &body), 409, no_file);
    problem(
        &persisted(&without, "PATCH", &path_of(&a), &json!({ "weight": 2 })),
        409,
        no_file,
    );
    assert_eq!(pool(&without)["changed"], false);

    let gateway = discovering(&format!(", endpoints: [{a}]"), "endpoints: []\n");
    let change = json!({ "weight": 2 });
    let answer = persisted(&gateway, "PATCH", &path_of(&a), &change);
    problem(&answer, 409, "written in the configuration");
    add(&gateway, &b);
    let answer = persisted(&gateway, "PATCH", &path_of(&b), &change);
    problem(&answer, 409, "added without `persist`");
    assert_eq!(file(&gateway), "endpoints: []\n");
}

#[test]
fn a_change_that_would_spoil_the_file_is_refused() {
    let [a, b] = two();
    let text = format!("endpoints: [{a}, {{ address: {b}, backup: true }}]\n");
    let gateway = discovering("", &text);
    let answer = ask(&gateway, "DELETE", &format!("{}?persist=true", path_of(&a))).send();
    problem(&answer, 409, "all endpoints are backups");
    assert_eq!(file(&gateway), text);
    assert_eq!(names(&gateway).len(), 2);
    gateway.write("endpoints.yaml", "endpoints: [");
    let answer = persisted(&gateway, "PATCH", &path_of(&a), &json!({ "weight": 2 }));
    problem(&answer, 409, "can't be read as it is");
    assert_eq!(file(&gateway), "endpoints: [");
    fs::remove_file(gateway.folder().join("endpoints.yaml")).unwrap();
    let answer = persisted(&gateway, "PATCH", &path_of(&a), &json!({ "weight": 2 }));
    problem(&answer, 500, "No such file");
}
