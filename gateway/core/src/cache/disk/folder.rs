//! The folder of a disk tier: who may write there, and where the files are.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Files are called by their numbers, in two levels of folders made of the last three digits: the number
/// 0x1a2b3 is at `3/2b/000000000001a2b3`. No number is given twice, so nobody who writes or removes a file
/// can hit another one.
pub(super) struct Folder {
    path: PathBuf,
}

/// Nobody else writes into the folder as long as this is there. The system lets go of it when the process
/// ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder if need be, and takes it. `None` while another process has it.
    pub(super) fn take(&self) -> io::Result<Option<Lock>> {
        make(&self.path)?;
        // Who can put files here can have anything served.
        if fs::metadata(&self.path)?.mode() & OTHERS_MAY_WRITE != 0 {
            let why = "everybody may write into it";
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the file with this number is, once it is complete.
    pub(super) fn file(&self, number: u64) -> PathBuf {
        let (first, second) = (number & 0xf, number >> 4 & 0xff);
        let place = format!("{first:x}/{second:02x}/{number:016x}");
        self.path.join(place)
    }

    /// Where it is until then.
    pub(super) fn draft(&self, number: u64) -> PathBuf {
        self.path.join(DRAFTS).join(format!("{number:016x}"))
    }

    /// Makes a new file to be written.
    pub(super) fn create(&self, number: u64) -> io::Result<File> {
        let path = self.draft(number);
        let create = || {
            OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path)
        };
        in_folder(&path, create)
    }

    /// Puts a complete file where it belongs.
    pub(super) fn publish(&self, number: u64) -> io::Result<()> {
        let path = self.file(number);
        in_folder(&path, || fs::rename(self.draft(number), &path))
    }

    /// Removes what was never completed. Only for who has the lock.
    pub(super) fn remove_drafts(&self) -> io::Result<usize> {
        let mut removed = 0;
        for (name, path) in entries(&self.path.join(DRAFTS))? {
            if number(&name).is_some() {
                fs::remove_file(path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The numbers of all files, in no order. What is not ours is left alone.
    pub(super) fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for first in 0..0x10 {
            let folder = self.path.join(format!("{first:x}"));
            for (_, second) in entries(&folder)? {
                for (name, path) in entries(&second)? {
                    let number = number(&name);
                    numbers.extend(number.filter(|number| self.file(*number) == path));
                }
            }
        }
        Ok(numbers)
    }
}

/// The number that a file is called by.
fn number(name: &str) -> Option<u64> {
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let ours = name.len() == 16 && name.bytes().all(plain);
    ours.then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

/// What is in a folder. Nothing, if it is none.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in read {
        let entry = entry?;
        // Ours are all readable.
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Does something in the folder of this path, which is made if it is not there.
fn in_folder<T>(path: &Path, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), make)?;
            act()
        }
        done => done,
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

const DRAFTS: &str = "drafts";
const OTHERS_MAY_WRITE: u32 = 0o002;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_made_for_its_owner_only_and_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("a/b"));
        let lock = folder.take().unwrap();
        assert!(lock.is_some());
        let mode = fs::metadata(folder.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(folder.take().unwrap().is_none());
        drop(lock);
        assert!(folder.take().unwrap().is_some());
    }

    #[test]
    fn a_folder_that_everybody_may_write_into_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let taken = Folder::new(root.path().into()).take();
        assert_eq!(taken.err().unwrap().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn only_complete_files_in_their_places_are_listed_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().into());
        for number in [0x1_a2b3, 0x5] {
            folder.create(number).unwrap();
            folder.publish(number).unwrap();
        }
        folder.create(7).unwrap();
        let strange = [
            "readme",
            "3/readme",
            "3/2b/readme",
            "3/2b/0000000000000005",
            "3/2b/000000000001A2B3",
            "drafts/readme",
        ];
        for name in strange {
            fs::write(root.path().join(name), "mine").unwrap();
        }
        let mut numbers = folder.list().unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, [0x5, 0x1_a2b3]);
        assert!(root.path().join("3/2b/000000000001a2b3").exists());
        assert_eq!(folder.remove_drafts().unwrap(), 1);
        assert!(!folder.draft(7).exists());
        for name in strange {
            assert_eq!(fs::read(root.path().join(name)).unwrap(), b"mine");
        }
    }
}
