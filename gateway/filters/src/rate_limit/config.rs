//! What stands in the file of a limit.

use std::{borrow::Cow, net::IpAddr, str::FromStr, time::Duration};

use edgeway_sdk::prelude::*;
use ipnet::IpNet;
use serde::{Deserializer, de};

use super::gcra::Gcra;
use crate::limit_key::Ipv6Prefix;

pub(crate) const DOC: &str = "\
limits how many requests of a client, or of whom else they are counted by, may pass

rate_limit:
  # The algorithm is GCRA, a leaky bucket as a meter, as in nginx: requests pass evenly spaced, at most
  # `burst` of them ahead of their time. What is refused is not counted.
  rate: 10/s                    # in the long run; without a burst one request each 100 ms
  burst: 20                     # 0 by default; 1 + 20 pass at once, then one each 100 ms
  # How many of the burst pass at once; the others wait until their turn. All by default.
  # What nginx calls `nodelay` is all of them, `delay=5` is 5, and neither of the two is 0.
  at_once: 20
  cost: 1                       # how many requests one counts for
  # Whom requests are counted by: the client's address by default. Where a request has no such value
  # (the header was not sent) the client's address stands in for it. Whoever can choose the value
  # freely is not limited by it: let another limit count addresses.
  key: '{client_ip}'            # or '{header.x-api-key}', '{claim.sub}', '{client_ip}{path}', ...
  # Limits of one name count together, on whatever routes they are: give them the same rate and key. Clients
  # see it in the headers, operators in logs. By default those of a route that have the same rate and key
  # count together, and are called by their rate.
  name: per-client
  # Instead of the keys above, several limits: a request passes if all let it, and else none counts it.
  #limits: [{ rate: 10/s, burst: 20 }, { rate: 1000/h, burst: 999, key: '{claim.sub}', name: hourly }]

  ipv6_prefix: 64               # the bits of an IPv6 address that count: who has one has the network
  allow: []                     # [10.0.0.0/8, 2001:db8::/32]: addresses that are not limited
  status: 429                   # of refusals
  headers: true                 # RateLimit-Policy and RateLimit tell the client how much is left
  memory: 16MiB                 # at most, for each limit; 16 bytes for each key that is active
  # A Redis or Valkey where several gateways count together: redis://, rediss:// (TLS), unix:///path; with
  # a user and a password as redis://user:password@host:6379/0, best by env:NAME or file:/path.
  #store: redis://127.0.0.1:6379   # none by default
  #store_timeout: 100ms            # later answers are none
  #on_store_error: local           # local: count here meanwhile; open: let pass; closed: refuse (503)
";

/// `rate_limit: { rate: 10/s, burst: 20 }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    rate: Option<Rate>,
    burst: Option<u32>,
    at_once: Option<u32>,
    cost: Option<Cost>,
    key: Option<Template>,
    name: Option<Name>,
    limits: Option<Vec<LimitConfig>>,
    #[serde(default)]
    pub(super) ipv6_prefix: Ipv6Prefix,
    #[serde(default)]
    pub(super) allow: Vec<Network>,
    #[serde(default)]
    pub(super) status: Status,
    #[serde(default = "Config::headers")]
    pub(super) headers: bool,
    #[serde(default = "Config::memory")]
    memory: Size,
    pub(super) store: Option<Secret>,
    store_timeout: Option<Period>,
    on_store_error: Option<OnStoreError>,
}

/// One of several limits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitConfig {
    pub(super) rate: Rate,
    #[serde(default)]
    burst: u32,
    at_once: Option<u32>,
    #[serde(default)]
    cost: Cost,
    pub(super) key: Option<Template>,
    pub(super) name: Option<Name>,
}

impl Config {
    fn headers() -> bool {
        true
    }

    fn memory() -> Size {
        Size(16 << 20)
    }

    /// The limits, each with the place of its keys.
    pub(super) fn limits(&mut self) -> Result<Vec<(String, LimitConfig)>, BuildError> {
        let own = [
            ("burst", self.burst.is_some()),
            ("at_once", self.at_once.is_some()),
            ("cost", self.cost.is_some()),
            ("key", self.key.is_some()),
            ("name", self.name.is_some()),
        ];
        match (self.rate, self.limits.take()) {
            (None, None) => Err(BuildError::new("there is no limit").help("give it a `rate`")),
            (Some(_), Some(_)) => Err(both("rate")),
            (None, Some(list)) => match own.iter().find(|(_, is_there)| *is_there) {
                Some((key, _)) => Err(both(key)),
                None if list.is_empty() => Err(BuildError::at("limits", "the list is empty")),
                None => {
                    let place = |at: usize| format!("limits.{at}.");
                    Ok(list
                        .into_iter()
                        .enumerate()
                        .map(|(at, limit)| (place(at), limit))
                        .collect())
                }
            },
            (Some(rate), None) => {
                let limit = LimitConfig {
                    rate,
                    burst: self.burst.unwrap_or_default(),
                    at_once: self.at_once,
                    cost: self.cost.take().unwrap_or_default(),
                    key: self.key.take(),
                    name: self.name.take(),
                };
                Ok(vec![(String::new(), limit)])
            }
        }
    }

    /// Bytes for each limit.
    pub(super) fn bytes(&self) -> Result<u64, BuildError> {
        match self.memory.0 {
            bytes @ 1_024..=LARGEST => Ok(bytes),
            bytes => Err(BuildError::at(
                "memory",
                format!("expected from 1KiB to 64GiB, found {}", Size(bytes)),
            )),
        }
    }

    /// How long to wait for the store, and what to do without its answer.
    pub(super) fn store_rules(&self) -> Result<(Duration, OnStoreError), BuildError> {
        let keys = [
            ("store_timeout", self.store_timeout.is_some()),
            ("on_store_error", self.on_store_error.is_some()),
        ];
        if let Some((key, _)) = keys.iter().find(|(_, is_there)| *is_there)
            && self.store.is_none()
        {
            return Err(BuildError::at(*key, "has no effect without a `store`"));
        }
        let timeout = self.store_timeout.map_or(TIMEOUT, Duration::from);
        if timeout.is_zero() {
            return Err(BuildError::at(
                "store_timeout",
                "nothing is done in no time",
            ));
        }
        Ok((timeout, self.on_store_error.unwrap_or(OnStoreError::Local)))
    }
}

fn both(key: &str) -> BuildError {
    BuildError::at(key, format!("`{key}` and `limits` exclude each other"))
        .help("write it in each of the `limits`")
}

impl LimitConfig {
    /// The limit in numbers; `place` is that of its keys.
    pub(super) fn gcra(&self, place: &str) -> Result<Gcra, BuildError> {
        let wrong =
            |key: &str, message: String| Err(BuildError::at(format!("{place}{key}"), message));
        let events = u128::from(self.rate.events.get());
        // Rounded up: never more than the rate.
        let interval = self.rate.period.as_nanos().div_ceil(events);
        let capacity = (u128::from(self.burst) + 1) * interval;
        if capacity > LONGEST {
            return wrong(
                "rate",
                "the burst would last for more than a hundred years".to_owned(),
            );
        }
        let Cost(cost) = self.cost;
        if u64::from(cost) > u64::from(self.burst) + 1 {
            return wrong(
                "cost",
                format!(
                    "a request that counts for {cost} would never pass, the burst being {}",
                    self.burst
                ),
            );
        }
        let at_once = self.at_once.unwrap_or(self.burst);
        if at_once > self.burst {
            return wrong(
                "at_once",
                format!(
                    "there is no more than the burst of {} to pass at once",
                    self.burst
                ),
            );
        }
        Ok(Gcra {
            interval: interval as u64,
            burst: self.burst,
            at_once,
            cost,
        })
    }

    /// How clients and operators are told of the limit.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(Name(name)) => name.clone(),
            None => written(self.rate),
        }
    }
}

/// A rate as it is written in the file, the shortest way.
pub(super) fn written(rate: Rate) -> String {
    let Rate { events, period } = rate;
    match period.as_secs() {
        1 if period.subsec_nanos() == 0 => format!("{events}/s"),
        60 if period.subsec_nanos() == 0 => format!("{events}/min"),
        3_600 if period.subsec_nanos() == 0 => format!("{events}/h"),
        86_400 if period.subsec_nanos() == 0 => format!("{events}/d"),
        _ => format!("{events}/{period:?}"),
    }
}

/// What happens to a request while the store can't be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnStoreError {
    Local,
    Open,
    Closed,
}

/// How many requests one counts for.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
struct Cost(u32);

impl Default for Cost {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u32> for Cost {
    type Error = &'static str;

    fn try_from(cost: u32) -> Result<Self, Self::Error> {
        match cost {
            0 => Err("a request counts for 1 or more; what counts for nothing needs no limit"),
            cost => Ok(Self(cost)),
        }
    }
}

/// The status of refusals.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct Status(pub(super) u16);

impl Default for Status {
    fn default() -> Self {
        Self(429)
    }
}

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            400..=599 => Ok(Self(status)),
            _ => Err(format!("expected a status from 400 to 599, found {status}")),
        }
    }
}

/// The name of a limit: a word that can stand in a header and beside a figure.
#[derive(Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Name(pub(super) String);

impl TryFrom<Cow<'_, str>> for Name {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(format!(
                "expected a name of letters, digits and `-_./:`, at most 64 of them, found `{text}`"
            ));
        }
        Ok(Self(text.into_owned()))
    }
}

/// A network, or a single address.
#[derive(Debug)]
pub(super) struct Network(pub(super) IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse().ok().or_else(address) {
            Some(network) => Ok(Self(network)),
            None => Err(format!(
                "expected an address or a network such as `10.0.0.0/8`, found `{text}`"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Bytes that nobody wants to give a limit.
const LARGEST: u64 = 64 << 30;
/// Nanoseconds of a hundred years.
const LONGEST: u128 = 100 * 365 * 86_400 * 1_000_000_000;
/// How long a request waits for the store.
const TIMEOUT: Duration = Duration::from_millis(100);
