//! Tests of the filter as a whole.

use std::fs;

use edgeway_sdk::{
    Resources,
    test::{self, Outcome, Trial},
};
use serde_json::json;

use super::*;

const KEY: &str = "edgeway_one";
const OTHER: &str = "edgeway_two";

fn hash(key: &str) -> String {
    Hash::of(key.as_bytes()).to_string()
}

/// Two keys: of `acme`, with roles and metadata, and of `bob`, which is over.
fn filter(more: &str) -> ApiKey {
    let (one, two) = (hash(KEY), hash(OTHER));
    let json = format!(
        r#"{{"keys": [
            {{"id": "acme", "hash": "{one}", "roles": ["partner", "read"], "metadata": {{"plan": "gold", "seats": 3}},
              "not_after": "2999-12-31"}},
            {{"id": "bob", "hash": "{two}", "not_after": "2020-01-01T00:00:00Z"}}]{more}}}"#
    );
    test::build(&json, build).unwrap()
}

fn subject(outcome: &Outcome) -> Option<&str> {
    Some(outcome.exchange.values.get::<Identity>()?.subject())
}

#[tokio::test]
async fn only_a_key_that_is_known_opens() {
    let filter = filter("");
    for (key, status) in [
        (KEY, 200),
        ("edgeway_On", 401),
        ("edgeway_one ", 401),
        ("Edgeway_one", 401),
        ("edgeway_oneedgeway_one", 401),
        ("", 401),
        (OTHER, 401),
        (&hash(KEY), 401),
    ] {
        let outcome = Trial::get("/").header("x-api-key", key).run(&filter).await;
        assert_eq!(outcome.status(), status, "{key}");
        assert_eq!(
            subject(&outcome),
            (status == 200).then_some("acme"),
            "{key}"
        );
    }
    assert_eq!(Trial::get("/").run(&filter).await.status(), 401);
    let elsewhere = Trial::get(&format!("/?api_key={KEY}")).bearer(KEY);
    assert_eq!(elsewhere.run(&filter).await.status(), 401);
}

#[tokio::test]
async fn a_key_may_stand_in_several_places() {
    let filter = filter(r#", "from": [{"header": "X-Key"}, "bearer", {"query": "api_key"}]"#);
    let header = || Trial::get("/").header("x-key", KEY);
    let cases = [
        (header(), 200),
        (Trial::get("/").bearer(KEY), 200),
        (
            Trial::get("/").header("authorization", &format!("bEARER  {KEY}")),
            200,
        ),
        (Trial::get("/").header("authorization", KEY), 401),
        (
            Trial::get("/").header("authorization", &format!("Basic {KEY}")),
            401,
        ),
        (Trial::get(&format!("/?a=1&api_key={KEY}&b=2")), 200),
        (Trial::get("/?api%5Fkey=edgeway%5Fone"), 200),
        (header().bearer(KEY), 200),
        (header().bearer(OTHER), 400),
        (header().header("x-key", KEY), 200),
        (header().header("x-key", "x"), 400),
        (header().header("authorization", "Basic eDp5"), 200),
        (Trial::get(&format!("/?api_key={KEY}&api_key=x")), 400),
        (Trial::get(&format!("/?api_key=x&api_key={KEY}")), 400),
        (Trial::get("/").header("x-api-key", KEY), 401),
    ];
    for (index, (trial, status)) in cases.into_iter().enumerate() {
        assert_eq!(trial.run(&filter).await.status(), status, "{index}");
    }
}

#[tokio::test]
async fn the_key_is_kept_from_the_upstream_unless_it_is_wanted() {
    let from = r#", "from": [{"header": "X-Key"}, "bearer", {"query": "api_key"}]"#;
    let stripping = filter(from);
    let target = |outcome: &Outcome| outcome.sent.uri.to_string();
    let query = format!("/a?x=1&api_key={KEY}&y=2");
    let outcome = Trial::get(&query)
        .bearer(KEY)
        .header("x-key", KEY)
        .run(&stripping)
        .await;
    assert_eq!(target(&outcome), "/a?x=1&y=2");
    assert_eq!(outcome.sent_header("authorization"), None);
    assert_eq!(outcome.sent_header("x-key"), None);
    let basic = Trial::get("/")
        .header("x-key", KEY)
        .header("authorization", "Basic eDp5");
    let outcome = basic.run(&stripping).await;
    assert_eq!(outcome.sent_header("authorization"), Some("Basic eDp5"));
    let keeping = filter(&format!(r#"{from}, "strip": false"#));
    let outcome = Trial::get(&query).bearer(KEY).run(&keeping).await;
    assert_eq!(target(&outcome), query);
    assert!(outcome.sent_header("authorization").is_some());
}

#[tokio::test]
async fn a_key_in_the_query_is_out_of_it_before_anything_is_logged() {
    let filter = filter(r#", "from": [{"query": "api_key"}]"#);
    let outcome = Trial::get("/a?api_key=wrong&b=1").run(&filter).await;
    assert_eq!(outcome.status(), 401);
    assert_eq!(outcome.request.uri, "/a?b=1");
    let mut reporting = filter;
    reporting.reports = true;
    let outcome = Trial::get("/a?api_key=wrong&b=1").run(&reporting).await;
    assert_eq!(
        outcome.request.uri, "/a?api_key=wrong&b=1",
        "the request goes on as it came"
    );
}

#[tokio::test]
async fn later_filters_and_upstreams_learn_whose_key_it_is() {
    let filter = filter(
        r#", "forward": {"id": "X-Caller", "plan": "X-Plan", "roles": "X-Roles", "none": "X-None"}"#,
    );
    // The second time it is remembered.
    for _ in 0..2 {
        let outcome = Trial::get("/").header("x-api-key", KEY).run(&filter).await;
        for (header, value) in [
            ("x-caller", Some("acme")),
            ("x-plan", Some("gold")),
            ("x-roles", Some("partner,read")),
            ("x-none", None),
        ] {
            assert_eq!(outcome.sent_header(header), value, "{header}");
        }
        let identity = outcome.exchange.values.get::<Identity>().unwrap();
        let expected =
            json!({"id": "acme", "roles": ["partner", "read"], "plan": "gold", "seats": 3});
        assert_eq!(serde_json::Value::from(identity.claims().clone()), expected);
    }
}

#[tokio::test]
async fn without_a_key_a_request_passes_only_where_it_may() {
    let filter = filter(r#", "optional": true, "forward": {"id": "X-Caller"}"#);
    // Said by a filter before: clients can't send it.
    let outcome = Trial::get("/").header("x-caller", "ann").run(&filter).await;
    assert_eq!((outcome.status().as_u16(), subject(&outcome)), (200, None));
    assert_eq!(outcome.sent_header("x-caller"), Some("ann"));
    let outcome = Trial::get("/")
        .header("x-api-key", "wrong")
        .run(&filter)
        .await;
    assert_eq!(outcome.status(), 401);
}

#[tokio::test]
async fn a_refusal_says_what_the_client_may_know() {
    let one = filter("");
    let refused = async |trial: Trial| trial.run(&one).await;
    let key = |key| Trial::get("/").header("x-api-key", key);
    let double = key(KEY).header("x-api-key", "x");
    for (trial, rule, about, detail) in [
        (Trial::get("/"), "missing", None, None),
        (key("x"), "unknown", None, None),
        (
            key(OTHER),
            "expired",
            Some("bob"),
            Some("The key is no longer valid."),
        ),
        (
            double,
            "ambiguous",
            None,
            Some("More than one key was sent."),
        ),
    ] {
        let outcome = refused(trial).await;
        let is_asked = outcome.header("www-authenticate") == Some("ApiKey realm=\"edgeway\"");
        assert_eq!(is_asked, outcome.status() == 401);
        let reply = outcome.reply.unwrap();
        assert_eq!(reply.decided_by_rule(), Some(rule));
        assert_eq!((reply.about(), reply.client_detail()), (about, detail));
    }
    let bearer = filter(r#", "from": ["bearer"], "realm": "orders""#);
    let outcome = Trial::get("/").run(&bearer).await;
    assert_eq!(
        outcome.header("www-authenticate"),
        Some("Bearer realm=\"orders\"")
    );
}

/// A folder with a file of keys.
struct Stage {
    folder: tempfile::TempDir,
    resources: Resources,
}

impl Stage {
    fn new(text: &str) -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
            resources: Resources::default(),
        };
        stage.write(text);
        stage
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("keys.yaml"), text).unwrap();
    }

    fn build(&self, more: &str) -> Result<ApiKey, BuildError> {
        let config = serde_json::from_str(&format!(r#"{{"keys_file": "keys.yaml"{more}}}"#));
        let mut build = Build::new(&self.resources, self.folder.path());
        super::build(config.unwrap(), &mut build)
    }
}

#[tokio::test]
async fn keys_can_stand_in_a_file() {
    let (one, two) = (hash(KEY), hash(OTHER));
    let text = format!(
        "# partners\n- id: acme\n  hash: {one}\n  roles: [a]\n  metadata: {{ plan: [x, y] }}\n\
        - {{ id: acme, hash: '{two}' }}\n"
    );
    let stage = Stage::new(&text);
    let filter = stage.build("").unwrap();
    for key in [KEY, OTHER] {
        let outcome = Trial::get("/").header("x-api-key", key).run(&filter).await;
        assert_eq!(
            subject(&outcome),
            Some("acme"),
            "one caller may have two keys"
        );
    }
    stage.write(&format!("- {{ id: acme, hash: '{two}' }}\n"));
    let _again = stage.build("").unwrap();
    for (key, status) in [(KEY, 401), (OTHER, 200)] {
        let outcome = Trial::get("/").header("x-api-key", key).run(&filter).await;
        assert_eq!(outcome.status(), status, "{key}");
    }
}

#[test]
fn a_file_that_is_wrong_is_refused_with_the_line() {
    let one = hash(KEY);
    for (text, place) in [
        (format!("- id: a\n  hash: {KEY}\n"), "line 1"),
        (
            format!("\n- id: a\n  hash: {one}\n  rolls: [a]\n"),
            "line 2",
        ),
        (
            format!("- id: a\n  hash: {one}\n- id: b\n  hash: {one}\n"),
            "line 3",
        ),
        (format!("- id: ''\n  hash: {one}\n"), "line 1"),
        (
            format!("- id: a\n  hash: {one}\n  metadata: {{ roles: b }}\n"),
            "line 1",
        ),
        (
            format!("- id: a\n  hash: {one}\n  metadata: {{ a: {{ b: c }} }}\n"),
            "line 1",
        ),
        (
            format!("- id: a\n  hash: {one}\n  not_after: tomorrow\n"),
            "line 1",
        ),
        ("- id: a\n".to_owned(), "line 1"),
        ("keys: []\n".to_owned(), "line 1"),
    ] {
        let error = Stage::new(&text).build("").err().expect(&text);
        assert_eq!(error.key.as_deref(), Some("keys_file"));
        assert!(error.message.starts_with(place), "{text}: {error}");
        assert!(!error.message.contains(KEY), "{error}");
    }
    let error = Stage::new("# none\n").build("").err().unwrap();
    assert!(error.message.contains("no key"), "{error}");
}

#[test]
fn metadata_that_can_not_be_forwarded_is_refused_at_load() {
    let text = format!(
        "- id: a\n  hash: {}\n  metadata: {{ plan: ['x,y'] }}\n",
        hash(KEY)
    );
    let stage = Stage::new(&text);
    assert!(stage.build("").is_ok());
    let error = stage
        .build(r#", "forward": {"plan": "X-Plan"}"#)
        .err()
        .unwrap();
    assert_eq!(error.key.as_deref(), Some("forward"));
}

#[tokio::test]
async fn metadata_that_can_not_be_forwarded_later_lets_nobody_pass() {
    let entry = |plan: &str| {
        format!(
            "- id: a\n  hash: {}\n  metadata: {{ plan: {plan} }}\n",
            hash(KEY)
        )
    };
    let stage = Stage::new(&entry("x"));
    let filter = stage.build(r#", "forward": {"plan": "X-Plan"}"#).unwrap();
    stage.write(&entry("['x,y']"));
    let _again = stage.build("").unwrap();
    let outcome = Trial::get("/").header("x-api-key", KEY).run(&filter).await;
    assert_eq!(outcome.status(), 500);
    assert_eq!(subject(&outcome), None);
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let one = hash(KEY);
    let with = |more: &str| format!(r#"{{"keys": [{{"id": "a", "hash": "{one}"}}], {more}}}"#);
    for (json, key) in [
        ("{}".to_owned(), None),
        (with(r#""from": []"#), Some("from")),
        (
            with(r#""from": [{"header": "Authorization"}]"#),
            Some("from.0"),
        ),
        (
            with(r#""from": ["bearer", {"header": "Connection"}]"#),
            Some("from.1"),
        ),
        (with(r#""from": ["bearer", "bearer"]"#), Some("from.1")),
        (with(r#""from": [{"query": ""}]"#), Some("from.0")),
        (
            with(r#""forward": {"id": "X-API-Key"}"#),
            Some("forward.id"),
        ),
        (
            with(r#""from": ["bearer"], "forward": {"id": "Authorization"}"#),
            Some("forward.id"),
        ),
        (
            format!(
                r#"{{"keys": [{{"id": "a", "hash": "{one}"}}, {{"id": "b", "hash": "{one}"}}]}}"#
            ),
            Some("keys.1"),
        ),
    ] {
        let error = test::build(&json, build).err().expect(&json);
        assert_eq!(error.key.as_deref(), key, "{json}: {error}");
    }
    for json in [
        with(r#""realm": """#),
        with(r#""realm": "a\"b""#),
        with(r#""from": ["cookie"]"#),
    ] {
        assert!(test::build(&json, build).is_err(), "{json}");
    }
}

#[test]
fn a_query_that_logs_would_show_is_warned_of_and_headers_are_reserved() {
    let warnings = |more: &str| {
        let json = format!(
            r#"{{"keys": [{{"id": "a", "hash": "{}"}}]{more}}}"#,
            hash(KEY)
        );
        let resources = Resources::default();
        let mut stage = Build::new(&resources, std::path::Path::new("."));
        build(serde_json::from_str(&json).unwrap(), &mut stage).unwrap();
        (stage.warnings.len(), stage.reserved)
    };
    assert_eq!(warnings(r#", "from": [{"query": "api_key"}]"#).0, 0);
    assert_eq!(warnings(r#", "from": [{"query": "k"}]"#).0, 1);
    let (_, reserved) = warnings(r#", "forward": {"id": "X-Caller"}"#);
    assert_eq!(reserved, ["x-caller"]);
}
