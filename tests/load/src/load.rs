//! The load: keep-alive connections with at most one request under way each, every answer compared.
//!
//! One thread and two or three system calls a request, so that on two cores it leaves the proxy a core
//! to saturate.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::arrivals::{Arrivals, Instants};
use crate::connection::Connection;
use crate::fault::{Fault, Result, Trouble};
use crate::http::Sign;
use crate::scenario::Stop;

/// What is sent, in turn, over all connections, and what must come back each time.
pub(crate) struct Plan {
    pub(crate) arrivals: Arrivals,
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) answers: Answers,
    /// Position among the answers of the one whose share is of interest.
    pub(crate) watched: Option<usize>,
}

/// The bodies of right answers, which have the status 200.
pub(crate) enum Answers {
    /// Whatever was asked, one of these.
    AnyOf(Vec<Vec<u8>>),
    /// To each request its own, in the order of the requests.
    Each(Vec<Vec<u8>>),
    /// This one, or one with the status 429 and any body: that is the second kind, and has to come.
    OrTooMany(Vec<u8>),
}

/// Who is asked.
pub(crate) struct Peer {
    /// Whom to name when an answer is wrong.
    pub(crate) who: String,
    pub(crate) address: SocketAddr,
    /// What the head of every answer must say.
    pub(crate) sign: Option<Sign>,
}

/// Open connections to one contestant.
pub(crate) struct Load<'a> {
    plan: &'a Plan,
    peer: Peer,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    next: usize,
    /// Of [`Arrivals::Planned`].
    instants: Option<Instants>,
}

/// What happened during one `drive`.
pub(crate) struct Window {
    pub(crate) elapsed: Duration,
    /// Nanoseconds until a whole answer was there: from writing the request, or from the instant at
    /// which it was planned to leave.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds from the planned instant until the request left.
    pub(crate) late: Option<Histogram<u64>>,
    /// How often each kind of answer came.
    pub(crate) answers: Vec<u64>,
}

impl<'a> Load<'a> {
    /// Connects. Planned instants depend on `seed`.
    pub(crate) fn open(peer: Peer, plan: &'a Plan, connections: u16, seed: u32) -> Result<Self> {
        let mut load = Self {
            plan,
            peer,
            poll: Poll::new().trouble(|| "cannot make a poll".to_owned())?,
            events: Events::with_capacity(usize::from(connections)),
            connections: Vec::new(),
            next: 0,
            instants: match plan.arrivals {
                Arrivals::WhenAnswered => None,
                Arrivals::Planned { per_second } => Some(Instants::new(per_second, seed)),
            },
        };
        for index in 0..usize::from(connections) {
            load.connect(index)
                .trouble(|| format!("cannot connect to {}", load.peer.who))?;
        }
        Ok(load)
    }

    /// Runs for `time`.
    pub(crate) fn drive(&mut self, time: Duration, stop: &Stop) -> Result<Window> {
        match self.instants.take() {
            None => self.drive_by_answers(time, stop),
            Some(mut instants) => {
                instants.restart();
                let window = self.drive_by_plan(time, &mut instants, stop);
                self.instants = Some(instants);
                window
            }
        }
    }

    /// Sends each request once, and returns when all are answered.
    pub(crate) fn ask_each(&mut self, stop: &Stop) -> Result<()> {
        let mut window = Window::new(self.plan);
        let all = self.plan.requests.len();
        let mut sent = all.min(self.connections.len());
        for index in 0..sent {
            self.send(index, Instant::now())?;
        }
        while window.latency.len() < all as u64 {
            stop.check()?;
            self.wait(Some(TURN))?;
            let ready: Vec<_> = self.events.iter().map(|event| event.token().0).collect();
            for index in ready {
                if self.receive(index, &mut window)? && sent < all {
                    self.send(index, Instant::now())?;
                    sent += 1;
                }
            }
            self.refuse_silence()?;
        }
        Ok(())
    }

    /// Requests under way at the end are answered in the next call, so that there is load while the
    /// caller reads clocks in between.
    fn drive_by_answers(&mut self, time: Duration, stop: &Stop) -> Result<Window> {
        let mut window = Window::new(self.plan);
        let start = Instant::now();
        for index in 0..self.connections.len() {
            if self.connections[index].since.is_none() {
                self.send(index, Instant::now())?;
            }
        }
        while start.elapsed() < time {
            stop.check()?;
            self.wait(Some(TURN))?;
            let ready: Vec<_> = self.events.iter().map(|event| event.token().0).collect();
            for index in ready {
                if self.receive(index, &mut window)? {
                    self.send(index, Instant::now())?;
                }
            }
        }
        window.elapsed = start.elapsed();
        self.refuse_silence()?;
        Ok(window)
    }

    /// Every request planned within `time` leaves, and is answered, before this returns. One for which
    /// no connection is idle waits, and its time runs.
    fn drive_by_plan(
        &mut self,
        time: Duration,
        instants: &mut Instants,
        stop: &Stop,
    ) -> Result<Window> {
        let mut window = Window::new(self.plan);
        let mut planned = instants.take_while(|at| *at < time).peekable();
        let mut idle: Vec<usize> = (0..self.connections.len()).collect();
        let start = Instant::now();
        while planned.peek().is_some() || idle.len() < self.connections.len() {
            stop.check()?;
            while let Some(index) = idle.pop() {
                let now = start.elapsed();
                let Some(at) = planned.next_if(|at| *at <= now) else {
                    idle.push(index);
                    break;
                };
                window.left_late(now.saturating_sub(at));
                self.send(index, start + at)?;
            }
            let next = planned.peek().filter(|_| !idle.is_empty());
            let pause = next.map_or(TURN, |at| at.saturating_sub(start.elapsed()).min(TURN));
            self.sleep(pause)?;
            self.wait(Some(Duration::ZERO))?;
            let ready: Vec<_> = self.events.iter().map(|event| event.token().0).collect();
            if ready.is_empty() && pause == TURN {
                self.refuse_silence()?;
            }
            for index in ready {
                if self.receive(index, &mut window)? {
                    idle.push(index);
                }
            }
        }
        window.elapsed = start.elapsed();
        Ok(window)
    }

    fn connect(&mut self, index: usize) -> io::Result<()> {
        let stream = std::net::TcpStream::connect(self.peer.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut connection = Connection::new(TcpStream::from_std(stream), self.peer.sign);
        self.poll
            .registry()
            .register(&mut connection.stream, Token(index), Interest::READABLE)?;
        self.connections.push(connection);
        Ok(())
    }

    fn send(&mut self, index: usize, since: Instant) -> Result<()> {
        let asked = self.next;
        self.next = (asked + 1) % self.plan.requests.len();
        let sent = self.connections[index].send(asked, &self.plan.requests[asked], since);
        sent.map_err(|what| self.wrong(&what))
    }

    /// Whether that completes an answer.
    fn receive(&mut self, index: usize, window: &mut Window) -> Result<bool> {
        let connection = &mut self.connections[index];
        let received = connection.receive(&self.plan.answers);
        let answered = received.map_err(|what| self.wrong(&what))?;
        let Some(kind) = answered else {
            return Ok(false);
        };
        let since = self.connections[index].since.take();
        let since = since.expect("an answer is refused when nobody has asked");
        window.answered(kind, since.elapsed());
        Ok(true)
    }

    /// Until something has come, for `limit` at most, which is rounded up to milliseconds.
    fn wait(&mut self, limit: Option<Duration>) -> Result<()> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled.trouble(|| "cannot poll".to_owned()),
        }
    }

    /// As `wait`, but to the microsecond, and without looking at what has come.
    fn sleep(&self, limit: Duration) -> Result<()> {
        let limit = Timespec::try_from(limit).expect("a pause is short");
        let mut all = [PollFd::new(self.poll.registry(), PollFlags::IN)];
        match rustix::event::poll(&mut all, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).trouble(|| "cannot poll".to_owned()),
        }
    }

    fn refuse_silence(&self) -> Result<()> {
        let since = self.connections.iter().filter_map(|each| each.since);
        match since.max_by_key(Instant::elapsed) {
            Some(since) if since.elapsed() > PATIENCE => {
                Err(self.wrong(&format!("none within {PATIENCE:?}")))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, what: &str) -> Fault {
        Fault::Answer(format!("{}: {what}", self.peer.who))
    }
}

impl Answers {
    /// How many can be told apart.
    fn kinds(&self) -> usize {
        match self {
            Self::AnyOf(bodies) => bodies.len(),
            Self::Each(_) => 1,
            Self::OrTooMany(_) => 2,
        }
    }

    /// Whether an answer may have this status.
    pub(crate) fn allow(&self, status: u16) -> bool {
        status == 200 || status == 429 && matches!(self, Self::OrTooMany(_))
    }

    /// Which it is; `None` if that is not a right answer to the request at this position. It has a status
    /// that is allowed.
    pub(crate) fn find(&self, asked: usize, status: u16, body: &[u8]) -> Option<usize> {
        match self {
            Self::AnyOf(bodies) => bodies.iter().position(|right| right == body),
            Self::Each(bodies) => bodies.get(asked).filter(|right| *right == body).map(|_| 0),
            Self::OrTooMany(_) if status == 429 => Some(1),
            Self::OrTooMany(right) => (right == body).then_some(0),
        }
    }

    /// Whether what should have come did not, though so many answers of each kind did.
    pub(crate) fn lack(&self, counts: &[u64]) -> bool {
        matches!(self, Self::OrTooMany(_)) && counts.contains(&0)
    }
}

impl Window {
    fn new(plan: &Plan) -> Self {
        let late = match plan.arrivals {
            Arrivals::WhenAnswered => None,
            Arrivals::Planned { .. } => Some(histogram()),
        };
        Self {
            elapsed: Duration::ZERO,
            latency: histogram(),
            late,
            answers: vec![0; plan.answers.kinds()],
        }
    }

    fn answered(&mut self, kind: usize, after: Duration) {
        self.answers[kind] += 1;
        self.latency.saturating_record(nanoseconds(after));
    }

    fn left_late(&mut self, by: Duration) {
        if let Some(late) = &mut self.late {
            late.saturating_record(nanoseconds(by));
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
        .expect("three digits between a microsecond and a minute are possible")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An answer that takes longer has not come.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nobody looks whether the run is to end.
const TURN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::http;

    const PLANNED: Arrivals = Arrivals::Planned { per_second: 1_000 };
    const EXPECTED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Drives one connection against something that answers each request with `answer`.
    fn drive(answer: &'static str, arrivals: Arrivals, pause: Duration) -> Result<Window> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            while stream.read(&mut request).is_ok_and(|count| count > 0) {
                std::thread::sleep(pause);
                stream.write_all(answer.as_bytes()).unwrap();
                if answer.is_empty() {
                    return;
                }
            }
        });
        let plan = Plan {
            arrivals,
            requests: vec![http::get("/", &[])],
            answers: Answers::AnyOf(vec![b"no".to_vec(), b"ok".to_vec()]),
            watched: None,
        };
        let mut load = Load::open(a_proxy(address, None), &plan, 1, 1)?;
        load.drive(Duration::from_millis(50), &Stop::default())
    }

    fn a_proxy(address: SocketAddr, sign: Option<Sign>) -> Peer {
        let who = "a proxy".to_owned();
        Peer { who, address, sign }
    }

    fn numbered(answers: Answers) -> Plan {
        Plan {
            arrivals: Arrivals::WhenAnswered,
            requests: ["/0", "/1", "/2"].map(|path| http::get(path, &[])).into(),
            answers,
            watched: None,
        }
    }

    #[test]
    fn asking_for_each_asks_once_for_each_and_expects_its_own() {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let endpoint = Endpoint::start(move |path| {
            counted.fetch_add(1, Ordering::SeqCst);
            http::answer(path.as_bytes())
        });
        let endpoint = endpoint.unwrap();
        let ask = |bodies: [&str; 3], connections| {
            let plan = numbered(Answers::Each(bodies.map(|body| body.into()).into()));
            let mut load = Load::open(a_proxy(endpoint.address, None), &plan, connections, 1)?;
            load.ask_each(&Stop::default())
        };
        for (connections, sum) in [(1, 3), (2, 6), (8, 9)] {
            ask(["/0", "/1", "/2"], connections).unwrap();
            assert_eq!(asked.load(Ordering::SeqCst), sum);
        }
        // Each is a right answer, but not to that request.
        let fault = ask(["/0", "/2", "/1"], 1).unwrap_err().to_string();
        assert!(fault.contains("another body: `/1`"), "{fault}");
    }

    #[test]
    fn an_answer_without_the_sign_ends_the_run() {
        let endpoint = Endpoint::start(|_| http::answer(b"ok")).unwrap();
        let plan = numbered(Answers::AnyOf(vec![b"ok".to_vec()]));
        let peer = |sign| a_proxy(endpoint.address, Some(sign));
        for (sign, is_right) in [
            (Sign("Content-Type", "application/"), true),
            (Sign("X-Cache", "HIT"), false),
        ] {
            let mut load = Load::open(peer(sign), &plan, 1, 1).unwrap();
            assert_eq!(load.ask_each(&Stop::default()).is_ok(), is_right);
        }
    }

    #[test]
    fn a_refusal_is_an_answer_only_where_it_is_wanted() {
        let wanted = Answers::OrTooMany(b"ok".to_vec());
        assert!(wanted.allow(200) && wanted.allow(429) && !wanted.allow(503));
        assert!(!Answers::AnyOf(vec![b"ok".to_vec()]).allow(429));
        assert_eq!(wanted.find(0, 200, b"ok"), Some(0));
        assert_eq!(wanted.find(0, 200, b"no"), None);
        assert_eq!(wanted.find(0, 429, b"no"), Some(1));
        assert!(wanted.lack(&[7, 0]) && wanted.lack(&[0, 7]) && !wanted.lack(&[7, 7]));
        assert!(!Answers::AnyOf(Vec::new()).lack(&[7, 0]));
    }

    #[test]
    fn every_right_answer_is_counted() {
        let window = drive(EXPECTED, Arrivals::WhenAnswered, Duration::ZERO).unwrap();
        assert!(window.latency.len() > 10);
        assert_eq!(window.answers, [0, window.latency.len()]);
    }

    #[test]
    fn a_plan_is_kept_to_and_time_counts_from_it() {
        let expected = Instants::new(1_000, 1)
            .take_while(|at| *at < Duration::from_millis(50))
            .count() as u64;
        let pause = Duration::from_millis(5);
        let window = drive(EXPECTED, PLANNED, pause).unwrap();
        assert_eq!(window.answers, [0, expected]);
        // One connection answers a fifth of them in time. The last has waited for all of the others.
        let least =
            (pause * u32::try_from(expected).unwrap()).saturating_sub(Duration::from_millis(60));
        let max = Duration::from_nanos(window.latency.max());
        assert!(max > least, "{max:?} is less than {least:?}");
        assert_eq!(window.late.map(|late| late.len()), Some(expected));
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
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                "40 bytes after it",
            ),
            ("nonsense\r\n\r\n", "not HTTP"),
            ("", "closed"),
        ] {
            for arrivals in [Arrivals::WhenAnswered, PLANNED] {
                let fault = drive(answer, arrivals, Duration::ZERO).err().unwrap();
                assert!(
                    matches!(&fault, Fault::Answer(what) if what.contains(reason)),
                    "{fault}"
                );
            }
        }
    }
}
