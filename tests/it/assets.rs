//! Static files as the tutorials ask for them: kept for ever, without a line in the log (#25), and with a log for each
//! of several hosts (#117).

use std::fs;

use edgeway_tests::{Gateway, PATIENCE, eventually};

/// #24, #25
#[test]
fn assets_of_a_list_of_extensions_are_kept_for_ever_and_not_told_of() {
    let gateway = Gateway::setup(
        "
        filters:
          - access_log: { format: '{target} {status}' }
        routes:
          - match: { path: / }
            files: { root: www }
          - match: { path: { regex: '\\.(ogg|ogv|svgz?|css|js|png|jpe?g|woff2?)$', ignore_case: true } }
            filters: [{ expires: { for: max, immutable: true } }]
            files: { root: www }
        ",
    )
    .file("www/index.html", "<p>hello")
    .file("www/a.css", "p {}")
    .file("www/B.PNG", "picture")
    .file("www/acss", "no style")
    .start();
    for (target, content_type) in [
        ("/a.css", "text/css; charset=utf-8"),
        ("/B.PNG", "image/png"),
    ] {
        let answer = gateway.get(target);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(content_type))
        );
        assert_eq!(
            answer.header("cache-control"),
            Some("max-age=315360000, immutable")
        );
        assert_eq!(
            answer.header("expires"),
            Some("Thu, 31 Dec 2037 23:55:55 GMT")
        );
    }
    for target in ["/", "/acss"] {
        let answer = gateway.get(target);
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, None),
            "{target}"
        );
    }
    assert_eq!(gateway.get("/missing.png").header("cache-control"), None);
}

/// #25: neither `access_log` nor `log_not_found` has a word on them.
#[test]
fn assets_leave_no_line_in_any_log_whether_they_are_there_or_not() {
    let gateway = Gateway::setup(
        "
        filters:
          - access_log:
              format: '{target} {status}'
              skip: [{ paths: ['*.css', '*.png', /favicon.ico], statuses: [200-399, 404] }]
        routes: [{ files: { root: www } }]
        ",
    )
    .file("www/index.html", "<p>hello")
    .file("www/a.css", "p {}")
    .start();
    let log = gateway.log();
    for (target, status) in [
        ("/a.css", 200),
        ("/b.png", 404),
        ("/favicon.ico", 404),
        ("/missing", 404),
    ] {
        assert_eq!(gateway.get(target).status, status, "{target}");
    }
    let known = gateway
        .request("GET", "/a.css")
        .header("If-None-Match", "*")
        .send();
    assert_eq!(known.status, 304);
    // Another method is no ordinary request for a file: it is told.
    assert_eq!(gateway.request("POST", "/a.css").send().status, 405);
    assert_eq!(gateway.get("/").status, 200);
    gateway.wait_for_output("/ 200");
    assert_eq!(gateway.output(), "/missing 404\n/a.css 405\n/ 200");
    assert_eq!(gateway.log(), log);
}

/// #117
#[test]
fn each_of_two_hosts_has_files_and_logs_of_its_own() {
    let site = |name: &str| {
        format!(
            "
          - match: {{ host: {name}.test }}
            filters:
              - access_log: {{ format: '{{host}} {{target}} {{status}}', to: {{ file: {name}.log }} }}
              - access_log:
                  format: '{{target}} {{status}}'
                  to: {{ file: {name}.errors.log }}
                  skip: [{{ statuses: [200-399] }}]
            files: {{ root: {name} }}"
        )
    };
    let gateway = Gateway::setup(&format!(
        "\n        routes:{}{}\n",
        site("one"),
        site("two")
    ))
    .file("one/index.html", "first")
    .file("two/index.html", "second")
    .start();
    let get = |host: &str, target: &str| gateway.request("GET", target).host(host).send();
    assert_eq!(get("one.test", "/").text(), "first");
    assert_eq!(get("two.test", "/").text(), "second");
    assert_eq!(get("two.test", "/none").status, 404);
    assert_eq!(get("three.test", "/").status, 404);
    for (name, expected) in [
        ("one.log", "one.test / 200\n"),
        ("one.errors.log", ""),
        ("two.log", "two.test / 200\ntwo.test /none 404\n"),
        ("two.errors.log", "/none 404\n"),
    ] {
        let file = gateway.folder().join(name);
        let lines = || fs::read_to_string(&file).unwrap_or_default();
        eventually(PATIENCE, || lines().len() >= expected.len());
        assert_eq!(lines(), expected, "{name}");
    }
}
