//! Diagnostics on standard error. (Access logs are a filter.)

use std::io::Write as _;

use env_logger::{Builder, Env};

/// Starts logging. `RUST_LOG` chooses what is told; `info` if it is not set, but of Pingora itself
/// only what an operator must know.
pub(crate) fn start() {
    let chosen = Env::default()
        .default_filter_or("info,pingora_core=error,pingora_proxy=error,pingora_cache=error");
    let mut builder = Builder::from_env(chosen);
    builder.format(|line, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(
            line,
            "{} {level:<5} {}",
            line.timestamp_millis(),
            record.args()
        )
    });
    // A second start (in a test, or by a program that logs already) keeps the first logger.
    drop(builder.try_init());
}
