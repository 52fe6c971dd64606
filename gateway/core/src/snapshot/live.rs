//! The configuration in force.

use std::{fmt, ops::Deref, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;

use super::Gateway;

/// The configuration in force, replaced whole at a reload.
#[derive(Clone)]
pub(crate) struct Live(Arc<ArcSwap<Gateway>>);

/// The configuration that a request began with and keeps.
pub(crate) type Pinned = Arc<Gateway>;

impl Live {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(gateway)))
    }

    /// The configuration for a request that begins now.
    pub(crate) fn pin(&self) -> Pinned {
        self.0.load_full()
    }

    /// The same for a moment: nothing is counted that other threads count as well. Not to be held while
    /// something is waited for.
    pub(crate) fn glance(&self) -> impl Deref<Target = Pinned> {
        self.0.load()
    }

    /// Puts another configuration in force, as the next revision. Requests that have begun keep theirs.
    pub(crate) fn replace(&self, mut gateway: Gateway) {
        gateway.revision = self.glance().revision + 1;
        gateway.loaded_at = SystemTime::now();
        self.0.store(Arc::new(gateway));
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}
