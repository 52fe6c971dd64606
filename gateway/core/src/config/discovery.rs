//! How names become addresses, and where endpoints are found that the configuration does not list.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use edgeway_sdk::{Period, types::FilePath};
use hickory_resolver::proto::rr::Name;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::scalar::from_text;

/// `resolver: { nameservers: [127.0.0.1:5353], timeout: 2s, min_ttl: 1s, max_ttl: 5m }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenResolver")]
pub(crate) struct ResolverConfig {
    /// Who is asked instead of those in `/etc/resolv.conf`; none if those are. `/etc/hosts` goes
    /// first in any case.
    pub(crate) nameservers: Vec<SocketAddr>,
    /// How long one question may take. An unanswered one is asked again, as often as
    /// `/etc/resolv.conf` says.
    pub(crate) timeout: Duration,
    /// Answers are kept at least so long, whatever their time to live.
    pub(crate) min_ttl: Duration,
    /// Answers are kept at most so long.
    pub(crate) max_ttl: Duration,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            timeout: Duration::from_secs(2),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
        }
    }
}

#[derive(Deserialize)]
struct WrittenResolver {
    nameservers: Option<Vec<Nameserver>>,
    timeout: Option<Period>,
    min_ttl: Option<Period>,
    max_ttl: Option<Period>,
}

impl TryFrom<WrittenResolver> for ResolverConfig {
    type Error = String;

    fn try_from(written: WrittenResolver) -> Result<Self, String> {
        let default = Self::default();
        if written.nameservers.as_ref().is_some_and(Vec::is_empty) {
            return Err("an empty list of `nameservers` leaves nobody to ask".to_owned());
        }
        let nameservers = written.nameservers.unwrap_or_default();
        let or = |written: Option<Period>, default| written.map_or(default, |period| period.0);
        let config = Self {
            nameservers: nameservers.into_iter().map(|server| server.0).collect(),
            timeout: or(written.timeout, default.timeout),
            min_ttl: or(written.min_ttl, default.min_ttl),
            max_ttl: or(written.max_ttl, default.max_ttl),
        };
        if config.timeout.is_zero() {
            return Err("a question with a `timeout` of zero is never answered".to_owned());
        }
        if config.min_ttl < SHORTEST {
            return Err(format!("`min_ttl` is at least {SHORTEST:?}"));
        }
        if config.min_ttl > config.max_ttl {
            return Err(format!(
                "`min_ttl` ({:?}) is longer than `max_ttl` ({:?})",
                config.min_ttl, config.max_ttl
            ));
        }
        Ok(config)
    }
}

/// How often a source may be looked at, at most.
const SHORTEST: Duration = Duration::from_millis(10);

/// The address of a name server, with port 53 if it has none.
#[derive(Clone, Copy)]
struct Nameserver(SocketAddr);

impl FromStr for Nameserver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let alone = || bare.parse().map(|address: IpAddr| (address, 53).into());
        text.parse()
            .or_else(|_| alone())
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0)
            .map(Self)
            .ok_or_else(|| {
                format!("expected the address of a name server such as `10.0.0.2` or `127.0.0.1:5353`, found `{text}`")
            })
    }
}

from_text!(
    Nameserver,
    "the address of a name server such as `10.0.0.2` or `127.0.0.1:5353`"
);

/// `discover: { dns: app.internal:8080 }`, `{ srv: _http._tcp.app.internal }` or
/// `{ file: endpoints.yaml, interval: 1s }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenDiscover")]
pub(crate) enum Discover {
    /// Every address of the name, with this port.
    Dns(HostPort),
    /// What the service's records say.
    Srv(ServiceName),
    /// What a file says that is looked at again and again.
    File {
        /// As it is written: relative to the folder of the configuration.
        path: PathBuf,
        /// How often it is looked at.
        interval: Duration,
    },
}

#[derive(Deserialize)]
struct WrittenDiscover {
    dns: Option<HostPort>,
    srv: Option<ServiceName>,
    file: Option<FilePath>,
    interval: Option<Period>,
}

impl TryFrom<WrittenDiscover> for Discover {
    type Error = String;

    fn try_from(written: WrittenDiscover) -> Result<Self, String> {
        let interval = written.interval.map(|period| period.0);
        if interval.is_some() && written.file.is_none() {
            return Err(
                "`interval` belongs to `file`: names are asked for when their answers expire"
                    .to_owned(),
            );
        }
        match (written.dns, written.srv, written.file) {
            (Some(name), None, None) => Ok(Self::Dns(name)),
            (None, Some(name), None) => Ok(Self::Srv(name)),
            (None, None, Some(file)) => Self::file(file.0, interval),
            (None, None, None) => Err("expected one of `dns`, `srv`, `file`".to_owned()),
            _ => Err("`dns`, `srv` and `file` exclude each other".to_owned()),
        }
    }
}

impl Discover {
    fn file(path: PathBuf, interval: Option<Duration>) -> Result<Self, String> {
        if path.as_os_str().is_empty() {
            return Err("expected the path of a file with endpoints".to_owned());
        }
        let interval = interval.unwrap_or(Duration::from_secs(1));
        if interval < SHORTEST {
            return Err(format!("`interval` is at least {SHORTEST:?}"));
        }
        Ok(Self::File { path, interval })
    }
}

/// A name and a port: `app.internal:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected a name and a port such as `app.internal:8080`, found `{text}`");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0);
        if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
            return Err(format!(
                "{}: an address is written under `endpoints`",
                wrong()
            ));
        }
        Ok(Self {
            host: name(host).ok_or_else(wrong)?,
            port: port.ok_or_else(wrong)?,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

from_text!(HostPort, "a name and a port such as `app.internal:8080`");

/// The name of SRV records: `_http._tcp.app.internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName(pub(crate) String);

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a name such as `_http._tcp.app.internal`, found `{text}`");
        if text.contains(':') {
            return Err(format!("{}: the records tell the port", wrong()));
        }
        name(text).map(Self).ok_or_else(wrong)
    }
}

from_text!(ServiceName, "a name such as `_http._tcp.app.internal`");

/// A name that can be asked for.
fn name(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let possible = text.chars().all(allowed) && text.chars().any(|c| c != '.');
    (possible && Name::from_ascii(text).is_ok()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        deserialize::salvage,
        diagnostic::{Look, Problems},
        document::Document,
    };

    fn read<T: de::DeserializeOwned>(text: &str) -> Result<T, String> {
        let mut problems = Problems::default();
        let document = Document::from_text("edgeway.yaml", text, &mut problems);
        let value = salvage(&document, document.root(), &mut problems);
        match value.filter(|_| !problems.has_errors()) {
            Some(value) => Ok(value),
            None => Err(problems.render(&document, Look::Plain)),
        }
    }

    fn refused<T: de::DeserializeOwned + fmt::Debug>(text: &str, place: &str, says: &str) {
        let report = read::<T>(text).expect_err(text);
        assert!(report.contains(says), "{text}: {report}");
        assert!(
            report.contains(&format!("edgeway.yaml:{place}")),
            "{text}: {report}"
        );
    }

    #[test]
    fn each_way_to_discover_is_read() {
        assert_eq!(
            read::<Discover>("dns: app.internal:8080").unwrap(),
            Discover::Dns(HostPort {
                host: "app.internal".to_owned(),
                port: 8080
            })
        );
        assert_eq!(
            read::<Discover>("srv: _http._tcp.app.internal").unwrap(),
            Discover::Srv(ServiceName("_http._tcp.app.internal".to_owned()))
        );
        let file = |interval| Discover::File {
            path: "endpoints.yaml".into(),
            interval: Duration::from_millis(interval),
        };
        assert_eq!(
            read::<Discover>("file: endpoints.yaml").unwrap(),
            file(1000)
        );
        assert_eq!(
            read::<Discover>("{ file: endpoints.yaml, interval: 250ms }").unwrap(),
            file(250)
        );
    }

    #[test]
    fn a_name_may_have_an_underscore_and_a_final_dot() {
        for name in ["my_app:1", "my_app.:1", "web-1.ns.svc.cluster.local.:1"] {
            assert!(read::<Discover>(&format!("dns: {name}")).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_where_it_stands() {
        refused::<Discover>("{ interval: 1s }", "1:1", "belongs to `file`");
        refused::<Discover>("{}", "1:1", "one of `dns`, `srv`, `file`");
        refused::<Discover>("{ dns: a:1, srv: b }", "1:1", "exclude each other");
        refused::<Discover>("dns: app.internal", "1:6", "a name and a port");
        refused::<Discover>("dns: app.internal:0", "1:6", "a name and a port");
        refused::<Discover>("dns: 10.0.0.7:80", "1:6", "under `endpoints`");
        refused::<Discover>("dns: '[::1]:80'", "1:6", "under `endpoints`");
        refused::<Discover>("dns: a..b:80", "1:6", "a name and a port");
        refused::<Discover>("dns: http://a:80", "1:6", "a name and a port");
        refused::<Discover>("srv: app:80", "1:6", "the records tell the port");
        refused::<Discover>("srv: .", "1:6", "a name such as");
        refused::<Discover>("{ file: a, interval: 0s }", "1:1", "at least 10ms");
        refused::<Discover>("{ file: '' }", "1:1", "the path of a file");
        refused::<Discover>("{ files: a.yaml }", "1:3", "did you mean `file`?");
    }

    #[test]
    fn a_resolver_is_read_with_its_defaults() {
        let config: ResolverConfig =
            read("{ nameservers: [10.0.0.2, '127.0.0.1:5353', '::1', '[::1]:54'], max_ttl: 1m }")
                .unwrap();
        let servers: Vec<_> = config.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["10.0.0.2:53", "127.0.0.1:5353", "[::1]:53", "[::1]:54"]
        );
        assert_eq!(config.max_ttl, Duration::from_secs(60));
        assert_eq!(config.min_ttl, ResolverConfig::default().min_ttl);
        assert_eq!(
            read::<ResolverConfig>("{ timeout: 2s }").unwrap(),
            ResolverConfig::default()
        );
    }

    #[test]
    fn a_resolver_that_can_not_work_is_refused() {
        refused::<ResolverConfig>("nameservers: [dns.internal]", "1:15", "a name server");
        refused::<ResolverConfig>("nameservers: ['10.0.0.2:0']", "1:15", "a name server");
        refused::<ResolverConfig>("nameservers: []", "1:1", "nobody to ask");
        refused::<ResolverConfig>("timeout: 0s", "1:1", "never answered");
        refused::<ResolverConfig>("min_ttl: 0s", "1:1", "at least 10ms");
        refused::<ResolverConfig>("{ min_ttl: 10m }", "1:1", "longer than `max_ttl`");
        refused::<ResolverConfig>("{ tiemout: 1s }", "1:3", "did you mean `timeout`?");
    }
}
