//! The end of a session, here and at the provider (OpenID Connect RP-Initiated Logout).

use std::sync::Arc;

use edgeway_sdk::{Reply, Request};
use http::{HeaderValue, header};
use tokio::task;

use super::{
    Oidc, Session, cookies,
    login::uncached,
    origin::Origin,
    provider::{Denied, Endpoint},
    session::Opened,
};
use crate::slots::Slots;

/// Sessions that were ended here. A response that was under way would give one back to its browser, and a copy
/// would be good for longer. There is room for so many; a new one takes the place of an old one.
pub(super) struct Ended(Slots<u64>);

impl Ended {
    pub(super) fn new() -> Self {
        Self(Slots::new(ENDED))
    }

    fn keep(&self, session: &Session) {
        let number = session.number;
        // Sessions of an older gateway have no number.
        if number != 0 {
            self.0.keep(number, Arc::new(number));
        }
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.0.find(number, |known| *known == number).is_some()
    }
}

/// Each takes some 50 bytes.
const ENDED: usize = 1 << 14;

impl Oidc {
    /// Has the browser forget the session and the provider too, if it wants to hear of it.
    ///
    /// Only a page of ours may ask for it, so that others can't log users out.
    pub(super) fn leave(&self, request: &Request<'_>) -> Reply {
        if !matches!(request.method().as_str(), "GET" | "POST") {
            return Reply::new(405)
                .header(header::ALLOW, HeaderValue::from_static("GET, POST"))
                .because("one logs out by GET or POST")
                .rule("method");
        }
        let origin = self.origin(request);
        if !origin.is_home_of(request.headers()) {
            let reply = Reply::new(403)
                .detail("Log out on a page of this site.")
                .because("a page of another site asks for the logout")
                .rule("cross_site");
            return uncached(reply);
        }
        let headers = request.headers();
        let opened = self.sessions.open(headers, origin.scheme, &self.id_tokens);
        let names = self.sessions.cookies.over(origin.scheme);
        let logins = names
            .logins(headers)
            .filter_map(|(name, _)| names.line(name, "", 0));
        let lines: Vec<_> = names
            .forget_session(headers)
            .into_iter()
            .chain(logins)
            .collect();
        let reply = match self.farewell(opened.as_deref(), &origin) {
            Some(location) => Reply::new(303).header(header::LOCATION, location),
            None => Reply::new(200).text("You are logged out.\n"),
        };
        let subject = opened.as_ref().map(|opened| opened.identity.subject());
        let reply = reply
            .because("a user has logged out")
            .rule("logged_out")
            .key(subject.unwrap_or_default().to_owned());
        if let Some(opened) = &opened {
            self.ended.keep(&opened.session);
        }
        self.revoke(opened);
        cookies::add(uncached(reply), lines)
    }

    /// Where the browser goes: to the provider, which sends it on, or on at once.
    fn farewell(&self, opened: Option<&Opened>, origin: &Origin) -> Option<String> {
        let after = self.paths.after_logout.as_ref();
        let after = after.map(|after| match after.starts_with('/') {
            true => origin.url(after),
            false => after.clone(),
        });
        let known = self.provider.metadata.current();
        let endpoint = known.as_ref();
        let endpoint = endpoint.and_then(|known| known.content.end_session_endpoint.clone());
        let (Some(Endpoint(mut url)), Some(opened)) = (endpoint, opened) else {
            return after;
        };
        let mut query = url.query_pairs_mut();
        query
            .append_pair("id_token_hint", &opened.session.id_token)
            .append_pair("client_id", &self.provider.client_id);
        if let Some(after) = &after {
            query.append_pair("post_logout_redirect_uri", after);
        }
        drop(query);
        Some(url.into())
    }

    /// Has the provider forget the refresh token, so that a copy of the session ends with its access token.
    /// The user does not wait for that.
    fn revoke(&self, opened: Option<Arc<Opened>>) {
        let provider = Arc::clone(&self.provider);
        task::spawn(async move {
            let Some(token) = opened
                .as_ref()
                .and_then(|opened| opened.session.refresh_token.as_ref())
            else {
                return;
            };
            if let Err(Denied::Unavailable(reason) | Denied::Invalid(reason)) =
                provider.revoke(token).await
            {
                log::warn!("a refresh token was not revoked: {reason}");
            }
        });
    }
}
