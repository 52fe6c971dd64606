//! What the `compress` filter costs, and what it saves: `cargo bench -p edgeway-filters --bench compress`.
//!
//! Prints for a page of 100 KiB, one of 4 KiB and a page in pieces how many times smaller they get, how fast, and how
//! long one takes, hooks and all. Files that are named after `--` are measured as well. Ends with an error if a
//! body is not compressed.

use std::{
    env, fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgeway_sdk::{Build, Exchange, Filter, Origin, Request, Resources, Response};
use serde_json::{Value, json};

/// Each figure is the best of so many rounds: the others were disturbed.
const ROUNDS: usize = 5;
/// So many bytes are compressed in each.
const BYTES: usize = 8_000_000;

#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    println!("{:34} {:>7} {:>9} {:>10}", "", "times", "MB/s", "us");
    for (name, body, pieces) in bodies() {
        for (coding, levels) in [("gzip", 1..=9), ("br", 0..=6), ("zstd", 1..=9)] {
            for level in levels {
                let levels = Value::from_iter([(coding, level)]);
                let filter = filter(json!({ "codings": coding, "levels": levels }));
                let page = Page {
                    body: &body,
                    pieces,
                    coding,
                };
                let (time, length) = runtime.block_on(best(&*filter, &page));
                let micros = time.as_secs_f64() * 1e6;
                println!(
                    "{:34} {:>7.2} {:>9.1} {:>10.1}",
                    format!("{name}, {coding} {level}"),
                    body.len() as f64 / length as f64,
                    body.len() as f64 / micros,
                    micros,
                );
            }
        }
    }
}

/// A body on its way.
struct Page<'a> {
    body: &'a Bytes,
    /// Of this size, if its length is not known; else it comes in those that sockets are read in.
    pieces: Option<usize>,
    coding: &'a str,
}

fn bodies() -> Vec<(String, Bytes, Option<usize>)> {
    let page = Bytes::from(include_str!("../src/waf/engine.rs").repeat(5));
    let large = page.slice(..page.len().min(100 * 1024));
    let mut bodies = vec![
        ("100 KiB".to_owned(), large.clone(), None),
        ("4 KiB".to_owned(), large.slice(..4096), None),
        ("in pieces of 1 KiB".to_owned(), large, Some(1024)),
    ];
    for name in env::args().skip(1).filter(|name| !name.starts_with("--")) {
        let body = fs::read(&name).unwrap_or_else(|error| panic!("can't read {name}: {error}"));
        bodies.push((name, body.into(), None));
    }
    bodies
}

fn filter(config: Value) -> Arc<dyn Filter> {
    let filters = edgeway_filters::standard();
    let entry = filters.get("compress").expect("the filter is in the list");
    let config = entry.read(&mut <dyn erased_serde::Deserializer<'_>>::erase(config));
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new("."));
    let filter = entry.build(config.expect("the configuration is right"), &mut stage);
    filter.expect("the configuration is right")
}

/// The time that one response takes, and its length.
async fn best(filter: &dyn Filter, page: &Page<'_>) -> (Duration, usize) {
    let times = (BYTES / page.body.len()).max(3);
    let (mut best, mut length) = (Duration::MAX, 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..times {
            length = respond(filter, page).await;
        }
        best = best.min(start.elapsed() / u32::try_from(times).unwrap_or(u32::MAX));
    }
    (best, length)
}

async fn respond(filter: &dyn Filter, page: &Page<'_>) -> usize {
    let request = http::Request::get("/").header("accept-encoding", page.coding);
    let (mut request, ()) = request.body(()).expect("a request").into_parts();
    let response = http::Response::builder().header("content-type", "text/html");
    let response = match page.pieces {
        None => response.header("content-length", page.body.len()),
        Some(_) => response,
    };
    let (mut response, ()) = response.body(()).expect("a response").into_parts();
    let mut exchange = Exchange::new(([127, 0, 0, 1], 1).into());
    let mut view = Request::new(&mut request, &mut exchange);
    let asked = filter.request(&mut view).await;
    asked.expect("the filter lets it pass");
    let mut view = Response::new(&mut response, &request, &mut exchange, Origin::Upstream);
    filter.fetched(&mut view).expect("the filter lets it pass");
    let edit = exchange.response_edits.first_mut();
    let edit = &mut edit.expect("the body is compressed").edit;
    let (mut rest, mut length) = (page.body.clone(), 0);
    let size = page.pieces.unwrap_or(64 * 1024);
    while !rest.is_empty() {
        let piece = rest.split_to(size.min(rest.len()));
        let coded = edit.edit(piece, rest.is_empty());
        length += coded.expect("anything can be compressed").len();
    }
    length
}
