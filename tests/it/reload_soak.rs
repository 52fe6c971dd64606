//! A great many reloads, while much goes on.

use std::{fmt::Display, fs, thread};

use edgeway_tests::{Connection, Echo, Gateway, load_during};

use crate::websocket::{echoing, expect_echo, opened};

/// What differs from one configuration to the next: an endpoint, a filter, a route, an upstream, a listener.
fn configuration(echo: impl Display, sockets: impl Display, version: usize) -> String {
    let also = match version % 3 {
        0 => String::new(),
        _ => format!("  more: {{ endpoints: ['{echo}'], balance: random_two }}\n"),
    };
    let leads = if also.is_empty() { "app" } else { "more" };
    let listener = match version % 4 {
        3 => "  extra: { bind: '127.0.0.1:0' }\n",
        _ => "",
    };
    format!(
        "connections: {{ max_requests: 100000000 }}\nlisteners:\n  http: {{ bind: '127.0.0.1:0', max_connections: {} }}\n{listener}\
         upstreams:\n  app: {{ endpoints: ['{echo}'], timeouts: {{ read: {}s }} }}\n{also}  \
         sockets: {{ endpoints: ['{sockets}'] }}\n\
         filters: [{{ headers: {{ response: {{ set: {{ X-Version: '{version}' }} }} }} }}, {{ rate_limit: {{ rate: {}/s, burst: 1000000 }} }}]\n\
         routes:\n  - {{ match: {{ path: /chat }}, upstream: sockets }}\n  \
         - {{ match: {{ path: /of/{version} }}, respond: {{ text: '{version}' }} }}\n  \
         - {{ upstream: {leads} }}\n",
        10_000 + version,
        60 + version % 7,
        1_000_000 + version,
    )
}

/// Every tenth is wrong: it has to be refused.
fn is_wrong(version: usize) -> bool {
    version.is_multiple_of(10)
}

const WRONG: [&str; 3] = [
    "routes: [{ upstream: nowhere }]",
    "routes: [",
    "threads: many\nroutes: [{ respond: { text: x } }]",
];

struct Soak {
    reloads: usize,
    sockets: usize,
    /// After so many it may use as much memory as it will.
    warm: usize,
}

impl Soak {
    /// Reloads while WebSockets are open and requests are made; returns the memory in use once it was warm and at the
    /// end, in KiB.
    fn run(&self) -> (u64, u64) {
        let (echo, sockets) = (Echo::start(), echoing());
        let gateway = Gateway::start(&configuration(&echo, &sockets, 1));
        let mut open: Vec<_> = (0..self.sockets).map(|_| opened(&gateway)).collect();
        let mut used = (0, 0);
        let outcomes = load_during(
            gateway.address(),
            4,
            |connection| connection.request("GET", "/"),
            || {
                for version in 2..self.reloads + 2 {
                    reload(&gateway, &configuration(&echo, &sockets, version), version);
                    if version == self.warm {
                        used.0 = resident_kib(gateway.pid());
                    }
                    let some = open.iter_mut().skip(version % 50).step_by(50);
                    some.for_each(|socket| expect_echo(socket, b"here"));
                }
                used.1 = resident_kib(gateway.pid());
            },
        );
        outcomes.expect_all(200);
        assert_eq!(
            outcomes.count(|answer| !answer.reusable),
            0,
            "a connection was closed"
        );
        all_echo(&mut open);
        assert_eq!(
            sockets.connections(),
            self.sockets,
            "nobody had to come again"
        );
        assert_ne!(outcomes.total(), 0, "nobody has asked anything");
        used
    }
}

/// The version is in force then, or the one before it if it is wrong.
fn reload(gateway: &Gateway, yaml: &str, version: usize) {
    if !is_wrong(version) {
        assert!(gateway.reload(yaml), "{version}");
        assert_eq!(
            gateway.get(&format!("/of/{version}")).text(),
            version.to_string()
        );
        return;
    }
    let wrong = WRONG[version / 10 % WRONG.len()];
    assert!(!gateway.reload(wrong), "{version}");
    let before = version - 1;
    assert_eq!(
        gateway.get(&format!("/of/{before}")).text(),
        before.to_string()
    );
}

fn all_echo(open: &mut [Connection]) {
    thread::scope(|scope| {
        for part in open.chunks_mut(open.len().div_ceil(4)) {
            scope.spawn(|| {
                part.iter_mut()
                    .for_each(|socket| expect_echo(socket, b"still here"))
            });
        }
    });
}

/// #110
#[test]
fn reloads_under_load_lose_nothing() {
    let soak = Soak {
        reloads: 60,
        sockets: 100,
        warm: 20,
    };
    let (warm, end) = soak.run();
    assert!(end < warm + 10 * 1024, "{warm} KiB, at the end {end} KiB");
}

#[test]
#[ignore = "it takes minutes, and three thousand descriptors"]
fn a_thousand_reloads_with_a_thousand_websockets_lose_nothing() {
    let soak = Soak {
        reloads: 1_000,
        sockets: 1_000,
        warm: 50,
    };
    let (warm, end) = soak.run();
    assert!(end * 100 <= warm * 105, "{warm} KiB, at the end {end} KiB");
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
