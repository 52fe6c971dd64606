//! Where lines go.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use edgeway_sdk::{Resources, prelude::*, types::FilePath};

use super::{
    journal,
    sink::Sink,
    syslog::{self, Syslog},
};
use crate::roll::Roll;

/// Where lines go.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum To {
    #[default]
    Stdout,
    Stderr,
    File(FilePath),
    Journald,
    Syslog(Syslog),
}

impl To {
    /// Whether each line comes with its values as fields.
    pub(super) fn takes_fields(&self) -> bool {
        matches!(self, Self::Journald)
    }

    /// The destination, for all filters that write there.
    pub(super) fn sink(&self, build: &Build<'_>) -> Result<Arc<Sink>, BuildError> {
        let resources = build.resources();
        match self {
            Self::Stdout => {
                Ok(resources.shared("stdout", || Sink::new("stdout", || Ok(std::io::stdout()))))
            }
            Self::Stderr => {
                Ok(resources.shared("stderr", || Sink::new("stderr", || Ok(std::io::stderr()))))
            }
            Self::File(path) => {
                let path = resolved(build.path(path));
                let name = path.display().to_string();
                let sink = resources.try_shared(&format!("file {name}"), || Sink::file(&path));
                sink.map_err(|error| {
                    BuildError::at("to.file", format!("can't open `{name}`: {error}"))
                })
            }
            Self::Journald => {
                let open = || journal::open(Path::new(journal::SOCKET));
                Ok(resources.shared("journald", || Sink::new("journald", open).anew()))
            }
            Self::Syslog(syslog) => {
                let name = format!("syslog {}", syslog.address);
                // Who calls himself otherwise is another sender.
                let key = format!("{name} {} {}", syslog.facility.0, syslog.tag.0);
                let syslog = syslog.clone();
                let open = move || syslog::open(&syslog);
                Ok(resources.shared(&key, || Sink::new(name, open).anew()))
            }
        }
    }
}

/// The same path for all who write the same file, whichever way they came to it.
fn resolved(path: PathBuf) -> PathBuf {
    if let Ok(known) = path.canonicalize() {
        return known;
    }
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// A destination of access logs, and what it has not been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSink {
    /// `stdout`, `stderr`, `journald`, `syslog udp:...`, or the path of a file.
    pub to: String,
    /// How many lines were lost: they came too fast, or could not be written.
    pub lost: u64,
}

/// All destinations that are in use.
pub(super) fn sinks(resources: &Resources) -> Arc<Roll<Sink>> {
    resources.shared("access logs", Roll::default)
}

/// Has all files that access logs write opened again, since they were renamed. Lines that have come before are in
/// one of the two files, and whole. Waits for nothing.
pub fn reopen_logs(resources: &Resources) {
    for sink in sinks(resources).all() {
        sink.reopen();
    }
}

/// All destinations of access logs that are in use.
pub fn log_sinks(resources: &Resources) -> Vec<LogSink> {
    let sinks = sinks(resources).all();
    let told = sinks.iter().map(|sink| LogSink {
        to: sink.name().to_owned(),
        lost: sink.lost(),
    });
    told.collect()
}
