//! What upstreams see of a request, and clients of a response.

use edgeway_tests::{Echo, Framing, Gateway, PATIENCE, Upstream, eventually, load};

/// A gateway in front of one endpoint, with more lines for the upstream and for the file.
fn in_front_of(endpoint: impl std::fmt::Display, upstream: &str, file: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: ['{endpoint}'], {upstream} }} }}
        routes: [{{ upstream: app }}]
        {file}
        "
    ))
}

/// Several headers without their own meaning, `Name: value` each.
fn raw(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET / HTTP/1.1\r\n{lines}\r\n")
}

#[test]
fn the_host_is_kept_unless_the_upstream_says_otherwise() {
    let echo = Echo::start();
    let endpoint = echo.to_string();
    for (setting, seen) in [
        ("", "site.test:81"),
        ("host: keep", "site.test:81"),
        ("host: endpoint", &endpoint),
        ("host: 'app.internal:8080'", "app.internal:8080"),
    ] {
        let gateway = in_front_of(&echo, setting, "");
        let answer = gateway.request("GET", "/").host("site.test:81").send();
        assert_eq!(answer.received("host"), [seen], "{setting}");
        assert_eq!(
            answer.received("x-forwarded-host"),
            ["site.test:81"],
            "{setting}"
        );
    }
}

/// #79
#[test]
fn the_upstream_is_told_of_client_scheme_and_host() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let answer = gateway.request("GET", "/").host("site.test").send();
    assert_eq!(answer.received("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.received("x-forwarded-host"), ["site.test"]);
    assert_eq!(answer.json()["version"], "HTTP/1.1");
}

const CLAIMS: [(&str, &str); 6] = [
    ("X-Forwarded-For", "203.0.113.9, 192.168.7.7"),
    ("X-Forwarded-For", "192.168.7.8"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "public.test"),
    ("X-Real-IP", "203.0.113.9"),
    ("Forwarded", "for=203.0.113.9"),
];

/// T6, #79
#[test]
fn what_a_stranger_claims_to_forward_is_overwritten() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "trusted_proxies: [192.168.0.0/16]");
    let request = gateway.request("GET", "/").host("site.test");
    let request = CLAIMS.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    let answer = request.send();
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.received("x-forwarded-host"), ["site.test"]);
    assert_eq!(answer.received("forwarded"), [""; 0]);
}

/// T6: applications believe more of these than we set.
#[test]
fn nothing_that_a_stranger_says_of_the_way_gets_through() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "requests: { underscore_headers: keep }");
    let claims = [
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X_Forwarded_For",
        "X_Real_IP",
        "x-forwarded-anything",
    ];
    let request = gateway.request("GET", "/").header("X_Other", "kept");
    let request = claims
        .iter()
        .fold(request, |request, name| request.header(name, "203.0.113.9"));
    let answer = request.send();
    for name in claims {
        assert_eq!(answer.received(name), [""; 0], "{name}");
    }
    assert_eq!(answer.received("x_other"), ["kept"]);
}

/// #79: appended; the client is the last address that no trusted proxy has.
#[test]
fn what_a_trusted_proxy_forwards_is_believed_and_added_to() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "trusted_proxies: [127.0.0.1, 192.168.0.0/16]");
    let request = gateway.request("GET", "/").host("site.test");
    let request = CLAIMS.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    let answer = request.send();
    assert_eq!(
        answer.received("x-forwarded-for"),
        ["203.0.113.9, 192.168.7.7, 192.168.7.8, 127.0.0.1"]
    );
    assert_eq!(answer.received("x-real-ip"), ["203.0.113.9"]);
    assert_eq!(answer.received("x-forwarded-proto"), ["https"]);
    assert_eq!(answer.received("x-forwarded-host"), ["public.test"]);
}

#[test]
fn a_trusted_proxy_that_says_nothing_is_the_client() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "trusted_proxies: ['127.0.0.0/8']");
    let answer = gateway.request("GET", "/").host("site.test").send();
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.received("x-forwarded-host"), ["site.test"]);
}

/// RFC 9110, 7.6.1
#[test]
fn headers_of_the_connection_do_not_reach_the_upstream() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let mut connection = gateway.connect();
    connection.send(raw(&[
        "Host: a",
        "Connection: keep-alive, X-Secret, X-Other",
        "Connection: x-third",
        "X-Secret: 1",
        "X-Other: 1",
        "X-Third: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eA==",
        "TE: trailers",
        "Upgrade: h2c",
        "X-Kept: 1",
    ]));
    let answer = connection.answer();
    for name in [
        "x-secret",
        "x-other",
        "x-third",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "transfer-encoding",
    ] {
        assert_eq!(answer.received(name), [""; 0], "{name}");
    }
    assert_eq!(answer.received("x-kept"), ["1"]);
}

/// A client must not be able to take away what the gateway tells the upstream.
#[test]
fn a_client_can_not_nominate_away_what_the_gateway_sets() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let nominations = "close, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Via, X-Forwarded-Host";
    let answer = gateway
        .request("GET", "/")
        .header("Connection", nominations)
        .send();
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.received("x-forwarded-host").len(), 1);
    assert_eq!(answer.received("via").len(), 1);
}

/// RFC 9110, 7.6.1
#[test]
fn headers_of_the_upstream_connection_do_not_reach_the_client() {
    let upstream = Upstream::answers(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: close\r\nProxy-Authenticate: Basic\r\nTrailer: X-Sum\r\nX-Kept: 1\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&upstream, "", "");
    let mut connection = gateway.connect();
    let answer = connection.get("/");
    for name in [
        "x-secret",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "trailer",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!((answer.text(), answer.header("x-kept")), ("ok", Some("1")));
    assert!(answer.reusable, "the client's connection is another one");
    assert_eq!(connection.get("/").text(), "ok");
}

/// T10
#[test]
fn headers_with_underscores_are_dropped_unless_they_are_wanted() {
    let echo = Echo::start();
    for (setting, seen) in [
        ("", &[][..]),
        ("requests: { underscore_headers: drop }", &[]),
        ("requests: { underscore_headers: keep }", &["admin"]),
    ] {
        let gateway = in_front_of(&echo, "", setting);
        let request = gateway.request("GET", "/").header("X_Auth_Role", "admin");
        let answer = request.header("X-Auth-Role", "guest").send();
        assert_eq!(answer.received("x_auth_role"), seen, "{setting}");
        assert_eq!(answer.received("x-auth-role"), ["guest"], "{setting}");
    }
}

/// T12: the stray `server localhost` that makes the gateway ask itself.
#[test]
fn a_gateway_that_is_its_own_upstream_says_508_at_once() {
    let gateway = Gateway::start("routes: [{ respond: { text: first } }]");
    let own = gateway.address();
    let looping = format!(
        "
        upstreams: {{ app: {{ endpoints: ['{own}'] }} }}
        routes: [{{ upstream: app }}]
        "
    );
    assert!(gateway.reload(&looping));
    let answer = gateway.get("/");
    assert_eq!(answer.status, 508);
    assert_eq!(answer.json()["title"], "Loop Detected");
    assert_eq!(answer.json().get("detail"), None);
}

/// T12: two gateways in a row are no loop.
#[test]
fn a_gateway_behind_a_gateway_is_no_loop() {
    let echo = Echo::start();
    let inner = in_front_of(&echo, "", "trusted_proxies: [127.0.0.1]");
    let outer = in_front_of(&inner, "", "");
    let answer = outer.get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1, 127.0.0.1"]);
    assert_eq!(answer.received("via").len(), 2);
}

#[test]
fn via_tells_of_the_gateway_and_keeps_what_was_there() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let answer = gateway.request("GET", "/").header("Via", "1.0 fred").send();
    let via = answer.received("via").join(", ");
    assert!(via.starts_with("1.0 fred, 1.1 edgeway"), "{via}");
    assert!(!via.contains("127.0.0.1"), "{via}");
}

#[test]
fn the_absolute_form_reaches_the_upstream_as_a_path() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let request = gateway.request("GET", "http://site.test:81/a%20b?c=d");
    let answer = request.host("site.test:81").send();
    assert_eq!(answer.json()["target"], "/a%20b?c=d");
    assert_eq!(answer.received("host"), ["site.test:81"]);
    let bare = gateway
        .request("GET", "http://site.test")
        .host("site.test")
        .send();
    assert_eq!(bare.json()["target"], "/");
}

/// The upstream would be asked for a host whose route was never looked at.
#[test]
fn an_absolute_form_of_http_1_0_is_routed_by_its_host() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}
        routes:
          - match: {{ host: admin.test }}
            respond: {{ status: 403, text: protected }}
          - upstream: app
        "
    ));
    let mut connection = gateway.connect();
    connection.send("GET http://admin.test/ HTTP/1.0\r\n\r\n");
    assert_eq!(connection.answer().status, 403);
}

#[test]
fn a_target_that_is_neither_path_nor_url_is_400() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    for target in ["foo:bar", "x", "site.test:80", "http:/path", "mailto:a@b"] {
        let answer = gateway.request("GET", target).send();
        assert_eq!(answer.status, 400, "{target}");
    }
    assert_eq!(echo.stats().requests, 0);
}

/// A path that can't be rewritten must not go on as it was: nobody has said that it may.
#[test]
fn a_rewritten_path_that_is_no_path_is_400() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        r#"
        requests: {{ max_target: 70KiB, max_header_size: 80KiB }}
        upstreams: {{ app: {{ endpoints: ['{echo}'] }} }}
        routes:
          - add_prefix: /v2
            upstream: app
        "#
    ));
    let long = format!("/{}", "x".repeat(65_533));
    assert_eq!(gateway.get(&long).status, 400);
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn headers_that_occur_twice_do_so_on_the_other_side_too() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let target =
        "/?header=Set-Cookie:a=1;%20Path=/&header=Set-Cookie:b=2&header=X-A:1:2&header=X-A:3";
    let request = gateway
        .request("GET", target)
        .header("X-Many", "1")
        .header("x-many", "2, 3");
    let answer = request.header("Cookie", "a=1").header("Accept", "x").send();
    assert_eq!(answer.header_all("set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(answer.header_all("x-a"), ["1:2", "3"]);
    assert_eq!(answer.received("x-many"), ["1", "2, 3"]);
    assert_eq!(answer.received("cookie"), ["a=1"]);
}

#[test]
fn bytes_beyond_ascii_in_a_header_pass_both_ways() {
    let upstream =
        Upstream::answers(b"HTTP/1.1 200 OK\r\nX-Name: J\xc3\xb6rg\r\nContent-Length: 0\r\n\r\n");
    let gateway = in_front_of(&upstream, "", "");
    let answer = gateway.request("GET", "/").header("X-Name", "Jörg").send();
    assert_eq!(answer.header("x-name"), Some("Jörg"));
    assert!(
        upstream.heads()[0].contains("Jörg"),
        "{:?}",
        upstream.heads()
    );
}

/// #46
#[test]
fn what_tells_of_the_inside_is_hidden_from_clients() {
    let echo = Echo::start();
    let target = "/?header=Server:gunicorn&header=X-Powered-By:Flask&header=X-Runtime:5";
    for (setting, hidden, shown) in [
        ("", &["server", "x-powered-by"][..], &["x-runtime"][..]),
        (
            "hide_headers: [X-Runtime]",
            &["x-runtime"],
            &["server", "x-powered-by"],
        ),
        (
            "hide_headers: []",
            &[],
            &["x-runtime", "server", "x-powered-by"],
        ),
    ] {
        let gateway = in_front_of(&echo, setting, "");
        let answer = gateway.get(target);
        for name in hidden {
            assert_eq!(answer.header(name), None, "{setting}: {name}");
        }
        for name in shown {
            assert!(answer.header(name).is_some(), "{setting}: {name}");
        }
    }
}

/// #46
#[test]
fn an_answer_tells_nothing_of_the_gateway_or_its_upstreams() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    for target in ["/?size=3", "/?size=3&status=500", "/%zz"] {
        let answer = gateway.get(target);
        let shown = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
        for word in ["127.0.0.1", "pingora", "edgeway", "hyper", "via"] {
            assert!(!shown.contains(word), "{target}: {shown}");
        }
    }
}

#[test]
fn head_is_answered_without_a_body_and_with_its_length() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let mut connection = gateway.connect();
    for target in [
        "/?size=500",
        "/?size=500&chunked=1",
        "/%zz",
        "/?size=500&status=404",
    ] {
        let answer = connection.request("HEAD", target).send();
        assert_eq!(answer.body, b"", "{target}");
        if target == "/?size=500" {
            assert_eq!(answer.header("content-length"), Some("500"));
        }
        assert!(answer.reusable, "{target}");
        // A body that was sent all the same would be taken for the next answer.
        assert_eq!(connection.get("/?size=7").text(), "xxxxxxx", "{target}");
    }
}

#[test]
fn statuses_without_a_body_stay_without() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    let mut connection = gateway.connect();
    for status in [204, 304] {
        let answer = connection.get(&format!("/?status={status}&size=5"));
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_eq!(connection.get("/?size=7").text(), "xxxxxxx", "{status}");
    }
}

#[test]
fn any_method_and_status_passes() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    for method in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW",
    ] {
        let answer = gateway.request(method, "/").send();
        assert_eq!(answer.json()["method"], method);
    }
    for status in [201, 203, 206, 299, 302, 400, 404, 418, 451, 500, 503, 599] {
        let answer = gateway.get(&format!("/?status={status}"));
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["path"], "/", "the body is the upstream's");
    }
}

#[test]
fn http_1_0_is_understood() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "");
    for header in ["", "Connection: keep-alive\r\n"] {
        let mut connection = gateway.connect();
        connection.send(format!("GET /old?chunked=1 HTTP/1.0\r\n{header}\r\n"));
        let answer = connection.answer();
        assert_eq!(answer.framing, Framing::Close, "1.0 knows no chunks");
        assert_eq!(answer.json()["path"], "/old");
    }
    let mut connection = gateway.connect();
    for _ in 0..2 {
        connection.send("GET /?size=3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(connection.answer().text(), "xxx");
    }
}

/// #39
#[test]
fn connections_to_endpoints_are_used_again() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "threads: 1");
    for _ in 0..50 {
        assert_eq!(gateway.get("/?size=1").status, 200);
    }
    let stats = echo.stats();
    assert_eq!(stats.requests, 50);
    assert!(stats.connections <= 3, "{stats:?}");
}

/// #39: nobody waits on the connections that are no longer wanted.
#[test]
fn idle_connections_to_endpoints_are_closed_after_their_time() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "timeouts: { idle: 200ms }", "");
    gateway.get("/");
    assert_eq!(echo.stats().connections, 1);
    eventually(PATIENCE, || echo.stats().open_connections == 0);
    assert_eq!(gateway.get("/").status, 200);
}

/// #39
#[test]
fn no_more_idle_connections_to_endpoints_are_kept_than_there_is_room_for() {
    let echo = Echo::start();
    let gateway = in_front_of(&echo, "", "upstream_keepalive: 2\n        threads: 1");
    let outcomes = load(gateway.address(), 6, 6, |connection| {
        connection.request("GET", "/?delay=300ms")
    });
    outcomes.expect_all(200);
    assert!(
        echo.stats().connections > 2,
        "they were used at the same time"
    );
    eventually(PATIENCE, || echo.stats().open_connections == 2);
    let said = Gateway::refused("upstream_keepalive: 0\nroutes: [{ respond: {} }]");
    assert!(said.contains("upstream_keepalive"), "{said}");
}
