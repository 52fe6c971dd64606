use bytes::Bytes;
use edgeway_sdk::{
    body::Edit,
    test::{self, Outcome, Trial},
};

use super::*;

fn substitute(json: &str) -> Substitute {
    test::build(json, build).unwrap()
}

/// A list of replacements.
fn replacing(list: &str) -> Substitute {
    substitute(&format!(r#"{{"replace": {list}}}"#))
}

async fn asked(filter: &Substitute, content_type: &str) -> Outcome {
    Trial::get("/a?x=%3C1%3E")
        .answer_header("Content-Type", content_type)
        .run(filter)
        .await
}

fn edits(outcome: &mut Outcome) -> &mut Vec<Edit> {
    &mut outcome.exchange.response_edits
}

/// What becomes of a body that comes in these pieces.
async fn passed<'p>(filter: &Substitute, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut outcome = asked(filter, "text/html").await;
    let edit = &mut edits(&mut outcome)[0].edit;
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(edit.edit(Bytes::copy_from_slice(piece), false).unwrap());
    }
    out.extend(edit.edit(Bytes::new(), true).unwrap());
    out
}

async fn becomes(filter: &Substitute, body: &str) -> String {
    String::from_utf8(passed(filter, [body.as_bytes()]).await).unwrap()
}

/// The end of a filter that can't be built: the key, and what is said.
fn refused(json: &str) -> String {
    let error = test::build(json, build).err().unwrap();
    format!("{}: {}", error.key.unwrap_or_default(), error.message)
}

#[tokio::test]
async fn the_first_of_several_is_made_and_is_not_searched_again() {
    let filter = replacing(
        r#"[{"from": "ab", "to": "b"}, {"from": "abc", "to": "never"}, {"from": "b", "to": "[{0}]"},
            {"pattern": "x(y+)(z)?", "to": "{2}{1}{{"}]"#,
    );
    assert_eq!(
        becomes(&filter, "abc-b-xyyz-xy-éx").await,
        "bc-[b]-zyy{-y{-éx"
    );
    assert_eq!(becomes(&filter, "").await, "");
}

#[tokio::test]
async fn each_is_made_once_if_that_is_wanted() {
    let list = r#"[{"from": "a", "to": "1"}, {"pattern": "b.", "to": "2"}]"#;
    let filter = substitute(&format!(r#"{{"replace": {list}, "once": true}}"#));
    assert_eq!(becomes(&filter, "aabcbcaa").await, "1a2bcaa");
    let pieces = ["a", "a", "b", "c", "b", "c", "a", "a"].map(str::as_bytes);
    assert_eq!(passed(&filter, pieces).await, b"1a2bcaa");
}

#[tokio::test]
async fn what_is_found_does_not_depend_on_the_pieces() {
    let filters = [
        replacing(
            r#"[{"from": "aab", "to": "<1>"}, {"from": "ba", "to": "<2>"}, {"from": "abbab", "to": "<3>"}]"#,
        ),
        replacing(r#"[{"pattern": "a(b{1,3})a", "to": "<{1}>"}, {"from": "bb", "to": "<2>"}]"#),
        replacing(
            r#"[{"pattern": "\\bab\\b|b$|^a|(?m:^b)", "to": "<1>"}, {"from": "ab ", "to": "<2>"}]"#,
        ),
        substitute(r#"{"replace": [{"pattern": "a+b", "to": "<{0}>"}], "max_match": "4B"}"#),
        substitute(
            r#"{"replace": [{"pattern": "a[^\\n]*?b", "to": "<1>"}], "max_match": "5B", "once": true}"#,
        ),
    ];
    // Pseudo-random, and the same at every run.
    let mut state = 7_u64;
    let mut draw = |most: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    for round in 0..400 {
        let letters = (0..draw(90)).map(|_| *b"aaabbb \n".get(draw(8) as usize).unwrap());
        let body: Vec<u8> = letters.collect();
        let most = 1 + draw(12);
        for (number, filter) in filters.iter().enumerate() {
            let whole = passed(filter, [body.as_slice()]).await;
            let mut pieces = Vec::new();
            let mut rest = body.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(draw(most + 1) as usize));
                pieces.push(piece);
                rest = after;
            }
            let cut = passed(filter, pieces.iter().copied()).await;
            assert_eq!(
                String::from_utf8(cut),
                String::from_utf8(whole),
                "round {round}, filter {number}: {:?} in {pieces:?}",
                String::from_utf8_lossy(&body)
            );
        }
    }
}

#[tokio::test]
async fn what_is_found_is_what_a_plain_search_finds() {
    let filter = replacing(
        r#"[{"from": "aab", "to": "1"}, {"from": "ba", "to": "2"}, {"pattern": "[a-b]b\\b", "to": "3"}]"#,
    );
    let plain = regex::Regex::new(r"(aab)|(ba)|([a-b]b\b)").unwrap();
    for number in 0..3_usize.pow(8) {
        let letters = (0..8).map(|place| ["a", "b", " "][number / 3_usize.pow(place) % 3]);
        let body: String = letters.collect();
        let expected = plain.replace_all(&body, |found: &regex::Captures<'_>| {
            let number = (1..=3).find(|number| found.get(*number).is_some()).unwrap();
            number.to_string()
        });
        let single = body.as_bytes().chunks(1);
        assert_eq!(
            passed(&filter, single).await,
            expected.as_bytes(),
            "{body:?}"
        );
    }
}

#[tokio::test]
async fn a_pattern_without_a_longest_text_finds_what_is_as_long_as_its_bound() {
    let filter =
        substitute(r#"{"replace": [{"pattern": "a[0-9]+b", "to": "-"}], "max_match": "20B"}"#);
    for before in 0..50 {
        let found = format!("{}a{}b.", "x".repeat(before), "1".repeat(18));
        let expected = format!("{}-.", "x".repeat(before));
        assert_eq!(
            passed(&filter, found.as_bytes().chunks(3)).await,
            expected.as_bytes()
        );
        let longer = format!(
            "{}a{}b{}",
            "x".repeat(before),
            "1".repeat(40),
            ".".repeat(80)
        );
        assert_eq!(
            passed(&filter, longer.as_bytes().chunks(3)).await,
            longer.as_bytes()
        );
    }
    // Of a bounded length, it need not be told.
    let filter = replacing(r#"[{"pattern": "a[0-9]{2000}b", "to": "-"}]"#);
    let body = format!("xa{}b.", "1".repeat(2000));
    assert_eq!(passed(&filter, body.as_bytes().chunks(7)).await, b"x-.");
}

#[tokio::test]
async fn of_a_plain_text_nothing_is_held_back_but_its_beginning() {
    let filter =
        replacing(r#"[{"from": "secret", "to": "******"}, {"from": "sesame", "to": "open"}]"#);
    let mut outcome = asked(&filter, "text/html").await;
    let edit = &mut edits(&mut outcome)[0].edit;
    for (piece, expected) in [
        ("a page</p>", "a page</p>"),
        ("<p>se", "<p>"),
        ("ses", "se"),
        ("ame s", "open "),
        ("", ""),
    ] {
        assert_eq!(
            edit.edit(Bytes::from(piece), false).unwrap(),
            expected,
            "{piece}"
        );
    }
    assert_eq!(edit.edit(Bytes::new(), true).unwrap(), "s");
}

#[tokio::test]
async fn what_is_held_back_is_bounded() {
    for list in [
        r#"[{"pattern": "a.{1,30}b", "to": "-"}]"#,
        r#"[{"from": "aaaaaaaab", "to": "-"}]"#,
    ] {
        let filter = replacing(list);
        let mut outcome = asked(&filter, "text/html").await;
        let edit = &mut edits(&mut outcome)[0].edit;
        let mut held = 0_usize;
        for _ in 0..2_000 {
            held += 7;
            held -= edit
                .edit(Bytes::from_static(b"aaaaaaa"), false)
                .unwrap()
                .len();
            // A letter may have four bytes.
            assert!(held <= 2 * (30 * 4 + 2) + 4 + 7, "{held}");
        }
    }
}

#[tokio::test]
async fn values_of_the_request_are_escaped_as_the_type_needs_it() {
    let filter = substitute(
        r#"{"types": ["text/*", "application/json"],
            "replace": [{"from": "1", "to": "<i>{query.x}</i>"}, {"from": "2", "to": "{host}{query.x}", "raw": true}]}"#,
    );
    for (content_type, expected) in [
        (
            "text/html; charset=utf-8",
            "<i>&lt;1&gt;</i> test.example<1>",
        ),
        ("application/json", r"<i>\u003c1\u003e</i> test.example<1>"),
        ("text/plain", "<i><1></i> test.example<1>"),
    ] {
        let mut outcome = asked(&filter, content_type).await;
        let edit = &mut edits(&mut outcome)[0].edit;
        assert_eq!(
            edit.edit(Bytes::from_static(b"1 2"), true).unwrap(),
            expected
        );
    }
}

#[tokio::test]
async fn bodies_of_other_types_and_codings_and_wide_letters_stay_as_they_are() {
    let filter = replacing(r#"[{"from": "a", "to": "b"}]"#);
    for (content_type, coding, is_edited) in [
        ("text/html", "", true),
        ("Text/HTML;charset=iso-8859-1", "identity", true),
        ("text/html", "gzip", false),
        ("text/html; charset=UTF-16LE", "", false),
        ("text/html; a=b; Charset=\"utf-16\"", "", false),
        ("text/css", "", false),
        ("application/xhtml+xml", "", false),
        ("", "", false),
    ] {
        let trial = Trial::get("/").answer_header("Content-Type", content_type);
        let trial = trial.answer_header("Content-Digest", "sha-256=:YQ==:");
        let mut outcome = trial
            .answer_header("Content-Encoding", coding)
            .run(&filter)
            .await;
        assert_eq!(
            edits(&mut outcome).len(),
            usize::from(is_edited),
            "{content_type} {coding}"
        );
        assert_eq!(outcome.header("content-digest").is_none(), is_edited);
    }
    // What was edited was given a weak tag, and so must the answer that it has not changed.
    let mut outcome = Trial::get("/")
        .answer(StatusCode::NOT_MODIFIED)
        .run(&filter)
        .await;
    assert_eq!(edits(&mut outcome).len(), 1);
}

#[tokio::test]
async fn the_endpoint_is_asked_for_a_whole_body_that_can_be_read() {
    let filter = replacing(r#"[{"from": "a", "to": "b"}]"#);
    for (path, has_range) in [("/page", false), ("/a.html", false), ("/film.mp4", true)] {
        let trial = Trial::get(path)
            .header("Accept-Encoding", "br")
            .header("Range", "bytes=0-1");
        let outcome = trial.header("If-Range", "\"a\"").run(&filter).await;
        assert_eq!(outcome.sent_header("accept-encoding"), None);
        assert_eq!(outcome.sent_header("range").is_some(), has_range, "{path}");
        assert_eq!(
            outcome.sent_header("if-range").is_some(),
            has_range,
            "{path}"
        );
    }
}

#[test]
fn what_can_not_be_replaced_is_refused() {
    for (json, expected) in MISTAKES {
        let said = refused(json);
        assert!(said.starts_with(expected), "{json}: {said}");
    }
}

/// What is written, and what is said of it.
const MISTAKES: [(&str, &str); 16] = [
    (r#"{"replace": []}"#, "replace: there is nothing to replace"),
    (
        r#"{"replace": [{"to": "a"}]}"#,
        "replace.0: expected `from` or `pattern`",
    ),
    (
        r#"{"replace": [{"from": "a", "pattern": "a", "to": "a"}]}"#,
        "replace.0.pattern: both",
    ),
    (
        r#"{"replace": [{"from": "", "to": "a"}]}"#,
        "replace.0.from: an empty text is everywhere",
    ),
    (
        r#"{"replace": [{"pattern": "a*", "to": "a"}]}"#,
        "replace.0.pattern: `a*` fits the empty",
    ),
    (
        r#"{"replace": [{"pattern": "\\b", "to": "a"}]}"#,
        "replace.0.pattern: `\\b` fits the empty",
    ),
    (
        r#"{"replace": [{"pattern": "(", "to": "a"}]}"#,
        "replace.0.pattern: `(` is not a valid regex: unclosed",
    ),
    (
        r#"{"replace": [{"pattern": "[a&&b]", "to": "a"}]}"#,
        "replace.0.pattern: `[a&&b]` fits no text",
    ),
    (
        r#"{"replace": [{"pattern": "a{70000}", "to": "a"}]}"#,
        "replace.0.pattern: a text of 70000 bytes",
    ),
    (
        r#"{"replace": [{"from": "a", "to": "a"}, {"pattern": "(a)", "to": "{2}"}]}"#,
        "replace.1.to: the pattern has no group 2",
    ),
    (
        r#"{"replace": [{"from": "a", "to": "{1}"}]}"#,
        "replace.0.to: `from` has no groups",
    ),
    (
        r#"{"replace": [{"from": "a", "to": "b", "raw": false}]}"#,
        "replace.0.raw: `raw` has no effect",
    ),
    (
        r#"{"replace": [{"from": "a", "to": "b"}], "max_match": "1KiB"}"#,
        "max_match: `max_match` has no effect: there",
    ),
    (
        r#"{"replace": [{"pattern": "a.", "to": "b"}], "max_match": "1KiB"}"#,
        "max_match: `max_match` has no effect: the longest text that fits has 5",
    ),
    (
        r#"{"replace": [{"pattern": "a+", "to": "b"}], "max_match": "1MiB"}"#,
        "max_match: expected a size",
    ),
    (
        r#"{"replace": [{"from": "a", "to": "{hots}"}]}"#,
        ": unknown value `{hots}`; did you mean `{host}`",
    ),
];
