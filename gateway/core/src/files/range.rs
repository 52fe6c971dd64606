//! Several parts of a file in one body: `multipart/byteranges` (RFC 9110, section 14.6).

use bytes::Bytes;
use http::HeaderValue;
use smallvec::SmallVec;

use super::entity::Entity;
use crate::cache::policy::range::{Span, content_range};

/// A body of several parts, whose length is known before any of it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Multipart {
    boundary: Box<str>,
    parts: SmallVec<[(Bytes, Span); 4]>,
    end: Bytes,
}

/// What of such a body is sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it is here.
    Text(Bytes),
    /// What the file has there.
    Span(Span),
}

impl Multipart {
    /// Parts in this order. What stands between them is drawn by lot, so that no file can hold it.
    pub(super) fn new(spans: impl IntoIterator<Item = Span>, entity: &Entity) -> Self {
        let boundary = format!("{:032x}", rand::random::<u128>()).into_boxed_str();
        let mut parts = SmallVec::new();
        for span in spans {
            let line = if parts.is_empty() { "" } else { "\r\n" };
            let mut head = format!("{line}--{boundary}\r\nContent-Type: ").into_bytes();
            head.extend_from_slice(entity.content_type.as_bytes());
            head.extend_from_slice(b"\r\nContent-Range: ");
            head.extend_from_slice(content_range(&span, entity.stamp.length).as_bytes());
            head.extend_from_slice(b"\r\n\r\n");
            parts.push((head.into(), span));
        }
        Self {
            parts,
            end: format!("\r\n--{boundary}--\r\n").into(),
            boundary,
        }
    }

    /// Of the whole body.
    pub(crate) fn length(&self) -> u64 {
        self.pieces().map(|piece| piece.length()).sum()
    }

    /// The value of `Content-Type`.
    pub(crate) fn content_type(&self) -> HeaderValue {
        let text = format!("multipart/byteranges; boundary={}", self.boundary);
        HeaderValue::try_from(text).expect("letters, digits and `/;=` can be in a header")
    }

    /// The body, from the front.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let parts = self.parts.iter();
        let pieces =
            parts.flat_map(|(head, span)| [Piece::Text(head.clone()), Piece::Span(span.clone())]);
        pieces.chain([Piece::Text(self.end.clone())])
    }
}

impl Piece {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Span(span) => span.end - span.start,
        }
    }
}
