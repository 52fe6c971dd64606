//! A gateway that nobody connects to, for requests that nobody has made.
//!
//! They take the way of all others, from the bytes of a request to those of its response: through this process alone.
//! Nothing of the configuration that runs beside requests is started, and nothing is logged.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use edgeway_sdk::Tls;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::{
    apps::HttpServerApp, protocols::http::ServerSession, server::configuration::ServerConf,
};
use pingora_proxy::http_proxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    time::timeout,
};

use super::{
    acme::Answers,
    edge::App,
    entrance::Entrance,
    inbound::HeadLimits,
    pressure::Pressure,
    stream::{Connection, Manners},
    transport::{Socket, Transport},
};
use crate::{
    cache::zone::ZoneSpec,
    config::{Endpoint, ListenAddress},
    explain::{
        Explanation,
        rehearsal::{Made, Question, Rehearsal},
    },
    proxy::{Proxy, Spawner},
    snapshot::{Gateway, ListenerSpec, Live},
    upstream::Cluster,
};

/// How long a request may take of which nothing leaves the process.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where endpoints are whose names nobody has resolved.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// What upstreams have whose endpoints are found while the gateway runs.
const FOUND_LATER: &str = "found-at-run-time:80";

/// A gateway that nobody connects to.
pub(crate) struct Rehearser {
    live: Live,
    app: App,
    /// What Pingora looks at to see whether the process ends.
    shutdown: watch::Sender<bool>,
}

/// What has become of a request.
#[derive(Debug)]
pub(crate) struct Rehearsed {
    /// Nothing if the request was refused before it was understood.
    pub(crate) explanation: Option<Box<Explanation>>,
    pub(crate) response: Response,
}

/// A response as the client gets it.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Rehearser {
    /// Takes a configuration that nobody else uses.
    pub(crate) async fn new(gateway: Gateway) -> Self {
        for cluster in &gateway.clusters {
            populate(cluster).await;
        }
        let in_memory = gateway.caches.iter().map(|zone| ZoneSpec {
            disk: None,
            ..zone.clone()
        });
        gateway.zones.configure(&in_memory.collect::<Vec<_>>());
        let live = Live::new(gateway);
        let (conf, spawner) = (Arc::new(ServerConf::default()), Spawner::default());
        let pressure = Arc::<Pressure>::default();
        let proxy = Proxy::new(
            live.clone(),
            &conf,
            spawner.clone(),
            pressure,
            Answers::default(),
        );
        let app: App = Arc::new(http_proxy(&conf, proxy));
        spawner.serve_by(&app);
        Self {
            live,
            app,
            shutdown: watch::Sender::new(false),
        }
    }

    /// What becomes of a request if endpoints answer so.
    ///
    /// # Errors
    ///
    /// There is no listener for it, or it has come to no end: a sentence.
    pub(crate) async fn ask(
        &self,
        question: &Question,
        answer: &Made,
    ) -> Result<Rehearsed, String> {
        let rehearsal = Arc::new(Rehearsal::new(question.identity.clone(), answer));
        let entrance = self.entrance(question, &rehearsal)?;
        let (client, ours) = UnixStream::pair().map_err(|error| error.to_string())?;
        let peer = SocketAddr::new(question.client, 40_000);
        let transport = Transport::Plain(Socket::Unix(ours));
        let connection = Connection::new(transport, peer, None, entrance.digest());
        let served = self.serve(Box::new(connection));
        let both = async { tokio::join!(served, exchange(client, question)).1 };
        let came = timeout(PATIENCE, both).await;
        let came = came.map_err(|_| format!("there is no answer after {PATIENCE:?}"))?;
        let response = came
            .map_err(|error| error.to_string())
            .and_then(|bytes| read(&bytes, &question.method))?;
        Ok(Rehearsed {
            explanation: rehearsal.take(),
            response,
        })
    }

    async fn serve(&self, mut connection: Box<Connection>) {
        connection.expect_request(&self.manners());
        let session = ServerSession::new_http1(connection);
        // Whoever waits for the end of the response sees that of the connection.
        drop(
            self.app
                .process_new_http(session, &self.shutdown.subscribe())
                .await,
        );
    }

    fn manners(&self) -> Manners {
        let requests = &self.live.glance().requests;
        Manners {
            head_timeout: requests.header_timeout,
            head: HeadLimits {
                target: requests.max_target,
                head: requests.max_header_size,
                lines: requests.max_headers,
            },
            least: 0,
        }
    }

    /// By which way the request has come in.
    fn entrance(
        &self,
        question: &Question,
        rehearsal: &Arc<Rehearsal>,
    ) -> Result<Entrance, String> {
        let gateway = self.live.glance();
        let spec = listener(&gateway.listeners, question)?;
        let host = question.authority.split(':').next().unwrap_or_default();
        let tls = spec.tls.as_ref().map(|_| {
            let mut tls = Tls::default();
            (tls.version, tls.suite) = ("TLSv1.3", "TLS_AES_128_GCM_SHA256");
            tls.sni = Some(host.to_ascii_lowercase().into());
            tls
        });
        Ok(Entrance {
            listener: spec.name.as_str().into(),
            hsts: spec.tls.as_ref().and_then(|tls| tls.rules.hsts.clone()),
            tls: tls.map(Arc::new),
            rehearsal: Some(Arc::clone(rehearsal)),
        })
    }
}

/// The listener for a request: the one that it names, else one that speaks as the URL says, best at its port.
fn listener<'l>(
    listeners: &'l [ListenerSpec],
    question: &Question,
) -> Result<&'l ListenerSpec, String> {
    let mut http = listeners.iter().filter(|listener| listener.tcp.is_none());
    if let Some(name) = &question.listener {
        let found = http.find(|listener| listener.name == *name);
        return found.ok_or_else(|| format!("there is no listener `{name}` that speaks HTTP"));
    }
    let port = question
        .authority
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let port = port.unwrap_or(if question.https { 443 } else { 80 });
    let at = |listener: &&ListenerSpec| matches!(&listener.bind, ListenAddress::Tcp(tcp) if tcp.port() == port);
    let http: Vec<_> = http.collect();
    let fitting = http
        .iter()
        .filter(|listener| listener.tls.is_some() == question.https);
    let fitting: Vec<_> = fitting.copied().collect();
    let among = if fitting.is_empty() { &http } else { &fitting };
    let found = among.iter().copied().find(|listener| at(listener));
    found
        .or_else(|| among.first().copied())
        .ok_or_else(|| "no listener speaks HTTP".to_owned())
}

/// Gives an upstream all its endpoints, well and with addresses. Nobody is asked for them, but files.
async fn populate(cluster: &Cluster) {
    cluster.enter_service();
    if let Some(source) = &cluster.source {
        if source.file().is_some() {
            cluster.look().await;
        } else if let Ok(address) = FOUND_LATER.parse() {
            cluster.found(vec![Endpoint::at(address).into()]);
        }
    }
    for endpoint in &cluster.members().endpoints {
        endpoint.state.forget_probe();
        endpoint.state.found(NOWHERE);
    }
}

/// Sends a request, and gives back all that comes.
async fn exchange(mut client: UnixStream, question: &Question) -> std::io::Result<Vec<u8>> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", question.method, question.target).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    };
    let has = |name: &str| question.headers.iter().any(|(known, _)| known == name);
    if !has("host") {
        line("host", question.authority.as_bytes());
    }
    for (name, value) in &question.headers {
        line(name.as_str(), value.as_bytes());
    }
    if !question.body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        line("content-length", question.body.len().to_string().as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&question.body);
    let (mut from, mut to) = client.split();
    let mut came = Vec::new();
    // Who refuses a request need not read it to its end.
    let (read, _) = tokio::join!(from.read_to_end(&mut came), to.write_all(&bytes));
    read.map(|_| came)
}

/// The final response among these bytes.
fn read(mut bytes: &[u8], method: &http::Method) -> Result<Response, String> {
    loop {
        let mut lines = [httparse::EMPTY_HEADER; 256];
        let mut head = httparse::Response::new(&mut lines);
        let parsed = head
            .parse(bytes)
            .map_err(|error| format!("the response can't be read: {error}"))?;
        let httparse::Status::Complete(length) = parsed else {
            return Err("the connection was closed without a response".to_owned());
        };
        let status = head
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or_default();
        let body = bytes.get(length..).unwrap_or_default();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            bytes = body;
            continue;
        }
        let headers = head.headers.iter().filter_map(|line| {
            let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(line.value).ok()?))
        });
        let headers: HeaderMap = headers.collect();
        let chunked = headers.contains_key("transfer-encoding") && *method != http::Method::HEAD;
        let body = match chunked {
            true => unchunked(body),
            false => body.to_vec(),
        };
        return Ok(Response {
            status,
            headers,
            body: body.into(),
        });
    }
}

/// What is in chunks, as far as they go.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, length))) = httparse::parse_chunk_size(bytes) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or_default();
        if length == 0 || rest.len() < length {
            break;
        }
        let (chunk, after) = rest.split_at(length);
        body.extend_from_slice(chunk);
        bytes = after.strip_prefix(b"\r\n").unwrap_or(after);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_response_is_read_with_its_chunks_put_together() {
        let bytes =
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\na: 1\r\na: 2\r\n\
            transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let response = read(bytes, &http::Method::GET).unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.headers.get_all("a").iter().count(), 2);
        assert_eq!(response.body, "abcde");
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        assert!(read(b"", &http::Method::GET).is_err());
        assert!(read(b"HTTP/1.1 200", &http::Method::GET).is_err());
        assert!(read(b"nonsense\r\n\r\n", &http::Method::GET).is_err());
    }
}
