//! A cache gives nobody what is another's, and nobody can put something into it for others.
//!
//! The application answers with what it was asked: whoever finds something there that he has not said has got
//! the page of another.

mod interleavings;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use edgeway_tests::{Answer, Connection, Endpoint, Gateway, Http2, Reaction, Received};
use serde_json::json;

use super::{
    cache_surge::told,
    jwt::tokens::{SECRET, token},
};

// ---- who asks ------------------------------------------------------------------------------------

/// Without one more word the responses to these are for everybody, for a minute.
const SHARED: &str = "{ ttl: 1m }";

#[test]
fn two_tokens_never_see_each_others_page() {
    // #102, T8
    for cache in [SHARED, "{ ttl: 1m, by: '{header.authorization}' }"] {
        let site = Site::start(cache);
        for round in 0..2 {
            for name in ["ann", "bob"] {
                let answer = site.get("/page", &[("Authorization", &format!("Bearer {name}"))]);
                saw(&answer, &format!("authorization: Bearer {name}"));
                let hits = cache != SHARED && round > 0;
                assert_eq!(told(&answer).contains("hit"), hits, "{cache} {answer:?}");
            }
            lacks(&site.get("/page", &[]), "authorization");
        }
    }
}

#[test]
fn what_was_asked_for_with_a_session_is_stored_for_nobody() {
    // #99
    let site = Site::start(SHARED);
    for (name, value) in [("Cookie", "session=ann"), ("Authorization", "Basic YW5u")] {
        for _ in 0..2 {
            saw(&site.get("/own", &[(name, value)]), value);
        }
        lacks(&site.get("/own", &[]), value);
        // And who is known gets nothing that was made for somebody who is not.
        let other = value.replace("nn", "nna");
        saw(&site.get("/own", &[(name, &other)]), &other);
        // That it says how long it is fresh does not say for whom it is.
        let lasting = ("X-Say", "Cache-Control: max-age=60");
        saw(&site.get("/lasting", &[(name, value), lasting]), value);
        saw(&site.get("/lasting", &[(name, &other), lasting]), &other);
        lacks(&site.get("/lasting", &[]), value);
        site.get("/others", &[]);
        saw(&site.get("/others", &[(name, value)]), value);
    }
}

#[test]
fn a_page_that_sets_a_cookie_or_is_private_is_given_to_one_only() {
    // #99
    for line in [
        "Set-Cookie: session=ann",
        "Cache-Control: private",
        "Cache-Control: private, max-age=60",
        "Cache-Control: no-store",
    ] {
        let site = Site::start(SHARED);
        let first = site.get("/", &[("X-Say", line), ("X-Mark", "first")]);
        saw(&first, "x-mark: first");
        let second = site.get("/", &[("X-Mark", "second")]);
        saw(&second, "x-mark: second");
        assert!(second.header_all("set-cookie").is_empty(), "{second:?}");
    }
}

#[test]
fn what_a_filter_took_away_still_makes_a_page_personal() {
    let jwt = format!("algorithms: [HS256], secret: {SECRET}, strip_token: true");
    let forward = "forward: { sub: X-User, role: X-Role }";
    let by = "{ ttl: 1m, by: '{header.authorization}' }";
    for (filter, cache, cookie) in [
        (format!("jwt: {{ {jwt}, {forward} }}"), SHARED, false),
        (format!("jwt: {{ {jwt}, {forward} }}"), by, false),
        (
            format!("jwt: {{ {jwt}, {forward}, from: [cookie: t] }}"),
            SHARED,
            true,
        ),
        (
            format!("jwt: {{ {jwt}, {forward}, from: [cookie: t] }}"),
            by,
            true,
        ),
    ] {
        let site = Site::behind(&format!("[{{ {filter} }}]"), cache);
        // The same user may have tokens for different things.
        for _ in 0..2 {
            for (name, role) in [("ann", "reader"), ("ann", "admin"), ("bob", "reader")] {
                let token = token(json!({ "sub": name, "role": role }));
                let token = match cookie {
                    true => ("Cookie", format!("t={token}")),
                    false => ("Authorization", format!("Bearer {token}")),
                };
                // It says how long it lives, which is enough where a cookie is the only reason against it.
                let live = ("X-Say", "Cache-Control: max-age=60");
                let answer = site.get("/", &[(token.0, &token.1), live]);
                saw(&answer, &format!("x-user: {name}"));
                saw(&answer, &format!("x-role: {role}"));
            }
        }
    }
}

#[test]
fn what_a_filter_has_put_elsewhere_still_makes_a_page_personal() {
    for (name, value) in [
        ("Authorization", "header.authorization"),
        ("Cookie", "header.cookie"),
    ] {
        let moved = format!("set: {{ X-User: '{{{value}}}' }}, remove: [{name}]");
        let filters = format!("[{{ headers: {{ request: {{ {moved} }} }} }}]");
        for cache in [SHARED, &format!("{{ ttl: 1m, by: '{{{value}}}' }}")] {
            let site = Site::behind(&filters, cache);
            for user in ["ann", "bob", "ann"] {
                let answer = site.get("/", &[(name, &format!("user={user}"))]);
                saw(&answer, &format!("x-user: user={user}"));
            }
        }
    }
}

#[test]
fn a_password_that_upstreams_do_not_see_makes_a_page_personal() {
    let users = format!("users: {{ ann: '{ANN}', cid: '{CID}' }}, header: X-User");
    let filters = format!("[{{ basic_auth: {{ {users} }} }}]");
    for cache in [SHARED, "{ ttl: 1m, by: '{header.authorization}' }"] {
        let site = Site::behind(&filters, cache);
        for _ in 0..2 {
            for (name, login) in [("ann", "ann:open sesame"), ("cid", "cid:pä:ss")] {
                let login = format!("Basic {}", BASE64_STANDARD.encode(login));
                let answer = site.get("/", &[("Authorization", &login)]);
                saw(&answer, &format!("x-user: {name}"));
            }
        }
    }
}

/// bcrypt of `open sesame`, as cheap as can be, and of `pä:ss`.
const ANN: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
const CID: &str = "$2b$04$abcdefghijklmnopqrstuuhC0bPoUtF5o8bp2gaL0R3/vQ51MSUoO";

#[test]
fn a_claim_in_the_key_tells_users_apart() {
    let jwt = format!("[{{ jwt: {{ algorithms: [HS256], secret: {SECRET} }} }}]");
    let cache = "{ ttl: 1m, by: '{claim.role}', despite: authorization }";
    let site = Site::behind(&jwt, cache);
    let bearer = |name: &str, role: &str| {
        let token = token(json!({ "sub": name, "role": role }));
        format!("Bearer {token}")
    };
    let [ann, bob, eve] =
        [("ann", "a"), ("bob", "a"), ("eve", "e")].map(|(name, role)| bearer(name, role));
    saw(&site.get("/", &[("Authorization", &ann)]), &ann);
    // That is what was asked for.
    saw(&site.get("/", &[("Authorization", &bob)]), &ann);
    saw(&site.get("/", &[("Authorization", &eve)]), &eve);
}

#[test]
fn one_cookie_in_the_key_is_no_way_around_it() {
    let site = Site::start("{ ttl: 1m, by: '{cookie.session}', despite: cookie }");
    let cookies = [
        "session=ann",
        "session=bob",
        "session=ann; session=bob",
        "session=bob; session=ann",
        "session=\"ann\"",
        "session=\u{e4}",
        "a=1; session=cleo",
        "",
    ];
    for round in 0..2 {
        for cookie in cookies {
            let answer = match cookie {
                "" => site.get("/", &[]),
                cookie => site.get("/", &[("Cookie", cookie)]),
            };
            assert_eq!(told(&answer).contains("hit"), round > 0, "{cookie}");
            match cookie {
                "" => lacks(&answer, "cookie"),
                cookie => assert!(answer.text().contains(&format!("cookie: {cookie}\n"))),
            }
        }
    }
    // What else is in the jar does not matter, as the route says.
    let other = site.get("/", &[("Cookie", "b=2; session=cleo")]);
    saw(&other, "cookie: a=1; session=cleo");
}

#[test]
fn a_cookie_of_a_sticky_session_is_not_stored() {
    let app = Endpoint::setup("app").answers(mirror).start();
    let gateway = Gateway::start(&format!(
        "upstreams: {{ app: {{ endpoints: [{app}], sticky: {{ cookie: {{ name: at }} }} }} }}\n\
         routes: [{{ upstream: app, cache: {SHARED} }}]"
    ));
    assert_eq!(gateway.get("/").header_all("set-cookie").len(), 1);
    let second = gateway.get("/");
    assert!(told(&second).contains("hit"), "{second:?}");
    assert!(second.header_all("set-cookie").is_empty(), "{second:?}");
}

#[test]
fn what_a_304_says_to_one_is_not_told_to_another() {
    let app = Endpoint::setup("app")
        .answers(|request| {
            let known = !request.header_all("if-none-match").is_empty();
            let page = match known {
                true => Reaction::status(304)
                    .header("Cache-Control", "max-age=60")
                    .header("Set-Cookie", "session=second"),
                false => mirror(request).header("Cache-Control", "max-age=0"),
            };
            page.header("ETag", "\"1\"")
        })
        .start();
    let site = Site::of(app, "[]", "{}");
    site.get("/", &[]);
    let second = site.get("/", &[]);
    assert_eq!(second.header_all("set-cookie"), ["session=second"]);
    let third = site.get("/", &[]);
    assert!(told(&third).contains("hit"), "{third:?}");
    assert!(third.header_all("set-cookie").is_empty(), "{third:?}");
}

// ---- two sites, one upstream ---------------------------------------------------------------------

#[test]
fn two_hosts_in_front_of_one_upstream_share_nothing() {
    // T7
    let site = Site::start(SHARED);
    for _ in 0..2 {
        for host in [
            "one.test",
            "two.test",
            "one.test:81",
            "ONE.test",
            "one.test.",
        ] {
            let answer = site.gateway.request("GET", "/").host(host).send();
            saw(&answer, &format!("host: {host}"));
        }
    }
    assert_eq!(site.app.requests(), 5);
}

#[test]
fn what_a_trusted_proxy_says_of_the_way_tells_pages_apart() {
    let app = Endpoint::setup("app").answers(mirror).start();
    let gateway = Gateway::start(&format!(
        "trusted_proxies: [127.0.0.1]\n\
         upstreams: {{ app: {{ endpoints: [{app}] }} }}\n\
         routes: [{{ upstream: app, cache: {SHARED} }}]"
    ));
    let ways: [&[(&str, &str)]; 9] = [
        &[],
        &[("X-Forwarded-Host", "shop.test")],
        &[("X-Forwarded-Host", "evil.test")],
        &[
            ("X-Forwarded-Host", "shop.test"),
            ("X-Forwarded-Host", "evil.test"),
        ],
        &[("X-Forwarded-Proto", "https")],
        &[("X-Forwarded-Port", "evil")],
        &[("X-Forwarded-Prefix", "/evil")],
        &[("X-Forwarded-User", "ann")],
        &[("Forwarded", "for=192.0.2.1; host=evil.test")],
    ];
    for round in 0..2 {
        for way in ways {
            let request = gateway.request("GET", "/").host("shop.test");
            let lines = way.iter();
            let answer = { lines }
                .fold(request, |request, (name, value)| {
                    request.header(name, value)
                })
                .send();
            for (name, value) in way {
                let name = name.to_lowercase();
                assert!(
                    answer.text().contains(&format!("{name}: {value}")),
                    "{answer:?}"
                );
            }
            if way.is_empty() {
                lacks(&answer, "evil");
            }
            assert_eq!(told(&answer).contains("hit"), round > 0, "{way:?}");
        }
    }
    // Addresses don't: they are another's each time.
    for address in ["192.0.2.7", "192.0.2.8"] {
        let request = gateway.request("GET", "/").host("shop.test");
        let answer = request.header("X-Forwarded-For", address).send();
        assert!(told(&answer).contains("hit"), "{answer:?}");
    }
}

// ---- poison --------------------------------------------------------------------------------------

#[test]
fn nothing_that_is_not_in_the_key_gets_into_the_page_of_another() {
    let site = Site::start(SHARED);
    let lines = [
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: evil",
        "X-Forwarded-Port: evil",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-Scheme: evil",
        "X-Forwarded-Server: evil.test",
        "X_Forwarded_Host: evil.test",
        "X-Real-IP: evil",
        "X-Forwarded: evil",
        "Forwarded: host=evil.test",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-Original-Host: evil.test",
        "X-HTTP-Host-Override: evil.test",
        "X-Host: evil.test",
        "X-HTTP-Method-Override: evil",
        "X-HTTP-Method: evil",
        "X-Method-Override: evil",
        "Host: evil.test",
        "Content-Length: 4\r\n\r\nevil",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0",
        "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nevil",
        "Range: bytes=0-3",
        "Range: evil=0-3",
        "If-Range: \"evil\"\r\nRange: bytes=0-3",
        "If-Match: \"evil\"",
        "If-None-Match: \"evil\"",
        "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
        "Upgrade: evil\r\nConnection: upgrade",
        "Connection: close, evil",
        "Connection: host",
        "Via: 1.1 evil",
        "TE: evil",
        "Cookie: evil=1",
        "Authorization: evil",
        "Proxy-Authorization: evil",
        "Evil\u{7}: 1",
        "X-A: \u{7}evil",
        "X-A: evil\rX-B: evil",
        " X-Folded: evil",
    ];
    for (number, line) in lines.iter().enumerate() {
        let target = format!("/{number}");
        let attack = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{line}\r\n\r\n");
        unharmed(&site, &target, attack.as_bytes(), line);
    }
}

#[test]
fn a_request_that_goes_wrong_takes_no_page_from_others() {
    let site = Site::start("{ ttl: { 200: 1m, 404: 1m } }");
    let long = "evil".repeat(4000);
    let huge = "evil".repeat(40_000);
    let many: String = (0..2000)
        .map(|number| format!("X-{number}: evil\r\n"))
        .collect();
    for (number, (method, lines)) in [
        ("GET", format!("X-A: {long}\r\n")),
        ("GET", format!("X-A: {huge}\r\n")),
        ("GET", format!("Cookie: a={long}\r\n")),
        ("GET", many),
        ("evil", String::new()),
        ("get", String::new()),
        ("TRACE", String::new()),
        ("OPTIONS", "X-A: evil\r\n".to_owned()),
        ("POST", "Content-Length: 4\r\n\r\nevil".to_owned()),
        ("PROPFIND", "X-A: evil\r\n".to_owned()),
        ("GET", "X-Limit: evil\r\n".to_owned()),
    ]
    .iter()
    .enumerate()
    {
        let target = format!("/{number}");
        let attack = format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\n{lines}\r\n");
        let what: String = attack.chars().take(80).collect();
        unharmed(&site, &target, attack.as_bytes(), &what);
    }
}

#[test]
fn a_failure_is_stored_only_where_the_route_or_the_page_says_so() {
    // #101
    let site = Site::start("{ ttl: 1m, stale_if_error: 0s }");
    for status in [
        400, 401, 403, 404, 405, 410, 413, 414, 429, 431, 500, 501, 502, 503, 504,
    ] {
        let path = format!("/{status}");
        site.app.status_next(1, status);
        assert_eq!(site.get(&path, &[]).status, status);
        assert_eq!(site.get(&path, &[]).status, 200, "after {status}");
    }
}

/// An attack leaves the page of the next one as it is.
fn unharmed(site: &Site, target: &str, attack: &[u8], what: &str) {
    let mut connection = site.gateway.connect();
    connection.send(attack);
    // Whatever comes of it.
    let answer = connection.try_answer();
    for round in 0..2 {
        let own = format!("\"{round}\"");
        for lines in [&[][..], &[("If-None-Match", own.as_str())]] {
            let request = site.gateway.request("GET", target).host("shop.test");
            let lines = lines.iter();
            let next = { lines }
                .fold(request, |request, (name, value)| {
                    request.header(name, value)
                })
                .send();
            assert_eq!(next.status, 200, "{what:?} got {answer:?}, others {next:?}");
            saw(&next, &format!("GET {target}"));
            saw(&next, "host: shop.test");
            let headers = format!("{:?}", next.headers);
            assert!(
                !headers.contains("evil"),
                "{what:?} got {answer:?}, others {next:?}"
            );
            for word in ["evil", "if-none", "range"] {
                let clean = !next.text().contains(word);
                assert!(clean, "{what:?} got {answer:?}, others {}", next.text());
            }
        }
    }
}

#[test]
fn parameters_that_are_not_in_the_key_hide_no_others() {
    let site = Site::start("{ ttl: 1m, query: { without: [utm] } }");
    let loose = Site::start("{ ttl: 1m, query: { only: [page] } }");
    for (number, cloaked) in [
        "utm=1;page=evil",
        "utm=1;a;page=evil",
        "page=1&utm=;page=evil",
        "utm=1%26page=1;page=evil",
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/{number}");
        saw(&site.get(&format!("{path}?page=1&{cloaked}"), &[]), "evil");
        lacks(&site.get(&format!("{path}?page=1&utm=2"), &[]), "evil");
        lacks(&site.get(&format!("{path}?page=1"), &[]), "evil");
    }
    for (number, alike) in [
        "a;page=evil",
        "page[]=evil",
        "page[a]=evil",
        "+page=evil",
        "%20page=evil",
        "p%61ge=evil",
        "Page=evil",
        "page%00=evil",
        "page%5b%5d=evil",
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/{number}");
        saw(&loose.get(&format!("{path}?page=1&{alike}"), &[]), "evil");
        lacks(&loose.get(&format!("{path}?page=1&utm=2"), &[]), "evil");
        saw(&loose.get(&format!("{path}?{alike}"), &[]), "evil");
        lacks(&loose.get(&path, &[]), "evil");
    }
    let sorted = Site::start("{ ttl: 1m, query: sorted }");
    for queries in [
        ["page=1&p%61ge=2", "p%61ge=2&page=1"],
        ["a[]=1&a=2", "a=2&a[]=1"],
    ] {
        for query in queries {
            saw(&sorted.get(&format!("/?{query}"), &[]), query);
        }
    }
}

// ---- spellings -----------------------------------------------------------------------------------

/// Each is asked for twice, and all of them before any is for the second time. None gets another answer than
/// without a cache.
fn as_without_a_cache(requests: &[String]) {
    let cached = Site::start(SHARED);
    let plain = Site::start_plain();
    let mut hits = 0;
    for _ in 0..2 {
        for request in requests {
            let [with, without] = [&cached, &plain].map(|site| {
                let mut connection: Connection = site.gateway.connect();
                connection.send(request);
                connection.try_answer().unwrap()
            });
            assert_eq!(with.status, without.status, "{request:?}");
            // What the gateway says itself has a number of its own.
            if with.status == 200 {
                assert_eq!(with.text(), without.text(), "{request:?}");
            }
            hits += usize::from(told(&with).contains("hit"));
        }
    }
    assert!(hits > requests.len() / 3, "{hits} hits of {requests:?}");
}

#[test]
fn every_spelling_of_a_path_gets_its_own_page() {
    let targets = [
        "/a/b",
        "/a%2fb",
        "/a%2Fb",
        "/a//b",
        "//a/b",
        "/a/./b",
        "/a/x/../b",
        "/a/..%2fb",
        "/a/%2e/b",
        "/a/%2e%2e/b",
        "/a/b/",
        "/a/b;",
        "/a/b;x=1",
        "/a;x/b",
        "/a/b%00",
        "/a/b%00.css",
        "/a/b%0a",
        "/a/b%20",
        "/a/b%3f",
        "/a/b?",
        "/a/b",
        "/a/b%23",
        "/a/b#",
        "/a/b#c",
        "/a/b?#c",
        "/a\\b",
        "/a%5cb",
        "/%61/b",
        "/%41/b",
        "/A/b",
        "/a/B",
        "/a/b%252f",
        "/a/b%",
        "/a/b%zz",
        "/a/b.css",
        "/a/b/.css",
        "/a/b%2f.css",
        "/a/b+c",
        "/a/b%2bc",
        "/a/b\u{e4}",
        "/a/b%c3%a4",
        "/a/b%e4",
        "/a/b?x",
        "/a/b?x=",
        "/a/b?x=1",
        "/a/b?x=1&",
        "/a/b?&x=1",
        "/a/b?x=1&y",
        "/a/b?y&x=1",
        "/a/b??",
        "/a/b?%78=1",
        "/a/b?x=1;y",
        "/a/b?X=1",
    ];
    let requests =
        targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n"));
    as_without_a_cache(&requests);
}

#[test]
fn every_way_to_name_a_host_gets_its_own_page() {
    let hosts = [
        "shop.test",
        "SHOP.test",
        "shop.test.",
        "shop.test:80",
        "shop.test:8080",
        "shop.test:",
        "shop.test:080",
        "shop.test/a",
        "shop.test\\@evil.test",
        "evil.test@shop.test",
        "shop.test evil.test",
        "shop.test,evil.test",
        "xn--shop.test",
        "[::1]",
        "[::1]:80",
        "127.0.0.1",
        "shop.test%00evil",
        "shop.test?x",
        "",
    ];
    let plain = hosts.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let absolute = [
        "shop.test",
        "SHOP.test",
        "shop.test:80",
        "evil.test",
        "shop.test.",
        "u@shop.test",
    ];
    let absolute = absolute.iter().flat_map(|host| {
        ["http", "https", "HTTP"]
            .map(|scheme| format!("GET {scheme}://{host}/ HTTP/1.1\r\nHost: shop.test\r\n\r\n"))
    });
    let twice = [
        "GET / HTTP/1.1\r\nHost: shop.test\r\nHost: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.test\r\nHost: shop.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.test\r\n host: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n",
    ];
    let requests = { plain }.into_iter().chain(absolute);
    let requests = requests.chain(twice.map(str::to_owned));
    as_without_a_cache(&requests.collect::<Vec<_>>());
}

#[test]
fn parts_of_a_key_cannot_pass_for_others() {
    let requests = [
        ("a.test", "/b?c", ""),
        ("a.test", "/b", "?c"),
        ("a.test", "/b%3fc", ""),
        ("a.testb", "/", ""),
        ("a.test", "/b/c", ""),
        ("a.test", "/bc", ""),
        ("a.test", "/b", "c"),
        ("a.test", "/", "b/c"),
    ];
    let site = Site::start("{ ttl: 1m, by: ['{header.x-a}', '{header.x-b}'] }");
    for _ in 0..2 {
        for (host, target, a) in requests {
            for b in ["", "b", "b/c", "c"] {
                let request = site.gateway.request("GET", target).host(host);
                let answer = request.header("X-A", a).header("X-B", b).send();
                for line in [
                    format!("GET {target}\n"),
                    format!("host: {host}\n"),
                    format!("x-a: {a}\n"),
                    format!("x-b: {b}\n"),
                ] {
                    assert!(answer.text().contains(&line), "{line} {answer:?}");
                }
            }
        }
    }
    assert_eq!(site.app.requests(), requests.len() * 4);
}

// ---- deception -----------------------------------------------------------------------------------

#[test]
fn a_private_page_under_the_name_of_a_file_is_given_to_nobody_else() {
    let targets = [
        "/account",
        "/account/x.css",
        "/account;x.css",
        "/account%2fx.css",
        "/account%3bx.css",
        "/account%3fx.css",
        "/account%00x.css",
        "/account%0ax.css",
        "/account%23x.css",
        "/account/..%2fx.css",
        "/account/.css",
        "/static/..%2faccount",
        "/static/%2e%2e/account",
        "/account?x.css",
        "/account.css",
        "//account/x.js",
    ];
    // A rule that names files makes no page of the application public.
    let by_name = "[{ expires: [{ paths: ['*.css', '*.js'], for: max, immutable: true }] }]";
    for (filters, cache) in [
        ("[]", SHARED),
        (by_name, SHARED),
        (by_name, "{ heuristic: 100% }"),
    ] {
        let site = Site::behind(filters, cache);
        for target in targets {
            for who in [
                ("Cookie", "session=ann"),
                ("Authorization", "Bearer ann"),
                ("X-Say", "Cache-Control: private"),
                ("X-Say", "Cache-Control: no-store"),
                ("X-Say", "Set-Cookie: ann"),
            ] {
                site.get(target, &[who, ("X-Mark", "ann")]);
                for other in [&[][..], &[("Cookie", "session=eve")]] {
                    let lines: Vec<_> = [other, &[("X-Say", "Cache-Control: private")]].concat();
                    lacks(&site.get(target, &lines), "ann");
                }
            }
        }
    }
}

// ---- methods, parts, conditions ------------------------------------------------------------------

#[test]
fn a_head_leaves_the_page_of_a_get_whole() {
    for say in [
        "X-A: 1",
        "Cache-Control: no-store",
        "Cache-Control: max-age=60",
        "Set-Cookie: a",
    ] {
        let site = Site::start(SHARED);
        for _ in 0..2 {
            let head = site
                .gateway
                .request("HEAD", "/")
                .header("X-Say", say)
                .send();
            assert_eq!((head.status, head.text()), (200, ""));
            let get = site.get("/", &[("X-Say", say)]);
            saw(&get, "GET /");
        }
    }
}

#[test]
fn a_head_over_http_2_has_no_body() {
    for say in [
        "X-A: 1",
        "Cache-Control: no-store",
        "Cache-Control: max-age=60",
        "Set-Cookie: a",
    ] {
        let site = Site::start(SHARED);
        let connection = Http2::open(site.gateway.address());
        for _ in 0..2 {
            let mut head = connection.request("HEAD", "/", Bytes::new());
            head.headers_mut().insert("x-say", say.parse().unwrap());
            let head = connection
                .send(head)
                .unwrap_or_else(|error| panic!("{say}: {error}"));
            assert_eq!((head.status, &*head.body), (200, &b""[..]));
        }
    }
}

#[test]
fn a_part_that_nobody_asked_the_application_for_is_not_the_whole() {
    // It answers with a part, whatever the request says.
    let app = Endpoint::setup("app")
        .answers(|request| match request.number {
            1 => Reaction::status(206)
                .body("evil")
                .header("Content-Range", "bytes 0-3/9")
                .header("Cache-Control", "max-age=60"),
            _ => mirror(request),
        })
        .start();
    let site = Site::of(app, "[]", SHARED);
    site.get("/", &[("Range", "bytes=0-3")]);
    saw(&site.get("/", &[]), "GET /");
}

#[test]
fn a_304_that_nobody_asked_for_is_not_stored() {
    for lines in [&[][..], &[("If-None-Match", "\"evil\"")]] {
        let app = Endpoint::setup("app")
            .answers(|request| match request.number {
                1 => Reaction::status(304)
                    .header("ETag", "\"evil\"")
                    .header("Cache-Control", "max-age=60"),
                _ => mirror(request),
            })
            .start();
        let site = Site::of(app, "[]", SHARED);
        site.get("/", lines);
        let next = site.get("/", &[]);
        saw(&next, "GET /");
        assert_eq!(next.header("etag"), None);
    }
}

#[test]
fn the_conditions_of_one_are_not_those_of_another() {
    let app = Endpoint::setup("app")
        .answers(|request| {
            let tag = "\"v1\"";
            let page = match request.header_all("if-none-match").contains(&tag) {
                true => Reaction::status(304),
                false => mirror(request),
            };
            page.header("ETag", tag)
        })
        .start();
    let site = Site::of(app, "[]", SHARED);
    // The first one has it already; what it gets is not what the next one needs.
    let first = site.get("/", &[("If-None-Match", "\"v1\"")]);
    assert_eq!(first.status, 304);
    let second = site.get("/", &[]);
    assert_eq!(second.status, 200);
    lacks(&second, "if-none-match");
    assert_eq!(site.get("/", &[("If-None-Match", "\"v2\"")]).status, 200);
    assert_eq!(site.get("/", &[("If-None-Match", "\"v1\"")]).status, 304);
}

// ---- HTTP/2 --------------------------------------------------------------------------------------

#[test]
fn http_2_and_http_1_have_the_same_key() {
    let site =
        Site::start("{ ttl: 1m, by: ['{header.x-tenant}', '{cookie.session}'], despite: cookie }");
    let host = site.gateway.address().to_string();
    let connection = Http2::open(site.gateway.address());
    let over_http_2 = |target: &str, tenant: &str, cookies: &[&str]| {
        let mut request = connection.request("GET", target, Bytes::new());
        request
            .headers_mut()
            .insert("x-tenant", tenant.parse().unwrap());
        for cookie in cookies {
            request
                .headers_mut()
                .append("cookie", cookie.parse().unwrap());
        }
        let answer = connection.send(request).unwrap();
        let told = answer.headers["cache-status"].to_str().unwrap().to_owned();
        (
            String::from_utf8(answer.body.to_vec()).unwrap(),
            told.contains("hit"),
        )
    };
    for (target, tenant, cookies) in [
        ("/", "red", &[][..]),
        ("/", "blue", &[]),
        ("/?", "red", &[]),
        ("/?a=1", "red", &[]),
        ("/%61", "red", &[]),
        ("/", "red", &["a=1", "session=ann"]),
        ("/", "red", &["a=1", "session=bob"]),
    ] {
        let request = site
            .gateway
            .request("GET", target)
            .host(&host)
            .header("X-Tenant", tenant);
        let first = match cookies {
            [] => request.send(),
            cookies => request.header("Cookie", cookies.join("; ")).send(),
        };
        assert!(
            !told(&first).contains("hit"),
            "{target} {tenant} {cookies:?}"
        );
        let (body, hit) = over_http_2(target, tenant, cookies);
        assert!(hit, "{target} {tenant} {cookies:?}");
        assert_eq!(body, first.text());
    }
    // The other way round, and not with what HTTP/2 says of another.
    let (body, hit) = over_http_2("/first", "red", &[]);
    assert!(!hit);
    let after = site
        .gateway
        .request("GET", "/first")
        .header("X-Tenant", "red")
        .send();
    assert!(told(&after).contains("hit"));
    assert_eq!(after.text(), body);
}

#[test]
fn a_body_of_a_get_over_http_2_gets_into_no_page() {
    let site = Site::start(SHARED);
    let connection = Http2::open(site.gateway.address());
    let fat = connection.request("GET", "/", "evil");
    connection.send(fat).unwrap();
    let host = site.gateway.address().to_string();
    let next = site.gateway.request("GET", "/").host(&host).send();
    lacks(&next, "evil");
}

// ---- the site ------------------------------------------------------------------------------------

/// An application that answers with what it was asked, and a gateway with a cache in front of it.
struct Site {
    app: Endpoint,
    gateway: Gateway,
}

impl Site {
    fn start(cache: &str) -> Self {
        Self::behind("[]", cache)
    }

    fn behind(filters: &str, cache: &str) -> Self {
        let app = Endpoint::setup("app").answers(mirror).start();
        Self::of(app, filters, cache)
    }

    fn of(app: Endpoint, filters: &str, cache: &str) -> Self {
        Self::with(app, filters, &format!(", cache: {cache}"))
    }

    fn start_plain() -> Self {
        let app = Endpoint::setup("app").answers(mirror).start();
        Self::with(app, "[]", "")
    }

    fn with(app: Endpoint, filters: &str, cache: &str) -> Self {
        let gateway = Gateway::start(&format!(
            "upstreams: {{ app: {{ endpoints: [{app}], max_fails: 0, retries: {{ tries: 1 }} }} }}\n\
             routes: [{{ upstream: app, filters: {filters}{cache} }}]"
        ));
        Self { app, gateway }
    }

    #[track_caller]
    fn get(&self, target: &str, lines: &[(&str, &str)]) -> Answer {
        let request = self.gateway.request("GET", target);
        let lines = lines.iter();
        { lines }
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            })
            .send()
    }
}

/// Says what it was asked, but for what is the gateway's own, and adds the line `X-Say`.
fn mirror(request: &Received) -> Reaction {
    let limit = request
        .headers
        .iter()
        .map(|(_, value)| value.len())
        .sum::<usize>();
    if limit > 8000 || !request.header_all("x-limit").is_empty() {
        return Reaction::status(431).body("evil");
    }
    let mut text = format!(
        "{} {}\nhost: {}\n",
        request.method, request.target, request.host
    );
    for (name, value) in &request.headers {
        if !["host", "via", "x-forwarded-for", "x-say", "x-real-ip"].contains(&name.as_str()) {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    text.push_str(&String::from_utf8_lossy(&request.body));
    let page = Reaction::status(200).body(text);
    let said = request.header_all("x-say");
    let said = said.first().and_then(|line| line.split_once(": "));
    match said {
        Some((name, value)) => page.header(name, value),
        None => page,
    }
}

#[track_caller]
fn saw(answer: &Answer, line: &str) {
    assert!(
        answer.text().contains(line),
        "no `{line}` in {}{:?}",
        answer.text(),
        answer.headers
    );
}

#[track_caller]
fn lacks(answer: &Answer, line: &str) {
    assert!(
        !answer.text().contains(line),
        "`{line}` in {}{:?}",
        answer.text(),
        answer.headers
    );
}
