//! A document that a service publishes, fetched in the background: a key set, a list of revoked
//! tokens.
//!
//! The last good edition stays in use through an outage. It is a resource, so it survives a reload;
//! however many filters and configurations use it, it is fetched once per interval.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahash::RandomState;
use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use http::{HeaderValue, Method, header::ACCEPT};
use reqwest::Request;
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::client::{Client, Limits, Url};

/// What a document must be to be of use.
pub(crate) trait Publication: Sized + Send + Sync + 'static {
    /// What it is, for the log.
    const NAME: &'static str;
    /// More bytes than this are refused.
    const LARGEST: usize;

    /// Reads the document; the error says what is wrong with it.
    fn read(text: &[u8]) -> Result<Self, String>;
}

/// One content of a document. Editions are numbered from 1; a fetch that brings nothing new makes
/// no edition.
pub(crate) struct Edition<T> {
    pub(crate) number: u64,
    pub(crate) content: T,
    hash: u64,
}

/// Where a document is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Here.
    Url(Url),
    /// Where this issuer says (OpenID Connect Discovery, section 4).
    Issuer(String, Url),
    /// What this issuer says of itself is the document.
    Metadata(String, Url),
}

impl Source {
    pub(crate) fn url(&self) -> &Url {
        match self {
            Self::Url(url) | Self::Issuer(_, url) | Self::Metadata(_, url) => url,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url().fmt(f)
    }
}

/// How often a document is fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From one fetch to the next.
    pub(crate) interval: Duration,
    /// How long a fetch may take.
    pub(crate) timeout: Duration,
}

/// A document, of which the last good edition is known.
pub(crate) struct Document<T> {
    source: Source,
    client: Client,
    current: ArcSwapOption<Edition<T>>,
    hasher: RandomState,
    /// Held while the document is fetched, so that it is fetched once for all.
    turn: tokio::sync::Mutex<Turn>,
    asked: Mutex<Asked>,
    wanted: Notify,
    answered: watch::Sender<()>,
}

/// What is known of the fetches so far.
#[derive(Default)]
struct Turn {
    ended: Option<Instant>,
    failures: u32,
}

/// What requests have asked for.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    waiting: bool,
}

impl<T: Publication> Document<T> {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            client: Client::new(source.url()),
            source,
            current: ArcSwapOption::empty(),
            hasher: RandomState::new(),
            turn: tokio::sync::Mutex::default(),
            asked: Mutex::default(),
            wanted: Notify::new(),
            answered: watch::Sender::new(()),
        }
    }

    /// The last good edition, if there ever was one. Takes no lock.
    pub(crate) fn current(&self) -> Guard<Option<Arc<Edition<T>>>> {
        self.current.load()
    }

    /// The number of the last good edition, 0 if there was none.
    pub(crate) fn number(&self) -> u64 {
        self.current().as_ref().map_or(0, |edition| edition.number)
    }

    /// Fetches the document now, then again and again: the task that runs in the background.
    pub(crate) async fn keep(self: Arc<Self>, pace: Pace) {
        loop {
            let pause = self.fetch_when_due(pace).await;
            // Either the pause is over or a request has asked.
            drop(timeout(pause, self.wanted.notified()).await);
        }
    }

    /// Has the background fetch the document at once, and waits for that no longer than `patience`.
    ///
    /// Done at most once per `gap`, whoever asks: those who ask while it is under way wait for the
    /// same fetch, those who ask later have their answer already.
    pub(crate) async fn ask(&self, gap: Duration, patience: Duration) {
        // Before asking, so that a quick answer is not missed.
        let mut answered = self.answered.subscribe();
        if self.is_worth_waiting(gap) {
            drop(timeout(patience, answered.changed()).await);
        }
    }

    fn is_worth_waiting(&self, gap: Duration) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.at.is_some_and(|at| at.elapsed() < gap) {
            return asked.waiting;
        }
        *asked = Asked {
            at: Some(Instant::now()),
            waiting: true,
        };
        self.wanted.notify_one();
        true
    }

    /// Fetches the document if that is due or was asked for, and tells how long to pause.
    async fn fetch_when_due(&self, pace: Pace) -> Duration {
        let mut turn = self.turn.lock().await;
        let is_asked = self.is_asked();
        let left = turn.left(pace.interval);
        if !is_asked && !left.is_zero() {
            return left;
        }
        let fetched = self.fetch(pace.timeout).await;
        self.note(&mut turn, fetched.and_then(|text| self.publish(&text)));
        if is_asked {
            self.answer();
        }
        turn.left(pace.interval)
    }

    fn is_asked(&self) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.waiting
    }

    fn answer(&self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.waiting = false;
        self.answered.send_replace(());
    }

    /// The document; none if it is not there within `patience`.
    async fn fetch(&self, patience: Duration) -> Result<Bytes, String> {
        let limits = |largest| Limits {
            timeout: patience,
            largest,
        };
        let (issuer, url) = match &self.source {
            Source::Url(url) => return get(&self.client, url.clone(), limits(T::LARGEST)).await,
            Source::Issuer(issuer, url) | Source::Metadata(issuer, url) => (issuer, url.clone()),
        };
        let began = Instant::now();
        let text = get(&self.client, url, limits(LARGEST_METADATA)).await?;
        let discovered = Discovered::read(&text, issuer)?;
        if let Source::Metadata(..) = self.source {
            return Ok(text);
        }
        let limits = Limits {
            timeout: patience.saturating_sub(began.elapsed()),
            largest: T::LARGEST,
        };
        get(&self.client, discovered.key_set()?, limits).await
    }

    /// Makes this the current edition, unless nothing has changed.
    fn publish(&self, text: &[u8]) -> Result<(), String> {
        let hash = self.hasher.hash_one(text);
        let current = self.current();
        if current.as_ref().is_some_and(|edition| edition.hash == hash) {
            return Ok(());
        }
        let edition = Edition {
            number: current.as_ref().map_or(0, |edition| edition.number) + 1,
            content: T::read(text)?,
            hash,
        };
        self.current.store(Some(Arc::new(edition)));
        Ok(())
    }

    /// Tells the operator of the first failure and of the recovery, not of each attempt.
    fn note(&self, turn: &mut Turn, result: Result<(), String>) {
        turn.ended = Some(Instant::now());
        let (name, source) = (T::NAME, &self.source);
        let Err(reason) = result else {
            if turn.failures > 0 {
                log::info!("{name} `{source}` is fetched again");
            }
            turn.failures = 0;
            return;
        };
        if turn.failures == 0 {
            log::warn!("can't fetch {name} `{source}`, keeping what is known: {reason}");
        }
        turn.failures = turn.failures.saturating_add(1);
    }
}

impl Turn {
    /// How long it is to the next fetch. After failures it is soon, then later and later.
    fn left(&self, interval: Duration) -> Duration {
        let Some(ended) = self.ended else {
            return Duration::ZERO;
        };
        let pause = match self.failures {
            0 => interval,
            failures => interval.min(Duration::from_secs(1 << (failures - 1).min(5))),
        };
        pause.saturating_sub(ended.elapsed())
    }
}

/// What an issuer says of itself.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Discovered {
    /// Reads it, if it is this issuer that speaks.
    fn read(text: &[u8], issuer: &str) -> Result<Self, String> {
        let discovered: Self = serde_json::from_slice(text)
            .map_err(|error| format!("the issuer's configuration is not right: {error}"))?;
        if discovered.issuer != issuer {
            return Err(format!(
                "the configuration is that of the issuer `{}`",
                discovered.issuer
            ));
        }
        Ok(discovered)
    }

    fn key_set(&self) -> Result<Url, String> {
        Url::parse(&self.jwks_uri).map_err(|error| format!("`jwks_uri` is not a URL: {error}"))
    }
}

/// Where an issuer tells of itself.
pub(crate) fn well_known(issuer: &str) -> String {
    format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    )
}

async fn get(client: &Client, url: Url, limits: Limits) -> Result<Bytes, String> {
    let mut request = Request::new(Method::GET, url);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json);
    let answer = client.ask(request, limits).await?;
    if !answer.status.is_success() {
        return Err(format!("the answer is {}", answer.status));
    }
    Ok(answer.body)
}

/// In bytes. What issuers say of themselves are some KiB.
const LARGEST_METADATA: usize = 1 << 20;
