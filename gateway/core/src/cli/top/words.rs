//! How figures are written.

/// So many a second.
pub(super) fn rate(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value < 0.1 {
        "<0.1".to_owned()
    } else if value < 10.0 {
        format!("{value:.1}")
    } else if value < 10_000.0 {
        format!("{value:.0}")
    } else {
        format!("{:.1}k", value / 1e3)
    }
}

/// A time in milliseconds; nothing is known of none.
pub(super) fn millis(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.1}ms"),
        Some(value) if value < 1e3 => format!("{value:.0}ms"),
        Some(value) => format!("{:.1}s", value / 1e3),
    }
}

pub(super) fn bytes(value: f64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let (mut value, mut unit) = (value, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$}{}", units[unit])
}

/// A length of time in seconds, as its two largest parts.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A text of somebody else: what a terminal would obey stays out of it.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_whatever_their_size() {
        let rates = [0.0, 0.04, 3.14, 312.4, 48_210.0].map(rate);
        assert_eq!(rates, ["0", "<0.1", "3.1", "312", "48.2k"]);
        let times = [None, Some(0.42), Some(41.6), Some(2310.0)].map(millis);
        assert_eq!(times, ["-", "0.4ms", "42ms", "2.3s"]);
        assert_eq!(
            [512.0, 1536.0, 209_715_200.0].map(bytes),
            ["512B", "1.5K", "200M"]
        );
        assert_eq!(
            [59, 61, 7260, 90_000].map(span),
            ["59s", "1m1s", "2h1m", "1d1h"]
        );
    }

    #[test]
    fn a_terminal_obeys_nobody_else() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a?[2Jb?");
    }
}
