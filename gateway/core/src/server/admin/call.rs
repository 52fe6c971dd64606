//! What a call says: names in its path, `persist`, a body.

use std::{fmt, net::SocketAddr};

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    response::Response,
};
use http::{HeaderMap, StatusCode, header::ACCEPT};
use serde::de::DeserializeOwned;

use super::{
    described::Parameter,
    events::{Events, Stay},
    problem::Problem,
};
use crate::server::transport::Socket;

/// What a call says; `N` are the names in its path.
pub(super) struct Call<N> {
    pub(super) names: N,
    pub(super) caller: Caller,
    stay: Stay,
    query: String,
    /// Whether it is a person's, who looks with a browser.
    pub(super) browser: bool,
    body: Bytes,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    Address(SocketAddr),
    /// Through a unix socket.
    Process {
        user: u32,
        pid: Option<i32>,
    },
    Unknown,
}

impl Caller {
    /// Who is at the other end of a connection.
    pub(super) fn of(socket: &Socket, peer: Option<SocketAddr>) -> Self {
        let credentials = match socket {
            Socket::Unix(unix) => unix.peer_cred().ok(),
            Socket::Tcp(_) => None,
        };
        let process = credentials.map(|process| Self::Process {
            user: process.uid(),
            pid: process.pid(),
        });
        process
            .or_else(|| peer.map(Self::Address))
            .unwrap_or(Self::Unknown)
    }
}

/// For the log.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Process {
                user,
                pid: Some(pid),
            } => write!(f, "uid:{user},pid:{pid}"),
            Self::Process { user, pid: None } => write!(f, "uid:{user}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// That a change is written to the file of the endpoints.
pub(super) const PERSIST: &[Parameter] = &[Parameter {
    name: "persist",
    about: "`true` writes the change to the file that the endpoints are discovered in.",
    example: "true",
}];

/// How long a body may be.
const LONGEST: usize = 64 << 10;

impl<N: DeserializeOwned + Send, S: Send + Sync> FromRequest<S> for Call<N> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let names = Path::<N>::from_request_parts(&mut parts, state).await;
        let Path(names) = names.map_err(|wrong| Problem::bad(wrong.body_text()))?;
        let caller = parts.extensions.get::<Caller>().copied();
        let stay = parts.extensions.get::<Stay>().cloned();
        let (caller, stay) = caller
            .zip(stay)
            .expect("the listener notes who calls before it asks for an answer");
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = to_bytes(body, LONGEST).await.map_err(unread)?;
        Ok(Self {
            names,
            caller,
            stay,
            query,
            browser: is_browser(&parts.headers),
            body,
        })
    }
}

/// Whether a page would be the best answer.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    accepted
        .filter_map(|accepted| accepted.to_str().ok())
        .any(|accepted| accepted.to_ascii_lowercase().contains("text/html"))
}

impl<N> Call<N> {
    /// The names of a call that only looks.
    pub(super) fn names(self) -> Result<N, Problem> {
        self.nothing_else()?;
        Ok(self.names)
    }

    /// Whether the change is to be written to the file of the endpoints.
    ///
    /// # Errors
    ///
    /// The query says something else.
    pub(super) fn persist(&self) -> Result<bool, Problem> {
        match &*self.query {
            "" | "persist=false" => Ok(false),
            "persist=true" => Ok(true),
            query => Err(Problem::bad(format!(
                "`?{query}` is not understood: the only parameter is `persist=true`"
            ))),
        }
    }

    /// What the query says: `?status=5xx&rate=10`.
    ///
    /// # Errors
    ///
    /// It says something unknown, or wrong.
    pub(super) fn asked<Q: DeserializeOwned>(&self) -> Result<Q, Problem> {
        serde_urlencoded::from_str(&self.query)
            .map_err(|error| Problem::bad(format!("in `?{}`: {error}", self.query)))
    }

    /// Answers with events, as [`Stay::events`].
    ///
    /// # Errors
    ///
    /// There are enough who watch.
    pub(super) fn events<W>(self, write: impl FnOnce(Events) -> W) -> Result<Response, Problem>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.stay.events(write)
    }

    /// # Errors
    ///
    /// The call says more than it can mean.
    pub(super) fn nothing_else(&self) -> Result<(), Problem> {
        self.nothing_asked()?;
        self.no_body()
    }

    fn nothing_asked(&self) -> Result<(), Problem> {
        if self.query.is_empty() {
            return Ok(());
        }
        if self.query.starts_with("persist=") {
            return Err(Problem::bad("`persist` has no meaning for this call"));
        }
        let query = &self.query;
        Err(Problem::bad(format!(
            "`?{query}` is not understood: this call has no parameters"
        )))
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

    /// The body of a call that has no parameters.
    pub(super) fn only_json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.nothing_asked()?;
        self.json()
    }

    /// The body.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Problem::bad(format!("in the body: {error}")))
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
