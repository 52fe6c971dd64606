//! Files that change while the gateway runs.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::document::Sources;

/// Looks at the files that the configuration was made of.
///
/// It looks at names, not at what has a name: files may be replaced by others, and links be turned.
pub(super) struct Watch {
    /// None if nobody wants it.
    interval: Option<Duration>,
    /// The files, as they were when they were read.
    read: Sources,
    /// What they were the last time, if that was not the same.
    seen: Option<Sources>,
    next: Instant,
}

impl Watch {
    pub(super) fn new(interval: Option<Duration>, read: Sources) -> Self {
        let mut watch = Self {
            interval: None,
            read: Sources::default(),
            seen: None,
            next: Instant::now(),
        };
        watch.follow(interval, read);
        watch
    }

    /// Looks at these files from now on. Also after a configuration was refused: it is told of once.
    pub(super) fn follow(&mut self, interval: Option<Duration>, read: Sources) {
        self.interval = interval;
        self.read = read;
        self.seen = None;
        self.next = Instant::now() + interval.unwrap_or_default();
    }

    /// Waits until something has changed, and has been still for an interval. May be given up at any time, and asked
    /// again.
    pub(super) async fn changed(&mut self) {
        let Some(interval) = self.interval else {
            return std::future::pending().await;
        };
        loop {
            sleep_until(self.next).await;
            let read = self.read.clone();
            // A disk may take its time.
            let now = tokio::task::spawn_blocking(move || {
                let now = read.now();
                (now != read).then_some(now)
            });
            // A panic has been told already.
            let now = now.await.unwrap_or_default();
            self.next = Instant::now() + interval;
            if now.is_some() && now == self.seen {
                self.seen = None;
                return;
            }
            self.seen = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::config::{diagnostic::Problems, document::Document};

    const INTERVAL: Duration = Duration::from_secs(1);

    fn sources(path: &Path) -> Sources {
        let document = Document::load(path, &mut Problems::default());
        document.sources().clone()
    }

    async fn within(watch: &mut Watch, time: Duration) -> bool {
        tokio::time::timeout(time, watch.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_it_is_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.yaml");
        fs::write(&path, "routes: []").unwrap();
        let mut watch = Watch::new(Some(INTERVAL), sources(&path));
        assert!(
            !within(&mut watch, 5 * INTERVAL).await,
            "nothing has changed"
        );
        for size in 1..4 {
            fs::write(&path, " ".repeat(size)).unwrap();
            assert!(
                !within(&mut watch, INTERVAL * 3 / 4).await,
                "it changes still"
            );
        }
        assert!(within(&mut watch, 3 * INTERVAL).await);
        watch.follow(Some(INTERVAL), sources(&path));
        assert!(!within(&mut watch, 5 * INTERVAL).await, "it was told");
        fs::write(&path, "routes: [2]").unwrap();
        assert!(within(&mut watch, 5 * INTERVAL).await, "the second change");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_if_nobody_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.yaml");
        fs::write(&path, "routes: []").unwrap();
        let mut watch = Watch::new(None, sources(&path));
        fs::remove_file(&path).unwrap();
        assert!(!within(&mut watch, 100 * INTERVAL).await);
    }
}
