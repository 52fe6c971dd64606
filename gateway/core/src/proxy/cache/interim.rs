//! What an endpoint says before its answer (RFC 9110, 15.2).

use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::Ctx;

/// Sends it on, where the answer may be stored. Elsewhere Pingora does; but here it forgets what comes together
/// with the answer.
///
/// That the client is gone is for Pingora to find, which may go on without it.
pub(in crate::proxy) async fn interim(session: &mut Session, response: &ResponseHeader, ctx: &Ctx) {
    let fetches = ctx.caching.as_ref().is_some_and(|caching| caching.fetches);
    // Pingora looks after those who wait for `100 Continue`, and 101 is an answer.
    let forwarded = response.status.is_informational()
        && response.status != StatusCode::CONTINUE
        && response.status != StatusCode::SWITCHING_PROTOCOLS;
    if !fetches || !forwarded {
        return;
    }
    let knows = session.req_header().version >= Version::HTTP_11;
    let downstream = session.as_downstream_mut();
    if knows {
        downstream.set_ignore_info_resp(false);
        drop(
            downstream
                .write_response_header(Box::new(response.clone()))
                .await,
        );
    }
    downstream.set_ignore_info_resp(true);
}
