//! Writes a line for every request when it has ended.
//!
//! Lines are `json`, the `combined` format of nginx and Apache, or a text of one's own:
//!
//! ```yaml
//! access_log: { format: '{time} {client_ip} "{method} {target}" {status} {duration_ms}', to: stderr }
//! ```
//!
//! A text may use all values that other filters know, and those of [`line::FIELDS`]. What has no
//! value is `-` in a text and absent in JSON. `combined` gives 499, as nginx does, when the client
//! left before there was a status.
//!
//! On routes with a cache, `cache` is what that did (`hit`, `stale`, `miss`, `expired`, `revalidated`,
//! `bypass`), and `cache_reason` why it did not store the response, or not serve what it has stored.
//!
//! Requests that nobody wants to read of are left out by `skip`: those that fit all that one of its entries
//! says. Name the `statuses`, too, so that failures are still told:
//!
//! ```yaml
//! access_log: { skip: [{ paths: [/static/, '*.css'], statuses: [200-399, 404] }, { paths: /healthz }] }
//! ```
//!
//! What clients send can't forge a line, nor a field of `json` and `combined`: control characters,
//! quotes and backslashes are escaped. Values of query parameters that are secrets are written as
//! `***`, in the target and in `Referer`.
//!
//! The request that is logged never waits: its line goes into a queue of bounded length, which one
//! thread for each destination empties; see [`sink`].

mod escape;
mod file;
mod line;
mod secrets;
mod sink;
mod time;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use edgeway_sdk::{prelude::*, types::FilePath};

use self::{line::Format, secrets::Secrets, sink::Sink};
use crate::criteria::{List, PathPattern, Statuses};

pub(crate) const DOC: &str = "\
writes a line for every request when it has ended

access_log:
  format: json      # or combined, or a text such as '{time} {client_ip} {method} {target} {status}';
                    # routes with a cache also have {cache}, such as hit or miss, and {cache_reason}
  to: stdout        # or stderr, or { file: access.log }
  secrets: []       # more query parameters whose values are written as ***, beside access_token,
                    # jwt, token, id_token, refresh_token, code, password, secret, client_secret,
                    # api_key, apikey, key, signature and sig
  skip:             # requests that have no line; what is given in one entry must all hold
    - paths: [/static/, '*.css']    # /static/ is all below it, a * is any letters
      statuses: [200-399, 404]      # all if not given
";

/// Whether the values of this query parameter are hidden in every access log.
pub(crate) fn always_hides(name: &str) -> bool {
    Secrets::new(&[]).contains(name.as_bytes())
}

/// `access_log: { format: combined, to: { file: /var/log/edgeway/access.log } }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    format: Format,
    #[serde(default)]
    to: To,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    skip: Vec<Skip>,
}

/// Requests that have no line: those to which all of this applies.
#[derive(Deserialize)]
struct Skip {
    paths: Option<List<PathPattern>>,
    statuses: Option<List<Statuses>>,
}

/// Where lines go.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    #[default]
    Stdout,
    Stderr,
    File(FilePath),
}

/// Writes a line for every request.
pub(crate) struct AccessLog {
    format: Format,
    secrets: Secrets,
    skip: Vec<Skip>,
    sink: Arc<Sink>,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<AccessLog, BuildError> {
    let secrets = Secrets::new(&config.secrets);
    if let Some(name) = config.format.revealed(&secrets) {
        let message = format!("`{{query.{name}}}` would write a secret into the log");
        return Err(BuildError::at("format", message));
    }
    if let Some(number) = config.skip.iter().position(Skip::takes_all) {
        let error = BuildError::at(format!("skip.{number}"), "no request would have a line");
        return Err(error.help("say which, by `paths` or `statuses`"));
    }
    let sink = destination(&config.to, build)?;
    let started = Arc::clone(&sink);
    build.background(async move { started.start() });
    Ok(AccessLog {
        format: config.format,
        secrets,
        skip: config.skip,
        sink,
    })
}

fn destination(to: &To, build: &Build<'_>) -> Result<Arc<Sink>, BuildError> {
    let resources = build.resources();
    match to {
        To::Stdout => {
            Ok(resources.shared("stdout", || Sink::new("stdout", || Ok(std::io::stdout()))))
        }
        To::Stderr => {
            Ok(resources.shared("stderr", || Sink::new("stderr", || Ok(std::io::stderr()))))
        }
        To::File(path) => {
            let path = resolved(build.path(path));
            let name = path.display().to_string();
            resources
                .try_shared(&format!("file {name}"), || Sink::file(&path))
                .map_err(|error| BuildError::at("to.file", format!("can't open `{name}`: {error}")))
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

#[async_trait]
impl Filter for AccessLog {
    fn refuses(&self) -> bool {
        false
    }

    fn log(&self, record: &Record<'_>) {
        if self.skip.iter().any(|skip| skip.fits(record)) {
            return;
        }
        let mut line = Vec::with_capacity(LINE);
        self.format
            .write(&mut line, record, SystemTime::now(), &self.secrets);
        line.push(b'\n');
        self.sink.send(line);
    }

    fn hooks(&self) -> Hooks {
        Hooks::LOG
    }
}

impl Skip {
    fn takes_all(&self) -> bool {
        self.paths.is_none() && self.statuses.is_none()
    }

    /// A client that left before there was a status had none of the `statuses`.
    fn fits(&self, record: &Record<'_>) -> bool {
        let in_place = || {
            self.paths
                .as_ref()
                .is_none_or(|paths| paths.has_path(record.path()))
        };
        let ended_so = self.statuses.as_ref().is_none_or(|statuses| {
            record
                .status
                .is_some_and(|status| statuses.has_status(status))
        });
        ended_so && in_place()
    }
}

/// Most lines fit into this many bytes, so that writing one allocates once.
const LINE: usize = 768;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use edgeway_sdk::{
        Resources,
        test::{self, Trial},
    };

    use super::*;

    fn built(json: &str, resources: &Resources, folder: &Path) -> Result<AccessLog, BuildError> {
        let mut stage = Build::new(resources, folder);
        let filter = build(serde_json::from_str(json).unwrap(), &mut stage)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        for task in stage.background {
            runtime.as_ref().unwrap().block_on(task);
        }
        Ok(filter)
    }

    fn log(filter: &AccessLog, target: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let outcome = runtime.unwrap().block_on(Trial::get(target).run(filter));
        filter.log(&outcome.record());
    }

    #[test]
    fn every_line_is_in_the_file_once_the_last_user_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let resources = Resources::default();
        let json = r#"{"format": "{target}", "to": {"file": "a.log"}, "secrets": ["pin"]}"#;
        let first = built(json, &resources, folder.path()).unwrap();
        let second = built(json, &resources, folder.path()).unwrap();
        assert!(Arc::ptr_eq(&first.sink, &second.sink));
        for number in 0..100 {
            log(&first, &format!("/{number}?pin=1"));
        }
        drop(first);
        log(&second, "/last");
        drop(second);
        let text = fs::read_to_string(folder.path().join("a.log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 101);
        assert_eq!((lines[7], lines[100]), ("/7?pin=***", "/last"));
    }

    #[test]
    fn a_file_is_continued_and_only_its_group_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        for target in ["/1", "/2"] {
            let json = r#"{"format": "{path}", "to": {"file": "a.log"}}"#;
            log(
                &built(json, &Resources::default(), folder.path()).unwrap(),
                target,
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "/1\n/2\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn no_file_is_made_for_a_configuration_that_is_only_checked() {
        let folder = tempfile::tempdir().unwrap();
        let resources = Resources::default();
        let config = serde_json::from_str(r#"{"to": {"file": "a.log"}}"#).unwrap();
        build(config, &mut Build::new(&resources, folder.path())).unwrap();
        assert!(!folder.path().join("a.log").exists());
    }

    #[test]
    fn a_file_is_the_same_by_every_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let resources = Resources::default();
        let sink = |path: &str| {
            let json = format!(r#"{{"to": {{"file": "{path}"}}}}"#);
            built(&json, &resources, folder.path()).unwrap().sink
        };
        let direct = sink("a.log");
        assert!(Arc::ptr_eq(&direct, &sink("b/../a.log")));
        assert!(!Arc::ptr_eq(&direct, &sink("b.log")));
    }

    #[test]
    fn a_file_that_can_not_be_opened_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["", "none/a.log"] {
            let json = format!(r#"{{"to": {{"file": "{path}"}}}}"#);
            let error = built(&json, &Resources::default(), folder.path()).err();
            assert_eq!(error.unwrap().key.as_deref(), Some("to.file"));
        }
    }

    #[test]
    fn standard_output_and_error_are_destinations_too() {
        for (json, name) in [
            ("{}", "stdout"),
            (r#"{"to": "stdout"}"#, "stdout"),
            (r#"{"to": "stderr", "format": "combined"}"#, "stderr"),
        ] {
            assert_eq!(test::build(json, build).unwrap().sink.name(), name);
        }
    }

    #[test]
    fn what_is_skipped_has_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"{"format": "{path}", "to": {"file": "a.log"}, "skip": [
            {"paths": ["/static/", "*.css"], "statuses": ["200-399", 404]},
            {"paths": "/healthz"},
            {"statuses": 418}
        ]}"#;
        let filter = built(json, &Resources::default(), folder.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let told = [
            ("/static/a", Some(200), false),
            ("/a/b.css?v=1", Some(304), false),
            ("/static/b", Some(404), false),
            ("/static/c", Some(500), true),
            ("/static/d", None, true),
            ("/static", Some(200), true),
            ("/a?b.css", Some(200), true),
            ("/healthz", None, false),
            ("/healthz", Some(503), false),
            ("/tea", Some(418), false),
        ];
        for (target, status, _) in told {
            let outcome = runtime.block_on(Trial::get(target).run(&filter));
            let mut record = outcome.record();
            record.status = status.map(|status| StatusCode::from_u16(status).unwrap());
            filter.log(&record);
        }
        drop(filter);
        let text = fs::read_to_string(folder.path().join("a.log")).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["/static/c", "/static/d", "/static", "/a"]
        );
    }

    #[test]
    fn a_log_without_any_line_is_refused() {
        let error = test::build(r#"{"skip": [{"statuses": 200}, {}]}"#, build).err();
        assert_eq!(error.unwrap().key.as_deref(), Some("skip.1"));
    }

    #[test]
    fn a_format_that_would_write_a_secret_is_refused() {
        for (json, refused) in [
            (r#"{"format": "{query.token}"}"#, true),
            (r#"{"format": "{query.PIN}", "secrets": ["pin"]}"#, true),
            (r#"{"format": "{query.page}"}"#, false),
        ] {
            let error = test::build(json, build).err();
            assert_eq!(error.is_some(), refused, "{json}");
            assert!(error.is_none_or(|error| error.key.as_deref() == Some("format")));
        }
    }
}
