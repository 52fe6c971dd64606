//! The provider: what it says of itself, and what it is asked.

use std::{sync::Arc, time::Duration};

use edgeway_sdk::Secret;
use form_urlencoded::Serializer;
use http::{
    HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::Request;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{
    client::{Answer, Client, Limits, Url},
    document::{Document, Publication},
    introspect::basic,
    json,
};

/// What a provider says of itself (OpenID Connect Discovery, section 3).
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: Endpoint,
    token_endpoint: Endpoint,
    userinfo_endpoint: Option<Endpoint>,
    pub(super) end_session_endpoint: Option<Endpoint>,
    revocation_endpoint: Option<Endpoint>,
    /// How clients may show who they are. By name and password in a header if not told.
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether it names itself when it sends a browser back (RFC 9207).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

/// Where the provider is asked for one thing.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Endpoint(pub(super) Url);

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            _ => Err(format!("`{text}` is neither an `https` nor an `http` URL")),
        }
    }
}

impl Publication for Metadata {
    const NAME: &'static str = "the configuration of the issuer";
    const LARGEST: usize = 1 << 20;

    fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text)
            .map_err(|error| format!("this is not the configuration of an issuer: {error}"))
    }
}

/// The provider.
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret: Option<Secret>,
    pub(super) metadata: Arc<Document<Metadata>>,
    pub(super) client: Client,
    pub(super) timeout: Duration,
    pub(super) userinfo: bool,
}

/// What the provider gives for a code or a refresh token.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: Option<String>,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    /// In seconds from now.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) expires_in: Option<f64>,
}

/// A number, which some providers write as a text.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Why the provider gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// What was shown is not, or no longer, good for anything.
    Invalid(String),
    /// It can't be asked, for now.
    Unavailable(String),
}

impl Provider {
    /// What the provider says of itself. Who asks before it was ever heard waits for a moment.
    pub(super) async fn known(&self) -> Result<Arc<Known>, Denied> {
        if self.metadata.current().is_none() {
            self.metadata.ask(GAP, self.timeout).await;
        }
        let current = self.metadata.current();
        let edition = current.as_ref().cloned();
        edition.ok_or_else(|| {
            Denied::Unavailable("the configuration of the issuer was not fetched yet".to_owned())
        })
    }

    /// What a code is good for.
    pub(super) async fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
    ) -> Result<Tokens, Denied> {
        self.tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ])
        .await
    }

    /// What a refresh token is good for.
    pub(super) async fn refresh(&self, token: &str) -> Result<Tokens, Denied> {
        self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    async fn tokens(&self, form: &[(&str, &str)]) -> Result<Tokens, Denied> {
        let known = self.known().await?;
        let metadata = &known.content;
        let request = self.post(&metadata.token_endpoint, metadata, form)?;
        let answer = self.ask(request).await?;
        if answer.status == StatusCode::OK {
            return serde_json::from_slice(&answer.body)
                // The error could quote a token.
                .map_err(|_| Denied::Unavailable("the answer holds no tokens".to_owned()));
        }
        Err(denied(&answer))
    }

    /// What else is known of the user.
    pub(super) async fn userinfo(&self, access_token: &str) -> Result<Map<String, Value>, Denied> {
        let known = self.known().await?;
        let endpoint = known.content.userinfo_endpoint.clone();
        let Endpoint(endpoint) = endpoint.ok_or_else(|| {
            Denied::Unavailable("the issuer has no `userinfo_endpoint`".to_owned())
        })?;
        let mut request = Request::new(Method::GET, endpoint);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, JSON);
        headers.insert(AUTHORIZATION, secret(&format!("Bearer {access_token}"))?);
        let answer = self.ask(request).await?;
        if answer.status != StatusCode::OK {
            let reason = format!("the userinfo endpoint answers {}", answer.status);
            return Err(Denied::Unavailable(reason));
        }
        json::object(&answer.body).map_err(|error| {
            Denied::Unavailable(format!("the userinfo is no proper object: {error}"))
        })
    }

    /// Has the provider forget a refresh token, if it can (RFC 7009).
    pub(super) async fn revoke(&self, token: &str) -> Result<(), Denied> {
        let known = self.known().await?;
        let Some(endpoint) = &known.content.revocation_endpoint else {
            return Ok(());
        };
        let form = [("token", token), ("token_type_hint", "refresh_token")];
        let request = self.post(endpoint, &known.content, &form)?;
        let answer = self.ask(request).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(denied(&answer))
    }

    async fn ask(&self, request: Request) -> Result<Answer, Denied> {
        let limits = Limits {
            timeout: self.timeout,
            largest: LARGEST,
        };
        let answer = self.client.ask(request, limits).await;
        answer.map_err(|reason| Denied::Unavailable(format!("can't ask the issuer: {reason}")))
    }

    /// A form with who we are (RFC 6749, 2.3.1).
    fn post(
        &self,
        Endpoint(endpoint): &Endpoint,
        metadata: &Metadata,
        form: &[(&str, &str)],
    ) -> Result<Request, Denied> {
        let mut request = Request::new(Method::POST, endpoint.clone());
        let mut body = Serializer::new(String::new());
        body.extend_pairs(form);
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        request.headers_mut().insert(ACCEPT, JSON);
        match &self.client_secret {
            Some(password) if metadata.takes_basic() => {
                let value = secret(&basic(&self.client_id, password))?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Some(password) => {
                body.append_pair("client_id", &self.client_id);
                body.append_pair("client_secret", password.reveal());
            }
            None => {
                body.append_pair("client_id", &self.client_id);
            }
        }
        *request.body_mut() = Some(body.finish().into());
        Ok(request)
    }
}

/// One edition of what a provider says of itself.
pub(super) type Known = crate::document::Edition<Metadata>;

impl Metadata {
    fn takes_basic(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"))
    }
}

/// What an answer with an error means (RFC 6749, 5.2). Only that the grant is not good is final: all else is
/// wrong with us or with the provider, and may be mended.
fn denied(answer: &Answer) -> Denied {
    #[derive(Deserialize)]
    struct Failure {
        error: String,
    }

    let failure: Option<Failure> = serde_json::from_slice(&answer.body).ok();
    match failure {
        Some(failure) if failure.error == "invalid_grant" && answer.status.is_client_error() => {
            Denied::Invalid("the issuer says `invalid_grant`".to_owned())
        }
        Some(failure) => Denied::Unavailable(format!(
            "the issuer answers {} and says `{}`",
            answer.status,
            failure.error.escape_debug()
        )),
        None => Denied::Unavailable(format!("the issuer answers {}", answer.status)),
    }
}

fn secret(text: &str) -> Result<HeaderValue, Denied> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| {
        Denied::Unavailable("a secret or a token can't stand in a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// In bytes, of an answer.
const LARGEST: usize = 256 << 10;
/// Requests have what the provider says of itself fetched at most once in this time.
const GAP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_may_be_a_number_or_a_text() {
        for (json, wanted) in [
            (r#"{"access_token":"a","expires_in":60}"#, Some(60.0)),
            (r#"{"access_token":"a","expires_in":"60"}"#, Some(60.0)),
            (r#"{"access_token":"a","expires_in":null}"#, None),
            (r#"{"access_token":"a","expires_in":"soon"}"#, None),
            (r#"{"access_token":"a"}"#, None),
        ] {
            let tokens: Tokens = serde_json::from_str(json).unwrap();
            assert_eq!(tokens.expires_in, wanted, "{json}");
        }
    }

    #[test]
    fn only_a_grant_that_is_not_good_is_final() {
        let said = |status: u16, body: &'static str| {
            denied(&Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: http::HeaderMap::new(),
                body: body.into(),
                trailers: http::HeaderMap::new(),
            })
        };
        let is_final = |denied| matches!(denied, Denied::Invalid(_));
        assert!(is_final(said(400, r#"{"error":"invalid_grant"}"#)));
        for (status, body) in [
            (500, r#"{"error":"invalid_grant"}"#),
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"invalid_request"}"#),
            (400, "no"),
            (302, ""),
        ] {
            assert!(!is_final(said(status, body)), "{status} {body}");
        }
    }
}
