//! What a caller is told when a call was not answered as hoped: problem details (RFC 9457).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::write::Unwritten;

/// A status, and one sentence for the caller, who is an operator.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// The request makes no sense.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing; perhaps there is one with a name like this.
    pub(super) fn absent(detail: String, near: Option<&str>) -> Self {
        let hint = near.map(|near| format!(": did you mean `{near}`?"));
        Self::new(StatusCode::NOT_FOUND, detail + &hint.unwrap_or_default())
    }

    /// It makes sense, but not as things are.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }
}

impl From<Unwritten> for Problem {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Conflict(detail) => Self::conflict(detail),
            Unwritten::Failed(detail) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
        }
    }
}

/// The members in the order in which people read them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Members<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json(
            self.status,
            &Members {
                kind: "about:blank",
                title: self.status.canonical_reason().unwrap_or("Error"),
                status: self.status.as_u16(),
                detail: &self.detail,
            },
        );
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, kind);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"edgeway\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// An answer that people can read, too.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec_pretty(value).expect("what is shown has keys of text");
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
