//! What a reload would change, before it does.

use std::path::Path;

use edgeway_tests::{Finished, Gateway};
use serde_json::{Value, json};

use crate::cli::edgeway;

const BEFORE: &str = "
listeners: { http: { bind: '127.0.0.1:0' } }
admin: { bind: '127.0.0.1:0' }
upstreams:
  app: { endpoints: [a:1, { address: b:1, weight: 2 }], timeouts: { connect: 5s } }
filters: [request_id, { headers: { response: { set: { X-A: a } } } }]
routes:
  - { name: shop, match: { path: /shop }, upstream: app, cache: { ttl: 1s } }
  - { name: old, match: { path: /old }, upstream: app }
";

const AFTER: &str = "
listeners: { http: { bind: '127.0.0.1:0', max_connections: 7 } }
admin: { bind: '127.0.0.1:0' }
upstreams:
  app: { endpoints: [{ address: b:1, weight: 5 }, c:1], timeouts: { connect: 5000ms }, balance: least_connections }
filters: [{ headers: { response: { set: { X-A: a } } } }, request_id]
routes:
  - { name: new, match: { path: /new }, upstream: app }
  - { name: shop, match: { path: /shop }, upstream: app, cache: { ttl: 5s } }
";

const TOLD: &str = "\
~ listener http
    + max_connections  7
- endpoint a:1 of app  { address: a:1 }
~ endpoint b:1 of app
    ~ weight  2 -> 5
+ endpoint c:1 of app  { address: c:1 }
~ upstream app
    + balance  least_connections
> filter request_id  first -> after headers
~ route shop
    ~ cache.ttl  1s -> 5s
- route old  { name: old, match: { path: /old }, upstream: app }
+ route new  { name: new, match: { path: /new }, upstream: app }
a reload would change this: 4 added, 2 removed, 2 changed, 1 moved
";

fn against(new: &Path, old: &Path, more: &[&str]) -> Finished {
    let arguments = [
        "diff",
        "-c",
        new.to_str().unwrap(),
        "--against",
        old.to_str().unwrap(),
    ];
    edgeway(&[&arguments, more].concat())
}

#[test]
fn two_files_are_compared_by_what_they_mean() {
    let setup = Gateway::setup(BEFORE).file("new.yaml", AFTER);
    let [old, new] = ["edgeway.yaml", "new.yaml"].map(|name| setup.folder().join(name));
    let told = against(&new, &old, &[]);
    assert_eq!((told.code, &*told.output, &*told.log), (Some(1), TOLD, ""));
    let same = against(&old, &old, &[]);
    assert_eq!(
        (same.code, &*same.output),
        (Some(0), "nothing would change\n")
    );
    let shown: Value = serde_json::from_str(&against(&new, &old, &["--json"]).output).unwrap();
    assert_eq!(shown["equal"], false);
    let changes = shown["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 9);
    let ttl = changes
        .iter()
        .find(|change| change["path"] == "routes[shop].cache.ttl")
        .unwrap();
    assert_eq!(
        *ttl,
        json!({ "kind": "changed", "path": "routes[shop].cache.ttl", "what": "route", "name": "shop", "key": "cache.ttl", "before": "1s", "after": "5s" })
    );
    let equal: Value = serde_json::from_str(&against(&old, &old, &["--json"]).output).unwrap();
    assert_eq!(equal, json!({ "equal": true, "changes": [] }));
}

#[test]
fn a_file_is_compared_with_what_a_gateway_runs() {
    let gateway = Gateway::start(BEFORE);
    let file = gateway.folder().join("edgeway.yaml");
    let address = format!("http://{}", gateway.address_of("admin"));
    let diff = || edgeway(&["diff", "-c", file.to_str().unwrap(), "--admin", &address]);
    assert_eq!(diff().code, Some(0), "{:?}", diff());
    gateway.write("edgeway.yaml", AFTER);
    let told = diff();
    assert_eq!((told.code, &*told.output, &*told.log), (Some(1), TOLD, ""));
    // It has changed nothing.
    assert_eq!(diff().output, TOLD);
    assert!(gateway.reload_files());
    assert_eq!(diff().code, Some(0));
    gateway.write("edgeway.yaml", "routes: [");
    let wrong = diff();
    assert_eq!((wrong.code, &*wrong.output), (Some(2), ""));
    assert!(wrong.log.contains("edgeway.yaml:1:"), "{}", wrong.log);
}

#[test]
fn a_secret_that_changes_is_told_of_and_not_shown() {
    let yaml = |secret: &str| {
        format!(
            "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\nadmin: {{ bind: '127.0.0.1:0' }}\nroutes: [{{ name: a, filters: [{{ jwt: {{ algorithms: [HS256], secret: {secret} }} }}], respond: {{ text: a }} }}]\n"
        )
    };
    let [one, two] =
        ["one", "two"].map(|secret| yaml(&format!("{secret}-of-more-than-thirty-two-bytes")));
    let gateway = Gateway::setup(&one).file("two.yaml", &two).start();
    let [file, other] = ["edgeway.yaml", "two.yaml"].map(|name| gateway.folder().join(name));
    let offline = against(&other, &file, &[]);
    assert_eq!(offline.code, Some(1));
    assert!(
        offline
            .output
            .contains("~ filters[jwt].secret  *** -> another one"),
        "{}",
        offline.output
    );
    let address = format!("http://{}", gateway.address_of("admin"));
    let running =
        |file: &Path| edgeway(&["diff", "-c", file.to_str().unwrap(), "--admin", &address]);
    assert_eq!(running(&file).code, Some(0), "{:?}", running(&file));
    let told = running(&other);
    assert_eq!(told.code, Some(1));
    assert!(
        told.output
            .contains("a secret that is written out  has changed"),
        "{}",
        told.output
    );
    for said in [offline, told] {
        assert!(!said.output.contains("thirty"), "{}", said.output);
    }
}

#[test]
fn help_tells_what_the_exit_codes_mean() {
    let help = edgeway(&["diff", "--help"]).output;
    assert!(help.contains("0  nothing would change"), "{help}");
    assert!(help.contains("1  something would"), "{help}");
}

/// T14
#[test]
fn nobody_to_compare_with_is_told() {
    let setup =
        Gateway::setup("admin: { bind: '127.0.0.1:1' }\nroutes: [{ respond: { text: x } }]");
    let told = setup.run("diff");
    assert_eq!((told.code, &*told.output), (Some(2), ""));
    assert!(told.log.contains("edgeway is not running"), "{}", told.log);
}
