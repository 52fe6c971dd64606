//! The contract of a filter.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Record, Reply, Request, Response, Result, Upstream};

/// A step with an opinion on requests or responses.
///
/// One value serves all requests of the routes that name it, from many threads at once. It is built
/// when a configuration is loaded and dropped when the last request that used that configuration has
/// ended.
///
/// Requests go down a route's chain, responses come up it: for the chain `[a, b]` the calls are
/// `a.request`, `b.request`, `a.upstream`, `b.upstream`, `b.response`, `a.response`. A filter whose
/// [`request`](Self::request) was called sees the response, wherever that came from, and the record
/// at the end; a filter below one that replied sees neither.
#[async_trait]
pub trait Filter: Send + Sync + 'static {
    /// Called once per request, before an endpoint is chosen. The only hook that may wait.
    ///
    /// [`Flow::Respond`] ends the way down: the reply goes up the chain to the client. An error
    /// becomes a reply with the status of the error.
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let _ = request;
        Ok(Flow::Continue)
    }

    /// Called for every attempt, with the head as it is about to be sent to the endpoint.
    ///
    /// Changes are seen by this endpoint only, and by no later attempt. An error ends the request
    /// with the status of the error.
    fn upstream(&self, upstream: &mut Upstream<'_>) -> Result<()> {
        let _ = upstream;
        Ok(())
    }

    /// Called once per request, on the final head (never on a `100 Continue` or `103 Early Hints`).
    ///
    /// An error replaces the response with a reply of the error's status.
    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        let _ = response;
        Ok(())
    }

    /// Whether the filter may refuse requests. One that never does can't be told to only report it.
    fn refuses(&self) -> bool {
        true
    }

    /// Called once per request, after its last byte was sent or the client left. Must not block.
    fn log(&self, record: &Record<'_>) {
        let _ = record;
    }
}

/// What becomes of a request after a filter has seen it.
#[derive(Debug)]
pub enum Flow {
    /// The next filter, then the target.
    Continue,
    /// The same after this time. The request ends if the client leaves before.
    Delay(Duration),
    /// This reply, now.
    Respond(Reply),
}

impl From<Reply> for Flow {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}
