//! What the program answers, and what it counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use edgeway_service::Failure;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use crate::answer::{Aborted, Answer, Content};
use crate::control::{Abort, Control};
use crate::tape::{Head, Tape};

/// One for the process.
pub(crate) struct Echo {
    source: String,
    requests: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
}

impl Echo {
    pub(crate) fn new(source: String) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            source,
            requests: zero(),
            connections: zero(),
            open_connections: zero(),
        }
    }

    fn stats(&self) -> String {
        json!({
            "requests": self.requests.load(Relaxed),
            "connections": self.connections.load(Relaxed),
            "open_connections": self.open_connections.load(Relaxed),
        })
        .to_string()
    }
}

/// One for each connection.
pub(crate) struct Connection {
    echo: Arc<Echo>,
    client: String,
    tape: Tape,
    // Given with the first request that counts: who only asks for the numbers does not change them.
    number: OnceLock<u64>,
}

impl Connection {
    pub(crate) fn new(echo: Arc<Echo>, client: String) -> Self {
        Self {
            echo,
            client,
            tape: Tape::new(),
            number: OnceLock::new(),
        }
    }

    pub(crate) fn tape(&self) -> Tape {
        self.tape.clone()
    }

    /// Called for each request in turn. An error closes the connection without an answer.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Failure> {
        let head = self.tape.head(&request);
        let answered = match request.uri().path() {
            "/healthz" => respond(StatusCode::OK, TEXT, Answer::text("ok\n")),
            "/__stats" => respond(StatusCode::OK, JSON, Answer::text(self.echo.stats())),
            _ => self.echo(head, request).await?,
        };
        self.tape.start();
        Ok(answered)
    }

    async fn echo(
        &self,
        head: Head,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Failure> {
        let (connection, requests) = (self.number(), self.echo.requests.fetch_add(1, Relaxed) + 1);
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let control = match Control::parse(query) {
            Ok(control) => control,
            Err(problem) => {
                return Ok(respond(
                    StatusCode::BAD_REQUEST,
                    TEXT,
                    Answer::text(problem),
                ));
            }
        };
        let (body, body_bytes) = receive(body).await?;
        let report = Report {
            source: &self.echo.source,
            pid: std::process::id(),
            method: parts.method.as_str(),
            target: &head.target,
            path: parts.uri.path(),
            query,
            headers: &head.headers,
            body,
            body_bytes,
            client: &self.client,
            version: format!("{:?}", parts.version),
            connection,
            requests,
        };
        sleep(control.delay).await;
        controlled(&control, &report)
    }

    fn number(&self) -> u64 {
        *self.number.get_or_init(|| {
            self.echo.open_connections.fetch_add(1, Relaxed);
            self.echo.connections.fetch_add(1, Relaxed) + 1
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.number.get().is_some() {
            self.echo.open_connections.fetch_sub(1, Relaxed);
        }
    }
}

/// What arrived.
#[derive(Serialize)]
struct Report<'a> {
    source: &'a str,
    pid: u32,
    method: &'a str,
    target: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a [(String, String)],
    body: String,
    body_bytes: usize,
    client: &'a str,
    version: String,
    connection: u64,
    requests: u64,
}

fn controlled(control: &Control, report: &Report<'_>) -> Result<Response<Answer>, Failure> {
    if control.abort == Some(Abort::Head) {
        return Err(Aborted.into());
    }
    let (kind, content) = match control.size {
        Some(size) => (TEXT, Content::Filler(size)),
        None => (JSON, Content::Text(serde_json::to_vec(report)?.into())),
    };
    let mut response = respond(control.status, kind, Answer::new(content, control));
    let headers = response.headers_mut();
    for (name, value) in &control.headers {
        if name == CONTENT_TYPE {
            headers.insert(name, value.clone());
        } else {
            headers.append(name, value.clone());
        }
    }
    Ok(response)
}

/// The beginning of the body, and how long it was.
async fn receive(mut body: Incoming) -> Result<(String, usize), Failure> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        // Trailers are no part of the body.
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = KEPT - kept.len();
        kept.extend(data.iter().take(room));
        length += data.len();
    }
    Ok((String::from_utf8_lossy(&kept).into_owned(), length))
}

fn respond(status: StatusCode, kind: HeaderValue, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

const KEPT: usize = 64 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
