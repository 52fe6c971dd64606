//! Sends bodies that the gateway has itself, piece by piece.

use bytes::Bytes;
use http::{
    Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use pingora::{Result, http::ResponseHeader};
use pingora_proxy::Session;
use tokio::time::{Instant, sleep};

use super::{
    body::{self, Pieces, has_no_body},
    chain,
    ctx::Ctx,
};

/// A body whose length is not known comes in chunks, or ends with the connection.
pub(super) fn chunk(session: &mut Session, head: &mut ResponseHeader) -> Result<()> {
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

/// Sends a piece, as the filters want it.
pub(super) async fn send(
    session: &mut Session,
    ctx: &mut Ctx,
    mut data: Bytes,
    last: bool,
) -> Result<()> {
    if body::is_edited(ctx) {
        let mut reported = Vec::new();
        let edited = body::edit(&mut ctx.exchange.response_edits, data, last, &mut reported);
        let edited = chain::edited(ctx, reported, edited);
        data = edited.map_err(|reply| ctx.refuse(*reply))?;
    }
    if last || !data.is_empty() {
        let http2 = session.as_downstream().is_http2();
        for (piece, last) in Pieces::of(data, last, http2).paced(ctx.pacing.as_ref()) {
            if let Some(pacing) = &mut ctx.pacing {
                sleep(pacing.pause(piece.len(), Instant::now())).await;
            }
            session.write_response_body(Some(piece), last).await?;
        }
    }
    Ok(())
}
