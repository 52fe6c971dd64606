//! How the requests of a session find their endpoint again.

use std::{collections::BTreeSet, thread, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use edgeway_tests::{Answer, Connection, Endpoint, Gateway, PATIENCE, Reaction, eventually};

use crate::balancing::{configuration, endpoint, endpoints, gateway, list};

const SECRET: &str = "a-secret-that-nobody-guesses";

/// A gateway whose sessions go by a cookie that is called `sid`.
fn by_cookie<'e>(endpoints: impl IntoIterator<Item = &'e Endpoint>, more: &str) -> Gateway {
    gateway(&with_cookie(&list(endpoints), more))
}

fn with_cookie(endpoints: &str, more: &str) -> String {
    format!(
        "endpoints: {endpoints}, fail_timeout: 200ms, sticky: {{ cookie: {{ name: sid, secret: {SECRET}{more} }} }}"
    )
}

/// A session cookie as the client was told it.
#[derive(Debug)]
struct Given {
    /// `name=value`, as it is sent back.
    pair: String,
    attributes: BTreeSet<String>,
}

/// The session cookie of an answer, if it has one.
#[track_caller]
fn given(answer: &Answer) -> Option<Given> {
    let line = answer.header("Set-Cookie")?;
    let mut parts = line.split("; ").map(str::to_owned);
    let pair = parts.next().unwrap();
    Some(Given {
        pair,
        attributes: parts.collect(),
    })
}

#[track_caller]
fn new_session(gateway: &Gateway) -> (String, Given) {
    let answer = gateway.get("/");
    let given = given(&answer).expect("a cookie for whom has none");
    (endpoint(&answer), given)
}

/// A session with the endpoint of this name.
#[track_caller]
fn session_with(gateway: &Gateway, wanted: &str) -> String {
    for _ in 0..50 {
        let (home, given) = new_session(gateway);
        if home == wanted {
            return given.pair;
        }
    }
    panic!("no session with `{wanted}` in 50");
}

fn with(gateway: &Gateway, cookie: &str) -> Answer {
    gateway.request("GET", "/").header("Cookie", cookie).send()
}

/// Who answers so many requests of a session that is told nothing new meanwhile.
#[track_caller]
fn stays(gateway: &Gateway, cookie: &str, requests: usize) -> String {
    let mut connection = gateway.connect();
    let mut ask = || {
        let answer = connection
            .request("GET", "/")
            .header("Cookie", cookie)
            .send();
        assert_eq!(answer.header("Set-Cookie"), None, "it knows");
        endpoint(&answer)
    };
    let home = ask();
    for _ in 1..requests {
        assert_eq!(ask(), home);
    }
    home
}

fn attributes(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(ToString::to_string).collect()
}

// ---- the cookie -------------------------------------------------------------------------------

/// #51
#[test]
fn there_are_no_sessions_unless_they_are_wanted() {
    let all: [Endpoint; 2] = endpoints();
    let gateway = gateway(&format!("endpoints: {}", list(&all)));
    for _ in 0..4 {
        assert_eq!(with(&gateway, "sid=1").header("Set-Cookie"), None);
    }
    assert_eq!((all[0].requests(), all[1].requests()), (2, 2));
}

/// #52
#[test]
fn a_cookie_leads_back_to_its_endpoint_every_time() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = by_cookie(&all, "");
    let mut homes = BTreeSet::new();
    for _ in 0..3 {
        let (home, given) = new_session(&gateway);
        assert_eq!(stays(&gateway, &given.pair, 50), home);
        // Among others, as browsers send it.
        let among = format!("a=1; {}; sid2=x", given.pair);
        assert_eq!(stays(&gateway, &among, 5), home);
        // In a line of its own, as HTTP/2 may have it.
        let request = gateway.request("GET", "/").header("Cookie", "a=1");
        let answer = request.header("Cookie", &given.pair).send();
        assert_eq!(
            (endpoint(&answer), answer.header("Set-Cookie")),
            (home.clone(), None)
        );
        homes.insert(home);
    }
    assert_eq!(homes.len(), 3, "new sessions are shared out as ever");
}

#[test]
fn sessions_stay_whatever_the_policy() {
    for policy in ["least_connections", "least_time", "random_two", "ip_hash"] {
        let all: [Endpoint; 3] = endpoints();
        let gateway = gateway(&format!(
            "balance: {policy}, {}",
            with_cookie(&list(&all), "")
        ));
        let (home, given) = new_session(&gateway);
        assert_eq!(stays(&gateway, &given.pair, 20), home, "{policy}");
    }
}

#[test]
fn the_cookie_says_what_is_configured() {
    let all: [Endpoint; 2] = endpoints();
    let plain = new_session(&by_cookie(&all, "")).1;
    assert!(plain.pair.starts_with("sid="), "{plain:?}");
    assert_eq!(
        plain.attributes,
        attributes(&["Path=/", "HttpOnly", "SameSite=Lax"])
    );

    let more = ", ttl: 2h, path: /shop, domain: Example.com, same_site: strict";
    let full = new_session(&by_cookie(&all, more)).1;
    let wanted = [
        "Path=/shop",
        "Domain=example.com",
        "Max-Age=7200",
        "HttpOnly",
        "SameSite=Strict",
    ];
    assert_eq!(full.attributes, attributes(&wanted));
}

#[test]
fn the_cookie_is_secure_where_the_client_came_by_https_or_other_sites_may_send_it() {
    let all: [Endpoint; 2] = endpoints();
    let by = |gateway: &Gateway, scheme: &str| {
        let answer = gateway
            .request("GET", "/")
            .header("X-Forwarded-Proto", scheme)
            .send();
        given(&answer).unwrap().attributes
    };
    let gateway = by_cookie(&all, "");
    assert!(by(&gateway, "https").contains("Secure"));
    assert!(!by(&gateway, "http").contains("Secure"));

    let anywhere = by_cookie(&all, ", same_site: none");
    let told = by(&anywhere, "http");
    assert!(
        told.contains("Secure") && told.contains("SameSite=None"),
        "{told:?}"
    );

    // Nobody believes a stranger.
    let yaml = configuration(&with_cookie(&list(&all), ""));
    let open = Gateway::start(&yaml.replace("trusted_proxies: [127.0.0.1]", ""));
    assert!(!by(&open, "https").contains("Secure"));
}

#[test]
fn the_value_tells_nothing_of_the_endpoint() {
    let [a] = endpoints();
    let gateway = by_cookie([&a], "");
    let (_, given) = new_session(&gateway);
    let value = given.pair.strip_prefix("sid=").unwrap();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(value).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let port = a.address().port();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for secret in [
        a.to_string(),
        port.to_string(),
        "127.0.0.1".to_owned(),
        "pool".to_owned(),
    ] {
        assert!(
            !given.pair.contains(&secret) && !text.contains(&secret),
            "{given:?}"
        );
        assert!(!hex(&bytes).contains(&hex(secret.as_bytes())));
    }
    assert!(!hex(&bytes).contains("7f000001"));
}

#[test]
fn a_cookie_that_is_not_ours_is_ignored_and_replaced() {
    let all: [Endpoint; 2] = endpoints();
    let gateway = by_cookie(&all, "");
    let stranger = gateway_of_another_secret(&all);
    let (_, foreign) = new_session(&stranger);
    let (_, good) = new_session(&gateway);
    let value = good.pair.strip_prefix("sid=").unwrap();
    let mut forged = value.to_owned();
    let first = if forged.starts_with('A') { "B" } else { "A" };
    forged.replace_range(..1, first);
    let last = value.split_at(value.len() - 1).0;
    let address = all[0].to_string();
    let long = "A".repeat(6000);
    for wrong in [
        &forged,
        last,
        "",
        "x",
        &address,
        "a",
        "0",
        "1",
        "..",
        "%00",
        &long,
        &format!("{value}{value}"),
    ] {
        let cookie = format!("sid={wrong}");
        expect_replaced(&gateway, &cookie);
    }
    expect_replaced(&gateway, &foreign.pair);
    // The name in another case is another cookie.
    expect_replaced(&gateway, &good.pair.replace("sid", "SID"));
    expect_replaced(&gateway, "sid");
}

fn gateway_of_another_secret(all: &[Endpoint]) -> Gateway {
    let yaml = configuration(&with_cookie(&list(all), ""));
    Gateway::start(&yaml.replace(SECRET, "another-secret-of-someone"))
}

/// Such a cookie is as good as none: its client takes its turn, and gets one that is good.
#[track_caller]
fn expect_replaced(gateway: &Gateway, cookie: &str) {
    let mut homes = BTreeSet::new();
    for _ in 0..4 {
        let answer = with(gateway, cookie);
        let given = given(&answer).unwrap_or_else(|| panic!("{cookie} was believed"));
        assert!(given.pair.starts_with("sid="));
        assert_eq!(stays(gateway, &given.pair, 3), endpoint(&answer));
        homes.insert(endpoint(&answer));
    }
    assert_eq!(homes.len(), 2, "{cookie}");
}

/// With another upstream the same cookie means nothing, though the secret is the same.
#[test]
fn a_session_is_one_with_its_own_upstream_only() {
    let all: [Endpoint; 2] = endpoints();
    let sticky = format!("sticky: {{ cookie: {{ name: sid, secret: {SECRET} }} }}");
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          one: {{ endpoints: {0}, {sticky} }}
          two: {{ endpoints: {0}, {sticky} }}
        routes:
          - {{ match: {{ path: /one }}, upstream: one }}
          - {{ match: {{ path: /two }}, upstream: two }}
        ",
        list(&all)
    ));
    let one = given(&gateway.get("/one")).unwrap().pair;
    let ask = |path| gateway.request("GET", path).header("Cookie", &one).send();
    assert_eq!(ask("/one").header("Set-Cookie"), None);
    assert!(given(&ask("/two")).is_some());
}

/// Unless they are given the same name, upstreams don't overwrite each other's cookies.
#[test]
fn each_upstream_has_a_cookie_of_its_own_name() {
    let all: [Endpoint; 2] = endpoints();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          one: {{ endpoints: {0}, sticky: {{ cookie: {{ secret: {SECRET} }} }} }}
          two: {{ endpoints: {0}, sticky: {{ cookie: {{ secret: {SECRET} }} }} }}
        routes:
          - {{ match: {{ path: /one }}, upstream: one }}
          - {{ match: {{ path: /two }}, upstream: two }}
        ",
        list(&all)
    ));
    let [one, two] = ["/one", "/two"].map(|path| given(&gateway.get(path)).unwrap().pair);
    let name = |pair: &str| pair.split_once('=').unwrap().0.to_owned();
    assert_ne!(name(&one), name(&two));
    let both = format!("{one}; {two}");
    for path in ["/one", "/two"] {
        let answer = gateway.request("GET", path).header("Cookie", &both).send();
        assert_eq!(answer.header("Set-Cookie"), None, "{path}");
    }
}

#[test]
fn a_cookie_is_renewed_when_half_of_its_time_is_over_and_forgotten_after_it() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = by_cookie(&all, ", ttl: 4s");
    let (home, first) = new_session(&gateway);
    assert!(first.attributes.contains("Max-Age=4"), "{first:?}");
    assert_eq!(
        with(&gateway, &first.pair).header("Set-Cookie"),
        None,
        "it is new"
    );
    // Time is told in whole seconds.
    let renewed = renewed(&gateway, &first.pair, &home);
    assert_ne!(first.pair, renewed);
    // The old one dies of age, and then its client is anybody; the new one is still good.
    eventually(PATIENCE, || {
        let homes: BTreeSet<_> = (0..3)
            .map(|_| endpoint(&with(&gateway, &first.pair)))
            .collect();
        homes.len() == 3
    });
}

/// The cookie that takes the place of this one, for a session that stays where it is.
#[track_caller]
fn renewed(gateway: &Gateway, cookie: &str, home: &str) -> String {
    for _ in 0..100 {
        let answer = with(gateway, cookie);
        assert_eq!(endpoint(&answer), home);
        if let Some(given) = given(&answer) {
            return given.pair;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("never renewed");
}

#[test]
fn the_endpoints_own_cookies_are_kept() {
    let a = Endpoint::setup("a")
        .answers(|_| {
            Reaction::status(200)
                .header("Set-Cookie", "theirs=1; Path=/")
                .header("Set-Cookie", "sid2=2")
        })
        .start();
    let gateway = by_cookie([&a], "");
    let answer = gateway
        .request("GET", "/")
        .header("Cookie", "mine=1")
        .send();
    let lines = answer.header_all("Set-Cookie");
    assert_eq!(lines[..2], ["theirs=1; Path=/", "sid2=2"]);
    assert!(
        lines.len() == 3 && lines[2].starts_with("sid="),
        "{lines:?}"
    );
    assert_eq!(a.received()[0].header_all("cookie"), ["mine=1"]);
}

#[test]
fn what_the_gateway_answers_itself_has_no_session() {
    let mut a = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ {} }} }}
        routes:
          - {{ match: {{ path: /fixed }}, respond: {{ text: hello }} }}
          - {{ match: {{ path: /moved }}, redirect: {{ path: / }} }}
          - {{ match: {{ path: /app }}, upstream: pool }}
        ",
        with_cookie(&list([&a]), "")
    ));
    for (target, status) in [("/fixed", 200), ("/moved", 302), ("/nowhere", 404)] {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.header("Set-Cookie")), (status, None));
    }
    // What an endpoint calls an error is still its answer.
    a.status_next(1, 500);
    assert!(given(&gateway.get("/app")).is_some());
    a.down();
    let answer = gateway.get("/app");
    assert_eq!((answer.status, answer.header("Set-Cookie")), (502, None));
}

// ---- endpoints that go and come ---------------------------------------------------------------

/// #52
#[test]
fn a_session_whose_endpoint_dies_moves_once_and_stays_there() {
    let mut all: [Endpoint; 3] = endpoints();
    let gateway = by_cookie(&all, "");
    let old = session_with(&gateway, "b");
    let other = session_with(&gateway, "c");
    all[1].down();
    let answer = with(&gateway, &old);
    let new = given(&answer).expect("it has moved").pair;
    let home = endpoint(&answer);
    assert_ne!(home, "b");
    assert_eq!(stays(&gateway, &new, 20), home);
    assert_eq!(
        stays(&gateway, &other, 5),
        "c",
        "others stay where they are"
    );
    all[1].up();
    eventually(PATIENCE, || endpoint(&gateway.get("/")) == "b");
    assert_eq!(stays(&gateway, &new, 20), home, "it moves once");
    // A client that kept the old cookie belongs where it did.
    assert_eq!(stays(&gateway, &old, 5), "b");
}

#[test]
fn a_post_of_a_session_moves_as_well_when_nothing_was_sent() {
    let mut all: [Endpoint; 2] = endpoints();
    let gateway = by_cookie(&all, "");
    let old = session_with(&gateway, "a");
    all[0].down();
    let answer = gateway
        .request("POST", "/")
        .header("Cookie", &old)
        .body("x")
        .send();
    assert_eq!(endpoint(&answer), "b");
    assert!(given(&answer).is_some());
}

/// The session of who takes part in a drain of its endpoint goes on; nobody new comes.
#[test]
fn a_drained_endpoint_keeps_its_sessions_and_gets_no_new_ones() {
    let [a, b] = endpoints();
    let in_state = |state: &str| {
        configuration(&with_cookie(
            &format!("[{{ address: {a}, state: {state} }}, {b}]"),
            "",
        ))
    };
    let gateway = Gateway::start(&in_state("up"));
    let old = session_with(&gateway, "a");
    assert!(gateway.reload(&in_state("drain")));
    assert_eq!(stays(&gateway, &old, 20), "a");
    for _ in 0..10 {
        assert_eq!(new_session(&gateway).0, "b");
    }
    assert!(gateway.reload(&in_state("up")));
    let homes: BTreeSet<_> = (0..4).map(|_| new_session(&gateway).0).collect();
    assert_eq!(homes.len(), 2, "it takes new ones again");
}

#[test]
fn an_endpoint_in_maintenance_gets_nothing_and_its_sessions_move() {
    let [a, b] = endpoints();
    let in_state = |state: &str| {
        configuration(&with_cookie(
            &format!("[{{ address: {a}, state: {state} }}, {b}]"),
            "",
        ))
    };
    let gateway = Gateway::start(&in_state("up"));
    let old = session_with(&gateway, "a");
    assert!(gateway.reload(&in_state("maintenance")));
    let before = a.requests();
    let answer = with(&gateway, &old);
    let new = given(&answer).expect("it has moved").pair;
    assert_eq!(stays(&gateway, &new, 10), "b");
    for _ in 0..10 {
        assert_eq!(new_session(&gateway).0, "b");
    }
    assert_eq!(a.requests(), before);
    assert!(gateway.reload(&in_state("up")));
    assert_eq!(stays(&gateway, &new, 10), "b", "it moves once");
}

/// `a` is at work for as long as it is slow, and may not do more.
fn busy(more: &str) -> ([Endpoint; 2], Gateway, String, Connection) {
    let all: [Endpoint; 2] = endpoints();
    let gateway = by_cookie_and(&all, more);
    let session = session_with(&gateway, "a");
    all[0].slow(Duration::from_secs(1));
    let mut first = gateway.connect();
    let host = gateway.address();
    first.send(format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {session}\r\n\r\n"
    ));
    eventually(PATIENCE, || all[0].in_flight() == 1);
    (all, gateway, session, first)
}

fn by_cookie_and(all: &[Endpoint], more: &str) -> Gateway {
    gateway(&format!("{}, {more}", with_cookie(&list(all), "")))
}

#[test]
fn a_session_whose_endpoint_is_busy_is_served_elsewhere_and_does_not_move() {
    let (all, gateway, session, mut first) = busy("max_connections: 1");
    for _ in 0..3 {
        let answer = with(&gateway, &session);
        assert_eq!(
            (&*endpoint(&answer), answer.header("Set-Cookie")),
            ("b", None)
        );
    }
    assert_eq!(endpoint(&first.answer()), "a");
    all[0].slow(Duration::ZERO);
    assert_eq!(stays(&gateway, &session, 5), "a");
}

#[test]
fn a_session_waits_for_its_endpoint_where_there_is_a_queue() {
    let queue = "max_connections: 1, queue: { size: 9, timeout: 15s }";
    let (all, gateway, session, mut first) = busy(queue);
    assert_eq!(stays(&gateway, &session, 2), "a");
    assert_eq!(endpoint(&first.answer()), "a");
    assert_eq!(all[0].most_in_flight(), 1);
}

/// Not even when nobody else is left: somebody is at work there.
#[test]
fn an_upstream_that_is_wholly_taken_out_is_503() {
    for state in ["drain", "maintenance"] {
        let a = Endpoint::start("a");
        let gateway = gateway(&format!("endpoints: [{{ address: {a}, state: {state} }}]"));
        let answer = gateway.get("/");
        assert_eq!((answer.status, a.requests()), (503, 0), "{state}");
        assert!(answer.header("Retry-After").is_some());
    }
}

#[test]
fn an_endpoint_that_is_removed_loses_its_sessions_and_finds_them_again() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = by_cookie(&all, "");
    let old = session_with(&gateway, "b");
    let without = configuration(&with_cookie(&list([&all[2], &all[0]]), ""));
    assert!(gateway.reload(&without));
    let new = given(&with(&gateway, &old)).expect("it has moved").pair;
    stays(&gateway, &new, 5);
    // It stands at another place in the list now.
    assert!(gateway.reload(&configuration(&with_cookie(&list(all.iter().rev()), ""))));
    assert_eq!(stays(&gateway, &old, 5), "b");
}

/// Neither a reload nor a restart ends a session whose secret is known.
#[test]
fn two_gateways_with_one_secret_agree() {
    let all: [Endpoint; 3] = endpoints();
    let one = by_cookie(&all, "");
    let two = by_cookie(all.iter().rev(), "");
    for wanted in ["a", "b", "c"] {
        let session = session_with(&one, wanted);
        assert_eq!(stays(&two, &session, 10), wanted);
    }
}

#[test]
fn a_session_without_a_secret_outlives_a_reload_and_is_warned_of() {
    let all: [Endpoint; 3] = endpoints();
    let yaml = configuration(&format!("endpoints: {}, sticky: cookie", list(&all)));
    let gateway = Gateway::start(&yaml);
    gateway.wait_for_log("sessions will not be known to another gateway, nor after a restart");
    let (home, given) = new_session(&gateway);
    assert!(gateway.reload(&yaml));
    assert_eq!(stays(&gateway, &given.pair, 20), home);

    let known = by_cookie(&all, "");
    assert!(
        !known.log().contains("sessions will not be known"),
        "{}",
        known.log()
    );
    assert!(!known.log().contains(SECRET));
}

#[test]
fn a_session_outlives_a_secret_in_the_environment() {
    let all: [Endpoint; 2] = endpoints();
    let yaml = configuration(&with_cookie(&list(&all), ""));
    let from_environment = Gateway::setup(&yaml.replace(SECRET, "env:STICKY_SECRET"))
        .env("STICKY_SECRET", SECRET)
        .start();
    let session = session_with(&from_environment, "b");
    assert_eq!(stays(&Gateway::start(&yaml), &session, 5), "b");
}

// ---- without cookies --------------------------------------------------------------------------

#[test]
fn a_header_leads_back_to_the_endpoint_that_gave_it() {
    let mut all: [Endpoint; 3] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: {}, fail_timeout: 200ms, sticky: {{ header: {{ name: X-Session, secret: {SECRET}, ttl: 1h }} }}",
        list(&all)
    ));
    let with = |token: &str| {
        gateway
            .request("GET", "/")
            .header("X-Session", token)
            .send()
    };
    let first = gateway.get("/");
    assert_eq!(first.header("Set-Cookie"), None);
    let token = first.header("X-Session").expect("a token").to_owned();
    let home = endpoint(&first);
    for _ in 0..50 {
        let answer = with(&token);
        assert_eq!(
            (endpoint(&answer), answer.header("X-Session")),
            (home.clone(), None)
        );
    }
    for wrong in ["", "x", &all[0].to_string(), token.split_at(1).1] {
        assert!(
            with(wrong)
                .header("X-Session")
                .is_some_and(|new| new != wrong),
            "{wrong}"
        );
    }
    let place = ["a", "b", "c"]
        .iter()
        .position(|name| *name == home)
        .unwrap();
    all[place].down();
    let moved = with(&token);
    let new = moved.header("X-Session").expect("it has moved");
    assert_eq!(endpoint(&with(new)), endpoint(&moved));
}

#[test]
fn the_short_form_of_a_header_is_one_without_a_secret() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: {}, sticky: {{ header: X-Session }}",
        list(&all)
    ));
    gateway.wait_for_log("sessions will not be known to another gateway");
    let first = gateway.get("/");
    let token = first.header("X-Session").expect("a token");
    for _ in 0..9 {
        let again = gateway
            .request("GET", "/")
            .header("X-Session", token)
            .send();
        assert_eq!(endpoint(&again), endpoint(&first));
    }
}

#[test]
fn a_session_by_hash_goes_by_a_value_and_needs_no_token() {
    let mut all: [Endpoint; 4] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: {}, fail_timeout: 200ms, balance: least_connections, sticky: {{ hash: '{{header.x-user}}' }}",
        list(&all)
    ));
    let homes = || -> Vec<String> {
        let mut connection: Connection = gateway.connect();
        let mut of = |user: usize| {
            let answer = connection.request("GET", "/").header("X-User", user).send();
            assert_eq!(answer.header("Set-Cookie"), None);
            endpoint(&answer)
        };
        (0..60).map(&mut of).collect()
    };
    let before = homes();
    assert_eq!(before, homes());
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 4);
    // Who has no value has no session, and takes its turn.
    let anybody: BTreeSet<_> = (0..8).map(|_| endpoint(&gateway.get("/"))).collect();
    assert_eq!(anybody.len(), 4);
    all[3].down();
    let meanwhile = homes();
    for (old, new) in before.iter().zip(&meanwhile) {
        assert!(new != "d" && (old == "d" || old == new), "{old} -> {new}");
    }
    all[3].up();
    eventually(PATIENCE, || homes() == before);
}

// ---- what is written wrong --------------------------------------------------------------------

#[test]
fn sessions_that_can_not_be_are_refused() {
    for (sticky, said) in [
        ("cookies", "cookie"),
        ("{ cookie: { secret: short } }", "16 are the least"),
        ("{ cookie: { secret: env:NOT_SET } }", "NOT_SET"),
        ("{ cookie: { name: 'a b' } }", "the name of a cookie"),
        ("{ cookie: { path: shop } }", "a path such as `/shop`"),
        (
            "{ cookie: { path: '/;Domain=x' } }",
            "a path such as `/shop`",
        ),
        ("{ cookie: { domain: 'a;b' } }", "a domain"),
        ("{ cookie: { same_site: loose } }", "same_site"),
        ("{ cookie: { ttl: 0s } }", "counted in seconds"),
        ("{ cookie: { ttl: 500ms } }", "counted in seconds"),
        ("{ cookie: { ttl: forever } }", "`none`"),
        (
            "{ cookie: { name: __Host-sid, path: /shop } }",
            "browsers refuse",
        ),
        ("{ cookie: { max_age: 1h } }", "ttl"),
        ("{ header: Content-Length }", "belongs to the connection"),
        ("{ header: Set-Cookie }", "carries cookies"),
        ("{ header: { name: cookie } }", "carries cookies"),
        (
            "{ header: { secret: a-secret-that-nobody-guesses } }",
            "name",
        ),
        ("{ hash: fixed }", "the same for every request"),
        ("{ cookie: {}, header: X-Session }", "sticky"),
        ("true", "cookie"),
    ] {
        let upstream = format!("endpoints: ['127.0.0.1:9'], sticky: {sticky}");
        let log = Gateway::refused(&configuration(&upstream));
        assert!(log.contains(said), "{sticky}: {log}");
        assert!(log.contains("edgeway.yaml:2:"), "{sticky}: {log}");
    }
}

#[test]
fn a_hash_beside_the_hash_of_the_session_is_warned_of() {
    let hash = |by| format!("{{ hash: '{{header.{by}}}' }}");
    let warned = |balance: &str| {
        let upstream = format!(
            "endpoints: ['127.0.0.1:9'], balance: {balance}, sticky: {}",
            hash("x-user")
        );
        let gateway = Gateway::start(&configuration(&upstream));
        gateway.log().contains("`balance` only counts for requests")
    };
    assert!(warned(&hash("x-tenant")));
    assert!(!warned("least_time"));
}
