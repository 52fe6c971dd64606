//! What a client of HTTP/1.1 sends, cut where its requests end.
//!
//! Pingora is given the bytes of one request and no more: the first of the next one stay here. So a connection
//! can be left alone between two requests, no byte is taken for another request than it belongs to, and what
//! other readers could read otherwise (RFC 9112, 11.2) is refused before Pingora sees it.

use tokio::time::Instant;

use super::{
    chunks::{Chunks, Step},
    strict::{Scan, Verdict},
};

/// Where in its requests a client is.
#[derive(Debug)]
pub(super) enum Inbound {
    /// It speaks something else, or has been upgraded: everything passes.
    Open,
    Head(Head),
    /// After a head, until it is known what follows; after a request, until its answer is complete.
    Between,
    /// So much of a body is to come.
    Length(u64),
    Chunked(Chunks),
    /// Nothing passes any more.
    Over,
}

/// A head that is being read.
#[derive(Debug)]
pub(super) struct Head {
    scan: Scan,
    limits: HeadLimits,
    /// When it has to be complete.
    pub(super) until: Instant,
    /// Whether there is any byte of it.
    pub(super) begun: bool,
}

/// How much of a head is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Of the request target, in bytes.
    pub(crate) target: usize,
    /// Of the whole, in bytes.
    pub(crate) head: usize,
    /// How many fields it may have.
    pub(crate) lines: usize,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// Whatever it is, it is not HTTP any more.
    Upgraded,
}

/// What of some bytes passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    All,
    /// So many, and the rest belongs to the next request.
    Until(usize),
    /// None: the client is answered with this status.
    Refused(u16),
    /// So many, and then the body is broken.
    Broken(usize),
}

impl Inbound {
    /// Before a request.
    pub(super) fn head(limits: HeadLimits, until: Instant) -> Self {
        Self::Head(Head {
            scan: Scan::default(),
            limits,
            until,
            begun: false,
        })
    }

    /// What follows the head that has just been read.
    pub(super) fn follow(&mut self, framing: Framing) {
        *self = match framing {
            Framing::Length(0) => Self::Between,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::default()),
            Framing::Upgraded => Self::Open,
        };
    }

    /// Whether a request is complete, and no other has begun.
    pub(super) fn is_between(&self) -> bool {
        matches!(self, Self::Between)
    }

    /// Whether a body is being read.
    pub(super) fn is_body(&self) -> bool {
        matches!(self, Self::Length(_) | Self::Chunked(_))
    }

    /// Says what of some bytes passes, and goes on behind it.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Passes {
        let passes = match self {
            Self::Open => Passes::All,
            Self::Head(head) => head.pass(bytes),
            Self::Between | Self::Over => return Passes::Until(0),
            Self::Length(left) => {
                let fits = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= fits as u64;
                if *left > 0 {
                    Passes::All
                } else {
                    Passes::Until(fits)
                }
            }
            Self::Chunked(chunks) => match chunks.feed(bytes) {
                Step::More => Passes::All,
                Step::End(end) => Passes::Until(end),
                Step::Malformed(well) => Passes::Broken(well),
            },
        };
        match passes {
            Passes::All => {}
            Passes::Until(_) => *self = Self::Between,
            Passes::Refused(_) | Passes::Broken(_) => *self = Self::Over,
        }
        passes
    }
}

impl Head {
    fn pass(&mut self, bytes: &[u8]) -> Passes {
        self.begun = true;
        match self.scan.feed(bytes) {
            Verdict::Malformed => Passes::Refused(self.scan.status()),
            Verdict::More => self.within(Passes::All),
            Verdict::End(end) => self.within(Passes::Until(end)),
        }
    }

    fn within(&self, passes: Passes) -> Passes {
        if self.scan.target_length() > self.limits.target {
            return Passes::Refused(414);
        }
        if self.scan.length() > self.limits.head || self.scan.lines() > self.limits.lines {
            return Passes::Refused(431);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        target: 16,
        head: 64,
        lines: 4,
    };

    fn inbound() -> Inbound {
        Inbound::head(LIMITS, Instant::now())
    }

    /// A request to this target, with a header as long as said.
    fn request(target: &str, value: usize) -> String {
        format!("GET {target} HTTP/1.1\r\na: {}\r\n\r\n", "v".repeat(value))
    }

    #[tokio::test]
    async fn a_request_ends_where_its_body_does_and_the_next_one_stays() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut inbound = inbound();
        let all = format!("{head}helloGET /");
        assert_eq!(inbound.pass(all.as_bytes()), Passes::Until(head.len()));
        assert!(inbound.is_between());
        inbound.follow(Framing::Length(5));
        assert_eq!(inbound.pass(b"hel"), Passes::All);
        assert_eq!(inbound.pass(b"loGET /"), Passes::Until(2));
        assert!(inbound.is_between());
        inbound.follow(Framing::Chunked);
        assert_eq!(inbound.pass(b"2\r\nab\r\n0\r\n\r\nGET"), Passes::Until(12));
        assert!(inbound.is_between());
        inbound.follow(Framing::Upgraded);
        assert_eq!(inbound.pass(b"\0\x01"), Passes::All);
    }

    #[tokio::test]
    async fn heads_are_as_long_as_they_may_be_and_no_longer() {
        let fits = request("/34567890123456", 20);
        assert_eq!(inbound().pass(fits.as_bytes()), Passes::Until(fits.len()));
        let long = request("/3456789012345678", 1);
        assert_eq!(inbound().pass(long.as_bytes()), Passes::Refused(414));
        let large = request("/", 64);
        assert_eq!(inbound().pass(large.as_bytes()), Passes::Refused(431));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(5));
        assert_eq!(inbound().pass(many.as_bytes()), Passes::Refused(431));
        // Without its end.
        let endless = format!("GET /{}", "x".repeat(20));
        assert_eq!(inbound().pass(endless.as_bytes()), Passes::Refused(414));
        let endless = format!("GET / HTTP/1.1\r\n{}", "x".repeat(60));
        assert_eq!(inbound().pass(endless.as_bytes()), Passes::Refused(431));
    }

    #[tokio::test]
    async fn nothing_passes_after_what_was_refused() {
        let mut inbound = inbound();
        assert_eq!(
            inbound.pass(b"GET / HTTP/1.1\nhost: a\n\n"),
            Passes::Refused(400)
        );
        assert_eq!(inbound.pass(b"GET"), Passes::Until(0));
        let mut inbound = Inbound::Between;
        inbound.follow(Framing::Chunked);
        assert_eq!(inbound.pass(b"0x1\r\n"), Passes::Broken(1));
    }
}
