//! Listeners that pass connections on as they are.

use std::sync::Arc;

use super::{Compiler, target::Targets};
use crate::{
    config::{
        At, Config, Entries, Listener, Tcp,
        diagnostic::{Diagnostic, Problems, nearest},
        document::NodeId,
        tls::CertificateName,
    },
    snapshot::TcpSpec,
    upstream::Cluster,
};

/// Where connections go; none if something in it is wrong, which has been told then, or if the listener speaks
/// HTTP.
pub(super) fn compile(
    compiler: Compiler<'_>,
    name: &At<String>,
    listener: &Listener,
    targets: &mut Targets<'_>,
    problems: &mut Problems,
) -> Option<Arc<TcpSpec>> {
    let written = listener.tcp.as_ref()?;
    let tcp = &written.value;
    let before = problems.errors();
    if tcp.upstream.is_none() && tcp.sni.0.is_empty() && !leads_somewhere(compiler, written.node) {
        let message = "`tcp` leads nowhere";
        let help = "write `upstream: NAME`, or `sni: { mail.example.com: NAME }`";
        problems.push(Diagnostic::error(message).at(written).help(help));
    }
    nothing_is_idle(compiler, name, listener, problems);
    let upstream = tcp.upstream.as_ref();
    let upstream = upstream.and_then(|upstream| targets.passed_on(upstream, problems));
    let names = names(&tcp.sni, targets, problems);
    (problems.errors() == before).then(|| {
        Arc::new(TcpSpec {
            upstream,
            names,
            idle: tcp.idle_timeout.0,
        })
    })
}

/// Whether a map says where to, as well as it may. What is wrong was left out, and has been told.
fn leads_somewhere(compiler: Compiler<'_>, map: NodeId) -> bool {
    let document = compiler.document;
    let mut entries = document.entries(map).iter();
    entries.any(|(key, value)| {
        let key = document.text(*key).unwrap_or_default();
        let empty = document.entries(*value).is_empty() && document.text(*value).is_none();
        !empty && nearest(key, &["upstream", "sni"]).is_some()
    })
}

fn names(
    written: &Entries<At<String>>,
    targets: &mut Targets<'_>,
    problems: &mut Problems,
) -> Vec<(CertificateName, Arc<Cluster>)> {
    let mut names: Vec<(CertificateName, _)> = Vec::new();
    for (key, upstream) in written {
        let cluster = targets.passed_on(upstream, problems);
        match key.value.parse() {
            // Written otherwise, and the same: `example.com` and `Example.com`.
            Ok(name) if names.iter().any(|(known, _)| *known == name) => {
                let message = format!("`{name}` is there twice");
                problems.push(Diagnostic::error(message).at(key));
            }
            Ok(name) => names.extend(cluster.map(|cluster| (name, cluster))),
            Err(message) => problems.push(Diagnostic::error(message).at(key)),
        }
    }
    names
}

/// Tells of keys that have no effect on such a listener.
fn nothing_is_idle(
    compiler: Compiler<'_>,
    name: &At<String>,
    listener: &Listener,
    problems: &mut Problems,
) {
    let document = compiler.document;
    let listeners = document.entry(document.root(), "listeners");
    let own = listeners.and_then(|(_, listeners)| document.entry(listeners, &name.value));
    if let Some((key, _)) = own.and_then(|(_, own)| document.entry(own, "http2")) {
        let message = "`http2` has no effect beside `tcp`: nobody looks at what is spoken";
        problems.push(Diagnostic::error(message).at(key));
    }
    let Some(tls) = &listener.tls else { return };
    if let Some((key, _)) = document.entry(tls.node, "hsts") {
        let message = "`hsts` has no effect beside `tcp`: there are no responses to put it into";
        problems.push(Diagnostic::error(message).at(key));
    }
    let by_name = |tcp: &At<Tcp>| !tcp.value.sni.0.is_empty();
    if listener.tcp.as_ref().is_some_and(by_name) {
        let message =
            "`tls` and `tcp.sni` exclude each other: TLS is either ended here or passed on";
        problems.push(Diagnostic::error(message).at(tls));
    }
}

/// Keys of upstreams that are about requests: where they stand, and their names.
const OF_REQUESTS: [(Option<&str>, &[&str]); 5] = [
    (None, &["sticky", "protocol", "host", "hide_headers"]),
    (Some("retries"), &["timeout", "hedge_after"]),
    (Some("breaker"), &["statuses"]),
    (Some("ejection"), &["statuses"]),
    (
        Some("timeouts"),
        &[
            "first_byte",
            "read",
            "write",
            "idle",
            "websocket_idle",
            "total",
        ],
    ),
];

/// Warns of keys that have no effect in upstreams to which no route leads, but listeners do.
pub(super) fn warn_of_requests(
    compiler: Compiler<'_>,
    config: &Config,
    targets: &Targets<'_>,
    problems: &mut Problems,
) {
    let document = compiler.document;
    let below = |node: NodeId, key: &str| document.entry(node, key).map(|(_, value)| value);
    let upstreams = below(document.root(), "upstreams");
    for (name, _) in &config.upstreams {
        let own = upstreams.and_then(|upstreams| below(upstreams, &name.value));
        let Some(own) = own.filter(|_| targets.gets_no_requests(&name.value)) else {
            continue;
        };
        for (section, keys) in OF_REQUESTS {
            let map = section.map_or(Some(own), |section| below(own, section));
            let written = keys.iter().filter_map(|key| document.entry(map?, key));
            for (key, _) in written {
                let message = format!(
                    "`{}` has no effect: no route leads to the upstream `{}`, only `tcp`",
                    document.text(key).unwrap_or_default(),
                    name.value
                );
                problems.push(Diagnostic::warning(message).at(key));
            }
        }
    }
}
