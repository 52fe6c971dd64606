//! Lets only requests with a known key pass.
//!
//! Keys are kept as hashes, so that who reads the configuration, a backup or the memory of another process
//! has no key. A key is looked up by its hash: that takes the same time for a wrong key as for a right one.

mod keys;
mod places;
mod until;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use ahash::RandomState;
use edgeway_sdk::{prelude::*, types::FilePath};

use self::{
    keys::{Key, Keys, Written},
    places::{Place, Places, Presented},
};
use crate::{
    credentials::key::Hash,
    forward::{self, Forward, Headers},
    slots::Slots,
    watched::Watched,
};

/// What `edgeway filters` shows.
pub(crate) const DOC: &str = "\
lets only requests with a known key pass, and tells upstreams whose it is

api_key:
  # Where the key is. It must not differ from one place to another.
  from: [{ header: X-API-Key }]   # {header: NAME}, bearer (Authorization: Bearer), {query: NAME}
  strip: true                     # whether the key is kept from the upstream
  # `edgeway api-key` makes a key and its hash. Who has two keys stands here twice.
  keys:                           # default: none
    - id: acme                    # whose it is: {subject}, for logs, limits and `authorize`
      hash: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"  # or env:, file:
      roles: [partner]            # default: none; the claim `roles`
      metadata: { plan: gold }    # default: none; more claims: texts, numbers, lists of them
      not_after: 2099-12-31       # default: for ever; a day to its end in UTC, or 2099-12-31T12:00:00Z
  keys_file: keys.yaml            # default: none; a list like that of `keys`, read again when it changes
  forward: { id: X-Caller, plan: X-Plan }  # default: none; claims as headers that nobody else can set
  optional: false                 # true: requests without a key pass, as nobody
  realm: edgeway                  # in the challenge of a 401
";

/// `api_key: { keys_file: keys.yaml }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default = "Place::usual")]
    from: Vec<Place>,
    #[serde(default = "Config::strip")]
    strip: bool,
    #[serde(default)]
    keys: Vec<Written>,
    keys_file: Option<FilePath>,
    #[serde(default)]
    forward: BTreeMap<String, String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    realm: Realm,
}

impl Config {
    fn strip() -> bool {
        true
    }
}

/// The name of what a key opens: printable ASCII that can stand in quotes.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Realm(String);

impl Default for Realm {
    fn default() -> Self {
        Self("edgeway".to_owned())
    }
}

impl TryFrom<String> for Realm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let quotable = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        if text.is_empty() || !text.chars().all(quotable) {
            return Err("expected printable ASCII characters other than `\"` and `\\`".to_owned());
        }
        Ok(Self(text))
    }
}

/// Lets only requests with a known key pass.
pub(crate) struct ApiKey {
    places: Places,
    strip: bool,
    /// Whether refused requests go on.
    reports: bool,
    written: Keys,
    file: Option<Arc<Watched<Keys>>>,
    forward: Forward,
    /// The headers of keys that were used a moment ago.
    forwarded: Slots<(Arc<Key>, Headers)>,
    hasher: RandomState,
    optional: bool,
    challenge: HeaderValue,
}

/// Builds the filter.
pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<ApiKey, BuildError> {
    let places = Places::new(config.from, build)?;
    let mut written = Keys::default();
    for (index, key) in config.keys.into_iter().enumerate() {
        let added = written.add(key);
        added.map_err(|error| BuildError::at(format!("keys.{index}"), error))?;
    }
    let file = config
        .keys_file
        .map(|path| Watched::open("keys_file", &path, build));
    let filter = ApiKey {
        challenge: places.challenge(&config.realm.0)?,
        forward: Forward::new(config.forward, |name| places.are_in(name), build)?,
        places,
        strip: config.strip,
        reports: build.reports(),
        written,
        file: file.transpose()?,
        forwarded: Slots::new(SLOTS),
        hasher: RandomState::new(),
        optional: config.optional,
    };
    filter.check()?;
    Ok(filter)
}

#[async_trait]
impl Filter for ApiKey {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let presented = self.places.find(request);
        // A key in the query ends in the logs of all that the request passes, ours too: out at once.
        if self.strip && !self.reports {
            self.places.strip_query(request);
        }
        let key = match presented {
            Presented::Nothing if self.optional => return Ok(Flow::Continue),
            Presented::Nothing => return Ok(self.refuse("missing", "no key").into()),
            Presented::Several => {
                return Ok(Reply::new(400)
                    .detail("More than one key was sent.")
                    .because("several keys that differ")
                    .rule("ambiguous")
                    .into());
            }
            Presented::Hash(hash) => self.find(&hash),
        };
        let Some(key) = key else {
            return Ok(self.refuse("unknown", "no key that is known").into());
        };
        let subject = key.identity.subject();
        if let Some(until) = key.until.filter(|until| until.is_over(SystemTime::now())) {
            let reply = self.refuse("expired", format!("the key was valid until {until}"));
            let reply = reply.detail("The key is no longer valid.");
            return Ok(reply.key(subject.to_owned()).into());
        }
        self.admit(&key, request)?;
        Ok(Flow::Continue)
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

impl ApiKey {
    fn refuse(
        &self,
        rule: &'static str,
        reason: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Reply {
        Reply::new(401)
            .header(header::WWW_AUTHENTICATE, self.challenge.clone())
            .rule(rule)
            .because(reason)
    }

    /// Those of the configuration go before those of the file.
    fn find(&self, hash: &Hash) -> Option<Arc<Key>> {
        let written = self.written.find(hash).cloned();
        written.or_else(|| self.file.as_ref()?.current().content.find(hash).cloned())
    }

    fn admit(&self, key: &Arc<Key>, request: &mut Request<'_>) -> Result<()> {
        let headers = self.headers(key).or_status(500)?;
        forward::apply(&headers.1, request);
        if self.strip {
            self.places.strip(request);
        }
        request.values_mut().insert(key.identity.clone());
        Ok(())
    }

    fn headers(&self, key: &Arc<Key>) -> Result<Arc<(Arc<Key>, Headers)>, String> {
        let number = self.hasher.hash_one(Arc::as_ptr(key));
        let known = self
            .forwarded
            .find(number, |(known, _)| Arc::ptr_eq(known, key));
        if let Some(known) = known {
            return Ok(known);
        }
        let headers = self.forward.headers(key.identity.claims())?;
        let made = Arc::new((Arc::clone(key), headers));
        self.forwarded.keep(number, Arc::clone(&made));
        Ok(made)
    }

    /// Refuses what could never work.
    fn check(&self) -> Result<(), BuildError> {
        let file = self.file.as_ref().map(|file| file.current());
        let of_file = file.iter().flat_map(|file| file.content.iter());
        let mut keys = self.written.iter().chain(of_file).peekable();
        if keys.peek().is_none() {
            return Err(BuildError::new("there is no key, nobody could get in")
                .help("give `keys` or `keys_file`; `edgeway api-key` makes a key"));
        }
        for key in keys {
            self.forward
                .headers(key.identity.claims())
                .map_err(|error| {
                    let message = format!("of the key of `{}`, {error}", key.identity.subject());
                    BuildError::at("forward", message)
                })?;
        }
        Ok(())
    }
}

const SLOTS: usize = 1_024;

#[cfg(test)]
mod tests;
