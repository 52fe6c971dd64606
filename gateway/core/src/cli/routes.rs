//! `edgeway routes`: which requests go where, and through which filters.

use std::io::{self, Write};

use super::table;
use crate::snapshot::{Gateway, Route};

/// Writes the listeners, and a table of the routes.
pub(super) fn show(out: &mut impl Write, gateway: &Gateway) -> io::Result<()> {
    for listener in &gateway.listeners {
        writeln!(out, "listener {}  {}", listener.name, listener.bind)?;
    }
    let rows: Vec<_> = gateway
        .router
        .routes()
        .map(|route| &**route)
        .chain([&*gateway.fallback])
        .map(row)
        .collect();
    let head = ["ROUTE", "MATCH", "FILTERS", "TARGET"].map(str::to_owned);
    writeln!(out)?;
    table::write(out, std::iter::once(&head).chain(&rows))
}

fn row(route: &Route) -> [String; 4] {
    let filters: Vec<_> = route.chain.links.iter().map(ToString::to_string).collect();
    let name = if *route.name == *route.pattern {
        "-"
    } else {
        &route.name
    };
    let filters = if filters.is_empty() {
        "-".to_owned()
    } else {
        filters.join(" > ")
    };
    [
        name.to_owned(),
        route.pattern.clone(),
        filters,
        route.destination(),
    ]
}
