//! What is told of the process, and of its configuration.

use std::time::UNIX_EPOCH;

use super::text::{Metrics, Type};
use crate::{server::reload::History, snapshot::Gateway, telemetry::process::Usage};

/// What the process takes, by the names that all programs use.
pub(super) fn measure(metrics: &mut Metrics) {
    let usage = Usage::now();
    let mut told = |name, help, kind, value: Option<f64>| {
        if let Some(value) = value {
            metrics.family(name, help, kind);
            metrics.sample(&[], value);
        }
    };
    let whole = |number: Option<u64>| number.map(|number| number as f64);
    let help = "Time of processors that all threads have taken.";
    let cpu = Some(usage.cpu.as_secs_f64());
    told("process_cpu_seconds_total", help, Type::Counter, cpu);
    let help = "Memory that is really there.";
    let resident = whole(usage.resident);
    told("process_resident_memory_bytes", help, Type::Gauge, resident);
    let help = "Memory that is asked for.";
    let virtual_memory = whole(usage.virtual_memory);
    let name = "process_virtual_memory_bytes";
    told(name, help, Type::Gauge, virtual_memory);
    let help = "File descriptors in use.";
    told(
        "process_open_fds",
        help,
        Type::Gauge,
        whole(usage.open_files),
    );
    let help = "File descriptors that there may be.";
    told(
        "process_max_fds",
        help,
        Type::Gauge,
        whole(usage.most_files),
    );
    let help = "Threads.";
    told("process_threads", help, Type::Gauge, whole(usage.threads));
    let help = "When the process was started.";
    let name = "process_start_time_seconds";
    told(name, help, Type::Gauge, usage.started);
    let help = "The version that runs.";
    metrics.family("edgeway_build_info", help, Type::Gauge);
    metrics.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
}

/// Which configuration is in force, and how often another one was read.
pub(super) fn configuration(gateway: &Gateway, history: &History, metrics: &mut Metrics) {
    let help =
        "The number of the configuration in force: 1 at the start, one more with each reload.";
    metrics.family("edgeway_config_revision", help, Type::Gauge);
    metrics.sample(&[], gateway.revision);
    let help = "Since when it is in force.";
    let name = "edgeway_config_last_success_timestamp_seconds";
    metrics.family(name, help, Type::Gauge);
    let since = gateway.loaded_at.duration_since(UNIX_EPOCH);
    metrics.sample(&[], since.unwrap_or_default().as_secs_f64());
    let help = "Whether the configuration that was read last is in force.";
    metrics.family("edgeway_config_last_reload_successful", help, Type::Gauge);
    let attempts = history.attempts();
    let last = attempts.first().is_none_or(|attempt| attempt.ok);
    metrics.sample(&[], u8::from(last));
    let help = "How often the configuration was read again, by what came of it.";
    metrics.family("edgeway_reloads_total", help, Type::Counter);
    let replaced = gateway.revision.saturating_sub(1);
    metrics.sample(&[("result", "ok")], replaced);
    metrics.sample(&[("result", "refused")], history.refused());
}
