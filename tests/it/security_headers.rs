//! The filter `security_headers`: what browsers are told to be careful with.

use edgeway_tests::{Answer, Echo, Gateway};

fn gateway(echo: &Echo, filter: &str) -> Gateway {
    Gateway::start(&format!(
        "
        trusted_proxies: [127.0.0.1]
        upstreams: {{ echo: {{ endpoints: [{echo}] }} }}
        filters:
          - {filter}
        routes:
          - match: {{ path: /echo }}
            upstream: echo
          - match: {{ path: /in }}
            filters: [jwt: {{ algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }}]
            respond: {{ text: in }}
        "
    ))
}

/// As one that has come over https to a proxy in front.
fn secure(gateway: &Gateway, target: &str) -> Answer {
    let request = gateway
        .request("GET", target)
        .header("X-Forwarded-Proto", "https");
    request.header("X-Forwarded-For", "192.0.2.1").send()
}

const PRESET: [(&str, &str); 8] = [
    ("Strict-Transport-Security", "max-age=31536000"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Content-Security-Policy", "frame-ancestors 'self'"),
    (
        "Permissions-Policy",
        "camera=(), geolocation=(), microphone=()",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin-allow-popups"),
    ("Cross-Origin-Resource-Policy", "same-site"),
];

#[test]
fn every_response_carries_the_preset_and_hsts_goes_out_over_https_only() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "security_headers");
    for (target, status) in [("/echo", 200), ("/in", 401), ("/nowhere", 404)] {
        let answer = secure(&gateway, target);
        assert_eq!(answer.status, status);
        for (name, value) in PRESET {
            assert_eq!(answer.header(name), Some(value), "{target} {name}");
        }
        let answer = gateway.get(target);
        assert_eq!(answer.header("Strict-Transport-Security"), None);
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    }
}

#[test]
fn each_header_can_be_another() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "security_headers: { hsts: max-age=60; includeSubDomains, content_type_options: off, \
           referrer_policy: no-referrer, frames: none, permissions_policy: usb=(), \
           opener_policy: same-origin, resource_policy: cross-origin, embedder_policy: require-corp, \
           csp: \"default-src 'self'\", csp_report_only: \"default-src 'none'\" }",
    );
    let answer = secure(&gateway, "/echo");
    for (name, value) in [
        (
            "Strict-Transport-Security",
            Some("max-age=60; includeSubDomains"),
        ),
        ("X-Content-Type-Options", None),
        ("Referrer-Policy", Some("no-referrer")),
        ("X-Frame-Options", Some("DENY")),
        (
            "Content-Security-Policy",
            Some("default-src 'self'; frame-ancestors 'none'"),
        ),
        (
            "Content-Security-Policy-Report-Only",
            Some("default-src 'none'"),
        ),
        ("Permissions-Policy", Some("usb=()")),
        ("Cross-Origin-Opener-Policy", Some("same-origin")),
        ("Cross-Origin-Resource-Policy", Some("cross-origin")),
        ("Cross-Origin-Embedder-Policy", Some("require-corp")),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
}

#[test]
fn what_the_upstream_says_stays_unless_it_is_overridden() {
    let echo = Echo::start();
    let target = "/echo?header=X-Frame-Options:DENY&header=Referrer-Policy:origin\
                  &header=Content-Security-Policy:img-src%20*";
    let keeping = gateway(&echo, "security_headers").get(target);
    assert_eq!(keeping.header_all("X-Frame-Options"), ["DENY"]);
    assert_eq!(keeping.header_all("Referrer-Policy"), ["origin"]);
    assert_eq!(keeping.header_all("Content-Security-Policy"), ["img-src *"]);
    let replacing = gateway(
        &echo,
        "security_headers: { override: true, frames: [same_origin, https://app.example.com], csp: img-src *.example.com }",
    )
    .get(target);
    assert_eq!(replacing.header("X-Frame-Options"), None);
    assert_eq!(
        replacing.header_all("Referrer-Policy"),
        ["strict-origin-when-cross-origin"]
    );
    assert_eq!(
        replacing.header_all("Content-Security-Policy"),
        ["img-src *.example.com; frame-ancestors 'self' https://app.example.com"]
    );
}

#[test]
fn it_refuses_nothing_and_so_has_nothing_to_report() {
    for filter in ["security_headers", "bandwidth: { rate: 1MiB/s }"] {
        let said = Gateway::refused(&format!(
            "
            routes:
              - filters:
                  - {filter}
                    mode: report
                respond: {{ text: hello }}
            "
        ));
        assert!(said.contains("mode"), "{said}");
    }
}
