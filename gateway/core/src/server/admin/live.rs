//! The live view: what is going on, once a second, and the page that shows it.
//!
//! Nothing runs when nobody looks. All who look at the same pace share one reader, which tells what has come since it
//! has read the time before.
//!
//! * [`reading`]: what was counted up to a moment; [`sample`]: what has come since, and what is so now;
//!   [`figures`]: the numbers of it.
//! * [`mod@page`]: the page.

mod figures;
mod page;
mod reading;
mod sample;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{extract::State, response::IntoResponse};
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::{
    select,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

pub(super) use self::page::page;
use self::{reading::Window, sample::Sample};
use super::{
    call::Call,
    calls::{Answer, Desk, Shared},
    described::{Calls, Described, Parameter},
    events::Events,
    problem::Problem,
};
use crate::config::scalar::Span;

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(LIVE, live).add(FILE, page::file)
}

const FILE: Described = Described::get(
    "/page/{file}",
    "Gives what the page of the live view consists of.",
)
.gives_text("text/javascript")
.for_everybody();

const LIVE: Described = Described::get(
    "/v1/live",
    "Tells once a second what is going on, as server-sent events.",
)
.with(&[
    Parameter {
        name: "interval",
        about: "Another time between two events, from `1s` to `60s`.",
        example: "5s",
    },
    Parameter {
        name: "once",
        about: "`true` for one object of JSON instead of events, after one interval.",
        example: "true",
    },
])
.streams::<Sample>(sample::EXAMPLE);

/// What the query says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    interval: Option<Span>,
    #[serde(default)]
    once: bool,
}

/// How often something is told.
const EVERY: Duration = Duration::from_secs(1);

/// How rarely it may be.
const RAREST: Duration = Duration::from_secs(60);

/// How long who is the first to look waits for figures.
const FIRST: Duration = Duration::from_millis(300);

async fn live(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.no_body()?;
    let wish: Wish = call.asked()?;
    let interval = wish.interval.map_or(EVERY, |span| span.0);
    if !(EVERY..=RAREST).contains(&interval) {
        return Err(Problem::bad("`interval` is from `1s` to `60s`"));
    }
    if wish.once {
        let mut window = Window::open(&desk);
        sleep(interval).await;
        let text = written(&Sample::next(&desk, &mut window));
        return Ok(([(CONTENT_TYPE, "application/json")], text).into_response());
    }
    call.events(move |events| follow(desk, interval, events))
}

/// Passes on what is told, until nobody reads any more. What a slow reader has missed is not sent later.
async fn follow(desk: Shared, interval: Duration, events: Events) {
    let mut told = desk.readers.of(&desk, interval);
    loop {
        let sample = told.borrow_and_update().clone();
        if let Some(sample) = sample
            && events.send_text(None, &sample).await.is_err()
        {
            return;
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

/// Those who read for others, by their pace.
#[derive(Default)]
pub(super) struct Readers(Mutex<HashMap<Duration, watch::Sender<Option<Arc<str>>>>>);

impl Readers {
    /// What is told at this pace. Somebody reads for as long as it is kept.
    fn of(&self, desk: &Shared, pace: Duration) -> watch::Receiver<Option<Arc<str>>> {
        // Nothing panics while it is locked.
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, told| !told.is_closed());
        if let Some(told) = readers.get(&pace) {
            return told.subscribe();
        }
        let (told, receiver) = watch::channel(None);
        readers.insert(pace, told.clone());
        tokio::spawn(read(Arc::downgrade(desk), pace, told));
        receiver
    }
}

/// Reads at this pace, until nobody wants to know.
async fn read(desk: Weak<Desk>, pace: Duration, told: watch::Sender<Option<Arc<str>>>) {
    let Some(mut window) = desk.upgrade().map(|desk| Window::open(&desk)) else {
        return;
    };
    let mut ticks = interval_at(Instant::now() + FIRST.min(pace), pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            _ = ticks.tick() => {}
            () = told.closed() => return,
        }
        let Some(desk) = desk.upgrade() else { return };
        let sample = written(&Sample::next(&desk, &mut window));
        told.send_replace(Some(sample.into()));
    }
}

fn written(sample: &impl Serialize) -> String {
    serde_json::to_string(sample).expect("what is shown has keys of text")
}
