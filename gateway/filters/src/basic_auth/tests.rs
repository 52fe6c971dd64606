//! Tests of the filter as a whole, with hashes that are cheap to verify.

use std::{fs, path::Path, sync::LazyLock};

use argon2::{Argon2, Params, password_hash::PasswordHasher};
use edgeway_sdk::{
    Resources,
    test::{self, Outcome, Trial},
};

use super::{remember::MEMORY, *};

static ARGON2: LazyLock<String> = LazyLock::new(|| argon2_hash("open sesame"));
static BCRYPT: LazyLock<String> = LazyLock::new(|| bcrypt::hash("pässwörd:x", 4).unwrap());

fn argon2_hash(password: &str) -> String {
    let params = Params::new(8, 1, 1, None).unwrap();
    let hash = Argon2::from(params).hash_password(password.as_bytes());
    hash.unwrap().to_string()
}

fn filter(more: &str) -> BasicAuth {
    let (ann, bob) = (&*ARGON2, &*BCRYPT);
    let json = format!(r#"{{"users": {{"ann": "{ann}", "bób": "{bob}"}}{more}}}"#);
    test::build(&json, build).unwrap()
}

fn basic(text: impl AsRef<[u8]>) -> Trial {
    Trial::get("/").header("authorization", &format!("Basic {}", BASE64.encode(text)))
}

async fn status(filter: &BasicAuth, trial: Trial) -> u16 {
    trial.run(filter).await.status().as_u16()
}

fn subject(outcome: &Outcome) -> Option<&str> {
    let identity = outcome.exchange.values.get::<Identity>()?;
    Some(identity.subject())
}

#[tokio::test]
async fn only_the_right_password_opens() {
    let filter = filter("");
    let huge = format!("ann:{}", "x".repeat(100_000));
    let cases: [(&[u8], u16); 14] = [
        (b"ann:open sesame", 200),
        ("bób:pässwörd:x".as_bytes(), 200),
        (b"ann:open sesame ", 401),
        (b"ann:", 401),
        (b"ann", 401),
        (b"", 401),
        (b":", 401),
        (b":open sesame", 401),
        (b"Ann:open sesame", 401),
        (b"bob:open sesame", 401),
        ("ann:pässwörd:x".as_bytes(), 401),
        (b"ann:open sesame\0", 401),
        (b"\xff\xfe:\xff", 401),
        (huge.as_bytes(), 401),
    ];
    for (text, expected) in cases {
        assert_eq!(status(&filter, basic(text)).await, expected, "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_name_and_password_is_refused() {
    let filter = filter("");
    let right = BASE64.encode("ann:open sesame");
    let cases = [
        (format!("Basic {right}"), 200),
        (format!("basic   {right}"), 200),
        (format!("Basic {}", right.trim_end_matches('=')), 200),
        (format!("Basic{right}"), 401),
        (format!("Bearer {right}"), 401),
        (format!("Basic {right}!"), 401),
        ("Basic ann:open sesame".to_owned(), 401),
        ("Basic".to_owned(), 401),
        ("Basic ".to_owned(), 401),
    ];
    for (value, expected) in cases {
        let trial = Trial::get("/").header("authorization", &value);
        assert_eq!(status(&filter, trial).await, expected, "{value}");
    }
    let twice = basic("ann:open sesame").header("authorization", "Basic x");
    assert_eq!(status(&filter, twice).await, 401);
    assert_eq!(status(&filter, Trial::get("/")).await, 401);
}

#[tokio::test]
async fn a_refusal_says_how_to_ask() {
    let outcome = Trial::get("/").run(&filter("")).await;
    let expected = r#"Basic realm="restricted", charset="UTF-8""#;
    assert_eq!(outcome.header("www-authenticate"), Some(expected));
    let filter = filter(r#", "realm": "the \"inner\" \\ circle""#);
    let outcome = basic("ann:wrong").run(&filter).await;
    let expected = r#"Basic realm="the \"inner\" \\ circle", charset="UTF-8""#;
    assert_eq!(outcome.header("www-authenticate"), Some(expected));
}

#[tokio::test]
async fn the_upstream_learns_the_name_and_not_the_password() {
    let outcome = basic("ann:open sesame")
        .run(&filter(r#", "header": "X-Auth-User""#))
        .await;
    assert_eq!(subject(&outcome), Some("ann"));
    assert_eq!(outcome.sent_header("x-auth-user"), Some("ann"));
    assert_eq!(outcome.sent_header("authorization"), None);
}

#[tokio::test]
async fn the_upstream_can_be_left_to_read_the_password() {
    let outcome = basic("bób:pässwörd:x")
        .run(&filter(r#", "strip": false, "header": "X-Auth-User""#))
        .await;
    assert!(outcome.sent.headers.contains_key("authorization"));
    let name = outcome.sent.headers.get("x-auth-user").unwrap();
    assert_eq!(name.as_bytes(), "bób".as_bytes());
}

#[tokio::test]
async fn no_identity_is_left_by_a_refusal() {
    let outcome = basic("ann:wrong").run(&filter("")).await;
    assert_eq!(subject(&outcome), None);
}

#[tokio::test]
async fn a_password_that_was_right_is_not_verified_again_for_a_while() {
    let mut filter = filter("");
    filter.patience = Duration::ZERO;
    assert_eq!(status(&filter, basic("ann:open sesame")).await, 200);
    // From here on nothing can be verified.
    let all = u32::try_from(filter.turns.0.available_permits()).unwrap();
    let _held = filter.turns.0.acquire_many(all).await.unwrap();
    assert_eq!(status(&filter, basic("ann:open sesame")).await, 200);
    assert_eq!(status(&filter, basic("ann:open sesame!")).await, 503);
    let digest = filter.remembered.digest(b"ann:open sesame");
    let later = Instant::now() + MEMORY;
    assert!(filter.remembered.find(&digest, later).is_none());
}

#[tokio::test]
async fn a_flood_of_passwords_is_told_to_come_back() {
    let mut filter = filter("");
    filter.patience = Duration::ZERO;
    let all = u32::try_from(filter.turns.0.available_permits()).unwrap();
    let held = filter.turns.0.acquire_many(all).await.unwrap();
    let outcome = basic("ann:open sesame").run(&filter).await;
    assert_eq!(outcome.status(), 503);
    assert_eq!(outcome.header("retry-after"), Some("1"));
    drop(held);
    assert_eq!(status(&filter, basic("ann:open sesame")).await, 200);
}

#[tokio::test]
async fn a_password_that_was_right_is_known_after_a_reload() {
    let stage = Stage::new(&format!("ann:{}\n", *ARGON2));
    let json = r#"{"users_file": "users"}"#;
    let before = stage.build(json).unwrap();
    assert_eq!(status(&before, basic("ann:open sesame")).await, 200);
    let mut after = stage.build(json).unwrap();
    after.patience = Duration::ZERO;
    let all = u32::try_from(after.turns.0.available_permits()).unwrap();
    let _held = after.turns.0.acquire_many(all).await.unwrap();
    assert_eq!(status(&after, basic("ann:open sesame")).await, 200);
    // But not for another hash, be it of the same password.
    let again = argon2_hash("open sesame");
    stage.write("users", &format!("ann:{again}\n"));
    let mut changed = stage.build(json).unwrap();
    changed.patience = Duration::ZERO;
    assert_eq!(status(&changed, basic("ann:open sesame")).await, 503);
}

#[tokio::test]
async fn turns_are_given_back() {
    let filter = filter("");
    let before = filter.turns.0.available_permits();
    for number in 0..20 {
        let outcome = basic(format!("nobody:{number}")).run(&filter).await;
        assert_eq!(outcome.status(), 401);
    }
    assert_eq!(filter.turns.0.available_permits(), before);
}

fn with_file(text: &str, more: &str) -> Result<BasicAuth, BuildError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), text).unwrap();
    let json = format!(r#"{{"users_file": "users"{more}}}"#);
    let resources = Resources::default();
    build(
        serde_json::from_str(&json).unwrap(),
        &mut Build::new(&resources, folder.path()),
    )
}

#[tokio::test]
async fn users_can_stand_in_a_file() {
    let (ann, bob) = (&*ARGON2, &*BCRYPT);
    let text = format!("# staff\n\nbob:{bob}\r\nann:{ann}\n");
    let more = format!(r#", "users": {{"cyd": "{ann}"}}"#);
    let filter = with_file(&text, &more).unwrap();
    for text in ["ann:open sesame", "bob:pässwörd:x", "cyd:open sesame"] {
        assert_eq!(status(&filter, basic(text)).await, 200, "{text}");
    }
}

#[test]
fn a_file_that_is_wrong_is_refused_with_the_line() {
    let ann = &*ARGON2;
    let cases = [
        ("ann:plain\n".to_owned(), "line 1"),
        (format!("ann:{ann}\nbob\n"), "line 2"),
        (format!("ann:{ann}\n\nann:{ann}\n"), "line 3"),
        ("ann:$apr1$x$y\n".to_owned(), "line 1"),
        (format!(":{ann}\n"), "line 1"),
    ];
    for (text, place) in cases {
        let error = with_file(&text, "").err().expect(&text);
        assert_eq!(error.key.as_deref(), Some("users_file"));
        assert!(error.message.starts_with(place), "{error}");
        assert!(!error.message.contains("plain"), "{error}");
    }
    let error = with_file("# nobody\n", "").err().unwrap();
    assert!(error.message.contains("no user"), "{error}");
}

/// A folder in which a filter's files stand, and the filter.
struct Stage {
    folder: tempfile::TempDir,
    resources: Resources,
}

impl Stage {
    fn new(users: &str) -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
            resources: Resources::default(),
        };
        stage.write("users", users);
        stage
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The filter, built anew as a reload does: it sees the files as they are now.
    fn build(&self, json: &str) -> Result<BasicAuth, BuildError> {
        let mut build = Build::new(&self.resources, self.folder.path());
        super::build(serde_json::from_str(json).unwrap(), &mut build)
    }
}

#[tokio::test]
async fn who_is_no_longer_in_the_file_or_has_another_password_is_out_at_once() {
    let (ann, bob) = (&*ARGON2, &*BCRYPT);
    let stage = Stage::new(&format!("ann:{ann}\nbob:{bob}\n"));
    let json = r#"{"users_file": "users"}"#;
    let filter = stage.build(json).unwrap();
    for text in ["ann:open sesame", "bob:pässwörd:x"] {
        assert_eq!(status(&filter, basic(text)).await, 200, "{text}");
    }
    stage.write("users", &format!("ann:{bob}\n"));
    let _again = stage.build(json).unwrap();
    for text in ["ann:open sesame", "bob:pässwörd:x"] {
        assert_eq!(status(&filter, basic(text)).await, 401, "{text}");
    }
    assert_eq!(status(&filter, basic("ann:pässwörd:x")).await, 200);
}

#[tokio::test]
async fn nobody_enters_when_the_file_has_lost_its_last_user() {
    let stage = Stage::new(&format!("ann:{}\n", *ARGON2));
    let json = r#"{"users_file": "users"}"#;
    let filter = stage.build(json).unwrap();
    stage.write("users", "# nobody\n");
    assert!(stage.build(json).is_err());
    for text in ["ann:open sesame", "bob:x"] {
        assert_eq!(status(&filter, basic(text)).await, 401, "{text}");
    }
}

#[tokio::test]
async fn the_groups_of_a_user_are_roles() {
    let (ann, bob) = (&*ARGON2, &*BCRYPT);
    let stage = Stage::new(&format!("bob:{bob}\n"));
    stage.write(
        "groups",
        "# who is who\nstaff: ann  carl\nadmin:ann ann\nstaff: ann\nnone:\n",
    );
    let json = format!(
        r#"{{"users": {{"ann": "{ann}"}}, "users_file": "users", "groups_file": "groups"}}"#
    );
    let filter = stage.build(&json).unwrap();
    let roles = async |text: &str| {
        let outcome = basic(text).run(&filter).await;
        let identity = outcome.exchange.values.get::<Identity>().unwrap();
        identity.claim("roles").cloned()
    };
    let expected = serde_json::json!(["staff", "admin"]);
    assert_eq!(roles("ann:open sesame").await, Some(expected));
    assert_eq!(roles("bob:pässwörd:x").await, None);
    stage.write("groups", "staff: bob\n");
    let _again = stage.build(&json).unwrap();
    assert_eq!(
        roles("ann:open sesame").await,
        None,
        "though her password is remembered"
    );
    assert_eq!(
        roles("bob:pässwörd:x").await,
        Some(serde_json::json!(["staff"]))
    );
}

#[test]
fn a_file_of_groups_that_is_wrong_is_refused_with_the_line() {
    let stage = Stage::new(&format!("ann:{}\n", *ARGON2));
    let json = r#"{"users_file": "users", "groups_file": "groups"}"#;
    let error = stage.build(json).err().unwrap();
    assert_eq!(error.key.as_deref(), Some("groups_file"));
    for text in ["staff: ann\nbob\n", "\n: ann\n"] {
        stage.write("groups", text);
        let error = stage.build(json).err().expect(text);
        assert!(error.message.starts_with("line 2"), "{error}");
    }
}

#[test]
fn a_user_stands_in_one_place() {
    let ann = &*ARGON2;
    let stage = Stage::new(&format!("ann:{ann}\n"));
    let json = format!(r#"{{"users": {{"ann": "{ann}"}}, "users_file": "users"}}"#);
    let error = stage.build(&json).err().unwrap();
    assert_eq!(error.key.as_deref(), Some("users_file"));
}

#[tokio::test]
async fn a_refusal_names_the_user_only_if_there_is_one() {
    let filter = filter("");
    for (text, rule, key) in [
        ("ann:wrong", "wrong", Some("ann")),
        ("hunter2:wrong", "wrong", None),
        ("", "missing", None),
    ] {
        let reply = basic(text).run(&filter).await.reply.unwrap();
        assert_eq!(
            (reply.decided_by_rule(), reply.about()),
            (Some(rule), key),
            "{text}"
        );
    }
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let error = test::build("{}", build).err().unwrap();
    assert!(error.message.contains("no user"), "{error}");
    for json in [
        r#"{"users": {"a:b": "HASH"}}"#,
        r#"{"users": {"": "HASH"}}"#,
        r#"{"users": {" a": "HASH"}}"#,
        r#"{"users": {"a": "HASH"}, "realm": "é"}"#,
        r#"{"users": {"a": "HASH"}, "realm": ""}"#,
    ] {
        let json = json.replace("HASH", &ARGON2);
        assert!(serde_json::from_str::<Config>(&json).is_err(), "{json}");
    }
}

#[test]
fn the_name_can_not_take_the_place_of_the_password() {
    let json = format!(
        r#"{{"users": {{"ann": "{}"}}, "header": "Authorization"}}"#,
        *ARGON2
    );
    let error = test::build(&json, build).err().unwrap();
    assert_eq!(error.key.as_deref(), Some("header"));
}

#[test]
fn the_header_of_the_name_is_kept_from_clients() {
    let json = format!(
        r#"{{"users": {{"ann": "{}"}}, "header": "X-Auth-User"}}"#,
        &*ARGON2
    );
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new("."));
    build(serde_json::from_str(&json).unwrap(), &mut stage).unwrap();
    assert_eq!(stage.reserved, ["x-auth-user"]);
    let json = json.replace("X-Auth-User", "Host");
    let error = test::build(&json, build).err().unwrap();
    assert_eq!(error.key.as_deref(), Some("header"));
}
