//! Starts the real program on a free port and ends it with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

/// A program that listens. Dropping it kills the process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    address: String,
    stdout: BufReader<ChildStdout>,
    log: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program and waits until it has said where it listens.
    ///
    /// The caller's environment is kept out, so that a variable of the developer changes no test.
    ///
    /// # Panics
    ///
    /// When the program does not start: a test cannot go on.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = command(program, arguments)
            .spawn()
            .expect("the program was built before its tests");
        let log = Some(collect(&mut child));
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut running = Self {
            child,
            address: String::new(),
            stdout: BufReader::new(stdout),
            log,
        };
        let line = running.line();
        if let Some(address) = line.strip_prefix("listening on ") {
            running.address = address.trim_end().to_owned();
            return running;
        }
        let (status, log) = running.wait();
        panic!("`{program}` printed `{line}` and ended with {status}: {log}");
    }

    /// Runs a program that is expected to give up: its exit code and what it said on standard error.
    ///
    /// # Panics
    ///
    /// When the program is not there.
    pub fn refuse(program: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = command(program, arguments);
        let output = command
            .output()
            .expect("the program was built before its tests");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    /// `127.0.0.1:34567`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:34567` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends SIGTERM and returns at once.
    ///
    /// # Panics
    ///
    /// When the process is already gone.
    pub fn ask_to_stop(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("the process still runs");
    }

    /// Waits for the end: the exit status, and what the program logged.
    ///
    /// # Panics
    ///
    /// When the program printed more than the line that was promised, or its log is not UTF-8.
    pub fn wait(mut self) -> (ExitStatus, String) {
        assert_eq!(self.line(), "", "one line goes to standard output");
        let status = self.child.wait().expect("a child can be waited for");
        let log = self.log.take().expect("a program is waited for once");
        (status, log.join().expect("the log is text"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("standard output is text");
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing when the process has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Reads the log as it comes, so that a program that logs much is not held up by a full pipe.
fn collect(child: &mut Child) -> JoinHandle<String> {
    let mut stderr = child.stderr.take().expect("standard error is piped");
    thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).expect("the log is text");
        log
    })
}
