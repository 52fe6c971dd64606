//! The filter `trace`: which trace a request is part of, and what a collector is told of it.

mod collector;

use std::collections::BTreeMap;

use edgeway_tests::{Answer, Echo, Gateway, PATIENCE, Request, Upstream, eventually, load};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;

use self::collector::{Collector, Protocol, values};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn gateway(echo: &Echo, trace: &str) -> Gateway {
    Gateway::start(&configuration(&format!("[{echo}]"), trace))
}

fn configuration(endpoints: &str, trace: &str) -> String {
    format!(
        "
        upstreams: {{ app: {{ endpoints: {endpoints} }} }}
        filters:
          - access_log
          - trace: {{ {trace} }}
        routes:
          - name: all
            match: {{ path: / }}
            upstream: app
          - name: here
            match: {{ path: /here }}
            respond: {{ text: here }}
        "
    )
}

/// The `traceparent` that the endpoint was sent, in its parts.
fn parent_of(answer: &Answer) -> [String; 4] {
    let [line] = sent(answer, "traceparent").try_into().unwrap();
    let parts: Vec<_> = line.split('-').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

/// The headers of this name that the endpoint was sent.
fn sent(answer: &Answer, name: &str) -> Vec<String> {
    let report = answer.json();
    let pairs = report["headers"].as_array().unwrap().iter();
    let pairs = pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let named = pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.to_owned()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced(request: Request<'_>) -> Answer {
    request
        .header("traceparent", PARENT)
        .header("tracestate", "vendor=1")
        .send()
}

/// The spans of a request, that of the gateway first.
fn spans_of(spans: &[Span], path: &str) -> Vec<Span> {
    let is_root = |span: &&Span| {
        values(&span.attributes)
            .get("url.path")
            .is_some_and(|known| known == path)
    };
    let root = spans.iter().find(is_root).unwrap();
    let below = spans
        .iter()
        .filter(|span| span.parent_span_id == root.span_id);
    [root].into_iter().chain(below).cloned().collect()
}

#[test]
fn a_collector_is_told_of_every_try_and_endpoints_of_their_own() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let (echo, dead) = (Echo::start(), Upstream::refusing());
        let collector = Collector::start(protocol);
        let (name, path) = match protocol {
            Protocol::Http => ("http", "/v1/traces"),
            Protocol::Grpc => (
                "grpc",
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
        };
        let trace = format!(
            "sample: 100%, service: edge, attributes: {{ region: eu }}, \
             otlp: {{ url: '{collector}', protocol: {name}, headers: {{ X-Key: abc }} }}"
        );
        let yaml = configuration(&format!("[{dead}, {echo}]"), &trace);
        let gateway = Gateway::start(&yaml);
        // One of the first two meets the dead one first.
        let answers = [0, 1].map(|number| gateway.get(&format!("/{number}?token=s3cret")));
        let spans = collector.wait_for(5);
        let mut tries = 0;
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(answer.status, 200);
            let spans = spans_of(&spans, &format!("/{number}"));
            let (root, below) = spans.split_first().unwrap();
            let last = below.last().unwrap();
            let [version, trace, span, flags] = parent_of(answer);
            assert_eq!((version.as_str(), flags.as_str()), ("00", "01"));
            assert_eq!(
                (hex(&root.trace_id), hex(&last.trace_id)),
                (trace.clone(), trace.clone())
            );
            assert_eq!(hex(&last.span_id), span);
            assert!(root.parent_span_id.is_empty());
            assert_eq!(
                (root.name.as_str(), root.kind, last.kind),
                ("GET all", 2, 3)
            );
            let from = below.iter().map(|one| one.start_time_unix_nano).min();
            assert!(from >= Some(root.start_time_unix_nano));
            let to = below.iter().map(|one| one.end_time_unix_nano).max();
            assert!(to <= Some(root.end_time_unix_nano));
            if let [failed, _] = below {
                assert_eq!(values(&failed.attributes)["error.type"], "ConnectRefused");
                assert_ne!(failed.span_id, last.span_id);
                assert_eq!(root.events[0].name, "edgeway.retry");
            }
            tries += below.len();
            let told = values(&root.attributes);
            assert_eq!(told["url.query"], "token=***");
            assert_eq!(told["http.response.status_code"], "200");
            // The log has the same id.
            let line = gateway.wait_for_output(&format!("/{number}?token"));
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["trace_id"], trace);
        }
        assert_eq!(tries, 3);
        delivered(&collector, path);
    }
}

/// All that has come has come to this path, with what is said of the exporter.
fn delivered(collector: &Collector, path: &str) {
    for batch in collector.batches() {
        assert_eq!(
            (batch.path.as_str(), &batch.headers["x-key"]),
            (path, &"abc".parse().unwrap())
        );
        let resource: BTreeMap<_, _> = batch.resource;
        assert_eq!(
            (
                resource["service.name"].as_str(),
                resource["region"].as_str()
            ),
            ("edge", "eu")
        );
    }
}

#[test]
fn a_stranger_neither_goes_on_with_a_trace_nor_has_it_recorded() {
    let (echo, collector) = (Echo::start(), Collector::start(Protocol::Http));
    let trace = format!("sample: 0%, otlp: {{ url: '{collector}' }}");
    let mut gateway = gateway(&echo, &trace);
    let answer = traced(gateway.request("GET", "/x"));
    let [_, trace, _, flags] = parent_of(&answer);
    assert!(!PARENT.contains(&trace), "{trace}");
    assert_eq!(flags, "00");
    assert!(sent(&answer, "tracestate").is_empty());
    // The log knows the trace all the same.
    let line: Value = serde_json::from_str(&gateway.wait_for_output("/x")).unwrap();
    assert_eq!(line["trace_id"], trace);
    assert!(gateway.stop().success());
    assert_eq!(collector.spans(), []);
}

#[test]
fn who_is_trusted_goes_on_with_its_trace() {
    let (echo, collector) = (Echo::start(), Collector::start(Protocol::Http));
    let trace = format!("sample: 0%, trust: always, otlp: {{ url: '{collector}' }}");
    let gateway = gateway(&echo, &trace);
    let answer = traced(gateway.request("GET", "/x"));
    let [_, trace, span, flags] = parent_of(&answer);
    assert!(
        PARENT.contains(&trace) && !PARENT.contains(&span),
        "{trace} {span}"
    );
    assert_eq!(flags, "01");
    assert_eq!(sent(&answer, "tracestate"), ["vendor=1"]);
    let spans = collector.wait_for(2);
    let root = &spans_of(&spans, "/x")[0];
    assert_eq!(hex(&root.parent_span_id), "00f067aa0ba902b7");
    // Whose caller does not record it is not recorded, nor is what is not right gone on with.
    let quiet = PARENT.replace("-01", "-00");
    for wrong in [quiet.as_str(), "00-zz-1-01"] {
        let request = gateway.request("GET", "/y").header("traceparent", wrong);
        assert_eq!(parent_of(&request.send())[3], "00", "{wrong}");
    }
}

#[test]
fn a_share_of_the_requests_is_recorded() {
    let (echo, collector) = (Echo::start(), Collector::start(Protocol::Http));
    let trace = format!("sample: 20%, otlp: {{ url: '{collector}' }}");
    let mut gateway = gateway(&echo, &trace);
    let outcomes = load(gateway.address(), 8, 1_000, |connection| {
        connection.request("GET", "/here")
    });
    outcomes.expect_all(200);
    assert!(gateway.stop().success());
    // Eight times the standard deviation.
    let count = collector.spans().len();
    assert!((100..=300).contains(&count), "{count}");
}

#[test]
fn nothing_is_lost_by_a_stop_or_a_reload() {
    let (echo, collector) = (Echo::start(), Collector::start(Protocol::Grpc));
    let trace = format!("sample: 100%, otlp: {{ url: '{collector}', protocol: grpc }}");
    let mut gateway = gateway(&echo, &trace);
    for number in 0..3 {
        assert_eq!(gateway.get(&format!("/here?{number}")).status, 200);
        assert!(gateway.reload_files());
    }
    assert_eq!(gateway.get("/here?3").status, 200);
    assert!(gateway.stop().success());
    assert_eq!(collector.spans().len(), 4);
}

#[test]
fn a_collector_that_is_away_holds_no_request_up_and_is_told_later() {
    for (protocol, status) in [(Protocol::Http, 503), (Protocol::Grpc, 14)] {
        let (echo, collector) = (Echo::start(), Collector::start(protocol));
        collector.refuse(Some(status));
        let name = if protocol == Protocol::Http {
            "http"
        } else {
            "grpc"
        };
        let trace = format!("sample: 100%, otlp: {{ url: '{collector}', protocol: {name} }}");
        let gateway = gateway(&echo, &trace);
        let outcomes = load(gateway.address(), 4, 100, |connection| {
            connection.request("GET", "/here")
        });
        outcomes.expect_all(200);
        eventually(PATIENCE, || collector.refused() > 0);
        gateway.wait_for_log("takes no spans, 0 are lost");
        collector.refuse(None);
        collector.wait_for(100);
    }
}

#[test]
fn what_a_collector_never_takes_is_lost_and_told() {
    let (echo, collector) = (Echo::start(), Collector::start(Protocol::Http));
    collector.refuse(Some(401));
    let trace = format!("sample: 100%, otlp: {{ url: '{collector}' }}");
    let gateway = gateway(&echo, &trace);
    assert_eq!(gateway.get("/here").status, 200);
    gateway.wait_for_log("takes no spans, 1 are lost: it has answered 401");
    assert_eq!(collector.refused(), 1);
}

#[test]
fn nobody_at_the_place_of_the_collector_is_no_trouble_for_requests() {
    let echo = Echo::start();
    let nobody = Upstream::refusing();
    let trace = format!("sample: 100%, otlp: {{ url: 'http://{nobody}' }}");
    let mut gateway = gateway(&echo, &trace);
    let outcomes = load(gateway.address(), 4, 200, |connection| {
        connection.request("GET", "/here")
    });
    outcomes.expect_all(200);
    gateway.wait_for_log("takes no spans");
    assert!(gateway.stop().success());
    gateway.wait_for_log("200 are lost");
}

#[test]
fn a_refusal_and_what_the_cache_did_are_events() {
    let (echo, collector) = (Echo::start(), Collector::start(Protocol::Http));
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{echo}] }} }}
        filters: [{{ trace: {{ sample: 100%, otlp: {{ url: '{collector}' }} }} }}]
        routes:
          - match: {{ path: /cached }}
            cache: {{ ttl: 1m }}
            upstream: app
          - match: {{ path: /closed }}
            filters: [{{ ip_access: {{ deny: [0.0.0.0/0] }} }}]
            upstream: app
        "
    ));
    for (target, status) in [("/cached", 200), ("/cached", 200), ("/closed", 403)] {
        assert_eq!(gateway.get(target).status, status);
    }
    let spans = collector.wait_for(4);
    let outcome = |span: &Span| {
        let event = span
            .events
            .iter()
            .find(|event| event.name == "edgeway.cache")?;
        values(&event.attributes).remove("edgeway.cache.outcome")
    };
    let mut outcomes: Vec<_> = spans.iter().filter_map(outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["hit", "miss"]);
    let closed = &spans_of(&spans, "/closed")[0];
    assert_eq!(closed.events[0].name, "edgeway.refusal");
    assert_eq!(values(&closed.attributes)["edgeway.filter"], "ip_access");
    assert_eq!(closed.status, None);
}
