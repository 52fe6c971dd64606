//! What comes back from an endpoint.

use std::mem;

use bytes::Bytes;
use edgeway_sdk::{Hooks, Origin, Reply, body::Edit, message::is_framing};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, RANGE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use pingora::{Error, ErrorType, Result, cache::CachePhase, http::ResponseHeader};
use pingora_proxy::{RangeType, Session};
use smallvec::SmallVec;

use super::{attempt, body, cache, chain, client, ctx::Ctx, pacing, reply, session, upload};

const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    TRAILER,
];

/// How many interim responses an endpoint may send before its answer.
const ANNOUNCEMENTS: u16 = 100;

/// Notes that the endpoint has answered, and removes what clients need not see.
///
/// # Errors
///
/// The answer is one after which another endpoint is asked, or a failure in whose place something stored is
/// served.
pub(super) fn arrived(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    frame(response)?;
    if !is_final(response.status) {
        return announced(ctx);
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS && !may_switch(session, response) {
        return unclear("the endpoint changes the protocol, unasked");
    }
    if !attempt::answered(session, response.status, ctx) {
        return Err(Error::new_up(ErrorType::HTTPStatus(
            response.status.as_u16(),
        )));
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(tries) = &mut ctx.tries
    {
        // What may come together with the head is no piece of an answer any more, and takes its time.
        tries.release();
    }
    if let Some(caching) = &mut ctx.caching {
        caching.arrived(response);
    }
    if cache::hides(response.status, ctx) {
        let reason = format!("the endpoint has answered {}", response.status.as_u16());
        let reply = Reply::new(response.status.as_u16()).because(reason);
        return Err(ctx.refuse(reply));
    }
    cache::invalidate(session.req_header(), response, ctx);
    if let Some(tries) = &ctx.tries {
        strip(response, &tries.cluster.settings.hide_headers);
    }
    fetched(session, response, ctx)
}

/// Shows the answer to the filters before it may be stored, and has its body pass the edits that they ask for.
fn fetched(session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if ctx.route.chain.hooks.has(Hooks::FETCHED) {
        if is_empty(session, response.status, ctx) {
            // Over HTTP/2 nobody may have said so.
            response.insert_header(CONTENT_LENGTH, 0)?;
        }
        ctx.origin = Origin::Upstream;
        ctx.unfetched = None;
        let kept = mem::take(&mut ctx.exchange.response_edits);
        let shown = chain::fetched(response, session.req_header(), ctx);
        let edits = mem::replace(&mut ctx.exchange.response_edits, kept);
        shown.map_err(|reply| ctx.refuse(*reply))?;
        if !edits.is_empty() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            edit_fetched(session, response, ctx, edits)?;
        }
    }
    if let Some(caching) = &mut ctx.caching {
        caching.shown(response);
    }
    Ok(())
}

/// Whether the answer could have a body, and has none.
fn is_empty(session: &Session, status: StatusCode, ctx: &Ctx) -> bool {
    // For the cache Pingora asks for the body as well.
    let asked = session.cache.enabled() || session.req_header().method != Method::HEAD;
    let may = !body::has_no_body(status) && status != StatusCode::SWITCHING_PROTOCOLS;
    ctx.bare && asked && may
}

/// Has the body edited on its way to the cache and the client; see [`edit`].
fn edit_fetched(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
    edits: Vec<Edit>,
) -> Result<()> {
    if response.status == StatusCode::PARTIAL_CONTENT {
        return Err(ctx.refuse(of_a_part()));
    }
    body::reframe(response)?;
    if !ctx.bare && !body::has_no_body(response.status) {
        body::edit_fetched(session, edits);
    }
    if let Some(caching) = &mut ctx.caching {
        caching.edits();
    }
    Ok(())
}

/// The reply in the place of a part of a body that is to be edited.
fn of_a_part() -> Reply {
    Reply::new(416).because("the body is edited, and this is a part of it")
}

/// Counts what an endpoint says before its answer. Its time would never be over, as long as it says something.
fn announced(ctx: &mut Ctx) -> Result<()> {
    ctx.announcements += 1;
    match ctx.announcements <= ANNOUNCEMENTS {
        true => Ok(()),
        false => unclear("the endpoint announces its answer for ever"),
    }
}

/// Has the framing of a response say one thing, and clients of HTTP/1.1 told that this is spoken here
/// (RFC 9112, 2.3).
///
/// # Errors
///
/// Pingora would pass on a transfer coding that it does not know, to clients that have not asked for one
/// and can't tell where the body ends.
fn frame(response: &mut ResponseHeader) -> Result<()> {
    if response.headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
        let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !codings.next().is_some_and(chunked) || codings.next().is_some() {
            return unclear("the endpoint has coded its answer, unasked");
        }
        if response.version < Version::HTTP_11 {
            return unclear("the endpoint has chunks in an answer of HTTP/1.0");
        }
    }
    // Pingora has seen that they all say the same.
    if let Some(length) = response.headers.get(CONTENT_LENGTH)
        && let Some(length) = first_of_many(length, &response.headers)
    {
        response.insert_header(CONTENT_LENGTH, length)?;
    }
    if response.status.is_informational() || response.status == StatusCode::NO_CONTENT {
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    // With HTTP/1.0 the protocol can't be changed. A head of HTTP/2 that is stored could not be written over HTTP/1.1.
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        response.set_version(Version::HTTP_11);
    }
    Ok(())
}

/// The length, if it is there more than once.
fn first_of_many(length: &HeaderValue, headers: &HeaderMap) -> Option<HeaderValue> {
    let text = length.to_str().ok()?;
    let once = headers.get_all(CONTENT_LENGTH).iter().count() == 1 && !text.contains(',');
    let first = text.split(',').next().filter(|_| !once)?;
    HeaderValue::from_str(first.trim()).ok()
}

fn unclear(why: &'static str) -> Result<()> {
    Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())
}

/// Makes a response of the cache the part of it that a client asks for. If filters edit the body it is all of it:
/// nothing would stand where the client looks for it, and what an edit is to hide may be in two parts.
pub(super) fn range(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> RangeType {
    if !session.req_header().headers.contains_key(RANGE) {
        return RangeType::None;
    }
    // With the head filters say whether they do.
    let shown = show(session, response, ctx);
    let whole = shown.is_err() || body::is_edited(ctx);
    ctx.shown = Some(shown);
    match whole {
        true => RangeType::None,
        false => cache::range(session, response, ctx),
    }
}

/// Makes the final head the one that the client gets.
///
/// # Errors
///
/// A filter has refused it. If it is one of the cache the reply to that was sent.
pub(super) async fn pass(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    if !is_final(response.status) {
        return Ok(());
    }
    let finished = finish(session, response, ctx).await;
    if finished.is_err() && serves_stored(session) {
        // Pingora has a reply of its own to this, unless there is one.
        let reply = ctx.verdict.take().unwrap_or_else(|| Reply::new(500));
        session.set_keepalive(None);
        reply::send(session, ctx, reply).await?;
    }
    finished
}

async fn finish(session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if let Some(call) = &mut ctx.web {
        call.answered(session.req_header().version, response)?;
    }
    unchunk(session, response);
    upload::begun(session, response);
    if response.status != StatusCode::SWITCHING_PROTOCOLS && !session.is_body_done() {
        // The rest of the upload would be taken for the next request, or never come.
        session.set_keepalive(None);
    }
    if client::is_parting(session) {
        session.set_keepalive(None);
    }
    match ctx.shown.take() {
        Some(shown) => shown?,
        None => show(session, response, ctx)?,
    }
    cache::date(session, response, ctx);
    let replacement = body::replacement(ctx).map_err(|reply| ctx.refuse(*reply))?;
    if let Some(body) = replacement {
        return replace(session, response, ctx, body).await;
    }
    if body::is_edited(ctx) {
        return edit(session, response, ctx);
    }
    cache::deliver(session, response, ctx);
    Ok(())
}

/// Takes the head up the chain.
fn show(session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    ctx.origin = Origin::Upstream;
    cache::tell(session, response, ctx)?;
    // Not before it is stored: the session is this client's alone.
    if let (Origin::Upstream, Some(tries)) = (ctx.origin, &ctx.tries) {
        session::tell(response, tries, &ctx.exchange)?;
    }
    chain::up(response, session.req_header(), ctx).map_err(|reply| ctx.refuse(*reply))?;
    pacing::begin(session, ctx);
    Ok(())
}

/// Whether what is stored is served, although by Pingora.
fn serves_stored(session: &Session) -> bool {
    matches!(
        session.cache.phase(),
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating
    )
}

/// HTTP/1.0 knows no chunks: the end of such a body is the end of the connection.
fn unchunk(session: &mut Session, response: &mut ResponseHeader) {
    let request = session.req_header();
    if request.version < Version::HTTP_11
        && !response.headers.contains_key(CONTENT_LENGTH)
        && !body::is_absent(&request.method, response.status)
        && response.status != StatusCode::SWITCHING_PROTOCOLS
    {
        response.remove_header(&TRANSFER_ENCODING);
        session.set_keepalive(None);
        // After this Pingora has a body from HTTP/2 come in chunks all the same.
        body::unchunk(session);
    }
}

/// Whether the client has asked for another protocol: `hygiene` has forgotten what it may not ask for.
fn may_switch(session: &Session, response: &ResponseHeader) -> bool {
    response.version == Version::HTTP_11 && session.req_header().headers.contains_key(UPGRADE)
}

/// `101 Switching Protocols` is the last head there will be; other 1xx announce one.
fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Removes what concerns the connection to the endpoint only (RFC 9110, 7.6.1), and what is hidden.
/// Pingora sets `Connection` anew for the client, and reads `Upgrade` of a 101.
fn strip(response: &mut ResponseHeader, hidden: &[HeaderName]) {
    for name in nominated(response) {
        response.remove_header(&name);
    }
    // Most of these are not there: going over the names that are is cheaper than asking for each.
    let unwanted = |name: &&HeaderName| HOP_BY_HOP.contains(name) || hidden.contains(name);
    let found: SmallVec<[HeaderName; 4]> =
        response.headers.keys().filter(unwanted).cloned().collect();
    for name in &found {
        response.remove_header(name);
    }
}

/// The headers that `Connection` names, beyond its own words and what frames the response.
fn nominated(response: &ResponseHeader) -> SmallVec<[HeaderName; 2]> {
    const OWN: [&str; 3] = ["keep-alive", "close", "upgrade"];
    let lines = response
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let tokens = lines.flat_map(|line| line.split(',')).map(str::trim);
    let foreign = tokens.filter(|token| !OWN.iter().any(|own| own.eq_ignore_ascii_case(token)));
    let names = foreign.filter_map(|token| token.parse().ok());
    names.filter(|name| !is_framing(name)).collect()
}

/// Has the body edited, as filters have asked for. Its length is not known beforehand.
///
/// # Errors
///
/// It is a part of a body, which the endpoint has made: edited by itself it would not fit the others, and unedited
/// it may show what an edit is to hide. Filters that want such a body remove `Range` from its request.
fn edit(session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    if response.status == StatusCode::PARTIAL_CONTENT {
        ctx.exchange.response_edits.clear();
        return Err(ctx.refuse(of_a_part()));
    }
    body::reframe(response)?;
    let request = session.req_header();
    if body::is_absent(&request.method, response.status) {
        return Ok(());
    }
    if request.version == Version::HTTP_11 {
        response.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    body::edit_response(session, ctx);
    Ok(())
}

/// Has this body take the place of the one that follows, if one does.
async fn replace(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
    mut body: Bytes,
) -> Result<()> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let may_be_empty = may_be_empty(response);
    response.remove_header(&TRANSFER_ENCODING);
    // What the endpoint calls the status is a part of what it has to say.
    response.set_reason_phrase(None)?;
    if !body::has_no_body(response.status) {
        response.insert_header(CONTENT_LENGTH, body.len())?;
    }
    if body::is_absent(&session.req_header().method, response.status) {
        return Ok(());
    }
    if may_be_empty {
        reply::send_instead(session, ctx, response.clone(), mem::take(&mut body)).await?;
    }
    body::replace(session, ctx, body);
    Ok(())
}

/// Whether nothing may follow a head: where no body comes Pingora asks for none. It has marked what has no length.
fn may_be_empty(response: &ResponseHeader) -> bool {
    match body::content_length(&response.headers) {
        Some(length) => length == 0,
        None => !response.headers.contains_key(TRANSFER_ENCODING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fields of a response come to: its length and its coding.
    fn framed(status: u16, version: Version, fields: &[(&'static str, &str)]) -> Option<String> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        response.set_version(version);
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        frame(&mut response).ok()?;
        assert_eq!(response.version, Version::HTTP_11);
        let values = |name| {
            let values = response.headers.get_all(name).iter();
            values.map(|value| value.to_str().unwrap().to_owned())
        };
        let all: Vec<_> = values(CONTENT_LENGTH)
            .chain(values(TRANSFER_ENCODING))
            .collect();
        Some(all.join("; "))
    }

    #[test]
    fn the_framing_of_a_response_says_one_thing_or_is_refused() {
        let (length, coding) = ("Content-Length", "Transfer-Encoding");
        let new = |fields: &[(&'static str, &str)]| framed(200, Version::HTTP_11, fields);
        assert_eq!(new(&[]).as_deref(), Some(""));
        assert_eq!(new(&[(length, "2")]).as_deref(), Some("2"));
        assert_eq!(new(&[(length, "2, 2")]).as_deref(), Some("2"));
        assert_eq!(new(&[(length, "2"), (length, "2")]).as_deref(), Some("2"));
        assert_eq!(new(&[(coding, "Chunked")]).as_deref(), Some("Chunked"));
        for other in [
            "identity",
            "gzip, chunked",
            "chunked, identity",
            "",
            "xchunked",
        ] {
            assert_eq!(new(&[(coding, other)]), None, "{other}");
        }
        assert_eq!(new(&[(coding, "chunked"), (coding, "chunked")]), None);
        let old = |fields: &[(&'static str, &str)]| framed(200, Version::HTTP_10, fields);
        assert_eq!(old(&[(coding, "chunked")]), None);
        assert_eq!(old(&[(length, "2")]).as_deref(), Some("2"));
        for status in [103, 204] {
            let fields = [(length, "2"), (coding, "chunked")];
            assert_eq!(
                framed(status, Version::HTTP_11, &fields).as_deref(),
                Some("")
            );
        }
    }
}
