//! What an authority knows.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::jws::Jwk;
use crate::authority::Authority;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum AcmeFault {
    /// The nonce is said to be a bad one, once.
    BadNonce,
    /// There were too many, wait so many seconds.
    RateLimited(u64),
    /// A problem of this kind: `serverInternal`.
    Problem(&'static str),
    /// A page that is no JSON, with this status, from a proxy in between.
    Page(u16),
    /// The connection is closed instead.
    Hangup,
    /// A certificate for another name, for `certificate`.
    Foreign,
    /// A certificate that has ended, for `certificate`.
    Expired,
    /// The order is signed only so much later, and looking at it before that is told to wait so many seconds; for
    /// `finalize`.
    Later(Duration, u64),
}

/// How often what was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeCounts {
    /// Accounts that were made.
    pub accounts: usize,
    /// Changes of what an account is to be told at.
    pub updates: usize,
    /// Orders that were taken.
    pub orders: usize,
    /// Names that were looked at, whatever came of it.
    pub looks: usize,
    /// Certificates that were signed.
    pub signed: usize,
    /// Certificates that were ordered in place of another.
    pub replaced: usize,
    /// Requests of any kind, in the order in which they came.
    pub requests: Vec<String>,
    /// Whom accounts are known by.
    pub contacts: Vec<String>,
}

pub(super) struct State {
    pub(super) address: SocketAddr,
    pub(super) authority: Arc<Authority>,
    memory: Mutex<Memory>,
}

pub(super) struct Memory {
    pub(super) nonces: HashSet<String>,
    /// By their numbers.
    pub(super) accounts: HashMap<String, Jwk>,
    pub(super) orders: HashMap<String, Order>,
    pub(super) authorizations: HashMap<String, Authorization>,
    pub(super) counts: AcmeCounts,
    pub(super) complaints: Vec<String>,
    pub(super) faults: Vec<(&'static str, AcmeFault)>,
    pub(super) delay: Duration,
    pub(super) lifetime: Duration,
    pub(super) looks_at: Option<(SocketAddr, SocketAddr)>,
    pub(super) external: Option<(String, Vec<u8>)>,
    pub(super) challenges: Vec<&'static str>,
    pub(super) window: Option<(SystemTime, SystemTime)>,
    /// The numbers of certificates.
    pub(super) signed: Vec<u64>,
    next: u64,
}

pub(super) struct Order {
    pub(super) account: String,
    pub(super) names: Vec<String>,
    pub(super) authorizations: Vec<String>,
    pub(super) replaces: Option<String>,
    /// When it will have been signed, and how many seconds who looks before that is told to wait.
    pub(super) processing: Option<(SystemTime, u64)>,
    pub(super) certificate: Option<String>,
}

#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) account: String,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) offered: Vec<&'static str>,
    pub(super) status: &'static str,
    /// The kind that was tried, and what was wrong.
    pub(super) tried: Option<(&'static str, Option<Value>)>,
}

impl State {
    pub(super) fn new(address: SocketAddr, authority: Arc<Authority>) -> Self {
        Self {
            address,
            authority,
            memory: Mutex::new(Memory {
                nonces: HashSet::new(),
                accounts: HashMap::new(),
                orders: HashMap::new(),
                authorizations: HashMap::new(),
                counts: AcmeCounts::default(),
                complaints: Vec::new(),
                faults: Vec::new(),
                delay: Duration::ZERO,
                lifetime: Duration::from_secs(90 * 86_400),
                looks_at: None,
                external: None,
                challenges: vec!["http-01", "tls-alpn-01", "dns-01"],
                window: None,
                signed: Vec::new(),
                next: 0,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path as clients see it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub(super) fn complain(&self, what: String) {
        self.lock().complaints.push(what);
    }

    /// Whether an order is one of this account.
    pub(super) fn owns(&self, account: &str, order: &str) -> bool {
        let memory = self.lock();
        let order = memory.orders.get(order);
        order.is_some_and(|order| order.account == account)
    }

    /// The same of an authorization.
    pub(super) fn may_see(&self, account: &str, authorization: &str) -> bool {
        let memory = self.lock();
        let authorization = memory.authorizations.get(authorization);
        authorization.is_some_and(|authorization| authorization.account == account)
    }

    /// Where ports 80 and 443 of any name are, as soon as that is known.
    pub(super) async fn place(&self) -> (SocketAddr, SocketAddr) {
        loop {
            let place = self.lock().looks_at;
            match place {
                Some(place) => return place,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// What came of looking whether a name is there.
    pub(super) fn note(
        &self,
        id: &str,
        kind: &'static str,
        found: Result<(), (&'static str, String)>,
    ) {
        let mut memory = self.lock();
        let error = found.err().map(|(kind, detail)| {
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            json!({ "type": kind, "detail": detail, "status": 403 })
        });
        if let Some(authorization) = memory.authorizations.get_mut(id) {
            authorization.status = if error.is_none() { "valid" } else { "invalid" };
            authorization.tried = Some((kind, error));
        }
    }

    /// An order as clients see it.
    pub(super) fn shown(&self, id: &str) -> Value {
        let mut memory = self.lock();
        memory.settle(id);
        let status = memory.status(id);
        let order = &memory.orders[id];
        let identifiers: Vec<_> = order.names.iter().map(|name| identifier(name)).collect();
        let urls = order.authorizations.iter();
        let urls: Vec<_> = urls
            .map(|id| self.url(&format!("/authorization/{id}")))
            .collect();
        let mut shown = json!({
            "status": status,
            "expires": "2099-01-01T00:00:00Z",
            "identifiers": identifiers,
            "authorizations": urls,
            "finalize": self.url(&format!("/finalize/{id}")),
        });
        if let Some(replaces) = &order.replaces {
            shown["replaces"] = json!(replaces);
        }
        if status == "valid" {
            shown["certificate"] = json!(self.url(&format!("/certificate/{id}")));
        }
        shown
    }

    /// An authorization as clients see it.
    pub(super) fn shown_authorization(&self, id: &str) -> Value {
        let memory = self.lock();
        let authorization = &memory.authorizations[id];
        let challenge = |kind: &&'static str| {
            let mut shown = json!({
                "type": kind,
                "url": self.url(&format!("/challenge/{id}/{kind}")),
                "token": authorization.token,
                "status": "pending",
            });
            if let Some((tried, error)) = &authorization.tried
                && tried == kind
            {
                let status = match authorization.status {
                    "pending" => "processing",
                    status => status,
                };
                shown["status"] = json!(status);
                if let Some(error) = error {
                    shown["error"] = error.clone();
                }
            }
            shown
        };
        json!({
            "status": authorization.status,
            "expires": "2099-01-01T00:00:00Z",
            "identifier": identifier(&authorization.name),
            "challenges": authorization.offered.iter().map(challenge).collect::<Vec<_>>(),
        })
    }
}

impl Memory {
    /// Something that was never said before.
    pub(super) fn unique(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}{}", self.next)
    }

    /// A nonce that may be used once.
    pub(super) fn nonce(&mut self) -> String {
        let nonce = self.unique("nonce-");
        self.nonces.insert(nonce.clone());
        nonce
    }

    /// The fault that was asked for of such a request.
    pub(super) fn fault(&mut self, kind: &str) -> Option<AcmeFault> {
        let place = self.faults.iter().position(|(of, _)| *of == kind)?;
        Some(self.faults.remove(place).1)
    }

    /// Ends the processing of an order whose time has come.
    fn settle(&mut self, id: &str) {
        let order = self.orders.get_mut(id);
        let Some(order) = order else { return };
        if order
            .processing
            .is_some_and(|(at, _)| at <= SystemTime::now())
        {
            order.processing = None;
        }
    }

    pub(super) fn status(&self, id: &str) -> &'static str {
        let order = &self.orders[id];
        let statuses = || {
            let ids = order.authorizations.iter();
            ids.map(|id| self.authorizations[id].status)
        };
        if statuses().any(|status| status == "invalid") {
            "invalid"
        } else if order.processing.is_some() {
            "processing"
        } else if order.certificate.is_some() {
            "valid"
        } else if statuses().all(|status| status == "valid") {
            "ready"
        } else {
            "pending"
        }
    }
}

fn identifier(name: &str) -> Value {
    json!({ "type": "dns", "value": name })
}
