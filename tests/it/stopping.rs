//! The end of the gateway, and the end of connections that keep it waiting.

use std::time::{Duration, Instant};
use std::{fs, thread};

use edgeway_tests::{Answer, Connection, Echo, Gateway, PATIENCE, Upstream, eventually};

/// Less than any default that a test could be mistaken for, and more than any machine needs.
const SOON: Duration = Duration::from_secs(15);

fn gateway(endpoint: impl std::fmt::Display, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "{settings}\nupstreams: {{ app: {{ endpoints: [{endpoint}] }} }}\nroutes: [{{ upstream: app }}]"
    ))
}

/// Asserts that the connection is closed about so long after now.
#[track_caller]
fn expect_close_after(connection: &mut Connection, wait: Duration) {
    let start = Instant::now();
    connection.expect_close();
    let taken = start.elapsed();
    assert!(
        taken + Duration::from_millis(50) >= wait && taken < SOON,
        "{taken:?}"
    );
}

// ---- stopping ---------------------------------------------------------------------------------

#[test]
fn running_requests_end_idle_connections_are_closed_and_no_new_ones_are_taken() {
    let echo = Echo::start();
    let mut gateway = gateway(&echo, "");
    let (mut idle, mut fresh, mut busy) = (gateway.connect(), gateway.connect(), gateway.connect());
    idle.get("/");
    let running = thread::spawn(move || {
        let answer: Answer = busy.get("/?delay=3s");
        (answer, busy)
    });
    eventually(PATIENCE, || echo.stats().requests == 2);
    gateway.ask_to_stop();
    idle.expect_close();
    fresh.expect_close();
    eventually(PATIENCE, || {
        Connection::try_open(gateway.address()).is_err()
    });
    assert!(
        !running.is_finished(),
        "nothing of this waits for the request"
    );
    let (answer, mut busy) = running.join().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    busy.expect_close();
    let start = Instant::now();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_request_that_is_on_its_way_when_the_end_begins_is_answered() {
    let echo = Echo::start();
    let mut gateway = gateway(&echo, "");
    let (mut used, mut fresh) = (gateway.connect(), gateway.connect());
    assert!(used.get("/").reusable);
    gateway.ask_to_stop();
    gateway.wait_for_log("stopping: ");
    for connection in [&mut used, &mut fresh] {
        let answer = connection.get("/");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"));
        connection.expect_close();
    }
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("stopping with open connections"));
}

#[test]
fn a_gateway_without_connections_stops_at_once() {
    let echo = Echo::start();
    let mut gateway = gateway(&echo, "");
    assert_eq!(gateway.get("/").status, 200);
    let start = Instant::now();
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_gateway_without_requests_stops_soon() {
    let mut gateway = gateway(Echo::start(), "");
    let _idle = gateway.connect();
    let start = Instant::now();
    assert_eq!(gateway.stop().code(), Some(0));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_request_that_hangs_is_cut_off_after_the_shutdown_timeout() {
    let silent = Upstream::silent();
    let mut gateway = gateway(&silent, "shutdown_timeout: 300ms");
    let request = gateway.request("GET", "/");
    let hanging = thread::spawn(|| request.attempt());
    eventually(PATIENCE, || silent.connections() == 1);
    let start = Instant::now();
    assert_eq!(gateway.stop().code(), Some(0));
    let taken = start.elapsed();
    assert!(
        taken >= Duration::from_millis(300) && taken < SOON,
        "{taken:?}"
    );
    hanging.join().unwrap().unwrap_err();
    gateway.wait_for_log("connections=1");
}

#[test]
fn a_second_signal_stops_at_once() {
    let silent = Upstream::silent();
    let mut gateway = gateway(&silent, "");
    let request = gateway.request("GET", "/");
    let hanging = thread::spawn(|| request.attempt());
    eventually(PATIENCE, || silent.connections() == 1);
    gateway.ask_to_stop();
    gateway.wait_for_log("stopping");
    let start = Instant::now();
    gateway.stop();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    hanging.join().unwrap().unwrap_err();
}

// ---- limits of connections --------------------------------------------------------------------

#[test]
fn a_connection_is_closed_after_keepalive_without_a_request() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "requests: { keepalive: 1s, header_timeout: 1s }");
    let second = Duration::from_secs(1);
    let mut used = gateway.connect();
    used.get("/");
    assert!(used.get("/").reusable);
    expect_close_after(&mut used, second);
    let mut never_used = gateway.connect();
    expect_close_after(&mut never_used, second);
}

#[test]
fn a_client_that_pauses_within_a_body_is_told_after_the_read_timeout() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "requests: { read_timeout: 300ms }");
    let mut connection = gateway.connect();
    let start = Instant::now();
    connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf");
    let answer = connection.answer();
    let taken = start.elapsed();
    assert_eq!(answer.status, 408);
    assert!(
        taken >= Duration::from_millis(290) && taken < SOON,
        "{taken:?}"
    );
    connection.expect_close();
    assert_eq!(gateway.get("/").status, 200);
    assert!(
        !gateway.log().contains("left out"),
        "it is not the endpoint's fault"
    );
}

#[test]
fn a_client_that_does_not_read_is_cut_off_after_the_write_timeout() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "requests: { write_timeout: 300ms }");
    let before = sockets(gateway.pid());
    let mut connection = gateway.connect();
    connection.send("GET /?size=67108864 HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || echo.stats().requests == 1);
    // Both its own connection and the one to the endpoint, though nobody has read a byte.
    eventually(SOON, || sockets(gateway.pid()) <= before);
    let broken = connection.try_answer().unwrap_err();
    assert_eq!(broken.partial.unwrap().status, 200);
}

/// How many sockets a process has.
fn sockets(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}
