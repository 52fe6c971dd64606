//! Asks for a name and a password (RFC 7617).
//!
//! To verify a password is slow by design, so that a stolen list of hashes is hard to use. That
//! makes it a weapon against us, too: only half of the processors ever verify at once, away from the
//! threads that serve requests, and who waits too long for a turn is told to come back (503). What
//! was right is remembered for a minute, so that a page with many parts costs one verification;
//! never the password itself, but a keyed hash of it. A name that is not known costs as much as a
//! wrong password, and is told the same.
//!
//! The files of users and groups are read again when they change. Who is no longer in them, or has another
//! password, is out at once, remembered or not.

mod remember;
mod users;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use edgeway_sdk::{
    prelude::*,
    types::{FilePath, Header},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use self::{
    remember::Remembered,
    users::{Accounts, Name, User},
};
use crate::{credentials::password::Hash, digest::Digest, headers};

pub(crate) const DOC: &str = "\
asks for a name and a password

basic_auth:
  users: { ann: env:ANN_HASH }          # argon2, bcrypt or SHA-crypt; also written out, or as file:/path.
                                        # `edgeway hash-password` makes one
  users_file: users.htpasswd            # default: none; a line for each user: ann:$2y$...
  groups_file: groups.htgroups          # default: none; a line for each group: staff: ann bob. The groups
                                        # of a user are the claim `roles`, for `authorize` and others.
                                        # Both files are read again when they change
  realm: restricted                     # what the browser shows
  header: X-Auth-User                   # default: none; tells the upstream the name
  strip: true                           # whether the password is kept from the upstream
";

/// `basic_auth: { users_file: users.htpasswd, header: X-Auth-User }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    users: BTreeMap<Name, Hash>,
    users_file: Option<FilePath>,
    groups_file: Option<FilePath>,
    #[serde(default)]
    realm: Realm,
    header: Option<Header>,
    #[serde(default = "Config::strip")]
    strip: bool,
}

impl Config {
    fn strip() -> bool {
        true
    }
}

/// Asks for a name and a password.
pub(crate) struct BasicAuth {
    accounts: Accounts,
    challenge: HeaderValue,
    header: Option<HeaderName>,
    strip: bool,
    /// Of all filters of this kind together: what was right for a hash is right for it everywhere.
    remembered: Arc<Remembered>,
    turns: Arc<Turns>,
    patience: Duration,
}

/// How many passwords may be verified at once, by all filters of this kind together.
struct Turns(Arc<Semaphore>);

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<BasicAuth, BuildError> {
    let (users_file, groups_file) = (config.users_file.as_ref(), config.groups_file.as_ref());
    let accounts = Accounts::new(config.users, users_file, groups_file, build)?;
    if let Some(Header(name)) = &config.header {
        headers::changeable(name, "header")?;
        // Reserved, it would be taken from every client before it is looked at.
        if *name == header::AUTHORIZATION {
            let message = "`authorization` is where the password stands";
            return Err(BuildError::at("header", message));
        }
        build.reserve_header(name.clone());
    }
    Ok(BasicAuth {
        accounts,
        challenge: config.realm.challenge(),
        header: config.header.map(|Header(name)| name),
        strip: config.strip,
        remembered: build.resources().shared("all", Remembered::new),
        turns: build.resources().shared("all", Turns::new),
        patience: PATIENCE,
    })
}

impl Turns {
    fn new() -> Self {
        let processors = available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new(processors.div_ceil(2))))
    }
}

#[async_trait]
impl Filter for BasicAuth {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let Some(credentials) = Credentials::of(request.headers()) else {
            return Ok(self.refuse("no name and password").rule("missing").into());
        };
        match self.verify(credentials).await? {
            Verdict::Right(user) => {
                self.admit(request, &user);
                Ok(Flow::Continue)
            }
            Verdict::Wrong(known) => {
                let reply = self.refuse("wrong name or password").rule("wrong");
                // Who types a password in the place of the name must not find it in the log.
                Ok(match known {
                    Some(user) => reply.key(user.subject.to_string()),
                    None => reply,
                }
                .into())
            }
            Verdict::Busy => Ok(Reply::new(503)
                .header(header::RETRY_AFTER, "1")
                .because("too many passwords to verify")
                .rule("busy")
                .into()),
        }
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

enum Verdict {
    Right(Arc<User>),
    /// With the user of that name, if there is one.
    Wrong(Option<Arc<User>>),
    /// Nobody had time to find out.
    Busy,
}

impl BasicAuth {
    fn refuse(&self, reason: &'static str) -> Reply {
        Reply::new(401)
            .header(header::WWW_AUTHENTICATE, self.challenge.clone())
            .because(reason)
    }

    fn admit(&self, request: &mut Request<'_>, user: &User) {
        let identity = self.accounts.identity(user);
        request.values_mut().insert(identity);
        if self.strip {
            request.remove_header(&header::AUTHORIZATION);
        }
        if let Some(name) = &self.header {
            request.set_header(name.clone(), user.header.clone());
        }
    }

    async fn verify(&self, credentials: Credentials) -> Result<Verdict> {
        let digest = self.remembered.digest(&credentials.text);
        if let Some(user) = self.remembered(&digest) {
            return Ok(Verdict::Right(user));
        }
        let turn = Arc::clone(&self.turns.0).acquire_owned();
        let Ok(turn) = timeout(self.patience, turn).await else {
            return Ok(Verdict::Busy);
        };
        let turn = turn.or_status(503)?;
        // The same password may have been verified while this request waited.
        if let Some(user) = self.remembered(&digest) {
            return Ok(Verdict::Right(user));
        }
        let known = self.accounts.find(credentials.name());
        // The same one each time for the same name: who guesses names would see a difference.
        let decoy = || {
            let name = self.remembered.digest(credentials.name());
            self.accounts.decoy(name.number() as usize)
        };
        let Some(user) = known.clone().or_else(decoy) else {
            return Ok(Verdict::Wrong(None));
        };
        let right = verify(credentials, user, turn).await?;
        match known {
            Some(user) if right => {
                self.remembered.keep(digest, &user, Instant::now());
                Ok(Verdict::Right(user))
            }
            known => Ok(Verdict::Wrong(known)),
        }
    }

    /// The user whose password was right a moment ago, unless they have another one by now or are gone.
    fn remembered(&self, digest: &Digest) -> Option<Arc<User>> {
        let known = self.remembered.find(digest, Instant::now())?;
        let user = self.accounts.find(known.subject.as_bytes())?;
        (user.hash == known.hash).then_some(user)
    }
}

/// Verifies on a thread that may be busy for long. The turn ends with the work, even when the client
/// has left before.
async fn verify(
    credentials: Credentials,
    user: Arc<User>,
    turn: OwnedSemaphorePermit,
) -> Result<bool> {
    let work = spawn_blocking(move || {
        let right = user.hash.verify(credentials.password());
        drop(turn);
        right
    });
    work.await.or_status(500)
}

/// A name and a password, as the client sent them.
struct Credentials {
    /// Both, with the colon between them. A password need not be UTF-8.
    text: Vec<u8>,
    colon: usize,
}

impl Credentials {
    /// What the request's only `Authorization` says, if that is of the form that the RFC asks for.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > LONGEST {
            return None;
        }
        let text = BASE64.decode(encoded.trim()).ok()?;
        let colon = text.iter().position(|byte| *byte == b':')?;
        Some(Self { text, colon })
    }

    fn name(&self) -> &[u8] {
        self.text.split_at(self.colon).0
    }

    fn password(&self) -> &[u8] {
        self.text.split_at(self.colon + 1).1
    }
}

/// What the browser shows when it asks: visible ASCII, which is all that every browser can read.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Realm(String);

impl Default for Realm {
    fn default() -> Self {
        Self("restricted".to_owned())
    }
}

impl TryFrom<String> for Realm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
            return Err("expected a realm of visible ASCII characters".to_owned());
        }
        Ok(Self(text))
    }
}

impl Realm {
    fn challenge(&self) -> HeaderValue {
        let realm = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
            .expect("a realm is visible ASCII")
    }
}

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// More than this, encoded, is nobody's name and password.
const LONGEST: usize = 4_096;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
