//! What is known of a connection after its handshake.

use std::{io, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use edgeway_sdk::{ClientCertificate, Tls};
use rustls::{
    CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection,
    pki_types::{CertificateDer, UnixTime},
};
use x509_parser::{
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::X509Certificate,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::pem;

/// What a client and we have agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// For all requests of the connection.
    pub(crate) tls: Arc<Tls>,
    pub(crate) protocol: Protocol,
}

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Secured {
    /// # Errors
    ///
    /// A client that may not be served although the handshake was made: its certificate has ended since
    /// the session began that it has resumed.
    pub(crate) fn of(connection: &ServerConnection) -> io::Result<Self> {
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let client = leaf.map(client_certificate).transpose()?;
        let now = UnixTime::now().as_secs();
        let ended =
            |client: &ClientCertificate| u64::try_from(client.not_after).is_ok_and(|end| end < now);
        if client.as_ref().is_some_and(ended) {
            return Err(refused("the client's certificate has expired"));
        }
        let suite = connection.negotiated_cipher_suite();
        let mut tls = Tls::default();
        tls.version = version(connection.protocol_version());
        tls.suite = suite.map_or("", |suite| suite_name(suite.suite()));
        tls.sni = connection.server_name().map(Into::into);
        tls.resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        tls.client = client;
        Ok(Self {
            tls: Arc::new(tls),
            protocol: match connection.alpn_protocol() {
                Some(b"h2") => Protocol::Http2,
                _ => Protocol::Http1,
            },
        })
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    }
}

/// As IANA has it; rustls calls those of TLS 1.3 otherwise.
fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.as_str().unwrap_or_default(),
    }
}

/// As OpenSSL shows it: without the zeros in front that only say that the number is not negative.
fn serial(raw: &[u8]) -> String {
    let first = raw.iter().position(|byte| *byte != 0);
    let significant = first.and_then(|first| raw.get(first..));
    hexadecimal(significant.unwrap_or(&[0])).to_uppercase()
}

fn client_certificate(der: &CertificateDer<'_>) -> io::Result<ClientCertificate> {
    let parsed =
        pem::parsed(der).ok_or_else(|| refused("the client's certificate can't be read"))?;
    let mut client = ClientCertificate::default();
    client.subject = distinguished(parsed.subject());
    let common = parsed.subject().iter_common_name().next();
    client.common_name = common.map(value).unwrap_or_default().into();
    client.alternative_names = alternative_names(&parsed);
    client.issuer = distinguished(parsed.issuer());
    client.serial = serial(parsed.raw_serial()).into();
    client.fingerprint = hexadecimal(digest(&SHA256, der).as_ref()).into();
    client.not_after = parsed.validity().not_after.timestamp();
    Ok(client)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Box<[Box<str>]> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map(|extension| &extension.value.general_names);
    names
        .into_iter()
        .flatten()
        .filter_map(alternative_name)
        .collect()
}

/// None for the kinds that hardly anybody uses.
fn alternative_name(name: &GeneralName<'_>) -> Option<Box<str>> {
    let (kind, text) = match name {
        GeneralName::DNSName(host) => ("DNS", escaped(host)),
        GeneralName::URI(uri) => ("URI", escaped(uri)),
        GeneralName::RFC822Name(mail) => ("email", escaped(mail)),
        GeneralName::IPAddress(bytes) => ("IP", address(bytes)?),
        _ => return None,
    };
    Some(format!("{kind}:{text}").into())
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or_else(|_| v6()).ok().map(|address| address.to_string())
}

/// A name as RFC 4514 writes it: `CN=billing,O=Acme`, from the most specific part up.
fn distinguished(name: &X509Name<'_>) -> Box<str> {
    let parts = name.iter_rdn().map(|part| {
        let pairs: Vec<_> = part.iter().map(pair).collect();
        pairs.join("+")
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts.join(",").into()
}

fn pair(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let kind = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned);
    format!("{kind}={}", value(attribute))
}

/// The value as text, or as the digits of what it holds if that is no text.
fn value(attribute: &AttributeTypeAndValue<'_>) -> String {
    attribute.as_str().map_or_else(
        |_| format!("#{}", hexadecimal(attribute.as_slice())),
        escaped,
    )
}

/// Printable ASCII that is one part of a list, whatever the text is: all that could end the part, and
/// all that can't stand in a header, is written as the digits of its bytes (RFC 4514, 2.4).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';');
        let leading = at == 0 && matches!(byte, b'#' | b' ');
        let trailing = at == last && byte == b' ';
        let plain = byte.is_ascii_graphic() || byte == b' ';
        if plain && !special && !leading && !trailing {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("\\{byte:02X}"));
        }
    }
    out
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
