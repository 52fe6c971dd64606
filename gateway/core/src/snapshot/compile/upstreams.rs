//! Upstreams, from what is written of them.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use edgeway_sdk::Template;

use super::{Clusters, Compiler, tls};
use crate::{
    config::{
        self, At, Ejection, Endpoint, Entries, HostPolicy, Percent, Protocol, Signing as Written,
        Upstream,
        diagnostic::{Diagnostic, Problems, nearest},
    },
    upstream::{
        self, BalanceBy, Breaking, Cluster, MOST, Plan, Retries, Settings, Signing, Sticky,
        Transport,
        balance::Policy,
        breaker, budget,
        discovery::{self, Resolver},
        endpoint::{ErrorRate, Patience},
        health::{Check, Connectors},
        sticky::{Cookie, Key},
    },
};

pub(super) fn compile(
    compiler: Compiler<'_>,
    upstreams: &Entries<Upstream>,
    resolver: &Resolver,
    problems: &mut Problems,
) -> Clusters {
    let mut clusters = Clusters::new();
    for (name, upstream) in upstreams {
        let before = problems.errors();
        endpoints(compiler, name, upstream, problems);
        let plan = plan(compiler, name, upstream, resolver, problems);
        if let Some(plan) = plan.filter(|_| problems.errors() == before) {
            let cluster = Cluster::new(plan, compiler.resources);
            clusters.insert(name.value.clone(), Arc::new(cluster));
        }
    }
    clusters
}

/// Tells what is wrong with the endpoints of an upstream.
fn endpoints(
    compiler: Compiler<'_>,
    name: &At<String>,
    upstream: &Upstream,
    problems: &mut Problems,
) {
    let Some(endpoints) = &upstream.endpoints else {
        // What is wrong, or misspelt, has been told.
        let told = problems.has_errors() && are_meant(compiler, name);
        if upstream.discover.is_none() && !told {
            let message = format!("the upstream `{}` has no endpoints", name.value);
            let help = "list them in `endpoints`, or say in `discover` where they are found";
            problems.push(Diagnostic::error(message).at(name).help(help));
        }
        return;
    };
    // Endpoints that are wrong were left out, which has been told then.
    let written = compiler.document.elements(endpoints.node).len();
    if written == endpoints.value.len() {
        enough(name, upstream, &endpoints.value, problems);
    }
    config::tell_repeated(&endpoints.value, problems);
}

/// Whether endpoints are written in an upstream, as well as they may be.
fn are_meant(compiler: Compiler<'_>, name: &At<String>) -> bool {
    let document = compiler.document;
    let all = document
        .entry(document.root(), "upstreams")
        .map(|(_, all)| document.entries(all));
    let mut entries = all.into_iter().flatten();
    let own = entries.find(|(key, _)| *key == name.node);
    let keys = own.map(|(_, upstream)| document.entries(*upstream));
    let mut words = keys
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| document.text(*key));
    words.any(|word| nearest(word, &["endpoints", "discover"]).is_some())
}

fn enough(
    name: &At<String>,
    upstream: &Upstream,
    endpoints: &[At<Endpoint>],
    problems: &mut Problems,
) {
    if endpoints.is_empty() && upstream.discover.is_none() {
        let message = format!("the upstream `{}` has no endpoints", name.value);
        problems.push(Diagnostic::error(message).at(name));
    }
    if endpoints.len() > MOST {
        let message = format!(
            "the upstream `{}` has {} endpoints, {MOST} are the most",
            name.value,
            endpoints.len()
        );
        problems.push(Diagnostic::error(message).at(name));
    }
    let all_backups = endpoints.iter().all(|endpoint| endpoint.value.backup);
    if !endpoints.is_empty() && all_backups && upstream.discover.is_none() {
        let message = format!("all endpoints of the upstream `{}` are backups", name.value);
        problems.push(
            Diagnostic::error(message)
                .at(name)
                .help("a backup serves when the others can't"),
        );
    }
}

/// The upstream without its endpoints; none if something in it is wrong, which has been told then.
fn plan(
    compiler: Compiler<'_>,
    name: &At<String>,
    upstream: &Upstream,
    resolver: &Resolver,
    problems: &mut Problems,
) -> Option<Plan> {
    let (policy, balance_by) = balance(&upstream.balance);
    let settings = Settings {
        policy,
        balance_by,
        transport: transport(compiler, upstream, problems)?,
        patience: patience(name, upstream, problems),
        failures: upstream.ejection.statuses.clone().into(),
        max_ejected: upstream.ejection.max_ejected.0,
        panic_below: panic_below(upstream, problems),
        last_resort: last_resort(upstream),
        max_connections: upstream.max_connections,
        queue: queue(upstream, problems),
        slow_start: upstream
            .slow_start
            .map_or(Duration::ZERO, |period| period.0),
        sticky: sticky(&name.value, upstream, problems),
        breaker: upstream.breaker.as_ref().map(breaking),
        retries: retries(&upstream.retries, hedge_after(upstream, problems)),
        host: upstream.host.clone(),
        hide_headers: upstream
            .hide_headers
            .iter()
            .map(|header| header.0.clone())
            .collect(),
        live_changes: upstream.live_changes,
    };
    let check = check(compiler, upstream, problems);
    let source = upstream.discover.as_ref().map(|discover| {
        discovered(compiler, discover, problems);
        discovery::source(&name.value, &discover.value, compiler.folder, resolver)
    });
    Some(Plan {
        name: name.value.clone(),
        settings,
        source,
        check,
        written: listed(upstream)
            .map(|endpoint| {
                upstream::Listed::written(&endpoint.value, upstream::Origin::Configuration)
            })
            .collect(),
    })
}

fn balance(written: &config::Balance) -> (Policy, BalanceBy) {
    let by = |template: &Template| BalanceBy::Value(template.clone());
    match written {
        config::Balance::RoundRobin => (Policy::RoundRobin, BalanceBy::Nothing),
        config::Balance::LeastConnections => (Policy::LeastConnections, BalanceBy::Nothing),
        config::Balance::LeastTime => (Policy::LeastTime, BalanceBy::Nothing),
        config::Balance::RandomTwo => (Policy::RandomTwo, BalanceBy::Nothing),
        config::Balance::IpHash => (Policy::Hash { bound: None }, BalanceBy::ClientAddress),
        config::Balance::Hash(hash) => {
            let bound = hash.bound.map(|bound| bound.0);
            (Policy::Hash { bound }, by(&hash.by.0))
        }
    }
}

fn transport(
    compiler: Compiler<'_>,
    upstream: &Upstream,
    problems: &mut Problems,
) -> Option<Transport> {
    let protocol = upstream.protocol.as_ref();
    if let (Some(auto), None) = (
        protocol.filter(|protocol| protocol.value == Protocol::Auto),
        &upstream.tls,
    ) {
        let message = "`protocol: auto` needs `tls`: in the clear there is no choice of protocol";
        problems.push(Diagnostic::error(message).at(auto));
    }
    let tls = match &upstream.tls {
        Some(written) => {
            unnamed(written, upstream, problems);
            Some(tls::compile(compiler, written, problems)?)
        }
        None => None,
    };
    Some(Transport {
        protocol: protocol.map(|protocol| protocol.value).unwrap_or_default(),
        tls,
        proxy_protocol: upstream.proxy_protocol,
        timeouts: upstream.timeouts.clone(),
    })
}

/// A socket in the file system has no name that a certificate could be for.
fn unnamed(tls: &At<config::UpstreamTls>, upstream: &Upstream, problems: &mut Problems) {
    if tls.value.name.is_some() {
        return;
    }
    if let Some(socket) = sockets(upstream).next() {
        let message = "which name must the certificate of this endpoint have?";
        problems.push(
            Diagnostic::error(message)
                .at(socket)
                .help("write it as `name` in `tls`"),
        );
    }
}

fn patience(name: &At<String>, upstream: &Upstream, problems: &mut Problems) -> Patience {
    let fail_timeout = upstream.fail_timeout.0;
    let longest = &upstream.ejection.max_fail_timeout;
    if let Some(longest) = longest
        .as_ref()
        .filter(|longest| longest.value.0 < fail_timeout)
    {
        let message = format!(
            "`max_fail_timeout` is shorter than the `fail_timeout` of `{}`, which is {fail_timeout:?}",
            name.value
        );
        problems.push(Diagnostic::error(message).at(longest));
    }
    let rate = upstream.ejection.error_rate;
    if rate.is_some_and(|rate| rate.above >= Percent::ALL) {
        let message = format!("no error rate of `{}` can be above 100%", name.value);
        problems.push(Diagnostic::error(message).at(name));
    }
    Patience {
        max_fails: upstream.max_fails,
        fail_timeout,
        max_fail_timeout: longest
            .as_ref()
            .map_or(fail_timeout, |longest| longest.value.0),
        error_rate: rate.map(|rate| ErrorRate {
            share: rate.above.0,
            min_requests: rate.min_requests.get(),
        }),
    }
}

fn last_resort(upstream: &Upstream) -> bool {
    let written = upstream.ejection.last_resort.as_ref();
    written.is_none_or(|written| written.value)
}

fn panic_below(upstream: &Upstream, problems: &mut Problems) -> f64 {
    let Ejection {
        panic_below,
        last_resort,
        ..
    } = &upstream.ejection;
    let Some(share) = panic_below else {
        return 0.0;
    };
    if let Some(never) = last_resort.as_ref().filter(|asked| !asked.value)
        && share.value > Percent::NONE
    {
        let message = "`panic_below` has no effect with `last_resort: false`";
        let problem = Diagnostic::error(message).at(share);
        problems.push(problem.also(never, "endpoints that are not well are never asked"));
    }
    share.value.0
}

fn queue(upstream: &Upstream, problems: &mut Problems) -> Option<(u32, Duration)> {
    let queue = upstream.queue.as_ref()?;
    let limited = upstream.max_connections.is_some()
        || upstream.discover.is_some()
        || listed(upstream).any(|endpoint| endpoint.value.max_connections.is_some());
    if !limited {
        let message = "`queue` has no effect: no endpoint has `max_connections`";
        problems.push(Diagnostic::error(message).at(queue));
    }
    Some((queue.value.size.get(), queue.value.timeout.0))
}

fn sticky(name: &str, upstream: &Upstream, problems: &mut Problems) -> Option<Sticky> {
    let written = upstream.sticky.as_ref()?;
    let signing = match written.value.signing() {
        Some(Written::Given(secret)) => {
            Some(Signing(Some(Key::new(secret.reveal().as_bytes(), name))))
        }
        Some(Written::Random) => {
            let message = "sessions will not be known to another gateway, nor after a restart";
            let help = "give this one a `secret`, such as `env:STICKY_SECRET`";
            problems.push(Diagnostic::warning(message).at(written).help(help));
            Some(Signing(None))
        }
        None => None,
    };
    let signing = signing.unwrap_or(Signing(None));
    if let (config::Sticky::Hash(_), config::Balance::Hash(_)) = (&written.value, &upstream.balance)
    {
        let message = "`balance` only counts for requests without the value of the session";
        let help = "one `hash` is enough, unless it is another one";
        problems.push(Diagnostic::warning(message).at(written).help(help));
    }
    Some(match &written.value {
        config::Sticky::Cookie(cookie) => Sticky::Cookie(Cookie::new(cookie, name), signing),
        config::Sticky::Header(header) => Sticky::Header {
            name: header.name.0.clone(),
            ttl: header.ttl.0,
            signing,
        },
        config::Sticky::Hash(by) => Sticky::Hash(by.0.clone()),
    })
}

fn breaking(written: &config::Breaker) -> Breaking {
    Breaking {
        rules: breaker::Rules {
            window: written.window.0,
            min_requests: written.min_requests.get(),
            error_rate: written.error_rate.0,
            open_for: written.open_for.0,
            probes: written.probes.0,
        },
        failures: written.statuses.clone().into(),
    }
}

fn retries(written: &config::Retries, hedge_after: Option<Duration>) -> Retries {
    Retries {
        tries: written.tries.get(),
        on: written.on.clone().into(),
        timeout: written.timeout.map(|timeout| timeout.0),
        backoff: written.backoff.0,
        max_backoff: written.max_backoff.0,
        budget: budget::Rules {
            share: written.budget.0,
            min_per_second: written.min_per_second,
        },
        hedge_after,
    }
}

/// When another endpoint is asked as well, and what makes that impossible.
fn hedge_after(upstream: &Upstream, problems: &mut Problems) -> Option<Duration> {
    let retries = &upstream.retries;
    let after = retries.hedge_after.as_ref()?;
    let mut tell = |message: &str| problems.push(Diagnostic::error(message).at(after));
    if retries.tries == NonZeroU32::MIN {
        tell("`hedge_after` has no effect with `tries: 1`");
    }
    if retries.budget == Percent::NONE && retries.min_per_second == 0 {
        tell("`hedge_after` has no effect without a `budget`");
    }
    let silence = silence(upstream);
    if after.value.0 >= silence {
        tell(&format!(
            "`hedge_after` has no effect: an endpoint has {silence:?} for its answer"
        ));
    }
    if upstream.host == HostPolicy::Endpoint {
        tell(
            "`hedge_after` sends one request to two endpoints, and with `host: endpoint` it would have to name both",
        );
    }
    let protocol = upstream.protocol.as_ref();
    if let Some(shared) = protocol.filter(|protocol| protocol.value != Protocol::Http1) {
        let message = "`hedge_after` needs `protocol: http1`";
        let problem = Diagnostic::error(message).at(after);
        problems.push(problem.also(shared, "here requests may share a connection"));
    }
    Some(after.value.0)
}

/// How long an endpoint may take for the head of its answer at most.
fn silence(upstream: &Upstream) -> Duration {
    let timeouts = &upstream.timeouts;
    let first = timeouts.first_byte.unwrap_or(timeouts.read);
    let others = [upstream.retries.timeout, timeouts.total];
    let spans = others.into_iter().flatten().map(|span| span.0);
    spans.fold(first.0, Duration::min)
}

fn check(
    compiler: Compiler<'_>,
    upstream: &Upstream,
    problems: &mut Problems,
) -> Option<Arc<Check>> {
    let written = upstream.health.as_ref()?;
    port_of_socket(&written.value.0, upstream, problems);
    longer_than_interval(compiler, written, problems);
    let connectors = compiler.resources.shared("checks", Connectors::new);
    match Check::compile(&written.value, &connectors) {
        Ok(check) => Some(Arc::new(check)),
        Err(wrong) => {
            for problem in wrong {
                problems.push(problem);
            }
            None
        }
    }
}

/// A socket in the file system has no port that could be checked instead.
fn port_of_socket(health: &config::FullHealth, upstream: &Upstream, problems: &mut Problems) {
    let Some(port) = &health.port else { return };
    if let Some(socket) = sockets(upstream).next() {
        let message = "the `port` of `health` has no effect on this endpoint: a socket has none";
        let problem = Diagnostic::error(message).at(socket);
        problems.push(problem.also(port, "the port is written here"));
    }
}

/// Warns of checks that can't keep the pace. Only where somebody has written so: the default is
/// longer than many an interval, and endpoints that answer are checked in time.
fn longer_than_interval(
    compiler: Compiler<'_>,
    health: &At<config::Health>,
    problems: &mut Problems,
) {
    let config::Health(full) = &health.value;
    let written = compiler.document.entry(health.node, "timeout");
    if let Some((_, timeout)) = written.filter(|_| full.timeout.0 > full.interval.0) {
        let message = format!(
            "`timeout` is longer than `interval`, which is {:?}: an endpoint that hangs is checked less often",
            full.interval.0.0
        );
        problems.push(Diagnostic::warning(message).at(timeout));
    }
}

/// The endpoints that are written as sockets in the file system.
fn sockets(upstream: &Upstream) -> impl Iterator<Item = &At<Endpoint>> {
    listed(upstream).filter(|endpoint| endpoint.value.address.host().is_none())
}

/// The endpoints that are written.
fn listed(upstream: &Upstream) -> impl Iterator<Item = &At<Endpoint>> {
    let endpoints = upstream.endpoints.iter();
    endpoints.flat_map(|endpoints| &endpoints.value)
}

/// Tells what is wrong with a file of endpoints that is there. One that is not may come yet.
fn discovered(compiler: Compiler<'_>, discover: &At<config::Discover>, problems: &mut Problems) {
    let config::Discover::File { path, .. } = &discover.value else {
        return;
    };
    let path = compiler.folder.join(path);
    if !path.exists() {
        let message = format!(
            "there is no file `{}` yet: there are no endpoints until it comes",
            path.display()
        );
        problems.push(Diagnostic::warning(message).at(discover));
    } else if let Err(report) = discovery::read(&path) {
        let message = format!(
            "the endpoints in `{}` can't be read:\n{report}",
            path.display()
        );
        problems.push(Diagnostic::error(message).at(discover));
    }
}
