//! How a collector is told: OTLP over HTTP, or over gRPC (<https://opentelemetry.io/docs/specs/otlp/>).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgeway_sdk::prelude::*;
use reqwest::Request as Call;

use super::{
    span::Attributes,
    wire::{Message, Value, fields},
};
use crate::client::{self, Answer, Client, Limits, Url};

/// `otlp: { url: 'http://127.0.0.1:4318', protocol: http }`
#[derive(Deserialize)]
pub(super) struct Otlp {
    url: String,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default = "Otlp::timeout")]
    timeout: Period,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    #[default]
    Http,
    Grpc,
}

impl Otlp {
    fn timeout() -> Period {
        Period(Duration::from_secs(10))
    }

    /// Who is told.
    pub(super) fn collector(&self, build: &mut Build<'_>) -> Result<Collector, BuildError> {
        let mut url = client::url("otlp.url", &self.url)?;
        if !self.headers.is_empty() && client::is_clear_text(&url) {
            let message = "the headers are sent without TLS, and can be read on the way";
            build.warn(BuildError::at("otlp.url", message).help("use `https`"));
        }
        if self.timeout.0.is_zero() {
            return Err(BuildError::at("otlp.timeout", "nothing answers in no time"));
        }
        let name = url.to_string();
        match (self.protocol, url.path()) {
            (Protocol::Http, "/") => url.set_path("/v1/traces"),
            (Protocol::Http, _) => {}
            (Protocol::Grpc, "/") => url.set_path(METHOD),
            (Protocol::Grpc, path) => {
                let message = format!("a URL for gRPC has no path, and this one has `{path}`");
                return Err(BuildError::at("otlp.url", message));
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (name, value) = header(name, value)?;
            headers.insert(name, value);
        }
        Ok(Collector {
            name,
            client: match self.protocol {
                Protocol::Http => Client::new(&url),
                Protocol::Grpc => Client::new(&url).over_http2(),
            },
            url,
            protocol: self.protocol,
            timeout: self.timeout.0,
            headers,
        })
    }
}

fn header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), BuildError> {
    let at = format!("otlp.headers.{name}");
    let known: HeaderName = name
        .parse()
        .map_err(|_| BuildError::at(&at, format!("`{name}` is not the name of a header")))?;
    if edgeway_sdk::message::is_framing(&known) || known == header::CONTENT_TYPE {
        return Err(BuildError::at(
            &at,
            format!("`{name}` is the protocol's own"),
        ));
    }
    // Not quoted: it may be a secret.
    let mut value = HeaderValue::from_str(value.reveal())
        .map_err(|_| BuildError::at(&at, "the value can't stand in a header"))?;
    value.set_sensitive(true);
    Ok((known, value))
}

/// Somebody who takes spans.
pub(super) struct Collector {
    /// As the configuration writes its URL.
    pub(super) name: String,
    client: Client,
    url: Url,
    protocol: Protocol,
    timeout: Duration,
    headers: HeaderMap,
}

/// Why a collector has not taken spans.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It may take them later, perhaps not before this time is over.
    Later(String, Option<Duration>),
    /// It will never take them.
    Never(String),
}

impl Collector {
    /// What tells it from others, secrets included: two configurations may give different ones.
    pub(super) fn key(&self) -> String {
        let Self {
            url,
            protocol,
            timeout,
            headers,
            ..
        } = self;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        format!("{protocol:?} {url} {timeout:?} {headers:?}")
    }

    /// Sends an `ExportTraceServiceRequest`. How many of its spans were not taken although it was.
    pub(super) async fn take(&self, message: &[u8]) -> Result<u64, Refused> {
        let mut call = Call::new(Method::POST, self.url.clone());
        *call.headers_mut() = self.headers.clone();
        let headers = call.headers_mut();
        match self.protocol {
            Protocol::Http => {
                headers.insert(header::CONTENT_TYPE, PROTOBUF);
                *call.body_mut() = Some(message.to_vec().into());
            }
            Protocol::Grpc => {
                headers.insert(header::CONTENT_TYPE, GRPC);
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                *call.body_mut() = Some(framed(message).into());
            }
        }
        let limits = Limits {
            timeout: self.timeout,
            largest: LARGEST,
        };
        let answer = self.client.ask(call, limits).await;
        let answer = answer.map_err(|why| Refused::Later(why, None))?;
        match self.protocol {
            Protocol::Http => over_http(&answer),
            Protocol::Grpc => over_grpc(&answer),
        }
    }
}

fn over_http(answer: &Answer) -> Result<u64, Refused> {
    if answer.status.is_success() {
        return Ok(rejected(&answer.body));
    }
    let why = format!("it has answered {}", answer.status.as_u16());
    match answer.status.as_u16() {
        429 | 502 | 503 | 504 => Err(Refused::Later(why, retry_after(&answer.headers))),
        _ => Err(Refused::Never(why)),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn over_grpc(answer: &Answer) -> Result<u64, Refused> {
    let later = |why: String| Err(Refused::Later(why, None));
    if answer.status != StatusCode::OK {
        let why = format!("it has answered {}", answer.status.as_u16());
        // A proxy in front of it, perhaps (gRPC's `http-grpc-status-mapping`).
        return match answer.status.as_u16() {
            429 | 502..=504 => later(why),
            _ => Err(Refused::Never(why)),
        };
    }
    // What fails before there is an answer tells so in its head.
    let said = |name| {
        answer
            .trailers
            .get(&name)
            .or_else(|| answer.headers.get(&name))
    };
    let code = said(STATUS).and_then(|code| code.to_str().ok()?.parse::<u8>().ok());
    let why = |code: u8| {
        let text = said(MESSAGE).map_or_else(Default::default, |text| {
            String::from_utf8_lossy(text.as_bytes())
        });
        format!("it has answered with the status {code} of gRPC: {text}")
    };
    match code {
        Some(0) => Ok(rejected(answer.body.get(PREFIX..).unwrap_or_default())),
        // Cancelled, too late, aborted, out of range, not there, lost (OTLP, "Failures").
        Some(code @ (1 | 4 | 8 | 10 | 11 | 14 | 15)) => later(why(code)),
        Some(code) => Err(Refused::Never(why(code))),
        None => later("it has answered without a status of gRPC".to_owned()),
    }
}

/// A message as gRPC sends it: not compressed, and with its length.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX + message.len());
    frame.push(0);
    let length = u32::try_from(message.len()).expect("a batch has an end far below 4 GiB");
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// How many spans an `ExportTraceServiceResponse` says were not taken.
fn rejected(response: &[u8]) -> u64 {
    let partial = fields(response).find_map(|(field, value)| match (field, value) {
        (1, Value::Bytes(partial)) => Some(partial),
        _ => None,
    });
    let mut counts = fields(partial.unwrap_or_default());
    let count = counts.find_map(|(field, value)| match (field, value) {
        (1, Value::Number(count)) => Some(count),
        _ => None,
    });
    count.unwrap_or_default()
}

/// Who tells, as the field of `ResourceSpans` that it is.
pub(super) fn resource(service: &str, attributes: &BTreeMap<String, String>) -> Arc<[u8]> {
    let mut message = Message::default();
    message.message(1, |resource| {
        let mut to = Attributes {
            span: resource,
            field: 1,
        };
        let own = [
            ("service.name", service),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("telemetry.sdk.name", "edgeway"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        for (name, value) in own {
            if !attributes.contains_key(name) {
                to.text(name, value);
            }
        }
        for (name, value) in attributes {
            to.text(name, value);
        }
    });
    message.0.into()
}

/// An `ExportTraceServiceRequest` of these spans.
pub(super) fn request(resource: &[u8], spans: &[u8]) -> Vec<u8> {
    let mut message = Message(Vec::with_capacity(resource.len() + spans.len() + 64));
    message.message(1, |resource_spans| {
        resource_spans.0.extend_from_slice(resource);
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| scope.bytes(1, b"edgeway"));
            scope_spans.0.extend_from_slice(spans);
        });
    });
    message.0
}

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The length of what stands before a message of gRPC.
const PREFIX: usize = 5;
/// The longest answer, in bytes.
const LARGEST: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &[u8]) -> Answer {
        let pairs = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: pairs.collect(),
            body: Bytes::copy_from_slice(body),
            trailers: HeaderMap::new(),
        }
    }

    /// An `ExportTraceServiceResponse` by which this many spans were not taken.
    fn partial(rejected: u64) -> Vec<u8> {
        let mut message = Message::default();
        message.message(1, |partial| {
            partial.number(1, rejected);
            partial.bytes(2, b"too old");
        });
        message.0
    }

    #[test]
    fn over_http_what_may_work_later_is_tried_later() {
        assert_eq!(over_http(&answer(200, &[], &[])), Ok(0));
        assert_eq!(over_http(&answer(200, &[], &partial(7))), Ok(7));
        assert_eq!(over_http(&answer(200, &[], b"{}")), Ok(0));
        let wait = Some(Duration::from_secs(7));
        for (status, headers, expected) in [
            (429, &[][..], Some(None)),
            (503, &[("retry-after", "7")], Some(wait)),
            (502, &[("retry-after", "soon")], Some(None)),
            (504, &[], Some(None)),
            (400, &[], None),
            (401, &[], None),
            (500, &[], None),
            (302, &[], None),
        ] {
            let refused = over_http(&answer(status, headers, &[])).unwrap_err();
            let later = match refused {
                Refused::Later(_, wait) => Some(wait),
                Refused::Never(_) => None,
            };
            assert_eq!(later, expected, "{status}");
        }
    }

    #[test]
    fn over_grpc_the_status_counts_wherever_it_stands() {
        let mut good = answer(200, &[], &framed(&partial(3)));
        good.trailers.insert(STATUS, HeaderValue::from_static("0"));
        assert_eq!(over_grpc(&good), Ok(3));
        for (code, later) in [("14", true), ("8", true), ("3", false), ("16", false)] {
            let mut refused = answer(200, &[], &[]);
            refused
                .headers
                .insert(STATUS, HeaderValue::from_static(code));
            let refused = over_grpc(&refused).unwrap_err();
            assert_eq!(matches!(refused, Refused::Later(..)), later, "{code}");
        }
        assert!(matches!(
            over_grpc(&answer(200, &[], &[])),
            Err(Refused::Later(..))
        ));
        assert!(matches!(
            over_grpc(&answer(503, &[], &[])),
            Err(Refused::Later(..))
        ));
        assert!(matches!(
            over_grpc(&answer(404, &[], &[])),
            Err(Refused::Never(_))
        ));
    }
}
