//! The filter `concurrency`: how many requests of one client are served at the same time (#57, #58, T16).

use std::time::Duration;

use edgeway_tests::{
    Connection, Echo, Endpoint, Frames, Gateway, PATIENCE, Upstream, eventually, eventually_some,
    load,
};

fn yaml(endpoint: impl std::fmt::Display, concurrency: &str) -> String {
    format!(
        "
        trusted_proxies: [127.0.0.1]
        upstreams: {{ app: {{ endpoints: ['{endpoint}'], max_fails: 0 }} }}
        routes:
          - match: {{ path: /a }}
            filters: [concurrency: {{ {concurrency} }}]
            upstream: app
          - match: {{ path: /b }}
            filters: [concurrency: {{ {concurrency} }}]
            upstream: app
          - match: {{ path: /free }}
            upstream: app
        "
    )
}

fn gateway(endpoint: impl std::fmt::Display, concurrency: &str) -> Gateway {
    Gateway::start(&yaml(endpoint, concurrency))
}

/// Requests that have got through and are not answered for a long time.
fn waiting(gateway: &Gateway, echo: &Echo, headers: &str, count: usize) -> Vec<Connection> {
    let before = echo.stats().requests;
    let ask = |_| {
        let mut connection = gateway.connect();
        connection.send(format!("GET {SLOW} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        connection
    };
    let waiting = (0..count).map(ask).collect();
    eventually(PATIENCE, || echo.stats().requests == before + count as u64);
    waiting
}

/// The same where a place may be given up a moment after its answer has come.
fn awaited(gateway: &Gateway, echo: &Echo) -> Connection {
    let before = echo.stats().requests;
    eventually_some(PATIENCE, || {
        let mut connection = gateway.connect();
        connection.send(format!("GET {SLOW} HTTP/1.1\r\nHost: a\r\n\r\n"));
        connection.patience(Duration::from_secs(1));
        let refused = connection.try_answer().is_ok();
        (!refused && echo.stats().requests > before).then_some(connection)
    })
}

const SLOW: &str = "/a?delay=30s";

#[test]
fn the_eleventh_of_ten_is_429_until_one_of_them_has_ended() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "max: 10");
    let mut ten = waiting(&gateway, &echo, "", 10);
    for _ in 0..3 {
        let refused = gateway.get("/a");
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("Retry-After"), Some("1"));
        let shown = refused.json();
        assert_eq!(
            shown["detail"],
            "There are too many requests at the same time."
        );
    }
    assert_eq!(gateway.get("/free").status, 200);
    // Limits without a name count for their route.
    assert_eq!(gateway.get("/b").status, 200);
    // A client that leaves is no longer served.
    ten.pop();
    eventually(PATIENCE, || gateway.get("/a").status == 200);
    // And one that was answered neither.
    for _ in 0..20 {
        assert_eq!(gateway.get("/a").status, 200);
    }
    let _tenth = waiting(&gateway, &echo, "", 1);
    assert_eq!(gateway.get("/a").status, 429);
}

#[test]
fn no_more_than_the_limit_ever_get_through() {
    let endpoint = Endpoint::start("app");
    endpoint.slow(Duration::from_millis(10));
    let gateway = gateway(&endpoint, "max: 10");
    let outcomes = load(gateway.address(), 48, 1500, |connection| {
        connection.request("GET", "/a")
    });
    let statuses = outcomes.statuses();
    assert_eq!(
        outcomes.with_status(200) + outcomes.with_status(429),
        1500,
        "{statuses:?}"
    );
    assert!(outcomes.with_status(429) > 0, "{statuses:?}");
    assert!(
        endpoint.most_in_flight() <= 10,
        "{}",
        endpoint.most_in_flight()
    );
    // All have given their places back.
    let served = load(gateway.address(), 10, 100, |connection| {
        connection.request("GET", "/a")
    });
    served.expect_all(200);
}

#[test]
fn each_key_is_counted_for_itself_and_each_option_is_heeded() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "max: 1, key: '{header.x-tenant}', status: 503, retry_after: 7s, name: shared",
    );
    let _acme = waiting(&gateway, &echo, "X-Tenant: acme\r\n", 1);
    let ask = |target: &str, tenant: &str| {
        gateway
            .request("GET", target)
            .header("X-Tenant", tenant)
            .send()
    };
    let refused = ask("/a", "acme");
    assert_eq!(
        (refused.status, refused.header("Retry-After")),
        (503, Some("7"))
    );
    assert_eq!(ask("/a", "globex").status, 200);
    // The name makes one limit of two.
    assert_eq!(ask("/b", "acme").status, 503);
    // Who sends no tenant is known by the address.
    assert_eq!(gateway.get("/a").status, 200);
}

#[test]
fn an_ipv6_client_is_its_network() {
    let echo = Echo::start();
    for (prefix, other) in [("", 429), (", ipv6_prefix: 128", 200)] {
        let gateway = gateway(&echo, &format!("max: 1{prefix}"));
        let _first = waiting(&gateway, &echo, "X-Forwarded-For: 2001:db8::1\r\n", 1);
        let from = |address: &str| {
            let request = gateway
                .request("GET", "/a")
                .header("X-Forwarded-For", address);
            request.send().status
        };
        assert_eq!(from("2001:db8::2"), other, "{prefix}");
        assert_eq!(from("2001:db8:0:1::1"), 200, "{prefix}");
        assert_eq!(from("192.0.2.1"), 200, "{prefix}");
    }
}

#[test]
fn requests_of_before_a_reload_still_count() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "max: 3");
    let three = waiting(&gateway, &echo, "", 3);
    assert_eq!(gateway.get("/a").status, 429);
    assert!(gateway.reload(&yaml(&echo, "max: 4")));
    let _fourth = waiting(&gateway, &echo, "", 1);
    assert_eq!(gateway.get("/a").status, 429);
    drop(three);
    // Those of before go, and the fourth does not.
    let _more: Vec<_> = (0..3).map(|_| awaited(&gateway, &echo)).collect();
    assert_eq!(gateway.get("/a").status, 429);
}

#[test]
fn a_websocket_counts_as_long_as_it_lives() {
    let endpoint = Upstream::raw(|mut caller| {
        let head = caller.head().unwrap_or_default();
        if head.contains("websocket") {
            caller.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            );
            caller.wait_for_close();
        } else {
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let gateway = gateway(&endpoint, "max: 1");
    let mut socket = gateway.connect();
    socket.send(
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(socket.head().status, 101);
    for _ in 0..3 {
        assert_eq!(gateway.get("/a").status, 429);
    }
    drop(socket);
    eventually(PATIENCE, || gateway.get("/a").status == 200);
}

#[test]
fn a_stream_of_http2_that_is_reset_gives_its_place_back() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "max: 2");
    let mut frames = Frames::open(gateway.address());
    for stream in [1, 3] {
        frames.ask(stream, SLOW, Frames::END_STREAM);
    }
    eventually(PATIENCE, || echo.stats().requests == 2);
    assert_eq!(gateway.get("/a").status, 429);
    frames.reset(1);
    eventually(PATIENCE, || gateway.get("/a").status == 200);
}

#[test]
fn an_endpoint_that_fails_leaves_no_place_taken() {
    let endpoint = Upstream::raw(|mut caller| {
        caller.request();
        caller.reset();
    });
    let gateway = gateway(&endpoint, "max: 1");
    for _ in 0..5 {
        eventually(PATIENCE, || gateway.get("/a").status == 502);
    }
}

/// What is out of date is served at once and freshened behind the client's back: that is no request of the client.
#[test]
fn what_is_freshened_in_the_background_takes_no_place() {
    let endpoint = Endpoint::start("app");
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: ['{endpoint}'] }} }}
        routes:
          - filters: [concurrency: {{ max: 1 }}]
            cache: {{ ttl: 1ms, stale_while_revalidate: 1h }}
            upstream: app
        "
    ));
    assert_eq!(gateway.get("/").status, 200);
    endpoint.slow(Duration::from_secs(600));
    // A place is free a moment after the client has its answer.
    for _ in 0..5 {
        eventually(PATIENCE, || gateway.get("/").status == 200);
    }
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    for _ in 0..5 {
        eventually(PATIENCE, || gateway.get("/").status == 200);
    }
}

#[test]
fn limits_of_one_name_and_two_keys_both_count() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        trusted_proxies: [127.0.0.1]
        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}
        filters: [concurrency: {{ max: 9, name: n }}]
        routes:
          - filters: [concurrency: {{ max: 1, name: n, key: '{{header.x-tenant}}' }}]
            upstream: app
        "
    ));
    let acme = "X-Forwarded-For: 192.0.2.1\r\nX-Tenant: acme\r\n";
    let _first = waiting(&gateway, &echo, acme, 1);
    let ask = |address: &str, tenant: &str| {
        let request = gateway.request("GET", "/a").header("X-Tenant", tenant);
        request.header("X-Forwarded-For", address).send().status
    };
    assert_eq!(ask("192.0.2.2", "acme"), 429);
    assert_eq!(ask("192.0.2.1", "globex"), 200);
}
