//! What is written about a request, in each format.

use std::{
    borrow::Cow,
    fmt,
    io::Write,
    time::{Duration, SystemTime},
};

use edgeway_sdk::{
    Identity, Template, Tls, Try,
    exchange::{Cached, Refusal},
    prelude::{Deserialize, Origin, Record, header},
    template::Piece,
};
use http::Version;

use super::{
    escape::Place,
    field::{Field, Phase},
    journal,
    phases::{Phases, decisive},
    secrets::Secrets,
    time::{Moment, push_digits},
};

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

/// Writes what the journal is to find a request by, as fields, and begins that of the line itself.
pub(super) fn write_fields(line: &mut Vec<u8>, record: &Record<'_>) {
    let exchange = record.exchange;
    let failed = record.status.is_some_and(|status| status.is_server_error());
    let mut field = |name: &str, value: &dyn fmt::Display| {
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        let mut text = Vec::with_capacity(32);
        push(&mut text, value);
        Place::Text.write(line, &text);
        line.push(journal::BETWEEN);
    };
    field("PRIORITY", if failed { &WARNING } else { &INFORMATIONAL });
    field("SYSLOG_IDENTIFIER", &"edgeway");
    field("EDGEWAY_REQUEST_ID", &exchange.id());
    field("EDGEWAY_CLIENT", &exchange.client);
    field("EDGEWAY_METHOD", &record.request.method);
    if let Some(status) = record.status {
        field("EDGEWAY_STATUS", &status.as_u16());
    }
    let names = [
        ("EDGEWAY_HOST", known(&exchange.host)),
        ("EDGEWAY_ROUTE", known(&exchange.route)),
        ("EDGEWAY_UPSTREAM", record.upstream),
        ("EDGEWAY_ENDPOINT", record.endpoint),
        ("EDGEWAY_FILTER", exchange.decided_by.as_deref()),
    ];
    for (name, value) in names {
        if let Some(value) = value {
            field(name, &value);
        }
    }
    if let Some(trace) = exchange.trace {
        field("EDGEWAY_TRACE_ID", &trace.id);
    }
    line.extend_from_slice(b"MESSAGE=");
}

/// As syslog numbers them.
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;

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
        if let Some(trace) = &exchange.trace {
            object.shown("trace_id", trace.id);
        }
        object.text("listener", known(self.record.listener));
        object.shown("client", exchange.client);
        object.shown("peer", exchange.peer);
        object.text("method", Some(request.method.as_str()));
        object.text("scheme", Some(exchange.scheme.as_str()));
        object.text("host", known(&exchange.host));
        object.string("target", |line| self.write_target(line, Place::Json));
        object.text("protocol", protocol(request.version));
        if let Some(tls) = exchange.values.get() {
            write_tls(&mut object, tls);
        }
        self.write_json_outcome(&mut object);
        self.write_json_upstream(&mut object);
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
        object.millis("duration_ms", Some(record.duration));
        object.text("origin", Some(origin(record.origin)));
        object.text("cache", self.cached().map(|cached| cached.outcome));
        object.text(
            "cache_reason",
            self.cached().and_then(|cached| cached.reason),
        );
    }

    /// Who was asked, and where the time has gone.
    fn write_json_upstream(&self, object: &mut Object<'_>) {
        let record = self.record;
        object.text("upstream", record.upstream);
        object.text("endpoint", record.endpoint);
        if record.upstream.is_some() {
            object.number("attempts", record.attempts);
        }
        // One that was simply answered has nothing to tell that is not in the line already.
        if record.tries.len() > 1 || record.tries.iter().any(|one| one.error.is_some()) {
            object.list("tries", record.tries.iter(), |object, one| {
                write_try(object, one, record);
            });
        }
        if let Some(reused) = self.reused() {
            object.truth("reused", reused);
        }
        let phases = Phases::of(record);
        object.millis("upstream_ms", record.upstream_duration);
        object.millis("filters_ms", phases.filters);
        object.millis("queue_ms", phases.queue);
        object.millis("connect_ms", phases.connect);
        object.millis("send_ms", phases.send);
        object.millis("wait_ms", phases.wait);
        object.millis("receive_ms", phases.receive);
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
            Field::DurationMs => millis(line, Some(record.duration)),
            Field::Listener => text(line, known(record.listener)),
            Field::Upstream => text(line, record.upstream),
            Field::Endpoint => text(line, record.endpoint),
            Field::Attempts => push(line, record.attempts),
            Field::Tries => self.write_tries(line),
            Field::Reused => text(line, self.reused().map(yes_or_no)),
            Field::UpstreamMs => millis(line, record.upstream_duration),
            Field::Phase(phase) => millis(line, phase.of(&Phases::of(record))),
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
            Field::TlsResumed => {
                let tls = exchange.values.get::<Tls>();
                text(line, tls.map(|tls| yes_or_no(tls.resumed)));
            }
            Field::Target => self.write_target(line, Place::Text),
            Field::Query => self.write_query(line),
            Field::Referer => self.write_referer(line, Place::Text),
            Field::QueryValue { value, .. } | Field::Request(value) => {
                text(line, value.value(record).as_deref());
            }
        }
    }

    /// `a:80=ConnectRefused,b:80=200`.
    fn write_tries(&self, line: &mut Vec<u8>) {
        for (place, one) in self.record.tries.iter().enumerate() {
            text(line, (place > 0).then_some(","));
            text(line, Some(one.endpoint));
            text(line, Some("="));
            match one.status {
                Some(status) if one.error.is_none() => text(line, Some(status.as_str())),
                Some(_) | None => text(line, Some(one.error.unwrap_or(GIVEN_UP))),
            }
        }
    }

    /// Whether the connection to the endpoint was there before; none if there was none.
    fn reused(&self) -> Option<bool> {
        let last = decisive(self.record.tries)?;
        last.connected.map(|_| last.reused)
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

    fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.key(key);
        push_digits(self.0, value.into(), 1);
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.key(key);
        self.0
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn millis(&mut self, key: &str, duration: Option<Duration>) {
        if duration.is_some() {
            self.key(key);
            millis(self.0, duration);
        }
    }
}

fn write_tls(object: &mut Object<'_>, tls: &Tls) {
    object.text("tls_version", known(tls.version));
    object.text("tls_cipher", known(tls.suite));
    object.text("tls_sni", tls.sni.as_deref());
    object.truth("tls_resumed", tls.resumed);
}

fn write_try(object: &mut Object<'_>, one: &Try<'_>, record: &Record<'_>) {
    object.text("endpoint", Some(one.endpoint));
    if let Some(status) = one.status {
        object.number("status", status.as_u16());
    }
    object.text("error", one.error);
    if one.hedged {
        object.truth("hedged", true);
    }
    let end = one.ended.unwrap_or(record.duration);
    object.millis("ms", Some(end.saturating_sub(one.chosen)));
}

fn write_reported(object: &mut Object<'_>, refusal: &Refusal) {
    object.text("filter", Some(&refusal.filter));
    object.number("status", refusal.status.as_u16());
    object.text("rule", refusal.rule.as_deref());
    object.text("key", refusal.key.as_deref());
    object.text("reason", refusal.reason.as_deref());
}

impl Phase {
    fn of(self, phases: &Phases) -> Option<Duration> {
        match self {
            Self::Filters => phases.filters,
            Self::Queue => phases.queue,
            Self::Connect => phases.connect,
            Self::Send => phases.send,
            Self::Wait => phases.wait,
            Self::Receive => phases.receive,
        }
    }
}

/// Milliseconds with three digits after the point.
fn millis(line: &mut Vec<u8>, duration: Option<Duration>) {
    if let Some(duration) = duration {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        push_digits(line, micros / 1_000, 1);
        line.push(b'.');
        push_digits(line, micros % 1_000, 3);
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
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

/// What became of a try that was not waited for any more.
const GIVEN_UP: &str = "given_up";

/// The status that `combined` gives to a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use edgeway_sdk::{
        Filter, Trace, TraceId,
        prelude::StatusCode,
        test::{Outcome, Trial},
    };
    use serde_json::{Value, json};

    use super::{super::field::FIELDS, *};

    struct Nothing;

    impl Filter for Nothing {}

    fn tls() -> Tls {
        let mut tls = Tls::default();
        tls.version = "TLSv1.3";
        tls.suite = "TLS_AES_128_GCM_SHA256";
        tls.sni = Some("test.example".into());
        tls.resumed = true;
        tls
    }

    fn trace() -> Trace {
        Trace {
            id: TraceId(0xab),
            ..Trace::begin()
        }
    }

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// One that could not connect, and one that has answered.
    fn tries() -> [Try<'static>; 2] {
        let failed = Try {
            number: 1,
            endpoint: "a:1",
            hedged: false,
            chosen: ms(5),
            connected: None,
            reused: false,
            sent: None,
            answered: None,
            ended: Some(ms(8)),
            status: None,
            error: Some("ConnectRefused"),
        };
        let answered = Try {
            number: 2,
            endpoint: "b:1",
            chosen: ms(10),
            connected: Some(ms(30)),
            sent: Some(ms(100)),
            answered: Some(ms(1_250)),
            ended: None,
            status: Some(StatusCode::OK),
            error: None,
            ..failed
        };
        [failed, answered]
    }

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
                .identity(Identity::new("ann"))
                .value(tls()),
        )
        .await;
        outcome.exchange.trace = Some(trace());
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
        let tries = tries();
        record.tries = &tries;
        record.attempts = 2;
        record.filtered = Some(ms(4));
        let line: Value = serde_json::from_str(&line("json", &record)).unwrap();
        let expected = json!({
            "time": "2025-10-09T09:07:06.005Z", "request_id": "id-1",
            "trace_id": "000000000000000000000000000000ab", "listener": "http", "client": "192.0.2.1",
            "tls_version": "TLSv1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256",
            "tls_sni": "test.example", "tls_resumed": true,
            "peer": "192.0.2.1:40000", "method": "GET", "scheme": "http", "host": "test.example",
            "target": "/a?b=1&token=***", "protocol": "HTTP/1.1", "status": 200,
            "bytes_received": 5, "bytes_sent": 200, "duration_ms": 1500.0, "origin": "upstream",
            "cache": "miss", "cache_reason": "private",
            "upstream": "test", "endpoint": "test", "attempts": 2,
            "tries": [
                {"endpoint": "a:1", "error": "ConnectRefused", "ms": 3.0},
                {"endpoint": "b:1", "status": 200, "ms": 1490.0},
            ],
            "reused": false, "upstream_ms": 1250.0, "filters_ms": 4.0, "queue_ms": 6.0,
            "connect_ms": 20.0, "send_ms": 70.0, "wait_ms": 1150.0, "receive_ms": 250.0,
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
        let expected = "bytes_received bytes_sent client duration_ms host listener method origin peer \
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

    /// A request of which everything is known.
    async fn known_outcome() -> Outcome {
        let mut outcome = outcome(
            Trial::get("/a?b=1&code=s")
                .header("referer", "https://x.example/?sig=s")
                .header("x-a", "1")
                .value(tls()),
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
        outcome
    }

    #[tokio::test]
    async fn a_text_has_every_value() {
        let outcome = known_outcome().await;
        let mut record = outcome.record();
        record.status = Some(StatusCode::ACCEPTED);
        record.bytes_received = 1;
        record.bytes_sent = 2;
        record.error = Some("cut");
        let tries = tries();
        record.tries = &tries;
        record.filtered = Some(ms(4));
        let cases = [
            ("{time}", "2025-10-09T09:07:06.005Z"),
            ("{status} {bytes_received} {bytes_sent}", "202 1 2"),
            ("{duration_ms} {upstream_ms}", "1500.000 1250.000"),
            ("{upstream} {endpoint} {attempts}", "test test 1"),
            ("{filter} {reason} {error}", "jwt because cut"),
            ("{rule} {key} {reported}", "role ann waf,limit"),
            ("{origin} {protocol}", "upstream HTTP/1.1"),
            ("{cache} {cache_reason}", "bypass rule"),
            ("{tries} {reused}", "a:1=ConnectRefused,b:1=200 no"),
            ("{filters_ms} {queue_ms} {connect_ms}", "4.000 6.000 20.000"),
            (
                "{send_ms} {wait_ms} {receive_ms}",
                "70.000 1150.000 250.000",
            ),
            ("{listener} {tls.version} {tls.resumed}", "http TLSv1.3 yes"),
            ("{trace_id}", "-"),
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

    #[tokio::test]
    async fn the_journal_is_given_what_requests_are_looked_for_by() {
        let mut outcome = outcome(Trial::get("/")).await;
        outcome.exchange.host = "a\nb".to_owned();
        outcome.exchange.trace = Some(trace());
        let mut record = outcome.record();
        let fields = |record: &Record<'_>| {
            let mut line = Vec::new();
            write_fields(&mut line, record);
            assert!(!line.contains(&b'\n'));
            String::from_utf8(line).unwrap().replace('\u{1e}', "|")
        };
        let expected = "PRIORITY=6|SYSLOG_IDENTIFIER=edgeway|EDGEWAY_REQUEST_ID=id-1|\
                        EDGEWAY_CLIENT=192.0.2.1|EDGEWAY_METHOD=GET|EDGEWAY_STATUS=200|\
                        EDGEWAY_HOST=a\\x0Ab|EDGEWAY_ROUTE=test|EDGEWAY_UPSTREAM=test|\
                        EDGEWAY_ENDPOINT=test|EDGEWAY_TRACE_ID=000000000000000000000000000000ab|MESSAGE=";
        assert_eq!(fields(&record), expected);
        record.status = Some(StatusCode::BAD_GATEWAY);
        assert!(fields(&record).starts_with("PRIORITY=4|"));
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
