//! The body of a refusal or a failure: problem details (RFC 9457), or a page for browsers.

use bytes::Bytes;
use edgeway_sdk::{Exchange, Reply};
use http::{HeaderValue, header::ACCEPT};
use pingora::http::RequestHeader;
use serde::Serialize;

/// Content type and body. They tell the status, what the filter wants the client to know, and the id
/// by which the operator finds the rest: nothing of the inside.
pub(super) fn body(
    reply: &Reply,
    request: &RequestHeader,
    exchange: &Exchange,
) -> (HeaderValue, Bytes) {
    let status = reply.status();
    let title = status.canonical_reason().unwrap_or("Error");
    if wants_page(request) {
        let page = page(status.as_u16(), title, reply.client_detail(), exchange.id());
        return (
            HeaderValue::from_static("text/html; charset=utf-8"),
            page.into(),
        );
    }
    let problem = Problem {
        kind: "about:blank",
        title,
        status: status.as_u16(),
        detail: reply.client_detail(),
        request_id: exchange.id(),
    };
    let body = serde_json::to_vec(&problem).expect("texts and a number are JSON");
    (
        HeaderValue::from_static("application/problem+json"),
        body.into(),
    )
}

/// The members in the order in which people read them.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    request_id: &'a str,
}

/// Whether the client is a browser: it names HTML, and names it before any JSON.
pub(in crate::proxy) fn wants_page(request: &RequestHeader) -> bool {
    let Some(accept) = request
        .headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
    else {
        return false;
    };
    match (accept.find("text/html"), accept.find("json")) {
        (Some(html), Some(json)) => html < json,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn page(status: u16, title: &str, detail: Option<&str>, id: &str) -> String {
    let detail = detail
        .map(|detail| format!("<p>{}</p>", escaped(detail)))
        .unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{status} {title}</title><style>\
         :root{{color-scheme:light dark}}\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.25rem}}\
         h1{{font-size:1.5rem;font-weight:600;margin:0 0 .5rem}}\
         h1 b{{font-variant-numeric:tabular-nums;opacity:.5;margin-right:.6rem;font-weight:600}}\
         p{{margin:0 0 1rem}}small{{opacity:.65}}code{{font:inherit;font-family:ui-monospace,monospace;user-select:all}}\
         </style></head><body><h1><b>{status}</b>{title}</h1>{detail}\
         <small>Request <code>{}</code></small></body></html>\n",
        escaped(id)
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}
