//! The program under test.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Address, Answer, Connection, Request};
use crate::process::{self, Process};
use crate::wait::PATIENCE;

/// A running gateway. Dropping it kills it.
///
/// When a test fails, the log of its gateways is shown. A panic within a gateway fails the test.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    /// The processes that have taken its place, one after the other.
    successors: Mutex<Vec<u32>>,
    listeners: Vec<(String, Address)>,
    folder: TempDir,
}

impl Gateway {
    /// Starts a gateway with this configuration and waits until all its listeners are open.
    ///
    /// The text may be indented as a whole. One without `listeners` gets the listener `http` on a
    /// free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start(yaml: &str) -> Self {
        Self::setup(yaml).start()
    }

    /// What the gateway says of a configuration that it refuses to start with.
    ///
    /// # Panics
    ///
    /// When it starts, or ends otherwise than with the exit status 2.
    #[track_caller]
    pub fn refused(yaml: &str) -> String {
        Self::setup(yaml).refused()
    }

    /// For a gateway that needs more than a configuration.
    pub fn setup(yaml: &str) -> Setup {
        Setup {
            program: "edgeway".to_owned(),
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            variables: Vec::new(),
            passed: None,
        }
        .file(CONFIGURATION, complete(yaml))
    }

    /// Where the first listener waits.
    ///
    /// # Panics
    ///
    /// When it is at a unix socket.
    pub fn address(&self) -> SocketAddr {
        port(&self.listeners[0].1)
    }

    /// Where a listener waits.
    ///
    /// # Panics
    ///
    /// When there is no listener of this name, or it is at a unix socket.
    pub fn address_of(&self, listener: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        let found = found.unwrap_or_else(|| panic!("no listener `{listener}`"));
        port(&found.1)
    }

    /// Asks for a path, over a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target).send()
    }

    /// A request over a connection of its own, to be added to and then sent.
    pub fn request(&self, method: &str, target: &str) -> Request<'static> {
        Request::to(self.listeners[0].1.clone(), method, target)
    }

    /// A connection for several requests, or for bytes that are no request.
    pub fn connect(&self) -> Connection {
        Connection::open(self.listeners[0].1.clone())
    }

    /// Puts another configuration in the place of the first and tells the gateway. True if it is in
    /// force now, false if the gateway has kept the old one.
    ///
    /// # Panics
    ///
    /// When the gateway does not say which.
    #[track_caller]
    pub fn reload(&self, yaml: &str) -> bool {
        self.write(CONFIGURATION, complete(yaml));
        self.reload_files()
    }

    /// Like [`reload`](Self::reload) when only other files have changed.
    #[track_caller]
    pub fn reload_files(&self) -> bool {
        const REPLACED: &str = "configuration replaced";
        const KEPT: &str = "configuration kept";
        let before = self.process.log.len();
        self.signal(Signal::HUP);
        let line = self.process.log.find(before, PATIENCE, |line| {
            line.contains(REPLACED) || line.contains(KEPT)
        });
        let line = line.unwrap_or_else(|| panic!("no word of the reload in\n{}", self.log()));
        line.contains(REPLACED)
    }

    /// Writes a file into the folder of the configuration.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        process::write(&self.folder.path().join(name), content.as_ref());
    }

    /// The folder that the configuration is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What has been said on standard error so far.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// Waits for a line on standard error that contains a text, and returns the first one.
    ///
    /// # Panics
    ///
    /// When none has come in time.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        let line = self
            .process
            .log
            .find(0, PATIENCE, |line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with `{text}` in\n{}", self.log()))
    }

    /// What has been said on standard output so far: the access log, if it goes there.
    pub fn output(&self) -> String {
        self.process.output.text()
    }

    /// Waits for a line on standard output that contains a text, and returns the first one.
    ///
    /// # Panics
    ///
    /// When none has come in time.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) -> String {
        let line = self
            .process
            .output
            .find(0, PATIENCE, |line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with `{text}` in\n{}", self.output()))
    }

    /// The number of the process that serves.
    pub fn pid(&self) -> u32 {
        let successors = self.successors.lock().expect("no test panics within");
        successors
            .last()
            .copied()
            .unwrap_or_else(|| self.process.pid())
    }

    /// The number of the process that was started first.
    pub fn first_pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has the program that is at the path of the gateway now take its place, by SIGUSR2, and waits for what becomes
    /// of that.
    ///
    /// # Errors
    ///
    /// The gateway goes on: why.
    ///
    /// # Panics
    ///
    /// When the gateway does not say.
    #[track_caller]
    pub fn upgrade(&self) -> Result<u32, String> {
        self.upgrade_by(|| self.signal(Signal::USR2))
    }

    /// The same by other means.
    #[track_caller]
    pub fn upgrade_by(&self, ask: impl FnOnce()) -> Result<u32, String> {
        let before = self.process.log.len();
        ask();
        let line = self
            .process
            .log
            .find(before, Duration::from_secs(70), |line| {
                line.contains("upgraded: pid=") || line.contains("upgrade failed")
            });
        let line = line.unwrap_or_else(|| panic!("no word of the upgrade in\n{}", self.log()));
        let Some((_, done)) = line.split_once("upgraded: pid=") else {
            return Err(line);
        };
        let digits = done.split(' ').next().unwrap_or_default();
        let pid = digits.parse().expect("a number of a process");
        let mut successors = self.successors.lock().expect("no test panics within");
        successors.push(pid);
        Ok(pid)
    }

    /// Sends a signal to the process that serves.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a number of a process"), signal).expect("the process still runs");
    }

    /// Sends SIGTERM and returns at once.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// When it has not come after 40 seconds.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(Duration::from_secs(40))
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait()
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let successors = self.successors.get_mut();
        for pid in successors.map(std::mem::take).unwrap_or_default() {
            // Those that have ended are nobody's any more.
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        self.process.kill();
        if thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log());
            return;
        }
        let log = self.log();
        assert!(!log.contains("panicked at"), "the gateway panicked:\n{log}");
    }
}

/// A gateway that has not been started yet.
#[derive(Debug)]
pub struct Setup {
    program: String,
    folder: TempDir,
    variables: Vec<(String, String)>,
    passed: Option<(String, OwnedFd)>,
}

impl Setup {
    /// Adds a file to the folder of the configuration.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        process::write(&self.folder.path().join(name), content.as_ref());
        self
    }

    /// Runs another program with the gateway's command line: `examples/tenants`, or one at an absolute path.
    pub fn program(mut self, name: &str) -> Self {
        name.clone_into(&mut self.program);
        self
    }

    /// Sets a variable of the environment; the gateway sees no others.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Passes a socket on as systemd does, once under each of these names: `http:https`.
    pub fn passed(mut self, names: &str, socket: impl Into<OwnedFd>) -> Self {
        self.passed = Some((names.to_owned(), socket.into()));
        self
    }

    /// The folder that the configuration is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the gateway, see [`Gateway::start`].
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let mut process = Process::spawn(&mut self.command("run"));
        let text = std::fs::read_to_string(self.path()).expect("the configuration was written");
        let wanted = listeners_in(&text);
        let listening = |lines: &[String]| {
            let found: Vec<_> = lines.iter().filter_map(|line| address(line)).collect();
            (found.len() >= wanted).then_some(found)
        };
        let Some(mut listeners) = process.log.wait_for(PATIENCE, listening) else {
            let state = if process.has_ended() {
                "has ended"
            } else {
                "does not listen"
            };
            panic!("the gateway {state}; its log:\n{}", process.log.text());
        };
        listeners.sort_by_key(|(name, _)| text.find(&format!("{name}:")));
        Gateway {
            process,
            successors: Mutex::default(),
            listeners,
            folder: self.folder,
        }
    }

    /// See [`Gateway::refused`].
    ///
    /// # Panics
    ///
    /// When the gateway starts, or ends otherwise than with the exit status 2.
    #[track_caller]
    pub fn refused(self) -> String {
        let finished = self.run("run");
        assert_eq!(finished.code, Some(2), "{}", finished.log);
        finished.log
    }

    /// Runs `edgeway COMMAND -c FILE` to its end: `check`, `routes`.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn run(&self, command: &str) -> Finished {
        self.run_with(command, &[])
    }

    /// The same with more arguments.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn run_with(&self, command: &str, arguments: &[&str]) -> Finished {
        let mut process = Process::spawn(self.command(command).args(arguments));
        let status = process.wait(PATIENCE);
        Finished {
            code: status.code(),
            output: process.output.text(),
            log: process.log.text(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(CONFIGURATION)
    }

    fn command(&self, command: &str) -> Command {
        let mut edgeway = match &self.passed {
            None => process::command(&self.program),
            Some((names, socket)) => passing(names, socket, &process::program(&self.program)),
        };
        edgeway.arg(command).arg("-c").arg(self.path());
        edgeway.envs(self.variables.iter().cloned());
        edgeway
    }
}

/// A command that begins with a socket where systemd would put it, the number of its process told. Only a
/// shell can do so: descriptors other than the first three are closed in programs that a test starts.
fn passing(names: &str, socket: &OwnedFd, program: &Path) -> Command {
    let number = names.split(':').count();
    let places: String = (3..3 + number)
        .map(|place| format!("{place}<&0 "))
        .collect();
    let script = format!(
        "exec {places}0</dev/null; export LISTEN_PID=$$ LISTEN_FDS={number} LISTEN_FDNAMES={names}; \
         exec \"$0\" \"$@\""
    );
    let mut shell = process::command_at(Path::new("/bin/sh"));
    shell.arg("-c").arg(script).arg(program);
    let socket = socket.try_clone().expect("there is a descriptor left");
    shell.stdin(Stdio::from(socket));
    shell
}

/// What a command has said, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit status; none if a signal has ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub log: String,
}

/// The name of the configuration in its folder.
const CONFIGURATION: &str = "edgeway.yaml";

/// The configuration without the indentation that it has in the test, and with a listener.
fn complete(yaml: &str) -> String {
    let text = dedent(yaml);
    if text.lines().any(|line| line.starts_with("listeners:")) {
        return text;
    }
    // At the end, so that the lines of the test keep their numbers.
    format!("{text}\nlisteners: {{ http: {{ bind: \"127.0.0.1:0\" }} }}\n")
}

fn dedent(yaml: &str) -> String {
    let text = yaml.strip_prefix('\n').unwrap_or(yaml).trim_end();
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let filled = text.lines().filter(|line| !line.trim().is_empty());
    let common = filled.map(indent).min().unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.get(common..).unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// How many listeners a configuration has: each has a `bind`.
fn listeners_in(text: &str) -> usize {
    let said = |line: &&str| !line.trim_start().starts_with('#');
    let lines = text.lines().filter(said);
    lines.map(|line| line.matches("bind:").count()).sum()
}

/// The listener and the address that a line of the log announces.
fn address(line: &str) -> Option<(String, Address)> {
    let (_, announced) = line.split_once("listening: listener=")?;
    let (name, address) = announced.split_once(" address=")?;
    let address = match address.trim().strip_prefix("unix:") {
        Some(path) => Address::Socket(path.into()),
        None => Address::Port(address.trim().parse().ok()?),
    };
    Some((name.to_owned(), address))
}

fn port(address: &Address) -> SocketAddr {
    match address {
        Address::Port(address) => *address,
        Address::Socket(path) => panic!("no port, but {}", path.display()),
    }
}
