//! Whose the files of sockets are, when two processes have the same sockets.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Which files of sockets this process removes when it closes them. Clones are the same.
#[derive(Clone, Debug)]
pub(in crate::server) struct Custody(Arc<AtomicU8>);

/// All of them.
const ALL: u8 = 0;

/// Those that it has made: the others are still served by the process before it.
const MADE: u8 = 1;

/// None: another process serves them.
const NONE: u8 = 2;

impl Custody {
    /// That of a process that has its sockets from nobody.
    pub(in crate::server) fn alone() -> Self {
        Self(Arc::new(AtomicU8::new(ALL)))
    }

    /// That of a process that is to take the place of another.
    pub(in crate::server) fn to_come() -> Self {
        Self(Arc::new(AtomicU8::new(MADE)))
    }

    /// From now on all files are this process's.
    pub(in crate::server) fn take(&self) {
        self.0.store(ALL, Ordering::SeqCst);
    }

    /// From now on they are those of another process.
    pub(in crate::server) fn give(&self) {
        self.0.store(NONE, Ordering::SeqCst);
    }

    /// Whether this process removes a file; `made` if it has made it.
    pub(super) fn removes(&self, made: bool) -> bool {
        match self.0.load(Ordering::SeqCst) {
            ALL => true,
            MADE => made,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_over_removes_only_its_own_files_until_it_has_taken_over() {
        let custody = Custody::to_come();
        assert!(custody.removes(true) && !custody.removes(false));
        custody.take();
        assert!(custody.removes(true) && custody.removes(false));
        custody.give();
        assert!(!custody.removes(true) && !custody.removes(false));
    }
}
