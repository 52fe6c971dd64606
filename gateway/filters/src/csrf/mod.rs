//! Refuses what pages of other sites make a visitor's browser do.
//!
//! A browser sends cookies along with whatever request a page makes, also to another site. So a request that may
//! change something (any method but `GET`, `HEAD`, `OPTIONS` and `TRACE`) must come from a page of this site, and so
//! must the handshake of a WebSocket, which no other rule of browsers protects.
//!
//! **Where a request comes from** browsers say in `Sec-Fetch-Site`, else in `Origin`, else in `Referer`; pages can't
//! forge any of them. It passes if it comes from the origin that is asked for itself, or from one of those in
//! `trusted`. The same site is not enough: whoever has another name below the domain is not to act here. A
//! request that says nothing comes from no browser of these days (`curl`, another program), and carries
//! nobody's cookies but its own: it passes, unless `unknown: refuse`.
//!
//! **A token** on top of that is for those who do not trust browsers alone. The visitor is given a cookie with a random
//! value, signed and bound to who is logged in (whom a filter above has found out). A request that may
//! change something must bring the same value once more: in a header, as scripts of the page can do by
//! reading the cookie, or in a field of a form, for which bodies of up to 64 KiB are read. Applications that write
//! forms are told the value by the header `forward`; what they write it into is for one visitor, and must say
//! so (`Cache-Control: private`). Handshakes of WebSockets can't bring a token.
//!
//! The cookie is for https only, as its prefix `__Host-` demands: no other host can plant one.

use std::borrow::Cow;

use edgeway_sdk::{exchange::Scheme, message::WHOLE_BODY, prelude::*, types::Header};

use self::token::{Signer, Token};
use crate::{
    headers,
    origins::{self, Allowed},
};

mod form;
mod token;

pub(crate) const DOC: &str = "\
refuses what pages of other sites make a visitor's browser do

csrf:
  trusted: [https://app.example.com]     # other origins whose pages may; 'https://*.example.org'
  unknown: allow                         # requests that do not say where they come from: allow or refuse
  token:                                 # asks for a token as well; only the origin counts if not given
    secret: env:CSRF_SECRET              # signs the tokens; at least 32 bytes
    cookie: __Host-csrf                  # where the visitor keeps it
    header: X-CSRF-Token                 # where scripts bring it
    field: csrf_token                    # where forms bring it
    forward: X-CSRF-Form-Token           # how the application is told it, for its forms; not if not given
";

/// `csrf: { trusted: [https://app.example.com], token: { secret: env:CSRF_SECRET } }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    trusted: Vec<Allowed>,
    #[serde(default)]
    unknown: Unknown,
    token: Option<TokenConfig>,
}

#[derive(Deserialize)]
struct TokenConfig {
    secret: Secret,
    #[serde(default = "TokenConfig::cookie")]
    cookie: CookieName,
    #[serde(default = "TokenConfig::header")]
    header: Header,
    #[serde(default = "TokenConfig::field")]
    field: String,
    forward: Option<Header>,
}

impl TokenConfig {
    fn cookie() -> CookieName {
        CookieName("__Host-csrf".to_owned())
    }

    fn header() -> Header {
        Header(HeaderName::from_static("x-csrf-token"))
    }

    fn field() -> String {
        "csrf_token".to_owned()
    }
}

/// What becomes of requests that do not say where they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unknown {
    #[default]
    Allow,
    Refuse,
}

/// The name of a cookie.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct CookieName(String);

impl TryFrom<Cow<'_, str>> for CookieName {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        // The names of cookies and of headers have the same letters.
        match text.parse::<HeaderName>() {
            Ok(_) => Ok(Self(text.into_owned())),
            Err(_) => Err(format!(
                "expected the name of a cookie such as `__Host-csrf`, found `{text}`"
            )),
        }
    }
}

/// Refuses what pages of other sites make a visitor's browser do.
pub(crate) struct Csrf {
    trusted: Vec<Allowed>,
    unknown: Unknown,
    tokens: Option<Tokens>,
}

struct Tokens {
    signer: Signer,
    cookie: String,
    header: HeaderName,
    field: String,
    forward: Option<HeaderName>,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Csrf, BuildError> {
    for (place, origin) in config.trusted.iter().enumerate() {
        let key = format!("trusted.{place}");
        if matches!(origin, Allowed::All | Allowed::Null) {
            let message = "every page can be of this origin: nothing would be refused";
            return Err(BuildError::at(key, message).help("list the origins that are yours"));
        }
        if origin.is_open_to_tampering() {
            let warning = BuildError::at(key, "pages without TLS are trusted");
            build.warn(
                warning
                    .help("write `https`: others on the way can put what they like into the page"),
            );
        }
    }
    Ok(Csrf {
        trusted: config.trusted,
        unknown: config.unknown,
        tokens: config.token.map(|token| tokens(token, build)).transpose()?,
    })
}

fn tokens(config: TokenConfig, build: &mut Build<'_>) -> Result<Tokens, BuildError> {
    let length = config.secret.reveal().len();
    if length < SECRET {
        let message = format!("the secret has {length} bytes, less than {SECRET}");
        return Err(
            BuildError::at("token.secret", message).help("make one by `openssl rand -base64 32`")
        );
    }
    if config.field.is_empty() {
        return Err(BuildError::at(
            "token.field",
            "the name of the field is empty",
        ));
    }
    let forward = config.forward.map(|Header(name)| name);
    if let Some(name) = &forward {
        headers::changeable(name, "token.forward")?;
        if *name == config.header.0 {
            let message = "the application is told by the header that scripts bring the token in";
            return Err(BuildError::at("token.forward", message).help("choose another name"));
        }
        build.reserve_header(name.clone());
    }
    Ok(Tokens {
        signer: Signer::new(config.secret.reveal().as_bytes()),
        cookie: config.cookie.0,
        header: config.header.0,
        field: config.field,
        forward,
    })
}

#[async_trait]
impl Filter for Csrf {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let is_handshake = is_websocket(request);
        let is_safe = request.method().is_safe();
        if (!is_safe || is_handshake)
            && let Some(reply) = self.foreign(request)
        {
            return Ok(reply.into());
        }
        match &self.tokens {
            Some(tokens) if !is_handshake => tokens.check(request, is_safe).await,
            Some(_) | None => Ok(Flow::Continue),
        }
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        match &self.tokens {
            Some(tokens) => tokens.hand_out(response),
            None => Ok(()),
        }
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }
}

impl Csrf {
    /// The refusal of a request that does not come from a page of this site.
    fn foreign(&self, request: &Request<'_>) -> Option<Reply> {
        let head = request.headers();
        let origin = Said::of(head, &header::ORIGIN);
        if let Said::Once(origin) = origin
            && self.trusts(origin)
        {
            return None;
        }
        match (Said::of(head, &SITE), origin) {
            (Said::Once("same-origin" | "none"), _) => None,
            (Said::Once(_) | Said::Unclear, _) | (Said::Nothing, Said::Unclear) => {
                Some(refusal("cross_origin", origin.or("another site")))
            }
            (Said::Nothing, Said::Once(origin)) => {
                (!is_own(origin, request)).then(|| refusal("cross_origin", origin))
            }
            (Said::Nothing, Said::Nothing) => self.by_referer(request),
        }
    }

    fn by_referer(&self, request: &Request<'_>) -> Option<Reply> {
        let url = match Said::of(request.headers(), &header::REFERER) {
            Said::Once(url) => url,
            Said::Unclear => return Some(refusal("cross_origin", "an unclear Referer")),
            Said::Nothing if self.unknown == Unknown::Allow => return None,
            Said::Nothing => return Some(refusal("unknown_origin", "nothing")),
        };
        match origins::of_url(url) {
            Some(origin) if self.trusts(&origin) || is_own(&origin, request) => None,
            Some(origin) => Some(refusal("cross_origin", &origin)),
            None => Some(refusal("cross_origin", "a Referer that is no URL")),
        }
    }

    fn trusts(&self, origin: &str) -> bool {
        self.trusted.iter().any(|known| known.matches(origin))
    }
}

impl Tokens {
    async fn check(&self, request: &mut Request<'_>, is_safe: bool) -> Result<Flow> {
        let subject = request.identity().map_or("", Identity::subject);
        let held = request.cookie(&self.cookie);
        let known = held.and_then(|held| self.signer.verify(held, subject));
        let token = match (known, is_safe) {
            (Some(token), true) => token,
            (None, true) => {
                let token = self.signer.make(subject);
                request.values_mut().insert(Fresh(token.clone()));
                token
            }
            (None, false) => {
                return Ok(no_token("the cookie is missing, wrong or another visitor's").into());
            }
            (Some(token), false) => {
                if !self.brings(request, &token).await? {
                    return Ok(no_token(
                        "the request does not bring the token that the cookie has",
                    )
                    .into());
                }
                token
            }
        };
        if let Some(name) = &self.forward {
            request.set_header(name.clone(), token.header_value());
        }
        Ok(Flow::Continue)
    }

    /// Whether the request itself, and not only the cookie, has this token.
    async fn brings(&self, request: &mut Request<'_>, token: &Token) -> Result<bool> {
        if let Some(brought) = request.headers().get(&self.header) {
            return Ok(token.is(brought.as_bytes()));
        }
        let Some(form) = request
            .header(header::CONTENT_TYPE)
            .and_then(form::Form::of)
        else {
            return Ok(false);
        };
        let body = request.body(WHOLE_BODY).await?;
        let brought = form.field(&body, &self.field);
        Ok(brought.is_some_and(|brought| token.is(&brought)))
    }

    /// Gives the visitor a token. The response must not be given to others with it.
    fn hand_out(&self, response: &mut Response<'_>) -> Result<()> {
        let Some(Fresh(token)) = response.exchange().values.get::<Fresh>() else {
            return Ok(());
        };
        let secure = response.exchange().scheme == Scheme::Https || self.is_host_only();
        let secure = if secure { "; Secure" } else { "" };
        let cookie = format!(
            "{}={}; Path=/; SameSite=Lax{secure}",
            self.cookie,
            token.text()
        );
        let cookie = HeaderValue::try_from(cookie).or_status(500)?;
        response.append_header(header::SET_COOKIE, cookie);
        let private = HeaderValue::from_static("private");
        response.append_header(header::CACHE_CONTROL, private);
        Ok(())
    }

    /// Whether browsers take the cookie over https only.
    fn is_host_only(&self) -> bool {
        self.cookie.starts_with("__Host-") || self.cookie.starts_with("__Secure-")
    }
}

/// A token that the visitor does not have yet.
struct Fresh(Token);

/// What a header says that must be there once at most.
#[derive(Clone, Copy)]
enum Said<'a> {
    Nothing,
    Once(&'a str),
    /// Several times, or by no text.
    Unclear,
}

impl<'a> Said<'a> {
    fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) => value.to_str().map_or(Self::Unclear, Self::Once),
            (Some(_), Some(_)) => Self::Unclear,
        }
    }

    fn or(self, other: &'a str) -> &'a str {
        match self {
            Self::Once(text) => text,
            Self::Nothing | Self::Unclear => other,
        }
    }
}

/// Whether a page of this origin is one of the host that is asked for. Only trusted proxies can say that it was
/// asked for by another name.
fn is_own(origin: &str, request: &Request<'_>) -> bool {
    let authority = request
        .parts()
        .uri
        .authority()
        .map(|authority| authority.as_str());
    let names = [
        authority.or_else(|| request.header(header::HOST)),
        request.header(FORWARDED_HOST),
    ];
    let mut names = names.into_iter().flatten();
    names.any(|name| origins::is_own(origin, request.scheme(), name))
}

fn is_websocket(request: &Request<'_>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn refusal(rule: &'static str, origin: &str) -> Reply {
    let origin: String = origin.chars().take(LONGEST).collect();
    Reply::new(403)
        .detail("This request does not come from a page of this site.")
        .because("the request does not come from the site's own pages or from a trusted origin")
        .rule(rule)
        .key(origin)
}

fn no_token(why: &'static str) -> Reply {
    Reply::new(403)
        .detail("This request has no valid token. Reload the page and try again.")
        .because(why)
        .rule("token")
}

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// How much of an origin is told.
const LONGEST: usize = 100;
/// The fewest bytes that a secret has.
const SECRET: usize = 32;

#[cfg(test)]
mod tests;
