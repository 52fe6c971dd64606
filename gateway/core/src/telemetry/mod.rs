//! What the process tells about itself.

pub(crate) mod log;
pub(crate) mod tally;
