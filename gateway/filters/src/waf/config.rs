//! What the operator writes, and what requests are judged by.

use std::{str::FromStr, sync::Arc};

use edgeway_sdk::prelude::*;

use super::{
    engine::{Engine, Rules},
    rules::Class,
    score::{Kind, Place},
};
use crate::criteria::{Item, List, PathPattern};

/// `waf: { threshold: 5, exceptions: [{ class: xss, path: /editor/, parameter: html }] }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    threshold: Threshold,
    #[serde(default = "Config::body")]
    body: Size,
    #[serde(default)]
    longer: Longer,
    #[serde(default)]
    disable: Vec<String>,
    #[serde(default)]
    exceptions: Vec<ExceptionConfig>,
}

impl Config {
    fn body() -> Size {
        Size(128 << 10)
    }
}

/// What happens to bodies that are longer than what is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Longer {
    /// Their beginning is looked at.
    #[default]
    Pass,
    Refuse,
}

#[derive(Deserialize)]
struct ExceptionConfig {
    rule: Option<List<Word>>,
    class: Option<List<Class>>,
    path: Option<List<PathPattern>>,
    parameter: Option<List<Word>>,
    header: Option<List<Word>>,
    cookie: Option<List<Word>>,
}

/// The score that a request may not reach.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
struct Threshold(u32);

impl Default for Threshold {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u32> for Threshold {
    type Error = String;

    fn try_from(score: u32) -> Result<Self, String> {
        if (1..=100).contains(&score) {
            return Ok(Self(score));
        }
        Err(format!("expected a score from 1 to 100, found {score}"))
    }
}

/// The name of a rule, a parameter, a header or a cookie; a `*` at its end stands for any letters.
#[derive(Debug)]
struct Word(String);

impl Item for Word {
    const EXPECTED: &'static str = "a name";
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "*" {
            return Err(format!("expected a name, found `{text}`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Word {
    fn fits(&self, name: &[u8]) -> bool {
        match self.0.strip_suffix('*') {
            Some(begin) => name
                .get(..begin.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(begin.as_bytes())),
            None => name.eq_ignore_ascii_case(self.0.as_bytes()),
        }
    }
}

impl Item for Class {
    const EXPECTED: &'static str = "a class of attacks such as `sqli`";
}

/// What requests are judged by.
pub(super) struct Book {
    pub(super) engine: Arc<Engine>,
    pub(super) threshold: u32,
    /// How much of a body is looked at; none at all is 0.
    pub(super) body: usize,
    pub(super) longer: Longer,
    disabled: Rules,
    exceptions: Vec<Exception>,
}

/// Rules that are off somewhere.
struct Exception {
    rules: Rules,
    paths: Option<List<PathPattern>>,
    /// None are all places of a request.
    places: Option<Places>,
}

#[derive(Default)]
struct Places {
    parameters: Option<List<Word>>,
    headers: Option<List<Word>>,
    cookies: Option<List<Word>>,
}

impl Book {
    pub(super) fn new(config: Config, build: &mut Build<'_>) -> Result<Self, BuildError> {
        let engine = build
            .resources()
            .try_shared("rules", Engine::new)
            .map_err(BuildError::new)?;
        let body = usize::try_from(config.body.0).unwrap_or(usize::MAX);
        if body > LONGEST_BODY {
            let message = format!("no more than {} are looked at", Size(LONGEST_BODY as u64));
            return Err(BuildError::at("body", message));
        }
        if body == 0 && config.longer == Longer::Refuse {
            let message = "with a `body` of 0 this would refuse every request that has one";
            return Err(BuildError::at("longer", message));
        }
        let mut disabled = Rules::default();
        for (at, id) in config.disable.iter().enumerate() {
            disabled.add(
                engine
                    .find(id)
                    .ok_or_else(|| unknown(format!("disable.{at}"), id))?,
            );
        }
        let mut exceptions = Vec::new();
        for (at, exception) in config.exceptions.into_iter().enumerate() {
            let place = format!("exceptions.{at}");
            exceptions.push(exception.compile(&engine, &place)?);
        }
        Ok(Self {
            engine,
            threshold: config.threshold.0,
            body,
            longer: config.longer,
            disabled,
            exceptions,
        })
    }

    /// The rules that are off for a whole request.
    pub(super) fn off(&self, path: &str) -> Rules {
        let whole = self
            .exceptions
            .iter()
            .filter(|known| known.places.is_none());
        whole
            .filter(|known| known.is_for(path))
            .fold(self.disabled, |off, known| off.union(known.rules))
    }

    /// The rules that are off for one place of a request.
    pub(super) fn off_at(&self, path: &str, place: Place<'_>) -> Rules {
        self.exceptions
            .iter()
            .filter(|known| {
                known
                    .places
                    .as_ref()
                    .is_some_and(|places| places.has(place))
            })
            .filter(|known| known.is_for(path))
            .fold(Rules::default(), |off, known| off.union(known.rules))
    }

    /// For bodies that are longer than what is looked at.
    pub(super) fn too_long(&self) -> Reply {
        let reason = format!("the body is longer than {}", Size(self.body as u64));
        Reply::new(413)
            .detail("The body is too long.")
            .because(reason)
            .rule("body-length")
    }
}

impl ExceptionConfig {
    fn compile(self, engine: &Engine, key: &str) -> Result<Exception, BuildError> {
        let rules = self.rules(engine, key)?;
        let places = Places {
            parameters: self.parameter,
            headers: self.header,
            cookies: self.cookie,
        };
        let places = Some(places).filter(|places| !places.is_empty());
        if self.path.is_none() && places.is_none() {
            let message = "it does not say where: `path`, `parameter`, `header` or `cookie`";
            return Err(BuildError::at(key, message)
                .help("rules that are nowhere wanted go into `disable`"));
        }
        Ok(Exception {
            rules,
            paths: self.path,
            places,
        })
    }

    /// Those that are named, of those classes; all if none are.
    fn rules(&self, engine: &Engine, key: &str) -> Result<Rules, BuildError> {
        let mut rules = Rules::default();
        for word in self.rule.iter().flat_map(List::iter) {
            let mut known = engine
                .rules()
                .enumerate()
                .filter(|(_, rule)| word.fits(rule.id.as_bytes()))
                .peekable();
            if known.peek().is_none() {
                return Err(unknown(format!("{key}.rule"), &word.0));
            }
            known.for_each(|(at, _)| rules.add(at));
        }
        let classes = self.class.iter().flat_map(List::iter);
        for class in classes {
            let known = engine
                .rules()
                .enumerate()
                .filter(|(_, rule)| rule.class == *class);
            known.for_each(|(at, _)| rules.add(at));
        }
        if self.rule.is_none() && self.class.is_none() {
            engine.rules().enumerate().for_each(|(at, _)| rules.add(at));
        }
        Ok(rules)
    }
}

fn unknown(key: String, id: &str) -> BuildError {
    BuildError::at(key, format!("there is no rule `{id}`"))
        .help("the reason of a refusal in the log names the rules that have matched")
}

impl Exception {
    fn is_for(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.has_path(path))
    }
}

impl Places {
    fn is_empty(&self) -> bool {
        self.parameters.is_none() && self.headers.is_none() && self.cookies.is_none()
    }

    fn has(&self, place: Place<'_>) -> bool {
        let names = match place.kind {
            Kind::Header => &self.headers,
            Kind::Cookie => &self.cookies,
            kind if kind.has_parameters() => &self.parameters,
            _ => return false,
        };
        let mut names = names.iter().flat_map(List::iter);
        names.any(|name| name.fits(place.name))
    }
}

/// More than this is not kept of a body.
const LONGEST_BODY: usize = 8 << 20;
