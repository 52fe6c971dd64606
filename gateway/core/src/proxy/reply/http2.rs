//! How a reply is written over HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use pingora::{Result, http::ResponseHeader, protocols::http::HttpTask};
use pingora_proxy::Session;
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::{body::Pieces, pacing::Pacing};

/// The most that is read of a body that nobody wants, before the client is told to stop.
const WORTH_DRAINING: u64 = 64 * 1024;

/// How long it may take to come.
const SOON: Duration = Duration::from_secs(1);

/// Writes a whole reply. The head is the end of the stream if there is no body: callers of gRPC take
/// nothing else for a refusal, and Pingora would send an empty piece behind it, or none.
pub(super) async fn write(
    session: &mut Session,
    head: ResponseHeader,
    body: Option<Bytes>,
    mut pacing: Option<&mut Pacing>,
) -> Result<()> {
    let head = HttpTask::Header(Box::new(head), body.is_none());
    session.write_response_tasks(vec![head]).await?;
    if let Some(body) = body {
        for (piece, last) in Pieces::of(body, true, true).paced(pacing.as_deref()) {
            if let Some(pacing) = &mut pacing {
                sleep(pacing.pause(piece.len(), Instant::now())).await;
            }
            session.write_response_body(Some(piece), last).await?;
        }
    }
    drain(session).await;
    Ok(())
}

/// Reads what may be left of a small body, if it comes soon. Otherwise Pingora would reset the stream
/// at once, and there are clients that then forget the answer, which they have.
pub(in crate::proxy) async fn drain(session: &mut Session) {
    if session.is_body_done() || session.req_header().headers.contains_key(EXPECT) {
        return;
    }
    let rest = async {
        let mut read = 0;
        while read < WORTH_DRAINING
            && let Ok(Some(piece)) = session.as_mut().read_request_body().await
        {
            read += piece.len() as u64;
        }
    };
    // Who has not sent it by then is told not to.
    drop(timeout(SOON, rest).await);
}
