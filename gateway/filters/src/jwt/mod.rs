//! Lets only requests with a valid token pass, and tells upstreams who is calling.
//!
//! A request passes if it carries a JSON Web Token (RFC 7519) that is signed with one of the
//! configured algorithms by a known key, is not expired, and has the claims that the rules want.
//! Without one the answer is 401, with one of too little power 403, each with a challenge as RFC
//! 6750 describes it. Nothing about a request lets it around the check: not its method, not its
//! path, not an `Upgrade`.
//!
//! What happens to a token, in this order:
//!
//! 1. [`places`] finds it in the request.
//! 2. [`remember`] knows it already if it was verified before: then [`revocation`] is asked, and
//!    that is all.
//! 3. [`token`] takes it apart and reads its header, which must name an allowed algorithm.
//! 4. [`keys`] verifies the signature. Only now is anything in it believed.
//! 5. [`claims`] checks times, issuer, audience and what else is required.
//! 6. [`forward`] makes request headers of claims.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use edgeway_sdk::{Build, BuildError, Filter, Flow, Hooks, Identity, Offline, Request, Result};
use jsonwebtoken::Algorithm;
use serde_json::Value;

use self::{
    claims::{Claims, Rules, Seconds},
    keys::Keys,
    places::Places,
    refusal::{Challenge, Refusal},
    remember::{Remembered, Verified},
    revocation::Revocations,
    token::Token,
};
use crate::forward::{self, Forward};

pub(crate) mod claims;
mod config;
pub(crate) mod jwks;
pub(crate) mod keys;
mod pem;
mod places;
pub(crate) mod refusal;
mod remember;
mod revocation;
mod sources;
pub(crate) mod token;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    config::{Config, lasting},
    places::bearer,
    sources::published,
};

/// What `edgeway filters` shows.
pub(crate) const DOC: &str = "\
lets only requests with a valid JSON Web Token pass, and tells upstreams who is calling

jwt:
  # Which signatures count: HS256 HS384 HS512, RS256 RS384 RS512, PS256 PS384 PS512, ES256 ES384, EdDSA.
  algorithms: [HS256]

  # Keys. HS algorithms need a secret, all others one or more of the public sources. What is
  # commented out excludes what is not, or needs another algorithm; `jwks` excludes `oidc`.
  secret: env:JWT_SECRET          # none by default; 32, 48, 64 bytes or more for HS256, HS384, HS512
  #secret_base64: env:JWT_SECRET  # none by default; the same, written in base64
  public_keys: []                 # PEM files, each with a public key or a certificate
  #jwks_file: keys.json           # none by default; a key set
  #jwks:                          # none by default; a key set, fetched in the background
    #url: https://id.example.com/keys
    #interval: 5m                 # from one fetch to the next
    #timeout: 5s
    #refetch_interval: 30s        # an unknown key id causes at most one fetch in this time
  #oidc:                          # none by default; as `jwks`, where the issuer tells the URL
    #issuer: https://id.example.com
    #interval: 5m
    #timeout: 5s
    #refetch_interval: 30s

  # Where the token is: the first place that has one counts.
  from: [header]                  # header (Authorization: Bearer), {cookie: NAME}, {query: NAME}
  strip_token: false              # true: upstreams don't see it (not possible with `query`)
  optional: false                 # true: requests without a token pass, as nobody
  max_size: 8KiB                  # longer tokens are not valid

  # What the token must say; 401 if it doesn't.
  require_exp: true               # false: tokens that never expire are valid too
  leeway: 0s                      # how far clocks may differ, for `exp` and `nbf`
  issuer: https://id.example.com  # none by default: `iss` is not looked at, but with `oidc` it is its issuer
  audience: my-api                # none by default: `aud` is not looked at. Both take a list, too
  # What the caller must be; 403 if it isn't. A value or a list of which one is enough. `a.b` is
  # the claim b within a; a list has each of its values, and `scope` each of its words.
  require: {}                     # { role: admin, scope: [read, write] }

  # Who is calling, for other filters (the first claim that has a name) and for upstreams. Nobody
  # else can set these headers. Lists are joined by commas, objects are JSON, text is UTF-8; a token
  # with control characters, outer spaces or commas within a list's values there is not valid.
  subject: [sub, username]
  forward: {}                     # { username: X-Auth-User, address.country: X-Country }

  # Tokens whose `jti` is in {\"revoked\": [...]} are not valid, nor are those without a `jti`.
  revocations:                    # none by default
    url: http://auth:8080/revocations
    interval: 5s
    timeout: 5s
    on_unavailable: refuse        # before the first list was fetched: refuse (503) or allow

  remember: 4096                  # how many verified tokens are remembered; 0: none
  realm: edgeway                  # in the challenge
";

/// The filter.
pub(crate) struct Jwt {
    algorithms: Vec<Algorithm>,
    keys: Keys,
    places: Places,
    strip_token: bool,
    optional: bool,
    max_size: u64,
    rules: Rules,
    forward: Forward,
    revocations: Option<Revocations>,
    remembered: Remembered,
    challenge: Challenge,
}

/// Builds the filter.
pub(crate) fn build(mut config: Config, build: &mut Build<'_>) -> Result<Jwt, BuildError> {
    let places = Places::new(std::mem::take(&mut config.from))?;
    if config.strip_token && !places.can_be_stripped() {
        let message = "a token in the query can't be hidden from upstreams";
        return Err(BuildError::at("strip_token", message));
    }
    let revocations = config.revocations.as_ref();
    Ok(Jwt {
        keys: sources::keys(&config, build)?,
        strip_token: config.strip_token,
        optional: config.optional,
        max_size: config.max_size.0,
        revocations: revocations
            .map(|list| Revocations::new(list, build))
            .transpose()?,
        remembered: Remembered::new(config.remember)?,
        challenge: Challenge::new(&config.realm)?,
        rules: Rules::new(&mut config)?,
        forward: Forward::new(config.forward, |name| places.are_in(name), build)?,
        places,
        algorithms: config.algorithms,
    })
}

#[async_trait]
impl Filter for Jwt {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is so wrong that all tokens have expired.
        let now = now.map_or(Seconds::INFINITY, |now| now.as_secs_f64());
        Ok(self.decide(request, now).await)
    }

    fn offline(&self, request: &Request<'_>) -> Offline {
        // Who has no token is told so without them.
        if !matches!(self.places.find(request), Ok(Some(_))) {
            return Offline::Decides;
        }
        match (&self.keys.published, &self.revocations) {
            (Some(_), _) => Offline::Needs("the keys that the issuer publishes"),
            (None, Some(_)) => Offline::Needs("the list of revocations"),
            (None, None) => Offline::Decides,
        }
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

/// The token of a request.
enum Found {
    Nothing,
    Known(Arc<Verified>),
    New(Box<str>),
}

impl Jwt {
    async fn decide(&self, request: &mut Request<'_>, now: Seconds) -> Flow {
        match self.identify(request, now).await {
            Ok(Some(verified)) => self.introduce(&verified, request),
            Ok(None) => {}
            Err(refusal) => return self.challenge.reply(refusal).into(),
        }
        Flow::Continue
    }

    /// Who is calling; nobody, if that is allowed.
    async fn identify(
        &self,
        request: &Request<'_>,
        now: Seconds,
    ) -> Result<Option<Arc<Verified>>, Refusal> {
        let verified = match self.find(request, now)? {
            Found::Nothing if self.optional => return Ok(None),
            Found::Nothing => return Err(Refusal::Missing),
            Found::Known(verified) => verified,
            Found::New(token) => self.verify(token, now).await?,
        };
        // Asked each time, since being remembered must not outlast being revoked.
        if let Some(revocations) = &self.revocations {
            revocations.check(verified.id.as_deref())?;
        }
        Ok(Some(verified))
    }

    fn find(&self, request: &Request<'_>, now: Seconds) -> Result<Found, Refusal> {
        let Some(token) = self.places.find(request)? else {
            return Ok(Found::Nothing);
        };
        if token.len() as u64 > self.max_size {
            return Err(Refusal::invalid("the token is larger than `max_size`"));
        }
        let known = self.remembered.find(&token, self.keys.edition(), now);
        Ok(known.map_or_else(|| Found::New(token.into()), Found::Known))
    }

    async fn verify(&self, text: Box<str>, now: Seconds) -> Result<Arc<Verified>, Refusal> {
        let token = Token::read(&text, &self.algorithms)?;
        let keys = self.keys.verify(&token).await?;
        let claims = token.claims()?;
        let verified = Verified {
            expires: self.rules.check(&claims, now)?,
            id: token_id(&claims),
            headers: self.forward.headers(&claims).map_err(Refusal::invalid)?,
            identity: Identity::with_claims(self.rules.subject(&claims), Arc::new(claims)),
            keys,
            token: text,
        };
        let verified = Arc::new(verified);
        self.remembered.keep(&verified);
        Ok(verified)
    }

    /// Tells later filters and upstreams who is calling.
    fn introduce(&self, verified: &Verified, request: &mut Request<'_>) {
        forward::apply(&verified.headers, request);
        if self.strip_token {
            self.places.strip(request);
        }
        request.values_mut().insert(verified.identity.clone());
    }
}

fn token_id(claims: &Claims) -> Option<Box<str>> {
    claims.get("jti").and_then(Value::as_str).map(Box::from)
}
