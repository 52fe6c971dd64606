//! Endpoints that do as a few lines of a test say, also what no good server does.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// A listener of the test itself. Dropping it closes the port; connections end with their closures.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Sockets that only have to be there.
    held: Vec<Socket>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    closing: AtomicBool,
    heads: Mutex<Vec<String>>,
}

impl Upstream {
    /// Calls `serve` for each connection, in a thread of its own. The connection is closed when the
    /// closure returns.
    pub fn raw(serve: impl Fn(Caller) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.closing.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                of_thread.connections.fetch_add(1, Ordering::SeqCst);
                let caller = Caller::new(stream, Arc::clone(&of_thread));
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(caller));
            }
        });
        Self {
            address,
            shared,
            held: Vec::new(),
        }
    }

    /// Reads one request of each connection, sends these bytes, and closes.
    pub fn answers(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        Self::raw(move |mut caller| {
            if caller.request().is_some() {
                caller.send(&bytes);
            }
        })
    }

    /// Reads requests and never answers.
    pub fn silent() -> Self {
        Self::raw(|mut caller| caller.wait_for_close())
    }

    /// Refuses connections: the port is taken, and nobody listens.
    pub fn refusing() -> Self {
        let socket = bound();
        Self::holding(vec![socket])
    }

    /// Lets connections hang: the queue of those that wait to be accepted is full for ever.
    pub fn unreachable() -> Self {
        let socket = bound();
        socket.listen(0).expect("a bound socket can listen");
        let address = socket.local_addr().expect("a listener has an address");
        let mut held = vec![socket];
        while let Some(waiting) = connected(&address) {
            held.push(waiting);
        }
        Self::holding(held)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests that were read, as they came.
    pub fn heads(&self) -> Vec<String> {
        self.shared
            .heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn holding(held: Vec<Socket>) -> Self {
        let address = held[0]
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let address = address.expect("a bound socket has an address");
        Self {
            address,
            shared: Arc::default(),
            held,
        }
    }
}

/// The address, as a configuration takes it.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        if self.held.is_empty() {
            // Wakes the thread, so that it sees that it shall end.
            drop(TcpStream::connect(self.address));
        }
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    socket
}

/// A connection that the kernel of the other side has taken; none if it does not answer.
fn connected(address: &SockAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let connected = socket.connect_timeout(address, Duration::from_millis(250));
    connected.is_ok().then_some(socket)
}

/// A connection from the gateway.
#[derive(Debug)]
pub struct Caller {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
}

impl Caller {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        // Without it the only harm is that a test takes longer.
        stream.set_nodelay(true).ok();
        Self {
            stream: BufReader::new(stream),
            shared,
        }
    }

    /// Reads a whole request and returns its head, as it came; none if the gateway has closed.
    pub fn request(&mut self) -> Option<String> {
        let head = self.head()?;
        let lower = head.to_ascii_lowercase();
        let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name));
        if value("transfer-encoding:").is_some() {
            while self.chunk()? > 0 {}
        } else if let Some(length) = value("content-length:") {
            self.body(length.trim().parse().ok()?)?;
        }
        Some(head)
    }

    /// Reads the head of a request, as it came, and leaves the body; none if the gateway has closed.
    pub fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head).ok()? == 0 {
                return None;
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut heads = self
            .shared
            .heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        heads.push(head.clone());
        Some(head)
    }

    /// Reads exactly so many bytes; none if there are less.
    pub fn body(&mut self, size: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Sends bytes as they are. Nothing happens if the gateway has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).ok();
    }

    /// Reads until the gateway closes.
    pub fn wait_for_close(&mut self) {
        std::io::copy(&mut self.stream, &mut std::io::sink()).ok();
    }

    /// Ends the connection with a reset instead of a close.
    pub fn reset(self) {
        let socket = Socket::from(self.stream.into_inner());
        socket.set_linger(Some(Duration::ZERO)).ok();
    }

    fn chunk(&mut self) -> Option<usize> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        self.body(size + 2)?;
        Some(size)
    }
}
