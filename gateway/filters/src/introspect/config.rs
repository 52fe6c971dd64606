//! What the user writes under `introspect:`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use edgeway_sdk::{Build, BuildError, Period, Secret, Size, types::Header};
use form_urlencoded::byte_serialize;
use http::{HeaderValue, header};
use serde::Deserialize;

use super::{Introspect, Issuer, Remembered};
use crate::{
    client::{self, Client, Limits},
    forward::Forward,
    headers,
    jwt::{
        claims::{Parties, Rules},
        lasting,
        refusal::Challenge,
    },
    written::Several,
};

/// All of `introspect:`; [`DOC`](super::DOC) says what each key means.
#[derive(Deserialize)]
pub(crate) struct Config {
    url: String,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    bearer: Option<Secret>,
    #[serde(default = "usual_header")]
    header: Header,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    strip_token: bool,
    #[serde(default = "usual_max_size")]
    max_size: Size,
    issuer: Option<Several<String>>,
    audience: Option<Several<String>>,
    #[serde(default = "usual_subject")]
    subject: Several<String>,
    #[serde(default)]
    forward: BTreeMap<String, String>,
    #[serde(default = "usual_timeout")]
    timeout: Period,
    #[serde(default)]
    cache: Cache,
    #[serde(default = "usual_realm")]
    realm: String,
}

/// How long answers are remembered, and how many.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Cache {
    pub(super) ttl: Period,
    pub(super) refused_ttl: Period,
    pub(super) size: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Period(Duration::from_secs(30)),
            refused_ttl: Period(Duration::from_secs(5)),
            size: 4096,
        }
    }
}

fn usual_header() -> Header {
    Header(header::AUTHORIZATION)
}

fn usual_max_size() -> Size {
    Size(8 << 10)
}

fn usual_subject() -> Several<String> {
    Several(["sub", "username", "client_id"].map(str::to_owned).to_vec())
}

fn usual_timeout() -> Period {
    Period(Duration::from_secs(5))
}

fn usual_realm() -> String {
    "edgeway".to_owned()
}

impl Config {
    /// The filter that this is.
    pub(super) fn filter(self, build: &mut Build<'_>) -> Result<Introspect, BuildError> {
        let url = client::url("url", &self.url)?;
        client::warn_of_clear_text("url", &url, "tokens and answers that go", build);
        let Header(place) = self.header;
        headers::changeable(&place, "header")?;
        let parties = Parties {
            issuer: self.issuer,
            audience: self.audience,
            subject: self.subject,
        };
        let limits = Limits {
            timeout: lasting("timeout", self.timeout)?,
            largest: LARGEST,
        };
        let issuer = Issuer {
            client: Client::new(&url),
            url,
            credentials: credentials(self.client_id, self.client_secret, self.bearer)?,
            limits,
            rules: Rules::of(parties, Duration::ZERO)?.forever(),
        };
        Ok(Introspect {
            issuer: Arc::new(issuer),
            optional: self.optional,
            strip_token: self.strip_token,
            max_size: self.max_size.0,
            forward: Forward::new(self.forward, |name| *name == place, build)?,
            remembered: Remembered::new(&self.cache)?,
            challenge: Challenge::new(&self.realm)?,
            header: place,
        })
    }
}

/// What we show to be allowed to ask.
fn credentials(
    id: Option<String>,
    secret: Option<Secret>,
    bearer: Option<Secret>,
) -> Result<HeaderValue, BuildError> {
    let (key, text) = match (id, secret, bearer) {
        (Some(id), Some(secret), None) => ("client_secret", basic(&id, &secret)),
        (None, None, Some(token)) => ("bearer", format!("Bearer {}", token.reveal())),
        (Some(_), None, None) => {
            return Err(BuildError::at(
                "client_id",
                "there is no `client_secret` to it",
            ));
        }
        (None, Some(_), None) => {
            return Err(BuildError::at(
                "client_secret",
                "there is no `client_id` to it",
            ));
        }
        (None, None, None) => {
            return Err(BuildError::new("an issuer answers nobody it does not know")
                .help("give `client_id` and `client_secret`, or `bearer`"));
        }
        (_, _, Some(_)) => {
            let message = "give `client_id` and `client_secret`, or `bearer`, not both";
            return Err(BuildError::at("bearer", message));
        }
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| BuildError::at(key, "the secret can't stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Name and password of a client (RFC 6749, 2.3.1): encoded as in a form before they are joined.
pub(crate) fn basic(id: &str, secret: &Secret) -> String {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(id), encoded(secret.reveal()));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// In bytes, of an answer.
const LARGEST: usize = 256 << 10;
