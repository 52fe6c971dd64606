//! Where the gateway waits for connections: ports, unix sockets, sockets of systemd.

use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use edgeway_tests::{Connection, Echo, Finished, Gateway, PATIENCE, Request, eventually};
use tempfile::TempDir;

/// A folder, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.sock");
    (folder, path)
}

/// A gateway that greets, at these listeners.
fn greeting(listeners: &str) -> String {
    format!("listeners: {{ {listeners} }}\nroutes: [{{ respond: {{ text: hello }} }}]\n")
}

/// The same at a unix socket.
fn at(path: &Path) -> String {
    greeting(&format!("http: {{ bind: 'unix:{}' }}", path.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What a gateway says that does not start, though its configuration is right.
#[track_caller]
fn failed(finished: &Finished) -> &str {
    assert_eq!(finished.code, Some(1), "{}", finished.log);
    &finished.log
}

// ---- unix sockets -----------------------------------------------------------------------------

#[test]
fn a_unix_socket_is_served_like_a_port() {
    let (_folder, path) = place();
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: 'unix:{}' }} }}
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: /hello }}
            respond: {{ text: hello }}
          - upstream: echo
        ",
        path.display()
    ));
    let line = gateway.wait_for_log("listening: listener=http");
    assert!(
        line.ends_with(&format!("address=unix:{}", path.display())),
        "{line}"
    );
    let mut connection = Connection::open(&*path);
    assert_eq!(connection.get("/hello").text(), "hello");
    let answer = connection.request("POST", "/users?id=7").body("ann").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["path"], "/users");
    assert_eq!(connection.get("/hello").text(), "hello");
}

#[test]
fn nobody_but_the_owner_may_connect_unless_the_mode_says_so() {
    let (_folder, path) = place();
    for (written, permissions) in [
        ("", 0o600),
        (", mode: 0660", 0o660),
        (", mode: '0666'", 0o666),
    ] {
        let listener = format!("http: {{ bind: 'unix:{}'{written} }}", path.display());
        let mut gateway = Gateway::start(&greeting(&listener));
        assert_eq!(mode(&path), permissions, "{written}");
        assert!(gateway.stop().success());
    }
}

#[test]
fn a_clean_stop_leaves_no_file_behind() {
    let (_folder, path) = place();
    let mut gateway = Gateway::start(&at(&path));
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    assert!(gateway.stop().success());
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_another_ones_by_now_is_left_alone() {
    let (_folder, path) = place();
    let mut gateway = Gateway::start(&at(&path));
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert!(gateway.stop().success());
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);
}

#[test]
fn what_a_gateway_left_behind_that_was_killed_is_replaced() {
    let (_folder, path) = place();
    drop(Gateway::start(&at(&path)));
    assert!(path.exists(), "it was killed");
    let gateway = Gateway::start(&at(&path));
    assert_eq!(gateway.get("/").text(), "hello");
}

#[test]
fn a_socket_that_is_in_use_is_not_taken_away() {
    let (_folder, path) = place();
    let first = Gateway::start(&at(&path));
    let second = Gateway::setup(&at(&path)).run("run");
    let wanted = format!(
        "the listener `http` can't have unix:{}: process {} (edgeway) is listening there already",
        path.display(),
        first.pid()
    );
    assert!(failed(&second).contains(&wanted), "{}", second.log);
    assert_eq!(first.get("/").text(), "hello");
}

#[test]
fn a_file_that_is_no_socket_is_not_touched() {
    let (_folder, path) = place();
    fs::write(&path, "precious").unwrap();
    let finished = Gateway::setup(&at(&path)).run("run");
    let wanted = "there is a file already, which is no socket";
    assert!(failed(&finished).contains(wanted), "{}", finished.log);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let (folder, _) = place();
    let inner = folder.path().join("run").join("edge.sock");
    let finished = Gateway::setup(&at(&inner)).run("run");
    let wanted = format!(
        "there is no folder `{}`",
        folder.path().join("run").display()
    );
    assert!(failed(&finished).contains(&wanted), "{}", finished.log);
}

#[test]
fn one_socket_that_can_not_be_had_costs_the_others() {
    let (_folder, path) = place();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let finished = Gateway::setup(&greeting(&format!(
        "one: {{ bind: 'unix:{}' }}, two: {{ bind: '{}' }}",
        path.display(),
        taken.local_addr().unwrap()
    )))
    .run("run");
    let us = format!("process {} (", std::process::id());
    assert!(failed(&finished).contains(&us), "{}", finished.log);
    assert!(!path.exists());
}

// ---- reload -----------------------------------------------------------------------------------

#[test]
fn unix_sockets_come_and_go_at_reload_and_change_their_mode() {
    let (folder, first) = place();
    let second = folder.path().join("second.sock");
    let port = "port: { bind: '127.0.0.1:0' }";
    let both = |mode: &str| {
        greeting(&format!(
            "{port}, a: {{ bind: 'unix:{}'{mode} }}",
            first.display()
        ))
    };
    let gateway = Gateway::start(&both(""));
    let mut kept = Connection::open(&*first);
    assert_eq!(kept.get("/").text(), "hello");
    assert!(gateway.reload(&both(", mode: 0660, backlog: 10")));
    eventually(PATIENCE, || mode(&first) == 0o660);
    assert_eq!(Request::to(&*first, "GET", "/").send().text(), "hello");
    let other = greeting(&format!(
        "{port}, b: {{ bind: 'unix:{}' }}",
        second.display()
    ));
    assert!(gateway.reload(&other));
    eventually(PATIENCE, || !first.exists());
    assert_eq!(Request::to(&*second, "GET", "/").send().text(), "hello");
    // A connection outlives its listener.
    assert_eq!(kept.get("/").text(), "hello");
}

#[test]
fn a_socket_that_can_not_be_had_keeps_the_old_configuration() {
    let (_folder, path) = place();
    fs::write(&path, "precious").unwrap();
    let port = "http: { bind: '127.0.0.1:0' }";
    let gateway = Gateway::start(&greeting(port));
    let wrong = greeting(&format!("{port}, a: {{ bind: 'unix:{}' }}", path.display()));
    assert!(!gateway.reload(&wrong));
    gateway.wait_for_log("there is a file already, which is no socket");
    assert_eq!(gateway.get("/").text(), "hello");
}

// ---- ports ------------------------------------------------------------------------------------

#[test]
fn a_port_can_have_several_gateways_if_all_want_to() {
    let first = Gateway::start(&greeting(
        "http: { bind: '127.0.0.1:0', reuse_port: true, backlog: 100, fast_open: true, tcp_keepalive: 5s }",
    ));
    let address = first.address();
    let sharing = |reuse: bool| {
        greeting(&format!(
            "http: {{ bind: '{address}', reuse_port: {reuse} }}"
        ))
    };
    let second = Gateway::start(&sharing(true));
    let alone = Gateway::setup(&sharing(false)).run("run");
    assert!(
        failed(&alone).contains("is listening there already"),
        "{}",
        alone.log
    );
    drop(first);
    assert_eq!(second.get("/").text(), "hello");
}

// ---- systemd ----------------------------------------------------------------------------------

fn by_name(name: &str) -> String {
    greeting(&format!("http: {{ bind: 'systemd:{name}' }}"))
}

#[test]
fn a_port_that_systemd_has_opened_is_served() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // It waits until there is somebody.
    let mut early = Connection::open(address);
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let setup = Gateway::setup(&by_name("web")).passed("web", socket);
    let gateway = setup.start();
    assert_eq!(early.answer().text(), "hello");
    assert_eq!(gateway.address(), address);
    assert_eq!(gateway.get("/").text(), "hello");
    assert!(!gateway.log().contains("not used"), "{}", gateway.log());
}

#[test]
fn a_unix_socket_of_systemd_is_served_and_its_file_stays() {
    let (_folder, path) = place();
    let socket = UnixListener::bind(&path).unwrap();
    let mut gateway = Gateway::setup(&by_name("web"))
        .passed("web", socket)
        .start();
    assert_eq!(gateway.get("/").text(), "hello");
    assert!(gateway.stop().success());
    assert!(path.exists());
}

#[test]
fn a_listener_has_all_sockets_of_its_name_and_the_others_are_told_of() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Gateway::setup(&by_name("web")).passed("web:log:web", socket);
    let gateway = setup.start();
    let listening = || gateway.log().matches("listening: listener=http").count();
    eventually(PATIENCE, || listening() == 2);
    let line = gateway.wait_for_log("a socket of systemd is not used");
    assert!(line.ends_with("name=log"), "{line}");
    // It may be used later.
    assert!(gateway.reload(&greeting("http: { bind: 'systemd:log' }")));
    assert_eq!(gateway.get("/").text(), "hello");
}

#[test]
fn a_name_that_systemd_does_not_know_is_told_with_those_that_it_does() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let finished = Gateway::setup(&by_name("wbe"))
        .passed("web:log", socket)
        .run("run");
    let wanted = "the listener `http` can't have systemd:wbe: no socket of this name was passed, \
                  only `web`, `log`";
    assert!(failed(&finished).contains(wanted), "{}", finished.log);
    let finished = Gateway::setup(&by_name("web")).run("run");
    let wanted = "no socket was passed to this process\n  = help: have a socket unit of systemd";
    assert!(failed(&finished).contains(wanted), "{}", finished.log);
}

/// The variables stay when a process starts another one that knows nothing of them.
#[test]
fn sockets_that_were_meant_for_another_process_are_not_taken() {
    let finished = Gateway::setup(&by_name("web"))
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .run("run");
    assert!(
        failed(&finished).contains("no socket was passed"),
        "{}",
        finished.log
    );
}

#[test]
fn a_socket_that_can_not_be_listened_at_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let run = |setup: edgeway_tests::Setup| setup.run("run");
    for finished in [
        run(Gateway::setup(&by_name("web")).passed("web", datagrams)),
        run(Gateway::setup(&by_name("web")).passed("web", connected)),
        run(Gateway::setup(&by_name("web")).passed("web", file)),
    ] {
        let wanted = "can't have systemd:web: it is no socket of TCP";
        assert!(failed(&finished).contains(wanted), "{}", finished.log);
    }
}
