//! Serves what is stored, without Pingora's cache.

use std::{mem, sync::Arc, time::SystemTime};

use bytes::Bytes;
use edgeway_sdk::{Origin, Reply};
use http::{
    Method, StatusCode, Version,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING},
};
use pingora::{Error, ErrorType, Result, http::ResponseHeader};
use pingora_proxy::Session;

use super::{Ctx, Served, tell};
use crate::{
    cache::{
        head::Head,
        memory::{Object, Reader},
        policy::{
            condition::{Precondition, Stored, precondition},
            range::{Span, Wanted, content_range, unsatisfied, wanted},
        },
    },
    proxy::{body, chain},
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
    if let Part::Span(span) = &part
        && !reader.seek(span.start, Some(span.end))
    {
        return Ok(false);
    }
    let mut head = object.head().header().clone();
    frame(&mut head, &part, length)?;
    tell::served(session, &mut head, ctx, &served.freshness, now)?;
    ctx.origin = Origin::Cache;
    if let Err(error) = chain::up(&mut head, session.req_header(), ctx) {
        return Err(ctx.refuse(Reply::from(error)));
    }
    tell::date_of(session, &head, served.freshness.received);
    tell::pass_on_promptly(session, object);
    let silent = is_silent(session, &head);
    let edits = !ctx.exchange.response_edits.is_empty();
    if edits {
        head.remove_header(&CONTENT_LENGTH);
    }
    chunk(session, &mut head)?;
    if session.is_process_shutting_down() {
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
    let Some(length) = length else {
        return Some(Part::Whole);
    };
    match wanted(request, stored, length) {
        Wanted::Whole => Some(Part::Whole),
        Wanted::Single(span) => Some(Part::Span(span)),
        Wanted::Unsatisfiable => Some(Part::Unsatisfiable),
        Wanted::Many(_) => None,
    }
}

/// Makes the head that of a part.
fn frame(head: &mut ResponseHeader, part: &Part, length: Option<u64>) -> Result<()> {
    match (part, length) {
        (Part::Whole, Some(length)) if !has_no_body(head.status) => {
            head.insert_header(CONTENT_LENGTH, length)
        }
        (Part::Whole, _) => Ok(()),
        (Part::Span(span), length) => {
            head.set_status(StatusCode::PARTIAL_CONTENT)?;
            head.insert_header(
                CONTENT_RANGE,
                content_range(span, length.unwrap_or(span.end)),
            )?;
            head.insert_header(CONTENT_LENGTH, span.end - span.start)
        }
        (Part::NotModified, _) => {
            head.set_status(StatusCode::NOT_MODIFIED)?;
            for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING] {
                head.remove_header(&name);
            }
            Ok(())
        }
        (Part::Unsatisfiable, length) => {
            head.set_status(StatusCode::RANGE_NOT_SATISFIABLE)?;
            for name in [CONTENT_TYPE, CONTENT_ENCODING] {
                head.remove_header(&name);
            }
            head.insert_header(CONTENT_RANGE, unsatisfied(length.unwrap_or_default()))?;
            head.insert_header(CONTENT_LENGTH, 0)
        }
    }
}

/// Whether nothing follows the head.
fn is_silent(session: &Session, head: &ResponseHeader) -> bool {
    session.req_header().method == Method::HEAD
        || has_no_body(head.status)
        || head.status == StatusCode::RANGE_NOT_SATISFIABLE
}

fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A body whose length is not known comes in chunks, or ends with the connection.
fn chunk(session: &mut Session, head: &mut ResponseHeader) -> Result<()> {
    if head.headers.contains_key(CONTENT_LENGTH) || has_no_body(head.status) {
        return Ok(());
    }
    match session.req_header().version {
        Version::HTTP_11 => head.insert_header(TRANSFER_ENCODING, "chunked"),
        Version::HTTP_2 => Ok(()),
        _ => {
            session.set_keepalive(None);
            Ok(())
        }
    }
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

/// Sends a piece, as the filters want it.
async fn send(session: &mut Session, ctx: &mut Ctx, mut data: Bytes, last: bool) -> Result<()> {
    if !ctx.exchange.response_edits.is_empty() {
        data = body::edit(&mut ctx.exchange.response_edits, data, last)
            .map_err(|error| ctx.refuse(Reply::from(error)))?;
    }
    if last || !data.is_empty() {
        session.write_response_body(Some(data), last).await?;
    }
    Ok(())
}

async fn read(reader: &mut Reader<Head>) -> Result<Option<Bytes>> {
    let read = reader.read().await;
    read.map_err(|_| {
        let why = "the fetch of this body was broken off";
        Error::explain(ErrorType::ReadError, why).into_up()
    })
}
