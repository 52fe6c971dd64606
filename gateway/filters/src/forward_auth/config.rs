//! What the user writes under `forward_auth:`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgeway_sdk::{
    Build, BuildError, Period, Size, Template,
    types::{FilePath, Header},
};
use http::{HeaderName, Method, header};
use serde::Deserialize;

use super::{ForwardAuth, Judge, Questions, Remembered, Service, verdict::SUBJECT};
use crate::{
    client::{self, Client, Limits},
    headers,
};

/// All of `forward_auth:`; [`DOC`](super::DOC) says what each key means.
#[derive(Deserialize)]
pub(crate) struct Config {
    url: String,
    socket: Option<FilePath>,
    #[serde(default)]
    method: Verb,
    #[serde(default = "usual_headers")]
    request_headers: Vec<Header>,
    body: Option<Size>,
    #[serde(default)]
    response_headers: Vec<Header>,
    #[serde(default)]
    client_headers: Vec<Header>,
    #[serde(default)]
    identity: BTreeMap<String, Header>,
    #[serde(default = "usual_timeout")]
    timeout: Period,
    cache: Option<Cache>,
}

/// By which method the service is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum Verb {
    #[default]
    #[serde(rename = "GET")]
    Get,
    #[serde(rename = "HEAD")]
    Head,
    #[serde(rename = "POST")]
    Post,
    /// That of the request.
    #[serde(rename = "client")]
    Client,
}

impl Verb {
    pub(super) fn method(self, asked: &Method) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
            Self::Client => asked.clone(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Cache {
    #[serde(default = "usual_ttl")]
    pub(super) ttl: Period,
    pub(super) key: Option<Template>,
    #[serde(default = "usual_size")]
    pub(super) size: usize,
}

fn usual_headers() -> Vec<Header> {
    let names = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::ACCEPT,
        header::USER_AGENT,
        header::ORIGIN,
    ];
    names.map(Header).to_vec()
}

fn usual_timeout() -> Period {
    Period(Duration::from_secs(5))
}

fn usual_ttl() -> Period {
    Period(Duration::from_secs(10))
}

fn usual_size() -> usize {
    4096
}

impl Config {
    /// The filter that this is.
    pub(super) fn parts(self, build: &mut Build<'_>) -> Result<ForwardAuth, BuildError> {
        let url = client::url("url", &self.url)?;
        if self.socket.is_none() {
            client::warn_of_clear_text("url", &url, "answers that come", build);
        }
        self.check()?;
        self.reserve(build)?;
        let socket = self.socket.as_ref().map(|path| build.path(path));
        let client = Client::new(&url).by_socket(socket);
        let limits = Limits {
            timeout: self.timeout.0,
            largest: LARGEST,
        };
        let judge = Judge::new(
            names(&self.response_headers),
            names(&self.client_headers),
            identity(&self.identity),
        );
        let sent = names(&self.request_headers);
        let remembered = self.cache.map(|cache| Remembered::new(cache, &sent));
        Ok(ForwardAuth {
            questions: Questions {
                url,
                verb: self.method,
                headers: sent,
                body: self.body.map(body_limit).transpose()?,
                marker: build.resources().shared("forward_auth", new_marker),
            },
            service: Arc::new(Service {
                client,
                limits,
                judge,
            }),
            remembered: remembered.transpose()?,
        })
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.timeout.0.is_zero() {
            let message = "expected a period longer than nothing";
            return Err(BuildError::at("timeout", message));
        }
        if self.body.is_some() && matches!(self.method, Verb::Get | Verb::Head) {
            let error = BuildError::at("body", "a question by GET or HEAD has no body");
            return Err(error.help("set `method: POST` or `method: client`"));
        }
        if !self.identity.is_empty() && !self.identity.contains_key(SUBJECT) {
            let error = BuildError::at("identity", "without a `subject` nobody is named");
            return Err(error.help("give the header that names the caller: `subject: X-Auth-User`"));
        }
        for (index, Header(name)) in self.request_headers.iter().enumerate() {
            headers::changeable(name, format!("request_headers.{index}"))?;
        }
        for (index, Header(name)) in self.client_headers.iter().enumerate() {
            let key = format!("client_headers.{index}");
            if edgeway_sdk::message::is_framing(name) {
                let message = format!("`{name}` belongs to the connection, which is the gateway's");
                return Err(BuildError::at(key, message));
            }
        }
        Ok(())
    }

    /// Reserves what the service alone may tell the upstream. Credentials are not reserved: they would be
    /// taken from every client before the service sees them.
    fn reserve(&self, build: &mut Build<'_>) -> Result<(), BuildError> {
        for (index, Header(name)) in self.response_headers.iter().enumerate() {
            let key = format!("response_headers.{index}");
            headers::changeable(name, &*key)?;
            if [header::AUTHORIZATION, header::COOKIE].contains(name) {
                continue;
            }
            if self.request_headers.iter().any(|Header(sent)| sent == name) {
                let message = format!(
                    "`{name}` can't be the client's for the service and the service's for the upstream"
                );
                return Err(BuildError::at(key, message));
            }
            build.reserve_header(name.clone());
        }
        Ok(())
    }
}

fn body_limit(size: Size) -> Result<usize, BuildError> {
    match usize::try_from(size.0) {
        Ok(bytes @ 1..=LARGEST) => Ok(bytes),
        Ok(_) | Err(_) => Err(BuildError::at("body", "expected a size of 1B to 64KiB")),
    }
}

fn names(headers: &[Header]) -> Vec<HeaderName> {
    headers.iter().map(|Header(name)| name.clone()).collect()
}

fn identity(wanted: &BTreeMap<String, Header>) -> Vec<(String, HeaderName)> {
    let pairs = wanted.iter();
    pairs
        .map(|(claim, Header(name))| (claim.clone(), name.clone()))
        .collect()
}

/// By which the gateway knows its own questions.
fn new_marker() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// In bytes: of a body that is sent along, and of an answer's.
const LARGEST: usize = 64 << 10;
