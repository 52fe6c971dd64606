//! Pingora's heads as filters see them.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use edgeway_sdk::{
    Error, Reply,
    message::{RequestHead, ResponseHead, with_query},
};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{EXPECT, TRANSFER_ENCODING},
    request, response,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{body::content_length, reply};

/// A request's head, and the body behind it.
pub(super) struct Arriving<'a> {
    pub(super) session: &'a mut Session,
    /// Set when some of the body was read and the rest can't be.
    pub(super) torn: &'a mut bool,
}

#[async_trait]
impl RequestHead for Arriving<'_> {
    fn parts(&self) -> &request::Parts {
        self.session.req_header().as_ref()
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        Asked(self.session.req_header_mut()).set(name, value);
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        Asked(self.session.req_header_mut()).append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        RequestHead::remove(&mut Asked(self.session.req_header_mut()), name);
    }

    fn set_query(&mut self, query: Option<&str>) {
        Asked(self.session.req_header_mut()).set_query(query);
    }

    fn has_body(&mut self) -> bool {
        !self.session.is_body_empty()
    }

    /// Pingora keeps what is read here for the endpoint, up to `WHOLE_BODY`; of what is longer it would forget the
    /// beginning.
    async fn body(&mut self, max: usize) -> edgeway_sdk::Result<Bytes> {
        let too_large = || {
            let reply = Reply::new(413).detail("The body is too large.");
            Error::refusal(reply.because("the body is longer than a filter wants to read"))
        };
        let session = &mut *self.session;
        let head = session.req_header();
        if content_length(&head.headers).is_some_and(|length| length > max as u64) {
            return Err(too_large());
        }
        let expects = head.headers.contains_key(EXPECT);
        if *self.torn {
            return Err(Error::status(400).because("the body could not be read before"));
        }
        if session.is_body_done() {
            let body = session.get_retry_buffer().unwrap_or_default();
            return if body.len() > max {
                Err(too_large())
            } else {
                Ok(body)
            };
        }
        // Until it is whole.
        *self.torn = true;
        session.enable_retry_buffering();
        if expects {
            let told = session.write_continue_response().await;
            told.map_err(|error| Error::status(400).because(error))?;
        }
        let mut body = BytesMut::new();
        loop {
            let piece = session.read_request_body().await;
            let piece = piece.map_err(|error| reply::unread(&error.into_down()))?;
            let Some(piece) = piece else {
                *self.torn = false;
                return Ok(body.freeze());
            };
            if body.len() + piece.len() > max {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
    }
}

/// A request's head.
pub(super) struct Asked<'a>(pub(super) &'a mut RequestHeader);

#[async_trait]
impl RequestHead for Asked<'_> {
    fn parts(&self) -> &request::Parts {
        self.0.as_ref()
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        keep(self.0.insert_header(name, value));
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        keep(self.0.append_header(name, value).map(drop));
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }

    fn set_query(&mut self, query: Option<&str>) {
        if let Some(uri) = with_query(&self.0.uri, query) {
            self.0.set_uri(uri);
        }
    }

    fn has_body(&mut self) -> bool {
        content_length(&self.0.headers).is_some_and(|length| length > 0)
            || self.0.headers.contains_key(TRANSFER_ENCODING)
    }
}

/// A response's head.
pub(super) struct Answered<'a>(pub(super) &'a mut ResponseHeader);

impl ResponseHead for Answered<'_> {
    fn parts(&self) -> &response::Parts {
        self.0.as_ref()
    }

    fn set_status(&mut self, status: StatusCode) {
        keep(self.0.set_status(status));
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        keep(self.0.insert_header(name, value));
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        keep(self.0.append_header(name, value).map(drop));
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

/// Names and values are valid by their types, so what is left to go wrong is a map with more headers
/// than it can hold (32 768).
fn keep(result: pingora::Result<()>) {
    if let Err(error) = result {
        log::warn!("a header was left out: {error}");
    }
}
