use std::{collections::VecDeque, net::SocketAddr, sync::Mutex, time::Instant};

use hickory_resolver::proto::rr::RecordType;
use tokio::sync::mpsc;

use super::{
    tiny_dns::{TinyDns, ip, srv},
    *,
};

/// Finds what a test has put down; then nothing more, for long.
struct Scripted {
    looks: Mutex<VecDeque<Result<Vec<&'static str>, &'static str>>>,
    times: Mutex<Vec<Instant>>,
}

impl Scripted {
    fn new<const N: usize>(looks: [Result<Vec<&'static str>, &'static str>; N]) -> Arc<Self> {
        Arc::new(Self {
            looks: Mutex::new(looks.into()),
            times: Mutex::default(),
        })
    }
}

#[async_trait]
impl Source for Scripted {
    async fn look(&self) -> Result<Look, String> {
        self.times.lock().unwrap().push(Instant::now());
        let Some(look) = self.looks.lock().unwrap().pop_front() else {
            return std::future::pending().await;
        };
        Ok(Look {
            endpoints: look?.into_iter().map(found).collect(),
            fresh_for: Duration::from_millis(1),
        })
    }

    fn describe(&self) -> String {
        "upstream=app script".to_owned()
    }

    fn backoff(&self) -> Backoff {
        Backoff {
            first: Duration::from_millis(10),
            most: Duration::from_millis(20),
        }
    }
}

fn found(address: &str) -> Found {
    config::Endpoint::at(address.parse().expect("an address")).into()
}

fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| found.name.clone()).collect()
}

/// What `follow` tells of a source until that has nothing more.
async fn told(source: Arc<Scripted>) -> Vec<Vec<String>> {
    let (send, mut receive) = mpsc::unbounded_channel();
    let tell = move |found: Vec<Found>| send.send(names(&found)).expect("somebody listens");
    let following = tokio::spawn(follow(source.clone(), tell));
    while !source.looks.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The last look is taken, and told before anything else is awaited.
    let looks = source.times.lock().unwrap().len();
    while source.times.lock().unwrap().len() == looks {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    following.abort();
    let mut all = Vec::new();
    while let Some(one) = receive.recv().await {
        all.push(one);
    }
    all
}

#[tokio::test]
async fn only_changes_are_told_whatever_the_order() {
    let source = Scripted::new([
        Ok(vec!["b:1", "a:1"]),
        Ok(vec!["a:1", "b:1"]),
        Ok(vec!["b:1", "a:1", "b:1"]),
        Ok(vec!["c:1", "a:1"]),
        Ok(vec!["c:1", "a:1"]),
    ]);
    assert_eq!(told(source).await, [["a:1", "b:1"], ["a:1", "c:1"]]);
}

#[tokio::test]
async fn what_was_found_last_stays_through_failures() {
    let source = Scripted::new([
        Err("down"),
        Ok(vec!["a:1"]),
        Err("down"),
        Err("down"),
        Ok(vec!["a:1"]),
        Ok(vec![]),
    ]);
    assert_eq!(told(source).await, [vec!["a:1".to_owned()], vec![]]);
}

#[tokio::test]
async fn failures_are_waited_for_longer_and_longer() {
    let source = Scripted::new([Err("down"), Err("down"), Err("down"), Ok(vec![])]);
    told(source.clone()).await;
    let times = source.times.lock().unwrap();
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, least) in waits.iter().zip([10, 20, 20]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
}

#[test]
fn a_change_of_weight_is_a_change() {
    let heavier = Found {
        weight: NonZeroU16::new(2).unwrap(),
        ..found("a:1")
    };
    assert_ne!(in_order(vec![heavier]), in_order(vec![found("a:1")]));
}

#[test]
fn trouble_is_news_when_it_begins_and_when_it_changes() {
    let mut trouble = Trouble::new(Backoff::default());
    assert!(!trouble.is_over(), "there was none");
    let met: Vec<_> = ["a", "a", "b", "b", "b", "b"]
        .iter()
        .map(|reason| trouble.met(reason))
        .map(|(news, wait)| (news, wait.as_secs()))
        .collect();
    assert_eq!(
        met,
        [
            (true, 1),
            (false, 2),
            (true, 4),
            (false, 8),
            (false, 10),
            (false, 10)
        ]
    );
    assert!(trouble.is_over());
    assert!(!trouble.is_over());
    assert_eq!(trouble.met("b"), (true, Duration::from_secs(1)));
}

#[test]
fn jitter_makes_a_wait_at_most_a_tenth_longer() {
    let period = Duration::from_secs(10);
    for _ in 0..1000 {
        let wait = jittered(period);
        assert!(
            wait >= period && wait <= Duration::from_secs(11),
            "{wait:?}"
        );
    }
    assert_eq!(jittered(Duration::MAX), Duration::MAX);
    assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
}

fn of(discover: &Discover, dns: &TinyDns) -> Arc<dyn Source> {
    source(
        "app",
        discover,
        Path::new("/"),
        &Resolver::new(&dns.config()),
    )
}

#[tokio::test]
async fn every_address_of_a_name_is_an_endpoint() {
    let dns = TinyDns::start();
    dns.set(
        "app.test",
        30,
        &[ip("10.0.0.2"), ip("10.0.0.1"), ip("2001:db8::1")],
    );
    let source = of(&Discover::Dns("app.test:8080".parse().unwrap()), &dns);
    assert_eq!(source.describe(), "upstream=app dns=app.test:8080");
    let look = source.look().await.unwrap();
    assert_eq!(
        names(&look.endpoints),
        ["10.0.0.2:8080", "10.0.0.1:8080", "[2001:db8::1]:8080"]
    );
    assert_eq!(look.fresh_for, Duration::from_secs(30));
    let expected: Vec<SocketAddr> = names(&look.endpoints)
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    assert_eq!(addresses(&look.endpoints), expected);
    dns.remove("app.test");
    assert_eq!(source.look().await.unwrap_err(), "there is no such name");
}

#[tokio::test]
async fn a_family_that_can_not_be_asked_for_keeps_its_addresses() {
    let dns = TinyDns::start();
    let source = of(&Discover::Dns("app.test:80".parse().unwrap()), &dns);
    dns.set("app.test", 30, &[ip("10.0.0.1"), ip("::1")]);
    source.look().await.unwrap();
    dns.set("app.test", 30, &[ip("10.0.0.2")]);
    dns.fail(&[RecordType::AAAA]);
    for _ in 0..2 {
        let look = source.look().await.unwrap();
        assert_eq!(names(&look.endpoints), ["10.0.0.2:80", "[::1]:80"]);
    }
    dns.fail(&[]);
    let look = source.look().await.unwrap();
    assert_eq!(names(&look.endpoints), ["10.0.0.2:80"]);
}

#[tokio::test]
async fn the_lowest_priority_serves_and_the_others_are_backups() {
    let dns = TinyDns::start();
    dns.set(
        "_http._tcp.test",
        15,
        &[
            srv(30, 7, 80, "far.test."),
            srv(10, 0, 8081, "b.test."),
            srv(20, 1, 80, "near.test."),
            srv(10, 5, 8080, "a.test."),
            srv(20, 9, 8080, "a.test."),
        ],
    );
    let source = of(&Discover::Srv("_http._tcp.test".parse().unwrap()), &dns);
    let look = source.look().await.unwrap();
    assert_eq!(look.fresh_for, Duration::from_secs(15));
    let endpoints = in_order(look.endpoints);
    let shown: Vec<_> = endpoints
        .iter()
        .map(|found| (found.name.as_str(), found.weight.get(), found.backup))
        .collect();
    assert_eq!(
        shown,
        [
            ("a.test:8080", 5, false),
            ("b.test:8081", 1, false),
            ("far.test:80", 7, true),
            ("near.test:80", 1, true),
        ]
    );
    // Complete, so that no search list applies to it.
    assert_eq!(endpoints[0].address.host(), Some("a.test."));
}

#[tokio::test]
async fn a_broken_file_keeps_the_endpoints_that_were_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endpoints.yaml");
    std::fs::write(&path, "endpoints: [a:1]").unwrap();
    let discover = Discover::File {
        path: "endpoints.yaml".into(),
        interval: Duration::from_millis(10),
    };
    let resolver = Resolver::new(&config::ResolverConfig::default());
    let source = source("app", &discover, folder.path(), &resolver);
    let (send, mut receive) = mpsc::unbounded_channel();
    let tell = move |found: Vec<Found>| send.send(names(&found)).expect("somebody listens");
    let following = tokio::spawn(follow(Arc::clone(&source), tell));
    assert_eq!(receive.recv().await.unwrap(), ["a:1"]);
    std::fs::write(&path, "endpoints: [a:1, b").unwrap();
    source.look().await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(receive.try_recv().is_err(), "nothing has changed");
    std::fs::write(&path, "endpoints: [a:1, b:1]").unwrap();
    assert_eq!(receive.recv().await.unwrap(), ["a:1", "b:1"]);
    following.abort();
}
