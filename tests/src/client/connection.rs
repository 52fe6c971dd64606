//! A connection, and how messages are read from it.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::Socket;

use super::message::{framing, is_token, status_line, tokens, wrong};
use super::request::Way;
use super::{Answer, Broken, Framing, Request};

/// Where somebody listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// A port.
    Port(SocketAddr),
    /// A unix socket.
    Socket(PathBuf),
}

impl Address {
    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Port(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Self::Socket(path) => Ok(UnixStream::connect(path)?.into()),
        }
    }

    /// What `Host` says if the test says nothing else.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Port(address) => address.to_string(),
            Self::Socket(_) => "localhost".to_owned(),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Port(address)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Socket(path.to_owned())
    }
}

/// As a configuration takes it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Socket>,
    peer: Address,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    #[track_caller]
    pub fn open(address: impl Into<Address>) -> Self {
        let address = address.into();
        Self::try_open(address.clone())
            .unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn try_open(address: impl Into<Address>) -> io::Result<Self> {
        let peer = address.into();
        let stream = peer.connect()?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            peer,
        })
    }

    /// Our own end, as the gateway sees it.
    ///
    /// # Panics
    ///
    /// When this is a connection to a unix socket.
    pub fn local(&self) -> SocketAddr {
        let local = self.stream.get_ref().local_addr();
        let local = local.expect("an open connection has two ends");
        local.as_socket().expect("a port")
    }

    /// A request over this connection.
    pub fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        let host = self.peer.host();
        Request::new(Way::Over(self), host, method, target)
    }

    /// Asks for a path.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target).send()
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// When the connection is closed.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(bytes.as_ref()).expect("the connection is open");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// When the connection is closed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Waits for the answer to a request that is not `HEAD`.
    ///
    /// # Panics
    ///
    /// When there is none, or a broken one.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer()
            .unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// Waits for the answer to a request that is not `HEAD`.
    ///
    /// # Errors
    ///
    /// When there is none, or a broken one.
    pub fn try_answer(&mut self) -> Result<Answer, Broken> {
        self.try_answer_to("GET")
    }

    /// Waits for the head of the answer only; what follows can be had by [`chunk`](Self::chunk),
    /// [`read`](Self::read) or [`rest`](Self::rest).
    ///
    /// # Panics
    ///
    /// When none comes.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        self.read_head("GET")
            .unwrap_or_else(|error| panic!("no head: {error}"))
    }

    /// The next chunk of a chunked body; the last one is empty.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| wrong(format!("chunk size `{line}`")))?;
        if size == 0 {
            // Trailers are read and forgotten.
            while !self.line()?.is_empty() {}
            return Ok(Vec::new());
        }
        let piece = self.read(size)?;
        let end = self.line()?;
        if end.is_empty() {
            Ok(piece)
        } else {
            Err(wrong(format!("`{end}` after a chunk")))
        }
    }

    /// Exactly so many bytes.
    ///
    /// # Errors
    ///
    /// When there are less.
    pub fn read(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// All bytes until the other side closes.
    ///
    /// # Errors
    ///
    /// When it resets the connection or goes silent instead.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits until the other side closes without another byte.
    ///
    /// # Panics
    ///
    /// When it does something else.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.rest() {
            Ok(rest) if rest.is_empty() => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Ok(rest) => panic!("instead of a close: {}", String::from_utf8_lossy(&rest)),
            Err(error) => panic!("instead of a close: {error}"),
        }
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub fn finish(&mut self) {
        // Nothing to do when the other side was faster.
        self.stream.get_ref().shutdown(Shutdown::Write).ok();
    }

    /// Sets how long the other side may be silent; 20 seconds if not called.
    pub fn patience(&mut self, silence: Duration) {
        let set = self.stream.get_ref().set_read_timeout(Some(silence));
        set.expect("a time-out is not zero");
    }

    pub(super) fn try_answer_to(&mut self, method: &str) -> Result<Answer, Broken> {
        let mut answer = self.read_head(method)?;
        match self.read_body(answer.framing, &mut answer.body) {
            Ok(()) => Ok(answer),
            Err(reason) => Err(Broken {
                partial: Some(Box::new(answer)),
                reason,
            }),
        }
    }

    fn read_head(&mut self, method: &str) -> io::Result<Answer> {
        let mut interim = Vec::new();
        loop {
            let line = self.line()?;
            let (version, status) =
                status_line(&line).ok_or_else(|| wrong(format!("status line `{line}`")))?;
            let headers = self.read_headers()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let framing = framing(method, status, &headers)?;
            let closes = tokens(&headers, "connection")
                .iter()
                .any(|token| token == "close");
            let keeps = tokens(&headers, "connection")
                .iter()
                .any(|token| token == "keep-alive");
            let persistent = if version == "HTTP/1.1" {
                !closes
            } else {
                keeps
            };
            let reusable = persistent && framing != Framing::Close;
            return Ok(Answer {
                status,
                interim,
                headers,
                body: Vec::new(),
                framing,
                reusable,
            });
        }
    }

    fn read_headers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let parts = line.split_once(':').filter(|(name, _)| is_token(name));
            let (name, value) = parts.ok_or_else(|| wrong(format!("header line `{line}`")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn read_body(&mut self, framing: Framing, body: &mut Vec<u8>) -> io::Result<()> {
        match framing {
            Framing::Bodiless => Ok(()),
            Framing::Length(length) => {
                self.stream.by_ref().take(length).read_to_end(body)?;
                let whole = body.len() as u64 == length;
                if whole {
                    Ok(())
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                }
            }
            Framing::Chunked => loop {
                let piece = self.chunk()?;
                if piece.is_empty() {
                    return Ok(());
                }
                body.extend(piece);
            },
            Framing::Close => self.stream.read_to_end(body).map(drop),
        }
    }

    /// A line without its end, which must be CR LF.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\r\n").map(String::from_utf8_lossy);
        let text =
            text.ok_or_else(|| wrong(format!("line `{}`", String::from_utf8_lossy(&line))))?;
        Ok(text.into_owned())
    }
}

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(20);
