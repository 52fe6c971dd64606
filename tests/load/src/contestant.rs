//! Who is measured: nginx and the gateway, each a process with a generated configuration.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fault::{Fault, Result, Trouble};
use crate::http;
use crate::process::Process;
use crate::scenario::Stop;

/// The tools found, and a directory for everything that contestants read and write.
pub(crate) struct Bench {
    nginx: PathBuf,
    /// `None` when only the others are measured.
    edgeway: Option<PathBuf>,
    directory: TempDir,
    stop: Stop,
}

/// A running proxy.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// Resident memory in KiB after its first answer.
    pub(crate) resident_at_start: u64,
}

impl Bench {
    pub(crate) fn new(nginx: &Path, edgeway: Option<PathBuf>, stop: Stop) -> Result<Self> {
        let directory =
            tempfile::tempdir().trouble(|| "cannot make a temporary directory".to_owned())?;
        Ok(Self {
            nginx: nginx.to_owned(),
            edgeway,
            directory,
            stop,
        })
    }

    pub(crate) fn has_edgeway(&self) -> bool {
        self.edgeway.is_some()
    }

    /// Writes a file that a configuration names, and returns where it is.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.directory.path().join(name);
        fs::write(&file, text).trouble(|| format!("cannot write `{}`", file.display()))?;
        Ok(file)
    }

    /// Starts an nginx with one worker. `main` is for the top of its file, `http` for the inside
    /// of its `http` block, which gets the address to listen on.
    pub(crate) fn nginx(
        &self,
        name: &'static str,
        main: &str,
        http: impl FnOnce(SocketAddr) -> String,
    ) -> Result<Contestant> {
        let address = free_address()?;
        let file = self.file(
            &file_name(name, "conf"),
            &nginx_conf(&file_name(name, "pid"), main, &http(address)),
        )?;
        let mut command = Command::new(&self.nginx);
        command
            .arg("-p")
            .arg(self.directory.path())
            .arg("-c")
            .arg(file);
        command.args(["-e", "stderr"]);
        self.start(name, command, address)
    }

    /// Starts the gateway with one thread; `routes` is the rest of its file.
    pub(crate) fn edgeway(&self, name: &'static str, routes: &str) -> Result<Contestant> {
        let binary = self
            .edgeway
            .as_ref()
            .expect("asked for only when it is measured");
        let address = free_address()?;
        let head = format!("threads: 1\nlisteners: {{ http: {{ bind: \"{address}\" }} }}\n");
        let file = self.file(&file_name(name, "yaml"), &(head + routes))?;
        let mut command = Command::new(binary);
        command.arg("run").arg("-c").arg(file);
        self.start(name, command, address)
    }

    /// The first line that each tool says about its version.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let mut versions = vec![first_line(&self.nginx, "-v")?];
        if let Some(edgeway) = &self.edgeway {
            versions.push(first_line(edgeway, "version")?);
        }
        Ok(versions)
    }

    fn start(
        &self,
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
    ) -> Result<Contestant> {
        self.stop.check()?;
        command.env(SECRET_VARIABLE, SECRET);
        let log = self.directory.path().join(file_name(name, "log"));
        let mut process = Process::start(command, log)?;
        process.until_it_answers(address)?;
        let resident_at_start = process.resident()?;
        Ok(Contestant {
            name,
            address,
            process,
            resident_at_start,
        })
    }
}

impl Contestant {
    /// Asks once; anything but `status`, and `body` if one is given, is a wrong answer.
    pub(crate) fn must_answer(
        &self,
        why: &str,
        request: &[u8],
        status: u16,
        body: Option<&[u8]>,
    ) -> Result<()> {
        let wrong = |what: String| Fault::Answer(format!("{}, asked {why}: {what}", self.name));
        let (got, text) =
            http::ask(self.address, request).map_err(|error| wrong(error.to_string()))?;
        if got != status {
            return Err(wrong(format!("status {got} instead of {status}")));
        }
        match body {
            Some(body) if body != text => Err(wrong(format!("`{}`", text.escape_ascii()))),
            _ => Ok(()),
        }
    }
}

/// The kernel's choice. Another process could take it in the moment before it is used; the run
/// then ends with a complaint about it.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .trouble(|| "cannot find a free port".to_owned())
}

fn file_name(contestant: &str, extension: &str) -> String {
    format!(
        "{}.{extension}",
        contestant.replace(" + ", "-").replace(' ', "-")
    )
}

fn nginx_conf(pid: &str, main: &str, http: &str) -> String {
    format!(
        "{main}
daemon off;
worker_processes 1;
pid {pid};
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    # By default a connection ends after 1 000 requests.
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{http}
}}
"
    )
}

fn first_line(program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .trouble(|| format!("cannot run `{}`", program.display()))?;
    // nginx says it on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.trim_start_matches("nginx version: ").to_owned())
}

/// Shared by everyone who signs or verifies.
pub(crate) const SECRET: &str = "a-secret-for-measuring-that-is-long-enough";
pub(crate) const SECRET_VARIABLE: &str = "EDGEWAY_JWT_SECRET";
