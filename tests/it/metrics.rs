//! What `/metrics` tells: each count moves by exactly what has happened.

use std::io::Write;
use std::time::Duration;

use edgeway_tests::{Break, Endpoint, Gateway, Http2, PATIENCE, Request, eventually};

use self::scrape::Scrape;

mod operator;
pub(crate) mod scrape;

/// A gateway with one route to this upstream.
fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&configuration(upstream))
}

fn configuration(upstream: &str) -> String {
    format!(
        "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
         admin: {{ bind: '127.0.0.1:0' }}\n\
         upstreams: {{ pool: {{ {upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path: /all/ }}, upstream: pool }}]\n"
    )
}

/// Waits until what was asked has been counted: that is done after the answer.
fn settled(gateway: &Gateway, requests: f64) -> Scrape {
    let counted = |scrape: &Scrape| {
        let counts = scrape.since(&nothing());
        let requests = counts
            .iter()
            .filter(|(series, _)| series.starts_with("edgeway_requests_total"));
        requests.map(|(_, count)| count).sum::<f64>()
    };
    eventually(PATIENCE, || counted(&Scrape::of(gateway)) >= requests);
    let scrape = Scrape::of(gateway);
    assert_eq!(counted(&scrape), requests);
    scrape
}

fn nothing() -> Scrape {
    Scrape::read("")
}

/// Asserts that these counts have grown by so much, and no others.
#[track_caller]
fn assert_moved(before: &Scrape, after: &Scrape, expected: &[(&str, f64)]) {
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(series, by)| ((*series).to_owned(), *by))
        .collect();
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(after.since(before), expected);
}

#[test]
fn a_proxied_request_moves_these_counts_and_no_others() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: ['{endpoint}']"));
    let before = Scrape::of(&gateway);
    let mut sent = 0;
    for _ in 0..2 {
        sent += gateway.get("/all/x").body.len();
    }
    endpoint.status(404);
    let post = gateway.request("POST", "/all/x").body("12345").send();
    sent += post.body.len();
    let after = settled(&gateway, 3.0);
    let (class_2, class_4) = (
        format!(
            "edgeway_endpoint_answers_total{{upstream=\"pool\",endpoint=\"{endpoint}\",code=\"2xx\"}}"
        ),
        format!(
            "edgeway_endpoint_answers_total{{upstream=\"pool\",endpoint=\"{endpoint}\",code=\"4xx\"}}"
        ),
    );
    let first_byte = format!(
        "edgeway_endpoint_first_byte_seconds_count{{upstream=\"pool\",endpoint=\"{endpoint}\"}}"
    );
    let expected = [
        (
            "edgeway_requests_total{route=\"all\",method=\"GET\",code=\"200\"}",
            2.0,
        ),
        (
            "edgeway_requests_total{route=\"all\",method=\"POST\",code=\"404\"}",
            1.0,
        ),
        ("edgeway_request_duration_seconds_count{route=\"all\"}", 3.0),
        ("edgeway_request_body_bytes_total{route=\"all\"}", 5.0),
        (
            "edgeway_response_body_bytes_total{route=\"all\"}",
            sent as f64,
        ),
        (
            "edgeway_upstream_duration_seconds_count{upstream=\"pool\"}",
            3.0,
        ),
        (
            "edgeway_upstream_first_byte_seconds_count{upstream=\"pool\"}",
            3.0,
        ),
        (&class_2, 2.0),
        (&class_4, 1.0),
        (&first_byte, 3.0),
        ("edgeway_connections_accepted_total{listener=\"http\"}", 3.0),
        (
            "edgeway_connections_spoken_total{listener=\"http\",protocol=\"http1\"}",
            3.0,
        ),
    ];
    assert_moved(&before, &after, &expected);
}

#[test]
fn what_no_route_takes_is_counted_too_and_strange_methods_together() {
    let gateway = gateway("endpoints: ['127.0.0.1:1']");
    let before = Scrape::of(&gateway);
    let mut connection = gateway.connect();
    for (method, target) in [("GET", "/"), ("BREW", "/"), ("STEEP", "/")] {
        assert_eq!(connection.request(method, target).send().status, 404);
    }
    let after = settled(&gateway, 3.0);
    let sent = after.get("edgeway_response_body_bytes_total{route=\"(no route)\"}");
    assert!(sent > 0.0);
    let expected = [
        (
            "edgeway_requests_total{route=\"(no route)\",method=\"GET\",code=\"404\"}",
            1.0,
        ),
        (
            "edgeway_requests_total{route=\"(no route)\",method=\"other\",code=\"404\"}",
            2.0,
        ),
        (
            "edgeway_request_duration_seconds_count{route=\"(no route)\"}",
            3.0,
        ),
        (
            "edgeway_response_body_bytes_total{route=\"(no route)\"}",
            sent,
        ),
        ("edgeway_connections_accepted_total{listener=\"http\"}", 1.0),
        (
            "edgeway_connections_spoken_total{listener=\"http\",protocol=\"http1\"}",
            1.0,
        ),
    ];
    assert_moved(&before, &after, &expected);
}

#[test]
fn requests_are_in_flight_until_they_have_ended_and_times_are_in_their_buckets() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: ['{endpoint}']"));
    let in_flight = "edgeway_requests_in_flight{route=\"all\"}";
    let active = format!("edgeway_endpoint_active{{upstream=\"pool\",endpoint=\"{endpoint}\"}}");
    endpoint.slow(Duration::from_millis(300));
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.get("/all/").status);
        eventually(PATIENCE, || Scrape::of(&gateway).get(in_flight) == 1.0);
        assert_eq!(Scrape::of(&gateway).get(&active), 1.0);
        asked.join().unwrap()
    });
    assert_eq!(asked, 200);
    let after = settled(&gateway, 1.0);
    assert_eq!((after.get(in_flight), after.get(&active)), (0.0, 0.0));
    for family in [
        "edgeway_request_duration_seconds",
        "edgeway_upstream_duration_seconds",
        "edgeway_upstream_first_byte_seconds",
    ] {
        let label = match family.starts_with("edgeway_request") {
            true => "route=\"all\"",
            false => "upstream=\"pool\"",
        };
        let le = |le: &str| after.get(&format!("{family}_bucket{{{label},le=\"{le}\"}}"));
        assert_eq!(
            (le("0.25"), le("60.0"), le("+Inf")),
            (0.0, 1.0, 1.0),
            "{family}"
        );
        let sum = after.get(&format!("{family}_sum{{{label}}}"));
        assert!(
            (0.3..PATIENCE.as_secs_f64()).contains(&sum),
            "{family}: {sum}"
        );
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_is_counted_as_one_without() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(Duration::from_secs(60));
    let gateway = gateway(&format!("endpoints: ['{endpoint}']"));
    let mut client = std::net::TcpStream::connect(gateway.address()).unwrap();
    client
        .write_all(b"GET /all/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    eventually(PATIENCE, || endpoint.in_flight() == 1);
    drop(client);
    let after = settled(&gateway, 1.0);
    let none = "edgeway_requests_total{route=\"all\",method=\"GET\",code=\"none\"}";
    assert_eq!(after.get(none), 1.0);
    eventually(PATIENCE, || {
        Scrape::of(&gateway).get("edgeway_requests_in_flight{route=\"all\"}") == 0.0
    });
}

#[test]
fn retries_and_what_has_failed_before_them_are_counted_where_it_was() {
    let (bad, good) = (Endpoint::start("bad"), Endpoint::start("good"));
    let gateway = gateway(&format!(
        "endpoints: ['{bad}', {{ address: '{good}', backup: true }}], max_fails: 5, fail_timeout: 60s, \
         retries: {{ tries: 2, on: [connect, reset, timeout, 503] }}"
    ));
    bad.breaks_next(1, Break::BeforeAnswer);
    assert_eq!(gateway.get("/all/").status, 200);
    bad.status_next(1, 503);
    assert_eq!(gateway.get("/all/").status, 200);
    let after = settled(&gateway, 2.0);
    let of = |name: &str, endpoint: &Endpoint, more: &str| {
        let series = format!("{name}{{upstream=\"pool\",endpoint=\"{endpoint}\"{more}}}");
        after.get(&series)
    };
    assert_eq!(
        after.get("edgeway_upstream_retries_total{upstream=\"pool\"}"),
        2.0
    );
    let failures = "edgeway_endpoint_failures_total";
    assert_eq!(of(failures, &bad, ",reason=\"reset\""), 1.0);
    assert_eq!(of(failures, &bad, ",reason=\"connect\""), 0.0);
    let answers = "edgeway_endpoint_answers_total";
    assert_eq!(of(answers, &bad, ",code=\"5xx\""), 1.0);
    assert_eq!(of(answers, &good, ",code=\"2xx\""), 2.0);
    let requests = "edgeway_requests_total{route=\"all\",method=\"GET\",code=\"200\"}";
    assert_eq!(after.get(requests), 2.0);
}

#[test]
fn an_endpoint_that_is_left_out_is_told_and_so_is_why_nobody_was_asked() {
    let mut endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: ['{endpoint}'], max_fails: 1, fail_timeout: 60s, ejection: {{ last_resort: false }}, retries: {{ tries: 1 }}"
    ));
    let up = format!("edgeway_endpoint_up{{upstream=\"pool\",endpoint=\"{endpoint}\"}}");
    assert_eq!(Scrape::of(&gateway).get(&up), 1.0);
    endpoint.down();
    assert_eq!(gateway.get("/all/").status, 502);
    assert_eq!(gateway.get("/all/").status, 503);
    let after = settled(&gateway, 2.0);
    let ejections =
        format!("edgeway_endpoint_ejections_total{{upstream=\"pool\",endpoint=\"{endpoint}\"}}");
    assert_eq!((after.get(&up), after.get(&ejections)), (0.0, 1.0));
    let status = |status: &str| {
        let labels = format!("upstream=\"pool\",status=\"{status}\"");
        after.get(&format!("edgeway_upstream_endpoints{{{labels}}}"))
    };
    assert_eq!((status("left_out"), status("up")), (1.0, 0.0));
    let refused = |reason: &str| {
        let labels = format!("upstream=\"pool\",reason=\"{reason}\"");
        after.get(&format!("edgeway_upstream_refusals_total{{{labels}}}"))
    };
    assert_eq!((refused("no_endpoint"), refused("queue_full")), (1.0, 0.0));
}

#[test]
fn a_breaker_is_told_with_what_it_has_refused() {
    let endpoint = Endpoint::start("a");
    endpoint.status(500);
    let gateway = gateway(&format!(
        "endpoints: ['{endpoint}'], breaker: {{ min_requests: 2, error_rate: 50%, open_for: 60s }}"
    ));
    let state = |scrape: &Scrape| {
        ["closed", "open", "half_open"].map(|state| {
            let labels = format!("upstream=\"pool\",state=\"{state}\"");
            scrape.get(&format!("edgeway_upstream_breaker_state{{{labels}}}"))
        })
    };
    assert_eq!(state(&Scrape::of(&gateway)), [1.0, 0.0, 0.0]);
    let statuses = [(); 4].map(|()| gateway.get("/all/").status);
    assert_eq!(statuses, [500, 500, 503, 503]);
    let after = settled(&gateway, 4.0);
    assert_eq!(state(&after), [0.0, 1.0, 0.0]);
    let opened = "edgeway_upstream_breaker_opened_total{upstream=\"pool\"}";
    let refused = "edgeway_upstream_refusals_total{upstream=\"pool\",reason=\"breaker_open\"}";
    assert_eq!((after.get(opened), after.get(refused)), (1.0, 2.0));
}

#[test]
fn who_waits_in_a_queue_is_seen_there() {
    let endpoint = Endpoint::start("a");
    endpoint.slow(Duration::from_millis(500));
    let gateway = gateway(&format!(
        "endpoints: ['{endpoint}'], max_connections: 1, queue: {{ size: 1, timeout: 30s }}"
    ));
    let length = "edgeway_upstream_queue_length{upstream=\"pool\"}";
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("/all/").status);
        eventually(PATIENCE, || endpoint.in_flight() == 1);
        let second = scope.spawn(|| gateway.get("/all/").status);
        eventually(PATIENCE, || Scrape::of(&gateway).get(length) == 1.0);
        assert_eq!(gateway.get("/all/").status, 503);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (200, 200));
    });
    let after = settled(&gateway, 3.0);
    assert_eq!(after.get(length), 0.0);
    assert_eq!(
        after.get("edgeway_upstream_queue_size{upstream=\"pool\"}"),
        1.0
    );
    let full = "edgeway_upstream_refusals_total{upstream=\"pool\",reason=\"queue_full\"}";
    assert_eq!(after.get(full), 1.0);
}

#[test]
fn checks_of_endpoints_are_counted() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!(
        "endpoints: ['{endpoint}'], health: {{ path: /healthz, interval: 50ms }}"
    ));
    let checks = |ok: &str| {
        let labels = format!("upstream=\"pool\",endpoint=\"{endpoint}\",ok=\"{ok}\"");
        Scrape::of(&gateway).get(&format!("edgeway_endpoint_checks_total{{{labels}}}"))
    };
    eventually(PATIENCE, || checks("true") >= 2.0);
    assert_eq!(checks("false"), 0.0);
}

#[test]
fn a_hedge_that_wins_is_counted_as_one() {
    let (slow, fast) = (Endpoint::start("slow"), Endpoint::start("fast"));
    slow.slow(Duration::from_secs(30));
    let gateway = gateway(&format!(
        "endpoints: [{{ address: '{slow}' }}, {{ address: '{fast}', backup: true }}], \
         retries: {{ tries: 2, hedge_after: 50ms }}"
    ));
    assert_eq!(gateway.get("/all/").status, 200);
    let after = settled(&gateway, 1.0);
    let of = |name: &str| {
        after.get(&format!(
            "edgeway_upstream_{name}_total{{upstream=\"pool\"}}"
        ))
    };
    assert_eq!((of("hedges"), of("hedges_won")), (1.0, 1.0));
}

#[test]
fn counts_go_on_over_a_reload_and_what_is_gone_is_told_no_more() {
    let endpoint = Endpoint::start("a");
    let text = configuration(&format!("endpoints: ['{endpoint}']"));
    let gateway = Gateway::start(&text);
    gateway.get("/all/");
    let before = settled(&gateway, 1.0);
    assert_eq!(before.get("edgeway_config_revision"), 1.0);
    assert!(gateway.reload(&format!("{text}# changed\n")));
    assert!(!gateway.reload("nonsense: true\n"));
    let after = settled(&gateway, 1.0);
    assert_eq!(after.get("edgeway_config_revision"), 2.0);
    assert_eq!(after.get("edgeway_config_last_reload_successful"), 0.0);
    let reloads = |result: &str| format!("edgeway_reloads_total{{result=\"{result}\"}}");
    let expected = [(&*reloads("ok"), 1.0), (&*reloads("refused"), 1.0)];
    assert_moved(&before, &after, &expected);
    let other = text
        .replace("pool", "others")
        .replace("name: all", "name: rest");
    assert!(gateway.reload(&other));
    let last = Scrape::of(&gateway);
    assert!(!last.has("\"pool\"") && !last.has("\"all\""), "{last:?}");
    assert_eq!(last.get("edgeway_config_last_reload_successful"), 1.0);
    gateway.get("/all/");
    eventually(PATIENCE, || {
        let series = "edgeway_requests_total{route=\"rest\",method=\"GET\",code=\"200\"}";
        Scrape::of(&gateway).has(series)
    });
}

#[test]
fn caches_are_told_by_what_requests_came_to() {
    let endpoint = Endpoint::start("a");
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        upstreams: {{ pool: {{ endpoints: ['{endpoint}'] }} }}
        routes: [{{ name: all, upstream: pool, cache: {{ ttl: 60s }} }}]
        "
    ));
    for _ in 0..3 {
        gateway.get("/a");
    }
    let after = settled(&gateway, 3.0);
    let outcome = |outcome: &str| {
        let labels = format!("cache=\"default\",outcome=\"{outcome}\"");
        after.get(&format!("edgeway_cache_requests_total{{{labels}}}"))
    };
    assert_eq!((outcome("hit"), outcome("miss")), (2.0, 1.0));
    assert_eq!(after.get("edgeway_cache_objects{cache=\"default\"}"), 1.0);
    let (bytes, limit) = (
        after.get("edgeway_cache_bytes{cache=\"default\"}"),
        after.get("edgeway_cache_limit_bytes{cache=\"default\"}"),
    );
    assert!(0.0 < bytes && bytes < limit, "{bytes} of {limit}");
    // What was fetched is a request of the upstream, what was stored is none.
    let fetched = "edgeway_upstream_duration_seconds_count{upstream=\"pool\"}";
    assert_eq!(after.get(fetched), 1.0);
}

#[test]
fn who_accepts_openmetrics_gets_it_with_the_same_counts() {
    let endpoint = Endpoint::start("a");
    let gateway = gateway(&format!("endpoints: ['{endpoint}']"));
    gateway.get("/all/");
    let plain = settled(&gateway, 1.0);
    let wanted = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let answer = scrape::ask(&gateway, wanted);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(answer.text().ends_with("\n# EOF\n"));
    let open = Scrape::read(answer.text());
    assert_moved(&plain, &open, &[]);
    for (family, kind) in open.types() {
        let total = family.ends_with("_total");
        assert!(!total, "{kind} {family}: the suffix is that of samples");
    }
}

#[test]
fn the_process_tells_what_it_takes() {
    let gateway = gateway("endpoints: ['127.0.0.1:1']");
    let before = Scrape::of(&gateway);
    let folder = format!("/proc/{}", gateway.pid());
    let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
    let threads = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))
        .unwrap();
    let threads: f64 = threads.trim().parse().unwrap();
    assert!((before.get("process_threads") - threads).abs() <= 2.0);
    let open = std::fs::read_dir(format!("{folder}/fd")).unwrap().count();
    assert!((before.get("process_open_fds") - open as f64).abs() <= 3.0);
    assert!(before.get("process_resident_memory_bytes") > 1e6);
    assert!(before.get("process_max_fds") >= before.get("process_open_fds"));
    assert!(before.get("process_start_time_seconds") > 1.6e9);
    for _ in 0..200 {
        gateway.get("/");
    }
    let cpu = "process_cpu_seconds_total";
    assert!(Scrape::of(&gateway).get(cpu) > before.get(cpu));
    let version = format!(
        "edgeway_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(before.get(&version), 1.0);
}

#[test]
fn requests_over_one_connection_of_http2_are_counted_each() {
    let endpoint = Endpoint::start("a");
    let text = configuration(&format!("endpoints: ['{endpoint}']"));
    let gateway = Gateway::start(&text.replace(
        "'127.0.0.1:0' } }\nadmin",
        "'127.0.0.1:0', http2: true } }\nadmin",
    ));
    let client = Http2::open(gateway.address());
    for _ in 0..5 {
        assert_eq!(client.get("/all/").status, 200);
    }
    let after = settled(&gateway, 5.0);
    let of = |name: &str| after.get(&format!("{name}{{listener=\"http\",protocol=\"http2\"}}"));
    assert_eq!(of("edgeway_connections_speaking"), 1.0);
    assert_eq!(of("edgeway_connections_spoken_total"), 1.0);
    drop(client);
    eventually(PATIENCE, || {
        let scrape = Scrape::of(&gateway);
        let series = "edgeway_connections_speaking{listener=\"http\",protocol=\"http2\"}";
        scrape.get(series) == 0.0 && scrape.get("edgeway_connections{listener=\"http\"}") == 0.0
    });
}

#[test]
fn a_scrape_counts_as_no_request_of_the_gateway() {
    let gateway = gateway("endpoints: ['127.0.0.1:1']");
    let before = Scrape::of(&gateway);
    for _ in 0..3 {
        Request::to(gateway.address_of("admin"), "GET", "/metrics").send();
    }
    assert_moved(&before, &Scrape::of(&gateway), &[]);
}

#[test]
fn connections_for_which_there_is_no_room_are_counted_by_the_limit() {
    let text = configuration("endpoints: ['127.0.0.1:1']");
    let gateway = Gateway::start(&format!("{text}connections: {{ per_client: 1 }}\n"));
    let mut first = gateway.connect();
    assert_eq!(first.request("GET", "/").send().status, 404);
    let refused = gateway.connect().request("GET", "/").attempt();
    assert!(refused.is_err(), "{refused:?}");
    let after = Scrape::of(&gateway);
    let of = |limit: &str| {
        let labels = format!("listener=\"http\",limit=\"{limit}\"");
        after.get(&format!("edgeway_connections_refused_total{{{labels}}}"))
    };
    assert_eq!(
        (of("connections.per_client"), of("connections.max")),
        (1.0, 0.0)
    );
    let accepted = "edgeway_connections_accepted_total{listener=\"http\"}";
    assert_eq!(after.get(accepted), 2.0);
    assert_eq!(after.get("edgeway_connections{listener=\"http\"}"), 1.0);
}

#[test]
fn spans_that_a_collector_has_taken_are_counted_and_lines_that_a_log_has_lost() {
    let collector = Endpoint::start("collector");
    let gateway = Gateway::start(&format!(
        "
        listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}
        admin: {{ bind: '127.0.0.1:0' }}
        filters:
          - trace: {{ sample: 100%, otlp: {{ url: 'http://{collector}' }} }}
          - access_log: {{ to: {{ file: access.log }} }}
        routes: [{{ respond: {{ text: hello }} }}]
        "
    ));
    for _ in 0..3 {
        gateway.get("/");
    }
    let spans = |what: &str| {
        let labels = format!("to=\"http://{collector}");
        let scrape = Scrape::of(&gateway);
        let name = format!("edgeway_trace_spans_{what}_total{{{labels}");
        scrape.sum_of(&name)
    };
    eventually(PATIENCE, || spans("exported") == Some(3.0));
    assert_eq!(spans("lost"), Some(0.0));
    let lines = Scrape::of(&gateway).sum_of("edgeway_access_log_lost_total{to=");
    assert_eq!(lines, Some(0.0));
}
