//! An endpoint in threads of this program.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::http;

/// Listens until it is dropped. Nobody waits in line: each connection has a thread.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Endpoint {
    /// Writes what `answer` returns for the path of a request. It may sleep.
    pub(crate) fn start(
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let answer = Arc::new(answer);
        thread::Builder::new().spawn(move || accept(&listener, &seen, &answer))?;
        Ok(Self { address, ended })
    }
}

impl Drop for Endpoint {
    /// Connections end when their clients close them.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Only to wake the thread that accepts; if that has ended, so much the better.
        TcpStream::connect(self.address).ok();
    }
}

fn accept<A>(listener: &TcpListener, ended: &AtomicBool, answer: &Arc<A>)
where
    A: Fn(&str) -> Vec<u8> + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        if ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let answer = Arc::clone(answer);
        let serve = move || {
            // Who is at the other end notices, and says so.
            serve(stream, &*answer).ok();
        };
        thread::Builder::new().spawn(serve).ok();
    }
}

/// One request after the other, until the connection ends.
fn serve(mut stream: TcpStream, answer: impl Fn(&str) -> Vec<u8>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = [0; 4096];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut received[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        if let Some(path) = http::path(&received[..filled])? {
            filled = 0;
            stream.write_all(&answer(&path))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn requests_are_answered_by_their_paths_and_in_turn() {
        let endpoint = Endpoint::start(|path| http::answer(path.as_bytes())).unwrap();
        for path in ["/a", "/b?c"] {
            let answer = http::ask(endpoint.address, &http::get(path, &[])).unwrap();
            assert_eq!(answer, (200, path.as_bytes().to_vec()));
        }
    }

    #[test]
    fn an_ended_endpoint_listens_no_more() {
        // The socket goes with this. To connect would tell nothing: another test may have the port by then.
        let kept = Arc::new(());
        let listening = Arc::downgrade(&kept);
        let endpoint = Endpoint::start(move |_| vec![0; Arc::strong_count(&kept)]).unwrap();
        assert!(listening.upgrade().is_some());
        drop(endpoint);
        let deadline = Instant::now() + Duration::from_secs(5);
        while listening.upgrade().is_some() {
            assert!(Instant::now() < deadline, "it still listens");
            thread::yield_now();
        }
    }
}
