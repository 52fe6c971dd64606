//! The head of a request as it came over the wire.
//!
//! The engine lowers header names, groups values that belong to one name, and reads the target.
//! A test of a gateway wants to know what the gateway really sent. So the connection is recorded
//! until a head is complete, and the head is read once more.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the client wrote in its head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// Bytes of one connection since the end of the last request; nothing while a body is read.
#[derive(Clone)]
pub(crate) struct Tape(Arc<Mutex<Option<Vec<u8>>>>);

impl Tape {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    /// Records again: the next bytes are a head.
    pub(crate) fn start(&self) {
        self.replace(Some(Vec::new()));
    }

    /// Stops recording, and reads the head of this request from what was recorded.
    ///
    /// The head of a client that does not wait for the answer to its last request may be missing
    /// on the tape. Then it is told in the words of the engine.
    pub(crate) fn head<B>(&self, request: &Request<B>) -> Head {
        let bytes = self.replace(None).unwrap_or_default();
        parse(&bytes, request).unwrap_or_else(|| engine(request))
    }

    fn record(&self, bytes: &[u8]) {
        let mut tape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tape) = tape.as_mut() {
            tape.extend_from_slice(bytes);
        }
    }

    fn replace(&self, tape: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, tape)
    }
}

fn parse<B>(bytes: &[u8], request: &Request<B>) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut raw = httparse::Request::new(&mut headers);
    let complete = raw.parse(bytes).ok()?.is_complete();
    let target = raw.path?;
    let same = raw.method == Some(request.method().as_str())
        && raw.headers.len() == request.headers().len()
        && target.contains(request.uri().path());
    (complete && same).then(|| Head {
        target: target.to_owned(),
        headers: raw.headers.iter().map(pair).collect(),
    })
}

fn engine<B>(request: &Request<B>) -> Head {
    let headers = request.headers().iter();
    Head {
        target: request.uri().to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
    }
}

fn pair(header: &httparse::Header<'_>) -> (String, String) {
    (header.name.to_owned(), text(header.value))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As many as the engine takes.
const MAX_HEADERS: usize = 100;

/// A stream whose incoming bytes go to a tape as well.
pub(crate) struct Recorded<S> {
    stream: S,
    tape: Tape,
}

impl<S> Recorded<S> {
    pub(crate) fn new(stream: S, tape: Tape) -> Self {
        Self { stream, tape }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(task, buffer))?;
        let (_, new) = buffer.filled().split_at(before);
        self.tape.record(new);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
