//! The filter `forward_auth`: a service is asked whether a request may pass.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use edgeway_tests::{Authority, Echo, Endpoint, Gateway, PATIENCE, Request, Upstream, eventually};

/// A service that answers what it is told to, and keeps what it was asked.
struct Service {
    upstream: Upstream,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Head and body. None: never answers.
    answer: Mutex<Option<String>>,
    bodies: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

impl Service {
    fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let upstream = Upstream::raw(move |mut caller| {
            while let Some(head) = caller.head() {
                let lower = head.to_ascii_lowercase();
                let length = lower
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |length| length.parse().unwrap());
                let body = caller.body(length).unwrap();
                let body = String::from_utf8_lossy(&body).into_owned();
                served.bodies.lock().unwrap().push(body);
                served.asked.fetch_add(1, Ordering::SeqCst);
                let answer = served.answer.lock().unwrap().clone();
                match answer {
                    Some(answer) => caller.send(answer),
                    None => caller.wait_for_close(),
                }
            }
        });
        let service = Self { upstream, shared };
        service.answers("200 OK", "", "");
        service
    }

    /// With this status, these header lines and this body from now on.
    fn answers(&self, status: &str, lines: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {length}\r\n\r\n");
        *self.shared.answer.lock().unwrap() = Some(head + body);
    }

    fn says(&self, bytes: &str) {
        *self.shared.answer.lock().unwrap() = Some(bytes.to_owned());
    }

    fn silent(&self) {
        *self.shared.answer.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// The lines of the last question, in lower case.
    fn question(&self) -> Vec<String> {
        let head = self.upstream.heads().pop().unwrap();
        head.lines().map(str::to_ascii_lowercase).collect()
    }
}

/// A gateway whose only route echoes, behind `forward_auth` with these keys besides.
fn gateway(service: &Service, echo: &Echo, more: &str) -> Gateway {
    Gateway::start(&behind(
        &format!("http://{}/verify?x=1", service.upstream),
        echo,
        more,
    ))
}

fn behind(url: &str, echo: &Echo, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters: [access_log]
        routes:
          - filters:
              - forward_auth: {{ url: \"{url}\"{comma}{more} }}
            upstream: echo
        "
    )
}

#[test]
fn who_the_service_lets_pass_passes_with_what_it_says() {
    let (service, echo) = (Service::start(), Echo::start());
    service.answers("204 No Content", "X-Auth-User: ann\r\nX-Other: 1\r\n", "");
    let gateway = gateway(
        &service,
        &echo,
        "response_headers: [X-Auth-User, X-Auth-Role]",
    );
    let request = gateway.request("GET", "/a?b=c");
    let answer = request
        .header("X-Auth-Role", "root")
        .header("X_Auth_Role", "root")
        .send();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("x-auth-user"), ["ann"]);
    assert_eq!(answer.received("x-auth-role"), [""; 0]);
    assert_eq!(answer.received("x_auth_role"), [""; 0]);
    assert_eq!(answer.received("x-other"), [""; 0]);
    assert_eq!(answer.header("X-Auth-User"), None);
}

#[test]
fn the_service_is_told_about_the_request() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(&service, &echo, "");
    let request = gateway
        .request("POST", "/x/../a%2Fb?c=d")
        .host("shop.example:8080");
    let request = request
        .header("Cookie", "s=1")
        .header("Authorization", "Basic eA==")
        .header("X-Secret", "1")
        .header("X-Forwarded-Uri", "/public")
        .header("X-Forwarded-Method", "OPTIONS")
        .header("X-Forwarded-For", "10.0.0.1");
    assert_eq!(request.body("hello").send().status, 200);
    let question = service.question();
    assert_eq!(question[0], "get /verify?x=1 http/1.1");
    for line in [
        "x-forwarded-method: post",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example:8080",
        "x-forwarded-uri: /a%2fb?c=d",
        "x-forwarded-for: 127.0.0.1",
        "cookie: s=1",
        "authorization: basic ea==",
    ] {
        assert!(
            question.iter().any(|known| known == line),
            "{line}: {question:?}"
        );
    }
    for name in ["x-secret", "content-length", "content-type"] {
        assert!(
            !question.iter().any(|line| line.starts_with(name)),
            "{question:?}"
        );
    }
    let told = |name: &str| {
        question
            .iter()
            .filter(|line| line.starts_with(name))
            .count()
    };
    assert_eq!((told("x-forwarded-uri"), told("x-forwarded-for")), (1, 1));
    assert_eq!(*service.shared.bodies.lock().unwrap(), [""]);
}

#[test]
fn other_headers_methods_and_bodies_are_sent_along() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(
        &service,
        &echo,
        "request_headers: [X-Key], method: client, body: 10B",
    );
    let request = gateway
        .request("PUT", "/")
        .header("X-Key", "k")
        .header("Cookie", "s=1");
    let request = request
        .header("Content-Type", "text/plain")
        .header("Content-Encoding", "gzip");
    let answer = request.body("0123456789").send();
    assert_eq!(
        answer.json()["body"],
        "0123456789",
        "the upstream has it, too"
    );
    let question = service.question();
    assert_eq!(question[0], "put /verify?x=1 http/1.1");
    for line in [
        "x-key: k",
        "content-type: text/plain",
        "content-encoding: gzip",
        "content-length: 10",
    ] {
        assert!(
            question.iter().any(|known| known == line),
            "{line}: {question:?}"
        );
    }
    assert!(!question.iter().any(|line| line.starts_with("cookie")));
    assert_eq!(*service.shared.bodies.lock().unwrap(), ["0123456789"]);

    let large = gateway.request("PUT", "/").body("0123456789x").send();
    assert_eq!(large.status, 413);
    assert_eq!(service.asked(), 1);
    let post = self::gateway(&service, &echo, "method: POST");
    post.get("/");
    assert_eq!(service.question()[0], "post /verify?x=1 http/1.1");
    let head = self::gateway(&service, &echo, "method: HEAD");
    head.get("/");
    assert_eq!(service.question()[0], "head /verify?x=1 http/1.1");
}

#[test]
fn a_refusal_is_what_the_service_says() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(&service, &echo, "client_headers: [X-Reason]");
    let lines = "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Type: text/html\r\n\
                 Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Reason: none\r\nX-Inner: 1\r\n";
    service.answers("401 Unauthorized", lines, "<p>who?</p>");
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (401, "<p>who?</p>"));
    assert_eq!(answer.header("WWW-Authenticate"), Some("Basic realm=\"x\""));
    assert_eq!(answer.header("Content-Type"), Some("text/html"));
    assert_eq!(answer.header_all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.header("X-Reason"), Some("none"));
    assert_eq!(answer.header("X-Inner"), None);

    service.answers(
        "302 Found",
        "Location: https://id.example/login?x=1\r\n",
        "",
    );
    let answer = gateway.get("/");
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.header("Location"),
        Some("https://id.example/login?x=1")
    );

    service.answers("403 Forbidden", "", "");
    let answer = gateway.get("/");
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/problem+json")
    );
    service.answers("429 Too Many Requests", "Retry-After: 7\r\n", "");
    assert_eq!(gateway.get("/").header("Retry-After"), Some("7"));
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn without_an_answer_nobody_passes() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(&service, &echo, "timeout: 300ms");
    let large = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}",
        "x".repeat(70_000)
    );
    for said in [
        "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 502 Oh\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "rubbish\r\n\r\n",
        "",
        &large,
    ] {
        service.says(said);
        let answer = gateway.get("/");
        assert_eq!(answer.status, 503, "{}", said.get(..40).unwrap_or(said));
        assert!(answer.header("Retry-After").is_some());
    }
    service.silent();
    assert_eq!(gateway.get("/").status, 503);
    gateway.wait_for_output("no answer in time");
    assert_eq!(echo.stats().requests, 0);
    service.answers("200 OK", "", "");
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_service_that_is_not_there_lets_nobody_pass_but_the_gateway_starts() {
    let echo = Echo::start();
    for nobody in [Upstream::refusing(), Upstream::unreachable()] {
        let yaml = behind(&format!("http://{nobody}/"), &echo, "timeout: 500ms");
        assert_eq!(Gateway::start(&yaml).get("/").status, 503);
    }
    let yaml = behind("http://does-not-exist.invalid/", &echo, "");
    assert_eq!(Gateway::start(&yaml).get("/").status, 503);
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn redirects_of_the_service_are_not_followed() {
    let (service, other, echo) = (Service::start(), Service::start(), Echo::start());
    let gateway = gateway(&service, &echo, "");
    let location = format!("Location: http://{}/\r\n", other.upstream);
    service.answers("307 Temporary Redirect", &location, "");
    assert_eq!(gateway.get("/").status, 307);
    assert_eq!(other.asked(), 0);
}

#[test]
fn the_client_is_told_what_the_service_wants_it_to_know() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(
        &service,
        &echo,
        "client_headers: [Set-Cookie, X-Left], cache: { ttl: 1h }",
    );
    service.answers(
        "200 OK",
        "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Left: 7\r\n",
        "",
    );
    for _ in 0..2 {
        let answer = gateway.get("/");
        assert_eq!(answer.header_all("Set-Cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.header_all("X-Left"), ["7"]);
    }
    assert_eq!(service.asked(), 2, "cookies of one are not for others");

    let quiet = self::gateway(&service, &echo, "cache: { ttl: 1h }");
    for _ in 0..2 {
        assert_eq!(quiet.get("/").header("Set-Cookie"), None);
    }
    assert_eq!(service.asked(), 4, "whoever gets the cookies");
}

#[test]
fn other_filters_learn_who_is_calling() {
    let (service, echo) = (Service::start(), Echo::start());
    let more = "identity: { subject: X-User, roles: X-Roles, plan: X-Plan }";
    let yaml = behind(&format!("http://{}/", service.upstream), &echo, more).replace(
        "            upstream: echo",
        "              - headers: { request: { set: { X-Seen: \"{subject} {claim.roles} {claim.plan}\" } } }\n            upstream: echo",
    );
    let gateway = Gateway::start(&yaml);
    service.answers(
        "200 OK",
        "X-User: ann\r\nX-Roles: a, b\r\nX-Plan: x, y\r\n",
        "",
    );
    assert_eq!(gateway.get("/").received("x-seen"), ["ann a,b x, y"]);
    // Of two names, which one?
    service.answers("200 OK", "X-User: ann\r\nX-User: root\r\n", "");
    assert_eq!(gateway.get("/").received("x-seen").concat().trim(), "");
}

#[test]
fn an_answer_is_remembered_for_all_that_ask_the_same() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(
        &service,
        &echo,
        "cache: { ttl: 1h }, response_headers: [X-User]",
    );
    service.answers("200 OK", "X-User: ann\r\n", "");
    let ask = |target: &str, cookie: &str| {
        let answer = gateway
            .request("GET", target)
            .header("Cookie", cookie)
            .send();
        assert_eq!(answer.received("x-user"), ["ann"]);
        service.asked()
    };
    assert_eq!(ask("/a", "s=1"), 1);
    assert_eq!(ask("/a", "s=1"), 1);
    assert_eq!(ask("/a", "s=2"), 2);
    assert_eq!(ask("/b", "s=1"), 3);
    assert_eq!(ask("/a?x", "s=1"), 4);
    assert_eq!(ask("/a", "s=1"), 4);
}

#[test]
fn an_answer_is_remembered_by_its_key_and_for_its_time() {
    let (service, echo) = (Service::start(), Echo::start());
    let key = "cache: { ttl: 4s, key: \"{header.authorization}\", size: 16 }";
    let gateway = gateway(&service, &echo, key);
    let ask =
        |target: &str, token: &str| gateway.request("GET", target).bearer(token).send().status;
    assert_eq!(
        (ask("/a", "one"), ask("/b", "one"), service.asked()),
        (200, 200, 1)
    );
    assert_eq!((ask("/a", "two"), service.asked()), (200, 2));
    // Without a key each is asked about.
    gateway.get("/");
    gateway.get("/");
    assert_eq!(service.asked(), 4);

    service.answers("403 Forbidden", "", "");
    eventually(PATIENCE, || ask("/a", "one") == 403);
    // Refusals are not remembered, nor is what must not be.
    let before = service.asked();
    assert_eq!((ask("/a", "one"), service.asked()), (403, before + 1));
    service.answers("200 OK", "Cache-Control: private, no-store\r\n", "");
    assert_eq!((ask("/a", "one"), ask("/a", "one")), (200, 200));
    assert_eq!(service.asked(), before + 3);
}

#[test]
fn nobody_gets_in_by_what_was_said_of_another() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(
        &service,
        &echo,
        "cache: { ttl: 1h, key: \"{header.authorization} {method} {host} {path}\" }",
    );
    let ask = |lines: &[(&str, &str)]| {
        let mut request = gateway.request("GET", "/");
        for (name, value) in lines {
            request = request.header(name, value);
        }
        request.send().status
    };
    // One who is known by a cookie, which the key does not name.
    assert_eq!(ask(&[("Cookie", "s=1")]), 200);
    assert_eq!(ask(&[("Authorization", "Basic \u{e9}")]), 200);
    assert_eq!(ask(&[("Authorization", "")]), 200);
    service.answers("401 Unauthorized", "", "");
    for nobody in [
        [].as_slice(),
        &[("Authorization", "")],
        &[("Authorization", "Basic \u{e8}")],
    ] {
        assert_eq!(ask(nobody), 401, "{nobody:?}");
    }
    let right = ("Authorization", "Basic eA==");
    service.answers("200 OK", "", "");
    assert_eq!(ask(&[right]), 200);
    service.answers("401 Unauthorized", "", "");
    assert_eq!(ask(&[right]), 200, "remembered");
}

#[test]
fn a_header_of_several_lines_is_not_known_again_by_the_first() {
    let (service, echo) = (Service::start(), Echo::start());
    let more = "request_headers: [X-Key], cache: { ttl: 1h, key: \"{header.x-key} {target}\" }";
    let gateway = gateway(&service, &echo, more);
    let ask = |keys: &[&str]| {
        let request = gateway.request("GET", "/");
        let add = |request: Request<'static>, key: &&str| request.header("X-Key", key);
        keys.iter().fold(request, add).send().status
    };
    assert_eq!(ask(&["wrong", "right"]), 200);
    service.answers("403 Forbidden", "", "");
    assert_eq!(ask(&["wrong"]), 403);
}

#[test]
fn the_parts_of_a_key_do_not_run_into_each_other() {
    let (service, echo) = (Service::start(), Echo::start());
    let key = "cache: { ttl: 1h, key: \"{query.user} {query.role}\" }";
    let gateway = gateway(&service, &echo, key);
    assert_eq!(gateway.get("/?user=a&role=b+c").status, 200);
    service.answers("403 Forbidden", "", "");
    assert_eq!(gateway.get("/?user=a+b&role=c").status, 403);
    assert_eq!(gateway.get("/?user=a&role=b+c").status, 200);
}

#[test]
fn what_is_remembered_outlasts_the_service() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(&service, &echo, "cache: { ttl: 1h }, timeout: 200ms");
    assert_eq!(gateway.get("/").status, 200);
    service.silent();
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.get("/other").status, 503);
}

#[test]
fn requests_that_ask_the_same_at_the_same_time_ask_once() {
    let (service, echo) = (Service::start(), Echo::start());
    let gateway = gateway(&service, &echo, "cache: { ttl: 1h }, timeout: 2s");
    service.silent();
    let address = gateway.address();
    let ask = move || thread::spawn(move || Request::to(address, "GET", "/").send().status);
    let all: Vec<_> = (0..8).map(|_| ask()).collect();
    let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
    assert_eq!(all, [503; 8]);
    // One question for all that were there when it was asked; a late one may have asked again.
    assert!(service.asked() <= 2, "{}", service.asked());
}

#[test]
fn the_service_may_listen_at_a_unix_socket() {
    let echo = Echo::start();
    let auth = Echo::start_unix();
    let address = auth.to_string();
    let socket = address.strip_prefix("unix:").unwrap();
    let gateway = Gateway::start(&behind(
        "http://auth/verify",
        &echo,
        &format!("socket: {socket}"),
    ));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(auth.stats().requests, 1);
}

#[test]
fn a_service_behind_the_filter_itself_does_not_go_round_in_circles() {
    let (service, echo) = (Service::start(), Echo::start());
    // The address of the gateway is known when it runs.
    let gateway = gateway(&service, &echo, "");
    let own = behind(&format!("http://{gateway}/verify"), &echo, "");
    assert!(gateway.reload(&own));
    // The question is refused, and that is no answer.
    assert_eq!(gateway.get("/").status, 503);
    gateway.wait_for_output("behind this filter itself");
    gateway.wait_for_output("the service answers 508");
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn a_refusal_that_is_only_reported_lets_the_request_pass_as_nobody() {
    let (service, echo) = (Service::start(), Echo::start());
    let more = "response_headers: [X-User], identity: { subject: X-User }";
    let yaml = behind(&format!("http://{}/", service.upstream), &echo, more).replace(
        "            upstream: echo",
        "                mode: report\n            upstream: echo",
    );
    let gateway = Gateway::start(&yaml);
    service.answers("403 Forbidden", "X-User: ann\r\nSet-Cookie: a=1\r\n", "no");
    let answer = gateway.request("GET", "/").header("X-User", "root").send();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("x-user"), [""; 0]);
    assert_eq!(answer.header("Set-Cookie"), None);
    service.says("");
    assert_eq!(gateway.get("/").status, 200);
    service.answers("200 OK", "X-User: ann\r\n", "");
    assert_eq!(gateway.get("/").received("x-user"), ["ann"]);
}

#[test]
fn a_service_that_only_says_who_it_is_is_not_believed() {
    let (authority, echo) = (Authority::new(), Echo::start());
    let service = Endpoint::https("auth", &authority.certificate(&["127.0.0.1"]));
    let yaml = behind(&format!("https://{service}/"), &echo, "");
    let stranger = Gateway::start(&yaml);
    assert_eq!(stranger.get("/").status, 503);
    stranger.wait_for_output("certificate");
    // The same, known to the system.
    let ca = authority.ca();
    let friend = Gateway::setup(&yaml).env("SSL_CERT_FILE", ca.to_str().unwrap());
    assert_eq!(friend.start().get("/").status, 200);
    assert_eq!(echo.stats().requests, 1);
    // Known as soon as the certificates are where they should be.
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("ca.pem");
    fs::copy(&ca, &late).unwrap();
    let gateway = Gateway::setup(&yaml).env("SSL_CERT_FILE", late.to_str().unwrap());
    let gateway = gateway.start();
    fs::remove_file(&late).unwrap();
    assert_eq!(gateway.get("/").status, 503);
    fs::copy(&ca, &late).unwrap();
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn an_upgrade_is_no_way_around() {
    let (service, echo) = (Service::start(), Echo::start());
    service.answers("403 Forbidden", "", "");
    let gateway = gateway(&service, &echo, "");
    let request = gateway.request("GET", "/").header("Connection", "Upgrade");
    let request = request
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.send().status, 403);
}

#[test]
fn mistakes_are_told_where_they_are() {
    let echo = Echo::start();
    for (keys, message) in [
        ("body: 1KiB", "has no body"),
        ("method: POST, body: 65KiB", "1B to 64KiB"),
        ("timeout: 0s", "longer than nothing"),
        ("cache: { ttl: 0s }", "longer than nothing"),
        ("cache: { size: 0 }", "a number from 1"),
        ("cache: { key: all }", "the same key"),
        ("identity: { roles: X-Roles }", "nobody is named"),
        (
            "request_headers: [X-A], response_headers: [X-A]",
            "can't be the client's for the service",
        ),
        ("request_headers: [Connection]", "belongs to the connection"),
        ("response_headers: [Host]", "can't be changed by a filter"),
        (
            "client_headers: [Content-Length]",
            "belongs to the connection",
        ),
        ("method: TRACE", "GET"),
    ] {
        let said = Gateway::refused(&behind("http://127.0.0.1:1/", &echo, keys));
        assert!(said.contains(message), "{keys}: {said}");
    }
    let said = Gateway::refused(&behind("http://ann:secret@127.0.0.1:1/", &echo, ""));
    assert!(said.contains("end up in logs"), "{said}");
}
