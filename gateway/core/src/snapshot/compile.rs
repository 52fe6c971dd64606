//! `Config -> Gateway`: the one function behind `check`, start and reload.

mod acme;
mod beside;
mod cache;
mod cases;
mod chain;
mod files;
mod listener_tls;
mod maintenance;
mod rewriting;
mod sockets;
mod target;
mod tcp;
mod tls;
mod upstreams;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use edgeway_sdk::{Filters, Resources};
use http::Method;

pub(crate) use self::cases::{Case, Expected, ExpectedSent};
use self::{acme::Doors, cache::Caches, chain::Chains, maintenance::Closings, target::Targets};
use super::{
    Admin, Chain, ConnectionLimits, Explained, Gateway, Link, ListenerSpec, Networks, Otherwise,
    RequestLimits, Rewriting, Route, Target, Tasks, Written,
};
use crate::{
    config::{
        self, At, Config, Entries, ListenAddress, Listener, NodeRef,
        deserialize::salvage,
        diagnostic::{Diagnostic, Look, Problems, Told, counted, suggestion},
        document::{Document, Kind, Sources, Tree},
    },
    explain,
    route::{Match, PathPattern, Router, Shadowed, unreachable},
    telemetry::{failures::Failures, meter::Requests, refused::Refused, tail::Tail},
    upstream::{Cluster, discovery::Resolver},
};

/// What came of reading a configuration.
pub(crate) struct Loaded {
    document: Document,
    problems: Problems,
    sources: Sources,
    /// The gateway and its tasks, if there was no error.
    pub(crate) gateway: Option<(Gateway, Tasks)>,
    /// Where its tests stand.
    tests: Vec<NodeRef>,
}

impl Loaded {
    /// All problems, as a person reads them.
    pub(crate) fn report(&self, look: Look) -> String {
        self.problems.render(&self.document, look)
    }

    /// The same as programs read them.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.problems.told(&self.document)
    }

    /// All files that it was made of, as they were when they were read.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How many problems there are: `2 errors and 1 warning`.
    pub(crate) fn counts(&self) -> String {
        let errors = counted(self.problems.errors(), "error");
        match self.warnings() {
            0 => errors,
            warnings => format!("{errors} and {}", counted(warnings, "warning")),
        }
    }

    /// The number of warnings.
    pub(crate) fn warnings(&self) -> usize {
        self.problems.warnings()
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> usize {
        self.document.paths().count()
    }
}

/// Reads and compiles a configuration. Touches nothing but files and the environment, and starts
/// nothing.
pub(crate) fn load(path: &Path, filters: &Filters, resources: &Resources) -> Loaded {
    let mut problems = Problems::default();
    let document = Document::load(path, &mut problems);
    let folder = folder_of(path);
    let mut sources = document.sources().clone();
    document.written().visit(&mut |scalar| {
        if let Tree::Text(text) = scalar
            && let Some(path) = text.strip_prefix("file:")
        {
            sources.also(Path::new(path));
        }
    });
    let config = document
        .is_readable()
        .then(|| salvage::<Config>(&document, document.root(), &mut problems));
    let config = config.flatten();
    let tests = config.as_ref().map(|config| config.tests.clone());
    let gateway = config.map(|config| {
        let compiler = Compiler {
            document: &document,
            filters,
            resources,
            folder: &folder,
        };
        compiler.compile(&config, &mut problems)
    });
    let gateway = gateway.filter(|_| !problems.has_errors());
    Loaded {
        document,
        problems,
        sources,
        gateway,
        tests: tests.unwrap_or_default(),
    }
}

/// The folder in which relative paths begin.
fn folder_of(path: &Path) -> PathBuf {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

/// What all parts of a compilation need.
#[derive(Clone, Copy)]
struct Compiler<'a> {
    document: &'a Document,
    filters: &'a Filters,
    resources: &'a Resources,
    folder: &'a Path,
}

impl Compiler<'_> {
    fn compile(self, config: &Config, problems: &mut Problems) -> (Gateway, Tasks) {
        let resolver = Resolver::new(&config.resolver);
        let clusters = upstreams::compile(self, &config.upstreams, &resolver, problems);
        let admin = listen_admin(config.admin.as_ref(), problems);
        let mut chains = Chains::new(self, config);
        let global = chains.links(&config.filters, None, problems);
        let caches = Caches::new(self, &config.caches, problems);
        let mut targets = Targets::new(self, &clusters, caches);
        let listeners = self.listeners(&config.listeners, &mut targets, problems);
        let closings = Closings::read(self, config, problems);
        let mut routes = routes(config, &global, &mut chains, &mut targets, problems);
        // What is wrong was left out, and may be all that makes something else look useless.
        if !problems.has_errors() {
            targets.warn_of_unused(config, problems);
            tcp::warn_of_requests(self, config, &targets, problems);
            warn_of_unreachable(&config.routes, &routes, problems);
            warn_of_stars(&config.routes, problems);
        }
        self.tell_of_no_routes(config, problems);
        let mut fallback = self.fallback(&global);
        let placed = routes.iter_mut();
        let placed = placed.map(|(place, _, route)| (*place, route));
        let maintenance = closings.attach(placed.collect(), &mut fallback);
        let (reserved, tasks) = chains.finish();
        let (zones, caches) = targets.finish();
        let gateway = Gateway {
            threads: config.threads.map(std::num::NonZero::get),
            listeners,
            trusted: Networks::new(&config.trusted_proxies),
            requests: RequestLimits::from(&config.requests),
            connections: ConnectionLimits::from(&config.connections),
            upstream_keepalive: config.upstream_keepalive.get(),
            shutdown_timeout: config.shutdown_timeout.0,
            reserved,
            router: Router::new(
                routes
                    .into_iter()
                    .map(|(_, matching, route)| (matching, Arc::new(route))),
            ),
            fallback: Arc::new(fallback),
            maintenance,
            clusters: clusters.into_values().collect(),
            resolver,
            admin,
            zones,
            caches,
            watch: config.reload.watch.map(|interval| interval.0),
            explained: Explained {
                key: explain_key(config, problems),
                kept: self
                    .resources
                    .shared("explained", explain::live::Kept::default),
            },
            written: Arc::new(Written::of(self.document)),
            revision: 1,
            loaded_at: SystemTime::now(),
            failures: self.resources.shared("failures", Failures::default),
            refused: self.resources.shared("refused", Refused::default),
            tail: self.resources.shared("tail", Tail::default),
        };
        (gateway, tasks)
    }

    /// For requests that no route matches.
    fn fallback(self, global: &[Link]) -> Route {
        const NAME: &str = "(no route)";
        Route {
            name: NAME.into(),
            pattern: "everything else".to_owned(),
            chain: chain::join(global, Vec::new()),
            max_body: None,
            rewriting: Rewriting::default(),
            files: None,
            target: Target::NotFound,
            closing: None,
            meter: self.resources.shared(NAME, Requests::default),
        }
    }

    fn listeners(
        self,
        entries: &Entries<Listener>,
        targets: &mut Targets<'_>,
        problems: &mut Problems,
    ) -> Vec<ListenerSpec> {
        let written = self.document.entry(self.document.root(), "listeners");
        let nothing = |value| match self.document.kind(value) {
            Kind::Mapping(entries) => entries.is_empty(),
            Kind::Scalar(scalar) => scalar.is_null(),
            Kind::Sequence(_) => false,
        };
        if let Some((key, _)) = written.filter(|(_, value)| nothing(*value)) {
            let nobody = Diagnostic::error("there is no listener: nobody could reach the gateway");
            problems.push(
                nobody
                    .at(key)
                    .help("write `http: { bind: \"0.0.0.0:80\" }` below it"),
            );
        }
        listeners(self, entries, targets, problems)
    }

    fn tell_of_no_routes(self, config: &Config, problems: &mut Problems) {
        let mut listeners = config.listeners.iter();
        let http = listeners.any(|(_, listener)| listener.tcp.is_none());
        if !http || !config.routes.is_empty() {
            return;
        }
        let root = self.document.root();
        match self.document.entry(root, "routes") {
            Some((key, _)) if !problems.has_errors() => {
                let message = "there is no route: every answer will be 404";
                problems.push(Diagnostic::warning(message).at(key));
            }
            Some(_) => {}
            None if self.document.is_complete() => {
                problems.push(Diagnostic::error("missing key `routes`").at_key_of(root));
            }
            None => {}
        }
    }
}

/// What signs requests that are to be explained.
fn explain_key(config: &Config, problems: &mut Problems) -> Option<explain::live::Key> {
    let key = &config.explain.as_ref()?.key;
    if key.value.reveal().len() < LEAST_KEY {
        let message = format!("a key of less than {LEAST_KEY} bytes can be guessed");
        let short = Diagnostic::error(message).at(key);
        problems.push(short.help("`openssl rand -hex 32` makes one"));
    }
    Some(explain::live::Key::new(&key.value))
}

/// The shortest key, in bytes.
const LEAST_KEY: usize = 16;

/// The routes that are right, each with its place in the file.
fn routes(
    config: &Config,
    global: &[Link],
    chains: &mut Chains<'_>,
    targets: &mut Targets<'_>,
    problems: &mut Problems,
) -> Vec<(usize, Match, Route)> {
    let mut routes = Vec::new();
    let mut links = Vec::new();
    let fallbacks = files::fallbacks(&config.routes, problems);
    for (index, route) in config.routes.iter().enumerate() {
        let matching = matching(route, problems);
        let pattern = matching
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let name = route
            .value
            .name
            .as_ref()
            .map_or(&pattern, |name| &name.value);
        let own = chains.links(&route.value.filters, Some(name), problems);
        let chain = chain::join(global, own.clone());
        links.push(own);
        if let Some(listener) = route.value.matching.listener() {
            listener_is_known(listener, &config.listeners, problems);
        }
        let files = targets.files(route, problems);
        let (target, rewriting) = destination(route, matching.as_ref(), targets, problems);
        if let (Some(matching), Some(files), Some(target), Some(rewriting)) =
            (matching, files, target, rewriting)
        {
            let compiled = Route {
                name: name.as_str().into(),
                meter: targets.meter(name),
                pattern,
                chain,
                max_body: route.value.max_body.as_ref().map(|limit| limit.value.0),
                rewriting,
                files,
                target,
                closing: None,
            };
            routes.push((index, matching, compiled));
        }
    }
    if let Some(fallbacks) = fallbacks {
        let joining = Joining {
            written: &config.routes,
            fallbacks: &fallbacks,
            links: &links,
        };
        for (index, _, route) in &mut routes {
            joining.join(route, *index, targets);
        }
    }
    names_differ(&config.routes, problems);
    routes
}

/// Joins routes with those on which their files fall back.
struct Joining<'a> {
    written: &'a [At<config::Route>],
    /// By their places, without circles.
    fallbacks: &'a [Option<usize>],
    /// The filters of each.
    links: &'a [Vec<Link>],
}

impl Joining<'_> {
    /// Has the requests of a route go on as ones of its fallback, if it has one.
    fn join(&self, route: &mut Route, index: usize, targets: &mut Targets<'_>) {
        let fallback = self.fallbacks.get(index).copied().flatten();
        let Some((other, files)) = fallback.zip(route.files.as_mut()) else {
            return;
        };
        if let Some(joined) = self.joined(&route.chain, other, targets) {
            // What the other one takes has to pass here.
            route.max_body = route.max_body.or(joined.max_body);
            files.otherwise = Otherwise::Route(Arc::new(joined));
        }
    }

    /// A route with the filters of another one before its own. None if it is wrong, which has been told.
    fn joined(&self, before: &Chain, index: usize, targets: &mut Targets<'_>) -> Option<Route> {
        let written = self.written.get(index)?;
        let own = self.links.get(index)?.clone();
        let told = &mut Problems::default();
        let target = targets.of(written, told)?;
        let pattern = matching(written, told)?.to_string();
        let name = written.value.name.as_ref().map(|name| &name.value);
        let mut joined = Route {
            name: name.unwrap_or(&pattern).as_str().into(),
            chain: chain::join(&before.links, own),
            max_body: written.value.max_body.as_ref().map(|limit| limit.value.0),
            rewriting: rewriting::rewriting(written, Some(&target), told)?,
            files: targets.files(written, told)?,
            closing: None,
            meter: targets.meter(name.unwrap_or(&pattern)),
            target,
            pattern,
        };
        self.join(&mut joined, index, targets);
        Some(joined)
    }
}

/// What a route says about requests; none if that is wrong, which has been told then.
fn matching(route: &At<config::Route>, problems: &mut Problems) -> Option<Match> {
    let compiled = route.value.matching.compile();
    let told = compiled.map_err(|wrong| {
        for error in wrong {
            problems.push(Diagnostic::error(error.value.to_string()).at(error.node));
        }
    });
    told.ok()
}

/// Where a route ends, and by which path; none of what is wrong, which has been told then.
fn destination(
    route: &At<config::Route>,
    matching: Option<&Match>,
    targets: &mut Targets<'_>,
    problems: &mut Problems,
) -> (Option<Target>, Option<Rewriting>) {
    let target = targets.of(route, problems);
    let rewriting = rewriting::rewriting(route, target.as_ref(), problems);
    if let Some(cache) = &route.value.cache
        && matching.is_some_and(|matching| !matching.allows(&Method::GET))
    {
        let message =
            "`cache` has no effect on a route that is not for GET: nothing else is stored";
        problems.push(Diagnostic::error(message).at(cache));
    }
    if let (Some(limit), Some(Target::Redirect(_) | Target::Respond(_) | Target::NotFound)) =
        (&route.value.max_body, &target)
        && files::fallback_of(&route.value).is_none()
    {
        let message =
            "`max_body` has no effect on a route without an upstream: nobody reads bodies there";
        problems.push(Diagnostic::error(message).at(limit));
    }
    (target, rewriting)
}

fn listeners(
    compiler: Compiler<'_>,
    entries: &Entries<Listener>,
    targets: &mut Targets<'_>,
    problems: &mut Problems,
) -> Vec<ListenerSpec> {
    let mut specs: Vec<ListenerSpec> = Vec::new();
    let doors = Doors::of(entries);
    for (name, listener) in entries {
        let bind = &listener.bind.value;
        let socket = sockets::options(listener, problems);
        if let Some(same) = specs
            .iter()
            .find(|spec| spec.bind == *bind && bind.is_one())
        {
            let message = format!(
                "the listeners `{}` and `{}` have the same address",
                same.name, name.value
            );
            problems.push(Diagnostic::error(message).at(&listener.bind));
            continue;
        }
        let tls = listener.tls.as_ref();
        let tls =
            tls.and_then(|tls| listener_tls::compile(compiler, tls, listener, doors, problems));
        specs.push(ListenerSpec {
            name: name.value.clone(),
            bind: bind.clone(),
            socket,
            http2: listener.http2.0,
            tls,
            tcp: tcp::compile(compiler, name, listener, targets, problems),
            max_connections: listener.max_connections.map(std::num::NonZero::get),
            proxy_protocol: listener
                .proxy_protocol
                .as_ref()
                .map_or_else(Networks::default, |peers| Networks::new(&peers.value)),
        });
    }
    specs
}

fn listener_is_known(wanted: &At<String>, listeners: &Entries<Listener>, problems: &mut Problems) {
    let known: Vec<_> = listeners
        .iter()
        .map(|(name, _)| name.value.as_str())
        .collect();
    if !known.contains(&wanted.value.as_str()) {
        let message = format!("there is no listener `{}`", wanted.value);
        let unknown = Diagnostic::error(message).at(wanted);
        problems.push(unknown.help_if(suggestion(&wanted.value, &known)));
    }
    let own = listeners
        .iter()
        .find(|(name, _)| name.value == wanted.value);
    if own.is_some_and(|(_, listener)| listener.tcp.is_some()) {
        let message = format!(
            "the listener `{}` passes connections on: there are no requests",
            wanted.value
        );
        problems.push(Diagnostic::error(message).at(wanted));
    }
}

/// The admin listener; none if it would be open to everybody, which has been told then.
fn listen_admin(admin: Option<&config::Admin>, problems: &mut Problems) -> Option<Admin> {
    let admin = match admin {
        Some(config::Admin::Off) => return None,
        Some(config::Admin::On(admin)) => admin,
        None => return config::Admin::unsaid().map(|bind| Admin { bind, token: None }),
    };
    let bind = admin.bind.value.0.clone();
    let for_others = matches!(bind, ListenAddress::Tcp(address) if !address.ip().is_loopback());
    if for_others && admin.token.is_none() {
        let message = format!("everybody who can reach {bind} could change the gateway");
        let open = Diagnostic::error(message).at(&admin.bind);
        problems.push(
            open.help("bind it to 127.0.0.1 or `unix:/path`, or set a `token` such as `env:EDGEWAY_ADMIN_TOKEN`"),
        );
        return None;
    }
    Some(Admin {
        bind,
        token: admin.token.as_ref().map(|token| token.value.clone()),
    })
}

fn warn_of_unreachable(
    written: &[At<config::Route>],
    routes: &[(usize, Match, Route)],
    problems: &mut Problems,
) {
    let matches: Vec<_> = routes
        .iter()
        .map(|(_, matching, _)| matching.clone())
        .collect();
    for Shadowed { route, by } in unreachable(&matches) {
        let place = |index: usize| {
            routes
                .get(index)
                .and_then(|(place, ..)| written.get(*place))
        };
        let (Some(lost), Some(winner)) = (place(route), place(by)) else {
            continue;
        };
        let message = "this route can never match: another one always wins";
        problems.push(
            Diagnostic::warning(message)
                .at(lost)
                .also(winner, "this one"),
        );
    }
}

/// In a path a star is a star, which hardly anybody means.
fn warn_of_stars(routes: &[At<config::Route>], problems: &mut Problems) {
    for route in routes {
        let (PathPattern::Exact(path) | PathPattern::Prefix(path, _)) = route.value.matching.path()
        else {
            continue;
        };
        if path.as_str().contains('*') {
            let message = format!("the `*` in `{}` stands for itself", path.as_str());
            let help = "a path matches all below it without one; for more write `{ regex: ... }`";
            problems.push(Diagnostic::warning(message).at(route).help(help));
        }
    }
}

fn names_differ(routes: &[At<config::Route>], problems: &mut Problems) {
    let mut known: HashMap<&str, &At<String>> = HashMap::new();
    for name in routes.iter().filter_map(|route| route.value.name.as_ref()) {
        if name.value == "*" {
            let taken =
                Diagnostic::error("`*` stands for all routes, and can't be the name of one");
            problems.push(taken.at(name));
        }
        if let Some(first) = known.insert(&name.value, name) {
            let message = format!("two routes have the name `{}`", name.value);
            problems.push(
                Diagnostic::error(message)
                    .at(name)
                    .also(first, "the other one"),
            );
        }
    }
}

/// Clusters by name, in the order of the file.
type Clusters = indexmap::IndexMap<String, Arc<Cluster>>;
