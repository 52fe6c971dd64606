//! Who may come in, with the hashes of their passwords, and the groups that they belong to.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use edgeway_sdk::{Build, BuildError, Identity, types::FilePath};
use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    credentials::password::Hash,
    watched::{self, Content, Watched, Wrong},
};

/// All users, and their groups.
pub(super) struct Accounts {
    written: Users,
    file: Option<Arc<Watched<Users>>>,
    groups: Option<Arc<Watched<Groups>>>,
}

impl Accounts {
    /// Reads the files, and has them watched.
    pub(super) fn new(
        users: BTreeMap<Name, Hash>,
        users_file: Option<&FilePath>,
        groups_file: Option<&FilePath>,
        build: &mut Build<'_>,
    ) -> Result<Self, BuildError> {
        let mut open = |path| Watched::open("users_file", path, build);
        let accounts = Self {
            written: Users::new(users),
            file: users_file.map(&mut open).transpose()?,
            groups: groups_file
                .map(|path| Watched::open("groups_file", path, build))
                .transpose()?,
        };
        accounts.check()?;
        Ok(accounts)
    }

    fn check(&self) -> Result<(), BuildError> {
        let file = self.file.as_ref().map(|file| file.current());
        let users = file.as_ref().map_or(&[][..], |file| &*file.content.0);
        if self.written.0.is_empty() && users.is_empty() {
            return Err(BuildError::new("there is no user, nobody could get in")
                .help("name some in `users` or `users_file`"));
        }
        let twice = users
            .iter()
            .find(|user| self.written.find(user.name()).is_some());
        match twice {
            Some(user) => {
                let message = format!("there is a user `{}` in `users` already", user.subject);
                Err(BuildError::at("users_file", message))
            }
            None => Ok(()),
        }
    }

    /// The user of this name. Those of the configuration go before those of the file.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<User>> {
        let written = self.written.find(name).cloned();
        written.or_else(|| self.file.as_ref()?.current().content.find(name).cloned())
    }

    /// Any user, to have something to verify where there is nobody of the name; the same one for the same
    /// number. None if the file has lost its last one.
    pub(super) fn decoy(&self, number: usize) -> Option<Arc<User>> {
        let file = self.file.as_ref().map(|file| file.current());
        let users = file.as_ref().map_or(&[][..], |file| &*file.content.0);
        let (written, count) = (&self.written.0, self.written.0.len() + users.len());
        let place = number.checked_rem(count)?;
        let user = written
            .get(place)
            .or_else(|| users.get(place - written.len()));
        user.cloned()
    }

    /// This user as later filters see them, with the groups as the claim `roles`.
    pub(super) fn identity(&self, user: &User) -> Identity {
        let subject = Arc::clone(&user.subject);
        let groups = self.groups.as_ref().map(|groups| groups.current());
        let claims = groups
            .as_ref()
            .and_then(|groups| groups.content.0.get(&*user.subject));
        match claims {
            Some(claims) => Identity::with_claims(subject, Arc::clone(claims)),
            None => Identity::new(subject),
        }
    }
}

/// Users in the order of their names.
pub(super) struct Users(Vec<Arc<User>>);

pub(super) struct User {
    pub(super) subject: Arc<str>,
    /// The name as the upstream is told it: UTF-8, byte by byte.
    pub(super) header: HeaderValue,
    pub(super) hash: Hash,
}

impl Users {
    fn new(users: BTreeMap<Name, Hash>) -> Self {
        let users = users.into_iter().map(|(name, hash)| User::new(name, hash));
        Self(users.collect())
    }

    fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        let place = self.0.binary_search_by(|user| user.name().cmp(name));
        self.0.get(place.ok()?)
    }
}

/// A line `name:hash` for each user.
impl Content for Users {
    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let mut users = BTreeMap::new();
        for (number, line) in watched::lines(&bytes)? {
            let wrong = |what: &dyn std::fmt::Display| Wrong::line(number, what);
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| wrong(&"expected a name, a colon and a hash"))?;
            let name = Name::try_from(Cow::Borrowed(name)).map_err(|error| wrong(&error))?;
            let hash = hash.parse().map_err(|error: String| wrong(&error))?;
            if users.contains_key(&name) {
                return Err(wrong(&format!("there is a user `{}` already", name.0)));
            }
            users.insert(name, hash);
        }
        Ok(Self::new(users))
    }
}

impl User {
    fn new(Name(name): Name, hash: Hash) -> Arc<Self> {
        Arc::new(Self {
            header: HeaderValue::from_bytes(name.as_bytes())
                .expect("a name has no control characters"),
            subject: name.into(),
            hash,
        })
    }

    fn name(&self) -> &[u8] {
        self.subject.as_bytes()
    }
}

/// What is known of each user that belongs to a group: `{"roles": ["staff", "admin"]}`.
struct Groups(HashMap<Box<str>, Arc<Map<String, Value>>>);

/// A line `group: user user` for each group, as Apache has it. A group may have several lines.
impl Content for Groups {
    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let mut roles: HashMap<&str, Vec<Value>> = HashMap::new();
        for (number, line) in watched::lines(&bytes)? {
            let group = line
                .split_once(':')
                .map(|(group, users)| (group.trim(), users));
            let Some((group, users)) = group.filter(|(group, _)| !group.is_empty()) else {
                return Err(Wrong::line(
                    number,
                    "expected a group, a colon and names of users",
                ));
            };
            for user in users.split_whitespace() {
                let roles = roles.entry(user).or_default();
                if !roles.iter().any(|role| role == group) {
                    roles.push(group.into());
                }
            }
        }
        let claims = roles.into_iter().map(|(user, roles)| {
            let claims = Map::from_iter([("roles".to_owned(), Value::Array(roles))]);
            (user.into(), Arc::new(claims))
        });
        Ok(Self(claims.collect()))
    }
}

/// The name of a user: not empty, without colons and control characters, and without spaces at its
/// ends, which whoever reads a header takes away.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Name(String);

impl TryFrom<Cow<'_, str>> for Name {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let is_odd = |c: char| c == ':' || c.is_control();
        if text.is_empty() || text.contains(is_odd) || text.trim() != text {
            return Err(
                "expected the name of a user, without colons or spaces around it".to_owned(),
            );
        }
        Ok(Self(text.into_owned()))
    }
}
