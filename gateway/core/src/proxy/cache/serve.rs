//! Serves what is stored, without Pingora's cache.

use std::{mem, sync::Arc, time::SystemTime};

use bytes::Bytes;
use edgeway_sdk::Origin;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    response,
};
use pingora::{Error, ErrorType, Result, http::ResponseHeader};
use pingora_proxy::Session;

use super::{Ctx, Served, fetch, tell};
use crate::{
    cache::{
        head::Head,
        memory::{Object, Reader},
        policy::{
            condition::{Precondition, Stored, precondition},
            range::{Span, Wanted, wanted},
        },
    },
    proxy::{
        body::{self, has_no_body},
        chain, client, pacing,
        reply::send_instead,
        send::{chunk, send},
    },
};

/// What of a stored response a client gets.
enum Part {
    Whole,
    Span(Span),
    /// The head alone: the client has the rest.
    NotModified,
    Unsatisfiable,
}

/// Serves a response. False, and nothing is done, if that is for Pingora's cache: the request is for several
/// parts of it, or it is just going to others and its beginning is gone.
pub(super) async fn serve(
    session: &mut Session,
    ctx: &mut Ctx,
    served: &Served,
    now: SystemTime,
) -> Result<bool> {
    let object = &served.object;
    let length = length(object);
    let Some(part) = part(session, served, length) else {
        return Ok(false);
    };
    let Some(mut reader) = Reader::new(Arc::clone(object)) else {
        return Ok(false);
    };
    let of_part = match &part {
        Part::Span(span) => match reader_of(object, span) {
            Some(of_part) => Some(of_part),
            None => return Ok(false),
        },
        Part::Whole | Part::NotModified | Part::Unsatisfiable => None,
    };
    let stored = object.head().header();
    let mut parts = stored.as_owned_parts();
    parts.headers.reserve(ADDED);
    frame(&mut parts, &part, length);
    tell::served(session, &mut parts.headers, ctx, &served.freshness, now);
    let mut head = ResponseHeader::from(parts);
    phrase(&mut head, stored)?;
    ctx.origin = Origin::Cache;
    if let Err(reply) = chain::up(&mut head, session.req_header(), ctx) {
        return Err(ctx.refuse(*reply));
    }
    pacing::begin(session, ctx);
    let replacement = body::replacement(ctx).map_err(|reply| ctx.refuse(*reply))?;
    if let Some(body) = replacement {
        return send_instead(session, ctx, head, body).await.map(|()| true);
    }
    if body::is_edited(ctx) {
        // All of it, whatever was asked for, as in `answer::range`.
        body::reframe(&mut head)?;
    } else if head.status == stored.status {
        narrow(&mut head, &part, length)?;
        reader = of_part.unwrap_or(reader);
    }
    tell::date_of(session, &head, served.freshness.received);
    tell::pass_on_promptly(session, object);
    let silent = is_silent(session, &head);
    chunk(session, &mut head)?;
    if client::is_parting(session) {
        session.set_keepalive(None);
    }
    session
        .write_response_header(Box::new(head), silent)
        .await?;
    if !silent {
        let arriving = object.chunks().is_none();
        write(session, ctx, reader, arriving).await?;
    }
    Ok(true)
}

/// The length of a body, as far as it is known.
fn length(object: &Object<Head>) -> Option<u64> {
    match object.chunks() {
        Some(chunks) => Some(chunks.length()),
        None => object.head().content_length(),
    }
}

fn part(session: &Session, served: &Served, length: Option<u64>) -> Option<Part> {
    let (request, header) = (session.req_header(), served.object.head().header());
    let stored = Stored {
        status: header.status,
        headers: &header.headers,
        received: served.freshness.received,
    };
    if precondition(request, stored) == Precondition::NotModified {
        return Some(Part::NotModified);
    }
    let Some(length) = length.filter(|_| !served.object.head().edited()) else {
        return Some(Part::Whole);
    };
    match wanted(request, stored, length) {
        Wanted::Whole => Some(Part::Whole),
        Wanted::Single(span) => Some(Part::Span(span)),
        Wanted::Unsatisfiable => Some(Part::Unsatisfiable),
        Wanted::Many(_) => None,
    }
}

/// A reader of a part of a body.
fn reader_of(object: &Arc<Object<Head>>, span: &Span) -> Option<Reader<Head>> {
    let mut reader = Reader::new(Arc::clone(object))?;
    reader.seek(span.start, Some(span.end)).then_some(reader)
}

/// Makes the head that of the whole, or of none of it.
fn frame(head: &mut response::Parts, part: &Part, length: Option<u64>) {
    let headers = &mut head.headers;
    match (part, length) {
        (Part::NotModified, _) => {
            head.status = StatusCode::NOT_MODIFIED;
            for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING] {
                headers.remove(name);
            }
        }
        (Part::Whole | Part::Span(_) | Part::Unsatisfiable, Some(length))
            if !has_no_body(head.status) =>
        {
            // Nearly every head says it: to look costs less than to write it anew.
            if !tells_length(headers, length) {
                headers.insert(CONTENT_LENGTH, length.into());
            }
        }
        (Part::Whole | Part::Span(_) | Part::Unsatisfiable, _) => {}
    }
}

/// Makes the head of the whole that of a part.
fn narrow(head: &mut ResponseHeader, part: &Part, length: Option<u64>) -> Result<()> {
    match part {
        Part::Whole | Part::NotModified => Ok(()),
        Part::Span(span) => fetch::narrow(head, span, length.unwrap_or(span.end)),
        Part::Unsatisfiable => fetch::narrow_to_nothing(head, length.unwrap_or_default()),
    }
}

/// Whether headers say that a body is so long, and nothing else about its length.
fn tells_length(headers: &HeaderMap, length: u64) -> bool {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let digits = line.as_bytes();
    // A number may be written with a sign, a length may not.
    digits.iter().all(u8::is_ascii_digit)
        && str::from_utf8(digits).is_ok_and(|digits| digits.parse() == Ok(length))
}

/// The words that the upstream had for the status, if they are its own.
fn phrase(head: &mut ResponseHeader, stored: &ResponseHeader) -> Result<()> {
    let phrase = stored.get_reason_phrase();
    if phrase == stored.status.canonical_reason() {
        return Ok(());
    }
    head.set_reason_phrase(phrase)
}

/// Whether nothing follows the head.
pub(super) fn is_silent(session: &Session, head: &ResponseHeader) -> bool {
    body::is_absent(&session.req_header().method, head.status)
        || head.status == StatusCode::RANGE_NOT_SATISFIABLE
}

/// Sends what is read. Dropped, or at an error, the client sees that the body has broken off.
///
/// One piece is kept back, so that the last one is known to be it; but not of a body that is still `arriving`,
/// of which the next one may take its time.
async fn write(
    session: &mut Session,
    ctx: &mut Ctx,
    mut reader: Reader<Head>,
    arriving: bool,
) -> Result<()> {
    let mut kept = None;
    loop {
        let piece = read(&mut reader).await?;
        let last = piece.is_none();
        let data = match arriving {
            true => piece,
            false => mem::replace(&mut kept, piece),
        };
        if last || data.is_some() {
            send(session, ctx, data.unwrap_or_default(), last).await?;
        }
        if last {
            return Ok(());
        }
    }
}

pub(super) async fn read(reader: &mut Reader<Head>) -> Result<Option<Bytes>> {
    let read = reader.read().await;
    read.map_err(|_| {
        let why = "the fetch of this body was broken off";
        Error::explain(ErrorType::ReadError, why).into_up()
    })
}

/// How many headers are added to those that are stored: the map of them grows once at most.
const ADDED: usize = 8;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_length_is_told_by_one_line_of_digits_alone() {
        for (lines, told) in [
            (&["200"][..], true),
            (&["0200"], true),
            (&["+200"], false),
            (&[""], false),
            (&["201"], false),
            (&["200", "200"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(line));
            }
            assert_eq!(tells_length(&headers, 200), told, "{lines:?}");
        }
    }
}
