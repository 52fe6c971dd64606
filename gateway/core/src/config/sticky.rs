//! How the requests of a session find their endpoint again, as it is written.

use std::{fmt, str::FromStr, time::Duration};

use edgeway_sdk::{Period, Secret, message::is_framing};
use http::{
    HeaderName,
    header::{COOKIE, SET_COOKIE},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{scalar::from_text, shaping::By};

/// `sticky: cookie`, `sticky: { cookie: {...} }`, `sticky: { header: X-Session }`, or
/// `sticky: { hash: "{header.x-user}" }`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sticky {
    /// The gateway gives the client a cookie.
    Cookie(StickyCookie),
    /// The gateway tells a token in a response header, and the client sends it back in the same one.
    Header(StickyHeader),
    /// The same value leads to the same endpoint.
    Hash(By),
}

impl Sticky {
    /// The secret by which tokens are signed, for the forms that have tokens.
    pub(crate) fn signing(&self) -> Option<Signing<'_>> {
        let secret = match self {
            Self::Cookie(cookie) => &cookie.secret,
            Self::Header(header) => &header.secret,
            Self::Hash(_) => return None,
        };
        Some(match secret {
            Some(SessionSecret(secret)) => Signing::Given(secret),
            None => Signing::Random,
        })
    }
}

/// Where the secret of a signature comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing<'a> {
    /// The configuration.
    Given(&'a Secret),
    /// Chance, at the start: other gateways, and this one when it is started again, don't know the
    /// sessions.
    Random,
}

/// The cookie of a session. It is always `HttpOnly`, and `Secure` for clients that came over TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "WrittenCookie")]
pub(crate) struct StickyCookie {
    /// One of its own for each upstream if not given.
    pub(crate) name: Option<CookieName>,
    pub(crate) secret: Option<SessionSecret>,
    pub(crate) ttl: Ttl,
    pub(crate) path: CookiePath,
    pub(crate) domain: Option<CookieDomain>,
    pub(crate) same_site: SameSite,
}

/// As it is written, before its parts are held against each other.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenCookie {
    name: Option<CookieName>,
    secret: Option<SessionSecret>,
    ttl: Ttl,
    path: CookiePath,
    domain: Option<CookieDomain>,
    same_site: SameSite,
}

impl TryFrom<WrittenCookie> for StickyCookie {
    type Error = String;

    fn try_from(written: WrittenCookie) -> Result<Self, String> {
        let name = written.name.as_ref().map_or("", |name| &name.0);
        // Browsers drop what breaks the promise of this prefix (RFC 6265bis, 4.1.3.2).
        let bound = name
            .get(..7)
            .is_some_and(|start| start.eq_ignore_ascii_case("__host-"));
        if bound && (written.domain.is_some() || written.path.0 != "/") {
            return Err(format!(
                "browsers refuse the cookie `{name}` with a `domain`, or a `path` other than `/`"
            ));
        }
        Ok(Self {
            name: written.name,
            secret: written.secret,
            ttl: written.ttl,
            path: written.path,
            domain: written.domain,
            same_site: written.same_site,
        })
    }
}

/// `X-Session`, or `{ name: X-Session, secret: env:NAME, ttl: 1h }`
#[derive(Debug)]
pub(crate) struct StickyHeader {
    pub(crate) name: SessionHeader,
    pub(crate) secret: Option<SessionSecret>,
    pub(crate) ttl: Ttl,
}

/// How long a session stays with its endpoint after its last renewal, in whole seconds and at least
/// one; as long as the client keeps it if `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) Option<Duration>);

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let wrong = || format!("expected `none` or a length of time such as `1h`, found `{text}`");
        let Period(period) = text.parse().map_err(|_| wrong())?;
        if period.as_secs() == 0 || period.subsec_nanos() != 0 {
            return Err(format!("{}: sessions are counted in seconds", wrong()));
        }
        Ok(Self(Some(period)))
    }
}

from_text!(Ttl, "`none` or a length of time such as `1h`");

/// What a secret must have at least, in bytes.
const LEAST: usize = 16;

/// A secret that is too long to be guessed.
#[derive(Clone, Debug)]
pub(crate) struct SessionSecret(Secret);

impl FromStr for SessionSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let secret: Secret = text.parse()?;
        let length = secret.reveal().len();
        if length < LEAST {
            return Err(format!(
                "the secret has {length} bytes, {LEAST} are the least"
            ));
        }
        Ok(Self(secret))
    }
}

from_text!(
    SessionSecret,
    "a secret, best as `env:NAME` or `file:/path`"
);

/// The name of a cookie: a token (RFC 6265, 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieName(pub(crate) String);

impl FromStr for CookieName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Names of headers are tokens too, but their case does not matter.
        HeaderName::from_str(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|_| format!("expected the name of a cookie, found `{text}`"))
    }
}

from_text!(CookieName, "the name of a cookie");

/// The path below which a client sends the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookiePath(pub(crate) String);

impl Default for CookiePath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl FromStr for CookiePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        if text.starts_with('/') && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("expected a path such as `/shop`, found `{text}`"))
    }
}

from_text!(CookiePath, "a path such as `/shop`");

/// The domain to whose hosts a client sends the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieDomain(pub(crate) String);

impl FromStr for CookieDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A leading dot means nothing any more (RFC 6265, 5.2.3).
        let domain = text.strip_prefix('.').unwrap_or(text);
        let letters = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if domain.split('.').all(letters) {
            return Ok(Self(domain.to_ascii_lowercase()));
        }
        Err(format!(
            "expected a domain such as `example.com`, found `{text}`"
        ))
    }
}

from_text!(CookieDomain, "a domain such as `example.com`");

/// Whether a client sends the cookie with requests that other sites caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SameSite {
    /// When they lead the user here.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always. Clients take such a cookie over TLS only.
    None,
}

/// The header that carries the token of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionHeader(pub(crate) HeaderName);

impl FromStr for SessionHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_str(text)
            .map_err(|_| format!("expected the name of a header, found `{text}`"))?;
        if is_framing(&name) {
            return Err(format!(
                "the header `{text}` belongs to the connection: the gateway sets it"
            ));
        }
        // They carry the cookies of others, which the token would replace.
        if [COOKIE, SET_COOKIE].contains(&name) {
            return Err(format!(
                "the header `{text}` carries cookies: for a session in one write `sticky: cookie`"
            ));
        }
        Ok(Self(name))
    }
}

from_text!(SessionHeader, "the name of a header such as `X-Session`");

impl<'de> Deserialize<'de> for StickyHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            name: SessionHeader,
            secret: Option<SessionSecret>,
            #[serde(default)]
            ttl: Ttl,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = StickyHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a header such as `X-Session`, or a map with `name`")
            }

            fn visit_unit<E: de::Error>(self) -> Result<StickyHeader, E> {
                Err(E::invalid_type(de::Unexpected::Unit, &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StickyHeader, E> {
                Ok(StickyHeader {
                    name: text.parse().map_err(E::custom)?,
                    secret: None,
                    ttl: Ttl::default(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StickyHeader, A::Error> {
                let Full { name, secret, ttl } =
                    Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(StickyHeader { name, secret, ttl })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        deserialize::salvage,
        diagnostic::{Look, Problems},
        document::Document,
    };

    #[derive(Debug, Deserialize)]
    struct Upstream {
        sticky: Option<Sticky>,
    }

    fn read(text: &str) -> (Option<Sticky>, String) {
        let mut problems = Problems::default();
        let document = Document::from_text("e.yaml", &format!("sticky: {text}"), &mut problems);
        let upstream: Option<Upstream> = salvage(&document, document.root(), &mut problems);
        let sticky = upstream.and_then(|upstream| upstream.sticky);
        (sticky, problems.render(&document, Look::Plain))
    }

    fn right(text: &str) -> Sticky {
        let (sticky, said) = read(text);
        assert_eq!(said, "", "{text}");
        sticky.unwrap()
    }

    #[test]
    fn the_word_cookie_is_a_session_cookie_for_the_whole_site() {
        for text in ["cookie", "{ cookie: {} }", "{ cookie: { ttl: none } }"] {
            let sticky = right(text);
            assert_eq!(sticky.signing(), Some(Signing::Random), "{text}");
            let Sticky::Cookie(cookie) = sticky else {
                panic!("{text} is no cookie")
            };
            assert_eq!((&cookie.name, &cookie.domain), (&None, &None));
            assert_eq!((cookie.ttl.0, cookie.path.0.as_str()), (None, "/"));
            assert_eq!(cookie.same_site, SameSite::Lax);
        }
    }

    #[test]
    fn a_cookie_can_be_written_out() {
        let sticky = right(
            "{ cookie: { name: sid, secret: 0123456789abcdef, ttl: 1h, path: /shop, domain: .Example.com, same_site: none } }",
        );
        let secret = Secret::new("0123456789abcdef");
        assert_eq!(sticky.signing(), Some(Signing::Given(&secret)));
        let Sticky::Cookie(cookie) = sticky else {
            panic!("no cookie")
        };
        assert_eq!(cookie.name, Some(CookieName("sid".to_owned())));
        assert_eq!(cookie.ttl, Ttl(Some(Duration::from_secs(3600))));
        assert_eq!(cookie.path.0, "/shop");
        assert_eq!(cookie.domain, Some(CookieDomain("example.com".to_owned())));
        assert_eq!(cookie.same_site, SameSite::None);
    }

    #[test]
    fn a_header_is_a_name_or_a_map_and_a_hash_is_a_value() {
        let Sticky::Header(header) = right("{ header: X-Session }") else {
            panic!("no header")
        };
        assert_eq!((header.name.0.as_str(), header.ttl.0), ("x-session", None));
        let sticky = right("{ header: { name: X-S, secret: 0123456789abcdef, ttl: 90s } }");
        assert!(matches!(sticky.signing(), Some(Signing::Given(_))));
        let Sticky::Header(header) = sticky else {
            panic!("no header")
        };
        assert_eq!(header.ttl.0, Some(Duration::from_secs(90)));
        let sticky = right("{ hash: \"{header.x-user}\" }");
        assert_eq!(sticky.signing(), None);
        assert!(matches!(sticky, Sticky::Hash(by) if by == "{header.x-user}".parse().unwrap()));
    }

    /// Each text has one problem, which is told at this place, and no secret with it.
    fn wrong(cases: &[(&str, &str, &str)]) {
        for (text, place, message) in cases {
            let (_, said) = read(text);
            assert_eq!(said.matches("error: ").count(), 1, "{text}\n{said}");
            assert!(said.contains(message), "{text}\n{said}");
            assert!(
                said.contains(&format!("e.yaml:{place}\n")),
                "{text}\n{said}"
            );
            assert!(!said.contains("hunter2"), "a secret is shown: {said}");
        }
    }

    #[test]
    fn what_is_no_form_of_session_is_told_once() {
        wrong(&[
            ("cooky", "1:9", "`cookie`"),
            ("header", "1:9", "`header` needs a value"),
            ("hash", "1:9", "`hash` needs a value"),
            ("{ hash: user }", "1:17", "the same for every request"),
            ("{ cookie: {}, header: X }", "1:9", "expected one of"),
        ]);
    }

    #[test]
    fn what_is_wrong_with_a_cookie_is_told_once() {
        for (option, place, message) in [
            ("secret: hunter2", "1:29", "16 are the least"),
            ("nam: x", "1:21", "unknown key `nam`"),
            ("name: \"a b\"", "1:27", "the name of a cookie"),
            ("name: \"a;b\"", "1:27", "the name of a cookie"),
            ("path: shop", "1:27", "expected a path"),
            ("path: \"/;x\"", "1:27", "expected a path"),
            ("domain: \"a b\"", "1:29", "expected a domain"),
            ("domain: a..b", "1:29", "expected a domain"),
            ("ttl: 0s", "1:26", "counted in seconds"),
            ("ttl: 1500ms", "1:26", "counted in seconds"),
            ("ttl: soon", "1:26", "expected `none`"),
            ("same_site: laks", "1:32", "`lax`"),
            ("name: __Host-s, path: /x", "1:19", "browsers refuse"),
            ("name: __host-s, domain: a.b", "1:19", "browsers refuse"),
        ] {
            wrong(&[(&format!("{{ cookie: {{ {option} }} }}"), place, message)]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_header_is_told_once() {
        wrong(&[
            (
                "{ header: Content-Length }",
                "1:19",
                "belongs to the connection",
            ),
            (
                "{ header: { name: X, tll: 1h } }",
                "1:30",
                "unknown key `tll`",
            ),
            ("{ header: { ttl: 1h } }", "1:11", "missing key `name`"),
            (
                "{ header: { name: X, secret: hunter2 } }",
                "1:38",
                "16 are the least",
            ),
        ]);
    }
}
