//! The files that a configuration was made of, as they were when they were read: to see when one changes.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Files and patterns of files, at one moment. Equal to another if nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// None of a file that could not be had.
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// By their patterns.
    found: BTreeMap<String, Vec<PathBuf>>,
}

/// What differs once a file has been written, or another one has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl Sources {
    /// Notes a file, as it was when it was opened.
    pub(super) fn read(&mut self, path: &Path, file: Option<Stamp>) {
        self.files.insert(path.to_owned(), file);
    }

    /// Notes a file that is not part of the text, as it is now.
    pub(crate) fn also(&mut self, path: &Path) {
        self.files
            .entry(path.to_owned())
            .or_insert_with(|| stamp(path));
    }

    /// Notes what a pattern has matched.
    pub(super) fn matched(&mut self, pattern: String, mut found: Vec<PathBuf>) {
        found.sort();
        self.found.insert(pattern, found);
    }

    /// The same files and patterns as they are now. Reads folders: to be called off the threads that serve.
    pub(crate) fn now(&self) -> Self {
        let files = self.files.keys().map(|path| (path.clone(), stamp(path)));
        let found = self.found.keys().map(|pattern| {
            let paths = glob::glob(pattern).into_iter().flatten().flatten();
            let mut paths: Vec<_> = paths.collect();
            paths.sort();
            (pattern.clone(), paths)
        });
        Self {
            files: files.collect(),
            found: found.collect(),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some(Stamp::of(&file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{diagnostic::Problems, document::Document};

    fn sources(path: &Path) -> Sources {
        let document = Document::load(path, &mut Problems::default());
        document.sources().clone()
    }

    #[test]
    fn what_has_not_changed_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("main.yaml");
        fs::write(&main, "include: [sites/*.yaml]").unwrap();
        let first = sources(&main);
        assert_eq!(first.now(), first);
        assert_eq!(sources(&main), first);
    }

    #[test]
    fn a_file_that_is_written_replaced_removed_or_new_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("sites")).unwrap();
        let main = path("main.yaml");
        fs::write(&main, "include: [sites/*.yaml, more.yaml]").unwrap();
        let changes = [
            ("a new file of a pattern", "sites/a.yaml", "routes: []"),
            ("a file written again", "sites/a.yaml", "routes: [1]"),
            ("a file that was missing", "more.yaml", "routes: []"),
            ("the main file", "main.yaml", "include: [sites/*.yaml]"),
        ];
        for (what, name, text) in changes {
            let before = sources(&main);
            fs::write(path(name), text).unwrap();
            assert_ne!(before.now(), before, "{what}");
        }
        let before = sources(&main);
        fs::write(path("other"), "routes: [1]").unwrap();
        assert_eq!(before.now(), before, "a file that is not part of it");
        fs::rename(path("other"), path("sites/a.yaml")).unwrap();
        assert_ne!(before.now(), before, "another file of the same size");
        let before = sources(&main);
        fs::remove_file(path("sites/a.yaml")).unwrap();
        assert_ne!(before.now(), before, "a file that is gone");
    }
}
