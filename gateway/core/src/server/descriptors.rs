//! How many connections the process has descriptors for.

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is needed beside connections: files, listeners, pipes.
const OTHERS: u64 = 128;

/// Most connections of clients need one to an endpoint as well.
const EACH: u64 = 2;

/// How many connections there should be descriptors for if the configuration says nothing.
const USUAL: usize = 4_000;

/// Raises the limit of descriptors as far as it goes without a privilege, and tells how many connections of
/// clients there are descriptors for. Warns if it is less than what is wanted.
pub(super) fn raise(wanted: Option<usize>) -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!("the limit of open files can't be raised: reason={error}");
    }
    let limit = getrlimit(Resource::Nofile).current;
    let affordable = affordable(limit);
    let needed = wanted.unwrap_or(USUAL);
    if affordable < needed {
        let files = needed as u64 * EACH + OTHERS;
        warn!(
            "there are descriptors for {affordable} connections, not for {needed}: raise the limit of open files to \
             {files} (in a systemd unit: `LimitNOFILE={files}`); limit={}",
            limit.unwrap_or_default()
        );
    }
    affordable
}

fn affordable(limit: Option<u64>) -> usize {
    let Some(limit) = limit else {
        return usize::MAX;
    };
    let connections = limit.saturating_sub(OTHERS) / EACH;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_needs_two_descriptors_and_there_is_always_one() {
        assert_eq!(affordable(None), usize::MAX);
        assert_eq!(affordable(Some(1_024)), 448);
        assert_eq!(affordable(Some(10)), 1);
    }
}
