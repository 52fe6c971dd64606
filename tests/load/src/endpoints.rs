//! Three endpoints to balance between, in threads of this program; one of them can be slow.
//!
//! The path says which: `/` is answered at once, [`ALWAYS`] by an endpoint that is slow, [`AT_TIMES`]
//! by one that is slow for a quarter of every second. An answer takes from half to one and a half
//! times its mean, for where all took the same time, percentiles would stand on a cliff.
//!
//! Nobody waits in line here: each connection has a thread, which sleeps.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::arrivals::chance;
use crate::fault::{Result, Trouble};

pub(crate) struct Endpoints {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    /// How often each of [`BODIES`] was sent.
    sent: [AtomicU64; BODIES.len()],
    ended: AtomicBool,
}

impl Endpoints {
    pub(crate) fn start() -> Result<Self> {
        let mut endpoints = Self {
            addresses: Vec::new(),
            shared: Arc::new(Shared {
                start: Instant::now(),
                sent: Default::default(),
                ended: AtomicBool::new(false),
            }),
        };
        for number in 0..COUNT {
            endpoints
                .listen(number)
                .trouble(|| "cannot start an endpoint".to_owned())?;
        }
        Ok(endpoints)
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How often each of [`BODIES`] was sent since the start.
    pub(crate) fn sent(&self) -> Vec<u64> {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        self.shared.sent.iter().map(load).collect()
    }

    fn listen(&mut self, number: usize) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        self.addresses.push(listener.local_addr()?);
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().spawn(move || accept(number, &listener, &shared))?;
        Ok(())
    }
}

impl Drop for Endpoints {
    /// Connections end when their clients close them.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for address in &self.addresses {
            // Only to wake the thread that accepts; if that has ended, so much the better.
            TcpStream::connect(address).ok();
        }
    }
}

fn accept(number: usize, listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        let serve = move || {
            // Who is at the other end notices, and says so.
            serve(number, stream, &shared).ok();
        };
        thread::Builder::new().spawn(serve).ok();
    }
}

/// One request after the other, until the connection ends.
fn serve(number: usize, mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = [0; 4096];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut received[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let Some(slowness) = slowness(&received[..filled])? else {
            continue;
        };
        filled = 0;
        let slow = number == SLOW_ONE && slowness.now(shared.start.elapsed());
        let body = if slow { SLOW_BODY } else { number };
        // Counted before it can be seen, so that whoever has the answer finds it counted.
        let before = shared.sent[body].fetch_add(1, Ordering::SeqCst);
        thread::sleep(slowness.mean(slow).mul_f64(0.5 + chance(before)));
        stream.write_all(&answer(BODIES[body]))?;
    }
}

/// When the slow one is slow.
#[derive(Clone, Copy)]
enum Slowness {
    /// Nobody is, and nothing takes any time.
    None,
    Always,
    AtTimes,
}

impl Slowness {
    fn now(self, since_start: Duration) -> bool {
        match self {
            Self::None => false,
            Self::Always => true,
            Self::AtTimes => since_start.subsec_millis() < 250,
        }
    }

    fn mean(self, slow: bool) -> Duration {
        match (self, slow) {
            (Self::None, _) => Duration::ZERO,
            (Self::Always | Self::AtTimes, true) => SLOW,
            (Self::Always | Self::AtTimes, false) => QUICK,
        }
    }
}

/// What the path of a whole request asks for; `None` means that more bytes are needed.
fn slowness(bytes: &[u8]) -> io::Result<Option<Slowness>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(bytes).map_err(io::Error::other)?.is_partial() {
        return Ok(None);
    }
    Ok(Some(match request.path {
        Some(ALWAYS) => Slowness::Always,
        Some(AT_TIMES) => Slowness::AtTimes,
        _ => Slowness::None,
    }))
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What an answer says: the number of the endpoint, and of the slow one also whether it was slow.
pub(crate) const BODIES: [&str; COUNT + 1] = [
    r#"{"endpoint":1}"#,
    r#"{"endpoint":2}"#,
    r#"{"endpoint":3}"#,
    r#"{"endpoint":3,"slow":true}"#,
];
/// Position in [`BODIES`].
pub(crate) const SLOW_BODY: usize = COUNT;
pub(crate) const COUNT: usize = 3;
pub(crate) const ALWAYS: &str = "/always";
pub(crate) const AT_TIMES: &str = "/at-times";

const SLOW_ONE: usize = COUNT - 1;
const QUICK: Duration = Duration::from_millis(1);
const SLOW: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn only_the_slow_one_is_slow_and_it_says_so() {
        let endpoints = Endpoints::start().unwrap();
        for (number, address) in endpoints.addresses().iter().enumerate() {
            let begin = Instant::now();
            let (status, body) = http::ask(*address, &http::get(ALWAYS, &[])).unwrap();
            let expected = if number == SLOW_ONE {
                SLOW_BODY
            } else {
                number
            };
            assert_eq!((status, &*body), (200, BODIES[expected].as_bytes()));
            assert!(begin.elapsed() >= SLOW / 2 || number != SLOW_ONE);
        }
        assert_eq!(endpoints.sent(), [1, 1, 0, 1]);
    }

    #[test]
    fn slow_at_times_means_a_quarter_of_every_second() {
        let slow = |millis: &u64| Slowness::AtTimes.now(Duration::from_millis(*millis));
        assert_eq!((7_000..8_000).filter(slow).count(), 250);
        assert_eq!((7_500..8_500).filter(slow).count(), 250);
    }

    #[test]
    fn ended_endpoints_accept_nobody() {
        let endpoints = Endpoints::start().unwrap();
        let addresses = endpoints.addresses().to_vec();
        drop(endpoints);
        let deadline = Instant::now() + Duration::from_secs(5);
        for address in addresses {
            while TcpStream::connect(address).is_ok() {
                assert!(Instant::now() < deadline, "{address} still accepts");
                thread::yield_now();
            }
        }
    }
}
