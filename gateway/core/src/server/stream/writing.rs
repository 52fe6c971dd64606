//! What a client is sent: small pieces together, and no faster than it takes them.

use std::{
    io::{self, IoSlice},
    mem,
    os::fd::AsFd,
    pin::Pin,
    sync::{Weak, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
};

use tokio::io::AsyncWrite;

use super::{Connection, Taken, too_slow};
use crate::{
    files::is_blank,
    server::{refusal, throttle::Throttle},
};

/// More than this is sent at once.
const GATHERED: usize = 16 * 1024;

/// Beside its first piece, which is the head of a response mostly, as much of a body as this is gathered with
/// one allocation.
const SMALL_BODY: usize = 1024;

impl Connection {
    /// Notes how much the client has taken of what was written, or what is known of that under TLS.
    fn note_taken(&mut self, written: usize) {
        let sent = match self.transport.sent() {
            None => written,
            Some(sent) => {
                let before = mem::replace(&mut self.sent, sent);
                usize::try_from(sent - before).unwrap_or(usize::MAX)
            }
        };
        if let Some(throttle) = &mut self.throttle {
            throttle.sent(written);
        }
        if let Some(Taken(bytes)) = &self.taken {
            bytes.fetch_add(sent as u64, Ordering::Relaxed);
        }
        if let Some(clocks) = &mut self.clocks {
            clocks.taking.progressed(sent);
        }
    }

    /// Passes on what has become of a write; one that waits for the client does so as long as that keeps up.
    fn poll_sent(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match sent {
            Poll::Ready(Ok(sent)) => {
                self.note_taken(sent);
                Poll::Ready(Ok(sent))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.note_taken(0);
                let least = self.least;
                ready!(self.clocks().taking.poll_too_slow(cx, least));
                Poll::Ready(Err(too_slow()))
            }
        }
    }

    /// Has the kernel send some of a file.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let room = ready!(self.poll_room(cx, wanted));
        let Some(file) = self.file.get().and_then(Weak::upgrade) else {
            return Poll::Ready(Err(io::Error::other("nobody has said which file")));
        };
        let at = self.file_at.get_mut();
        let sent = self.transport.poll_send_file(cx, file.as_fd(), at, room);
        let sent = ready!(self.poll_sent(cx, sent))?;
        if sent == 0 {
            let why = "the file has become shorter while it was sent";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        Poll::Ready(Ok(sent))
    }

    /// How many of so many bytes may go out now.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        let Some(speed) = self.speed.get() else {
            return Poll::Ready(wanted);
        };
        let throttle = &mut self.throttle;
        let throttle = throttle.get_or_insert_with(|| Box::new(Throttle::new(*speed)));
        throttle.poll_room(cx, wanted)
    }

    /// Keeps a piece until it is sent.
    fn gather(&mut self, piece: &[u8]) {
        if self.pending.capacity() == 0 {
            self.pending.reserve(piece.len() + SMALL_BODY);
        }
        self.pending.extend_from_slice(piece);
    }

    /// Takes data for written that has just become pending.
    fn gathered(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if *self.prompt.get_mut()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(data.len()))
    }

    /// Sends all that is pending. TLS may keep some of what it was given until it is flushed.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let room = ready!(self.poll_room(cx, self.pending.len()));
            let next = self.pending.get(..room).unwrap_or_default();
            let sent = Pin::new(&mut self.transport).poll_write(cx, next);
            let sent = ready!(self.poll_sent(cx, sent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..sent);
        }
        self.pending = Vec::new();
        if !self.transport.is_tls() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.transport).poll_flush(cx);
        self.poll_sent(cx, flushed.map_ok(|()| 0)).map_ok(drop)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let first = mem::replace(&mut this.unanswered, false);
        let ours = first.then(|| refusal::in_place_of(data, this.refused));
        if let Some(ours) = ours.flatten() {
            this.pending.extend_from_slice(ours.as_bytes());
            return Poll::Ready(Ok(data.len()));
        }
        if is_blank(data) {
            return this.poll_send_file(cx, data.len());
        }
        if let Some((before, date, after)) = this.dated.rewrite(data) {
            for piece in [before, date.as_bytes(), after] {
                this.gather(piece);
            }
            return this.gathered(cx, data);
        }
        let slow = this.speed.get().is_some();
        if *this.prompt.get_mut() || slow && this.pending.len() + data.len() > GATHERED {
            // Nothing is left for later, when nobody may be there to send it.
            ready!(this.poll_send(cx))?;
        } else if this.pending.len() + data.len() <= GATHERED {
            this.gather(data);
            return this.gathered(cx, data);
        }
        if this.pending.is_empty() {
            let room = ready!(this.poll_room(cx, data.len()));
            let data = data.get(..room).unwrap_or_default();
            let sent = Pin::new(&mut this.transport).poll_write(cx, data);
            return this.poll_sent(cx, sent);
        }
        // What is pending and the new data in one system call.
        let both = [IoSlice::new(&this.pending), IoSlice::new(data)];
        let sent = Pin::new(&mut this.transport).poll_write_vectored(cx, &both);
        let sent = ready!(this.poll_sent(cx, sent))?;
        let Some(of_data) = sent
            .checked_sub(this.pending.len())
            .filter(|taken| *taken > 0)
        else {
            this.pending.drain(..sent.min(this.pending.len()));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        this.pending.clear();
        Poll::Ready(Ok(of_data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

impl Drop for Connection {
    /// After a failure Pingora drops the connection as it is. What it has written up to then is the
    /// client's, as far as the socket takes it: a response that breaks off is one that has begun.
    fn drop(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let nobody = &mut Context::from_waker(Waker::noop());
        let transport = Pin::new(&mut self.transport);
        if let Poll::Ready(Ok(_)) = transport.poll_write(nobody, &self.pending) {
            // Under TLS only now.
            let flushed = Pin::new(&mut self.transport).poll_flush(nobody);
            drop(flushed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;
    use crate::server::now::now;

    #[tokio::test]
    async fn what_is_written_promptly_comes_although_the_client_was_not_reading() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let mut connection = Connection::unnamed(tcp.into(), peer);
        connection.be_prompt();
        let mut taken = 0;
        // Until the socket is full.
        while let Some(written) = now(connection.write(&[b'x'; 1000])).await {
            taken += written.unwrap();
        }
        // Nobody asks the connection for anything meanwhile.
        let mut received = vec![0; taken];
        let all = timeout(Duration::from_secs(20), client.read_exact(&mut received)).await;
        assert!(all.is_ok(), "some of {taken} bytes never come");
    }
}
