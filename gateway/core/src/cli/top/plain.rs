//! What is going on, as tables.

use std::io::{self, Write};

use super::{
    live::Live,
    view::{ENDPOINTS, FAILURES, ROUTES, endpoints, failures, routes, summary},
};

/// Writes all of it.
pub(super) fn write(out: &mut impl Write, live: &Live) -> io::Result<()> {
    let (process, figures) = summary(live);
    writeln!(out, "{process}\n{figures}")?;
    table(out, &ROUTES, &routes(live))?;
    table(out, &ENDPOINTS, &endpoints(live))?;
    table(out, &FAILURES, &failures(live))
}

/// Writes rows with their columns under each other; nothing if there is none.
fn table<const N: usize>(
    out: &mut impl Write,
    heads: &[&str; N],
    rows: &[super::view::Row],
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    line(out, &widths, heads.iter().copied())?;
    for row in rows {
        line(out, &widths, row.cells.iter().map(String::as_str))?;
    }
    Ok(())
}

fn line<'c>(
    out: &mut impl Write,
    widths: &[usize],
    cells: impl Iterator<Item = &'c str>,
) -> io::Result<()> {
    let padded: Vec<_> = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    writeln!(out, "{}", padded.join("  ").trim_end())
}
