//! What an endpoint does about a request.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde_json::Value;
use tokio::time::{Sleep, sleep};

use super::state::Within;

/// What an endpoint does about a request: an answer, or less than that.
#[derive(Clone, Debug)]
#[must_use = "a reaction is what the closure returns"]
pub struct Reaction {
    pub(super) delay: Duration,
    pub(super) silent: bool,
    status: StatusCode,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    pieces: Vec<Bytes>,
    gap: Duration,
    cut: bool,
}

impl Reaction {
    /// An empty answer with this status.
    ///
    /// # Panics
    ///
    /// When there can be no such status.
    pub fn status(status: u16) -> Self {
        Self {
            delay: Duration::ZERO,
            silent: false,
            status: StatusCode::from_u16(status).expect("a status has three digits"),
            headers: HeaderMap::new(),
            trailers: None,
            pieces: Vec::new(),
            gap: Duration::ZERO,
            cut: false,
        }
    }

    /// An answer with JSON.
    pub fn json(value: &Value) -> Self {
        let answer = Self::status(200).header("Content-Type", "application/json");
        answer.body(value.to_string())
    }

    /// An answer of gRPC: these bytes with the five that stand before a message, and the status at
    /// the end, as a trailer. Without a message the status stands in the head.
    pub fn grpc(message: Option<&[u8]>, status: u8) -> Self {
        let answer = Self::status(200).header("Content-Type", "application/grpc");
        let Some(message) = message else {
            return answer.header("grpc-status", status);
        };
        let length = u32::try_from(message.len()).expect("a message of a test is small");
        let frame = [&[0][..], &length.to_be_bytes(), message].concat();
        answer.body(frame).trailer("grpc-status", status)
    }

    /// No answer: HTTP/1.1 closes the connection, HTTP/2 resets the stream.
    pub fn close() -> Self {
        Self {
            silent: true,
            ..Self::status(500)
        }
    }

    /// No answer, and the connection stays open.
    pub fn hang() -> Self {
        Self::status(500).after(Duration::MAX)
    }

    /// Adds a line to the head.
    ///
    /// # Panics
    ///
    /// When HTTP has no such header.
    pub fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.append(field(name), text(value));
        self
    }

    /// Adds a line behind the body. HTTP/1.1 sends the body in chunks then, and the line only if
    /// the other side has said `TE: trailers` and the head has named it in `Trailer`.
    ///
    /// # Panics
    ///
    /// When HTTP has no such header.
    pub fn trailer(mut self, name: &str, value: impl fmt::Display) -> Self {
        let trailers = self.trailers.get_or_insert_default();
        trailers.append(field(name), text(value));
        self
    }

    /// Another status.
    ///
    /// # Panics
    ///
    /// When there can be no such status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status has three digits");
        self
    }

    /// A body.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.pieces([body.into()], Duration::ZERO)
    }

    /// A body in pieces with a pause before each but the first.
    pub fn pieces<B: Into<Bytes>>(
        mut self,
        pieces: impl IntoIterator<Item = B>,
        gap: Duration,
    ) -> Self {
        self.pieces = pieces.into_iter().map(Into::into).collect();
        self.gap = gap;
        self
    }

    /// Answers so much later.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Ends the connection (with HTTP/2 the stream) after the head and a part of the body, which
    /// gets a filling if it is empty.
    pub fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// The answer, for those that are one.
    pub(super) fn into_response(mut self) -> Response<Script> {
        if self.cut && self.pieces.iter().all(Bytes::is_empty) {
            self.pieces = vec![Bytes::from_static(b"never seen whole")];
        }
        let body = Script::new(&self);
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

fn field(name: &str) -> HeaderName {
    name.parse().expect("a name of a header")
}

fn text(value: impl fmt::Display) -> HeaderValue {
    let value = value.to_string();
    value.parse().expect("a value of a header")
}

/// A body that is played step by step.
#[derive(Debug)]
pub(super) struct Script {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    size: SizeHint,
    relayed: Option<Relayed>,
}

/// A request's body that is played back.
struct Relayed {
    body: Incoming,
    _within: Within,
}

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

#[derive(Debug)]
enum Step {
    Data(Bytes),
    Pause(Duration),
    Trailers(HeaderMap),
    Break,
}

/// The end that was asked for.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut, as the test wants it")
    }
}

impl std::error::Error for Cut {}

impl Script {
    fn new(reaction: &Reaction) -> Self {
        let length = reaction.pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let mut steps = VecDeque::new();
        for (number, piece) in reaction.pieces.iter().enumerate() {
            if number > 0 {
                steps.push_back(Step::Pause(reaction.gap));
            }
            let half = piece.slice(..piece.len() / 2);
            let piece = if reaction.cut { half } else { piece.clone() };
            if !piece.is_empty() {
                steps.push_back(Step::Data(piece));
            }
        }
        if reaction.cut {
            // What was written so far shall leave: an error at once would take it along.
            steps.extend([Step::Pause(FLUSHED), Step::Break]);
        }
        steps.extend(reaction.trailers.clone().map(Step::Trailers));
        Self {
            steps,
            pause: None,
            size: match reaction.trailers {
                Some(_) => SizeHint::default(),
                None => SizeHint::with_exact(length),
            },
            relayed: None,
        }
    }

    /// The body of a request, piece by piece.
    pub(super) fn relay(body: Incoming, within: Within) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self {
            steps: [Step::Trailers(trailers)].into(),
            pause: None,
            size: SizeHint::default(),
            relayed: Some(Relayed {
                body,
                _within: within,
            }),
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(relayed) = &mut self.relayed {
            match ready!(Pin::new(&mut relayed.body).poll_frame(task)) {
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(_)) => return Poll::Ready(Some(Err(Cut))),
                None => self.relayed = None,
            }
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(task));
                self.pause = None;
            }
            match self.steps.pop_front() {
                Some(Step::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Pause(time)) => self.pause = Some(Box::pin(sleep(time))),
                Some(Step::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Some(Step::Break) => return Poll::Ready(Some(Err(Cut))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.relayed.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

const FLUSHED: Duration = Duration::from_millis(10);
