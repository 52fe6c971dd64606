//! Answers that go on: server-sent events.
//!
//! They have places of their own, so that who watches holds up nobody who asks, and no limit in time. A reader
//! that takes nothing for a while is dropped.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use hyper::body::Frame;
use tokio::{
    select,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{described::EVENTS, problem::Problem};

/// How many may watch at a time.
const WATCHERS: usize = 32;

/// How many events may wait for a reader.
const WAITING: usize = 32;

/// How long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often something is sent, so that a reader that has left is noticed, and nobody between takes the
/// connection for a dead one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// The places of those who watch.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS)))
    }
}

/// How long a connection may stay.
#[derive(Clone)]
pub(super) struct Stay(Arc<Inner>);

struct Inner {
    places: Places,
    /// That of a caller, which who watches gives back.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    watches: AtomicBool,
    /// Its reader takes nothing.
    stuck: Notify,
    /// Ends when the listener is closed.
    open: watch::Receiver<()>,
}

impl Stay {
    /// For a caller that has this place.
    pub(super) fn new(
        places: Places,
        open: watch::Receiver<()>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self(Arc::new(Inner {
            places,
            place: Mutex::new(place),
            watches: AtomicBool::new(false),
            stuck: Notify::new(),
            open,
        }))
    }

    /// Waits until the connection has to leave: after this time, or when its reader takes nothing.
    pub(super) async fn over(&self, limit: Duration) {
        let limited = async {
            sleep(limit).await;
            if self.0.watches.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        select! {
            () = limited => {}
            () = self.0.stuck.notified() => {}
        }
    }

    /// Answers with events, which `write` makes until the reader has left. It ends then, or at its own will.
    ///
    /// # Errors
    ///
    /// There are enough who watch.
    pub(super) fn events<W>(self, write: impl FnOnce(Events) -> W) -> Result<Response, Problem>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let place = Arc::clone(&self.0.places.0).try_acquire_owned();
        let place = place.map_err(|_| {
            let detail = format!("{WATCHERS} are watching already, which are the most");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?;
        self.0.watches.store(true, Ordering::Relaxed);
        drop(
            self.0
                .place
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let (sender, receiver) = mpsc::channel(WAITING);
        let writing = write(Events {
            sender: sender.clone(),
            stay: self.clone(),
        });
        tokio::spawn(self.tend(writing, sender, place));
        let body = Body::new(Reading(receiver));
        Ok(([(CONTENT_TYPE, EVENTS)], body).into_response())
    }

    async fn tend(
        self,
        writing: impl Future<Output = ()>,
        sender: mpsc::Sender<Bytes>,
        place: OwnedSemaphorePermit,
    ) {
        let mut open = self.0.open.clone();
        let closed = async { while open.changed().await.is_ok() {} };
        let living = async {
            let mut signs = interval(SIGN_OF_LIFE);
            signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                signs.tick().await;
                // Events that wait are a sign as well.
                if let Err(mpsc::error::TrySendError::Closed(_)) =
                    sender.try_send(Bytes::from_static(b": \n\n"))
                {
                    return;
                }
            }
        };
        select! {
            () = writing => {}
            () = living => {}
            () = sender.closed() => {}
            () = closed => {}
        }
        drop(place);
    }
}

/// The body of an answer: the events.
struct Reading(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Reading {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(cx);
        next.map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

/// Where events are written to.
pub(super) struct Events {
    sender: mpsc::Sender<Bytes>,
    stay: Stay,
}

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Left;

impl Events {
    /// Sends an event, with its type if it has one, and waits until there is room for it.
    ///
    /// # Errors
    ///
    /// Nobody reads any more.
    pub(super) async fn send_text(&self, event: Option<&str>, json: &str) -> Result<(), Left> {
        let sent = timeout(PATIENCE, self.sender.send(written(event, json))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Left),
            Err(_) => {
                self.stay.0.stuck.notify_one();
                Err(Left)
            }
        }
    }
}

/// An event as it is sent. JSON has no line breaks but those that somebody has made for people.
fn written(event: Option<&str>, json: &str) -> Bytes {
    let mut text = String::with_capacity(json.len() + 32);
    if let Some(event) = event {
        text.push_str("event: ");
        text.push_str(event);
        text.push('\n');
    }
    for line in json.lines() {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_lines_and_an_empty_one() {
        assert_eq!(&written(None, "{}")[..], b"data: {}\n\n");
        assert_eq!(
            &written(Some("lost"), "{\n}")[..],
            b"event: lost\ndata: {\ndata: }\n\n"
        );
    }
}
