//! Two thousand connections that are slow on purpose: each has to go within its time, and everybody else is served
//! meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{Frames, Gateway, Upstream, asking, block, frame};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as there are descriptors for: the two thousand that are meant, where the limit allows it.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).ok();
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 3;
    2_000.min(usize::try_from(most).unwrap_or(usize::MAX))
}

/// One that says something first, and then goes on as slowly as it can.
struct Attacker {
    connection: TcpStream,
    closed: Option<Duration>,
}

/// What an attack is made of.
struct Attack<'a> {
    first: &'a [u8],
    /// Sent again and again.
    drop: &'a [u8],
}

/// Runs the attack until all have been closed, and tells how long the last one has lasted.
fn attack(address: SocketAddr, attack: &Attack<'_>) -> Duration {
    let start = Instant::now();
    let mut crowd: Vec<_> = (0..crowd())
        .map(|_| Attacker::begin(address, attack.first))
        .collect();
    let mut last = Duration::ZERO;
    while crowd.iter().any(|attacker| attacker.closed.is_none()) {
        assert!(
            start.elapsed() < Duration::from_secs(100),
            "some are never closed"
        );
        for attacker in crowd
            .iter_mut()
            .filter(|attacker| attacker.closed.is_none())
        {
            attacker.go_on(attack, start);
            last = last.max(attacker.closed.unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(200));
    }
    last
}

impl Attacker {
    fn begin(address: SocketAddr, first: &[u8]) -> Self {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(first).unwrap();
        connection.set_nonblocking(true).unwrap();
        Self {
            connection,
            closed: None,
        }
    }

    fn go_on(&mut self, attack: &Attack<'_>, start: Instant) {
        let written = match attack.drop.is_empty() {
            true => Ok(0),
            false => self.connection.write(attack.drop),
        };
        let read = self.connection.read(&mut [0; 4096]);
        let gone = |error: &std::io::Error| error.kind() != ErrorKind::WouldBlock;
        let ended = matches!(read, Ok(0)) || read.is_err_and(|error| gone(&error));
        if ended || written.is_err_and(|error| gone(&error)) {
            self.closed = Some(start.elapsed());
        }
    }
}

/// Asks all the time, until it is told that the attack is over. Each answer has to come soon.
fn others_are_served(gateway: &Gateway, over: &AtomicBool) -> usize {
    let mut served = 0;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        assert_eq!(gateway.get("/fixed").status, 200);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        served += 1;
        thread::sleep(Duration::from_millis(20));
    }
    served
}

/// Attacks while others ask. All attackers have to be gone within this time.
fn survives(gateway: &Gateway, parts: &Attack<'_>, most: Duration) {
    let over = AtomicBool::new(false);
    let (lasted, served) = thread::scope(|scope| {
        let others = scope.spawn(|| others_are_served(gateway, &over));
        let attacking = scope.spawn(|| attack(gateway.address(), parts));
        let lasted = attacking.join();
        over.store(true, Ordering::Relaxed);
        (lasted.unwrap(), others.join().unwrap())
    });
    assert!(lasted < most, "{lasted:?}");
    assert!(served > 20, "{served}");
}

fn gateway(requests: &str) -> Gateway {
    let silent = Upstream::silent();
    let gateway = Gateway::start(&format!(
        "
        connections: {{ per_client: 5000 }}
        requests: {{ {requests} }}
        upstreams: {{ silent: {{ endpoints: ['{}'] }} }}
        routes:
          - {{ match: {{ path: /fixed }}, respond: {{ text: fixed }} }}
          - upstream: silent
        ",
        silent.address()
    ));
    // It stays as long as the gateway.
    std::mem::forget(silent);
    gateway
}

const REQUEST: &[u8] = b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n";
const BEGUN: &[u8] = b"GET /fixed HTTP/1.1\r\nHost: a\r\nX-A: ";
const SOON: Duration = Duration::from_secs(15);

#[test]
fn slow_heads_are_cut_off() {
    let gateway = gateway("header_timeout: 3s");
    let parts = Attack {
        first: BEGUN,
        drop: b"a",
    };
    survives(&gateway, &parts, SOON);
}

#[test]
fn slow_heads_of_later_requests_are_cut_off() {
    let gateway = gateway("header_timeout: 3s");
    let parts = Attack {
        first: &[REQUEST, BEGUN].concat(),
        drop: b"a",
    };
    survives(&gateway, &parts, SOON);
}

#[test]
fn who_connects_and_says_nothing_is_cut_off() {
    let gateway = gateway("header_timeout: 3s");
    let parts = Attack {
        first: b"",
        drop: b"",
    };
    survives(&gateway, &parts, SOON);
}

#[test]
fn slow_bodies_are_cut_off() {
    let gateway = gateway("min_rate: 1KiB/s");
    let parts = Attack {
        first: b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
        drop: b"a",
    };
    survives(&gateway, &parts, Duration::from_secs(45));
}

#[test]
fn half_a_preface_and_a_silent_http2_are_cut_off() {
    let gateway = gateway("header_timeout: 3s, keepalive: 3s");
    for first in [
        Frames::PREFACE[..10].to_vec(),
        [Frames::PREFACE, &frame(4, 0, 0, b"")].concat(),
    ] {
        let parts = Attack {
            first: &first,
            drop: b"",
        };
        survives(&gateway, &parts, SOON);
    }
}

/// A head of HTTP/2 that never ends, in many frames.
#[test]
fn endless_heads_of_http2_are_cut_off() {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    let gateway = gateway("keepalive: 3s");
    let head = block(&asking("GET", "/fixed"));
    let first = [
        Frames::PREFACE,
        &frame(4, 0, 0, b""),
        &frame(HEADERS, 1, 1, &head),
    ]
    .concat();
    let more = frame(CONTINUATION, 0, 1, &block(&[("x-a", "b")]));
    let parts = Attack {
        first: &first,
        drop: &more,
    };
    survives(&gateway, &parts, SOON);
}
