//! From what is written of checks to a [`Check`].

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::{Check, Connectors, Means, grpc::GrpcCheck, http::HttpCheck};
use crate::config::{
    At, BodyTest, FullHealth, Health, HealthKind,
    diagnostic::{Diagnostic, Spot},
};

/// Headers that a check sets by itself, or that would make its request another one.
const OWN: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

impl Check {
    /// The check that is written, or what contradicts itself in it.
    pub(crate) fn compile(
        health: &Health,
        connectors: &Arc<Connectors>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let Health(full) = health;
        let mut wrong = misplaced(full);
        wrong.extend(unread_body(full));
        let headers = headers(full, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            interval: full.interval.0.0,
            timeout: full.timeout.0.0,
            healthy_after: full.healthy_after.0,
            unhealthy_after: full.unhealthy_after.0,
            start: full.start,
            port: full.port.map(|port| port.value.get()),
            host: full.host.as_ref().map(|host| host.value.0.to_string()),
            means: means(full, headers, connectors),
        })
    }
}

fn means(
    full: &FullHealth,
    headers: Box<[(HeaderName, HeaderValue)]>,
    connectors: &Arc<Connectors>,
) -> Means {
    // A check over HTTP without a path is refused where it is read.
    match (full.kind, &full.path) {
        (HealthKind::Http, Some(path)) => {
            let method = full.method.as_ref();
            let expect = full.expect.as_ref();
            let expect = expect
                .map(|expect| expect.value.clone())
                .unwrap_or_default();
            Arc::new(HttpCheck {
                connectors: Arc::clone(connectors),
                method: method.map_or(Method::GET, |method| method.value.0.clone()),
                path: path.value.0.clone(),
                headers,
                status: expect.status,
                body: expect.body.map(|body| body.value),
            })
        }
        (HealthKind::Grpc, _) => {
            let service = full.service.as_ref().map_or("", |name| &name.value.0);
            Arc::new(GrpcCheck::new(Arc::clone(connectors), service, headers))
        }
        (HealthKind::Tcp | HealthKind::Http, _) => Arc::clone(&connectors.tcp),
    }
}

/// The keys of another type.
fn misplaced(full: &FullHealth) -> Vec<Diagnostic> {
    use HealthKind::{Grpc, Http};
    let keys: [(&str, Option<Spot>, &[HealthKind]); 6] = [
        ("path", full.path.as_ref().map(Into::into), &[Http]),
        ("method", full.method.as_ref().map(Into::into), &[Http]),
        ("expect", full.expect.as_ref().map(Into::into), &[Http]),
        ("host", full.host.as_ref().map(Into::into), &[Http, Grpc]),
        (
            "headers",
            full.headers.as_ref().map(Into::into),
            &[Http, Grpc],
        ),
        ("service", full.service.as_ref().map(Into::into), &[Grpc]),
    ];
    let mut wrong = Vec::new();
    for (key, spot, kinds) in keys {
        let Some(spot) = spot.filter(|_| !kinds.contains(&full.kind)) else {
            continue;
        };
        let message = format!(
            "`{key}` has no effect on a check of type `{}`",
            full.kind.word()
        );
        let words: Vec<_> = kinds
            .iter()
            .map(|kind| format!("`type: {}`", kind.word()))
            .collect();
        let help = format!("it belongs to {}", words.join(" or "));
        wrong.push(Diagnostic::error(message).at(spot).help(help));
    }
    wrong
}

/// A body that is expected of an answer that has none.
fn unread_body(full: &FullHealth) -> Option<Diagnostic> {
    let method = full
        .method
        .as_ref()
        .filter(|method| method.value.0 == Method::HEAD)?;
    let body: &At<BodyTest> = full.expect.as_ref()?.value.body.as_ref()?;
    let message = "the answer to `HEAD` has no body to expect something of";
    Some(
        Diagnostic::error(message)
            .at(body)
            .also(method, "the method is written here")
            .help("write `method: GET`"),
    )
}

fn headers(full: &FullHealth, wrong: &mut Vec<Diagnostic>) -> Box<[(HeaderName, HeaderValue)]> {
    let entries = full.headers.iter().flat_map(|headers| &headers.value);
    let mut headers = Vec::new();
    for (name, value) in entries {
        match header(name) {
            Ok(name) => headers.push((name, value.0.clone())),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    headers.into()
}

fn header(name: &At<String>) -> Result<HeaderName, Diagnostic> {
    let text = &name.value;
    let parsed: HeaderName = text.parse().map_err(|_| {
        Diagnostic::error(format!("expected the name of a header, found `{text}`")).at(name)
    })?;
    if parsed == http::header::HOST {
        let message = "the `Host` of a check is not written among its headers";
        return Err(Diagnostic::error(message)
            .at(name)
            .help("write `host:` beside `headers:`"));
    }
    if OWN.contains(&parsed.as_str()) {
        let message = format!("a check sets `{text}` by itself");
        return Err(Diagnostic::error(message).at(name).help("leave it out"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{check, compiled};
    use crate::config::Start;

    /// The first line of everything that is said, with line and column.
    fn summary(text: &str) -> Vec<String> {
        let said = compiled(text).err().unwrap_or_default();
        let mut lines = said.lines();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            if let Some(message) = line.strip_prefix("error: ") {
                let place = lines.next().unwrap_or_default().trim();
                found.push(format!("{} {message}", place_in_health(place)));
            }
        }
        found
    }

    /// The place in what is written under `health`.
    fn place_in_health(place: &str) -> String {
        let place = place.trim_start_matches("--> e.yaml:");
        let (line, column) = place.split_once(':').unwrap();
        let number = |text: &str| text.parse::<usize>().unwrap();
        format!("{}:{}", number(line) - 1, number(column) - 2)
    }

    #[test]
    fn what_is_not_written_is_as_documented() {
        for text in ["path: /healthz", "tcp", "grpc", "type: tcp", "type: grpc"] {
            let check = check(text);
            assert_eq!(check.interval, Duration::from_secs(5), "{text}");
            assert_eq!(check.timeout, Duration::from_secs(2), "{text}");
            assert_eq!(check.healthy_after.get(), 2, "{text}");
            assert_eq!(check.unhealthy_after.get(), 3, "{text}");
            assert_eq!(check.start, Start::Healthy, "{text}");
            assert_eq!((check.port, check.host), (None, None), "{text}");
        }
    }

    #[test]
    fn every_key_is_read() {
        let check = check(
            "type: http\npath: /healthz?x=1\nmethod: OPTIONS\nhost: app.internal:81\n\
             headers: { X-Check: 1 }\nexpect: { status: [200-299, 304], body: { regex: ok } }\n\
             interval: 250ms\ntimeout: 10s\nhealthy_after: 4\nunhealthy_after: 1\n\
             start: unhealthy\nport: 9000\n",
        );
        assert_eq!(check.interval, Duration::from_millis(250));
        assert_eq!(check.timeout, Duration::from_secs(10), "longer is fine");
        assert_eq!(check.healthy_after.get(), 4);
        assert_eq!(check.unhealthy_after.get(), 1);
        assert_eq!(check.start, Start::Unhealthy);
        assert_eq!(check.port, Some(9000));
        assert_eq!(check.host.as_deref(), Some("app.internal:81"));
    }

    #[test]
    fn keys_of_another_type_are_refused_where_they_stand() {
        let everything = "path: /\nmethod: GET\nhost: a\nheaders: { x: 1 }\n\
                          expect: { status: 200 }\nservice: a.B\n";
        let no_effect =
            |place, key, kind| format!("{place} `{key}` has no effect on a check of type `{kind}`");
        assert_eq!(
            summary(&format!("type: tcp\n{everything}")),
            [
                no_effect("2:7", "path", "tcp"),
                no_effect("3:9", "method", "tcp"),
                no_effect("4:7", "host", "tcp"),
                no_effect("5:10", "headers", "tcp"),
                no_effect("6:9", "expect", "tcp"),
                no_effect("7:10", "service", "tcp"),
            ]
        );
        assert_eq!(
            summary(&format!("type: grpc\n{everything}")),
            [
                no_effect("2:7", "path", "grpc"),
                no_effect("3:9", "method", "grpc"),
                no_effect("6:9", "expect", "grpc"),
            ]
        );
        assert_eq!(summary(everything), [no_effect("6:10", "service", "http")]);
    }

    #[test]
    fn the_remedy_names_the_types_that_a_key_belongs_to() {
        let said = compiled("{ type: tcp, host: a }").err().unwrap_or_default();
        assert!(
            said.contains("it belongs to `type: http` or `type: grpc`"),
            "{said}"
        );
    }

    /// Texts, and the one thing that is said of each.
    fn refused(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(summary(text), [*expected], "{text}");
        }
    }

    #[test]
    fn a_check_over_http_needs_a_path() {
        let needed =
            "1:1 a check over HTTP needs a `path`: `{ path: /healthz }`, or write `type: tcp`";
        let word = "1:1 expected `tcp`, `grpc`, or a map such as `{ path: /healthz }`, found";
        refused(&[
            ("interval: 2s", needed),
            ("type: http", needed),
            ("http", &format!("{word} `http`")),
            ("/healthz", &format!("{word} `/healthz`")),
        ]);
    }

    #[test]
    fn a_value_that_can_not_be_is_refused_where_it_stands() {
        let path = "1:7 expected a path such as `/healthz`, found";
        let span = "expected a length of time from `1ms` to `1d`, found";
        refused(&[
            ("path: healthz", &format!("{path} `healthz`")),
            ("path: /a b", &format!("{path} `/a b`")),
            (
                "{ path: /, method: DELETE }",
                "1:20 expected `GET`, `HEAD`, `POST` or `OPTIONS`, found `DELETE`",
            ),
            (
                "{ path: /, host: me@app }",
                "1:18 expected a host such as `app.internal`, found `me@app`",
            ),
            ("{ path: /, interval: 0s }", &format!("1:22 {span} `0s`")),
            ("{ path: /, timeout: 2d }", &format!("1:21 {span} `2d`")),
            (
                "{ type: grpc, service: '' }",
                "1:24 the name is empty: leave `service` out to ask for the whole endpoint",
            ),
        ]);
    }

    #[test]
    fn what_no_answer_can_be_is_not_expected() {
        refused(&[
            (
                "{ path: /, expect: {} }",
                "1:20 expected `status`, `body` or both",
            ),
            (
                "{ path: /, expect: { status: [] } }",
                "1:30 the list is empty: no status would do",
            ),
            (
                "{ path: /, expect: { body: '' } }",
                "1:28 every body contains the empty text",
            ),
            (
                "{ path: /, expect: { body: { regex: '(a' } } }",
                "1:37 `(a` is not a valid regex: unclosed group",
            ),
            (
                "{ path: /, method: HEAD, expect: { body: ok } }",
                "1:42 the answer to `HEAD` has no body to expect something of",
            ),
        ]);
    }

    #[test]
    fn headers_that_a_check_sets_itself_are_refused() {
        refused(&[
            (
                "{ path: /, headers: { 'a b': 1 } }",
                "1:23 expected the name of a header, found `a b`",
            ),
            (
                "{ path: /, headers: { Host: a } }",
                "1:23 the `Host` of a check is not written among its headers",
            ),
            (
                "{ type: grpc, headers: { TE: gzip } }",
                "1:26 a check sets `TE` by itself",
            ),
        ]);
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused() {
        let cases = [
            "{ path: /, healthy_after: 0 }",
            "{ path: /, unhealthy_after: 0 }",
            "{ path: /, port: 0 }",
            "{ path: /, port: 65536 }",
            "{ path: /, start: well }",
            "{ path: /, type: udp }",
            "{ path: /, interval: 5 }",
            "{ path: /, expect: { status: 600 } }",
            "{ path: /, expect: { status: 299-200 } }",
            "{ path: /, expect: { state: 200 } }",
            "{ path: /, paht: / }",
            "{ path: /, headers: { x: \"a\\nb\" } }",
            "{ path: /, headers: { x: 'env:NO_SUCH_VARIABLE' } }",
            "[tcp]",
            "7",
        ];
        for text in cases {
            assert_eq!(summary(text).len(), 1, "{text}: {:?}", summary(text));
        }
    }

    #[test]
    fn a_path_that_is_wrong_is_not_missing_too() {
        assert_eq!(summary("{ path: x, interval: 1 }").len(), 2);
    }
}
