//! Rows with their columns under each other.

use std::io::{self, Write};

/// Writes rows; the first one is their head. Nothing stands after the last column.
pub(super) fn write<'r, const N: usize>(
    out: &mut impl Write,
    rows: impl Iterator<Item = &'r [String; N]> + Clone,
) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', 2 + width - cell.chars().count()));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A", "B"], ["äöü", "1"], ["", "22"]].map(|row| row.map(str::to_owned));
        let mut out = Vec::new();
        write(&mut out, rows.iter()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A    B\näöü  1\n     22\n");
    }
}
