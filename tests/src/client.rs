//! An HTTP/1.1 client that believes nothing: what is not framed as RFC 9112 demands is an error.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// A request that is put together and then sent.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'c> {
    way: Way<'c>,
    method: String,
    target: String,
    host: Option<String>,
    headers: Vec<(String, String)>,
    body: Body,
}

/// How a request travels.
#[derive(Debug)]
enum Way<'c> {
    Alone(SocketAddr),
    Over(&'c mut Connection),
}

#[derive(Debug)]
enum Body {
    None,
    Whole(Vec<u8>),
    Chunks(Vec<Vec<u8>>),
}

impl Request<'static> {
    /// A request over a connection of its own.
    pub fn to(address: SocketAddr, method: &str, target: &str) -> Self {
        Self::new(Way::Alone(address), address, method, target)
    }
}

impl<'c> Request<'c> {
    fn new(way: Way<'c>, host: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            way,
            method: method.to_owned(),
            target: target.to_owned(),
            host: Some(host.to_string()),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// Adds a line; a name that is given twice is sent twice.
    pub fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Asks for this host instead of the address.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Leaves `Host` out.
    pub fn no_host(mut self) -> Self {
        self.host = None;
        self
    }

    /// `Authorization: Bearer …`
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    /// A body with `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// A body in chunks.
    pub fn chunks<B: Into<Vec<u8>>>(mut self, chunks: impl IntoIterator<Item = B>) -> Self {
        self.body = Body::Chunks(chunks.into_iter().map(Into::into).collect());
        self
    }

    /// Sends it and waits for the answer.
    ///
    /// # Panics
    ///
    /// When there is none, or a broken one.
    #[track_caller]
    pub fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.target);
        self.attempt()
            .unwrap_or_else(|broken| panic!("{what}: {broken}"))
    }

    /// Sends it and waits for the answer, or what has come of it.
    ///
    /// # Errors
    ///
    /// When the connection or the answer breaks.
    pub fn attempt(self) -> Result<Answer, Broken> {
        let bytes = self.bytes();
        let mut own;
        let connection = match self.way {
            Way::Alone(address) => {
                own = Connection::try_open(address)?;
                &mut own
            }
            Way::Over(connection) => connection,
        };
        // A server may answer and close before it has read everything: the answer counts.
        let sent = connection.write(&bytes);
        connection
            .try_answer_to(&self.method)
            .map_err(|broken| match sent {
                Err(error) if broken.partial.is_none() => error.into(),
                _ => broken,
            })
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let host = self.host.iter().map(|host| ("Host", host.as_str()));
        let lines = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in host.chain(lines) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = text.into_bytes();
        match &self.body {
            Body::None => bytes.extend(b"\r\n"),
            Body::Whole(body) => {
                bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                bytes.extend(body);
            }
            Body::Chunks(chunks) => {
                bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                chunks.iter().for_each(|piece| bytes.extend(chunk(piece)));
                bytes.extend(chunk(b""));
            }
        }
        bytes
    }
}

/// A chunk of a chunked body; the last one if it is empty.
fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
    bytes.extend(piece);
    bytes.extend(b"\r\n");
    bytes
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of the final response.
    pub status: u16,
    /// Statuses such as 100 that came before it.
    pub interim: Vec<u16>,
    /// Lines in their order, with names as they were spelt.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// How the end of the body is told.
    pub framing: Framing,
    /// Whether another request may be sent on this connection.
    pub reusable: bool,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There can't be a body: the answer to `HEAD`, a 204 or a 304.
    Bodiless,
    /// By `Content-Length`.
    Length(u64),
    /// By an empty chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Answer {
    /// The value of a header that is there at most once.
    ///
    /// # Panics
    ///
    /// When it is there more than once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.header_all(name);
        assert!(values.len() <= 1, "`{name}` more than once: {values:?}");
        values.first().copied()
    }

    /// All values of a header, in their order.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let wanted = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        let lines = self.headers.iter().filter(wanted);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a text was expected")
    }

    /// Of an answer of the echo service: the values of a header that the service has received.
    #[track_caller]
    pub fn received(&self, name: &str) -> Vec<String> {
        let report = self.json();
        let headers = report["headers"]
            .as_array()
            .expect("an answer of the echo service");
        let pairs = headers
            .iter()
            .filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
        let wanted = pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.to_owned()).collect()
    }
}

/// An answer that did not come, or not whole.
#[derive(Debug)]
pub struct Broken {
    /// What had come: the head, and the body as far as it goes.
    pub partial: Option<Box<Answer>>,
    /// Why no more came.
    pub reason: io::Error,
}

impl From<io::Error> for Broken {
    fn from(reason: io::Error) -> Self {
        Self {
            partial: None,
            reason,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.partial {
            None => write!(f, "no answer: {}", self.reason),
            Some(answer) => write!(
                f,
                "a {} that broke after {} bytes of the body: {}",
                answer.status,
                answer.body.len(),
                self.reason
            ),
        }
    }
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    peer: SocketAddr,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address)
            .unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            peer: address,
        })
    }

    /// Our own end, as the gateway sees it.
    pub fn local(&self) -> SocketAddr {
        let local = self.stream.get_ref().local_addr();
        local.expect("an open connection has two ends")
    }

    /// A request over this connection.
    pub fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        let peer = self.peer;
        Request::new(Way::Over(self), peer, method, target)
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

    fn try_answer_to(&mut self, method: &str) -> Result<Answer, Broken> {
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

fn status_line(line: &str) -> Option<(&str, u16)> {
    let mut parts = line.splitn(3, ' ');
    let version = parts
        .next()
        .filter(|version| ["HTTP/1.1", "HTTP/1.0"].contains(version))?;
    let status = parts.next().filter(|status| status.len() == 3)?;
    Some((version, status.parse().ok()?))
}

/// RFC 9112, 6.3, without the mercy that it permits.
fn framing(method: &str, status: u16, headers: &[(String, String)]) -> io::Result<Framing> {
    let lengths = tokens(headers, "content-length");
    let codings = tokens(headers, "transfer-encoding");
    if lengths.len() > 1 || (!lengths.is_empty() && !codings.is_empty()) {
        return Err(wrong(format!("framing: {lengths:?} beside {codings:?}")));
    }
    if method == "HEAD" || status == 204 || status == 304 || status == 101 {
        return Ok(Framing::Bodiless);
    }
    match (lengths.first(), codings.as_slice()) {
        (Some(length), _) => {
            let length = length
                .parse()
                .map_err(|_| wrong(format!("length `{length}`")))?;
            Ok(Framing::Length(length))
        }
        (None, []) => Ok(Framing::Close),
        (None, [coding]) if coding == "chunked" => Ok(Framing::Chunked),
        (None, codings) => Err(wrong(format!("transfer codings {codings:?}"))),
    }
}

/// The elements of a header that is a list, in lower case.
fn tokens(headers: &[(String, String)], name: &str) -> Vec<String> {
    let lines = headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    lines
        .flat_map(|(_, value)| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .collect()
}

fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

fn wrong(what: impl fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {what}"))
}
