//! From a socket that was accepted to what is spoken on it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use log::debug;
use pingora::protocols::{Shutdown, raw_connect::ProxyDigest};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_rustls::server::TlsStream;

use super::{
    accept::Peer,
    edge::Shared,
    entrance::Entrance,
    listeners::Settings,
    proxy_protocol::{self, Header},
    refusal,
    stream::Connection,
    tcp::Client,
    tls::{Protocol, Secured, Terminator},
    transport::{Counted, Socket, Transport},
};
use crate::{
    snapshot::TcpSpec,
    telemetry::meter::{Connections, Unsecured},
};

/// The first byte of every handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connection, and what is spoken on it.
pub(super) enum Speaking {
    Http1(Box<Connection>),
    Http2(Box<Connection>),
    /// Whatever it is, it is passed on.
    Anything(Box<Client>),
}

/// Finds out what is spoken on a connection, as soon as the client has something to say. None if nothing comes of
/// it.
pub(super) async fn enter(
    mut socket: Socket,
    peer: Peer,
    settings: &Settings,
    shared: &Shared,
) -> Option<Speaking> {
    let first = shared.first_patience();
    let tcp = settings.spec.tcp.as_ref();
    // Who says nothing costs nothing but this. There are protocols in which the other side begins.
    if tcp.is_none_or(|tcp| tcp.goes_by_name()) || settings.tls.is_some() {
        shared.lot.wait(&socket, first).await.ok()?;
    }
    let mut ends = Ends::of(peer);
    if settings.spec.proxy_protocol.contains(ends.peer.ip()) {
        let header = timeout(first, proxy_protocol::read(&mut socket)).await;
        let header = header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match header {
            Ok(header) => ends.correct(header),
            Err(error) => {
                debug!("no PROXY header: peer={} reason={error}", ends.peer);
                return None;
            }
        }
    }
    let Some(terminator) = &settings.tls else {
        if let Some(tcp) = tcp {
            return Some(ends.client(Transport::Plain(socket), tcp, settings));
        }
        let entrance = Arc::clone(&settings.entrance);
        let connection = ends.connection(Transport::Plain(socket), entrance);
        return speaking(connection, settings, shared).await;
    };
    let (stream, secured) = Box::pin(secure(socket, &ends, terminator, &settings.meter)).await?;
    let transport = Transport::Tls(stream);
    if let Some(tcp) = tcp {
        return Some(ends.client(transport, tcp, settings));
    }
    let entrance = Entrance {
        listener: settings.spec.name.as_str().into(),
        tls: Some(secured.tls),
        hsts: terminator.hsts().cloned(),
        rehearsal: None,
    };
    let connection = ends.connection(transport, entrance.digest());
    match secured.protocol {
        Protocol::Http2 => Some(Speaking::Http2(connection)),
        Protocol::Http1 => speaking(connection, settings, shared).await,
    }
}

/// Both ends of a connection, as far as they are known.
struct Ends {
    /// Whoever is at a socket in the file system is on this machine.
    peer: SocketAddr,
    /// Where it was wanted, if that is not the address of its socket.
    wanted: Option<SocketAddr>,
}

impl Ends {
    fn of(peer: Peer) -> Self {
        Self {
            peer: peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            wanted: None,
        }
    }

    /// Takes what a proxy says for the truth.
    fn correct(&mut self, header: Header) {
        if let Header::Client {
            source,
            destination,
        } = header
        {
            (self.peer, self.wanted) = (source, Some(destination));
        }
    }

    fn client(&self, transport: Transport, to: &Arc<TcpSpec>, settings: &Settings) -> Speaking {
        Speaking::Anything(Box::new(Client {
            listener: settings.spec.name.clone(),
            to: Arc::clone(to),
            local: self.wanted.or_else(|| transport.local()),
            peer: self.peer,
            transport,
            sni: None,
        }))
    }

    fn connection(&self, transport: Transport, entrance: Arc<ProxyDigest>) -> Box<Connection> {
        Box::new(Connection::new(transport, self.peer, self.wanted, entrance))
    }
}

/// Makes the handshake. None if nothing comes of it.
async fn secure(
    socket: Socket,
    ends: &Ends,
    terminator: &Terminator,
    meter: &Connections,
) -> Option<(Box<TlsStream<Counted>>, Secured)> {
    if socket.look().is_ok_and(|first| first != Some(HANDSHAKE)) {
        meter.unsecured(Unsecured::Plain);
        refuse_plain(socket, ends).await;
        return None;
    }
    match terminator.accept(Counted::from(socket)).await {
        Ok((stream, secured)) => {
            meter.secured(secured.tls.version, secured.tls.resumed);
            Some((Box::new(stream), secured))
        }
        Err(error) => {
            meter.unsecured(Unsecured::by(&error));
            debug!("no TLS: peer={} reason={error}", ends.peer);
            None
        }
    }
}

/// Tells who speaks in the clear where TLS is expected what is the matter, instead of an alert in a language
/// that it does not know.
async fn refuse_plain(mut socket: Socket, ends: &Ends) {
    if socket.write_all(refusal::NO_TLS).await.is_ok() {
        let entrance = Entrance::plain("").digest();
        let mut connection = ends.connection(Transport::Plain(socket), entrance);
        Shutdown::shutdown(&mut *connection).await;
    }
}

/// What the first bytes of a connection show.
async fn speaking(
    mut connection: Box<Connection>,
    settings: &Settings,
    shared: &Shared,
) -> Option<Speaking> {
    let first = shared.first_patience();
    shared.lot.wait(&*connection, first).await.ok()?;
    if settings.spec.http2.is_none() {
        return Some(Speaking::Http1(connection));
    }
    let http2 = timeout(first, connection.begins_http2()).await.ok()?.ok()?;
    Some(match http2 {
        true => Speaking::Http2(connection),
        false => Speaking::Http1(connection),
    })
}
