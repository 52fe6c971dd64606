//! The page that shows what is going on. It is part of the program, and asks for nothing from elsewhere.

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY},
};

use crate::{
    config::diagnostic::nearest,
    server::admin::{call::Call, calls::Answer, problem::Problem},
};

/// What the page may do: run and show what is here, and call what is here.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);

macro_rules! files {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("page/", $name)))),*]
    };
}

/// What the page consists of, beside itself.
const FILES: [(&str, &str); 14] = files![
    "act.js",
    "chart.js",
    "configuration.js",
    "dom.js",
    "format.js",
    "icon.svg",
    "main.js",
    "others.js",
    "overview.js",
    "routes.js",
    "stream.js",
    "style.css",
    "troubles.js",
    "upstreams.js"
];

/// The page itself.
pub(in crate::server::admin) fn page() -> Response {
    shown("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// One of the files that it consists of.
pub(super) async fn file(call: Call<String>) -> Answer {
    let name = call.names()?;
    let known = FILES.iter().find(|(known, _)| *known == name);
    let Some((name, text)) = known else {
        let near = nearest(&name, FILES.iter().map(|(known, _)| *known));
        return Err(Problem::absent(
            format!("the page has no file `{name}`"),
            near,
        ));
    };
    let kind = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "image/svg+xml",
    };
    Ok(shown(kind, text))
}

fn shown(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text).into_response()
}
