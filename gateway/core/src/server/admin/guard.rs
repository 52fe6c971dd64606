//! Who may call.
//!
//! With a token, whoever shows it. Without one the listener is on a loopback address, and whoever is on
//! this machine may call, or at a unix socket, and whoever may open its file may call; but a page in a browser on this machine may not, whatever name its author has
//! given to 127.0.0.1, nor may it send what a form can send.

use std::net::IpAddr;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Digest, SHA256, digest},
};
use axum::{body::HttpBody as _, extract::Request};
use http::{
    HeaderMap, HeaderName, Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN},
    uri::Authority,
};

use super::{call::is_browser, problem::Problem};
use crate::{config::ListenAddress, snapshot::Admin};

/// Lets requests through, or says why not.
pub(super) struct Guard {
    /// Of the token, so that tokens of another length take no other time.
    token: Option<Digest>,
    /// None for a unix socket, whose file says who may connect: no browser does.
    bound: Option<IpAddr>,
    /// Calls that everybody may make, though there be a token: probes, and pages without anything to keep.
    open: Vec<&'static str>,
}

impl Guard {
    pub(super) fn new(listener: &Admin, open: Vec<&'static str>) -> Self {
        let token = listener.token.as_ref();
        Self {
            token: token.map(|token| digest(&SHA256, token.reveal().as_bytes())),
            bound: match &listener.bind {
                ListenAddress::Tcp(address) => Some(address.ip()),
                ListenAddress::Unix(_) | ListenAddress::Systemd(_) => None,
            },
            open,
        }
    }

    /// # Errors
    ///
    /// The request is not answered.
    pub(super) fn admit(&self, request: &Request) -> Result<(), Problem> {
        match (&self.token, self.bound) {
            (Some(token), _) if !self.is_open(request) => shows(token, request.headers())?,
            (None, Some(bound)) => is_meant(request, bound)?,
            (Some(_), _) | (None, None) => {}
        }
        if !request.method().is_safe() {
            of_this_origin(request.headers())?;
            media_type(request)?;
        }
        Ok(())
    }

    /// Whether everybody may have the answer. What a probe is told in detail is not for everybody.
    fn is_open(&self, request: &Request) -> bool {
        let (path, query) = (request.uri().path(), request.uri().query());
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return false;
        }
        if path == "/" {
            return is_browser(request.headers());
        }
        self.open.iter().any(|open| match open.split_once('{') {
            Some((folder, _)) => path.starts_with(folder),
            None => path == *open && query.is_none(),
        })
    }
}

/// Whether the request was sent to this machine, and not to a name that somebody else has given it.
fn is_meant(request: &Request, bound: IpAddr) -> Result<(), Problem> {
    let named = request.uri().authority().map(Authority::as_str);
    let hosts = request.headers().get_all(HOST).iter();
    let mut hosts = hosts.map(|host| host.to_str().ok()).chain(named.map(Some));
    let ours = |host: Option<&str>| {
        let host = host.and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| is_ours(host.host(), bound))
    };
    if request.headers().contains_key(HOST) && hosts.all(ours) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "without a `token` only requests to `localhost` or to the address of the listener are answered",
    ))
}

fn is_ours(host: &str, bound: IpAddr) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == bound,
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn shows(token: &Digest, headers: &HeaderMap) -> Result<(), Problem> {
    let unknown = |detail: &str| Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    let Some(shown) = single(headers, &AUTHORIZATION).and_then(bearer) else {
        return unknown("show the token of the admin listener: `Authorization: Bearer …`");
    };
    let shown = digest(&SHA256, shown.as_bytes());
    match verify_slices_are_equal(shown.as_ref(), token.as_ref()) {
        Ok(()) => Ok(()),
        Err(_) => unknown("this is not the token of the admin listener"),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Browsers say from where a request comes that changes something.
fn of_this_origin(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = single(headers, &ORIGIN).and_then(|origin| origin.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(Uri::authority);
    let host = single(headers, &HOST).and_then(|host| host.parse::<Authority>().ok());
    if origin.is_some() && origin == host.as_ref() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "a page of another origin may change nothing here",
    ))
}

/// A form of a foreign page can't say that it is JSON.
fn media_type(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let json = single(headers, &CONTENT_TYPE).is_some_and(is_json);
    let needs_one = !request.body().is_end_stream() || takes_body(request.method());
    if json || (!needs_one && !headers.contains_key(CONTENT_TYPE)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the body must be JSON: `Content-Type: application/json`",
    ))
}

fn takes_body(method: &Method) -> bool {
    method == Method::POST || method == Method::PATCH
}

fn is_json(value: &str) -> bool {
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use edgeway_sdk::Secret;

    use super::*;

    const LOCAL: &str = "127.0.0.1:9901";

    fn open() -> Guard {
        at(LOCAL, None)
    }

    fn at(bind: &str, token: Option<&str>) -> Guard {
        let listener = Admin {
            bind: bind.parse().unwrap(),
            token: token.map(Secret::new),
        };
        Guard::new(&listener, vec!["/livez", "/page/{file}"])
    }

    fn status(guard: &Guard, method: &str, headers: &[(&str, &str)], body: &'static str) -> u16 {
        let mut request = Request::builder().method(method).uri("/upstreams");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_empty() {
            Body::empty()
        } else {
            Body::from(body)
        };
        let admitted = guard.admit(&request.body(body).unwrap());
        admitted.map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        let get = |host| status(&open(), "GET", &[("host", host)], "");
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:9901",
            "127.8.8.8",
            "[::1]:9901",
        ] {
            assert_eq!(get(host), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "a b",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(get(host), 403, "{host}");
        }
        assert_eq!(status(&open(), "GET", &[], ""), 403);
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(&open(), "GET", &two, ""), 403);
    }

    #[test]
    fn a_target_with_a_foreign_name_counts_as_the_host_does() {
        let request = Request::builder()
            .uri("http://evil.example/upstreams")
            .header("host", "localhost")
            .body(Body::empty());
        assert!(open().admit(&request.unwrap()).is_err());
    }

    #[test]
    fn with_a_token_it_must_be_shown_once_and_whole() {
        let guard = at("10.0.0.1:9901", Some("s3cret"));
        let get = |values: &[&str]| {
            let headers: Vec<_> = values
                .iter()
                .map(|value| ("authorization", *value))
                .collect();
            status(&guard, "GET", &headers, "")
        };
        assert_eq!(get(&["Bearer s3cret"]), 200);
        assert_eq!(get(&["bearer s3cret"]), 200);
        for wrong in [
            "Bearer s3cre",
            "Bearer s3cret2",
            "Basic s3cret",
            "Bearer",
            "s3cret",
            "Bearer ",
        ] {
            assert_eq!(get(&[wrong]), 401, "{wrong}");
        }
        assert_eq!(get(&[]), 401);
        assert_eq!(get(&["Bearer s3cret", "Bearer s3cret"]), 401);
    }

    #[test]
    fn probes_and_pages_are_for_everybody_but_nothing_else_is() {
        let guard = at("10.0.0.1:9901", Some("s3cret"));
        let ask = |method: &str, uri: &str, accept: &str| {
            let request = Request::builder().method(method).uri(uri);
            let request = request.header("accept", accept).body(Body::empty());
            guard.admit(&request.unwrap()).is_ok()
        };
        assert!(ask("GET", "/livez", "*/*"));
        assert!(ask("GET", "/page/a.css", "*/*"));
        assert!(ask("GET", "/", "text/html,*/*;q=0.8"));
        for (method, uri, accept) in [
            ("GET", "/", "*/*"),
            ("GET", "/livez?verbose", "*/*"),
            ("GET", "/livez/", "*/*"),
            ("GET", "/page", "text/html"),
            ("GET", "/v1/status", "text/html"),
            ("DELETE", "/livez", "*/*"),
            ("POST", "/", "text/html"),
        ] {
            assert!(!ask(method, uri, accept), "{method} {uri}");
        }
    }

    #[test]
    fn whoever_may_open_a_unix_socket_needs_no_host() {
        let guard = at("unix:/run/a.sock", None);
        assert_eq!(status(&guard, "GET", &[], ""), 200);
        assert_eq!(status(&guard, "GET", &[("host", "edgeway")], ""), 200);
        assert_eq!(
            status(&at("unix:/run/a.sock", Some("s3cret")), "GET", &[], ""),
            401
        );
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let host = ("host", LOCAL);
        let json = ("content-type", "application/json");
        let post = |origin| status(&open(), "POST", &[host, json, ("origin", origin)], "{}");
        assert_eq!(post("http://127.0.0.1:9901"), 200);
        for origin in ["http://evil.example", "null", "http://127.0.0.1:3000", ""] {
            assert_eq!(post(origin), 403, "{origin}");
        }
        assert_eq!(
            status(
                &open(),
                "DELETE",
                &[host, ("origin", "http://evil.example")],
                ""
            ),
            403
        );
    }

    #[test]
    fn what_changes_something_is_json_or_has_no_body() {
        let host = ("host", LOCAL);
        let of =
            |method, kind, body| status(&open(), method, &[host, ("content-type", kind)], body);
        assert_eq!(of("POST", "application/json", "{}"), 200);
        assert_eq!(of("POST", "Application/JSON; charset=utf-8", "{}"), 200);
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "",
        ] {
            assert_eq!(of("POST", kind, "{}"), 415, "{kind}");
        }
        assert_eq!(status(&open(), "PATCH", &[host], "{}"), 415);
        assert_eq!(status(&open(), "POST", &[host], ""), 415);
        assert_eq!(status(&open(), "DELETE", &[host], ""), 200);
        assert_eq!(status(&open(), "DELETE", &[host], "{}"), 415);
        assert_eq!(of("DELETE", "text/plain", ""), 415);
    }
}
