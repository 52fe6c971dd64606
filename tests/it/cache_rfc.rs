//! What a shared cache has to do, section by section of RFC 9111 and its companions.
//!
//! Each case is a conversation: what the client asks, what the origin would say to that, and whether it was
//! asked. Nothing waits for time to pass: responses that come with an `Age` are as old as they say.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use edgeway_tests::{Answer, Caller, Gateway, PATIENCE, Upstream, eventually};

// ---- RFC 9111, section 3: storing responses ------------------------------------------------------

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn section_3_what_is_stored_and_what_is_not() {
    let lab = Lab::plain();
    let far = "expires: Fri, 01 Jan 2100 00:00:00 GMT";
    let past = "expires: Sat, 01 Jan 2000 00:00:00 GMT";
    for (stored, status, headers) in [
        (false, 200, &[][..]),
        (true, 200, &["cache-control: max-age=60"]),
        (true, 200, &["cache-control: s-maxage=60"]),
        (true, 200, &[far]),
        (false, 200, &[past]),
        (false, 200, &["expires: 0"]),
        (false, 200, &["cache-control: public"]),
        (true, 404, &["cache-control: max-age=60"]),
        (true, 503, &["cache-control: max-age=60"]),
        (true, 299, &["cache-control: max-age=60"]),
        (true, 204, &["cache-control: max-age=60"]),
        (true, 301, &["cache-control: max-age=60", "location: /x"]),
        (
            false,
            206,
            &["cache-control: max-age=60", "content-range: bytes 0-2/9"],
        ),
        (
            false,
            416,
            &["cache-control: max-age=60", "content-range: bytes */9"],
        ),
        (false, 200, &["cache-control: max-age=60, no-store"]),
        (
            false,
            200,
            &["cache-control: max-age=60", "cache-control: no-store"],
        ),
        (false, 200, &["cache-control: max-age=60, private"]),
        (
            true,
            200,
            &["cache-control: max-age=60, private=\"x-user\""],
        ),
        (
            false,
            200,
            &["cache-control: max-age=60", "set-cookie: a=1"],
        ),
        (false, 200, &["cache-control: max-age=60", "vary: *"]),
        (
            false,
            200,
            &["cache-control: max-age=60", "vary: accept, *"],
        ),
        (
            true,
            200,
            &["cache-control: max-age=60, no-store, must-understand"],
        ),
        (false, 299, &["cache-control: max-age=60, must-understand"]),
        (
            true,
            200,
            &["cache-control: max-age=60", "pragma: no-cache"],
        ),
        (true, 200, &["cache-control: unknown, max-age=60"]),
    ] {
        let what = format!("{status} {headers:?}");
        let first = get()
            .origin(status, headers, "one")
            .fetched()
            .status(status);
        let second = match stored {
            true => get().stored().status(status),
            false => get().origin(status, headers, "two").fetched(),
        };
        lab.holds(&what, [first, second]);
    }
}

#[test]
fn section_3_only_get_is_stored_and_only_without_a_wish_not_to() {
    let lab = Lab::plain();
    let fresh = &["cache-control: max-age=60"];
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let asked = ask(method).origin(200, fresh, "one").fetched();
        lab.holds(method, [asked, get().fetched()]);
    }
    let unwanted = get().with("cache-control: no-store");
    let unwanted = unwanted.origin(200, fresh, "one").fetched();
    lab.holds("a request with no-store", [unwanted, get().fetched()]);
}

#[test]
fn section_3_1_fields_of_the_connection_and_withheld_ones_are_not_stored() {
    let lab = Lab::plain();
    let headers = &[
        "cache-control: max-age=60",
        "connection: x-hop, keep-alive",
        "x-hop: 1",
        "keep-alive: timeout=7",
        "proxy-authenticate: Basic",
        "x-end: 2",
    ];
    let lacks = |step: Step| {
        step.lacks("x-hop")
            .lacks("keep-alive")
            .lacks("proxy-authenticate")
    };
    lab.holds(
        "fields of the connection",
        [
            lacks(get().origin(200, headers, "one").fetched().has("x-end: 2")),
            lacks(get().stored().has("x-end: 2")),
        ],
    );
    for directive in ["no-cache", "private"] {
        let line = format!("cache-control: max-age=60, {directive}=\"X-User, x-other\"");
        let headers = &[line.as_str(), "x-user: u", "x-end: 2"];
        let first = get().origin(200, headers, "one").fetched().has("x-user: u");
        let second = get().stored().lacks("x-user").has("x-end: 2");
        lab.holds(directive, [first, second]);
    }
}

#[test]
fn section_3_5_what_was_asked_for_with_credentials_is_stored_only_if_it_says_so() {
    let lab = Lab::plain();
    for (directives, stored) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, public, private", false),
    ] {
        let line = format!("cache-control: {directives}");
        let known = || get().with("authorization: Basic YTpi");
        let first = known().origin(200, &[&line], "one").fetched();
        let second = if stored {
            known().stored()
        } else {
            known().fetched()
        };
        lab.holds(directives, [first, second]);
    }
    let open = get().origin(200, &["cache-control: max-age=60"], "one");
    let known = get().with("authorization: Basic YTpi").stored();
    lab.holds("asked for without", [open.fetched(), known]);
}

// ---- section 4: constructing responses ------------------------------------------------------------

#[test]
fn section_4_the_key_is_the_whole_uri() {
    let lab = Lab::plain();
    let fresh = &["cache-control: max-age=60"];
    lab.holds(
        "queries",
        [
            get().at("?a=1").origin(200, fresh, "one").fetched(),
            get().at("?a=2").origin(200, fresh, "two").fetched(),
            get().origin(200, fresh, "three").fetched(),
            get().at("?a=1").stored().body("one"),
            get().at("?a=2").stored().body("two"),
            get().stored().body("three"),
        ],
    );
}

#[test]
fn section_4_1_the_request_has_to_fit_what_the_response_varies_by() {
    let lab = Lab::plain();
    for (vary, one, other, fits) in [
        ("Foo", "foo: 1", "foo: 1", true),
        ("Foo", "foo: 1", "foo: 2", false),
        ("Foo", "foo: 1", "bar: 1", false),
        ("Foo", "bar: 1", "bar: 2", true),
        ("foo, Bar", "foo: 1", "foo: 1\nbar: 2", false),
        ("Foo", "foo: 1, 2", "foo: 1\nfoo: 2", true),
        ("Foo", "foo: 1,2", "foo:  1 , 2", true),
        (
            "Accept-Encoding",
            "accept-encoding: gzip, br",
            "accept-encoding: br,gzip",
            true,
        ),
        (
            "Accept-Encoding",
            "accept-encoding: gzip",
            "accept-encoding: identity",
            false,
        ),
        (
            "Accept-Language",
            "accept-language: en, de",
            "accept-language: eN,De",
            true,
        ),
        (
            "Accept-Language",
            "accept-language: en",
            "accept-language: de",
            false,
        ),
    ] {
        let line = format!("vary: {vary}");
        let headers = &["cache-control: max-age=60", line.as_str()];
        let first = get().with(one).origin(200, headers, "one").fetched();
        let second = get().with(other).origin(200, headers, "two");
        let second = match fits {
            true => second.stored().body("one"),
            false => second.fetched().body("two"),
        };
        let again = get().with(one).stored().body("one");
        lab.holds(
            &format!("{vary}: {one} and {other}"),
            [first, second, again],
        );
    }
}

#[test]
fn section_4_2_1_the_narrowest_word_of_a_lifetime_counts() {
    let lab = Lab::plain();
    let far = "expires: Fri, 01 Jan 2100 00:00:00 GMT";
    for (fresh, headers) in [
        (true, &["cache-control: max-age=1, s-maxage=60"][..]),
        (false, &["cache-control: max-age=60, s-maxage=1"]),
        (false, &["cache-control: max-age=1", far]),
        (true, &["cache-control: max-age=60", "expires: 0"]),
        (true, &["cache-control: max-age=\"60\""]),
        (false, &["cache-control: max-age=sixty", far]),
        (true, &["cache-control: max-age=99999999999999999999"]),
        (true, &["cache-control: max-age=60, max-age=1"]),
        (false, &["cache-control: max-age=1, max-age=60"]),
        (
            true,
            &["cdn-cache-control: max-age=60", "cache-control: no-store"],
        ),
        (
            false,
            &["cdn-cache-control: max-age=1", "cache-control: max-age=60"],
        ),
        (
            false,
            &["cdn-cache-control: no-store", "cache-control: max-age=60"],
        ),
        (
            true,
            &["cdn-cache-control: max-age=", "cache-control: max-age=60"],
        ),
    ] {
        // Ten seconds old, so that a lifetime of one is over.
        let headers = [headers, &["age: 10", "etag: \"a\""]].concat();
        let first = get().origin(200, &headers, "one").fetched();
        let second = if fresh {
            get().stored()
        } else {
            get().fetched()
        };
        lab.holds(&format!("{headers:?}"), [first, second]);
    }
}

#[test]
fn section_4_2_2_lifetimes_are_guessed_where_the_route_says_so() {
    let headers = &["last-modified: Sat, 01 Jan 2000 00:00:00 GMT"];
    for (lab, guessed) in [(Lab::plain(), false), (Lab::of("heuristic: 10%"), true)] {
        for (status, may) in [
            (200, true),
            (404, true),
            (410, true),
            (302, false),
            (500, false),
        ] {
            let first = get().origin(status, headers, "one").fetched();
            let second = get().origin(status, &[], "two");
            let second = if guessed && may {
                second.stored()
            } else {
                second.fetched()
            };
            lab.holds(&format!("{status}, guessing: {guessed}"), [first, second]);
        }
    }
}

#[test]
fn section_4_2_3_an_answer_is_as_old_as_its_origin_and_other_caches_say() {
    let lab = Lab::plain();
    let (mut first, second) = (get(), get().stored());
    first = first.origin(200, &["cache-control: max-age=1000", "age: 500"], "one");
    let answers = lab.holds("age", [first.fetched(), second]);
    let age: u64 = answers[1].header("age").unwrap().parse().unwrap();
    assert!((500..560).contains(&age), "{age}");
    let old = "date: Sat, 01 Jan 2022 00:00:00 GMT";
    let headers = &["cache-control: max-age=60", old, "etag: \"a\""];
    let first = get().origin(200, headers, "one").fetched();
    lab.holds("an old date", [first, get().fetched()]);
}

#[test]
fn section_4_2_4_stale_is_served_only_as_far_as_it_may_be() {
    let lab = Lab::plain();
    let stale = |more: &str| format!("cache-control: max-age=10{more}");
    for (directives, by_client, served) in [
        ("", "", false),
        (", stale-if-error=60", "", true),
        (", stale-if-error=1", "", false),
        (", stale-if-error=60, must-revalidate", "", false),
        (", stale-if-error=60, proxy-revalidate", "", false),
        (", stale-if-error=60, no-cache", "", false),
        (", stale-if-error=60, s-maxage=10", "", false),
        ("", "cache-control: stale-if-error=60", true),
        (
            ", must-revalidate",
            "cache-control: stale-if-error=60",
            false,
        ),
    ] {
        for broken in [true, false] {
            let line = stale(directives);
            let headers = &[line.as_str(), "age: 15", "etag: \"a\""];
            let first = get().origin(200, headers, "one").fetched();
            let mut second = get().fetched();
            if !by_client.is_empty() {
                second = second.with(by_client);
            }
            second = if broken {
                second.breaks()
            } else {
                second.origin(503, &[], "no")
            };
            second = match (served, broken) {
                (true, _) => second.status(200).body("one"),
                (false, true) => second.status(502),
                (false, false) => second.status(503),
            };
            lab.holds(
                &format!("{directives} {by_client} {broken}"),
                [first, second],
            );
        }
    }
}

#[test]
fn a_client_that_is_served_stale_knows_whether_its_connection_goes_on() {
    let lab = Lab::plain();
    let headers = &["cache-control: max-age=10, stale-if-error=60", "age: 15"];
    for (second, kept) in [
        (get().breaks(), false),
        (get().origin(503, &[], "no"), true),
    ] {
        let path = lab.path();
        let mut connection = lab.gateway.connect();
        lab.origin.next(get().origin(200, headers, "one").reaction);
        connection.get(&path);
        lab.origin.next(second.reaction);
        let answer = connection.get(&path);
        assert_eq!((answer.status, answer.reusable), (200, kept));
        if kept {
            assert_eq!(connection.get(&path).text(), "one");
        } else {
            connection.expect_close();
        }
    }
}

#[test]
fn rfc_5861_what_is_stale_for_a_short_time_is_fetched_beside_the_answer() {
    let lab = Lab::plain();
    let headers = &[
        "cache-control: max-age=10, stale-while-revalidate=60",
        "age: 15",
    ];
    let path = lab.path();
    lab.origin.next(get().origin(200, headers, "one").reaction);
    assert_eq!(lab.gateway.get(&path).text(), "one");
    lab.origin.next(
        get()
            .origin(200, &["cache-control: max-age=60"], "two")
            .reaction,
    );
    let stale = lab.gateway.get(&path);
    assert_eq!(stale.text(), "one");
    assert!(
        stale
            .header("cache-status")
            .unwrap()
            .starts_with("edgeway; hit; ttl=-")
    );
    eventually(PATIENCE, || lab.gateway.get(&path).text() == "two");
    assert_eq!(lab.origin.asked().len(), 2);

    let late = &[
        "cache-control: max-age=10, stale-while-revalidate=2",
        "age: 15",
    ];
    let first = get().origin(200, late, "one").fetched();
    let second = get().origin(200, late, "two").fetched().body("two");
    lab.holds("after the window", [first, second]);
}

#[test]
fn section_4_3_1_the_origin_is_asked_by_what_it_has_said() {
    let lab = Lab::plain();
    let changed = "last-modified: Sat, 01 Jan 2000 00:00:00 GMT";
    let since = "if-modified-since: Sat, 01 Jan 2000 00:00:00 GMT";
    let stale = "cache-control: max-age=10";
    let again = "cache-control: max-age=60";
    for (headers, asks) in [
        (&["etag: \"a\""][..], &["if-none-match: \"a\""][..]),
        (&["etag: W/\"a\""], &["if-none-match: W/\"a\""]),
        (&[changed], &[since]),
        (&["etag: \"a\"", changed], &["if-none-match: \"a\"", since]),
    ] {
        let headers = [headers, &[stale, "age: 15"]].concat();
        let first = get().origin(200, &headers, "one").fetched();
        // What the client has is another matter.
        let second = get().with("if-none-match: \"b\"").origin(304, &[again], "");
        let mut second = second.fetched().status(200).body("one");
        for line in asks {
            second = second.asks(line);
        }
        lab.holds(
            &format!("{headers:?}"),
            [first, second, get().stored().body("one")],
        );
    }
}

#[test]
fn section_4_3_2_a_client_that_has_it_is_told_so() {
    let lab = Lab::plain();
    let changed = "last-modified: Sat, 01 Jan 2000 00:00:00 GMT";
    let tagged = &["cache-control: max-age=60", "etag: \"a\"", changed];
    for (condition, status) in [
        ("if-none-match: \"a\"", 304),
        ("if-none-match: W/\"a\"", 304),
        ("if-none-match: \"b\", \"a\"", 304),
        ("if-none-match: *", 304),
        ("if-none-match: \"b\"", 200),
        ("if-modified-since: Sat, 01 Jan 2000 00:00:00 GMT", 304),
        ("if-modified-since: Saturday, 01-Jan-00 00:00:00 GMT", 304),
        ("if-modified-since: Sun, 01 Jan 2023 00:00:00 GMT", 304),
        ("if-modified-since: Fri, 31 Dec 1999 23:59:59 GMT", 200),
        ("if-modified-since: yesterday", 200),
        (
            "if-none-match: \"b\"\nif-modified-since: Sun, 01 Jan 2023 00:00:00 GMT",
            200,
        ),
    ] {
        let first = get().origin(200, tagged, "one").fetched();
        let mut second = get().with(condition).stored().status(status);
        if status == 304 {
            second = second.has("etag: \"a\"").body("").lacks("content-type");
        }
        lab.holds(condition, [first, second, get().stored().body("one")]);
        // The same of a response that was fetched for this request.
        let fetched = get().with(condition).origin(200, tagged, "one");
        let fetched = fetched.fetched().status(status).unasked("if-none-match");
        lab.holds(condition, [fetched, get().stored().body("one")]);
    }
    let first = get().origin(200, tagged, "one").fetched();
    let strict = get()
        .with("if-match: \"a\"")
        .asks("if-match: \"a\"")
        .fetched();
    lab.holds("if-match is for the origin", [first, strict]);
}

#[test]
fn section_4_3_3_a_new_response_takes_the_place_of_the_old_one() {
    let lab = Lab::plain();
    let stale = &["cache-control: max-age=10", "age: 15", "etag: \"a\""];
    let first = || get().origin(200, stale, "one").fetched();
    let new = get().origin(200, &["cache-control: max-age=60"], "two");
    let steps = [
        first(),
        new.fetched().body("two"),
        get().stored().body("two"),
    ];
    lab.holds("a 200", steps);
    let failed = || get().origin(500, &[], "no").fetched().status(500);
    // The client's own condition is not what is asked.
    let good = get().with("if-none-match: \"b\"").origin(304, &[], "");
    let good = good
        .fetched()
        .asks("if-none-match: \"a\"")
        .status(200)
        .body("one");
    let steps = [first(), failed(), failed(), good];
    lab.holds("a failure", steps);
}

#[test]
fn section_4_3_4_a_304_changes_what_is_stored() {
    let lab = Lab::plain();
    let old = &[
        "cache-control: max-age=10",
        "age: 15",
        "etag: \"a\"",
        "x-one: old",
        "x-one: older",
        "x-two: old",
        "content-type: text/one",
        "content-encoding: old",
        "date: Sat, 01 Jan 2022 00:00:00 GMT",
    ];
    let new = &[
        "cache-control: max-age=60",
        "x-one: new",
        "content-type: text/two",
        "content-encoding: new",
        "content-length: 99",
        "connection: x-two",
        "x-two: hop",
    ];
    let changed = |step: Step| {
        step.body("one")
            .has("x-one: new")
            .has("x-two: old")
            .has("content-type: text/two")
            .has("content-encoding: old")
            .has("content-length: 3")
            .has("cache-control: max-age=60")
    };
    let first = get().origin(200, old, "one").fetched();
    let second = changed(get().origin(304, new, "").fetched()).lacks("age");
    let third = changed(get().stored());
    lab.holds("fields", [first, second, third]);
}

#[test]
fn section_4_3_5_a_head_is_answered_with_what_a_get_has_stored() {
    let lab = Lab::plain();
    let headers = &["cache-control: max-age=60", "x-end: 2"];
    let first = get().origin(200, headers, "one").fetched();
    let head = || {
        ask("HEAD")
            .stored()
            .has("x-end: 2")
            .has("content-length: 3")
            .body("")
    };
    lab.holds("after a get", [first, head()]);
    let first = ask("HEAD").origin(200, headers, "one").fetched().body("");
    lab.holds("before a get", [first, get().stored().body("one"), head()]);
}

#[test]
fn section_4_4_a_change_makes_what_is_stored_of_it_invalid() {
    let lab = Lab::plain();
    let fresh = &["cache-control: max-age=60"];
    let first = || get().origin(200, fresh, "one").fetched();
    for (method, status, invalid) in [
        ("POST", 200, true),
        ("PUT", 204, true),
        ("DELETE", 202, true),
        ("PATCH", 303, true),
        ("M-SEARCH", 200, true),
        ("POST", 404, false),
        ("PUT", 500, false),
        ("OPTIONS", 200, false),
    ] {
        let change = ask(method).origin(status, &[], "").fetched().status(status);
        let then = if invalid {
            get().fetched()
        } else {
            get().stored()
        };
        lab.holds(&format!("{method}: {status}"), [first(), change, then]);
    }
    for name in ["location", "content-location"] {
        let path = lab.path();
        let read = |step: Step, expected| lab.holds_at(&path, name, [step, expected]);
        read(first(), get().stored());
        for (place, invalid) in [
            (format!("http://other.example{path}"), false),
            (format!("{path}?x"), false),
            (path.clone(), true),
        ] {
            let line = format!("{name}: {place}");
            let change = ask("POST").origin(201, &[&line], "").fetched();
            lab.holds(&line, [change]);
            let then = if invalid {
                get().fetched()
            } else {
                get().stored()
            };
            lab.holds_at(&path, &line, [then]);
        }
    }
}

// ---- section 5: fields ------------------------------------------------------------------------------

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn section_5_2_1_a_request_may_ask_for_more_or_less() {
    let lab = Lab::plain();
    for (wish, headers, stored) in [
        (
            "cache-control: max-age=0",
            &["cache-control: max-age=60"][..],
            false,
        ),
        (
            "cache-control: max-age=5",
            &["cache-control: max-age=60", "age: 10"],
            false,
        ),
        (
            "cache-control: max-age=50",
            &["cache-control: max-age=60", "age: 10"],
            true,
        ),
        (
            "cache-control: min-fresh=70",
            &["cache-control: max-age=60"],
            false,
        ),
        (
            "cache-control: min-fresh=5",
            &["cache-control: max-age=60"],
            true,
        ),
        (
            "cache-control: no-cache",
            &["cache-control: max-age=60"],
            false,
        ),
        ("pragma: no-cache", &["cache-control: max-age=60"], false),
        ("pragma: other", &["cache-control: max-age=60"], true),
        (
            "cache-control: max-stale",
            &["cache-control: max-age=10", "age: 15", "etag: \"a\""],
            true,
        ),
        (
            "cache-control: max-stale=2",
            &["cache-control: max-age=10", "age: 15", "etag: \"a\""],
            false,
        ),
        (
            "cache-control: max-stale=60",
            &[
                "cache-control: max-age=10, must-revalidate",
                "age: 15",
                "etag: \"a\"",
            ],
            false,
        ),
        (
            "cache-control: only-if-cached",
            &["cache-control: max-age=60"],
            true,
        ),
    ] {
        let first = get().origin(200, headers, "one").fetched();
        let second = get().with(wish);
        let second = if stored {
            second.stored().body("one")
        } else {
            second.fetched()
        };
        lab.holds(&format!("{wish} and {headers:?}"), [first, second]);
    }
    let nothing = get()
        .with("cache-control: only-if-cached")
        .stored()
        .status(504);
    lab.holds("only-if-cached of nothing", [nothing]);
}

#[test]
fn section_5_2_2_4_no_cache_is_stored_and_asked_about_every_time() {
    let lab = Lab::plain();
    let headers = &["cache-control: max-age=60, no-cache", "etag: \"a\""];
    let first = get().origin(200, headers, "one").fetched();
    let second = || {
        get()
            .origin(304, &[], "")
            .asks("if-none-match: \"a\"")
            .fetched()
            .body("one")
    };
    lab.holds("no-cache", [first, second(), second()]);
}

#[test]
fn rfc_9110_6_6_1_the_date_is_that_of_the_origin() {
    let lab = Lab::plain();
    let then = "date: Sat, 01 Jan 2022 00:00:00 GMT";
    for written in [
        "date: Sat, 01 Jan 2022 00:00:00 GMT",
        "date: Saturday, 01-Jan-22 00:00:00 GMT",
        "date: Sat Jan  1 00:00:00 2022",
    ] {
        let headers = &["cache-control: max-age=2147483647", written, "etag: \"a\""];
        let first = get().origin(200, headers, "one").fetched().has(then);
        let known = get()
            .with("if-none-match: \"a\"")
            .stored()
            .status(304)
            .has(then);
        let part = get()
            .with("range: bytes=0-0")
            .stored()
            .status(206)
            .has(then);
        let parts = get()
            .with("range: bytes=0-0,2-2")
            .stored()
            .status(206)
            .has(then);
        lab.holds(
            written,
            [first, get().stored().has(then), known, part, parts],
        );
    }
    for headers in [
        &["cache-control: max-age=60"][..],
        &["cache-control: max-age=60", "date: no"],
    ] {
        let first = get().origin(200, headers, "one").fetched();
        let answers = lab.holds("no date", [first, get().stored()]);
        for answer in answers {
            assert!(
                answer.header("date").unwrap().ends_with(" GMT"),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn rfc_9110_14_parts_are_served_from_the_whole() {
    let lab = Lab::plain();
    let headers = &["cache-control: max-age=60", "etag: \"a\""];
    let first = get().origin(200, headers, "0123456789");
    let path = lab.path();
    lab.holds_at(&path, "the whole", [first.fetched()]);
    for (range, status, content_range, body) in [
        ("bytes=0-1", 206, "bytes 0-1/10", "01"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=-20", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=8-99", 206, "bytes 8-9/10", "89"),
        ("bytes=10-", 416, "bytes */10", ""),
        ("bytes=-0", 416, "bytes */10", ""),
        ("bytes=2-1", 200, "", "0123456789"),
        ("lines=0-1", 200, "", "0123456789"),
    ] {
        let line = format!("range: {range}");
        let part = get().with(&line).stored().status(status).body(body);
        let part = match content_range {
            "" => part.lacks("content-range"),
            of => part.has(&format!("content-range: {of}")),
        };
        lab.holds_at(&path, range, [part]);
    }
    for (condition, status) in [("\"a\"", 206), ("\"b\"", 200), ("W/\"a\"", 200)] {
        let part = get().with(&format!("range: bytes=0-1\nif-range: {condition}"));
        lab.holds_at(&path, condition, [part.stored().status(status)]);
    }
    let first = get()
        .with("range: bytes=1-2")
        .origin(200, headers, "0123456789");
    let first = first.fetched().status(206).body("12").unasked("range");
    lab.holds(
        "a part of what is not stored",
        [first, get().stored().body("0123456789")],
    );
}

#[test]
fn rfc_9110_15_2_what_comes_before_the_answer_is_sent_on_and_not_stored() {
    let lab = Lab::plain();
    let headers = &["cache-control: max-age=60", "x-end: 2"];
    // With the answer, in one piece.
    let first = get().early("103 Early Hints\r\nlink: </a>\r\nx-early: 1");
    let first = first.origin(200, headers, "one").fetched().lacks("x-early");
    let answers = lab.holds(
        "103",
        [first, get().stored().lacks("x-early").has("x-end: 2")],
    );
    assert_eq!(answers[0].interim, [103]);
    assert!(answers[1].interim.is_empty());
    let first = get()
        .early("102 Processing")
        .origin(200, &[], "one")
        .fetched();
    assert_eq!(lab.holds("102, not stored", [first])[0].interim, [102]);
}

#[test]
fn rfc_9211_the_client_is_told_what_was_done() {
    let lab = Lab::plain();
    let told = |text: &str| format!("cache-status: edgeway; {text}");
    let stale = &[
        "cache-control: max-age=10",
        "age: 15",
        "etag: \"a\"",
        "vary: foo",
    ];
    let fresh = &["cache-control: max-age=60"];
    let first = get()
        .origin(200, stale, "one")
        .fetched()
        .has(&told("fwd=uri-miss; stored"));
    let other = get().with("foo: 1").origin(200, stale, "two").fetched();
    let other = other.has(&told("fwd=vary-miss; stored"));
    let good = get().origin(304, fresh, "").fetched();
    let good = good.has(&told("fwd=stale; fwd-status=304; stored"));
    let reload = get()
        .with("cache-control: no-cache")
        .origin(304, fresh, "")
        .fetched();
    let reload = reload.has(&told("fwd=request; fwd-status=304; stored"));
    let change = ask("POST").fetched().has(&told("fwd=method"));
    lab.holds("one after the other", [first, other, good, reload, change]);
    let first = get()
        .origin(200, &["cache-control: no-store"], "one")
        .fetched();
    lab.holds(
        "no-store",
        [first.has(&told("fwd=uri-miss; detail=no-store"))],
    );
    let first = get().origin(200, fresh, "one").fetched();
    let answers = lab.holds("hit", [first, get().stored()]);
    let hit = answers[1].header("cache-status").unwrap();
    assert!(hit.starts_with("edgeway; hit; ttl="), "{hit}");
}

// ---- the laboratory -----------------------------------------------------------------------------------

/// A request, what the origin would say to it, and what is expected of both.
struct Step {
    method: &'static str,
    query: &'static str,
    headers: Vec<(String, String)>,
    reaction: Reaction,
    fetched: Option<bool>,
    status: Option<u16>,
    body: Option<&'static str>,
    has: Vec<String>,
    lacks: Vec<&'static str>,
    asks: Vec<String>,
    unasked: Vec<&'static str>,
}

/// What the origin does.
#[derive(Clone)]
enum Reaction {
    Answer {
        early: String,
        status: u16,
        headers: String,
        body: String,
    },
    Break,
}

fn get() -> Step {
    ask("GET")
}

fn ask(method: &'static str) -> Step {
    Step {
        method,
        query: "",
        headers: Vec::new(),
        reaction: Reaction::Answer {
            early: String::new(),
            status: 200,
            headers: String::new(),
            body: "another".to_owned(),
        },
        fetched: None,
        status: None,
        body: None,
        has: Vec::new(),
        lacks: Vec::new(),
        asks: Vec::new(),
        unasked: Vec::new(),
    }
}

impl Step {
    fn at(mut self, query: &'static str) -> Self {
        self.query = query;
        self
    }

    /// Lines of the request.
    fn with(mut self, lines: &str) -> Self {
        for line in lines.lines() {
            let (name, value) = line.split_once(':').unwrap();
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    fn origin(mut self, status: u16, headers: &[&str], body: &str) -> Self {
        let before = match self.reaction {
            Reaction::Answer { early, .. } => early,
            Reaction::Break => String::new(),
        };
        self.reaction = Reaction::Answer {
            early: before,
            status,
            headers: headers.iter().map(|line| format!("{line}\r\n")).collect(),
            body: body.to_owned(),
        };
        self
    }

    /// The head of a response before the final one.
    fn early(mut self, head: &str) -> Self {
        if let Reaction::Answer { early, .. } = &mut self.reaction {
            *early = format!("HTTP/1.1 {head}\r\n\r\n");
        }
        self
    }

    fn breaks(mut self) -> Self {
        self.reaction = Reaction::Break;
        self
    }

    fn fetched(mut self) -> Self {
        self.fetched = Some(true);
        self
    }

    fn stored(mut self) -> Self {
        self.fetched = Some(false);
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    fn body(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    /// The client gets this line, and no other of its name.
    fn has(mut self, line: &str) -> Self {
        self.has.push(line.to_owned());
        self
    }

    fn lacks(mut self, name: &'static str) -> Self {
        self.lacks.push(name);
        self
    }

    /// The origin gets this line.
    fn asks(mut self, line: &str) -> Self {
        self.asks.push(line.to_ascii_lowercase());
        self
    }

    /// The origin gets no line of this name.
    fn unasked(mut self, name: &'static str) -> Self {
        self.unasked.push(name);
        self
    }

    fn check(&self, answer: &Answer, asked: &[String], what: &str) {
        let all = format!("{what}\nasked: {asked:?}\nanswer: {answer:?}");
        if let Some(fetched) = self.fetched {
            // A connection that turns out to be closed is no answer: then it is asked once more.
            let once = match self.reaction {
                Reaction::Answer { .. } => asked.len() == 1,
                Reaction::Break => !asked.is_empty(),
            };
            let as_told = if fetched { once } else { asked.is_empty() };
            assert!(as_told, "requests to the origin: {all}");
        }
        if let Some(status) = self.status {
            assert_eq!(answer.status, status, "{all}");
        }
        if let Some(body) = self.body {
            assert_eq!(answer.text(), body, "{all}");
        }
        for line in &self.has {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(answer.header_all(name), [value], "{name}: {all}");
        }
        for name in &self.lacks {
            assert!(answer.header_all(name).is_empty(), "{name}: {all}");
        }
        let asked = asked.concat().to_ascii_lowercase();
        for line in &self.asks {
            assert!(asked.lines().any(|known| known == line), "{line}: {all}");
        }
        for name in &self.unasked {
            let name = format!("{name}:");
            assert!(
                !asked.lines().any(|known| known.starts_with(&name)),
                "{name} {all}"
            );
        }
    }
}

/// A gateway with a cache before an origin that does as it is told.
struct Lab {
    gateway: Gateway,
    origin: Origin,
    paths: Mutex<usize>,
}

impl Lab {
    fn plain() -> Self {
        Self::of("")
    }

    /// With these options of the cache.
    fn of(cache: &str) -> Self {
        let origin = Origin::start();
        let gateway = Gateway::start(&format!(
            "upstreams: {{ origin: {{ endpoints: [{}], max_fails: 0, retries: {{ tries: 1 }} }} }}\n\
             routes: [{{ upstream: origin, cache: {{ {cache} }} }}]\n",
            origin.upstream
        ));
        Self {
            gateway,
            origin,
            paths: Mutex::new(0),
        }
    }

    /// One that nobody has asked for.
    fn path(&self) -> String {
        let mut paths = self.paths.lock().unwrap();
        *paths += 1;
        format!("/{paths}")
    }

    fn holds<const N: usize>(&self, what: &str, steps: [Step; N]) -> Vec<Answer> {
        self.holds_at(&self.path(), what, steps)
    }

    fn holds_at<const N: usize>(&self, path: &str, what: &str, steps: [Step; N]) -> Vec<Answer> {
        let step = |(index, step): (usize, Step)| {
            self.origin.next(step.reaction.clone());
            let target = format!("{path}{}", step.query);
            let mut request = self.gateway.request(step.method, &target);
            for (name, value) in &step.headers {
                request = request.header(name, value);
            }
            let answer = request.send();
            step.check(
                &answer,
                &self.origin.asked(),
                &format!("step {index} of {what}"),
            );
            answer
        };
        steps.into_iter().enumerate().map(step).collect()
    }
}

struct Origin {
    upstream: Upstream,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    reaction: Option<Reaction>,
    asked: Vec<String>,
}

impl Origin {
    fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let of_upstream = Arc::clone(&shared);
        let upstream = Upstream::raw(move |caller| serve(caller, &of_upstream));
        Self { upstream, shared }
    }

    /// What it says next, from now on.
    fn next(&self, reaction: Reaction) {
        let mut shared = self.shared.lock().unwrap();
        shared.reaction = Some(reaction);
    }

    /// The requests since the last look.
    fn asked(&self) -> Vec<String> {
        mem::take(&mut self.shared.lock().unwrap().asked)
    }
}

fn serve(mut caller: Caller, shared: &Mutex<Shared>) {
    while let Some(head) = caller.request() {
        let reaction = {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.asked.push(head.clone());
            shared.reaction.clone()
        };
        let Some(Reaction::Answer {
            early,
            status,
            headers,
            body,
        }) = reaction
        else {
            return;
        };
        let bodiless = matches!(status, 204 | 304);
        let length = match bodiless || headers.contains("content-length") {
            true => String::new(),
            false => format!("content-length: {}\r\n", body.len()),
        };
        let body = if bodiless || head.starts_with("HEAD ") {
            ""
        } else {
            &body
        };
        caller.send(format!(
            "{early}HTTP/1.1 {status} X\r\n{headers}{length}\r\n{body}"
        ));
    }
}
