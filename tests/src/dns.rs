//! A name server that says what a test wants.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Answers over UDP, and over TCP what is too long for UDP. Every name that it was not told of does
/// not exist. Dropping it closes its ports.
///
/// ```no_run
/// use edgeway_tests::Dns;
///
/// let dns = Dns::start();
/// dns.set_a("app.test", &["127.0.0.1"], 1);
/// let yaml = format!("resolver: {{ nameservers: [{dns}] }}");
/// ```
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    zone: Mutex<Zone>,
    failing: AtomicBool,
    silent: AtomicBool,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Zone {
    names: HashMap<String, BTreeMap<u16, Vec<Record>>>,
    questions: HashMap<String, usize>,
}

#[derive(Debug)]
struct Record {
    ttl: u32,
    data: Vec<u8>,
}

impl Dns {
    /// Starts one on a free port of the loopback interface, with no names.
    pub fn start() -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let of_udp = Arc::clone(&shared);
        thread::spawn(move || serve_udp(&udp, &of_udp));
        let of_tcp = Arc::clone(&shared);
        thread::spawn(move || serve_tcp(&tcp, &of_tcp));
        Self { address, shared }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the IPv4 addresses of a name. The time to live is in seconds.
    pub fn set_a(&self, name: &str, addresses: &[&str], ttl: u32) {
        let data = addresses.iter().map(|address| {
            let address: Ipv4Addr = address.parse().expect("an IPv4 address");
            address.octets().to_vec()
        });
        self.set(name, A, data, ttl);
    }

    /// Replaces the IPv6 addresses of a name.
    pub fn set_aaaa(&self, name: &str, addresses: &[&str], ttl: u32) {
        let data = addresses.iter().map(|address| {
            let address: Ipv6Addr = address.parse().expect("an IPv6 address");
            address.octets().to_vec()
        });
        self.set(name, AAAA, data, ttl);
    }

    /// Replaces the services of a name: priority, weight, port and host of each.
    pub fn set_srv(&self, name: &str, services: &[(u16, u16, u16, &str)], ttl: u32) {
        let data = services.iter().map(|(priority, weight, port, host)| {
            let numbers = [priority, weight, port].map(|number| number.to_be_bytes());
            [numbers.concat(), encoded(host)].concat()
        });
        self.set(name, SRV, data, ttl);
    }

    /// Forgets all records of a name: it does not exist any more.
    pub fn remove(&self, name: &str) {
        self.shared.zone().names.remove(&plain(name));
    }

    /// Whether every question is answered with SERVFAIL from now on.
    pub fn fail(&self, failing: bool) {
        self.shared.failing.store(failing, Ordering::SeqCst);
    }

    /// Whether no question is answered from now on.
    pub fn silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// How many questions have come for a name, for whatever type, answered or not.
    pub fn questions(&self, name: &str) -> usize {
        let zone = self.shared.zone();
        zone.questions.get(&plain(name)).copied().unwrap_or(0)
    }

    fn set(&self, name: &str, of: u16, data: impl Iterator<Item = Vec<u8>>, ttl: u32) {
        let records = data.map(|data| Record { ttl, data }).collect();
        let mut zone = self.shared.zone();
        let types = zone.names.entry(plain(name)).or_default();
        types.insert(of, records);
    }
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes up both threads; the one for TCP sees the connection close.
        drop(TcpStream::connect(self.address));
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            drop(socket.send_to(&[], self.address));
        }
    }
}

/// Sockets for UDP and TCP on one port.
fn sockets() -> (UdpSocket, TcpListener) {
    let pair = || {
        let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
        let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
        Some((udp, tcp))
    };
    // Somebody else may have the port for UDP.
    (0..100).find_map(|_| pair()).expect("a free port")
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        if let Some(mut answer) = shared.answer(&buffer[..length]) {
            answer.cut();
            // Whoever asked may be gone.
            drop(socket.send_to(&answer.message, from));
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || serve_connection(stream, &shared));
    }
}

/// Each message has its length before it. Returns when the other side has closed, or is still.
fn serve_connection(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).ok()?;
        if let Some(answer) = shared.answer(&question) {
            let length = u16::try_from(answer.message.len()).ok()?;
            stream.write_all(&length.to_be_bytes()).ok()?;
            stream.write_all(&answer.message).ok()?;
        }
    }
}

impl Shared {
    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a message; none if it can't be read, or nothing is to be said.
    fn answer(&self, message: &[u8]) -> Option<Answer> {
        let question = Question::read(message)?;
        let mut zone = self.zone();
        *zone.questions.entry(question.name.clone()).or_default() += 1;
        if self.silent.load(Ordering::SeqCst) {
            return None;
        }
        if self.failing.load(Ordering::SeqCst) {
            return Some(question.answer(message, SERVFAIL, &[]));
        }
        let Some(types) = zone.names.get(&question.name) else {
            return Some(question.answer(message, NXDOMAIN, &[]));
        };
        let records = types.get(&question.of).map_or(&[][..], Vec::as_slice);
        Some(question.answer(message, NOERROR, records))
    }
}

struct Question {
    name: String,
    of: u16,
    /// Where it ends in its message.
    end: usize,
}

struct Answer {
    message: Vec<u8>,
    /// Where its question ends.
    question: usize,
}

impl Question {
    /// Reads the only question of a message.
    fn read(message: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = message.get(at..at + length)?;
            labels.push(String::from_utf8_lossy(label).to_lowercase());
            at += length;
        }
        let of = message.get(at..at + 2)?;
        Some(Self {
            name: labels.join("."),
            of: u16::from_be_bytes([of[0], of[1]]),
            end: at + 4,
        })
    }

    fn answer(&self, message: &[u8], code: u8, records: &[Record]) -> Answer {
        let mut answer = message[..self.end.min(message.len())].to_vec();
        // A response, authoritative, which repeats whether recursion was wanted; it is to be had.
        answer[2] = 0x84 | (message[2] & 0x01);
        answer[3] = 0x80 | code;
        let count = u16::try_from(records.len()).expect("a test has few records");
        answer[4..HEADER].fill(0);
        answer[5] = 1;
        answer[6..8].copy_from_slice(&count.to_be_bytes());
        for record in records {
            // The name of the question, by its place.
            answer.extend([0xc0, HEADER as u8]);
            answer.extend(self.of.to_be_bytes());
            answer.extend(INTERNET.to_be_bytes());
            answer.extend(record.ttl.to_be_bytes());
            let length = u16::try_from(record.data.len()).expect("a record is short");
            answer.extend(length.to_be_bytes());
            answer.extend(&record.data);
        }
        Answer {
            message: answer,
            question: self.end,
        }
    }
}

impl Answer {
    /// Leaves out the records, and says so, if all of it is too long for UDP.
    fn cut(&mut self) {
        if self.message.len() > LONGEST {
            self.message.truncate(self.question);
            self.message[2] |= 0x02;
            self.message[6..8].fill(0);
        }
    }
}

/// As names are compared: in lower case, without the final dot.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

/// As a name stands in a message.
fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a label is short"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

const HEADER: usize = 12;
/// What every client takes over UDP.
const LONGEST: usize = 512;

const INTERNET: u16 = 1;
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks over UDP, and gives back the answer, or nothing after a while.
    fn ask(dns: &Dns, name: &str, of: u16) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let patience = Duration::from_millis(300);
        socket.set_read_timeout(Some(patience)).expect("settable");
        socket
            .send_to(&question(name, of), dns.address())
            .expect("somebody listens");
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    fn question(name: &str, of: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encoded(name));
        message.extend(of.to_be_bytes());
        message.extend(INTERNET.to_be_bytes());
        message
    }

    /// The code of an answer and the number of its records.
    fn outcome(answer: &[u8]) -> (u8, u16) {
        let count = u16::from_be_bytes([answer[6], answer[7]]);
        (answer[3] & 0x0f, count)
    }

    #[test]
    fn names_have_the_records_that_they_were_given() {
        let dns = Dns::start();
        dns.set_a("App.test.", &["127.0.0.1", "127.0.0.2"], 7);
        dns.set_srv("_http._tcp.test", &[(1, 2, 80, "app.test")], 7);
        let answer = ask(&dns, "app.TEST", A).expect("an answer");
        assert_eq!(outcome(&answer), (NOERROR, 2));
        assert_eq!(answer[..2], [0xab, 0xcd]);
        assert_eq!(answer[answer.len() - 4..], [127, 0, 0, 2]);
        assert_eq!(answer[answer.len() - 10..answer.len() - 6], [0, 0, 0, 7]);
        let none = ask(&dns, "app.test", AAAA).expect("an answer");
        assert_eq!(outcome(&none), (NOERROR, 0));
        let service = ask(&dns, "_http._tcp.test", SRV).expect("an answer");
        assert!(service.ends_with(b"\0\x01\0\x02\0\x50\x03app\x04test\0"));
        assert_eq!(dns.questions("app.test"), 2);
        dns.remove("app.test");
        let gone = ask(&dns, "app.test", A).expect("an answer");
        assert_eq!(outcome(&gone), (NXDOMAIN, 0));
    }

    #[test]
    fn it_fails_and_is_silent_when_told_to() {
        let dns = Dns::start();
        dns.set_a("app.test", &["127.0.0.1"], 1);
        dns.fail(true);
        let failed = ask(&dns, "app.test", A).expect("an answer");
        assert_eq!(outcome(&failed), (SERVFAIL, 0));
        dns.fail(false);
        dns.silent(true);
        assert_eq!(ask(&dns, "app.test", A), None);
        dns.silent(false);
        let well = ask(&dns, "app.test", A).expect("an answer");
        assert_eq!(outcome(&well), (NOERROR, 1));
        assert_eq!(dns.questions("app.test"), 3, "unanswered ones count too");
    }

    #[test]
    fn what_is_too_long_for_udp_comes_over_tcp() {
        let dns = Dns::start();
        dns.set_aaaa("app.test", &["::1"; 40], 1);
        let cut = ask(&dns, "app.test", AAAA).expect("an answer");
        assert_eq!((outcome(&cut), cut[2] & 0x02), ((NOERROR, 0), 0x02));
        let mut stream = TcpStream::connect(dns.address()).expect("it listens");
        let question = question("app.test", AAAA);
        let length = u16::try_from(question.len()).expect("short");
        stream.write_all(&length.to_be_bytes()).expect("writable");
        stream.write_all(&question).expect("writable");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("the whole answer");
        assert_eq!(outcome(&answer), (NOERROR, 40));
        assert_eq!(answer[2] & 0x02, 0);
    }

    #[test]
    fn its_port_is_free_when_it_is_dropped() {
        let dns = Dns::start();
        let address = dns.address();
        drop(dns);
        crate::eventually(crate::PATIENCE, || UdpSocket::bind(address).is_ok());
    }
}
