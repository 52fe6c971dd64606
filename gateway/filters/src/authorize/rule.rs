//! What a caller must be.

use std::{collections::BTreeMap, fmt};

use edgeway_sdk::{BuildError, Identity};
use serde::Deserialize;
use serde_json::Value;

use crate::written::{OneOrMany, Pattern, Scalar};

/// Roles or scopes.
pub(super) type Words = OneOrMany<String>;
/// Names of callers.
pub(super) type Names = OneOrMany<Pattern>;
/// Claims and what they may be.
pub(super) type Claims = BTreeMap<String, OneOrMany<Scalar>>;

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) roles: Option<Words>,
    pub(super) scopes: Option<Words>,
    pub(super) subjects: Option<Names>,
    pub(super) claims: Option<Claims>,
    pub(super) any: Option<Vec<Self>>,
    pub(super) all: Option<Vec<Self>>,
}

/// Where a rule stands in the configuration, dotted.
pub(super) struct Place {
    key: String,
    depth: usize,
}

impl Place {
    pub(super) fn top() -> Self {
        Self {
            key: String::new(),
            depth: 0,
        }
    }

    fn below(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }

    fn error(&self, message: &str) -> BuildError {
        if self.key.is_empty() {
            BuildError::new(message)
        } else {
            BuildError::at(self.key.as_str(), message)
        }
    }
}

/// What a caller must be.
pub(super) enum Rule {
    /// One of these roles, which stand in this claim.
    Roles(String, Words),
    /// One of these scopes.
    Scopes(Words),
    /// One of these names.
    Subjects(Names),
    /// One of these values in this claim.
    Claim(String, OneOrMany<Scalar>),
    Any(Vec<Self>),
    All(Vec<Self>),
}

impl Rule {
    pub(super) fn new(
        written: Written,
        roles_claim: &str,
        place: &Place,
    ) -> Result<Self, BuildError> {
        let mut rules = Vec::new();
        rules.extend(
            written
                .roles
                .map(|roles| Self::Roles(roles_claim.to_owned(), roles)),
        );
        rules.extend(written.scopes.map(Self::Scopes));
        rules.extend(written.subjects.map(Self::Subjects));
        if let Some(claims) = written.claims {
            if claims.is_empty() {
                return Err(BuildError::at(
                    place.below("claims"),
                    "name at least one claim",
                ));
            }
            rules.extend(
                claims
                    .into_iter()
                    .map(|(path, values)| Self::Claim(path, values)),
            );
        }
        if let Some(list) = written.any {
            rules.push(Self::Any(group("any", list, roles_claim, place)?));
        }
        if let Some(list) = written.all {
            rules.push(Self::All(group("all", list, roles_claim, place)?));
        }
        match rules.pop() {
            Some(only) if rules.is_empty() => Ok(only),
            Some(last) => {
                rules.push(last);
                Ok(Self::All(rules))
            }
            None => Err(place
                .error("a rule without a condition would let everybody pass")
                .help("give `roles`, `scopes`, `subjects`, `claims`, `any` or `all`")),
        }
    }

    /// Whether the caller is as the rule wants; else what is missing.
    pub(super) fn check(&self, identity: &Identity) -> Result<(), Lack<'_>> {
        let holds = match self {
            Self::All(rules) => return rules.iter().try_for_each(|rule| rule.check(identity)),
            Self::Any(rules) => rules.iter().any(|rule| rule.check(identity).is_ok()),
            Self::Roles(claim, roles) => identity
                .claim(claim)
                .is_some_and(|claimed| roles.iter().any(|role| has(claimed, role))),
            Self::Scopes(scopes) => scopes.iter().any(|scope| has_scope(identity, scope)),
            Self::Subjects(names) => names.iter().any(|name| name.matches(identity.subject())),
            Self::Claim(path, values) => identity
                .claim(path)
                .is_some_and(|claimed| values.iter().any(|value| holds(claimed, &value.0))),
        };
        if holds { Ok(()) } else { Err(Lack(self)) }
    }
}

fn group(
    key: &str,
    list: Vec<Written>,
    roles_claim: &str,
    place: &Place,
) -> Result<Vec<Rule>, BuildError> {
    let key = place.below(key);
    if list.is_empty() {
        return Err(BuildError::at(key, "name at least one rule"));
    }
    if place.depth == DEEPEST {
        return Err(BuildError::at(
            key,
            format!("rules nest more than {DEEPEST} deep"),
        ));
    }
    let rules = list.into_iter().enumerate().map(|(index, written)| {
        let place = Place {
            key: format!("{key}.{index}"),
            depth: place.depth + 1,
        };
        Rule::new(written, roles_claim, &place)
    });
    rules.collect()
}

/// Whether a claim is this word, or a list that has it.
fn has(claimed: &Value, word: &str) -> bool {
    match claimed {
        Value::Array(list) => list.iter().any(|value| value == word),
        value => value == word,
    }
}

/// Whether a claim is this value, or a list that has it.
fn holds(claimed: &Value, value: &Value) -> bool {
    match claimed {
        Value::Array(list) => list.contains(value),
        claimed => claimed == value,
    }
}

/// Whether the caller has this scope: as a word of a text (RFC 8693, 4.2), or in a list.
fn has_scope(identity: &Identity, scope: &str) -> bool {
    let claims = ["scope", "scp"].into_iter();
    let mut claims = claims.filter_map(|name| identity.claims().get(name));
    claims.any(|claimed| match claimed {
        Value::String(text) => text.split(' ').any(|word| word == scope),
        claimed => has(claimed, scope),
    })
}

/// What a caller is not.
pub(super) struct Lack<'a>(&'a Rule);

impl Lack<'_> {
    /// A word for the kind of rule.
    pub(super) fn kind(&self) -> &'static str {
        match self.0 {
            Rule::Roles(..) => "roles",
            Rule::Scopes(_) => "scopes",
            Rule::Subjects(_) => "subjects",
            Rule::Claim(..) => "claims",
            Rule::Any(_) => "any",
            Rule::All(_) => "all",
        }
    }
}

impl fmt::Display for Lack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rule::Roles(_, roles) => write!(f, "has none of the roles {}", Listed(roles)),
            Rule::Scopes(scopes) => write!(f, "has none of the scopes {}", Listed(scopes)),
            Rule::Subjects(names) => write!(f, "is none of {}", Listed(names)),
            Rule::Claim(path, _) => write!(f, "the claim `{path}` is not as required"),
            Rule::Any(rules) | Rule::All(rules) => {
                for (index, rule) in rules.iter().enumerate() {
                    let between = if index == 0 { "" } else { "; " };
                    write!(f, "{between}{}", Lack(rule))?;
                }
                Ok(())
            }
        }
    }
}

struct Listed<'a, T>(&'a OneOrMany<T>);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { ", " };
            write!(f, "{between}`{item}`")?;
        }
        Ok(())
    }
}

/// Rules that nest deeper than this are a mistake.
const DEEPEST: usize = 8;
