//! A body that is still being written, with any number of readers who stream it meanwhile.
//!
//! Each reader gets exactly the bytes, in order, from wherever it starts. A body that is broken off, or
//! whose writer is dropped, ends in an error for every reader, also for one that has read all there was:
//! nobody is told that a part is the whole.
//!
//! What arrives in small pieces is gathered in blocks, so that neither a receive buffer is kept alive by a
//! small slice of it nor a list of tiny pieces is kept at all. A reader that has caught up copies what is
//! new out of the open block; all else is shared.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{body::Chunks, budget::allocation};

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The writer broke off: the fetch failed, or whoever made it is gone.
    Aborted,
    /// The body is not kept any more, and this reader was too slow for what is held for those under way.
    Lagged,
}

/// A body in progress. One writes, all else read.
pub(super) struct Fill {
    state: Mutex<State>,
    grown: Notify,
    /// Of what is not stored, some has been read, or somebody has left.
    shrunk: Notify,
}

struct State {
    /// Each with where it starts in the body.
    chunks: VecDeque<(u64, Bytes)>,
    /// What comes after the chunks. Its capacity is paid for.
    open: BytesMut,
    /// Bytes written so far.
    length: u64,
    end: End,
    keep: Keep,
    readers: Vec<Seat>,
    /// The reader who reads only while nothing is written, so that the writer cannot wait for it.
    excused: Option<usize>,
    /// Since when nobody reads.
    alone: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    Free,
    /// Of a reader, who has read up to there.
    Taken(u64),
    /// Of a reader who was too slow, until it leaves.
    Lost,
}

impl Seat {
    fn at(self) -> Option<u64> {
        match self {
            Self::Taken(at) => Some(at),
            Self::Free | Self::Lost => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Finished,
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// The body is to be stored.
    All,
    /// Given up for the store: only what some reader has not read yet, up to this many bytes.
    Unread(u64),
}

/// What a piece would take in memory beyond what the fill has: asked before it is written.
pub(super) struct Need {
    pub(super) bytes: usize,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// There is room in the open block.
    Open,
    /// A chunk of its own, of exactly its size.
    Own,
    /// The open block is filled up, and a new one of this capacity takes the rest.
    Block(usize),
}

/// Whether the chunks of a finished body become one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    Yes,
    No,
}

/// The place of a reader.
#[derive(Clone, Copy)]
pub(super) struct Ticket(usize);

impl Fill {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                open: BytesMut::new(),
                length: 0,
                end: End::Open,
                keep: Keep::All,
                readers: Vec::new(),
                excused: None,
                alone: Some(Instant::now()),
            }),
            grown: Notify::new(),
            shrunk: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What writing so many bytes would take. `rest` is how many are expected from here on, these included.
    pub(super) fn need(&self, piece: usize, rest: Option<u64>, last: bool) -> Need {
        let state = self.state();
        let room = state.open.capacity() - state.open.len();
        let place = if piece <= room {
            Place::Open
        } else if piece >= LARGE || (state.open.is_empty() && (last || rest == Some(piece as u64)))
        {
            Place::Own
        } else {
            let left = piece - room;
            let rest = rest.map(|rest| usize::try_from(rest).unwrap_or(BLOCK));
            let wished = match rest {
                Some(rest) => rest.saturating_sub(room),
                None => usize::try_from(state.length).unwrap_or(BLOCK).max(SMALLEST),
            };
            Place::Block(wished.clamp(left, BLOCK.max(left)))
        };
        let bytes = match place {
            Place::Open => 0,
            Place::Own => allocation(piece),
            Place::Block(capacity) => allocation(capacity),
        };
        Need { bytes, place }
    }

    /// Adds a piece that is to be stored, as was found needed for it. Tells how many bytes of memory were
    /// given back at the same time.
    pub(super) fn append(&self, piece: &[u8], need: &Need) -> usize {
        let own = matches!(need.place, Place::Own).then(|| Bytes::copy_from_slice(piece));
        let mut state = self.state();
        let freed = match (need.place, own) {
            (Place::Own, Some(chunk)) => {
                let freed = state.close();
                state.push(chunk);
                freed
            }
            (Place::Block(capacity), _) => {
                let room = state.open.capacity() - state.open.len();
                let (first, rest) = piece.split_at(room);
                state.open.extend_from_slice(first);
                let freed = state.close();
                state.open = BytesMut::with_capacity(capacity);
                state.open.extend_from_slice(rest);
                freed
            }
            (Place::Open | Place::Own, _) => {
                state.open.extend_from_slice(piece);
                0
            }
        };
        state.length += piece.len() as u64;
        drop(state);
        self.grown.notify_waiters();
        freed
    }

    /// Hands a piece to those who read, and to nobody else. False when nobody reads any more.
    pub(super) fn pass(&self, piece: Bytes) -> bool {
        let mut state = self.state();
        state.close();
        if !piece.is_empty() {
            state.length += piece.len() as u64;
            state.push(piece);
        }
        state.trim();
        let read = state.readers.iter().any(|seat| seat.at().is_some());
        drop(state);
        self.grown.notify_waiters();
        read
    }

    /// Stores no more: keeps only what readers still want, and no more than `window` bytes of that.
    pub(super) fn give_up(&self, window: u64) {
        let mut state = self.state();
        state.keep = Keep::Unread(window);
        state.trim();
        drop(state);
        self.grown.notify_waiters();
    }

    /// Waits until those who read what is not stored are no further behind than this. One that reads nothing
    /// for some time while others wait for more is lost.
    pub(super) async fn room(&self, behind: u64) {
        let mut slowest = None;
        let mut due = Instant::now();
        loop {
            let shrunk = self.shrunk.notified();
            let mut shrunk = std::pin::pin!(shrunk);
            shrunk.as_mut().enable();
            let now = self.state().slowest(behind);
            if now.is_none() {
                return;
            }
            if now != slowest {
                (slowest, due) = (now, Instant::now() + PATIENCE);
            }
            if timeout_at(due, shrunk).await.is_err() {
                self.state().lose(now);
                slowest = None;
            }
        }
    }

    /// How much is held for those who read what is not stored.
    pub(super) fn held(&self) -> u64 {
        let state = self.state();
        let slowest = state.readers.iter().filter_map(|seat| seat.at()).min();
        slowest.map_or(0, |slowest| state.length - slowest)
    }

    /// For how long nobody has read.
    pub(super) fn alone(&self) -> Duration {
        let alone = self.state().alone;
        alone.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Has the writer not wait for this reader, or wait for it again.
    pub(super) fn excuse(&self, Ticket(place): Ticket, excused: bool) {
        self.state().excused = excused.then_some(place);
    }

    /// Bytes written so far.
    pub(super) fn length(&self) -> u64 {
        self.state().length
    }

    /// Ends the body as a whole one.
    pub(super) fn finish(&self) {
        self.end(End::Finished);
    }

    /// Ends the body with an error for its readers, if it has not ended.
    pub(super) fn abort(&self) {
        self.end(End::Broken);
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.end == End::Open {
            state.end = end;
        }
        drop(state);
        self.grown.notify_waiters();
    }

    /// What merging a finished body into one chunk takes in memory; zero when it is one, or stays as it is.
    pub(super) fn merged(&self) -> usize {
        let state = self.state();
        let parts = state.chunks.len() + usize::from(!state.open.is_empty());
        match usize::try_from(state.length) {
            Ok(length) if parts > 1 && length <= MERGED => allocation(length),
            _ => 0,
        }
    }

    /// The body in chunks of the right size, which its readers use from now on too.
    pub(super) fn chunks(&self, merge: Merge) -> Chunks {
        let mut state = self.state();
        state.close();
        if merge == Merge::Yes {
            let mut whole = Vec::with_capacity(state.length as usize);
            for (_, chunk) in &state.chunks {
                whole.extend_from_slice(chunk);
            }
            state.chunks = VecDeque::from([(0, Bytes::from(whole))]);
        }
        let chunks: SmallVec<_> = state
            .chunks
            .iter()
            .map(|(_, chunk)| chunk.clone())
            .collect();
        Chunks::new(chunks)
    }

    /// A place for a reader that starts at the beginning. `None` when the beginning is gone.
    pub(super) fn join(&self) -> Option<Ticket> {
        let mut state = self.state();
        if state.start() > 0 {
            return None;
        }
        let free = state.readers.iter().position(|seat| *seat == Seat::Free);
        let place = free.unwrap_or(state.readers.len());
        if free.is_none() {
            state.readers.push(Seat::Free);
        }
        state.readers[place] = Seat::Taken(0);
        state.alone = None;
        Some(Ticket(place))
    }

    pub(super) fn leave(&self, Ticket(place): Ticket) {
        let mut state = self.state();
        state.readers[place] = Seat::Free;
        if state.excused == Some(place) {
            state.excused = None;
        }
        if state.readers.iter().all(|seat| *seat == Seat::Free) {
            state.alone = Some(Instant::now());
        }
        state.trim();
        drop(state);
        self.shrunk.notify_waiters();
    }

    /// Moves a reader. False when what is there is gone.
    pub(super) fn seek(&self, Ticket(place): Ticket, position: u64) -> bool {
        let mut state = self.state();
        let kept = position >= state.start() && state.readers[place] != Seat::Lost;
        if kept {
            state.readers[place] = Seat::Taken(position);
        }
        kept
    }

    /// What follows where the reader is, as soon as there is something, and at most up to `end`. `None` at
    /// the end of the body. Loses nothing when it is dropped while it waits.
    pub(super) async fn read(&self, ticket: Ticket, end: u64) -> Result<Option<Bytes>, Broken> {
        loop {
            let grown = self.grown.notified();
            let mut grown = std::pin::pin!(grown);
            // Before looking: what is written between looking and waiting must wake.
            grown.as_mut().enable();
            let outcome = self.state().read(ticket, end);
            if let Some(outcome) = outcome {
                self.shrunk.notify_waiters();
                return outcome;
            }
            grown.await;
        }
    }
}

impl State {
    /// Where the first byte stands that is still there.
    fn start(&self) -> u64 {
        let open = self.length - self.open.len() as u64;
        self.chunks.front().map_or(open, |(start, _)| *start)
    }

    fn push(&mut self, chunk: Bytes) {
        let start = match self.chunks.back() {
            Some((start, last)) => start + last.len() as u64,
            None => 0,
        };
        self.chunks.push_back((start, chunk));
    }

    /// Makes the open block a chunk that has no room to spare. Tells the bytes given back.
    fn close(&mut self) -> usize {
        let open = mem::take(&mut self.open);
        let paid = if open.capacity() == 0 {
            0
        } else {
            allocation(open.capacity())
        };
        if open.is_empty() {
            return paid;
        }
        let length = open.len();
        let chunk = if length == open.capacity() {
            open.freeze()
        } else {
            Bytes::copy_from_slice(&open)
        };
        self.push(chunk);
        paid - allocation(length)
    }

    /// Drops what every reader has read, and the readers that hold up too much.
    fn trim(&mut self) {
        let Keep::Unread(window) = self.keep else {
            return;
        };
        let oldest = self.length.saturating_sub(window);
        for seat in &mut self.readers {
            if seat.at().is_some_and(|at| at < oldest) {
                *seat = Seat::Lost;
            }
        }
        self.close();
        let slowest = self.readers.iter().filter_map(|seat| seat.at()).min();
        let slowest = slowest.unwrap_or(self.length);
        while let Some((start, chunk)) = self.chunks.front() {
            // The last one stays, since it tells where the next one starts.
            if self.chunks.len() == 1 || start + chunk.len() as u64 > slowest {
                break;
            }
            self.chunks.pop_front();
        }
    }

    /// The place and position of the slowest of those for whom the writer waits, if it is too far behind.
    fn slowest(&self, behind: u64) -> Option<(usize, u64)> {
        if self.keep == Keep::All {
            return None;
        }
        let places = self.readers.iter().enumerate();
        let waited_for = places.filter(|(place, _)| Some(*place) != self.excused);
        let positions = waited_for.filter_map(|(place, seat)| Some((place, seat.at()?)));
        let slowest = positions.min_by_key(|(_, at)| *at);
        slowest.filter(|(_, at)| self.length - at > behind)
    }

    /// Gives up a reader if it is still there and others are waiting.
    fn lose(&mut self, slowest: Option<(usize, u64)>) {
        let others = self.readers.iter().filter(|seat| seat.at().is_some());
        let crowd = others.count() > 1;
        if let Some((place, at)) = slowest
            && crowd
            && self.readers[place] == Seat::Taken(at)
        {
            self.readers[place] = Seat::Lost;
            self.trim();
        }
    }

    fn read(&mut self, Ticket(place): Ticket, end: u64) -> Option<Result<Option<Bytes>, Broken>> {
        let Some(at) = self.readers[place].at() else {
            return Some(Err(Broken::Lagged));
        };
        if at >= end {
            return Some(Ok(None));
        }
        if at >= self.length {
            return match self.end {
                End::Open => None,
                End::Finished => Some(Ok(None)),
                End::Broken => Some(Err(Broken::Aborted)),
            };
        }
        let Some(mut found) = self.after(at) else {
            return Some(Err(Broken::Lagged));
        };
        found.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
        self.readers[place] = Seat::Taken(at + found.len() as u64);
        self.trim();
        Some(Ok(Some(found)))
    }

    /// The rest of the block that has this byte, which has been written.
    fn after(&self, at: u64) -> Option<Bytes> {
        let open = self.length - self.open.len() as u64;
        if at >= open {
            return Some(Bytes::copy_from_slice(&self.open[(at - open) as usize..]));
        }
        let next = self.chunks.partition_point(|(start, _)| *start <= at);
        let (start, chunk) = self.chunks.get(next.checked_sub(1)?)?;
        Some(chunk.slice((at - start) as usize..))
    }
}

/// How long others wait for a reader who reads nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// A piece from this size on is a chunk of its own.
const LARGE: usize = 16 << 10;
/// The capacity of a block that gathers smaller ones, at most; and at first, when nobody knows the length.
const BLOCK: usize = 64 << 10;
const SMALLEST: usize = 4 << 10;
/// A finished body up to this size is one chunk: one write for each hit. Copying it takes some 20
/// microseconds, once.
const MERGED: usize = 256 << 10;
