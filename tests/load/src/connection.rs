//! A keep-alive connection with one request under way, whose every answer is compared.

use std::io::{self, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use crate::http::{self, ANSWER_LIMIT, Sign};
use crate::load::Answers;

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    received: Box<[u8]>,
    filled: usize,
    /// Position of the request under way among those of the plan.
    asked: usize,
    /// What every head must say.
    sign: Option<Sign>,
    /// Of the request under way; where its answer's time begins.
    pub(crate) since: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, sign: Option<Sign>) -> Self {
        Self {
            stream,
            received: vec![0; ANSWER_LIMIT].into(),
            filled: 0,
            asked: 0,
            sign,
            since: None,
        }
    }

    /// The socket's buffer is empty when this is called, so that a small request always fits.
    /// `asked` is the position of the request among those of the plan.
    pub(crate) fn send(
        &mut self,
        asked: usize,
        request: &[u8],
        since: Instant,
    ) -> Result<(), String> {
        self.filled = 0;
        self.asked = asked;
        self.since = Some(since);
        let sent = self.stream.write_all(request);
        sent.map_err(|error| format!("a request could not be sent: {error}"))
    }

    /// Reads what there is, and tells which of the `expected` answers has come. `None` means that more
    /// bytes are needed; anything but an expected answer is an error. It stops at the end of the answer
    /// without asking whether there is more: a readiness event follows if there is, and nothing should.
    pub(crate) fn receive(&mut self, expected: &Answers) -> Result<Option<usize>, String> {
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

    fn recognise(&self, expected: &Answers) -> Result<Option<usize>, String> {
        let bytes = &self.received[..self.filled];
        let Some(answer) = http::parse_signed(bytes, self.sign)? else {
            return Ok(None);
        };
        if !expected.allow(answer.status) {
            return Err(format!("status {} instead of 200", answer.status));
        }
        let kind = expected.find(self.asked, answer.status, answer.body);
        let kind = kind.ok_or_else(|| {
            let beginning = answer.body.get(..SHOWN).unwrap_or(answer.body);
            format!("another body: `{}`", beginning.escape_ascii())
        })?;
        if answer.length != bytes.len() {
            return Err(format!("{} bytes after it", bytes.len() - answer.length));
        }
        Ok(Some(kind))
    }
}

/// Bytes of a wrong body.
const SHOWN: usize = 1_000;
