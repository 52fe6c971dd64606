//! What a call says: names in its path, `persist`, a body.

use std::net::SocketAddr;

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// What a call says; `N` are the names in its path.
pub(super) struct Call<N> {
    pub(super) names: N,
    pub(super) caller: Caller,
    persist: bool,
    body: Bytes,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(pub(super) SocketAddr);

/// How long a body may be.
const LONGEST: usize = 64 << 10;

impl<N: DeserializeOwned + Send, S: Send + Sync> FromRequest<S> for Call<N> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let names = Path::<N>::from_request_parts(&mut parts, state).await;
        let Path(names) = names.map_err(|wrong| Problem::bad(wrong.body_text()))?;
        let caller = parts.extensions.get::<Caller>().copied();
        let caller = caller.expect("the listener notes who calls before it asks for an answer");
        let persist = persist(parts.uri.query().unwrap_or_default())?;
        let body = to_bytes(body, LONGEST).await.map_err(unread)?;
        Ok(Self {
            names,
            caller,
            persist,
            body,
        })
    }
}

impl<N> Call<N> {
    /// The names of a call that only looks.
    pub(super) fn names(self) -> Result<N, Problem> {
        self.nothing_else()?;
        Ok(self.names)
    }

    /// Whether the change is to be written to the file of the endpoints.
    pub(super) fn persist(&self) -> bool {
        self.persist
    }

    /// # Errors
    ///
    /// The call says more than it can mean.
    pub(super) fn nothing_else(&self) -> Result<(), Problem> {
        self.nothing_kept()?;
        self.no_body()
    }

    fn nothing_kept(&self) -> Result<(), Problem> {
        if self.persist {
            return Err(Problem::bad("`persist` has no meaning for this call"));
        }
        Ok(())
    }

    /// # Errors
    ///
    /// There is a body.
    pub(super) fn no_body(&self) -> Result<(), Problem> {
        if self.body.is_empty() {
            return Ok(());
        }
        Err(Problem::bad("this call has no body"))
    }

    /// The body of a call that changes no endpoint.
    pub(super) fn only_json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.nothing_kept()?;
        self.json()
    }

    /// The body.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Problem::bad(format!("in the body: {error}")))
    }
}

fn persist(query: &str) -> Result<bool, Problem> {
    match query {
        "" | "persist=false" => Ok(false),
        "persist=true" => Ok(true),
        _ => Err(Problem::bad(format!(
            "`?{query}` is not understood: the only parameter is `persist=true`"
        ))),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where an error is mapped"
)]
fn unread(error: axum::Error) -> Problem {
    let too_long = std::error::Error::source(&error)
        .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
    if too_long {
        let detail = format!("a body has at most {LONGEST} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail);
    }
    Problem::bad(format!("the body can't be read: {error}"))
}
