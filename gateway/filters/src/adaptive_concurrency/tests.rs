use std::path::Path;

use edgeway_sdk::{
    Resources,
    test::{self, Outcome, Trial},
};
use http::{request, response};

use super::*;

fn of(json: &str) -> AdaptiveConcurrency {
    test::build(json, build).unwrap()
}

/// A limit that is not to move. While it is measured, it is two.
const TWO: &str = r#"{"name": "a", "initial": 7, "min": 7, "max": 7, "retry_after": "3s"}"#;

struct Asked {
    head: request::Parts,
    exchange: edgeway_sdk::Exchange,
}

impl Asked {
    fn new() -> Self {
        Self {
            head: http::Request::new(()).into_parts().0,
            exchange: edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into()),
        }
    }

    async fn enters(&mut self, filter: &AdaptiveConcurrency) -> bool {
        let mut request = Request::new(&mut self.head, &mut self.exchange);
        matches!(filter.request(&mut request).await, Ok(Flow::Continue))
    }

    fn is_answered(&mut self, filter: &AdaptiveConcurrency, status: u16, origin: Origin) {
        let (mut answer, ()): (response::Parts, ()) = http::Response::new(()).into_parts();
        answer.status = StatusCode::from_u16(status).unwrap();
        let mut response = Response::new(&mut answer, &self.head, &mut self.exchange, origin);
        filter.response(&mut response).unwrap();
    }
}

#[tokio::test]
async fn what_is_above_the_limit_is_503_until_an_answer_has_come() {
    let filter = of(TWO);
    let mut first = Asked::new();
    let mut second = Asked::new();
    assert!(first.enters(&filter).await && second.enters(&filter).await);
    let refused = Trial::get("/").run(&filter).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("retry-after"), Some("3"));
    assert_eq!(refused.reply.unwrap().decided_by_rule(), Some("a"));
    first.is_answered(&filter, 200, Origin::Upstream);
    let mut third = Asked::new();
    assert!(third.enters(&filter).await);
    // What was refused has taken nothing, and who is answered twice gives nothing twice.
    first.is_answered(&filter, 200, Origin::Upstream);
    drop(first);
    assert!(!Asked::new().enters(&filter).await);
}

#[tokio::test]
async fn whoever_leaves_without_an_answer_gives_the_place_back() {
    let filter = of(TWO);
    let mut first = Asked::new();
    let mut second = Asked::new();
    assert!(first.enters(&filter).await && second.enters(&filter).await);
    drop(first);
    assert!(Asked::new().enters(&filter).await);
    for origin in [Origin::Cache, Origin::Reply] {
        second.is_answered(&filter, 200, origin);
        second = Asked::new();
        assert!(second.enters(&filter).await);
    }
    let mut places = Vec::new();
    for _ in 0..2 {
        let outcome: Outcome = Trial::get("/").run(&filter).await;
        filter.log(&outcome.record());
        places.push(outcome);
    }
    assert!(Asked::new().enters(&filter).await);
}

#[tokio::test]
async fn a_request_counts_once_for_a_name_and_once_for_each_name() {
    let resources = Resources::default();
    let staged = |json: &str| {
        let mut stage = Build::new(&resources, Path::new("."));
        build(serde_json::from_str(json).unwrap(), &mut stage).unwrap()
    };
    let (a, again) = (staged(TWO), staged(TWO));
    let b = staged(&TWO.replace("\"a\"", "\"b\""));
    let mut first = Asked::new();
    for filter in [&a, &again, &b] {
        assert!(first.enters(filter).await);
    }
    let mut second = Asked::new();
    assert!(second.enters(&again).await);
    // A reload changes nothing: `a` and `again` are of two configurations.
    drop(a);
    let mut third = Asked::new();
    assert!(!third.enters(&again).await);
    assert!(third.enters(&b).await);
    assert!(!Asked::new().enters(&b).await);
    first.is_answered(&b, 200, Origin::Upstream);
    assert!(Asked::new().enters(&b).await);
    assert!(!Asked::new().enters(&again).await);
}

#[tokio::test]
async fn only_answers_of_the_upstream_and_their_lack_change_the_limit() {
    let json = r#"{"name": "a", "initial": 100, "min": 1, "max": 200, "window": "10ms"}"#;
    for (origin, status, lowered) in [
        (Origin::Upstream, 200, false),
        (Origin::Upstream, 503, true),
        (Origin::Upstream, 504, true),
        (Origin::Upstream, 500, false),
        (Origin::Reply, 504, true),
        (Origin::Reply, 502, true),
        (Origin::Reply, 503, false),
        (Origin::Reply, 401, false),
        (Origin::Cache, 503, false),
    ] {
        let filter = of(json);
        let before = filter.shared.limit.now(&filter.settings);
        let mut asked = Asked::new();
        assert!(asked.enters(&filter).await);
        asked.is_answered(&filter, status, origin);
        let after = filter.shared.limit.now(&filter.settings);
        assert_eq!(after < before, lowered, "{origin:?} {status}");
    }
}

/// An upstream that fails, or refuses whom it does not want, does so fast.
#[test]
fn how_long_a_failure_takes_tells_nothing() {
    for (status, tells) in [
        (200, true),
        (304, true),
        (404, true),
        (429, false),
        (500, false),
        (502, false),
        (599, false),
    ] {
        let mut asked = Asked::new();
        let (mut answer, ()): (response::Parts, ()) = http::Response::new(()).into_parts();
        answer.status = StatusCode::from_u16(status).unwrap();
        let (head, exchange) = (&asked.head, &mut asked.exchange);
        let response = Response::new(&mut answer, head, exchange, Origin::Upstream);
        let told = outcome(&response, Duration::ZERO);
        assert_eq!(told.is_some(), tells, "{status}");
    }
}

#[test]
fn bounds_without_sense_are_refused_at_their_key() {
    for (json, key) in [
        (r#"{"name": ""}"#, "name"),
        (r#"{"name": "a", "min": 30, "max": 20}"#, "min"),
        (r#"{"name": "a", "min": 30}"#, "initial"),
        (r#"{"name": "a", "max": 10}"#, "initial"),
        (r#"{"name": "a", "window": "1ms"}"#, "window"),
        (r#"{"name": "a", "measure": "0s"}"#, "measure"),
    ] {
        let error = test::build(json, build).err().expect(json);
        assert_eq!(error.key.as_deref(), Some(key), "{json}");
    }
    for json in [
        "{}",
        r#"{"name": "a", "min": 0}"#,
        r#"{"name": "a", "buffer": -0.1}"#,
        r#"{"name": "a", "buffer": 11}"#,
        r#"{"name": "a", "window": 100}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}
