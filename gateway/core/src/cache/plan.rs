//! What a route says of its cache, compiled.

use std::{fmt, time::Duration};

use edgeway_sdk::Template;
use http::{HeaderName, StatusCode};

use super::{policy::rules::Rules, zone::Zone};
use crate::config::DEFAULT_ZONE;

/// The cache of a route.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where responses are stored. Other routes may share it, but not what they store.
    pub(crate) zone: &'static Zone,
    pub(crate) rules: Rules,
    pub(crate) key: KeyRule,
    /// Values of the request: where one is neither empty nor `0`, the request passes the cache by.
    pub(crate) bypass: Box<[Template]>,
    /// The header in which responses carry tags.
    pub(crate) tags: Option<HeaderName>,
    /// Differs between rules of which one must not be served what the other has stored.
    pub(crate) seal: u64,
    /// How long a request waits for another that fetches the same.
    pub(crate) wait: Duration,
}

/// `cached 1s`, `cached 200: 1s, 404: 5m in pages`, or `cached` where only the responses say for how long.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cached")?;
        match self.rules.ttl.as_slice() {
            [(StatusCode::OK, ttl)] => write!(f, " {}", shown(*ttl))?,
            by_status => {
                for (place, (status, ttl)) in by_status.iter().enumerate() {
                    let comma = if place > 0 { "," } else { "" };
                    write!(f, "{comma} {}: {}", status.as_u16(), shown(*ttl))?;
                }
            }
        }
        match self.zone.name() {
            DEFAULT_ZONE => Ok(()),
            name => write!(f, " in {name}"),
        }
    }
}

/// A length of time in the largest unit of which it has a whole number: `1d`.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let is_whole = |unit: u64| seconds.is_multiple_of(unit) && time.subsec_nanos() == 0;
    match units.into_iter().find(|(unit, _)| is_whole(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{time:?}"),
    }
}

/// What tells requests apart, besides scheme, host, path and route.
#[derive(Debug, Default)]
pub(crate) struct KeyRule {
    pub(crate) query: QueryRule,
    /// Values of the request, such as a header or a claim.
    pub(crate) by: Box<[Template]>,
    /// The headers among these values. A template has the first line of one, and that only if it is ASCII:
    /// the key needs all lines as they are.
    pub(crate) headers: Box<[HeaderName]>,
    /// The cookies among them. A template has the first of a name, and applications may take the last: the key
    /// needs all.
    pub(crate) cookies: Box<[Box<str>]>,
    /// The claims among them. A template has nothing of objects, and joins lists: the key needs them as they are.
    pub(crate) claims: Box<[Box<str>]>,
}

/// Which part of a query belongs to the key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum QueryRule {
    /// All of it, as it was sent.
    #[default]
    AsSent,
    /// All of it, in the order of the names: parameters of one name stay in theirs.
    Sorted,
    /// These parameters, sorted.
    Only(Box<[Box<str>]>),
    /// All but these parameters, sorted.
    Without(Box<[Box<str>]>),
    Nothing,
}

impl QueryRule {
    /// What of a query is part of the key, to be shown; nothing if there is none of it.
    pub(crate) fn of(&self, query: Option<&str>) -> Option<String> {
        let name = |pair: &&str| pair.split('=').next().unwrap_or_default().to_owned();
        let among =
            |names: &[Box<str>], pair: &&str| names.iter().any(|known| **known == *name(pair));
        let mut pairs: Vec<_> = query?.split('&').collect();
        match self {
            Self::AsSent => return Some(format!("?{}", query?)),
            Self::Nothing => return None,
            Self::Sorted => {}
            Self::Only(names) => pairs.retain(|pair| among(names, pair)),
            Self::Without(names) => pairs.retain(|pair| !among(names, pair)),
        }
        pairs.sort_by_key(name);
        (!pairs.is_empty()).then(|| format!("?{}", pairs.join("&")))
    }
}
