//! A real Prometheus that scrapes what a test runs: Debian's `prometheus`.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Request;
use crate::process::{Process, command_at, write};
use crate::python::tell_skipped;
use crate::wait::PATIENCE;

/// A running Prometheus, at a port of 127.0.0.1 that the system has chosen. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    /// Where it keeps what it has scraped, until it is gone.
    _folder: TempDir,
}

impl Prometheus {
    /// One with this configuration. None, and a loud word, if this machine has no `prometheus`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start(configuration: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            tell_skipped(PROGRAM);
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("prometheus.yaml");
        write(&path, configuration.as_bytes());
        let mut command = command_at(Path::new(PROGRAM));
        command.arg(format!("--config.file={}", path.display()));
        let data = folder.path().join("data");
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg("--web.listen-address=127.0.0.1:0");
        let process = Process::spawn(&mut command);
        // Before it is ready it answers, and says that it is not.
        let address = process.log.wait_for(PATIENCE, |lines| {
            lines.iter().find(|line| line.contains(READY))?;
            let listening = lines.iter().filter(|line| line.contains(LISTENING));
            listening.filter_map(|line| address(line)).next()
        });
        let Some(address) = address else {
            panic!(
                "prometheus does not listen; its log:\n{}",
                process.log.text()
            );
        };
        Some(Self {
            process,
            address,
            _folder: folder,
        })
    }

    /// The answer of its API: `/api/v1/rules`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn get(&self, target: &str) -> Value {
        Request::to(self.address, "GET", target).send().json()
    }

    /// What an expression of PromQL comes to now.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.process.log.text()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill();
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    let (_, behind) = line.rsplit_once("address=")?;
    let found: SocketAddr = behind.trim().parse().ok()?;
    (found.port() != 0).then_some(found)
}

const PROGRAM: &str = "/usr/bin/prometheus";
const LISTENING: &str = "msg=\"Listening on\"";
const READY: &str = "Server is ready to receive web requests";
