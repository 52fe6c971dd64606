//! What every program in `services/` does alike: read its options, listen, say where, answer, stop.
//!
//! A program is one call, and its own part is one function:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use clap::Parser;
//! use edgeway_service::{Failure, Listen};
//!
//! /// Says hello.
//! #[derive(Parser)]
//! struct Options {
//!     #[command(flatten)]
//!     listen: Listen,
//! }
//!
//! async fn run(options: Options) -> Result<(), Failure> {
//!     let routes = axum::Router::new().route("/", axum::routing::get(async || "hello"));
//!     edgeway_service::serve(options.listen, routes).await
//! }
//!
//! fn main() -> ExitCode {
//!     edgeway_service::main(run)
//! }
//! ```
//!
//! The contract that tests and supervisors rely on: once the port is open, exactly one line goes to
//! standard output, `listening on 127.0.0.1:34567`; everything else is the log, on standard error.
//! SIGTERM and SIGINT end the program after the requests in flight. Exit codes: 0 after a stop,
//! 1 when the program cannot start, 2 when its options are wrong.

#[cfg(feature = "sqlite")]
pub mod database;
#[cfg(feature = "testing")]
pub mod testing;

mod listen;
mod problem;
mod requests;
mod source;
mod stop;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use axum::Router;
use axum::serve::ListenerExt;
use clap::Parser;
use log::warn;

pub use listen::Listen;
pub use problem::Problem;
pub use requests::with_problems;
pub use source::Source;
pub use stop::{PATIENCE, Stop};

/// Why a program could not start: one sentence for the person who started it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs a program to its end; the whole body of its `main`.
///
/// Wrong options end the process here with a usage message. The log goes to standard error from
/// level `info`, or as `RUST_LOG` says.
pub fn main<Options, Run>(run: impl FnOnce(Options) -> Run) -> ExitCode
where
    Options: Parser,
    Run: Future<Output = Result<(), Failure>>,
{
    let options = Options::parse();
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    match block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Answers requests with `routes` until the program is told to stop.
///
/// Idle connections are closed at once then; requests in flight get [`PATIENCE`] to finish.
pub async fn serve(listen: Listen, routes: Router) -> Result<(), Failure> {
    let stop = Stop::on_signal()?;
    let listener = listen.open().await?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            warn!("nodelay refused: {error}");
        }
    });
    let server = axum::serve(listener, requests::logged(routes))
        .with_graceful_shutdown(stop.clone().requested())
        .into_future();
    tokio::select! {
        done = server => done?,
        () = stop.overdue() => warn!("stopped with requests in flight"),
    }
    Ok(())
}

fn block_on(run: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run)
}

fn complain(failure: &Failure) {
    let program = env!("CARGO_PKG_NAME");
    let name = std::env::args()
        .next()
        .unwrap_or_else(|| program.to_owned());
    let name = name.rsplit('/').next().unwrap_or(program);
    // Nobody is left to be told when standard error itself is closed.
    writeln!(std::io::stderr(), "{name}: {failure}").ok();
}
