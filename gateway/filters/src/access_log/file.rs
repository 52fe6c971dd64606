//! A file that lines are appended to.
//!
//! Who only checks a configuration must not make the file: a check as another user would leave one
//! that the gateway can't write. So what can be seen without that is seen by [`check`], and the file
//! is made by [`open`], when the gateway runs.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Whether lines can be appended to a file, as far as that is seen without making it: one that is
/// there can be opened, the folder of a new one is there.
pub(super) fn check(path: &Path) -> io::Result<()> {
    if exists(path)? {
        return appending().open(path).map(drop);
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    if !folder.metadata()?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(())
}

/// Opens a file, which is made if there is none.
pub(super) fn open(path: &Path) -> io::Result<File> {
    exists(path)?;
    appending().create(true).mode(0o640).open(path)
}

fn exists(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        // Opening a pipe would wait for its reader.
        Ok(data) if data.file_type().is_fifo() => Err(io::Error::other("it is a pipe")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        check(&path).unwrap();
        assert!(!path.exists());
        open(&path).unwrap();
        check(&path).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_place_for_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        for path in ["", "none/a.log", "file/a.log"] {
            assert!(check(&folder.path().join(path)).is_err(), "{path}");
        }
    }
}
