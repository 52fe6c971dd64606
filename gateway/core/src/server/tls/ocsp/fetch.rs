//! Asking an authority, by HTTP in the clear.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{
    Request, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery},
};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Answer, Question};

/// How long an authority may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer: a real one has a kilobyte or two.
const LARGEST: usize = 64 << 10;

impl Question {
    /// Asks the authority.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub(in crate::server::tls) async fn ask(&self) -> Result<Answer, String> {
        let responder = self.responder.as_ref().ok_or("there is nobody to ask")?;
        let asked = timeout(PATIENCE, post(responder, self.encode())).await;
        let der = asked.map_err(|_| format!("no answer within {PATIENCE:?}"))??;
        self.judge(&der)
    }
}

async fn post(uri: &Uri, question: Vec<u8>) -> Result<Bytes, String> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port)).await;
    let tcp = tcp.map_err(|error| format!("no connection: {error}"))?;
    let said = |error: hyper::Error| format!("no answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(said)?;
    let request = request(uri, question)?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(said)?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        body.map(Collected::to_bytes)
            .map_err(|error| format!("no complete answer: {error}"))
    };
    let (mut answering, connection) = (pin!(answering), pin!(connection));
    tokio::select! {
        answer = &mut answering => return answer,
        // The other side may close it before the answer was read here.
        _ = connection => {}
    }
    answering.await
}

fn request(uri: &Uri, question: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let host = uri.authority().map_or("", Authority::as_str);
    Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/ocsp-request")
        .header(header::ACCEPT, "application/ocsp-response")
        .body(Full::from(question))
        .map_err(|error| format!("the address can't be asked: {error}"))
}
