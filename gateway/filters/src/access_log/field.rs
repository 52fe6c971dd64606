//! The values that a text of the operator's own may name.

use std::str::FromStr;

use edgeway_sdk::template::Variable;

/// A value in a text of the operator's own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Time,
    Status,
    BytesReceived,
    BytesSent,
    DurationMs,
    Listener,
    Upstream,
    Endpoint,
    Attempts,
    /// What became of each of them.
    Tries,
    /// Whether the connection to the endpoint was there before.
    Reused,
    UpstreamMs,
    Phase(Phase),
    Filter,
    /// Which of the filter's rules has refused the request, and whom or what it was about.
    Rule,
    Key,
    Reason,
    /// The filters that would have refused it, were they not only to report.
    Reported,
    Error,
    Origin,
    /// What the cache did.
    Cache,
    CacheReason,
    Protocol,
    TlsResumed,
    /// These three are known to every template, but here they are without secrets.
    Target,
    Query,
    Referer,
    QueryValue {
        name: String,
        value: Variable,
    },
    Request(Variable),
}

/// A part of the time that a request has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Filters,
    Queue,
    Connect,
    Send,
    Wait,
    Receive,
}

/// The names that a text may use beside those of every [`Template`](edgeway_sdk::Template).
pub(super) const FIELDS: [&str; 29] = [
    "time",
    "status",
    "bytes_received",
    "bytes_sent",
    "duration_ms",
    "listener",
    "upstream",
    "endpoint",
    "attempts",
    "tries",
    "reused",
    "upstream_ms",
    "filters_ms",
    "queue_ms",
    "connect_ms",
    "send_ms",
    "wait_ms",
    "receive_ms",
    "filter",
    "rule",
    "key",
    "reason",
    "reported",
    "error",
    "origin",
    "cache",
    "cache_reason",
    "protocol",
    "tls.resumed",
];

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "time" => Self::Time,
            "status" => Self::Status,
            "bytes_received" => Self::BytesReceived,
            "bytes_sent" => Self::BytesSent,
            "duration_ms" => Self::DurationMs,
            "listener" => Self::Listener,
            "upstream" => Self::Upstream,
            "endpoint" => Self::Endpoint,
            "attempts" => Self::Attempts,
            "tries" => Self::Tries,
            "reused" => Self::Reused,
            "upstream_ms" => Self::UpstreamMs,
            "filter" => Self::Filter,
            "rule" => Self::Rule,
            "key" => Self::Key,
            "reason" => Self::Reason,
            "reported" => Self::Reported,
            "error" => Self::Error,
            "origin" => Self::Origin,
            "cache" => Self::Cache,
            "cache_reason" => Self::CacheReason,
            "protocol" => Self::Protocol,
            "tls.resumed" => Self::TlsResumed,
            "target" => Self::Target,
            "query" => Self::Query,
            text => match (Phase::parse(text), text.split_once('.')) {
                (Some(phase), _) => Self::Phase(phase),
                (None, Some(("header", name))) => header(name, text)?,
                (None, Some(("query", name))) => Self::QueryValue {
                    name: name.to_owned(),
                    value: variable(text)?,
                },
                (None, _) => Self::Request(variable(text)?),
            },
        })
    }
}

impl Phase {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "filters_ms" => Self::Filters,
            "queue_ms" => Self::Queue,
            "connect_ms" => Self::Connect,
            "send_ms" => Self::Send,
            "wait_ms" => Self::Wait,
            "receive_ms" => Self::Receive,
            _ => return None,
        })
    }
}

fn header(name: &str, text: &str) -> Result<Field, String> {
    match name.to_ascii_lowercase().as_str() {
        "referer" => Ok(Field::Referer),
        "authorization" | "proxy-authorization" | "cookie" => {
            Err(format!("`{{{text}}}` would write credentials into the log"))
        }
        _ => variable(text).map(Field::Request),
    }
}

fn variable(text: &str) -> Result<Variable, String> {
    Variable::parse_beside(text, &FIELDS)
}
