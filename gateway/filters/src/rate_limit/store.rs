//! A Redis or Valkey where several gateways count together.
//!
//! One connection serves all requests of the process, one round trip each of them. It is made when the
//! first request needs it. When it fails, or an answer does not come in time, requests go on without it at
//! once; from then on one request in a second has a new connection made, and none waits for that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use edgeway_sdk::Secret;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, RedisError, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// A store, and the way to it.
pub(super) struct Store {
    client: Client,
    /// Where it is, without the password.
    place: String,
    began: Instant,
    link: ArcSwapOption<Link>,
    connecting: AtomicBool,
    /// Milliseconds since it `began`; no connection is made before.
    not_before: AtomicU64,
    /// Whether the operator was told that it can't be asked.
    away: AtomicBool,
    /// Told whenever a connection was tried.
    tried: watch::Sender<()>,
}

/// A connection to a store that has answered.
struct Link {
    connection: MultiplexedConnection,
    /// How the store calls the script.
    script: String,
    since: Instant,
}

/// A request of the store: keys, and the three arguments of each.
pub(super) struct Count {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) limits: Arc<[[String; 3]]>,
}

/// What the store says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Whether the request was counted; if not, one of the limits has no room for it.
    pub(super) passes: bool,
    /// The level of each limit before that, in millionths of a unit.
    pub(super) levels: Vec<u64>,
}

impl Store {
    /// The store at this URL.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, without its password.
    pub(super) fn new(url: &Secret) -> Result<Self, String> {
        // What the error says is no help, and may be of the password.
        let client = Client::open(url.reveal()).map_err(|_| {
            "expected a URL such as `redis://10.0.0.7:6379`, `rediss://...` or `unix:///run/redis.sock`"
        })?;
        let place = match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("the certificate of the store is always verified".to_owned());
            }
            ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => return Err("there is no way to such a store".to_owned()),
        };
        Ok(Self {
            client,
            place,
            began: Instant::now(),
            link: ArcSwapOption::empty(),
            connecting: AtomicBool::new(false),
            not_before: AtomicU64::new(0),
            away: AtomicBool::new(false),
            tried: watch::Sender::new(()),
        })
    }

    /// Counts a request; none if the store has not answered as it should, and in time.
    pub(super) async fn count(
        self: &Arc<Self>,
        count: &Count,
        patience: Duration,
    ) -> Option<Counted> {
        let deadline = Instant::now() + patience;
        loop {
            let link = timeout_at(deadline, self.link()).await.ok()??;
            let since = link.since;
            match timeout_at(deadline, link.count(count)).await {
                Ok(Ok(counted)) => return Some(counted),
                Ok(Err(reason)) => self.lose(&link, &reason),
                Err(_) => {
                    self.lose(&link, LATE);
                    return None;
                }
            }
            // What was at rest may have been closed from over there: that is worth another one.
            if since.elapsed() < PAUSE {
                return None;
            }
        }
    }

    /// The connection. Waits for the first one, not for one that takes the place of one that has failed.
    async fn link(self: &Arc<Self>) -> Option<Arc<Link>> {
        let mut tried = self.tried.subscribe();
        if let Some(link) = self.link.load_full() {
            return Some(link);
        }
        self.connect_when_due();
        while !self.away.load(Relaxed) {
            if let Some(link) = self.link.load_full() {
                return Some(link);
            }
            tried.changed().await.ok()?;
        }
        None
    }

    /// Has a connection made on the side, unless one is being made or was tried a moment ago.
    fn connect_when_due(self: &Arc<Self>) {
        if self.now() < self.not_before.load(Relaxed) || self.connecting.swap(true, Relaxed) {
            return;
        }
        let store = Arc::clone(self);
        tokio::spawn(async move {
            // Whatever becomes of this task, another may be tried.
            let turn = Turn(&store);
            match timeout(CONNECT, Link::new(&store.client)).await {
                Ok(Ok(link)) => store.gain(link),
                Ok(Err(reason)) => store.miss(&reason),
                Err(_) => store.miss(LATE),
            }
            drop(turn);
        });
    }

    fn gain(&self, link: Link) {
        self.link.store(Some(Arc::new(link)));
        if self.away.swap(false, Relaxed) {
            log::info!("the store of limits `{}` answers again", self.place);
        }
    }

    /// Gives a connection up. One that has served for a while may be replaced at once.
    fn lose(&self, link: &Arc<Link>, reason: &str) {
        let current = self.link.compare_and_swap(link, None);
        if !current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, link))
        {
            return;
        }
        if link.since.elapsed() < PAUSE || reason == LATE {
            self.miss(reason);
        }
    }

    fn miss(&self, reason: &str) {
        self.not_before
            .store(self.now() + PAUSE.as_millis() as u64, Relaxed);
        if !self.away.swap(true, Relaxed) {
            let place = &self.place;
            log::warn!("the store of limits `{place}` can't be asked, going on without: {reason}");
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// The turn of one task to make a connection.
struct Turn<'a>(&'a Store);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.connecting.store(false, Relaxed);
        self.0.tried.send_replace(());
    }
}

impl Link {
    /// A connection that was seen to do what is wanted of it.
    async fn new(client: &Client) -> Result<Self, String> {
        // Who asks has a deadline of its own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection.await.map_err(|error| plain(&error))?;
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).to_owned();
        let script: String = load
            .query_async(&mut connection)
            .await
            .map_err(|error| plain(&error))?;
        let link = Self {
            connection,
            script,
            since: Instant::now(),
        };
        let trial = Count {
            keys: vec![TRIAL.to_vec()],
            limits: Arc::from([["1".to_owned(), "1000000000".to_owned(), "1".to_owned()]]),
        };
        link.count(&trial).await?;
        Ok(link)
    }

    async fn count(&self, count: &Count) -> Result<Counted, String> {
        let mut answer = self.run("EVALSHA", &self.script, count).await;
        // Somebody has emptied the store's memory of scripts.
        if matches!(&answer, Err(error) if error.code() == Some("NOSCRIPT")) {
            answer = self.run("EVAL", SCRIPT, count).await;
        }
        let answer = answer.map_err(|error| plain(&error))?;
        Counted::read(&answer, count.keys.len()).ok_or_else(|| "no answer of the script".to_owned())
    }

    async fn run(&self, verb: &str, script: &str, count: &Count) -> Result<Value, RedisError> {
        let mut command = Cmd::new();
        command.arg(verb).arg(script).arg(count.keys.len());
        for key in &count.keys {
            command.arg(key);
        }
        for argument in count.limits.iter().flatten() {
            command.arg(argument);
        }
        command.query_async(&mut self.connection.clone()).await
    }
}

impl Counted {
    fn read(answer: &Value, limits: usize) -> Option<Self> {
        let Value::Array(items) = answer else {
            return None;
        };
        let numbers = items.iter().map(|item| match item {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        });
        let numbers = numbers.collect::<Option<Vec<_>>>()?;
        let (passes, levels) = numbers.split_first()?;
        (*passes <= 1 && levels.len() == limits).then(|| Self {
            passes: *passes == 1,
            levels: levels.to_vec(),
        })
    }
}

/// What went wrong, in one line.
fn plain(error: &RedisError) -> String {
    error.to_string().replace(['\r', '\n'], " ")
}

/// A store that has stopped takes connections all the same: what is late is given up at once.
const LATE: &str = "no answer in time";
const SCRIPT: &str = include_str!("count.lua");
/// A key that says nothing of anybody.
const TRIAL: &[u8] = b"edgeway:limit:(trial)";
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// From one attempt to connect to the next.
const PAUSE: Duration = Duration::from_secs(1);
