//! A refusal or a failure as callers of gRPC are told it.
//!
//! The status stays that of HTTP, for logs and for whatever is between. Beside it stands that of gRPC,
//! which its clients prefer, and would make of the other by the same table if it were missing
//! (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).

use std::fmt::Write as _;

use bytes::Bytes;
use edgeway_sdk::Reply;
use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use pingora::http::RequestHeader;

use crate::proxy::grpc_web::Call;

/// What tells it, beside the headers that the reply has.
pub(super) struct Refusal {
    pub(super) headers: [(HeaderName, HeaderValue); 3],
    /// Empty if it is for a caller of gRPC, who takes nothing else for a refusal.
    pub(super) body: Bytes,
}

/// What tells it; none if the request is no call, neither of gRPC nor the one that is translated here.
pub(super) fn refusal(
    reply: &Reply,
    request: &RequestHeader,
    web: Option<&Call>,
) -> Option<Refusal> {
    if web.is_none() && !is_call(request) {
        return None;
    }
    let status = reply.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let text = escaped(reply.client_detail().unwrap_or(title));
    let message = HeaderValue::from_str(&text).expect("what is escaped is visible ASCII");
    let kind = web.map_or_else(|| HeaderValue::from_static("application/grpc"), Call::kind);
    let told = [
        (HeaderName::from_static("grpc-status"), code(status).into()),
        (HeaderName::from_static("grpc-message"), message),
    ];
    let body = web.map(|call| call.refusal(&told)).unwrap_or_default();
    let [status, message] = told;
    Some(Refusal {
        headers: [(CONTENT_TYPE, kind), status, message],
        body,
    })
}

/// Whether a request is a call of gRPC. That of a page is not, if nobody translates it.
fn is_call(request: &RequestHeader) -> bool {
    let kind = request.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

fn code(status: StatusCode) -> u16 {
    const UNKNOWN: u16 = 2;
    const PERMISSION_DENIED: u16 = 7;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// A text as `grpc-message` has it: what is not visible ASCII, and `%`, in hexadecimal.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => escaped.push_str("%25"),
            b' '..=b'~' => escaped.push(byte.into()),
            _ => write!(escaped, "%{byte:02X}").expect("a string takes what is written"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Option<&str>) -> RequestHeader {
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        if let Some(kind) = kind {
            request.insert_header(CONTENT_TYPE, kind).unwrap();
        }
        request
    }

    #[test]
    fn only_a_call_is_told_the_status_of_grpc() {
        let reply = Reply::new(503);
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            let refusal = refusal(&reply, &request(Some(kind)), None).unwrap();
            let headers = refusal.headers;
            assert_eq!(headers[1].1, "14", "{kind}");
            assert_eq!(headers[2].1, "Service Unavailable", "{kind}");
        }
        for kind in [
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/json",
        ] {
            assert!(
                refusal(&reply, &request(Some(kind)), None).is_none(),
                "{kind}"
            );
        }
        assert!(refusal(&reply, &request(None), None).is_none());
    }

    #[test]
    fn a_detail_is_escaped() {
        let reply = Reply::new(400).detail("100 % \u{fc}ber\n");
        let refusal = refusal(&reply, &request(Some("application/grpc")), None).unwrap();
        assert_eq!(refusal.headers[2].1, "100 %25 %C3%BCber%0A");
    }
}
