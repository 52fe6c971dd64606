//! The first version: `PROXY TCP4 192.0.2.1 198.51.100.1 49152 443`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::{self, FromStr, Split},
};

use super::{Addresses, Header, Malformed};

pub(super) const PREFIX: &[u8] = b"PROXY ";

/// With the end of the line.
const LONGEST: usize = 107;

const END: &[u8] = b"\r\n";

/// How many spaces a line has that tells addresses.
const SPACES: usize = 5;

const WRONG: Malformed = Malformed("it is no line as the PROXY protocol has it");

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let visible = bytes.get(..LONGEST).unwrap_or(bytes);
    let Some(end) = visible.iter().position(|byte| !is_of_a_line(*byte)) else {
        let more = bytes.len() < LONGEST;
        return if more {
            Ok(None)
        } else {
            Err(Malformed("its line is too long"))
        };
    };
    let (line, rest) = visible.split_at(end);
    if rest.starts_with(END) {
        return Ok(Some((header(line)?, end + END.len())));
    }
    let may_end = rest == b"\r" && bytes.len() < LONGEST;
    if may_end { Ok(None) } else { Err(WRONG) }
}

/// What `UNKNOWN` is followed by may be anything but control characters.
fn is_of_a_line(byte: u8) -> bool {
    byte >= b' '
}

/// What the line says, without its end.
fn header(line: &[u8]) -> Result<Header, Malformed> {
    let told = line.strip_prefix(PREFIX).ok_or(WRONG)?;
    if told == b"UNKNOWN" || told.starts_with(b"UNKNOWN ") {
        return Ok(Header::Unknown);
    }
    let mut words = str::from_utf8(told).map_err(|_| WRONG)?.split(' ');
    let header = match words.next() {
        Some("TCP4") => client::<Ipv4Addr>(&mut words),
        Some("TCP6") => client::<Ipv6Addr>(&mut words),
        _ => None,
    };
    header.filter(|_| words.next().is_none()).ok_or(WRONG)
}

fn client<A: FromStr + Into<IpAddr>>(words: &mut Split<'_, char>) -> Option<Header> {
    let source: A = words.next()?.parse().ok()?;
    let destination: A = words.next()?.parse().ok()?;
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    Some(Header::Client {
        source: SocketAddr::new(source.into(), from),
        destination: SocketAddr::new(destination.into(), to),
    })
}

/// A number without sign and leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| plain && !padded)
}

/// How many bytes belong to the line at least beyond those that are known, which have no end: each of the
/// fields that are to come has a space and a character.
pub(super) fn missing(known: &[u8]) -> usize {
    if known.ends_with(b"\r") {
        return 1;
    }
    let tells = known
        .get(PREFIX.len()..)
        .is_some_and(|told| told.starts_with(b"TCP"));
    let spaces = known.iter().filter(|byte| **byte == b' ').count();
    let fields = if tells {
        SPACES.saturating_sub(spaces)
    } else {
        0
    };
    2 * fields + END.len()
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let Header::Client {
        source,
        destination,
    } = header
    else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let (from, to) = (source.port(), destination.port());
    let line = match Addresses::of(*source, *destination) {
        Addresses::V4(source, destination) => {
            format!(
                "PROXY TCP4 {} {} {from} {to}\r\n",
                source.ip(),
                destination.ip()
            )
        }
        Addresses::V6(source, destination) => {
            format!(
                "PROXY TCP6 {} {} {from} {to}\r\n",
                source.ip(),
                destination.ip()
            )
        }
    };
    line.into_bytes()
}
