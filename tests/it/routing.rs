//! Which route answers a request.

use edgeway_tests::{Answer, Echo, Gateway};

/// A gateway whose routes answer with a text that tells them apart.
const HOSTS: &str = r#"
    routes:
      - match: { host: api.example.com }
        respond: { text: api }
      - match: { host: "*.example.com" }
        respond: { text: wildcard }
      - match: { host: "*.eu.example.com" }
        respond: { text: longer wildcard }
      - match: { host: [one.test, "[2001:db8::1]"] }
        respond: { text: list }
      - respond: { text: default }
"#;

/// #6
#[test]
fn hosts_on_one_port_are_told_apart_and_an_unknown_one_gets_the_default() {
    let gateway = Gateway::start(HOSTS);
    for (host, expected) in [
        ("api.example.com", "api"),
        ("API.Example.COM", "api"),
        ("api.example.com:8080", "api"),
        ("api.example.com.", "api"),
        ("www.example.com", "wildcard"),
        ("a.b.example.com", "wildcard"),
        ("a.eu.example.com", "longer wildcard"),
        ("example.com", "default"),
        ("one.test", "list"),
        ("[2001:DB8:0::1]:80", "list"),
        ("127.0.0.1", "default"),
    ] {
        let answer = gateway.request("GET", "/").host(host).send();
        assert_eq!(answer.text(), expected, "{host}");
    }
}

/// #6
#[test]
fn a_host_in_the_absolute_form_chooses_the_route() {
    let gateway = Gateway::start(HOSTS);
    for (host, target, expected) in [
        ("api.example.com", "http://api.example.com/", "api"),
        (
            "www.example.com:81",
            "http://www.example.com:81/x?y",
            "wildcard",
        ),
        ("other.test", "http://other.test", "default"),
    ] {
        let answer = gateway.request("GET", target).host(host).send();
        assert_eq!(answer.text(), expected, "{target}");
    }
}

/// Whoever looks at the other one would see another host than the one that was routed.
#[test]
fn an_absolute_form_that_contradicts_the_host_is_400() {
    let gateway = Gateway::start(HOSTS);
    let target = "http://api.example.com/";
    let answer = gateway.request("GET", target).host("one.test").send();
    assert_eq!(answer.status, 400);
}

/// What a route with a host does not take goes on to the routes without one.
#[test]
fn a_route_without_a_host_is_for_every_host() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { host: api.example.com, path: /only }
            respond: { text: api }
          - match: { path: /shared }
            respond: { text: shared }
        ",
    );
    let ask = |path: &str| gateway.request("GET", path).host("api.example.com").send();
    assert_eq!(ask("/only").text(), "api");
    assert_eq!(ask("/shared").text(), "shared");
    assert_eq!(ask("/").status, 404);
    assert_eq!(gateway.get("/only").status, 404);
}

const PATHS: &str = r#"
    routes:
      - match: { path: /product }
        respond: { text: prefix }
      - match: { path: { exact: /product/all } }
        respond: { text: exact }
      - match: { path: { prefix: /product/special } }
        respond: { text: longer prefix }
      - match: { path: { regex: "/[0-9]+$" } }
        respond: { text: regex }
      - match: { path: { regex: "^/product/1$" } }
        respond: { text: later regex }
      - match: { path: { prefix: /static/, beats_regex: true } }
        respond: { text: no regex }
      - match: { path: { regex: "[.]php$" } }
        respond: { text: php }
      - match: { path: { regex: "[.](jpg|png)$", ignore_case: true } }
        respond: { text: image }
"#;

/// #14, #24: the prefix that stops the search for a regex, and regexes with and without case.
#[test]
fn exact_beats_regex_beats_prefix_and_a_prefix_can_be_told_to_beat_regexes() {
    let gateway = Gateway::start(PATHS);
    for (path, expected) in [
        ("/product", "prefix"),
        ("/product/", "prefix"),
        ("/product/x", "prefix"),
        ("/product/all", "exact"),
        ("/product/special/x", "longer prefix"),
        ("/product/special/7", "regex"),
        ("/product/1", "regex"),
        ("/static/7", "no regex"),
        ("/static/index.php", "no regex"),
        ("/a/index.php", "php"),
        ("/a/photo.JPG", "image"),
        ("/a/photo.png", "image"),
    ] {
        assert_eq!(gateway.get(path).text(), expected, "{path}");
    }
    for path in ["/products", "/productx/1a", "/a/index.PHP", "/a/photo.JPGx"] {
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
}

/// #14
#[test]
fn public_and_protected_trees_win_over_any_regex() {
    let gateway = Gateway::start(
        r#"
        routes:
          - match: { path: { regex: "product" } }
            respond: { text: regex }
          - match: { path: { prefix: /protected/product, beats_regex: true } }
            respond: { text: protected }
          - match: { path: { prefix: /public/product, beats_regex: true } }
            respond: { text: public }
        "#,
    );
    assert_eq!(gateway.get("/protected/product/1/").text(), "protected");
    assert_eq!(gateway.get("/public/product/all").text(), "public");
    assert_eq!(gateway.get("/other/product").text(), "regex");
}

/// #15
#[test]
fn paths_lead_to_their_own_upstreams() {
    let [users, orders, payments] = ["users", "orders", "payments"].map(Echo::named);
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          users: {{ endpoints: [{users}] }}
          orders: {{ endpoints: [{orders}] }}
          payments: {{ endpoints: [{payments}] }}
        routes:
          - match: {{ path: /api/users/ }}
            upstream: users
          - match: {{ path: /api/orders/ }}
            upstream: orders
          - match: {{ path: /api/payments/ }}
            upstream: payments
        "
    ));
    for name in ["users", "orders", "payments"] {
        let answer = gateway.get(&format!("/api/{name}/1"));
        assert_eq!(answer.json()["source"], name);
    }
}

/// #16
#[test]
fn a_stripped_prefix_does_not_reach_the_upstream() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - match: {{ path: /api/users/ }}
            strip_prefix: /api/users/
            upstream: echo
          - match: {{ path: /shop }}
            strip_prefix: /shop
            upstream: echo
        "
    ));
    for (path, seen) in [
        ("/api/users/42", "/42"),
        ("/api/users/", "/"),
        ("/api/users/42?a=%2F&b", "/42?a=%2F&b"),
        ("/api/users/a%2Fb/%7e", "/a%2Fb/%7e"),
        ("/shop", "/"),
        ("/shop?x", "/?x"),
        ("/shop/cart", "/cart"),
    ] {
        assert_eq!(gateway.get(path).json()["target"], seen, "{path}");
    }
}

/// #16: what nginx does for a location with a slash at its end.
#[test]
fn a_missing_slash_is_a_redirect_that_keeps_the_query() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { path: /api/users/ }
            respond: { text: users }
          - match: { path: /both/ }
            respond: { text: directory }
          - match: { path: { exact: /both } }
            respond: { text: file }
        ",
    );
    let moved = gateway.get("/api/users?page=2&q=a%20b");
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), Some("/api/users/?page=2&q=a%20b"));
    assert_eq!(
        gateway.get("/api/users").header("location"),
        Some("/api/users/")
    );
    assert_eq!(gateway.get("/api/users/").text(), "users");
    assert_eq!(gateway.get("/api/usersx").status, 404);
    assert_eq!(gateway.get("/both").text(), "file");
}

/// #29
#[test]
fn what_no_route_takes_is_404_from_the_gateway() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - match: {{ path: /app/ }}
            upstream: echo
        "
    ));
    for path in ["/", "/ap", "/apps", "/APP/", "/x/app/"] {
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
    assert_eq!(echo.stats().requests, 0);
    assert_eq!(gateway.get("/app/").status, 200);
}

#[test]
fn another_method_is_405_with_all_that_are_allowed() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { path: /item, method: GET }
            respond: { text: read }
          - match: { path: /item, method: [PUT, PATCH] }
            respond: { text: write }
          - match: { path: /item/any }
            respond: { text: any }
        ",
    );
    let ask = |method: &str, path: &str| gateway.request(method, path).send();
    assert_eq!(ask("GET", "/item").text(), "read");
    assert_eq!(ask("PATCH", "/item").text(), "write");
    assert_eq!(ask("DELETE", "/item/any").text(), "any");
    let refused = ask("DELETE", "/item");
    assert_eq!(refused.status, 405);
    let allow = refused.header("allow").unwrap();
    let mut allowed: Vec<_> = allow.split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PATCH", "PUT"]);
    let head = ask("HEAD", "/item");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("4"))
    );
}

/// RFC 9110, 9.3.8: a TRACE would show the client what proxies have added.
#[test]
fn trace_is_refused_whatever_the_route() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes: [{{ upstream: echo }}]
        "
    ));
    let refused = gateway.request("TRACE", "/").send();
    assert_eq!(refused.status, 405);
    assert!(!refused.header("allow").unwrap().contains("TRACE"));
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn headers_queries_and_cookies_choose_the_route() {
    let gateway = Gateway::start(
        r#"
        routes:
          - match: { headers: { x-tier: gold } }
            respond: { text: gold }
          - match: { headers: { x-tier: { regex: "^sil", ignore_case: true } } }
            respond: { text: silver }
          - match: { headers: { x-debug: { present: true } } }
            respond: { text: debug }
          - match: { query: { version: { equals: "2" } } }
            respond: { text: version 2 }
          - match: { query: { "a b": { regex: "^x" } } }
            respond: { text: decoded }
          - match: { cookies: { beta: "1" } }
            respond: { text: beta }
          - match: { path: /guests, cookies: { session: { present: false } } }
            respond: { text: guest }
          - respond: { text: default }
        "#,
    );
    let header = |name: &str, value: &str| gateway.request("GET", "/").header(name, value).send();
    let text = |answer: &Answer| answer.text().to_owned();
    for (name, value, expected) in [
        ("X-Tier", "gold", "gold"),
        ("x-tier", "Gold", "default"),
        ("x-tier", "SILVER", "silver"),
        ("x-tier", "my silver", "default"),
        ("X-Debug", "", "debug"),
        ("Cookie", "a=b; beta=1", "beta"),
        ("Cookie", "beta=\"1\"", "beta"),
        ("Cookie", "Beta=1", "default"),
        ("Cookie", "beta=12", "default"),
    ] {
        assert_eq!(text(&header(name, value)), expected, "{name}: {value}");
    }
    for (target, expected) in [
        ("/?version=2", "version 2"),
        ("/?version=1&version=2", "version 2"),
        ("/?version=%32", "version 2"),
        ("/?version=20", "default"),
        ("/?a+b=xy", "decoded"),
        ("/?a%20b=xy", "decoded"),
        ("/guests", "guest"),
    ] {
        assert_eq!(text(&gateway.get(target)), expected, "{target}");
    }
    let member = gateway
        .request("GET", "/guests")
        .header("Cookie", "session=1");
    assert_eq!(member.send().text(), "default");
}

/// The one rule: host, then exact, regexes in file order, longest prefix; then more predicates; then
/// file order.
#[test]
fn the_precedence_does_not_depend_on_the_order_in_the_file() {
    let gateway = Gateway::start(
        r#"
        routes:
          - respond: { text: everything }
          - match: { path: /a }
            respond: { text: "1 plain" }
          - match: { path: /a, method: GET, headers: { x: "1" }, query: { y: "1" } }
            respond: { text: "3 predicates" }
          - match: { path: /a, headers: { x: "1" } }
            respond: { text: "1 predicate" }
          - match: { path: /a, query: { y: "1" } }
            respond: { text: "1 later predicate" }
          - match: { host: "*.test" }
            respond: { text: host wildcard }
          - match: { host: b.test, path: /a }
            respond: { text: host }
        "#,
    );
    for (host, target, x, expected) in [
        ("a", "/a", "0", "1 plain"),
        ("a", "/a", "1", "1 predicate"),
        ("a", "/a?y=1", "0", "1 later predicate"),
        ("a", "/a?y=1", "1", "3 predicates"),
        ("a", "/b", "1", "everything"),
        ("a.test", "/a?y=1", "1", "host wildcard"),
        ("b.test", "/a?y=1", "1", "host"),
        ("b.test", "/b", "1", "host wildcard"),
    ] {
        let request = gateway.request("GET", target).host(host).header("x", x);
        assert_eq!(request.send().text(), expected, "{host} {target} {x}");
    }
}

#[test]
fn a_route_that_can_never_be_taken_is_warned_of() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { path: /a }
            respond: { text: first }
          - match: { path: /a }
            respond: { text: second }
        ",
    );
    let log = gateway.log();
    assert!(log.contains("warning: this route can never match"), "{log}");
    assert!(log.contains("edgeway.yaml:4:"), "{log}");
    assert_eq!(gateway.get("/a").text(), "first");
}

const SPELLINGS: &str = "
    routes:
      - match: { path: /protected }
        respond: { status: 403, text: protected }
      - match: { path: /public }
        respond: { text: public }
";

#[test]
fn a_spelling_does_not_lead_around_a_route() {
    let gateway = Gateway::start(SPELLINGS);
    for path in [
        "/protected/x",
        "//protected/x",
        "/./protected/x",
        "/public/../protected/x",
        "/public/%2e%2E/protected/x",
        "/%70rotected/x",
        "/p%72otecte%64",
        "/protected?/public",
        "///public//..//protected",
        "/protected;a=b",
    ] {
        let answer = gateway.get(path);
        assert!(
            [403, 400].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
    }
}

#[test]
fn a_path_that_leads_above_the_root_or_hides_its_way_is_400() {
    let gateway = Gateway::start(SPELLINGS);
    for path in [
        "/..",
        "/../etc/passwd",
        "/public/../../x",
        "/public/%2e%2e/%2e%2e/x",
        "/public/..%2fprotected",
        "/public/..%5Cprotected",
        "/public/..;/protected",
        "/public/%2e%2e%2fprotected",
        "/public/%00",
        "/public/%0d%0aX:y",
        "/public/%zz",
        "/public/%",
        "/public%2fprotected/../x%2",
    ] {
        assert_eq!(gateway.get(path).status, 400, "{path}");
    }
}

/// The upstream must not see another path than the one that was routed.
#[test]
fn a_path_is_forwarded_as_it_was_routed_and_spelt_as_the_client_spelt_it() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes: [{{ upstream: echo }}]
        "
    ));
    for (sent, seen) in [
        ("/a/b", "/a/b"),
        ("/a//b/./c/../d", "/a/b/d"),
        ("/a/%2e%2e/b", "/b"),
        ("/%7euser/%41%2fb", "/%7euser/%41%2fb"),
        ("/x/..?q=/../y", "/?q=/../y"),
        ("/a/.", "/a/"),
        ("/caf%C3%A9/%F0%9F%98%80", "/caf%C3%A9/%F0%9F%98%80"),
        ("/a;v=1/b;w", "/a;v=1/b;w"),
        ("/a+b/!$&'()*,=:@", "/a+b/!$&'()*,=:@"),
        ("/?", "/?"),
        ("/?a=%zz&b=ä", "/?a=%zz&b=ä"),
    ] {
        assert_eq!(gateway.get(sent).json()["target"], seen, "{sent}");
    }
}

#[test]
fn options_of_the_server_as_a_whole_is_answered_by_the_gateway() {
    let gateway = Gateway::start("routes: [{ respond: { text: x } }]");
    assert_eq!(gateway.request("OPTIONS", "*").send().status, 204);
    assert_eq!(gateway.request("GET", "*").send().status, 400);
}
