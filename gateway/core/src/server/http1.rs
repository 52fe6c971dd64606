//! A connection of HTTP/1.1: its requests, one after the other.

use std::time::Duration;

use pingora::{apps::HttpServerApp, protocols::http::ServerSession};

use super::{edge::Shared, stream::Connection};

/// Longer than any time that the connection itself keeps.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Serves the requests of a connection that has sent something, to its end.
pub(super) async fn serve(mut connection: Box<Connection>, shared: &Shared) {
    connection.part_with_all(shared.drain.parts());
    loop {
        connection.expect_request(&shared.manners());
        // In a box, which is gone while the connection waits: it is large.
        let Some(next) = Box::pin(exchange(connection, shared)).await else {
            return;
        };
        connection = next;
        if !connection.is_between_requests() {
            return;
        }
        connection.tidy().await;
        let patience = shared.live.glance().requests.keepalive;
        if !connection.has_early() && shared.lot.wait(&*connection, patience).await.is_err() {
            return connection.leave().await;
        }
    }
}

/// Serves one request. Gives the connection back if another may follow.
async fn exchange(connection: Box<Connection>, shared: &Shared) -> Option<Box<Connection>> {
    let mut session = ServerSession::new_http1(connection);
    session.set_keepalive(Some(FOR_EVER.as_secs()));
    let reused = shared
        .app
        .process_new_http(session, &shared.shutdown)
        .await?;
    let (stream, _) = reused.consume();
    stream.into_any().downcast().ok()
}
