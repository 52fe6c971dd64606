//! Asks the issuer of a token whether it is good (RFC 7662).
//!
//! For tokens that only their issuer can read. What it says is remembered for a while, never past the
//! token's end; of the token itself only a keyed hash is kept. While the issuer does not answer, tokens
//! that are not remembered do not pass: 503, since they may be as good as any.

mod config;
mod issuer;
mod remember;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use edgeway_sdk::prelude::*;

use self::{
    issuer::{Issuer, Verified},
    remember::{Known, Remembered},
};
use crate::{
    digest::Digest,
    forward::{self, Forward},
    jwt::{
        self,
        claims::Seconds,
        refusal::{Challenge, Refusal},
    },
};

pub(crate) use self::config::{Config, basic};

pub(crate) const DOC: &str = "\
asks the issuer of a token whether it is good, and tells upstreams who is calling

introspect:
  url: https://id.example.com/introspect
  # Who asks: by name and password, or by a token of our own.
  client_id: gateway
  client_secret: env:INTROSPECT_SECRET
  #bearer: env:INTROSPECT_TOKEN         # default: none; instead of both

  header: Authorization                 # where the token is: after `Bearer` there, else it is all of the header
  optional: false                       # true: requests without a token pass, as nobody
  strip_token: false                    # true: upstreams don't see it
  max_size: 8KiB                        # longer tokens are not valid

  # What is said of the token must fit, and name somebody; 401 if it doesn't. What the caller may do is for `authorize`.
  issuer: https://id.example.com        # default: `iss` is not looked at
  audience: my-api                      # default: `aud` is not looked at. Both take a list, too

  # Who is calling, for other filters (the first claim that has a name) and for upstreams. Nobody else can
  # set these headers.
  subject: [sub, username, client_id]
  forward: {}                           # { scope: X-Scope, client_id: X-Client }

  timeout: 5s                           # then, or when the issuer fails, the answer is 503
  cache:
    ttl: 30s                            # how long a good token is not asked about again; 0s: never
    refused_ttl: 5s                     # and how long one that is not good
    size: 4096                          # how many tokens are remembered of each kind
  realm: edgeway                        # in the challenge
";

/// The filter.
pub(crate) struct Introspect {
    issuer: Arc<Issuer>,
    header: HeaderName,
    optional: bool,
    strip_token: bool,
    max_size: u64,
    forward: Forward,
    remembered: Remembered,
    challenge: Challenge,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Introspect, BuildError> {
    config.filter(build)
}

#[async_trait]
impl Filter for Introspect {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        match self.identify(request).await {
            Ok(Some(verified)) => self.introduce(&verified, request),
            Ok(None) => {}
            Err(refusal) => return Ok(self.challenge.reply(refusal).into()),
        }
        Ok(Flow::Continue)
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Needs("the authorization server")
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

impl Introspect {
    /// Who is calling; nobody, if that is allowed.
    async fn identify(&self, request: &Request<'_>) -> Result<Option<Arc<Verified>>, Refusal> {
        let Some(token) = self.token(request.headers())? else {
            return if self.optional {
                Ok(None)
            } else {
                Err(Refusal::Missing)
            };
        };
        if token.is_empty() {
            return Err(Refusal::invalid("the token is empty"));
        }
        if token.len() as u64 > self.max_size {
            return Err(Refusal::invalid("the token is larger than `max_size`"));
        }
        let name = self.remembered.name(&token);
        let verified = match self.remembered.find(&name) {
            Some(Known::Good(verified)) => verified,
            Some(Known::Refused(refusal)) => return Err(refusal),
            None => self.ask(token.into_owned(), name).await?,
        };
        if now() >= verified.expires {
            return Err(Refusal::Expired);
        }
        Ok(Some(verified))
    }

    /// What the issuer says, asked once for all requests that want to know it at the same time.
    async fn ask(&self, token: String, name: Digest) -> Result<Arc<Verified>, Refusal> {
        let issuer = Arc::clone(&self.issuer);
        let forward = self.forward.clone();
        let work = async move { issuer.ask(&token, &forward, now()).await };
        let landed = self.remembered.asked.join(name, work).await;
        let said = landed.map_or(
            Err(Refusal::Unavailable("the question was given up".into())),
            |landed| landed.result,
        );
        self.remembered.keep(name, &said);
        said
    }

    /// The only token of the request.
    fn token<'h>(&self, headers: &'h HeaderMap) -> Result<Option<Cow<'h, str>>, Refusal> {
        if self.header == header::AUTHORIZATION {
            return Ok(jwt::bearer(headers)?.map(Cow::Borrowed));
        }
        let mut values = headers.get_all(&self.header).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Refusal::Ambiguous);
        }
        let text = value.to_str();
        let text = text.map_err(|_| Refusal::invalid("the header with the token is not text"))?;
        Ok(Some(Cow::Borrowed(text.trim())))
    }

    /// Tells later filters and upstreams who is calling.
    fn introduce(&self, verified: &Verified, request: &mut Request<'_>) {
        forward::apply(&verified.headers, request);
        if self.strip_token {
            request.remove_header(&self.header);
        }
        request.values_mut().insert(verified.identity.clone());
    }
}

fn now() -> Seconds {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is so wrong that all tokens have expired.
    now.map_or(Seconds::INFINITY, |now| now.as_secs_f64())
}
