//! Which endpoints an upstream has: what is written, what was found, and what an operator has
//! changed since.

use std::{
    collections::HashSet,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use indexmap::{IndexMap, IndexSet};

use super::discovery::Found;
use crate::config::{EndpointAddress, Mode};

/// An endpoint as it was written, found or added.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) weight: u16,
    pub(crate) backup: bool,
    pub(crate) max_connections: Option<NonZeroU32>,
    pub(crate) mode: Mode,
    pub(crate) origin: Origin,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Address(SocketAddr),
    /// What it resolves to is kept with what is known of the endpoint.
    Name {
        host: String,
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Where an endpoint comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// It is written in the configuration.
    Configuration,
    /// It was found by discovery.
    Discovery,
    /// An operator has added it.
    Admin,
}

/// What is known of an upstream's endpoints beside the configuration. A resource, so that a reload
/// keeps it. Behind a lock that no request takes.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<Book>);

/// What a [`Roster`] holds.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// What discovery has told last, and who told it.
    pub(crate) found: Option<(String, Vec<Found>)>,
    pub(crate) added: IndexMap<String, Listed>,
    pub(crate) removed: IndexSet<String>,
    pub(crate) changed: IndexMap<String, Change>,
    /// The endpoints that serve by now.
    pub(crate) in_service: HashSet<Arc<str>>,
}

/// What an operator has changed of an endpoint; what is not given is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) weight: Option<NonZeroU16>,
    pub(crate) state: Option<Mode>,
    /// 0 takes the endpoint's own limit away: that of the upstream holds then, if there is one.
    pub(crate) max_connections: Option<u32>,
}

impl Roster {
    /// The book, for a moment.
    pub(crate) fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// The endpoints in force, in a stable order: as written, then as found, then as added. The first
    /// of a name counts, unless it was removed and is added again.
    pub(crate) fn apply(&self, written: &[Listed], found: &[Found]) -> Vec<Listed> {
        let found = found.iter().map(Listed::found);
        let all = written.iter().cloned().chain(found);
        let mut listed: IndexMap<String, Listed> = IndexMap::new();
        for endpoint in all.filter(|endpoint| !self.removed.contains(&endpoint.name)) {
            listed.entry(endpoint.name.clone()).or_insert(endpoint);
        }
        for (name, endpoint) in &self.added {
            listed.insert(name.clone(), endpoint.clone());
        }
        for (name, change) in &self.changed {
            if let Some(endpoint) = listed.get_mut(name) {
                change.apply(endpoint);
            }
        }
        listed.into_values().collect()
    }

    /// What this source has found last; nothing if it was another one that has found something.
    pub(crate) fn found_by(&self, source: Option<&str>) -> &[Found] {
        match &self.found {
            Some((by, found)) if Some(by.as_str()) == source => found,
            _ => &[],
        }
    }

    /// Whether an operator has changed anything.
    pub(crate) fn is_untouched(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Forgets what operators have changed.
    pub(crate) fn forget_changes(&mut self) {
        self.added.clear();
        self.removed.clear();
        self.changed.clear();
    }

    /// Adds an endpoint; one that was removed comes back as it is now given.
    pub(crate) fn add(&mut self, endpoint: Listed) {
        self.removed.shift_remove(&endpoint.name);
        self.changed.shift_remove(&endpoint.name);
        self.added.insert(endpoint.name.clone(), endpoint);
    }

    /// Removes the endpoint of this name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.changed.shift_remove(name);
        self.added.shift_remove(name);
        // Also if it was an added one: a written one of the same name must not take its place.
        self.removed.insert(name.to_owned());
    }

    /// Changes the endpoint of this name, on top of earlier changes.
    pub(crate) fn change(&mut self, name: &str, change: Change) {
        let known = self.changed.entry(name.to_owned()).or_default();
        known.weight = change.weight.or(known.weight);
        known.state = change.state.or(known.state);
        known.max_connections = change.max_connections.or(known.max_connections);
    }

    /// Forgets what was said of the endpoint of this name.
    pub(crate) fn forget(&mut self, name: &str) {
        self.added.shift_remove(name);
        self.removed.shift_remove(name);
        self.changed.shift_remove(name);
    }

    /// Forgets of the changes of an endpoint those that `change` makes, which hold otherwise by now.
    pub(crate) fn forget_change(&mut self, name: &str, change: Change) {
        let Some(known) = self.changed.get_mut(name) else {
            return;
        };
        known.weight = known.weight.filter(|_| change.weight.is_none());
        known.state = known.state.filter(|_| change.state.is_none());
        known.max_connections = known
            .max_connections
            .filter(|_| change.max_connections.is_none());
        if *known == Change::default() {
            self.changed.shift_remove(name);
        }
    }
}

impl Change {
    fn apply(self, endpoint: &mut Listed) {
        if let Some(weight) = self.weight {
            endpoint.weight = weight.get();
        }
        if let Some(mode) = self.state {
            endpoint.mode = mode;
        }
        if let Some(most) = self.max_connections {
            endpoint.max_connections = NonZeroU32::new(most);
        }
    }
}

impl Listed {
    fn found(found: &Found) -> Self {
        Self {
            name: found.name.clone(),
            location: Location::of(&found.address),
            weight: found.weight.get(),
            backup: found.backup,
            max_connections: found.max_connections,
            mode: found.mode,
            origin: Origin::Discovery,
        }
    }

    /// An endpoint as a file or an operator writes it.
    pub(crate) fn written(endpoint: &crate::config::Endpoint, origin: Origin) -> Self {
        Self {
            name: endpoint.address.to_string(),
            location: Location::of(&endpoint.address),
            weight: endpoint.weight.get(),
            backup: endpoint.backup,
            max_connections: endpoint.max_connections,
            mode: endpoint.state,
            origin,
        }
    }
}

impl Location {
    /// Where an address leads.
    pub(crate) fn of(address: &EndpointAddress) -> Self {
        match address {
            EndpointAddress::Unix(path) => Self::Unix(path.clone()),
            EndpointAddress::Host { host, port } => match host.parse() {
                Ok(ip) => Self::Address(SocketAddr::new(ip, *port)),
                Err(_) => Self::Name {
                    host: host.clone(),
                    port: *port,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, origin: Origin) -> Listed {
        let endpoint = crate::config::Endpoint::at(name.parse().unwrap());
        Listed::written(&endpoint, origin)
    }

    fn names(book: &Book, written: &[Listed]) -> Vec<String> {
        let endpoints = book.apply(written, &[]);
        endpoints
            .into_iter()
            .map(|endpoint| endpoint.name)
            .collect()
    }

    #[test]
    fn what_is_added_comes_last_and_what_is_removed_is_gone() {
        let written = [
            listed("a:1", Origin::Configuration),
            listed("b:1", Origin::Configuration),
        ];
        let mut book = Book::default();
        book.add(listed("c:1", Origin::Admin));
        book.remove("a:1");
        assert_eq!(names(&book, &written), ["b:1", "c:1"]);
        book.add(listed("a:1", Origin::Admin));
        assert_eq!(names(&book, &written), ["a:1", "b:1", "c:1"]);
        book.forget_changes();
        assert!(book.is_untouched());
        assert_eq!(names(&book, &written), ["a:1", "b:1"]);
    }

    #[test]
    fn a_written_endpoint_that_is_removed_and_added_again_is_as_it_was_added() {
        let written = [
            listed("a:1", Origin::Configuration),
            listed("b:1", Origin::Configuration),
        ];
        let mut book = Book::default();
        book.remove("a:1");
        let again = Listed {
            weight: 5,
            ..listed("a:1", Origin::Admin)
        };
        book.add(again.clone());
        assert_eq!(book.apply(&written, &[])[0], again);
    }

    #[test]
    fn only_the_changes_that_hold_otherwise_are_forgotten() {
        let mut book = Book::default();
        let both = Change {
            weight: NonZeroU16::new(5),
            state: Some(Mode::Drain),
            max_connections: None,
        };
        let weight = Change {
            weight: NonZeroU16::new(3),
            ..Change::default()
        };
        book.change("a:1", both);
        book.forget_change("a:1", weight);
        let left = Change {
            weight: None,
            ..both
        };
        assert_eq!(book.changed["a:1"], left);
        book.forget_change("a:1", both);
        assert!(book.is_untouched());
    }

    #[test]
    fn changes_add_up() {
        let written = [listed("a:1", Origin::Configuration)];
        let mut book = Book::default();
        let weight = Change {
            weight: NonZeroU16::new(5),
            ..Change::default()
        };
        let drain = Change {
            state: Some(Mode::Drain),
            ..Change::default()
        };
        book.change("a:1", weight);
        book.change("a:1", drain);
        let endpoints = book.apply(&written, &[]);
        assert_eq!((endpoints[0].weight, endpoints[0].mode), (5, Mode::Drain));
    }

    #[test]
    fn an_endpoint_that_was_removed_after_it_was_added_stays_away() {
        let written = [listed("a:1", Origin::Configuration)];
        let mut book = Book::default();
        book.add(listed("a:1", Origin::Admin));
        book.remove("a:1");
        assert!(names(&book, &written).is_empty());
    }
}
