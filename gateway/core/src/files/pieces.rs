//! Files that are sent as they lie on the disk, piece by piece.

use std::{
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    disk,
    lookup::Large,
    open::{Failure, Wait, read},
};

/// What stands for a piece of a file that the kernel itself sends. Nobody ever reads it: who has to send it knows it
/// by where it is.
static BLANK: [u8; LARGEST] = [0; LARGEST];

/// The largest piece that is sent at once.
pub(crate) const LARGEST: usize = 128 * 1024;

/// As much of a blank as stands for so many bytes, [`LARGEST`] at most.
pub(crate) fn blank(length: usize) -> Bytes {
    Bytes::from_static(BLANK.get(..length).unwrap_or(&BLANK))
}

/// Whether these bytes are no bytes, but stand for some of a file.
pub(crate) fn is_blank(data: &[u8]) -> bool {
    BLANK.as_ptr_range().contains(&data.as_ptr())
}

impl Large {
    /// Reads a piece of the file. It is shorter if the file is.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub(crate) async fn read(self: &Arc<Self>, piece: Range<u64>) -> Result<Bytes, Failure> {
        match self.read_by(&piece, Wait::Never) {
            Err(Failure::WouldWait) => {}
            read => return read,
        }
        let large = Arc::clone(self);
        disk::run(move || large.read_by(&piece, Wait::Disk)).await?
    }

    fn read_by(&self, piece: &Range<u64>, wait: Wait) -> Result<Bytes, Failure> {
        let length = usize::try_from(piece.end.saturating_sub(piece.start));
        let mut room = vec![0; length.unwrap_or(LARGEST).min(LARGEST)];
        let filled = read(&self.descriptor, piece.start, &mut room, wait)?;
        room.truncate(filled);
        Ok(room.into())
    }

    /// Makes a piece of the file ready to be sent by the kernel, which must not have to wait for the disk. What had to
    /// be read for that is given back: then it is as well to send that.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        piece: Range<u64>,
    ) -> Result<Option<Bytes>, Failure> {
        let last = piece.end.saturating_sub(1)..piece.end;
        // What comes before the last byte was read with it.
        match self.read_by(&last, Wait::Never) {
            Err(Failure::WouldWait) => {}
            read => return read.map(|_| None),
        }
        let large = Arc::clone(self);
        let read = disk::run(move || large.read_by(&piece, Wait::Disk)).await?;
        read.map(Some)
    }
}

impl AsFd for Large {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_is_known_by_where_it_is_and_by_nothing_else() {
        let blank = blank(1_000);
        assert_eq!(blank.len(), 1_000);
        assert!(is_blank(&blank) && is_blank(&blank[999..]));
        assert!(!is_blank(&vec![0; 1_000]));
        assert_eq!(super::blank(LARGEST + 1).len(), LARGEST);
    }
}
