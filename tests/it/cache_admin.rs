//! Purging what caches have stored, and looking at them, through the admin listener; and what the access log
//! says of them.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use edgeway_tests::{Answer, Gateway, PATIENCE, Request, Upstream, eventually};
use serde_json::{Value, json};

// ---- what is purged ---------------------------------------------------------------------------

/// Host, target and tags of what is stored before each purge.
const PAGES: [(&str, &str, &str); 11] = [
    ("a.example", "/", ""),
    ("a.example", "/a", ""),
    ("a.example", "/a?", ""),
    ("a.example", "/a?x=1", ""),
    ("a.example", "/a?x=2&y=3", ""),
    ("a.example", "/ab", ""),
    ("a.example", "/static/1", "one two"),
    ("a.example", "/static/2", "two"),
    ("a.example", "/statics", "on"),
    ("b.example", "/a", "one,three"),
    ("b.example", "/static/1", ""),
];

#[test]
fn a_purge_removes_what_it_means_and_nothing_else() {
    let site = Site::start("{ ttl: 1m, tags: Cache-Tag }");
    for (purge, meant) in [
        (json!({ "url": "http://a.example/a" }), &[1][..]),
        (json!({ "url": "http://a.example" }), &[0]),
        (json!({ "url": "http://a.example/a?" }), &[2]),
        (json!({ "url": "http://a.example/a?x=1" }), &[3]),
        (
            json!({ "url": "https://A.Example.:8443/x/../%61?x=1" }),
            &[3],
        ),
        (json!({ "url": "http://a.example/a?y=3&x=2" }), &[]),
        (json!({ "url": "http://c.example/a" }), &[]),
        (
            json!({ "url": ["http://b.example/a", "http://a.example/ab", "http://a.example/none"] }),
            &[5, 9],
        ),
        (
            json!({ "url": "http://a.example/a", "any_query": true }),
            &[1, 2, 3, 4],
        ),
        (json!({ "prefix": "http://a.example/static/" }), &[6, 7]),
        (json!({ "prefix": "http://a.example/static" }), &[6, 7, 8]),
        (json!({ "prefix": "http://b.example" }), &[9, 10]),
        (json!({ "host": "b.example" }), &[9, 10]),
        (json!({ "host": "B.EXAMPLE." }), &[9, 10]),
        (json!({ "host": "example" }), &[]),
        (json!({ "tags": "one" }), &[6, 9]),
        (json!({ "tags": ["two", "three", "one"] }), &[6, 7, 9]),
        (json!({ "tags": ["ON", "thre"] }), &[]),
        (json!({ "all": true }), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ] {
        for (host, target, tags) in PAGES {
            site.get(host, target)
                .header("X-Say", format!("Cache-Tag: {tags}"))
                .send();
            assert!(site.has(host, target), "{host}{target}");
        }
        assert_eq!(site.purge(&purge), meant.len(), "{purge}");
        for (number, (host, target, _)) in PAGES.iter().enumerate() {
            let gone = meant.contains(&number);
            assert_eq!(!site.has(host, target), gone, "{purge} {host}{target}");
        }
    }
}

#[test]
fn a_url_means_every_variant_of_it() {
    let site = Site::start("{ ttl: 1m, by: '{header.x-tenant}' }");
    let ask = |target: &str, tenant: &str, language: &str| {
        site.get("a.example", target)
            .header("X-Say", "Vary: Accept-Language")
            .header("X-Tenant", tenant)
            .header("Accept-Language", language)
            .send()
    };
    let mut bodies = Vec::new();
    for (tenant, language) in [("a", "de"), ("a", "en"), ("b", "de"), ("b", "fr")] {
        bodies.push(ask("/page", tenant, language).text().to_owned());
        ask("/other", tenant, language);
    }
    assert_eq!(ask("/page", "b", "fr").text(), bodies[3], "it was stored");
    assert_eq!(site.purge(&json!({ "url": "http://a.example/page" })), 4);
    for (tenant, language) in [("a", "de"), ("a", "en"), ("b", "de"), ("b", "fr")] {
        let page = ask("/page", tenant, language);
        assert!(
            !bodies.iter().any(|old| old == page.text()),
            "{tenant} {language}"
        );
        assert_eq!(outcome(&ask("/other", tenant, language)), "hit");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_url_means_all_that_requests_for_it_have_stored_whichever_route_and_spelling() {
    let site = Site::with(
        "
routes:
  - { name: vip, match: { path: { regex: '^/' }, headers: { X-Vip: '1' } }, upstream: app, cache: { ttl: 1m } }
  - { name: sorted, match: { path: /sorted }, upstream: app, cache: { ttl: 1m, query: sorted } }
  - { name: only, match: { path: /only }, upstream: app, cache: { ttl: 1m, query: { only: page } } }
  - { name: without, match: { path: /without }, upstream: app, cache: { ttl: 1m, query: { without: utm } } }
  - { name: none, match: { path: /none }, upstream: app, cache: { ttl: 1m, query: none } }
  - { name: usual, match: { path: / }, upstream: app, cache: { ttl: 1m } }
",
    );
    let vip = [("X-Vip", "1")];
    let (none, other_port) = (&[][..], [("Host", "A.EXAMPLE:8080")]);
    for (url, stored, not) in [
        (
            "/a%20b",
            vec![
                ("/a%20b", none),
                ("/a%20b", &vip),
                ("//x/../a%20b", none),
                ("/a%20b", &other_port),
            ],
            vec![("/a%20b?", none), ("/a%20", none)],
        ),
        (
            "/~a?x=%7e",
            vec![
                ("/~a?x=%7e", none),
                ("/%7ea?x=%7e", none),
                ("/%7Ea?x=%7e", &vip),
            ],
            vec![("/~a?x=~", none)],
        ),
        (
            "/sorted?b=1&a=2",
            vec![("/sorted?a=2&b=1", none), ("/sorted?b=1&a=2", &vip)],
            vec![("/sorted?a=2&b=1", &vip), ("/sorted?a=2", none)],
        ),
        (
            "/only?b=1&page=2",
            vec![("/only?page=2", none), ("/only?page=2&b=1", none)],
            vec![("/only", none), ("/only?page=2", &vip)],
        ),
        (
            "/without?utm=1&a=1",
            vec![("/without?a=1&utm=7", none)],
            vec![("/without?utm=1", none), ("/without?a=1", &vip)],
        ),
        (
            "/none?a=1",
            vec![("/none", none), ("/none?b=2", none)],
            vec![("/none", &vip), ("/none?b=2", &vip)],
        ),
    ] {
        let names = |targets: &[(&str, &[(&str, &str)])]| {
            let all = targets.iter().map(|(target, headers)| {
                let answer = site.ask(target, headers).send();
                answer.text().to_owned()
            });
            all.collect::<Vec<_>>()
        };
        let (before, kept) = (names(&stored), names(&not));
        let distinct: std::collections::BTreeSet<_> = before.iter().collect();
        let url = format!("https://a.example{url}");
        assert_eq!(site.purge(&json!({ "url": url })), distinct.len(), "{url}");
        for ((target, headers), old) in stored.iter().zip(&before) {
            let page = site.ask(target, headers).send();
            assert!(
                !before.iter().any(|old| old == page.text()),
                "{url} {target} {old}"
            );
        }
        assert_eq!(names(&not), kept, "{url}");
    }
}

#[test]
fn prefixes_and_hosts_mean_all_spellings_too() {
    let site = Site::start("{ ttl: 1m }");
    let fill = || {
        for target in [
            "/static/a",
            "//static/./b",
            "/%73tatic/c",
            "/x/../static/d",
            "/other",
        ] {
            site.get("a.example", target).send();
        }
    };
    fill();
    assert_eq!(
        site.purge(&json!({ "prefix": "http://a.example/static/" })),
        4
    );
    fill();
    assert_eq!(site.purge(&json!({ "host": "a.example" })), 5);
}

#[test]
fn every_cache_is_purged_alone_or_all_of_them_at_once() {
    let site = Site::with(TWO_CACHES);
    let fill = || {
        for target in ["/a", "/pages/a", "/pages/b"] {
            site.get("a.example", target).send();
        }
    };
    let all = json!({ "all": true });
    let purged = |path: &str, purge: &Value| site.call("POST", path, Some(purge)).json();
    fill();
    assert_eq!(
        purged("/v1/caches/default/purge", &all),
        json!({ "purged": 1 })
    );
    assert_eq!(
        purged("/v1/caches/pages/purge", &all),
        json!({ "purged": 2 })
    );
    assert_eq!(
        purged("/v1/caches/pages/purge", &all),
        json!({ "purged": 0 })
    );
    fill();
    let b = json!({ "url": "http://a.example/pages/b" });
    assert_eq!(
        purged("/v1/caches/default/purge", &b),
        json!({ "purged": 0 })
    );
    let of = |default, pages| json!({ "purged": default + pages, "caches": { "default": default, "pages": pages } });
    assert_eq!(purged("/v1/purge", &b), of(0, 1));
    assert_eq!(purged("/v1/purge", &all), of(1, 1));
    let log = site
        .gateway
        .wait_for_log("purged: cache=pages selection=url");
    assert!(log.contains("soft=false objects=1 by=127.0.0.1:"), "{log}");
}

// ---- soft -------------------------------------------------------------------------------------

#[test]
fn after_a_soft_purge_the_old_page_is_served_once_more_while_a_new_one_is_fetched() {
    let site = Site::start("{ ttl: 1m, stale_while_revalidate: 1m, tags: Cache-Tag }");
    let ask = || {
        let request = site.get("a.example", "/page");
        request.header("X-Say", "Cache-Tag: shop").send()
    };
    for selection in [
        json!({ "url": "http://a.example/page" }),
        json!({ "prefix": "http://a.example/" }),
        json!({ "host": "a.example" }),
        json!({ "tags": "shop" }),
        json!({ "all": true }),
    ] {
        let old = ask().text().to_owned();
        let mut purge = selection;
        purge["soft"] = json!(true);
        assert_eq!(site.purge(&purge), 1, "{purge}");
        let stale = ask();
        assert_eq!(stale.text(), old, "{purge}");
        assert!(ttl(&stale) <= 0, "{purge}");
        eventually(PATIENCE, || ask().text() != old);
        assert!(ttl(&ask()) > 0, "{purge}");
    }
}

#[test]
fn after_a_soft_purge_the_old_page_is_served_if_the_upstream_fails_and_after_a_hard_one_it_is_not()
{
    let site = Site::start("{ ttl: 1m, stale_while_revalidate: 0s, stale_if_error: 1m }");
    let ask = |say: &'static str| site.get("a.example", "/page").header("X-Say", say).send();
    let page = json!({ "url": "http://a.example/page" });
    let softly = json!({ "url": "http://a.example/page", "soft": true });
    let old = ask("").text().to_owned();
    assert_eq!(site.purge(&softly), 1);
    let failed = ask("HTTP/1.1 503 Down");
    assert_eq!((failed.status, failed.text()), (200, &*old));
    let new = ask("");
    assert_ne!(new.text(), old);
    assert_eq!(ask("").text(), new.text());
    assert_eq!(site.purge(&page), 1);
    assert_eq!(ask("HTTP/1.1 503 Down").status, 503);
    // Who says that it must be asked is asked.
    ask("Cache-Control: max-age=60, must-revalidate");
    assert_eq!(site.purge(&softly), 1);
    assert_eq!(ask("HTTP/1.1 503 Down").status, 503);
}

#[test]
fn a_soft_purge_marks_every_variant() {
    let site = Site::start("{ ttl: 1m, stale_while_revalidate: 0s, by: '{header.x-tenant}' }");
    let ask = |tenant| site.get("a.example", "/").header("X-Tenant", tenant).send();
    let tenants = ["a", "b", "c"];
    let old = tenants.map(|tenant| ask(tenant).text().to_owned());
    let purge = json!({ "url": "http://a.example/", "soft": true });
    assert_eq!(site.purge(&purge), 3);
    for (tenant, old) in tenants.iter().zip(&old) {
        let page = ask(tenant);
        assert_eq!(outcome(&page), "fwd=stale");
        assert_ne!(page.text(), old);
    }
}

// ---- while something is fetched ---------------------------------------------------------------

/// Selections that mean `a.example/slow`, which has the tag `shop`.
fn selections() -> [Value; 5] {
    [
        json!({ "url": "http://a.example/slow" }),
        json!({ "prefix": "http://a.example/sl" }),
        json!({ "host": "a.example" }),
        json!({ "tags": ["cart", "shop"] }),
        json!({ "all": true }),
    ]
}

#[test]
fn what_is_being_fetched_at_a_purge_is_not_stored() {
    for place in ["head", "body"] {
        for purge in selections() {
            let site = Site::start("{ ttl: 1m, tags: Cache-Tag }");
            let slow = site.slowly(place);
            // Before there is a head, there is no object.
            let objects = usize::from(place == "body");
            assert_eq!(site.purge(&purge), objects, "{place} {purge}");
            site.gate.open();
            assert_eq!(slow.join().unwrap().text(), "page 1", "{place} {purge}");
            for _ in 0..2 {
                assert_eq!(site.slow().send().text(), "page 2", "{place} {purge}");
            }
        }
    }
}

#[test]
fn what_is_being_fetched_at_a_soft_purge_is_never_fresh() {
    for place in ["head", "body"] {
        for mut purge in selections() {
            purge["soft"] = json!(true);
            let site = Site::start("{ ttl: 1m, stale_while_revalidate: 0s, tags: Cache-Tag }");
            let slow = site.slowly(place);
            let objects = usize::from(place == "body");
            assert_eq!(site.purge(&purge), objects, "{place} {purge}");
            site.gate.open();
            assert_eq!(slow.join().unwrap().text(), "page 1", "{place} {purge}");
            for _ in 0..2 {
                assert_eq!(site.slow().send().text(), "page 2", "{place} {purge}");
            }
        }
    }
}

#[test]
fn who_asks_after_a_purge_does_not_join_a_fetch_from_before() {
    for place in ["head", "body"] {
        let site = Site::start("{ ttl: 1m, wait: 1m }");
        let slow = site.slowly(place);
        site.purge(&json!({ "url": "http://a.example/slow" }));
        let late = site.slow();
        let late = thread::spawn(move || late.send());
        if place == "body" {
            // It need not even wait for that one.
            assert_eq!(late.join().unwrap().text(), "page 2");
            site.gate.open();
        } else {
            site.gate.open();
            assert_eq!(late.join().unwrap().text(), "page 2");
        }
        assert_eq!(slow.join().unwrap().text(), "page 1");
        assert_eq!(site.slow().send().text(), "page 2");
    }
}

#[test]
fn a_purge_of_something_else_leaves_what_is_being_fetched() {
    for place in ["head", "body"] {
        for purge in [
            json!({ "url": "http://a.example/slow?x" }),
            json!({ "url": "http://b.example/slow" }),
            json!({ "prefix": "http://a.example/slower" }),
            json!({ "host": "b.example" }),
            json!({ "tags": ["sho", "shops"] }),
        ] {
            let site = Site::start("{ ttl: 1m, tags: Cache-Tag }");
            let slow = site.slowly(place);
            assert_eq!(site.purge(&purge), 0, "{place} {purge}");
            site.gate.open();
            assert_eq!(slow.join().unwrap().text(), "page 1");
            assert_eq!(site.slow().send().text(), "page 1", "{place} {purge}");
        }
    }
}

#[test]
fn what_was_validated_before_a_soft_purge_is_still_stale_after_it() {
    let site = Site::start("{ ttl: 1m, stale_while_revalidate: 0s }");
    let tagged = || {
        site.get("a.example", "/slow")
            .header("X-Say", "ETag: \"1\"")
    };
    assert_eq!(tagged().send().text(), "page 1");
    let purge = json!({ "url": "http://a.example/slow", "soft": true });
    assert_eq!(site.purge(&purge), 1);
    let validating = tagged().header("X-Slow", "head");
    let validating = thread::spawn(move || validating.send());
    site.gate.wait_for_callers(1);
    assert_eq!(site.purge(&purge), 1);
    site.gate.open();
    assert_eq!(validating.join().unwrap().text(), "page 1");
    // Validated again, and then it is fresh.
    assert_eq!(outcome(&tagged().send()), "fwd=stale");
    assert_eq!(site.origin_saw("if-none-match"), 2);
    assert_eq!(outcome(&tagged().send()), "hit");
}

// ---- statistics -------------------------------------------------------------------------------

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_a_cache_holds_and_has_done_is_told_as_it_is() {
    let site = Site::with(TWO_CACHES);
    let shown = |name: &str| site.call("GET", &format!("/v1/caches/{name}"), None).json();
    let nothing = json!({
        "hit": 0, "stale": 0, "miss": 0, "expired": 0, "revalidated": 0, "bypass": 0, "coalesced": 0,
    });
    let empty = json!({
        "name": "pages", "objects": 0, "bytes": 0, "limit": 1 << 20, "evictions": 0, "expirations": 0,
        "requests": nothing,
    });
    assert_eq!(shown("pages"), empty);
    let ask = |target: &str, say: &str| {
        let request = site.get("a.example", &format!("/pages{target}"));
        request.header("X-Say", say).send()
    };
    let softly = |target: &str| {
        let url = format!("http://a.example/pages{target}");
        site.purge(&json!({ "url": url, "soft": true }));
    };
    ask("/a", "");
    ask("/b", "ETag: \"1\"");
    for _ in 0..3 {
        ask("/a", "");
    }
    softly("/b");
    assert_eq!(outcome(&ask("/b", "ETag: \"1\"")), "fwd=stale");
    softly("/a");
    assert_eq!(ask("/a", "HTTP/1.1 503 Down").status, 200);
    ask("/a", "");
    ask("/c?preview=1", "");
    ask("/private", "Cache-Control: private");
    site.get("a.example", "/pages/a")
        .header("X-Post", "")
        .body("x")
        .send();
    site.get("a.example", "/elsewhere").send();
    let pages = shown("pages");
    assert_eq!(pages["objects"], 2, "{pages}");
    assert!(pages["bytes"].as_u64().unwrap() > 2 * 200, "{pages}");
    assert_eq!(
        pages["requests"],
        json!({
            "hit": 3, "stale": 1, "miss": 3, "expired": 1, "revalidated": 1, "bypass": 2, "coalesced": 0,
        }),
    );
    let all = site.call("GET", "/v1/caches", None).json();
    let names: Vec<_> = all["caches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["default", "pages"]);
    assert_eq!(all["caches"][1], pages);
    assert_eq!(all["caches"][0]["requests"]["miss"], 1);
    site.call("POST", "/v1/purge", Some(&json!({ "all": true })));
    let purged = shown("pages");
    assert_eq!(
        (&purged["objects"], &purged["bytes"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(purged["evictions"], 0, "who was purged was not evicted");
}

#[test]
fn what_had_to_leave_for_others_is_counted_and_the_limit_is_kept() {
    let site = Site::with(TWO_CACHES);
    for number in 0..40 {
        let request = site.get("a.example", &format!("/pages/{number}"));
        request.header("X-Say", "X-Size: 65536").send();
    }
    let pages = site.call("GET", "/v1/caches/pages", None).json();
    let of = |key: &str| pages[key].as_u64().unwrap();
    assert!(
        of("bytes") <= of("limit") && of("bytes") > of("limit") / 2,
        "{pages}"
    );
    assert_eq!(of("objects") + of("evictions"), 40, "{pages}");
    assert!(of("evictions") > 20, "{pages}");
}

#[test]
fn who_has_waited_for_another_is_counted_besides() {
    let site = Site::start("{ ttl: 1m, wait: 1m }");
    let slow = site.slowly("head");
    let second = site.slow();
    let second = thread::spawn(move || second.send());
    // It waits in the gateway, which tells nobody: the endpoint must not see it in the time of some others.
    for number in 0..20 {
        site.get("a.example", &format!("/{number}")).send();
    }
    site.gate.open();
    assert_eq!(slow.join().unwrap().text(), "page 1");
    let second = second.join().unwrap();
    assert_eq!(second.text(), "page 1");
    let requests = site.call("GET", "/v1/caches/default", None).json()["requests"].clone();
    let waited = second.header("cache-status").unwrap().contains("collapsed");
    assert_eq!(requests["coalesced"], u64::from(waited), "{requests}");
}

// ---- what can't be done -----------------------------------------------------------------------

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_call_that_makes_no_sense_is_refused_and_purges_nothing() {
    let site = Site::with(TWO_CACHES);
    site.get("a.example", "/pages/a").send();
    let post = |path: &str, body: &Value| site.call("POST", path, Some(body));
    for (body, says) in [
        (json!({}), "does not say what to purge"),
        (json!({ "soft": true }), "does not say what to purge"),
        (
            json!({ "url": "/pages/a" }),
            "`url`: `/pages/a` is not a URL",
        ),
        (json!({ "url": 1 }), "a text or a list of texts"),
        (json!({ "url": [] }), "the list is empty"),
        (json!({ "all": "yes" }), "expected a boolean"),
        (
            json!({ "host": "a.example", "all": true }),
            "`host` and `all` can't be in one call",
        ),
        (json!({ "host": "*.example" }), "is not one host"),
        (
            json!({ "prefix": "http://a.example/?x" }),
            "a prefix is one of paths",
        ),
        (json!({ "everything": true }), "unknown field `everything`"),
        (json!([]), "expected an object such as"),
    ] {
        for path in ["/v1/caches/pages/purge", "/v1/purge"] {
            problem(&post(path, &body), 400, says);
        }
    }
    let all = json!({ "all": true });
    problem(&post("/v1/caches/page/purge", &all), 404, "no cache `page`");
    problem(
        &post("/v1/caches/page/purge", &all),
        404,
        "did you mean `pages`?",
    );
    problem(
        &post("/v1/caches/unused/purge", &all),
        404,
        "that a route uses",
    );
    problem(
        &post("/v1/caches/pages/purge?persist=true", &all),
        400,
        "no meaning",
    );
    problem(
        &post("/v1/caches/pages/purge?soft=true", &all),
        400,
        "not understood",
    );
    problem(&post("/v1/caches/pages", &all), 405, "knows no POST");
    problem(
        &site.call("GET", "/v1/caches/pages/purge", None),
        405,
        "knows no GET",
    );
    problem(
        &site.call("GET", "/v1/caches/page", None),
        404,
        "did you mean `pages`?",
    );
    let form = Request::to(site.gateway.address_of("admin"), "POST", "/v1/purge");
    problem(&form.body("all=true").send(), 415, "must be JSON");
    assert!(site.has("a.example", "/pages/a"));
}

#[test]
fn without_the_token_nobody_purges_or_looks() {
    let site = Site::with(&format!(
        "{TWO_CACHES}\nadmin: {{ bind: '127.0.0.1:0', token: secret }}"
    ));
    site.get("a.example", "/pages/a").send();
    let all = json!({ "all": true });
    problem(&site.call("POST", "/v1/purge", Some(&all)), 401, "token");
    problem(&site.call("GET", "/v1/caches", None), 401, "token");
    assert!(site.has("a.example", "/pages/a"));
    let shown = Request::to(site.gateway.address_of("admin"), "POST", "/v1/purge").bearer("secret");
    let shown = shown
        .header("Content-Type", "application/json")
        .body(all.to_string())
        .send();
    assert_eq!(shown.json()["purged"], 1);
}

#[test]
fn calls_see_the_caches_in_force_which_keep_what_they_have_over_a_reload() {
    let site = Site::with(TWO_CACHES);
    site.get("a.example", "/pages/a").send();
    assert!(site.gateway.reload(&site.configuration(TWO_CACHES)));
    assert!(site.has("a.example", "/pages/a"));
    let one = "routes: [{ upstream: app, cache: { ttl: 1m } }]";
    assert!(site.gateway.reload(&site.configuration(one)));
    problem(
        &site.call("GET", "/v1/caches/pages", None),
        404,
        "no cache `pages`",
    );
    let all = site.call("GET", "/v1/caches", None).json();
    assert_eq!(all["caches"].as_array().unwrap().len(), 1, "{all}");
}

// ---- the access log ---------------------------------------------------------------------------

#[test]
fn the_access_log_says_what_the_cache_did_and_why() {
    let site = Site::with(&format!("{TWO_CACHES}\nfilters: [access_log]"));
    let ask = |target: &str, say: &str| {
        let request = site.get("a.example", target);
        request.header("X-Say", say).send();
    };
    let said = |target: &str| {
        let line = site
            .gateway
            .wait_for_output(&format!("\"target\":\"{target}\""));
        let line: Value = serde_json::from_str(&line).unwrap();
        (
            line["cache"].clone(),
            line["cache_reason"].clone(),
            line["origin"].clone(),
        )
    };
    let (nothing, cache, upstream) = (Value::Null, json!("cache"), json!("upstream"));
    ask("/pages/n?1", "");
    assert_eq!(
        said("/pages/n?1"),
        (json!("miss"), nothing.clone(), upstream.clone())
    );
    ask("/pages/n?utm=2&1", "");
    assert_eq!(
        said("/pages/n?utm=2&1"),
        (json!("hit"), nothing.clone(), cache.clone())
    );
    ask("/pages/p?1", "Cache-Control: private");
    assert_eq!(
        said("/pages/p?1"),
        (json!("miss"), json!("private"), upstream.clone())
    );
    ask("/pages/q?preview=1", "");
    assert_eq!(
        said("/pages/q?preview=1"),
        (json!("bypass"), json!("rule"), upstream.clone())
    );
    site.purge(&json!({ "host": "a.example", "soft": true }));
    ask("/pages/n?utm=3&1", "HTTP/1.1 503 Down");
    assert_eq!(
        said("/pages/n?utm=3&1"),
        (json!("stale"), json!("upstream failed"), cache)
    );
    ask("/pages/n?utm=4&1", "");
    assert_eq!(
        said("/pages/n?utm=4&1"),
        (json!("expired"), nothing.clone(), upstream.clone())
    );
    ask("/plain", "");
    assert_eq!(said("/plain"), (nothing.clone(), nothing, upstream));
}

#[test]
fn a_text_in_the_access_log_may_have_what_the_cache_did() {
    let text = "'{target} {cache} {cache_reason}.'";
    let site = Site::with(&format!(
        "{TWO_CACHES}\nfilters: [{{ access_log: {{ format: {text} }} }}]"
    ));
    site.get("a.example", "/pages/n").send();
    site.gateway.wait_for_output("/pages/n miss -.");
    site.get("a.example", "/pages/n").send();
    site.gateway.wait_for_output("/pages/n hit -.");
    site.get("a.example", "/pages/q?preview=1").send();
    site.gateway
        .wait_for_output("/pages/q?preview=1 bypass rule.");
    site.get("a.example", "/plain").send();
    site.gateway.wait_for_output("/plain - -.");
}

// ---- the site ---------------------------------------------------------------------------------

const TWO_CACHES: &str = "
caches: { pages: { memory: 1MiB }, unused: {} }
routes:
  - match: { path: /pages/ }
    upstream: app
    cache:
      zone: pages
      ttl: 1m
      stale_while_revalidate: 0s
      query: { without: utm }
      bypass: '{query.preview}'
  - { match: { path: { exact: /plain } }, upstream: app }
  - { match: { path: / }, upstream: app, cache: { ttl: 1m } }
";

/// A gateway with a cache before an application.
struct Site {
    gateway: Gateway,
    app: Upstream,
    gate: Arc<Gate>,
}

impl Site {
    fn start(cache: &str) -> Self {
        Self::with(&format!("routes: [{{ upstream: app, cache: {cache} }}]"))
    }

    fn with(rest: &str) -> Self {
        let gate = Arc::new(Gate::default());
        let app = app(Arc::clone(&gate));
        let gateway = Gateway::start(&configuration(&app, rest));
        Self { gateway, app, gate }
    }

    fn configuration(&self, rest: &str) -> String {
        configuration(&self.app, rest)
    }

    fn get(&self, host: &str, target: &str) -> Request<'static> {
        self.gateway.request("GET", target).host(host)
    }

    /// `Host` may be among the headers.
    fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Request<'static> {
        let start = self.get("a.example", target);
        headers
            .iter()
            .fold(start, |request, (name, value)| match *name {
                "Host" => request.host(value),
                name => request.header(name, value),
            })
    }

    /// A page that may be [slow](Self::slowly).
    fn slow(&self) -> Request<'static> {
        let request = self.get("a.example", "/slow");
        request.header("X-Say", "Cache-Tag: shop")
    }

    /// Asks for the slow page, until it waits for the gate at its head or in its body.
    fn slowly(&self, place: &'static str) -> JoinHandle<Answer> {
        let request = self.slow().header("X-Slow", place);
        let asked = thread::spawn(move || request.send());
        self.gate.wait_for_callers(1);
        if place == "body" {
            // The head has been sent, and is stored when the gateway has seen it.
            eventually(PATIENCE, || {
                let shown = self.call("GET", "/v1/caches/default", None).json();
                shown["bytes"].as_u64() > Some(0)
            });
        }
        asked
    }

    /// Whether this is stored and fresh. Asks nobody else.
    fn has(&self, host: &str, target: &str) -> bool {
        let request = self
            .get(host, target)
            .header("Cache-Control", "only-if-cached");
        match request.send().status {
            200 => true,
            504 => false,
            status => panic!("status {status}"),
        }
    }

    /// How many objects were purged.
    #[track_caller]
    fn purge(&self, purge: &Value) -> usize {
        let answer = self.call("POST", "/v1/purge", Some(purge));
        assert_eq!(answer.status, 200, "{purge}: {}", answer.text());
        answer.json()["purged"].as_u64().unwrap() as usize
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = Request::to(self.gateway.address_of("admin"), method, path);
        match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json");
                request.body(body.to_string()).send()
            }
            None => request.send(),
        }
    }

    /// How many requests with this header have come to the application.
    fn origin_saw(&self, header: &str) -> usize {
        let has = |head: &&String| {
            let head = head.to_ascii_lowercase();
            head.lines()
                .any(|line| line.starts_with(&format!("{header}:")))
        };
        self.app.heads().iter().filter(has).count()
    }
}

fn configuration(app: &Upstream, rest: &str) -> String {
    let admin = match rest.contains("admin:") {
        true => "",
        false => "admin: { bind: '127.0.0.1:0' }",
    };
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n{admin}\n\
         upstreams: {{ app: {{ endpoints: [{app}] }} }}\n{rest}"
    )
}

/// An application whose pages are numbered. `X-Say` of a request is what it adds to the head of the response, a
/// whole head line for another status, or `X-Size` for a longer page. With `X-Slow` it waits at the gate, before the
/// head or in the body. The pages of `/slow` have numbers of their own.
fn app(gate: Arc<Gate>) -> Upstream {
    let number = AtomicUsize::new(0);
    let slow = AtomicUsize::new(0);
    Upstream::raw(move |mut caller| {
        while let Some(head) = caller.request() {
            let is_slow = head.contains(" /slow HTTP/");
            let number = if is_slow { &slow } else { &number };
            let say = header(&head, "x-say");
            let place = header(&head, "x-slow");
            let validated = header(&head, "if-none-match");
            if place == "head" {
                gate.pass();
            }
            if !validated.is_empty() && say.starts_with("ETag") {
                caller.send(format!(
                    "HTTP/1.1 304 Not Modified\r\nETag: {validated}\r\n\r\n"
                ));
                continue;
            }
            let page = format!("page {}", number.fetch_add(1, Ordering::SeqCst) + 1);
            let size = say
                .strip_prefix("X-Size: ")
                .map_or(page.len(), |size| size.parse().unwrap());
            let (status, more) = match say.starts_with("HTTP/1.1 ") {
                true => (say.as_str(), String::new()),
                false if say.is_empty() => ("HTTP/1.1 200 OK", String::new()),
                false => ("HTTP/1.1 200 OK", format!("{say}\r\n")),
            };
            caller.send(format!("{status}\r\n{more}Content-Length: {size}\r\n\r\n"));
            if place == "body" {
                caller.send("page");
                gate.pass();
                caller.send(page.trim_start_matches("page"));
            } else {
                caller.send(page.clone() + &" ".repeat(size - page.len()));
            }
        }
    })
}

fn header(head: &str, name: &str) -> String {
    let value = |line: &str| {
        let (known, value) = line.split_once(':')?;
        known
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    };
    head.lines().find_map(value).unwrap_or_default()
}

/// What the cache did, as `Cache-Status` has it.
fn outcome(answer: &Answer) -> String {
    let status = answer.header("cache-status").unwrap();
    let outcome = status.split(';').nth(1).unwrap_or_default();
    outcome.trim().to_owned()
}

/// How long the answer is still fresh, in seconds.
fn ttl(answer: &Answer) -> i64 {
    let status = answer.header("cache-status").unwrap();
    let ttl = status
        .split(';')
        .find_map(|part| part.trim().strip_prefix("ttl="));
    ttl.unwrap_or_else(|| panic!("no ttl in {status}"))
        .parse()
        .unwrap()
}

/// Where callers wait until it is open.
#[derive(Default)]
struct Gate {
    /// Whether it is open, and how many have come.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(open, _)| !*open).unwrap());
    }

    fn wait_for_callers(&self, callers: usize) {
        let state = self.state.lock().unwrap();
        let few = |state: &mut (bool, usize)| state.1 < callers;
        let waited = self.changed.wait_timeout_while(state, PATIENCE, few);
        assert!(!waited.unwrap().1.timed_out(), "nobody has come");
    }
}

#[track_caller]
fn problem(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(says), "{detail}");
}
