//! What the process takes of the machine, as the kernel tells it.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// What the process takes at one moment. Read when somebody asks; what the kernel does not tell is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Of all its threads together.
    pub(crate) cpu: Duration,
    /// In bytes.
    pub(crate) resident: Option<u64>,
    /// In bytes.
    pub(crate) virtual_memory: Option<u64>,
    pub(crate) open_files: Option<u64>,
    /// None if there is no limit.
    pub(crate) most_files: Option<u64>,
    pub(crate) threads: Option<u64>,
    /// When it was started, in seconds since 1970.
    pub(crate) started: Option<f64>,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(fields);
        let field = |number: usize| -> Option<u64> {
            let field = stat.as_ref()?.get(number)?;
            field.parse().ok()
        };
        let resident = field(RESIDENT).map(|pages| pages.saturating_mul(page_size() as u64));
        Self {
            cpu: cpu(),
            resident,
            virtual_memory: field(VIRTUAL),
            open_files: open_files(),
            most_files: getrlimit(Resource::Nofile).current,
            threads: field(THREADS),
            started: field(STARTED).and_then(started),
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Without the one that looking takes.
fn open_files() -> Option<u64> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(files.saturating_sub(1) as u64)
}

/// When it was started that was so many ticks after the machine.
fn started(ticks: u64) -> Option<f64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let after = ticks as f64 / clock_ticks_per_second() as f64;
    Some(now.as_secs_f64() - uptime + after)
}

/// The fields behind the name of the program, which may hold anything (proc(5): the first here has the number 3).
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, behind) = stat.rsplit_once(')')?;
    Some(behind.split_whitespace().collect())
}

const THREADS: usize = 20 - 3;
const STARTED: usize = 22 - 3;
const VIRTUAL: usize = 23 - 3;
const RESIDENT: usize = 24 - 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_we_take() {
        let usage = Usage::now();
        assert!(usage.resident.unwrap() > 1 << 20);
        assert!(usage.virtual_memory.unwrap() >= usage.resident.unwrap());
        assert!(usage.threads.unwrap() >= 1);
        assert!(usage.open_files.unwrap() >= 3);
        assert!(usage.cpu > Duration::ZERO);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ago = now.as_secs_f64() - usage.started.unwrap();
        assert!((-1.0..3600.0).contains(&ago), "{ago}");
    }

    #[test]
    fn a_file_that_was_opened_is_one_more() {
        let before = open_files().unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat")).collect();
        // Other tests open and close some meanwhile.
        assert!(open_files().unwrap() + 25 >= before + files.len() as u64);
    }

    #[test]
    fn a_program_may_be_called_what_it_wants() {
        let stat = "1 (a) b (c)) S 7 8";
        assert_eq!(fields(stat).unwrap(), ["S", "7", "8"]);
        assert_eq!(fields("nothing"), None);
    }
}
