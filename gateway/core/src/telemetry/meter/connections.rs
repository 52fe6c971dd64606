//! The connections of a listener, and their handshakes.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

/// What is counted of the connections of a listener. It outlives configurations, as the listener does.
///
/// Connections are few beside requests: threads may share these numbers.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    accepted: AtomicU64,
    refused: [AtomicU64; REFUSED],
    begun: [AtomicU64; SPOKEN],
    ended: [AtomicU64; SPOKEN],
    handshakes: [AtomicU64; HANDSHAKES],
    unsecured: [AtomicU64; UNSECURED],
}

/// Why there was no room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// All connections of the gateway.
    Gateway,
    Listener,
    Client,
    Memory,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// Whatever it is, it is passed on.
    Tcp,
}

/// Why a handshake has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsecured {
    /// The client does not speak TLS.
    Plain,
    TimedOut,
    /// The client asks for a name that is not served, or has no good certificate.
    Refused,
    /// The client has left.
    Closed,
    /// The client does not keep to the protocol, or has nothing in common with us.
    Protocol,
}

const REFUSED: usize = 4;
const SPOKEN: usize = 3;
const HANDSHAKES: usize = 4;
const UNSECURED: usize = 5;

/// The kinds of handshakes, as they are told: version, and whether an earlier session was resumed.
pub(crate) const KINDS: [(&str, bool); HANDSHAKES] = [
    ("TLSv1.2", false),
    ("TLSv1.2", true),
    ("TLSv1.3", false),
    ("TLSv1.3", true),
];

impl Limit {
    /// All of them, with the names by which they are told: the keys of the configuration.
    pub(crate) const ALL: [(Self, &'static str); REFUSED] = [
        (Self::Gateway, "connections.max"),
        (Self::Listener, "max_connections"),
        (Self::Client, "connections.per_client"),
        (Self::Memory, "memory"),
    ];
}

impl Spoken {
    /// All of them, with the names by which they are told.
    pub(crate) const ALL: [(Self, &'static str); SPOKEN] = [
        (Self::Http1, "http1"),
        (Self::Http2, "http2"),
        (Self::Tcp, "tcp"),
    ];
}

impl Unsecured {
    /// All of them, with the names by which they are told.
    pub(crate) const ALL: [(Self, &'static str); UNSECURED] = [
        (Self::Plain, "plain"),
        (Self::TimedOut, "timeout"),
        (Self::Refused, "refused"),
        (Self::Closed, "closed"),
        (Self::Protocol, "protocol"),
    ];

    /// What an error of a handshake says.
    pub(crate) fn by(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::PermissionDenied => Self::Refused,
            io::ErrorKind::InvalidData => Self::Protocol,
            _ => Self::Closed,
        }
    }
}

impl Connections {
    pub(crate) fn accepted(&self) {
        count(&self.accepted);
    }

    pub(crate) fn refused(&self, limit: Limit) {
        count(&self.refused[limit as usize]);
    }

    pub(crate) fn begun(&self, spoken: Spoken) {
        count(&self.begun[spoken as usize]);
    }

    pub(crate) fn ended(&self, spoken: Spoken) {
        count(&self.ended[spoken as usize]);
    }

    pub(crate) fn secured(&self, version: &str, resumed: bool) {
        let kind = KINDS.iter().position(|kind| *kind == (version, resumed));
        if let Some(count) = kind.and_then(|kind| self.handshakes.get(kind)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn unsecured(&self, why: Unsecured) {
        count(&self.unsecured[why as usize]);
    }

    /// What was counted so far.
    pub(crate) fn figures(&self) -> ConnectionFigures {
        // Ended first: none may seem to have ended that has not begun.
        let ended = self.ended.each_ref().map(total);
        let begun = self.begun.each_ref().map(total);
        ConnectionFigures {
            accepted: total(&self.accepted),
            refused: self.refused.each_ref().map(total),
            open: std::array::from_fn(|spoken| begun[spoken].saturating_sub(ended[spoken])),
            begun,
            handshakes: self.handshakes.each_ref().map(total),
            unsecured: self.unsecured.each_ref().map(total),
        }
    }
}

/// What was counted of the connections of a listener, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionFigures {
    pub(crate) accepted: u64,
    refused: [u64; REFUSED],
    open: [u64; SPOKEN],
    begun: [u64; SPOKEN],
    /// In the order of [`KINDS`].
    pub(crate) handshakes: [u64; HANDSHAKES],
    unsecured: [u64; UNSECURED],
}

impl ConnectionFigures {
    pub(crate) fn refused(&self, limit: Limit) -> u64 {
        self.refused[limit as usize]
    }

    /// How many are open on which this is spoken.
    pub(crate) fn open(&self, spoken: Spoken) -> u64 {
        self.open[spoken as usize]
    }

    /// On how many this was spoken.
    pub(crate) fn begun(&self, spoken: Spoken) -> u64 {
        self.begun[spoken as usize]
    }

    pub(crate) fn unsecured(&self, why: Unsecured) -> u64 {
        self.unsecured[why as usize]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn total(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_own_place() {
        let places = |all: &[usize]| all.iter().enumerate().all(|(place, of)| place == *of);
        assert!(places(&Limit::ALL.map(|(limit, _)| limit as usize)));
        assert!(places(&Spoken::ALL.map(|(spoken, _)| spoken as usize)));
        assert!(places(&Unsecured::ALL.map(|(why, _)| why as usize)));
    }

    #[test]
    fn connections_are_open_until_they_have_ended() {
        let connections = Connections::default();
        connections.accepted();
        connections.begun(Spoken::Http2);
        let figures = connections.figures();
        assert_eq!((figures.accepted, figures.open(Spoken::Http2)), (1, 1));
        connections.ended(Spoken::Http2);
        let figures = connections.figures();
        assert_eq!(
            (figures.begun(Spoken::Http2), figures.open(Spoken::Http2)),
            (1, 0)
        );
    }

    #[test]
    fn handshakes_are_counted_by_version_and_whether_they_were_resumed() {
        let connections = Connections::default();
        connections.secured("TLSv1.3", true);
        connections.secured("", false);
        connections.unsecured(Unsecured::by(&io::ErrorKind::UnexpectedEof.into()));
        let figures = connections.figures();
        assert_eq!(figures.handshakes, [0, 0, 0, 1]);
        assert_eq!(figures.unsecured(Unsecured::Closed), 1);
    }
}
