//! Edits of bodies, piece by piece.

use bytes::Bytes;
use edgeway_sdk::{BodyEdit, Reply};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::{ctx::Ctx, upload};

/// A piece of the request's body, on its way to the endpoint.
pub(super) fn request(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    if !ctx.exchange.request_edits.is_empty() && !session.was_upgraded() {
        let piece = body.take().unwrap_or_default();
        let edited = edit(&mut ctx.exchange.request_edits, piece, end);
        // An empty piece holds data back; none at all would end the body.
        *body = Some(edited.map_err(|error| ctx.refuse(Reply::from(error)))?);
    }
    if end && let Some(tries) = &mut ctx.tries {
        tries.uploaded();
    }
    // An empty last piece would be written as a second terminator of a chunked body, and the bytes
    // be taken for the beginning of the next answer on that connection.
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    Ok(())
}

/// A piece of the response's body, on its way to the client.
pub(super) fn response(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    if end {
        upload::answered(session);
    }
    if let Some(tries) = &mut ctx.tries
        && !session.was_upgraded()
    {
        if tries.is_cut() {
            let why = "the time for the whole request is over";
            return Err(Error::explain(ErrorType::ReadTimedout, why).into_up());
        }
        if end {
            tries.release();
        } else {
            tries.heard();
        }
    }
    if ctx.exchange.response_edits.is_empty() || session.was_upgraded() {
        return Ok(());
    }
    let piece = body.take().unwrap_or_default();
    let edited = edit(&mut ctx.exchange.response_edits, piece, end);
    *body = Some(edited.map_err(|error| ctx.refuse(Reply::from(error)))?);
    Ok(())
}

/// Has a piece pass all edits in their order.
pub(super) fn edit(
    edits: &mut [Box<dyn BodyEdit>],
    piece: Bytes,
    end: bool,
) -> edgeway_sdk::Result<Bytes> {
    edits
        .iter_mut()
        .try_fold(piece, |piece, edit| edit.edit(piece, end))
}
