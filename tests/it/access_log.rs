//! The filter `access_log`: a line for every request.

use std::{
    collections::HashSet,
    fs,
    net::UdpSocket,
    os::unix::net::UnixDatagram,
    sync::atomic::{AtomicUsize, Ordering},
};

use edgeway_tests::{Echo, Gateway, PATIENCE, Upstream, eventually, load};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::jwt::tokens::{SECRET, token};

fn gateway(echo: &Echo, log: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters:
          - request_id
          - access_log: {{ {log} }}
        routes:
          - name: protected
            match: {{ path: /protected/ }}
            filters:
              - jwt: {{ algorithms: [HS256], secret: {SECRET} }}
            upstream: echo
          - name: here
            match: {{ path: /here }}
            respond: {{ text: here }}
          - name: echoing
            match: {{ path: /echo }}
            upstream: echo
        "
    ))
}

/// The JSON line that contains a text.
fn entry(gateway: &Gateway, text: &str) -> Value {
    serde_json::from_str(&gateway.wait_for_output(text)).unwrap()
}

/// The newest JSON line that contains a text.
fn entry_of_last(gateway: &Gateway, text: &str) -> Value {
    gateway.wait_for_output(text);
    let output = gateway.output();
    let line = output.lines().rfind(|line| line.contains(text)).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_proxied_request_is_told_in_full() {
    // #114
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let mut connection = gateway.connect();
    let answer = connection
        .request("POST", "/echo?size=1000")
        .host("Shop.Example:8080")
        .header("User-Agent", "test/1")
        .header("Referer", "https://shop.example/list")
        .body("12345")
        .send();
    let entry = entry(&gateway, "/echo?size=1000");
    let time = entry["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    for (key, value) in [
        ("request_id", json!(answer.header("X-Request-Id"))),
        ("client", json!("127.0.0.1")),
        ("peer", json!(connection.local().to_string())),
        ("method", json!("POST")),
        ("scheme", json!("http")),
        ("host", json!("shop.example")),
        ("target", json!("/echo?size=1000")),
        ("protocol", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("bytes_received", json!(5)),
        ("bytes_sent", json!(1000)),
        ("origin", json!("upstream")),
        ("upstream", json!("echo")),
        ("endpoint", json!(echo.to_string())),
        ("attempts", json!(1)),
        ("route", json!("echoing")),
        ("referer", json!("https://shop.example/list")),
        ("user_agent", json!("test/1")),
        ("listener", json!("http")),
        ("reused", json!(false)),
    ] {
        assert_eq!(entry[key], value, "{key} in {entry}");
    }
    assert!(
        entry["duration_ms"].as_f64() >= entry["upstream_ms"].as_f64(),
        "{entry}"
    );
    for absent in [
        "filter",
        "reason",
        "error",
        "subject",
        "tries",
        "trace_id",
        "tls_version",
    ] {
        assert_eq!(entry[absent], Value::Null, "{absent}");
    }
}

#[test]
fn the_phases_of_a_request_are_all_of_its_time() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let mut connection = gateway.connect();
    connection.request("GET", "/echo?delay=300ms&first").send();
    let first = entry(&gateway, "&first");
    let time = |entry: &Value, key: &str| entry[key].as_f64().unwrap_or(0.0);
    let phases = [
        "filters_ms",
        "queue_ms",
        "connect_ms",
        "send_ms",
        "wait_ms",
        "receive_ms",
    ];
    let sum: f64 = phases.iter().map(|key| time(&first, key)).sum();
    assert!((sum - time(&first, "duration_ms")).abs() < 0.01, "{first}");
    assert!(time(&first, "wait_ms") >= 300.0, "{first}");
    assert!(
        first["connect_ms"].is_number() && first["send_ms"].is_null(),
        "{first}"
    );
    // Once the connection is back, the next request has it.
    eventually(PATIENCE, || {
        connection.request("POST", "/echo?again").body("x").send();
        let again = entry_of_last(&gateway, "/echo?again");
        again["reused"] == true && again["connect_ms"].is_null() && again["send_ms"].is_number()
    });
}

#[test]
fn a_refusal_names_the_filter_and_the_reason() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    gateway.get("/protected/none");
    let none = entry(&gateway, "/protected/none");
    assert_eq!(
        (&none["status"], &none["origin"]),
        (&json!(401), &json!("reply"))
    );
    assert_eq!(
        (&none["filter"], &none["reason"]),
        (&json!("jwt"), &json!("no token"))
    );
    assert_eq!(
        (&none["route"], &none["upstream"]),
        (&json!("protected"), &Value::Null)
    );

    gateway
        .request("GET", "/protected/good")
        .bearer(&token(json!({ "sub": "ann" })))
        .send();
    let good = entry(&gateway, "/protected/good");
    assert_eq!(
        (&good["status"], &good["subject"]),
        (&json!(200), &json!("ann"))
    );
    assert_eq!(good["filter"], Value::Null);
}

#[test]
fn every_reply_of_the_gateway_has_a_line() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    for (target, status) in [
        ("/here", 200),
        ("/nowhere", 404),
        ("/echo/%00", 400),
        ("/protected/", 401),
    ] {
        assert_eq!(gateway.get(target).status, status);
        let entry = entry(&gateway, &format!("\"target\":\"{target}\""));
        assert_eq!(
            (&entry["status"], &entry["origin"]),
            (&json!(status), &json!("reply"))
        );
    }
    gateway.request("TRACE", "/echo?trace").send();
    assert_eq!(entry(&gateway, "/echo?trace")["status"], 405);
    gateway.request("GET", "/echo?odd").host("a b").send();
    let odd = entry(&gateway, "/echo?odd");
    assert_eq!(odd["status"], 400);
    // What is not known is left out.
    assert_eq!((&odd["host"], &odd["route"]), (&Value::Null, &Value::Null));
}

#[test]
fn attempts_and_the_endpoint_that_answered_are_told() {
    let (echo, dead) = (Echo::start(), Upstream::refusing());
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          both: {{ endpoints: [{dead}, {echo}] }}
          dead: {{ endpoints: [{dead}] }}
        filters: [access_log]
        routes:
          - match: {{ path: /both }}
            upstream: both
          - match: {{ path: /dead }}
            upstream: dead
        "
    ));
    // One of the first two meets the dead one first.
    for number in 0..2 {
        assert_eq!(gateway.get(&format!("/both/{number}")).status, 200);
    }
    let entries = [0, 1].map(|number| entry(&gateway, &format!("/both/{number}")));
    assert!(
        entries
            .iter()
            .all(|entry| entry["endpoint"] == echo.to_string()),
        "{entries:?}"
    );
    let twice = entries.iter().find(|entry| entry["attempts"] == 2);
    let tries = twice.unwrap()["tries"].clone();
    assert_eq!(tries[0]["endpoint"], dead.to_string());
    assert_eq!(tries[0]["error"], "ConnectRefused");
    assert_eq!(
        (&tries[1]["endpoint"], &tries[1]["status"]),
        (&json!(echo.to_string()), &json!(200))
    );
    assert_eq!(tries[2], Value::Null);

    assert_eq!(gateway.get("/dead").status, 502);
    let failed = entry(&gateway, "/dead");
    assert_eq!(
        (&failed["status"], &failed["endpoint"]),
        (&json!(502), &json!(dead.to_string()))
    );
    assert!(
        failed["reason"].is_string() || failed["error"].is_string(),
        "{failed}"
    );
}

#[test]
fn a_second_endpoint_that_was_faster_is_told_beside_the_first() {
    let (echo, silent) = (Echo::start(), Upstream::silent());
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app:
            endpoints: ['{silent}', {{ address: '{echo}', backup: true }}]
            retries: {{ hedge_after: 50ms }}
        filters: [access_log]
        routes: [{{ upstream: app }}]
        "
    ));
    assert_eq!(gateway.get("/x").status, 200);
    let entry = entry(&gateway, "/x");
    assert_eq!(
        (&entry["attempts"], &entry["endpoint"]),
        (&json!(2), &json!(echo.to_string()))
    );
    let (first, second) = (&entry["tries"][0], &entry["tries"][1]);
    assert_eq!(first["endpoint"], silent.to_string());
    assert_eq!(
        (&first["status"], &first["error"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&second["status"], &second["hedged"]),
        (&json!(200), &json!(true))
    );
    assert!(first["ms"].as_f64() >= Some(50.0), "{entry}");
}

#[test]
fn a_client_that_leaves_has_a_line_too() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "");
    let mut connection = gateway.connect();
    connection.send("GET /echo?delay=20s HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || echo.stats().requests == 1);
    drop(connection);
    let entry = entry(&gateway, "/echo?delay=20s");
    assert_eq!(entry["status"], Value::Null, "{entry}");
}

#[test]
fn secrets_in_queries_are_masked() {
    // T11
    let echo = Echo::start();
    let gateway = gateway(&echo, "secrets: [session]");
    let target =
        "/echo?access_token=s1&x=1&TOKEN=s2&code=s3&p%61ssword=s4&session=s5&user[secret]=s6";
    gateway
        .request("GET", target)
        .header("Referer", "https://a.example/?token=s7&y=2")
        .send();
    let entry = entry(&gateway, "/echo?");
    let wanted =
        "/echo?access_token=***&x=1&TOKEN=***&code=***&p%61ssword=***&session=***&user[secret]=***";
    assert_eq!(entry["target"], wanted);
    assert_eq!(entry["referer"], "https://a.example/?token=***&y=2");
}

#[test]
fn combined_is_the_format_of_nginx() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "format: combined");
    let request = gateway
        .request("GET", "/here?token=s1")
        .header("User-Agent", "a\"b\\c");
    request.header("Referer", "https://a.example/").send();
    let line = gateway.wait_for_output("/here");
    let (start, rest) = line.split_once('[').unwrap();
    assert_eq!(start, "127.0.0.1 - - ");
    let (time, rest) = rest.split_once(']').unwrap();
    assert!(time.ends_with(" +0000"), "{time}");
    assert_eq!(
        rest,
        r#" "GET /here?token=*** HTTP/1.1" 200 4 "https://a.example/" "a\x22b\x5Cc""#
    );

    gateway
        .request("GET", "/protected/x")
        .bearer(&token(json!({ "sub": "ann lee" })))
        .send();
    let line = gateway.wait_for_output("/protected/x");
    assert!(line.starts_with(r"127.0.0.1 - ann\x20lee ["), "{line}");
}

#[test]
fn a_format_of_ones_own_has_the_values_of_the_log() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "format: '{method} {target} {status} {upstream} {endpoint} {attempts} {filter} <{reason}> {origin} \
         {protocol} {bytes_received} {bytes_sent} {header.x-in} {route}'",
    );
    gateway
        .request("GET", "/here?1")
        .header("X-In", "a b")
        .send();
    let line = gateway.wait_for_output("/here?1");
    assert_eq!(
        line,
        "GET /here?1 200 - - 0 - <-> reply HTTP/1.1 0 4 a b here"
    );
    gateway.get("/protected/1");
    let line = gateway.wait_for_output("/protected/1");
    let wanted = "GET /protected/1 401 - - 0 jwt <no token> reply HTTP/1.1 0 ";
    assert!(line.starts_with(wanted), "{line}");
    gateway.get("/echo?size=7");
    let line = gateway.wait_for_output("/echo?size=7");
    assert_eq!(
        line,
        format!("GET /echo?size=7 200 echo {echo} 1 - <-> upstream HTTP/1.1 0 7 - echoing")
    );
}

#[test]
fn lines_go_where_they_are_wanted() {
    // #117
    let echo = Echo::start();
    let to_stderr = gateway(&echo, "to: stderr");
    to_stderr.get("/here");
    to_stderr.wait_for_log(r#""target":"/here""#);
    assert_eq!(to_stderr.output(), "");

    let to_file = gateway(&echo, "to: { file: access.log }");
    let read = || fs::read_to_string(to_file.folder().join("access.log")).unwrap_or_default();
    to_file.get("/here");
    eventually(PATIENCE, || read().ends_with("}\n"));
    assert!(read().contains(r#""target":"/here""#), "{}", read());
    assert_eq!(to_file.output(), "");
    assert!(to_file.reload_files());
    to_file.get("/here?2");
    eventually(PATIENCE, || {
        read().lines().count() == 2 && read().ends_with("}\n")
    });
}

#[test]
fn a_file_that_is_renamed_under_load_loses_and_tears_no_line() {
    const REQUESTS: usize = 3_000;
    let echo = Echo::start();
    let mut gateway = gateway(&echo, "to: { file: access.log }");
    let path = gateway.folder().join("access.log");
    let old = |number: usize| gateway.folder().join(format!("access.log.{number}"));
    let number = AtomicUsize::new(0);
    let rotations = std::thread::scope(|scope| {
        let loaded = scope.spawn(|| {
            load(gateway.address(), 8, REQUESTS, |connection| {
                let number = number.fetch_add(1, Ordering::Relaxed);
                connection.request("GET", &format!("/here/{number}"))
            })
        });
        let mut rotations = 0;
        while !loaded.is_finished() {
            // As logrotate does.
            if path.exists() {
                fs::rename(&path, old(rotations)).unwrap();
                rotations += 1;
                gateway.signal(Signal::USR1);
                eventually(PATIENCE, || path.exists());
            }
        }
        loaded.join().unwrap().expect_all(200);
        rotations
    });
    assert!(rotations > 1, "{rotations}");
    let files: Vec<_> = (0..rotations).map(old).chain([path]).collect();
    assert!(gateway.stop().success());
    let mut targets = HashSet::new();
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            targets.insert(entry["target"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(targets.len(), REQUESTS);
}

#[test]
fn of_a_sample_what_failed_has_a_line_all_the_same() {
    let gateway = Gateway::start(
        "
        filters: [{ access_log: { sample: 0%, always: { statuses: [404], slower_than: 1h } } }]
        routes: [{ match: { path: /here }, respond: { text: here } }]
        ",
    );
    for target in ["/here?1", "/none", "/here?2"] {
        gateway.get(target);
    }
    gateway.wait_for_output("/none");
    let output = gateway.output();
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[test]
fn syslog_is_sent_a_message_for_each_line() {
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = tempfile::tempdir().unwrap();
    let socket = socket.path().join("log");
    let here = UnixDatagram::bind(&socket).unwrap();
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    let gateway = Gateway::start(&format!(
        "
        filters:
          - access_log:
              format: '{{method}} {{target}} {{status}}'
              to: {{ syslog: {{ address: 'udp:{}', facility: local0, tag: edge }} }}
          - access_log:
              format: '{{status}} {{target}}'
              to: {{ syslog: {{ address: 'unix:{}' }} }}
        routes: [{{ respond: {{ text: here }} }}]
        ",
        there.local_addr().unwrap(),
        socket.display()
    ));
    gateway.get("/x?token=1");
    let mut buffer = [0; 2_000];
    let length = there.recv(&mut buffer).unwrap();
    let message = str::from_utf8(&buffer[..length]).unwrap();
    assert!(message.starts_with("<134>1 "), "{message}");
    let end = format!(" edge {} - - GET /x?token=*** 200", gateway.pid());
    assert!(message.ends_with(&end), "{message}");
    let length = here.recv(&mut buffer).unwrap();
    let message = str::from_utf8(&buffer[..length]).unwrap();
    let end = format!(" edgeway[{}]: 200 /x?token=***", gateway.pid());
    assert!(
        message.starts_with("<190>") && message.ends_with(&end),
        "{message}"
    );
}

#[test]
fn two_logs_of_a_route_are_both_written() {
    let gateway = Gateway::start(
        "
        filters:
          - access_log: { format: combined, to: { file: combined.log } }
          - access_log
        routes:
          - respond: { text: here }
        ",
    );
    gateway.get("/x");
    gateway.wait_for_output(r#""target":"/x""#);
    let file = gateway.folder().join("combined.log");
    eventually(PATIENCE, || {
        fs::read_to_string(&file)
            .unwrap_or_default()
            .contains("\"GET /x HTTP/1.1\" 200")
    });
}

#[test]
fn a_check_does_not_make_the_file_that_the_gateway_will_write() {
    let setup = Gateway::setup(
        "
        filters: [access_log: { to: { file: access.log } }]
        routes: [{ respond: { text: here } }]
        ",
    );
    assert_eq!(setup.run("check").code, Some(0));
    assert!(!setup.folder().join("access.log").exists());
    let gateway = setup.start();
    eventually(PATIENCE, || gateway.folder().join("access.log").exists());
}

#[test]
fn a_file_that_can_not_be_made_is_told_once_and_tried_again() {
    let setup = Gateway::setup(
        "
        filters: [access_log: { to: { file: access.log } }]
        routes: [{ respond: { text: here } }]
        ",
    );
    let folder = setup.folder().join("later");
    std::os::unix::fs::symlink(folder.join("a.log"), setup.folder().join("access.log")).unwrap();
    let gateway = setup.start();
    gateway
        .wait_for_log("access.log can't be opened, its lines are lost: No such file or directory");
    assert_eq!(gateway.get("/lost").text(), "here");
    fs::create_dir(&folder).unwrap();
    gateway.wait_for_log("access.log is open now, 1 lines are lost");
    assert_eq!(gateway.get("/kept").text(), "here");
    let read = || fs::read_to_string(folder.join("a.log")).unwrap_or_default();
    eventually(PATIENCE, || read().ends_with("}\n"));
    assert!(
        read().lines().count() == 1 && read().contains("/kept"),
        "{}",
        read()
    );
    assert_eq!(gateway.log().matches("can't be opened").count(), 1);
}

#[test]
fn many_requests_lose_no_line() {
    const REQUESTS: usize = 2_000;
    let echo = Echo::start();
    let mut gateway = gateway(&echo, "");
    let number = AtomicUsize::new(0);
    let outcomes = load(gateway.address(), 16, REQUESTS, |connection| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        connection.request("GET", &format!("/here/{number}"))
    });
    outcomes.expect_all(200);
    assert!(gateway.stop().success());
    let output = gateway.output();
    let targets: Vec<String> = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|entry| entry["target"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(targets.len(), REQUESTS);
    assert_eq!(targets.iter().collect::<HashSet<_>>().len(), REQUESTS);
    assert!(!gateway.log().contains("has lost"), "{}", gateway.log());
}

#[test]
fn requests_that_end_during_a_stop_have_their_lines() {
    let echo = Echo::start();
    let mut gateway = gateway(&echo, "to: { file: access.log }");
    let mut connection = gateway.connect();
    connection.send("GET /echo?delay=500ms HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(PATIENCE, || echo.stats().requests == 1);
    gateway.ask_to_stop();
    assert_eq!(connection.answer().status, 200);
    assert!(gateway.wait().success());
    let text = fs::read_to_string(gateway.folder().join("access.log")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains(r#""status":200"#) && text.ends_with("}\n"),
        "{text}"
    );
}

#[test]
fn what_a_client_sends_can_not_forge_a_line() {
    let echo = Echo::start();
    for format in ["format: json", "format: combined"] {
        let mut gateway = gateway(&echo, format);
        let hostile = [
            "GET /here?\"x HTTP/1.1\r\nHost: x\r\nUser-Agent: a\",\"status\":999,\"x\":\"b\r\n",
            "GET /here?%0a%0d%22 HTTP/1.1\r\nHost: x\r\nReferer: https://a/\"\\\r\n",
            "GET /here?1 HTTP/1.1\r\nHost: x\r\nUser-Agent: a\rGET /forged HTTP/1.1\r\n",
            "GET /here?2 HTTP/1.1\r\nHost: x\r\nUser-Agent: a\nX: y\r\n",
            "GET /here?3 HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\n {\"forged\":1}\r\n",
            "GET /here?4 HTTP/1.1\r\nHost: x\r\nUser-Agent: \u{1b}[2J\u{7f}\u{85}\u{2028}\r\n",
            "GET /here?5 HTTP/1.1\r\nHost: x\" 200 \"\r\nUser-Agent: a\r\n",
            "GET /here?\u{e9} HTTP/1.1\r\nHost: x\r\nUser-Agent: \t\"' \\\" \r\n",
        ];
        for head in hostile {
            let mut connection = gateway.connect();
            connection.send(format!("{head}Connection: close\r\n\r\n"));
            drop(connection.try_answer());
        }
        assert!(gateway.stop().success());
        let output = gateway.output();
        assert!(output.lines().count() <= hostile.len(), "{output}");
        for line in output.lines() {
            assert!(line.bytes().all(|byte| byte >= b' '), "{line:?}");
            assert!(
                !line.contains("\u{85}") && !line.contains("\u{2028}"),
                "{line:?}"
            );
            if format == "format: json" {
                let entry: Value = serde_json::from_str(line).unwrap();
                assert!(
                    entry["status"] != 999 && entry["forged"] == Value::Null,
                    "{line}"
                );
            } else {
                assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
                assert_eq!(line.matches('"').count(), 6, "{line}");
            }
        }
    }
}

#[test]
fn a_post_that_met_a_connection_the_endpoint_had_closed_is_told_with_its_upstream() {
    // Answers once, and closes at the second request on the same connection.
    let upstream = Upstream::raw(|mut caller| {
        caller.request();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        caller.request();
    });
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ endpoints: [{upstream}], max_fails: 0 }} }}
        filters: [access_log]
        routes: [{{ upstream: app }}]
        "
    ));
    let mut number = 0;
    // The first answer may be with the client before its connection is back in the pool.
    eventually(PATIENCE, || {
        number += 1;
        let target = format!("/post/{number}");
        let answer = gateway.request("POST", &target).send();
        answer.status == 502
    });
    let failed = entry(&gateway, &format!("/post/{number}"));
    assert_eq!(failed["upstream"], "app", "{failed}");
    assert_eq!(failed["attempts"], 1, "{failed}");
}
