//! Where the admin listener is: a unix socket, nowhere, and elsewhere after a reload.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn configured(admin: &str) -> String {
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n{admin}\nroutes: [{{ respond: {{ text: hello }} }}]\n"
    )
}

fn get(socket: &Path, path: &str) -> Answer {
    Request::to(
        edgeway_tests::Address::Socket(socket.to_owned()),
        "GET",
        path,
    )
    .send()
}

/// #53
#[test]
fn at_a_unix_socket_its_owner_alone_may_call_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let mut gateway = Gateway::start(&configured(&format!(
        "admin: {{ bind: 'unix:{}' }}",
        socket.display()
    )));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(get(&socket, "/v1/status").json()["state"], "serving");
    // Whatever name it is asked by: no browser gets here.
    let named = Request::to(
        edgeway_tests::Address::Socket(socket.clone()),
        "GET",
        "/v1/status",
    );
    assert_eq!(named.host("anything.example").send().status, 200);
    let close = Request::to(
        edgeway_tests::Address::Socket(socket.clone()),
        "PUT",
        "/v1/maintenance",
    );
    let close = close
        .header("Content-Type", "application/json")
        .body(r#"{"on":true}"#);
    assert_eq!(close.send().status, 200);
    let us = format!(
        "by=uid:{},pid:{}",
        rustix::process::getuid().as_raw(),
        std::process::id()
    );
    gateway.wait_for_log(&us);
    assert_eq!(gateway.get("/").status, 503);
    gateway.stop();
    assert!(!socket.exists(), "it is left behind");
}

#[test]
fn under_systemd_it_is_there_without_being_asked_for_unless_it_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let socket = folder.path().join("admin.sock");
    let start = |admin: &str| {
        let setup = Gateway::setup(&configured(admin));
        setup
            .env("RUNTIME_DIRECTORY", &format!("{path}:/nowhere"))
            .start()
    };
    let gateway = start("");
    gateway.wait_for_log("listener=admin");
    assert_eq!(get(&socket, "/livez").status, 200);
    drop(gateway);
    fs::remove_file(&socket).ok();
    let gateway = start("admin: false");
    assert_eq!(gateway.get("/").status, 200);
    assert!(!socket.exists());
    assert!(
        !gateway.log().contains("listener=admin"),
        "{}",
        gateway.log()
    );
}

#[test]
fn a_reload_moves_it_and_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    let at = |path: &Path| configured(&format!("admin: {{ bind: 'unix:{}' }}", path.display()));
    let gateway = Gateway::start(&at(&one));
    assert!(gateway.reload(&at(&other)));
    assert_eq!(get(&other, "/v1/status").json()["revision"], 2);
    eventually(PATIENCE, || !one.exists());
    // One that can't be had leaves the old one, and the whole configuration.
    fs::write(&one, "precious").unwrap();
    assert!(!gateway.reload(&at(&one)));
    assert_eq!(get(&other, "/v1/status").json()["revision"], 2);
    assert!(gateway.reload(&configured("admin: false")));
    eventually(PATIENCE, || !other.exists());
}

#[test]
fn a_reload_changes_the_token() {
    let text =
        |token: &str| configured(&format!("admin: {{ bind: '127.0.0.1:0', token: {token} }}"));
    let gateway = Gateway::start(&text("first"));
    let admin = gateway.address_of("admin");
    let status = |token: &str| {
        let request = Request::to(admin, "GET", "/v1/status");
        request.bearer(token).send().status
    };
    assert_eq!((status("first"), status("second")), (200, 401));
    let mut watching = Connection::open(admin);
    watching
        .send(b"GET /v1/tail HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer first\r\n\r\n");
    assert_eq!(watching.head().status, 200);
    assert!(gateway.reload(&text("second")));
    eventually(PATIENCE, || status("second") == 200);
    assert_eq!(status("first"), 401);
    // Who watches by the old one sees no more.
    watching.rest().unwrap();
}

#[test]
fn what_it_can_not_be_is_told() {
    for (admin, says) in [
        ("admin: true", "expected `false`, or a map such as"),
        ("admin: {}", "missing"),
        ("admin: { bind: 'systemd:admin' }", "`unix:/path`"),
        ("admin: { bind: '127.0.0.1' }", "`127.0.0.1:9901`"),
        ("admin: { bind: 'unix:admin.sock' }", "unix:"),
        (
            "admin: { bind: '127.0.0.1:0', tokne: a }",
            "unknown key `tokne`",
        ),
    ] {
        let told = Gateway::refused(&configured(admin));
        assert!(told.contains(says), "{admin}: {told}");
    }
}
