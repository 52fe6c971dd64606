//! Who is measured: nginx, Varnish, HAProxy, Caddy, and the gateway, each with a generated configuration.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fault::{Fault, Result, Trouble};
use crate::http::{self, Sign};
use crate::load::Peer;
use crate::process::Process;
use crate::scenario::Stop;

/// The programs to measure.
pub(crate) struct Tools {
    pub(crate) nginx: PathBuf,
    pub(crate) varnish: PathBuf,
    pub(crate) haproxy: PathBuf,
    pub(crate) caddy: PathBuf,
    /// `None` when only the others are measured.
    pub(crate) edgeway: Option<PathBuf>,
    /// Another build of it, to see what has changed.
    pub(crate) before: Option<PathBuf>,
}

/// The tools, and a directory for everything that contestants read and write.
pub(crate) struct Bench {
    tools: Tools,
    directory: TempDir,
    /// For what should not wait for a disk.
    in_memory: TempDir,
    stop: Stop,
}

/// A running proxy.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// Resident memory in KiB after its first answer.
    pub(crate) resident_at_start: u64,
    /// What the head of every answer says while it is measured.
    pub(crate) sign: Option<Sign>,
}

impl Bench {
    pub(crate) fn new(tools: Tools, stop: Stop) -> Result<Self> {
        Ok(Self {
            tools,
            directory: open_directory(&env::temp_dir())?,
            in_memory: match Path::new(IN_MEMORY) {
                folder if folder.is_dir() => open_directory(folder)?,
                _ => open_directory(&env::temp_dir())?,
            },
            stop,
        })
    }

    pub(crate) fn has_edgeway(&self) -> bool {
        self.tools.edgeway.is_some()
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// A place for files that are in memory if the machine can do that.
    pub(crate) fn in_memory(&self, name: &str) -> PathBuf {
        self.in_memory.path().join(file_name(name, "files"))
    }

    /// Bytes that all these files take up.
    pub(crate) fn taken_in_memory(&self) -> Result<u64> {
        taken(self.in_memory.path()).trouble(|| "cannot look at the files of a cache".to_owned())
    }

    /// Makes a folder for files that are served.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.directory.path().join(name);
        fs::create_dir(&folder).trouble(|| format!("cannot make `{}`", folder.display()))?;
        Ok(folder)
    }

    /// Writes a file that a configuration names, or one that is served, and returns where it is.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let file = self.directory.path().join(name);
        fs::write(&file, content).trouble(|| format!("cannot write `{}`", file.display()))?;
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
            nginx_conf(&file_name(name, "pid"), main, &http(address)),
        )?;
        let mut command = Command::new(&self.tools.nginx);
        command
            .arg("-p")
            .arg(self.directory.path())
            .arg("-c")
            .arg(file);
        command.args(["-e", "stderr"]);
        self.start(name, command, address)
    }

    /// Starts an HAProxy with one thread; `file` makes its configuration from the address to listen on.
    pub(crate) fn haproxy(
        &self,
        name: &'static str,
        file: impl FnOnce(SocketAddr) -> String,
    ) -> Result<Contestant> {
        let address = free_address()?;
        let file = self.file(&file_name(name, "cfg"), file(address))?;
        let mut command = Command::new(&self.tools.haproxy);
        command.arg("-db").arg("-f").arg(file);
        // With TLS it says nothing to who speaks in the clear; and what listens is what answers.
        self.start_until(name, command, address, Process::until_it_listens)
    }

    pub(crate) fn haproxy_version(&self) -> Result<String> {
        first_line(&self.tools.haproxy, "-v")
    }

    /// Starts the gateway with one thread; `routes` is the rest of its file.
    pub(crate) fn edgeway(&self, name: &'static str, routes: &str) -> Result<Contestant> {
        self.edgeway_listening(name, None, routes)
    }

    /// The same with a further key of its listener.
    pub(crate) fn edgeway_listening(
        &self,
        name: &'static str,
        key: Option<&str>,
        routes: &str,
    ) -> Result<Contestant> {
        let binary = self.tools.edgeway.as_ref();
        let binary = binary.expect("asked for only when it is measured");
        self.gateway(binary, name, key, routes)
    }

    /// Starts the other build of the gateway in the same way, if there is one.
    pub(crate) fn edgeway_before(
        &self,
        name: &'static str,
        routes: &str,
    ) -> Result<Option<Contestant>> {
        let binary = self.tools.before.as_ref();
        binary
            .map(|binary| self.gateway(binary, name, None, routes))
            .transpose()
    }

    fn gateway(
        &self,
        binary: &Path,
        name: &'static str,
        key: Option<&str>,
        routes: &str,
    ) -> Result<Contestant> {
        let address = free_address()?;
        let key = key.map(|key| format!(", {key}")).unwrap_or_default();
        let head = format!("threads: 1\nlisteners: {{ http: {{ bind: \"{address}\"{key} }} }}\n");
        let file = self.file(&file_name(name, "yaml"), &(head + routes))?;
        let mut command = Command::new(binary);
        command.arg("run").arg("-c").arg(file);
        self.start(name, command, address)
    }

    /// Starts a Varnish with one pool of threads, which stores in memory for an hour; fewer than some threads
    /// it does not have. `vcl` is its program, without the first line.
    pub(crate) fn varnish(&self, name: &'static str, vcl: &str) -> Result<Contestant> {
        let address = free_address()?;
        let file = self.file(&file_name(name, "vcl"), format!("vcl 4.1;\n{vcl}"))?;
        let mut command = Command::new(&self.tools.varnish);
        command.args([
            "-F",
            "-s",
            "malloc,2g",
            "-t",
            "3600",
            "-p",
            "thread_pools=1",
        ]);
        command
            .arg("-a")
            .arg(address.to_string())
            .arg("-f")
            .arg(file);
        command.arg("-n").arg(self.directory.path().join(name));
        self.start(name, command, address)
    }

    /// Starts a Caddy with one thread for its code; `site` is what it does with requests.
    pub(crate) fn caddy(&self, name: &'static str, site: &str) -> Result<Contestant> {
        let address = free_address()?;
        let (host, port) = (address.ip(), address.port());
        let global = "{\n    admin off\n    auto_https off\n}";
        let text = format!("{global}\n:{port} {{\n    bind {host}\n{site}\n}}\n");
        let file = self.file(&file_name(name, "caddyfile"), text)?;
        let mut command = Command::new(&self.tools.caddy);
        command.args(["run", "--adapter", "caddyfile", "--config"]);
        command.arg(file);
        command.env("GOMAXPROCS", "1");
        command.env("XDG_DATA_HOME", self.directory.path());
        command.env("XDG_CONFIG_HOME", self.directory.path());
        self.start(name, command, address)
    }

    pub(crate) fn caddy_version(&self) -> Result<String> {
        let version = first_line(&self.tools.caddy, "version")?;
        Ok(format!("caddy {version}"))
    }

    pub(crate) fn varnish_version(&self) -> Result<String> {
        first_line(&self.tools.varnish, "-V")
    }

    /// The first line that each tool says about its version.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let mut versions = vec![first_line(&self.tools.nginx, "-v")?];
        if let Some(edgeway) = &self.tools.edgeway {
            versions.push(first_line(edgeway, "version")?);
        }
        Ok(versions)
    }

    fn start(
        &self,
        name: &'static str,
        command: Command,
        address: SocketAddr,
    ) -> Result<Contestant> {
        self.start_until(name, command, address, Process::until_it_answers)
    }

    fn start_until(
        &self,
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        ready: fn(&mut Process, SocketAddr) -> Result<()>,
    ) -> Result<Contestant> {
        self.stop.check()?;
        command.env(SECRET_VARIABLE, SECRET);
        let log = self.directory.path().join(file_name(name, "log"));
        let mut process = Process::start(command, log)?;
        ready(&mut process, address)?;
        let resident_at_start = process.resident()?;
        Ok(Contestant {
            name,
            address,
            process,
            resident_at_start,
            sign: None,
        })
    }
}

impl Contestant {
    /// To ask it for something.
    pub(crate) fn peer(&self, what: &str) -> Peer {
        Peer {
            who: format!("{} ({what})", self.name),
            address: self.address,
            sign: self.sign,
        }
    }

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

/// One that the users whom masters run their workers as may enter.
fn open_directory(parent: &Path) -> Result<TempDir> {
    let doing = || {
        format!(
            "cannot make a temporary directory in `{}`",
            parent.display()
        )
    };
    let directory = tempfile::tempdir_in(parent).trouble(doing)?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).trouble(doing)?;
    Ok(directory)
}

/// Bytes of the files in a folder and the folders in it. One that is gone when it is looked at takes up none.
fn taken(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => taken(&entry.path())?,
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        };
    }
    Ok(bytes)
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
events {{ worker_connections 16384; }}
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
    // nginx and Varnish say it on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("nginx version: ");
    // Varnish tells the revision too.
    let line = line.trim_start_matches("varnishd (").split(" revision ");
    Ok(line.take(1).collect())
}

/// Shared by everyone who signs or verifies.
pub(crate) const SECRET: &str = "a-secret-for-measuring-that-is-long-enough";
pub(crate) const SECRET_VARIABLE: &str = "EDGEWAY_JWT_SECRET";
const IN_MEMORY: &str = "/dev/shm";
