//! Logs users in at an OpenID Connect provider, for applications that browsers use.
//!
//! A browser that nobody has logged in with is sent to the provider and comes back with a code (authorization
//! code flow with PKCE; OpenID Connect Core, 3.1). What the provider then says of the user is kept in an
//! encrypted cookie: the gateway keeps nothing, so several gateways can share the secret and the users, and a
//! restart logs nobody out. Its price is that a copy of the cookie is good until the session ends, or its
//! access token does once a logout has had the provider forget the refresh token. Only the gateway that a user
//! has logged out at knows that, for a while, and refuses a copy at once.
//!
//! * [`login`]: to the provider and back.
//! * [`session`], [`cookies`], [`seal`]: what the browser keeps.
//! * [`refresh`]: new tokens for those that end.
//! * [`logout`]: the end.
//! * [`provider`], [`id_token`]: what the provider is asked, and whether it is to be believed.

mod config;
mod cookies;
mod id_token;
mod login;
mod logout;
mod origin;
mod provider;
mod refresh;
mod refusal;
mod seal;
mod session;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use edgeway_sdk::prelude::*;

use self::{
    config::Paths,
    id_token::IdTokens,
    login::uncached,
    logout::Ended,
    origin::{Origin, is_navigation},
    provider::{Denied, Provider},
    refresh::Refreshes,
    session::{Opened, Session, Sessions, State},
};

pub(crate) use self::config::Config;

pub(crate) const DOC: &str = "\
logs users in at an OpenID Connect provider, and tells upstreams who is calling

oidc:
  issuer: https://id.example.com        # tells all else at /.well-known/openid-configuration
  client_id: edgeway
  client_secret: env:OIDC_CLIENT_SECRET # default: none; PKCE is used in any case
  # Encrypts the cookies: 32 bytes or more, the same for all gateways. Of a list the first one encrypts, all
  # decrypt: put a new one before the old one to change it.
  secret: env:OIDC_COOKIE_SECRET

  scopes: [openid]                      # and profile, email, offline_access, ...
  parameters: {}                        # more for the provider: { prompt: select_account, audience: my-api }
  algorithms: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]   # of ID tokens
  leeway: 30s                           # how far clocks may differ
  userinfo: false                       # true: claims of the userinfo endpoint, too
  timeout: 5s                           # for every question to the provider

  # These paths must be on a route with this filter. The provider must know public_url + callback_path.
  callback_path: /oidc/callback
  logout_path: /oidc/logout             # by GET or POST, from pages of the same origin only
  after_logout: /                       # default: the provider's page, or one that says so. A path or a URL
  public_url: https://app.example.com   # default: as the request was sent

  cookie: edgeway_session               # its name; over https it begins with __Host-
  login_timeout: 10m                    # how long a user may be at the provider
  session:
    lifetime: 12h                       # then the user logs in again, in any case
    idle: 1h                            # and after so long without a request
    refresh_before: 1m                  # so long before the access token ends it is refreshed, if it can be

  # Who is calling, for other filters (the first claim that has a name) and for upstreams. Nobody else can
  # set these headers.
  subject: [sub]
  forward: {}                           # { email: X-Auth-Email, name: X-Auth-Name }
  forward_tokens:                       # default: none; Authorization has `Bearer` before the token
    access_token: Authorization
    id_token: X-Id-Token

# Browsers that want to see a page are sent to the provider; all other requests without a session get 401.
# While the provider is away sessions last as long as their access tokens, then the answer is 503.
";

/// The filter.
pub(crate) struct Oidc {
    provider: Arc<Provider>,
    id_tokens: Arc<IdTokens>,
    refreshes: Arc<Refreshes>,
    ended: Arc<Ended>,
    sessions: Sessions,
    paths: Paths,
    public: Option<Origin>,
    scope: String,
    parameters: Vec<(String, String)>,
    /// In seconds.
    login_timeout: u64,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Oidc, BuildError> {
    config.filter(build)
}

#[async_trait]
impl Filter for Oidc {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let now = now();
        if request.path() == self.paths.callback {
            return Ok(self.come_back(request, now).await.into());
        }
        if request.path() == self.paths.logout {
            return Ok(self.leave(request).into());
        }
        let standing = self.standing(request, now).await;
        match standing {
            Standing::Known(caller) => {
                self.admit(request, &caller);
                Ok(Flow::Continue)
            }
            Standing::Nobody(reason) => Ok(self.turn_away(request, reason, now).await.into()),
            Standing::Unclear(reason) => Ok(uncached(refusal::unavailable(reason)).into()),
        }
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        if response.exchange().values.get::<Kept>().is_none() {
            return Ok(());
        }
        // Taken, so that a second filter of this kind does not tell it again.
        let kept = response.values_mut().insert(Kept(Vec::new()));
        let started = response.exchange().started;
        let kept = kept.iter().flat_map(|kept| &kept.0);
        let lines: Vec<_> = kept
            .filter(|kept| kept.is_wanted(started.elapsed()))
            .flat_map(|kept| &kept.lines)
            .collect();
        for line in &lines {
            response.append_header(header::SET_COOKIE, (*line).clone());
        }
        if !lines.is_empty() {
            let value = HeaderValue::from_static("no-cache=\"Set-Cookie\"");
            response.append_header(header::CACHE_CONTROL, value);
        }
        Ok(())
    }

    /// Without its replies nobody could ever log in, so it can't only report them.
    fn refuses(&self) -> bool {
        false
    }

    fn guards(&self) -> bool {
        true
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Needs("the provider")
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }
}

/// What is known of who calls.
enum Standing {
    Known(Caller),
    Nobody(Cow<'static, str>),
    /// It can't be found out, for now.
    Unclear(String),
}

/// Who calls, and the cookies to keep it in if they are new.
struct Caller {
    opened: Arc<Opened>,
    cookies: Vec<HeaderValue>,
    /// Whether a later request may bring them as well.
    can_wait: bool,
}

/// Cookies for the response, of each filter of this kind.
struct Kept(Vec<Renewal>);

/// The cookies of one session.
#[derive(Clone)]
struct Renewal {
    lines: Vec<HeaderValue>,
    can_wait: bool,
    number: u64,
    ended: Arc<Ended>,
}

impl Renewal {
    /// Whether the browser still wants these cookies so long after it has asked: it may have logged out by
    /// then, here or at another gateway.
    fn is_wanted(&self, elapsed: Duration) -> bool {
        let is_late = elapsed > LATE;
        let is_too_late = is_late && self.can_wait;
        !is_too_late && !self.ended.has(self.number)
    }
}

/// After this time a browser may well have asked for something else.
const LATE: Duration = Duration::from_secs(1);

impl Oidc {
    async fn standing(&self, request: &Request<'_>, now: u64) -> Standing {
        let scheme = self.origin(request).scheme;
        let opened = self
            .sessions
            .open(request.headers(), scheme, &self.id_tokens);
        let Some(opened) = opened else {
            return Standing::Nobody("no session".into());
        };
        let session = &opened.session;
        if self.ended.has(session.number) {
            return Standing::Nobody("the user has logged out".into());
        }
        match self.sessions.state(session, now) {
            State::Good => known(opened),
            State::Over => Standing::Nobody("the session is over".into()),
            State::Used => {
                let seen = Session {
                    seen: now,
                    ..session.clone()
                };
                // Not for ever: all responses may be slow.
                let idle = now.saturating_sub(session.seen);
                let can_wait = idle < self.sessions.lifetimes.idle / 2;
                self.renewed(seen, request, now, can_wait)
            }
            State::Due => match self.refresh(session, now).await {
                Ok(session) => self.renewed(session, request, now, false),
                Err(Denied::Invalid(reason)) => {
                    Standing::Nobody(format!("the session is over: {reason}").into())
                }
                Err(Denied::Unavailable(_)) if now < session.expires => known(opened),
                Err(Denied::Unavailable(reason)) => Standing::Unclear(reason),
            },
        }
    }

    /// Who calls with a session that is to be kept anew.
    fn renewed(
        &self,
        session: Session,
        request: &Request<'_>,
        now: u64,
        can_wait: bool,
    ) -> Standing {
        let scheme = self.origin(request).scheme;
        let cookies = self.sessions.keep(&session, request.headers(), scheme, now);
        let Some(cookies) = cookies else {
            return Standing::Unclear("the session is larger than browsers keep".to_owned());
        };
        match self.sessions.introduce(session, &self.id_tokens) {
            Ok(opened) => Standing::Known(Caller {
                opened: Arc::new(opened),
                cookies,
                can_wait,
            }),
            Err(reason) => Standing::Nobody(reason.into()),
        }
    }

    /// Tells later filters and the upstream who is calling.
    fn admit(&self, request: &mut Request<'_>, caller: &Caller) {
        self.sessions.cookies.strip(request);
        for (name, value) in self.sessions.headers(&caller.opened) {
            match value {
                Some(value) => request.set_header(name, value),
                None => request.remove_header(&name),
            }
        }
        let identity = caller.opened.identity.clone();
        request.values_mut().insert(identity);
        if !caller.cookies.is_empty() {
            // There may be two filters of this kind.
            let before = request.values().get::<Kept>();
            let mut renewals = before.map_or_else(Vec::new, |before| before.0.clone());
            renewals.push(Renewal {
                lines: caller.cookies.clone(),
                can_wait: caller.can_wait,
                number: caller.opened.session.number,
                ended: Arc::clone(&self.ended),
            });
            request.values_mut().insert(Kept(renewals));
        }
    }

    /// Sends browsers to the login, and tells programs that there must be one.
    async fn turn_away(&self, request: &Request<'_>, reason: Cow<'static, str>, now: u64) -> Reply {
        if is_navigation(request) {
            let begun = self.begin(request, now).await;
            return begun.unwrap_or_else(|failure| uncached(refusal::reply(failure)));
        }
        let challenge = HeaderValue::from_static("OpenIdConnect realm=\"edgeway\"");
        let reply = Reply::new(401)
            .header(header::WWW_AUTHENTICATE, challenge)
            .detail("Nobody is logged in. Open a page of this site in a browser to log in.")
            .because(reason)
            .rule("session");
        uncached(reply)
    }

    /// The origin that the browser talks to.
    fn origin(&self, request: &Request<'_>) -> Origin {
        self.public.clone().unwrap_or_else(|| Origin::of(request))
    }
}

fn known(opened: Arc<Opened>) -> Standing {
    Standing::Known(Caller {
        opened,
        cookies: Vec::new(),
        can_wait: true,
    })
}

/// Seconds since 1970. A clock before that is so wrong that all sessions are over.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(u64::MAX, |now| now.as_secs())
}
