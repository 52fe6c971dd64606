//! Where routes end.

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use bytes::Bytes;
use edgeway_sdk::{Template, message::is_framing};
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Clusters, Compiler, cache::Caches, files};
use crate::{
    cache::zone::{ZoneSpec, Zones},
    config::{
        self, At, Config, Entries, MAX_FIXED_FILE, Protocol, Redirect, Respond, Route,
        diagnostic::{Diagnostic, Problems, nearest, suggestion},
        document::Document,
    },
    files::mime::Types,
    route::PathPattern,
    snapshot::{
        Destination, Fixed, FixedBody, Forward, Redirection, Serving, Target,
        shaping::{Mirror, Split},
    },
    telemetry::meter::Requests,
    upstream::Cluster,
};

/// Compiles targets, and remembers which upstreams and caches they name.
pub(super) struct Targets<'a> {
    compiler: Compiler<'a>,
    clusters: &'a Clusters,
    caches: Caches<'a>,
    /// Upstreams that get requests.
    used: HashSet<String>,
    /// Upstreams that get connections.
    connected: HashSet<String>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(compiler: Compiler<'a>, clusters: &'a Clusters, caches: Caches<'a>) -> Self {
        Self {
            compiler,
            clusters,
            caches,
            used: HashSet::new(),
            connected: HashSet::new(),
        }
    }

    /// What counts the requests of a route of this name, whatever it was before.
    pub(super) fn meter(&self, route: &str) -> Arc<Requests> {
        self.compiler.resources.shared(route, Requests::default)
    }

    /// The target of a route; none if it is wrong, which has been told then.
    pub(super) fn of(&mut self, route: &At<Route>, problems: &mut Problems) -> Option<Target> {
        let Route {
            upstream,
            split,
            redirect,
            respond,
            files,
            ..
        } = &route.value;
        let choice = "expected one of `upstream`, `split`, `files`, `redirect`, `respond`";
        let no_upstream = redirect.is_some() || respond.is_some() || files.is_some();
        if upstream.is_none() && split.is_none() && no_upstream {
            Self::without_upstream(&route.value, problems);
        }
        match (upstream, split, redirect, respond) {
            (Some(name), None, None, None) => {
                let to = self.upstream(name, problems).map(Destination::One);
                self.forward(&route.value, to, problems)
            }
            (None, Some(split), None, None) => {
                let to = self.split(&split.value, problems);
                self.forward(&route.value, to, problems)
            }
            (None, None, Some(redirect), None) => self
                .redirection(route, redirect, problems)
                .map(Target::Redirect),
            (None, None, None, Some(respond)) => {
                self.fixed(&respond.value, problems).map(Target::Respond)
            }
            (None, None, None, None) if files.is_some() => Some(Target::NotFound),
            // One that is wrong, or misspelt, has been told.
            (None, None, None, None) if problems.has_errors() && self.is_meant(route) => None,
            (None, None, None, None) => {
                problems.push(
                    Diagnostic::error("this route has no target")
                        .at(route)
                        .help(choice),
                );
                None
            }
            _ => {
                problems.push(
                    Diagnostic::error("this route has more than one target")
                        .at(route)
                        .help(choice),
                );
                None
            }
        }
    }

    /// The files of a route, if it has some; none if they are wrong, which has been told then.
    pub(super) fn files(
        &self,
        route: &At<Route>,
        problems: &mut Problems,
    ) -> Option<Option<Box<Serving>>> {
        if route.value.files.is_none() {
            return Some(None);
        }
        let serving = files::serving(self.compiler, route, problems)?;
        Some(Some(Box::new(serving)))
    }

    /// Whether a target is written in a route, as well as it may be.
    fn is_meant(&self, route: &At<Route>) -> bool {
        let document = self.compiler.document;
        let mut names = document
            .entries(route.node)
            .iter()
            .filter_map(|(key, _)| document.text(*key));
        names.any(|name| nearest(name, &TARGETS).is_some())
    }

    /// Warns of upstreams that nothing leads to, and of caches that none uses.
    pub(super) fn warn_of_unused(&self, config: &Config, problems: &mut Problems) {
        self.caches.warn_of_unused(&config.caches, problems);
        for (name, _) in config
            .upstreams
            .iter()
            .filter(|(name, _)| !self.is_used(&name.value))
        {
            let message = format!("no route leads to the upstream `{}`", name.value);
            problems.push(Diagnostic::warning(message).at(name));
        }
    }

    fn is_used(&self, upstream: &str) -> bool {
        self.used.contains(upstream) || self.connected.contains(upstream)
    }

    /// Whether only listeners lead to an upstream, and no route.
    pub(super) fn gets_no_requests(&self, upstream: &str) -> bool {
        self.connected.contains(upstream) && !self.used.contains(upstream)
    }

    /// All zones of caches there are, and those that routes use.
    pub(super) fn finish(self) -> (Arc<Zones>, Box<[ZoneSpec]>) {
        self.caches.finish()
    }

    /// What leads to upstreams, from the route's other keys.
    fn forward(
        &mut self,
        route: &Route,
        to: Option<Destination>,
        problems: &mut Problems,
    ) -> Option<Target> {
        let cache = route.cache.as_ref().map(|cache| {
            self.caches
                .plan(cache, &leads_to(route, to.as_ref()), problems)
        });
        let mirror = match &route.mirror {
            Some(mirror) => {
                let cluster = self.upstream(&mirror.value.upstream, problems);
                Some((cluster?, Mirror::new(&mirror.value)))
            }
            None => None,
        };
        let grpc_web = route.grpc_web.as_ref().filter(|wanted| wanted.value);
        if let (Some(wanted), Some(to)) = (grpc_web, &to) {
            understands_grpc(wanted, to, problems);
        }
        Some(Target::Upstream(Forward {
            to: to?,
            mirror,
            timeout: route.timeout.as_ref().map(|timeout| timeout.value.0),
            retry_unsafe: route
                .retry_unsafe
                .as_ref()
                .is_some_and(|unsafe_too| unsafe_too.value),
            grpc_web: grpc_web.is_some(),
            cache: match cache {
                Some(plan) => Some(Box::new(plan?)),
                None => None,
            },
        }))
    }

    fn split(&mut self, split: &config::Split, problems: &mut Problems) -> Option<Destination> {
        let parts = split.to.iter();
        let clusters: Vec<_> = parts
            .map(|part| Some((self.upstream(&part.upstream, problems)?, part.weight)))
            .collect();
        let clusters: Option<Box<[_]>> = clusters.into_iter().collect();
        let parts = split.to.iter();
        Some(Destination::Split {
            split: Split::new(parts.map(|part| (part.upstream.value.as_str(), part.weight))),
            by: split.by.as_ref().map(|by| by.0.clone()),
            clusters: clusters?,
        })
    }

    /// Tells of keys that only a route to an upstream has a use for.
    fn without_upstream(route: &Route, problems: &mut Problems) {
        let keys = [
            ("mirror", route.mirror.as_ref().map(|key| key.node)),
            ("timeout", route.timeout.as_ref().map(|key| key.node)),
            (
                "retry_unsafe",
                route.retry_unsafe.as_ref().map(|key| key.node),
            ),
            ("grpc_web", route.grpc_web.as_ref().map(|key| key.node)),
            ("cache", route.cache.as_ref().map(|key| key.node)),
        ];
        for (key, node) in keys {
            let message = format!("`{key}` has no effect on a route that leads to no upstream");
            problems.extend(node.map(|node| Diagnostic::error(message).at(node)));
        }
    }

    fn upstream(&mut self, name: &At<String>, problems: &mut Problems) -> Option<Arc<Cluster>> {
        self.used.insert(name.value.clone());
        self.known(name, problems)
    }

    /// An upstream that gets connections as they are.
    pub(super) fn passed_on(
        &mut self,
        name: &At<String>,
        problems: &mut Problems,
    ) -> Option<Arc<Cluster>> {
        self.connected.insert(name.value.clone());
        self.known(name, problems)
    }

    /// None if there is no such upstream, which has been told then.
    fn known(&self, name: &At<String>, problems: &mut Problems) -> Option<Arc<Cluster>> {
        if let Some(cluster) = self.clusters.get(&name.value) {
            return Some(Arc::clone(cluster));
        }
        let known = names_below(self.compiler.document, "upstreams");
        // An upstream that is there, but wrong, has been told.
        let told = problems.has_errors() && known.contains(&name.value.as_str());
        if self.compiler.document.is_complete() && !told {
            let unknown = Diagnostic::error(format!("unknown upstream `{}`", name.value)).at(name);
            problems.push(unknown.help_if(suggestion(&name.value, &known)));
        }
        None
    }

    fn fixed(&self, respond: &Respond, problems: &mut Problems) -> Option<Fixed> {
        let headers = fixed_headers(&respond.headers, problems)?;
        let body = match (&respond.text, &respond.json, &respond.file) {
            (None, None, None) => FixedBody::Default,
            (Some(text), None, None) => text_body(text),
            (None, Some(json), None) => {
                FixedBody::Bytes(JSON, Bytes::copy_from_slice(json.value.0.as_bytes()))
            }
            (None, None, Some(file)) => {
                let path = self.compiler.folder.join(&file.value.0);
                let content_type = Types::default().of(path.as_os_str().as_encoded_bytes());
                let content = fixed_file(&path)
                    .map_err(|message| problems.push(Diagnostic::error(message).at(file)));
                FixedBody::Bytes(content_type, content.ok()?)
            }
            (_, json, file) => {
                let spot = json
                    .as_ref()
                    .map(|json| json.node)
                    .or_else(|| file.as_ref().map(|file| file.node));
                let twice = Diagnostic::error("this reply has more than one body");
                let help = "expected one of `text`, `json`, `file`";
                problems.extend(spot.map(|spot| twice.at(spot).help(help)));
                return None;
            }
        };
        Some(Fixed {
            status: respond.status.0,
            headers,
            body,
        })
    }

    fn redirection(
        &self,
        route: &At<Route>,
        redirect: &At<Redirect>,
        problems: &mut Problems,
    ) -> Option<Redirection> {
        let config = &redirect.value;
        // What is wrong was left out, and is no less meant.
        let erroneous = problems.has_errors();
        let meant =
            |key: &str| erroneous && self.compiler.document.entry(redirect.node, key).is_some();
        let whole = config.to.is_some() || meant("to");
        let parts = config.scheme.is_some()
            || config.host.is_some()
            || config.port.is_some()
            || config.path.is_some();
        let parts = parts || ["scheme", "host", "port", "path"].into_iter().any(meant);
        let wrong = match (whole, parts) {
            (true, true) => Some((
                "`scheme`, `host`, `port` and `path` have no effect beside `to`",
                "`to` is the whole location",
            )),
            (false, false) => Some((
                "this redirect leads to where it came from",
                "expected `to`, or some of `scheme`, `host`, `port`, `path`",
            )),
            (true, false) if config.keep_query.is_some() => Some((
                "`keep_query` has no effect beside `to`",
                "write `{target}` or `{query}` into `to`",
            )),
            (false, true) if is_endless(route, config) => Some((
                "this redirect leads to where it came from",
                "the `path` is the one that the route is for",
            )),
            (true, false) | (false, true) => None,
        };
        if let Some((message, help)) = wrong {
            problems.push(Diagnostic::error(message).at(redirect).help(help));
            return None;
        }
        Some(Redirection {
            status: redirect_status(config.status.as_ref(), problems)?,
            to: config.to.clone(),
            scheme: config.scheme,
            host: config.host.clone(),
            port: config.port.map(std::num::NonZero::get),
            path: config.path.clone(),
            keep_query: config.keep_query.unwrap_or(true),
        })
    }
}

const TARGETS: [&str; 5] = ["upstream", "split", "files", "redirect", "respond"];

/// All names that are written below a key of the file, also of what is wrong.
pub(super) fn names_below<'d>(document: &'d Document, key: &str) -> Vec<&'d str> {
    let section = document
        .entry(document.root(), key)
        .map(|(_, value)| document.entries(value));
    section
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| document.text(*key))
        .collect()
}

/// Tells of upstreams that don't speak HTTP/2, which gRPC can't do without.
fn understands_grpc(wanted: &At<bool>, to: &Destination, problems: &mut Problems) {
    let clusters: Vec<_> = match to {
        Destination::One(cluster) => vec![cluster],
        Destination::Split { clusters, .. } => {
            clusters.iter().map(|(cluster, _)| cluster).collect()
        }
    };
    for cluster in clusters {
        if cluster.settings.transport.protocol == Protocol::Http1 {
            let name = &cluster.name;
            let message =
                format!("`grpc_web` needs HTTP/2, which the upstream `{name}` does not speak");
            let help = format!("write `protocol: http2` into the upstream `{name}`");
            problems.push(Diagnostic::error(message).at(wanted).help(help));
        }
    }
}

/// Whether a redirect changes nothing but the path, and that into itself.
fn is_endless(route: &At<Route>, config: &Redirect) -> bool {
    let moved = config.scheme.is_some() || config.host.is_some() || config.port.is_some();
    let PathPattern::Exact(from) = route.value.matching.path() else {
        return false;
    };
    let to = config.path.as_ref().and_then(Template::literal);
    !moved && config.keep_query != Some(false) && to == Some(from.as_str())
}

fn text_body(text: &Template) -> FixedBody {
    match text.literal() {
        Some(literal) => FixedBody::Bytes(TEXT, Bytes::copy_from_slice(literal.as_bytes())),
        None => FixedBody::Text(text.clone()),
    }
}

fn fixed_headers(
    entries: &Entries<Template>,
    problems: &mut Problems,
) -> Option<Vec<(HeaderName, Template)>> {
    let mut headers = Vec::new();
    for (name, value) in entries {
        let message = match name.value.parse::<HeaderName>() {
            Ok(header) if is_framing(&header) => {
                format!(
                    "the header `{}` belongs to the connection: the gateway sets it",
                    name.value
                )
            }
            Ok(header) => {
                headers.push((header, value.clone()));
                continue;
            }
            Err(_) => format!("expected the name of a header, found `{}`", name.value),
        };
        problems.push(Diagnostic::error(message).at(name));
    }
    (headers.len() == entries.0.len()).then_some(headers)
}

fn fixed_file(path: &Path) -> Result<Bytes, String> {
    let shown = path.display();
    let content = fs::read(path).map_err(|error| format!("can't read `{shown}`: {error}"))?;
    if content.len() as u64 > MAX_FIXED_FILE.0 {
        return Err(format!(
            "`{shown}` is larger than {MAX_FIXED_FILE}, the most that a fixed reply may hold"
        ));
    }
    Ok(content.into())
}

fn redirect_status(written: Option<&At<u16>>, problems: &mut Problems) -> Option<StatusCode> {
    let Some(status) = written else {
        return Some(StatusCode::FOUND);
    };
    if matches!(status.value, 301 | 302 | 303 | 307 | 308) {
        return StatusCode::from_u16(status.value).ok();
    }
    let message = format!(
        "expected a status of 301, 302, 303, 307 or 308, found {}",
        status.value
    );
    problems.push(Diagnostic::error(message).at(status));
    None
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What tells where a route leads, so that what one place has answered is not taken for another's.
fn leads_to(route: &Route, to: Option<&Destination>) -> String {
    let of = |cluster: &Cluster| (cluster.name.clone(), cluster.settings.host.clone());
    let upstreams: Vec<_> = match to {
        None => Vec::new(),
        Some(Destination::One(cluster)) => vec![of(cluster)],
        Some(Destination::Split { clusters, .. }) => {
            clusters.iter().map(|(cluster, _)| of(cluster)).collect()
        }
    };
    let strip = route.strip_prefix.as_ref().map(|prefix| &prefix.value);
    let add = route.add_prefix.as_ref().map(|prefix| &prefix.value);
    let rewrite = route.rewrite.as_ref().map(|rewrite| &rewrite.value);
    let rewrite = rewrite.map(|rewrite| (&rewrite.pattern.value, &rewrite.to.value));
    format!("{upstreams:?} {strip:?} {add:?} {rewrite:?}")
}
