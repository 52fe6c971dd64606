//! The filter `request_id`: one id for the upstream, the client and the log.

use edgeway_tests::{Answer, Echo, Gateway};

fn gateway(echo: &Echo, filter: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams:
          echo: {{ endpoints: [{echo}] }}
        filters:
          - {filter}
          - access_log
        routes:
          - match: {{ path: /echo }}
            upstream: echo
        {more}
        "
    ))
}

/// The id in the line of the access log that names this target.
fn logged(gateway: &Gateway, target: &str) -> String {
    let line = gateway.wait_for_output(&format!(r#""target":"{target}""#));
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
    entry["request_id"].as_str().unwrap().to_owned()
}

fn id(answer: &Answer) -> &str {
    answer.header("X-Request-Id").expect("an id")
}

fn sent(gateway: &Gateway, id: &str, client: Option<&str>) -> Answer {
    let request = gateway.request("GET", "/echo").header("X-Request-Id", id);
    match client {
        Some(client) => request.header("X-Forwarded-For", client).send(),
        None => request.send(),
    }
}

#[test]
fn upstream_client_and_log_have_the_same_id() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "request_id", "");
    let answer = gateway.get("/echo?1");
    let own = id(&answer);
    assert!(
        own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{own}"
    );
    assert_eq!(answer.received("x-request-id"), [own]);
    assert_eq!(logged(&gateway, "/echo?1"), own);
    assert_ne!(id(&gateway.get("/echo?2")), own);
}

#[test]
fn a_problem_names_the_id_too() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "request_id", "");
    let problem = gateway.get("/nowhere");
    assert_eq!(problem.status, 404);
    assert_eq!(problem.json()["request_id"], id(&problem));
    assert_eq!(logged(&gateway, "/nowhere"), id(&problem));

    let page = gateway
        .request("GET", "/nowhere")
        .header("Accept", "text/html")
        .send();
    assert!(page.text().contains(id(&page)), "{}", page.text());
}

#[test]
fn an_id_of_the_client_is_kept_only_if_it_is_trusted() {
    let echo = Echo::start();
    let kept = |trust: &str, proxies: &str, client: Option<&str>| {
        let filter = format!("request_id: {{ trust: {trust} }}");
        let gateway = gateway(&echo, &filter, proxies);
        let answer = sent(&gateway, "mine-1", client);
        // Whatever it is, the upstream has it once.
        assert_eq!(answer.received("x-request-id"), [id(&answer)]);
        id(&answer) == "mine-1"
    };
    let proxies = "trusted_proxies: [127.0.0.1]";
    let client = Some("198.51.100.7");
    assert!(kept("always", "", None));
    assert!(!kept("never", proxies, client));
    assert!(kept("trusted_proxy", proxies, client));
    assert!(!kept("trusted_proxy", proxies, None));
    assert!(!kept("trusted_proxy", "", client));
}

#[test]
fn strangers_do_not_choose_their_ids_by_default() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "request_id", "");
    assert_ne!(id(&sent(&gateway, "mine-1", None)), "mine-1");
}

#[test]
fn an_id_that_could_harm_a_log_is_replaced() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "request_id: { trust: always }", "");
    let long = "x".repeat(129);
    for odd in ["a b", "a\"b", "{x}", "", &long, "ä"] {
        let answer = sent(&gateway, odd, None);
        assert_eq!(id(&answer).len(), 32, "{odd}");
    }
    let longest = "x".repeat(128);
    for fine in [
        "a",
        &longest,
        "00-4bf92f3577b34da6a3ce929d0e0e4736-01",
        "A_b.c=d+e/f:g@h",
    ] {
        assert_eq!(id(&sent(&gateway, fine, None)), fine);
    }
}

#[test]
fn the_header_may_have_another_name() {
    let echo = Echo::start();
    let gateway = gateway(
        &echo,
        "request_id: { header: X-Correlation, trust: always }",
        "",
    );
    let answer = gateway
        .request("GET", "/echo")
        .header("X-Correlation", "abc")
        .send();
    assert_eq!(answer.header("X-Correlation"), Some("abc"));
    assert_eq!(answer.received("x-correlation"), ["abc"]);
    assert_eq!(answer.header("X-Request-Id"), None);
}

#[test]
fn the_client_need_not_be_told() {
    let echo = Echo::start();
    let gateway = gateway(&echo, "request_id: { respond: false }", "");
    let answer = gateway.get("/echo");
    assert_eq!(answer.header("X-Request-Id"), None);
    assert_eq!(answer.received("x-request-id"), [logged(&gateway, "/echo")]);
}
