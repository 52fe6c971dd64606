//! What `/metrics` tells, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use edgeway_tests::{Answer, Gateway, Request};

/// All samples of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    /// By name and labels, as they are written.
    samples: BTreeMap<String, f64>,
    /// The types of families.
    types: BTreeMap<String, String>,
}

pub(crate) fn ask(gateway: &Gateway, accept: &str) -> Answer {
    let request = Request::to(gateway.address_of("admin"), "GET", "/metrics");
    let answer = request.header("Accept", accept).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

impl Scrape {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let answer = ask(gateway, "*/*");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::read(answer.text())
    }

    /// Asserts that every sample is of the family before it, and is there once.
    pub(crate) fn read(text: &str) -> Self {
        let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
        let (mut helped, mut family) = (String::new(), (String::new(), String::new()));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(help.ends_with('.'), "{line}");
                name.clone_into(&mut helped);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped);
                let known = types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(known, None, "{name} is there twice");
                family = (name.to_owned(), kind.to_owned());
            } else if line != "# EOF" {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = name_of(series);
                assert!(is_of(name, &family), "{line} is not of {family:?}");
                let known = samples.insert(series.to_owned(), value.parse().unwrap());
                assert_eq!(known, None, "{series} is there twice");
            }
        }
        Self { samples, types }
    }

    /// The value of a series, as it is written.
    #[track_caller]
    pub(crate) fn get(&self, series: &str) -> f64 {
        let found = self.samples.get(series);
        *found.unwrap_or_else(|| panic!("no {series} among {:#?}", self.samples.keys()))
    }

    /// All series that begin so, together; none if there is none.
    pub(crate) fn sum_of(&self, beginning: &str) -> Option<f64> {
        let series = self.samples.iter();
        let found: Vec<_> = series
            .filter(|(series, _)| series.starts_with(beginning))
            .map(|(_, value)| *value)
            .collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }

    /// Whether there is a series with this name, or of which this is a part.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.samples.keys().any(|series| series.contains(part))
    }

    pub(crate) fn types(&self) -> &BTreeMap<String, String> {
        &self.types
    }

    /// The names of all samples, and the labels that each has.
    pub(crate) fn names(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for series in self.samples.keys() {
            let labels = names.entry(name_of(series)).or_default();
            let written = series.split_once('{').map_or("", |(_, labels)| labels);
            labels.extend(written.split("\",").filter_map(|label| {
                let (name, _) = label.split_once("=\"")?;
                Some(name)
            }));
        }
        names
    }

    /// All counts that have grown since, and by how much; neither sums of times nor what the process takes.
    pub(crate) fn since(&self, before: &Self) -> Vec<(String, f64)> {
        let grown = self.samples.iter().filter_map(|(series, value)| {
            let name = name_of(series);
            let counts = name.ends_with("_total") || name.ends_with("_count");
            let own = name.starts_with("process_");
            let by = value - before.samples.get(series).unwrap_or(&0.0);
            (counts && !own && by != 0.0).then(|| (series.clone(), by))
        });
        grown.collect()
    }
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap()
}

fn is_of(name: &str, (family, kind): &(String, String)) -> bool {
    let Some(suffix) = name.strip_prefix(family.as_str()) else {
        return false;
    };
    match kind.as_str() {
        "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
        "summary" => ["_sum", "_count"].contains(&suffix),
        // In OpenMetrics the family has no suffix.
        "counter" => suffix.is_empty() || suffix == "_total",
        _ => suffix.is_empty(),
    }
}
