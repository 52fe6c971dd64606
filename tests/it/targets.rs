//! Where routes end: fixed replies, redirects, rewritten paths.

use edgeway_tests::{Echo, Gateway};

/// #1, #2, #3: byte for byte, so that members keep their order.
#[test]
fn json_replies_are_as_they_were_written() {
    let gateway = Gateway::start(
        r#"
        routes:
          - match: { path: { exact: / } }
            respond: { json: { message: Hello world } }
          - match: { path: /product }
            respond:
              json: { message: OK, data: { id: "1", name: iPhone 9 } }
          - match: { path: /login }
            respond: { json: { message: OK, token: eyJhbGciOi } }
          - match: { path: /all }
            respond:
              json: { z: 1, a: [true, null, 1.5, -2, "\"é\n"], m: { y: {}, b: [] }, "1": no }
        "#,
    );
    for (path, body) in [
        ("/", r#"{"message":"Hello world"}"#),
        (
            "/product",
            r#"{"message":"OK","data":{"id":"1","name":"iPhone 9"}}"#,
        ),
        ("/login", r#"{"message":"OK","token":"eyJhbGciOi"}"#),
        (
            "/all",
            r#"{"z":1,"a":[true,null,1.5,-2,"\"é\n"],"m":{"y":{},"b":[]},"1":"no"}"#,
        ),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), body);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(
            answer.header("content-length"),
            Some(&*body.len().to_string())
        );
    }
}

#[test]
fn texts_and_headers_may_hold_values_of_the_request() {
    let gateway = Gateway::start(
        r#"
        routes:
          - name: hello
            match: { path: /hello }
            respond:
              status: 418
              headers:
                X-Where: "{host}|{authority}|{scheme}|{path}|{target}|{query}"
                X-Who: "{client_ip} {header.x-name} {cookie.c} {query.q}"
                Content-Type: text/x-custom
              text: "{method} {route} {{literal}} {header.missing}."
          - respond: { text: "plain {{}}" }
        "#,
    );
    let answer = gateway
        .request("POST", "/hello/%7Ex?q=a%20b&r")
        .host("Site.test:81")
        .header("X-Name", "ann")
        .header("Cookie", "c=d")
        .send();
    assert_eq!(answer.status, 418);
    assert_eq!(answer.text(), "POST hello {literal} .");
    assert_eq!(
        answer.header("X-Where"),
        Some("site.test|Site.test:81|http|/hello/~x|/hello/%7Ex?q=a%20b&r|q=a%20b&r")
    );
    assert_eq!(answer.header("X-Who"), Some("127.0.0.1 ann d a b"));
    assert_eq!(answer.header("Content-Type"), Some("text/x-custom"));
    let plain = gateway.get("/");
    assert_eq!(plain.text(), "plain {}");
    assert_eq!(
        plain.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
}

/// A line break in a value would end the header and begin another.
#[test]
fn what_a_client_puts_into_a_template_can_not_break_out_of_it() {
    let gateway = Gateway::start(
        r#"
        routes:
          - match: { path: /header }
            respond: { headers: { X-Q: "{query.q}" }, text: ok }
          - match: { path: /moved }
            redirect: { to: "https://other.test/{query.q}" }
        "#,
    );
    let answer = gateway.get("/header?q=a%0d%0aX-Evil:%20b");
    assert_eq!((answer.text(), answer.header("x-evil")), ("ok", None));
    assert_eq!(answer.header("x-q"), None);
    let moved = gateway.get("/moved?q=a%0d%0aX-Evil:%20b");
    assert_eq!(moved.header("x-evil"), None);
}

#[test]
fn a_file_is_sent_with_the_type_of_its_name() {
    let gateway = Gateway::setup(
        "
        routes:
          - match: { path: /page }
            respond: { status: 503, file: pages/sorry.html }
          - match: { path: /data }
            respond: { file: data.bin }
        ",
    )
    .file("pages/sorry.html", "<h1>Sorry</h1>\n")
    .file("data.bin", [0, 255, 10, 13])
    .start();
    let page = gateway.get("/page");
    assert_eq!((page.status, page.text()), (503, "<h1>Sorry</h1>\n"));
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let data = gateway.get("/data");
    assert_eq!(data.body, [0, 255, 10, 13]);
    assert_eq!(
        data.header("content-type"),
        Some("application/octet-stream")
    );
    gateway.write("data.bin", "new");
    assert!(gateway.reload_files());
    assert_eq!(gateway.get("/data").text(), "new");
}

#[test]
fn a_reply_without_a_body_is_a_status() {
    let gateway = Gateway::start(
        "
        routes:
          - match: { path: /none }
            respond: { status: 204 }
          - match: { path: /gone }
            respond: { status: 410 }
          - match: { path: /ok }
            respond: {}
        ",
    );
    let mut connection = gateway.connect();
    let none = connection.get("/none");
    assert_eq!((none.status, none.header("content-length")), (204, None));
    let gone = connection.get("/gone");
    assert_eq!(gone.json()["title"], "Gone");
    let ok = connection.get("/ok");
    assert_eq!((ok.status, ok.text()), (200, ""));
}

/// #8
#[test]
fn redirects_change_what_they_name_and_keep_the_rest() {
    let gateway = Gateway::start(
        r#"
        routes:
          - match: { path: /default }
            redirect: { host: new.test }
          - match: { path: /301 }
            redirect: { status: 301, scheme: https }
          - match: { path: /303 }
            redirect: { status: 303, path: /done, keep_query: false }
          - match: { path: /307 }
            redirect: { status: 307, port: 8443 }
          - match: { path: /308 }
            redirect: { status: 308, scheme: https, host: "www.{host}", port: 444, path: "/v2{path}" }
          - match: { path: /to }
            redirect: { status: 302, to: "https://to.test/?was={path}&{query}" }
          - match: { path: /search }
            redirect: { host: find.test, path: "/find?in=all" }
          - match: { path: /relative }
            redirect: { to: /elsewhere }
        "#,
    );
    for (target, status, location) in [
        (
            "/default/a%2Fb?x=1",
            302,
            "http://new.test/default/a%2Fb?x=1",
        ),
        ("/search?q=x", 302, "http://find.test/find?in=all&q=x"),
        ("/301/a?x=1&y", 301, "https://site.test/301/a?x=1&y"),
        ("/303/a?x=1", 303, "http://site.test:81/done"),
        ("/307", 307, "http://site.test:8443/307"),
        ("/308/a?x", 308, "https://www.site.test:444/v2/308/a?x"),
        ("/to/a?x=1", 302, "https://to.test/?was=/to/a&x=1"),
        ("/relative?x", 302, "/elsewhere"),
    ] {
        let answer = gateway.request("GET", target).host("site.test:81").send();
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("location"), Some(location), "{target}");
    }
}

#[test]
fn a_redirect_keeps_an_ipv6_host_in_brackets() {
    let gateway = Gateway::start("routes: [{ redirect: { scheme: https } }]");
    let answer = gateway.request("GET", "/x").host("[2001:db8::1]:80").send();
    assert_eq!(answer.header("location"), Some("https://[2001:db8::1]/x"));
}

/// An absolute path that begins with two slashes would be another host.
#[test]
fn a_redirect_does_not_lead_where_the_client_says() {
    let gateway = Gateway::start(
        r#"
        routes:
          - match: { path: /evil.test/ }
            respond: { text: directory }
          - match: { path: /go }
            redirect: { path: "{path}/end" }
        "#,
    );
    let slash = gateway.get("//evil.test");
    assert_eq!(
        (slash.status, slash.header("location")),
        (301, Some("/evil.test/"))
    );
    let moved = gateway
        .request("GET", "/go//evil.test")
        .host("a.test")
        .send();
    assert_eq!(
        moved.header("location"),
        Some("http://a.test/go/evil.test/end")
    );
}

/// #8, #19
#[test]
fn a_path_is_rewritten_with_what_its_regex_has_captured() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        r#"
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - match: {{ path: /old }}
            rewrite: {{ pattern: "^/old/([a-z]+)/(?P<id>[0-9]+)$", to: "/new/$id/${{1}}x" }}
            upstream: echo
          - match: {{ path: /item }}
            rewrite: {{ pattern: "^/item/(.*)$", to: "/show?id=$1" }}
            upstream: echo
          - match: {{ path: /added }}
            add_prefix: /v2/
            upstream: echo
          - match: {{ path: /all }}
            strip_prefix: /all
            rewrite: {{ pattern: "^/a", to: "/b$$" }}
            add_prefix: /pre
            upstream: echo
        "#
    ));
    for (target, seen) in [
        ("/old/shoes/7", "/new/7/shoesx"),
        ("/old/shoes/7?q=%20", "/new/7/shoesx?q=%20"),
        ("/old/%73hoes/7", "/new/7/shoesx"),
        ("/old/other", "/old/other"),
        ("/item/9", "/show?id=9"),
        ("/item/9?a=b", "/show?id=9&a=b"),
        ("/added/x%2Fy?z", "/v2/added/x%2Fy?z"),
        ("/all/a/c", "/pre/b$/c"),
    ] {
        assert_eq!(gateway.get(target).json()["target"], seen, "{target}");
    }
}

#[test]
fn rewriting_a_path_that_goes_nowhere_is_refused() {
    let said = Gateway::refused(
        "
        routes:
          - match: { path: /a }
            strip_prefix: /a
            respond: { text: x }
        ",
    );
    assert!(said.contains("this has no effect"), "{said}");
    assert!(said.contains("edgeway.yaml:3:"), "{said}");
}

#[test]
fn a_redirect_never_goes_on_with_the_name_of_the_host() {
    let gateway = Gateway::start(
        "routes: [{ match: { path: /old/ }, redirect: { host: example.com, path: '{header.x-to}' } }]",
    );
    let request = gateway.request("GET", "/old/");
    let moved = request.header("X-To", ".evil.example").send();
    assert_eq!(
        moved.header("Location"),
        Some("http://example.com/.evil.example")
    );
}
