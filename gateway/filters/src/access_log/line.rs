//! What is written about a request, in each format.

use std::{borrow::Cow, fmt, io::Write, str::FromStr, time::SystemTime};

use edgeway_sdk::{
    Identity, Template,
    exchange::{Cached, Refusal},
    prelude::{Deserialize, Origin, Record, header},
    template::{Piece, Variable},
};
use http::Version;

use super::{escape::Place, secrets::Secrets, time::Moment};

/// How a line looks.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) enum Format {
    /// An object whose keys are always in the same order, without those that have no value.
    #[default]
    Json,
    /// As nginx and Apache write it.
    Combined,
    /// What the operator wrote.
    Text(Template<Field>),
}

impl TryFrom<Cow<'_, str>> for Format {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        match text.as_ref() {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Combined),
            // A text in which nothing varies is a misspelt name.
            text if !text.contains('{') => Err(format!(
                "expected `json`, `combined` or a text with values such as `{{status}}`, found \
                 `{text}`"
            )),
            text => text.parse().map(Self::Text),
        }
    }
}

impl Format {
    /// Writes the line of a request that ended at `now`, without its end.
    pub(super) fn write(
        &self,
        line: &mut Vec<u8>,
        record: &Record<'_>,
        now: SystemTime,
        secrets: &Secrets,
    ) {
        let entry = Entry {
            record,
            moment: Moment::new(now),
            secrets,
        };
        match self {
            Self::Json => entry.write_json(line),
            Self::Combined => entry.write_combined(line),
            Self::Text(template) => entry.write_text(line, template),
        }
    }

    /// The first secret that this format names, if it does.
    pub(super) fn revealed(&self, secrets: &Secrets) -> Option<&str> {
        let Self::Text(template) = self else {
            return None;
        };
        template.pieces().iter().find_map(|piece| match piece {
            Piece::Value(Field::QueryValue { name, .. }) => {
                secrets.contains(name.as_bytes()).then_some(name.as_str())
            }
            Piece::Value(_) | Piece::Text(_) => None,
        })
    }
}

/// A value in a text of the operator's own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Time,
    Status,
    BytesReceived,
    BytesSent,
    DurationMs,
    Upstream,
    Endpoint,
    Attempts,
    UpstreamMs,
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

/// The names that a text may use beside those of every [`Template`].
pub(super) const FIELDS: [&str; 19] = [
    "time",
    "status",
    "bytes_received",
    "bytes_sent",
    "duration_ms",
    "upstream",
    "endpoint",
    "attempts",
    "upstream_ms",
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
            "upstream" => Self::Upstream,
            "endpoint" => Self::Endpoint,
            "attempts" => Self::Attempts,
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
            "target" => Self::Target,
            "query" => Self::Query,
            text => match text.split_once('.') {
                Some(("header", name)) => header_field(name, text)?,
                Some(("query", name)) => Self::QueryValue {
                    name: name.to_owned(),
                    value: variable(text)?,
                },
                _ => Self::Request(variable(text)?),
            },
        })
    }
}

fn header_field(name: &str, text: &str) -> Result<Field, String> {
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

/// One request, about to be written.
struct Entry<'a> {
    record: &'a Record<'a>,
    moment: Moment,
    secrets: &'a Secrets,
}

impl Entry<'_> {
    fn write_json(&self, line: &mut Vec<u8>) {
        let Record {
            request, exchange, ..
        } = self.record;
        line.extend_from_slice(b"{\"time\":\"");
        self.moment.write_rfc3339(line);
        line.push(b'"');
        let mut object = Object(line);
        object.text("request_id", Some(exchange.id()));
        object.shown("client", exchange.client);
        object.shown("peer", exchange.peer);
        object.text("method", Some(request.method.as_str()));
        object.text("scheme", Some(exchange.scheme.as_str()));
        object.text("host", known(&exchange.host));
        object.string("target", |line| self.write_target(line, Place::Json));
        object.text("protocol", protocol(request.version));
        self.write_json_outcome(&mut object);
        object.text("route", known(&exchange.route));
        object.text("subject", self.subject());
        object.text("filter", exchange.decided_by.as_deref());
        let refusal = self.refusal();
        object.text("rule", refusal.and_then(|refusal| refusal.rule.as_deref()));
        object.text("key", refusal.and_then(|refusal| refusal.key.as_deref()));
        object.text("reason", exchange.reason.as_deref());
        if self.reported().next().is_some() {
            object.list("reported", self.reported(), write_reported);
        }
        object.text("error", self.record.error);
        if request.headers.contains_key(header::REFERER) {
            object.string("referer", |line| self.write_referer(line, Place::Json));
        }
        if let Some(agent) = request.headers.get(header::USER_AGENT) {
            object.string("user_agent", |line| {
                Place::Json.write(line, agent.as_bytes())
            });
        }
        line.push(b'}');
    }

    fn write_json_outcome(&self, object: &mut Object<'_>) {
        let record = self.record;
        if let Some(status) = record.status {
            object.number("status", status.as_u16());
        }
        object.number("bytes_received", record.bytes_received);
        object.number("bytes_sent", record.bytes_sent);
        object.number("duration_ms", Millis(record.duration));
        object.text("origin", Some(origin(record.origin)));
        object.text("cache", self.cached().map(|cached| cached.outcome));
        object.text(
            "cache_reason",
            self.cached().and_then(|cached| cached.reason),
        );
        object.text("upstream", record.upstream);
        object.text("endpoint", record.endpoint);
        if record.upstream.is_some() {
            object.number("attempts", record.attempts);
        }
        if let Some(duration) = record.upstream_duration {
            object.number("upstream_ms", Millis(duration));
        }
    }

    fn write_combined(&self, line: &mut Vec<u8>) {
        let Record {
            request, exchange, ..
        } = self.record;
        push(line, format_args!("{} - ", exchange.client));
        Place::Field.write(line, self.subject().unwrap_or("-").as_bytes());
        line.extend_from_slice(b" [");
        self.moment.write_common(line);
        push(line, format_args!("] \"{} ", request.method));
        self.write_target(line, Place::Text);
        push(
            line,
            format_args!(
                " {}\" {} {} \"",
                protocol(request.version).unwrap_or("-"),
                self.record
                    .status
                    .map_or(CLIENT_LEFT, |status| status.as_u16()),
                self.record.bytes_sent,
            ),
        );
        self.write_referer(line, Place::Text);
        line.extend_from_slice(b"\" \"");
        let agent = request.headers.get(header::USER_AGENT);
        Place::Text.write(line, agent.map_or(b"-", |agent| agent.as_bytes()));
        line.push(b'"');
    }

    fn write_text(&self, line: &mut Vec<u8>, template: &Template<Field>) {
        for piece in template.pieces() {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
                Piece::Value(field) => {
                    let before = line.len();
                    self.write_field(line, field);
                    if line.len() == before {
                        line.push(b'-');
                    }
                }
            }
        }
    }

    /// Writes the value of a field, or nothing if it has none.
    fn write_field(&self, line: &mut Vec<u8>, field: &Field) {
        let record = self.record;
        let exchange = record.exchange;
        match field {
            Field::Time => self.moment.write_rfc3339(line),
            Field::Status => text(line, record.status.as_ref().map(http::StatusCode::as_str)),
            Field::BytesReceived => push(line, record.bytes_received),
            Field::BytesSent => push(line, record.bytes_sent),
            Field::DurationMs => push(line, Millis(record.duration)),
            Field::Upstream => text(line, record.upstream),
            Field::Endpoint => text(line, record.endpoint),
            Field::Attempts => push(line, record.attempts),
            Field::UpstreamMs => {
                if let Some(duration) = record.upstream_duration {
                    push(line, Millis(duration));
                }
            }
            Field::Filter => text(line, exchange.decided_by.as_deref()),
            Field::Rule => text(line, self.refusal().and_then(|known| known.rule.as_deref())),
            Field::Key => text(line, self.refusal().and_then(|known| known.key.as_deref())),
            Field::Reason => text(line, exchange.reason.as_deref()),
            Field::Reported => {
                for (place, refusal) in self.reported().enumerate() {
                    text(line, (place > 0).then_some(","));
                    text(line, Some(&refusal.filter));
                }
            }
            Field::Error => text(line, record.error),
            Field::Origin => text(line, Some(origin(record.origin))),
            Field::Cache => text(line, self.cached().map(|cached| cached.outcome)),
            Field::CacheReason => text(line, self.cached().and_then(|cached| cached.reason)),
            Field::Protocol => text(line, protocol(record.request.version)),
            Field::Target => self.write_target(line, Place::Text),
            Field::Query => self.write_query(line),
            Field::Referer => self.write_referer(line, Place::Text),
            Field::QueryValue { value, .. } | Field::Request(value) => {
                text(line, value.value(record).as_deref());
            }
        }
    }

    /// The refusal that the client was told.
    fn refusal(&self) -> Option<&Refusal> {
        let refusals = &self.record.exchange.refusals;
        refusals.iter().rfind(|refusal| !refusal.reported)
    }

    fn reported(&self) -> impl Iterator<Item = &Refusal> {
        let refusals = &self.record.exchange.refusals;
        refusals.iter().filter(|refusal| refusal.reported)
    }

    /// Path and query as they were sent, or what else the request is about (`CONNECT`).
    fn write_target(&self, line: &mut Vec<u8>, place: Place) {
        let uri = &self.record.request.uri;
        let target = match (uri.path_and_query(), uri.authority()) {
            (Some(target), _) => target.as_str(),
            (None, Some(authority)) => authority.as_str(),
            (None, None) => "-",
        };
        self.secrets
            .mask_url(target.as_bytes(), |piece| place.write(line, piece));
    }

    fn write_query(&self, line: &mut Vec<u8>) {
        let query = self.record.request.uri.query().unwrap_or_default();
        self.secrets
            .mask_query(query.as_bytes(), |piece| Place::Text.write(line, piece));
    }

    fn write_referer(&self, line: &mut Vec<u8>, place: Place) {
        let referer = self.record.request.headers.get(header::REFERER);
        let referer = referer.map_or(&b"-"[..], |referer| referer.as_bytes());
        self.secrets
            .mask_url(referer, |piece| place.write(line, piece));
    }

    fn cached(&self) -> Option<Cached> {
        self.record.exchange.cached
    }

    fn subject(&self) -> Option<&str> {
        let identity = self.record.exchange.values.get::<Identity>()?;
        known(identity.subject())
    }
}

/// A JSON object with at least one key in it, still open.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.0.push(b'"');
        value(self.0);
        self.0.push(b'"');
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(key, |line| Place::Json.write(line, value.as_bytes()));
        }
    }

    /// A list of objects.
    fn list<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        write: impl Fn(&mut Object<'_>, T),
    ) {
        self.key(key);
        self.0.push(b'[');
        for (place, item) in items.enumerate() {
            let before: &[u8] = if place == 0 { b"{" } else { b",{" };
            self.0.extend_from_slice(before);
            let begun = self.0.len();
            write(&mut Object(self.0), item);
            // Each key is written with a comma before it.
            self.0.remove(begun);
            self.0.push(b'}');
        }
        self.0.push(b']');
    }

    /// A value whose text needs no escape.
    fn shown(&mut self, key: &str, value: impl fmt::Display) {
        self.string(key, |line| push(line, value));
    }

    fn number(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        push(self.0, value);
    }
}

fn write_reported(object: &mut Object<'_>, refusal: &Refusal) {
    object.text("filter", Some(&refusal.filter));
    object.number("status", refusal.status.as_u16());
    object.text("rule", refusal.rule.as_deref());
    object.text("key", refusal.key.as_deref());
    object.text("reason", refusal.reason.as_deref());
}

/// Milliseconds with three digits after the point.
struct Millis(std::time::Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("HTTP/0.9"),
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2.0"),
        Version::HTTP_3 => Some("HTTP/3.0"),
        _ => None,
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Upstream => "upstream",
        Origin::Reply => "reply",
        Origin::Cache => "cache",
    }
}

/// An empty name is none: that of the route, when no route matched.
fn known(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}

fn text(line: &mut Vec<u8>, text: Option<&str>) {
    if let Some(text) = text {
        Place::Text.write(line, text.as_bytes());
    }
}

/// Writes a value as it shows itself.
pub(super) fn push(line: &mut Vec<u8>, value: impl fmt::Display) {
    write!(line, "{value}").expect("a vector takes every byte");
}

/// The status that `combined` gives to a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use edgeway_sdk::{
        Filter,
        prelude::StatusCode,
        test::{Outcome, Trial},
    };
    use serde_json::{Value, json};

    use super::*;

    struct Nothing;

    impl Filter for Nothing {}

    async fn outcome(trial: Trial) -> Outcome {
        let outcome = trial.run(&Nothing).await;
        outcome.exchange.set_id("id-1");
        outcome
    }

    fn line(format: &str, record: &Record<'_>) -> String {
        let format = Format::try_from(Cow::from(format)).unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(1_760_000_826_005);
        let mut line = Vec::new();
        format.write(&mut line, record, now, &Secrets::new(&[]));
        String::from_utf8(line).unwrap()
    }

    #[tokio::test]
    async fn json_says_all_that_is_known() {
        let mut outcome = outcome(
            Trial::get("/a?b=1&token=s")
                .header("referer", "https://x.example/?code=s")
                .header("user-agent", "curl/8")
                .identity(Identity::new("ann")),
        )
        .await;
        outcome.exchange.decided_by = Some("jwt".into());
        outcome.exchange.reason = Some("expired".to_owned());
        outcome.exchange.cached = Some(Cached {
            outcome: "miss",
            reason: Some("private"),
        });
        let mut record = outcome.record();
        record.bytes_received = 5;
        record.bytes_sent = 200;
        record.error = Some("cut");
        let line: Value = serde_json::from_str(&line("json", &record)).unwrap();
        let expected = json!({
            "time": "2025-10-09T09:07:06.005Z", "request_id": "id-1", "client": "192.0.2.1",
            "peer": "192.0.2.1:40000", "method": "GET", "scheme": "http", "host": "test.example",
            "target": "/a?b=1&token=***", "protocol": "HTTP/1.1", "status": 200,
            "bytes_received": 5, "bytes_sent": 200, "duration_ms": 1500.0, "origin": "upstream",
            "cache": "miss", "cache_reason": "private",
            "upstream": "test", "endpoint": "test", "attempts": 1, "upstream_ms": 1250.0,
            "route": "test", "subject": "ann", "filter": "jwt", "reason": "expired",
            "error": "cut", "referer": "https://x.example/?code=***", "user_agent": "curl/8",
        });
        assert_eq!(line, expected);
    }

    #[tokio::test]
    async fn json_leaves_out_what_has_no_value() {
        let outcome = outcome(Trial::get("/")).await;
        let mut record = outcome.record();
        record.status = None;
        record.upstream = None;
        record.endpoint = None;
        record.upstream_duration = None;
        let line: Value = serde_json::from_str(&line("json", &record)).unwrap();
        let mut keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        let expected = "bytes_received bytes_sent client duration_ms host method origin peer \
                        protocol request_id route scheme target time";
        assert_eq!(keys.join(" "), expected);
    }

    #[tokio::test]
    async fn combined_is_as_nginx_writes_it() {
        let full = outcome(
            Trial::get("/a?token=s")
                .header("referer", "https://x.example/")
                .header("user-agent", "curl/8 \"x\"")
                .identity(Identity::new("ann lee")),
        )
        .await;
        assert_eq!(
            line("combined", &full.record()),
            r#"192.0.2.1 - ann\x20lee [09/Oct/2025:09:07:06 +0000] "GET /a?token=*** HTTP/1.1" 200 0 "https://x.example/" "curl/8 \x22x\x22""#
        );
        let bare = outcome(Trial::get("/")).await;
        let mut record = bare.record();
        record.status = None;
        assert_eq!(
            line("combined", &record),
            r#"192.0.2.1 - - [09/Oct/2025:09:07:06 +0000] "GET / HTTP/1.1" 499 0 "-" "-""#
        );
    }

    #[tokio::test]
    async fn a_text_has_every_value() {
        let mut outcome = outcome(
            Trial::get("/a?b=1&code=s")
                .header("referer", "https://x.example/?sig=s")
                .header("x-a", "1"),
        )
        .await;
        outcome.exchange.decided_by = Some("jwt".into());
        outcome.exchange.reason = Some("because".to_owned());
        outcome.exchange.cached = Some(Cached {
            outcome: "bypass",
            reason: Some("rule"),
        });
        let refusal = |filter: &str, reported| Refusal {
            filter: filter.into(),
            status: StatusCode::FORBIDDEN,
            rule: Some("role".into()),
            key: Some("ann".into()),
            reason: None,
            reported,
        };
        outcome.exchange.refusals = vec![
            refusal("waf", true),
            refusal("limit", true),
            refusal("jwt", false),
        ];
        let mut record = outcome.record();
        record.status = Some(StatusCode::ACCEPTED);
        record.bytes_received = 1;
        record.bytes_sent = 2;
        record.error = Some("cut");
        let cases = [
            ("{time}", "2025-10-09T09:07:06.005Z"),
            ("{status} {bytes_received} {bytes_sent}", "202 1 2"),
            ("{duration_ms} {upstream_ms}", "1500.000 1250.000"),
            ("{upstream} {endpoint} {attempts}", "test test 1"),
            ("{filter} {reason} {error}", "jwt because cut"),
            ("{rule} {key} {reported}", "role ann waf,limit"),
            ("{origin} {protocol}", "upstream HTTP/1.1"),
            ("{cache} {cache_reason}", "bypass rule"),
            ("{target} {query}", "/a?b=1&code=*** b=1&code=***"),
            ("{header.Referer}", "https://x.example/?sig=***"),
            ("{query.b} {header.x-a} {header.x-none}", "1 1 -"),
            ("{client_ip} {route} {subject} {{}}", "192.0.2.1 test - {}"),
            (r#""{method}""#, r#""GET""#),
        ];
        for (format, expected) in cases {
            assert_eq!(line(format, &record), expected, "{format}");
        }
        for name in FIELDS {
            assert_ne!(line(&format!("{{{name}}}"), &record), "-", "{name}");
        }
    }

    #[tokio::test]
    async fn no_request_can_forge_a_line() {
        let evil = "a\" 200 0\t{\"status\":1}\u{e9}\\";
        let mut outcome = outcome(
            Trial::get("/a\"b?q=%22%0ax")
                .header("user-agent", evil)
                .header("referer", evil)
                .header("x-a", evil)
                .identity(Identity::new("ann\n1.2.3.4 - - [\"")),
        )
        .await;
        outcome.exchange.host = "a\r\nb\"".to_owned();
        outcome.exchange.reason = Some("x\ny\"".to_owned());
        let record = outcome.record();
        let json = line("json", &record);
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["user_agent"], evil);
        assert_eq!(read["subject"], "ann\n1.2.3.4 - - [\"");
        let text = line("{subject}|{header.x-a}|{reason}|{host}|{query.q}", &record);
        let combined = line("combined", &record);
        for line in [&json, &text, &combined] {
            assert!(!line.contains(char::is_control), "{line}");
        }
        assert_eq!(combined.matches('"').count(), 6, "{combined}");
        assert_eq!(combined.matches('[').count(), 1, "{combined}");
        assert!(!text.contains('"'), "{text}");
    }

    #[test]
    fn a_format_that_means_nothing_is_refused() {
        for text in [
            "",
            "jsno",
            "JSON",
            "{nope}",
            "{status",
            "{header.authorization}",
            "{header.Cookie}",
        ] {
            assert!(Format::try_from(Cow::from(text)).is_err(), "{text}");
        }
        let error = Format::try_from(Cow::from("{nope}")).unwrap_err();
        assert!(error.contains("`{client_ip}`") && error.contains("bytes_sent"));
    }
}
