//! A body that is made while it is sent, and may break off.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;

use crate::control::{Abort, Control, Framing};

/// The body of an answer.
pub(crate) struct Answer {
    content: Content,
    framing: Framing,
    piece: u64,
    breaks: Breaks,
}

/// Someone asked for the connection to be closed.
#[derive(Debug, Error)]
#[error("aborted on request")]
pub(crate) struct Aborted;

pub(crate) enum Content {
    Text(Bytes),
    Filler(u64),
}

enum Breaks {
    Never,
    /// After so many more bytes.
    After(u64),
    /// As soon as what was written so far has left: an error at once would take it along.
    Flushed,
}

impl Answer {
    pub(crate) fn new(content: Content, control: &Control) -> Self {
        let size = content.size();
        Self {
            framing: control.framing,
            piece: match control.framing {
                Framing::Length => LARGEST_PIECE,
                // Even a small body comes in several pieces.
                Framing::Chunked => (size / 8).clamp(1, LARGEST_PIECE),
            },
            breaks: match control.abort {
                Some(Abort::Body) => Breaks::After(size / 2),
                Some(Abort::Head) | None => Breaks::Never,
            },
            content,
        }
    }

    /// A body that needs no control.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::new(Content::Text(text.into()), &Control::default())
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let most = match self.breaks {
            Breaks::Never => self.piece,
            Breaks::After(0) => {
                self.breaks = Breaks::Flushed;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            Breaks::After(left) => self.piece.min(left),
            Breaks::Flushed => return Poll::Ready(Some(Err(Aborted))),
        };
        let piece = self.content.take(most);
        if let Breaks::After(left) = &mut self.breaks {
            *left -= piece.len() as u64;
        }
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length => SizeHint::with_exact(self.content.size()),
            Framing::Chunked => SizeHint::default(),
        }
    }
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Filler(left) => *left,
        }
    }

    fn take(&mut self, most: u64) -> Bytes {
        let size = self.size().min(most).min(LARGEST_PIECE);
        let length = usize::try_from(size).expect("a piece is small");
        match self {
            Self::Text(text) => text.split_to(length),
            Self::Filler(left) => {
                *left -= size;
                Bytes::from_static(FILLER).slice(..length)
            }
        }
    }
}

const LARGEST_PIECE: u64 = FILLER.len() as u64;
const FILLER: &[u8] = &[b'x'; 16 * 1024];
