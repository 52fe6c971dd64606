//! A response made by the gateway itself.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::exchange::Content;

/// A response made by the gateway itself.
///
/// It goes up the chain like any other response. With a status of 400 or more and no body of its
/// own, the client is given an `application/problem+json` document (RFC 9457), or a short HTML page
/// when it asks for one, with the title of the status, the [`detail`](Self::detail) if there is one,
/// and the request id.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Bytes>,
    detail: Option<Cow<'static, str>>,
    reason: Option<Cow<'static, str>>,
    decision: Option<Box<Decision>>,
}

/// What the operator is told of a decision beside the reason.
#[derive(Debug, Default)]
struct Decision {
    rule: Option<Cow<'static, str>>,
    key: Option<Cow<'static, str>>,
}

impl Reply {
    /// A reply with this status; a number that is no status counts as 500.
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            headers: HeaderMap::new(),
            body: None,
            detail: None,
            reason: None,
            decision: None,
        }
    }

    /// Adds a header. What can't stand in a header (a line break) is left out, with a warning.
    pub fn header<V>(mut self, name: HeaderName, value: V) -> Self
    where
        V: TryInto<HeaderValue>,
        V::Error: fmt::Display,
    {
        match value.try_into() {
            Ok(value) => {
                self.headers.append(name, value);
            }
            Err(error) => log::warn!("a reply's header `{name}` was left out: {error}"),
        }
        self
    }

    /// Replaces all headers of this name by one.
    pub fn set_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// A plain text body.
    pub fn text(self, text: impl Into<Bytes>) -> Self {
        self.body("text/plain; charset=utf-8", text)
    }

    /// A JSON body.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// A body of any type.
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = Some(body.into());
        self
    }

    /// A body whose `Content-Type` is among the headers already, or unknown.
    pub fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// One sentence that the client may read about this refusal. Must not help an attacker.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The reason that the log gives; the client never sees it.
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Which rule of the filter has decided: a short word or an id that stands in the configuration or in
    /// the code. Refusals are counted by it, so it must never be made of a request.
    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.decision.get_or_insert_default().rule = Some(rule.into());
        self
    }

    /// Whom or what the decision was about: the key of a limit, the name of a user. The operator finds it in
    /// the log and the admin view; the client never sees it. Never a secret.
    pub fn key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.decision.get_or_insert_default().key = Some(key.into());
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, if it has one of its own.
    pub fn content(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// Who writes the body of a response that is made of it.
    pub fn author(&self) -> Content {
        match self.body.is_none() && self.status.as_u16() >= 400 {
            true => Content::Standard(self.detail.clone()),
            false => Content::Given,
        }
    }

    /// What the client is told beside the status.
    pub fn client_detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What the operator is told.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Which rule has decided.
    pub fn decided_by_rule(&self) -> Option<&str> {
        self.decision.as_ref()?.rule.as_deref()
    }

    /// Whom or what the decision was about.
    pub fn about(&self) -> Option<&str> {
        self.decision.as_ref()?.key.as_deref()
    }

    /// The reply in parts: status, headers and body.
    pub fn into_parts(self) -> (StatusCode, HeaderMap, Option<Bytes>) {
        (self.status, self.headers, self.body)
    }
}

impl From<crate::Error> for Reply {
    fn from(error: crate::Error) -> Self {
        let error = match error.into_refusal() {
            Ok(reply) => return reply,
            Err(error) => error,
        };
        let reply = Self::new(error.code().as_u16());
        if error.reason().is_empty() {
            reply
        } else {
            reply.because(error.reason().to_owned())
        }
    }
}
