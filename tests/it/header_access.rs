//! The filter `header_access`: who may come in, by what the headers say (#61).

use edgeway_tests::{Echo, Gateway, Request};

fn gateway(filter: &str) -> Gateway {
    let filter = filter.replace('\n', " ");
    Gateway::start(&format!(
        "
        requests: {{ underscore_headers: keep }}
        filters: [access_log]
        routes:
          - filters: [{{ header_access: {{ {filter} }} }}]
            respond: {{ text: welcome }}
        "
    ))
}

/// The status of a request with these headers.
fn status(gateway: &Gateway, headers: &[(&str, &str)]) -> u16 {
    let request = gateway.request("GET", "/");
    let with =
        |request: Request<'static>, (name, value): &(&str, &str)| request.header(name, value);
    headers.iter().fold(request, with).send().status
}

#[test]
fn a_header_that_is_denied_is_refused_however_it_is_sent() {
    let gateway = gateway("deny: [{ header: X-Role, equals: [admin, root] }]");
    for (headers, expected) in [
        (&[][..], 200),
        (&[("X-Role", "guest")], 200),
        (&[("x-ROLE", "admin")], 403),
        (&[("X-Role", "  root ")], 403),
        (&[("X-Role", "guest"), ("X-Role", "admin")], 403),
        (&[("X_Role", "admin")], 403),
        (&[("X-Role", "guest"), ("x_role", "root")], 403),
    ] {
        assert_eq!(status(&gateway, headers), expected, "{headers:?}");
    }
    let line = gateway.wait_for_output(r#""rule":"deny""#);
    assert!(line.contains("`x-role` is as `deny.0` denies it"), "{line}");
    assert!(line.contains(r#""key":"x-role""#), "{line}");
}

#[test]
fn only_headers_that_are_allowed_pass_when_any_is() {
    let gateway = gateway(
        "allow: [{ header: X-Client, prefix: [acme-, bolt-] }, { header: X-Version, regex: '^v[12]$' }],
         deny: [{ header: User-Agent, regex: '(?i)sqlmap', name: scanners }, { header: Accept, present: false }],
         status: 400",
    );
    let accept = ("Accept", "*/*");
    for (headers, expected) in [
        (&[accept, ("X-Client", "acme-7")][..], 200),
        (&[accept, ("X-Client", "bolt-7")], 200),
        (&[accept, ("X-Client", "evil")], 400),
        (&[accept, ("X-Client", "acme-7"), ("X-Client", "evil")], 400),
        (&[accept, ("X-Version", "v2")], 200),
        (&[accept, ("X-Version", "v3")], 400),
        (&[accept], 400),
        (&[("X-Version", "v2")], 400),
        (
            &[accept, ("X-Version", "v2"), ("User-Agent", "x SQLMap")],
            400,
        ),
    ] {
        assert_eq!(status(&gateway, headers), expected, "{headers:?}");
    }
    for rule in ["scanners", "not_allowed"] {
        gateway.wait_for_output(&format!(r#""rule":"{rule}""#));
    }
}

#[test]
fn http2_is_no_way_around() {
    let gateway = gateway("deny: [{ header: X-Role, equals: admin }]");
    let http2 = edgeway_tests::Http2::open(gateway.address());
    assert_eq!(http2.get("/").status, 200);
    let mut request = http2.request("GET", "/", "");
    request
        .headers_mut()
        .insert("x-role", "admin".parse().unwrap());
    assert_eq!(http2.send(request).unwrap().status, 403);
}

#[test]
fn a_filter_that_only_reports_lets_all_pass_and_tells() {
    let echo = Echo::start();
    let gateway = Gateway::start(&format!(
        "
        filters: [access_log]
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        routes:
          - filters:
              - header_access: {{ deny: [{{ header: X-Role, present: true, name: roles }}] }}
                mode: report
            upstream: echo
        "
    ));
    assert_eq!(status(&gateway, &[("X-Role", "admin")]), 200);
    let line = gateway.wait_for_output(r#""reported""#);
    assert!(line.contains("roles"), "{line}");
}

#[test]
fn a_rule_that_is_wrong_is_shown_where_it_stands() {
    let said = Gateway::refused(
        "
        routes:
          - filters:
              - header_access:
                  deny:
                    - { header: X-A, regex: '(' }
                    - { header: X-A, equal: a }
            respond: { text: welcome }
        ",
    );
    for part in [
        "is no regular expression",
        "unknown key `equal`",
        ":5:",
        ":6:",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let said = Gateway::refused(
        "
        routes:
          - filters:
              - header_access:
                  deny:
                    - { header: X-A, equals: a, prefix: b }
            respond: { text: welcome }
        ",
    );
    assert!(said.contains("expected one of `present`"), "{said}");
}
