//! A route, compiled.

use std::{fmt, ops::BitOr, sync::Arc, time::Duration};

use bytes::Bytes;
use edgeway_sdk::{Filter, Hooks, Template, template::Source};
use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::{
    Applies, Closing,
    serving::{Otherwise, Serving},
    shaping::{Mirror, Split},
};
use crate::{
    cache::plan::Plan,
    config::{Percent, scalar::SchemeName},
    route::Normalised,
    telemetry::{meter::Requests, tally::Tally},
    upstream::{Cluster, balance::key::of_values},
};

/// A route, compiled.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    /// What it matches, in one line.
    pub(crate) pattern: String,
    pub(crate) chain: Chain,
    /// The largest body of a request, if the route says something of that: none for any.
    pub(crate) max_body: Option<Option<u64>>,
    pub(crate) rewriting: Rewriting,
    /// Looked at before the target.
    pub(crate) files: Option<Box<Serving>>,
    pub(crate) target: Target,
    /// What it does when it is closed; nothing for one that requests only come to from another.
    pub(crate) closing: Option<Box<Closing>>,
    /// What is counted of its requests.
    pub(crate) meter: Arc<Requests>,
}

impl Route {
    /// Where it leads, as tables show it.
    pub(crate) fn destination(&self) -> String {
        match &self.files {
            None => self.target.to_string(),
            Some(files) if matches!(files.otherwise, Otherwise::Target) => {
                format!("{files}{}", self.target)
            }
            Some(files) => files.to_string(),
        }
    }

    /// Whether responses may be stored for its requests, here or where they go on to.
    pub(crate) fn stores(&self) -> bool {
        if let Some(Otherwise::Route(other)) = self.files.as_ref().map(|files| &files.otherwise) {
            return other.stores();
        }
        matches!(&self.target, Target::Upstream(forward) if forward.cache.is_some())
    }
}

/// A route's filters, global ones first, in written order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) links: Box<[Link]>,
    /// The hooks that any of them has.
    pub(crate) hooks: Hooks,
}

impl FromIterator<Link> for Chain {
    fn from_iter<L: IntoIterator<Item = Link>>(links: L) -> Self {
        let links: Box<[Link]> = links.into_iter().collect();
        let hooks = links.iter().map(|link| link.hooks);
        Self {
            hooks: hooks.fold(Hooks::NONE, Hooks::bitor),
            links,
        }
    }
}

/// One filter of a chain.
#[derive(Clone)]
pub(crate) struct Link {
    /// What it is called: its own name, or that of its kind.
    pub(crate) name: Arc<str>,
    pub(crate) filter: Arc<dyn Filter>,
    /// The hooks that it has.
    pub(crate) hooks: Hooks,
    /// For which requests it is; nothing for all.
    pub(crate) applies: Option<Arc<Applies>>,
    /// Whether its refusals are only told, and the request goes on.
    pub(crate) reports: bool,
    pub(crate) tally: Arc<Tally>,
}

/// As tables show it: `waf (sometimes, report)`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (&self.applies, self.reports) {
            (None, false) => Ok(()),
            (Some(_), false) => f.write_str(" (sometimes)"),
            (None, true) => f.write_str(" (report)"),
            (Some(_), true) => f.write_str(" (sometimes, report)"),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a route ends.
#[derive(Debug)]
pub(crate) enum Target {
    Upstream(Forward),
    Redirect(Redirection),
    Respond(Fixed),
    NotFound,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(forward) => forward.fmt(f),
            Self::Redirect(redirection) => write!(f, "redirect {}", redirection.status.as_u16()),
            Self::Respond(fixed) => write!(f, "respond {}", fixed.status.as_u16()),
            Self::NotFound => f.write_str("respond 404"),
        }
    }
}

/// To an upstream, or to one of several.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) to: Destination,
    /// The upstream that gets copies, and of what.
    pub(crate) mirror: Option<(Arc<Cluster>, Mirror)>,
    /// How long everything may take with all tries, where that is not for the upstream to say.
    pub(crate) timeout: Option<Duration>,
    /// Whether requests that are not idempotent are tried again after something of them was sent.
    pub(crate) retry_unsafe: bool,
    /// Whether calls of gRPC-Web are made calls of gRPC.
    pub(crate) grpc_web: bool,
    /// What is kept of its responses.
    pub(crate) cache: Option<Box<Plan>>,
}

/// Which upstream.
#[derive(Debug)]
pub(crate) enum Destination {
    One(Arc<Cluster>),
    Split {
        split: Split,
        by: Option<Template>,
        /// In the order of the split.
        clusters: Box<[(Arc<Cluster>, u16)]>,
    },
}

impl Forward {
    /// The upstream for a request.
    pub(crate) fn choose(&self, request: &impl Source) -> &Arc<Cluster> {
        match &self.to {
            Destination::One(cluster) => cluster,
            Destination::Split {
                split,
                by,
                clusters,
            } => {
                let key = by.as_ref().and_then(|by| of_values(by, request));
                &clusters[split.choose(key, rand::random())].0
            }
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Destination::One(cluster) => write!(f, "upstream {}", cluster.name)?,
            Destination::Split { by, clusters, .. } => {
                f.write_str("split")?;
                if by.is_some() {
                    f.write_str(" by a value:")?;
                }
                for (place, (cluster, weight)) in clusters.iter().enumerate() {
                    let comma = if place > 0 { "," } else { "" };
                    write!(f, "{comma} {} {weight}", cluster.name)?;
                }
            }
        }
        if let Some((cluster, mirror)) = &self.mirror {
            f.write_str("; ")?;
            if mirror.share < Percent::ALL {
                write!(f, "{} ", mirror.share)?;
            }
            write!(f, "copied to {}", cluster.name)?;
        }
        if self.grpc_web {
            f.write_str("; gRPC-Web as gRPC")?;
        }
        match &self.cache {
            Some(plan) => write!(f, "; {plan}"),
            None => Ok(()),
        }
    }
}

/// What becomes of the path on the way to the upstream.
#[derive(Debug, Default)]
pub(crate) struct Rewriting {
    pub(crate) strip: Option<Box<str>>,
    pub(crate) add: Option<Box<str>>,
    pub(crate) replace: Option<(Regex, Box<str>)>,
}

impl Rewriting {
    /// Whether paths stay as they are.
    pub(crate) fn is_empty(&self) -> bool {
        self.strip.is_none() && self.add.is_none() && self.replace.is_none()
    }

    /// The path for the upstream: the prefix taken off, then the regex, then the prefix put on.
    ///
    /// Without a regex the client's own spelling of the rest is kept; a regex sees the normal one. It may
    /// add a query (`to: "/item?id=$1"`).
    pub(crate) fn apply(&self, path: &Normalised<'_>) -> String {
        let sent = if self.replace.is_some() {
            path.matched()
        } else {
            path.forwarded()
        };
        let mut path = match self.strip.as_deref() {
            Some(prefix) if self.replace.is_none() => {
                path.strip_prefix(prefix).unwrap_or(sent).to_owned()
            }
            Some(prefix) => stripped(sent, prefix).unwrap_or(sent).to_owned(),
            None => sent.to_owned(),
        };
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        if let Some((pattern, to)) = &self.replace {
            path = pattern.replace(&path, &**to).into_owned();
        }
        if let Some(prefix) = &self.add {
            path.insert_str(0, prefix.trim_end_matches('/'));
        }
        if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        }
    }
}

/// `path` without `prefix`, which ends at the end of a segment.
fn stripped<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A redirect: what is not given stays as the client sent it.
#[derive(Debug)]
pub(crate) struct Redirection {
    pub(crate) status: StatusCode,
    pub(crate) to: Option<Template>,
    pub(crate) scheme: Option<SchemeName>,
    pub(crate) host: Option<Template>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<Template>,
    pub(crate) keep_query: bool,
}

/// A fixed reply.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, Template)>,
    pub(crate) body: FixedBody,
}

/// The body of a fixed reply.
#[derive(Debug)]
pub(crate) enum FixedBody {
    /// None of its own.
    Default,
    /// The same for every request.
    Bytes(HeaderValue, Bytes),
    /// A text with values of the request in it.
    Text(Template),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::normalise;

    fn rewriting(
        strip: Option<&str>,
        replace: Option<(&str, &str)>,
        add: Option<&str>,
    ) -> Rewriting {
        Rewriting {
            strip: strip.map(Into::into),
            replace: replace.map(|(pattern, to)| (Regex::new(pattern).unwrap(), to.into())),
            add: add.map(Into::into),
        }
    }

    fn apply(rewriting: &Rewriting, path: &str) -> String {
        rewriting.apply(&normalise(path).unwrap())
    }

    #[test]
    fn a_prefix_is_taken_off_whole_segments_only() {
        let strip = rewriting(Some("/api/users/"), None, None);
        assert_eq!(apply(&strip, "/api/users/42"), "/42");
        assert_eq!(apply(&strip, "/api/users/"), "/");
        assert_eq!(apply(&strip, "/api/users"), "/");
        assert_eq!(apply(&strip, "/api/users2/42"), "/api/users2/42");
        assert_eq!(
            apply(&strip, "/api/%75sers/%7e%34"),
            "/%7e%34",
            "the rest is as the client wrote it"
        );
    }

    #[test]
    fn the_regex_sees_the_path_without_the_prefix_and_the_new_prefix_comes_last() {
        let all = rewriting(
            Some("/old"),
            Some(("^/item/([0-9]+)$", "/things/$1/view")),
            Some("/v2/"),
        );
        assert_eq!(apply(&all, "/old/item/7"), "/v2/things/7/view");
        assert_eq!(apply(&all, "/old/%69tem/7"), "/v2/things/7/view");
        assert_eq!(apply(&rewriting(None, Some(("^/", "")), None), "/x"), "/x");
    }
}
