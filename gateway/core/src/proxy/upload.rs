//! An upload that goes on after its answer.
//!
//! Over HTTP/2 a client may go on sending when it has been answered, and Pingora would wait for the
//! rest forever.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use tokio::sync::Notify;

use super::body;

/// Whether a request was answered while its body is still being sent. Clones tell the same.
///
/// Whoever runs a request puts it among the extensions of its head, and may then wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upload(Arc<Notify>);

impl Upload {
    /// Waits until the answer is complete. For one waiter.
    pub(crate) async fn answered(&self) {
        self.0.notified().await;
    }
}

/// Notes that an answer has begun, which may be all of it.
pub(super) fn begun(session: &Session, response: &ResponseHeader) {
    let headers = &response.headers;
    let bodyless = body::is_absent(&session.req_header().method, response.status)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
        // What gRPC says behind a body stands in the head where there is none.
        || headers.contains_key("grpc-status");
    if bodyless {
        answered(session);
    }
}

/// Notes that the whole answer to a request has come.
pub(super) fn answered(session: &Session) {
    if let Some(Upload(answered)) = session.req_header().extensions.get() {
        answered.notify_one();
    }
}
