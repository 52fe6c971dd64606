use edgeway_sdk::{
    Resources, SpanId, TraceId,
    test::{self, Outcome, Trial},
};

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn run(json: &str, trial: Trial) -> Outcome {
    trial.run(&test::build(json, build).unwrap()).await
}

fn parent_of(outcome: &Outcome) -> Parent {
    Parent::of(&outcome.sent.headers).unwrap()
}

#[tokio::test]
async fn an_endpoint_is_told_of_the_attempt_that_it_is_part_of() {
    let outcome = run("{}", Trial::get("/")).await;
    let trace = outcome.exchange.trace.unwrap();
    assert_eq!(trace.parent, None);
    let parent = parent_of(&outcome);
    assert_eq!((parent.trace, parent.span), (trace.id, trace.of_attempt(1)));
    assert_eq!(parent.sampled, trace.sampled);
}

#[tokio::test]
async fn only_who_is_trusted_says_which_trace_it_is_and_whether_it_is_recorded() {
    let trial = || {
        Trial::get("/")
            .header("traceparent", PARENT)
            .header("tracestate", "a=1")
    };
    let by_proxy = || trial().peer(([10, 0, 0, 1], 1));
    let cases = [
        (r#"{"sample": "0%", "trust": "never"}"#, false, false),
        (r#"{"sample": "0%"}"#, false, true),
        (r#"{"sample": "0%", "trust": "always"}"#, true, true),
    ];
    for (json, direct, proxied) in cases {
        for (trial, goes_on) in [(trial(), direct), (by_proxy(), proxied)] {
            let outcome = run(json, trial).await;
            let trace = outcome.exchange.trace.unwrap();
            let same = trace.id == TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
            assert_eq!((same, trace.sampled), (goes_on, goes_on), "{json}");
            assert_eq!(
                trace.parent,
                goes_on.then_some(SpanId(0x00f0_67aa_0ba9_02b7))
            );
            let state = goes_on.then_some("a=1");
            assert_eq!(outcome.sent_header("tracestate"), state, "{json}");
            assert_eq!(parent_of(&outcome).trace, trace.id);
        }
    }
}

#[tokio::test]
async fn a_caller_that_records_nothing_has_nothing_recorded() {
    let unrecorded = PARENT.replace("-01", "-00");
    let trial = Trial::get("/").header("traceparent", &unrecorded);
    let outcome = run(r#"{"sample": "100%", "trust": "always"}"#, trial).await;
    assert!(!outcome.exchange.trace.unwrap().sampled);
    assert!(!parent_of(&outcome).sampled);
}

#[tokio::test]
async fn what_is_not_right_is_replaced() {
    let json = r#"{"trust": "always"}"#;
    let wrong = Trial::get("/")
        .header("traceparent", "00-1-2-3")
        .header("tracestate", "a=1");
    let outcome = run(json, wrong).await;
    assert_eq!(outcome.sent_header("tracestate"), None);
    assert_eq!(outcome.exchange.trace.unwrap().parent, None);
    let state = Trial::get("/")
        .header("traceparent", PARENT)
        .header("tracestate", "A=1");
    let outcome = run(json, state).await;
    assert_eq!(outcome.sent_header("tracestate"), None);
    assert!(outcome.exchange.trace.unwrap().parent.is_some());
}

#[tokio::test]
async fn so_many_traces_are_recorded_as_the_sample_says() {
    for (sample, range) in [("0%", 0..=0), ("100%", 2_000..=2_000), ("25%", 350..=650)] {
        let filter = test::build(&format!(r#"{{"sample": "{sample}"}}"#), build).unwrap();
        let traces = (0..2_000).map(|_| filter.trace(None));
        let count = traces.filter(|trace| trace.sampled).count();
        assert!(range.contains(&count), "{sample}: {count}");
    }
}

#[test]
fn who_samples_more_records_all_that_others_record() {
    let filter = |sample: &str| {
        test::build(&format!(r#"{{"sample": "{sample}"}}"#), build)
            .unwrap()
            .threshold
    };
    assert_eq!((filter("0%"), filter("100%")), (0, ALL));
    assert!(filter("1%") < filter("2%"));
}

#[tokio::test]
async fn of_two_filters_the_first_follows_the_request() {
    let json = r#"{"sample": "100%", "otlp": {"url": "http://127.0.0.1:9"}}"#;
    let (first, second) = (
        test::build(json, build).unwrap(),
        test::build(json, build).unwrap(),
    );
    let outcome = Trial::get("/").run(&first).await;
    let record = outcome.record();
    second.log(&record);
    assert_eq!(second.exporter.as_ref().unwrap().waiting(), 0);
    first.log(&record);
    assert_eq!(first.exporter.as_ref().unwrap().waiting(), 1);
}

#[tokio::test]
async fn a_queue_that_is_full_loses_spans_and_never_waits() {
    let json = r#"{"sample": "100%", "otlp": {"url": "http://127.0.0.1:9"}}"#;
    let filter = test::build(json, build).unwrap();
    let outcome = Trial::get("/").run(&filter).await;
    // Nobody empties it: had this waited, it would not end.
    for _ in 0..20_000 {
        filter.log(&outcome.record());
    }
    let exporter = filter.exporter.as_ref().unwrap();
    assert!(exporter.waiting() <= 4_096);
    let told = exporter.told();
    assert_eq!(told.lost as usize + exporter.waiting(), 20_000);
    assert_eq!(
        (told.to.as_str(), told.exported),
        ("http://127.0.0.1:9/", 0)
    );
}

#[test]
fn the_same_collector_is_told_by_one_thread_and_each_resource_by_its_own() {
    let resources = Resources::default();
    let folder = std::path::Path::new(".");
    let built = |rest: &str| {
        let json = format!(r#"{{"otlp": {{"url": "http://127.0.0.1:9"{rest}}}}}"#);
        let config = serde_json::from_str(&json).unwrap();
        build(config, &mut Build::new(&resources, folder))
            .unwrap()
            .exporter
            .unwrap()
    };
    let one = built("");
    assert!(Arc::ptr_eq(&one, &built("")));
    assert!(!Arc::ptr_eq(&one, &built(r#", "protocol": "grpc""#)));
    assert!(!Arc::ptr_eq(&one, &built(r#", "headers": {"a": "b"}"#)));
    assert!(!Arc::ptr_eq(&one, &built(r#"}, "attributes": {"a": "b""#)));
}

#[test]
fn what_is_told_to_nobody_or_in_no_way_is_refused() {
    let cases = [
        (r#"{"service": "a"}"#, "service"),
        (r#"{"attributes": {"a": "b"}}"#, "attributes"),
        (r#"{"otlp": {"url": "tcp://h"}}"#, "otlp.url"),
        (
            r#"{"otlp": {"url": "http://h/x", "protocol": "grpc"}}"#,
            "otlp.url",
        ),
        (
            r#"{"otlp": {"url": "http://h", "timeout": "0s"}}"#,
            "otlp.timeout",
        ),
        (
            r#"{"otlp": {"url": "http://h", "headers": {"a b": "c"}}}"#,
            "otlp.headers.a b",
        ),
        (
            r#"{"otlp": {"url": "http://h", "headers": {"content-length": "1"}}}"#,
            "otlp.headers.content-length",
        ),
        (
            r#"{"otlp": {"url": "http://h", "headers": {"a": "\n"}}}"#,
            "otlp.headers.a",
        ),
    ];
    for (json, key) in cases {
        let error = test::build(json, build).err().unwrap();
        assert_eq!(error.key.as_deref(), Some(key), "{json}");
    }
}
