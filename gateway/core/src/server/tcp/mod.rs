//! Connections that are passed on as they are: mail, databases, brokers, TLS that somebody else ends.
//!
//! * [`hello`]: which name a client asks for by TLS, without ending it.
//! * [`connect`]: a connection to an endpoint.
//! * [`mod@relay`]: bytes, both ways.

mod connect;
mod hello;
mod relay;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use tokio::time::timeout;

pub(super) use self::connect::Connector;
use self::{
    connect::{Connected, For},
    relay::relay,
};
use super::{tls::refuse_name, transport::Transport};
use crate::{snapshot::TcpSpec, upstream::Cluster};

/// A connection of a client, before it is known to which upstream it goes.
pub(super) struct Client {
    pub(super) listener: String,
    pub(super) to: Arc<TcpSpec>,
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    /// Where it has come to, if that is an address.
    pub(super) local: Option<SocketAddr>,
    /// The name that it has asked for, if that decides.
    pub(super) sni: Option<String>,
}

/// Passes a connection on to its end. A client that is to be passed on by name has so long to say that.
///
/// One for which there is no endpoint is closed; if it has said something, it sees a reset.
pub(super) async fn serve(mut client: Box<Client>, connector: &Connector, patience: Duration) {
    let began = Instant::now();
    // What is needed until then is much more than what a connection holds that says nothing.
    let introduced = Box::pin(introduce(&mut client, connector, patience));
    let Some((upstream, mut connected, early)) = introduced.await else {
        return;
    };
    let idle = client.to.idle;
    let relayed = relay(&mut client.transport, &mut connected.stream, early, idle).await;
    info!(
        "connection passed on: {client} upstream={upstream} endpoint={} sent={} received={} \
         duration_ms={} end={}",
        connected.endpoint(),
        relayed.sent,
        relayed.received,
        began.elapsed().as_millis(),
        relayed.end,
    );
}

/// Finds an endpoint for a client: with the name of its upstream, and what had to be read of the client to find
/// that. None if there is none, which has been told then.
async fn introduce(
    client: &mut Client,
    connector: &Connector,
    patience: Duration,
) -> Option<(Arc<str>, Connected, Vec<u8>)> {
    let mut early = Vec::new();
    let chosen = timeout(patience, choose(client, &mut early)).await;
    let cluster = match chosen.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(Some(cluster)) => cluster,
        Ok(None) => {
            debug!("no upstream for the name: {client}");
            refuse_name(&mut client.transport).await;
            return None;
        }
        Err(error) => {
            debug!("no name: {client} reason={error}");
            return None;
        }
    };
    let whom = For {
        peer: client.peer,
        local: client.local,
    };
    match connector.connect(&cluster, whom).await {
        Ok(connected) => Some((Arc::clone(&cluster.name), connected, early)),
        Err(why) => {
            let upstream = &cluster.name;
            warn!("no endpoint: {client} upstream={upstream} reason={why}");
            None
        }
    }
}

/// The upstream for a connection. What had to be read for that is left in `early`.
async fn choose(client: &mut Client, early: &mut Vec<u8>) -> io::Result<Option<Arc<Cluster>>> {
    if !client.to.goes_by_name() {
        return Ok(client.to.upstream.clone());
    }
    client.sni = hello::name(&mut client.transport, early).await?;
    Ok(match &client.sni {
        Some(name) => client.to.upstream_of(name).cloned(),
        None => client.to.upstream.clone(),
    })
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener={} client={}", self.listener, self.peer)?;
        match &self.sni {
            Some(name) => write!(f, " sni={name}"),
            None => Ok(()),
        }
    }
}
