//! Metrics in the text format of Prometheus (0.0.4).

use std::fmt::{Display, Write as _};

/// What a metric is to who reads it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    Counter,
    Gauge,
}

/// Metrics, one family after the other.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    text: String,
    name: &'static str,
}

impl Metrics {
    /// Begins a family. The samples that follow are its.
    pub(super) fn family(&mut self, name: &'static str, help: &str, kind: Type) {
        self.name = name;
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (place, (name, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{name}=\"{}\"", Escaped(value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{end} {value}\n"));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(text)
            .expect("a string takes what is written");
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_hold_what_ends_one() {
        let mut metrics = Metrics::default();
        metrics.family("a_total", "What it is.", Type::Counter);
        metrics.sample(&[("route", "a\"b\\c\nd"), ("x", "")], 7);
        metrics.sample(&[], 1.5);
        assert_eq!(
            metrics.finish(),
            "# HELP a_total What it is.\n# TYPE a_total counter\n\
             a_total{route=\"a\\\"b\\\\c\\nd\",x=\"\"} 7\na_total 1.5\n"
        );
    }
}
