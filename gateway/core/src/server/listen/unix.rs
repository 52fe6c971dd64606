//! Sockets in the file system.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Custody, listen, owner};
use crate::config::{FileMode, SocketOptions};

/// The file of a socket that is ours. It is removed when this is dropped, unless it is somebody else's
/// by then.
#[derive(Debug)]
pub(in crate::server) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    custody: Custody,
    /// Whether this process has made it.
    made: bool,
}

/// What a file is, whatever its name: the number of its device and its own.
///
/// The number is not given to another file before the socket is closed.
pub(super) type Identity = (u64, u64);

impl SocketFile {
    fn made(path: &Path, custody: Custody) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
            custody,
            made: true,
        })
    }

    /// That of a socket that has come from another process; none if the file is another one by now.
    pub(super) fn handed(path: &Path, identity: Identity, custody: Custody) -> Option<Self> {
        let file = Self {
            path: path.to_owned(),
            identity,
            custody,
            made: false,
        };
        file.is_ours().is_ok_and(|ours| ours).then_some(file)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Says who may connect. Leaves a file alone that is somebody else's by now.
    pub(super) fn set_mode(&self, mode: FileMode) -> io::Result<()> {
        if !self.is_ours()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode.0))
    }

    fn is_ours(&self) -> io::Result<bool> {
        Ok(identity(&self.path)? == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.custody.removes(self.made) && self.is_ours().is_ok_and(|ours| ours) {
            // Left behind it is replaced at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Opens a socket in the file system. One that is there already is replaced if nobody answers.
///
/// # Errors
///
/// The reason, for an operator.
pub(super) fn open(
    path: &Path,
    options: &SocketOptions,
    custody: &Custody,
) -> Result<(UnixListener, SocketFile), String> {
    let told = |error: io::Error| explain(path, &error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(told)?;
    socket.set_nonblocking(true).map_err(told)?;
    let address = SockAddr::unix(path).map_err(told)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            clear(path)?;
            socket.bind(&address).map_err(told)?;
        }
        bound => bound.map_err(told)?,
    }
    let file = SocketFile::made(path, custody.clone()).map_err(told)?;
    // Nobody can connect before it listens, so the permissions that it has until then don't matter.
    file.set_mode(options.mode).map_err(told)?;
    listen(&socket, options.backlog).map_err(told)?;
    Ok((socket.into(), file))
}

/// Removes a socket that a process has left behind.
fn clear(path: &Path) -> Result<(), String> {
    let told = |error: io::Error| explain(path, &error);
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(told(error)),
    };
    if !found.file_type().is_socket() {
        return Err("there is a file already, which is no socket".to_owned());
    }
    answers(path)?;
    // Somebody else may have begun to listen there meanwhile.
    let same = identity(path).is_ok_and(|there| there == (found.dev(), found.ino()));
    if !same {
        return Err("another process has just begun to listen there".to_owned());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(error)),
        _ => Ok(()),
    }
}

/// An error if somebody listens at a socket, or might.
fn answers(path: &Path) -> Result<(), String> {
    let told = |error: io::Error| explain(path, &error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(told)?;
    // One that has as many waiting as may wait would hold us up.
    socket.set_nonblocking(true).map_err(told)?;
    let address = SockAddr::unix(path).map_err(told)?;
    let owner = match socket.connect(&address) {
        Ok(()) => owner::of_peer(&socket),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => return Ok(()),
            _ => None,
        },
    };
    let owner = owner.unwrap_or_else(|| "another process".to_owned());
    Err(format!("{owner} is listening there already"))
}

/// An address for people: its path; a name that has no file is written with an `@`, as everywhere.
pub(super) fn shown(address: &SocketAddr) -> String {
    if let Some(path) = address.as_pathname() {
        return format!("unix:{}", path.display());
    }
    let name = address.as_abstract_name().unwrap_or_default();
    format!("unix:@{}", String::from_utf8_lossy(name))
}

fn explain(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no folder `{folder}`"),
        io::ErrorKind::NotADirectory => format!("`{folder}` is no folder"),
        io::ErrorKind::PermissionDenied => format!(
            "this process may not write to `{folder}`\n  = help: give it a folder of its own \
             (in a systemd unit: `RuntimeDirectory=edgeway`)"
        ),
        io::ErrorKind::AddrInUse => "another process has just begun to listen there".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        (folder, path)
    }

    fn open_at(path: &Path) -> Result<(UnixListener, SocketFile), String> {
        open(path, &SocketOptions::default(), &Custody::alone())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn it_is_its_owners_alone_unless_the_mode_says_otherwise() {
        let (_folder, path) = folder();
        let first = open_at(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(first);
        for wanted in [0o660, 0o666, 0o222] {
            let options = SocketOptions {
                mode: FileMode(wanted),
                ..SocketOptions::default()
            };
            let socket = open(&path, &options, &Custody::alone()).unwrap();
            assert_eq!(mode(&path), wanted);
            drop(socket);
        }
    }

    #[test]
    fn the_file_goes_with_the_socket() {
        let (_folder, path) = folder();
        let socket = open_at(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_has_become_somebody_elses_stays() {
        let (_folder, path) = folder();
        let ours = open_at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(UnixStream::connect(&path).is_ok());
        drop(theirs);
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_replaced() {
        let (_folder, path) = folder();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = open_at(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
    }

    #[test]
    fn a_socket_that_somebody_listens_at_names_the_process() {
        let (_folder, path) = folder();
        let taken = UnixListener::bind(&path).unwrap();
        let message = open_at(&path).unwrap_err();
        let us = format!("process {} (", std::process::id());
        assert!(
            message.contains(&us) && message.contains("is listening there already"),
            "{message}"
        );
        assert!(UnixStream::connect(&path).is_ok());
        drop(taken);
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_not_replaced_and_nobody_waits() {
        let (_folder, path) = folder();
        let taken = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        taken.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        taken.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        let message = open_at(&path).unwrap_err();
        assert!(message.contains("is listening there already"), "{message}");
        assert!(path.exists());
    }

    #[test]
    fn a_socket_of_another_type_is_not_replaced() {
        let (_folder, path) = folder();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        let message = open_at(&path).unwrap_err();
        assert!(message.contains("is listening there already"), "{message}");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let (folder, path) = folder();
        fs::write(&path, "precious").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
        for path in [&path, &link] {
            let message = open_at(path).unwrap_err();
            assert!(message.contains("which is no socket"), "{message}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert!(fs::symlink_metadata(&link).is_ok());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let (folder, path) = folder();
        let inner = path.join("b.sock");
        let message = open_at(&inner).unwrap_err();
        assert!(
            message.contains(&format!("there is no folder `{}`", path.display())),
            "{message}"
        );
        fs::write(&path, "").unwrap();
        let message = open_at(&inner).unwrap_err();
        assert!(
            message.contains(&format!("`{}` is no folder", path.display())),
            "{message}"
        );
        drop(folder);
    }
}
