//! New tokens for those that end soon, without the user.
//!
//! A refresh token is often good for one use. Requests of one browser that come at the same time bring the
//! same one: it is used once, and what it has brought is handed to all of them, also for a while after, since
//! a browser may not have heard of it.

use std::{sync::Arc, time::Duration};

use super::{
    Oidc,
    id_token::IdTokens,
    provider::{Denied, Provider},
    session::{Fresh, Session, State},
};
use crate::{digest::Hasher, flights::Flights, jwt::claims::Claims};

/// Refreshes under way, and those that were done a moment ago.
pub(super) struct Refreshes {
    hasher: Hasher,
    flights: Arc<Flights<Result<Arc<Fresh>, Denied>>>,
}

impl Refreshes {
    pub(super) fn new() -> Self {
        Self {
            hasher: Hasher::new(),
            flights: Arc::new(Flights::keeping(keep)),
        }
    }
}

/// How long the outcome of a refresh is handed out.
fn keep(outcome: &Result<Arc<Fresh>, Denied>) -> Duration {
    match outcome {
        Ok(_) | Err(Denied::Invalid(_)) => Duration::from_secs(300),
        // So that not every request waits for a provider that is away.
        Err(Denied::Unavailable(_)) => Duration::from_secs(2),
    }
}

impl Oidc {
    /// The session with new tokens.
    pub(super) async fn refresh(&self, session: &Session, now: u64) -> Result<Session, Denied> {
        let mut session = session.clone();
        for _ in 0..MOST_STEPS {
            let token = session.refresh_token.clone();
            let token = token.ok_or_else(|| Denied::Invalid("no refresh token".to_owned()))?;
            // A provider may give the same refresh token again and again.
            let obtained = session.obtained.to_le_bytes();
            let name = [token.as_bytes(), &obtained];
            let name = self.refreshes.hasher.digest(name);
            let (provider, id_tokens) = (Arc::clone(&self.provider), Arc::clone(&self.id_tokens));
            let work = async move {
                let fresh = fresh(&provider, &id_tokens, &token, now).await;
                fresh.map(Arc::new)
            };
            let landed = self.refreshes.flights.join(name, work).await;
            let landed =
                landed.ok_or_else(|| Denied::Unavailable("the refresh was given up".to_owned()))?;
            let keeps = self.sessions.keep_access_tokens();
            let next = session.refreshed(&*landed.result?, keeps, now);
            session = next
                .ok_or_else(|| Denied::Invalid("the new tokens are somebody else's".to_owned()))?;
            // What others were brought long ago may be due itself.
            if !landed.shared || self.sessions.state(&session, now) != State::Due {
                return Ok(session);
            }
        }
        let reason = "a provider whose tokens end at once";
        Err(Denied::Unavailable(reason.to_owned()))
    }

    /// What else is known of the user, if that is wanted.
    pub(super) async fn more(
        &self,
        access_token: &str,
        claims: &Claims,
    ) -> Result<Option<Claims>, super::refusal::Failure> {
        let userinfo = userinfo(&self.provider, access_token, claims).await;
        userinfo.map_err(super::refusal::Failure::Provider)
    }
}

async fn fresh(
    provider: &Provider,
    id_tokens: &IdTokens,
    token: &str,
    now: u64,
) -> Result<Fresh, Denied> {
    let tokens = provider.refresh(token).await?;
    let claims = match &tokens.id_token {
        Some(text) => Some(id_tokens.verify(text, now).await?),
        None => None,
    };
    let userinfo = match &claims {
        Some(claims) => userinfo(provider, &tokens.access_token, claims).await?,
        None => None,
    };
    let ends = claims
        .as_ref()
        .and_then(|claims| claims.get("exp")?.as_f64());
    Ok(Fresh {
        userinfo,
        id_token_ends: ends.map(|ends| ends as u64),
        obtained: now,
        tokens,
    })
}

async fn userinfo(
    provider: &Provider,
    access_token: &str,
    claims: &Claims,
) -> Result<Option<Claims>, Denied> {
    if !provider.userinfo {
        return Ok(None);
    }
    let userinfo = provider.userinfo(access_token).await?;
    if userinfo.get("sub") != claims.get("sub") {
        return Err(Denied::Invalid(
            "the userinfo is somebody else's".to_owned(),
        ));
    }
    Ok(Some(userinfo))
}

/// How many refreshes that others have done are caught up with: with tokens that last for some seconds, all that
/// are kept.
const MOST_STEPS: usize = 64;
