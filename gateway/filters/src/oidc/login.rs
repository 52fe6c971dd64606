//! A login: off to the provider, and back with a code.
//!
//! What belongs to a login is kept in a sealed cookie of its own, named after its `state`, so that logins in
//! several tabs do not get into each other's way, and nobody can come back with a login that was begun in
//! another browser.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use edgeway_sdk::{Reply, Request};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::{
    Oidc,
    cookies::{self, Names},
    origin::Origin,
    provider::{Denied, Endpoint, Metadata},
    refusal::{self, Failure},
    session::{Fresh, Session},
};

/// A login under way, as it is sealed in its cookie.
#[derive(Debug, Deserialize, Serialize)]
struct Attempt {
    state: String,
    nonce: String,
    /// Proves that who redeems the code has asked for it (RFC 7636).
    verifier: String,
    /// Where the user wanted to go: path and query.
    target: String,
    /// Seconds since 1970.
    began: u64,
}

impl Attempt {
    fn new(target: &str, began: u64) -> Self {
        Self {
            state: random(),
            nonce: random(),
            verifier: random(),
            target: target.to_owned(),
            began,
        }
    }
}

impl Oidc {
    /// Sends the browser to the provider.
    pub(super) async fn begin(&self, request: &Request<'_>, now: u64) -> Result<Reply, Failure> {
        let known = self.provider.known().await.map_err(Failure::Provider)?;
        let origin = self.origin(request);
        let target = request.parts().uri.path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        // Where a long target is from is not worth a cookie that browsers don't keep.
        let target = if target.len() <= LONGEST_TARGET {
            target
        } else {
            "/"
        };
        let attempt = Attempt::new(target, now);
        let names = self.sessions.cookies.over(origin.scheme);
        let kept = self.keep(&attempt, names).ok_or(Failure::TooLarge)?;
        let location = self.authorization(&known.content, &origin, &attempt);
        let reply = Reply::new(302).header(header::LOCATION, location);
        let reply = cookies::add(reply, self.forget_old(request.headers(), names, now));
        let reply = cookies::add(reply, names.forget_session(request.headers()));
        Ok(cookies::add(uncached(reply), [kept])
            .because("nobody is logged in")
            .rule("login"))
    }

    /// The URL at which the provider asks the user.
    fn authorization(&self, metadata: &Metadata, origin: &Origin, attempt: &Attempt) -> String {
        let challenge = digest::digest(&digest::SHA256, attempt.verifier.as_bytes());
        let Endpoint(mut url) = metadata.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.provider.client_id)
            .append_pair("redirect_uri", &origin.url(&self.paths.callback))
            .append_pair("scope", &self.scope)
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(&self.parameters);
        url.into()
    }

    fn keep(&self, attempt: &Attempt, names: Names<'_>) -> Option<HeaderValue> {
        let name = names.login(&attempt.state)?;
        let text = serde_json::to_vec(attempt).ok()?;
        let sealed = self.sessions.seals.seal(&text, &name)?;
        names.line(&name, &sealed, self.login_timeout)
    }

    /// Has the browser forget logins that lead nowhere any more, and the oldest if there are many.
    fn forget_old(&self, headers: &HeaderMap, names: Names<'_>, now: u64) -> Vec<HeaderValue> {
        let mut logins: Vec<(u64, &str)> = names
            .logins(headers)
            .map(|(name, sealed)| {
                let attempt = self.open(name, sealed, now);
                (attempt.map_or(0, |attempt| attempt.began), name)
            })
            .collect();
        logins.sort_unstable();
        let most = logins.len().saturating_sub(MOST_LOGINS - 1);
        let (old, rest) = logins.split_at(most);
        let dead = rest.iter().filter(|(began, _)| *began == 0);
        let lines = old.iter().chain(dead);
        lines
            .filter_map(|(_, name)| names.line(name, "", 0))
            .collect()
    }

    fn open(&self, name: &str, sealed: &str, now: u64) -> Option<Attempt> {
        let text = self.sessions.seals.open(sealed, name)?;
        let attempt: Attempt = serde_json::from_slice(&text).ok()?;
        let ends = attempt.began.saturating_add(self.login_timeout);
        (now < ends).then_some(attempt)
    }

    /// Takes a browser that comes back from the provider to where it wanted to go.
    pub(super) async fn come_back(&self, request: &mut Request<'_>, now: u64) -> Reply {
        if request.method() != http::Method::GET {
            return Reply::new(405)
                .header(header::ALLOW, HeaderValue::from_static("GET"))
                .because("a login comes back by GET")
                .rule("method");
        }
        let origin = self.origin(request);
        let back = Back::of(request);
        // What is good for a session is nobody's business, not even the log's.
        request.remove_query("code");
        request.remove_query("state");
        let names = self.sessions.cookies.over(origin.scheme);
        let Some((name, attempt)) = self.attempt(&back, request.headers(), names, now) else {
            return uncached(refusal::reply(Failure::State));
        };
        let reply = match self.complete(back, &attempt, &origin, now).await {
            Ok(session) => self.welcome(&session, &attempt, request, &origin, now),
            Err(failure) => Err(failure),
        };
        let reply = reply.unwrap_or_else(refusal::reply);
        // It is over, however it went. But when the provider did not answer, the user may try again.
        let over = (reply.status() != 503).then(|| names.line(&name, "", 0));
        cookies::add(uncached(reply), over.flatten())
    }

    /// The login that the browser comes back from, and the name of its cookie.
    fn attempt(
        &self,
        back: &Back,
        headers: &HeaderMap,
        names: Names<'_>,
        now: u64,
    ) -> Option<(String, Attempt)> {
        let state = back.state.as_deref()?;
        let name = names.login(state)?;
        let sealed = cookies::value(headers, &name)?;
        let attempt = self.open(&name, sealed, now)?;
        is_same(&attempt.state, state).then_some((name, attempt))
    }

    async fn complete(
        &self,
        back: Back,
        attempt: &Attempt,
        origin: &Origin,
        now: u64,
    ) -> Result<Session, Failure> {
        let known = self.provider.known().await.map_err(Failure::Provider)?;
        self.check_issuer(&back, &known.content)?;
        if let Some(error) = back.error {
            return Err(Failure::Refused(error));
        }
        let code = back.code.ok_or(Failure::NoCode)?;
        let redirect = origin.url(&self.paths.callback);
        let redeemed = self.provider.redeem(&code, &attempt.verifier, &redirect);
        let tokens = redeemed.await.map_err(Failure::Provider)?;
        let none = || Denied::Unavailable("the issuer gives no ID token".to_owned());
        let id_token = tokens.id_token.as_deref();
        let id_token = id_token.ok_or_else(none).map_err(Failure::Provider)?;
        let claims = self.id_tokens.verify(id_token, now).await;
        let claims = claims.map_err(Failure::IdToken)?;
        let nonce = claims.get("nonce").and_then(|nonce| nonce.as_str());
        if !nonce.is_some_and(|nonce| is_same(nonce, &attempt.nonce)) {
            let reason = "the ID token is of another login: its nonce differs".to_owned();
            return Err(Failure::IdToken(Denied::Invalid(reason)));
        }
        let fresh = Fresh {
            userinfo: self.more(&tokens.access_token, &claims).await?,
            id_token_ends: claims
                .get("exp")
                .and_then(|exp| exp.as_f64())
                .map(|exp| exp as u64),
            obtained: now,
            tokens,
        };
        let keeps = self.sessions.keep_access_tokens();
        Session::begin(fresh, keeps)
            .ok_or_else(none)
            .map_err(Failure::Provider)
    }

    /// Whether it is our provider that sends the browser back, and not one that was mixed up with it (RFC 9207).
    fn check_issuer(&self, back: &Back, metadata: &Metadata) -> Result<(), Failure> {
        match &back.issuer {
            Some(issuer) if *issuer != self.provider.issuer => Err(Failure::Issuer),
            None if metadata.authorization_response_iss_parameter_supported => Err(Failure::Issuer),
            Some(_) | None => Ok(()),
        }
    }

    /// Begins the session, and sends the browser to where it wanted to go.
    fn welcome(
        &self,
        session: &Session,
        attempt: &Attempt,
        request: &Request<'_>,
        origin: &Origin,
        now: u64,
    ) -> Result<Reply, Failure> {
        // What can't be told to upstreams is found now: later it would send the browser here again and again.
        let told = self.sessions.introduce(session.clone(), &self.id_tokens);
        let told = told.map_err(|reason| Failure::IdToken(Denied::Invalid(reason)))?;
        let headers = request.headers();
        let kept = self.sessions.keep(session, headers, origin.scheme, now);
        let reply = Reply::new(302)
            .header(header::LOCATION, origin.url(&attempt.target))
            .because("a user has logged in")
            .rule("logged_in")
            .key(told.identity.subject().to_owned());
        Ok(cookies::add(reply, kept.ok_or(Failure::TooLarge)?))
    }
}

/// What a browser says when it comes back.
struct Back {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

impl Back {
    fn of(request: &Request<'_>) -> Self {
        let value = |name| request.query_value(name).map(|value| value.into_owned());
        Self {
            state: value("state"),
            code: value("code"),
            error: value("error"),
            issuer: value("iss"),
        }
    }
}

/// Has no cache keep a reply, and no page hear of its URL.
pub(super) fn uncached(reply: Reply) -> Reply {
    reply
        .set_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .set_header(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        )
}

fn is_same(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// 256 random bits, in characters that may stand anywhere.
fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// In bytes.
const LONGEST_TARGET: usize = 2_048;
/// A browser has at most so many logins under way.
const MOST_LOGINS: usize = 5;
