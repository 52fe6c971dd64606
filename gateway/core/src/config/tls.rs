//! TLS towards the clients of a listener, as it is written.

use std::{fmt, str::FromStr, time::Duration};

use edgeway_sdk::{Period, types::FilePath};
use rustls::{
    ProtocolVersion, SupportedCipherSuite,
    crypto::{
        SupportedKxGroup,
        aws_lc_rs::{ALL_CIPHER_SUITES, kx_group},
    },
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    At,
    acme::Acme,
    diagnostic::{nearest, one_of, suggestion},
    scalar::{Span, from_text},
};

/// `tls: development`, or a map.
#[derive(Debug)]
pub(crate) struct ListenerTls(pub(crate) FullTls);

/// The map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FullTls {
    #[serde(default)]
    pub(crate) certificates: Certificates,
    /// Certificates that an authority makes.
    pub(crate) acme: Option<At<Acme>>,
    /// The certificate for clients that ask for no name, or for one that no certificate has; the
    /// first if not given.
    pub(crate) default: Option<At<DefaultCertificate>>,
    pub(crate) min_version: Option<At<TlsVersion>>,
    pub(crate) max_version: Option<At<TlsVersion>>,
    /// In the order in which they are preferred; if not given, all that are safe in the client's.
    pub(crate) cipher_suites: Option<At<Vec<At<CipherSuite>>>>,
    /// By which keys may be exchanged; among these the client chooses.
    pub(crate) groups: Option<At<Vec<At<Group>>>>,
    /// Whether clients may resume a session.
    #[serde(default = "FullTls::session_tickets")]
    pub(crate) session_tickets: bool,
    /// Whether the authority is asked for a proof that a certificate is not revoked; it is if not given.
    pub(crate) ocsp_stapling: Option<At<bool>>,
    /// Whom clients must be vouched for by.
    pub(crate) client_certificates: Option<At<ClientCertificates>>,
    /// How long a client may take for its part.
    #[serde(default = "FullTls::handshake_timeout")]
    pub(crate) handshake_timeout: Span,
    #[serde(default)]
    pub(crate) hsts: Hsts,
    /// How often the files are looked at.
    pub(crate) watch_interval: Option<At<Span>>,
}

impl FullTls {
    /// How often files are looked at if nothing else is written.
    pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(10);

    /// What the word alone means: as `certificates: development` is for whoever wants more.
    fn development() -> Self {
        Self {
            certificates: Certificates::Development,
            acme: None,
            default: None,
            min_version: None,
            max_version: None,
            cipher_suites: None,
            groups: None,
            session_tickets: Self::session_tickets(),
            ocsp_stapling: None,
            client_certificates: None,
            handshake_timeout: Self::handshake_timeout(),
            hsts: Hsts::default(),
            watch_interval: None,
        }
    }

    fn session_tickets() -> bool {
        true
    }

    fn handshake_timeout() -> Span {
        Span(Duration::from_secs(10))
    }
}

impl<'de> Deserialize<'de> for ListenerTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ListenerTls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`development`, or a map with `certificates` or `acme`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ListenerTls, E> {
                if word != "development" {
                    return Err(E::invalid_value(de::Unexpected::Str(word), &self));
                }
                Ok(ListenerTls(FullTls::development()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenerTls, A::Error> {
                FullTls::deserialize(MapAccessDeserializer::new(map)).map(ListenerTls)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `development`, or a list of files.
#[derive(Debug)]
pub(crate) enum Certificates {
    /// One that the gateway makes itself.
    Development,
    /// None if nothing is written.
    Files(Vec<At<CertificateFiles>>),
}

impl Default for Certificates {
    fn default() -> Self {
        Self::Files(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Certificates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Certificates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list such as `[{ chain: a.pem, key: a.key }]`, or `development`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Certificates, E> {
                if word != "development" {
                    return Err(E::invalid_value(de::Unexpected::Str(word), &self));
                }
                Ok(Certificates::Development)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Certificates, A::Error> {
                let mut files = Vec::new();
                while let Some(one) = items.next_element()? {
                    files.push(one);
                }
                if files.is_empty() {
                    return Err(de::Error::custom(
                        "expected at least one certificate, found none",
                    ));
                }
                Ok(Certificates::Files(files))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `{ chain: fullchain.pem, key: privkey.pem }`
#[derive(Debug, Deserialize)]
pub(crate) struct CertificateFiles {
    /// The certificate, and those that lead to an authority that clients know.
    pub(crate) chain: At<FilePath>,
    pub(crate) key: At<FilePath>,
    /// An answer of the authority, which somebody else keeps fresh.
    pub(crate) ocsp: Option<At<FilePath>>,
    /// Instead of those in the certificate.
    pub(crate) names: Option<At<Vec<At<CertificateName>>>>,
}

/// `example.com`, or `*.example.com` for every name with one label more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CertificateName {
    /// In lower case, without the star.
    pub(crate) host: Box<str>,
    pub(crate) wildcard: bool,
}

impl CertificateName {
    /// Whether it stands for all that the other one stands for.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self.wildcard, other.wildcard) {
            (false, true) => false,
            (true, false) => parent(&other.host) == Some(&*self.host),
            (false, false) | (true, true) => self.host == other.host,
        }
    }
}

/// What is left of a name without its first label.
pub(crate) fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (wildcard, host) = match text.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, text),
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        // An address is no name: clients don't ask for one.
        let address = host.parse::<std::net::IpAddr>().is_ok();
        if host.len() > 253 || address || !host.split('.').all(label) {
            return Err(format!(
                "expected the name of a host such as `example.com` or `*.example.com`, found `{text}`"
            ));
        }
        Ok(Self {
            host: host.to_ascii_lowercase().into(),
            wildcard,
        })
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.host)
    }
}

from_text!(CertificateName, "the name of a host such as `example.com`");

/// `none`, or a name that one of the certificates has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DefaultCertificate {
    /// Who asks for no known name is refused.
    None,
    Named(CertificateName),
}

impl FromStr for DefaultCertificate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            name => name.parse().map(Self::Named),
        }
    }
}

from_text!(
    DefaultCertificate,
    "the name of a host such as `example.com`, or `none`"
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            "1.0" | "1.1" | "1" => Err(format!(
                "TLS {text} is broken and not spoken; expected `1.2` or `1.3`"
            )),
            _ => Err(format!("expected `1.2` or `1.3`, found `{text}`")),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

impl<'de> Deserialize<'de> for TlsVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = TlsVersion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`1.2` or `1.3`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TlsVersion, E> {
                text.parse().map_err(E::custom)
            }

            /// Without quotes it is a number of YAML.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<TlsVersion, E> {
                self.visit_str(&format!("{number:?}"))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TlsVersion, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// By the name that IANA gave it, or by the one that OpenSSL has for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CipherSuite(pub(crate) SupportedCipherSuite);

impl CipherSuite {
    /// The version that has it.
    pub(crate) fn version(self) -> TlsVersion {
        match self.0.tls13() {
            Some(_) => TlsVersion::V1_3,
            None => TlsVersion::V1_2,
        }
    }
}

impl FromStr for CipherSuite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |suite: &&SupportedCipherSuite| {
            let iana = iana_name(suite);
            iana.eq_ignore_ascii_case(text) || openssl_name(&iana).eq_ignore_ascii_case(text)
        };
        if let Some(suite) = ALL_CIPHER_SUITES.iter().find(named) {
            return Ok(Self(*suite));
        }
        let iana: Vec<_> = ALL_CIPHER_SUITES.iter().map(iana_name).collect();
        let openssl: Vec<_> = iana.iter().map(|name| openssl_name(name)).collect();
        let help = match nearest(text, openssl.iter().chain(&iana)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected {}", one_of(&iana)),
        };
        Err(format!("unknown cipher suite `{text}`; {help}"))
    }
}

from_text!(
    CipherSuite,
    "the name of a cipher suite such as `TLS_AES_256_GCM_SHA384`"
);

/// As IANA has it; rustls calls those of TLS 1.3 `TLS13_...`.
pub(crate) fn iana_name(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replacen("TLS13_", "TLS_", 1)
}

/// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384` as `ECDHE-RSA-AES256-GCM-SHA384`; suites of TLS 1.3 have
/// only one name.
fn openssl_name(iana: &str) -> String {
    let Some((exchange, cipher)) = iana
        .strip_prefix("TLS_")
        .and_then(|name| name.split_once("_WITH_"))
    else {
        return iana.to_owned();
    };
    let cipher = cipher
        .replace("AES_", "AES")
        .replace("POLY1305_SHA256", "POLY1305");
    format!("{exchange}_{cipher}").replace('_', "-")
}

/// `X25519MLKEM768`, `X25519`, `secp256r1` ...
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(pub(crate) &'static dyn SupportedKxGroup);

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

/// The names of IANA, each with what others say for it. Those that resist a quantum computer first.
const GROUPS: [(&str, &str, &dyn SupportedKxGroup); 7] = [
    ("X25519MLKEM768", "", kx_group::X25519MLKEM768),
    ("SecP256r1MLKEM768", "", kx_group::SECP256R1MLKEM768),
    ("MLKEM768", "", kx_group::MLKEM768),
    ("MLKEM1024", "", kx_group::MLKEM1024),
    ("X25519", "", kx_group::X25519),
    ("secp256r1", "prime256v1 P-256", kx_group::SECP256R1),
    ("secp384r1", "P-384", kx_group::SECP384R1),
];

impl Group {
    /// Those that are usual: no larger than they need to be, and each with a curve.
    pub(crate) fn usual() -> Vec<Self> {
        let groups = [
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ];
        groups.map(Self).to_vec()
    }

    /// Whether the version has it.
    pub(crate) fn works_in(self, version: TlsVersion) -> bool {
        self.0.usable_for_version(match version {
            TlsVersion::V1_2 => ProtocolVersion::TLSv1_2,
            TlsVersion::V1_3 => ProtocolVersion::TLSv1_3,
        })
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |(name, others, _): &&(&str, &str, _)| {
            let mut names = others.split(' ').chain([*name]);
            names.any(|name| name.eq_ignore_ascii_case(text)) && !text.is_empty()
        };
        if let Some((.., group)) = GROUPS.iter().find(named) {
            return Ok(Self(*group));
        }
        let help = suggestion(text, &GROUPS.map(|(name, ..)| name)).unwrap_or_default();
        Err(format!("unknown group `{text}`; {help}"))
    }
}

from_text!(
    Group,
    "the name of a group for key exchange such as `X25519`"
);

/// `client_certificates: { ca: ca.pem }`
#[derive(Debug, Deserialize)]
pub(crate) struct ClientCertificates {
    /// Who may have signed them.
    pub(crate) ca: At<FilePath>,
    /// Whether a client without one is refused.
    #[serde(default = "ClientCertificates::required")]
    pub(crate) required: bool,
    /// What the authorities have revoked.
    pub(crate) crl: Option<At<FilePath>>,
}

impl ClientCertificates {
    fn required() -> bool {
        true
    }
}

/// `hsts: true`, or `hsts: { max_age: 365d, include_subdomains: true }`: the value of
/// `Strict-Transport-Security`, if there is to be one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hsts(pub(crate) Option<String>);

/// As it is written, before its parts are held against each other.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenHsts {
    max_age: Period,
    include_subdomains: bool,
    preload: bool,
}

impl Default for WrittenHsts {
    fn default() -> Self {
        Self {
            max_age: Period(YEAR),
            include_subdomains: false,
            preload: false,
        }
    }
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

impl WrittenHsts {
    /// # Errors
    ///
    /// A sentence, if browsers would not put the host on their list although that is wanted.
    fn render(&self) -> Result<String, String> {
        if self.preload && !(self.include_subdomains && self.max_age.0 >= YEAR) {
            let message = "`preload` needs `include_subdomains: true` and a `max_age` of at least 365d: browsers would not list the host";
            return Err(message.to_owned());
        }
        let mut value = format!("max-age={}", self.max_age.0.as_secs());
        if self.include_subdomains {
            value.push_str("; includeSubDomains");
        }
        if self.preload {
            value.push_str("; preload");
        }
        Ok(value)
    }
}

impl<'de> Deserialize<'de> for Hsts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Hsts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a map such as `{ max_age: 365d }`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Hsts, E> {
                let usual = on.then(|| WrittenHsts::default().render());
                usual.transpose().map(Hsts).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Hsts, A::Error> {
                let written = WrittenHsts::deserialize(MapAccessDeserializer::new(map))?;
                let value = written.render().map_err(de::Error::custom)?;
                Ok(Hsts(Some(value)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_the_name_of_iana_and_that_of_openssl() {
        let cases = [
            ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            (
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            ),
            (
                "ECDHE-RSA-CHACHA20-POLY1305",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            ),
            (
                "tls_ecdhe_rsa_with_aes_128_gcm_sha256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            ),
        ];
        for (text, name) in cases {
            let CipherSuite(suite) = text.parse().unwrap();
            assert_eq!(iana_name(&suite), name);
        }
    }

    #[test]
    fn a_suite_that_is_not_spoken_is_told_the_nearest() {
        let wrong = "ECDHE-RSA-AES256-GCM-SHA385".parse::<CipherSuite>();
        assert_eq!(
            wrong.unwrap_err(),
            "unknown cipher suite `ECDHE-RSA-AES256-GCM-SHA385`; did you mean `ECDHE-RSA-AES256-GCM-SHA384`?"
        );
        assert!("RC4-MD5".parse::<CipherSuite>().is_err());
    }

    #[test]
    fn a_group_has_the_names_that_it_is_known_by() {
        for text in ["secp256r1", "P-256", "prime256v1", "SECP256R1"] {
            let group: Group = text.parse().unwrap();
            assert_eq!(group.0.name(), rustls::NamedGroup::secp256r1, "{text}");
        }
        for text in ["", "x448", "secp521r1 P-256"] {
            assert!(text.parse::<Group>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_covers_itself_and_a_wildcard_one_label_more() {
        let name = |text: &str| text.parse::<CertificateName>().unwrap();
        assert!(name("*.example.com").covers(&name("A.Example.com")));
        assert!(name("a.example.com").covers(&name("a.example.com")));
        assert!(name("*.example.com").covers(&name("*.example.com")));
        assert!(!name("*.example.com").covers(&name("example.com")));
        assert!(!name("*.example.com").covers(&name("a.b.example.com")));
        assert!(!name("a.example.com").covers(&name("*.example.com")));
        for text in ["", "*", "*.", "a..b", "a b", "10.0.0.1", "*.*.com", "ä.de"] {
            assert!(text.parse::<CertificateName>().is_err(), "{text}");
        }
    }

    #[test]
    fn hsts_says_what_was_asked_for() {
        let written = |max_age, include_subdomains, preload| {
            let max_age = Period(Duration::from_secs(max_age));
            let written = WrittenHsts {
                max_age,
                include_subdomains,
                preload,
            };
            written.render()
        };
        assert_eq!(written(300, false, false).as_deref(), Ok("max-age=300"));
        assert_eq!(
            written(31_536_000, true, true).as_deref(),
            Ok("max-age=31536000; includeSubDomains; preload")
        );
        assert!(written(31_535_999, true, true).is_err());
        assert!(written(31_536_000, false, true).is_err());
    }
}
