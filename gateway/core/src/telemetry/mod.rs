//! What the process tells about itself.

pub(crate) mod failures;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod process;
pub(crate) mod refused;
pub(crate) mod tail;
pub(crate) mod tally;
