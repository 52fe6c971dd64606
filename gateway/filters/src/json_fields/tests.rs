use std::sync::Arc;

use bytes::Bytes;
use edgeway_sdk::{
    body::Edit,
    test::{self, Outcome, Trial},
};
use http::Method;
use serde_json::{Value, json};

use super::*;

fn filter(json: &str) -> JsonFields {
    test::build(json, build).unwrap()
}

/// A filter that does this to requests.
fn of_requests(rules: &str) -> JsonFields {
    filter(&format!(r#"{{"request": {rules}}}"#))
}

fn post(body: &str) -> Trial {
    let trial = Trial::new(Method::POST, "/a").header("Content-Type", "application/json");
    let Value::Object(claims) = json!({"tenant": "ac\"me"}) else {
        unreachable!()
    };
    let trial = trial.identity(Identity::with_claims("ann", Arc::new(claims)));
    trial
        .header("Content-Length", &body.len().to_string())
        .body(body.to_owned())
}

fn passed(edits: &mut [Edit], pieces: &[&str]) -> Result<String> {
    let mut out = Vec::new();
    let last = pieces.len() - 1;
    for (number, piece) in pieces.iter().enumerate() {
        let mut piece = Bytes::copy_from_slice(piece.as_bytes());
        for edit in edits.iter_mut() {
            piece = edit.edit.edit(piece, number == last)?;
        }
        out.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(out).unwrap())
}

/// What the upstream gets.
async fn sent(filter: &JsonFields, body: &str) -> String {
    let mut outcome = post(body).run(filter).await;
    assert!(outcome.passed(), "{body}: {:?}", outcome.reply);
    passed(&mut outcome.exchange.request_edits, &[body]).unwrap()
}

async fn answered(filter: &JsonFields, content_type: &str) -> Outcome {
    Trial::get("/a")
        .answer_header("Content-Type", content_type)
        .run(filter)
        .await
}

#[tokio::test]
async fn fields_are_removed_renamed_set_and_added() {
    let filter = of_requests(
        r#"{"remove": ["password", "user.ssn"], "rename": {"userName": "user_name", "user.mail": "e-mail"},
            "set": {"tenant": "{claim.tenant}", "user.via": "edge", "nobody": "{claim.nobody}"},
            "add": {"version": 2, "draft": false, "note": null, "user.lang": "en"}}"#,
    );
    assert_eq!(
        sent(&filter, r#"{"userName": "ann", "password": "x", "user": {"ssn": 1, "mail": "a@b", "lang": "de"}}"#).await,
        r#"{"user_name": "ann", "user": { "e-mail": "a@b", "lang": "de","via":"edge"},"tenant":"ac\"me","version":2,"draft":false,"note":null}"#
    );
    // What clients say of themselves in these fields does not come through, not even where nothing comes instead.
    assert_eq!(
        sent(
            &filter,
            r#"{"tenant":"evil","nobody":"evil","tenant":1,"version":1,"draft":true,"note":0}"#
        )
        .await,
        r#"{"version":1,"draft":true,"note":0,"tenant":"ac\"me"}"#
    );
}

#[tokio::test]
async fn a_path_leads_through_arrays_and_all_fields() {
    for (rules, body, expected) in [
        (
            r#"{"remove": ["items[*].cost"]}"#,
            r#"{"items":[{"cost":1,"a":2},[{"cost":1}],3,{"cost":4}]}"#,
            r#"{"items":[{"a":2},[{"cost":1}],3,{}]}"#,
        ),
        (
            r#"{"remove": ["[*].id"]}"#,
            r#"[{"id":1},{"x":{"id":1}}]"#,
            r#"[{},{"x":{"id":1}}]"#,
        ),
        (
            r#"{"remove": ["*.id"]}"#,
            r#"{"a":{"id":1},"b":[{"id":1}],"id":2}"#,
            r#"{"a":{},"b":[{"id":1}],"id":2}"#,
        ),
        (
            r#"{"remove": ["a[*]", "b.*"]}"#,
            r#"{"a":[1, 2 ],"b":{"c":1}}"#,
            r#"{"a":[ ],"b":{}}"#,
        ),
        (r#"{"remove": ["*"]}"#, r#"[1,{}]"#, "[]"),
        (
            r#"{"remove": ["['a.b']['c\"d']"]}"#,
            r#"{"a.b":{"c\"d":1},"a":{"b":1}}"#,
            r#"{"a.b":{},"a":{"b":1}}"#,
        ),
        (
            r#"{"add": {"a[*].x": 1}}"#,
            r#"{"a":[{}, {"x":2}, 3]}"#,
            r#"{"a":[{"x":1}, {"x":2}, 3]}"#,
        ),
        (
            r#"{"set": {"*.x": 1, "a.x": 2}}"#,
            r#"{"a":{"x":0},"b":{}}"#,
            r#"{"a":{"x":2},"b":{"x":1}}"#,
        ),
        // What is not there is not made.
        (
            r#"{"set": {"a.b": 1}, "remove": ["c.d"], "rename": {"e.f": "g"}}"#,
            r#"{"a":1,"c":[],"e":null}"#,
            r#"{"a":1,"c":[],"e":null}"#,
        ),
        (r#"{"set": {"a": 1}}"#, r#""text""#, r#""text""#),
    ] {
        assert_eq!(
            sent(&of_requests(rules), body).await,
            expected,
            "{rules} {body}"
        );
    }
}

#[tokio::test]
async fn a_name_is_found_however_and_how_often_it_is_written() {
    let filter = of_requests(r#"{"remove": ["password", "é😀"]}"#);
    for body in [
        r#"{"password":1,"a":0,"password":2}"#,
        r#"{"pass\u0077ord":1,"a":0}"#,
        r#"{"\u0070\u0061\u0073\u0073\u0077\u006f\u0072\u0064":1,"a":0,"\u00e9\ud83d\ude00":2}"#,
        r#"{"é\uD83D\uDE00":1,"a":0,"é😀":1}"#,
    ] {
        assert_eq!(sent(&filter, body).await, r#"{"a":0}"#, "{body}");
    }
    // Others stay, also such as are no letters.
    for body in [
        r#"{"Password":1}"#,
        r#"{"password ":1}"#,
        r#"{"\ud800password":1,"pass\\word":"\udfff"}"#,
        r#"{"":0}"#,
    ] {
        assert_eq!(sent(&filter, body).await, body);
    }
}

#[tokio::test]
async fn a_renamed_field_takes_the_place_of_others_of_its_new_name() {
    for (rules, body, expected) in [
        (
            r#"{"a": "b"}"#,
            r#"{"b":0,"a":1,"c":2,"b":3}"#,
            r#"{"b":1,"c":2}"#,
        ),
        (r#"{"a": "b"}"#, r#"{"a":1,"a":2}"#, r#"{"b":2}"#),
        (r#"{"a": "b"}"#, r#"{"b":0}"#, r#"{"b":0}"#),
        (
            r#"{"a": "b", "b": "a"}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"b":1,"a":2}"#,
        ),
        (
            r#"{"a": "b", "a.x": "y"}"#,
            r#"{"a":{"x":1}}"#,
            r#"{"b":{"y":1}}"#,
        ),
        (r#"{"a": "\"\n"}"#, r#"{"a":1}"#, r#"{"\"\n":1}"#),
    ] {
        let filter = of_requests(&format!(r#"{{"rename": {rules}}}"#));
        assert_eq!(sent(&filter, body).await, expected, "{rules} {body}");
    }
    let filter = of_requests(r#"{"rename": {"a": "b"}, "set": {"b": 9}}"#);
    assert_eq!(sent(&filter, r#"{"a":1,"b":2}"#).await, r#"{"b":9}"#);
}

#[tokio::test]
async fn bytes_that_no_rule_speaks_of_stay_as_they_are() {
    let filter =
        of_requests(r#"{"remove": ["x"], "add": {"list.a": 1}, "rename": {"deep.x": "y"}}"#);
    for body in [
        "{\r\n\t\"b\" : 123456789012345678901234567890.10e+400 , \"a\":-0.0,\n \"t\":\"\\u0041\\/\" }",
        "\u{feff}{\"a\": [1, 2]}",
        " [ ] ",
        r#"{"list" : [ {"x" : 1} , 2 ],"deep":{ }}"#,
        "null",
        "-1.5E-3",
        r#"{"a":{"b":{"x":1}}}"#,
    ] {
        assert_eq!(sent(&filter, body).await, body);
    }
    assert_eq!(
        sent(&filter, "{ \"a\": 1.0 ,\n  \"x\" : [2] ,\n  \"c\": 3\n}\n").await,
        "{ \"a\": 1.0 ,\n  \"c\": 3\n}\n"
    );
}

#[tokio::test]
async fn what_comes_out_is_what_a_parser_would_make_of_it() {
    let filter = of_requests(
        r#"{"remove": ["a", "b[*].a"], "rename": {"c": "d"}, "set": {"e": 1}, "add": {"d": 2}}"#,
    );
    // Pseudo-random, and the same at every run.
    let mut state = 11_u64;
    let mut draw = move |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    fn made(draw: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
        match draw(if depth > 3 { 4 } else { 7 }) {
            0 => Value::Null,
            1 => json!(draw(100)),
            2 => json!("t\"é\\"),
            3 => json!(true),
            4 => (0..draw(4)).map(|_| made(draw, depth + 1)).collect(),
            _ => {
                let name = ["a", "b", "c", "d", "e", "f g"];
                (0..draw(6))
                    .map(|_| (name[draw(6)].to_owned(), made(draw, depth + 1)))
                    .collect()
            }
        }
    }
    for _ in 0..2_000 {
        let mut document = made(&mut draw, 0);
        let body = match draw(2) {
            0 => document.to_string(),
            _ => serde_json::to_string_pretty(&document).unwrap(),
        };
        if let Value::Object(fields) = &mut document {
            fields.remove("a");
            let items: Vec<_> = match fields.get_mut("b") {
                Some(Value::Array(items)) => items.iter_mut().collect(),
                Some(Value::Object(items)) => items.values_mut().collect(),
                _ => Vec::new(),
            };
            for item in items {
                item.as_object_mut().map(|item| item.remove("a"));
            }
            if let Some(value) = fields.remove("c") {
                fields.insert("d".to_owned(), value);
            }
            fields.insert("e".to_owned(), json!(1));
            fields.entry("d").or_insert(json!(2));
        }
        let out = sent(&filter, &body).await;
        assert_eq!(
            serde_json::from_str::<Value>(&out).unwrap(),
            document,
            "{body}: {out}"
        );
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_or_passes() {
    let strict = of_requests(r#"{"remove": ["a"]}"#);
    let lenient = filter(r#"{"request": {"remove": ["a"]}, "unreadable": "pass"}"#);
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let endless = ["[".repeat(100_000), "{\"a\":".repeat(100_000), deep(129)];
    for body in NO_JSON
        .into_iter()
        .chain(endless.iter().map(String::as_str))
    {
        let shown = body.chars().take(20).collect::<String>();
        assert!(serde_json::from_str::<Value>(body).is_err(), "{shown}");
        let outcome = post(body).run(&strict).await;
        let length = body.len();
        if length <= WHOLE_BODY {
            assert_eq!(outcome.status(), 400, "{shown}");
        } else {
            let mut edits = outcome.exchange.request_edits;
            assert_eq!(
                passed(&mut edits, &[body]).unwrap_err().code(),
                400,
                "{shown}"
            );
        }
        let mut outcome = post(body).run(&lenient).await;
        assert_eq!(
            passed(&mut outcome.exchange.request_edits, &[body]).unwrap(),
            body,
            "{shown}"
        );
    }
    assert_eq!(sent(&strict, &deep(127)).await, deep(127));
    // Not UTF-8.
    let latin = Trial::new(Method::POST, "/").header("Content-Type", "application/json");
    let latin = latin.header("Content-Length", "3").body(&b"\"\xe9\""[..]);
    assert_eq!(latin.run(&strict).await.status(), 400);
}

#[tokio::test]
async fn a_length_that_is_known_is_told_and_one_that_is_not_is_waited_for() {
    let filter = of_requests(r#"{"set": {"b": 1}}"#);
    let outcome = post(r#"{"a":2}"#).run(&filter).await;
    assert_eq!(outcome.exchange.request_edits[0].edit.length(), Some(13));
    let chunked = Trial::new(Method::POST, "/")
        .header("Content-Type", "application/json")
        .body("{");
    let mut edits = chunked.run(&filter).await.exchange.request_edits;
    assert_eq!(edits[0].edit.length(), None);
    assert_eq!(
        passed(&mut edits, &["{", "\"a\"", "", ":2", "}", ""]).unwrap(),
        r#"{"a":2,"b":1}"#
    );
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(WHOLE_BODY));
    let mut edits = post(&large).run(&filter).await.exchange.request_edits;
    assert_eq!(edits[0].edit.length(), None);
    assert!(
        passed(&mut edits, &[&large])
            .unwrap()
            .ends_with("x\",\"b\":1}")
    );
    // None at all is none.
    let mut edits = Trial::new(Method::POST, "/")
        .header("Content-Type", "application/json")
        .body("x");
    edits = edits.header("Transfer-Encoding", "chunked");
    let mut edits = edits.run(&filter).await.exchange.request_edits;
    assert_eq!(passed(&mut edits, &["", ""]).unwrap(), "");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_or_passes() {
    let config = r#"{"request": {"remove": ["a"]}, "response": {"remove": ["a"]}, "max_size": "10B", "unreadable": "#;
    let strict = filter(&format!("{config}\"refuse\"}}"));
    let lenient = filter(&format!("{config}\"pass\"}}"));
    let body = r#"{"a": 5678}"#;
    assert_eq!(post(body).run(&strict).await.status(), 413);
    assert!(
        post(body)
            .run(&lenient)
            .await
            .exchange
            .request_edits
            .is_empty()
    );
    let chunked = || {
        Trial::new(Method::POST, "/")
            .header("Content-Type", "application/json")
            .body(body)
    };
    let mut edits = chunked().run(&strict).await.exchange.request_edits;
    assert_eq!(passed(&mut edits, &[body, ""]).unwrap_err().code(), 413);
    // If that is only reported, what was held goes on.
    assert_eq!(edits[0].edit.held(), body);
    let mut edits = chunked().run(&lenient).await.exchange.request_edits;
    assert_eq!(
        passed(&mut edits, &["{\"a\": ", "5678", "}", ""]).unwrap(),
        body
    );
    for (filter, status) in [(&strict, Some(502)), (&lenient, None)] {
        let told = Trial::get("/").answer_header("Content-Type", "application/json");
        let outcome = told.answer_header("Content-Length", "11").run(filter).await;
        assert_eq!(outcome.failure.map(|error| error.code().as_u16()), status);
        assert!(outcome.exchange.response_edits.is_empty());
        let mut outcome = answered(filter, "application/json").await;
        let passed = passed(&mut outcome.exchange.response_edits, &[body, ""]);
        assert_eq!(passed.map_err(|error| error.code().as_u16()).err(), status);
    }
}

#[tokio::test]
async fn only_json_is_looked_at_and_only_what_is_not_coded() {
    let strict = filter(
        r#"{"request": {"remove": ["a"]}, "response": {"remove": ["a"]}, "types": ["text/plain", "x/*"]}"#,
    );
    let lenient = filter(
        r#"{"request": {"remove": ["a"]}, "response": {"remove": ["a"]}, "unreadable": "pass"}"#,
    );
    for (content_type, is_json) in [
        ("application/json; charset=utf-8", true),
        ("APPLICATION/Problem+JSON", true),
        ("text/plain;x", true),
        ("x/y", true),
        ("application/jsonx", false),
        ("application/json-seq", false),
        ("text/html", false),
        ("json", false),
    ] {
        let trial = || {
            Trial::new(Method::POST, "/")
                .header("Content-Type", content_type)
                .body("{}")
        };
        let plain = trial().run(&strict).await;
        assert_eq!(
            plain.exchange.request_edits.len(),
            usize::from(is_json),
            "{content_type}"
        );
        let coded = trial()
            .header("Content-Encoding", "gzip")
            .run(&strict)
            .await;
        assert_eq!(coded.status() == 415, is_json, "{content_type}");
        let answer = answered(&strict, content_type).await;
        assert_eq!(
            answer.exchange.response_edits.len(),
            usize::from(is_json),
            "{content_type}"
        );
        let coded = || {
            Trial::get("/")
                .answer_header("Content-Type", content_type)
                .answer_header("Content-Encoding", "br")
        };
        let failure = coded().run(&strict).await.failure;
        assert_eq!(
            failure.is_some_and(|error| error.code() == 502),
            is_json,
            "{content_type}"
        );
        assert!(coded().run(&lenient).await.failure.is_none());
    }
}

#[tokio::test]
async fn an_endpoint_is_asked_for_what_can_be_read_only_if_responses_are_changed() {
    let of_responses = filter(r#"{"response": {"remove": ["a"]}}"#);
    for (filter, goes) in [
        (of_responses, true),
        (of_requests(r#"{"remove": ["a"]}"#), false),
    ] {
        let trial = Trial::get("/")
            .header("Accept-Encoding", "gzip")
            .header("Range", "bytes=0-1");
        let outcome = trial.run(&filter).await;
        assert_eq!(outcome.sent_header("accept-encoding").is_none(), goes);
        assert_eq!(outcome.sent_header("range").is_none(), goes);
    }
}

#[test]
fn rules_that_change_nothing_are_refused() {
    for (json, expected) in [
        ("{}", ": there is nothing to change"),
        (
            r#"{"request": {"remove": []}, "response": {}}"#,
            ": there is nothing to change",
        ),
        (
            r#"{"request": {"remove": ["a", "a"]}}"#,
            "request.remove.1: `a` stands here twice",
        ),
        (
            r#"{"response": {"remove": ["a"], "rename": {"a": "b"}}}"#,
            "response.rename.a: `a` is removed",
        ),
        (
            r#"{"request": {"rename": {"a": "a"}}}"#,
            "request.rename.a: `a` has this name already",
        ),
        (
            r#"{"request": {"rename": {"a[*]": "b"}}}"#,
            "request.rename.a[*]: `a[*]` is many fields",
        ),
        (
            r#"{"request": {"set": {"a.*": 1}}}"#,
            "request.set.a[*]: `a[*]` is no field",
        ),
        (
            r#"{"request": {"set": {"a": 1}, "add": {"a": 2}}}"#,
            "request.add.a: `a` is set",
        ),
        (
            r#"{"request": {"set": {"a": [1]}}}"#,
            ": invalid type: sequence",
        ),
        (
            r#"{"request": {"set": {"a": "{hots}"}}}"#,
            ": unknown value `{hots}`",
        ),
        (
            r#"{"request": {"remove": ["a[0]"]}}"#,
            ": in brackets stands `*`",
        ),
        (
            r#"{"request": {"remove": ["a"]}, "max_size": "0B"}"#,
            "max_size: expected a size",
        ),
    ] {
        let error = test::build(json, build).err().unwrap();
        let said = format!("{}: {}", error.key.unwrap_or_default(), error.message);
        assert!(said.starts_with(expected), "{json}: {said}");
    }
}

#[test]
fn whatever_comes_is_taken_for_json_if_and_only_if_a_parser_takes_it() {
    let written =
        serde_json::from_str(r#"{"remove": ["a", "b[*]"], "rename": {"c": "d"}, "add": {"e": 1}}"#);
    let rules = Rules::new(written.unwrap(), "request").unwrap().unwrap();
    let values = vec![Some("1".to_owned())];
    let whole =
        br#"{"a": [1, -2.5e+3, "x\u00e9\n"], "b": [{"c": null}, true], "c": {"": 0}, "e":false}"#;
    // Pseudo-random, and the same at every run.
    let mut state = 5_u64;
    let mut draw = move |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    const SIGNS: &[u8] = b"{}[]\",:\\ue0-+.9 \x01\xc3ntf";
    let mut taken = 0;
    for _ in 0..30_000 {
        let mut text = whole.to_vec();
        for _ in 0..=draw(3) {
            let (at, sign) = (draw(text.len()), SIGNS[draw(SIGNS.len())]);
            match draw(3) {
                0 => text[at] = sign,
                1 => text.insert(at, sign),
                _ => drop(text.remove(at)),
            }
        }
        let is_json = std::str::from_utf8(&text)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        let shown = String::from_utf8_lossy(&text);
        match rewrite(&text, &rules, &values) {
            Ok(out) => {
                assert!(is_json, "{shown}");
                serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect(&shown);
                taken += 1;
            }
            Err(wrong) => assert!(!is_json, "{shown}: {wrong}"),
        }
    }
    assert!(taken > 1_000, "{taken}");
}

/// What no parser takes.
const NO_JSON: [&str; 33] = [
    " ",
    "{",
    "[",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{a:1}",
    "{'a':1}",
    "{\"b\" 1}",
    "{\"a\":1}}",
    "{} {}",
    "nul",
    "truefalse",
    "01",
    "+1",
    "1.",
    ".5",
    "1e",
    "-",
    "NaN",
    "\"",
    "\"\\x\"",
    "\"\\u12g4\"",
    "\"\\u12",
    "\"\t\"",
    "/**/1",
    "[1]//",
    "{\"a\":1}\0",
];
