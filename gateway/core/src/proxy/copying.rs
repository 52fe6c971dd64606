//! When a request is copied for its route's mirror.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use log::debug;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::{
    ctx::Ctx,
    depart,
    mirror::{Connections, Copy},
};
use crate::{
    config::HostPolicy,
    snapshot::Target,
    upstream::{Picked, Want, clock},
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
    ctx.copy = Copy::new(head, mirror);
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

fn send(ctx: &mut Ctx, connections: &Arc<Connections>) {
    let Target::Upstream(forward) = &ctx.route.target else {
        return;
    };
    let (Some(mut copy), Some((cluster, mirror))) = (ctx.copy.take(), &forward.mirror) else {
        return;
    };
    ctx.copy_wanted = Some(false);
    let want = Want {
        tried: &[],
        key: None,
        session_key: None,
        session: None,
        now: clock::now(),
    };
    let picked = cluster.members().pick(&cluster.settings, want);
    let Picked::Endpoint(lease) = picked else {
        return;
    };
    let Some(peer) = lease.peer() else { return };
    if depart::host(copy.head(), cluster, Some(&lease)).is_err() {
        return;
    }
    let (cluster, began) = (Arc::clone(cluster), clock::now());
    copy.send(mirror, connections, peer, move |outcome| match outcome {
        Ok(status) if cluster.settings.is_failure(status) => {
            cluster.failed(&lease, began, &status.as_u16());
        }
        Ok(_) => cluster.succeeded(&lease, began),
        Err(lost) => {
            debug!("copy lost: upstream={} reason={lost}", cluster.name);
            if lost.is_failure() {
                cluster.failed(&lease, began, &lost);
            }
        }
    });
}
