//! Tests of the filter as a whole.

mod mmdb;

use std::fs;

use edgeway_sdk::{Resources, test::Trial};
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let countries = mmdb::countries(&[
        ("192.0.2.0/24", "DE"),
        ("198.51.100.0/24", "FR"),
        ("203.0.113.0/24", "KP"),
        ("2001:db8:1::/48", "DE"),
        ("2001:db8:2::/48", "KP"),
    ]);
    fs::write(folder.path().join("countries.mmdb"), countries).unwrap();
    let asns = mmdb::asns(&[("192.0.2.0/25", 64_496), ("203.0.113.0/24", 64_497)]);
    fs::write(folder.path().join("asns.mmdb"), asns).unwrap();
    folder
}

fn filter(folder: &TempDir, json: &str) -> Result<IpAccess, BuildError> {
    let resources = Resources::default();
    let config = serde_json::from_str(json).map_err(BuildError::new)?;
    build(config, &mut Build::new(&resources, folder.path()))
}

/// Whether clients at these addresses may pass.
async fn check(json: &str, cases: &[(&str, bool)]) {
    let folder = folder();
    let filter = filter(&folder, json).unwrap();
    for (address, passes) in cases {
        let address: IpAddr = address.parse().unwrap();
        let outcome = Trial::get("/").client(address).run(&filter).await;
        assert_eq!(outcome.passed(), *passes, "{json} {address}");
    }
}

#[tokio::test]
async fn what_is_denied_is_refused_and_the_rest_passes() {
    let cases = [
        ("192.0.2.1", false),
        ("192.0.3.1", true),
        ("::ffff:192.0.2.1", false),
        ("2001:db8::1", false),
        ("2001:db9::1", true),
    ];
    check(r#"{"deny": ["192.0.2.0/24", "2001:db8::/32"]}"#, &cases).await;
}

#[tokio::test]
async fn where_something_is_allowed_the_rest_is_refused_and_denying_is_stronger() {
    let cases = [
        ("10.0.0.1", true),
        ("10.1.0.1", false),
        ("11.0.0.1", false),
        ("::1", false),
    ];
    check(
        r#"{"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}"#,
        &cases,
    )
    .await;
    // However narrow what is allowed.
    check(
        r#"{"allow": ["10.1.0.1"], "deny": ["10.0.0.0/8"]}"#,
        &[("10.1.0.1", false)],
    )
    .await;
}

#[tokio::test]
async fn only_countries_that_are_allowed_pass() {
    let json = r#"{"countries": {"database": "countries.mmdb", "allow": ["de", "FR"]}, "allow": ["10.0.0.0/8"]}"#;
    let cases = [
        ("192.0.2.1", true),
        ("198.51.100.1", true),
        ("203.0.113.1", false),
        ("2001:db8:1::7", true),
        ("2001:db8:2::7", false),
        ("::ffff:192.0.2.1", true),
        // Unknown to the database, the first one allowed otherwise.
        ("10.0.0.1", true),
        ("11.0.0.1", false),
        ("::1", false),
    ];
    check(json, &cases).await;
    let json = json.replace(r#""allow": ["de""#, r#""unknown": "allow", "allow": ["de""#);
    let cases = [
        ("11.0.0.1", true),
        ("192.0.2.1", true),
        ("203.0.113.1", false),
    ];
    check(&json, &cases).await;
}

#[tokio::test]
async fn countries_that_are_denied_do_not_pass() {
    let json = r#"{"countries": {"database": "countries.mmdb", "deny": ["KP"]}}"#;
    let cases = [
        ("203.0.113.1", false),
        ("192.0.2.1", true),
        ("11.0.0.1", true),
    ];
    check(json, &cases).await;
    let json =
        r#"{"countries": {"database": "countries.mmdb", "deny": ["KP"], "unknown": "deny"}}"#;
    let cases = [
        ("203.0.113.1", false),
        ("192.0.2.1", true),
        ("11.0.0.1", false),
    ];
    check(json, &cases).await;
    // What is allowed by its address is not barred for being unknown, but is for its country.
    let json = r#"{"allow": ["11.0.0.0/8", "203.0.113.1"],
        "countries": {"database": "countries.mmdb", "deny": ["KP"], "unknown": "deny"}}"#;
    let cases = [
        ("203.0.113.1", false),
        ("192.0.2.1", false),
        ("11.0.0.1", true),
    ];
    check(json, &cases).await;
}

#[tokio::test]
async fn networks_are_judged_by_their_numbers() {
    let json = r#"{"asns": {"database": "asns.mmdb", "deny": ["AS64497"]}}"#;
    check(json, &[("203.0.113.1", false), ("192.0.2.1", true)]).await;
    let json = r#"{"asns": {"database": "asns.mmdb", "allow": [64496]}}"#;
    let cases = [
        ("192.0.2.1", true),
        ("192.0.2.200", false),
        ("203.0.113.1", false),
    ];
    check(json, &cases).await;
    // Either is enough, and each may deny.
    let json = r#"{"asns": {"database": "asns.mmdb", "allow": [64496], "deny": [64497]},
        "countries": {"database": "countries.mmdb", "allow": ["FR", "KP"]}}"#;
    let cases = [
        ("192.0.2.1", true),
        ("192.0.2.200", false),
        ("198.51.100.1", true),
        ("203.0.113.1", false),
    ];
    check(json, &cases).await;
}

#[tokio::test]
async fn a_refusal_tells_the_operator_all_and_the_client_little() {
    let folder = folder();
    fs::write(folder.path().join("bad.txt"), "198.51.100.9\n").unwrap();
    let json = r#"{"deny": ["10.0.0.0/8"], "deny_files": ["bad.txt"], "status": 404,
        "countries": {"database": "countries.mmdb", "deny": ["KP"], "allow": ["DE"]}}"#;
    let filter = filter(&folder, json).unwrap();
    for (address, rule, reason) in [
        ("10.0.0.1", "deny", "10.0.0.1 is in `deny`"),
        ("::ffff:10.0.0.1", "deny", "10.0.0.1 is in `deny`"),
        ("198.51.100.9", "deny", "198.51.100.9 is in `bad.txt`"),
        (
            "203.0.113.1",
            "country",
            "203.0.113.1 belongs to KP, which is denied",
        ),
        ("::1", "not_allowed", "::1 is not allowed by anything"),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let outcome = Trial::get("/").client(address).run(&filter).await;
        assert_eq!(outcome.status(), 404);
        let reply = outcome.reply.unwrap();
        assert_eq!(reply.reason(), Some(reason));
        assert_eq!(
            reply.client_detail(),
            Some("Access from your address is not allowed.")
        );
        assert_eq!(reply.decided_by_rule(), Some(rule));
        assert_eq!(reply.about(), reason.split(' ').next());
    }
}

#[test]
fn a_database_that_knows_something_else_is_refused() {
    let folder = folder();
    for (json, key, message) in [
        (
            r#"{"countries": {"database": "asns.mmdb", "deny": ["KP"]}}"#,
            "countries.database",
            "`Test-ASN` has no countries",
        ),
        (
            r#"{"asns": {"database": "countries.mmdb", "deny": [1]}}"#,
            "asns.database",
            "`Test-Country` has no numbers",
        ),
        (
            r#"{"countries": {"database": "none.mmdb", "deny": ["KP"]}}"#,
            "countries.database",
            "can't read",
        ),
    ] {
        let error = filter(&folder, json).err().expect(json);
        assert_eq!(error.key.as_deref(), Some(key));
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn a_database_that_is_broken_anywhere_is_refused() {
    let whole = mmdb::countries(&[("192.0.2.0/24", "DE"), ("2001:db8::/32", "FR")]);
    assert!(Lookup::<Country>::parses(&whole));
    for length in (0..whole.len()).step_by(7) {
        assert!(!Lookup::<Country>::parses(&whole[..length]), "{length}");
    }
    // Every branch that leads nowhere: a record in the tree that points behind the data.
    let mut bent = whole.clone();
    bent[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(!Lookup::<Country>::parses(&bent));
}

impl<T: Attribute> Lookup<T> {
    fn parses(bytes: &[u8]) -> bool {
        use crate::watched::Content;

        database::Database::<T>::parse(bytes.to_vec()).is_ok()
    }
}

#[test]
fn what_would_have_no_effect_or_can_not_be_meant_is_refused() {
    let folder = folder();
    for (json, key) in [
        ("{}", None),
        (r#"{"status": 404}"#, None),
        (r#"{"allow": []}"#, Some("allow")),
        (r#"{"allow": ["10.0.0.1"], "deny": []}"#, Some("deny")),
        (
            r#"{"countries": {"database": "countries.mmdb"}}"#,
            Some("countries"),
        ),
        (
            r#"{"countries": {"database": "countries.mmdb", "allow": []}}"#,
            Some("countries.allow"),
        ),
        (
            r#"{"asns": {"database": "asns.mmdb", "unknown": "allow"}}"#,
            Some("asns"),
        ),
        (r#"{"allow_files": ["none.txt"]}"#, Some("allow_files.0")),
        (
            r#"{"deny": ["::1"], "deny_files": ["none.txt"]}"#,
            Some("deny_files.0"),
        ),
    ] {
        let error = filter(&folder, json).err().expect(json);
        assert_eq!(error.key.as_deref(), key, "{json}: {error}");
    }
    for json in [
        r#"{"deny": ["10.1.2.3/8"]}"#,
        r#"{"deny": ["::1"], "status": 200}"#,
        r#"{"deny": ["::1"], "status": 600}"#,
        r#"{"countries": {"database": "countries.mmdb", "deny": ["Korea"]}}"#,
        r#"{"countries": {"database": "countries.mmdb", "deny": ["D1"]}}"#,
        r#"{"asns": {"database": "asns.mmdb", "deny": ["KP"]}}"#,
        r#"{"asns": {"database": "asns.mmdb", "deny": [-1]}}"#,
    ] {
        assert!(filter(&folder, json).is_err(), "{json}");
    }
}
