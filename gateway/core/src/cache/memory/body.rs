//! The bodies of stored objects, and how they are read.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    budget::allocation,
    fill::{Broken, Fill, Ticket},
    object::Object,
};

/// A body: all of it, or what has come so far.
pub(super) enum Body {
    Whole(Chunks),
    Filling(Box<Fill>),
}

/// A whole body. Reading it takes no lock and copies nothing.
#[derive(Clone, Default)]
pub(crate) struct Chunks {
    chunks: SmallVec<[Bytes; 1]>,
    length: u64,
}

impl Chunks {
    pub(super) fn new(chunks: SmallVec<[Bytes; 1]>) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks, length }
    }

    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The chunks, in order. A body of up to 256 KiB is a single one, an empty one has none.
    pub(crate) fn as_slice(&self) -> &[Bytes] {
        &self.chunks
    }

    /// What it takes in memory, beyond the value itself.
    pub(super) fn size(&self) -> usize {
        let list = if self.chunks.spilled() {
            allocation(self.chunks.capacity() * size_of::<Bytes>())
        } else {
            0
        };
        let chunks = self.chunks.iter();
        list + chunks
            .map(|chunk| allocation(chunk.len()) + SHARED)
            .sum::<usize>()
    }
}

/// What `Bytes` keeps beside the bytes once they are shared.
const SHARED: usize = 32;

/// Reads a body from a position on, to a position.
///
/// Keeps the object alive, whatever happens to it in the store.
pub(crate) struct Reader<M> {
    object: Arc<Object<M>>,
    ticket: Option<Ticket>,
    at: u64,
    end: u64,
    /// Where in the list of chunks `at` is, and where that chunk starts.
    chunk: usize,
    start: u64,
}

impl<M> Reader<M> {
    /// Reads from the beginning to the end. `None` when the beginning is not there any more: the body is
    /// not going to be stored, and those who read it are further on.
    pub(crate) fn new(object: Arc<Object<M>>) -> Option<Self> {
        let ticket = match object.body() {
            Body::Whole(_) => None,
            Body::Filling(fill) => Some(fill.join()?),
        };
        Some(Self {
            object,
            ticket,
            at: 0,
            end: u64::MAX,
            chunk: 0,
            start: 0,
        })
    }

    /// Has the writer of a body that is not stored not wait for this, or wait for it again. For one reader of
    /// a body only.
    pub(crate) fn excuse(&self, excused: bool) {
        if let (Body::Filling(fill), Some(ticket)) = (self.object.body(), self.ticket) {
            fill.excuse(ticket, excused);
        }
    }

    /// The object whose body this reads.
    pub(crate) fn object(&self) -> &Arc<Object<M>> {
        &self.object
    }

    /// The next bytes, never none of them; `None` at the end. Waits for a body in progress, and may be
    /// dropped meanwhile.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        match (self.object.body(), self.ticket) {
            (Body::Filling(fill), Some(ticket)) => fill.read(ticket, self.end).await,
            (Body::Filling(_), None) => Err(Broken::Lagged),
            (Body::Whole(_), _) => Ok(self.next_chunk()),
        }
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let Body::Whole(whole) = self.object.body() else {
            return None;
        };
        if self.at >= self.end {
            return None;
        }
        let chunk = whole.chunks.get(self.chunk)?;
        let until = self.end.min(self.start + chunk.len() as u64);
        let found = chunk.slice((self.at - self.start) as usize..(until - self.start) as usize);
        self.at = until;
        self.start += chunk.len() as u64;
        self.chunk += 1;
        Some(found)
    }

    /// Reads `start..end` from now on, to the end of the body without an `end` and never beyond it. False,
    /// and nothing is changed, when `start` is not before the end or is not there any more.
    pub(crate) fn seek(&mut self, start: u64, end: Option<u64>) -> bool {
        let moved = match (self.object.body(), self.ticket) {
            (Body::Whole(whole), _) => {
                let moved = start < whole.length;
                if moved {
                    (self.chunk, self.start) = find(&whole.chunks, start);
                    self.at = start;
                }
                moved
            }
            (Body::Filling(fill), Some(ticket)) => fill.seek(ticket, start),
            (Body::Filling(_), None) => false,
        };
        if moved {
            self.end = end.unwrap_or(u64::MAX);
        }
        moved
    }
}

impl<M> Drop for Reader<M> {
    fn drop(&mut self) {
        if let (Body::Filling(fill), Some(ticket)) = (self.object.body(), self.ticket) {
            fill.leave(ticket);
        }
    }
}

/// The chunk that has this byte, and where it starts.
fn find(chunks: &[Bytes], at: u64) -> (usize, u64) {
    let mut start = 0;
    for (number, chunk) in chunks.iter().enumerate() {
        let end = start + chunk.len() as u64;
        if at < end {
            return (number, start);
        }
        start = end;
    }
    (chunks.len(), start)
}
