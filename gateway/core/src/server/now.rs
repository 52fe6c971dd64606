//! What comes of a future at once, if anything does.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Looks at a future once. Whatever it would have waited for is not waited for.
pub(super) async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
