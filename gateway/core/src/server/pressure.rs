//! Whether memory is getting short, and what is given up then: first that connections wait for further requests,
//! then new connections and those that have waited longest.

use std::{
    fs,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use log::{info, warn};
use tokio::time::sleep;

use super::parking::Lot;
use crate::snapshot::Live;

/// How much is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    None,
    /// No connection is kept after its answer.
    Tight,
    /// No connection is accepted, and those that wait are closed, the oldest first.
    Short,
}

/// The level that holds.
#[derive(Debug, Default)]
pub(crate) struct Pressure(AtomicU8);

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Of a hundred parts of the limit, from how many on a level holds.
const TIGHT: u64 = 85;
const SHORT: u64 = 92;

/// Of those that wait, one in so many is closed at each look.
const SHARE: usize = 8;

impl Pressure {
    pub(crate) fn level(&self) -> Level {
        match self.0.load(Ordering::Relaxed) {
            0 => Level::None,
            1 => Level::Tight,
            _ => Level::Short,
        }
    }

    /// Looks at the memory, for ever.
    pub(super) async fn tend(&self, live: &Live, lot: &Lot) {
        let group = group_limit();
        loop {
            let limit = live.pin().connections.memory_limit.or(group);
            let level = match (limit, resident()) {
                (Some(limit), Some(used)) => judge(used, limit),
                _ => Level::None,
            };
            self.change(level, limit);
            if level == Level::Short {
                lot.shed(lot.len().div_ceil(SHARE));
            }
            sleep(LOOK).await;
        }
    }

    fn change(&self, level: Level, limit: Option<u64>) {
        let before = self.level();
        self.0.store(level as u8, Ordering::Relaxed);
        let limit = limit.unwrap_or_default();
        match level {
            _ if level == before => {}
            Level::None => info!("memory is no longer short"),
            Level::Tight => {
                warn!(
                    "memory gets short: connections are closed after their answers; limit={limit}"
                );
            }
            Level::Short => {
                warn!(
                    "memory is short: no connection is accepted, idle ones are closed; limit={limit}"
                );
            }
        }
    }
}

fn judge(used: u64, limit: u64) -> Level {
    let share = used.saturating_mul(100) / limit.max(1);
    match share {
        SHORT.. => Level::Short,
        TIGHT.. => Level::Tight,
        _ => Level::None,
    }
}

/// The memory of this process that is there, and not in files, in bytes.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    let page = rustix::param::page_size() as u64;
    Some(resident.saturating_sub(shared).saturating_mul(page))
}

/// What the control group of this process may have, if that is limited: of all groups that it is in, the least.
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut folder = std::path::PathBuf::from(format!("/sys/fs/cgroup{path}"));
    let mut least: Option<u64> = None;
    while folder.starts_with("/sys/fs/cgroup") {
        let limit = fs::read_to_string(folder.join("memory.max"));
        if let Some(limit) = limit.ok().and_then(|text| text.trim().parse().ok()) {
            least = Some(least.map_or(limit, |least| least.min(limit)));
        }
        if !folder.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_rises_with_what_is_used_of_the_limit() {
        assert_eq!(judge(849, 1_000), Level::None);
        assert_eq!(judge(850, 1_000), Level::Tight);
        assert_eq!(judge(919, 1_000), Level::Tight);
        assert_eq!(judge(920, 1_000), Level::Short);
        assert_eq!(judge(u64::MAX, 1), Level::Short);
        assert_eq!(judge(1, 0), Level::Short);
    }

    #[test]
    fn this_process_has_memory() {
        let used = resident().unwrap();
        assert!((100_000..1 << 40).contains(&used), "{used}");
    }
}
