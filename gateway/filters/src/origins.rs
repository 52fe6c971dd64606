//! Origins of pages: as configurations list them, and as browsers send them.

use std::borrow::Cow;

use edgeway_sdk::{exchange::Scheme, prelude::*};
use http::uri;

/// An origin that is allowed: `https://app.example.com`, `https://*.example.org`, `null` or `*`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(crate) enum Allowed {
    All,
    /// What pages without an origin of their own say: those in a sandbox, and files.
    Null,
    /// As browsers write it: in lower case, without the port that the scheme implies.
    One(String),
    /// Every name below a domain, at any depth, but not the domain itself.
    Below {
        /// `https://`
        before: String,
        /// `.example.org:8443`
        after: String,
    },
}

impl Allowed {
    pub(crate) fn matches(&self, origin: &str) -> bool {
        match self {
            Self::All => true,
            Self::Null => origin == "null",
            Self::One(known) => known == origin,
            Self::Below { before, after } => origin
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(after.as_str()))
                .is_some_and(is_name),
        }
    }

    /// Whether whoever is on the way can make a page of this origin: it is of the scheme `http`, and not
    /// of the visitor's own machine.
    pub(crate) fn is_open_to_tampering(&self) -> bool {
        let place = match self {
            Self::All | Self::Null => None,
            Self::One(origin) => origin.strip_prefix("http://"),
            Self::Below { before, after } => (before == "http://").then_some(after.as_str()),
        };
        place.is_some_and(|place| !is_local(without_port(place)))
    }
}

/// Whether an `Origin` is that of the site that is asked for itself: same host, same port.
///
/// The scheme may be `https` where we are asked by `http`: TLS may have ended in front of us. The other way
/// round it is another origin, which whoever is on the way can make.
pub(crate) fn is_own(origin: &str, scheme: Scheme, authority: &str) -> bool {
    let Some((origin_scheme, place)) = origin.split_once("://") else {
        return false;
    };
    let downgraded = scheme == Scheme::Https && origin_scheme != "https";
    let own = Place::parse(origin_scheme, authority);
    !downgraded
        && matches!(origin_scheme, "http" | "https")
        && own.is_some_and(|own| own.0 == place)
}

/// The origin of a URL such as a `Referer`; none if it has none.
pub(crate) fn of_url(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let place = Place::parse(scheme, rest.get(..end)?)?;
    Some(format!("{scheme}://{}", place.0))
}

/// Whether this is what can stand before a domain: labels of a name and nothing else.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(allowed)
}

/// Whether a host is the visitor's own machine, however many labels stand before it.
fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host.starts_with("127.")
}

fn without_port(place: &str) -> &str {
    let end = place.rfind(':').filter(|_| !place.ends_with(']'));
    end.and_then(|end| place.get(..end)).unwrap_or(place)
}

impl TryFrom<Cow<'_, str>> for Allowed {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        match text.as_ref() {
            "*" => return Ok(Self::All),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let wrong = || {
            format!(
                "expected an origin such as `https://app.example.com`, `https://*.example.com` or \
                 `*`, without a path, found `{text}`"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let scheme: uri::Scheme = scheme.parse().map_err(|_| wrong())?;
        let (below, authority) = match rest.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, rest),
        };
        let Place(place) = Place::parse(scheme.as_str(), authority).ok_or_else(wrong)?;
        if !below {
            return Ok(Self::One(format!("{scheme}://{place}")));
        }
        let domain = without_port(&place);
        if !(domain.contains('.') || domain == "localhost") {
            return Err(format!(
                "`{text}` is half of the world: name the domain that is yours, such as `https://*.example.com`"
            ));
        }
        Ok(Self::Below {
            before: format!("{scheme}://"),
            after: format!(".{place}"),
        })
    }
}

/// Host and port as browsers write them in an origin.
struct Place(String);

impl Place {
    fn parse(scheme: &str, text: &str) -> Option<Self> {
        let authority: uri::Authority = text.parse().ok()?;
        let host = authority.host().to_ascii_lowercase();
        let is_address = host.starts_with('[') && host.ends_with(']');
        if !(is_address || is_name(&host)) || text.contains('@') {
            return None;
        }
        let port = text.get(host.len()..)?;
        if port.is_empty() {
            return Some(Self(host));
        }
        let port: u16 = port.strip_prefix(':')?.parse().ok()?;
        Some(Self(match (scheme, port) {
            ("http", 80) | ("https", 443) => host,
            _ => format!("{host}:{port}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Result<Allowed, String> {
        Allowed::try_from(Cow::from(text))
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let cases = [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("https://a.example:80", "https://a.example:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                allowed(text),
                Ok(Allowed::One(expected.to_owned())),
                "{text}"
            );
        }
        for text in [
            "",
            "NULL",
            "app.example.com",
            "https://",
            "https://a.example/",
            "https://a.example/path",
            "https://u@a.example",
            "https://a.example:99999",
            "https://a.example:",
            "https://*",
            "https://*.",
            "https://*.com",
            "https://*.com:8443",
            "https://a.*.example",
            "https://*a.example",
            "*.example.com",
            "https://a b",
            "https://é.example",
        ] {
            assert!(allowed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_is_for_names_below_a_domain_and_nothing_that_looks_like_them() {
        let below = allowed("https://*.Example.org:8443").unwrap();
        for (origin, fits) in [
            ("https://a.example.org:8443", true),
            ("https://a.b.example.org:8443", true),
            ("https://example.org:8443", false),
            ("https://.example.org:8443", false),
            ("https://a.example.org", false),
            ("http://a.example.org:8443", false),
            ("https://evilexample.org:8443", false),
            ("https://evil.test/.example.org:8443", false),
            ("https://evil.test:1@a.example.org:8443", false),
            ("https://evil.test#.example.org:8443", false),
            ("https://evil.test%00.example.org:8443", false),
            ("https://a.example.org:8443.evil.test", false),
            ("null", false),
        ] {
            assert_eq!(below.matches(origin), fits, "{origin}");
        }
        assert!(
            allowed("http://*.localhost:3000")
                .unwrap()
                .matches("http://a.localhost:3000")
        );
    }

    #[test]
    fn null_is_an_origin_that_is_allowed_only_by_its_name() {
        assert!(allowed("null").unwrap().matches("null"));
        assert!(!allowed("https://null.example").unwrap().matches("null"));
        assert!(!allowed("null").unwrap().matches("https://null.example"));
    }

    #[test]
    fn pages_without_tls_can_be_tampered_with_unless_they_are_local() {
        for (text, open) in [
            ("http://app.example.com", true),
            ("http://*.example.com:8080", true),
            ("https://app.example.com", false),
            ("http://localhost:3000", false),
            ("http://app.localhost", false),
            ("http://*.localhost:3000", false),
            ("http://127.0.0.1:3000", false),
            ("http://[::1]:3000", false),
            ("*", false),
        ] {
            assert_eq!(
                allowed(text).unwrap().is_open_to_tampering(),
                open,
                "{text}"
            );
        }
    }

    #[test]
    fn the_own_origin_has_the_host_and_the_port_that_were_asked_for() {
        for (origin, scheme, authority, own) in [
            ("https://a.example", Scheme::Https, "a.example", true),
            ("https://a.example", Scheme::Https, "A.Example:443", true),
            ("https://a.example", Scheme::Http, "a.example", true),
            ("http://a.example", Scheme::Http, "a.example:80", true),
            (
                "http://a.example:8080",
                Scheme::Http,
                "a.example:8080",
                true,
            ),
            ("http://[::1]:8080", Scheme::Http, "[::1]:8080", true),
            ("http://a.example", Scheme::Https, "a.example", false),
            ("https://a.example:8443", Scheme::Https, "a.example", false),
            ("https://a.example", Scheme::Https, "a.example:8443", false),
            ("https://b.a.example", Scheme::Https, "a.example", false),
            ("ftp://a.example", Scheme::Http, "a.example", false),
            ("null", Scheme::Https, "null", false),
            ("a.example", Scheme::Https, "a.example", false),
            ("", Scheme::Https, "", false),
        ] {
            assert_eq!(
                is_own(origin, scheme, authority),
                own,
                "{origin} {authority}"
            );
        }
    }

    #[test]
    fn the_origin_of_a_url_ends_where_its_path_begins() {
        for (url, origin) in [
            ("https://A.example/b?c#d", Some("https://a.example")),
            ("https://a.example:443", Some("https://a.example")),
            ("http://a.example:81?x=//b", Some("http://a.example:81")),
            ("https://u:p@a.example/", None),
            ("about:blank", None),
            ("/path", None),
            ("", None),
        ] {
            assert_eq!(of_url(url).as_deref(), origin, "{url}");
        }
    }
}
