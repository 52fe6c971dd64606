//! Who is asked for names, and how long answers are good for.
//!
//! `/etc/hosts` goes first, with the name as it is written. Then the name servers are asked, those
//! of the configuration or those of `/etc/resolv.conf` with its search list. Both files are read again
//! when they have changed. Where there is no usable `/etc/resolv.conf`, the C library is asked
//! instead, which does not tell how long its answers are good for.
//!
//! Nothing is kept here: whoever asks knows from [`Answer::fresh_for`] when to ask again.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig as Servers, ResolverOpts,
    },
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use log::warn;
use tokio::net::lookup_host;

use super::stamp::Stamp;
use crate::config::ResolverConfig;

/// Finds addresses and services by their names. One for a configuration; clones share it.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Shared>);

/// What a question came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<T> {
    /// At least one, in the order of the answer; IPv4 first.
    pub(crate) found: Vec<T>,
    /// Within the bounds of the configuration.
    pub(crate) fresh_for: Duration,
    /// Addresses of this family could not be asked for: there may be some, or not.
    pub(crate) unknown: Option<Family>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The lowest serves first.
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// Complete, which its final dot says.
    pub(crate) host: String,
}

struct Shared {
    config: ResolverConfig,
    files: Files,
    /// As it was when the files were read. The lock is held while they are looked at, a few times
    /// in a minute and never for a request.
    system: Mutex<Option<System>>,
}

/// What the system says of names.
struct Files {
    hosts: PathBuf,
    resolv_conf: PathBuf,
}

/// What the files said when they were as the stamps tell.
#[derive(Clone)]
struct System {
    stamps: [Option<Stamp>; 2],
    hosts: Arc<Hosts>,
    asked: Asked,
}

#[derive(Clone)]
enum Asked {
    NameServers(Arc<Client>),
    CLibrary,
}

struct Client {
    resolver: TokioResolver,
    search: Vec<Name>,
    /// Names with fewer dots are looked for in the search list first.
    ndots: usize,
}

impl Resolver {
    /// Asks nobody yet.
    pub(crate) fn new(config: &ResolverConfig) -> Self {
        let files = Files {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        };
        Self::with_files(config, files)
    }

    fn with_files(config: &ResolverConfig, files: Files) -> Self {
        Self(Arc::new(Shared {
            config: config.clone(),
            files,
            system: Mutex::default(),
        }))
    }

    /// The addresses of a name, at least one.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Answer<IpAddr>, String> {
        if let Ok(address) = host.trim_end_matches('.').parse() {
            return Ok(self.answer(vec![address], Duration::MAX, None));
        }
        let name = parse(host)?;
        let system = self.system();
        let written = in_hosts(&system.hosts, &name);
        if !written.is_empty() {
            return Ok(self.answer(written, UNTIMED, None));
        }
        match system.asked {
            Asked::NameServers(client) => {
                let (found, fresh_for, unknown) = client.addresses(&name).await?;
                Ok(self.answer(found, fresh_for, unknown))
            }
            Asked::CLibrary => Ok(self.answer(c_library(host).await?, UNTIMED, None)),
        }
    }

    /// The records of a service, at least one.
    pub(crate) async fn services(&self, name: &str) -> Result<Answer<Service>, String> {
        let name = parse(name)?;
        match self.system().asked {
            Asked::NameServers(client) => {
                let (found, fresh_for) = client.services(&name).await?;
                Ok(self.answer(found, fresh_for, None))
            }
            Asked::CLibrary => Err(
                "SRV records need a name server, and `/etc/resolv.conf` names none: \
                 set `resolver: { nameservers: [...] }`"
                    .to_owned(),
            ),
        }
    }

    fn answer<T>(&self, found: Vec<T>, fresh_for: Duration, unknown: Option<Family>) -> Answer<T> {
        let ResolverConfig {
            min_ttl, max_ttl, ..
        } = self.0.config;
        // What is known in part only is asked for again soon.
        let most = unknown.map_or(max_ttl, |_| max_ttl.min(UNTIMED));
        Answer {
            found,
            fresh_for: fresh_for.min(most).max(min_ttl),
            unknown,
        }
    }

    /// What the system says now.
    fn system(&self) -> System {
        let shared = &*self.0;
        let mut known = shared.system.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [
            Stamp::of(&shared.files.hosts),
            Stamp::of(&shared.files.resolv_conf),
        ];
        if known.as_ref().is_some_and(|known| known.stamps != stamps) {
            *known = None;
        }
        known
            .get_or_insert_with(|| System {
                stamps,
                hosts: Arc::new(shared.files.read_hosts()),
                asked: shared.asked(),
            })
            .clone()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Files {
    /// A line that can't be read is skipped, and so is a file.
    fn read_hosts(&self) -> Hosts {
        let mut hosts = Hosts::default();
        let Ok(text) = std::fs::read(&self.hosts) else {
            return hosts;
        };
        if let Err(error) = hosts.read_hosts_conf(String::from_utf8_lossy(&text).as_bytes()) {
            warn!("{} is read in part: reason={error}", self.hosts.display());
        }
        hosts
    }

    fn read_resolv_conf(&self) -> Result<(Servers, ResolverOpts), String> {
        let text = std::fs::read(&self.resolv_conf).map_err(|error| error.to_string())?;
        parse_resolv_conf(text).map_err(|error| error.to_string())
    }
}

impl Shared {
    fn asked(&self) -> Asked {
        let client = if self.config.nameservers.is_empty() {
            self.files
                .read_resolv_conf()
                .and_then(|(servers, options)| Client::new(servers, options, &self.config))
        } else {
            let servers = self.config.nameservers.iter().copied().map(server);
            let servers = Servers::from_name_servers(servers.collect());
            Client::new(servers, ResolverOpts::default(), &self.config)
        };
        match client {
            Ok(client) => Asked::NameServers(Arc::new(client)),
            Err(reason) => {
                warn!(
                    "names are resolved by the C library, without their times to live: {} reason={reason}",
                    self.files.resolv_conf.display()
                );
                Asked::CLibrary
            }
        }
    }
}

/// A name server that is asked over UDP, and over TCP when its answer is too long for that.
fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

type Addresses = (Vec<IpAddr>, Duration, Option<Family>);

impl Client {
    fn new(
        servers: Servers,
        mut options: ResolverOpts,
        config: &ResolverConfig,
    ) -> Result<Self, String> {
        let (domain, mut search, servers) = servers.into_parts();
        // The domain of this machine counts only where no search list is written.
        if search.is_empty() {
            search.extend(domain);
        }
        let ndots = options.ndots;
        options.timeout = config.timeout;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let servers = Servers::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            resolver,
            search,
            ndots,
        })
    }

    /// Both families are asked for under one name before the next one of the search list, so that no
    /// answer is a mixture of two hosts.
    async fn addresses(&self, name: &Name) -> Result<Addresses, String> {
        let mut misses = Misses::default();
        for name in self.candidates(name) {
            let (four, six) = tokio::join!(
                self.ask(&name, RecordType::A),
                self.ask(&name, RecordType::AAAA)
            );
            let unknown = match (&four, &six) {
                (Err(Miss::Failed(_)), Ok(_)) => Some(Family::V4),
                (Ok(_), Err(Miss::Failed(_))) => Some(Family::V6),
                _ => None,
            };
            let records = [four, six].into_iter().filter_map(|part| misses.note(part));
            let (found, fresh_for) = joined(records, |record| record.data.ip_addr());
            if !found.is_empty() {
                return Ok((found, fresh_for, unknown));
            }
        }
        Err(misses.reason("addresses"))
    }

    async fn services(&self, name: &Name) -> Result<(Vec<Service>, Duration), String> {
        let mut misses = Misses::default();
        for name in self.candidates(name) {
            let records = misses.note(self.ask(&name, RecordType::SRV).await);
            let (found, fresh_for) = joined(records, service);
            if !found.is_empty() {
                return Ok((found, fresh_for));
            }
        }
        Err(misses.reason("services"))
    }

    /// The complete names that may be meant, in the order of trying.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut complete = name.clone();
        complete.set_fqdn(true);
        if name.is_fqdn() {
            return vec![complete];
        }
        let searched = self.search.iter();
        let searched = searched.filter_map(|domain| name.clone().append_domain(domain).ok());
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        if dots >= self.ndots || name.is_localhost() {
            return std::iter::once(complete).chain(searched).collect();
        }
        searched.chain(std::iter::once(complete.clone())).collect()
    }

    async fn ask(&self, name: &Name, of: RecordType) -> Result<Vec<Record>, Miss> {
        match self.resolver.lookup(name.clone(), of).await {
            Ok(lookup) => Ok(lookup.answers().to_vec()),
            Err(error) => Err(Miss::new(&error)),
        }
    }
}

/// Why a question came to nothing.
enum Miss {
    NoSuchName,
    NoRecords,
    Failed(String),
}

impl Miss {
    fn new(error: &NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Self::NoSuchName,
                ResponseCode::NoError => Self::NoRecords,
                code => Self::Failed(format!("the name server says: {code}")),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => {
                Self::Failed(format!("the name server says: {code}"))
            }
            NetError::Timeout => Self::Failed("no name server has answered in time".to_owned()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Why all questions for a name came to nothing.
#[derive(Default)]
struct Misses {
    exists: bool,
    failed: Option<String>,
}

impl Misses {
    fn note(&mut self, part: Result<Vec<Record>, Miss>) -> Option<Vec<Record>> {
        match part {
            Ok(records) => {
                self.exists = true;
                return Some(records);
            }
            Err(Miss::NoSuchName) => {}
            Err(Miss::NoRecords) => self.exists = true,
            Err(Miss::Failed(reason)) => self.failed = Some(reason),
        }
        None
    }

    fn reason(self, wanted: &str) -> String {
        let none = if self.exists {
            format!("the name has no {wanted}")
        } else {
            "there is no such name".to_owned()
        };
        self.failed.unwrap_or(none)
    }
}

/// What answers hold of one kind, each once, and how long all of it is good for.
fn joined<T: PartialEq>(
    answers: impl IntoIterator<Item = Vec<Record>>,
    take: impl Fn(&Record) -> Option<T>,
) -> (Vec<T>, Duration) {
    let mut all = Vec::new();
    let mut ttl = u32::MAX;
    for record in answers.into_iter().flatten() {
        // Those on the way, of other kinds, count too: an alias may lead elsewhere before its
        // target changes.
        ttl = ttl.min(record.ttl);
        all.extend(take(&record).filter(|one| !all.contains(one)));
    }
    (all, Duration::from_secs(ttl.into()))
}

fn service(record: &Record) -> Option<Service> {
    let RData::SRV(service) = &record.data else {
        return None;
    };
    // By a lone dot a domain says that it does not have the service.
    let offered = !service.target.is_root() && service.port != 0;
    offered.then(|| Service {
        priority: service.priority,
        weight: service.weight,
        port: service.port,
        host: {
            let mut host = service.target.to_lowercase();
            host.set_fqdn(true);
            host.to_ascii()
        },
    })
}

fn parse(name: &str) -> Result<Name, String> {
    Name::from_ascii(name).map_err(|error| format!("`{name}` can't be asked for: {error}"))
}

fn in_hosts(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for of in [RecordType::A, RecordType::AAAA] {
        let lookup = hosts.lookup_static_host(&Query::query(name.clone(), of));
        let records = lookup.iter().flat_map(|lookup| lookup.answers());
        for address in records.filter_map(|record| record.data.ip_addr()) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

async fn c_library(host: &str) -> Result<Vec<IpAddr>, String> {
    let found = lookup_host((host, 0)).await;
    let mut addresses: Vec<_> = found
        .map_err(|error| error.to_string())?
        .map(|address| address.ip())
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() {
        return Err("the name has no addresses".to_owned());
    }
    Ok(addresses)
}

/// How long an answer is good for that does not say so itself.
const UNTIMED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
