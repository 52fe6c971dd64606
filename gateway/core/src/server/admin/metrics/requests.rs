//! What is told of requests, by their routes.

use std::collections::BTreeMap;

use super::text::{Metrics, Type};
use crate::{
    snapshot::{Gateway, Otherwise, Route},
    telemetry::meter::RequestFigures,
};

/// What was counted of each route. Those with the same name are counted together.
pub(super) fn measure(gateway: &Gateway, metrics: &mut Metrics) {
    let mut routes = BTreeMap::new();
    note(&gateway.fallback, &mut routes);
    for route in gateway.router.routes() {
        note(route, &mut routes);
    }
    replies(&routes, metrics);
    let help = "From the head of a request to the end of its response.";
    metrics.family("edgeway_request_duration_seconds", help, Type::Histogram);
    for (route, figures) in &routes {
        metrics.histogram(&[("route", route)], &figures.took);
    }
    let help = "Requests that are under way.";
    metrics.family("edgeway_requests_in_flight", help, Type::Gauge);
    for (route, figures) in &routes {
        metrics.sample(&[("route", route)], figures.in_flight());
    }
    bodies(&routes, metrics);
}

/// A route, and those on which its files fall back.
fn note<'g>(route: &'g Route, routes: &mut BTreeMap<&'g str, RequestFigures>) {
    // That of all routes with this name.
    routes
        .entry(&route.name)
        .or_insert_with(|| route.meter.figures());
    let files = route.files.as_ref();
    if let Some(Otherwise::Route(other)) = files.map(|files| &files.otherwise) {
        note(other, routes);
    }
}

fn replies(routes: &BTreeMap<&str, RequestFigures>, metrics: &mut Metrics) {
    let help = "Requests that have ended, by method and status; `none` for those whose client has left before.";
    metrics.family("edgeway_requests_total", help, Type::Counter);
    for (route, figures) in routes {
        for (kind, count) in figures.replies.iter() {
            let code = kind.code();
            let labels = [
                ("route", *route),
                ("method", kind.method()),
                ("code", &code),
            ];
            metrics.sample(&labels, count);
        }
    }
}

fn bodies(routes: &BTreeMap<&str, RequestFigures>, metrics: &mut Metrics) {
    let help = "Bytes of the bodies of requests.";
    metrics.family("edgeway_request_body_bytes_total", help, Type::Counter);
    for (route, figures) in routes {
        metrics.sample(&[("route", route)], figures.received);
    }
    let help = "Bytes of the bodies of responses.";
    metrics.family("edgeway_response_body_bytes_total", help, Type::Counter);
    for (route, figures) in routes {
        metrics.sample(&[("route", route)], figures.sent);
    }
}
