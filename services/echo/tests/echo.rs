//! Drives the real program over raw sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may what it is made of"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use edgeway_service::testing::Running;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeway-echo");

fn echo() -> Running {
    Running::start(PROGRAM, &["--source", "echo-1"])
}

/// A connection that stays open between requests.
struct Client(BufReader<TcpStream>);

struct Answer {
    head: String,
    body: String,
}

impl Client {
    fn connect(echo: &Running) -> Self {
        let stream = TcpStream::connect(echo.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) -> &mut Self {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        self
    }

    /// An answer with `Content-Length`.
    fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                self.0.read_line(&mut head).unwrap(),
                0,
                "closed after {head:?}"
            );
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        Answer {
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// Everything until the connection is closed.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }

    fn get(&mut self, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .answer()
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn get(echo: &Running, target: &str) -> Answer {
    Client::connect(echo).get(target)
}

#[test]
fn an_answer_describes_the_request_as_it_was_written() {
    let echo = echo();
    let mut client = Client::connect(&echo);
    let request = "POST /a//b/../%2e?x=1&y HTTP/1.1\r\nHOST: x\r\nx-Two: 1\r\nContent-Length: 5\r\nX-two:  2 \r\n\r\nhello";
    let body = client.send(request).answer().json();
    assert_eq!(body["source"], "echo-1");
    assert_eq!(body["method"], "POST");
    assert_eq!(body["target"], "/a//b/../%2e?x=1&y");
    assert_eq!(body["path"], "/a//b/../%2e");
    assert_eq!(body["query"], "x=1&y");
    let headers = json!([
        ["HOST", "x"],
        ["x-Two", "1"],
        ["Content-Length", "5"],
        ["X-two", "2"]
    ]);
    assert_eq!(body["headers"], headers);
    assert_eq!(body["body"], "hello");
    assert_eq!(body["body_bytes"], 5);
    assert_eq!(body["version"], "HTTP/1.1");
    assert_eq!(
        body["client"],
        client.0.get_ref().local_addr().unwrap().to_string()
    );
    assert!(body["pid"].as_u64().unwrap() > 0);
}

#[test]
fn each_request_of_a_connection_has_its_own_headers() {
    let echo = echo();
    let mut client = Client::connect(&echo);
    for number in 0..3 {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nX-Number: {number}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        let body = client.send(&request).answer().json();
        assert_eq!(body["headers"][1], json!(["X-Number", number.to_string()]));
        assert_eq!(body["body"], "abc");
        client.get("/healthz");
    }
}

#[test]
fn requests_that_do_not_wait_for_answers_are_all_answered() {
    let echo = echo();
    let mut client = Client::connect(&echo);
    let request = |name| format!("GET /{name} HTTP/1.1\r\nHost: x\r\nX-Name: {name}\r\n\r\n");
    client.send(&(request("a") + &request("b") + &request("c")));
    for name in ["a", "b", "c"] {
        let body = client.answer().json();
        assert_eq!(body["target"], format!("/{name}"));
        assert_eq!(body["headers"][1][1], name);
    }
}

#[test]
fn a_long_body_is_counted_whole_and_shown_in_part() {
    let echo = echo();
    let length = 3_000_000;
    let request = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let mut client = Client::connect(&echo);
    let body = client
        .send(&request)
        .send(&"é".repeat(length / 2))
        .answer()
        .json();
    assert_eq!(body["body_bytes"], length);
    assert_eq!(body["body"].as_str().unwrap().len(), 64 * 1024);
}

#[test]
fn a_body_of_any_bytes_is_shown_as_text() {
    let echo = echo();
    let mut client = Client::connect(&echo);
    client
        .0
        .get_mut()
        .write_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xff\x00")
        .unwrap();
    assert_eq!(client.answer().json()["body"], "\u{fffd}\0");
}

#[test]
fn the_query_sets_status_and_headers() {
    let echo = echo();
    let answer = get(
        &echo,
        "/?status=503&header=X-Powered-By:PHP&header=Set-Cookie:a%3D1&header=Set-Cookie:b%3D2&header=Content-Type:text/html",
    );
    assert!(answer.head.starts_with("HTTP/1.1 503 "), "{}", answer.head);
    for line in [
        "x-powered-by: PHP",
        "set-cookie: a=1",
        "set-cookie: b=2",
        "content-type: text/html",
    ] {
        assert_eq!(answer.head.matches(line).count(), 1, "{}", answer.head);
    }
    assert_eq!(answer.head.matches("content-type").count(), 1);
}

#[test]
fn the_query_delays_the_answer() {
    let start = Instant::now();
    get(&echo(), "/?delay=200ms");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn the_query_sets_the_size_of_the_body() {
    let echo = echo();
    for size in [0, 1, 16 * 1024, 1_000_000] {
        assert_eq!(get(&echo, &format!("/?size={size}")).body, "x".repeat(size));
    }
}

#[test]
fn a_chunked_body_comes_in_pieces_without_a_length() {
    let echo = echo();
    let request = "GET /?size=16&chunked=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = Client::connect(&echo).send(request).rest();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, "2\r\nxx\r\n".repeat(8) + "0\r\n\r\n");
}

#[test]
fn an_aborted_head_closes_the_connection_without_a_byte() {
    let echo = echo();
    let answer = Client::connect(&echo)
        .send("GET /?abort=head HTTP/1.1\r\nHost: x\r\n\r\n")
        .rest();
    assert_eq!(answer, "");
}

#[test]
fn an_aborted_body_ends_in_the_middle() {
    let echo = echo();
    for (framing, size) in [("", 1_000), ("", 1_000_000), ("&chunked=1", 1_000)] {
        let request = format!("GET /?abort=body&size={size}{framing} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = Client::connect(&echo).send(&request).rest();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert_eq!(body.matches('x').count(), size / 2);
        assert!(!body.contains("0\r\n\r\n"));
    }
}

#[test]
fn a_wrong_parameter_is_refused_with_what_was_expected() {
    let echo = echo();
    for query in [
        "status=abc",
        "status=100",
        "delay=5",
        "size=-1",
        "chunked=yes",
        "abort=now",
        "header=x",
    ] {
        let answer = get(&echo, &format!("/?{query}"));
        assert!(answer.head.starts_with("HTTP/1.1 400 "), "{query}");
        assert!(
            answer.body.starts_with(&format!("`{query}`: expected ")),
            "{}",
            answer.body
        );
    }
}

#[test]
fn the_numbers_leave_out_those_who_ask_for_them() {
    let echo = echo();
    let mut watcher = Client::connect(&echo);
    watcher.get("/healthz");
    let nothing = json!({ "requests": 0, "connections": 0, "open_connections": 0 });
    assert_eq!(watcher.get("/__stats").json(), nothing);

    let mut first = Client::connect(&echo);
    assert_eq!(first.get("/").json()["connection"], 1);
    let second = first.get("/").json();
    assert_eq!(
        (&second["connection"], &second["requests"]),
        (&json!(1), &json!(2))
    );
    let mut other = Client::connect(&echo);
    assert_eq!(other.get("/").json()["connection"], 2);
    let three = json!({ "requests": 3, "connections": 2, "open_connections": 2 });
    assert_eq!(watcher.get("/__stats").json(), three);

    drop(first);
    let deadline = Instant::now() + Duration::from_secs(20);
    while watcher.get("/__stats").json()["open_connections"] != 1 {
        assert!(
            Instant::now() < deadline,
            "a closed connection is still counted as open"
        );
    }
}

#[test]
fn a_stop_lets_the_request_in_flight_finish_and_takes_no_new_one() {
    let echo = echo();
    let idle = Client::connect(&echo);
    let mut slow = Client::connect(&echo);
    slow.send("GET /?delay=500ms HTTP/1.1\r\nHost: x\r\n\r\n");
    while get(&echo, "/__stats").json()["requests"] != 1 {}
    let address = echo.address().to_owned();
    echo.ask_to_stop();
    assert!(slow.answer().head.starts_with("HTTP/1.1 200 "));
    let (status, log) = echo.wait();
    assert!(status.success(), "{log}");
    assert!(!log.contains("in flight"), "{log}");
    assert!(TcpStream::connect(address).is_err());
    drop(idle);
}

#[test]
fn an_address_that_is_none_is_refused() {
    let (code, said) = Running::refuse(PROGRAM, &["--listen", "nonsense"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--listen"), "{said}");
}

#[test]
fn a_unix_socket_is_listened_on_instead_of_an_address() {
    let path = std::env::temp_dir().join(format!("edgeway-echo-{}.sock", std::process::id()));
    let name = path.to_str().unwrap();
    let echo = Running::start(PROGRAM, &["--unix", name]);
    assert_eq!(echo.address(), format!("unix:{name}"));
    let mut stream = UnixStream::connect(&path).unwrap();
    let request = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["target"], "/a");
    assert_eq!(body["client"], "unix");

    // One that was killed leaves its socket behind, one that was stopped does not.
    drop(echo);
    assert!(path.exists());
    let echo = Running::start(PROGRAM, &["--unix", name]);
    echo.ask_to_stop();
    assert!(echo.wait().0.success());
    assert!(!path.exists());
}

#[test]
fn an_address_beside_a_unix_socket_is_refused() {
    let both = ["--listen", "127.0.0.1:0", "--unix", "/nowhere/echo.sock"];
    let (code, said) = Running::refuse(PROGRAM, &both);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = Running::refuse(PROGRAM, &["--unix", "/nowhere/echo.sock"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/nowhere/echo.sock"), "{said}");
}
