//! Files that are read again when they change, while requests are served: lists of users, of keys, of
//! addresses.
//!
//! A file that is missing or wrong when a configuration is loaded is an error of that configuration.
//! Later it is none: what was right stays in use, and one warning tells of it. A file is looked at twice a
//! second by its path, so it does not matter whether it is written over, replaced by another or reached
//! by a link that is turned. It is read once it has not changed from one look to the next: half a file
//! is not what anybody meant.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use edgeway_sdk::{Build, BuildError, types::FilePath};
use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};

/// What a file holds, parsed.
pub(crate) trait Content: Sized + Send + Sync + 'static {
    /// A file with more bytes than this is refused.
    const LARGEST: u64 = 64 << 20;

    /// Parses the file. Never called on a thread that serves requests.
    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong>;
}

/// What is wrong with a file. Must not repeat secrets that stand in it: it goes to the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    line: Option<usize>,
    what: String,
}

impl Wrong {
    /// Something about the file as a whole.
    pub(crate) fn file(what: impl fmt::Display) -> Self {
        Self {
            line: None,
            what: what.to_string(),
        }
    }

    /// Something about one line; the first is 1.
    pub(crate) fn line(number: usize, what: impl fmt::Display) -> Self {
        Self {
            line: Some(number),
            what: what.to_string(),
        }
    }

    fn of(&self, path: &Path) -> String {
        let (path, what) = (path.display(), &self.what);
        match self.line {
            Some(line) => format!("line {line} of `{path}`: {what}"),
            None => format!("`{path}`: {what}"),
        }
    }
}

/// The lines of a text file that mean something, trimmed, each with its number: neither empty ones nor
/// those that begin with `#`.
pub(crate) fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|_| Wrong::file("the text is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = text.lines().enumerate();
    Ok(numbered
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#')))
}

/// A file that is read again when it changes.
pub(crate) struct Watched<T> {
    path: PathBuf,
    current: ArcSwap<Edition<T>>,
    /// Held by the one task that looks at the file, however many filters use it.
    watch: Mutex<Watch>,
}

/// One content of a file.
pub(crate) struct Edition<T> {
    pub(crate) content: T,
    stamp: Stamp,
}

/// What is known of the looks so far.
#[derive(Default)]
struct Watch {
    /// How the file looked the last time, if it was there.
    seen: Option<Stamp>,
    /// How the file looked that was found wrong; it is not read again while it looks so.
    wrong: Option<Stamp>,
    /// What the operator was told last and is still so.
    complaint: Option<String>,
}

impl<T: Content> Watched<T> {
    /// The file that the configuration names by `key`, read now, then looked at while this configuration is in
    /// force. All filters that name the same file as the same kind of content share it.
    ///
    /// # Errors
    ///
    /// If the file can't be read or is wrong, as an error of `key`.
    pub(crate) fn open(
        key: &str,
        path: &FilePath,
        build: &mut Build<'_>,
    ) -> Result<Arc<Self>, BuildError> {
        let path = build.path(path);
        let name = path.to_string_lossy();
        let wrong = |error: String| BuildError::at(key, error);
        let mut is_new = false;
        let shared = build.resources().try_shared(&name, || {
            is_new = true;
            Self::read_first(&path)
        });
        let shared = shared.map_err(wrong)?;
        if !is_new {
            shared.refresh().map_err(wrong)?;
        }
        build.background(Arc::clone(&shared).keep());
        Ok(shared)
    }

    /// The content that was right last. Takes no lock.
    pub(crate) fn current(&self) -> Guard<Arc<Edition<T>>> {
        self.current.load()
    }

    fn read_first(path: &Path) -> Result<Self, String> {
        let (content, stamp) = read(path).map_err(|failure| failure.text(path))?;
        let first = Edition { content, stamp };
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(first),
            watch: Mutex::default(),
        })
    }

    /// Reads the file if it has changed, as it stands: a reload does not wait until it has settled.
    fn refresh(&self) -> Result<(), String> {
        let stamp = Stamp::of(&self.path);
        if stamp.is_ok_and(|stamp| stamp == self.current().stamp) {
            return Ok(());
        }
        let read = read(&self.path).map_err(|failure| failure.text(&self.path))?;
        self.publish(read);
        Ok(())
    }

    fn publish(&self, (content, stamp): (T, Stamp)) {
        self.current.store(Arc::new(Edition { content, stamp }));
    }

    /// Looks at the file again and again: the task that runs in the background.
    async fn keep(self: Arc<Self>) {
        let mut watch = self.watch.lock().await;
        loop {
            sleep(INTERVAL).await;
            self.look(&mut watch).await;
        }
    }

    /// Looks at the file, and reads it if it has changed before the last look and not since.
    async fn look(self: &Arc<Self>, watch: &mut Watch) {
        let path = self.path.clone();
        let Ok(seen) = spawn_blocking(move || Stamp::of(&path)).await else {
            return;
        };
        let stamp = match seen {
            Ok(stamp) => stamp,
            Err(error) => {
                watch.seen = None;
                return self.complain(watch, Failure::Unread(error).text(&self.path));
            }
        };
        let has_settled = watch.seen.replace(stamp) == Some(stamp);
        if stamp == self.current().stamp {
            return self.praise(watch);
        }
        if !has_settled || watch.wrong == Some(stamp) {
            return;
        }
        let this = Arc::clone(self);
        // Published only here: a task that was dropped meanwhile leaves nothing half done.
        let Ok(read) = spawn_blocking(move || read::<T>(&this.path)).await else {
            return self.complain(
                watch,
                format!("`{}`: it can't be parsed", self.path.display()),
            );
        };
        match read {
            Ok(read) => {
                self.publish(read);
                log::info!("`{}` was read again", self.path.display());
                watch.complaint = None;
            }
            Err(failure) => {
                // What could not be read is tried again, what is wrong stays so.
                watch.wrong = matches!(failure, Failure::Wrong(_)).then_some(stamp);
                self.complain(watch, failure.text(&self.path));
            }
        }
    }

    /// Tells the operator, unless that was the last thing told.
    fn complain(&self, watch: &mut Watch, complaint: String) {
        if watch.complaint.as_ref() != Some(&complaint) {
            log::warn!("{complaint}; what it held before stays in use");
            watch.complaint = Some(complaint);
        }
    }

    /// The file is again what is in use.
    fn praise(&self, watch: &mut Watch) {
        if watch.complaint.take().is_some() {
            log::info!("`{}` is right again", self.path.display());
        }
    }
}

/// Why a file gives no content.
enum Failure {
    Unread(io::Error),
    Wrong(Wrong),
}

impl Failure {
    fn text(&self, path: &Path) -> String {
        match self {
            Self::Unread(error) => format!("can't read `{}`: {error}", path.display()),
            Self::Wrong(wrong) => wrong.of(path),
        }
    }
}

/// Reads a file, and tells how it looked before.
fn read<T: Content>(path: &Path) -> Result<(T, Stamp), Failure> {
    let (bytes, stamp) = bytes(path, T::LARGEST).map_err(Failure::Unread)?;
    let content = T::parse(bytes).map_err(Failure::Wrong)?;
    Ok((content, stamp))
}

fn bytes(path: &Path, largest: u64) -> io::Result<(Vec<u8>, Stamp)> {
    // Before it is opened: opening a pipe would wait for its writer.
    Stamp::of(path)?;
    let file = File::open(path)?;
    let data = file.metadata()?;
    let mut bytes = Vec::with_capacity(usize::try_from(data.len().min(largest)).unwrap_or(0));
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!(
            "it is larger than {largest} bytes"
        )));
    }
    Ok((bytes, Stamp::from(&data)))
}

/// What changes when a file does. The time of its last change of any kind is set by the system alone,
/// so that a copy with an old date is seen too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let data = fs::metadata(path)?;
        if !data.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        Ok(Self::from(&data))
    }
}

impl From<&Metadata> for Stamp {
    fn from(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// From one look at a file to the next.
const INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use edgeway_sdk::Resources;
    use tempfile::TempDir;

    use super::*;

    /// One number a line, each once.
    #[derive(Debug, PartialEq, Eq)]
    struct Numbers(Vec<u32>);

    impl Content for Numbers {
        const LARGEST: u64 = 64;

        fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
            let numbers = lines(&bytes)?.map(|(number, line)| {
                line.parse()
                    .map_err(|_| Wrong::line(number, "expected a number"))
            });
            Ok(Self(numbers.collect::<Result<_, _>>()?))
        }
    }

    struct Stage {
        folder: TempDir,
        resources: Resources,
    }

    impl Stage {
        fn new(text: &str) -> Self {
            let stage = Self {
                folder: tempfile::tempdir().unwrap(),
                resources: Resources::default(),
            };
            stage.write(text);
            stage
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("numbers")
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).unwrap();
        }

        fn open(&self) -> Result<Arc<Watched<Numbers>>, BuildError> {
            let mut build = Build::new(&self.resources, self.folder.path());
            let opened = Watched::open("numbers", &FilePath("numbers".into()), &mut build)?;
            assert_eq!(build.background.len(), 1);
            Ok(opened)
        }
    }

    fn held(watched: &Watched<Numbers>) -> Vec<u32> {
        watched.current().content.0.clone()
    }

    async fn look_twice(watched: &Arc<Watched<Numbers>>, watch: &mut Watch) {
        watched.look(watch).await;
        watched.look(watch).await;
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again_when_it_has_settled() {
        let stage = Stage::new("1\n");
        let watched = stage.open().unwrap();
        let mut watch = Watch::default();
        assert_eq!(held(&watched), [1]);
        stage.write("1\n2\n");
        watched.look(&mut watch).await;
        assert_eq!(held(&watched), [1], "it may still be written");
        watched.look(&mut watch).await;
        assert_eq!(held(&watched), [1, 2]);
        let read = watched.current.load_full();
        look_twice(&watched, &mut watch).await;
        assert!(
            Arc::ptr_eq(&read, &watched.current()),
            "nothing has changed"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_another_is_read_again() {
        let stage = Stage::new("1\n");
        let watched = stage.open().unwrap();
        let mut watch = Watch::default();
        look_twice(&watched, &mut watch).await;
        let next = stage.folder.path().join("next");
        fs::write(&next, "2\n").unwrap();
        fs::rename(&next, stage.path()).unwrap();
        look_twice(&watched, &mut watch).await;
        assert_eq!(held(&watched), [2]);
        // As a mounted ConfigMap does it.
        let folder = stage.folder.path();
        fs::write(folder.join("third"), "3\n").unwrap();
        fs::remove_file(stage.path()).unwrap();
        std::os::unix::fs::symlink("third", stage.path()).unwrap();
        look_twice(&watched, &mut watch).await;
        assert_eq!(held(&watched), [3]);
    }

    #[tokio::test]
    async fn what_was_right_stays_while_the_file_is_wrong_or_gone() {
        let stage = Stage::new("1\n");
        let watched = stage.open().unwrap();
        let mut watch = Watch::default();
        for text in ["1\nx\n", "\u{fffd}", &"1\n".repeat(40)] {
            stage.write(text);
            look_twice(&watched, &mut watch).await;
            assert_eq!(held(&watched), [1], "{text}");
            assert!(watch.complaint.is_some(), "{text}");
        }
        fs::remove_file(stage.path()).unwrap();
        watched.look(&mut watch).await;
        assert_eq!(held(&watched), [1]);
        let complaint = watch.complaint.clone().unwrap();
        assert!(complaint.contains("No such file"), "{complaint}");
        fs::create_dir(stage.path()).unwrap();
        watched.look(&mut watch).await;
        assert_eq!(held(&watched), [1]);
        fs::remove_dir(stage.path()).unwrap();
        stage.write("5\n");
        look_twice(&watched, &mut watch).await;
        assert_eq!(held(&watched), [5]);
        assert_eq!(watch.complaint, None);
    }

    #[tokio::test]
    async fn a_file_that_becomes_again_what_it_was_is_no_reason_to_complain() {
        let stage = Stage::new("1\n");
        let watched = stage.open().unwrap();
        let mut watch = Watch::default();
        let aside = stage.folder.path().join("aside");
        fs::hard_link(stage.path(), &aside).unwrap();
        stage.write("1\n");
        look_twice(&watched, &mut watch).await;
        fs::remove_file(stage.path()).unwrap();
        watched.look(&mut watch).await;
        assert!(watch.complaint.is_some());
        fs::hard_link(&aside, stage.path()).unwrap();
        look_twice(&watched, &mut watch).await;
        assert_eq!(watch.complaint, None);
    }

    #[test]
    fn a_file_that_is_wrong_at_first_is_an_error_that_names_file_and_line() {
        let stage = Stage::new("# numbers\n\n1\n x\n");
        let error = stage.open().err().unwrap();
        assert_eq!(error.key.as_deref(), Some("numbers"));
        let path = stage.path();
        let expected = format!("line 4 of `{}`: expected a number", path.display());
        assert_eq!(error.message, expected);
        fs::remove_file(&path).unwrap();
        let error = stage.open().err().unwrap();
        let expected = format!("can't read `{}`: No such file", path.display());
        assert!(error.message.starts_with(&expected), "{error}");
        fs::create_dir(&path).unwrap();
        assert!(stage.open().is_err());
    }

    #[test]
    fn a_reload_sees_the_file_as_it_stands_and_refuses_one_that_is_wrong() {
        let stage = Stage::new("1\n");
        let first = stage.open().unwrap();
        stage.write("2\n");
        let second = stage.open().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(held(&first), [2]);
        stage.write("x\n");
        assert!(stage.open().is_err());
        assert_eq!(held(&first), [2]);
    }

    #[test]
    fn a_mark_of_the_byte_order_is_not_part_of_the_first_line() {
        let text = "\u{feff}a\r\n#b\n  c  ".as_bytes();
        let found: Vec<_> = lines(text).unwrap().collect();
        assert_eq!(found, [(1, "a"), (3, "c")]);
        assert!(lines(b"\xff").is_err());
    }
}
