//! An upstream, as it is written.

use std::{
    collections::HashMap,
    fmt,
    num::{NonZeroU16, NonZeroU32},
    str::FromStr,
    time::Duration,
};

use edgeway_sdk::types::FilePath;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    At, By, Discover, EndpointAddress, Health, HostPolicy, Sticky,
    diagnostic::{Diagnostic, Problems},
    scalar::{HiddenHeader, Pause, Percent, Span, StatusRange, from_text, from_text_or_number},
};
use crate::upstream::breaker::MOST_PROBES;

#[derive(Debug, Deserialize)]
pub(crate) struct Upstream {
    #[serde(default)]
    pub(crate) balance: Balance,
    pub(crate) endpoints: Option<At<Vec<At<Endpoint>>>>,
    /// Where endpoints come from that are not written down.
    pub(crate) discover: Option<At<Discover>>,
    pub(crate) protocol: Option<At<Protocol>>,
    pub(crate) tls: Option<At<UpstreamTls>>,
    /// Whether and how endpoints are told first who the client is.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// Requests under way at each endpoint that does not say otherwise.
    pub(crate) max_connections: Option<NonZeroU32>,
    /// What waits when every endpoint has as many as it may.
    pub(crate) queue: Option<At<Queue>>,
    /// How long an endpoint that comes into service is spared.
    pub(crate) slow_start: Option<Pause>,
    pub(crate) sticky: Option<At<Sticky>>,
    pub(crate) health: Option<At<Health>>,
    /// Failures within `fail_timeout` after which an endpoint is left out; 0 never leaves one out.
    #[serde(default = "Upstream::max_fails")]
    pub(crate) max_fails: u32,
    /// For how long, and the time in which failures are counted.
    #[serde(default = "Upstream::fail_timeout")]
    pub(crate) fail_timeout: Span,
    #[serde(default)]
    pub(crate) ejection: Ejection,
    pub(crate) breaker: Option<Breaker>,
    #[serde(default)]
    pub(crate) retries: Retries,
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// The `Host` that endpoints see.
    #[serde(default)]
    pub(crate) host: HostPolicy,
    /// Response headers that clients don't see.
    #[serde(default = "Upstream::hide_headers")]
    pub(crate) hide_headers: Vec<HiddenHeader>,
    /// What becomes of changes made while the gateway runs when the configuration is read again.
    #[serde(default)]
    pub(crate) live_changes: LiveChanges,
}

impl Upstream {
    fn max_fails() -> u32 {
        1
    }

    fn fail_timeout() -> Span {
        Span(Duration::from_secs(10))
    }

    fn hide_headers() -> Vec<HiddenHeader> {
        vec![
            HiddenHeader(http::header::SERVER),
            HiddenHeader(http::HeaderName::from_static("x-powered-by")),
        ]
    }
}

/// How requests are shared out.
#[derive(Clone, Debug, Default)]
pub(crate) enum Balance {
    #[default]
    RoundRobin,
    LeastConnections,
    LeastTime,
    RandomTwo,
    IpHash,
    Hash(HashBy),
}

/// `hash: "{header.x-user}"`, or `hash: { by: "{path}", bound: 125% }`.
#[derive(Clone, Debug)]
pub(crate) struct HashBy {
    pub(crate) by: By,
    /// How much more than its share an endpoint takes.
    pub(crate) bound: Option<Bound>,
}

/// From 101 % to 1000 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound(pub(crate) f64);

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected a share from 101% to 1000% such as `125%`, found `{text}`");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let percent: f64 = number.trim_end().parse().map_err(|_| wrong())?;
        if !(101.0..=1000.0).contains(&percent) {
            return Err(wrong());
        }
        Ok(Self(percent / 100.0))
    }
}

from_text!(Bound, "a share such as `125%`");

const POLICIES: &str =
    "`round_robin`, `least_connections`, `least_time`, `random_two`, `ip_hash` or `{ hash: ... }`";

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            RoundRobin,
            LeastConnections,
            LeastTime,
            RandomTwo,
            IpHash,
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            hash: HashBy,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Balance;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(POLICIES)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Balance, E> {
                let word = Word::deserialize(de::value::StrDeserializer::new(text))?;
                Ok(match word {
                    Word::RoundRobin => Balance::RoundRobin,
                    Word::LeastConnections => Balance::LeastConnections,
                    Word::LeastTime => Balance::LeastTime,
                    Word::RandomTwo => Balance::RandomTwo,
                    Word::IpHash => Balance::IpHash,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Balance, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Balance::Hash(full.hash))
            }
        }

        deserializer.deserialize_struct("balance", &["hash"], Either)
    }
}

impl<'de> Deserialize<'de> for HashBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            by: By,
            bound: Option<Bound>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HashBy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text with values of the request such as `{header.x-user}`, or a map with `by`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HashBy, E> {
                let by = text.parse().map_err(E::custom)?;
                Ok(HashBy { by, bound: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HashBy, A::Error> {
                let Full { by, bound } = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(HashBy { by, bound })
            }
        }

        deserializer.deserialize_struct("hash", &["by", "bound"], Either)
    }
}

/// `product-1:8080`, or `{ address: product-1:8080, weight: 5 }`.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: EndpointAddress,
    pub(crate) weight: NonZeroU16,
    pub(crate) backup: bool,
    pub(crate) max_connections: Option<NonZeroU32>,
    pub(crate) state: Mode,
}

/// Whether an operator wants an endpoint to serve.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    #[default]
    Up,
    /// What is under way ends, sessions that are there stay, nothing new comes.
    Drain,
    /// Nothing comes.
    Maintenance,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            address: EndpointAddress,
            weight: Option<NonZeroU16>,
            #[serde(default)]
            backup: bool,
            max_connections: Option<NonZeroU32>,
            #[serde(default)]
            state: Mode,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as `app-1:8080`, or a map with `address`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                let address = text.parse().map_err(E::custom)?;
                Ok(Endpoint::at(address))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Endpoint {
                    address: full.address,
                    weight: full.weight.unwrap_or(NonZeroU16::MIN),
                    backup: full.backup,
                    max_connections: full.max_connections,
                    state: full.state,
                })
            }
        }

        const KEYS: &[&str] = &["address", "weight", "backup", "max_connections", "state"];
        deserializer.deserialize_struct("endpoint", KEYS, Either)
    }
}

impl Endpoint {
    /// An endpoint of which nothing but the address is said.
    pub(crate) fn at(address: EndpointAddress) -> Self {
        Self {
            address,
            weight: NonZeroU16::MIN,
            backup: false,
            max_connections: None,
            state: Mode::Up,
        }
    }
}

/// Tells of endpoints with the address of one before them.
pub(crate) fn tell_repeated(endpoints: &[At<Endpoint>], problems: &mut Problems) {
    let mut known = HashMap::new();
    for endpoint in endpoints {
        let address = endpoint.value.address.to_string();
        let message = format!("the endpoint `{address}` is written twice");
        if let Some(first) = known.insert(address, endpoint) {
            let again = Diagnostic::error(message)
                .at(endpoint)
                .help("give it a `weight` instead");
            problems.push(again.also(first, "here first"));
        }
    }
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    #[default]
    Http1,
    /// HTTP/2 and nothing else; in the clear without `tls`, with prior knowledge.
    Http2,
    /// What the endpoint prefers, by ALPN.
    Auto,
}

/// How a connection begins that tells for whom it is made (the PROXY protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProxyVersion {
    /// With a line of text.
    V1,
    /// With bytes.
    V2,
}

/// `tls: {}` is enough for endpoints with certificates that everybody trusts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UpstreamTls {
    /// The name that the endpoint must prove to have, and that it is asked for (SNI); the host of the
    /// endpoint if not given.
    pub(crate) name: Option<At<String>>,
    /// `false` believes any certificate.
    pub(crate) verify: Option<At<bool>>,
    /// Who may have signed; those that the system trusts if not given.
    pub(crate) ca: Option<At<FilePath>>,
    /// What we show of ourselves.
    pub(crate) certificate: Option<At<FilePath>>,
    pub(crate) key: Option<At<FilePath>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Queue {
    /// How many requests wait at most.
    pub(crate) size: NonZeroU32,
    pub(crate) timeout: Span,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            size: NonZeroU32::MIN.saturating_add(99),
            timeout: Span(Duration::from_secs(1)),
        }
    }
}

/// What else leaves endpoints out, and how many.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Ejection {
    /// How far the time grows that an endpoint is left out when it fails again and again.
    pub(crate) max_fail_timeout: Option<At<Span>>,
    pub(crate) error_rate: Option<ErrorRate>,
    /// Answers that count as failures.
    pub(crate) statuses: Vec<StatusRange>,
    /// How many of the endpoints may be left out.
    pub(crate) max_ejected: Percent,
    /// When fewer than this are well, all are asked; never if not given.
    pub(crate) panic_below: Option<At<Percent>>,
    /// Whether endpoints that are not well are asked when none is; they are if not given.
    pub(crate) last_resort: Option<At<bool>>,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            max_fail_timeout: None,
            error_rate: None,
            statuses: Vec::new(),
            max_ejected: Percent::ALL,
            panic_below: None,
            last_resort: None,
        }
    }
}

/// `{ above: 50%, min_requests: 20 }`
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct ErrorRate {
    pub(crate) above: Percent,
    #[serde(default = "min_requests")]
    pub(crate) min_requests: NonZeroU32,
}

fn min_requests() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(19)
}

/// When an upstream as a whole is not asked for a while.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Breaker {
    pub(crate) error_rate: Percent,
    pub(crate) min_requests: NonZeroU32,
    pub(crate) window: Span,
    pub(crate) open_for: Span,
    /// How many requests try at once whether it is well again, and must all succeed.
    pub(crate) probes: Probes,
    /// Answers that count as failures.
    pub(crate) statuses: Vec<StatusRange>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            error_rate: Percent::HALF,
            min_requests: min_requests(),
            window: Span(Duration::from_secs(10)),
            open_for: Span(Duration::from_secs(5)),
            probes: Probes(3),
            statuses: vec![StatusRange::SERVER_ERRORS],
        }
    }
}

/// From 1 to [`MOST_PROBES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NonZeroU32")]
pub(crate) struct Probes(pub(crate) u32);

impl TryFrom<NonZeroU32> for Probes {
    type Error = String;

    fn try_from(number: NonZeroU32) -> Result<Self, String> {
        if number.get() > MOST_PROBES {
            return Err(format!("expected at most {MOST_PROBES}, found {number}"));
        }
        Ok(Self(number.get()))
    }
}

/// When and how a request is tried again.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Retries {
    /// How many endpoints a request is tried on at most.
    pub(crate) tries: NonZeroU32,
    pub(crate) on: Vec<Condition>,
    /// How long a try may be without an answer before another endpoint is asked.
    pub(crate) timeout: Option<Span>,
    /// The pause before the first retry; it doubles, and is shortened at random.
    pub(crate) backoff: Pause,
    pub(crate) max_backoff: Pause,
    /// How many retries there may be for each request of the last ten seconds.
    pub(crate) budget: Percent,
    /// How many retries a second are always allowed.
    pub(crate) min_per_second: u32,
    /// How long an endpoint may be silent before another one is asked as well; never if not given.
    pub(crate) hedge_after: Option<At<Span>>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            tries: NonZeroU32::MIN.saturating_add(2),
            on: vec![Condition::Connect, Condition::Reset],
            timeout: None,
            backoff: Pause(Duration::ZERO),
            max_backoff: Pause(Duration::from_secs(1)),
            budget: Percent(0.2),
            min_per_second: 10,
            hedge_after: None,
        }
    }
}

/// What a request is tried again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// No connection could be made.
    Connect,
    /// The connection broke before an answer.
    Reset,
    /// No answer came in time.
    Timeout,
    /// An answer with such a status.
    Status(StatusRange),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            status => status.parse().map(Self::Status).map_err(|_| {
                format!("expected `connect`, `reset`, `timeout`, a status or a range of them such as `502-504`, found `{text}`")
            }),
        }
    }
}

from_text_or_number!(Condition, "`connect`, `reset`, `timeout` or a status");

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Timeouts {
    pub(crate) connect: Span,
    /// The TLS handshake.
    pub(crate) handshake: Span,
    /// From the end of the request to the head of the answer; as `read` if not given.
    pub(crate) first_byte: Option<Span>,
    /// Between two pieces of an answer.
    pub(crate) read: Span,
    pub(crate) write: Span,
    pub(crate) idle: Span,
    /// How long a WebSocket may be silent in both directions.
    pub(crate) websocket_idle: Span,
    /// Everything, with all tries; no limit if not given.
    pub(crate) total: Option<Span>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span(Duration::from_secs(5)),
            handshake: Span(Duration::from_secs(5)),
            first_byte: None,
            read: Span(Duration::from_secs(30)),
            write: Span(Duration::from_secs(30)),
            idle: Span(Duration::from_secs(60)),
            websocket_idle: Span(Duration::from_secs(3600)),
            total: None,
        }
    }
}

/// What becomes of changes made while the gateway runs when the configuration is read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LiveChanges {
    #[default]
    Keep,
    Forget,
}
