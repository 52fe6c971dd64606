//! What is known of a client that has come over TLS.

use std::borrow::Cow;

/// The TLS of a connection to the gateway. Requests that came over TLS have it among their
/// [`Values`](crate::Values); those over a proxy in front that has ended the TLS itself do not.
///
/// For unit tests, begin with [`Tls::default`] and set what matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its name at IANA: `TLS_AES_128_GCM_SHA256`.
    pub suite: &'static str,
    /// The name that the client has asked for, in lower case.
    pub sni: Option<Box<str>>,
    /// Whether the client has resumed a session: then it was checked when that session began.
    pub resumed: bool,
    /// What the client has shown of itself, if the listener asks for it.
    pub client: Option<ClientCertificate>,
}

/// The certificate of a client. One of the authorities of the listener vouches for it, and it was
/// valid when the connection was made.
///
/// All texts are printable ASCII: what is not is written as the bytes of its UTF-8 (`\C3\A4`), and so
/// is what would end a part of a text. They can stand in headers, and can't be mistaken for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// Whom it is for, the most specific part first (RFC 4514): `CN=billing,O=Acme`.
    pub subject: Box<str>,
    /// The common name alone; empty if there is none.
    pub common_name: Box<str>,
    /// The alternative names, each with its kind: `DNS:billing.internal`, `URI:spiffe://acme/billing`,
    /// `IP:10.0.0.7`, `email:ann@example.com`.
    pub alternative_names: Box<[Box<str>]>,
    /// Who has signed it, as `subject` is written.
    pub issuer: Box<str>,
    /// The serial number in hexadecimal digits, upper case.
    pub serial: Box<str>,
    /// SHA-256 of the whole certificate in hexadecimal digits, lower case.
    pub fingerprint: Box<str>,
    /// The second, since 1970, at which its validity ends.
    pub not_after: i64,
}

impl ClientCertificate {
    /// The alternative names in one text, separated by commas: a comma within one is `\2C`.
    pub fn joined_names(&self) -> Cow<'_, str> {
        match &*self.alternative_names {
            [] => Cow::Borrowed(""),
            [only] => Cow::Borrowed(only),
            several => Cow::Owned(several.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_by_commas() {
        let mut certificate = ClientCertificate::default();
        assert_eq!(certificate.joined_names(), "");
        certificate.alternative_names = ["DNS:a".into()].into();
        assert_eq!(certificate.joined_names(), "DNS:a");
        certificate.alternative_names = ["DNS:a".into(), "IP:::1".into()].into();
        assert_eq!(certificate.joined_names(), "DNS:a,IP:::1");
    }
}
