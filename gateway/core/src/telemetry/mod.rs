//! What the process tells about itself.

pub(crate) mod log;
