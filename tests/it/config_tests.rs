//! `edgeway test`: requests that nobody makes, and what is to become of them.

use std::{fs, path::Path, process::Command};

use edgeway_tests::{Gateway, program};
use serde_json::Value;

const SHOP: &str = "
    upstreams:
      shop: { endpoints: [shop-1:8000] }
    routes:
      - name: shop
        match: { path: /shop/ }
        strip_prefix: /shop
        cache: { ttl: 1m }
        upstream: shop
      - name: limited
        match: { path: /limited }
        filters: [{ rate_limit: { rate: 1/min } }]
        respond: { text: once }
    tests:
      - request: GET http://a.test/shop/item?x=1
        answer: { status: 203, headers: { X-From: shop }, body: an item }
        expect:
          route: shop
          status: [2xx, 404]
          headers: { X-From: shop, X-Other: { present: false } }
          body: { regex: ^an }
          upstream: shop
          endpoint: shop-1:8000
          cache: not_stored
          sent: { method: GET, target: /item?x=1, headers: { X-Forwarded-Proto: http } }
      - name: one request is not counted for another
        request: GET http://a.test/limited
        expect: { status: 200 }
      - name: nor for this one
        request: GET http://a.test/limited
        expect: { status: 200 }
";

#[test]
fn tests_that_hold_pass_without_anybody_being_asked() {
    let said = Gateway::setup(SHOP).run("test");
    assert_eq!(said.code, Some(0), "{}{}", said.output, said.log);
    assert!(
        said.output.ends_with("3 tests, 3 passed, 0 failed"),
        "{}",
        said.output
    );
}

#[test]
fn a_test_that_fails_says_where_it_stands_and_what_was_found() {
    let yaml = "
        routes:
          - name: home
            match: { path: { exact: / } }
            filters: [{ jwt: { algorithms: [HS256], secret: 01234567890123456789012345678901 } }]
            respond: { text: hello }
        tests:
          - request: GET http://a.test/
            expect: { route: home, status: 200, headers: { X-A: b }, body: hello}
    ";
    let setup = Gateway::setup(yaml);
    let said = setup.run("test");
    assert_eq!(said.code, Some(1), "{}{}", said.output, said.log);
    for line in [
        "FAIL  GET http://a.test/",
        "edgeway.yaml:",
        "status: expected 200, found 401",
        "header x-a: expected b, found none",
        "refused by jwt: no token",
        "1 test, 0 passed, 1 failed",
    ] {
        assert!(said.output.contains(line), "{line}: {}", said.output);
    }
    let said = setup.run_with("test", &["--json"]);
    let outcomes: Value = serde_json::from_str(&said.output).unwrap();
    assert_eq!(outcomes[0]["passed"], false);
    assert_eq!(outcomes[0]["failures"][0]["what"], "status");
    assert_eq!(outcomes[0]["explanation"]["response"]["decided_by"], "jwt");
}

#[test]
fn only_the_tests_that_are_wanted_are_run() {
    let said = Gateway::setup(SHOP).run_with("test", &["--filter", "nor for"]);
    assert_eq!(said.code, Some(0), "{}", said.log);
    assert_eq!(
        said.output,
        "ok    nor for this one\n1 test, 1 passed, 0 failed, 2 left out"
    );
}

#[test]
fn a_gateway_runs_with_tests_that_it_does_not_read() {
    let yaml = "
        routes: [{ respond: { text: hello } }]
        tests:
          - request: GET http://a.test/
            token: env:NOT_SET_HERE
            expect: { status: 200 }
    ";
    assert_eq!(Gateway::start(yaml).get("/").text(), "hello");
    let checked = Gateway::setup(yaml).run("check");
    assert_eq!(checked.code, Some(2));
    assert!(checked.log.contains("NOT_SET_HERE"), "{}", checked.log);
}

#[test]
fn an_included_file_has_tests_of_its_own() {
    let setup = Gateway::setup("include: [site.yaml]\nroutes: []");
    let site = "routes: [{ name: site, respond: { text: hi } }]\n\
                tests: [{ request: GET http://a.test/, expect: { route: site, body: hello } }]\n";
    let said = setup.file("site.yaml", site).run("test");
    assert_eq!(said.code, Some(1), "{}{}", said.output, said.log);
    assert!(said.output.contains("site.yaml:2:"), "{}", said.output);
}

#[test]
fn the_tests_of_all_examples_hold() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let examples = fs::read_dir(conf.join("examples")).unwrap();
    let examples = examples.map(|entry| entry.unwrap().path());
    let mut tested = 0;
    for file in examples.chain([conf.join("edgeway.yaml")]) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if !text.contains("\ntests:") {
            continue;
        }
        let output = Command::new(program("edgeway"))
            .args(["test", "-c", file.to_str().unwrap()])
            .env(
                "EDGEWAY_JWT_SECRET",
                "0123456789012345678901234567890123456789",
            )
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
        tested += 1;
    }
    assert!(tested >= 10, "{tested}");
}
