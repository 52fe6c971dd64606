//! Who has logged in, as the browser keeps it for us.

use std::sync::Arc;

use ahash::RandomState;
use edgeway_sdk::{Build, BuildError, Identity, exchange::Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    config::{ForwardTokens, Lifetimes},
    cookies::Cookies,
    id_token::{self, IdTokens},
    provider::Tokens,
    seal::Seals,
};
use crate::{
    forward::{Forward, Headers},
    slots::Slots,
};

/// What is sealed in the session's cookies. All times are seconds since 1970.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Session {
    /// Random, to know it again by after its tokens have changed.
    #[serde(rename = "d", default)]
    pub(super) number: u64,
    /// Was verified when it came.
    #[serde(rename = "i")]
    pub(super) id_token: String,
    /// Kept only if upstreams are told.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub(super) access_token: Option<String>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(super) userinfo: Option<Map<String, Value>>,
    /// When the access token came, and when it ends.
    #[serde(rename = "o")]
    pub(super) obtained: u64,
    #[serde(rename = "e")]
    pub(super) expires: u64,
    /// When the user has logged in, and was last seen.
    #[serde(rename = "s")]
    pub(super) started: u64,
    #[serde(rename = "n")]
    pub(super) seen: u64,
}

/// A session, and what others are told by it.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) identity: Identity,
    headers: Headers,
    /// The text that it was opened from.
    sealed: Box<str>,
}

/// New tokens, with what was learnt by them.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) tokens: Tokens,
    pub(super) userinfo: Option<Map<String, Value>>,
    pub(super) obtained: u64,
    /// When the new ID token ends, if there is one.
    pub(super) id_token_ends: Option<u64>,
}

/// Seals and opens sessions, and knows how long they last.
pub(super) struct Sessions {
    pub(super) cookies: Cookies,
    pub(super) seals: Seals,
    pub(super) lifetimes: Lifetimes,
    forward: Forward,
    tokens: ForwardTokens,
    /// Sessions that were opened a moment ago.
    opened: Slots<Opened>,
    /// With a random key.
    hasher: RandomState,
}

/// What becomes of a session at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is good as it is.
    Good,
    /// It is good, and its browser is to be told that it was used.
    Used,
    /// It is to be refreshed.
    Due,
    /// It is over.
    Over,
}

impl Session {
    /// The session that begins with these tokens. None if they tell nobody's name or don't say how long they last.
    pub(super) fn begin(fresh: Fresh, keeps_access_token: bool) -> Option<Self> {
        let Fresh {
            tokens, obtained, ..
        } = fresh;
        Some(Self {
            number: rand::random(),
            expires: ends(obtained, &tokens).or(fresh.id_token_ends)?,
            id_token: tokens.id_token?,
            access_token: Some(tokens.access_token).filter(|_| keeps_access_token),
            refresh_token: tokens.refresh_token,
            userinfo: fresh.userinfo,
            obtained,
            started: obtained,
            seen: obtained,
        })
    }

    /// The session with what a refresh has brought, in use now. What it has not brought stays. None if the new
    /// tokens are somebody else's.
    pub(super) fn refreshed(
        &self,
        fresh: &Fresh,
        keeps_access_token: bool,
        now: u64,
    ) -> Option<Self> {
        let tokens = &fresh.tokens;
        let lasted = self.expires.saturating_sub(self.obtained);
        let next = Self {
            number: self.number,
            id_token: tokens.id_token.as_ref().unwrap_or(&self.id_token).clone(),
            access_token: Some(tokens.access_token.clone()).filter(|_| keeps_access_token),
            refresh_token: tokens
                .refresh_token
                .as_ref()
                .or(self.refresh_token.as_ref())
                .cloned(),
            userinfo: fresh.userinfo.as_ref().or(self.userinfo.as_ref()).cloned(),
            obtained: fresh.obtained,
            expires: ends(fresh.obtained, tokens)
                .or(fresh.id_token_ends)
                .unwrap_or(fresh.obtained + lasted),
            started: self.started,
            seen: now,
        };
        let subject = |session: &Self| session.claims()?.get("sub").cloned();
        (subject(&next)? == subject(self)?).then_some(next)
    }

    /// What is known of the user. The ID token has the last word.
    pub(super) fn claims(&self) -> Option<Map<String, Value>> {
        let mut claims = self.userinfo.clone().unwrap_or_default();
        claims.extend(id_token::claims(&self.id_token)?);
        Some(claims)
    }
}

impl Sessions {
    pub(super) fn new(
        cookies: Cookies,
        seals: Seals,
        lifetimes: Lifetimes,
        forward: Forward,
        tokens: ForwardTokens,
        build: &mut Build<'_>,
    ) -> Result<Self, BuildError> {
        tokens.reserve(build)?;
        Ok(Self {
            cookies,
            seals,
            lifetimes,
            forward,
            tokens,
            opened: Slots::new(REMEMBERED),
            hasher: RandomState::new(),
        })
    }

    /// Whether sessions need their access tokens.
    pub(super) fn keep_access_tokens(&self) -> bool {
        self.tokens.access_token.is_some()
    }

    /// The session of a request, however old.
    pub(super) fn open(
        &self,
        headers: &HeaderMap,
        scheme: Scheme,
        id_tokens: &IdTokens,
    ) -> Option<Arc<Opened>> {
        let sealed = self.cookies.over(scheme).session(headers)?;
        let hash = self.hasher.hash_one(&sealed);
        let known = self.opened.find(hash, |opened| *opened.sealed == *sealed);
        if known.is_some() {
            return known;
        }
        let text = self.seals.open(&sealed, CONTEXT)?;
        let session: Session = serde_json::from_slice(&text).ok()?;
        let opened = Opened {
            sealed: sealed.into(),
            ..self.introduce(session, id_tokens).ok()?
        };
        let opened = Arc::new(opened);
        self.opened.keep(hash, Arc::clone(&opened));
        Some(opened)
    }

    /// A session, and what others are told by it. The error says why they can't be.
    pub(super) fn introduce(
        &self,
        session: Session,
        id_tokens: &IdTokens,
    ) -> Result<Opened, String> {
        let claims = session.claims().ok_or("the ID token can't be read")?;
        let headers = self.forward.headers(&claims)?;
        let subject = id_tokens.subject(&claims);
        Ok(Opened {
            session,
            headers,
            sealed: Box::default(),
            identity: Identity::with_claims(subject, Arc::new(claims)),
        })
    }

    /// What becomes of a session at this time.
    pub(super) fn state(&self, session: &Session, now: u64) -> State {
        let lifetimes = &self.lifetimes;
        let ended = session.started.saturating_add(lifetimes.lifetime);
        let idle = session.seen.saturating_add(lifetimes.idle);
        if now >= ended || now >= idle {
            return State::Over;
        }
        let lasts = session.expires.saturating_sub(session.obtained);
        let ahead = lifetimes.refresh_before.min(lasts / 2);
        if now >= session.expires.saturating_sub(ahead) {
            return match session.refresh_token {
                Some(_) => State::Due,
                None if now < session.expires => State::Good,
                None => State::Over,
            };
        }
        // Not for each request, since it costs the browser a cookie.
        if now.saturating_sub(session.seen) > lifetimes.idle / 10 {
            return State::Used;
        }
        State::Good
    }

    /// The cookies that a browser keeps this session in. None if it is too large for that.
    pub(super) fn keep(
        &self,
        session: &Session,
        headers: &HeaderMap,
        scheme: Scheme,
        now: u64,
    ) -> Option<Vec<HeaderValue>> {
        let text = serde_json::to_vec(session).ok()?;
        let sealed = self.seals.seal(&text, CONTEXT)?;
        let ended = session.started.saturating_add(self.lifetimes.lifetime);
        let left = ended.saturating_sub(now).min(self.lifetimes.idle);
        let names = self.cookies.over(scheme);
        names.set_session(&sealed, left, headers)
    }

    /// The headers that tell an upstream who is calling.
    pub(super) fn headers(&self, opened: &Opened) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let mut headers = opened.headers.to_vec();
        let session = &opened.session;
        let tokens = [
            (&self.tokens.access_token, session.access_token.as_deref()),
            (&self.tokens.id_token, Some(&*session.id_token)),
        ];
        for (name, token) in tokens {
            let Some(name) = name else { continue };
            let text = token.map(|token| match name.0 {
                header::AUTHORIZATION => format!("Bearer {token}"),
                _ => token.to_owned(),
            });
            let value = text.and_then(|text| HeaderValue::try_from(text).ok());
            headers.push((name.0.clone(), value));
        }
        headers
    }
}

/// When the access token ends, if that is told.
fn ends(obtained: u64, tokens: &Tokens) -> Option<u64> {
    let lasts = tokens.expires_in.filter(|lasts| *lasts >= 0.0)?;
    Some(obtained.saturating_add(lasts as u64))
}

/// What the cookies of sessions are sealed for.
const CONTEXT: &str = "session";
/// So many sessions are remembered after they were opened. Each takes some KiB.
const REMEMBERED: usize = 1_024;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn sessions(refresh_before: u64) -> Sessions {
        let lifetimes = Lifetimes {
            lifetime: 10_000,
            idle: 1_000,
            refresh_before,
        };
        Sessions {
            cookies: Cookies::new("s".to_owned()),
            seals: Seals::new(&[edgeway_sdk::Secret::new("x".repeat(32))], &[]).unwrap(),
            lifetimes,
            forward: Forward::default(),
            tokens: ForwardTokens::default(),
            opened: Slots::new(0),
            hasher: RandomState::new(),
        }
    }

    fn session(refresh_token: Option<&str>) -> Session {
        Session {
            number: 1,
            id_token: String::new(),
            access_token: None,
            refresh_token: refresh_token.map(str::to_owned),
            userinfo: None,
            obtained: 5_000,
            expires: 5_300,
            started: 1_000,
            seen: 5_000,
        }
    }

    #[test]
    fn a_session_is_refreshed_before_its_access_token_ends() {
        let state = |ahead, now| sessions(ahead).state(&session(Some("r")), now);
        assert_eq!(state(60, 5_100), State::Good);
        assert_eq!(state(60, 5_239), State::Used);
        assert_eq!(state(60, 5_240), State::Due);
        assert_eq!(state(60, 5_999), State::Due);
        // Not before half of the token's time, or it would be refreshed all the time.
        assert_eq!(state(600, 5_149), State::Used);
        assert_eq!(state(600, 5_150), State::Due);
    }

    #[test]
    fn a_session_that_cannot_be_refreshed_ends_with_its_access_token() {
        let state = |now| sessions(60).state(&session(None), now);
        assert_eq!(state(5_299), State::Good);
        assert_eq!(state(5_300), State::Over);
    }

    #[test]
    fn a_session_is_in_use_when_it_gets_what_others_were_brought() {
        let id_token = |subject: &str| {
            let claims = serde_json::json!({ "sub": subject }).to_string();
            format!("e30.{}.", BASE64_URL_SAFE_NO_PAD.encode(claims))
        };
        let old = Session {
            id_token: id_token("ann"),
            ..session(Some("r"))
        };
        let fresh = |subject: &str| Fresh {
            tokens: Tokens {
                id_token: Some(id_token(subject)),
                access_token: "new".to_owned(),
                refresh_token: None,
                expires_in: Some(60.0),
            },
            userinfo: None,
            obtained: 5_200,
            id_token_ends: None,
        };
        let next = old.refreshed(&fresh("ann"), true, 5_250).unwrap();
        assert_eq!((next.obtained, next.seen, next.number), (5_200, 5_250, 1));
        assert_eq!(next.refresh_token.as_deref(), Some("r"));
        assert!(old.refreshed(&fresh("bob"), true, 5_250).is_none());
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let sessions = sessions(60);
        let mut session = session(Some("r"));
        assert_eq!(sessions.state(&session, 6_000), State::Over);
        session.seen = 10_999;
        session.expires = 20_000;
        session.obtained = 10_999;
        assert_eq!(sessions.state(&session, 10_999), State::Good);
        assert_eq!(sessions.state(&session, 11_000), State::Over);
    }
}
