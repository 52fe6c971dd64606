//! A keep-alive connection with one request under way, whose every answer is compared.

use std::io::{self, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use crate::http::{self, ANSWER_LIMIT};

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    received: Box<[u8; ANSWER_LIMIT]>,
    filled: usize,
    /// Of the request under way; where its answer's time begins.
    pub(crate) since: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Box::new([0; ANSWER_LIMIT]),
            filled: 0,
            since: None,
        }
    }

    /// The socket's buffer is empty when this is called, so that a small request always fits.
    pub(crate) fn send(&mut self, request: &[u8], since: Instant) -> Result<(), String> {
        self.filled = 0;
        self.since = Some(since);
        let sent = self.stream.write_all(request);
        sent.map_err(|error| format!("a request could not be sent: {error}"))
    }

    /// Reads what there is, and tells which of the `expected` bodies has come. `None` means that more
    /// bytes are needed; anything but an expected answer is an error. It stops at the end of the answer
    /// without asking whether there is more: a readiness event follows if there is, and nothing should.
    pub(crate) fn receive(&mut self, expected: &[Vec<u8>]) -> Result<Option<usize>, String> {
        loop {
            match self.stream.read(&mut self.received[self.filled..]) {
                Ok(0) => return Err("a keep-alive connection closed".to_owned()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("a connection broken: {error}")),
            }
            if self.since.is_none() {
                return Err("bytes that nobody has asked for".to_owned());
            }
            let complete = self.recognise(expected)?;
            if complete.is_some() {
                return Ok(complete);
            }
        }
    }

    fn recognise(&self, expected: &[Vec<u8>]) -> Result<Option<usize>, String> {
        let bytes = &self.received[..self.filled];
        let Some(answer) = http::parse(bytes)? else {
            return Ok(None);
        };
        if answer.status != 200 {
            return Err(format!("status {} instead of 200", answer.status));
        }
        let body = expected.iter().position(|body| body == answer.body);
        let body = body.ok_or_else(|| format!("another body: `{}`", answer.body.escape_ascii()))?;
        if answer.length != bytes.len() {
            return Err(format!("{} bytes after it", bytes.len() - answer.length));
        }
        Ok(Some(body))
    }
}
