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

    /// Makes a piece of the file ready to be sent by the kernel, which should not have to wait for the disk. What had
    /// to be read for that is given back: then it is as well to send that.
    ///
    /// Only the two ends are looked at: to look at all of it would be to read it. What the kernel has dropped between
    /// them it reads again as it sends, and a thread that others wait for then waits for the disk.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        piece: Range<u64>,
    ) -> Result<Option<Bytes>, Failure> {
        match self.is_known(&piece) {
            Err(Failure::WouldWait) => {}
            known => return known.map(|()| None),
        }
        let large = Arc::clone(self);
        let read = disk::run(move || large.read_by(&piece, Wait::Disk)).await?;
        read.map(Some)
    }

    /// Reads both ends of a piece, if that can be done at once.
    fn is_known(&self, piece: &Range<u64>) -> Result<(), Failure> {
        // A file is mostly dropped from its beginning, and read on behind what is asked for.
        let first = piece.start..piece.end.min(piece.start.saturating_add(1));
        let last = piece.end.saturating_sub(1)..piece.end;
        self.read_by(&first, Wait::Never)?;
        self.read_by(&last, Wait::Never).map(drop)
    }
}

impl AsFd for Large {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use http::HeaderValue;
    use rustix::fs::{Advice, fadvise};

    use super::*;
    use crate::files::{entity::Entity, open::state_of};

    #[tokio::test]
    async fn a_piece_whose_beginning_is_on_the_disk_is_read_before_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = fs::File::create_new(folder.path().join("file")).unwrap();
        file.write_all(&[b'x'; LARGEST]).unwrap();
        file.sync_all().unwrap();
        let file = fs::File::open(folder.path().join("file")).unwrap();
        let entity = Entity {
            stamp: state_of(&file).unwrap().stamp,
            etag: None,
            content_type: HeaderValue::from_static("text/plain"),
            coding: None,
            varies: false,
        };
        let large = Arc::new(Large {
            descriptor: file.into(),
            entity,
        });
        let whole = 0..LARGEST as u64;
        assert_eq!(large.ready(whole.clone()).await, Ok(None), "it is known");
        fadvise(&*large, 0, None, Advice::DontNeed).unwrap();
        // Nothing is read beside what is asked for.
        fadvise(&*large, 0, None, Advice::Random).unwrap();
        let last = whole.end - 1..whole.end;
        assert_eq!(large.read_by(&last, Wait::Disk).unwrap().len(), 1);
        // Some file systems have no disk below.
        if large.read_by(&(0..1), Wait::Never) == Err(Failure::WouldWait) {
            let read = large.ready(whole).await.unwrap();
            assert_eq!(read.map(|data| data.len()), Some(LARGEST));
        }
    }

    #[test]
    fn a_blank_is_known_by_where_it_is_and_by_nothing_else() {
        let blank = blank(1_000);
        assert_eq!(blank.len(), 1_000);
        assert!(is_blank(&blank) && is_blank(&blank[999..]));
        assert!(!is_blank(&vec![0; 1_000]));
        assert_eq!(super::blank(LARGEST + 1).len(), LARGEST);
    }
}
