//! What is said of a filter beside its name: for which requests it is, and whether it enforces.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    At, Entries, Network, OneOrMany,
    matching::{
        HostText, MethodText, Misplaced, PathText, TestText, everything, origin, predicates,
    },
    scalar::SchemeName,
};
use crate::route::{Match, PathPattern, Test};

/// `when: { path: /admin/, method: [POST, DELETE], clients: [10.0.0.0/8] }`: all that it names must hold, of a
/// list one is enough.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConditionConfig {
    host: OneOrMany<HostText>,
    path: Paths,
    method: OneOrMany<MethodText>,
    headers: Entries<TestText>,
    query: Entries<TestText>,
    cookies: Entries<TestText>,
    scheme: Option<SchemeName>,
    pub(crate) listener: Option<At<String>>,
    /// What is known of the caller, once a filter before has found out.
    claims: Entries<TestText>,
    pub(crate) clients: OneOrMany<Network>,
}

impl ConditionConfig {
    /// Whether it says nothing, which would hold for every request.
    pub(crate) fn is_empty(&self) -> bool {
        !self.asks_of_the_head() && self.claims.0.is_empty() && self.clients.0.is_empty()
    }

    fn asks_of_the_head(&self) -> bool {
        !self.host.0.is_empty()
            || !self.path.is_empty()
            || !self.method.0.is_empty()
            || self.scheme.is_some()
            || self.listener.is_some()
            || [&self.headers, &self.query, &self.cookies]
                .iter()
                .any(|tests| !tests.0.is_empty())
    }

    /// What it asks of the head of a request: one match for each path. None at all if it asks nothing.
    ///
    /// # Errors
    ///
    /// The predicates that no request could satisfy.
    pub(crate) fn matches(&self) -> Result<Vec<Match>, Vec<Misplaced>> {
        if !self.asks_of_the_head() {
            return Ok(Vec::new());
        }
        let mut predicates = predicates(&self.headers, &self.query, &self.cookies)?;
        predicates.extend(origin(self.scheme, self.listener.as_ref()));
        let mut paths: Vec<_> = self.path.patterns().collect();
        if paths.is_empty() {
            paths.push(everything());
        }
        let matching = |path| {
            Match::new(path)
                .hosts(self.host.0.iter().map(|host| host.0.clone()))
                .methods(self.method.0.iter().map(|method| method.0.clone()))
                .predicates(predicates.iter().cloned())
        };
        Ok(paths.into_iter().map(matching).collect())
    }

    /// What it asks of the caller: claims, and what they are to be.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&str, &Test)> {
        let claims = self.claims.iter();
        claims.map(|(name, test)| (name.value.as_str(), &test.0))
    }
}

/// A path as routes write it, or a list of them.
#[derive(Debug, Default)]
pub(crate) struct Paths(Vec<PathText>);

impl Paths {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = PathPattern> {
        self.0.iter().map(|path| path.0.clone())
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path such as `/product`, or a list of paths")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Paths, E> {
                let path = path.parse().map_err(E::custom)?;
                Ok(Paths(vec![path]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Paths, A::Error> {
                let path = PathText::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Paths(vec![path]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = items.next_element()? {
                    paths.push(path);
                }
                Ok(Paths(paths))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// Whether a filter's refusals are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Enforcement {
    #[default]
    Enforce,
    /// They are counted and logged, and the request goes on.
    Report,
}
