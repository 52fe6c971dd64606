//! The host a request is for, and the hosts a route is for.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

use super::MatchError;

/// The host of a `Host` field or an `:authority`: lower-case, without port and trailing dot.
///
/// Borrowed if the client wrote it so; an IPv6 literal is always copied, since it has many spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a>(Cow<'a, str>);

impl<'a> Host<'a> {
    /// An error is the client's fault: a 400.
    pub fn parse(value: &'a str) -> Result<Self, HostError> {
        if let Some(rest) = value.strip_prefix('[') {
            return Self::address(rest);
        }
        let (name, port) = value.split_once(':').unwrap_or((value, ""));
        check_port(port)?;
        // Hosts are compared without the trailing dot: browsers send `example.com.` when it is typed that way.
        let name = name.strip_suffix('.').unwrap_or(name);
        check_name(name)?;
        Ok(Self(lower_case(name)))
    }

    /// The name, the IPv4 address, or the IPv6 address in brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn address(rest: &str) -> Result<Self, HostError> {
        let (address, after) = rest.split_once(']').ok_or(HostError::Address)?;
        let address: Ipv6Addr = address.parse().map_err(|_| HostError::Address)?;
        if !after.is_empty() {
            check_port(after.strip_prefix(':').ok_or(HostError::Port)?)?;
        }
        Ok(Self(Cow::Owned(format!("[{address}]"))))
    }
}

/// Why a host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    /// There is nothing before the port.
    Empty,
    /// A name that no name server could know.
    Name,
    /// A port that is not a number up to 65535.
    Port,
    /// Brackets without an IPv6 address in them.
    Address,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::Name => "the host is not a valid name",
            Self::Port => "the port of the host is not valid",
            Self::Address => "the host is not a valid IPv6 address",
        })
    }
}

impl std::error::Error for HostError {}

/// A host as a route names it. No pattern at all means every host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `api.example.com`, `192.0.2.1`, `[2001:db8::1]`.
    Exact(HostName),
    /// `*.example.com`: one or more labels, and then the name that is kept here.
    Wildcard(HostName),
}

/// A host name in the spelling of [`Host`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(Box<str>);

impl HostName {
    /// The text that a [`Host`] is compared with.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com`. Ports do not belong here: they are a listener's.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        if let Some(suffix) = text.strip_prefix("*.") {
            return Ok(Self::Wildcard(host_name(suffix, text)?));
        }
        if text == "*" {
            return Err(MatchError::new(
                "`*` is no host; leave out `host` to match every host",
            ));
        }
        Ok(Self::Exact(host_name(text, text)?))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name.as_str()),
            Self::Wildcard(suffix) => write!(f, "*.{}", suffix.as_str()),
        }
    }
}

fn host_name(name: &str, whole: &str) -> Result<HostName, MatchError> {
    let wrong = |reason: &str| MatchError::new(format!("`{whole}` is not a host: {reason}"));
    if let Ok(address) = name.parse::<Ipv6Addr>() {
        return Err(wrong(&format!(
            "an IPv6 address is written in brackets, `[{address}]`"
        )));
    }
    if name.contains('*') {
        return Err(wrong(
            "`*` stands only for the first labels, as in `*.example.com`",
        ));
    }
    if name.contains("://") || name.contains('/') {
        return Err(wrong("write the name alone, without scheme and path"));
    }
    if !name.is_ascii() {
        return Err(wrong(
            "write an international name as clients send it, `xn--…`",
        ));
    }
    if name.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        return Err(wrong("a port belongs to a listener, write the name alone"));
    }
    let host = Host::parse(name).map_err(|error| wrong(&error.to_string()))?;
    Ok(HostName(host.as_str().into()))
}

fn check_port(port: &str) -> Result<(), HostError> {
    // RFC 3986 allows a colon without a port.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (port.is_empty() || port.parse::<u16>().is_ok()) {
        Ok(())
    } else {
        Err(HostError::Port)
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    let mut labels = name.as_bytes().split(|byte| *byte == b'.');
    let valid = name.len() <= NAME_LIMIT && labels.all(is_label);
    if valid { Ok(()) } else { Err(HostError::Name) }
}

/// Underscores are in no host name of the RFCs, but in many a container's.
fn is_label(label: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_LIMIT).contains(&label.len()) && label.iter().all(known)
}

fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

const NAME_LIMIT: usize = 253;
const LABEL_LIMIT: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tests::Random;

    #[test]
    fn a_host_has_one_spelling() {
        let table = [
            ("example.com", "example.com"),
            ("EXAMPLE.Com", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com:", "example.com"),
            ("example.com.", "example.com"),
            ("Example.com.:443", "example.com"),
            ("localhost", "localhost"),
            ("product_1", "product_1"),
            ("127.0.0.1:8881", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::1]:8080", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
        ];
        for (value, expected) in table {
            assert_eq!(
                Host::parse(value).expect("the host is valid").as_str(),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_lower_case_host_is_not_copied() {
        let host = Host::parse("api.example.com:443").expect("the host is valid");
        assert!(matches!(host.0, Cow::Borrowed("api.example.com")));
    }

    #[test]
    fn a_host_that_is_rubbish_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(127);
        let table = [
            ("", HostError::Empty),
            (":80", HostError::Empty),
            (".", HostError::Empty),
            ("a..b", HostError::Name),
            (".example.com", HostError::Name),
            ("example.com..", HostError::Name),
            ("user@example.com", HostError::Name),
            ("example.com/path", HostError::Name),
            ("exa mple.com", HostError::Name),
            ("example.com\r\nx", HostError::Name),
            ("bücher.example", HostError::Name),
            ("a%2eb", HostError::Name),
            ("*.example.com", HostError::Name),
            (&long_label, HostError::Name),
            (&long_name, HostError::Name),
            ("a:b", HostError::Port),
            ("a:80:80", HostError::Port),
            ("a:65536", HostError::Port),
            ("a:+80", HostError::Port),
            ("[::1]x", HostError::Port),
            ("[::1", HostError::Address),
            ("[::1%25eth0]", HostError::Address),
            ("[example.com]", HostError::Address),
            ("::1", HostError::Port),
        ];
        for (value, expected) in table {
            let outcome = Host::parse(value).err();
            // A name of 127 one-letter labels has 253 characters and is the longest that is allowed.
            let expected = (value != long_name).then_some(expected);
            assert_eq!(outcome, expected, "{value:?}");
        }
        assert_eq!(
            Host::parse(&format!("a.{long_name}")).err(),
            Some(HostError::Name)
        );
    }

    #[test]
    fn a_pattern_says_how_it_should_have_been_written() {
        let table = [
            ("*", "leave out `host`"),
            ("a.*.com", "`*` stands only"),
            ("*.*.com", "`*` stands only"),
            ("*example.com", "`*` stands only"),
            ("example.com:80", "a port belongs to a listener"),
            ("[::1]:80", "a port belongs to a listener"),
            ("::1", "in brackets, `[::1]`"),
            ("https://example.com", "without scheme"),
            ("example.com/x", "without scheme and path"),
            ("bücher.example", "`xn--…`"),
            ("", "the host is empty"),
            ("*.", "the host is empty"),
            ("a b", "not a valid name"),
        ];
        for (text, expected) in table {
            let error = HostPattern::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_compared() {
        for (text, shown) in [
            ("API.Example.com.", "api.example.com"),
            ("*.Example.com", "*.example.com"),
        ] {
            assert_eq!(
                HostPattern::parse(text)
                    .expect("the pattern is valid")
                    .to_string(),
                shown
            );
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let mut random = Random::new(3);
        for _ in 0..50_000 {
            let bytes = random.bytes(12);
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(host) = Host::parse(&text) {
                assert_eq!(Host::parse(host.as_str()).as_ref(), Ok(&host));
            }
        }
    }
}
