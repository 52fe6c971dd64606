//! What proxies say before anything else of who has connected to them (the PROXY protocol, by HAProxy).
//!
//! * [`v1`]: as a line of text; [`v2`]: as bytes.

mod crc32c;
mod v1;
mod v2;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::ProxyVersion;

/// Who has connected to a proxy, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Header {
    /// Nobody: the proxy has something to ask by itself. The addresses of its connection count.
    Local,
    /// Somebody of whom nothing can be said. The addresses of the connection count.
    Unknown,
    Client {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

/// What is wrong with a header, for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// How many bytes the shortest header has: `PROXY UNKNOWN` and the end of the line.
const SHORTEST: usize = 15;

/// What most headers fit into.
const ROOM: usize = 128;

/// The header that bytes begin with, and its length; none if more must be seen. Whatever comes, it is
/// malformed or complete after 4 KiB.
///
/// # Errors
///
/// These bytes begin no header, whatever may follow.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if begins_alike(bytes, v2::SIGNATURE) {
        return v2::parse(bytes);
    }
    if begins_alike(bytes, v1::PREFIX) {
        return v1::parse(bytes);
    }
    Err(Malformed("it does not begin as a PROXY header does"))
}

/// As it is said to an endpoint.
pub(crate) fn encode(version: ProxyVersion, header: &Header) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => v1::encode(header),
        ProxyVersion::V2 => v2::encode(header),
    }
}

/// Reads a header, and no byte of what follows it.
///
/// # Errors
///
/// The connection is broken, or ends, or begins otherwise ([`io::ErrorKind::InvalidData`]). The bytes that
/// were read are lost then.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let mut header: SmallVec<[u8; ROOM]> = SmallVec::new();
    loop {
        if let Some((header, _)) = parse(&header)? {
            return Ok(header);
        }
        let known = header.len();
        header.resize(known + missing(&header), 0);
        let room = header.get_mut(known..).unwrap_or_default();
        let read = stream.read(room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        header.truncate(known + read);
    }
}

/// How many bytes belong to a header at least beyond those that are known; one or more. It is not
/// complete.
fn missing(known: &[u8]) -> usize {
    match SHORTEST.checked_sub(known.len()) {
        Some(more) if more > 0 => more,
        _ if known.starts_with(v2::SIGNATURE) => v2::missing(known),
        _ => v1::missing(known),
    }
}

/// Whether one is the beginning of the other.
fn begins_alike(bytes: &[u8], known: &[u8]) -> bool {
    let common = bytes.len().min(known.len());
    bytes.get(..common) == known.get(..common)
}

/// Two addresses as a header has them: of one family.
enum Addresses {
    V4(SocketAddrV4, SocketAddrV4),
    V6(SocketAddrV6, SocketAddrV6),
}

impl Addresses {
    fn of(source: SocketAddr, destination: SocketAddr) -> Self {
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        let (source, destination) = (plain(source), plain(destination));
        if let ((IpAddr::V4(source), from), (IpAddr::V4(destination), to)) = (source, destination) {
            let source = SocketAddrV4::new(source, from);
            return Self::V4(source, SocketAddrV4::new(destination, to));
        }
        let v6 = |(address, port): (IpAddr, u16)| {
            let address = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            SocketAddrV6::new(address, port, 0, 0)
        };
        Self::V6(v6(source), v6(destination))
    }
}

#[cfg(test)]
mod tests;
