//! What is told of a request: a span of the gateway, and one for each attempt to have an endpoint answer it.
//!
//! They are written as OTLP has them (`opentelemetry/proto/trace/v1/trace.proto`), with the names of the semantic
//! conventions for HTTP where there is one, and names that begin with `edgeway.` for the rest.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgeway_sdk::{
    Exchange, Origin, SpanId, Tls, Trace, Try,
    exchange::{Refusal, Scheme},
    prelude::*,
};
use http::Version;

use super::wire::Message;
use crate::access_log::secrets::Secrets;

/// The spans of one request, each as a field of `ScopeSpans`.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
}

/// Writes the spans of a request that has ended at `now`.
pub(super) fn spans(
    record: &Record<'_>,
    trace: &Trace,
    now: SystemTime,
    secrets: &Secrets,
) -> Spans {
    let telling = Telling {
        record,
        trace,
        began: nanos(now).saturating_sub(in_nanos(record.duration)),
        secrets,
    };
    let mut scope = Message(Vec::with_capacity(ROOM));
    scope.message(SPANS, |span| telling.request(span));
    for one in record.tries {
        scope.message(SPANS, |span| telling.attempt(span, one));
    }
    Spans {
        bytes: scope.0,
        count: u32::try_from(1 + record.tries.len()).unwrap_or(u32::MAX),
    }
}

/// A request that is being told of.
struct Telling<'a> {
    record: &'a Record<'a>,
    trace: &'a Trace,
    /// In nanoseconds since 1970.
    began: u64,
    secrets: &'a Secrets,
}

impl Telling<'_> {
    fn request(&self, span: &mut Message) {
        let Record {
            request, exchange, ..
        } = self.record;
        self.ids(span, self.trace.span, self.trace.parent);
        let method = method(&request.method);
        // The name of a route is one of few, and a path is not.
        match &*exchange.route {
            "" => span.bytes(NAME, method.as_bytes()),
            route => span.bytes(NAME, format!("{method} {route}").as_bytes()),
        }
        span.number(KIND, SERVER);
        span.fixed64(START, self.began);
        span.fixed64(END, self.at(self.record.duration));
        let mut attributes = Attributes {
            span,
            field: ATTRIBUTES,
        };
        self.about_request(&mut attributes);
        self.about_client(&mut attributes, exchange);
        self.about_outcome(&mut attributes);
        self.events(span);
        let status = self.record.status;
        let failed = status.is_none_or(|status| status.is_server_error());
        if failed || self.record.error.is_some() {
            set_failed(span, self.record.error.or(exchange.reason.as_deref()));
        }
        // The second bit tells that the first one counts.
        let remote = u32::from(self.trace.parent.is_some()) << 9 | 1 << 8;
        span.fixed32(FLAGS, u32::from(self.trace.sampled) | remote);
    }

    fn ids(&self, span: &mut Message, id: SpanId, parent: Option<SpanId>) {
        span.bytes(TRACE_ID, &self.trace.id.0.to_be_bytes());
        span.bytes(SPAN_ID, &id.0.to_be_bytes());
        if let Some(parent) = parent {
            span.bytes(PARENT, &parent.0.to_be_bytes());
        }
    }

    fn about_request(&self, to: &mut Attributes<'_>) {
        let Record {
            request, exchange, ..
        } = self.record;
        let known = method(&request.method);
        to.text("http.request.method", known);
        if known == OTHER {
            to.text("http.request.method_original", request.method.as_str());
        }
        to.text("url.scheme", exchange.scheme.as_str());
        to.text("url.path", request.uri.path());
        if let Some(query) = request.uri.query() {
            let mut masked = Vec::with_capacity(query.len());
            self.secrets
                .mask_query(query.as_bytes(), |piece| masked.extend_from_slice(piece));
            to.text("url.query", &String::from_utf8_lossy(&masked));
        }
        if !exchange.host.is_empty() {
            to.text("server.address", &exchange.host);
            to.number("server.port", port(request, exchange.scheme));
        }
        if !exchange.route.is_empty() {
            to.text("http.route", &exchange.route);
        }
        if let Some(version) = version(request.version) {
            to.text("network.protocol.version", version);
        }
        if let Some(agent) = self.record.header(header::USER_AGENT) {
            to.text("user_agent.original", agent);
        }
        to.text("edgeway.request_id", exchange.id());
    }

    fn about_client(&self, to: &mut Attributes<'_>, exchange: &Exchange) {
        to.text("client.address", &exchange.client.to_string());
        to.text("network.peer.address", &exchange.peer.ip().to_string());
        to.number("network.peer.port", exchange.peer.port());
        if !self.record.listener.is_empty() {
            to.text("edgeway.listener", self.record.listener);
        }
        if let Some(tls) = exchange.values.get::<Tls>() {
            to.text("tls.protocol.name", "tls");
            to.text(
                "tls.protocol.version",
                tls.version.trim_start_matches("TLSv"),
            );
            to.text("tls.cipher", tls.suite);
            to.truth("tls.resumed", tls.resumed);
        }
    }

    fn about_outcome(&self, to: &mut Attributes<'_>) {
        let record = self.record;
        if let Some(status) = record.status {
            to.number("http.response.status_code", status.as_u16());
        }
        match record.status {
            Some(status) if status.is_server_error() => to.text("error.type", status.as_str()),
            Some(_) if record.error.is_none() => {}
            Some(_) | None => to.text("error.type", "incomplete"),
        }
        to.number("http.request.body.size", record.bytes_received);
        to.number("http.response.body.size", record.bytes_sent);
        let origin = match record.origin {
            Origin::Upstream => "upstream",
            Origin::Reply => "reply",
            Origin::Cache => "cache",
        };
        to.text("edgeway.origin", origin);
        if let Some(upstream) = record.upstream {
            to.text("edgeway.upstream", upstream);
        }
        if let Some(filter) = &record.exchange.decided_by {
            to.text("edgeway.filter", filter);
        }
    }

    /// What has happened on the way, in order as far as that is known.
    fn events(&self, span: &mut Message) {
        let Record {
            exchange, filtered, ..
        } = self.record;
        let decided = filtered.unwrap_or_default();
        for refusal in &exchange.refusals {
            self.event(span, "edgeway.refusal", decided, |to| about(refusal, to));
        }
        if let Some(cached) = exchange.cached {
            self.event(span, "edgeway.cache", decided, |to| {
                to.text("edgeway.cache.outcome", cached.outcome);
                if let Some(reason) = cached.reason {
                    to.text("edgeway.cache.reason", reason);
                }
            });
        }
        for one in self.record.tries.iter().skip(1) {
            let name = match one.hedged {
                true => "edgeway.hedge",
                false => "edgeway.retry",
            };
            self.event(span, name, one.chosen, |to| {
                to.text("edgeway.endpoint", one.endpoint);
            });
        }
    }

    fn attempt(&self, span: &mut Message, one: &Try<'_>) {
        let id = self.trace.of_attempt(one.number);
        self.ids(span, id, Some(self.trace.span));
        let method = method(&self.record.request.method);
        span.bytes(NAME, method.as_bytes());
        span.number(KIND, CLIENT);
        span.fixed64(START, self.at(one.chosen));
        span.fixed64(END, self.at(one.ended.unwrap_or(self.record.duration)));
        let mut to = Attributes {
            span,
            field: ATTRIBUTES,
        };
        to.text("http.request.method", method);
        about_endpoint(one, &mut to);
        if let Some(upstream) = self.record.upstream {
            to.text("edgeway.upstream", upstream);
        }
        let phases = [
            ("edgeway.connected", one.connected.filter(|_| !one.reused)),
            ("edgeway.request_sent", one.sent),
            ("edgeway.response_begun", one.answered),
        ];
        for (name, at) in phases {
            if let Some(at) = at {
                self.event(span, name, at, |_| {});
            }
        }
        let refused = one.status.filter(|status| status.as_u16() >= 400);
        if one.error.is_some() || refused.is_some() {
            set_failed(span, one.error);
        }
        span.fixed32(FLAGS, u32::from(self.trace.sampled) | 1 << 8);
    }

    fn event(
        &self,
        span: &mut Message,
        name: &str,
        at: Duration,
        write: impl FnOnce(&mut Attributes<'_>),
    ) {
        span.message(EVENTS, |event| {
            event.fixed64(1, self.at(at));
            event.bytes(2, name.as_bytes());
            write(&mut Attributes {
                span: event,
                field: 3,
            });
        });
    }

    fn at(&self, since: Duration) -> u64 {
        self.began.saturating_add(in_nanos(since))
    }
}

fn about(refusal: &Refusal, to: &mut Attributes<'_>) {
    to.text("edgeway.filter", &refusal.filter);
    to.number("http.response.status_code", refusal.status.as_u16());
    if let Some(rule) = &refusal.rule {
        to.text("edgeway.rule", rule);
    }
    if let Some(reason) = &refusal.reason {
        to.text("edgeway.reason", reason);
    }
    to.truth("edgeway.reported", refusal.reported);
}

fn about_endpoint(one: &Try<'_>, to: &mut Attributes<'_>) {
    match one.endpoint.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => {
            to.text("server.address", host.trim_matches(['[', ']']));
            to.number("server.port", port.parse::<u16>().unwrap_or_default());
        }
        // A socket of this machine.
        _ => to.text("server.address", one.endpoint),
    }
    to.text("edgeway.endpoint", one.endpoint);
    if let Some(status) = one.status {
        to.number("http.response.status_code", status.as_u16());
    }
    match (one.error, one.status) {
        (Some(error), _) => to.text("error.type", error),
        (None, Some(status)) if status.as_u16() >= 400 => to.text("error.type", status.as_str()),
        (None, _) => {}
    }
    if one.number > 1 {
        to.number("http.request.resend_count", one.number - 1);
    }
    if one.connected.is_some() {
        to.truth("edgeway.connection.reused", one.reused);
    }
}

/// Attributes of a span, an event or a resource: of the message that is written, in this field.
pub(super) struct Attributes<'a> {
    pub(super) span: &'a mut Message,
    pub(super) field: u32,
}

impl Attributes<'_> {
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.write(name, |any| any.bytes(1, value.as_bytes()));
    }

    fn number(&mut self, name: &str, value: impl Into<u64>) {
        let value = value.into();
        self.write(name, |any| any.number(3, value));
    }

    fn truth(&mut self, name: &str, value: bool) {
        self.write(name, |any| any.number(2, u64::from(value)));
    }

    fn write(&mut self, name: &str, value: impl FnOnce(&mut Message)) {
        self.span.message(self.field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, value);
        });
    }
}

fn set_failed(span: &mut Message, why: Option<&str>) {
    span.message(STATUS, |status| {
        if let Some(why) = why {
            status.bytes(2, why.as_bytes());
        }
        status.number(3, FAILED);
    });
}

/// A client may make up methods, of which there are to be few.
fn method(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    match KNOWN.contains(method) {
        true => method.as_str(),
        false => OTHER,
    }
}

const OTHER: &str = "_OTHER";

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// The port that the client has named, or that of the scheme.
fn port(request: &http::request::Parts, scheme: Scheme) -> u16 {
    let named = request.uri.port_u16().or_else(|| {
        let host = request.headers.get(header::HOST)?.to_str().ok()?;
        host.rsplit_once(':')?.1.parse().ok()
    });
    named.unwrap_or(match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    })
}

fn nanos(time: SystemTime) -> u64 {
    in_nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn in_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Fields of `ScopeSpans` and `Span`.
const SPANS: u32 = 2;
const TRACE_ID: u32 = 1;
const SPAN_ID: u32 = 2;
const PARENT: u32 = 4;
const NAME: u32 = 5;
const KIND: u32 = 6;
const START: u32 = 7;
const END: u32 = 8;
const ATTRIBUTES: u32 = 9;
const EVENTS: u32 = 11;
const STATUS: u32 = 15;
const FLAGS: u32 = 16;

/// Values of `SpanKind` and `StatusCode`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const FAILED: u64 = 2;

/// Most requests fit into this many bytes.
const ROOM: usize = 1_536;

#[cfg(test)]
mod tests;
