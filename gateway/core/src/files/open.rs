//! Opens files below a folder, and nothing else.
//!
//! The kernel itself sees to it that no name leads out (`openat2`): whatever a path looks like, and whatever
//! changes while it is walked.

use std::{
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, FsWord, Mode, OFlags, ResolveFlags, Stat, Statx, StatxFlags, fstat,
        fstatfs, makedev, openat2, statx,
    },
    io::{Errno, ReadWriteFlags, preadv2},
};
use smallvec::SmallVec;

use super::{
    Name,
    entity::{Moment, Stamp},
};
use crate::config::files::Symlinks;

/// Whether something may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Only what the kernel knows at once.
    Never,
    /// For the disk.
    Disk,
}

/// Why something was not opened or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such thing, or none that may be seen.
    Missing,
    /// It is not for this process.
    Forbidden,
    /// There are no descriptors, or there is no memory left.
    Exhausted,
    /// The disk has to be waited for.
    WouldWait,
    /// The file system has said something else.
    Broken(Errno),
}

impl Failure {
    pub(super) fn of(error: Errno, wait: Wait) -> Self {
        match error {
            Errno::AGAIN | Errno::INVAL | Errno::OPNOTSUPP if wait == Wait::Never => {
                Self::WouldWait
            }
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::NAMETOOLONG
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NXIO
            | Errno::INVAL
            | Errno::ILSEQ
            | Errno::NODEV => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::Exhausted,
            other => Self::Broken(other),
        }
    }
}

/// What tells one state of a file from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    device: u64,
    pub(super) stamp: Stamp,
}

impl From<&Stat> for State {
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            stamp: Stamp::from(stat),
        }
    }
}

impl From<&Statx> for State {
    fn from(stat: &Statx) -> Self {
        let moment = |seconds, nanoseconds| Moment {
            seconds,
            nanoseconds,
        };
        Self {
            device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            stamp: Stamp {
                length: stat.stx_size,
                inode: stat.stx_ino,
                modified: moment(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
                changed: moment(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            },
        }
    }
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// Something that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) state: State,
}

impl Seen {
    fn of(descriptor: &OwnedFd) -> Result<Self, Failure> {
        let stat = fstat(descriptor).map_err(|error| Failure::of(error, Wait::Disk))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            _ => return Err(Failure::Missing),
        };
        let state = State::from(&stat);
        Ok(Self { kind, state })
    }
}

/// Something that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) descriptor: OwnedFd,
    pub(super) kind: Kind,
    pub(super) state: State,
}

/// A folder with files.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    symlinks: Symlinks,
}

/// The folder as it is now. Its path may lead to another one a moment later.
#[derive(Debug)]
pub(super) struct Door(OwnedFd);

impl Root {
    pub(crate) fn new(path: PathBuf, symlinks: Symlinks) -> Self {
        Self { path, symlinks }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn door(&self, wait: Wait) -> Result<Door, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = self.path.as_os_str().as_bytes();
        openat2(CWD, path, flags, Mode::empty(), cached(wait))
            .map(Door)
            .map_err(|error| Failure::of(error, wait))
    }

    /// Finds a file or a folder, and leaves it closed. Whether it may be read is not known yet.
    pub(super) fn see(&self, door: &Door, name: &Name, wait: Wait) -> Result<Seen, Failure> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Seen::of(&self.walk(door, name, flags, wait)?)
    }

    /// Opens a file or a folder.
    ///
    /// Nothing else is opened, as others would notice: who waits for a reader of a pipe, or a device. What takes the
    /// place of a file between the two calls here is opened, and closed unread.
    pub(super) fn open(&self, door: &Door, name: &Name, wait: Wait) -> Result<Opened, Failure> {
        let more = match self.see(door, name, wait)?.kind {
            Kind::File => OFlags::empty(),
            Kind::Folder => OFlags::DIRECTORY,
        };
        self.open_as(door, name, more, wait)
    }

    /// Opens what was [looked](Self::look) at just now, and was a file then. As above, what has taken its place
    /// since is opened, and closed unread.
    pub(super) fn reopen(&self, door: &Door, name: &Name, wait: Wait) -> Result<Opened, Failure> {
        self.open_as(door, name, OFlags::empty(), wait)
    }

    fn open_as(
        &self,
        door: &Door,
        name: &Name,
        more: OFlags,
        wait: Wait,
    ) -> Result<Opened, Failure> {
        // Nobody is waited for at the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let descriptor = self.walk(door, name, flags | more, wait)?;
        let Seen { kind, state } = Seen::of(&descriptor)?;
        Ok(Opened {
            descriptor,
            kind,
            state,
        })
    }

    /// Goes where a name leads, and no further than links may be followed.
    fn walk(
        &self,
        door: &Door,
        name: &Name,
        flags: OFlags,
        wait: Wait,
    ) -> Result<OwnedFd, Failure> {
        let path = match name.as_bytes() {
            b"" => b".",
            path => path,
        };
        let resolve = self.resolve() | cached(wait);
        let mut tries = 0;
        let opened = loop {
            match openat2(&door.0, path, flags, Mode::empty(), resolve) {
                // Something was renamed just now, and the kernel is not sure where it would lead.
                Err(Errno::AGAIN) if wait == Wait::Disk && tries < TRIES => tries += 1,
                Err(Errno::INTR) => {}
                opened => break opened,
            }
        };
        opened.map_err(|error| Failure::of(error, wait))
    }

    fn resolve(&self) -> ResolveFlags {
        match self.symlinks {
            Symlinks::Inside => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Symlinks::None => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Symlinks::Any => ResolveFlags::NO_MAGICLINKS,
        }
    }

    /// The state of what is there now, for who has seen it shortly before and wants to know whether it is the same: it
    /// may lie outside by now, as every link is followed. So this holds only as long as [`Memory::is_remembered`]
    /// says; then it has to be found anew by [`Root::see`], which stays inside.
    ///
    /// By the whole path, so that a folder that another one has taken the place of is seen with the same call. If
    /// nothing may be waited for, a file system of another machine answers from what it knew when the file was found.
    ///
    /// [`Memory::is_remembered`]: super::Memory::is_remembered
    ///
    /// # Errors
    ///
    /// [`Failure::Missing`] if there is nothing now, wherever links lead.
    pub(super) fn look(&self, name: &Name, wait: Wait) -> Result<State, Failure> {
        let mut path = SmallVec::<[u8; 256]>::new();
        path.extend_from_slice(self.path.as_os_str().as_bytes());
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        let flags = match wait {
            Wait::Never => AtFlags::STATX_DONT_SYNC,
            Wait::Disk => AtFlags::empty(),
        };
        let stat = statx(CWD, &*path, flags, StatxFlags::BASIC_STATS);
        let stat = stat.map_err(|error| Failure::of(error, wait))?;
        Ok(State::from(&stat))
    }
}

/// How often to try again where somebody renames.
const TRIES: u8 = 8;

fn cached(wait: Wait) -> ResolveFlags {
    match wait {
        Wait::Never => ResolveFlags::CACHED,
        Wait::Disk => ResolveFlags::empty(),
    }
}

/// The state of an open file.
pub(super) fn state_of(file: impl AsFd) -> Result<State, Failure> {
    let stat = fstat(file).map_err(|error| Failure::of(error, Wait::Disk))?;
    Ok(State::from(&stat))
}

/// Reads from an open file, as much as there is room for. Less than that is the end.
pub(super) fn read(
    file: impl AsFd,
    offset: u64,
    room: &mut [u8],
    wait: Wait,
) -> Result<usize, Failure> {
    let mut flags = match wait {
        Wait::Never => ReadWriteFlags::NOWAIT,
        Wait::Disk => ReadWriteFlags::empty(),
    };
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(filled as u64);
        match preadv2(&file, &mut [IoSliceMut::new(rest)], at, flags) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            // Not everybody can tell beforehand whether there is anything to wait for.
            Err(Errno::OPNOTSUPP) if !flags.is_empty() && is_in_memory(&file) => {
                flags = ReadWriteFlags::empty();
            }
            Err(error) => return Err(Failure::of(error, wait)),
        }
    }
    Ok(filled)
}

/// Whether a file is on no disk.
fn is_in_memory(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|system| system.f_type == TMPFS)
}

/// What `tmpfs` calls itself.
const TMPFS: FsWord = 0x0102_1994;

/// Whether the kernel can open files below a folder and nothing else (Linux 5.6), and lets us.
///
/// # Errors
///
/// What it says instead.
pub(crate) fn is_supported() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, c".", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
        .map(drop)
        .or_else(|error| match error {
            Errno::NOSYS | Errno::PERM => Err(error.into()),
            _ => Ok(()),
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files::Rules;

    #[test]
    fn what_the_system_says_becomes_what_the_client_is_told() {
        for (errors, failure) in [
            (
                &[Errno::NOENT, Errno::NOTDIR, Errno::NAMETOOLONG, Errno::LOOP][..],
                Failure::Missing,
            ),
            (&[Errno::XDEV, Errno::NXIO, Errno::ILSEQ], Failure::Missing),
            (&[Errno::ACCESS, Errno::PERM], Failure::Forbidden),
            (
                &[Errno::MFILE, Errno::NFILE, Errno::NOMEM],
                Failure::Exhausted,
            ),
            (&[Errno::IO], Failure::Broken(Errno::IO)),
        ] {
            for error in errors {
                for wait in [Wait::Never, Wait::Disk] {
                    assert_eq!(Failure::of(*error, wait), failure, "{error}");
                }
            }
        }
        assert_eq!(Failure::of(Errno::AGAIN, Wait::Never), Failure::WouldWait);
        assert_ne!(Failure::of(Errno::AGAIN, Wait::Disk), Failure::WouldWait);
    }

    #[test]
    fn a_door_leads_to_the_folder_that_was_there_when_it_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("root"), folder.path().join("aside"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "old").unwrap();
        let root = Root::new(path.clone(), Symlinks::Inside);
        let name = Name::parse("/a", Rules::default()).unwrap();
        let door = root.door(Wait::Disk).unwrap();
        let before = root.look(&name, Wait::Never);
        let seen = root.see(&door, &name, Wait::Disk).unwrap();
        assert_eq!(Ok(seen.state), before, "however it is looked at");
        fs::rename(&path, aside).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "new!").unwrap();
        let opened = root.open(&door, &name, Wait::Disk).unwrap();
        assert_eq!((opened.kind, opened.state.stamp.length), (Kind::File, 3));
        let mut content = [0; 8];
        let read = read(&opened.descriptor, 0, &mut content, Wait::Disk).unwrap();
        assert_eq!(&content[..read], b"old");
        assert_ne!(
            root.look(&name, Wait::Never),
            before,
            "by its path it is another one now"
        );
    }
}
