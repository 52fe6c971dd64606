//! The cases, each with the section that it is from. Without another number, RFC 9111.

#![expect(
    clippy::too_many_lines,
    reason = "tables are as long as what they list"
)]

use super::*;
use crate::cache::policy::{
    condition::{Precondition, precondition},
    directives::ResponseDirectives,
    fields::excluded,
    freshness::{Basis, Stale},
    request::{Use, Wants, Why},
    rules::{Authorization, Cookie, Heuristic, Honour, SetCookie, Windows},
    update::{freshen, selects},
};

fn heuristic() -> Rules {
    Rules {
        heuristic: Some(Heuristic {
            percent: 10,
            longest: seconds(86_400),
        }),
        ..Default::default()
    }
}

fn microcache() -> Rules {
    Rules {
        stale: Windows {
            while_revalidate: seconds(5),
            if_error: seconds(60),
        },
        ..ttl(1, 5)
    }
}

fn cdn() -> Rules {
    Rules {
        targets: vec![HeaderName::from_static("cdn-cache-control")],
        ..Default::default()
    }
}

#[test]
fn section_3_what_may_be_stored() {
    use Reason::*;
    for (case, request, response, reason) in [
        ("3 explicit freshness", "", "Cache-Control: max-age=5", None),
        ("3 expires", "", "Expires: {5}", None),
        ("3 nothing said", "", "", Some(NoLifetime)),
        ("3 nothing but a validator", "", "ETag: \"a\"", None),
        (
            "3 public alone",
            "",
            "Cache-Control: public",
            Some(NoLifetime),
        ),
        (
            "3 stale on arrival, of no use",
            "",
            "Cache-Control: max-age=0",
            Some(Expired),
        ),
        (
            "3 stale on arrival, with a validator",
            "",
            "Cache-Control: max-age=0\nETag: \"a\"",
            None,
        ),
        (
            "5.2.1.5 no-store request",
            "Cache-Control: no-store",
            "Cache-Control: max-age=5",
            Some(RequestNoStore),
        ),
        (
            "5.2.2.5 no-store",
            "",
            "Cache-Control: max-age=5, no-store\nExpires: {5}",
            Some(NoStore),
        ),
        (
            "5.2.2.5 no-store, case",
            "",
            "Cache-Control: max-age=5, No-StOrE",
            Some(NoStore),
        ),
        (
            "5.2.2.5 no-store, line",
            "",
            "Cache-Control: max-age=5\nCache-Control: no-store",
            Some(NoStore),
        ),
        (
            "5.2.2.7 private",
            "",
            "Cache-Control: private, max-age=5",
            Some(Private),
        ),
        (
            "5.2.2.7 private, public",
            "",
            "Cache-Control: public, private, max-age=5",
            Some(Private),
        ),
        (
            "5.2.2.7 private fields",
            "",
            "Cache-Control: private=\"x-user\", max-age=5\nX-User: a",
            None,
        ),
        (
            "5.2.2.4 no-cache",
            "",
            "Cache-Control: no-cache, max-age=5",
            Some(Expired),
        ),
        (
            "5.2.2.4 no-cache, validator",
            "",
            "Cache-Control: no-cache\nETag: \"a\"",
            None,
        ),
        (
            "5.2.2.3 must-understand",
            "",
            "Cache-Control: max-age=5, no-store, must-understand",
            None,
        ),
        (
            "3.5 authorization",
            "Authorization: x",
            "Cache-Control: max-age=5",
            Some(Authorization),
        ),
        (
            "3.5 authorization, expires",
            "Authorization: x",
            "Expires: {5}",
            Some(Authorization),
        ),
        (
            "3.5 public",
            "Authorization: x",
            "Cache-Control: max-age=5, public",
            None,
        ),
        (
            "3.5 must-revalidate",
            "Authorization: x",
            "Cache-Control: max-age=5, must-revalidate",
            None,
        ),
        (
            "3.5 s-maxage",
            "Authorization: x",
            "Cache-Control: s-maxage=5",
            None,
        ),
        (
            "3.5 proxy-revalidate",
            "Authorization: x",
            "Cache-Control: max-age=5, proxy-revalidate",
            Some(Authorization),
        ),
        (
            "4.1 vary",
            "",
            "Cache-Control: max-age=5\nVary: Accept",
            None,
        ),
        (
            "4.1 vary star",
            "",
            "Cache-Control: max-age=5\nVary: *",
            Some(Vary),
        ),
        (
            "4.1 vary star in a list",
            "",
            "Cache-Control: max-age=5\nVary: Accept\nVary: , *",
            Some(Vary),
        ),
        (
            "cookie set",
            "",
            "Cache-Control: max-age=5\nSet-Cookie: a=b",
            Some(SetCookie),
        ),
        (
            "cookie set, public",
            "",
            "Cache-Control: max-age=5, public\nSet-Cookie: a=b",
            Some(SetCookie),
        ),
        (
            "cookie set, withheld",
            "",
            "Cache-Control: max-age=5, private=\"set-COOKIE\"\nSet-Cookie: a=b",
            None,
        ),
        (
            "cookie sent, lifetime stated",
            "Cookie: a=b",
            "Cache-Control: max-age=5",
            Some(Cookie),
        ),
        (
            "cookie sent, said to be shared",
            "Cookie: a=b",
            "Cache-Control: max-age=5, public",
            None,
        ),
        (
            "cookie sent, only a validator",
            "Cookie: a=b",
            "ETag: \"a\"",
            Some(Cookie),
        ),
    ] {
        assert_eq!(refused(request, response), reason, "{case}");
    }
}

#[test]
fn section_3_methods() {
    let fresh = ok("Cache-Control: max-age=5, public");
    for method in [Method::HEAD, Method::POST, Method::OPTIONS, Method::DELETE] {
        let verdict = verdict(&with_method(&method, ""), &fresh, &Rules::default());
        assert_eq!(verdict, Verdict::Not(Reason::Method), "{method}");
    }
}

#[test]
fn a_stream_of_events_is_not_stored_unless_it_says_so() {
    let rules = ttl(1, 5);
    for kind in [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "multipart/x-mixed-replace;boundary=x",
    ] {
        let stream = |more: &str| ok(&format!("Content-Type: {kind}\n{more}"));
        let verdict = |response| verdict(&get(""), &response, &rules);
        assert_eq!(verdict(stream("")), Verdict::Not(Reason::Stream), "{kind}");
        let stated = verdict(stream("Cache-Control: max-age=5"));
        assert!(matches!(stated, Verdict::Store(_)), "{kind}: {stated:?}");
    }
    // Whoever asks for it next is not given it either.
    assert!(!Reason::is_of_request(Reason::Stream.as_str()));
    let other = verdict(&get(""), &ok("Content-Type: text/event-streams"), &rules);
    assert!(matches!(other, Verdict::Store(_)), "{other:?}");
}

#[test]
fn section_3_statuses() {
    let reason = |status, lines, rules: &Rules| match verdict(
        &get(""),
        &with_status(status, lines),
        rules,
    ) {
        Verdict::Store(_) => None,
        Verdict::Not(reason) => Some(reason),
    };
    let strict = Rules::default();
    let fresh = "Cache-Control: max-age=5";
    for status in [
        200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599,
    ] {
        assert_eq!(reason(status, fresh, &strict), None, "{status}");
    }
    for status in [100, 103, 206, 304, 407, 412, 416] {
        assert_eq!(
            reason(status, fresh, &strict),
            Some(Reason::Status),
            "{status}"
        );
    }
    let understand = "Cache-Control: max-age=5, must-understand, no-store";
    assert_eq!(reason(404, understand, &strict), None);
    assert_eq!(
        reason(599, understand, &strict),
        Some(Reason::NotUnderstood)
    );
    assert_eq!(
        reason(599, "Cache-Control: max-age=5, must-understand", &strict),
        Some(Reason::NotUnderstood)
    );
    // 9110 15.1: what may be stored although nothing says so.
    for (status, stored) in [
        (200, true),
        (201, false),
        (202, false),
        (203, true),
        (204, true),
        (300, true),
        (301, true),
        (302, false),
        (308, true),
        (403, false),
        (404, true),
        (405, true),
        (410, true),
        (414, true),
        (500, false),
        (501, true),
        (502, false),
        (503, false),
        (504, false),
        (599, false),
    ] {
        let guess = reason(status, "Last-Modified: {-86400}\nDate: {0}", &heuristic());
        assert_eq!(guess.is_none(), stored, "{status}");
        assert_eq!(
            reason(status, "ETag: \"a\"", &strict).is_none(),
            stored,
            "{status}"
        );
    }
    assert_eq!(
        reason(
            599,
            "Cache-Control: public\nLast-Modified: {-86400}",
            &heuristic()
        ),
        None
    );
}

#[test]
fn a_route_grants_lifetimes_by_status_only_where_nothing_is_said() {
    let rules = ttl(1, 5);
    let lifetime = |status, lines| {
        let verdict = verdict(&get(""), &with_status(status, lines), &rules);
        verdict
            .freshness()
            .map(|freshness| (freshness.basis, freshness.lifetime))
    };
    assert_eq!(lifetime(200, ""), Some((Basis::Ttl, seconds(1))));
    assert_eq!(lifetime(404, ""), Some((Basis::Ttl, seconds(5))));
    assert_eq!(lifetime(500, ""), None);
    assert_eq!(
        lifetime(200, "Cache-Control: max-age=7"),
        Some((Basis::MaxAge, seconds(7)))
    );
    assert_eq!(lifetime(200, "Cache-Control: max-age=0"), None);
    assert_eq!(lifetime(200, "Expires: 0"), None);
    assert_eq!(lifetime(200, "Cache-Control: no-cache"), None);
    for personal in ["Cookie: session=1", "Authorization: Bearer 1"] {
        assert!(
            verdict(&get(personal), &ok(""), &rules)
                .freshness()
                .is_none(),
            "{personal}"
        );
    }
    assert!(
        verdict(&get(""), &ok("Set-Cookie: a=b"), &rules)
            .freshness()
            .is_none()
    );
    assert!(
        verdict(&get(""), &ok("Cache-Control: private"), &rules)
            .freshness()
            .is_none()
    );
}

#[test]
fn a_route_may_say_that_its_key_tells_users_apart() {
    let rules = Rules {
        authorization: Authorization::Keyed,
        cookie: Cookie::Ignored,
        ..ttl(1, 5)
    };
    let personal = get("Authorization: x\nCookie: y");
    assert!(verdict(&personal, &ok(""), &rules).freshness().is_some());
}

#[test]
fn a_cookie_is_stored_only_if_both_the_route_and_the_response_say_so() {
    let rules = Rules {
        set_cookie: SetCookie::Shared,
        ..ttl(1, 5)
    };
    for (directives, stored) in [
        ("max-age=5", false),
        ("max-age=5, must-revalidate", false),
        ("max-age=5, public", true),
        ("s-maxage=5", true),
        ("public", true),
    ] {
        let response = ok(&format!("Cache-Control: {directives}\nSet-Cookie: a=b"));
        assert_eq!(
            verdict(&get(""), &response, &rules).freshness().is_some(),
            stored,
            "{directives}"
        );
    }
}

#[test]
fn section_3_1_fields_that_are_not_stored() {
    let mut headers = fields(
        "Connection: a, Keep-Alive, vary
         A: 1
         B: 2
         Keep-Alive: x
         Proxy-Authenticate: x
         Proxy-Authentication-Info: x
         Proxy-Authorization: x
         Proxy-Connection: x
         TE: x
         Transfer-Encoding: chunked
         Upgrade: x
         Vary: b
         Cache-Control: no-cache=\"C, d\", private=e, max-age=5
         C: 3
         D: 4
         E: 5
         Unheard-Of: x",
    );
    let directives = ResponseDirectives::of(&headers, &[]);
    for name in excluded(&headers, &directives) {
        headers.remove(name);
    }
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "cache-control", "unheard-of", "vary"]);
}

#[test]
fn section_4_2_1_freshness_lifetimes() {
    use Basis::*;
    for (case, response, basis, lifetime) in [
        ("max-age", "Cache-Control: max-age=3600", MaxAge, 3600),
        (
            "s-maxage wins",
            "Cache-Control: max-age=1, s-maxage=3600",
            SMaxage,
            3600,
        ),
        (
            "s-maxage wins, shorter",
            "Cache-Control: s-maxage=1\nCache-Control: max-age=3600",
            SMaxage,
            1,
        ),
        (
            "s-maxage wins over expires",
            "Expires: {-10}\nCache-Control: max-age=0, s-maxage=9",
            SMaxage,
            9,
        ),
        (
            "max-age wins over expires",
            "Cache-Control: max-age=9\nExpires: {-7200}\nDate: {0}",
            MaxAge,
            9,
        ),
        (
            "max-age wins over no date",
            "Cache-Control: max-age=9\nExpires: 0",
            MaxAge,
            9,
        ),
        (
            "max-age 0 wins over expires",
            "Cache-Control: max-age=0\nExpires: {3600}\nETag: \"a\"",
            MaxAge,
            0,
        ),
        (
            "no-cache wins over max-age",
            "Cache-Control: max-age=9, no-cache\nETag: \"a\"",
            MaxAge,
            0,
        ),
        (
            "expires less date",
            "Expires: {3600}\nDate: {-10}",
            Expires,
            3610,
        ),
        ("expires without date", "Expires: {10}", Expires, 10),
        (
            "expires, date is none",
            "Expires: {10}\nDate: foo",
            Expires,
            10,
        ),
        (
            "expires before date",
            "Expires: {300}\nDate: {400}\nETag: \"a\"",
            Expires,
            0,
        ),
        (
            "expires now",
            "Expires: {0}\nDate: {0}\nETag: \"a\"",
            Expires,
            0,
        ),
        ("5.3 expires 0", "Expires: 0\nETag: \"a\"", Expires, 0),
        (
            "5.3 expires no date",
            "Expires: Thu, 18 Aug 2050 02:01:18 UTC\nETag: \"a\"",
            Expires,
            0,
        ),
        (
            "5.3 of two the first",
            "Expires: {5}\nExpires: {500}",
            Expires,
            5,
        ),
        (
            "1.2.2 too large",
            "Cache-Control: max-age=99999999999",
            MaxAge,
            1 << 31,
        ),
        (
            "invalid is stale",
            "Cache-Control: max-age=a\nExpires: {9}\nETag: \"a\"",
            MaxAge,
            0,
        ),
        (
            "5.4 pragma in a response says nothing",
            "Cache-Control: max-age=9\nPragma: no-cache",
            MaxAge,
            9,
        ),
    ] {
        let freshness = freshness(response, &Rules::default());
        assert_eq!(
            (freshness.basis, freshness.lifetime),
            (basis, seconds(lifetime)),
            "{case}"
        );
    }
}

#[test]
fn section_4_2_2_heuristic_freshness() {
    let lifetime = |response| {
        let freshness = freshness(response, &heuristic());
        (freshness.basis, freshness.lifetime)
    };
    let modified = "Last-Modified: {-1000}\nDate: {0}";
    assert_eq!(lifetime(modified), (Basis::Heuristic, seconds(100)));
    assert_eq!(
        lifetime("Last-Modified: {-1000}"),
        (Basis::Heuristic, seconds(100))
    );
    assert_eq!(
        lifetime("Last-Modified: {-99999999}"),
        (Basis::Heuristic, seconds(86_400))
    );
    // Not where something is said, not with a date in the future, and not unless it is asked for.
    assert_eq!(
        lifetime("Last-Modified: {-1000}\nExpires: {0}").0,
        Basis::Expires
    );
    assert_eq!(lifetime("Last-Modified: {1000}").0, Basis::Validator);
    assert_eq!(
        freshness(modified, &Rules::default()).basis,
        Basis::Validator
    );
    // The route comes first.
    let both = Rules {
        ttl: ttl(1, 5).ttl,
        ..heuristic()
    };
    assert_eq!(freshness(modified, &both).basis, Basis::Ttl);
}

#[test]
fn section_4_2_3_age() {
    // The times at which it was asked for and came, and the age at 100.
    for (case, response, requested, received, age) in [
        ("resident", "", 0, 0, 100),
        ("delay counts", "Date: {10}", 0, 10, 100),
        (
            "age counts from the request",
            "Age: 30\nDate: {10}",
            0,
            10,
            130,
        ),
        (
            "an old date counts, less a second",
            "Date: {-50}",
            0,
            0,
            149,
        ),
        ("the larger of both", "Date: {-50}\nAge: 200", 0, 0, 300),
        (
            "the larger of both, date",
            "Date: {-50}\nAge: 20",
            0,
            0,
            149,
        ),
        (
            "a date in the future counts nothing",
            "Date: {500}",
            0,
            0,
            100,
        ),
        ("no date", "Date: x", 0, 0, 100),
        ("a clock set back during the fetch", "", 10, 0, 100),
        ("5.1 no number is ignored", "Age: abc\nDate: {0}", 0, 0, 100),
        ("5.1 below zero is ignored", "Age: -7200", 0, 0, 100),
        ("5.1 a fraction is ignored", "Age: 7200.0", 0, 0, 100),
        ("5.1 the first of a list", "Age: 7200, 0", 0, 0, 7300),
        ("5.1 the first of a list, 0", "Age: 0, 7200", 0, 0, 100),
        ("5.1 the first line", "Age: 7200\nAge: 0", 0, 0, 7300),
        ("5.1 the first line, 0", "Age: 0\nAge: 7200", 0, 0, 100),
        (
            "1.2.2 too large",
            "Age: 99999999999999999999",
            0,
            0,
            (1 << 31) + 100,
        ),
    ] {
        let response = ok(&format!(
            "Cache-Control: max-age=5\nETag: \"a\"\n{response}"
        ));
        let timing = Timing {
            requested: at(requested),
            received: at(received),
        };
        let verdict = storable(asked(&get("")), &response, timing, &Rules::default());
        let freshness = verdict.freshness().expect("it has a validator");
        assert_eq!(freshness.age(at(100)), seconds(age), "{case}");
        assert_eq!(
            freshness.age_value(at(100)),
            HeaderValue::from(age.min(1 << 31)),
            "{case}"
        );
        assert_eq!(
            freshness.age(at(-9000)),
            freshness.initial_age,
            "{case}: clock set back"
        );
    }
}

#[test]
fn section_4_2_fresh_or_not() {
    for (case, response, fresh_at, stale_at) in [
        ("max-age", "Cache-Control: max-age=10", 9, 10),
        ("age", "Cache-Control: max-age=10\nAge: 4", 5, 6),
        (
            "age above",
            "Cache-Control: max-age=3600\nAge: 7200\nETag: \"a\"",
            -1,
            0,
        ),
        (
            "date",
            "Cache-Control: max-age=3600\nDate: {-7200}\nETag: \"a\"",
            -1,
            0,
        ),
        (
            "expires, slow date",
            "Date: {-10}\nExpires: {10}\nAge: 25\nETag: \"a\"",
            -1,
            0,
        ),
        (
            "expires, fast date",
            "Date: {10}\nExpires: {20}\nAge: 15\nETag: \"a\"",
            -1,
            0,
        ),
    ] {
        let freshness = freshness(response, &Rules::default());
        assert_eq!(freshness.is_fresh(at(fresh_at)), fresh_at >= 0, "{case}");
        assert!(!freshness.is_fresh(at(stale_at)), "{case}");
        assert!(freshness.ttl(at(stale_at)) < 0, "{case}");
    }
    let freshness = freshness("Cache-Control: max-age=10", &Rules::default());
    assert_eq!(
        (
            freshness.ttl(at(3)),
            freshness.ttl(at(10)),
            freshness.ttl(at(15))
        ),
        (7, -1, -5)
    );
}

#[test]
fn what_a_route_grants_is_granted_from_the_arrival() {
    let timing = Timing {
        requested: now(),
        received: at(2),
    };
    let response = ok("Age: 500\nDate: {-500}");
    let verdict = storable(asked(&get("")), &response, timing, &ttl(1, 5));
    let freshness = verdict.freshness().unwrap();
    assert!(freshness.is_fresh(at(2) + Duration::from_millis(999)));
    assert!(!freshness.is_fresh(at(3)));
}

#[test]
fn a_date_that_is_cut_to_the_second_takes_no_lifetime_away() {
    let received = now() + Duration::from_millis(950);
    let timing = Timing {
        requested: received,
        received,
    };
    let verdict = storable(
        asked(&get("")),
        &ok("Cache-Control: max-age=1\nDate: {0}"),
        timing,
        &Rules::default(),
    );
    assert!(
        verdict
            .freshness()
            .unwrap()
            .is_fresh(received + Duration::from_millis(999))
    );
}

#[test]
fn section_4_2_4_stale() {
    let none = Stale::For(Windows::default());
    let windows = |while_revalidate, if_error| {
        Stale::For(Windows {
            while_revalidate: seconds(while_revalidate),
            if_error: seconds(if_error),
        })
    };
    for (case, response, rules, stale) in [
        (
            "nothing said",
            "Cache-Control: max-age=2",
            Rules::default(),
            none,
        ),
        (
            "5861",
            "Cache-Control: max-age=2, stale-while-revalidate=3, stale-if-error=4",
            Rules::default(),
            windows(3, 4),
        ),
        (
            "5861 invalid",
            "Cache-Control: max-age=2, stale-while-revalidate=x, stale-if-error",
            Rules::default(),
            none,
        ),
        ("route", "", microcache(), windows(5, 60)),
        (
            "route, lifetime stated",
            "Cache-Control: max-age=2",
            microcache(),
            windows(0, 60),
        ),
        (
            "route, never fresh",
            "Cache-Control: max-age=0\nETag: \"a\"",
            microcache(),
            none,
        ),
        (
            "route, said otherwise",
            "Cache-Control: stale-while-revalidate=0, stale-if-error=0",
            microcache(),
            none,
        ),
        (
            "must-revalidate",
            "Cache-Control: must-revalidate",
            microcache(),
            Stale::Never,
        ),
        (
            "proxy-revalidate",
            "Cache-Control: proxy-revalidate, stale-if-error=9",
            microcache(),
            Stale::Never,
        ),
        (
            "no-cache",
            "Cache-Control: no-cache\nETag: \"a\"",
            microcache(),
            Stale::Never,
        ),
        (
            "s-maxage",
            "Cache-Control: s-maxage=2, stale-while-revalidate=9",
            microcache(),
            Stale::Never,
        ),
    ] {
        assert_eq!(freshness(response, &rules).stale, stale, "{case}");
    }
    let kept = freshness("", &microcache()).useful_until();
    assert_eq!(kept, at(61));
}

#[test]
fn section_5_2_1_requests() {
    use Use::*;
    let request = |or_stored| Validate {
        why: Why::Request,
        or_stored,
    };
    let stale = |or_stored| Validate {
        why: Why::Stale,
        or_stored,
    };
    let plain = "Cache-Control: max-age=10";
    let windows = "Cache-Control: max-age=10, stale-while-revalidate=5, stale-if-error=60";
    let strict = "Cache-Control: max-age=10, must-revalidate";
    for (case, wanted, response, at_second, expected) in [
        ("4 fresh", "", plain, 9, Serve),
        ("4 stale", "", plain, 11, stale(false)),
        ("4.2.4 stale at once", "", plain, 10, stale(true)),
        ("5861 while revalidate", "", windows, 15, Refresh),
        ("5861 while revalidate, over", "", windows, 16, stale(true)),
        ("5861 if error, over", "", windows, 71, stale(false)),
        (
            "5861 if error, of the request",
            "stale-if-error=90",
            windows,
            71,
            stale(true),
        ),
        (
            "5861 if error, forbidden",
            "stale-if-error=90",
            strict,
            11,
            stale(false),
        ),
        ("5.2.1.1 max-age", "max-age=5", plain, 5, Serve),
        ("5.2.1.1 max-age over", "max-age=5", plain, 6, request(true)),
        ("5.2.1.1 max-age 0", "max-age=0", plain, 1, request(true)),
        (
            "5.2.1.1 nothing stale",
            "max-age=99",
            windows,
            11,
            stale(true),
        ),
        (
            "5.2.1.1 with max-stale",
            "max-age=99, max-stale=3",
            windows,
            11,
            ServeStale,
        ),
        ("5.2.1.2 max-stale", "max-stale=5", plain, 15, ServeStale),
        (
            "5.2.1.2 max-stale over",
            "max-stale=5",
            plain,
            16,
            stale(false),
        ),
        (
            "5.2.1.2 max-stale any",
            "max-stale",
            plain,
            999_999,
            ServeStale,
        ),
        (
            "5.2.1.2 max-stale forbidden",
            "max-stale",
            strict,
            11,
            stale(false),
        ),
        ("5.2.1.3 min-fresh", "min-fresh=5", plain, 5, Serve),
        (
            "5.2.1.3 min-fresh, less",
            "min-fresh=5",
            plain,
            6,
            request(true),
        ),
        ("5.2.1.4 no-cache", "no-cache", plain, 1, request(true)),
        (
            "5.2.1.4 no-cache, stale",
            "no-cache",
            windows,
            12,
            stale(true),
        ),
        ("5.2.1.5 no-store", "no-store", plain, 1, Serve),
        ("5.2.1.7 only-if-cached", "only-if-cached", plain, 1, Serve),
        (
            "5.2.1.7 only-if-cached, stale",
            "only-if-cached",
            plain,
            11,
            Refuse,
        ),
        (
            "5.2.1.7 only-if-cached, stale allowed",
            "only-if-cached, max-stale=5",
            plain,
            11,
            ServeStale,
        ),
    ] {
        let headers = fields(&match wanted {
            "" => String::new(),
            wanted => format!("Cache-Control: {wanted}"),
        });
        let stored = freshness(response, &Rules::default());
        let judged = Wants::of(&headers, Honour::default()).judge(&stored, at(at_second));
        assert_eq!(judged, expected, "{case}");
    }
}

#[test]
fn a_route_may_ignore_what_requests_say() {
    let ignore = Honour {
        no_store: false,
        reload: false,
        stale: false,
        only_if_cached: false,
    };
    let headers = fields(
        "Cache-Control: no-cache, no-store, max-age=0, min-fresh=99, only-if-cached, max-stale, stale-if-error=99",
    );
    let wants = Wants::of(&headers, ignore);
    let stored = freshness("Cache-Control: max-age=10", &Rules::default());
    assert_eq!(wants.judge(&stored, at(1)), Use::Serve);
    assert_eq!(
        wants.judge(&stored, at(11)),
        Use::Validate {
            why: Why::Stale,
            or_stored: false
        }
    );
    assert!(!wants.no_store() && !wants.only_if_cached());
    let rules = Rules {
        honour: ignore,
        ..Default::default()
    };
    let request = get("Cache-Control: no-store");
    assert!(
        verdict(&request, &ok("Cache-Control: max-age=5"), &rules)
            .freshness()
            .is_some()
    );
}

#[test]
fn section_4_3_2_conditions() {
    use Precondition::*;
    for (case, request, response, outcome) in [
        ("none", "", "ETag: \"a\"", Met),
        (
            "9110 13.1.2 the same tag",
            "If-None-Match: \"a\"",
            "ETag: \"a\"",
            NotModified,
        ),
        (
            "9110 13.1.2 another tag",
            "If-None-Match: \"b\"",
            "ETag: \"a\"",
            Met,
        ),
        ("9110 13.1.2 no tag stored", "If-None-Match: \"b\"", "", Met),
        (
            "9110 13.1.2 first of a list",
            "If-None-Match: \"a\", \"1\", \"2\"",
            "ETag: \"a\"",
            NotModified,
        ),
        (
            "9110 13.1.2 inside a list",
            "If-None-Match: \"1\",\"a\" , \"2\"",
            "ETag: \"a\"",
            NotModified,
        ),
        (
            "9110 13.1.2 last of lines",
            "If-None-Match: \"1\"\nIf-None-Match: \"a\"",
            "ETag: \"a\"",
            NotModified,
        ),
        ("9110 13.1.2 any", "If-None-Match: *", "", NotModified),
        (
            "9110 8.8.3.2 weak and weak",
            "If-None-Match: W/\"a\"",
            "ETag: W/\"a\"",
            NotModified,
        ),
        (
            "9110 8.8.3.2 weak and strong",
            "If-None-Match: W/\"a\"",
            "ETag: \"a\"",
            NotModified,
        ),
        (
            "9110 8.8.3 a comma inside",
            "If-None-Match: \"a,b\"",
            "ETag: \"a,b\"",
            NotModified,
        ),
        (
            "9110 8.8.3 half of a comma",
            "If-None-Match: \"a,b\"",
            "ETag: \"a",
            Met,
        ),
        (
            "9110 8.8.3 a backslash",
            "If-None-Match: \"a\\\", \"b\"",
            "ETag: \"b\"",
            NotModified,
        ),
        (
            "9110 8.8.3 obs-text",
            "If-None-Match: \"\u{fc}\"",
            "ETag: \"\u{fc}\"",
            NotModified,
        ),
        (
            "9110 8.8.3 without quotes",
            "If-None-Match: a",
            "ETag: a",
            NotModified,
        ),
        (
            "9110 8.8.3 quotes on one side",
            "If-None-Match: a",
            "ETag: \"a\"",
            Met,
        ),
        (
            "9110 13.2.2 tag before date, same",
            "If-None-Match: \"a\"\nIf-Modified-Since: {-9}",
            "ETag: \"a\"\nLast-Modified: {-5}",
            NotModified,
        ),
        (
            "9110 13.2.2 tag before date, other",
            "If-None-Match: \"b\"\nIf-Modified-Since: {0}",
            "ETag: \"a\"\nLast-Modified: {-5}",
            Met,
        ),
        (
            "9110 13.1.3 the same date",
            "If-Modified-Since: {-5}",
            "Last-Modified: {-5}",
            NotModified,
        ),
        (
            "9110 13.1.3 a later date",
            "If-Modified-Since: {-4}",
            "Last-Modified: {-5}",
            NotModified,
        ),
        (
            "9110 13.1.3 an earlier date",
            "If-Modified-Since: {-6}",
            "Last-Modified: {-5}",
            Met,
        ),
        (
            "9110 13.1.3 no date",
            "If-Modified-Since: x",
            "Last-Modified: {-5}",
            Met,
        ),
        (
            "9110 13.1.3 another form",
            "If-Modified-Since: Saturday, 14-Nov-26 23:59:59 GMT",
            "Last-Modified: {-1}",
            NotModified,
        ),
        (
            "4.3.2 no Last-Modified, Date",
            "If-Modified-Since: {-5}",
            "Date: {-5}",
            NotModified,
        ),
        (
            "4.3.2 no Last-Modified, Date later",
            "If-Modified-Since: {-5}",
            "Date: {-4}",
            Met,
        ),
        (
            "4.3.2 neither: when it came",
            "If-Modified-Since: {0}",
            "",
            NotModified,
        ),
        (
            "4.3.2 neither: before it came",
            "If-Modified-Since: {-1}",
            "",
            Met,
        ),
        (
            "4.3.2 If-Match",
            "If-Match: \"a\"\nIf-None-Match: \"a\"",
            "ETag: \"a\"",
            Origin,
        ),
        (
            "4.3.2 If-Unmodified-Since",
            "If-Unmodified-Since: {0}",
            "Last-Modified: {-5}",
            Origin,
        ),
    ] {
        let headers = fields(response);
        assert_eq!(
            precondition(&get(request), stored(&headers)),
            outcome,
            "{case}"
        );
    }
    let tagged = fields("ETag: \"a\"");
    let missing = Stored {
        status: StatusCode::NOT_FOUND,
        ..stored(&tagged)
    };
    assert_eq!(precondition(&get("If-None-Match: \"a\""), missing), Met);
}

#[test]
fn section_4_3_4_which_is_freshened() {
    for (case, known, answer, selected) in [
        ("the same strong tag", "ETag: \"a\"", "ETag: \"a\"", true),
        ("another strong tag", "ETag: \"a\"", "ETag: \"b\"", false),
        (
            "a strong tag of a weak one",
            "ETag: W/\"a\"",
            "ETag: \"a\"",
            false,
        ),
        (
            "a weak tag of a strong one",
            "ETag: \"a\"",
            "ETag: W/\"a\"",
            true,
        ),
        ("another weak tag", "ETag: W/\"a\"", "ETag: W/\"b\"", false),
        (
            "a tag where there was none",
            "Last-Modified: {0}",
            "ETag: \"a\"",
            false,
        ),
        (
            "the same date",
            "Last-Modified: {0}",
            "Last-Modified: {0}",
            true,
        ),
        (
            "another date",
            "Last-Modified: {0}",
            "Last-Modified: {1}",
            false,
        ),
        (
            "a date where there was none",
            "ETag: \"a\"",
            "Last-Modified: {1}",
            false,
        ),
        ("no validator", "ETag: \"a\"", "", true),
    ] {
        assert_eq!(selects(&fields(known), &fields(answer)), selected, "{case}");
    }
}

#[test]
fn section_3_2_what_a_304_changes() {
    let mut headers = fields(
        "ETag: \"a\"
         Date: {-100}
         Age: 50
         Cache-Control: max-age=1
         Content-Length: 36
         Content-Encoding: gzip
         Content-Type: text/plain
         Kept: 1
         Test-Header: A
         Test-Header: B",
    );
    let received = fields(
        "ETag: \"a\"
         Date: {0}
         Cache-Control: max-age=3600, private=\"x-user\"
         Content-Length: 10
         Content-Encoding: br
         Content-Range: bytes 0-1/2
         Content-Type: text/html
         Content-Foo: x
         Test-Header: C
         X-User: me
         Set-Cookie: a=b
         Connection: x-hop
         X-Hop: 1
         Keep-Alive: 1",
    );
    let directives = ResponseDirectives::of(&received, &[]);
    freshen(&mut headers, &received, &directives, now());
    let expected = fields(
        "ETag: \"a\"
         Date: {0}
         Cache-Control: max-age=3600, private=\"x-user\"
         Content-Length: 36
         Content-Encoding: gzip
         Content-Type: text/html
         Content-Foo: x
         Kept: 1
         Test-Header: C",
    );
    assert_eq!(headers, expected);
    // An age or a date of before would make it old again.
    let bare = HeaderMap::new();
    let mut headers = fields("Date: {-100}\nAge: 50");
    freshen(&mut headers, &bare, &ResponseDirectives::default(), at(7));
    assert_eq!(headers, fields("Date: {7}"));
}

#[test]
fn rfc_9213_a_targeted_field_replaces_cache_control() {
    for (case, response, stored) in [
        ("2.2 alone", "CDN-Cache-Control: max-age=3600", true),
        (
            "2.2 over no-store",
            "Cache-Control: no-store\nCDN-Cache-Control: max-age=3600",
            true,
        ),
        (
            "2.2 over Expires",
            "CDN-Cache-Control: max-age=3600\nExpires: 0",
            true,
        ),
        (
            "2.2 no-store",
            "CDN-Cache-Control: no-store\nCache-Control: max-age=3600",
            false,
        ),
        (
            "2.2 private",
            "CDN-Cache-Control: private\nCache-Control: max-age=3600",
            false,
        ),
        (
            "2.2 no-cache",
            "CDN-Cache-Control: no-cache\nCache-Control: max-age=3600",
            false,
        ),
        (
            "2.2 zero",
            "CDN-Cache-Control: max-age=0\nCache-Control: max-age=3600\nExpires: {9}",
            false,
        ),
        (
            "2.2 says nothing of freshness",
            "CDN-Cache-Control: foo\nExpires: {9}",
            false,
        ),
        (
            "2.1 invalid",
            "CDN-Cache-Control: max-age=3600, &&\nCache-Control: no-store",
            false,
        ),
        (
            "2.1 wrong type",
            "CDN-Cache-Control: max-age=\"3600\"\nCache-Control: no-store",
            false,
        ),
        (
            "2.1 empty",
            "CDN-Cache-Control:\nCache-Control: max-age=3600",
            true,
        ),
        (
            "4.2 too old",
            "CDN-Cache-Control: max-age=3600\nAge: 7200",
            false,
        ),
    ] {
        assert_eq!(
            verdict(&get(""), &ok(response), &cdn())
                .freshness()
                .is_some(),
            stored,
            "{case}"
        );
    }
    // Without a list of targets it says nothing.
    assert_eq!(
        refused("", "CDN-Cache-Control: no-store\nCache-Control: max-age=5"),
        None
    );
}
