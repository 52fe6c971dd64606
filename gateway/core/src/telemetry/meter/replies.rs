//! What requests have come to, by method and status.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Sub},
    sync::atomic::{AtomicU32, Ordering},
};

use http::{Method, StatusCode};

use super::stripes::{Counter, Writer};

/// The methods that are counted each for itself: strangers make up others.
const METHODS: [&str; 10] = [
    OTHER, "GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
];

const OTHER: &str = "other";

/// A method and a status, for which there is a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    method: u8,
    /// A class alone (1 to 5) for those beyond what is counted each for itself; 0 for no response.
    status: u16,
}

impl Kind {
    /// Without a status: its client has left before there was one.
    pub(super) fn of(method: &Method, status: Option<StatusCode>) -> Self {
        let method = method.as_str();
        let known = METHODS.iter().position(|known| *known == method);
        Self {
            method: known.unwrap_or(0) as u8,
            status: status.map_or(0, |status| status.as_u16()),
        }
    }

    pub(crate) fn method(self) -> &'static str {
        METHODS.get(usize::from(self.method)).unwrap_or(&OTHER)
    }

    /// `200`; `none` if there was no response; `2xx` for those of which there are too many.
    pub(crate) fn code(self) -> String {
        match self.status {
            0 => "none".to_owned(),
            class @ 1..=9 => format!("{class}xx"),
            status => status.to_string(),
        }
    }

    /// 1 to 5; 0 if there was no response.
    pub(crate) fn class(self) -> u16 {
        match self.status {
            class @ 0..=9 => class,
            status => status / 100,
        }
    }

    fn rest(self) -> Self {
        Self {
            method: 0,
            status: self.class(),
        }
    }

    /// Never 0.
    fn pack(self) -> u32 {
        (1 << 31) | (u32::from(self.method) << 16) | u32::from(self.status)
    }

    fn unpack(word: u32) -> Self {
        Self {
            method: (word >> 16) as u8 & 0x7f,
            status: word as u16,
        }
    }
}

/// Counts by kind: those that come first each for itself.
#[derive(Debug)]
pub(super) struct Replies {
    /// A [`Kind`]; 0 for none.
    kinds: [AtomicU32; KINDS],
    counts: [Counter; KINDS],
    /// All others by class.
    rest: [Counter; CLASSES],
}

/// How many kinds are counted each for itself: what a route has, unless somebody plays with it.
const KINDS: usize = 24;
const CLASSES: usize = 10;

impl Default for Replies {
    fn default() -> Self {
        Self {
            kinds: [const { AtomicU32::new(0) }; KINDS],
            counts: [const { Counter::new() }; KINDS],
            rest: [const { Counter::new() }; CLASSES],
        }
    }
}

impl Replies {
    pub(super) fn note(&self, kind: Kind, writer: Writer) {
        let wanted = kind.pack();
        for (known, count) in self.kinds.iter().zip(&self.counts) {
            let mut found = known.load(Ordering::Relaxed);
            if found == 0 {
                let claimed =
                    known.compare_exchange(0, wanted, Ordering::Relaxed, Ordering::Relaxed);
                found = claimed.err().unwrap_or(wanted);
            }
            if found == wanted {
                return count.add(1, writer);
            }
        }
        let class = usize::from(kind.class()).min(CLASSES - 1);
        self.rest[class].add(1, writer);
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        for (kind, count) in self.kinds.iter().zip(&self.counts) {
            let kind = kind.load(Ordering::Relaxed);
            if kind != 0 {
                *counts.0.entry(Kind::unpack(kind)).or_default() += count.get();
            }
        }
        for (status, count) in (0..).zip(&self.rest) {
            if count.get() > 0 {
                let rest = Kind { method: 0, status };
                *counts.0.entry(rest.rest()).or_default() += count.get();
            }
        }
    }
}

/// How many requests came to what, at one moment or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<Kind, u64>);

impl Counts {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// By class: those without a response first, then 1xx to 5xx.
    pub(crate) fn classes(&self) -> [u64; 6] {
        let mut classes = [0; 6];
        for (kind, count) in self.iter() {
            classes[usize::from(kind.class()).min(5)] += count;
        }
        classes
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        for (kind, count) in other.iter() {
            *self.0.entry(kind).or_default() += count;
        }
    }
}

impl Sub for &Counts {
    type Output = Counts;

    /// What has come since `before`.
    fn sub(self, before: Self) -> Counts {
        let since = self.iter().map(|(kind, count)| {
            let known = before.0.get(&kind).copied().unwrap_or_default();
            (kind, count.saturating_sub(known))
        });
        Counts(since.filter(|(_, count)| *count > 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &str, status: u16) -> Kind {
        let status = StatusCode::from_u16(status).ok();
        Kind::of(&method.parse().unwrap(), status)
    }

    fn counts(replies: &Replies) -> Vec<(&'static str, String, u64)> {
        let mut counts = Counts::default();
        replies.add_to(&mut counts);
        counts
            .iter()
            .map(|(kind, count)| (kind.method(), kind.code(), count))
            .collect()
    }

    #[test]
    fn requests_are_counted_by_method_and_status() {
        let replies = Replies::default();
        for (method, status) in [
            ("GET", 200),
            ("GET", 200),
            ("POST", 404),
            ("BREW", 418),
            ("GET", 0),
        ] {
            replies.note(kind(method, status), Writer::Alone);
        }
        let expected = [
            ("other", "418", 1),
            ("GET", "none", 1),
            ("GET", "200", 2),
            ("POST", "404", 1),
        ];
        assert_eq!(
            counts(&replies),
            expected.map(|(method, code, count)| (method, code.to_owned(), count))
        );
    }

    #[test]
    fn who_plays_with_statuses_gets_classes() {
        let replies = Replies::default();
        for status in 200..300 {
            replies.note(kind("GET", status), Writer::OneOfMany);
        }
        let counts = counts(&replies);
        assert_eq!(counts.len(), KINDS + 1);
        assert_eq!(counts[0], ("other", "2xx".to_owned(), 100 - KINDS as u64));
    }

    #[test]
    fn every_status_is_in_one_class() {
        let replies = Replies::default();
        for status in [0, 101, 200, 301, 404, 404, 503, 999] {
            replies.note(kind("GET", status), Writer::Alone);
        }
        let mut counts = Counts::default();
        replies.add_to(&mut counts);
        assert_eq!(counts.classes(), [1, 1, 1, 1, 2, 2]);
        assert_eq!(counts.total(), 8);
    }

    #[test]
    fn what_has_come_since_leaves_out_what_has_not() {
        let replies = Replies::default();
        replies.note(kind("GET", 200), Writer::Alone);
        let (mut before, mut after) = (Counts::default(), Counts::default());
        replies.add_to(&mut before);
        replies.note(kind("GET", 404), Writer::Alone);
        replies.add_to(&mut after);
        let since: Vec<_> = (&after - &before).iter().collect();
        assert_eq!(since, [(kind("GET", 404), 1)]);
    }
}
