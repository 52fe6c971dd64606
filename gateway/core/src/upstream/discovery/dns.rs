//! Endpoints by the records of a name.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;

use super::{
    Found, Look, Source,
    resolver::{Family, Resolver, Service},
};
use crate::config::{Endpoint, EndpointAddress};

/// Every address of a name, with one port.
pub(crate) struct Addresses {
    described: String,
    host: String,
    port: u16,
    resolver: Resolver,
    /// What was found last, for the family that can't be asked for next time. One task uses it.
    known: Mutex<Vec<IpAddr>>,
}

impl Addresses {
    pub(crate) fn new(described: String, host: &str, port: u16, resolver: Resolver) -> Self {
        Self {
            described,
            host: host.to_owned(),
            port,
            resolver,
            known: Mutex::default(),
        }
    }

    fn endpoint(&self, address: IpAddr) -> Found {
        let host = address.to_string();
        Endpoint::at(EndpointAddress::Host {
            host,
            port: self.port,
        })
        .into()
    }
}

#[async_trait]
impl Source for Addresses {
    async fn look(&self) -> Result<Look, String> {
        let answer = self.resolver.addresses(&self.host).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = answer.found;
        let stays = |address: &&IpAddr| answer.unknown == Some(family(address));
        found.extend(known.iter().filter(stays));
        known.clone_from(&found);
        Ok(Look {
            endpoints: found.into_iter().map(|one| self.endpoint(one)).collect(),
            fresh_for: answer.fresh_for,
        })
    }

    fn describe(&self) -> String {
        self.described.clone()
    }

    fn host(&self) -> Option<&str> {
        Some(&self.host)
    }
}

fn family(address: &IpAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

/// What the SRV records of a name list. Their hosts are names, which are resolved as any other.
pub(super) struct Services {
    described: String,
    name: String,
    resolver: Resolver,
}

impl Services {
    pub(super) fn new(described: String, name: &str, resolver: Resolver) -> Self {
        Self {
            described,
            name: name.to_owned(),
            resolver,
        }
    }
}

#[async_trait]
impl Source for Services {
    async fn look(&self) -> Result<Look, String> {
        let answer = self.resolver.services(&self.name).await?;
        Ok(Look {
            endpoints: tiers(answer.found),
            fresh_for: answer.fresh_for,
        })
    }

    fn describe(&self) -> String {
        self.described.clone()
    }
}

/// The services of the lowest priority serve, the others are backups.
fn tiers(mut services: Vec<Service>) -> Vec<Found> {
    // Of two records with one host and port the better one counts.
    services.sort_by_key(|service| (service.priority, u16::MAX - service.weight));
    let best = services.first().map(|service| service.priority);
    let endpoint = |service: Service| Found {
        name: format!("{}:{}", service.host.trim_end_matches('.'), service.port),
        weight: NonZeroU16::new(service.weight).unwrap_or(NonZeroU16::MIN),
        backup: Some(service.priority) != best,
        ..Found::from(Endpoint::at(EndpointAddress::Host {
            host: service.host,
            port: service.port,
        }))
    };
    services.into_iter().map(endpoint).collect()
}

/// The addresses among endpoints.
pub(crate) fn addresses(found: &[Found]) -> Vec<SocketAddr> {
    let parse = |found: &Found| match &found.address {
        EndpointAddress::Host { host, port } => {
            let address = host.parse().ok()?;
            Some(SocketAddr::new(address, *port))
        }
        EndpointAddress::Unix(_) => None,
    };
    found.iter().filter_map(parse).collect()
}
