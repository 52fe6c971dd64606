//! What the `waf` filter costs a request: `cargo bench -p edgeway-filters --bench waf`.
//!
//! Prints the time of the filter's hook alone, of a typical request of a browser and of others, and the time for a
//! body of the worst kinds. Ends with an error if a request is not treated as it should be, or a typical one takes
//! longer than it may.

use std::{
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgeway_sdk::{Build, Exchange, Filter, Flow, Request, Resources};
use http::request::Parts;
use serde_json::json;

/// What a typical request may take.
const MOST: Duration = Duration::from_micros(15);
/// What a body of 128 KiB may take, of the worst kind.
const MOST_BODY: Duration = Duration::from_millis(50);
/// Each figure is the best of so many rounds: the others were disturbed.
const ROUNDS: usize = 9;

#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    let start = Instant::now();
    let filter = filter();
    println!(
        "{:36} {:>10} ms",
        "rules compiled",
        start.elapsed().as_millis()
    );
    let mut good = true;
    for (name, head, passes) in heads() {
        let time = runtime.block_on(best(&*filter, head, passes));
        println!("{name:36} {:>10} ns", time.as_nanos());
        good &= !name.starts_with("typical") || time <= MOST;
    }
    for (name, content_type, body) in bodies() {
        let time = runtime.block_on(best_body(&*filter, content_type, &body));
        println!("{name:36} {:>10} us", time.as_micros());
        good &= time <= MOST_BODY;
    }
    if good {
        return ExitCode::SUCCESS;
    }
    println!("too slow: at most {MOST:?} for a typical request, and {MOST_BODY:?} for a body");
    ExitCode::FAILURE
}

fn filter() -> Arc<dyn Filter> {
    let filters = edgeway_filters::standard();
    let entry = filters.get("waf").expect("the filter is in the list");
    let config = entry.read(&mut <dyn erased_serde::Deserializer<'_>>::erase(json!({})));
    let resources = Resources::default();
    let mut stage = Build::new(&resources, Path::new("."));
    let filter = entry.build(config.expect("all of it can be left out"), &mut stage);
    filter.expect("all of it can be left out")
}

const TYPICAL: &str = "/shop/products/trail-shoes-38?category=shoes&page=2&q=red+trail+shoes";
const ESCAPED: &str =
    "/caf%C3%A9/menu?q=l%27%C3%A9t%C3%A9+%26+plage&next=https%3A%2F%2Fexample.com%2Fa%3Fb%3Dc&id=7";

fn heads() -> [(&'static str, Parts, bool); 4] {
    let browser = |target: &str| head("GET", target, BROWSER);
    [
        ("typical GET of a browser", browser(TYPICAL), true),
        ("GET with escapes and quotes", browser(ESCAPED), true),
        (
            "GET of a program",
            head(
                "GET",
                "/api/items/17?fields=id,name",
                &[("user-agent", "curl/8.5.0")],
            ),
            true,
        ),
        (
            "attack",
            browser("/items?id=1%27%20union%20select%20password%20from%20users--"),
            false,
        ),
    ]
}

const BROWSER: &[(&str, &str)] = &[
    ("host", "shop.example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ),
    ("accept-language", "en-US,en;q=0.9,de;q=0.8"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    (
        "referer",
        "https://shop.example.com/shop/products?category=shoes&page=1",
    ),
    (
        "sec-ch-ua",
        "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
    ),
    ("sec-ch-ua-platform", "\"Windows\""),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("upgrade-insecure-requests", "1"),
    (
        "cookie",
        "_ga=GA1.2.1836492741.1729583921; session=Zx8b2Jm0vYt4nq1KcR7w; theme=dark",
    ),
];

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let request = http::Request::builder().method(method).uri(target);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(()).expect("a proper request").into_parts().0
}

async fn best(filter: &dyn Filter, mut head: Parts, passes: bool) -> Duration {
    let times = 2_000;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut exchange = Exchange::new(([192, 0, 2, 1], 40_000).into());
        let mut request = Request::new(&mut head, &mut exchange);
        let start = Instant::now();
        for _ in 0..times {
            let flow = filter
                .request(&mut request)
                .await
                .expect("the filter never fails");
            assert_eq!(
                matches!(flow, Flow::Continue),
                passes,
                "the outcome is right"
            );
        }
        best = best.min(start.elapsed() / times);
    }
    best
}

/// Bodies as applications send them, and as somebody would to keep us busy.
fn bodies() -> Vec<(String, &'static str, String)> {
    const FORM: &str = "application/x-www-form-urlencoded";
    const TEXT: &str = "text/plain";
    let item =
        json!({ "id": 17, "name": "Trail shoes", "price": 89.5, "note": "It's great & cheap" });
    let order = json!({ "items": vec![item; 10], "address": { "street": "12 St. John's Rd.", "city": "Cork" } });
    let texts = json!(vec!["it's a 'text'"; 7_000]);
    let mut bodies = vec![
        ("JSON of 1 KiB".to_owned(), "application/json", order.to_string()),
        ("form of 6 fields".to_owned(), FORM, "name=O%27Brien&mail=a%40example.com&city=Cork&zip=123&ok=on&text=Hello+there%2C+it%27s+me".to_owned()),
        ("128 KiB of short texts".to_owned(), "application/json", texts.to_string()),
    ];
    for piece in [
        "'",
        "(",
        "||",
        "<a ",
        "' or ",
        "(select ",
        "/*",
        "/*!",
        "%25",
        "&#",
        "{{",
        "${",
        "../",
        "\\u",
        "select a from b; ",
        "x = 'y' ",
        "'like'",
        "%41' or ",
    ] {
        bodies.push((
            format!("128 KiB of `{piece}`"),
            TEXT,
            piece.repeat((128 << 10) / piece.len()),
        ));
    }
    // The same each time, of what the rules look for.
    let signs = "'\"()<>=;-# /*abcor1%&\\${}[]|`,.".as_bytes();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mixed = (0..128 << 10).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(signs[state as usize % signs.len()])
    });
    bodies.push(("128 KiB of signs".to_owned(), TEXT, mixed.collect()));
    bodies
}

async fn best_body(filter: &dyn Filter, content_type: &str, body: &str) -> Duration {
    let mut head = head(
        "POST",
        "/items",
        &[("content-type", content_type), ("content-length", "1")],
    );
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut exchange = Exchange::new(([192, 0, 2, 1], 40_000).into());
        let flow = filter
            .request(&mut Request::new(&mut head, &mut exchange))
            .await;
        assert!(matches!(flow, Ok(Flow::Continue)), "the head is harmless");
        let edit = &mut exchange
            .request_edits
            .first_mut()
            .expect("a body is looked at")
            .edit;
        let start = Instant::now();
        // Whether it is refused is not the question here.
        drop(edit.edit(Bytes::copy_from_slice(body.as_bytes()), true));
        best = best.min(start.elapsed());
    }
    best
}
