//! A document that a service publishes, fetched in the background: a key set, a list of revoked
//! tokens.
//!
//! The last good edition stays in use through an outage. It is a resource, so it survives a reload;
//! however many filters and configurations use it, it is fetched once per interval.

use std::{
    error::Error as _,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahash::RandomState;
use arc_swap::{ArcSwapOption, Guard};
use reqwest::{Client, Url, header::ACCEPT, redirect};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

/// What a document must be to be of use.
pub(super) trait Publication: Sized + Send + Sync + 'static {
    /// What it is, for the log.
    const NAME: &'static str;
    /// More bytes than this are refused.
    const LARGEST: usize;

    /// Reads the document; the error says what is wrong with it.
    fn read(text: &[u8]) -> Result<Self, String>;
}

/// One content of a document. Editions are numbered from 1; a fetch that brings nothing new makes
/// no edition.
pub(super) struct Edition<T> {
    pub(super) number: u64,
    pub(super) content: T,
    hash: u64,
}

/// Where a document is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Here.
    Url(Url),
    /// Where this issuer says (OpenID Connect Discovery, section 4).
    Issuer(String, Url),
}

impl Source {
    fn url(&self) -> &Url {
        match self {
            Self::Url(url) | Self::Issuer(_, url) => url,
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
pub(super) struct Pace {
    /// From one fetch to the next.
    pub(super) interval: Duration,
    /// How long a fetch may take.
    pub(super) timeout: Duration,
}

/// A document, of which the last good edition is known.
pub(super) struct Document<T> {
    source: Source,
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
    client: Option<Client>,
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
    pub(super) fn new(source: Source) -> Self {
        Self {
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
    pub(super) fn current(&self) -> Guard<Option<Arc<Edition<T>>>> {
        self.current.load()
    }

    /// The number of the last good edition, 0 if there was none.
    pub(super) fn number(&self) -> u64 {
        self.current().as_ref().map_or(0, |edition| edition.number)
    }

    /// Fetches the document now, then again and again: the task that runs in the background.
    pub(super) async fn keep(self: Arc<Self>, pace: Pace) {
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
    pub(super) async fn ask(&self, gap: Duration, patience: Duration) {
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
        let fetched = timeout(pace.timeout, self.fetch(&mut turn.client)).await;
        let result = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        self.note(&mut turn, result.and_then(|text| self.publish(&text)));
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

    async fn fetch(&self, client: &mut Option<Client>) -> Result<Vec<u8>, String> {
        let client = match client {
            Some(client) => client,
            // Made late: checking a configuration must not load certificates.
            none => none.insert(new_client(self.source.url())?),
        };
        let url = match &self.source {
            Source::Url(url) => url.clone(),
            Source::Issuer(issuer, _) => discover(client, issuer, self.source.url()).await?,
        };
        body(client, url, T::LARGEST).await
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

/// A document is where its URL says, so redirects are not followed; and what begins with TLS does
/// not go on without. What has no TLS needs no certificates of authorities either: a system without
/// any, such as a small container, would be refused by the platform's verifier.
fn new_client(url: &Url) -> Result<Client, String> {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .user_agent("edgeway");
    let client = match url.scheme() {
        "https" => client.https_only(true),
        _ => client.tls_certs_only([]),
    };
    client.build().map_err(|error| chain(&error))
}

/// The URL of the key set of this issuer.
async fn discover(client: &Client, issuer: &str, url: &Url) -> Result<Url, String> {
    #[derive(Deserialize)]
    struct Discovered {
        issuer: String,
        jwks_uri: String,
    }

    let text = body(client, url.clone(), 1 << 20).await?;
    let discovered: Discovered = serde_json::from_slice(&text)
        .map_err(|error| format!("the issuer's configuration is not right: {error}"))?;
    if discovered.issuer != issuer {
        return Err(format!(
            "the configuration is that of the issuer `{}`",
            discovered.issuer
        ));
    }
    Url::parse(&discovered.jwks_uri).map_err(|error| format!("`jwks_uri` is not a URL: {error}"))
}

async fn body(client: &Client, url: Url, largest: usize) -> Result<Vec<u8>, String> {
    let request = client.get(url).header(ACCEPT, "application/json");
    let mut response = request.send().await.map_err(|error| chain(&error))?;
    if !response.status().is_success() {
        return Err(format!("the answer is {}", response.status()));
    }
    let mut text = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| chain(&error))? {
        if text.len() + piece.len() > largest {
            return Err(format!("the document is larger than {largest} bytes"));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// The error with its causes: the outermost alone says no more than that something went wrong.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
