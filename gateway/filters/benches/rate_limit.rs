//! What the `rate_limit` filter costs a request: `cargo bench -p edgeway-filters --bench rate_limit`.
//!
//! Prints the time of the filter's hooks alone, for one client and for many, with and without the headers
//! that tell clients what is left, and for requests that are refused. Ends with an error if a request is not
//! treated as it should be.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use edgeway_sdk::{Build, Exchange, Filter, Flow, Origin, Request, Resources, Response};
use serde_json::{Value, json};

/// Each figure is the best of so many rounds: the others were disturbed.
const ROUNDS: usize = 7;
const TIMES: u32 = 200_000;

#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    // So much that nobody is refused, and so little that one request is all.
    let (wide, narrow) = ("1000000000/s", "1/400d");
    let by_header = json!({ "rate": wide, "key": "{header.x-client}", "headers": false });
    let two =
        json!({ "limits": [{ "rate": wide }, { "rate": wide, "key": "all" }], "headers": false });
    let cases = [
        ("one client", json!({ "rate": wide, "headers": false }), 1),
        ("one client, told", json!({ "rate": wide }), 1),
        (
            "1 000 clients",
            json!({ "rate": wide, "headers": false }),
            1_000,
        ),
        (
            "1 000 000 clients",
            json!({ "rate": wide, "headers": false, "memory": "64MiB" }),
            1_000_000,
        ),
        ("by a header", by_header, 1_000),
        ("two limits", two, 1_000),
        ("refused", json!({ "rate": narrow, "headers": false }), 1),
    ];
    println!("{:24} {:>10}", "", "ns");
    for (name, config, clients) in cases {
        let passes = name != "refused";
        let time = runtime.block_on(best(&*filter(config), clients, passes));
        println!("{name:24} {:>10}", time.as_nanos());
    }
}

fn filter(config: Value) -> Arc<dyn Filter> {
    let filters = edgeway_filters::standard();
    let entry = filters
        .get("rate_limit")
        .expect("the filter is in the list");
    let config = entry.read(&mut <dyn erased_serde::Deserializer<'_>>::erase(config));
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new("."));
    let filter = entry.build(config.expect("the configuration is right"), &mut stage);
    filter.expect("the configuration is right")
}

/// The time of one request, in the best round.
async fn best(filter: &dyn Filter, clients: u32, passes: bool) -> Duration {
    // The first of each client takes memory, and passes whatever comes later.
    round(filter, clients, clients, None).await;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round(filter, clients, TIMES, Some(passes)).await);
    }
    best
}

async fn round(filter: &dyn Filter, clients: u32, times: u32, passes: Option<bool>) -> Duration {
    let request = http::Request::get("/orders")
        .header("host", "api.example.com")
        .header("user-agent", "bench")
        .header("x-client", "client-0000001")
        .body(());
    let (mut head, ()) = request.expect("a proper request").into_parts();
    let start = Instant::now();
    for number in 0..times {
        let mut exchange = Exchange::new(([192, 0, 2, 1], 40_000).into());
        // In an order that caches can't foresee.
        let client = number.wrapping_mul(2_654_435_761) % clients;
        exchange.client = IpAddr::V4(Ipv4Addr::from_bits(client));
        let flow = filter
            .request(&mut Request::new(&mut head, &mut exchange))
            .await;
        let flow = flow.expect("the filter never fails");
        if let Some(passes) = passes {
            assert_eq!(
                matches!(flow, Flow::Continue),
                passes,
                "the outcome is right"
            );
        }
        let (mut answer, ()) = http::Response::new(()).into_parts();
        let mut response = Response::new(&mut answer, &head, &mut exchange, Origin::Upstream);
        filter
            .response(&mut response)
            .expect("the filter never fails");
    }
    start.elapsed() / times
}
