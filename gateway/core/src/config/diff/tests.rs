use super::*;
use crate::config::{diagnostic::Problems, document::Document};

fn tree(yaml: &str) -> Tree {
    let problems = &mut Problems::default();
    let document = Document::from_text("edgeway.yaml", yaml, problems);
    assert!(!problems.has_errors(), "{yaml}");
    document.written()
}

/// The changes, a line each: `changed routes[shop].cache.ttl 1s -> 5s`.
fn told(before: &str, after: &str) -> Vec<String> {
    let changes = diff(&tree(before), &tree(after));
    let lines = changes.iter().map(|change| {
        let kind = format!("{:?}", change.kind).to_lowercase();
        let side = |side: &Option<Tree>| side.as_ref().map(Tree::to_string);
        let values = [side(&change.before), side(&change.after)];
        let values: Vec<_> = values.into_iter().flatten().collect();
        format!("{kind} {} {}", change.path, values.join(" -> "))
    });
    lines.collect()
}

#[track_caller]
fn same_thing(before: &str, after: &str) {
    assert_eq!(told(before, after), [""; 0]);
    assert_eq!(told(after, before), [""; 0]);
}

#[test]
fn what_means_the_same_is_no_change() {
    same_thing("a: 5s", "a: 5000ms");
    same_thing("a: 1MiB", "a: 1024KiB");
    same_thing("a: 60/min", "a: 60/1m");
    same_thing("a: '5'", "a: 5");
    same_thing("a: { b: 1, c: 2 }", "a: { c: 2, b: 1 }");
    same_thing("a: &x { b: 1 }\nc: *x", "a: { b: 1 }\nc: { b: 1 }");
    same_thing("filters: [jwt]", "filters: [{ jwt: {} }]");
    same_thing("filters: [{ jwt: ~ }]", "filters: [jwt]");
    same_thing(
        "upstreams: { a: { endpoints: [b:1, c:2] } }",
        "upstreams: { a: { endpoints: [{ address: c:2 }, b:1] } }",
    );
    same_thing("upstreams: ~", "routes: []");
}

#[test]
fn texts_for_clients_are_what_is_written() {
    let told = told(
        "routes: [{ respond: { text: 5s } }]",
        "routes: [{ respond: { text: 5000ms } }]",
    );
    assert_eq!(told, ["changed routes[/].respond.text 5s -> 5000ms"]);
    let sent = |value: &str| format!("a: {{ headers: {{ X-Wait: {value} }} }}");
    assert_eq!(diff(&tree(&sent("5s")), &tree(&sent("5000ms"))).len(), 1);
}

#[test]
fn a_number_without_a_unit_is_not_an_amount() {
    assert_eq!(told("a: 1024", "a: 1KiB"), ["changed a 1024 -> 1KiB"]);
}

#[test]
fn routes_are_known_by_their_names_and_by_what_they_match() {
    let before = "
routes:
  - { name: shop, match: { path: /shop }, upstream: a, cache: { ttl: 1s } }
  - { match: { host: x.example, path: /old }, upstream: a }
  - { match: { path: /same }, upstream: a }";
    let after = "
routes:
  - { match: { path: /same }, upstream: b }
  - { name: shop, match: { path: /store }, upstream: a, cache: { ttl: 5s } }
  - { match: { path: /new, method: GET }, upstream: a }";
    assert_eq!(
        told(before, after),
        [
            "changed routes[shop].match.path /shop -> /store",
            "changed routes[shop].cache.ttl 1s -> 5s",
            "removed routes[x.example/old] { match: { host: x.example, path: /old }, upstream: a }",
            "changed routes[/same].upstream a -> b",
            "added routes[/new method=GET] { match: { path: /new, method: GET }, upstream: a }",
        ]
    );
}

#[test]
fn a_change_knows_what_it_belongs_to() {
    let before =
        "upstreams: { app: { endpoints: [a:1, { address: b:1, weight: 2 }] } }\nthreads: 2";
    let after = "upstreams: { app: { endpoints: [{ address: b:1, weight: 5 }] } }\nthreads: 3";
    let changes = diff(&tree(before), &tree(after));
    let shown: Vec<_> = changes
        .iter()
        .map(|change| (change.what, change.name.as_deref(), change.key.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            (Thing::Endpoint, Some("a:1 of app"), None),
            (Thing::Endpoint, Some("b:1 of app"), Some("weight")),
            (Thing::Setting, None, Some("threads")),
        ]
    );
    assert_eq!(changes[1].path, "upstreams.app.endpoints[b:1].weight");
}

#[test]
fn each_thing_of_a_section_that_comes_or_goes_is_told_of() {
    assert_eq!(
        told(
            "threads: 1",
            "threads: 1\nupstreams: { a: { balance: random }, b: {} }"
        ),
        [
            "added upstreams.a { balance: random }",
            "added upstreams.b {}"
        ]
    );
    assert_eq!(
        told("listeners: { web: { bind: ':80' } }", "{}"),
        ["removed listeners.web { bind: :80 }"]
    );
}

#[test]
fn filters_are_known_by_what_they_are_and_their_order_matters() {
    let before = "filters: [request_id, { rate_limit: { rate: 1/s } }, { headers: {} }, { headers: { a: 1 } }]";
    let after = "filters: [{ headers: {} }, { headers: { a: 2 } }, request_id, { rate_limit: { rate: 2/s }, mode: report }]";
    assert_eq!(
        told(before, after),
        [
            "changed filters[rate_limit].rate 1/s -> 2/s",
            "added filters[rate_limit].mode report",
            "changed filters[headers#2].a 1 -> 2",
            "moved filters[request_id] first -> after headers#2",
        ]
    );
}

#[test]
fn the_order_of_routes_matters_only_where_it_decides() {
    let route = |path: &str, name: &str| format!("{{ name: {name}, match: {{ path: {path} }} }}");
    let routes = |routes: [String; 2]| format!("routes: [{}]", routes.join(", "));
    let turned = |a: &str, b: &str| {
        let before = routes([route(a, "one"), route(b, "two")]);
        let after = routes([route(b, "two"), route(a, "one")]);
        told(&before, &after)
    };
    assert_eq!(turned("/a", "/b"), [""; 0]);
    assert_eq!(turned("/a", "/a").len(), 1);
    assert_eq!(turned("{ regex: ^/a }", "{ regex: ^/b }").len(), 1);
}

#[test]
fn that_a_secret_has_changed_is_told_without_it() {
    let jwt = |secret: &str| {
        format!("routes: [{{ name: a, filters: [{{ jwt: {{ secret: {secret} }} }}] }}]")
    };
    assert_eq!(
        told(&jwt("hunter2"), &jwt("hunter3")),
        ["changed routes[a].filters[jwt].secret *** -> ***"]
    );
    let changes = diff(&tree(&jwt("hunter2")), &tree(&jwt("hunter3")));
    let text = serde_json::to_string(&changes).unwrap() + &format!("{changes:?}");
    assert!(!text.contains("hunter"), "{text}");
    let shown = serde_json::to_string(&tree(&jwt("hunter2"))).unwrap();
    let shown: Tree = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        diff(&shown, &tree(&jwt("hunter3"))),
        [],
        "nobody has shown it"
    );
    assert_eq!(diff(&shown, &tree(&jwt("env:SECRET"))).len(), 1);
}

#[test]
fn lists_of_words_are_one_value() {
    assert_eq!(
        told(
            "trusted_proxies: [10.0.0.0/8]",
            "trusted_proxies: [10.0.0.0/8, ::1]"
        ),
        ["changed trusted_proxies [10.0.0.0/8] -> [10.0.0.0/8, ::1]"]
    );
}

#[test]
fn a_longest_rise_is_found() {
    for (numbers, length) in [
        (&[][..], 0),
        (&[3], 1),
        (&[0, 1, 2], 3),
        (&[2, 1, 0], 1),
        (&[4, 0, 1, 5, 2, 3], 4),
    ] {
        let places = longest_rise(numbers);
        assert_eq!(places.len(), length, "{numbers:?}");
        let mut rising: Vec<_> = places.into_iter().collect();
        rising.sort_unstable();
        assert!(
            rising
                .windows(2)
                .all(|pair| numbers[pair[0]] < numbers[pair[1]])
        );
    }
}

#[test]
fn a_summary_counts() {
    let changes = diff(&tree("a: 1\nb: 2"), &tree("a: 2\nc: 3"));
    assert_eq!(summary(&changes), "1 added, 1 removed, 1 changed");
    assert_eq!(summary(&[]), "none");
}
