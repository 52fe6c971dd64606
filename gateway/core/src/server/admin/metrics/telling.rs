//! What is told of those who are told about requests: access logs, and collectors of traces.

use std::collections::BTreeMap;

use edgeway_filters::{log_sinks, trace_exports};
use edgeway_sdk::Resources;

use super::text::{Metrics, Type};

/// What each has been told, and what was lost on the way.
pub(super) fn measure(resources: &Resources, metrics: &mut Metrics) {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for sink in log_sinks(resources) {
        *lines.entry(sink.to).or_default() += sink.lost;
    }
    let help = "Lines of access logs that were lost: they came too fast, or could not be written.";
    metrics.family("edgeway_access_log_lost_total", help, Type::Counter);
    for (to, lost) in &lines {
        metrics.sample(&[("to", to)], lost);
    }
    let mut spans: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for export in trace_exports(resources) {
        let (exported, lost) = spans.entry(export.to).or_default();
        *exported += export.exported;
        *lost += export.lost;
    }
    let help = "Spans of traces that a collector has taken.";
    metrics.family("edgeway_trace_spans_exported_total", help, Type::Counter);
    for (to, (exported, _)) in &spans {
        metrics.sample(&[("to", to)], exported);
    }
    let help =
        "Spans of traces that were lost: they came too fast, or a collector would not take them.";
    metrics.family("edgeway_trace_spans_lost_total", help, Type::Counter);
    for (to, (_, lost)) in &spans {
        metrics.sample(&[("to", to)], lost);
    }
}
