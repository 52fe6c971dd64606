//! Lets only clients at certain addresses pass.
//!
//! What is denied is refused, whatever is allowed. Where anything is allowed, all that is not is refused.
//! Addresses are those of clients as far as trusted proxies tell; IPv4 that came over an IPv6 socket is
//! IPv4.

mod config;
mod database;
mod networks;

use std::{fmt, net::IpAddr, sync::Arc};

use edgeway_sdk::{prelude::*, types::FilePath};

pub(crate) use self::config::Config;
use self::{
    config::{Asn, Country, Section, Unknown},
    database::{Attribute, Lookup},
    networks::{Network, Networks},
};
use crate::watched::Watched;

/// What `edgeway filters` shows.
pub(crate) const DOC: &str = "\
lets only clients at certain addresses, from certain countries or networks pass

ip_access:
  # In this order: what a `deny` has is refused. What `allow` or `allow_files` have passes. If there is
  # any `allow`, here or below, what none of them has is refused; else all the rest passes.
  allow: [10.0.0.0/8, \"2001:db8::/32\"]   # default: none
  allow_files: []                        # files with an address or network a line; read again when they change
  deny: [10.6.6.6]                       # default: none
  deny_files: [blocklist.txt]            # default: none

  # By country: a database in MaxMind's format (GeoLite2-Country, GeoIP2-City, DB-IP ...), read again
  # when it changes.
  #countries:
    #database: GeoLite2-Country.mmdb
    #allow: [DE, FR]                     # default: none
    #deny: [KP]                          # default: none
    #unknown: deny                       # whom the database doesn't know. Default: deny if there is an `allow`,
    #                                    # else allow. `deny` does not bar what `allow` or `allow_files` have
  # By the network that an address belongs to: GeoLite2-ASN or its like.
  #asns:
    #database: GeoLite2-ASN.mmdb
    #allow: [64496]                      # default: none
    #deny: [AS64511]                     # default: none
    #unknown: allow

  status: 403                            # of a refusal; 404 hides that there is something
";

/// Lets only clients at certain addresses pass.
pub(crate) struct IpAccess {
    allow: List,
    deny: List,
    countries: Option<Rules<Country>>,
    asns: Option<Rules<Asn>>,
    /// Whether what is not allowed is refused.
    only_allowed: bool,
    status: u16,
}

/// Builds the filter.
pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<IpAccess, BuildError> {
    let countries = Rules::new("countries", config.countries, build)?;
    let asns = Rules::new("asns", config.asns, build)?;
    let allow = List::new("allow", config.allow, &config.allow_files, build)?;
    let deny = List::new("deny", config.deny, &config.deny_files, build)?;
    if allow.is_none() && deny.is_none() && countries.is_none() && asns.is_none() {
        let error = BuildError::new("nothing is allowed or denied, so it would have no effect");
        return Err(error.help("give `allow`, `deny`, their files, `countries` or `asns`"));
    }
    let allows_country = countries
        .as_ref()
        .is_some_and(|rules| rules.allow.is_some());
    let allows_asn = asns.as_ref().is_some_and(|rules| rules.allow.is_some());
    Ok(IpAccess {
        only_allowed: allow.is_some() || allows_country || allows_asn,
        allow: allow.unwrap_or_default(),
        deny: deny.unwrap_or_default(),
        countries,
        asns,
        status: config.status.0,
    })
}

#[async_trait]
impl Filter for IpAccess {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let address = request.client().to_canonical();
        let Some((rule, reason)) = self.refusal(address)? else {
            return Ok(Flow::Continue);
        };
        let reply = Reply::new(self.status)
            .detail("Access from your address is not allowed.")
            .because(format!("{address} {reason}"))
            .rule(rule)
            .key(address.to_string());
        Ok(reply.into())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

/// The word for a kind of refusals, and why this is one of them.
type Refusal = (&'static str, String);

impl IpAccess {
    fn refusal(&self, address: IpAddr) -> Result<Option<Refusal>> {
        if let Some(list) = self.deny.find(address) {
            return Ok(Some(("deny", format!("is in {list}"))));
        }
        let country = Rules::judge(self.countries.as_ref(), address)?;
        let asn = Rules::judge(self.asns.as_ref(), address)?;
        for (rule, judged) in [("country", &country), ("asn", &asn)] {
            if let Judged::Denied(reason) = judged {
                return Ok(Some((rule, reason.clone())));
            }
        }
        if self.allow.find(address).is_some() {
            return Ok(None);
        }
        for judged in [&country, &asn] {
            if let Judged::Unknown(reason) = judged {
                return Ok(Some(("unknown", reason.clone())));
            }
        }
        let is_allowed = !self.only_allowed
            || matches!(country, Judged::Allowed)
            || matches!(asn, Judged::Allowed);
        Ok((!is_allowed).then(|| ("not_allowed", "is not allowed by anything".to_owned())))
    }
}

/// Addresses that are written in the configuration or stand in files.
#[derive(Default)]
struct List {
    written: (&'static str, Networks),
    files: Vec<(String, Arc<Watched<Networks>>)>,
}

impl List {
    /// None if the configuration has neither addresses nor files.
    fn new(
        key: &'static str,
        written: Option<Vec<Network>>,
        paths: &[FilePath],
        build: &mut Build<'_>,
    ) -> Result<Option<Self>, BuildError> {
        if written.is_none() && paths.is_empty() {
            return Ok(None);
        }
        let written = some(key, written)?.unwrap_or_default();
        let mut files = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let file = Watched::open(&format!("{key}_files.{index}"), path, build)?;
            files.push((path.0.display().to_string(), file));
        }
        Ok(Some(Self {
            written: (key, written.into_iter().collect()),
            files,
        }))
    }

    /// The list that has this address.
    fn find(&self, address: IpAddr) -> Option<Named<'_>> {
        let (key, written) = &self.written;
        if written.contains(address) {
            return Some(Named(key));
        }
        let mut files = self.files.iter();
        let found = files.find(|(_, file)| file.current().content.contains(address));
        found.map(|(name, _)| Named(name))
    }
}

struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// What is allowed and denied by something that a database knows.
struct Rules<T> {
    lookup: Lookup<T>,
    allow: Option<Vec<T>>,
    deny: Vec<T>,
    unknown: Unknown,
}

/// What rules say of an address.
enum Judged {
    Allowed,
    Denied(String),
    /// Refused because nothing is known of it.
    Unknown(String),
    /// Neither.
    Other,
}

impl<T: Attribute + fmt::Display> Rules<T> {
    fn new(
        key: &str,
        section: Option<Section<T>>,
        build: &mut Build<'_>,
    ) -> Result<Option<Self>, BuildError> {
        let Some(section) = section else {
            return Ok(None);
        };
        let allow = some(&format!("{key}.allow"), section.allow)?;
        let deny = some(&format!("{key}.deny"), section.deny)?;
        if allow.is_none() && deny.is_none() && section.unknown != Some(Unknown::Deny) {
            let message = "nothing is allowed or denied, so it would have no effect";
            return Err(BuildError::at(key, message).help("give `allow` or `deny`"));
        }
        let usual = match allow {
            Some(_) => Unknown::Deny,
            None => Unknown::Allow,
        };
        Ok(Some(Self {
            lookup: Lookup::open(&format!("{key}.database"), &section.database, build)?,
            allow,
            deny: deny.unwrap_or_default(),
            unknown: section.unknown.unwrap_or(usual),
        }))
    }

    fn judge(rules: Option<&Self>, address: IpAddr) -> Result<Judged> {
        let Some(rules) = rules else {
            return Ok(Judged::Other);
        };
        let Some(known) = rules.lookup.find(address)? else {
            return Ok(rules.judge_unknown());
        };
        if rules.deny.contains(&known) {
            return Ok(Judged::Denied(format!(
                "belongs to {known}, which is denied"
            )));
        }
        let allowed = rules
            .allow
            .as_ref()
            .is_some_and(|allow| allow.contains(&known));
        Ok(if allowed {
            Judged::Allowed
        } else {
            Judged::Other
        })
    }

    fn judge_unknown(&self) -> Judged {
        match (self.unknown, &self.allow) {
            (Unknown::Allow, Some(_)) => Judged::Allowed,
            (Unknown::Deny, None) => {
                Judged::Unknown(format!("is not in the database of {}", T::NAMES))
            }
            // Not being allowed is what refuses it, unless something else allows it.
            (Unknown::Deny, Some(_)) | (Unknown::Allow, None) => Judged::Other,
        }
    }
}

/// A list that was written. An empty one is a mistake: it could mean nothing or all.
fn some<T>(key: &str, list: Option<Vec<T>>) -> Result<Option<Vec<T>>, BuildError> {
    if list.as_ref().is_some_and(Vec::is_empty) {
        return Err(BuildError::at(key, "the list is empty").help("leave it out"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
