//! A port or a unix socket, and its connections.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use edgeway_service::Failure;
use log::{debug, warn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Opens a unix socket and announces it on standard output as `listening on unix:/path`.
    pub(crate) fn unix(path: PathBuf) -> Result<Self, Failure> {
        // A process that was killed leaves its socket behind.
        if fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)
            .map_err(|reason| format!("cannot listen on `{}`: {reason}", path.display()))?;
        // As with a port: who has closed standard output knows the path.
        if let Err(error) = announce(&path) {
            warn!("socket not announced: {error}");
        }
        Ok(Self::Unix(listener, path))
    }

    /// The next connection, and who is at its other end: nobody can tell on a unix socket.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    debug!("nodelay refused: {error}");
                }
                Ok((Stream::Tcp(stream), client.to_string()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), "unix".to_owned()))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Nobody is harmed by one that stays: the next start replaces it.
            fs::remove_file(path).ok();
        }
    }
}

fn announce(path: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on unix:{}", path.display())?;
    out.flush()
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Waits until something can be read: bytes, or the end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }
}

/// Calls a method of the stream within.
macro_rules! within {
    ($stream:ident.$method:ident($($argument:ident),*)) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        within!(self.poll_read(task, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        within!(self.poll_write(task, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        within!(self.poll_write_vectored(task, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        // Both kinds do.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        within!(self.poll_flush(task))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        within!(self.poll_shutdown(task))
    }
}
