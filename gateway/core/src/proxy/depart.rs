//! What an endpoint is sent.

use std::{fmt::Write as _, net::IpAddr};

use bytes::Bytes;
use edgeway_sdk::{Reply, body::Edit};
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::{InvalidUri, PathAndQuery},
};
use pingora::{Result, http::RequestHeader};
use pingora_proxy::Session;

use super::{
    client::{X_FORWARDED_FOR, X_FORWARDED_HOST},
    ctx::Ctx,
    grpc_web::Call,
    hedge,
};
use crate::{
    config::HostPolicy,
    upstream::{Cluster, Lease, Location},
};

/// The name by which this process knows its own hand (RFC 9110, 7.6.3). Another gateway of the same
/// kind has another one, so that a chain of them is no loop.
#[derive(Debug)]
pub(super) struct Via {
    name: String,
    http1: HeaderValue,
    http2: HeaderValue,
}

impl Via {
    pub(super) fn new() -> Self {
        let name = format!("edgeway-{:08x}", rand::random::<u32>());
        let value = |version| {
            let value = HeaderValue::from_str(&format!("{version} {name}"));
            value.expect("a name of letters and digits")
        };
        Self {
            http1: value("1.1"),
            http2: value("2.0"),
            name,
        }
    }

    /// What it signs a request with that has come in this version.
    fn signs(&self, version: Version) -> HeaderValue {
        let value = match version {
            Version::HTTP_2 => &self.http2,
            _ => &self.http1,
        };
        value.clone()
    }

    /// Whether a request has passed this process before.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::VIA)
            .iter()
            .any(|line| line.to_str().is_ok_and(|line| line.contains(&self.name)))
    }
}

/// Makes the endpoint's head of the client's one, which Pingora has freed of hop-by-hop headers.
pub(super) fn prepare(
    session: &mut Session,
    request: &mut RequestHeader,
    ctx: &mut Ctx,
    via: &Via,
) -> Result<()> {
    // One that was sent before this try may have been answered before a purge that this try comes after.
    if !hedge::was_sent(ctx)
        && let Some(caching) = &mut ctx.caching
    {
        caching.departs();
    }
    if target(request, ctx).is_err() {
        let reply = Reply::new(400).detail("The path is not valid.");
        return Err(ctx.refuse(reply.because("what the route makes of the path is no path")));
    }
    if let Some(tries) = &ctx.tries {
        host(request, &tries.cluster, tries.lease())?;
    }
    forwarded(session, request, ctx)?;
    request.append_header("Via", via.signs(session.req_header().version))?;
    if let Some(call) = &mut ctx.web {
        call.ask(request)?;
    }
    match length(ctx) {
        Length::AsSent => Ok(()),
        Length::Known(length) => measure(request, length),
        Length::Unknown => reframe(session, request),
    }
}

/// How long the body is when filters have edited it.
#[derive(Clone, Copy)]
enum Length {
    /// As the client says.
    AsSent,
    Known(u64),
    Unknown,
}

fn length(ctx: &Ctx) -> Length {
    if ctx.web.as_ref().is_some_and(Call::changes_length) {
        return Length::Unknown;
    }
    let edits = ctx.exchange.request_edits.iter();
    edits.fold(Length::AsSent, |before, Edit { edit, caller }| {
        // The body may go on without an edit that only reports.
        match edit.length().filter(|_| !caller.reports) {
            Some(length) => Length::Known(length),
            None if edit.keeps_length() => before,
            None => Length::Unknown,
        }
    })
}

fn measure(request: &mut RequestHeader, length: u64) -> Result<()> {
    request.remove_header(&TRANSFER_ENCODING);
    request.insert_header(CONTENT_LENGTH, length)
}

/// The target in origin form, with the path that the route makes of it.
///
/// # Errors
///
/// What comes out is too long, or has characters that no path has.
fn target(request: &mut RequestHeader, ctx: &Ctx) -> std::result::Result<(), InvalidUri> {
    let path = match &ctx.path {
        Some(path) => path.as_str(),
        None if request.raw_path().starts_with(b"/") => return Ok(()),
        None => request.uri.path(),
    };
    let query = request.uri.query();
    let joined = match query {
        Some(query) if path.contains('?') => format!("{path}&{query}"),
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    request.set_uri(PathAndQuery::try_from(joined)?.into());
    Ok(())
}

/// Names the host as the upstream wants it.
pub(super) fn host(
    request: &mut RequestHeader,
    cluster: &Cluster,
    lease: Option<&Lease>,
) -> Result<()> {
    match (&cluster.settings.host, lease) {
        (HostPolicy::Keep, Some(lease)) if is_nameless(request) => name_of(request, lease),
        (HostPolicy::Keep, _) | (HostPolicy::Endpoint, None) => Ok(()),
        (HostPolicy::Endpoint, Some(lease)) => name_of(request, lease),
        (HostPolicy::Set(host), _) => request.insert_header(HOST, host.as_str()),
    }
}

/// A client of HTTP/1.0 need not name a host, but HTTP/2 can't do without.
fn is_nameless(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_2 && !request.headers.contains_key(HOST)
}

/// Makes the endpoint's own name the host.
fn name_of(request: &mut RequestHeader, lease: &Lease) -> Result<()> {
    let endpoint = lease.endpoint();
    match &endpoint.location {
        // Its path is no host.
        Location::Unix(_) => request.insert_header(HOST, "localhost"),
        Location::Address(_) | Location::Name { .. } => {
            request.insert_header(HOST, &*endpoint.name)
        }
    }
}

/// Tells the application what the client would have told it. What strangers said of themselves is
/// gone by now (`hygiene`); what trusted proxies say is added to.
///
/// Names are given as text where the request may not have them: Pingora copies any other name that
/// is not a standard one.
fn forwarded(session: &Session, request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let peer = address(ctx.exchange.peer.ip());
    if ctx.trusted {
        request.append_header("X-Forwarded-For", peer)?;
        join(request, X_FORWARDED_FOR)?;
        request.insert_header("X-Real-IP", address(ctx.exchange.client))?;
    } else {
        request.insert_header("X-Forwarded-For", peer.clone())?;
        request.insert_header("X-Real-IP", peer)?;
    }
    request.insert_header(
        "X-Forwarded-Proto",
        HeaderValue::from_static(ctx.exchange.scheme.as_str()),
    )?;
    if ctx.trusted && request.headers.contains_key(X_FORWARDED_HOST) {
        return Ok(());
    }
    match session.req_header().headers.get(HOST) {
        Some(host) => request.insert_header("X-Forwarded-Host", host.clone()),
        None => Ok(()),
    }
}

/// An address as a header. It is told without the wrapping of IPv4 that a listener of both families
/// shows.
fn address(ip: IpAddr) -> HeaderValue {
    let mut text = String::with_capacity(39);
    match ip.to_canonical() {
        // Written at every request, and the machinery of formatting costs more than the rest of it.
        IpAddr::V4(ip) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push('.');
                }
                push_octet(&mut text, octet);
            }
        }
        IpAddr::V6(ip) => write!(text, "{ip}").expect("a string takes what is written"),
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("an address is text")
}

fn push_octet(text: &mut String, octet: u8) {
    let digit = |value: u8| char::from(b'0' + value);
    if octet >= 100 {
        text.push(digit(octet / 100));
    }
    if octet >= 10 {
        text.push(digit(octet / 10 % 10));
    }
    text.push(digit(octet % 10));
}

/// Several lines of one header in one: applications read one line.
fn join(request: &mut RequestHeader, name: HeaderName) -> Result<()> {
    let lines: Vec<_> = request
        .headers
        .get_all(&name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let joined = lines.join(", ");
    request.insert_header(name, joined)
}

/// The length of an edited body is not known beforehand.
fn reframe(session: &mut Session, request: &mut RequestHeader) -> Result<()> {
    request.remove_header(&CONTENT_LENGTH);
    let http2 = [request.version, session.req_header().version].contains(&Version::HTTP_2);
    if session.is_body_empty() || http2 {
        return Ok(());
    }
    request.insert_header(TRANSFER_ENCODING, "chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_everybody_writes_it() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "10.20.100.255",
            "2001:db8::1",
            "::1",
        ] {
            assert_eq!(address(text.parse().unwrap()), text);
        }
        assert_eq!(
            address("::ffff:192.0.2.109".parse().unwrap()),
            "192.0.2.109"
        );
    }
}
