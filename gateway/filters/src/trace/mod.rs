//! Follows requests through all that answer them, and tells a collector of OpenTelemetry what it has seen.
//!
//! Who is asked about a request is told which trace it is part of, by the headers of W3C Trace Context, level 1. Each
//! attempt at an endpoint is a part of its own there, so that a retry is seen for what it is.
//!
//! A client may be part of a trace already. Whose word on that counts, `trust` says: of all others, what they say is
//! replaced, and they neither choose the id of a trace nor have requests recorded. A trace that begins here is
//! recorded by chance, as `sample` says, which its id decides: others that sample like this record the same ones. One that
//! was begun elsewhere is recorded if it is there.
//!
//! ```yaml
//! trace: { sample: 1%, otlp: { url: 'http://127.0.0.1:4318' } }
//! ```
//!
//! The request that is told of never waits. It costs nothing but its ids if it is not recorded; else it is written into
//! a queue of bounded length, which one thread for each collector empties; see [`export`].
//!
//! Name this filter before all that are to be seen. Values of query parameters that are secrets are told as `***`.

mod context;
mod export;
mod otlp;
mod span;
mod wire;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use edgeway_sdk::{Resources, Trace, prelude::*, types::Percent};

use self::{
    context::{Parent, TRACEPARENT, TRACESTATE},
    export::Exporter,
    otlp::Otlp,
};
use crate::{access_log::secrets::Secrets, request_id::Trust, roll::Roll};

pub(crate) const DOC: &str = "\
follows requests through all that answer them, and tells a collector of OpenTelemetry

trace:
  sample: 1%               # the share of the traces which begin here that are recorded
  trust: trusted_proxy     # whose word counts on the trace that a request is part of, and on whether it is
                           # recorded: never, always, or trusted_proxy: when the request comes by a trusted
                           # proxy that has named its client. What others say is replaced.
  otlp:                    # where spans are told; if not given, endpoints are told of the trace and nobody else
    url: http://127.0.0.1:4318   # for grpc often port 4317
    protocol: http         # protocol buffers over HTTP, to /v1/traces unless the URL has a path; or grpc
    timeout: 10s
    #headers: { Authorization: 'env:OTLP_AUTHORIZATION' }
  service: edgeway         # the name of this gateway among those who tell
  #attributes: { deployment.environment.name: production }   # more about it
";

/// `trace: { sample: 1%, otlp: { url: 'http://127.0.0.1:4318' } }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default = "Config::sample")]
    sample: Percent,
    #[serde(default)]
    trust: Trust,
    otlp: Option<Otlp>,
    service: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
}

impl Config {
    fn sample() -> Percent {
        Percent(0.01)
    }
}

/// Follows requests.
pub(crate) struct Traces {
    /// The first bits of the id of a trace, as a number, must be less than this for it to be recorded.
    threshold: u64,
    trust: Trust,
    /// What tells this filter from others of its kind on the same route.
    mark: u64,
    secrets: Secrets,
    exporter: Option<Arc<Exporter>>,
    /// Kept, so that all are known as long as one is used.
    _exporters: Arc<Roll<Exporter>>,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Traces, BuildError> {
    let Config {
        sample: Percent(share),
        trust,
        otlp,
        service,
        attributes,
    } = config;
    let exporter = match otlp {
        Some(otlp) => Some(exporter(&otlp, service, attributes, build)?),
        None => {
            // It would be told to nobody.
            let key = service
                .map(|_| "service")
                .or_else(|| attributes.map(|_| "attributes"));
            if let Some(key) = key {
                return Err(BuildError::at(key, "without `otlp` nobody is told of it"));
            }
            None
        }
    };
    let exporters = exporters(build.resources());
    if let Some(exporter) = &exporter {
        let (started, all) = (Arc::clone(exporter), Arc::clone(&exporters));
        build.background(async move {
            started.start();
            all.add(&started);
        });
    }
    Ok(Traces {
        threshold: (share * ALL as f64) as u64,
        trust,
        mark: rand::random(),
        secrets: Secrets::new(&[]),
        exporter,
        _exporters: exporters,
    })
}

fn exporter(
    otlp: &Otlp,
    service: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    build: &mut Build<'_>,
) -> Result<Arc<Exporter>, BuildError> {
    let service = service.unwrap_or_else(|| "edgeway".to_owned());
    let attributes = attributes.unwrap_or_default();
    let collector = otlp.collector(build)?;
    let resource = otlp::resource(&service, &attributes);
    // Another resource is told separately.
    let key = format!("{} {service} {attributes:?}", collector.key());
    let resources = build.resources();
    Ok(resources.shared(&key, || Exporter::new(collector, resource)))
}

fn exporters(resources: &Resources) -> Arc<Roll<Exporter>> {
    resources.shared("trace exports", Roll::default)
}

/// A collector, and what it has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceExport {
    /// Its URL.
    pub to: String,
    /// How many spans it has taken.
    pub exported: u64,
    /// How many were lost: they came too fast, or it would not take them.
    pub lost: u64,
}

/// All collectors that are in use.
pub fn trace_exports(resources: &Resources) -> Vec<TraceExport> {
    let all = exporters(resources).all();
    all.iter().map(|exporter| exporter.told()).collect()
}

#[async_trait]
impl Filter for Traces {
    fn refuses(&self) -> bool {
        false
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        // One that stands before this one knows already.
        if request.trace().is_some() {
            return Ok(Flow::Continue);
        }
        let trusted = self.trust.covers(request.exchange());
        let parent = Parent::of(request.headers()).filter(|_| trusted);
        if parent.is_none() || !context::is_state(request.headers()) {
            request.remove_header(&TRACESTATE);
        }
        request.remove_header(&TRACEPARENT);
        let trace = self.trace(parent);
        request.set_trace(trace);
        if trace.sampled {
            request.values_mut().insert(FollowedBy(self.mark));
        }
        Ok(Flow::Continue)
    }

    fn upstream(&self, upstream: &mut Upstream<'_>) -> Result<()> {
        if let Some(trace) = upstream.exchange().trace {
            let span = trace.of_attempt(upstream.attempt());
            upstream.set_header(TRACEPARENT, context::traceparent(&trace, span));
        }
        Ok(())
    }

    fn log(&self, record: &Record<'_>) {
        let (Some(exporter), Some(trace)) = (&self.exporter, &record.exchange.trace) else {
            return;
        };
        let mine = record.exchange.values.get() == Some(&FollowedBy(self.mark));
        if trace.sampled && mine {
            let spans = span::spans(record, trace, SystemTime::now(), &self.secrets);
            exporter.send(spans);
        }
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::UPSTREAM | Hooks::LOG.only_if(self.exporter.is_some())
    }
}

/// Which filter has given a request its trace, and tells of it: of several the first.
#[derive(Debug, PartialEq, Eq)]
struct FollowedBy(u64);

impl Traces {
    fn trace(&self, parent: Option<Parent>) -> Trace {
        let begun = Trace::begin();
        match parent {
            Some(parent) => Trace {
                id: parent.trace,
                parent: Some(parent.span),
                sampled: parent.sampled,
                ..begun
            },
            None => Trace {
                // The last seven bytes, which are random in every id (Trace Context, level 2).
                sampled: (begun.id.0 as u64 & (ALL - 1)) < self.threshold,
                ..begun
            },
        }
    }
}

/// So many different values the random part of the id of a trace has.
const ALL: u64 = 1 << 56;

#[cfg(test)]
mod tests;
