//! Who has the configuration read again, and what they are told of it.

use std::{fs, os::unix::fs::symlink, thread, time::Duration};

use edgeway_tests::{
    Echo, Finished, Gateway, PATIENCE, Request, Upstream, eventually, eventually_some,
};
use serde_json::{Value, json};

use crate::cli::edgeway;

const HELLO: &str = "routes: [{ name: hello, respond: { text: hello } }]";

fn with_admin(rest: &str) -> String {
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\nadmin: {{ bind: '127.0.0.1:0' }}\n{rest}\n"
    )
}

fn started(rest: &str) -> Gateway {
    Gateway::start(&with_admin(rest))
}

fn admin(gateway: &Gateway, method: &str, path: &str) -> (u16, Value) {
    let request = Request::to(gateway.address_of("admin"), method, path);
    let answer = request.header("Content-Type", "application/json").send();
    (answer.status, answer.json())
}

fn write(gateway: &Gateway, yaml: &str) {
    gateway.write("edgeway.yaml", with_admin(yaml));
}

/// Runs a command against a running gateway.
fn command(gateway: &Gateway, arguments: &[&str]) -> Finished {
    let address = format!("http://{}", gateway.address_of("admin"));
    let file = gateway.folder().join("edgeway.yaml");
    let more = ["-c", file.to_str().unwrap(), "--admin", &address];
    edgeway(&[arguments, &more].concat())
}

fn watching(rest: &str) -> String {
    format!("reload: {{ watch: 100ms }}\n{rest}")
}

/// Waits until a path is answered so.
fn answers(gateway: &Gateway, path: &str, text: &str) {
    eventually(PATIENCE, || gateway.get(path).text() == text);
}

// ---- the call ---------------------------------------------------------------------------------

/// #116
#[test]
fn a_call_reloads_and_tells_the_revision_and_what_has_changed() {
    let gateway = started(&format!("threads: 1\n{HELLO}"));
    let (_, first) = admin(&gateway, "GET", "/v1/config");
    assert_eq!(first["revision"], 1);
    write(
        &gateway,
        "threads: 2\nroutes: [{ name: hello, respond: { text: changed } }, { name: new, match: { path: /new }, respond: { text: n } }]",
    );
    let (status, told) = admin(&gateway, "POST", "/v1/reload");
    assert_eq!((status, &told["revision"]), (200, &json!(2)), "{told}");
    assert_ne!(told["hash"], first["hash"]);
    assert_eq!(told["next_start"], json!(["threads"]));
    let changes = told["changes"].as_array().unwrap();
    let paths: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change["kind"].as_str().unwrap(),
                change["path"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        paths,
        [
            ("changed", "routes[hello].respond.text"),
            ("added", "routes[new]"),
            ("changed", "threads"),
        ]
    );
    assert_eq!(changes[0]["before"], "hello");
    assert_eq!(changes[0]["after"], "changed");
    assert_eq!(gateway.get("/").text(), "changed");
    assert_eq!(admin(&gateway, "GET", "/v1/config").1["revision"], 2);
}

#[test]
fn a_call_is_told_what_is_wrong_and_where() {
    let gateway = started(HELLO);
    write(
        &gateway,
        "routes:\n  - upstream: shop\nupstreams: { shpo: { endpoints: [a:1] } }",
    );
    let request = Request::to(gateway.address_of("admin"), "POST", "/v1/reload");
    let answer = request.header("Content-Type", "application/json").send();
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["status"], 422);
    let wrong = &problem["diagnostics"][0];
    assert_eq!(wrong["severity"], "error");
    assert_eq!(
        (&wrong["line"], &wrong["column"]),
        (&json!(4), &json!(15)),
        "{wrong}"
    );
    assert_eq!(wrong["path"], "routes[0].upstream");
    assert_eq!(wrong["help"], "did you mean `shpo`?");
    assert!(wrong["file"].as_str().unwrap().ends_with("edgeway.yaml"));
    assert!(wrong["message"].as_str().unwrap().contains("`shop`"));
    let report = problem["report"].as_str().unwrap();
    assert!(report.contains("edgeway.yaml:4:15"), "{report}");
    assert_eq!(gateway.get("/").text(), "hello");
    assert_eq!(admin(&gateway, "GET", "/v1/config").1["revision"], 1);
}

#[test]
fn a_listener_that_can_not_be_had_is_told_of_and_nothing_changes() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = started(HELLO);
    gateway.write(
        "edgeway.yaml",
        format!(
            "listeners: {{ http: {{ bind: '127.0.0.1:0' }}, more: {{ bind: '{}' }} }}\nadmin: {{ bind: '127.0.0.1:0' }}\nroutes: [{{ respond: {{ text: new }} }}]",
            taken.local_addr().unwrap()
        ),
    );
    let (status, problem) = admin(&gateway, "POST", "/v1/reload");
    assert_eq!((status, &problem["diagnostics"]), (422, &json!([])));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("the listener `more` can't have"),
        "{detail}"
    );
    assert_eq!(gateway.get("/").text(), "hello");
}

#[test]
fn many_at_a_time_are_done_one_after_the_other() {
    let gateway = started(HELLO);
    let revisions: Vec<_> = thread::scope(|scope| {
        let ask = || {
            scope.spawn(|| {
                admin(&gateway, "POST", "/v1/reload").1["revision"]
                    .as_u64()
                    .unwrap()
            })
        };
        let asked: Vec<_> = (0..8).map(|_| ask()).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut sorted = revisions.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (2..=9).collect::<Vec<_>>());
}

#[test]
fn the_last_times_are_remembered_with_who_wanted_them() {
    let gateway = started(HELLO);
    assert!(gateway.reload(&with_admin(
        "routes: [{ name: hello, respond: { text: two } }]"
    )));
    write(&gateway, "routes: [");
    assert_eq!(admin(&gateway, "POST", "/v1/reload").0, 422);
    let (_, past) = admin(&gateway, "GET", "/v1/config/history");
    let attempts = past["attempts"].as_array().unwrap();
    let seen: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            (
                attempt["by"].as_str().unwrap(),
                attempt["ok"].as_bool().unwrap(),
                attempt["revision"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("call", false, None),
            ("signal", true, Some(2)),
            ("start", true, Some(1))
        ]
    );
    assert_eq!(attempts[1]["changes"][0]["after"], "two");
    assert!(attempts[0]["diagnostics"][0]["line"].is_u64(), "{past}");
    for _ in 0..30 {
        admin(&gateway, "POST", "/v1/reload");
    }
    let (_, past) = admin(&gateway, "GET", "/v1/config/history");
    assert_eq!(past["attempts"].as_array().unwrap().len(), 20);
}

#[test]
fn the_configuration_is_shown_with_its_files_and_without_its_secrets() {
    let setup = Gateway::setup(&with_admin(
        "include: [sites/*.yaml]\nroutes:\n  - { name: a, match: { path: /a }, filters: [{ jwt: { algorithms: [HS256], secret: hunter2-hunter2-hunter2-hunter2-xx } }], respond: { text: a } }\n  - { name: b, match: { path: /b }, filters: [{ jwt: { algorithms: [HS256], secret: env:JWT } }], respond: { text: b } }",
    ));
    let setup = setup.file(
        "sites/one.yaml",
        "routes: [{ name: c, match: { path: /c }, respond: { text: c } }]",
    );
    let gateway = setup
        .env("JWT", "hunter3-hunter3-hunter3-hunter3-xx")
        .start();
    let request = Request::to(gateway.address_of("admin"), "GET", "/v1/config");
    let answer = request.send();
    assert!(!answer.text().contains("hunter"), "{}", answer.text());
    let shown = answer.json();
    let routes = &shown["config"]["routes"];
    assert_eq!(routes[0]["filters"][0]["jwt"]["secret"], "***");
    assert_eq!(routes[1]["filters"][0]["jwt"]["secret"], "env:JWT");
    assert_eq!(routes[2]["name"], "c");
    let files = shown["files"].as_array().unwrap();
    let names: Vec<_> = files
        .iter()
        .map(|file| file.as_str().unwrap().rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["edgeway.yaml", "one.yaml"]);
    assert!(shown["loaded_at_ms"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(shown["hash"].as_str().unwrap().len(), 12);
}

// ---- what can be changed ----------------------------------------------------------------------

#[test]
fn how_long_the_end_waits_can_be_changed() {
    let echo = Echo::start();
    let yaml = |timeout: &str| {
        format!(
            "shutdown_timeout: {timeout}\nupstreams: {{ app: {{ endpoints: [{echo}] }} }}\nroutes: [{{ upstream: app }}]"
        )
    };
    let mut gateway = started(&yaml("30s"));
    assert!(gateway.reload(&with_admin(&yaml("200ms"))));
    let mut slow = gateway.connect();
    slow.send("GET /?delay=30s HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(PATIENCE, || echo.stats().requests == 1);
    let begun = std::time::Instant::now();
    gateway.stop();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(
        gateway.log().contains("stopping with open connections"),
        "{}",
        gateway.log()
    );
}

/// Connections to endpoints are kept, whatever else changes.
#[test]
fn connections_to_endpoints_outlive_a_reload() {
    let upstream = Upstream::raw(|mut caller| {
        while caller.request().is_some() {
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let yaml = |path: &str| {
        format!(
            "upstreams: {{ app: {{ endpoints: [{upstream}] }} }}\nroutes: [{{ match: {{ path: /{path} }}, upstream: app }}]"
        )
    };
    let gateway = started(&yaml("one"));
    assert_eq!(gateway.get("/one").text(), "ok");
    for path in ["two", "three"] {
        assert!(gateway.reload(&with_admin(&yaml(path))));
        assert_eq!(gateway.get(&format!("/{path}")).text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

// ---- the command ------------------------------------------------------------------------------

#[test]
fn the_command_shows_what_has_changed() {
    let gateway = started(HELLO);
    write(
        &gateway,
        "routes: [{ name: hello, respond: { text: changed } }]\nupstreams: { spare: { endpoints: [a:1] } }",
    );
    let reloaded = command(&gateway, &["reload"]);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.log);
    let lines: Vec<_> = reloaded.output.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "+ upstream spare  { endpoints: [a:1] }",
            "~ route hello",
            "    ~ respond.text  hello -> changed",
        ]
    );
    assert!(
        lines[3].starts_with("revision 2 (") && lines[3].ends_with(") is in force"),
        "{}",
        lines[3]
    );
    assert!(
        reloaded.log.contains("warning: ") && reloaded.log.contains("`spare`"),
        "{}",
        reloaded.log
    );
    assert_eq!(gateway.get("/").text(), "changed");
    let again = command(&gateway, &["reload"]);
    assert!(
        again
            .output
            .trim_end()
            .ends_with("is in force; nothing has changed"),
        "{}",
        again.output
    );
    let json: Value =
        serde_json::from_str(&command(&gateway, &["reload", "--json"]).output).unwrap();
    assert_eq!(json["revision"], 4);
}

#[test]
fn the_command_shows_what_is_wrong_as_check_does() {
    let gateway = started(HELLO);
    write(&gateway, "routes: [{ upstream: nowhere }]");
    let reloaded = command(&gateway, &["reload"]);
    assert_eq!((reloaded.code, &*reloaded.output), (Some(2), ""));
    let file = gateway.folder().join("edgeway.yaml");
    let checked = edgeway(&["check", "-c", file.to_str().unwrap()]);
    let (report, _) = checked.log.split_once("\n\n").unwrap();
    assert!(reloaded.log.starts_with(report), "{}", reloaded.log);
    assert!(
        reloaded.log.contains("the old configuration stays"),
        "{}",
        reloaded.log
    );
}

/// T14
#[test]
fn who_reloads_what_does_not_run_is_told_what_to_do() {
    let setup = Gateway::setup(&format!("admin: {{ bind: '127.0.0.1:1' }}\n{HELLO}"));
    let refused = setup.run("reload");
    assert_eq!((refused.code, &*refused.output), (Some(1), ""));
    assert!(
        refused
            .log
            .contains("edgeway is not running: nobody listens at http://127.0.0.1:1"),
        "{}",
        refused.log
    );
    assert!(
        refused.log.contains("help: start it with `edgeway run"),
        "{}",
        refused.log
    );
    let without = Gateway::setup(HELLO).run("reload");
    assert_eq!(without.code, Some(2));
    assert!(without.log.contains("kill -HUP"), "{}", without.log);
    let missing = edgeway(&["reload", "-c", "/nowhere/edgeway.yaml"]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.log.contains("/nowhere/edgeway.yaml"),
        "{}",
        missing.log
    );
}

#[test]
fn the_command_shows_its_token() {
    let yaml = format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\nadmin: {{ bind: '127.0.0.1:0', token: env:TOKEN }}\n{HELLO}"
    );
    let gateway = Gateway::setup(&yaml).env("TOKEN", "opensesame").start();
    let refused = command(&gateway, &["reload"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.log.contains("EDGEWAY_ADMIN_TOKEN"),
        "{}",
        refused.log
    );
    let shown = command(&gateway, &["reload", "--token", "opensesame"]);
    assert_eq!(shown.code, Some(0), "{}", shown.log);
}

// ---- files that change ------------------------------------------------------------------------

#[test]
fn a_file_that_is_written_is_read_again_and_again() {
    let gateway = started(&watching(HELLO));
    for text in ["one", "two", "three"] {
        write(
            &gateway,
            &watching(&format!("routes: [{{ respond: {{ text: {text} }} }}]")),
        );
        answers(&gateway, "/", text);
    }
    let (_, past) = admin(&gateway, "GET", "/v1/config/history");
    assert_eq!(past["attempts"][0]["by"], "watch");
}

#[test]
fn a_site_that_is_linked_into_the_folder_is_served() {
    let gateway = started(&watching(&format!(
        "include: [sites-enabled/*.yaml]\n{HELLO}"
    )));
    let path = |name: &str| gateway.folder().join(name);
    gateway.write(
        "sites-available/shop.yaml",
        "routes: [{ match: { path: /shop }, respond: { text: shop } }]",
    );
    fs::create_dir_all(path("sites-enabled")).unwrap();
    symlink(
        path("sites-available/shop.yaml"),
        path("sites-enabled/shop.yaml"),
    )
    .unwrap();
    answers(&gateway, "/shop", "shop");
    gateway.write(
        "sites-available/shop.yaml",
        "routes: [{ match: { path: /shop }, respond: { text: other } }]",
    );
    answers(&gateway, "/shop", "other");
    fs::remove_file(path("sites-enabled/shop.yaml")).unwrap();
    answers(&gateway, "/shop", "hello");
}

#[test]
fn a_wrong_file_is_told_of_once() {
    let gateway = started(&watching(HELLO));
    write(&gateway, &watching("routes: [{ upstream: nowhere }]"));
    gateway.wait_for_log("configuration kept");
    // Several intervals, in which nothing is to happen.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(gateway.log().matches("configuration kept").count(), 1);
    assert_eq!(gateway.get("/").text(), "hello");
    write(
        &gateway,
        &watching("routes: [{ respond: { text: mended } }]"),
    );
    answers(&gateway, "/", "mended");
}

#[test]
fn a_secret_in_a_file_that_changes_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "one").unwrap();
    let yaml = format!(
        "routes: [{{ filters: [{{ headers: {{ response: {{ set: {{ X: 'file:{0}' }} }} }} }}, {{ jwt: {{ algorithms: [HS256], secret: 'file:{0}' }} }}], respond: {{ text: x }} }}]",
        file.display()
    );
    let gateway = started(&watching(&yaml));
    fs::write(&file, "two-and-more").unwrap();
    eventually_some(PATIENCE, || {
        let (_, shown) = admin(&gateway, "GET", "/v1/config");
        (shown["revision"] == 2).then_some(())
    });
}

#[test]
fn nothing_is_watched_that_nobody_wants_watched() {
    let gateway = started(&watching(HELLO));
    write(&gateway, "routes: [{ respond: { text: last } }]");
    answers(&gateway, "/", "last");
    write(&gateway, "routes: [{ respond: { text: never } }]");
    // Several intervals of before.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(gateway.get("/").text(), "last");
}
