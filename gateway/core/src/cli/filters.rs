//! `edgeway filters`: those that can be used, and the YAML that they take.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use edgeway_sdk::{Filters, filters::Entry};

use super::{exit, tell};

/// Writes a line for each.
pub(super) fn list(out: &mut impl Write, filters: &Filters) -> io::Result<()> {
    let width = filters
        .iter()
        .map(|entry| entry.name().len())
        .max()
        .unwrap_or_default();
    for entry in filters.iter() {
        writeln!(out, "{:width$}  {}", entry.name(), entry.summary())?;
    }
    writeln!(
        out,
        "\n`edgeway filters NAME` shows the YAML that a filter takes. Beside it may stand `when` and `unless`, for\n\
         which requests it is, `mode: report`, to refuse nothing and tell what it would have refused, and `name`."
    )
}

/// Writes what one of them takes.
pub(super) fn describe(
    out: &mut impl Write,
    filters: &Filters,
    name: &str,
) -> io::Result<ExitCode> {
    let Some(entry) = filters.get(name) else {
        let known: Vec<_> = filters.iter().map(Entry::name).collect();
        let help = crate::config::diagnostic::suggestion(name, &known).unwrap_or_default();
        tell(&format!(
            "error: unknown filter `{name}`\n  = help: {help}\n"
        ));
        return Ok(exit::configuration());
    };
    let known = |text: &'static str, otherwise: &'static str| {
        if text.is_empty() { otherwise } else { text }
    };
    let summary = known(entry.summary(), "(its author has not said what it does)");
    let yaml = known(entry.yaml(), "(its author has not said what it takes)");
    writeln!(out, "{}: {summary}\n\n{yaml}", entry.name())?;
    Ok(ExitCode::SUCCESS)
}
