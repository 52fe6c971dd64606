//! The second version: a signature, a command, addresses, and whatever else a proxy has to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, Malformed, crc32c::Crc32c};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What every header begins with: the signature, version and command, family and protocol, the length of
/// the rest.
const FIXED: usize = 16;

/// With all that follows the addresses.
const LONGEST: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNKNOWN: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The record that holds a checksum of the header.
const CHECKSUM: u8 = 0x03;

pub(super) const SHORT: Malformed = Malformed("it is too short for what it should hold");

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let command = match bytes.get(SIGNATURE.len()) {
        None => return Ok(None),
        Some(&command @ (LOCAL | PROXY)) => command,
        Some(_) => return Err(Malformed("its version or command is unknown")),
    };
    let Some(length) = length(bytes) else {
        return Ok(None);
    };
    if length > LONGEST {
        return Err(Malformed("it is too long"));
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(None);
    };
    if command == LOCAL {
        // Whatever it says of addresses is not meant.
        return Ok(Some((Header::Local, length)));
    }
    Ok(Some((proxied(header)?, length)))
}

/// How long the whole header is; none if that has not come.
fn length(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.first_chunk::<FIXED>()?;
    let [.., high, low] = fixed;
    Some(FIXED + usize::from(u16::from_be_bytes([*high, *low])))
}

/// What the whole header says of a client.
fn proxied(header: &[u8]) -> Result<Header, Malformed> {
    let (fixed, told) = header.split_at_checked(FIXED).ok_or(SHORT)?;
    let kind = fixed.get(SIGNATURE.len() + 1).copied().unwrap_or_default();
    let (client, size) = match kind {
        UNKNOWN => return Ok(Header::Unknown),
        TCP4 => (Some(v4(told).ok_or(SHORT)?), 12),
        TCP6 => (Some(v6(told).ok_or(SHORT)?), 36),
        // Other things than TCP over IP, which can't be said here: their addresses are skipped.
        _ => match (kind >> 4, kind & 0x0f) {
            (0, 0..=2) => return Ok(Header::Unknown),
            (1, 0 | 2) => (None, 12),
            (2, 0 | 2) => (None, 36),
            (3, 0..=2) => (None, 216),
            _ => return Err(Malformed("it is of an unknown family or protocol")),
        },
    };
    let records = told.get(size..).ok_or(SHORT)?;
    check(header, records)?;
    Ok(client.unwrap_or(Header::Unknown))
}

fn v4(told: &[u8]) -> Option<Header> {
    let [a, b, c, d, e, f, g, h, from @ .., to_high, to_low] = told.first_chunk::<12>()?;
    Some(client(
        Ipv4Addr::new(*a, *b, *c, *d),
        Ipv4Addr::new(*e, *f, *g, *h),
        *from,
        [*to_high, *to_low],
    ))
}

fn v6(told: &[u8]) -> Option<Header> {
    let (source, rest) = told.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    Some(client(
        Ipv6Addr::from(*source),
        Ipv6Addr::from(*destination),
        *from,
        *to,
    ))
}

fn client(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    from: [u8; 2],
    to: [u8; 2],
) -> Header {
    Header::Client {
        source: SocketAddr::new(source.into(), u16::from_be_bytes(from)),
        destination: SocketAddr::new(destination.into(), u16::from_be_bytes(to)),
    }
}

/// Walks through the records behind the addresses. All are skipped but the checksum.
fn check(header: &[u8], mut records: &[u8]) -> Result<(), Malformed> {
    while let Some((kind, rest)) = records.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
        if *kind == CHECKSUM {
            let told = value
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| SHORT)?;
            if told != checksum(header, rest.len()) {
                return Err(Malformed("its checksum is wrong"));
            }
        }
        records = rest;
    }
    Ok(())
}

/// The checksum of the header, with zeros in its own place: the four bytes before the last so many.
fn checksum(header: &[u8], behind: usize) -> u32 {
    let end = header.len().saturating_sub(behind);
    let before = header.get(..end.saturating_sub(4)).unwrap_or_default();
    let after = header.get(end..).unwrap_or_default();
    let mut sum = Crc32c::default();
    for part in [before, &[0; 4], after] {
        sum.update(part);
    }
    sum.finish()
}

/// How many bytes belong to the header beyond those that are known, which are not all.
pub(super) fn missing(known: &[u8]) -> usize {
    let length = length(known).unwrap_or(FIXED);
    length.saturating_sub(known.len()).max(1)
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let addresses = match header {
        Header::Local => return whole(LOCAL, UNKNOWN, &[]),
        Header::Unknown => return whole(PROXY, UNKNOWN, &[]),
        Header::Client {
            source,
            destination,
        } => Addresses::of(*source, *destination),
    };
    match addresses {
        Addresses::V4(source, destination) => whole(
            PROXY,
            TCP4,
            &[
                &source.ip().octets(),
                &destination.ip().octets(),
                &source.port().to_be_bytes(),
                &destination.port().to_be_bytes(),
            ],
        ),
        Addresses::V6(source, destination) => whole(
            PROXY,
            TCP6,
            &[
                &source.ip().octets(),
                &destination.ip().octets(),
                &source.port().to_be_bytes(),
                &destination.port().to_be_bytes(),
            ],
        ),
    }
}

fn whole(command: u8, kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // At most 36.
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[command, kind]);
    header.extend_from_slice(&length);
    for part in parts {
        header.extend_from_slice(part);
    }
    header
}
