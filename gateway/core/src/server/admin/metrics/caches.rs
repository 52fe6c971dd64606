//! What is told of caches.

use super::{
    super::caches::zones,
    text::{Metrics, Type},
};
use crate::{
    cache::{count::Event, memory::Statistics, zone::Zone},
    snapshot::Gateway,
};

/// What was counted of each cache that a route uses.
pub(super) fn measure(gateway: &Gateway, metrics: &mut Metrics) {
    let zones = zones(gateway).into_iter();
    let seen: Vec<_> = zones
        .map(|zone| (zone, zone.store().statistics()))
        .collect();
    let help = "Requests of routes with a cache, by what they came to; those that waited for another's fetch are counted as `coalesced` besides.";
    metrics.family("edgeway_cache_requests_total", help, Type::Counter);
    for (zone, _) in &seen {
        for (event, outcome) in Event::ALL {
            let labels = [("cache", zone.name()), ("outcome", outcome)];
            metrics.sample(&labels, zone.counters.total(event));
        }
    }
    sizes(&seen, metrics);
    let help = "Objects that had to leave for others.";
    metrics.family("edgeway_cache_evictions_total", help, Type::Counter);
    for (zone, told) in &seen {
        metrics.sample(&[("cache", zone.name())], told.evictions);
    }
    let help = "Objects that have left since they were of no use any more.";
    metrics.family("edgeway_cache_expirations_total", help, Type::Counter);
    for (zone, told) in &seen {
        metrics.sample(&[("cache", zone.name())], told.expirations);
    }
}

fn sizes(seen: &[(&'static Zone, Statistics)], metrics: &mut Metrics) {
    let help = "Objects in memory.";
    metrics.family("edgeway_cache_objects", help, Type::Gauge);
    for (zone, told) in seen {
        metrics.sample(&[("cache", zone.name())], told.objects);
    }
    let help = "Bytes in memory, headers and bookkeeping included.";
    metrics.family("edgeway_cache_bytes", help, Type::Gauge);
    for (zone, told) in seen {
        metrics.sample(&[("cache", zone.name())], told.bytes);
    }
    let help = "How many bytes there may be in memory.";
    metrics.family("edgeway_cache_limit_bytes", help, Type::Gauge);
    for (zone, told) in seen {
        metrics.sample(&[("cache", zone.name())], told.limit);
    }
    let disks = || {
        let disks = seen.iter();
        disks.filter_map(|(zone, _)| Some((zone.name(), zone.disk_statistics()?)))
    };
    let help = "Bytes on the disk.";
    metrics.family("edgeway_cache_disk_bytes", help, Type::Gauge);
    for (cache, told) in disks() {
        metrics.sample(&[("cache", cache)], told.bytes);
    }
    let help = "How many bytes there may be on the disk.";
    metrics.family("edgeway_cache_disk_limit_bytes", help, Type::Gauge);
    for (cache, told) in disks() {
        metrics.sample(&[("cache", cache)], told.limit);
    }
}
