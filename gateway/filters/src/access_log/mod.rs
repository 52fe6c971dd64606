//! Writes a line for every request when it has ended.
//!
//! Lines are `json`, the `combined` format of nginx and Apache, or a text of one's own:
//!
//! ```yaml
//! access_log: { format: '{time} {client_ip} "{method} {target}" {status} {duration_ms}', to: stderr }
//! ```
//!
//! A text may use all values that other filters know, and those of [`field::FIELDS`]. What has no
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
//! Where there are too many requests to write of each, `sample` has lines for a share of them, by chance, and for
//! all that `always` names: those that failed, and those that were slow.
//!
//! Where the time of a request has gone is told by its phases, in the words of browsers: `filters_ms`, `queue_ms`
//! (until the endpoint was chosen: the cache, waiting for a place, earlier tries), `connect_ms` (absent over a kept
//! connection), `send_ms` (the request's body), `wait_ms` (for the answer to begin) and `receive_ms` (until its last
//! byte was with the client). Together they are `duration_ms`. `upstream_ms` counts from the arrival of the request to the head of the
//! endpoint's answer.
//!
//! Lines go to a stream, a file, syslog or the journal of systemd. That is given the values as fields as well:
//! `journalctl EDGEWAY_STATUS=502`. A file that was renamed is opened anew when the gateway is told so (`SIGUSR1`).
//!
//! What clients send can't forge a line, nor a field of `json` and `combined`: control characters,
//! quotes and backslashes are escaped. Values of query parameters that are secrets are written as
//! `***`, in the target and in `Referer`.
//!
//! The request that is logged never waits: its line goes into a queue of bounded length, which one
//! thread for each destination empties; see [`sink`].

mod escape;
mod field;
mod file;
mod journal;
mod line;
mod phases;
mod sample;
pub(crate) mod secrets;
mod sink;
mod syslog;
mod time;
mod to;

use std::{sync::Arc, time::SystemTime};

use edgeway_sdk::{Resources, prelude::*, types::Percent};

pub use self::to::{LogSink, log_sinks, reopen_logs};
use self::{
    line::Format,
    sample::{Always, Sample},
    secrets::Secrets,
    sink::Sink,
    to::To,
};
use crate::{
    criteria::{List, PathPattern, Statuses},
    roll::Roll,
};

pub(crate) const DOC: &str = "\
writes a line for every request when it has ended

access_log:
  format: json      # or combined, or a text such as '{time} {client_ip} {method} {target} {status}', with
                    # all values that other texts know and {time} {status} {duration_ms} {bytes_received}
                    # {bytes_sent} {protocol} {listener} {upstream} {endpoint} {attempts} {tries} {reused}
                    # {upstream_ms} {filters_ms} {queue_ms} {connect_ms} {send_ms} {wait_ms} {receive_ms}
                    # {origin} {cache} {cache_reason} {filter} {rule} {key} {reason} {reported} {error}
                    # {tls.resumed}
  to: stdout        # or stderr, { file: access.log } (opened anew on SIGUSR1), journald, or
                    # { syslog: { address: 'udp:logs.internal:514', facility: local7, tag: edgeway } },
                    # also 'tcp:logs.internal:601' and, if no address is given, 'unix:/dev/log'
  secrets: []       # more query parameters whose values are written as ***, beside access_token,
                    # jwt, token, id_token, refresh_token, code, password, secret, client_secret,
                    # api_key, apikey, key, signature and sig
  skip:             # requests that have no line; what is given in one entry must all hold
    - paths: [/static/, '*.css']    # /static/ is all below it, a * is any letters
      statuses: [200-399, 404]      # all if not given
  #sample: 10%      # the share of the others that have one; all if not given
  #always:          # those that have one even so
    #statuses: [500-599]            # and whatever did not end as it should
    #slower_than: 1s
";

/// Whether the values of this query parameter are hidden in every access log.
pub(crate) fn always_hides(name: &str) -> bool {
    Secrets::new(&[]).contains(name.as_bytes())
}

/// What `access_log: { format: json }` would write of a request that has just ended, without the end of the line. It
/// hides what any access log of these resources hides.
pub fn json_line(record: &Record<'_>, resources: &Resources) -> Vec<u8> {
    let secrets = Secrets::all_of(&hidden(resources).all());
    let mut line = Vec::with_capacity(LINE);
    Format::Json.write(&mut line, record, SystemTime::now(), &secrets);
    line
}

/// What the access logs in use hide.
fn hidden(resources: &Resources) -> Arc<Roll<Secrets>> {
    resources.shared("secrets of access logs", Roll::default)
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
    sample: Option<Percent>,
    always: Option<Always>,
}

/// Requests that have no line: those to which all of this applies.
#[derive(Deserialize)]
struct Skip {
    paths: Option<List<PathPattern>>,
    statuses: Option<List<Statuses>>,
}

/// Writes a line for every request.
pub(crate) struct AccessLog {
    format: Format,
    secrets: Arc<Secrets>,
    skip: Vec<Skip>,
    sample: Option<Sample>,
    /// Whether each line comes with its values as fields.
    fields: bool,
    sink: Arc<Sink>,
    /// Kept, so that all are known as long as one is used.
    _sinks: Arc<Roll<Sink>>,
    _hidden: Arc<Roll<Secrets>>,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<AccessLog, BuildError> {
    let secrets = Arc::new(Secrets::new(&config.secrets));
    if let Some(name) = config.format.revealed(&secrets) {
        let message = format!("`{{query.{name}}}` would write a secret into the log");
        return Err(BuildError::at("format", message));
    }
    if let Some(number) = config.skip.iter().position(Skip::takes_all) {
        let error = BuildError::at(format!("skip.{number}"), "no request would have a line");
        return Err(error.help("say which, by `paths` or `statuses`"));
    }
    let sample = Sample::new(config.sample, config.always)?;
    let sink = config.to.sink(build)?;
    let sinks = to::sinks(build.resources());
    let (started, all) = (Arc::clone(&sink), Arc::clone(&sinks));
    let hidden = hidden(build.resources());
    let (names, others) = (Arc::clone(&secrets), Arc::clone(&hidden));
    build.background(async move {
        started.start();
        all.add(&started);
        others.add(&names);
    });
    Ok(AccessLog {
        format: config.format,
        secrets,
        skip: config.skip,
        sample,
        fields: config.to.takes_fields(),
        sink,
        _sinks: sinks,
        _hidden: hidden,
    })
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
        if self
            .sample
            .as_ref()
            .is_some_and(|sample| !sample.takes(record))
        {
            return;
        }
        let mut line = Vec::with_capacity(LINE);
        if self.fields {
            line::write_fields(&mut line, record);
        }
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
    fn all_destinations_in_use_are_known_and_opened_again_together() {
        let folder = tempfile::tempdir().unwrap();
        let resources = Resources::default();
        let paths = ["a.log", "b.log"].map(|name| folder.path().join(name));
        let json = |name: &str| format!(r#"{{"format": "{{path}}", "to": {{"file": "{name}"}}}}"#);
        let filters = ["a.log", "b.log", "b.log"]
            .map(|name| built(&json(name), &resources, folder.path()).unwrap());
        let sinks = paths.each_ref().map(|path| LogSink {
            to: path
                .canonicalize()
                .unwrap_or_else(|_| path.clone())
                .display()
                .to_string(),
            lost: 0,
        });
        assert_eq!(log_sinks(&resources), sinks);
        for filter in &filters {
            log(filter, "/1");
        }
        for path in &paths {
            while !path.exists() {
                std::thread::yield_now();
            }
            fs::rename(path, path.with_extension("old")).unwrap();
        }
        reopen_logs(&resources);
        for filter in &filters {
            log(filter, "/2");
        }
        drop(filters);
        assert_eq!(log_sinks(&resources), []);
        let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
        let counts = paths.map(|path| lines(&path) + lines(&path.with_extension("old")));
        assert_eq!(counts, [2, 4]);
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
            (r#"{"to": "journald"}"#, "journald"),
            (r#"{"to": {"syslog": {}}}"#, "syslog unix:/dev/log"),
            (
                r#"{"to": {"syslog": {"address": "udp:h:514", "facility": "daemon", "tag": "t"}}}"#,
                "syslog udp:h:514",
            ),
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
