//! Drives the real program over its socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may what it is made of"
)]

use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use edgeway_service::testing::Running;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeway-auth");
const SECRET: &str = "a shared secret of more than 32 bytes";

fn auth() -> Running {
    Running::start(PROGRAM, &["--secret", SECRET])
}

async fn log_in(auth: &Running, username: &str, password: &str) -> Response {
    let request = Client::new().post(auth.url("/auth/login"));
    request
        .basic_auth(username, Some(password))
        .send()
        .await
        .unwrap()
}

async fn token(auth: &Running, username: &str) -> String {
    let body: Value = log_in(auth, username, "123456").await.json().await.unwrap();
    body["token"].as_str().unwrap().to_owned()
}

async fn get(auth: &Running, path: &str) -> Response {
    reqwest::get(auth.url(path)).await.unwrap()
}

async fn info(auth: &Running, token: &str) -> Response {
    let request = Client::new().get(auth.url("/auth/token/info"));
    request
        .query(&[("access_token", token)])
        .send()
        .await
        .unwrap()
}

async fn log_out(auth: &Running, token: &str) -> Response {
    let request = Client::new().post(auth.url("/auth/logout"));
    request.bearer_auth(token).send().await.unwrap()
}

async fn revoked(auth: &Running) -> Vec<String> {
    let body: Value = get(auth, "/auth/revocations").await.json().await.unwrap();
    serde_json::from_value(body["revoked"].clone()).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_log_in_gives_a_token_of_one_hour_with_the_claims_of_the_user() {
    let auth = auth();
    for (username, role) in [("admin", "admin"), ("gues", "gues")] {
        let response = log_in(&auth, username, "123456").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["message"], "OK");
        assert_eq!(body["expires_in"], 3600);

        let token = body["token"].as_str().unwrap();
        let mut validation = Validation::default();
        validation.set_issuer(&["edgeway-auth"]);
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        let claims = decode::<Value>(token, &key, &validation).unwrap().claims;
        assert_eq!(claims["username"], username);
        assert_eq!(claims["sub"], username);
        assert_eq!(claims["role"], role);
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            3600
        );
        assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let auth = auth();
    let mut bodies = Vec::new();
    for (username, password) in [("admin", "1234567"), ("nobody", "123456"), ("", "")] {
        let response = log_in(&auth, username, password).await;
        assert_eq!(response.status(), 401);
        assert!(header(&response, "www-authenticate").starts_with("Basic "));
        assert_eq!(
            header(&response, "content-type"),
            "application/problem+json"
        );
        bodies.push(response.text().await.unwrap());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_refused() {
    let auth = auth();
    for value in [
        "",
        "Basic",
        "Basic !",
        "Basic YWRtaW4=",
        "Bearer YWRtaW46MTIzNDU2",
        "Basic /////w==",
    ] {
        let request = Client::new().post(auth.url("/auth/login"));
        let response = request.header("authorization", value).send().await.unwrap();
        assert_eq!(response.status(), 401, "{value}");
    }
}

#[tokio::test]
async fn token_info_tells_the_claims_of_a_valid_token_only() {
    let auth = auth();
    let response = info(&auth, &token(&auth, "admin").await).await;
    assert_eq!(response.status(), 200);
    let claims: Value = response.json().await.unwrap();
    assert_eq!(claims["username"], "admin");

    let expired = json!({ "sub": "admin", "username": "admin", "role": "admin",
        "iss": "edgeway-auth", "iat": 0, "exp": 1, "jti": "x" });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let expired = encode(&Header::default(), &expired, &key).unwrap();
    for token in ["", "nonsense", &expired] {
        let response = info(&auth, token).await;
        assert_eq!(response.status(), 401, "{token}");
        assert_eq!(
            header(&response, "www-authenticate"),
            r#"Bearer error="invalid_token""#
        );
    }
    assert_eq!(get(&auth, "/auth/token/info").await.status(), 400);
}

#[tokio::test]
async fn a_token_in_a_query_is_not_logged() {
    let auth = auth();
    let token = token(&auth, "admin").await;
    assert_eq!(info(&auth, &token).await.status(), 200);
    auth.ask_to_stop();
    let (status, log) = auth.wait();
    assert!(status.success());
    assert!(log.contains("path=/auth/token/info"), "{log}");
    assert!(!log.contains(&token), "{log}");
}

#[tokio::test]
async fn a_role_has_the_permissions_of_the_database() {
    let auth = auth();
    let roles = [
        (
            "admin",
            json!(["product:add", "product:delete", "product:view"]),
        ),
        ("gues", json!(["product:list"])),
    ];
    for (role, permissions) in roles {
        let response = get(&auth, &format!("/auth/permissions?role={role}")).await;
        assert_eq!(response.json::<Value>().await.unwrap(), permissions);
    }
    assert_eq!(
        get(&auth, "/auth/permissions?role=root").await.status(),
        404
    );
    assert_eq!(get(&auth, "/auth/permissions").await.status(), 400);
}

#[tokio::test]
async fn a_log_out_revokes_this_token_and_no_other() {
    let auth = auth();
    let (first, second) = (token(&auth, "admin").await, token(&auth, "admin").await);
    let claims: Value = info(&auth, &first).await.json().await.unwrap();
    assert!(revoked(&auth).await.is_empty());

    assert_eq!(log_out(&auth, &first).await.status(), 200);
    assert_eq!(revoked(&auth).await, [claims["jti"].as_str().unwrap()]);
    assert_eq!(info(&auth, &first).await.status(), 401);
    assert_eq!(info(&auth, &second).await.status(), 200);
    assert_eq!(log_out(&auth, &first).await.status(), 401);
    assert_eq!(log_out(&auth, "nonsense").await.status(), 401);
}

#[tokio::test]
async fn revocations_survive_a_restart_when_the_database_is_a_file() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("auth.db");
    let arguments = ["--secret", SECRET, "--database", database.to_str().unwrap()];
    let auth = Running::start(PROGRAM, &arguments);
    let token = token(&auth, "admin").await;
    assert_eq!(log_out(&auth, &token).await.status(), 200);
    auth.ask_to_stop();
    assert!(auth.wait().0.success());

    let auth = Running::start(PROGRAM, &arguments);
    assert_eq!(info(&auth, &token).await.status(), 401);
    assert_eq!(revoked(&auth).await.len(), 1);
}

#[tokio::test]
async fn a_shared_secret_is_never_published() {
    let body: Value = get(&auth(), "/auth/jwks.json").await.json().await.unwrap();
    assert_eq!(body, json!({ "keys": [] }));
}

#[tokio::test]
async fn the_kind_of_private_key_decides_the_algorithm_and_the_jwks_verifies_the_token() {
    let folder = TempDir::new().unwrap();
    for (algorithm, der) in private_keys() {
        let file = pem(&folder, algorithm, &der);
        let auth = Running::start(PROGRAM, &["--signing-key", file.to_str().unwrap()]);
        let token = token(&auth, "admin").await;
        let header = decode_header(&token).unwrap();
        assert_eq!(format!("{:?}", header.alg), algorithm);

        let text = get(&auth, "/auth/jwks.json").await.text().await.unwrap();
        let jwks: JwkSet = serde_json::from_str(&text).unwrap();
        let key = jwks.find(&header.kid.unwrap()).unwrap();
        let key = DecodingKey::from_jwk(key).unwrap();
        assert!(decode::<Value>(&token, &key, &Validation::new(header.alg)).is_ok());
        for private in [r#""d""#, r#""p""#, r#""k""#] {
            assert!(!text.contains(private), "{text}");
        }
        assert_eq!(info(&auth, &token).await.status(), 200);
    }
}

#[tokio::test]
async fn the_key_id_is_the_thumbprint_of_rfc_7638() {
    let folder = TempDir::new().unwrap();
    let key = Ed25519KeyPair::generate().unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let file = pem(&folder, "EdDSA", der.as_ref());
    let auth = Running::start(PROGRAM, &["--signing-key", file.to_str().unwrap()]);
    let jwks: Value = get(&auth, "/auth/jwks.json").await.json().await.unwrap();
    let x = jwks["keys"][0]["x"].as_str().unwrap();
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes());
    assert_eq!(
        jwks["keys"][0]["kid"],
        BASE64_URL_SAFE_NO_PAD.encode(digest)
    );
}

#[tokio::test]
async fn health_tells_that_the_database_answers() {
    assert_eq!(get(&auth(), "/healthz").await.status(), 200);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem_document() {
    let auth = auth();
    for (path, status) in [("/auth/nothing", 404), ("/auth/login", 405)] {
        let response = get(&auth, path).await;
        assert_eq!(response.status(), status);
        assert_eq!(
            header(&response, "content-type"),
            "application/problem+json"
        );
    }
}

#[test]
fn a_start_that_cannot_work_says_why() {
    let folder = TempDir::new().unwrap();
    let public = folder.path().join("public.pem");
    std::fs::write(&public, "-----BEGIN EC PRIVATE KEY-----\n").unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (&[], 2, "--secret"),
        (&["--secret", ""], 2, "--secret"),
        (
            &["--signing-key", "/nowhere.pem"],
            1,
            "cannot read the signing key `/nowhere.pem`",
        ),
        (
            &["--signing-key", public.to_str().unwrap()],
            1,
            "openssl pkcs8 -topk8",
        ),
        (
            &["--secret", SECRET, "--database", "/nowhere/x.db"],
            1,
            "cannot open the database `/nowhere/x.db`",
        ),
        (
            &["--secret", SECRET, "--listen", &taken],
            1,
            &format!("cannot listen on `{taken}`"),
        ),
    ];
    for (arguments, code, reason) in cases {
        let (status, said) = Running::refuse(PROGRAM, arguments);
        assert_eq!(status, Some(code), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn a_secret_that_can_be_guessed_is_warned_about_and_not_told() {
    for (secret, warned) in [("supersecretkey", true), (SECRET, false)] {
        let auth = Running::start(PROGRAM, &["--secret", secret]);
        auth.ask_to_stop();
        let (_, log) = auth.wait();
        assert_eq!(log.contains("weak secret"), warned, "{log}");
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn the_secret_in_the_environment_is_not_shown_by_help() {
    let help = Command::new(PROGRAM)
        .arg("--help")
        .env("EDGEWAY_JWT_SECRET", SECRET)
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("EDGEWAY_JWT_SECRET"), "{help}");
    assert!(!help.contains(SECRET), "{help}");
}

fn private_keys() -> [(&'static str, Vec<u8>); 3] {
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ed: Pkcs8V1Der<'_> = ed.as_der().unwrap();
    let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    [
        ("ES256", ec.to_pkcs8v1().unwrap().as_ref().to_vec()),
        ("EdDSA", ed.as_ref().to_vec()),
        ("RS256", rsa.as_ref().to_vec()),
    ]
}

fn pem(folder: &TempDir, name: &str, der: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    let text = BASE64_STANDARD.encode(der);
    std::fs::write(
        &path,
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"),
    )
    .unwrap();
    path
}
