//! Filters, from their names and configurations.

use std::sync::Arc;

use edgeway_sdk::{
    Build, BuildError, Filter,
    filters::{Background, Config, Entry},
};
use http::HeaderName;

use super::{
    Compiler,
    beside::{read_beside, spot},
};
use crate::{
    config::{
        self, Named,
        deserialize::read_with,
        diagnostic::{Diagnostic, Problems, Spot, suggestion},
    },
    snapshot::{Chain, Link, Tasks},
    telemetry::tally::Tally,
};

/// Builds chains, and gathers what their filters ask for.
pub(super) struct Chains<'a> {
    compiler: Compiler<'a>,
    written: &'a config::Config,
    reserved: Vec<HeaderName>,
    background: Vec<Background>,
}

impl<'a> Chains<'a> {
    pub(super) fn new(compiler: Compiler<'a>, written: &'a config::Config) -> Self {
        Self {
            compiler,
            written,
            reserved: Vec::new(),
            background: Vec::new(),
        }
    }

    /// The filters of one list, of this route or of all, without those that are wrong, which have been told then.
    pub(super) fn links(
        &mut self,
        list: &[Named],
        route: Option<&str>,
        problems: &mut Problems,
    ) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for named in list {
            links.extend(self.link(
                named,
                Place {
                    route,
                    before: &links,
                },
                problems,
            ));
        }
        links
    }

    /// Header names that clients may not send, each once, and what is to run beside the requests.
    pub(super) fn finish(mut self) -> (Box<[HeaderName]>, Tasks) {
        self.reserved.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        self.reserved.dedup();
        (self.reserved.into(), self.background)
    }

    fn link(&mut self, named: &Named, place: Place<'_>, problems: &mut Problems) -> Option<Link> {
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
        let beside = read_beside(self.compiler, named, self.written, problems)?;
        let filter = self.build(named, entry, config, (place, beside.reports), problems)?;
        if beside.reports && !filter.refuses() {
            let message = format!("`mode: report` has no effect on `{name}`: it refuses nothing");
            problems.push(Diagnostic::error(message).at(spot(named, "mode")));
        }
        let called = beside.name.as_deref().unwrap_or(name);
        Some(Link {
            name: called.into(),
            hooks: filter.hooks(),
            filter,
            applies: beside.applies.map(Arc::new),
            reports: beside.reports,
            tally: self.tally(called, place),
        })
    }

    /// Where refusals of the filter are counted, whatever its configuration was before.
    fn tally(&self, called: &str, place: Place<'_>) -> Arc<Tally> {
        let route = place.route.unwrap_or("*");
        let twins = |link: &&Link| *link.name == *called;
        let number = place.before.iter().filter(twins).count() + 1;
        let shown = match number {
            1 => called.to_owned(),
            number => format!("{called}#{number}"),
        };
        let resources = self.compiler.resources;
        let identity = format!("{route}\0{shown}");
        resources.shared(&identity, || Tally::new(route, &shown))
    }

    fn build(
        &mut self,
        named: &Named,
        entry: &Entry,
        config: Config,
        (place, reports): (Place<'_>, bool),
        problems: &mut Problems,
    ) -> Option<Arc<dyn Filter>> {
        let stage = Build::new(self.compiler.resources, self.compiler.folder).reporting(reports);
        let mut stage = match place.route {
            Some(route) => stage.on_route(route),
            None => stage,
        };
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

/// Where a filter stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// None for the filters of all routes.
    route: Option<&'a str>,
    /// The filters before it in the same list.
    before: &'a [Link],
}

/// The global filters, then a route's own.
pub(super) fn join(global: &[Link], own: Vec<Link>) -> Chain {
    global.iter().cloned().chain(own).collect()
}
