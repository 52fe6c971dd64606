//! Whether a file is still the one that was read.

use std::{
    fs::{Metadata, metadata},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// What changes when a file is written, replaced by a rename, or reached by another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of content, name or owner: nobody can set it back.
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that a path leads to now; none if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        metadata(path).ok().as_ref().map(Self::new)
    }

    fn new(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether the file was changed so shortly ago that another change might bear the same time.
    pub(super) fn is_young(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let changed = Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        // What was changed in the future is not to be believed either.
        now.is_ok_and(|now| now < changed.saturating_add(COARSEST))
    }

    /// The same, long ago.
    #[cfg(test)]
    pub(super) fn aged(mut self) -> Self {
        self.changed.0 -= 3600;
        self
    }
}

/// The longest step of the clocks by which file systems tell time.
const COARSEST: Duration = Duration::from_secs(3);
