//! The tests of a configuration. Those who serve requests have no use for them, and don't read them.

use std::sync::Arc;

use edgeway_sdk::Identity;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use super::Loaded;
use crate::{
    config::{
        At, BodyTest, Entries, StatusRange,
        deserialize::salvage,
        diagnostic::{Diagnostic, Problems, suggestion},
        scalar::Json,
        tests::{ExpectConfig, ExpectedCaching, TestConfig, TestText, ValueText, header_name},
    },
    explain::rehearsal::{Made, Question},
    route::Test,
    snapshot::Gateway,
};

/// A request that nobody makes, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: Option<String>,
    pub(crate) question: Question,
    pub(crate) answer: Made,
    pub(crate) expected: Expected,
    /// `file:line:column`.
    pub(crate) place: String,
}

/// What is to become of it.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) route: Option<String>,
    pub(crate) statuses: Vec<StatusRange>,
    pub(crate) headers: Vec<(HeaderName, Test)>,
    pub(crate) body: Option<BodyTest>,
    pub(crate) upstream: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) filter: Option<String>,
    pub(crate) cache: Option<ExpectedCaching>,
    pub(crate) sent: Option<ExpectedSent>,
}

/// What the endpoint is to be sent.
#[derive(Debug)]
pub(crate) struct ExpectedSent {
    pub(crate) method: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) headers: Vec<(HeaderName, Test)>,
}

impl Loaded {
    /// The tests of the configuration. With a mistake in one of them there is no gateway any more: it is one of the
    /// configuration.
    pub(crate) fn cases(&mut self) -> Vec<Case> {
        let mut cases = Vec::new();
        let gateway = self.gateway.as_ref().map(|(gateway, _)| gateway);
        for node in &self.tests {
            let Some(written) = salvage::<TestConfig>(&self.document, *node, &mut self.problems)
            else {
                continue;
            };
            if let Some(gateway) = gateway {
                names_are_known(&written, gateway, &mut self.problems);
            }
            if self.document.entries(written.expect.node).is_empty() {
                let nothing = Diagnostic::error("the test expects nothing");
                let nothing = nothing.at(&written.expect);
                self.problems
                    .push(nothing.help("write `expect: { status: 200 }`"));
            }
            let place = self.document.position(self.document.place(node.node));
            let place = format!("{}:{}:{}", place.file, place.line, place.column);
            cases.push(compile(written, place, &mut self.problems));
        }
        if self.problems.has_errors() {
            self.gateway = None;
        }
        cases
    }
}

fn compile(written: TestConfig, place: String, problems: &mut Problems) -> Case {
    let mut question = written.request.0;
    question.headers = values(written.headers, problems);
    if let Some(token) = written.token {
        let value = format!("Bearer {}", token.reveal());
        // One that can't be sent is a wrong one.
        let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer"));
        question.headers.push((AUTHORIZATION, value));
    }
    if let Some(client) = written.client {
        question.client = client.0;
    }
    question.listener = written.listener.map(|listener| listener.value);
    question.body = written.body.unwrap_or_default().into();
    question.identity = written.identity.map(|identity| {
        let claims = identity.claims.as_ref();
        Identity::with_claims(identity.subject, Arc::new(claims_of(claims, problems)))
    });
    let answer = Made {
        headers: values(written.answer.headers, problems),
        body: written.answer.body.into(),
        ..Made::default()
    };
    let status = written.answer.status.map(|status| status.0);
    Case {
        name: written.name,
        question,
        answer: Made {
            status: status.unwrap_or(answer.status),
            ..answer
        },
        expected: expected(written.expect.value, problems),
        place,
    }
}

fn expected(written: ExpectConfig, problems: &mut Problems) -> Expected {
    let name = |name: Option<At<String>>| name.map(|name| name.value);
    let mut tests = |entries: Entries<_>| {
        let tests = named(entries, problems);
        let test = |(name, test): (HeaderName, TestText)| (name, test.into_test());
        tests.into_iter().map(test).collect::<Vec<_>>()
    };
    Expected {
        headers: tests(written.headers),
        sent: written.sent.map(|sent| ExpectedSent {
            method: sent.method,
            target: sent.target,
            headers: tests(sent.headers),
        }),
        route: name(written.route),
        statuses: written.status.0,
        body: written.body,
        upstream: name(written.upstream),
        endpoint: written.endpoint,
        filter: name(written.filter),
        cache: written.cache,
    }
}

fn values(entries: Entries<ValueText>, problems: &mut Problems) -> Vec<(HeaderName, HeaderValue)> {
    let named = named(entries, problems);
    named
        .into_iter()
        .map(|(name, value)| (name, value.0))
        .collect()
}

/// What belongs to headers, by their names.
fn named<V>(entries: Entries<V>, problems: &mut Problems) -> Vec<(HeaderName, V)> {
    let mut right = Vec::new();
    for (name, value) in entries {
        match header_name(&name.value) {
            Ok(known) => right.push((known, value)),
            Err(message) => problems.push(Diagnostic::error(message).at(&name)),
        }
    }
    right
}

fn claims_of(
    written: Option<&At<Json>>,
    problems: &mut Problems,
) -> serde_json::Map<String, serde_json::Value> {
    let Some(written) = written else {
        return serde_json::Map::new();
    };
    serde_json::from_str(&written.value.0).unwrap_or_else(|_| {
        problems.push(Diagnostic::error("claims are a map").at(written));
        serde_json::Map::new()
    })
}

/// Tells of names that nothing has.
fn names_are_known(test: &TestConfig, gateway: &Gateway, problems: &mut Problems) {
    let expect = &test.expect.value;
    let routes = gateway.router.routes().chain([&gateway.fallback]);
    let routes: Vec<&str> = routes.map(|route| &*route.name).collect();
    let upstreams: Vec<&str> = gateway
        .clusters
        .iter()
        .map(|cluster| &*cluster.name)
        .collect();
    let listeners: Vec<&str> = gateway
        .listeners
        .iter()
        .map(|spec| spec.name.as_str())
        .collect();
    let chains = gateway.router.routes().chain([&gateway.fallback]);
    let links = chains.flat_map(|route| route.chain.links.iter());
    let filters: Vec<&str> = links.map(|link| &*link.name).collect();
    for (what, wanted, known) in [
        ("route", &expect.route, routes),
        ("upstream", &expect.upstream, upstreams),
        ("filter on any route", &expect.filter, filters),
        ("listener", &test.listener, listeners),
    ] {
        let Some(wanted) = wanted else { continue };
        if !known.contains(&wanted.value.as_str()) {
            let message = format!("there is no {what} `{}`", wanted.value);
            let unknown = Diagnostic::error(message).at(wanted);
            problems.push(unknown.help_if(suggestion(&wanted.value, &known)));
        }
    }
}
