//! What is compressed, in which way, and what is said of it.

use edgeway_sdk::test::{self, Outcome, Trial};

use super::{encoder::tests::decoded, *};

fn filter(json: &str) -> Compress {
    test::build(json, build).unwrap()
}

/// A page that may be compressed, to a client that takes this.
fn page(accepts: &str) -> Trial {
    Trial::get("/")
        .header("accept-encoding", accepts)
        .answer_header("content-type", "text/html")
}

async fn coding(trial: Trial, json: &str) -> Option<String> {
    let outcome = trial.run(&filter(json)).await;
    outcome.header("content-encoding").map(str::to_owned)
}

fn edits(outcome: &Outcome) -> usize {
    outcome.exchange.response_edits.len()
}

#[tokio::test]
async fn the_client_chooses_and_our_order_decides() {
    for (accepts, json, chosen) in [
        ("gzip, deflate, br, zstd", "{}", Some("zstd")),
        (
            "gzip, deflate, br, zstd",
            r#"{"codings": ["br", "gzip"]}"#,
            Some("br"),
        ),
        ("gzip, br;q=0.5", "{}", Some("gzip")),
        ("x-gzip", "{}", Some("gzip")),
        ("br", r#"{"codings": "gzip"}"#, None),
        ("*", "{}", Some("zstd")),
        ("identity", "{}", None),
        ("identity;q=0, deflate", "{}", None),
    ] {
        let outcome = page(accepts).run(&filter(json)).await;
        assert_eq!(outcome.header("content-encoding"), chosen, "{accepts}");
        let passed_on = outcome.sent_header("accept-encoding");
        assert_eq!(passed_on, Some(chosen.unwrap_or("identity")), "{accepts}");
        assert_eq!(outcome.header("vary"), Some("Accept-Encoding"), "{accepts}");
        assert_eq!(edits(&outcome), usize::from(chosen.is_some()), "{accepts}");
    }
}

#[tokio::test]
async fn what_says_nothing_of_codings_gets_none() {
    let trial = Trial::get("/").answer_header("content-type", "text/html");
    let outcome = trial.run(&filter("{}")).await;
    assert_eq!(outcome.header("content-encoding"), None);
    assert_eq!(outcome.sent_header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn types_that_shrink_are_compressed_and_others_are_not() {
    for (content_type, json, so) in [
        ("text/html; charset=utf-8", "{}", true),
        ("TEXT/CSS", "{}", true),
        ("application/json", "{}", true),
        ("application/problem+json", "{}", true),
        ("application/vnd.api+JSON", "{}", true),
        ("image/svg+xml", "{}", true),
        ("application/wasm", "{}", true),
        ("text/event-stream", "{}", false),
        (
            "Text/Event-Stream; charset=utf-8",
            r#"{"types": "text/*"}"#,
            false,
        ),
        ("application/grpc", "{}", false),
        ("application/grpc-web+json", "{}", false),
        ("application/grpc", r#"{"types": "application/*"}"#, false),
        ("image/png", "{}", false),
        ("application/zip", "{}", false),
        ("font/woff2", "{}", false),
        ("json", "{}", false),
        ("", "{}", false),
        ("image/png", r#"{"types": ["text/html", "image/*"]}"#, true),
        ("text/css", r#"{"types": "text/html"}"#, false),
    ] {
        let trial = Trial::get("/").header("accept-encoding", "gzip");
        let trial = trial.answer_header("content-type", content_type);
        let outcome = trial.run(&filter(json)).await;
        let is_coded = outcome.header("content-encoding").is_some();
        assert_eq!(is_coded, so, "{content_type} {json}");
        assert_eq!(
            outcome.header("vary").is_some(),
            so,
            "{content_type} {json}"
        );
    }
}

#[tokio::test]
async fn what_must_stay_as_it_is_does() {
    for (name, value) in [
        ("content-range", "bytes 0-1/2"),
        ("content-digest", "sha-256=:x:"),
        ("repr-digest", "sha-256=:x:"),
        ("digest", "sha-256=x"),
        ("content-md5", "x"),
        ("cache-control", "max-age=1, No-Transform"),
    ] {
        let trial = page("gzip").answer_header(name, value);
        assert_eq!(coding(trial, "{}").await, None, "{name}");
    }
    let trial = page("gzip").answer_header("cache-control", "max-age=1");
    assert!(coding(trial, "{}").await.is_some());
    let asked = page("gzip").header("cache-control", "no-transform");
    assert_eq!(coding(asked, "{}").await, None);
    for (status, so) in [
        (101, false),
        (200, true),
        (204, false),
        (205, false),
        (206, false),
        (304, false),
        (404, true),
        (503, true),
    ] {
        let trial = page("gzip").answer(StatusCode::from_u16(status).unwrap());
        assert_eq!(coding(trial, "{}").await.is_some(), so, "{status}");
    }
}

#[tokio::test]
async fn what_the_endpoint_has_coded_stays_and_varies() {
    let trial = page("br").answer_header("content-encoding", "br");
    let outcome = trial.run(&filter("{}")).await;
    assert_eq!(outcome.header("content-encoding"), Some("br"));
    assert_eq!(outcome.header("vary"), Some("Accept-Encoding"));
    assert_eq!(edits(&outcome), 0);
}

#[tokio::test]
async fn a_body_that_is_known_to_be_small_stays() {
    for (length, json, so) in [
        ("1023", "{}", false),
        ("1024", "{}", true),
        ("99", r#"{"min_size": "100B"}"#, false),
        ("100", r#"{"min_size": "100B"}"#, true),
    ] {
        let trial = page("gzip").answer_header("content-length", length);
        assert_eq!(coding(trial, json).await.is_some(), so, "{length} {json}");
    }
}

#[tokio::test]
async fn vary_is_said_once_and_beside_other_names() {
    for (vary, lines) in [
        ("Cookie", &["Cookie", "Accept-Encoding"][..]),
        ("Cookie, accept-encoding", &["Cookie, accept-encoding"]),
        ("*", &["*"]),
    ] {
        let outcome = page("gzip")
            .answer_header("vary", vary)
            .run(&filter("{}"))
            .await;
        let told = outcome.headers().get_all("vary").iter();
        assert_eq!(told.collect::<Vec<_>>(), lines, "{vary}");
    }
}

#[tokio::test]
async fn a_304_is_about_what_the_client_has() {
    let not_modified = |asked: &str, vary: &str| {
        let trial = page("gzip")
            .header("if-none-match", asked)
            .answer_header("etag", "\"a\"");
        trial
            .answer_header("vary", vary)
            .answer(StatusCode::NOT_MODIFIED)
    };
    for (asked, tag) in [
        ("W/\"a\"", "W/\"a\""),
        ("\"b\", W/\"a\"", "W/\"a\""),
        ("\"a\"", "\"a\""),
        ("W/\"ab\"", "\"a\""),
        ("*", "\"a\""),
    ] {
        let outcome = not_modified(asked, "Cookie").run(&filter("{}")).await;
        assert_eq!(outcome.header("etag"), Some(tag), "{asked}");
        let vary: Vec<_> = outcome.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["Cookie", "Accept-Encoding"]);
    }
}

#[tokio::test]
async fn what_another_site_asks_for_with_cookies_is_not_compressed() {
    let asked = |site: &str, dest: &str, cookie: bool| {
        let trial = page("gzip")
            .header("sec-fetch-site", site)
            .header("sec-fetch-dest", dest);
        if cookie {
            trial.header("cookie", "sid=1")
        } else {
            trial
        }
    };
    for (site, dest, cookie, so) in [
        ("cross-site", "image", true, false),
        ("cross-site", "iframe", true, false),
        ("cross-site", "document", true, true),
        ("cross-site", "image", false, true),
        ("same-site", "image", true, true),
        ("same-origin", "empty", true, true),
    ] {
        let coded = coding(asked(site, dest, cookie), "{}").await;
        assert_eq!(coded.is_some(), so, "{site} {dest} {cookie}");
    }
    let asked = asked("cross-site", "empty", true);
    assert!(coding(asked, r#"{"cross_site": true}"#).await.is_some());
}

#[tokio::test]
async fn beyond_its_memory_bodies_stay_as_they_are_until_one_has_ended() {
    let filter = filter(r#"{"memory": "16MiB", "codings": "br"}"#);
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(page("br").run(&filter).await);
    }
    let coded: Vec<_> = open.iter().map(edits).collect();
    assert_eq!(coded, [1, 1, 1, 1, 0]);
    assert_eq!(open[4].header("vary"), Some("Accept-Encoding"));
    let first = &mut open[0].exchange.response_edits[0];
    first.edit.edit(Bytes::from_static(b"text"), true).unwrap();
    assert_eq!(edits(&page("br").run(&filter).await), 1);
    drop(open);
    assert_eq!(filter.memory.taken.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_page_in_pieces_leaves_piece_by_piece_if_its_length_is_not_known() {
    let trial = page("gzip").answer_header("content-length", "5000");
    for (trial, leaves) in [(page("gzip"), true), (trial, false)] {
        let mut outcome = trial.run(&filter("{}")).await;
        let edit = &mut outcome.exchange.response_edits[0].edit;
        let mut coded = edit
            .edit(Bytes::from_static(b"first"), false)
            .unwrap()
            .to_vec();
        // The head of gzip has 10 bytes.
        assert_eq!(coded.len() > 10, leaves);
        assert!(edit.edit(Bytes::new(), false).unwrap().is_empty());
        coded.extend(edit.edit(Bytes::from_static(b", second"), false).unwrap());
        coded.extend(edit.edit(Bytes::new(), true).unwrap());
        assert_eq!(decoded(Coding::Gzip, &coded), b"first, second");
    }
}

#[tokio::test]
async fn a_second_filter_of_this_kind_chooses_anew_from_what_the_client_has_said() {
    let (first, second) = (filter("{}"), filter(r#"{"codings": "gzip"}"#));
    let mut exchange = edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into());
    let request = http::Request::get("/")
        .header("accept-encoding", "zstd, gzip")
        .body(());
    let (mut head, ()) = request.unwrap().into_parts();
    let chosen = |head: &http::request::Parts| head.headers["accept-encoding"].clone();
    first
        .request(&mut Request::new(&mut head, &mut exchange))
        .await
        .unwrap();
    assert_eq!(chosen(&head), "zstd");
    second
        .request(&mut Request::new(&mut head, &mut exchange))
        .await
        .unwrap();
    assert_eq!(chosen(&head), "gzip");
    // The first has another one of its own, under which no cache would look for the response.
    let response = http::Response::builder().header("content-type", "text/css");
    let (mut answer, ()) = response.body(()).unwrap().into_parts();
    let mut view = Response::new(&mut answer, &head, &mut exchange, Origin::Upstream);
    first.fetched(&mut view).unwrap();
    assert_eq!(view.header("content-encoding"), Some("gzip"));
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (json, key) in [
        (r#"{"levels": {"gzip": 0}}"#, "levels.gzip"),
        (r#"{"levels": {"br": 7}}"#, "levels.br"),
        (r#"{"levels": {"zstd": 10}}"#, "levels.zstd"),
        (
            r#"{"codings": ["br"], "levels": {"zstd": 1}}"#,
            "levels.zstd",
        ),
        (r#"{"codings": ["br", "gzip", "br"]}"#, "codings.2"),
        (r#"{"memory": "15MiB"}"#, "memory"),
    ] {
        let error = test::build(json, build).err().unwrap();
        assert_eq!(error.key.as_deref(), Some(key), "{json}");
    }
    for json in [
        r#"{"codings": []}"#,
        r#"{"codings": ["deflate"]}"#,
        r#"{"types": "*/*"}"#,
    ] {
        assert!(test::build(json, build).is_err(), "{json}");
    }
    assert!(!filter("{}").refuses());
}
