//! What the service is asked.

use std::sync::Arc;

use bytes::Bytes;
use edgeway_sdk::{Request, Result, message::is_framing};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::config::Verb;
use crate::client::Url;

/// Makes questions.
pub(super) struct Questions {
    pub(super) url: Url,
    pub(super) verb: Verb,
    /// Those of the client's headers that are sent along.
    pub(super) headers: Vec<HeaderName>,
    /// How large a body may be that is sent along; none if no body is.
    pub(super) body: Option<usize>,
    /// Random, and the same for all of this gateway.
    pub(super) marker: Arc<String>,
}

/// One question.
#[derive(Clone)]
pub(super) struct Question {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Questions {
    /// The question about a request; none if the request is such a question itself.
    ///
    /// The error is that of the request's body.
    pub(super) async fn about(&self, request: &mut Request<'_>) -> Result<Option<Question>> {
        if request.headers().get(&MARKER).map(HeaderValue::as_bytes) == Some(self.marker.as_bytes())
        {
            return Ok(None);
        }
        let body = match self.body {
            Some(limit) => request.body(limit).await?,
            None => Bytes::new(),
        };
        Ok(Some(Question {
            url: self.url.clone(),
            method: self.verb.method(request.method()),
            headers: self.headers(request),
            body,
        }))
    }

    fn headers(&self, request: &Request<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // What the body is, and how it is encoded.
        let of_body = [header::CONTENT_TYPE, header::CONTENT_ENCODING];
        let of_body = of_body
            .iter()
            .filter(|name| self.body.is_some() && !self.headers.contains(name));
        for name in self.headers.iter().chain(of_body) {
            for value in request.headers().get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        for (name, value) in about(request) {
            // Nothing of a request that was read can be no header; if so, it is better not told than wrong.
            headers.remove(&name);
            headers.extend(HeaderValue::from_str(&value).map(|value| (name, value)));
        }
        headers.extend(HeaderValue::from_str(&self.marker).map(|value| (MARKER, value)));
        headers
    }
}

/// The request in headers. The path is the one that routes match: a service that decided on another could
/// be led past.
fn about(request: &Request<'_>) -> [(HeaderName, String); 5] {
    let query = request.query().map(|query| format!("?{query}"));
    let uri = format!("{}{}", request.path(), query.unwrap_or_default());
    let authority = request.parts().uri.authority();
    let host = authority.map(|authority| authority.as_str());
    let host = host.or_else(|| request.header(header::HOST));
    [
        ("x-forwarded-method", request.method().to_string()),
        ("x-forwarded-proto", request.scheme().to_string()),
        (
            "x-forwarded-host",
            host.unwrap_or_else(|| request.host()).to_owned(),
        ),
        ("x-forwarded-uri", uri),
        ("x-forwarded-for", request.client().to_string()),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), value))
}

impl Question {
    /// As it goes over the wire.
    pub(super) fn request(self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method, self.url);
        *request.headers_mut() = self.headers;
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.into());
        }
        request
    }

    /// Whether this header is sent more than once.
    pub(super) fn has_several(&self, name: &HeaderName) -> bool {
        self.headers.get_all(name).iter().nth(1).is_some()
    }

    /// All that the answer can depend on.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let headers = self.headers.iter().flat_map(|(name, value)| {
            debug_assert!(!is_framing(name));
            [name.as_str().as_bytes(), value.as_bytes()]
        });
        [self.method.as_str().as_bytes(), &self.body]
            .into_iter()
            .chain(headers)
    }
}

const MARKER: HeaderName = HeaderName::from_static("x-edgeway-question");
