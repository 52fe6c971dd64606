//! A request of HTTP/2 whose body is sent while its answer is read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A request under way. Dropping it ends the body as if it were whole.
#[derive(Debug)]
pub struct Streaming<'c> {
    pub(super) runtime: &'c Runtime,
    pub(super) pieces: Option<UnboundedSender<Option<Bytes>>>,
    pub(super) answer: Answer,
    pub(super) trailers: HeaderMap,
}

#[derive(Debug)]
pub(super) enum Answer {
    Awaited(JoinHandle<Result<Response<Incoming>, String>>),
    Begun(Response<Incoming>),
    Failed(String),
}

impl Streaming<'_> {
    /// Sends a piece of the body.
    ///
    /// # Panics
    ///
    /// After its end.
    pub fn send(&self, piece: impl Into<Bytes>) {
        let pieces = self.pieces.as_ref().expect("the body has not ended");
        // Nobody takes it when the stream has ended, which the answer tells.
        pieces.send(Some(piece.into())).ok();
    }

    /// Ends the body.
    pub fn end(&mut self) {
        self.pieces = None;
    }

    /// Resets the stream.
    pub fn reset(mut self) {
        if let Some(pieces) = self.pieces.take() {
            pieces.send(None).ok();
        }
    }

    /// Waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub fn head(&mut self) -> Result<(u16, HeaderMap), String> {
        if let Answer::Awaited(exchange) = &mut self.answer {
            let done = self
                .runtime
                .block_on(async { timeout(SILENCE, exchange).await });
            let answer = match done {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer comes".to_owned()),
            };
            self.answer = answer.map_or_else(Answer::Failed, Answer::Begun);
        }
        match &self.answer {
            Answer::Begun(answer) => Ok((answer.status().as_u16(), answer.headers().clone())),
            Answer::Failed(error) => Err(error.clone()),
            Answer::Awaited(_) => Err("not awaited".to_owned()),
        }
    }

    /// Waits for the next piece of the answer's body; none after the last.
    ///
    /// # Errors
    ///
    /// When the answer breaks off.
    pub fn piece(&mut self) -> Result<Option<Bytes>, String> {
        self.head()?;
        let Answer::Begun(answer) = &mut self.answer else {
            return Ok(None);
        };
        loop {
            let next = self
                .runtime
                .block_on(async { timeout(SILENCE, answer.body_mut().frame()).await });
            let Some(frame) = next.map_err(|_| "no more comes")? else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| error.to_string())?;
            match frame.into_data() {
                Ok(piece) => return Ok(Some(piece)),
                Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
    }

    /// Waits for what comes behind the body, past the rest of it.
    ///
    /// # Errors
    ///
    /// When the answer breaks off.
    pub fn trailers(&mut self) -> Result<&HeaderMap, String> {
        while self.piece()?.is_some() {}
        Ok(&self.trailers)
    }
}

/// A body of a request: known at once, or piece by piece.
#[derive(Debug)]
pub(super) enum Sent {
    Whole(Full<Bytes>),
    Pieces(UnboundedReceiver<Option<Bytes>>),
}

/// The body ends in the middle, as the test wants it.
#[derive(Debug)]
pub(super) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset, as the test wants it")
    }
}

impl std::error::Error for Cut {}

impl Body for Sent {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole)
                .poll_frame(task)
                .map_err(|never| match never {}),
            Self::Pieces(pieces) => pieces.poll_recv(task).map(|piece| {
                let piece = piece?;
                Some(piece.map(Frame::data).ok_or(Cut))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(20);
