use std::collections::BTreeMap;

use edgeway_sdk::{
    TraceId,
    exchange::Cached,
    test::{Outcome, Trial},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span},
};
use prost::Message as _;

use super::{super::otlp, *};

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn trace() -> Trace {
    Trace {
        id: TraceId(0x0102),
        parent: Some(SpanId(7)),
        span: SpanId(8),
        sampled: true,
    }
}

fn tries() -> [Try<'static>; 2] {
    let failed = Try {
        number: 1,
        endpoint: "a.test:80",
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
        endpoint: "unix:/run/a.sock",
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
    struct Nothing;
    impl Filter for Nothing {}
    let outcome = trial.run(&Nothing).await;
    outcome.exchange.set_id("id-1");
    outcome
}

/// What a collector reads of a request that ended 10 seconds after 1970 began.
fn read(record: &Record<'_>) -> (ResourceSpans, Vec<Span>) {
    let now = UNIX_EPOCH + Duration::from_secs(10);
    let spans = spans(record, &trace(), now, &Secrets::new(&[]));
    let resource = otlp::resource("gate", &[("region".to_owned(), "eu".to_owned())].into());
    let message = otlp::request(&resource, &spans.bytes);
    let request = ExportTraceServiceRequest::decode(message.as_slice()).unwrap();
    let [resource_spans] = request.resource_spans.as_slice() else {
        panic!("{request:?}");
    };
    let [scope] = resource_spans.scope_spans.as_slice() else {
        panic!("{request:?}");
    };
    assert_eq!(scope.scope.as_ref().unwrap().name, "edgeway");
    assert_eq!(scope.spans.len(), spans.count as usize);
    (resource_spans.clone(), scope.spans.clone())
}

fn told(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    };
    let told = attributes
        .iter()
        .map(|pair| (pair.key.as_str(), text(pair)));
    let told: BTreeMap<_, _> = told.collect();
    assert_eq!(told.len(), attributes.len(), "one is there twice");
    told
}

/// A request whose first attempt has failed, as a collector reads it.
async fn retried() -> (ResourceSpans, [Span; 3]) {
    let mut outcome = outcome(
        Trial::get("/a?b=1&token=s")
            .header("host", "test.example:8443")
            .header("user-agent", "curl/8"),
    )
    .await;
    outcome.exchange.cached = Some(Cached {
        outcome: "miss",
        reason: Some("private"),
    });
    let tries = tries();
    let mut record = outcome.record();
    record.tries = &tries;
    record.filtered = Some(ms(4));
    let (resource, spans) = read(&record);
    (resource, spans.try_into().unwrap())
}

/// So many milliseconds after the request came: it took 1.5 seconds, as outcomes have it.
fn at(ms: u64) -> u64 {
    8_500_000_000 + ms * 1_000_000
}

fn times(span: &Span) -> (u64, u64) {
    (span.start_time_unix_nano, span.end_time_unix_nano)
}

#[tokio::test]
async fn a_collector_reads_who_tells_and_what_was_asked() {
    let (resource, [request, _, _]) = retried().await;
    let resource = resource.resource.unwrap();
    let resource = told(&resource.attributes);
    assert_eq!(
        (&*resource["service.name"], &*resource["region"]),
        ("gate", "eu")
    );
    let attributes = told(&request.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a"),
        ("url.query", "b=1&token=***"),
        ("url.scheme", "http"),
        ("server.address", "test.example"),
        ("server.port", "8443"),
        ("http.route", "test"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "curl/8"),
        ("client.address", "192.0.2.1"),
        ("network.peer.port", "40000"),
        ("http.response.status_code", "200"),
        ("edgeway.request_id", "id-1"),
        ("edgeway.listener", "http"),
        ("edgeway.upstream", "test"),
        ("edgeway.origin", "upstream"),
    ] {
        let known = attributes.get(name).map(String::as_str);
        assert_eq!(known, Some(value), "{name}");
    }
    assert!(!attributes.contains_key("error.type"));
}

#[tokio::test]
async fn a_collector_reads_what_became_of_the_request() {
    let (_, [request, _, _]) = retried().await;
    assert_eq!((request.name.as_str(), request.kind), ("GET test", 2));
    assert_eq!(request.trace_id, 0x0102_u128.to_be_bytes());
    assert_eq!(request.span_id, 8_u64.to_be_bytes());
    assert_eq!(request.parent_span_id, 7_u64.to_be_bytes());
    assert_eq!(times(&request), (at(0), at(1_500)));
    assert_eq!((request.flags, request.status), (0x301, None));
    let events = request.events.iter();
    let events: Vec<_> = events
        .map(|event| (event.name.as_str(), event.time_unix_nano))
        .collect();
    let expected = [("edgeway.cache", at(4)), ("edgeway.retry", at(10))];
    assert_eq!(events, expected);
    let cache = told(&request.events[0].attributes);
    assert_eq!(cache["edgeway.cache.reason"], "private");
}

#[tokio::test]
async fn a_collector_reads_each_attempt() {
    let (_, [request, first, second]) = retried().await;
    for (number, span) in [(1, &first), (2, &second)] {
        assert_eq!((span.name.as_str(), span.kind), ("GET", 3));
        assert_eq!(span.trace_id, request.trace_id);
        assert_eq!(span.parent_span_id, request.span_id);
        assert_eq!(span.span_id, trace().of_attempt(number).0.to_be_bytes());
    }
    assert_eq!(times(&first), (at(5), at(8)));
    assert_eq!(first.status.as_ref().unwrap().code, 2);
    let attributes = told(&first.attributes);
    assert_eq!(attributes["error.type"], "ConnectRefused");
    assert_eq!(
        (&*attributes["server.address"], &*attributes["server.port"]),
        ("a.test", "80")
    );
    assert_eq!(times(&second), (at(10), at(1_500)));
    assert_eq!(second.status, None);
    let attributes = told(&second.attributes);
    assert_eq!(attributes["http.request.resend_count"], "1");
    assert_eq!(attributes["server.address"], "unix:/run/a.sock");
    assert_eq!(attributes["edgeway.connection.reused"], "false");
    let events = second.events.iter();
    let events: Vec<_> = events.map(|event| event.time_unix_nano).collect();
    assert_eq!(events, [at(30), at(100), at(1_250)]);
}

#[tokio::test]
async fn what_went_wrong_is_told() {
    let method = Method::from_bytes(b"BREW").unwrap();
    let mut outcome = outcome(Trial::new(method, "/")).await;
    outcome.exchange.decided_by = Some("limit".into());
    outcome.exchange.reason = Some("no room".to_owned());
    outcome.exchange.refusals = vec![Refusal {
        filter: "limit".into(),
        status: StatusCode::SERVICE_UNAVAILABLE,
        rule: Some("burst".into()),
        key: None,
        reason: Some("no room".into()),
        reported: false,
    }];
    let mut record = outcome.record();
    record.status = Some(StatusCode::SERVICE_UNAVAILABLE);
    let (_, spans) = read(&record);
    let status = spans[0].status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "no room"));
    assert_eq!(spans[0].name, "_OTHER test");
    let attributes = told(&spans[0].attributes);
    assert_eq!(attributes["error.type"], "503");
    assert_eq!(attributes["http.request.method_original"], "BREW");
    assert_eq!(attributes["edgeway.filter"], "limit");
    assert_eq!(spans[0].events[0].name, "edgeway.refusal");
    assert_eq!(
        told(&spans[0].events[0].attributes)["edgeway.rule"],
        "burst"
    );
    record.status = None;
    let (_, spans) = read(&record);
    assert_eq!(told(&spans[0].attributes)["error.type"], "incomplete");
    // A client's fault is no failure of the gateway.
    record.status = Some(StatusCode::NOT_FOUND);
    assert_eq!(read(&record).1[0].status, None);
}
