//! What `edgeway filters NAME` shows is YAML that the filter takes.
//!
//! A key with a `#` right before it is one that excludes another.

use std::fs;

use edgeway_tests::{Finished, Gateway};

use crate::cli::edgeway;

const FILTERS: [&str; 29] = [
    "access_log",
    "adaptive_concurrency",
    "allow_methods",
    "api_key",
    "authorize",
    "bandwidth",
    "basic_auth",
    "body_limit",
    "client_certificate",
    "compress",
    "concurrency",
    "cors",
    "csrf",
    "error_pages",
    "expires",
    "forward_auth",
    "header_access",
    "headers",
    "introspect",
    "ip_access",
    "json_fields",
    "jwt",
    "oidc",
    "rate_limit",
    "request_id",
    "security_headers",
    "substitute",
    "trace",
    "waf",
];

#[test]
fn every_filter_is_looked_at_here() {
    let listed = edgeway(&["filters"]).output;
    let table = listed.lines().take_while(|line| !line.is_empty());
    let names: Vec<_> = table
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, FILTERS);
}

#[test]
fn the_yaml_of_every_filter_is_a_configuration_that_it_accepts() {
    for name in FILTERS {
        let checked = checked(&shown(name).1);
        assert_eq!((checked.code, &*checked.log), (Some(0), ""), "{name}");
    }
}

#[test]
fn the_yaml_of_every_filter_has_no_key_that_the_filter_does_not_know() {
    for name in FILTERS {
        let said = checked(&uncommented(&shown(name).1)).log;
        assert!(!said.contains("unknown"), "{name}: {said}");
    }
    // Else what is above would prove nothing.
    let said = checked("jwt:\n  #stray: 1\n").log;
    assert!(!said.contains("unknown key"), "{said}");
    let said = checked(&uncommented("jwt:\n  #stray: 1\n  jwks:\n    #astray: 1\n")).log;
    assert!(
        said.contains("unknown key `stray`") && said.contains("unknown key `astray`"),
        "{said}"
    );
}

#[test]
fn every_summary_is_in_the_same_style() {
    for name in FILTERS {
        let (summary, _) = shown(name);
        assert!(
            summary.starts_with(|first: char| first.is_ascii_lowercase()),
            "{summary}"
        );
        assert!(!summary.ends_with('.'), "{summary}");
        let verb = summary.split(' ').next().unwrap();
        assert!(verb.ends_with('s'), "{summary}");
    }
}

/// The summary of a filter, and its YAML.
fn shown(name: &str) -> (String, String) {
    let text = edgeway(&["filters", name]).output;
    let (first, yaml) = text.split_once("\n\n").unwrap();
    let (title, summary) = first.split_once(": ").unwrap();
    assert_eq!(title, name);
    (summary.to_owned(), yaml.to_owned())
}

/// What is said of a configuration with this filter.
fn checked(yaml: &str) -> Finished {
    const HASH: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$Gpl2vK3bPAeYZ6HGLdTHUkDZ1pFYcOJyVzqv5IpBhqU";
    let lines = yaml.lines().map(|line| format!("    {line}\n"));
    let filter = lines.collect::<String>().replacen("    ", "  - ", 1);
    let setup = Gateway::setup(&format!(
        "filters:\n{filter}routes:\n  - respond: {{ text: hello }}\n"
    ))
    .file("users.htpasswd", format!("bob:{HASH}\n"))
    .file("groups.htgroups", "staff: ann bob\n")
    .file("keys.yaml", "[]\n")
    .file("blocklist.txt", "192.0.2.0/24\n")
    .env("ANN_HASH", HASH)
    .env("CSRF_SECRET", "a-secret-of-enough-bytes-for-everybody")
    .env(
        "OIDC_CLIENT_SECRET",
        "a-secret-of-enough-bytes-for-everybody",
    )
    .env(
        "OIDC_COOKIE_SECRET",
        "a-secret-of-enough-bytes-for-everybody",
    )
    .env(
        "INTROSPECT_SECRET",
        "a-secret-of-enough-bytes-for-everybody",
    )
    .env("INTROSPECT_TOKEN", "a-secret-of-enough-bytes-for-everybody")
    .env("JWT_SECRET", "a-secret-of-enough-bytes-for-everybody");
    let file = setup.folder().join("edgeway.yaml");
    assert!(fs::read_to_string(file).unwrap().contains("  - "));
    setup.run("check")
}

fn uncommented(yaml: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => {
            line.replacen('#', "", 1)
        }
        _ => line.to_owned(),
    };
    yaml.lines().map(|text| line(text) + "\n").collect()
}
