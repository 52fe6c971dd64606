//! The filter `basic_auth`: a name and a password.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use edgeway_tests::{Answer, Echo, Gateway, PATIENCE, Setup, eventually, load};

use crate::cli::edgeway_with;

/// bcrypt of `open sesame`, as cheap as can be.
const ANN: &str = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
/// argon2id of `123456`.
const BOB: &str = "$argon2id$v=19$m=19456,t=2,p=1$x/WaUhncPsQqgxQFgrKcZg$oaprJd12JLyCO5gZ85KRN0dYZQVNF5m+U6uclkAlAgQ";
/// bcrypt of `pä:ss`.
const CID: &str = "$2b$04$abcdefghijklmnopqrstuuhC0bPoUtF5o8bp2gaL0R3/vQ51MSUoO";

fn setup(echo: &Echo, more: &str) -> Setup {
    let yaml = format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters: [access_log]
        routes:
          - filters:
              - basic_auth: {{ {more} }}
              - headers: {{ request: {{ set: {{ X-Subject: '{{subject}}' }} }} }}
            upstream: echo
        "
    );
    Gateway::setup(&yaml)
}

fn gateway(echo: &Echo, more: &str) -> Gateway {
    setup(
        echo,
        &format!("users: {{ ann: '{ANN}', bob: '{BOB}' }}{more}"),
    )
    .start()
}

fn basic(credentials: impl AsRef<[u8]>) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

fn ask(gateway: &Gateway, credentials: &str) -> Answer {
    let request = gateway.request("GET", "/");
    request.header("Authorization", basic(credentials)).send()
}

#[test]
fn who_has_the_right_password_enters() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    for credentials in ["ann:open sesame", "bob:123456"] {
        // The second time it is remembered.
        for _ in 0..2 {
            let answer = ask(&gateway, credentials);
            assert_eq!(answer.status, 200, "{credentials}");
            let name = credentials.split(':').next().unwrap();
            assert_eq!(answer.received("x-subject"), [name]);
        }
    }
    let line = gateway.wait_for_output(r#""subject":"bob""#);
    assert!(line.contains(r#""status":200"#), "{line}");
}

#[test]
fn who_has_not_is_asked_for_it() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    for wrong in [
        "ann:123456",
        "bob:open sesame",
        "ann:",
        "ann:open sesame ",
        "nobody:123456",
        ":",
        "ann",
        "",
    ] {
        let answer = ask(&gateway, wrong);
        assert_eq!(answer.status, 401, "{wrong}");
        let challenge = answer.header("WWW-Authenticate");
        assert_eq!(
            challenge,
            Some(r#"Basic realm="restricted", charset="UTF-8""#)
        );
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/problem+json")
        );
    }
    assert_eq!(echo.stats().requests, 0);
    let line = gateway.wait_for_output("wrong name or password");
    assert!(line.contains(r#""filter":"basic_auth""#), "{line}");
    assert!(!gateway.output().contains("123456"));
}

#[test]
fn nothing_but_a_name_and_a_password_is_let_in() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let good = basic("ann:open sesame");
    for odd in [
        "Basic",
        "Basic ",
        "Basic !!!",
        "Bearer x",
        good.trim_start_matches("Basic "),
    ] {
        assert_eq!(
            gateway
                .request("GET", "/")
                .header("Authorization", odd)
                .send()
                .status,
            401,
            "{odd}"
        );
    }
    let twice = gateway
        .request("GET", "/")
        .header("Authorization", &good)
        .header("Authorization", &good);
    assert_eq!(twice.send().status, 400);
    assert_eq!(gateway.get("/").status, 401);
    assert_eq!(
        gateway
            .request("OPTIONS", "/")
            .header("Upgrade", "x")
            .send()
            .status,
        401
    );
    assert_eq!(echo.stats().requests, 0);
}

#[test]
fn users_may_stand_in_a_file() {
    let echo = Echo::start();
    let file = format!("# the users\nann:{ANN}\n\ncid:{CID}\n");
    let gateway = setup(&echo, "users_file: users.htpasswd")
        .file("users.htpasswd", file)
        .start();
    assert_eq!(ask(&gateway, "ann:open sesame").status, 200);
    // The first colon ends the name, and a password is UTF-8.
    assert_eq!(ask(&gateway, "cid:pä:ss").status, 200);
    assert_eq!(ask(&gateway, "bob:123456").status, 401);

    gateway.write("users.htpasswd", format!("bob:{BOB}\n"));
    assert!(gateway.reload_files());
    assert_eq!(ask(&gateway, "ann:open sesame").status, 401);
    assert_eq!(ask(&gateway, "bob:123456").status, 200);
}

#[test]
fn the_file_is_read_again_when_it_changes_and_rubbish_changes_nothing() {
    let echo = Echo::start();
    let file = format!("ann:{ANN}\nbob:{BOB}\n");
    let gateway = setup(&echo, "users_file: users.htpasswd")
        .file("users.htpasswd", file)
        .start();
    for credentials in ["ann:open sesame", "bob:123456"] {
        assert_eq!(ask(&gateway, credentials).status, 200, "{credentials}");
    }
    // Ann is gone, though her password is remembered.
    gateway.write("users.htpasswd", format!("bob:{BOB}\n"));
    eventually(PATIENCE, || ask(&gateway, "ann:open sesame").status == 401);
    gateway.write("users.htpasswd", "bob:123456\n");
    let warning = gateway.wait_for_log("not a password");
    assert!(warning.contains("line 1 of"), "{warning}");
    assert!(!warning.contains("123456"), "{warning}");
    assert_eq!(ask(&gateway, "bob:123456").status, 200);
    assert_eq!(ask(&gateway, "ann:open sesame").status, 401);
    fs::remove_file(gateway.folder().join("users.htpasswd")).unwrap();
    gateway.wait_for_log("No such file");
    assert_eq!(ask(&gateway, "bob:123456").status, 200);
    gateway.write("users.htpasswd", format!("cid:{CID}\n"));
    eventually(PATIENCE, || ask(&gateway, "cid:pä:ss").status == 200);
    assert_eq!(ask(&gateway, "bob:123456").status, 401);
}

#[test]
fn a_file_that_is_missing_or_wrong_at_the_start_is_named() {
    let echo = Echo::start();
    for (filter, text) in [
        ("users_file: none", "none`: No such file"),
        (
            "users_file: users, groups_file: none",
            "none`: No such file",
        ),
        ("users_file: users, groups_file: groups", "line 2 of"),
        (
            "users_file: old",
            "`edgeway hash-password` makes a better one",
        ),
    ] {
        let setup = setup(&echo, filter)
            .file("users", format!("ann:{ANN}\n"))
            .file("groups", "staff: ann\nadmin\n")
            .file("old", "ann:$apr1$abc$def\n");
        let said = setup.refused();
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn the_groups_of_a_user_are_roles_that_may_change() {
    let echo = Echo::start();
    let yaml = format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        routes:
          - filters:
              - basic_auth: {{ users: {{ ann: '{ANN}' }}, groups_file: groups }}
              - headers: {{ request: {{ set: {{ X-Roles: '{{claim.roles}}' }} }} }}
            upstream: echo
        "
    );
    let gateway = Gateway::setup(&yaml)
        .file("groups", "staff: ann bob\nadmin: ann\n")
        .start();
    let roles = || ask(&gateway, "ann:open sesame").received("x-roles");
    assert_eq!(roles(), ["staff,admin"]);
    gateway.write("groups", "staff: ann bob\n");
    eventually(PATIENCE, || roles() == ["staff"]);
    gateway.write("groups", "rubbish\n");
    gateway.wait_for_log("expected a group");
    assert_eq!(roles(), ["staff"]);
}

#[test]
fn every_kind_of_hash_that_the_command_line_makes_opens() {
    let echo = Echo::start();
    let mut file = String::new();
    for (name, arguments) in [
        ("argon", &["hash-password", "--cost", "1"][..]),
        (
            "bcrypt",
            &["hash-password", "--algorithm", "bcrypt", "--cost", "5"],
        ),
        (
            "sha",
            &["hash-password", "-a", "sha512-crypt", "--cost", "2000"],
        ),
    ] {
        let made = edgeway_with(arguments, "open sesame\n");
        assert_eq!(made.code, Some(0), "{}", made.log);
        file += &format!("{name}:{}", made.output);
    }
    let gateway = setup(&echo, "users_file: users")
        .file("users", file)
        .start();
    for name in ["argon", "bcrypt", "sha"] {
        let right = ask(&gateway, &format!("{name}:open sesame"));
        let wrong = ask(&gateway, &format!("{name}:open sesame "));
        assert_eq!((right.status, wrong.status), (200, 401), "{name}");
    }
    let line = gateway.wait_for_output(r#""rule":"wrong""#);
    assert!(line.contains(r#""key":"argon""#), "{line}");
}

#[test]
fn a_hash_may_come_from_the_environment() {
    let echo = Echo::start();
    let gateway = setup(&echo, "users: { ann: env:ANN }")
        .env("ANN", ANN)
        .start();
    assert_eq!(ask(&gateway, "ann:open sesame").status, 200);
    assert_eq!(ask(&gateway, &format!("ann:{ANN}")).status, 401);
}

#[test]
fn the_realm_is_what_the_browser_shows() {
    let echo = Echo::start();
    let gateway = gateway(&echo, ", realm: 'the \"inner\" circle'");
    let wanted = r#"Basic realm="the \"inner\" circle", charset="UTF-8""#;
    assert_eq!(gateway.get("/").header("WWW-Authenticate"), Some(wanted));
}

#[test]
fn the_upstream_is_told_the_name_by_the_gateway_alone() {
    let echo = Echo::start();
    let gateway = gateway(&echo, ", header: X-Auth-User");
    let request = gateway
        .request("GET", "/")
        .header("Authorization", basic("ann:open sesame"));
    let answer = request
        .header("X-Auth-User", "root")
        .header("X_Auth_User", "root")
        .send();
    assert_eq!(answer.received("x-auth-user"), ["ann"]);
    assert_eq!(answer.received("x_auth_user"), [""; 0]);
}

#[test]
fn the_password_is_kept_from_the_upstream_unless_it_is_wanted() {
    let echo = Echo::start();
    let seen = |more: &str| ask(&gateway(&echo, more), "ann:open sesame").received("authorization");
    assert_eq!(seen(""), [""; 0]);
    assert_eq!(seen(", strip: false"), [basic("ann:open sesame")]);
}

#[test]
fn many_guesses_at_once_do_not_keep_a_user_out() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let good = basic("ann:open sesame");
    assert_eq!(ask(&gateway, "ann:open sesame").status, 200);
    let guesses = load(gateway.address(), 16, 64, |connection| {
        connection
            .request("GET", "/")
            .header("Authorization", basic("bob:guess"))
    });
    assert_eq!(guesses.with_status(200), 0);
    // 503: nobody had time to verify.
    assert_eq!(
        guesses.count(|answer| [401, 503].contains(&answer.status)),
        64
    );
    let mut connection = gateway.connect();
    assert_eq!(
        connection
            .request("GET", "/")
            .header("Authorization", good)
            .send()
            .status,
        200
    );
}
