//! How the requests of an upstream are shared out among its endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use edgeway_tests::{
    Answer, Connection, Endpoint, Gateway, PATIENCE, Request, eventually, load, load_during,
};
use serde_json::json;

use crate::jwt::tokens::{SECRET, token};

/// All policies, each as it is written. Those that go by a value go by one that every request has.
const POLICIES: [&str; 6] = [
    "round_robin",
    "least_connections",
    "least_time",
    "random_two",
    "ip_hash",
    "{ hash: '{header.x-user}' }",
];

/// A gateway with one upstream, which every request goes to. It believes what we say of our address.
pub(crate) fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

pub(crate) fn configuration(upstream: &str) -> String {
    format!(
        "trusted_proxies: [127.0.0.1]\nupstreams: {{ pool: {{ {upstream} }} }}\nroutes: [{{ upstream: pool }}]\n"
    )
}

/// Endpoints that are called `a`, `b`, `c` and so on.
pub(crate) fn endpoints<const N: usize>() -> [Endpoint; N] {
    let name = |place: usize| char::from(b'a' + u8::try_from(place).unwrap()).to_string();
    std::array::from_fn(|place| Endpoint::start(&name(place)))
}

/// As the value of `endpoints`.
pub(crate) fn list<'e>(endpoints: impl IntoIterator<Item = &'e Endpoint>) -> String {
    let all: Vec<_> = endpoints.into_iter().map(ToString::to_string).collect();
    format!("[{}]", all.join(", "))
}

/// Who has answered.
#[track_caller]
pub(crate) fn endpoint(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("X-Endpoint").unwrap().to_owned()
}

/// Who answers so many requests, one after the other.
#[track_caller]
fn shares(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut connection = gateway.connect();
    let all = (0..requests).map(|_| endpoint(&connection.get("/")));
    tally(all)
}

fn tally(endpoints: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for endpoint in endpoints {
        *counts.entry(endpoint).or_default() += 1;
    }
    counts
}

fn get(connection: &mut Connection) -> Request<'_> {
    connection.request("GET", "/")
}

/// Who answers each of so many users.
#[track_caller]
fn homes(gateway: &Gateway, users: usize) -> Vec<String> {
    let mut connection = gateway.connect();
    let of = |user| endpoint(&as_user(&mut connection, user).send());
    (0..users).map(of).collect()
}

fn as_user(connection: &mut Connection, user: usize) -> Request<'_> {
    let request = connection.request("GET", "/").header("X-User", user);
    request.header("X-Forwarded-For", address(user))
}

/// A client's address, another one for each.
fn address(client: usize) -> String {
    format!("203.0.{}.{}", client / 200, client % 200 + 1)
}

/// How many have another home than before.
fn moved(before: &[String], after: &[String]) -> usize {
    before
        .iter()
        .zip(after)
        .filter(|(one, other)| one != other)
        .count()
}

// ---- in turn ----------------------------------------------------------------------------------

/// #31. Requests to two upstreams, and of several methods, come in between each other.
#[test]
fn each_upstream_has_a_turn_of_its_own() {
    let [a, b, c, d, e] = endpoints();
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          one: {{ endpoints: [{a}, {b}] }}
          two: {{ endpoints: [{c}, {d}, {e}] }}
        routes:
          - {{ match: {{ path: /one/ }}, upstream: one }}
          - {{ match: {{ path: /two/ }}, upstream: two }}
        "
    ));
    let mut connection = gateway.connect();
    let methods = ["GET", "POST", "DELETE", "PUT"];
    for round in 0..30 {
        for target in ["/two/x", "/one/x", "/two/y"] {
            let request = connection.request(methods[round % methods.len()], target);
            endpoint(&request.body("x").send());
        }
    }
    assert_eq!((a.requests(), b.requests()), (15, 15));
    assert_eq!((c.requests(), d.requests(), e.requests()), (20, 20, 20));
}

/// #31
#[test]
fn shares_are_equal_for_clients_that_come_at_the_same_time() {
    let all: [Endpoint; 7] = endpoints();
    let gateway = gateway(&format!("endpoints: {}", list(&all)));
    let outcomes = load(gateway.address(), 8, 500, get);
    outcomes.expect_all(200);
    for (name, requests) in outcomes.endpoints() {
        assert!((71..=72).contains(&requests), "{name}: {requests}");
    }
}

#[test]
fn a_reload_keeps_the_turn() {
    let all: [Endpoint; 4] = endpoints();
    let configuration = configuration(&format!("endpoints: {}", list(&all)));
    let gateway = Gateway::start(&configuration);
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(endpoint(&gateway.get("/")));
        assert!(gateway.reload(&configuration));
    }
    assert_eq!(seen, ["a", "b", "c", "d", "a", "b", "c", "d"]);
}

/// #36
#[test]
fn a_weight_that_is_changed_by_a_reload_counts_at_once() {
    let [a, b] = endpoints();
    let weighted = |weight: u16| {
        configuration(&format!(
            "endpoints: [{a}, {{ address: {b}, weight: {weight} }}]"
        ))
    };
    let gateway = Gateway::start(&weighted(1));
    assert_eq!(shares(&gateway, 20)["b"], 10);
    assert!(gateway.reload(&weighted(4)));
    assert_eq!(shares(&gateway, 20)["b"], 16);
    assert!(gateway.reload(&weighted(65_535)));
    assert!(shares(&gateway, 20)["b"] >= 19);
}

/// #36
#[test]
fn weights_are_kept_within_a_twentieth_by_every_policy_that_has_room_for_them() {
    let [a, b, c] = endpoints();
    for policy in ["round_robin", "least_connections", "random_two"] {
        let gateway = gateway(&format!(
            "balance: {policy}, endpoints: [{{ address: {a}, weight: 5 }}, {b}, {{ address: {c}, weight: 2 }}]"
        ));
        // The others are exact; chance needs more of them, and keeps to 5 % of all.
        let (rounds, tolerance) = if policy == "random_two" {
            (250, 100)
        } else {
            (50, 2)
        };
        let counts = shares(&gateway, 8 * rounds);
        for (name, weight) in [("a", 5), ("b", 1), ("c", 2)] {
            let expected = rounds * weight;
            assert!(
                counts[name].abs_diff(expected) <= tolerance,
                "{policy}: {counts:?}"
            );
        }
    }
}

/// #36. Keys are spread by weight, too.
#[test]
fn an_endpoint_of_more_weight_is_home_to_more_keys() {
    let [a, b] = endpoints();
    let gateway = gateway(&format!(
        "balance: {{ hash: '{{header.x-user}}' }}, endpoints: [{{ address: {a}, weight: 3 }}, {b}]"
    ));
    let counts = tally(homes(&gateway, 1000));
    assert!(counts["a"].abs_diff(750) <= 70, "{counts:?}");
}

// ---- by load ----------------------------------------------------------------------------------

/// Who answers six clients, each of which sends its next request when it has the answer to the one
/// before, while the first of three endpoints is slow.
fn shares_beside_a_slow_one(policy: &str) -> BTreeMap<String, usize> {
    let all: [Endpoint; 3] = endpoints();
    let gateway = gateway(&format!("balance: {policy}, endpoints: {}", list(&all)));
    // Nobody is met for the first time when it counts.
    shares(&gateway, 6);
    all[0].slow(Duration::from_millis(200));
    let outcomes = load(gateway.address(), 6, 300, get);
    outcomes.expect_all(200);
    outcomes.endpoints()
}

/// #33, #35, #34
#[test]
fn a_slow_endpoint_gets_fewer_requests_by_every_policy_that_looks_at_the_load() {
    for policy in ["least_connections", "least_time", "random_two"] {
        let counts = shares_beside_a_slow_one(policy);
        let slow = counts.get("a").copied().unwrap_or_default();
        assert!(slow <= 60, "{policy}: {counts:?}");
        // By time one of the others may get it all: a moment's delay of the machine counts for seconds.
        let fast = ["b", "c"].map(|name| counts.get(name).copied().unwrap_or_default());
        assert!(
            policy == "least_time" || fast.into_iter().all(|count| count >= 80),
            "{policy}: {counts:?}"
        );
    }
}

/// #34. Where requests come one by one there is no load to go by, only time.
#[test]
fn the_faster_endpoint_gets_more_requests_by_time() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = gateway(&format!("balance: least_time, endpoints: {}", list(&all)));
    all[1].slow(Duration::from_millis(80));
    let counts = shares(&gateway, 100);
    let slow = counts.get("b").copied().unwrap_or_default();
    assert!(
        (1..=10).contains(&slow),
        "tried, and then spared: {counts:?}"
    );
    // Now another one is slow.
    all[1].behave();
    all[2].slow(Duration::from_millis(400));
    let counts = shares(&gateway, 60);
    assert!(
        counts.get("c").copied().unwrap_or_default() <= 3,
        "{counts:?}"
    );
}

/// #35
#[test]
fn two_choices_are_even_while_nobody_is_busy() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = gateway(&format!("balance: random_two, endpoints: {}", list(&all)));
    let mut connection = gateway.connect();
    let seen: Vec<_> = (0..1200).map(|_| endpoint(&connection.get("/"))).collect();
    let counts = tally(seen.clone());
    for (name, count) in &counts {
        assert!(count.abs_diff(400) <= 85, "{name}: {counts:?}");
    }
    let again = seen.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(again > 200, "by chance, and not in turn: {again}");
}

/// #33
#[test]
fn with_as_many_requests_everywhere_the_fewest_connections_take_turns() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = gateway(&format!(
        "balance: least_connections, endpoints: {}",
        list(&all)
    ));
    let counts = shares(&gateway, 90);
    assert!(counts.values().all(|count| *count == 30), "{counts:?}");
    // Six at once are two for each.
    all.iter()
        .for_each(|endpoint| endpoint.slow(Duration::from_millis(500)));
    load(gateway.address(), 6, 6, get).expect_all(200);
    let most: Vec<_> = all.iter().map(Endpoint::most_in_flight).collect();
    assert!(most.iter().all(|most| *most <= 3), "{most:?}");
}

// ---- by a value -------------------------------------------------------------------------------

/// #32
#[test]
fn the_requests_of_a_client_go_to_one_endpoint_and_those_of_many_to_all() {
    let all: [Endpoint; 4] = endpoints();
    let gateway = gateway(&format!("balance: ip_hash, endpoints: {}", list(&all)));
    let before = homes(&gateway, 200);
    assert_eq!(before, homes(&gateway, 200));
    let counts = tally(before);
    assert!(
        counts.len() == 4 && counts.values().all(|count| *count >= 25),
        "{counts:?}"
    );
    // Over many connections.
    assert_eq!(tally((0..20).map(|_| endpoint(&gateway.get("/")))).len(), 1);
}

/// #32. Nobody chooses an endpoint by a header that it made up.
#[test]
fn what_a_stranger_says_of_its_address_does_not_count() {
    let all: [Endpoint; 4] = endpoints();
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ pool: {{ balance: ip_hash, endpoints: {} }} }}
        routes: [{{ upstream: pool }}]
        ",
        list(&all)
    ));
    assert_eq!(tally(homes(&gateway, 50)).len(), 1);
}

/// #32. Who has one address of a network of IPv6 has them all.
#[test]
fn a_network_of_ipv6_is_one_client() {
    let all: [Endpoint; 4] = endpoints();
    let gateway = gateway(&format!("balance: ip_hash, endpoints: {}", list(&all)));
    let by = |address: String| {
        let request = gateway.request("GET", "/");
        endpoint(&request.header("X-Forwarded-For", address).send())
    };
    let neighbours = tally((1..20).map(|host| by(format!("2001:db8::{host:x}:1"))));
    assert_eq!(neighbours.len(), 1, "{neighbours:?}");
    let networks = tally((1..40).map(|network| by(format!("2001:db8:0:{network:x}::1"))));
    assert!(networks.len() > 1, "{networks:?}");
}

/// A route for each value that one may go by, to upstreams of the same endpoints.
fn by_value(endpoints: &[Endpoint]) -> Gateway {
    let upstream = |name, by| {
        format!(
            "  {name}: {{ balance: {{ hash: {{ by: '{by}' }} }}, endpoints: {} }}\n",
            list(endpoints)
        )
    };
    let upstreams: String = VALUES.map(|(name, by)| upstream(name, by)).concat();
    let route = |name| format!("  - {{ match: {{ path: /{name} }}, upstream: {name} }}\n");
    let routes: String = VALUES.map(|(name, _)| route(name)).concat();
    let identity = format!(
        "filters: [{{ jwt: {{ algorithms: [HS256], secret: {SECRET}, optional: true }} }}]"
    );
    Gateway::start(&format!(
        "{identity}\nupstreams:\n{upstreams}routes:\n{routes}"
    ))
}

const VALUES: [(&str, &str); 7] = [
    ("header", "{header.x-user}"),
    ("cookie", "{cookie.user}"),
    ("query", "{query.user}"),
    ("path", "{path}"),
    ("claim", "{claim.sub}"),
    ("subject", "{subject}"),
    ("two", "{header.x-user}/{cookie.user}"),
];

#[test]
fn requests_of_the_same_value_go_to_one_endpoint_wherever_the_value_is() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = by_value(&all);
    let mut connection = gateway.connect();
    for (place, _) in VALUES {
        let mut ask = |user: usize, noise: usize| {
            let target = match place {
                "query" => format!("/query?noise={noise}&user=u%2d{user}"),
                "path" => format!("/path/{user}?noise={noise}"),
                _ => format!("/{place}?noise={noise}"),
            };
            let request = connection.request("GET", &target).header("X-Noise", noise);
            let request = match place {
                "header" => request.header("X-User", user),
                "cookie" => request.header("Cookie", format!("n={noise}; user={user}")),
                "two" => request
                    .header("X-User", "ann")
                    .header("Cookie", format!("user={user}")),
                // The token is another one each time, and its owner the same.
                "claim" | "subject" => request.bearer(&token(
                    json!({ "sub": format!("user-{user}"), "jti": noise }),
                )),
                _ => request,
            };
            endpoint(&request.send())
        };
        let homes: Vec<_> = (0..30).map(|user| ask(user, 0)).collect();
        let again: Vec<_> = (0..30).map(|user| ask(user, user + 1)).collect();
        assert_eq!(homes, again, "{place}");
        assert_eq!(tally(homes).len(), 3, "{place}");
    }
}

#[test]
fn requests_without_the_value_are_served_by_all_in_turn() {
    let all: [Endpoint; 3] = endpoints();
    let gateway = by_value(&all);
    let mut connection = gateway.connect();
    for (place, _) in VALUES.into_iter().filter(|(place, _)| *place != "path") {
        let empty = connection
            .request("GET", &format!("/{place}?user="))
            .header("X-User", "")
            .header("Cookie", "user=")
            .send();
        endpoint(&empty);
        let counts = tally((0..30).map(|_| endpoint(&connection.get(&format!("/{place}")))));
        assert!(
            counts.values().all(|count| *count == 10),
            "{place}: {counts:?}"
        );
    }
}

/// Only the keys of who has left move, they are shared by the others, and they come back.
#[test]
fn few_keys_move_when_an_endpoint_dies_and_they_come_back_with_it() {
    let mut all: [Endpoint; 5] = endpoints();
    let gateway = gateway(&format!(
        "balance: ip_hash, endpoints: {}, fail_timeout: 200ms",
        list(&all)
    ));
    let before = homes(&gateway, KEYS);
    all[2].down();
    let meanwhile = homes(&gateway, KEYS);
    expect_minimal(&before, &meanwhile, 5, "c");
    all[2].up();
    eventually(PATIENCE, || moved(&before, &homes(&gateway, 100)) == 0);
}

/// So many that chance, which gives each endpoint its keys, stays within 5 % of all.
const KEYS: usize = 1000;

#[test]
fn few_keys_move_when_an_endpoint_is_removed_or_added_by_a_reload() {
    let all: [Endpoint; 5] = endpoints();
    let by = |endpoints: String| {
        configuration(&format!(
            "balance: {{ hash: '{{header.x-user}}' }}, endpoints: {endpoints}"
        ))
    };
    let gateway = Gateway::start(&by(list(&all)));
    let before = homes(&gateway, KEYS);
    let others = all
        .iter()
        .filter(|endpoint| endpoint.to_string() != all[1].to_string());
    assert!(gateway.reload(&by(list(others))));
    expect_minimal(&before, &homes(&gateway, KEYS), 5, "b");
    // In another order: where an endpoint stands in the list does not matter.
    assert!(gateway.reload(&by(list(all.iter().rev()))));
    assert_eq!(moved(&before, &homes(&gateway, 200)), 0);
}

/// Of `count` endpoints the one called `gone` has left, and nothing moved but what it had.
#[track_caller]
fn expect_minimal(before: &[String], after: &[String], count: usize, gone: &str) {
    let (moved, keys) = (moved(before, after), before.len());
    assert!(moved <= keys / count + keys / 20, "{moved} of {keys}");
    let mut heirs = BTreeSet::new();
    for (old, new) in before.iter().zip(after) {
        if old == gone {
            heirs.insert(new);
        } else {
            assert_eq!(old, new, "its endpoint is still there");
        }
    }
    assert!(!heirs.contains(&gone.to_owned()), "{heirs:?}");
    assert!(heirs.len() >= count - 2, "shared by others: {heirs:?}");
}

/// Two gateways side by side need not speak with each other.
#[test]
fn another_gateway_sends_a_key_to_the_same_endpoint() {
    let all: [Endpoint; 4] = endpoints();
    let balance = "balance: { hash: '{header.x-user}' }";
    let one = gateway(&format!("{balance}, endpoints: {}", list(&all)));
    let two = gateway(&format!("{balance}, endpoints: {}", list(all.iter().rev())));
    assert_eq!(homes(&one, 100), homes(&two, 100));
}

fn as_hot(connection: &mut Connection) -> Request<'_> {
    connection.request("GET", "/").header("X-User", "hot")
}

/// How many requests each of four endpoints has at a time when eight come at once for one key.
fn most_of_one_key(bound: &str) -> Vec<usize> {
    let all: [Endpoint; 4] = endpoints();
    let gateway = gateway(&format!(
        "balance: {{ hash: {{ by: '{{header.x-user}}' {bound} }} }}, endpoints: {}",
        list(&all)
    ));
    let mut connection = gateway.connect();
    let alone = tally((0..20).map(|_| endpoint(&as_hot(&mut connection).send())));
    assert_eq!(alone.len(), 1, "one after the other are no load: {alone:?}");
    all.iter()
        .for_each(|endpoint| endpoint.slow(Duration::from_millis(700)));
    load(gateway.address(), 8, 8, as_hot).expect_all(200);
    all.iter().map(Endpoint::most_in_flight).collect()
}

#[test]
fn a_key_that_everybody_asks_for_is_spread_by_a_bound_and_not_without() {
    let mut free = most_of_one_key("");
    free.sort_unstable();
    assert!(free[3] >= 6 && free[2] == 0, "{free:?}");
    let bound = most_of_one_key(", bound: 125%");
    assert!(bound.iter().all(|most| *most <= 4), "{bound:?}");
}

// ---- some are away ----------------------------------------------------------------------------

/// #41 for each policy
#[test]
fn no_request_fails_while_one_of_three_dies_and_comes_back_whatever_the_policy() {
    for policy in POLICIES {
        let mut all: [Endpoint; 3] = endpoints();
        let gateway = gateway(&format!(
            "balance: {policy}, endpoints: {}, fail_timeout: 100ms",
            list(&all)
        ));
        let users = AtomicUsize::new(0);
        let seen = |endpoint: &Endpoint, more: usize| {
            let before = endpoint.requests();
            eventually(PATIENCE, || endpoint.requests() >= before + more);
        };
        let outcomes = load_during(
            gateway.address(),
            3,
            |connection| as_user(connection, users.fetch_add(1, Ordering::Relaxed) % 100),
            || {
                let [_, b, c] = &mut all;
                seen(b, 20);
                b.down();
                seen(c, 40);
                gateway.wait_for_log("endpoint is left out");
                b.up();
                gateway.wait_for_log("endpoint is back");
                seen(b, 20);
            },
        );
        assert!(outcomes.total() > 80, "{policy}");
        outcomes.expect_all(200);
    }
}

/// #37, #38 for each policy
#[test]
fn backups_serve_while_all_primaries_are_away_whatever_the_policy() {
    for policy in POLICIES {
        let [mut a, mut b, c, d] = endpoints();
        let gateway = gateway(&format!(
            "balance: {policy}, fail_timeout: 200ms,
             endpoints: [{{ address: {c}, backup: true }}, {a}, {b}, {{ address: {d}, backup: true }}]"
        ));
        let serving = || tally(homes(&gateway, 24)).into_keys().collect::<String>();
        assert_eq!(serving(), "ab", "{policy}");
        a.down();
        assert_eq!(serving(), "b", "{policy}: one is enough");
        b.down();
        assert_eq!(serving(), "cd", "{policy}");
        a.up();
        b.up();
        eventually(PATIENCE, || serving() == "ab");
    }
}

/// A backup is for when the others are down, not busy.
#[test]
fn a_busy_primary_does_not_spill_over_to_the_backup() {
    for (queue, refused) in [("", true), (", queue: { size: 10, timeout: 10s }", false)] {
        let [a, b] = endpoints();
        let gateway = gateway(&format!(
            "endpoints: [{a}, {{ address: {b}, backup: true }}], max_connections: 1{queue}"
        ));
        a.slow(Duration::from_millis(300));
        let outcomes = load(gateway.address(), 4, 4, get);
        let statuses = outcomes.statuses();
        assert_eq!(b.requests(), 0, "{statuses:?}");
        assert_eq!(statuses.contains_key(&503), refused, "{statuses:?}");
    }
}

// ---- slow start -------------------------------------------------------------------------------

/// Which part of the requests an endpoint gets, in percent.
fn share_of(gateway: &Gateway, name: &str) -> usize {
    let counts = tally(homes(gateway, 300));
    counts.get(name).copied().unwrap_or_default() / 3
}

#[test]
fn an_endpoint_that_comes_back_gets_few_requests_first_and_then_its_share() {
    for policy in ["round_robin", "least_connections", "random_two", "ip_hash"] {
        let mut all: [Endpoint; 3] = endpoints();
        let addresses = list(&all);
        let configured = |slow_start: &str| {
            configuration(&format!(
                "balance: {policy}, endpoints: {addresses}, fail_timeout: 50ms, slow_start: {slow_start}"
            ))
        };
        let gateway = Gateway::start(&configured("1h"));
        all[0].down();
        homes(&gateway, 30);
        gateway.wait_for_log("endpoint is left out");
        all[0].up();
        eventually(PATIENCE, || {
            homes(&gateway, 10);
            gateway.log().contains("endpoint is back")
        });
        let share = share_of(&gateway, "a");
        assert!(share <= 16, "{policy}: {share} %");
        // The time is over, since it was made shorter.
        assert!(gateway.reload(&configured("1ms")));
        let share = share_of(&gateway, "a");
        assert!((24..=43).contains(&share), "{policy}: {share} %");
    }
}

/// Everything has just come back, or is the only one there is: a request is worth more than a warm-up.
#[test]
fn slow_start_refuses_nobody_whatever_the_policy() {
    for policy in POLICIES {
        let [mut a, mut b] = endpoints();
        let gateway = gateway(&format!(
            "balance: {policy}, endpoints: [{a}, {b}], fail_timeout: 50ms, slow_start: 1h"
        ));
        a.down();
        b.down();
        assert_eq!(gateway.get("/").status, 502);
        a.up();
        b.up();
        eventually(PATIENCE, || gateway.get("/").status == 200);
        eventually(PATIENCE, || tally(homes(&gateway, 60)).len() == 2);
        a.down();
        assert_eq!(tally(homes(&gateway, 20))["b"], 20, "{policy}");
    }
}

#[test]
fn slow_start_ends_by_itself() {
    let [mut a, b] = endpoints();
    let gateway = gateway(&format!(
        "endpoints: [{a}, {b}], fail_timeout: 50ms, slow_start: 2s"
    ));
    a.down();
    shares(&gateway, 10);
    a.up();
    eventually(PATIENCE, || {
        shares(&gateway, 4);
        gateway.log().contains("endpoint is back")
    });
    eventually(PATIENCE, || shares(&gateway, 40).get("a") == Some(&20));
}

#[test]
fn who_is_added_by_a_reload_starts_slowly_and_who_was_there_at_the_start_does_not() {
    let [a, b, c] = endpoints();
    let of = |endpoints: String| configuration(&format!("slow_start: 1h, endpoints: {endpoints}"));
    let gateway = Gateway::start(&of(list([&a, &b])));
    assert_eq!(
        shares(&gateway, 40)["a"],
        20,
        "somebody has to take the load"
    );
    assert!(gateway.reload(&of(list([&a, &b, &c]))));
    let counts = shares(&gateway, 300);
    let new = counts.get("c").copied().unwrap_or_default();
    assert!((1..=50).contains(&new), "{counts:?}");
    assert!(counts["a"].abs_diff(counts["b"]) <= 60, "{counts:?}");
    // Nobody who was there starts again by a reload.
    assert!(gateway.reload(&of(list([&a, &b]))));
    assert_eq!(shares(&gateway, 40)["a"], 20);
}

// ---- what is written wrong --------------------------------------------------------------------

#[test]
fn a_balance_that_means_nothing_is_refused_where_it_is_written() {
    for (balance, said) in [
        ("roundrobin", "round_robin"),
        ("least_conn", "least_connections"),
        ("7", "round_robin"),
        ("{ ip_hash: true }", "ip_hash"),
        ("{ hash: fixed }", "the same for every request"),
        ("{ hash: '{header}' }", "header"),
        ("{ hash: { bound: 125% } }", "by"),
        ("{ hash: { by: '{path}', bound: 100% } }", "101%"),
        ("{ hash: { by: '{path}', bound: 1.25 } }", "125%"),
        ("{ hash: { by: '{path}', bounds: 125% } }", "bound"),
        ("{ hash: { by: '{path}', bound: NaN% } }", "125%"),
        ("{ hash: '{path}', bound: 125% }", "bound"),
        ("{ hash: '{responses}' }", "responses"),
    ] {
        let log = Gateway::refused(&configuration(&format!(
            "balance: {balance}, endpoints: ['127.0.0.1:9']"
        )));
        assert!(log.contains(said), "{balance}: {log}");
        assert!(log.contains("edgeway.yaml:2:"), "{balance}: {log}");
    }
}

#[test]
fn a_weight_that_is_none_is_refused() {
    for weight in ["0", "-1", "65536", "1.5", "heavy"] {
        let log = Gateway::refused(&configuration(&format!(
            "endpoints: [{{ address: '127.0.0.1:9', weight: {weight} }}]"
        )));
        assert!(log.contains("weight"), "{weight}: {log}");
    }
}
