//! What is told of the calls, held against what they do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use edgeway_tests::python;

use super::*;

/// A gateway of which every call has something to tell.
fn rich(folder: &Path, endpoint: &Endpoint) -> Gateway {
    let file = folder.join("endpoints.yaml");
    fs::write(&file, format!("endpoints: ['{endpoint}']\n")).unwrap();
    Gateway::start(&format!(
        "listeners:\n\
         \x20 http: {{ bind: '127.0.0.1:0' }}\n\
         \x20 https: {{ bind: '127.0.0.1:0', tls: development }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n\
         upstreams:\n\
         \x20 pool:\n\
         \x20   endpoints: ['{endpoint}', {{ address: '127.0.0.1:1', backup: true }}]\n\
         \x20   health: {{ path: /healthz, interval: 50ms }}\n\
         \x20   breaker: {{}}\n\
         \x20 found: {{ discover: {{ file: '{}' }} }}\n\
         caches: {{ pages: {{ memory: 1MiB }} }}\n\
         filters: [request_id]\n\
         routes:\n\
         \x20 - {{ name: shop, match: {{ path: /shop/ }}, upstream: pool, cache: {{ zone: pages, ttl: 1m }},\n\
         \x20     filters: [{{ rate_limit: {{ rate: 1/h }} }}] }}\n\
         \x20 - {{ name: other, upstream: found }}\n",
        file.display()
    ))
}

/// Calls, in the order in which they are made, with the names in their paths and their bodies.
fn calls(endpoint: &Endpoint) -> Vec<(&'static str, &'static str, String, Option<Value>)> {
    let named = |path: &'static str| {
        path.replace("{upstream}", "pool")
            .replace("{endpoint}", &endpoint.to_string())
            .replace("{cache}", "pages")
            .replace("{route}", "shop")
    };
    let call = |method, path, body| (method, path, named(path), body);
    let purge = json!({ "url": "http://a.example/shop/", "soft": true });
    vec![
        call(
            "PATCH",
            "/v1/upstreams/{upstream}/endpoints/{endpoint}",
            Some(json!({ "weight": 2 })),
        ),
        call(
            "POST",
            "/v1/upstreams/{upstream}/endpoints",
            Some(json!({ "address": "127.0.0.1:2" })),
        ),
        call(
            "PUT",
            "/v1/maintenance/{route}",
            Some(json!({ "on": false, "allow": ["10.0.0.0/8"] })),
        ),
        call(
            "PUT",
            "/v1/maintenance",
            Some(json!({ "on": false, "retry_after": "10m" })),
        ),
        call("POST", "/v1/caches/{cache}/purge", Some(purge.clone())),
        call("POST", "/v1/purge", Some(purge)),
        call("PUT", "/v1/log-level", Some(json!({ "level": "info" }))),
        call("DELETE", "/v1/log-level", None),
        call("POST", "/v1/logs/reopen", None),
        call("POST", "/v1/reload", None),
        call("POST", "/v1/drain", None),
        call("DELETE", "/v1/drain", None),
        call("DELETE", "/v1/upstreams/{upstream}/changes", None),
        call("DELETE", "/v1/maintenance/{route}", None),
        call("DELETE", "/v1/maintenance", None),
    ]
}

/// Calls that are tried elsewhere: they end the process, go on, or need more than a gateway.
const ELSEWHERE: [(&str, &str); 6] = [
    ("POST", "/v1/stop"),
    ("POST", "/v1/upgrade"),
    ("DELETE", "/v1/upstreams/{upstream}/endpoints/{endpoint}"),
    ("GET", "/v1/tail"),
    ("GET", "/v1/live"),
    ("GET", "/v1/explanations/{request}"),
];

/// What is wrong with the description, or with answers that are held against it.
fn wrong(python: &Path, given: &Value) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/openapi.py");
    let mut checking = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = checking.stdin.take().unwrap();
    stdin.write_all(given.to_string().as_bytes()).unwrap();
    drop(stdin);
    let said = checking.wait_with_output().unwrap();
    assert!(said.status.success());
    String::from_utf8(said.stdout).unwrap()
}

fn body(answer: &Answer) -> Value {
    match answer.header("content-type") {
        Some(kind) if kind.contains("json") => answer.json(),
        Some(_) | None => json!(answer.text()),
    }
}

/// #116
#[test]
fn every_call_is_described_and_answers_as_it_says() {
    let (folder, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start("a"));
    let gateway = rich(folder.path(), &endpoint);
    for _ in 0..2 {
        gateway.get("/shop/");
    }
    let description = ask(&gateway, "GET", "/openapi.json").send().json();
    let mut answers = Vec::new();
    let mut made: BTreeSet<(String, String)> = ELSEWHERE
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .into();
    let mut make = |method: &str, path: &str, target: &str, body_of: Option<Value>| {
        let request = ask(&gateway, method, target).header("Content-Type", "application/json");
        let answer = match body_of {
            Some(body) => request.body(body.to_string()).send(),
            None => request.send(),
        };
        assert!(answer.status < 300, "{method} {target}: {}", answer.text());
        made.insert((method.to_owned(), path.to_owned()));
        answers.push(json!({
            "method": method,
            "path": path,
            "status": answer.status,
            "kind": answer.header("content-type"),
            "body": body(&answer),
        }));
    };
    for (method, path, target, body) in calls(&endpoint) {
        make(method, path, &target, body);
    }
    let described: BTreeSet<_> = paths(&description).collect();
    let looking = described.iter().filter(|(method, path)| {
        method == "GET" && !ELSEWHERE.contains(&("GET", path)) && path != "/page/{file}"
    });
    for (_, path) in looking {
        let target = path
            .replace("{upstream}", "found")
            .replace("{cache}", "pages")
            .replace("{route}", "shop");
        make("GET", path, &target, None);
    }
    made.insert(("GET".to_owned(), "/page/{file}".to_owned()));
    assert_eq!(described, made);
    let Some(python) = python("openapi_spec_validator") else {
        return;
    };
    let given = json!({ "description": description, "answers": answers });
    assert_eq!(wrong(&python, &given), "");
    // It would be found, were it wrong.
    let mut given = given;
    given["answers"][0]["body"]["weight"] = json!("2");
    assert!(wrong(&python, &given).contains("'2' is not of type 'integer'"));
}

/// Methods and paths of a description.
fn paths(description: &Value) -> impl Iterator<Item = (String, String)> {
    let paths = description["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(|method| (method.to_ascii_uppercase(), path.clone()))
    })
}

#[test]
fn what_is_described_as_needed_is_needed() {
    let gateway = gateway("endpoints: ['127.0.0.1:1']");
    let description = ask(&gateway, "GET", "/openapi.json").send().json();
    let add = &description["paths"]["/v1/upstreams/{upstream}/endpoints"]["post"];
    let schema = &add["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["address"]));
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(add["parameters"][0]["name"], "upstream");
    assert_eq!(add["parameters"][1]["name"], "persist");
    assert_eq!(
        description["paths"]["/livez"]["get"]["security"],
        json!([{}])
    );
    assert_eq!(description["security"], json!([{ "token": [] }]));
    problem(
        &send(&gateway, "POST", ENDPOINTS, &json!({ "weight": 2 })),
        400,
        "address",
    );
}
