//! The grammar of messages, as far as their framing depends on it.

use std::fmt;
use std::io::{self, ErrorKind};

use super::Framing;

pub(super) fn status_line(line: &str) -> Option<(&str, u16)> {
    let mut parts = line.splitn(3, ' ');
    let version = parts
        .next()
        .filter(|version| ["HTTP/1.1", "HTTP/1.0"].contains(version))?;
    let status = parts.next().filter(|status| status.len() == 3)?;
    Some((version, status.parse().ok()?))
}

/// RFC 9112, 6.3, without the mercy that it permits.
pub(super) fn framing(
    method: &str,
    status: u16,
    headers: &[(String, String)],
) -> io::Result<Framing> {
    let lengths = tokens(headers, "content-length");
    let codings = tokens(headers, "transfer-encoding");
    if lengths.len() > 1 || (!lengths.is_empty() && !codings.is_empty()) {
        return Err(wrong(format!("framing: {lengths:?} beside {codings:?}")));
    }
    if method == "HEAD" || status == 204 || status == 304 || status == 101 {
        return Ok(Framing::Bodiless);
    }
    match (lengths.first(), codings.as_slice()) {
        (Some(length), _) => {
            let length = length
                .parse()
                .map_err(|_| wrong(format!("length `{length}`")))?;
            Ok(Framing::Length(length))
        }
        (None, []) => Ok(Framing::Close),
        (None, [coding]) if coding == "chunked" => Ok(Framing::Chunked),
        (None, codings) => Err(wrong(format!("transfer codings {codings:?}"))),
    }
}

/// The elements of a header that is a list, in lower case.
pub(super) fn tokens(headers: &[(String, String)], name: &str) -> Vec<String> {
    let lines = headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    lines
        .flat_map(|(_, value)| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .collect()
}

pub(super) fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

pub(super) fn wrong(what: impl fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {what}"))
}
