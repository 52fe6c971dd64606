//! What the service answers over HTTP.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use edgeway_service::{Problem, with_problems};
use jsonwebtoken::get_current_timestamp;
use jsonwebtoken::jwk::JwkSet;
use log::error;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::password::Passwords;
use crate::store::Store;
use crate::tokens::{Claims, LIFETIME, Tokens};

type Answer<T> = Result<T, Problem>;

struct Auth {
    store: Store,
    passwords: Passwords,
    tokens: Tokens,
}

pub(crate) fn routes(store: Store, passwords: Passwords, tokens: Tokens) -> Router {
    let routes = Router::new()
        .route("/auth/login", post(log_in))
        .route("/auth/logout", post(log_out))
        .route("/auth/token/info", get(token_info))
        .route("/auth/permissions", get(permissions))
        .route("/auth/jwks.json", get(jwks))
        .route("/auth/revocations", get(revocations))
        .route("/healthz", get(health));
    with_problems(routes).with_state(Arc::new(Auth {
        store,
        passwords,
        tokens,
    }))
}

async fn log_in(State(auth): State<Arc<Auth>>, headers: HeaderMap) -> Answer<impl IntoResponse> {
    let Some((username, password)) = credentials(&headers) else {
        return Err(Problem::unauthorized(
            BASIC,
            "log in with a user name and a password",
        ));
    };
    let user = auth.store.user(username).await?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let verified = auth.passwords.verify(password, hash).await;
    let Some(user) = user.filter(|_| verified) else {
        return Err(Problem::unauthorized(
            BASIC,
            "the user name or the password is wrong",
        ));
    };
    let token = auth.tokens.issue(user, get_current_timestamp());
    let token = token.map_err(|reason| unsigned(&reason))?;
    let body = json!({ "message": "OK", "token": token, "expires_in": LIFETIME });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)))
}

async fn log_out(State(auth): State<Arc<Auth>>, headers: HeaderMap) -> Answer<Json<Value>> {
    let Some(token) = bearer(&headers) else {
        return Err(Problem::unauthorized(
            "Bearer",
            "send the token to revoke as a Bearer token",
        ));
    };
    let claims = auth.claims(token).await?;
    auth.store.revoke(claims.jti, claims.exp).await?;
    Ok(Json(json!({ "message": "OK" })))
}

#[derive(Deserialize)]
struct TokenQuery {
    access_token: String,
}

async fn token_info(
    State(auth): State<Arc<Auth>>,
    query: Result<Query<TokenQuery>, QueryRejection>,
) -> Answer<impl IntoResponse> {
    let Query(query) = query.map_err(|_| incomplete("access_token"))?;
    let claims = auth.claims(&query.access_token).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(claims)))
}

#[derive(Deserialize)]
struct RoleQuery {
    role: String,
}

async fn permissions(
    State(auth): State<Arc<Auth>>,
    query: Result<Query<RoleQuery>, QueryRejection>,
) -> Answer<Json<Vec<String>>> {
    let Query(query) = query.map_err(|_| incomplete("role"))?;
    let permissions = auth.store.permissions(query.role).await?;
    permissions
        .map(Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such role"))
}

async fn jwks(State(auth): State<Arc<Auth>>) -> Json<JwkSet> {
    Json(auth.tokens.jwks())
}

async fn revocations(State(auth): State<Arc<Auth>>) -> Answer<Json<Value>> {
    let revoked = auth.store.revocations(get_current_timestamp()).await?;
    Ok(Json(json!({ "revoked": revoked })))
}

async fn health(State(auth): State<Arc<Auth>>) -> Answer<&'static str> {
    auth.store.ping().await.map_err(|problem| {
        error!("the database does not answer: {problem}");
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer",
        )
    })?;
    Ok("ok\n")
}

impl Auth {
    /// The claims of a token that is ours, has not expired and was not revoked.
    async fn claims(&self, token: &str) -> Answer<Claims> {
        let invalid = || Problem::unauthorized(INVALID_TOKEN, "the token is not valid");
        let claims = self.tokens.read(token).ok_or_else(invalid)?;
        if self.store.is_revoked(claims.jti.clone()).await? {
            return Err(invalid());
        }
        Ok(claims)
    }
}

/// The user name and the password of `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD
        .decode(authorization(headers, "Basic")?)
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers, "Bearer")
}

/// What follows the scheme, whose name may be written in any case (RFC 9110, 11.1).
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| value.trim())
}

fn incomplete(parameter: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        format!("the query parameter `{parameter}` is missing"),
    )
}

fn unsigned(reason: &jsonwebtoken::errors::Error) -> Problem {
    error!("the token could not be signed: {reason}");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the token could not be made",
    )
}

const BASIC: &str = r#"Basic realm="edgeway", charset="UTF-8""#;
const INVALID_TOKEN: &str = r#"Bearer error="invalid_token""#;
