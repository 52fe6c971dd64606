//! How metrics are written: the text format of Prometheus (0.0.4), and OpenMetrics (1.0).

use std::fmt::{self, Display, Write as _};

use crate::telemetry::meter::{BOUNDS, Spread};

/// How a scraper wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server::admin) enum Format {
    #[default]
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// The one that is wanted more. Who accepts anything gets the one that everything understands.
    pub(super) fn of(accept: &str) -> Self {
        let weight = |wanted: fn(&str) -> bool| {
            let weights = accept.split(',').filter_map(|entry| {
                let mut parts = entry.split(';').map(str::trim);
                let named = wanted(parts.next()?);
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                let weight = weight.map_or(Ok(1.0), str::parse::<f64>);
                named.then_some(weight.unwrap_or(0.0))
            });
            weights.fold(0.0, f64::max)
        };
        let open = weight(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        let plain = weight(|kind| kind.eq_ignore_ascii_case("text/plain"));
        match open > 0.0 && open >= plain {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is to who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server::admin) enum Type {
    Counter,
    Gauge,
    Histogram,
    /// A sum and a count.
    Summary,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Metrics, one family after the other.
#[derive(Debug, Default)]
pub(in crate::server::admin) struct Metrics {
    text: String,
    name: &'static str,
    format: Format,
}

impl Metrics {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }

    /// Begins a family. The samples that follow are its.
    pub(in crate::server::admin) fn family(&mut self, name: &'static str, help: &str, kind: Type) {
        self.name = name;
        // There the family of a counter is called otherwise than its samples.
        let family = match (self.format, kind) {
            (Format::OpenMetrics, Type::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = kind.as_str();
        self.write(format_args!(
            "# HELP {family} {help}\n# TYPE {family} {kind}\n"
        ));
    }

    pub(in crate::server::admin) fn sample(
        &mut self,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        self.line("", labels, None, value);
    }

    /// The samples of a histogram, of which only some [buckets](LE) are shown.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], spread: &Spread) {
        let up_to = spread.up_to();
        for bound in LE {
            let place = BOUNDS.partition_point(|known| *known < bound);
            let le = Le(bound as f64 / 1e6);
            self.line("_bucket", labels, Some(le), up_to[place]);
        }
        self.line("_bucket", labels, Some(Le(f64::INFINITY)), spread.count());
        self.summary(labels, spread);
    }

    /// The samples of a summary without quantiles.
    pub(super) fn summary(&mut self, labels: &[(&str, &str)], spread: &Spread) {
        self.line("_sum", labels, None, spread.sum().as_secs_f64());
        self.line("_count", labels, None, spread.count());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], le: Option<Le>, value: impl Display) {
        let name = self.name;
        self.write(format_args!("{name}{suffix}"));
        let mut before = '{';
        for (name, value) in labels {
            self.write(format_args!("{before}{name}=\"{}\"", Escaped(value)));
            before = ',';
        }
        if let Some(le) = le {
            self.write(format_args!("{before}le=\"{le}\""));
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        self.write(format_args!("{end} {value}\n"));
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.text
            .write_fmt(text)
            .expect("a string takes what is written");
    }
}

/// The upper ends of the buckets that are shown, in microseconds: each is one of the bounds by which is counted.
const LE: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The upper end of a bucket, in seconds.
#[derive(Clone, Copy)]
struct Le(f64);

/// With a point, as OpenMetrics has it: `1.0`.
impl Display for Le {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_finite() {
            true => write!(f, "{:?}", self.0),
            false => f.write_str("+Inf"),
        }
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    use std::time::Duration;

    use super::*;
    use crate::telemetry::meter::Tries;

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

    #[test]
    fn openmetrics_calls_the_family_of_a_counter_otherwise_and_has_an_end() {
        let mut metrics = Metrics::new(Format::OpenMetrics);
        metrics.family("a_total", "What it is.", Type::Counter);
        metrics.sample(&[], 7);
        assert_eq!(
            metrics.finish(),
            "# HELP a What it is.\n# TYPE a counter\na_total 7\n# EOF\n"
        );
    }

    #[test]
    fn every_bucket_that_is_shown_is_one_by_which_is_counted() {
        for bound in LE {
            assert!(BOUNDS.contains(&bound), "{bound}");
        }
    }

    #[test]
    fn a_histogram_counts_upwards_to_all() {
        let tries = Tries::default();
        for millis in [1, 2, 70_000] {
            tries.done(Duration::from_millis(millis));
        }
        let mut metrics = Metrics::default();
        metrics.family("a_seconds", "How long.", Type::Histogram);
        metrics.histogram(&[("upstream", "shop")], &tries.figures().took);
        let text = metrics.finish();
        for line in [
            "a_seconds_bucket{upstream=\"shop\",le=\"0.0005\"} 0\n",
            "a_seconds_bucket{upstream=\"shop\",le=\"0.001\"} 1\n",
            "a_seconds_bucket{upstream=\"shop\",le=\"0.0025\"} 2\n",
            "a_seconds_bucket{upstream=\"shop\",le=\"60.0\"} 2\n",
            "a_seconds_bucket{upstream=\"shop\",le=\"+Inf\"} 3\n",
            "a_seconds_sum{upstream=\"shop\"} 70.003\n",
            "a_seconds_count{upstream=\"shop\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_scraper_gets_the_format_that_it_wants_more() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
            ("text/plain", Format::Prometheus),
            (
                "text/plain, application/openmetrics-text;q=0.9",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            (
                "application/openmetrics-text; q=nonsense",
                Format::Prometheus,
            ),
        ] {
            assert_eq!(Format::of(accept), format, "{accept}");
        }
    }
}
