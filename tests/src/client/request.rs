//! What is sent.

use std::fmt;

use super::{Address, Answer, Broken, Connection};

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
pub(super) enum Way<'c> {
    Alone(Address),
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
    pub fn to(address: impl Into<Address>, method: &str, target: &str) -> Self {
        let address = address.into();
        let host = address.host();
        Self::new(Way::Alone(address), host, method, target)
    }
}

impl<'c> Request<'c> {
    pub(super) fn new(way: Way<'c>, host: String, method: &str, target: &str) -> Self {
        Self {
            way,
            method: method.to_owned(),
            target: target.to_owned(),
            host: Some(host),
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
