//! The filter `json_fields`: fields of documents on their way to the upstream and back.

use std::io::Write;

use edgeway_tests::{Answer, Endpoint, Framing, Gateway, Http2, Reaction, Received, Upstream};
use flate2::{Compression, write::GzEncoder};

use crate::cache_surge::{ms, told};

const RULES: &str = "\
    request: { \
      remove: [password, 'users[*].is_admin'], rename: { userName: user_name }, \
      set: { tenant: '{header.x-tenant}' }, add: { version: 2 } }, \
    response: { remove: ['users[*].password_hash'], set: { served_by: '{host}' } }";
const SENT: &str = r#"{"userName": "ann", "password": "x", "users": [{"is_admin": true, "n": 1.50}], "tenant": "evil"}"#;
const ARRIVED: &str =
    r#"{"user_name": "ann", "users": [{ "n": 1.50}],"tenant":"acme","version":2}"#;
const ANSWER: &str =
    r#"{"users": [{"name": "ann", "password_hash": "secret"}], "n": 12345678901234567890.10}"#;
const SHOWN: &str =
    r#"{"users": [{"name": "ann"}], "n": 12345678901234567890.10,"served_by":"127.0.0.1"}"#;

fn answer(request: &Received) -> Reaction {
    let answer = Reaction::status(200).header("Content-Type", "application/json");
    match request.path.as_str() {
        "/pieces" => {
            let (first, second) = ANSWER.split_at(30);
            let answer = answer.header("Transfer-Encoding", "chunked");
            answer.pieces([first.to_owned(), second.to_owned()], ms(20))
        }
        "/text" => Reaction::status(200)
            .header("Content-Type", "text/plain")
            .body(ANSWER),
        "/broken" => answer.body("{\"users\": [{\"password_hash\": \"secret\"}"),
        "/large" => answer.body(format!(
            "{{\"password_hash\": \"{}\"}}",
            "secret".repeat(20_000)
        )),
        "/large/pieces" => {
            let answer = answer.header("Transfer-Encoding", "chunked");
            answer.pieces(
                ["{\"password_hash\": \"".to_owned(), "secret".repeat(20_000)],
                ms(20),
            )
        }
        "/packed" => answer
            .header("Content-Encoding", "gzip")
            .body(packed(ANSWER)),
        "/empty" => answer,
        "/typed" => Reaction::status(200)
            .header("Content-Type", "application/json; x=\u{e9}")
            .body(ANSWER),
        "/users/ann@example.com" if !request.header_all("range").is_empty() => Reaction::status(
            206,
        )
        .header("Content-Type", "multipart/byteranges; boundary=x")
        .body(format!(
            "--x\r\nContent-Type: application/json\r\nContent-Range: bytes 0-1/2\r\n\r\n{ANSWER}"
        )),
        _ => answer.header("ETag", "\"a\"").body(ANSWER),
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

/// `others` are filters before this one, `route` what else the route has.
fn yaml(upstream: &str, options: &str, others: &str, route: &str) -> String {
    format!(
        "
        upstreams: {{ pool: {{ {upstream} }} }}
        routes:
          - filters: [{others} {{ json_fields: {{ {options} }} }}]
            upstream: pool
            {route}
        "
    )
}

fn start(endpoint: &Endpoint, options: &str) -> Gateway {
    Gateway::start(&yaml(&format!("endpoints: [{endpoint}]"), options, "", ""))
}

fn endpoint() -> Endpoint {
    Endpoint::setup("api").answers(answer).start()
}

fn post(gateway: &Gateway, body: &str) -> Answer {
    let request = gateway
        .request("POST", "/")
        .header("Content-Type", "application/json");
    request.header("X-Tenant", "acme").body(body).send()
}

/// What arrived at last.
fn arrived(endpoint: &Endpoint) -> (String, Vec<String>, Vec<String>) {
    let received = endpoint.received();
    let last = received.last().unwrap();
    let all = |name| {
        last.header_all(name)
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    (
        String::from_utf8(last.body.to_vec()).unwrap(),
        all("content-length"),
        all("transfer-encoding"),
    )
}

#[test]
fn an_endpoint_gets_what_the_rules_make_of_a_document_with_its_length() {
    let http2 = Endpoint::setup("h2").h2c().answers(answer).start();
    for (protocol, endpoint) in [("http1", endpoint()), ("http2", http2)] {
        let upstream = format!("protocol: {protocol}, endpoints: [{endpoint}]");
        let gateway = Gateway::start(&yaml(&upstream, RULES, "", ""));
        assert_eq!(post(&gateway, SENT).status, 200);
        let length = vec![ARRIVED.len().to_string()];
        assert_eq!(
            arrived(&endpoint),
            (ARRIVED.to_owned(), length.clone(), vec![])
        );

        let http2 = Http2::open(gateway.address());
        let mut request = http2.request("POST", "/", SENT);
        request
            .headers_mut()
            .insert("content-type", "application/json".parse().unwrap());
        request
            .headers_mut()
            .insert("content-length", SENT.len().into());
        request
            .headers_mut()
            .insert("x-tenant", "acme".parse().unwrap());
        assert_eq!(http2.send(request).unwrap().status, 200);
        assert_eq!(arrived(&endpoint), (ARRIVED.to_owned(), length, vec![]));
    }
}

#[test]
fn a_document_of_which_the_length_is_not_told_goes_on_in_chunks() {
    let endpoint = endpoint();
    let gateway = start(&endpoint, RULES);
    let request = || {
        gateway
            .request("POST", "/")
            .header("Content-Type", "application/json")
            .header("X-Tenant", "acme")
    };
    let chunked = request().chunks(SENT.as_bytes().chunks(7)).send();
    assert_eq!(chunked.status, 200);
    assert_eq!(
        arrived(&endpoint),
        (ARRIVED.to_owned(), vec![], vec!["chunked".to_owned()])
    );
    // Nor is that of what is too long to be looked at before the endpoint is.
    let long = format!("{{\"password\": 1, \"long\": \"{}\"}}", "x".repeat(200_000));
    assert_eq!(request().body(long.as_str()).send().status, 200);
    let (body, ..) = arrived(&endpoint);
    assert_eq!(
        body,
        long.replace("\"password\": 1,", "")
            .replace("\"}", "\",\"tenant\":\"acme\",\"version\":2}")
    );
}

#[test]
fn a_document_comes_whole_to_the_endpoint_that_is_asked_next() {
    let endpoint = endpoint();
    let refusing = Upstream::refusing();
    let upstream = format!("endpoints: ['{}', {endpoint}]", refusing.address());
    let gateway = Gateway::start(&yaml(&upstream, RULES, "", ""));
    for _ in 0..4 {
        assert_eq!(post(&gateway, SENT).status, 200);
        assert_eq!(arrived(&endpoint).0, ARRIVED);
        assert_eq!(arrived(&endpoint).1, [ARRIVED.len().to_string()]);
    }
}

#[test]
fn a_request_that_can_not_be_read_reaches_no_endpoint() {
    let endpoint = endpoint();
    let gateway = start(&endpoint, &format!("{RULES}, max_size: 100B"));
    let request = |content_type: &str| {
        gateway
            .request("POST", "/")
            .header("Content-Type", content_type)
    };
    let detail = |answer: &Answer| answer.json()["detail"].as_str().map(str::to_owned);
    let broken = request("application/json")
        .body("{\"password\": 1,}")
        .send();
    assert_eq!(
        (broken.status, detail(&broken).as_deref()),
        (400, Some("The body is not valid JSON."))
    );
    let large = request("application/problem+json")
        .body(format!("{:>101}", "1"))
        .send();
    assert_eq!(
        (large.status, detail(&large).as_deref()),
        (413, Some("The body is too large."))
    );
    let coded = request("application/json")
        .header("Content-Encoding", "gzip")
        .body(packed(SENT))
        .send();
    assert_eq!(
        (coded.status, detail(&coded).as_deref()),
        (415, Some("The body must not be compressed."))
    );
    assert_eq!(coded.header("accept-encoding"), Some("identity"));
    assert_eq!(endpoint.requests(), 0);
    // In chunks it may, but there it breaks off.
    let chunked = request("application/json")
        .chunks([vec![b'1'; 60], vec![b'1'; 60]])
        .send();
    assert_eq!(chunked.status, 413);
    assert!(
        endpoint
            .received()
            .iter()
            .all(|received| received.body.is_empty())
    );
    let other = request("text/plain").body(SENT).send();
    assert_eq!(other.status, 200);
    assert_eq!(arrived(&endpoint).0, SENT);
}

#[test]
fn what_can_not_be_read_passes_if_that_is_wanted() {
    let endpoint = endpoint();
    let gateway = start(
        &endpoint,
        &format!("{RULES}, max_size: 90B, unreadable: pass, types: text/plain"),
    );
    let request = |content_type: &str| {
        gateway
            .request("POST", "/")
            .header("Content-Type", content_type)
    };
    for body in [
        "{\"password\": 1,}".to_owned(),
        format!("{{\"password\": {}1}}", " ".repeat(90)),
    ] {
        assert_eq!(
            request("application/json")
                .body(body.as_str())
                .send()
                .status,
            200
        );
        assert_eq!(
            arrived(&endpoint),
            (body.clone(), vec![body.len().to_string()], vec![])
        );
        assert_eq!(
            request("application/json")
                .chunks(body.as_bytes().chunks(9))
                .send()
                .status,
            200
        );
        assert_eq!(arrived(&endpoint).0, body);
    }
    // A type of which not all say that it is JSON.
    assert_eq!(
        request("text/plain").body("{\"password\":1}").send().status,
        200
    );
    assert_eq!(arrived(&endpoint).0, "{\"version\":2}");
    for target in ["/broken", "/large", "/large/pieces"] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("secret"), "{target}");
    }
    let answer = gateway.get("/text");
    assert_eq!(answer.text(), SHOWN);
}

#[test]
fn a_client_gets_what_the_rules_make_of_a_document() {
    let endpoint = endpoint();
    let gateway = start(&endpoint, RULES);
    let cached = Gateway::start(&yaml(
        &format!("endpoints: [{endpoint}]"),
        RULES,
        "",
        "cache: { ttl: 1m }",
    ));
    for target in ["/", "/pieces"] {
        assert_eq!(gateway.get(target).text(), SHOWN);
        for status in ["fwd=uri-miss", "hit", "hit"] {
            let answer = cached.get(target);
            assert_eq!(answer.text(), SHOWN);
            assert!(told(&answer).contains(status), "{answer:?}");
        }
    }
    assert_eq!(gateway.get("/").header("etag"), Some("W/\"a\""));
    assert_eq!(gateway.get("/text").text(), ANSWER);
    assert_eq!(gateway.get("/empty").text(), "");
    let head = gateway.request("HEAD", "/").send();
    assert_eq!((head.status, head.header("content-length")), (200, None));
    let asked = endpoint.received();
    assert!(
        asked
            .iter()
            .all(|request| request.header_all("accept-encoding").is_empty())
    );
}

#[test]
fn a_response_that_can_not_be_read_does_not_show_what_is_to_be_removed() {
    let endpoint = endpoint();
    let options = "response: { remove: [password_hash] }, max_size: 50KiB";
    let yaml = yaml(
        &format!("endpoints: [{endpoint}]"),
        options,
        "access_log,",
        "",
    );
    let gateway = Gateway::start(&yaml);
    for (target, reason) in [
        ("/packed", "the body is compressed"),
        ("/large", "the body is larger than 50KiB"),
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 502, "{target}");
        assert!(!answer.text().contains("secret"));
        gateway.wait_for_output(reason);
    }
    for target in ["/broken", "/large/pieces"] {
        // The head may have gone, but nothing of the body has, and its end does not come.
        let text = match gateway.request("GET", target).attempt() {
            Ok(answer) => {
                assert_eq!(answer.status, 502, "{target}: {answer:?}");
                answer.text().to_owned()
            }
            Err(broken) => broken
                .partial
                .map(|answer| answer.text().to_owned())
                .unwrap_or_default(),
        };
        assert!(!text.contains("secret"), "{target}: {text}");
    }
    gateway.wait_for_output("the body is no JSON");
}

#[test]
fn a_type_that_is_no_text_does_not_hide_a_document() {
    let endpoint = endpoint();
    let gateway = start(
        &endpoint,
        "request: { remove: [admin] }, response: { remove: ['users[*].password_hash'] }",
    );
    let request = gateway.request("POST", "/typed");
    let request = request.header("Content-Type", "application/json; x=\u{e9}");
    let answer = request.body(r#"{"admin": true, "a": 1}"#).send();
    assert_eq!(arrived(&endpoint).0, r#"{ "a": 1}"#);
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("password_hash"), "{answer:?}");
}

#[test]
fn nobody_gets_what_is_removed_in_parts() {
    let endpoint = endpoint();
    let gateway = start(
        &endpoint,
        "response: { remove: ['users[*].password_hash'] }",
    );
    let request = gateway.request("GET", "/users/ann@example.com");
    let answer = request.header("Range", "bytes=0-0,1-400").send();
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("password_hash"), "{answer:?}");
}

#[test]
fn filters_that_hold_bodies_too_stand_beside_it() {
    let endpoint = endpoint();
    let verdicts = Endpoint::setup("auth")
        .answers(|_| Reaction::status(200))
        .start();
    let others = format!(
        "body_limit: {{ max: 1MiB, decompressed: 1MiB }}, waf: {{}}, \
         forward_auth: {{ url: 'http://{verdicts}/', method: client, body: 8KiB }},"
    );
    let configured = yaml(&format!("endpoints: [{endpoint}]"), RULES, &others, "");
    let gateway = Gateway::start(&configured);
    assert_eq!(post(&gateway, SENT).status, 200);
    assert_eq!(
        arrived(&endpoint),
        (ARRIVED.to_owned(), vec![ARRIVED.len().to_string()], vec![])
    );
    // Two of them: the second changes what the first has made.
    let first = "json_fields: { request: { rename: { name: userName } } },";
    let gateway = Gateway::start(&yaml(&format!("endpoints: [{endpoint}]"), RULES, first, ""));
    let renamed = SENT.replace("userName", "name");
    assert_eq!(post(&gateway, &renamed).status, 200);
    assert_eq!(arrived(&endpoint).0, ARRIVED);
}

#[test]
fn what_is_only_reported_goes_on_as_it_came() {
    let endpoint = endpoint();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        routes: [{{ filters: [{{ json_fields: {{ {RULES} }}, mode: report }}], upstream: pool }}]
        "
    ));
    assert_eq!(post(&gateway, "{\"password\": 1,}").status, 200);
    assert_eq!(arrived(&endpoint).0, "{\"password\": 1,}");
    assert_eq!(post(&gateway, SENT).status, 200);
    assert_eq!(arrived(&endpoint).0, ARRIVED);
}

#[test]
fn the_gateways_own_replies_are_documents_too() {
    let gateway = Gateway::start(
        "
        filters: [json_fields: { response: { remove: [hidden], add: { by: '{host}' } } }]
        routes:
          - { match: { path: { exact: / } }, respond: { json: { hidden: 1, shown: 2 } } }
          - { match: { path: /odd }, respond: { text: 'no json', headers: { Content-Type: application/json } } }
        ",
    );
    let answer = gateway.get("/");
    assert_eq!(answer.text(), "{\"shown\":2,\"by\":\"127.0.0.1\"}");
    assert_eq!(answer.framing, Framing::Length(answer.text().len() as u64));
    assert_eq!(gateway.get("/odd").status, 502);
    let missing = gateway.get("/missing");
    assert_eq!(
        (missing.status, &missing.json()["by"]),
        (404, &serde_json::Value::Null)
    );
}

#[test]
fn a_document_that_can_not_be_read_is_told_of_wherever_it_comes_from() {
    let endpoint = endpoint();
    let gateway = Gateway::setup(&format!(
        "
        upstreams: {{ pool: {{ endpoints: [{endpoint}] }} }}
        filters: [access_log: {{ format: '{{target}} {{reason}}' }}, {{ json_fields: {{ {RULES} }} }}]
        routes:
          - {{ upstream: pool, cache: {{ ttl: 1m }} }}
          - {{ match: {{ path: /odd.json }}, files: {{ root: www }} }}
        "
    ))
    .file("www/odd.json", "{\"password_hash\": secret}")
    .start();
    for target in ["/broken", "/broken?hit", "/broken?hit", "/odd.json"] {
        let broken = gateway.request("GET", target).attempt();
        let shown = broken.map_or_else(|broken| broken.partial.map(|answer| *answer), Some);
        assert!(
            !shown.is_some_and(|answer| answer.text().contains("secret")),
            "{target}"
        );
    }
    gateway.wait_for_output("/odd.json the body is no JSON: a value is missing after 18 bytes");
    let told = gateway.output();
    assert_eq!(told.matches("the body is no JSON").count(), 4, "{told}");
}
