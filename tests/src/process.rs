//! Programs that run as long as the test does.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually_some;

/// The path of one of this workspace's programs, built beside the running test.
///
/// # Panics
///
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a running program knows its path");
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is not there: run `make test`, or `cargo build --workspace --all-targets` first")
    })
}

/// A command with nothing of the developer's environment in it.
pub(crate) fn command(name: &str) -> Command {
    command_at(&program(name))
}

/// A command like [`command`], of a program that need not be one of this workspace's.
pub(crate) fn command_at(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running program and what it says. Dropping it kills the program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Lines of standard output.
    pub(crate) output: Lines,
    /// Lines of standard error.
    pub(crate) log: Lines,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("a program that is there starts");
        let output = Lines::collect(child.stdout.take().expect("standard output is piped"));
        let log = Lines::collect(child.stderr.take().expect("standard error is piped"));
        Self { child, output, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process still runs");
    }

    pub(crate) fn kill(&mut self) {
        // Both do nothing when the process has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
        self.output.wait_for_end();
        self.log.wait_for_end();
    }

    /// Waits for the end of the program, and of what it says.
    #[track_caller]
    pub(crate) fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually_some(timeout, || {
            child.try_wait().expect("a child can be waited for")
        });
        self.output.wait_for_end();
        self.log.wait_for_end();
        status
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program has said so far, line by line. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<(Mutex<Said>, Condvar)>);

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads as it comes, so that a program that says much is not held up by a full pipe.
    fn collect(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                shared.change(|said| said.lines.push(line));
            }
            shared.change(|said| said.ended = true);
        });
        lines
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().lines.len()
    }

    pub(crate) fn text(&self) -> String {
        self.lock().lines.join("\n")
    }

    /// The first line from `position` on that `wanted` accepts; none if there is none in time.
    pub(crate) fn find(
        &self,
        position: usize,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<String> {
        self.wait_for(timeout, |lines| {
            let mut new = lines.iter().skip(position);
            new.find(|line| wanted(line)).cloned()
        })
    }

    /// What `find` makes of all the lines; none if the time is over, or the program has said its
    /// last word.
    pub(crate) fn wait_for<T>(
        &self,
        timeout: Duration,
        find: impl Fn(&[String]) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut said = self.lock();
        loop {
            let found = find(&said.lines);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || said.ended || left.is_zero() {
                return found;
            }
            let waited = self.0.1.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_for_end(&self) {
        self.wait_for(Duration::from_secs(1), |_| None::<()>);
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a file, and the folders it is in.
pub(crate) fn write(path: &Path, content: &[u8]) {
    let folder = path.parent().expect("a file is in a folder");
    std::fs::create_dir_all(folder).expect("a folder of the test can be made");
    std::fs::write(path, content).expect("a file of the test can be written");
}
