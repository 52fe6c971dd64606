//! What is kept on a disk: accounts, certificates, and who is busy with them.
//!
//! Everything here waits for the disk.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// The folder of an account. Nobody but the gateway can look into what it makes there.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// Keeps all others out, in this process and in others, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a file holds; none if there is no such file.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file. Whatever happens, it holds all of the old content or all of the new; once this has returned,
    /// a loss of power does not bring the old one back. To be called by who has the lock only.
    pub(super) fn keep(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let draft = self.path(&format!(".{name}.new"));
        // What a process may have left that was killed.
        drop(fs::remove_file(&draft));
        let written = private()
            .create_new(true)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(content)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&draft, self.path(name)))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if written.is_err() {
            drop(fs::remove_file(&draft));
        }
        written
    }

    /// Moves a file out of the way.
    pub(super) fn discard(&self, name: &str) -> io::Result<()> {
        fs::rename(self.path(name), self.path(&format!("{name}.old")))
    }

    /// Locks what this name stands for; none if somebody else has.
    ///
    /// # Errors
    ///
    /// The folder can't be written to, so that nothing could be kept either.
    pub(super) fn lock(&self, name: &str) -> io::Result<Option<Lock>> {
        make_folder(&self.folder)?;
        // The file stays: who has removed one could not know whether somebody waits for it.
        let file = private()
            .create(true)
            .truncate(false)
            .open(self.path(&format!("{name}.lock")))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn private() -> fs::OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("acme/authority"));
        (folder, store)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_can_look_into_what_is_kept() {
        let (folder, store) = store();
        assert!(
            store.keep("key", b"secret").is_err(),
            "there is no folder yet"
        );
        let _lock = store.lock("key").unwrap().unwrap();
        store.keep("key", b"secret").unwrap();
        assert_eq!(store.read("key").unwrap().unwrap(), b"secret");
        assert_eq!(mode(&store.path("key")), 0o600);
        assert_eq!(mode(&store.path("key.lock")), 0o600);
        assert_eq!(mode(&folder.path().join("acme")), 0o700);
        assert_eq!(mode(&folder.path().join("acme/authority")), 0o700);
    }

    #[test]
    fn what_is_kept_is_replaced_as_a_whole_also_after_a_process_has_died_of_it() {
        let (_folder, store) = store();
        let _lock = store.lock("key").unwrap().unwrap();
        store.keep("key", b"one").unwrap();
        fs::write(store.path(".key.new"), "half of").unwrap();
        store.keep("key", b"two").unwrap();
        assert_eq!(store.read("key").unwrap().unwrap(), b"two");
        assert_eq!(store.read("other").unwrap(), None);
        store.discard("key").unwrap();
        assert_eq!(store.read("key").unwrap(), None);
    }

    #[test]
    fn only_one_has_the_lock() {
        let (_folder, store) = store();
        let first = store.lock("key").unwrap();
        assert!(first.is_some());
        assert!(store.clone().lock("key").unwrap().is_none());
        assert!(store.lock("other").unwrap().is_some());
        drop(first);
        assert!(store.lock("key").unwrap().is_some());
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_told() {
        let (folder, _) = store();
        fs::write(folder.path().join("acme"), "a file").unwrap();
        let store = Store::new(folder.path().join("acme/authority"));
        assert!(store.lock("key").is_err());
    }
}
