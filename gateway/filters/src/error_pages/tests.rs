//! What becomes of a response.

use edgeway_sdk::{exchange::Exchange, test};
use http::{request, response};

use super::*;

fn pages(json: &str) -> ErrorPages {
    test::build(json, build).unwrap()
}

fn wrong(json: &str) -> (Option<String>, String) {
    let error = test::build(json, build).unwrap_err();
    (error.key, error.message)
}

/// A response on its way up.
struct Case {
    request: request::Parts,
    head: response::Parts,
    exchange: Exchange,
    origin: Origin,
}

/// A reply without a body of its own.
fn reply(status: u16, target: &str, accept: &str) -> Case {
    let request = http::Request::get(target).header("accept", accept);
    let response = http::Response::builder().status(status);
    let mut exchange = Exchange::new(([192, 0, 2, 1], 1).into());
    exchange.set_id("id-1");
    exchange.content = Content::Standard(Some("Why <b>not</b>.".into()));
    Case {
        request: request.body(()).unwrap().into_parts().0,
        head: response.body(()).unwrap().into_parts().0,
        exchange,
        origin: Origin::Reply,
    }
}

impl Case {
    fn from(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self.exchange.content = Content::Given;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.head.headers.append(name, value.parse().unwrap());
        self
    }

    fn shown(&mut self, filter: &ErrorPages) -> Option<String> {
        let mut response = Response::new(
            &mut self.head,
            &self.request,
            &mut self.exchange,
            self.origin,
        );
        filter.response(&mut response).unwrap();
        let body = self.exchange.replacement.take()?;
        Some(String::from_utf8(body.to_vec()).unwrap())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

const ALL_FORMS: &str = r#"{"pages": [{"statuses": "all",
    "html": "<p title='{path}'>{status} {title} {detail} {query.q}</p>",
    "json": {"b": "{status}", "a": ["{title}", "{query.q}", 1, null, true, "{status}!"]},
    "text": "{detail} {query.q}"}]}"#;

#[test]
fn a_page_is_filled_with_values_that_can_not_become_a_part_of_it() {
    let filter = pages(ALL_FORMS);
    let target = "/a%3Cb%3E'?q=%22%3Cscript%3E%26";
    for (accept, kind, shown) in [
        (
            "text/html",
            "text/html; charset=utf-8",
            "<p title='/a%3Cb%3E&#39;'>404 Not Found Why &lt;b&gt;not&lt;/b&gt;. \
             &quot;&lt;script&gt;&amp;</p>",
        ),
        (
            "application/json",
            "application/json",
            r#"{"b":404,"a":["Not Found","\"<script>&",1,null,true,"404!"]}"#,
        ),
        (
            "text/plain",
            "text/plain; charset=utf-8",
            "Why <b>not</b>. \"<script>&",
        ),
    ] {
        let mut case = reply(404, target, accept);
        assert_eq!(case.shown(&filter).as_deref(), Some(shown));
        assert_eq!(case.value("content-type"), Some(kind));
        assert_eq!(case.value("x-content-type-options"), Some("nosniff"));
        assert_eq!(case.value("cache-control"), Some("no-store"));
        assert_eq!(case.value("vary"), Some("Accept"));
        assert_eq!(case.head.status, 404);
    }
}

#[test]
fn the_first_page_for_the_status_is_shown_and_none_for_what_is_no_error() {
    let filter = pages(
        r#"{"pages": [{"statuses": [404, "500-502"], "text": "one"}, {"statuses": "5xx", "text": "two"}]}"#,
    );
    for (status, shown) in [
        (404, Some("one")),
        (502, Some("one")),
        (503, Some("two")),
        (403, None),
        (200, None),
        (301, None),
    ] {
        assert_eq!(
            reply(status, "/", "text/plain").shown(&filter).as_deref(),
            shown,
            "{status}"
        );
    }
}

#[test]
fn who_wants_json_gets_a_problem_where_a_page_has_none() {
    let filter = pages(r#"{"pages": [{"statuses": "all", "html": "page"}]}"#);
    let mut case = reply(403, "/", "application/json");
    let problem: serde_json::Value = serde_json::from_str(&case.shown(&filter).unwrap()).unwrap();
    assert_eq!(
        problem,
        json!({ "type": "about:blank", "title": "Forbidden", "status": 403, "request_id": "id-1",
            "detail": "Why <b>not</b>." })
    );
    assert_eq!(case.value("content-type"), Some("application/problem+json"));
    assert_eq!(reply(403, "/", "*/*").shown(&filter).unwrap(), "page");
    assert_eq!(reply(403, "/", "image/png").shown(&filter).unwrap(), "page");
}

#[test]
fn only_what_nobody_has_written_is_replaced_unless_it_is_the_upstreams_and_wanted() {
    let own = pages(r#"{"pages": [{"statuses": "all", "text": "page"}]}"#);
    let both =
        pages(r#"{"pages": [{"statuses": "all", "text": "page"}], "of": ["replies", "upstream"]}"#);
    let upstream = pages(r#"{"pages": [{"statuses": "all", "text": "page"}], "of": ["upstream"]}"#);
    let bare = || reply(500, "/", "*/*");
    for (filter, shown) in [(&own, true), (&both, true), (&upstream, false)] {
        assert_eq!(bare().shown(filter).is_some(), shown);
        assert!(bare().from(Origin::Reply).shown(filter).is_none());
    }
    for origin in [Origin::Upstream, Origin::Cache] {
        for (filter, shown) in [(&own, false), (&both, true), (&upstream, true)] {
            assert_eq!(bare().from(origin).shown(filter).is_some(), shown);
        }
    }
}

#[test]
fn of_two_filters_the_first_to_see_the_response_shows_its_page() {
    let of = |text: &str| {
        pages(&format!(
            r#"{{"pages": [{{"statuses": "all", "text": "{text}"}}], "of": ["replies", "upstream"]}}"#
        ))
    };
    for origin in [Origin::Reply, Origin::Upstream] {
        let mut case = reply(500, "/", "*/*");
        case.origin = origin;
        assert_eq!(case.shown(&of("inner")).as_deref(), Some("inner"));
        assert_eq!(case.shown(&of("outer")), None);
    }
}

#[test]
fn headers_of_the_error_stay_and_those_of_its_body_go() {
    let filter = pages(
        r#"{"pages": [{"statuses": "all", "text": "{detail}page", "status": 200}], "of": ["upstream"]}"#,
    );
    let mut case = reply(503, "/", "*/*")
        .from(Origin::Upstream)
        .header("retry-after", "5")
        .header("www-authenticate", "Basic")
        .header("access-control-allow-origin", "*")
        .header("set-cookie", "a=b")
        .header("cache-control", "max-age=5")
        .header("vary", "Origin, accept")
        .header("content-encoding", "gzip")
        .header("etag", "\"a\"")
        .header("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(case.shown(&filter).as_deref(), Some("page"));
    let mut names: Vec<_> = case.head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = [
        "access-control-allow-origin",
        "cache-control",
        "content-type",
        "retry-after",
        "set-cookie",
        "vary",
        "www-authenticate",
        "x-content-type-options",
    ];
    assert_eq!(names, expected);
    assert_eq!(case.value("cache-control"), Some("no-store"));
    assert_eq!(case.head.status, 200);
}

#[test]
fn calls_of_grpc_are_left_alone() {
    let filter =
        pages(r#"{"pages": [{"statuses": "all", "text": "page"}], "of": ["replies", "upstream"]}"#);
    for kind in ["application/grpc", "application/grpc-web+proto"] {
        let mut case = reply(503, "/", "*/*");
        let value = HeaderValue::from_static(kind);
        case.request.headers.insert("content-type", value);
        assert_eq!(case.shown(&filter), None, "{kind}");
    }
    let mut case = reply(503, "/", "*/*").header("content-type", "application/grpc");
    assert_eq!(case.shown(&filter), None);
}

#[test]
fn what_would_have_no_effect_is_told() {
    for (json, key, says) in [
        (r#"{"pages": []}"#, "pages", "no page"),
        (
            r#"{"pages": [{"statuses": 404}]}"#,
            "pages.0",
            "nothing to show",
        ),
        (
            r#"{"pages": [{"statuses": "4xx", "text": "a"}, {"statuses": [404, 410], "text": "b"}]}"#,
            "pages.1.statuses",
            "never shown",
        ),
        (
            r#"{"pages": [{"statuses": 404, "text": "a", "status": 304}]}"#,
            "pages.0.status",
            "expected a status with a page",
        ),
        (
            r#"{"pages": [{"statuses": 404, "text": "a"}], "of": []}"#,
            "of",
            "no errors",
        ),
        (
            r#"{"pages": [{"statuses": 404, "file": "a.xml"}]}"#,
            "pages.0.file",
            "ends in `.html`",
        ),
        (
            r#"{"pages": [{"statuses": 404, "file": ["no-such.html"]}]}"#,
            "pages.0.file",
            "can't read",
        ),
    ] {
        let (found, message) = wrong(json);
        assert_eq!(found.as_deref(), Some(key), "{json}");
        assert!(message.contains(says), "{message}");
    }
    for json in [
        r#"{"pages": [{"statuses": 404, "html": "{titel}"}]}"#,
        r#"{"pages": [{"statuses": 404, "json": {"a": ["{titel}"]}}]}"#,
        r#"{"pages": [{"statuses": 404, "json": {"a": 1, "a": 2}}]}"#,
    ] {
        assert!(test::build(json, build).is_err(), "{json}");
    }
}

#[test]
fn files_give_the_form_that_their_names_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("a.html"), "<style>p{margin:0}</style>{title}").unwrap();
    std::fs::write(path("a.json"), r#"{"code": "{status}"}"#).unwrap();
    std::fs::write(path("bad.json"), "{\n\"a\": }").unwrap();
    std::fs::write(path("bad.html"), "\n\n{titel}").unwrap();
    let of_files = |files: &[&str]| {
        let files: Vec<_> = files.iter().map(|name| path(name)).collect();
        let config = json!({ "pages": [{ "statuses": 404, "file": files, "text": "plain" }] });
        test::build(&config.to_string(), build)
    };
    let filter = of_files(&["a.html", "a.json"]).unwrap();
    for (accept, shown) in [
        ("text/html", "<style>p{margin:0}</style>Not Found"),
        ("application/json", r#"{"code":404}"#),
        ("text/plain", "plain"),
    ] {
        assert_eq!(
            reply(404, "/", accept).shown(&filter).as_deref(),
            Some(shown)
        );
    }
    for (files, says) in [
        (&["a.html", "a.html"][..], "has that form already"),
        (&["bad.json"], "line 2 of"),
        (&["bad.html"], "line 3 of"),
    ] {
        let message = of_files(files).unwrap_err().message;
        assert!(message.contains(says), "{message}");
    }
}
