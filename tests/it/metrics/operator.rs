//! What operators make of the metrics: the dashboard and the alerts of `conf/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use edgeway_tests::{Authority, Endpoint, Gateway, PATIENCE, Prometheus, eventually, tell_skipped};
use serde_json::Value;

use super::scrape::{self, Scrape};

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../conf")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(conf(name)).unwrap()
}

/// A gateway that has served requests of all kinds, with what must live as long.
struct Busy {
    gateway: Gateway,
    _endpoint: Endpoint,
    _authority: Authority,
}

fn busy() -> Busy {
    let (endpoint, authority) = (Endpoint::start("a"), Authority::new());
    let certificate = authority.certificate(&["shop.test"]);
    let (chain, key) = (certificate.chain(), certificate.key());
    let yaml = format!(
        "
        listeners:
          http: {{ bind: '127.0.0.1:0' }}
          https:
            bind: '127.0.0.1:0'
            tls: {{ certificates: [{{ chain: {}, key: {} }}] }}
        admin: {{ bind: '127.0.0.1:0' }}
        caches: {{ pages: {{ disk: {{ path: pages, max_size: 10MiB }} }} }}
        upstreams:
          pool:
            endpoints: ['{endpoint}', '127.0.0.1:1']
            max_connections: 10
            queue: {{ size: 5 }}
            breaker: {{ min_requests: 1000 }}
            health: {{ path: /healthz, interval: 100ms }}
        filters:
          - access_log: {{ to: {{ file: access.log }} }}
          - trace: {{ sample: 100%, otlp: {{ url: 'http://{endpoint}' }} }}
        routes:
          - {{ name: limited, match: {{ path: /limited }}, filters: [{{ rate_limit: {{ rate: 1/h }} }}], respond: {{ text: hello }} }}
          - {{ name: stored, match: {{ path: /stored }}, upstream: pool, cache: {{ ttl: 60s, zone: pages }} }}
          - {{ name: rest, upstream: pool }}
        ",
        chain.display(),
        key.display(),
    );
    let gateway = Gateway::start(&yaml);
    for target in [
        "/limited", "/limited", "/stored", "/stored", "/rest", "/rest",
    ] {
        gateway.get(target);
    }
    let checked = "edgeway_endpoint_checks_total";
    eventually(PATIENCE, || Scrape::of(&gateway).has(checked));
    Busy {
        gateway,
        _endpoint: endpoint,
        _authority: authority,
    }
}

/// All expressions of the dashboard.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("grafana/edgeway.json")).unwrap();
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    assert!(found.len() > 50, "{found:#?}");
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("expr" | "definition", Value::String(text)) => found.push(text.clone()),
                    _ => collect(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// All expressions of the alerts. An expression ends where the next key begins.
fn alerts() -> Vec<String> {
    let text = read("prometheus/alerts.yaml");
    let rules = text.split("- alert: ").skip(1);
    rules
        .map(|rule| {
            let (_, behind) = rule.split_once("expr:").unwrap();
            let end = ["        for:", "        labels:"];
            let end = end.iter().filter_map(|key| behind.find(key)).min().unwrap();
            behind
                .split_at(end)
                .0
                .trim()
                .trim_start_matches(">-")
                .to_owned()
        })
        .collect()
}

/// The metrics that an expression asks for, each with the labels by which it does.
fn asked(expression: &str) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut grouped = BTreeSet::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let (_, word) = rest.split_at(start);
        let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        rest = behind;
        if word == "by" {
            let (labels, behind) = behind.trim_start().split_once(')').unwrap();
            let labels = labels.trim_start_matches('(').split(',');
            grouped.extend(labels.map(|label| label.trim().to_owned()));
            rest = behind;
        } else if let Some(selector) = behind.strip_prefix('{') {
            let (selector, behind) = selector.split_once('}').unwrap();
            let labels = selector.split(',').filter(|label| !label.trim().is_empty());
            let names = labels.map(|label| {
                let end = label.find(['=', '!']).unwrap();
                label.split_at(end).0.trim().to_owned()
            });
            metrics.entry(word.to_owned()).or_default().extend(names);
            rest = behind;
        } else if ["edgeway_", "process_"]
            .iter()
            .any(|own| word.starts_with(own))
        {
            metrics.entry(word.to_owned()).or_default();
        } else if let Some(quoted) = behind.strip_prefix('"') {
            rest = quoted;
        }
    }
    (metrics, grouped)
}

#[test]
fn what_an_expression_asks_for_is_found() {
    let expression =
        "sum by (instance, le) (rate(edgeway_a_bucket{route=~\"x\", code!=\"2\"}[5m])) / edgeway_b";
    let (metrics, grouped) = asked(expression);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(grouped, names(&["instance", "le"]));
    assert_eq!(metrics["edgeway_a_bucket"], names(&["route", "code"]));
    assert_eq!(metrics["edgeway_b"], names(&[]));
    assert_eq!(metrics.len(), 2);
}

#[test]
fn all_that_the_dashboard_and_the_alerts_ask_for_is_there() {
    let busy = busy();
    let scrape = Scrape::of(&busy.gateway);
    let known = scrape.names();
    // Prometheus puts these beside each sample, and `class` is made by the dashboard.
    let added = ["instance", "job", "class"];
    for expression in dashboard().iter().chain(&alerts()) {
        let (metrics, grouped) = asked(expression);
        let mut labels = BTreeSet::new();
        for (metric, by) in &metrics {
            if metric == "up" {
                continue;
            }
            let known = known.get(metric.as_str());
            let known = known.unwrap_or_else(|| panic!("no {metric}, as in {expression}"));
            labels.extend(known.iter().copied());
            for label in by {
                let there = known.contains(label.as_str()) || added.contains(&label.as_str());
                assert!(there, "{metric} has no {label}, as in {expression}");
            }
        }
        for label in grouped {
            let there = labels.contains(label.as_str()) || added.contains(&label.as_str());
            assert!(there, "no {label} in {expression}");
        }
    }
}

#[test]
fn every_family_is_in_the_dashboard() {
    let busy = busy();
    let expressions = dashboard().join("\n");
    // One that all programs have, and that says nothing which others do not.
    let left_out = ["process_virtual_memory_bytes"];
    let scrape = Scrape::of(&busy.gateway);
    let missing: Vec<_> = scrape
        .types()
        .keys()
        .filter(|family| !expressions.contains(family.as_str()))
        .filter(|family| !left_out.contains(&family.as_str()))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

const PROMTOOL: &str = "/usr/bin/promtool";

/// Runs promtool with this at its standard input. None, and a loud word, if this machine has none.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> Option<()> {
    if !Path::new(PROMTOOL).exists() {
        tell_skipped(PROMTOOL);
        return None;
    }
    let mut command = Command::new(PROMTOOL);
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let said = running.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(said.status.success(), "promtool {arguments:?}: {text}");
    Some(())
}

#[test]
fn promtool_has_nothing_to_say_against_the_metrics() {
    let busy = busy();
    let text = scrape::ask(&busy.gateway, "*/*").text().to_owned();
    promtool(&["check", "metrics"], &text);
}

#[test]
fn the_alerts_are_right_and_fire_when_they_are_to() {
    let alerts = conf("prometheus/alerts.yaml");
    promtool(&["check", "rules", alerts.to_str().unwrap()], "");
    let scrape = conf("prometheus/scrape.yaml");
    promtool(&["check", "config", scrape.to_str().unwrap()], "");
    let folder = tempfile::tempdir().unwrap();
    let tests = include_str!("alerts.yaml").replace("ALERTS", alerts.to_str().unwrap());
    let path = folder.path().join("tests.yaml");
    fs::write(&path, tests).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], "");
}

#[test]
fn a_prometheus_scrapes_the_gateway_and_understands_dashboard_and_alerts() {
    let busy = busy();
    let admin = busy.gateway.address_of("admin");
    let alerts = conf("prometheus/alerts.yaml");
    let configuration = read("prometheus/scrape.yaml")
        .replace("127.0.0.1:9901", &admin.to_string())
        .replace("15s", "1s")
        .replace("alerts.yaml]", &format!("{}]", alerts.display()));
    let Some(prometheus) = Prometheus::start(&configuration) else {
        return;
    };
    let scraped = Duration::from_secs(30);
    eventually(scraped, || {
        let up = prometheus.query("up{job=\"edgeway\"}");
        up.first().is_some_and(|up| up["value"][1] == "1")
    });
    let requests = "sum by (route) (edgeway_requests_total{code=\"200\", route=\"rest\"})";
    assert_eq!(prometheus.query(requests)[0]["value"][1], "2");
    for expression in dashboard() {
        if expression.starts_with("label_values(") {
            continue;
        }
        let expression = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("$route", ".*")
            .replace("$upstream", ".*");
        prometheus.query(&expression);
    }
    let rules = prometheus.get("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), self::alerts().len());
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule}");
    }
}
