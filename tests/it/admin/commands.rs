//! The commands that ask a running gateway.

use edgeway_tests::Finished;

use super::*;
use crate::cli::edgeway;

fn run(gateway: &Gateway, arguments: &[&str]) -> Finished {
    let address = format!("http://{}", gateway.address_of("admin"));
    let file = gateway.folder().join("edgeway.yaml");
    let more = ["-c", file.to_str().unwrap(), "--admin", &address];
    edgeway(&[arguments, &more].concat())
}

/// What a command has written that went well.
#[track_caller]
fn said(gateway: &Gateway, arguments: &[&str]) -> String {
    let finished = run(gateway, arguments);
    assert_eq!(
        finished.code,
        Some(0),
        "{}{}",
        finished.output,
        finished.log
    );
    finished.output
}

#[test]
fn the_status_is_written_for_people_or_programs() {
    let a = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: [{a}]"));
    let text = said(&gateway, &["status"]);
    let first = format!("is serving: process {}", gateway.pid());
    assert!(
        text.contains(&first) && text.contains("1 of 1 up"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&said(&gateway, &["status", "--json"])).unwrap();
    assert_eq!(json["pid"], gateway.pid());
}

#[test]
fn an_endpoint_is_taken_out_weighted_and_put_back() {
    let [a, b] = two();
    let gateway = gateway(&format!("endpoints: [{a}, {b}]"));
    let (one, other) = (a.to_string(), b.to_string());
    let told = said(&gateway, &["endpoint", "pool", &one, "drain"]);
    assert!(told.starts_with(&format!("{one} is draining")), "{told}");
    assert_eq!(shares(&gateway, 4), are(&[("b", 4)]));
    let table = said(&gateway, &["upstreams", "pool"]);
    let row = table.lines().find(|line| line.contains(&one)).unwrap();
    assert!(row.contains("draining"), "{table}");
    said(&gateway, &["endpoint", "pool", &one, "up"]);
    said(&gateway, &["endpoint", "pool", &other, "weight", "3"]);
    assert_eq!(shares(&gateway, 4), are(&[("a", 1), ("b", 3)]));
    let json: Value = serde_json::from_str(&said(&gateway, &["upstreams", "--json"])).unwrap();
    assert_eq!(json["upstreams"][0]["endpoints"][1]["weight"], 3);
    for (arguments, code, says) in [
        (
            &["endpoint", "pool", "nobody:1", "up"][..],
            1,
            "no endpoint `nobody:1`",
        ),
        (
            &["endpoint", "pol", &one, "up"][..],
            1,
            "did you mean `pool`?",
        ),
        (&["endpoint", "pool", &one, "weight"][..], 2, "<NUMBER>"),
        (
            &["endpoint", "pool", &one, "up", "3"][..],
            2,
            "a number belongs to `weight`",
        ),
        (
            &["endpoint", "pool", &one, "away"][..],
            2,
            "possible values",
        ),
    ] {
        let finished = run(&gateway, arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?} {}", finished.log);
        assert!(
            finished.log.contains(says),
            "{arguments:?} {}",
            finished.log
        );
    }
}

#[test]
fn everything_or_a_route_is_closed_and_opened() {
    let gateway = Gateway::start(
        "listeners: { http: { bind: '127.0.0.1:0' } }\n\
         admin: { bind: '127.0.0.1:0' }\n\
         routes:\n\
         \x20 - { name: shop, match: { path: /shop }, upstream: app }\n\
         \x20 - { name: hello, match: { path: /hello }, respond: { text: hello } }\n\
         upstreams: { app: { endpoints: ['127.0.0.1:1'] } }\n",
    );
    let told = said(
        &gateway,
        &["maintenance", "on", "hello", "--retry-after", "10m"],
    );
    assert_eq!(told, "hello is closed\n");
    let answer = gateway.get("/hello");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("600"))
    );
    let table = said(&gateway, &["maintenance"]);
    assert!(
        table.contains("(everything)") && table.contains("closed"),
        "{table}"
    );
    assert_eq!(
        said(&gateway, &["maintenance", "off", "hello"]),
        "hello is open\n"
    );
    assert_eq!(gateway.get("/hello").status, 200);
    said(
        &gateway,
        &[
            "maintenance",
            "on",
            "--allow",
            "127.0.0.1",
            "--allow",
            "10.0.0.0/8",
        ],
    );
    assert_eq!(gateway.get("/hello").status, 200);
    said(&gateway, &["maintenance", "forget"]);
    let wrong = run(&gateway, &["maintenance", "on", "helo"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.log.contains("did you mean `hello`?"), "{}", wrong.log);
}

#[test]
fn caches_are_purged() {
    let a = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n\
         upstreams: {{ pool: {{ endpoints: ['{a}'] }} }}\n\
         routes: [{{ upstream: pool, cache: {{ ttl: 1h }} }}]\n"
    ));
    let get = || gateway.request("GET", "/a").host("a.example").send();
    get();
    let before = a.requests();
    get();
    assert_eq!(a.requests(), before, "it is not in the cache");
    let told = said(&gateway, &["purge", "http://a.example/a"]);
    assert!(told.starts_with("1 object: purged"), "{told}");
    get();
    assert_eq!(a.requests(), before + 1);
    let told = said(
        &gateway,
        &["purge", "--all", "--soft", "--cache", "default"],
    );
    assert_eq!(told, "1 object: stale from now on\n");
    let none = run(&gateway, &["purge"]);
    assert_eq!(none.code, Some(2), "{}", none.log);
    let both = run(&gateway, &["purge", "--all", "--host", "a.example"]);
    assert_eq!(both.code, Some(2), "{}", both.log);
    let wrong = run(&gateway, &["purge", "/a"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.log.contains("https://"), "{}", wrong.log);
}

#[test]
fn the_gateway_is_drained_and_taken_back_and_its_log_made_louder() {
    let a = Endpoint::start("a");
    let mut gateway = gateway(&format!("endpoints: [{a}]"));
    assert_eq!(said(&gateway, &["drain"]), "the gateway is draining\n");
    assert_eq!(ask(&gateway, "GET", "/readyz").send().status, 503);
    assert_eq!(said(&gateway, &["undrain"]), "the gateway is serving\n");
    assert_eq!(ask(&gateway, "GET", "/readyz").send().status, 200);
    let before = said(&gateway, &["log-level"]);
    assert_eq!(said(&gateway, &["log-level", "debug"]), "debug\n");
    assert_eq!(said(&gateway, &["log-level", "--reset"]), before);
    assert_eq!(
        said(&gateway, &["drain", "--stop"]),
        "the gateway is stopping\n"
    );
    assert!(gateway.wait().success());
    let gone = run(&gateway, &["status"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.log.contains("edgeway is not running"), "{}", gone.log);
}

#[test]
fn requests_are_shown_until_the_gateway_ends() {
    let a = Endpoint::start("a");
    let mut gateway = gateway(&format!("endpoints: [{a}]"));
    let (address, file) = (
        format!("http://{}", gateway.address_of("admin")),
        gateway.folder().join("edgeway.yaml"),
    );
    let watch = thread::spawn(move || {
        edgeway(&[
            "tail",
            "-c",
            file.to_str().unwrap(),
            "--admin",
            &address,
            "--path",
            "/a*",
        ])
    });
    // Nobody tells when it watches: it has ended by itself if it did not.
    for _ in 0..30 {
        gateway.get("/a");
        gateway.get("/b");
        thread::sleep(Duration::from_millis(100));
    }
    gateway.stop();
    let finished = watch.join().unwrap();
    assert_eq!(finished.code, Some(1), "{}", finished.log);
    assert!(
        finished.output.contains(" GET ") && finished.output.contains("/a "),
        "{}",
        finished.output
    );
    assert!(!finished.output.contains("/b "), "{}", finished.output);
}
