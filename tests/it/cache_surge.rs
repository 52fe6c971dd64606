//! A cache under many requests at once: one fetch for all of them, and no queue where there is nothing to wait
//! for.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use edgeway_tests::{
    Answer, Break, Broken, Connection, Endpoint, Gateway, PATIENCE, Reaction, Received, Request,
    eventually, load_during, python,
};

/// How many ask at once.
const MANY: usize = 200;

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A gateway with an upstream of these endpoints, whose only route has a cache.
pub(crate) fn gateway(upstream: &str, cache: &str) -> Gateway {
    Gateway::start(&configuration(upstream, cache))
}

pub(crate) fn configuration(upstream: &str, cache: &str) -> String {
    format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        upstreams: {{ pool: {{ {upstream} }} }}
        routes: [{{ upstream: pool, cache: {cache} }}]
        "
    )
}

pub(crate) fn before(endpoint: &Endpoint, cache: &str) -> Gateway {
    gateway(&format!("endpoints: [{endpoint}]"), cache)
}

/// An endpoint with pages whose body is the number of the request.
pub(crate) fn pages(
    answer: impl Fn(&Received, Reaction) -> Reaction + Send + Sync + 'static,
) -> Endpoint {
    Endpoint::setup("pages")
        .answers(move |request| {
            let page = Reaction::status(200).body(format!("page {}", request.number));
            answer(request, page)
        })
        .start()
}

/// What became of a request of a crowd, and after what time.
pub(crate) struct Asked {
    pub(crate) time: Duration,
    pub(crate) outcome: Result<Answer, Broken>,
}

/// Sends as many requests at the same time, each over a connection of its own that is open before.
pub(crate) fn at_once(
    gateway: &Gateway,
    clients: usize,
    make: impl Fn(usize, &mut Connection) -> Request<'_> + Sync,
) -> Vec<Asked> {
    let ready = Barrier::new(clients);
    let ask = |number| {
        let mut connection = gateway.connect();
        ready.wait();
        let start = Instant::now();
        let outcome = make(number, &mut connection).attempt();
        Asked {
            time: start.elapsed(),
            outcome,
        }
    };
    let ask = &ask;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| scope.spawn(move || ask(number)))
            .collect();
        let clients = clients.into_iter();
        clients.map(|client| client.join().unwrap()).collect()
    })
}

pub(crate) fn gets(gateway: &Gateway, target: &str) -> Vec<Asked> {
    at_once(gateway, MANY, |_, connection| {
        connection.request("GET", target)
    })
}

pub(crate) fn slowest(asked: &[Asked]) -> Duration {
    asked.iter().map(|one| one.time).max().unwrap_or_default()
}

/// The answers, all of which came whole and with this status.
#[track_caller]
pub(crate) fn all(asked: &[Asked], status: u16) -> Vec<&Answer> {
    let answers = asked.iter().map(|one| match &one.outcome {
        Ok(answer) => answer,
        Err(broken) => panic!("after {:?}: {broken}", one.time),
    });
    let answers: Vec<_> = answers.collect();
    for answer in &answers {
        assert_eq!(answer.status, status, "{}: {answer:?}", answer.text());
    }
    answers
}

/// Asserts that all have the same body.
#[track_caller]
fn all_say(asked: &[Asked], body: &str) {
    for answer in all(asked, 200) {
        assert_eq!(answer.text(), body, "{answer:?}");
    }
}

/// What the cache says of an answer.
#[track_caller]
pub(crate) fn told(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_default()
}

fn waited(asked: &[Asked]) -> usize {
    let answers = asked.iter().filter_map(|one| one.outcome.as_ref().ok());
    answers
        .filter(|answer| told(answer).contains("collapsed"))
        .count()
}

/// Requests that the gateway has under way at its first endpoint.
fn active(gateway: &Gateway) -> u64 {
    let view = Request::to(gateway.address_of("admin"), "GET", "/v1/upstreams/pool").send();
    let active = &view.json()["endpoints"][0]["active"];
    active.as_u64().unwrap_or_else(|| panic!("{}", view.text()))
}

#[track_caller]
pub(crate) fn nothing_is_left(gateway: &Gateway, endpoint: &Endpoint) {
    eventually(PATIENCE, || {
        active(gateway) == 0 && endpoint.in_flight() == 0
    });
}

#[test]
fn a_cold_page_is_fetched_once_however_many_ask() {
    let endpoint = pages(|_, page| page.after(ms(300)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    all_say(&gets(&gateway, "/"), "page 1");
    assert_eq!(endpoint.requests(), 1);
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn an_expired_page_is_fetched_once_however_many_ask() {
    let endpoint = pages(|_, page| page.header("Cache-Control", "max-age=1").after(ms(300)));
    let gateway = before(&endpoint, "{}");
    assert_eq!(gateway.get("/").text(), "page 1");
    thread::sleep(ms(1100));
    all_say(&gets(&gateway, "/"), "page 2");
    assert_eq!(endpoint.requests(), 2);
}

#[test]
fn an_expired_page_with_a_validator_is_asked_about_once_however_many_ask() {
    let endpoint = pages(|request, page| {
        let known = request.header_all("if-none-match") == ["\"v1\""];
        let answer = match known {
            true => Reaction::status(304),
            false => page,
        };
        answer
            .header("ETag", "\"v1\"")
            .header("Cache-Control", "max-age=1")
            .after(ms(300))
    });
    let gateway = before(&endpoint, "{}");
    assert_eq!(gateway.get("/").text(), "page 1");
    thread::sleep(ms(1100));
    all_say(&gets(&gateway, "/"), "page 1");
    assert_eq!(endpoint.requests(), 2);
}

#[test]
fn head_and_get_wait_for_the_same_fetch() {
    let endpoint = pages(|_, page| page.after(ms(300)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let asked = at_once(&gateway, MANY, |number, connection| {
        let method = if number % 2 == 0 { "HEAD" } else { "GET" };
        connection.request(method, "/")
    });
    for (number, answer) in all(&asked, 200).into_iter().enumerate() {
        let body = if number % 2 == 0 { "" } else { "page 1" };
        assert_eq!(answer.text(), body);
        assert_eq!(answer.header("content-length"), Some("6"));
    }
    let received = endpoint.received();
    let methods: Vec<_> = received.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(methods, ["GET"]);
}

#[test]
fn each_variant_is_fetched_once_however_many_ask() {
    let endpoint = pages(|request, page| {
        let language = request.header_all("accept-language").join(",");
        page.body(language)
            .header("Vary", "Accept-Language")
            .after(ms(300))
    });
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let languages = ["de", "en", "fr"];
    let crowd = || {
        let asked = at_once(&gateway, MANY, |number, connection| {
            let language = languages[number % 3];
            connection
                .request("GET", "/")
                .header("Accept-Language", language)
        });
        for (number, answer) in all(&asked, 200).into_iter().enumerate() {
            assert_eq!(answer.text(), languages[number % 3]);
        }
        assert!(slowest(&asked) < ms(2000), "{:?}", slowest(&asked));
    };
    crowd();
    assert_eq!(endpoint.requests(), 3);
    crowd();
    assert_eq!(endpoint.requests(), 3);
}

/// Asks for a page that is not stored: those who come first wait for one of them and no longer, and those
/// who come later not at all.
fn uncacheable(answer: impl Fn(Reaction) -> Reaction + Send + Sync + 'static, status: u16) {
    let endpoint = pages(move |_, page| answer(page.after(ms(300))));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let first = gets(&gateway, "/");
    all(&first, status);
    assert_eq!(endpoint.requests(), MANY);
    assert!(slowest(&first) < ms(2000), "{:?}", slowest(&first));
    assert!(waited(&first) > 0, "nobody has waited");
    let next = gets(&gateway, "/");
    all(&next, status);
    assert_eq!((endpoint.requests(), waited(&next)), (2 * MANY, 0));
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn a_page_that_must_not_be_stored_makes_nobody_queue() {
    uncacheable(|page| page.header("Cache-Control", "no-store"), 200);
}

#[test]
fn a_page_that_sets_a_cookie_makes_nobody_queue() {
    uncacheable(|page| page.header("Set-Cookie", "a=b"), 200);
}

#[test]
fn a_private_page_makes_nobody_queue() {
    uncacheable(|page| page.header("Cache-Control", "private"), 200);
}

#[test]
fn a_page_that_fails_makes_nobody_queue() {
    uncacheable(|page| page.with_status(500), 500);
}

#[test]
fn a_page_that_can_be_stored_again_is_stored_again() {
    let endpoint = pages(|request, page| match request.number {
        1 => page.with_status(500),
        _ => page,
    });
    let gateway = before(&endpoint, "{ ttl: 1m }");
    assert_eq!(gateway.get("/").status, 500);
    assert_eq!(gateway.get("/").text(), "page 2");
    assert_eq!(gateway.get("/").text(), "page 2");
}

#[test]
fn a_fetch_goes_on_when_the_client_it_was_begun_for_leaves() {
    let endpoint = pages(|_, page| page.after(ms(500)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    drop(first);
    let asked = at_once(&gateway, 20, |_, connection| {
        connection.request("GET", "/").host("a.test")
    });
    all_say(&asked, "page 1");
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn a_page_is_stored_although_the_only_client_has_left() {
    let endpoint = pages(|_, page| page.after(ms(200)));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    drop(first);
    eventually(PATIENCE, || endpoint.in_flight() == 0);
    let again = || gateway.request("GET", "/").host("a.test").send();
    eventually(PATIENCE, || told(&again()).contains("hit"));
    assert_eq!(again().text(), "page 1");
}

#[test]
fn those_who_wait_for_a_fetch_that_fails_wait_no_second_time() {
    let endpoint = pages(|_, page| page.after(ms(300)));
    endpoint.breaks(Break::BeforeAnswer);
    endpoint.slow(ms(300));
    let gateway = before(&endpoint, "{ ttl: 1m }");
    let asked = gets(&gateway, "/");
    all(&asked, 502);
    assert!(slowest(&asked) < ms(2500), "{:?}", slowest(&asked));
    nothing_is_left(&gateway, &endpoint);
}

#[test]
fn an_upstream_that_hangs_holds_nobody_up_for_long() {
    let endpoint = pages(|_, _| Reaction::hang());
    let upstream = format!("endpoints: [{endpoint}], timeouts: {{ read: 500ms }}");
    let gateway = gateway(&upstream, "{ ttl: 1m }");
    let asked = gets(&gateway, "/");
    all(&asked, 504);
    assert!(slowest(&asked) < ms(2500), "{:?}", slowest(&asked));
    assert!(slowest(&asked) >= ms(500), "{:?}", slowest(&asked));
    eventually(PATIENCE, || active(&gateway) == 0);
}

#[test]
fn nobody_waits_for_another_longer_than_the_route_says() {
    let endpoint = pages(|request, page| match request.number {
        1 => page.after(ms(4000)),
        _ => page,
    });
    let gateway = before(&endpoint, "{ ttl: 1m, wait: 300ms }");
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("/"));
        eventually(PATIENCE, || endpoint.in_flight() == 1);
        let asked = at_once(&gateway, 20, |_, connection| connection.request("GET", "/"));
        all(&asked, 200);
        assert!(slowest(&asked) < ms(2500), "{:?}", slowest(&asked));
        let soonest = asked.iter().map(|one| one.time).min().unwrap();
        assert!(soonest >= ms(290), "{soonest:?}");
        assert_eq!(first.join().unwrap().text(), "page 1");
    });
}

#[test]
fn personal_requests_wait_for_nobody_and_have_nobody_wait() {
    for (name, value) in [("Authorization", "Bearer a"), ("Cookie", "session=a")] {
        let endpoint = pages(|request, page| match request.path.as_str() {
            "/slow" => page.after(ms(1500)),
            _ => page,
        });
        let gateway = before(&endpoint, "{ ttl: 1m }");
        thread::scope(|scope| {
            // One of everybody and two of one: all three are fetched at the same time.
            let plain = scope.spawn(|| gateway.get("/slow"));
            eventually(PATIENCE, || endpoint.in_flight() == 1);
            let own = || gateway.request("GET", "/slow").header(name, value).send();
            let (one, two) = (scope.spawn(own), scope.spawn(own));
            eventually(ms(1200), || endpoint.in_flight() == 3);
            let bodies = [plain, one, two].map(|asked| asked.join().unwrap().text().to_owned());
            assert_ne!(bodies[0], bodies[1]);
            assert_ne!(bodies[1], bodies[2]);
            assert_ne!(bodies[0], bodies[2]);
        });
        thread::scope(|scope| {
            let own = scope.spawn(|| {
                let slow = gateway.request("GET", "/slow?b").header(name, value);
                slow.send()
            });
            eventually(PATIENCE, || endpoint.in_flight() == 1);
            let plain = scope.spawn(|| gateway.get("/slow?b"));
            eventually(ms(1200), || endpoint.in_flight() == 2);
            assert_ne!(own.join().unwrap().text(), plain.join().unwrap().text());
        });
    }
}

#[test]
fn nothing_is_left_of_a_storm_of_all_kinds() {
    let endpoint = pages(|request, page| match request.number % 5 {
        0 => page.with_status(503),
        1 => Reaction::close(),
        2 => page.header("Cache-Control", "no-store"),
        3 => page.header("Vary", "Accept"),
        _ => page.after(ms(20)),
    });
    let gateway = before(&endpoint, "{ ttl: 10ms }");
    let outcomes = load_during(
        gateway.address(),
        50,
        |connection| {
            let number = connection.local().port() % 7;
            connection.request("GET", &format!("/{number}"))
        },
        || thread::sleep(ms(1500)),
    );
    assert!(outcomes.total() > MANY, "{}", outcomes.summary());
    assert_eq!(outcomes.broken().count(), 0, "{}", outcomes.summary());
    nothing_is_left(&gateway, &endpoint);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// A Flask application with a page that takes 100 ms and tells how often it was made.
struct Flask {
    process: Child,
    address: String,
}

const APPLICATION: &str = "
import itertools, threading, time
from flask import Flask
from werkzeug.serving import make_server

app, count, lock = Flask(__name__), itertools.count(1), threading.Lock()

@app.get('/')
def page():
    with lock:
        number = next(count)
    time.sleep(0.1)
    return str(number)

server = make_server('127.0.0.1', 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
";

impl Flask {
    /// None if this machine has no Flask, which is told.
    fn start() -> Option<Self> {
        let mut process = Command::new(python("flask")?)
            .args(["-c", APPLICATION])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut port).unwrap();
        let address = format!("127.0.0.1:{}", port.trim());
        Some(Self { process, address })
    }
}

impl Drop for Flask {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_flask_page_of_100_ms_is_made_once_a_second_for_200_clients() {
    let Some(flask) = Flask::start() else { return };
    let gateway = gateway(&format!("endpoints: ['{}']", flask.address), "{ ttl: 1s }");
    let outcomes = load_during(
        gateway.address(),
        MANY,
        |connection| connection.request("GET", "/"),
        || thread::sleep(ms(2900)),
    );
    outcomes.expect_all(200);
    let made = |answer: &Answer| answer.text().parse::<usize>().unwrap();
    let last = outcomes.answers().map(made).max().unwrap();
    assert!(last <= 4, "{last} requests: {}", outcomes.summary());
    assert!(last >= 2, "{last} requests: {}", outcomes.summary());
    assert!(outcomes.total() > 10 * MANY, "{}", outcomes.summary());
}
