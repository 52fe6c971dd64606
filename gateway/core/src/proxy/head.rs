//! Pingora's heads as filters see them.

use edgeway_sdk::message::{RequestHead, ResponseHead};
use http::{HeaderName, HeaderValue, StatusCode, request, response};
use pingora::http::{RequestHeader, ResponseHeader};

/// A request's head.
pub(super) struct Asked<'a>(pub(super) &'a mut RequestHeader);

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
