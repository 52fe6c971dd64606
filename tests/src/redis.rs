//! A Redis that a test may kill, stop and look into: Debian's `redis-server`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::authority::Certificate;
use crate::process::{Process, command_at};
use crate::python::tell_skipped;
use crate::wait::{PATIENCE, eventually, eventually_some};

/// A running Redis, at a unix socket and, if that was asked for, at a port of 127.0.0.1. It keeps nothing
/// on a disk. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    arguments: Vec<String>,
    port: Option<u16>,
    folder: TempDir,
}

impl Redis {
    /// One at a unix socket, with these lines of configuration: `requirepass hunter2`. None, and a loud word, if this
    /// machine has no `redis-server`.
    #[track_caller]
    pub fn start(lines: &[&str]) -> Option<Self> {
        Self::launch(lines, None)
    }

    /// One that is also at a port; see [`start`](Self::start).
    #[track_caller]
    pub fn start_tcp(lines: &[&str]) -> Option<Self> {
        let plain = |port| vec![format!("port {port}")];
        Self::launch(lines, Some(&plain))
    }

    /// One that speaks only TLS at its port; see [`start`](Self::start).
    #[track_caller]
    pub fn start_tls(certificate: &Certificate) -> Option<Self> {
        let secured = |port| {
            vec![
                "port 0".to_owned(),
                format!("tls-port {port}"),
                format!("tls-cert-file {}", certificate.chain().display()),
                format!("tls-key-file {}", certificate.key().display()),
                "tls-auth-clients no".to_owned(),
                format!("tls-ca-cert-file {}", certificate.chain().display()),
            ]
        };
        Self::launch(&[], Some(&secured))
    }

    #[track_caller]
    fn launch(lines: &[&str], listen: Option<&dyn Fn(u16) -> Vec<String>>) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            tell_skipped(PROGRAM);
            return None;
        }
        // Another program may take the port before Redis does.
        let started = eventually_some(PATIENCE, || {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let port = listen.map(|_| free_port());
            let mut arguments = match (listen, port) {
                (Some(listen), Some(port)) => listen(port),
                _ => vec!["port 0".to_owned()],
            };
            arguments.push("bind 127.0.0.1".to_owned());
            arguments.push("save \"\"".to_owned());
            arguments.push(format!("dir {}", folder.path().display()));
            arguments.push(format!("unixsocket {}", socket(folder.path()).display()));
            arguments.extend(lines.iter().map(|line| (*line).to_owned()));
            let process = spawn(folder.path(), &arguments)?;
            Some(Self {
                process,
                arguments,
                port,
                folder,
            })
        });
        Some(started)
    }

    /// The URL of its unix socket.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where its port is.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn address(&self) -> SocketAddr {
        let port = self.port.expect("a Redis that was started with a port");
        ([127, 0, 0, 1], port).into()
    }

    /// Ends it without a warning, as a power failure would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, with nothing in it.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = eventually_some(PATIENCE, || spawn(self.folder.path(), &self.arguments));
    }

    /// Stops it, so that it takes connections and says nothing.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Has it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// What it says to a command, as it says it: `:1`, `+OK`, or the elements of a list in lines.
    ///
    /// # Panics
    ///
    /// When it can't be asked.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        ask(&self.socket(), command).expect("a Redis that answers")
    }

    fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }
}

const PROGRAM: &str = "/usr/bin/redis-server";

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// None if it has ended at once: its port was taken.
fn spawn(folder: &Path, arguments: &[String]) -> Option<Process> {
    let file = folder.join("redis.conf");
    std::fs::write(&file, arguments.join("\n")).expect("a file of the test can be written");
    let mut command: Command = command_at(Path::new(PROGRAM));
    let mut process = Process::spawn(command.arg(&file));
    eventually(PATIENCE, || {
        process.has_ended() || ask(&socket(folder), &["PING"]).is_ok()
    });
    if process.has_ended() {
        return None;
    }
    Some(process)
}

fn ask(socket: &Path, command: &[&str]) -> std::io::Result<String> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("*{}\r\n", command.len());
    for word in command {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    connection.write_all(text.as_bytes())?;
    answer(&mut BufReader::new(connection))
}

fn answer(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
    let length = rest.parse::<usize>().unwrap_or(0);
    match kind {
        "$" if rest != "-1" => {
            let mut text = vec![0; length + 2];
            reader.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
        }
        "*" => {
            let items: std::io::Result<Vec<_>> = (0..length).map(|_| answer(reader)).collect();
            Ok(items?.join("\n"))
        }
        _ => Ok(line.to_owned()),
    }
}

/// The kernel's choice, which another program could take in the moment before it is used.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("there is a free port")
        .port()
}
