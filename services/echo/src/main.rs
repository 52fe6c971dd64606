//! Answers every request with a description of what arrived: the upstream of tests and demonstrations.
//!
//! Parameters of the query change the answer; every other parameter is only echoed.
//!
//! | parameter | the answer |
//! |---|---|
//! | `status=503` | has this status |
//! | `delay=200ms`, `delay=2s` | begins this much later |
//! | `size=1000` | is a text of so many bytes instead of the description |
//! | `chunked=1` | comes in pieces, without `Content-Length` |
//! | `abort=head`, `abort=body` | never comes, or ends in the middle, and the connection with it |
//! | `header=Name:Value` | carries this header; may be repeated |
//!
//! With `--unix /run/echo.sock` it listens on a unix socket instead of a port.
//!
//! `GET /healthz` is 200 and `GET /__stats` counts requests and connections, but for these two and
//! for connections that carried nothing else.

mod answer;
mod control;
mod echo;
mod listener;
mod tape;

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use edgeway_service::{Failure, Listen, PATIENCE, Source, Stop};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use log::{debug, warn};
use tokio::time::{sleep, timeout};

use crate::echo::{Connection, Echo};
use crate::listener::{Listener, Stream};
use crate::tape::Recorded;

/// Answers every request with a description of what arrived
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    listen: Listen,

    /// Unix socket to listen on instead of an address; one that is left over is replaced
    #[arg(long, value_name = "PATH", conflicts_with = "address")]
    unix: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

async fn run(options: Options) -> Result<(), Failure> {
    let stop = Stop::on_signal()?;
    let listener = match options.unix {
        Some(path) => Listener::unix(path)?,
        None => Listener::Tcp(options.listen.open().await?),
    };
    let echo = Arc::new(Echo::new(options.source.to_string()));
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stop.clone().requested());
    loop {
        tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let connection = Connection::new(Arc::clone(&echo), client);
                    tokio::spawn(serve(stream, connection, connections.watcher(), stop.clone()));
                }
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would only burn a core.
                    warn!("connection not accepted: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(PATIENCE, connections.shutdown()).await.is_err() {
        warn!("stopped with requests in flight");
    }
    Ok(())
}

async fn serve(stream: Stream, connection: Connection, watcher: Watcher, stop: Stop) {
    // Told to stop, the engine still waits for the first request of a new connection.
    tokio::select! {
        _ = stream.readable() => {}
        () = stop.requested() => return,
    }
    let stream = TokioIo::new(Recorded::new(stream, connection.tape()));
    let service = service_fn(|request| connection.answer(request));
    let connected = http1::Builder::new().serve_connection(stream, service);
    if let Err(error) = watcher.watch(connected).await {
        debug!("connection ended: {error}");
    }
}

fn main() -> ExitCode {
    edgeway_service::main(run)
}
