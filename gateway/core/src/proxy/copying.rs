//! When a request is copied for its route's mirror.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{StatusCode, header::HOST};
use log::debug;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::{
    ctx::Ctx,
    depart, introduce,
    mirror::{Connections, Copy, Keys, Lost, Outcome},
};
use crate::{
    config::HostPolicy,
    snapshot::Target,
    telemetry::meter::Event,
    upstream::{Admitted, Cluster, Lease, Picked, Want, clock},
};

/// Begins a copy of a request that is about to be sent, if its route has a mirror, chance wills, and
/// none was sent when it was tried before.
pub(super) fn begin(
    session: &mut Session,
    request: &RequestHeader,
    ctx: &mut Ctx,
    connections: &Arc<Connections>,
) {
    let Target::Upstream(forward) = &ctx.route.target else {
        return;
    };
    let Some((cluster, mirror)) = &forward.mirror else {
        return;
    };
    // What a try before has collected comes again.
    ctx.copy = None;
    let wanted = ctx
        .copy_wanted
        .get_or_insert_with(|| mirror.sample.takes(rand::random()));
    if !*wanted {
        return;
    }
    let mut head = request.clone();
    let sent = session.req_header().headers.get(HOST);
    if let (HostPolicy::Keep, Some(host)) = (&cluster.settings.host, sent)
        && head.insert_header(HOST, host.clone()).is_err()
    {
        return;
    }
    let asks = (session.req_header().as_ref(), &ctx.exchange);
    let keys = Keys {
        balance: cluster.settings.balance_key(&asks),
        session: cluster.settings.session_key(&asks),
    };
    let client = introduce::client(session, &ctx.exchange, cluster);
    ctx.copy = Copy::new(head, mirror).map(|copy| copy.with(keys, client));
    // Nothing more will come.
    if session.is_body_empty() {
        send(ctx, connections);
    }
}

/// Adds a piece of the request's body; after the last one the copy is sent.
pub(super) fn body(
    piece: Option<&Bytes>,
    end: bool,
    ctx: &mut Ctx,
    connections: &Arc<Connections>,
) {
    let Some(copy) = &mut ctx.copy else { return };
    if let Some(piece) = piece {
        copy.body(piece);
    }
    if end {
        send(ctx, connections);
    }
}

/// Sends the copy, if it is whole, not too many are under way, and the mirror may be asked. In this
/// order: a place, and the one trial of an endpoint that was left out, are not for a copy that is lost.
fn send(ctx: &mut Ctx, connections: &Arc<Connections>) {
    let Target::Upstream(forward) = &ctx.route.target else {
        return;
    };
    let (Some(copy), Some((cluster, mirror))) = (ctx.copy.take(), &forward.mirror) else {
        return;
    };
    ctx.copy_wanted = Some(false);
    let (keys, client) = (copy.keys, copy.client);
    let mut ready = match copy.ready(mirror) {
        Ok(ready) => ready,
        Err(lost) => return debug!("copy lost: upstream={} reason={lost}", cluster.name),
    };
    let Some(errand) = Errand::begin(cluster, keys) else {
        return debug!(
            "copy lost: upstream={} reason=it may not be asked",
            cluster.name
        );
    };
    let Some(peer) = errand.lease.peer(client.as_ref()) else {
        return;
    };
    if depart::host(ready.head(), cluster, Some(&errand.lease)).is_err() {
        return;
    }
    let at = peer._address.as_inet().copied();
    ready.send(connections, peer, move |outcome| errand.end(at, outcome));
}

/// What a copy has to do with its upstream.
struct Errand {
    cluster: Arc<Cluster>,
    lease: Lease,
    began: u64,
    admitted: Admitted,
}

impl Errand {
    /// Takes a place at an endpoint, if there is one and the breaker lets the copy pass. Nobody waits.
    fn begin(cluster: &Arc<Cluster>, keys: Keys) -> Option<Self> {
        let now = clock::now();
        let admitted = Admitted::to(cluster, now).ok()?;
        let want = Want {
            tried: &[],
            key: keys.balance,
            session_key: keys.session,
            session: None,
            now,
        };
        match cluster.members().pick(&cluster.settings, want) {
            Picked::Endpoint(lease) => Some(Self {
                cluster: Arc::clone(cluster),
                lease,
                began: now,
                admitted,
            }),
            Picked::Full | Picked::Nobody => None,
        }
    }

    /// Notes what became of the copy that was sent to this address.
    fn end(mut self, at: Option<SocketAddr>, outcome: Outcome) {
        match outcome {
            Ok(status) => self.answered(status),
            Err(lost) => self.lost(at, &lost),
        }
    }

    fn answered(&mut self, status: StatusCode) {
        self.admitted.went(!self.cluster.settings.breaks(status));
        self.cluster.answered(&self.lease, self.began, status);
    }

    fn lost(&mut self, at: Option<SocketAddr>, lost: &Lost) {
        let cluster = &self.cluster;
        debug!("copy lost: upstream={} reason={lost}", cluster.name);
        let unconnected = matches!(lost, Lost::Unconnected(_));
        // The next one is sent to another address of the same name.
        let elsewhere = at
            .filter(|_| unconnected)
            .is_some_and(|at| cluster.unreachable(self.lease.endpoint(), at));
        if lost.is_failure() && !elsewhere {
            self.admitted.went(false);
            let event = match unconnected {
                true => Event::Unconnected,
                false => Event::Broken,
            };
            cluster.lost(&self.lease, self.began, event, lost);
        }
    }
}
