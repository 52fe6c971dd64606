//! The load: keep-alive connections, each with one request under way, every answer compared.
//!
//! One thread and two system calls a request, so that on two cores it leaves the proxy a core to
//! saturate.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::fault::{Fault, Result, Trouble};
use crate::http::{self, ANSWER_LIMIT};
use crate::scenario::Stop;

/// What is sent, in turn, over all connections, and what must come back each time, with status 200.
pub(crate) struct Plan {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// Open connections to one contestant.
pub(crate) struct Load<'a> {
    plan: &'a Plan,
    /// Whom to name when an answer is wrong.
    who: String,
    poll: Poll,
    connections: Vec<Connection>,
    next: usize,
}

/// What happened during one `drive`.
pub(crate) struct Window {
    pub(crate) elapsed: Duration,
    /// Nanoseconds from writing a request to having its whole answer.
    pub(crate) latency: Histogram<u64>,
}

impl<'a> Load<'a> {
    /// Connects, and sends the first request on every connection.
    pub(crate) fn open(
        who: String,
        address: SocketAddr,
        plan: &'a Plan,
        connections: u16,
    ) -> Result<Self> {
        let poll = Poll::new().trouble(|| "cannot make a poll".to_owned())?;
        let mut load = Self {
            plan,
            who,
            poll,
            connections: Vec::new(),
            next: 0,
        };
        for index in 0..usize::from(connections) {
            load.connect(index, address)
                .trouble(|| format!("cannot connect to {}", load.who))?;
        }
        Ok(load)
    }

    /// Runs for `time`. Requests under way at its end are answered in the next call, so that
    /// there is load while the caller reads clocks in between.
    pub(crate) fn drive(&mut self, time: Duration, stop: &Stop) -> Result<Window> {
        let mut latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
            .expect("three digits between a microsecond and a minute are possible");
        let mut events = Events::with_capacity(self.connections.len());
        let start = Instant::now();
        while start.elapsed() < time {
            stop.check()?;
            self.turn(&mut events, &mut latency)?;
        }
        let elapsed = start.elapsed();
        self.refuse_silence()?;
        Ok(Window { elapsed, latency })
    }

    fn connect(&mut self, index: usize, address: SocketAddr) -> io::Result<()> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut connection = Connection::new(TcpStream::from_std(stream));
        self.poll
            .registry()
            .register(&mut connection.stream, Token(index), Interest::READABLE)?;
        connection.send(next_request(self.plan, &mut self.next))?;
        self.connections.push(connection);
        Ok(())
    }

    fn turn(&mut self, events: &mut Events, latency: &mut Histogram<u64>) -> Result<()> {
        match self.poll.poll(events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.trouble(|| "cannot poll".to_owned())?,
        }
        for event in &*events {
            let connection = &mut self.connections[event.token().0];
            let exchanged = connection.receive(&self.plan.body).and_then(|answered| {
                if answered {
                    latency.saturating_record(nanoseconds(connection.sent.elapsed()));
                    connection
                        .send(next_request(self.plan, &mut self.next))
                        .map_err(|error| format!("a request could not be sent: {error}"))?;
                }
                Ok(())
            });
            exchanged.map_err(|what| Fault::Answer(format!("{}: {what}", self.who)))?;
        }
        Ok(())
    }

    fn refuse_silence(&self) -> Result<()> {
        match self
            .connections
            .iter()
            .any(|connection| connection.sent.elapsed() > PATIENCE)
        {
            true => Err(Fault::Answer(format!(
                "{}: none within {PATIENCE:?}",
                self.who
            ))),
            false => Ok(()),
        }
    }
}

struct Connection {
    stream: TcpStream,
    received: Box<[u8; ANSWER_LIMIT]>,
    filled: usize,
    sent: Instant,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Box::new([0; ANSWER_LIMIT]),
            filled: 0,
            sent: Instant::now(),
        }
    }

    /// The socket's buffer is empty when this is called, so that a small request always fits.
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.filled = 0;
        self.sent = Instant::now();
        self.stream.write_all(request)
    }

    /// Reads what there is. True when that completes the expected answer; anything but the
    /// expected answer is an error. It stops at the end of the answer without asking whether
    /// there is more: a readiness event follows if there is, and nothing should.
    fn receive(&mut self, expected: &[u8]) -> std::result::Result<bool, String> {
        loop {
            match self.stream.read(&mut self.received[self.filled..]) {
                Ok(0) => return Err("a keep-alive connection closed".to_owned()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("a connection broken: {error}")),
            }
            if self.is_complete(expected)? {
                return Ok(true);
            }
        }
    }

    fn is_complete(&self, expected: &[u8]) -> std::result::Result<bool, String> {
        let bytes = &self.received[..self.filled];
        let Some(answer) = http::parse(bytes)? else {
            return Ok(false);
        };
        if answer.status != 200 {
            return Err(format!("status {} instead of 200", answer.status));
        }
        if answer.body != expected {
            return Err(format!("another body: `{}`", answer.body.escape_ascii()));
        }
        if answer.length != bytes.len() {
            return Err(format!("{} bytes after it", bytes.len() - answer.length));
        }
        Ok(true)
    }
}

fn next_request<'a>(plan: &'a Plan, next: &mut usize) -> &'a [u8] {
    let request = &plan.requests[*next];
    *next = (*next + 1) % plan.requests.len();
    request
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An answer that takes longer has not come.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const EXPECTED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Drives one connection against something that answers each request with `answer`.
    fn drive(answer: &'static str) -> Result<Window> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            while stream.read(&mut request).is_ok_and(|count| count > 0) {
                stream.write_all(answer.as_bytes()).unwrap();
                if answer.is_empty() {
                    return;
                }
            }
        });
        let plan = Plan {
            requests: vec![http::get("/", &[])],
            body: b"ok".to_vec(),
        };
        let mut load = Load::open("a proxy".to_owned(), address, &plan, 1)?;
        load.drive(Duration::from_millis(50), &Stop::default())
    }

    #[test]
    fn every_right_answer_is_counted() {
        assert!(drive(EXPECTED).unwrap().latency.len() > 10);
    }

    #[test]
    fn a_wrong_answer_ends_the_run() {
        for (answer, reason) in [
            (
                "HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nok",
                "status 502 instead of 200",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nko",
                "another body: `ko`",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!",
                "1 bytes after it",
            ),
            ("nonsense\r\n\r\n", "not HTTP"),
            ("", "closed"),
        ] {
            let fault = drive(answer).err().unwrap();
            assert!(
                matches!(&fault, Fault::Answer(what) if what.contains(reason)),
                "{fault}"
            );
        }
    }
}
