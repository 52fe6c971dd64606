//! The programs in `services/`.

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitStatus;

use rustix::process::Signal;

use crate::client::{Answer, Request};
use crate::process::{self, Process};
use crate::wait::{PATIENCE, eventually_some};

/// A service, its arguments, and where it listens.
#[derive(Debug)]
struct Service {
    program: &'static str,
    arguments: Vec<String>,
    process: Process,
    address: SocketAddr,
}

impl Service {
    #[track_caller]
    fn start(program: &'static str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (process, address) = launch(program, &arguments, "127.0.0.1:0")
            .unwrap_or_else(|log| panic!("`{program}` does not listen; its log:\n{log}"));
        Self {
            program,
            arguments,
            process,
            address,
        }
    }

    /// On the port of before. Retried, since a connection of another test may have it for a moment.
    #[track_caller]
    fn restart(&mut self) {
        self.process.kill();
        let listen = self.address.to_string();
        let (process, _) = eventually_some(PATIENCE, || {
            launch(self.program, &self.arguments, &listen).ok()
        });
        self.process = process;
    }

    fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE)
    }
}

/// Starts a program and waits until it has said where it listens. The error is its log.
fn launch(
    program: &str,
    arguments: &[String],
    listen: &str,
) -> Result<(Process, SocketAddr), String> {
    let mut command = process::command(program);
    let process = Process::spawn(command.args(["--listen", listen]).args(arguments));
    let line = process
        .output
        .find(0, PATIENCE, |line| line.starts_with("listening on "));
    let address = line.and_then(|line| line.strip_prefix("listening on ")?.trim().parse().ok());
    match address {
        Some(address) => Ok((process, address)),
        None => Err(process.log.text()),
    }
}

/// What all services can do.
macro_rules! service {
    ($name:ident) => {
        impl $name {
            /// Where it listens, also after a restart.
            pub fn address(&self) -> SocketAddr {
                self.0.address
            }

            /// The number of the process; another one after a restart.
            pub fn pid(&self) -> u32 {
                self.0.process.pid()
            }

            /// Asks the service itself for a path, past the gateway.
            #[track_caller]
            pub fn get(&self, target: &str) -> Answer {
                self.request("GET", target).send()
            }

            /// A request to the service itself, past the gateway.
            pub fn request(&self, method: &str, target: &str) -> Request<'static> {
                Request::to(self.address(), method, target)
            }

            /// Ends it at once with SIGKILL: connections are reset, new ones refused.
            pub fn kill(&mut self) {
                self.0.process.kill();
            }

            /// Sends SIGTERM and waits until the requests in flight have ended.
            #[track_caller]
            pub fn stop(&mut self) -> ExitStatus {
                self.0.stop()
            }

            /// Holds it with SIGSTOP: connections are accepted by the kernel and never answered.
            pub fn pause(&self) {
                self.0.process.signal(Signal::STOP);
            }

            /// Lets it go on after [`pause`](Self::pause).
            pub fn resume(&self) {
                self.0.process.signal(Signal::CONT);
            }

            /// Starts it again on the same port, killing it first if it runs.
            #[track_caller]
            pub fn restart(&mut self) {
                self.0.restart();
            }

            /// What it has said on standard error since its last start.
            pub fn log(&self) -> String {
                self.0.process.log.text()
            }
        }

        /// The address, as a configuration takes it.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.address().fmt(f)
            }
        }
    };
}

/// `edgeway-echo`: answers with what arrived; the query decides how (`status`, `delay`, `size`,
/// `chunked`, `abort`, `header`; `edgeway-echo --help` and its source tell more).
#[derive(Debug)]
pub struct Echo(Service);

service!(Echo);

impl Echo {
    /// One that calls itself `echo` in the member `source` of its answers.
    #[track_caller]
    pub fn start() -> Self {
        Self::named("echo")
    }

    /// One with a name of its own.
    #[track_caller]
    pub fn named(source: &str) -> Self {
        Self(Service::start("edgeway-echo", &["--source", source]))
    }

    /// What it has counted since its last start; asking is not counted.
    #[track_caller]
    pub fn stats(&self) -> Stats {
        let stats = self.get("/__stats").json();
        let number = |name: &str| stats[name].as_u64().expect("a number of the statistics");
        Stats {
            requests: number("requests"),
            connections: number("connections"),
            open_connections: number("open_connections"),
        }
    }
}

/// What an echo service has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Requests.
    pub requests: u64,
    /// Connections that carried a request.
    pub connections: u64,
    /// Those of them that are still open.
    pub open_connections: u64,
}

/// `edgeway-auth`: logs in `admin` and `gues`, both with the password `123456`.
#[derive(Debug)]
pub struct Auth(Service);

service!(Auth);

impl Auth {
    /// One that signs with HS256 and this secret.
    #[track_caller]
    pub fn start(secret: &str) -> Self {
        Self::with(&["--secret", secret])
    }

    /// One with these arguments, such as `--signing-key`.
    #[track_caller]
    pub fn with(arguments: &[&str]) -> Self {
        Self(Service::start("edgeway-auth", arguments))
    }
}

/// `edgeway-product`: a public list of products, details for those who may see them.
#[derive(Debug)]
pub struct Product(Service);

service!(Product);

impl Product {
    /// One with a name, which is the member `source` of its answers.
    #[track_caller]
    pub fn start(source: &str) -> Self {
        Self(Service::start("edgeway-product", &["--source", source]))
    }

    /// How many requests have come, but for those that watch the service.
    #[track_caller]
    pub fn requests(&self) -> u64 {
        let counted = self.get("/requests").json();
        counted["requests"].as_u64().expect("a number of requests")
    }
}
