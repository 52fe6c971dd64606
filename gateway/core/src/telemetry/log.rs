//! Diagnostics on standard error. (Access logs are a filter.)
//!
//! What is told is chosen at the start, by `RUST_LOG`, and may be changed while the gateway runs. Whoever logs waits
//! for nobody who changes it.
//!
//! Under systemd standard error is the journal, which keeps the time and the level of each line by itself: it is told
//! the level as `<4>` before the line, and no time.

use std::{
    env,
    io::{self, Write as _},
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use env_filter::Filter;
use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};

/// Starts logging. `RUST_LOG` chooses what is told; `info` if it is not set, but of Pingora itself
/// only what an operator must know.
pub(crate) fn start() {
    let wanted = env::var("RUST_LOG")
        .ok()
        .filter(|wanted| !wanted.is_empty());
    let wanted = wanted.unwrap_or_else(|| format!("info,{ENGINE}"));
    let diagnostics = Diagnostics::new(wanted, is_journal());
    // A second start (in a test, or by a program that logs already) keeps the first logger.
    drop(install(diagnostics));
}

fn install(diagnostics: Diagnostics) -> Result<(), SetLoggerError> {
    let most = diagnostics.filter.load().filter();
    let diagnostics = DIAGNOSTICS.get_or_init(|| diagnostics);
    log::set_logger(diagnostics)?;
    log::set_max_level(most);
    Ok(())
}

/// What is told from now on: a level, and others for parts of the program: `info,edgeway::proxy=debug`. Of Pingora
/// only errors, if its parts are not named.
///
/// # Errors
///
/// That is no such text, in words for whoever has sent it; or another logger than this one is in use.
pub(crate) fn set(wanted: &str) -> Result<(), String> {
    let diagnostics = DIAGNOSTICS.get().ok_or(NOT_OURS)?;
    check(wanted)?;
    diagnostics.tell(wanted.to_owned());
    Ok(())
}

/// Tells again what was told at the start.
pub(crate) fn reset() {
    if let Some(diagnostics) = DIAGNOSTICS.get() {
        diagnostics.tell(diagnostics.at_start.clone());
    }
}

/// What is told now, as [`set`] takes it; none if another logger is in use.
pub(crate) fn level() -> Option<Arc<String>> {
    DIAGNOSTICS.get().map(|known| known.wanted.load_full())
}

/// What is told at `error` even where everything else is told at `debug`.
const ENGINE: &str = "pingora_core=error,pingora_proxy=error,pingora_cache=error";

const NOT_OURS: &str = "the program that the gateway runs in has a logger of its own";

/// There is one for the process, as the `log` crate has it.
static DIAGNOSTICS: OnceLock<Diagnostics> = OnceLock::new();

#[derive(Debug)]
struct Diagnostics {
    at_start: String,
    wanted: ArcSwap<String>,
    filter: ArcSwap<Filter>,
    /// Writes all that it is given.
    writer: env_logger::Logger,
}

impl Diagnostics {
    fn new(wanted: String, journal: bool) -> Self {
        let format = if journal { for_journal } else { for_reader };
        let mut writer = env_logger::Builder::new();
        writer.filter_level(LevelFilter::Trace).format(format);
        Self {
            filter: ArcSwap::from_pointee(filter(&wanted)),
            wanted: ArcSwap::from_pointee(wanted.clone()),
            at_start: wanted,
            writer: writer.build(),
        }
    }

    fn tell(&self, wanted: String) {
        let text = match wanted == self.at_start || wanted == "off" {
            true => wanted.clone(),
            // What is named in it comes later, and counts.
            false => format!("{ENGINE},{wanted}"),
        };
        let filter = filter(&text);
        let most = filter.filter();
        self.filter.store(Arc::new(filter));
        self.wanted.store(Arc::new(wanted));
        log::set_max_level(most);
    }
}

impl Log for Diagnostics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.load().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.load().matches(record) {
            self.writer.log(record);
        }
    }

    fn flush(&self) {
        self.writer.flush();
    }
}

fn filter(wanted: &str) -> Filter {
    env_filter::Builder::new().parse(wanted).build()
}

/// `RUST_LOG` takes a misspelt level for a part of the program: here that is an error.
fn check(wanted: &str) -> Result<(), String> {
    for piece in wanted.split(',').map(str::trim) {
        let (part, level) = piece.split_once('=').unwrap_or(("all", piece));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
        let is_part = !part.is_empty() && part.bytes().all(letter);
        if !is_part || level.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "expected `error`, `warn`, `info`, `debug`, `trace` or `off`, perhaps with others for parts of the \
                 program, such as `info,edgeway::proxy=debug`; found `{piece}`"
            ));
        }
    }
    Ok(())
}

fn for_reader(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let level = record.level().as_str().to_ascii_lowercase();
    let time = line.timestamp_millis();
    writeln!(line, "{time} {level:<5} {}", record.args())
}

fn for_journal(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    line.write_all(with_priority(record.level(), &record.args().to_string()).as_bytes())
}

/// Each line of a text as the journal reads it (sd-daemon(3)): it would give lines without a level one of its own.
fn with_priority(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    text.lines()
        .map(|line| format!("<{priority}>{line}\n"))
        .collect()
}

/// Whether standard error leads to the journal, as `JOURNAL_STREAM` says of the file that it was at the start: a
/// shell under systemd may have given us another.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(file) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", file.st_dev, file.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tells(diagnostics: &Diagnostics, target: &str, level: Level) -> bool {
        let metadata = Metadata::builder().target(target).level(level).build();
        diagnostics.enabled(&metadata)
    }

    #[test]
    fn what_is_told_can_be_changed_and_changed_back() {
        let diagnostics = Diagnostics::new(format!("info,{ENGINE}"), false);
        let told = |diagnostics: &Diagnostics| {
            [
                tells(diagnostics, "edgeway::proxy", Level::Debug),
                tells(diagnostics, "edgeway::server", Level::Debug),
                tells(diagnostics, "edgeway::server", Level::Info),
                tells(diagnostics, "pingora_proxy", Level::Warn),
                tells(diagnostics, "pingora_proxy", Level::Error),
            ]
        };
        let at_start = [false, false, true, false, true];
        assert_eq!(told(&diagnostics), at_start);
        let cases = [
            ("debug", [true, true, true, false, true]),
            (
                "info,edgeway::proxy=debug",
                [true, false, true, false, true],
            ),
            ("warn,pingora_proxy=warn", [false, false, false, true, true]),
            ("off", [false; 5]),
        ];
        for (wanted, expected) in cases {
            diagnostics.tell(wanted.to_owned());
            assert_eq!(told(&diagnostics), expected, "{wanted}");
            assert_eq!(**diagnostics.wanted.load(), wanted);
        }
        diagnostics.tell(diagnostics.at_start.clone());
        assert_eq!(told(&diagnostics), at_start);
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for wanted in ["debug", "INFO", "off", "info,edgeway::proxy=debug, h2=warn"] {
            assert_eq!(check(wanted), Ok(()), "{wanted}");
        }
        for wanted in [
            "",
            "debgu",
            "info,",
            "info,edgeway",
            "=info",
            "a=b",
            "info/x",
            "a b=info",
        ] {
            assert!(check(wanted).is_err(), "{wanted}");
        }
    }

    #[test]
    fn the_journal_is_told_the_level_of_every_line() {
        assert_eq!(with_priority(Level::Warn, "a\n  b"), "<4>a\n<4>  b\n");
        assert_eq!(with_priority(Level::Error, "a"), "<3>a\n");
        assert_eq!(with_priority(Level::Info, "a"), "<6>a\n");
        assert_eq!(with_priority(Level::Trace, "a"), "<7>a\n");
    }
}
