//! The filter `ip_access`: who may come in, by the address (#60).

#[path = "../../gateway/filters/src/ip_access/tests/mmdb.rs"]
mod mmdb;

use std::fs;

use edgeway_tests::{Echo, Gateway, PATIENCE, Setup, eventually};

/// A gateway that believes its neighbour who is calling.
fn setup(filter: &str) -> Setup {
    let filter = filter.replace('\n', " ");
    Gateway::setup(&format!(
        "
        trusted_proxies: [127.0.0.1]
        filters: [access_log]
        routes:
          - filters: [{{ ip_access: {{ {filter} }} }}]
            respond: {{ text: welcome }}
        "
    ))
}

fn status(gateway: &Gateway, client: &str) -> u16 {
    let request = gateway.request("GET", "/");
    request.header("X-Forwarded-For", client).send().status
}

#[test]
fn addresses_are_allowed_and_denied() {
    let gateway =
        setup("allow: [10.0.0.0/8, '2001:db8::/32', 192.0.2.7], deny: [10.6.0.0/16]").start();
    for (client, expected) in [
        ("10.0.0.1", 200),
        ("10.6.0.1", 403),
        ("11.0.0.1", 403),
        ("192.0.2.7", 200),
        ("192.0.2.8", 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
        ("::ffff:10.0.0.1", 200),
        ("::ffff:10.6.0.1", 403),
    ] {
        assert_eq!(status(&gateway, client), expected, "{client}");
    }
    let line = gateway.wait_for_output("10.6.0.1 is in `deny`");
    for part in [
        r#""filter":"ip_access""#,
        r#""rule":"deny""#,
        r#""key":"10.6.0.1""#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_stranger_can_not_say_who_is_calling() {
    let gateway = Gateway::start(
        "
        routes:
          - filters: [{ ip_access: { allow: [10.0.0.1] } }]
            respond: { text: welcome }
        ",
    );
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded"] {
        let request = gateway.request("GET", "/").header(header, "10.0.0.1");
        assert_eq!(request.send().status, 403, "{header}");
    }
}

#[test]
fn the_client_learns_no_more_than_that_it_may_not() {
    let gateway = setup("deny: [10.0.0.1], status: 404").start();
    let request = gateway
        .request("GET", "/")
        .header("X-Forwarded-For", "10.0.0.1");
    let answer = request.send();
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/problem+json")
    );
    assert!(!answer.text().contains("10.0.0.1"), "{}", answer.text());
    assert!(!answer.text().contains("deny"), "{}", answer.text());
}

#[test]
fn files_are_read_again_when_they_change_and_rubbish_changes_nothing() {
    let setup = setup("allow_files: [offices.txt], deny: [10.9.9.9]");
    let gateway = setup.file("offices.txt", "# offices\n10.0.0.0/8\n").start();
    assert_eq!(status(&gateway, "10.0.0.1"), 200);
    assert_eq!(status(&gateway, "192.0.2.1"), 403);
    gateway.write("offices.txt", "192.0.2.0/24\n10.9.9.9\n");
    eventually(PATIENCE, || status(&gateway, "192.0.2.1") == 200);
    assert_eq!(status(&gateway, "10.0.0.1"), 403);
    assert_eq!(status(&gateway, "10.9.9.9"), 403);

    gateway.write("offices.txt", "10.0.0.0/8\nnowhere\n");
    gateway.wait_for_log("offices.txt`: expected an address");
    let warning = gateway.wait_for_log("what it held before stays in use");
    assert!(warning.contains("line 2"), "{warning}");
    assert_eq!(status(&gateway, "192.0.2.1"), 200);
    assert_eq!(status(&gateway, "10.0.0.1"), 403);
    assert!(!gateway.reload_files(), "a reload does not take it either");
    fs::remove_file(gateway.folder().join("offices.txt")).unwrap();
    gateway.wait_for_log("No such file");
    assert_eq!(status(&gateway, "192.0.2.1"), 200);

    gateway.write("offices.txt", "10.0.0.0/8\n");
    eventually(PATIENCE, || status(&gateway, "10.0.0.1") == 200);
    assert_eq!(status(&gateway, "192.0.2.1"), 403);
}

#[test]
fn a_blocklist_bars_whom_it_names() {
    let list: String = (0..50_000_u32)
        .map(|number| {
            format!(
                "{}.{}.{}.0/24\n",
                11 + (number >> 14),
                number >> 6 & 255,
                number << 2 & 255
            )
        })
        .collect();
    let gateway = setup("deny_files: [block.txt]")
        .file("block.txt", list)
        .start();
    for (client, expected) in [
        ("11.0.0.1", 403),
        ("11.0.1.1", 200),
        ("14.13.60.9", 403),
        ("10.0.0.1", 200),
    ] {
        assert_eq!(status(&gateway, client), expected, "{client}");
    }
}

#[test]
fn countries_and_networks_come_from_databases_that_may_change() {
    let countries =
        |country| mmdb::countries(&[("192.0.2.0/24", country), ("2001:db8::/32", "FR")]);
    let setup = setup(
        "countries: { database: c.mmdb, allow: [DE, FR] },
         asns: { database: a.mmdb, deny: [64511], unknown: allow }",
    );
    let asns = mmdb::asns(&[("192.0.2.128/25", 64_511), ("198.51.100.0/24", 64_496)]);
    let gateway = setup
        .file("c.mmdb", countries("DE"))
        .file("a.mmdb", asns)
        .start();
    for (client, expected) in [
        ("192.0.2.1", 200),
        ("192.0.2.200", 403),
        ("2001:db8::1", 200),
        ("198.51.100.1", 403),
        ("10.0.0.1", 403),
    ] {
        assert_eq!(status(&gateway, client), expected, "{client}");
    }
    assert!(
        gateway
            .wait_for_output(r#""rule":"asn""#)
            .contains("AS64511")
    );
    // Replaced as an updater does it.
    gateway.write("next.mmdb", countries("KP"));
    fs::rename(
        gateway.folder().join("next.mmdb"),
        gateway.folder().join("c.mmdb"),
    )
    .unwrap();
    eventually(PATIENCE, || status(&gateway, "192.0.2.1") == 403);
    assert_eq!(status(&gateway, "2001:db8::1"), 200);
    gateway.write("c.mmdb", "rubbish");
    gateway.wait_for_log("what it held before stays in use");
    assert_eq!(status(&gateway, "2001:db8::1"), 200);
    assert_eq!(status(&gateway, "192.0.2.1"), 403);
}

#[test]
fn whom_a_database_does_not_know_is_refused_where_it_is_written() {
    let setup =
        setup("countries: { database: c.mmdb, deny: [KP], unknown: deny }, allow: [0.0.0.0/1]");
    let gateway = setup
        .file("c.mmdb", mmdb::countries(&[("192.0.2.0/24", "DE")]))
        .start();
    assert_eq!(status(&gateway, "200.0.0.1"), 403);
    gateway.wait_for_output(r#""rule":"unknown""#);
    assert_eq!(status(&gateway, "10.0.0.1"), 200, "allowed by its address");
    assert_eq!(status(&gateway, "192.0.2.1"), 403, "known, but not allowed");
}

#[test]
fn what_is_missing_at_the_start_is_named_with_its_place() {
    for (filter, text) in [
        ("deny_files: [none.txt]", "none.txt`: No such file"),
        (
            "countries: { database: none.mmdb, deny: [KP] }",
            "none.mmdb`: No such file",
        ),
        ("allow_files: [wrong.txt]", "line 2 of"),
    ] {
        let said = setup(filter)
            .file("wrong.txt", "10.0.0.1\n10.1\n")
            .refused();
        assert!(said.contains(text), "{said}");
        assert!(said.contains("edgeway.yaml:4:"), "{said}");
    }
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
              - ip_access: {{ deny: [127.0.0.0/8] }}
                mode: report
            upstream: echo
        "
    ));
    assert_eq!(gateway.get("/").status, 200);
    let line = gateway.wait_for_output(r#""reported""#);
    assert!(
        line.contains("ip_access") && line.contains("deny"),
        "{line}"
    );
}
