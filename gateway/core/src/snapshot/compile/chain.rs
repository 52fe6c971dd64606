//! Filters, from their names and configurations.

use std::sync::Arc;

use edgeway_sdk::{
    Build, BuildError, Filter,
    filters::{Background, Config, Entry},
};
use http::HeaderName;

use super::Compiler;
use crate::{
    config::{
        Named,
        deserialize::read_with,
        diagnostic::{Diagnostic, Problems, Spot, suggestion},
    },
    snapshot::{Chain, Link, Tasks},
};

/// Builds chains, and gathers what their filters ask for.
pub(super) struct Chains<'a> {
    compiler: Compiler<'a>,
    reserved: Vec<HeaderName>,
    background: Vec<Background>,
}

impl<'a> Chains<'a> {
    pub(super) fn new(compiler: Compiler<'a>) -> Self {
        Self {
            compiler,
            reserved: Vec::new(),
            background: Vec::new(),
        }
    }

    /// The filters of one list, without those that are wrong, which have been told then.
    pub(super) fn links(&mut self, list: &[Named], problems: &mut Problems) -> Vec<Link> {
        list.iter()
            .filter_map(|named| self.link(named, problems))
            .collect()
    }

    /// Header names that clients may not send, each once, and what is to run beside the requests.
    pub(super) fn finish(mut self) -> (Box<[HeaderName]>, Tasks) {
        self.reserved.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        self.reserved.dedup();
        (self.reserved.into(), self.background)
    }

    fn link(&mut self, named: &Named, problems: &mut Problems) -> Option<Link> {
        let name = &named.name.value;
        let Some(entry) = self.compiler.filters.get(name) else {
            let known: Vec<_> = self.compiler.filters.iter().map(Entry::name).collect();
            let unknown = Diagnostic::error(format!("unknown filter `{name}`")).at(&named.name);
            problems.push(unknown.help_if(suggestion(name, &known)));
            return None;
        };
        let config = read_with(
            self.compiler.document,
            named.value,
            problems,
            &mut |value| entry.read(value),
        )?;
        let filter = self.build(named, entry, config, problems)?;
        Some(Link {
            name: name.as_str().into(),
            filter,
        })
    }

    fn build(
        &mut self,
        named: &Named,
        entry: &Entry,
        config: Config,
        problems: &mut Problems,
    ) -> Option<Arc<dyn Filter>> {
        let mut stage = Build::new(self.compiler.resources, self.compiler.folder);
        let built = entry.build(config, &mut stage);
        for warning in &stage.warnings {
            problems.push(self.located(named, warning, Diagnostic::warning(&*warning.message)));
        }
        self.reserved.append(&mut stage.reserved);
        self.background.append(&mut stage.background);
        built
            .inspect_err(|error| {
                problems.push(self.located(named, error, Diagnostic::error(&*error.message)))
            })
            .ok()
    }

    /// Points at the key that a filter complained of, as far as it exists, else at its name.
    fn located(&self, named: &Named, error: &BuildError, diagnostic: Diagnostic) -> Diagnostic {
        let document = self.compiler.document;
        let mut spot = Spot::from(&named.name);
        let mut at = named.value.node;
        for step in error.key.iter().flat_map(|key| key.split('.')) {
            let element = || {
                document
                    .elements(at)
                    .get(step.parse::<usize>().ok()?)
                    .copied()
            };
            let Some(next) = document
                .entry(at, step)
                .map(|(_, value)| value)
                .or_else(element)
            else {
                break;
            };
            at = next;
            spot = Spot::Node(at);
        }
        diagnostic.at(spot).help_if(error.help.as_deref())
    }
}

/// The global filters, then a route's own.
pub(super) fn join(global: &[Link], own: Vec<Link>) -> Chain {
    Chain(global.iter().cloned().chain(own).collect())
}
