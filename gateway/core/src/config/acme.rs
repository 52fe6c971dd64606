//! Certificates that an authority makes while the gateway runs (ACME, RFC 8555), as they are wanted.

use std::{fmt, str::FromStr};

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use edgeway_sdk::{
    Period,
    types::{FilePath, resolve},
};
use http::Uri;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::{At, scalar::from_text, tls::CertificateName};

/// `acme: { email: ops@example.com, domains: [example.com] }`
#[derive(Debug, Deserialize)]
pub(crate) struct Acme {
    pub(crate) domains: At<Vec<At<Domains>>>,
    /// Whom the authority tells of what concerns all of its certificates.
    pub(crate) email: Option<Email>,
    #[serde(default)]
    pub(crate) directory: Directory,
    /// Who vouches for the authority's own host; those that the system trusts if not given.
    pub(crate) directory_ca: Option<At<FilePath>>,
    /// Chosen by the ports of the listeners if not given.
    pub(crate) challenge: Option<At<Challenge>>,
    pub(crate) external_account: Option<ExternalAccount>,
    /// The folder for the account and the certificates.
    pub(crate) state: Option<FilePath>,
    /// How long before its end a certificate is replaced; a third of its whole time if not given.
    pub(crate) renew_before: Option<At<Period>>,
}

/// A name, or a list of names that share a certificate.
#[derive(Debug)]
pub(crate) enum Domains {
    One(Domain),
    Group(Vec<At<Domain>>),
}

impl<'de> Deserialize<'de> for Domains {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Domains;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a host such as `example.com`, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Domains, E> {
                text.parse().map(Domains::One).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Domains, A::Error> {
                let mut group = Vec::new();
                while let Some(one) = items.next_element()? {
                    group.push(one);
                }
                Ok(Domains::Group(group))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The name of a host that an authority can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Domain(pub(crate) CertificateName);

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name: CertificateName = text.parse().map_err(|_| {
            format!("expected the name of a host such as `example.com`, found `{text}`")
        })?;
        if name.wildcard {
            return Err(format!(
                "authorities certify `{text}` only to who can change its DNS, which the gateway can't: get it by another program, and write it in `certificates`"
            ));
        }
        if name.host.contains('_') {
            return Err(format!(
                "authorities certify no name with `_`, as `{text}` has"
            ));
        }
        Ok(Self(name))
    }
}

from_text!(Domain, "the name of a host such as `example.com`");

/// How the authority is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum Challenge {
    /// It asks for a path, at port 80.
    #[serde(rename = "http-01")]
    Http01,
    /// It makes a handshake, at port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        })
    }
}

/// Where an authority tells what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) String);

impl Default for Directory {
    fn default() -> Self {
        Self("https://acme-v02.api.letsencrypt.org/directory".to_owned())
    }
}

impl FromStr for Directory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected the URL of a directory such as `{}`, found `{text}`",
                Self::default().0
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        if uri.scheme_str() == Some("http") {
            return Err(format!("{}: authorities speak `https` only", wrong()));
        }
        if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }
}

from_text!(
    Directory,
    "the URL of a directory such as `https://acme-v02.api.letsencrypt.org/directory`"
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Email(pub(crate) String);

impl FromStr for Email {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '?' | '<' | '>' | '@');
        match address.split_once('@') {
            Some((user, host))
                if !user.is_empty()
                    && user.chars().all(plain)
                    && host.parse::<CertificateName>().is_ok() =>
            {
                Ok(Self(address.to_owned()))
            }
            _ => Err(format!(
                "expected one address such as `ops@example.com`, found `{text}`"
            )),
        }
    }
}

from_text!(Email, "an address such as `ops@example.com`");

/// An account with the authority that was made by other means, to which ours is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct ExternalAccount {
    pub(crate) key_id: String,
    pub(crate) key: MacKey,
}

/// A key as authorities hand it out: base64url, best as `env:NAME` or `file:/path`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct MacKey(pub(crate) Vec<u8>);

impl FromStr for MacKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lenient = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        let engine = GeneralPurpose::new(&URL_SAFE, lenient);
        // Some authorities hand it out in the other alphabet.
        let text = resolve(text)?.trim().replace('+', "-").replace('/', "_");
        match engine.decode(text) {
            Ok(key) if !key.is_empty() => Ok(Self(key)),
            _ => Err("the key is no base64url, as authorities hand it out".to_owned()),
        }
    }
}

/// Without the key.
impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

from_text!(MacKey, "a key, best as `env:NAME` or `file:/path`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_can_be_certified_over_the_web_are_domains() {
        for text in ["example.com", "WWW.example.com", "xn--bcher-kva.example"] {
            assert!(text.parse::<Domain>().is_ok(), "{text}");
        }
        for text in ["*.example.com", "a_b.example.com", "10.0.0.1", "", "a..b"] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory_is_only_asked_by_https() {
        let good = "https://localhost:14000/dir";
        assert_eq!(good.parse(), Ok(Directory(good.to_owned())));
        for text in [
            "http://localhost/dir",
            "localhost",
            "/dir",
            "https:///dir",
            "",
        ] {
            assert!(text.parse::<Directory>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_email_is_one_address() {
        for text in ["ops@example.com", "mailto:ops@example.com"] {
            assert_eq!(text.parse(), Ok(Email("ops@example.com".to_owned())));
        }
        for text in [
            "ops",
            "@example.com",
            "a@b@c.de",
            "a@b.de,c@d.de",
            "a@b.de?x=1",
            "ops@",
        ] {
            assert!(text.parse::<Email>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_read_in_either_alphabet_and_never_shown() {
        for text in ["-_8", "-_8=", "+/8=", " -_8\n"] {
            let key: MacKey = text.parse().unwrap();
            assert_eq!(key, MacKey(vec![0xfb, 0xff]), "{text}");
            assert_eq!(format!("{key:?}"), "***");
        }
        for text in ["", "!", "a b"] {
            let said = text.parse::<MacKey>().unwrap_err();
            assert!(!said.contains('!'), "{said}");
        }
    }
}
