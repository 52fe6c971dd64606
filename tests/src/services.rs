//! The programs in `services/`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Address, Answer, Request};
use crate::process::{self, Process};
use crate::python::python;
use crate::wait::{PATIENCE, eventually_some};

/// A service, its arguments, and where it listens.
#[derive(Debug)]
struct Service {
    program: PathBuf,
    arguments: Vec<String>,
    process: Process,
    address: Address,
    /// Where its unix socket is, if it has one.
    _folder: Option<TempDir>,
}

impl Service {
    #[track_caller]
    fn start(program: &str, arguments: &[&str]) -> Self {
        Self::launch(process::program(program), arguments, &any_port(), None)
    }

    /// On a unix socket of its own.
    #[track_caller]
    fn start_unix(program: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let address = Address::Socket(folder.path().join("service.sock"));
        let program = process::program(program);
        Self::launch(program, arguments, &address, Some(folder))
    }

    #[track_caller]
    fn launch(
        program: PathBuf,
        arguments: &[&str],
        listen: &Address,
        folder: Option<TempDir>,
    ) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let launched = launch(&program, &arguments, listen);
        let (process, address) = launched.unwrap_or_else(|log| {
            panic!("`{}` does not listen; its log:\n{log}", program.display())
        });
        Self {
            program,
            arguments,
            process,
            address,
            _folder: folder,
        }
    }

    /// On the port of before. Retried, since a connection of another test may have it for a moment.
    #[track_caller]
    fn restart(&mut self) {
        self.process.kill();
        let (process, _) = eventually_some(PATIENCE, || {
            launch(&self.program, &self.arguments, &self.address).ok()
        });
        self.process = process;
    }

    fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE)
    }

    #[track_caller]
    fn port(&self) -> SocketAddr {
        match &self.address {
            Address::Port(address) => *address,
            Address::Socket(path) => panic!("no port, but {}", path.display()),
        }
    }
}

fn any_port() -> Address {
    Address::Port(([127, 0, 0, 1], 0).into())
}

/// Starts a program and waits until it has said where it listens. The error is its log.
fn launch(
    program: &Path,
    arguments: &[String],
    listen: &Address,
) -> Result<(Process, Address), String> {
    let mut command = process::command_at(program);
    command.args(arguments);
    match listen {
        Address::Port(address) => command.arg("--listen").arg(address.to_string()),
        Address::Socket(path) => command.arg("--unix").arg(path),
    };
    let process = Process::spawn(&mut command);
    let line = process
        .output
        .find(0, PATIENCE, |line| line.starts_with(LISTENING));
    match line.as_deref().and_then(announced) {
        Some(address) => Ok((process, address)),
        None => Err(process.log.text()),
    }
}

/// The address in the line that a service says when it listens.
fn announced(line: &str) -> Option<Address> {
    let address = line.strip_prefix(LISTENING)?.trim();
    match address.strip_prefix("unix:") {
        Some(path) => Some(Address::Socket(path.into())),
        None => Some(Address::Port(address.parse().ok()?)),
    }
}

const LISTENING: &str = "listening on ";

/// What all services can do.
macro_rules! service {
    ($name:ident) => {
        impl $name {
            /// Where it listens, also after a restart.
            ///
            /// # Panics
            ///
            /// When it is a unix socket.
            #[track_caller]
            pub fn address(&self) -> SocketAddr {
                self.0.port()
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
                Request::to(self.0.address.clone(), method, target)
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

            /// Sends SIGTERM and returns at once.
            pub fn ask_to_stop(&self) {
                self.0.process.signal(Signal::TERM);
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
                self.0.address.fmt(f)
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

    /// One on a unix socket; its `Display` is `unix:/path`, and it has no [`address`](Self::address).
    #[track_caller]
    pub fn start_unix() -> Self {
        Self(Service::start_unix("edgeway-echo", &["--source", "echo"]))
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

/// A Tornado application, `tests/python/tornado_app.py`: `GET /` answers with the number of the
/// process, after `?delay=0.2` seconds if it says so. SIGTERM lets the requests in flight finish.
#[derive(Debug)]
pub struct Tornado(Service);

service!(Tornado);

impl Tornado {
    /// One on a free port; none, and a loud word, if this machine has no Python with Tornado.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let app = script("tornado_app.py");
        let app = app.to_str().expect("a path of this workspace is text");
        let python = python("tornado")?;
        Some(Self(Service::launch(python, &[app], &any_port(), None)))
    }
}

/// The path of a script in `tests/python`.
fn script(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    folder.join(name)
}
