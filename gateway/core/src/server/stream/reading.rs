//! What a client sends, as far as Pingora may see it.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    time::sleep_until,
};

use super::{Connection, too_slow};
use crate::server::{
    inbound::{Inbound, Passes},
    now::now,
    parking::Readable,
};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read to find out. Pingora reads no more at once.
const EARLY: usize = 4096;

/// How much is read at once of what a client sends before its last request was answered.
const AHEAD: usize = 512;

/// What Pingora refuses, whatever it has read before: it is given instead of what it must not see.
const POISON: &[u8] = b"\0 \0\r\n\r\n";

/// What Pingora refuses within a chunked body where a size or the end of a piece is due. Its client is
/// told so, which it would not be after an error.
const BROKEN: &[u8] = b"\r\0";

const BAD_REQUEST: u16 = 400;
const REQUEST_TIMEOUT: u16 = 408;

impl Connection {
    /// Takes what TLS has deciphered already, which then gives up a buffer as large as the largest record was.
    pub(in crate::server) async fn tidy(&mut self) {
        if self.transport.is_tls() {
            // Whatever it is, it is found again.
            drop(now(poll_fn(|cx| self.poll_watch(cx))).await);
        }
    }

    /// Waits for the first bytes of the client, and tells whether it speaks HTTP/2. They are kept for
    /// whoever reads next, so that finding out costs no system call.
    ///
    /// # Errors
    ///
    /// The connection is broken. That the client has closed it is for the next reader to find.
    pub(in crate::server) async fn begins_http2(&mut self) -> io::Result<bool> {
        loop {
            self.early
                .reserve_exact(EARLY.saturating_sub(self.early.len()));
            if self.transport.read_buf(&mut self.early).await? == 0 {
                return Ok(false);
            }
            if let Some(answer) = is_preface(&self.early) {
                return Ok(answer);
            }
        }
    }

    /// Reads what was read before, or from the client.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let fitting = buf.remaining().min(self.early.len());
            buf.put_slice(self.early.get(..fitting).unwrap_or_default());
            self.early.drain(..fitting);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_overdue(cx);
        }
        self.is_more_likely = buf.remaining() == 0;
        if let Some(clocks) = &mut self.clocks {
            clocks.giving.progressed(buf.filled().len() - before);
        }
        read
    }

    /// Ready when the client takes too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Inbound::Head(head) = &self.inbound {
            let until = head.until;
            let alarm = self
                .clocks()
                .head
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            ready!(alarm.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.inbound.is_body() {
            let least = self.least;
            ready!(self.clocks().giving.poll_drips(cx, least));
            return Poll::Ready(Err(too_slow()));
        }
        Poll::Pending
    }

    /// Keeps what the client sends before its last request was answered, and finds out whether it has left.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.early.len() < EARLY {
            let mut ahead = [0; AHEAD];
            let mut ahead = ReadBuf::new(&mut ahead);
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut ahead))?;
            if ahead.filled().is_empty() {
                // Who has asked for more waits for that.
                return if self.early.is_empty() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            self.early.extend_from_slice(ahead.filled());
        }
        Poll::Pending
    }

    /// Has Pingora refuse the request, and the client learn why.
    fn refuse(&mut self, status: u16) {
        self.refused = Some(status);
        self.inbound = Inbound::Open;
        self.early = POISON.to_vec();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Pingora flushes at the end of a response only, and listens to the client while it waits for
        // more of it: what has come so far goes out now, or slow responses would come in gulps.
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        this.settle();
        if this.inbound.is_between() {
            return this.poll_watch(cx);
        }
        let before = buf.filled().len();
        let filled = ready!(this.poll_fill(cx, buf));
        let read = buf.filled().get(before..).unwrap_or_default();
        if filled.is_err() || read.is_empty() {
            let Inbound::Head(head) = &this.inbound else {
                return Poll::Ready(filled);
            };
            if !head.begun {
                return Poll::Ready(Ok(()));
            }
            // Whoever has left in the middle gets it, too: else Pingora would log it as an error of ours.
            let late = filled.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
            this.refuse(if late { REQUEST_TIMEOUT } else { BAD_REQUEST });
            return this.poll_fill(cx, buf);
        }
        match this.inbound.pass(read) {
            Passes::All => {}
            Passes::Until(end) => {
                let rest = read.get(end..).unwrap_or_default();
                // What was read before is what comes first.
                this.early.splice(..0, rest.iter().copied());
                buf.set_filled(before + end);
            }
            Passes::Refused(status) => {
                buf.set_filled(before);
                this.refuse(status);
                return this.poll_fill(cx, buf);
            }
            Passes::Broken(well) => {
                buf.set_filled(before + well);
                this.inbound = Inbound::Open;
                this.early = BROKEN.to_vec();
                if well == 0 {
                    return this.poll_fill(cx, buf);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Readable for Connection {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.requests == 0 || self.is_more_likely {
            self.transport.poll_first(cx)
        } else {
            self.transport.poll_readable(cx)
        }
    }
}

/// Whether a connection that begins so is one of HTTP/2; none if more must be read to know.
fn is_preface(early: &[u8]) -> Option<bool> {
    let (known, wanted) = (early.len().min(PREFACE.len()), PREFACE.len());
    if early.get(..known) != PREFACE.get(..known) {
        return Some(false);
    }
    (known == wanted).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_at_its_last_byte_and_anything_else_at_its_first_other_byte() {
        for known in 0..PREFACE.len() {
            assert_eq!(is_preface(&PREFACE[..known]), None, "{known}");
            let mut other = PREFACE[..known].to_vec();
            other.push(b'x');
            assert_eq!(is_preface(&other), Some(false), "{known}");
        }
        assert_eq!(is_preface(PREFACE), Some(true));
        assert_eq!(is_preface(&[PREFACE, b"more"].concat()), Some(true));
        assert_eq!(is_preface(b"GET / HTTP/1.1\r\n\r\n"), Some(false));
        assert_eq!(is_preface(b"POST"), Some(false));
    }
}
