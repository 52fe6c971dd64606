//! Bytes, both ways.

use std::{
    fmt,
    future::poll_fn,
    mem::{self, MaybeUninit},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep},
};

/// What has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relayed {
    /// From the client to the endpoint.
    pub(super) sent: u64,
    /// From the endpoint to the client.
    pub(super) received: u64,
    pub(super) end: End,
}

/// How it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have said all.
    Closed,
    ClientBroke,
    EndpointBroke,
    /// Nothing has passed for too long.
    Idle,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::ClientBroke => "client_broke_off",
            Self::EndpointBroke => "endpoint_broke_off",
            Self::Idle => "idle",
        })
    }
}

/// Passes on what either side says until both have ended, or one breaks off, or nothing has passed for so long.
/// A side that has ended may still be told things. `early` is what the client has said before.
///
/// What passes needs no memory but the stack, unless one side says more than the other takes.
pub(super) async fn relay<C, E>(
    client: &mut C,
    endpoint: &mut E,
    early: Vec<u8>,
    idle: Duration,
) -> Relayed
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let mut ways = Ways::beginning_with(early);
    let mut silence = pin!(sleep(idle));
    let mut last = Instant::now();
    let end = poll_fn(|cx| {
        let before = ways.passed();
        if let Poll::Ready(end) = ways.poll(cx, client, endpoint) {
            return Poll::Ready(end);
        }
        if ways.passed() > before {
            last = Instant::now();
        }
        while silence.as_mut().poll(cx).is_ready() {
            let due = last + idle;
            if due <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            silence.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;
    Relayed {
        sent: ways.sent.passed,
        received: ways.received.passed,
        end,
    }
}

/// Both directions of a connection.
struct Ways {
    sent: Way,
    received: Way,
    /// Who has taken no more, if somebody has.
    broke: Option<End>,
}

impl Ways {
    fn beginning_with(early: Vec<u8>) -> Self {
        Self {
            sent: Way::beginning_with(early),
            received: Way::beginning_with(Vec::new()),
            broke: None,
        }
    }

    fn passed(&self) -> u64 {
        self.sent.passed + self.received.passed
    }

    fn poll<C, E>(&mut self, cx: &mut Context<'_>, client: &mut C, endpoint: &mut E) -> Poll<End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        E: AsyncRead + AsyncWrite + Unpin,
    {
        let sent = self.sent.poll(cx, client, endpoint);
        let received = self.received.poll(cx, endpoint, client);
        let ended = [
            (sent, End::ClientBroke, End::EndpointBroke),
            (received, End::EndpointBroke, End::ClientBroke),
        ];
        let mut all = true;
        for (way, from, to) in ended {
            match way {
                Poll::Pending => all = false,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Broken::Reading)) => return Poll::Ready(from),
                // Who takes nothing more may have said why, and that is still to be passed on.
                Poll::Ready(Err(Broken::Writing)) => {
                    self.broke.get_or_insert(to);
                }
            }
        }
        match all {
            true => Poll::Ready(self.broke.unwrap_or(End::Closed)),
            false => Poll::Pending,
        }
    }
}

/// One direction of a connection.
struct Way {
    stage: Stage,
    /// What was said and not taken yet, from `at` on.
    rest: Vec<u8>,
    at: usize,
    unflushed: bool,
    passed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// All was said; the other side is to be told.
    Ended,
    Over,
}

enum Broken {
    Reading,
    Writing,
}

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// After so many pieces it is the other direction's turn.
const TURN: usize = 8;

impl Way {
    fn beginning_with(rest: Vec<u8>) -> Self {
        Self {
            stage: Stage::Open,
            unflushed: !rest.is_empty(),
            rest,
            at: 0,
            passed: 0,
        }
    }

    /// Passes on what there is. Ready at the end, and whenever it is asked after that.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            match self.stage {
                Stage::Over => return Poll::Ready(Ok(())),
                Stage::Ended => {
                    ready!(self.poll_send(cx, to))?;
                    // Who can't be told has gone, after all was said.
                    drop(ready!(Pin::new(&mut *to).poll_shutdown(cx)));
                    self.stage = Stage::Over;
                }
                Stage::Open => {
                    ready!(self.poll_send(cx, to))?;
                    ready!(self.poll_piece(cx, from, to))?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what is left.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        while let Some(rest) = self.rest.get(self.at..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(Pin::new(&mut *to).poll_write(cx, rest));
            self.at += self.taken(taken.ok())?;
        }
        if !self.rest.is_empty() {
            // Given back, however long nothing is said now.
            drop(mem::take(&mut self.rest));
            self.at = 0;
        }
        if self.unflushed {
            let flushed = ready!(Pin::new(to).poll_flush(cx));
            flushed.map_err(|_| self.broken())?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a piece, and sends at once what is taken of it.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        let mut space = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(from).poll_read(cx, &mut piece));
        read.map_err(|_| Broken::Reading)?;
        let said = piece.filled();
        if said.is_empty() {
            self.stage = Stage::Ended;
            return Poll::Ready(Ok(()));
        }
        self.unflushed = true;
        let taken = match Pin::new(to).poll_write(cx, said) {
            Poll::Ready(taken) => self.taken(taken.ok())?,
            Poll::Pending => 0,
        };
        self.rest.extend(said.iter().skip(taken));
        Poll::Ready(Ok(()))
    }

    /// Counts what was taken. Who takes nothing though it could takes no more.
    fn taken(&mut self, taken: Option<usize>) -> Result<usize, Broken> {
        let taken = taken.filter(|taken| *taken > 0);
        let taken = taken.ok_or_else(|| self.broken())?;
        self.passed += taken as u64;
        Ok(taken)
    }

    /// Nothing more passes here.
    fn broken(&mut self) -> Broken {
        self.stage = Stage::Over;
        Broken::Writing
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::JoinHandle,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A client and an endpoint, and what passes on what they say.
    fn relayed(early: &[u8], idle: Duration) -> (DuplexStream, DuplexStream, JoinHandle<Relayed>) {
        let (client, mut near) = duplex(64);
        let (mut far, endpoint) = duplex(64);
        let early = early.to_vec();
        let relaying = tokio::spawn(async move { relay(&mut near, &mut far, early, idle).await });
        (client, endpoint, relaying)
    }

    async fn all_of(stream: &mut DuplexStream) -> String {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn each_side_hears_what_the_other_says_also_after_its_own_end() {
        let (mut client, mut endpoint, relaying) = relayed(b"early ", LONG);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(all_of(&mut endpoint).await, "early question");
        endpoint.write_all(b"long answer").await.unwrap();
        drop(endpoint);
        assert_eq!(all_of(&mut client).await, "long answer");
        let expected = Relayed {
            sent: 14,
            received: 11,
            end: End::Closed,
        };
        assert_eq!(relaying.await.unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_anything_said_by_either_does_not() {
        let began = Instant::now();
        let (mut client, mut endpoint, relaying) = relayed(b"", Duration::from_secs(10));
        for _ in 0..3 {
            sleep(Duration::from_secs(9)).await;
            client.write_all(b"a").await.unwrap();
            sleep(Duration::from_secs(9)).await;
            endpoint.write_all(b"b").await.unwrap();
        }
        let relayed = relaying.await.unwrap();
        assert_eq!((relayed.sent, relayed.received), (3, 3));
        assert_eq!((relayed.end, began.elapsed().as_secs()), (End::Idle, 64));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_waited_for_as_long_as_for_who_says_nothing() {
        let began = Instant::now();
        let (mut client, _endpoint, relaying) = relayed(b"", Duration::from_secs(10));
        client.write_all(&[b'x'; 2 * PIECE]).await.ok();
        let relayed = relaying.await.unwrap();
        assert_eq!((relayed.sent, relayed.end), (64, End::Idle));
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn the_last_words_of_who_takes_no_more_arrive() {
        let (mut client, mut endpoint, relaying) = relayed(b"", LONG);
        endpoint.write_all(b"554 go away").await.unwrap();
        drop(endpoint);
        client.write_all(&[b'x'; 50]).await.unwrap();
        assert_eq!(all_of(&mut client).await, "554 go away");
        drop(client);
        let relayed = relaying.await.unwrap();
        assert_eq!((relayed.received, relayed.end), (11, End::EndpointBroke));
    }

    #[tokio::test]
    async fn much_passes_both_ways_at_once_and_what_is_not_taken_is_not_piled_up() {
        let (client, endpoint, relaying) = relayed(b"", LONG);
        let size = 40 * PIECE + 7;
        let speak = move |stream: DuplexStream| async move {
            let (mut hears, mut says) = tokio::io::split(stream);
            let words: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut heard = Vec::new();
            let speaking = async {
                says.write_all(&words).await.unwrap();
                says.shutdown().await.unwrap();
            };
            tokio::join!(speaking, async { hears.read_to_end(&mut heard).await.ok() });
            assert!(heard == words);
        };
        tokio::join!(speak(client), speak(endpoint));
        let relayed = relaying.await.unwrap();
        assert_eq!((relayed.sent, relayed.received), (size as u64, size as u64));
        assert_eq!(relayed.end, End::Closed);
    }

    #[test]
    fn a_direction_holds_one_piece_at_most_and_nothing_while_nothing_is_said() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut says, mut near) = duplex(100 * PIECE);
        let (mut far, mut hears) = duplex(10);
        let mut way = Way::beginning_with(Vec::new());
        let words = [b'x'; 4 * PIECE];
        assert!(Pin::new(&mut says).poll_write(&mut cx, &words).is_ready());
        assert!(way.poll(&mut cx, &mut near, &mut far).is_pending());
        assert_eq!(way.rest.len(), PIECE - 10);
        let mut heard = 0;
        while heard < words.len() {
            let mut space = [0; 1000];
            let mut taken = ReadBuf::new(&mut space);
            assert!(
                Pin::new(&mut hears)
                    .poll_read(&mut cx, &mut taken)
                    .is_ready()
            );
            heard += taken.filled().len();
            assert!(way.poll(&mut cx, &mut near, &mut far).is_pending());
            assert!(way.rest.len() <= PIECE);
        }
        assert_eq!((way.rest.capacity(), way.passed), (0, words.len() as u64));
    }
}
