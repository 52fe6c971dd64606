//! `edgeway explain`: what becomes of a request, and why.

use std::{env, fs, path::Path, process::Command};

use edgeway_tests::{Finished, Gateway, PATIENCE, Upstream, eventually, program};
use serde_json::Value;

use crate::cli::edgeway;

/// Requests to `tests/explain/shop.yaml`, each with a golden file of its name.
const ASKED: [(&str, &[&str]); 8] = [
    (
        "cached",
        &[
            "http://example.com/api/items?page=2&utm=x",
            "-H",
            "X-Debug: 1",
            "-H",
            "X-User: ann",
        ],
    ),
    (
        "other-method",
        &[
            "POST",
            "http://example.com/api/items",
            "-d",
            "{}",
            "-H",
            "X-Machine: 2",
        ],
    ),
    (
        "refused",
        &["http://example.com/admin/", "--client", "192.0.2.9"],
    ),
    (
        "normalised",
        &["https://Example.com:8443//admin/../shop/%7Eann"],
    ),
    ("redirected", &["http://old.example.com/shop?x=1"]),
    (
        "behind-a-proxy",
        &[
            "http://example.com/",
            "--client",
            "10.0.0.1",
            "-H",
            "X-Forwarded-For: 203.0.113.9",
        ],
    ),
    ("ambiguous", &["http://example.com/shop/..%2Fadmin/"]),
    (
        "unreadable",
        &[
            "http://example.com/",
            "-H",
            "Transfer-Encoding: gzip",
            "-H",
            "Content-Length: 1",
        ],
    ),
];

/// `UPDATE_GOLDENS=1` writes what is said now: read it before you commit it.
#[test]
fn what_is_explained_of_a_request_is_what_was_agreed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("explain");
    let shop = folder.join("shop.yaml");
    let mut different = Vec::new();
    for (name, arguments) in ASKED {
        let asked: Vec<_> = ["explain", "-c", shop.to_str().unwrap()]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let said = edgeway(&asked);
        assert_eq!(said.code, Some(0), "{name}: {}", said.log);
        let said = without_chance(&said.output);
        let golden = folder.join(name).with_extension("txt");
        if env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&golden, &said).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != said {
            different.push(format!("--- {} ---\n{said}", golden.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What is another thing each time: names that are made up, and the time.
fn without_chance(text: &str) -> String {
    let mut plain = String::new();
    for line in text.lines() {
        let marks = [
            ("edgeway-", 8),
            ("x-request-id: ", 32),
            ("\"request_id\":\"", 32),
        ];
        let mut line = line.to_owned();
        for (mark, length) in marks {
            if let Some(at) = line.find(mark) {
                let end = (at + mark.len() + length).min(line.len());
                line.replace_range(at + mark.len()..end, "CHANCE");
            }
        }
        if let Some(at) = line.find("date: ") {
            line.truncate(at + "date: ".len());
        }
        plain.push_str(&line);
        plain.push('\n');
    }
    plain
}

fn json(said: &Finished) -> Value {
    serde_json::from_str(&said.output)
        .unwrap_or_else(|error| panic!("{error}: {}{}", said.output, said.log))
}

#[test]
fn an_explanation_starts_nothing_and_asks_nobody() {
    let upstream = Upstream::answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let yaml = format!(
        "
        upstreams:
          app: {{ endpoints: [{address}], health: {{ path: / }} }}
        routes:
          - filters:
              - access_log: {{ to: {{ file: access.log }} }}
              - forward_auth: {{ url: 'http://{address}/' }}
            mirror: {{ upstream: app }}
            upstream: app
        ",
        address = upstream.address()
    );
    let setup = Gateway::setup(&yaml);
    let said = setup.run_with("explain", &["http://a.test/x", "--json"]);
    let explanation = json(&said);
    assert_eq!(explanation["response"]["status"], 200, "{explanation}");
    assert_eq!(explanation["filters"][1]["verdict"], "not_asked");
    assert_eq!(
        explanation["tries"][0]["endpoint"],
        upstream.address().to_string()
    );
    assert_eq!(upstream.connections(), 0);
    assert!(!setup.folder().join("access.log").exists());
}

#[test]
fn a_filter_that_does_not_say_that_it_may_be_asked_is_named_and_passed_by() {
    let yaml = "routes: [{ filters: [{ tenants: { allow: [a] } }], respond: { text: x } }]";
    let setup = Gateway::setup(yaml).program("examples/tenants");
    let explanation = json(&setup.run_with("explain", &["http://a.test/", "--json"]));
    let step = &explanation["filters"][0];
    assert_eq!(
        (&step["name"], &step["verdict"]),
        (&"tenants".into(), &"not_asked".into())
    );
    assert_eq!(explanation["response"]["status"], 200);
}

#[test]
fn what_is_wrong_with_the_question_is_said_before_anything_is_done() {
    let setup = Gateway::setup("routes: [{ respond: { text: x } }]");
    for (arguments, why) in [
        (&["/x"][..], "no URL of a request"),
        (&["ftp://a.test/"], "the scheme is"),
        (&["get", "http://a.test/"], "write `GET`"),
        (&["http://a.test/", "-H", "nonsense"], "is no header"),
        (&["http://a.test/", "--answer", "7000"], "error:"),
    ] {
        let said = setup.run_with("explain", arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}");
        assert!(said.log.contains(why), "{arguments:?}: {}", said.log);
    }
    let said = setup.run_with("explain", &["http://a.test/", "--listener", "nobody"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.log.contains("there is no listener `nobody`"),
        "{}",
        said.log
    );
}

const KEY: &str = "a-key-that-nobody-guesses";

/// A gateway that explains requests to whoever has the key, and what its endpoint has seen.
fn explaining(upstream: &Upstream) -> Gateway {
    let yaml = format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: 'unix:{{FOLDER}}/admin.sock' }}
        explain: {{ key: {KEY} }}
        upstreams: {{ app: {{ endpoints: [{}] }} }}
        routes:
          - name: all
            filters:
              - request_id
              - headers: {{ request: {{ set: {{ X-Seen: 'yes' }} }} }}
            upstream: app
        ",
        upstream.address()
    );
    let setup = Gateway::setup("routes: []");
    let folder = setup.folder().to_str().unwrap().to_owned();
    let listeners = yaml.replace("{FOLDER}", &folder);
    setup.file("edgeway.yaml", unindented(&listeners)).start()
}

fn unindented(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.strip_prefix("        ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_signed_request_is_explained_to_who_may_ask_the_gateway() {
    let upstream =
        Upstream::answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=1\r\n\r\nok");
    let gateway = explaining(&upstream);
    let file = gateway.folder().join("edgeway.yaml");
    let url = format!("http://{}/items?x=1", gateway.address());
    let output = Command::new(program("edgeway"))
        .args([
            "explain",
            "--live",
            "--json",
            "-c",
            file.to_str().unwrap(),
            &url,
            "-H",
            "Cookie: secret=1",
        ])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["route"]["name"], "all");
    assert_eq!(told["request"]["target"], "/items?x=1");
    assert_eq!(told["filters"][1]["request"]["set"][0][0], "x-seen");
    assert_eq!(told["tries"][0]["endpoint"], upstream.address().to_string());
    assert_eq!(told["response"]["status"], 200);
    assert!(told["response"]["microseconds"].as_u64().is_some());
    // Whoever may read this is not whoever has sent it.
    assert!(!told.to_string().contains("secret=1"), "{told}");
    let seen = upstream.heads().join("\n").to_ascii_lowercase();
    assert!(
        seen.contains("x-seen: yes") && !seen.contains("x-edgeway-explain"),
        "{seen}"
    );
}

#[test]
fn without_the_key_nothing_is_explained_and_no_endpoint_hears_of_it() {
    let upstream = Upstream::answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let gateway = explaining(&upstream);
    for token in ["", "1", "1.99999999999.00", "x"] {
        let response = gateway
            .request("GET", "/")
            .header("X-Edgeway-Explain", token)
            .send();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("X-Edgeway-Explain"), None, "{token}");
    }
    eventually(PATIENCE, || upstream.heads().len() == 4);
    assert!(
        !upstream
            .heads()
            .join("\n")
            .to_ascii_lowercase()
            .contains("x-edgeway-explain")
    );
}
