//! How many connections there may be: in all, at a listener, and of one client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ahash::RandomState;

use crate::telemetry::meter::Limit;

/// The connections that there are.
pub(super) struct Caps {
    open: AtomicUsize,
    /// By client, in several maps, so that threads that accept hardly meet.
    clients: [Mutex<HashMap<IpAddr, u32, RandomState>>; SHARDS],
    hasher: RandomState,
}

const SHARDS: usize = 16;

/// What a connection is counted for, until it is dropped.
pub(super) struct Admission {
    caps: Arc<Caps>,
    listener: Option<Arc<AtomicUsize>>,
    client: Option<IpAddr>,
}

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) in_all: usize,
    pub(super) of_listener: usize,
    pub(super) of_client: u32,
}

/// Why there is no room for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Gateway,
    Listener,
    Client,
}

impl Full {
    /// As it is counted.
    pub(super) fn limit(self) -> Limit {
        match self {
            Self::Gateway => Limit::Gateway,
            Self::Listener => Limit::Listener,
            Self::Client => Limit::Client,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "connections.max",
            Self::Listener => "max_connections",
            Self::Client => "connections.per_client",
        }
    }
}

impl Caps {
    pub(super) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            clients: Default::default(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a connection of a client, if it is one that is counted by its address.
    ///
    /// # Errors
    ///
    /// There are too many already.
    pub(super) fn admit(
        self: &Arc<Self>,
        listener: &Arc<AtomicUsize>,
        client: Option<IpAddr>,
        most: Most,
    ) -> Result<Admission, Full> {
        enter(&self.open, most.in_all).ok_or(Full::Gateway)?;
        // From here on what was counted is given back by the drop.
        let mut admission = Admission {
            caps: Arc::clone(self),
            listener: None,
            client: None,
        };
        enter(listener, most.of_listener).ok_or(Full::Listener)?;
        admission.listener = Some(Arc::clone(listener));
        if let Some(client) = client.map(network) {
            let mut clients = self.of(client);
            let count = clients.entry(client).or_default();
            if *count >= most.of_client {
                return Err(Full::Client);
            }
            *count += 1;
            drop(clients);
            admission.client = Some(client);
        }
        Ok(admission)
    }

    fn of(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32, RandomState>> {
        let shard = self.hasher.hash_one(client) as usize % SHARDS;
        let clients = self.clients.get(shard).unwrap_or(&self.clients[0]);
        clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.caps.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            listener.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(client) = self.client else { return };
        let mut clients = self.caps.of(client);
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// One more, if there are less than so many.
fn enter(count: &AtomicUsize, most: usize) -> Option<usize> {
    let more = |count| (count < most).then_some(count + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .ok()
}

/// Who is taken for one client: an address, or the 64 bits of an IPv6 network, of which everybody has one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            Ipv6Addr::from(octets).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most {
        in_all: 3,
        of_listener: 2,
        of_client: 1,
    };

    fn open(caps: &Caps) -> usize {
        caps.open.load(Ordering::Relaxed)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_limit_holds_by_itself_and_what_was_refused_is_not_counted() {
        let caps = Arc::new(Caps::new());
        let (http, admin) = (Arc::default(), Arc::default());
        let one = caps.admit(&http, ip("192.0.2.1"), MOST).unwrap();
        let same = caps.admit(&http, ip("::ffff:192.0.2.1"), MOST);
        assert_eq!(same.err(), Some(Full::Client));
        let two = caps.admit(&http, ip("192.0.2.2"), MOST).unwrap();
        let third = caps.admit(&http, ip("192.0.2.3"), MOST);
        assert_eq!(third.err(), Some(Full::Listener));
        let _other = caps.admit(&admin, ip("192.0.2.3"), MOST).unwrap();
        let fourth = caps.admit(&admin, ip("192.0.2.4"), MOST);
        assert_eq!(fourth.err(), Some(Full::Gateway));
        assert_eq!(open(&caps), 3);
        drop((one, two));
        assert_eq!((open(&caps), http.load(Ordering::Relaxed)), (1, 0));
        assert!(caps.admit(&http, ip("192.0.2.1"), MOST).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_nobody_is_any() {
        let caps = Arc::new(Caps::new());
        let http = Arc::default();
        let _one = caps.admit(&http, ip("2001:db8:1:2::1"), MOST).unwrap();
        let near = caps.admit(&http, ip("2001:db8:1:2:ffff::9"), MOST);
        assert_eq!(near.err(), Some(Full::Client));
        drop(caps.admit(&http, ip("2001:db8:1:3::1"), MOST).unwrap());
        let most = Most {
            in_all: 9,
            of_listener: 9,
            ..MOST
        };
        let _two = caps.admit(&http, None, most).unwrap();
        assert!(caps.admit(&http, None, most).is_ok());
    }

    #[test]
    fn who_has_left_takes_no_memory() {
        let caps = Arc::new(Caps::new());
        let http = Arc::default();
        for number in 0..1_000_u32 {
            let address = IpAddr::V4(number.into());
            drop(caps.admit(&http, Some(address), MOST).unwrap());
        }
        let left: usize = caps
            .clients
            .iter()
            .map(|map| map.lock().unwrap().len())
            .sum();
        assert_eq!(left, 0);
    }
}
