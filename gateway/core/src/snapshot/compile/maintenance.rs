//! What is closed for maintenance.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use bytes::Bytes;

use super::{Compiler, chain};
use crate::{
    config::{
        self, At, Config, MAX_FIXED_FILE,
        diagnostic::{Diagnostic, Problems},
    },
    route::{Match, Router},
    snapshot::{
        Applies, Closing, Condition, Link, Maintenance, Networks, Otherwise, Plan, Rewriting,
        Route, Target,
    },
};

/// What the configuration says of everything, and of each route.
pub(super) struct Closings<'a> {
    compiler: Compiler<'a>,
    all: Plan,
    routes: Vec<Option<Plan>>,
}

impl<'a> Closings<'a> {
    pub(super) fn read(compiler: Compiler<'a>, config: &Config, problems: &mut Problems) -> Self {
        let mut plan = |written: Option<&At<config::Maintenance>>| match written {
            Some(written) => plan(compiler.folder, &written.value, problems),
            None => Plan::default(),
        };
        let all = plan(config.maintenance.as_ref());
        let routes = config.routes.iter();
        let routes = routes.map(|route| Some(plan(route.value.maintenance.as_ref())));
        Self {
            compiler,
            all,
            routes: routes.collect(),
        }
    }

    /// Has routes, each with its place in the file, and what has none go on as they should when they are closed.
    pub(super) fn attach(
        mut self,
        mut routes: Vec<(usize, &mut Route)>,
        fallback: &mut Route,
    ) -> Maintenance {
        let without = Arc::new(unguarded(fallback));
        let globals = fallback.chain.links.len();
        let mut known = HashMap::new();
        for (place, route) in &mut routes {
            let plan = self.routes.get_mut(*place).and_then(Option::take);
            let own = Arc::new(self.maintenance(&route.name, plan.unwrap_or_default()));
            known.insert(Arc::clone(&route.name), Arc::clone(&own));
            route.closing = Some(Box::new(Closing {
                own: Some(own),
                to: match route.chain.links.len() > globals {
                    true => Arc::new(unguarded(route)),
                    false => Arc::clone(&without),
                },
            }));
        }
        for (_, route) in routes {
            close_joined(route, &known, &without);
        }
        fallback.closing = Some(Box::new(Closing {
            own: None,
            to: without,
        }));
        let all = std::mem::take(&mut self.all);
        self.maintenance("*", all)
    }

    fn maintenance(&self, route: &str, plan: Plan) -> Maintenance {
        Maintenance {
            switch: self.compiler.resources.shared(route, Default::default),
            plan,
        }
    }
}

/// Has the routes on which the files of a route fall back be closed as they are by themselves.
fn close_joined(
    route: &mut Route,
    known: &HashMap<Arc<str>, Arc<Maintenance>>,
    without: &Arc<Route>,
) {
    let files = route.files.as_mut();
    if let Some(Otherwise::Route(joined)) = files.map(|files| &mut files.otherwise)
        // Nobody else has it yet.
        && let Some(joined) = Arc::get_mut(joined)
    {
        joined.closing = Some(Box::new(Closing {
            own: known.get(&joined.name).map(Arc::clone),
            to: Arc::clone(without),
        }));
        close_joined(joined, known, without);
    }
}

/// A route that leads nowhere, with the filters that guard nothing.
fn unguarded(route: &Route) -> Route {
    let links = route.chain.links.iter();
    let links: Vec<Link> = links
        .filter(|link| !link.filter.guards())
        .cloned()
        .collect();
    Route {
        name: Arc::clone(&route.name),
        pattern: route.pattern.clone(),
        chain: chain::join(&links, Vec::new()),
        max_body: None,
        rewriting: Rewriting::default(),
        files: None,
        target: Target::NotFound,
        closing: None,
        meter: Arc::clone(&route.meter),
    }
}

fn plan(folder: &Path, written: &config::Maintenance, problems: &mut Problems) -> Plan {
    let paths = written.except.patterns();
    let except = Router::new(paths.map(|path| (Match::new(path), ())));
    let except = (!written.except.is_empty()).then(|| Condition {
        head: Some(except),
        claims: Box::default(),
        clients: Networks::default(),
    });
    Plan {
        written: true,
        on: written.on,
        allow: Networks::new(&written.allow.0),
        except: except.map(|except| Applies {
            when: None,
            unless: Some(except),
        }),
        retry_after: written.retry_after.map(|span| span.0),
        status: written.status.0,
        detail: written.detail.as_deref().map(Into::into),
        page: written.page.as_ref().and_then(|page| {
            let content = read(&folder.join(&page.value.0));
            content
                .map_err(|message| problems.push(Diagnostic::error(message).at(page)))
                .ok()
        }),
    }
}

fn read(path: &Path) -> Result<Bytes, String> {
    let shown = path.display();
    let content = fs::read(path).map_err(|error| format!("can't read `{shown}`: {error}"))?;
    if content.len() as u64 > MAX_FIXED_FILE.0 {
        return Err(format!(
            "`{shown}` is larger than {MAX_FIXED_FILE}, the most that a page may hold"
        ));
    }
    Ok(content.into())
}
