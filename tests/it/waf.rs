//! The filter `waf`: what it refuses of attacks, on their way through a running gateway (#62).

use std::io::Write;

use bytes::Bytes;
use edgeway_tests::{Answer, Broken, Echo, Gateway, Http2};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

const FORM: &str = "application/x-www-form-urlencoded";

/// A gateway with an admin listener; `more` are lines below the name of the filter and beside it.
fn gateway(echo: &Echo, config: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}], max_fails: 0 }} }}
        filters: [access_log]
        routes:
          - filters:
              - waf: {config}
                {more}
            upstream: echo
        "
    ))
}

fn post(gateway: &Gateway, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = gateway.request("POST", "/items");
    request
        .header("Content-Type", content_type)
        .body(body.into())
        .send()
}

fn chunked(gateway: &Gateway, content_type: &str, body: &[u8]) -> Result<Answer, Broken> {
    let request = gateway.request("POST", "/items");
    request
        .header("Content-Type", content_type)
        .chunks(body.chunks(7))
        .attempt()
}

/// The line of the access log for this path.
fn line(gateway: &Gateway, path: &str) -> Value {
    let line = gateway.wait_for_output(&format!("\"target\":\"{path}"));
    serde_json::from_str(&line).unwrap()
}

#[test]
fn an_attack_in_the_head_never_reaches_the_upstream() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{}", "");
    for target in [
        "/?id=1'%20or%20'1'='1",
        "/?id=1%2527%2520or%25201%253d1",
        "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/?file=../../../etc/passwd",
        "/products/1%27%20or%20%271%27=%271",
        "/?host=x;cat%20/etc/passwd",
        "/?x=$%7Bjndi:ldap://x.example/a%7D",
        "/.git/config",
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 403, "{target}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["detail"], "The request looks like an attack.");
        for word in ["sqli", "xss", "rule", "score", "passwd"] {
            assert!(!answer.text().contains(word), "{target}: {}", answer.text());
        }
    }
    for (name, value) in [
        ("User-Agent", "sqlmap/1.7.2#stable (https://sqlmap.org)"),
        ("Cookie", "theme=dark; id=1' or '1'='1"),
        ("Referer", "https://x.example/?q=<script>alert(1)</script>"),
        ("X-Api-Version", "${jndi:ldap://x.example/a}"),
    ] {
        let answer = gateway.request("GET", "/").header(name, value).send();
        assert_eq!(answer.status, 403, "{name}");
    }
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn an_attack_in_a_body_never_reaches_the_upstream() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{}", "");
    let attack = "1' or '1'='1";
    let parts =
        format!("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{attack}\r\n--x--\r\n");
    let cases = [
        (FORM, format!("a=1&b={attack}")),
        (
            "application/json",
            format!("{{\"a\": [{{\"b\": \"{attack}\"}}]}}"),
        ),
        ("multipart/form-data; boundary=x", parts),
        ("text/xml", format!("<a>{attack}</a>")),
        ("text/plain", attack.to_owned()),
    ];
    for (content_type, body) in &cases {
        let answer = post(&gateway, content_type, body.as_bytes());
        assert_eq!(answer.status, 403, "{content_type}");
        assert_eq!(answer.json()["detail"], "The request looks like an attack.");
        let answer = chunked(&gateway, content_type, body.as_bytes());
        assert!(
            answer.is_err() || answer.is_ok_and(|answer| answer.status == 403),
            "{content_type}"
        );
        let http2 = Http2::open(gateway.address());
        let mut request = http2.request("POST", "/items", Bytes::from(body.clone()));
        request
            .headers_mut()
            .insert("content-type", content_type.parse().unwrap());
        let answer = http2.send(request);
        assert!(
            answer.is_err() || answer.is_ok_and(|answer| answer.status == 403),
            "{content_type}"
        );
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(format!("a={attack}").as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let request = gateway
        .request("POST", "/items")
        .header("Content-Type", FORM);
    let answer = request
        .header("Content-Encoding", "gzip")
        .body(packed)
        .send();
    assert_eq!(answer.status, 403);
    assert!(!format!("{:?}", echo.stats()).contains("or '1'"));
    assert_eq!(
        post(&gateway, FORM, "a=1").json()["body_bytes"],
        3,
        "it still serves"
    );
}

#[test]
fn what_is_harmless_passes_as_it_came() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{}", "");
    for target in [
        "/?q=O%27Brien+%26+Sons",
        "/?q=select+a+plan+from+the+list",
        "/?q=a+%3C+b+and+c+%3E+d",
        "/caf%C3%A9/women's-coats?page=2",
        "/?redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb%3Fa%3Db",
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    }
    let body = "name=O%27Brien&text=It%27s+5+%3C+x+%26+y%3B+see+%22above%22";
    let answer = post(&gateway, FORM, body);
    assert_eq!(answer.json()["body_bytes"], body.len());
    assert_eq!(answer.received("content-length"), [body.len().to_string()]);
    let answer = chunked(&gateway, FORM, body.as_bytes()).unwrap();
    assert_eq!(answer.json()["body_bytes"], body.len());
    let http2 = Http2::open(gateway.address());
    assert_eq!(http2.get("/?q=O%27Brien").status, 200);
    let large = format!("{{\"text\": \"{}\"}}", "it's fine ".repeat(40_000));
    assert_eq!(
        post(&gateway, "application/json", large.as_bytes()).json()["body_bytes"],
        large.len()
    );
    let png = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        (0..=255).cycle().take(300_000).collect(),
    ]
    .concat();
    assert_eq!(
        post(&gateway, "image/png", png.clone()).json()["body_bytes"],
        png.len()
    );
}

#[test]
fn the_log_and_the_admin_view_say_exactly_why() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{}", "");
    assert_eq!(
        gateway
            .get("/one?id=1%27%20union%20select%20a%20from%20b--")
            .status,
        403
    );
    let line = line(&gateway, "/one");
    assert_eq!(line["filter"], "waf");
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("in query id: sqli-"), "{reason}");
    assert!(reason.contains("sqli-union(5)"), "{reason}");
    assert_eq!(
        line["rule"].as_str().map(|rule| rule.starts_with("sqli-")),
        Some(true),
        "{line}"
    );
    assert_eq!(line["key"], "query id", "{line}");
}

#[test]
fn who_only_reports_lets_pass_what_it_would_have_refused() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "{ body: 64B }", "mode: report");
    assert_eq!(gateway.get("/one?id=1'%20or%20'1'='1").status, 200);
    let reported = &line(&gateway, "/one")["reported"][0];
    assert_eq!(
        (&reported["filter"], &reported["status"]),
        (&"waf".into(), &403.into())
    );
    let body = "a=1' or '1'='1&b=and some more that comes behind what is looked at";
    let answer = post(&gateway, FORM, body);
    assert_eq!(
        (answer.status, &answer.json()["body_bytes"]),
        (200, &body.len().into())
    );
    let answer = chunked(&gateway, FORM, body.as_bytes()).unwrap();
    assert_eq!(answer.json()["body_bytes"], body.len());
    gateway.wait_for_log("would refuse: filter=waf status=403");
}

#[test]
fn each_option_is_seen_to_work() {
    let echo = Echo::start();
    let odd = "/?a=$_GET";
    let attack = "/editor/?text=%3Cscript%3Ealert(1)%3C/script%3E";
    let late = format!("a={}&b=1' or '1'='1", "x".repeat(2_000));
    let default = gateway(&echo, "{}", "");
    assert_eq!(default.get(odd).status, 200);
    assert_eq!(default.get(attack).status, 403);
    assert_eq!(post(&default, FORM, late.as_str()).status, 403);

    let strict = gateway(&echo, "{ threshold: 3, body: 1KiB, longer: refuse }", "");
    assert_eq!(strict.get(odd).status, 403);
    assert_eq!(post(&strict, FORM, late.as_str()).status, 413);
    assert_eq!(post(&strict, FORM, "a=1").status, 200);

    let lenient = gateway(
        &echo,
        "{ body: 1KiB, disable: [traversal-hidden], exceptions: [{ class: xss, path: /editor/, parameter: text }] }",
        "",
    );
    assert_eq!(lenient.get("/backup.sql").status, 200);
    assert_eq!(default.get("/backup.sql").status, 403);
    assert_eq!(lenient.get(attack).status, 200);
    assert_eq!(lenient.get(&attack.replace("editor", "other")).status, 403);
    assert_eq!(post(&lenient, FORM, late.as_str()).status, 200);

    let by_name = gateway(
        &echo,
        "{ exceptions: [{ rule: 'xss-*', header: X-Note }, { cookie: prefs }] }",
        "",
    );
    let get = |name: &str, value: &str| {
        by_name
            .request("GET", "/")
            .header(name, value)
            .send()
            .status
    };
    assert_eq!(get("X-Note", "<script>alert(1)</script>"), 200);
    assert_eq!(get("X-Note", "1' or '1'='1"), 403);
    assert_eq!(get("Cookie", "prefs=1' or '1'='1"), 200);
    assert_eq!(get("Cookie", "other=1' or '1'='1"), 403);
}

#[test]
fn a_mistake_in_the_configuration_names_its_place() {
    for (config, word) in [
        ("{ threshold: 0 }", "expected a score"),
        ("{ disable: [sqli-onion] }", "there is no rule `sqli-onion`"),
        (
            "{ exceptions: [{ class: sql, path: /a }] }",
            "expected one of `sqli`",
        ),
        ("{ exceptions: [{ class: sqli }] }", "it does not say where"),
        ("{ longer: perhaps }", "perhaps"),
        ("{ body: 0B, longer: refuse }", "would refuse every request"),
        ("{ trheshold: 5 }", "threshold"),
    ] {
        let said = Gateway::refused(&format!(
            "routes: [{{ filters: [waf: {config}], respond: {{ text: hello }} }}]"
        ));
        assert!(said.contains(word), "{config}: {said}");
        assert!(said.contains("edgeway.yaml:"), "{config}: {said}");
    }
}
