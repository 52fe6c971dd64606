//! Delivers a body while it is fetched, beside the fetch.
//!
//! Pingora writes to the client by turns with reading from the endpoint, over HTTP/2 even while all others who
//! share the fetch wait; and what the client has not taken is nowhere but in the store. So the client of a
//! fetch is made one of the readers of what is written: it has a task of its own, Pingora a session to which
//! nothing is written, and a writer may wait for all its readers.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, Result,
    cache::CachePhase,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::{
            HttpTask, ServerSession,
            custom::{CustomMessageWrite, server::Session as CustomSession},
        },
        l4::socket::SocketAddr,
    },
};
use pingora_proxy::Session;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Ctx,
    serve::{is_silent, read},
    tell,
};
use crate::{
    cache::{head::Head, memory::Reader, policy::range::Span, storage::Hit},
    proxy::{body::Pieces, client, pacing::Pacing},
};

/// What of the body a client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    #[default]
    Whole,
    Span(Span),
    /// Several parts, which only Pingora puts together.
    Many,
    Nothing,
}

/// A client's session that is with another task, and will come back.
pub(in crate::proxy) struct Lent(oneshot::Receiver<Box<ServerSession>>);

/// Has a body that is about to be fetched delivered by a task of its own, if it is stored or shared. This is
/// its head. Not for one that is edited on its way through Pingora.
pub(in crate::proxy) fn begin(session: &mut Session, head: &ResponseHeader, ctx: &mut Ctx) {
    let phase = session.cache.phase();
    if !matches!(phase, CachePhase::Miss | CachePhase::Expired) {
        return;
    }
    let part = match &ctx.caching {
        Some(caching) => caching.part.clone(),
        None => return,
    };
    let silent = is_silent(session, head);
    let clients = matches!(
        *session.downstream_session,
        ServerSession::H1(_) | ServerSession::H2(_)
    );
    if part == Part::Many || !clients {
        return;
    }
    let Some(mut reader) = take_reader(session) else {
        return;
    };
    if silent || part == Part::Nothing {
        return;
    }
    if let Part::Span(span) = part
        && !reader.seek(span.start, Some(span.end))
    {
        return;
    }
    reader.excuse(false);
    tell::pass_on_promptly(session, reader.object());
    let (gives_back, lent) = oneshot::channel();
    let (tells, end) = oneshot::channel();
    let sent = Arc::new(AtomicUsize::new(0));
    let standin = StandIn::new(session, head, end, Arc::clone(&sent));
    let standin = Box::new(ServerSession::new_custom(Box::new(standin)));
    let mut delivery = Delivery {
        session: mem::replace(&mut session.downstream_session, standin),
        reader,
        sent,
        pacing: ctx.pacing.take(),
    };
    let head = Box::new(head.clone());
    // Ends with the client, or with what it reads.
    drop(tokio::spawn(async move {
        let outcome = delivery.run(head).await;
        let Delivery {
            session, reader, ..
        } = delivery;
        drop(reader);
        // Nobody wants them if the request was dropped.
        drop(gives_back.send(session));
        drop(tells.send(outcome));
    }));
    ctx.lent = Some(Lent(lent));
}

/// Gives Pingora its session back when the response is over.
pub(in crate::proxy) async fn end(session: &mut Session, ctx: &mut Ctx) {
    if let Some(Lent(lent)) = ctx.lent.take()
        && let Ok(client) = lent.await
    {
        session.downstream_session = client;
    }
}

/// The place at the body that Pingora has for the client.
fn take_reader(session: &mut Session) -> Option<Reader<Head>> {
    let hit = session.cache.miss_body_reader()?;
    hit.as_any_mut().downcast_mut::<Hit>()?.take()
}

struct Delivery {
    session: Box<ServerSession>,
    reader: Reader<Head>,
    /// Bytes of the body that were written.
    sent: Arc<AtomicUsize>,
    /// How fast it goes, if filters have said so.
    pacing: Option<Pacing>,
}

impl Delivery {
    async fn run(&mut self, head: Box<ResponseHeader>) -> Result<()> {
        self.session.write_response_header(head).await?;
        loop {
            let piece = self.next().await?;
            let last = piece.is_none();
            self.send(piece.unwrap_or_default(), last).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// What is to be sent next. Who leaves over HTTP/2 is noticed; over HTTP/1 that would take a byte of what
    /// may be the next request.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.session.is_http2() {
            return read(&mut self.reader).await;
        }
        tokio::select! {
            piece = read(&mut self.reader) => piece,
            left = self.session.read_body_or_idle(true) => match left {
                Ok(_) => Error::e_explain(ErrorType::ReadError, "a request goes on after its end"),
                Err(error) => Err(error.into_down()),
            },
        }
    }

    async fn send(&mut self, data: Bytes, last: bool) -> Result<()> {
        let http2 = self.session.is_http2();
        for (piece, last) in Pieces::of(data, last, http2).paced(self.pacing.as_ref()) {
            let length = piece.len();
            if let Some(pacing) = &mut self.pacing {
                sleep(pacing.pause(length, Instant::now())).await;
            }
            self.session.write_response_body(piece, last).await?;
            self.sent.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What Pingora has for the client's session, which is with a [`Delivery`].
struct StandIn {
    request: RequestHeader,
    response: Box<ResponseHeader>,
    digest: Option<Digest>,
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    received: usize,
    sent: Arc<AtomicUsize>,
    end: Option<oneshot::Receiver<Result<()>>>,
    write_timeout: Option<Duration>,
}

impl StandIn {
    fn new(
        session: &Session,
        response: &ResponseHeader,
        end: oneshot::Receiver<Result<()>>,
        sent: Arc<AtomicUsize>,
    ) -> Self {
        let client = session.as_downstream();
        Self {
            request: client.req_header().clone(),
            response: Box::new(response.clone()),
            digest: client.digest().cloned(),
            client: client::peer(client).map(Into::into),
            server: client::here(client).map(Into::into),
            received: client.body_bytes_read(),
            sent,
            end: Some(end),
            write_timeout: None,
        }
    }
}

/// It has a request without a body, and a response whose head is written. What is written to it the client
/// gets otherwise.
#[async_trait]
impl CustomSession for StandIn {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, _: Box<ResponseHeader>, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write_response_header_ref(&mut self, _: &ResponseHeader, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write_body(&mut self, _: Bytes, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, _: Vec<HttpTask>) -> Result<bool> {
        self.write_proxy_tasks().await
    }

    fn proxy_tasks_enabled(&self) -> bool {
        true
    }

    fn send_proxy_task(&mut self, _: HttpTask) {}

    /// Until the client has got all of it: Pingora reads nothing for it meanwhile.
    fn has_pending_proxy_tasks(&self) -> bool {
        self.end.is_some()
    }

    /// Waits for the end of the delivery. May be dropped meanwhile.
    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        let Some(end) = &mut self.end else {
            return Ok(true);
        };
        let outcome = end.await;
        self.end = None;
        match outcome {
            Ok(outcome) => outcome.map(|()| true),
            Err(_) => Error::e_explain(ErrorType::InternalError, "the delivery was dropped"),
        }
    }

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        Some(&self.response)
    }

    async fn shutdown(&mut self, _: u32, _: &str) {}

    fn is_body_done(&mut self) -> bool {
        true
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        true
    }

    async fn read_body_or_idle(&mut self, _: bool) -> Result<Option<Bytes>> {
        std::future::pending().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn body_bytes_read(&self) -> usize {
        self.received
    }

    fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.digest.as_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.client.as_ref()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.server.as_ref()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
