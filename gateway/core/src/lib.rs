#![doc = include_str!("../README.md")]

mod cache;
mod cli;
mod config;
mod credentials;
mod explain;
mod files;
mod proxy;
pub mod route;
mod server;
mod snapshot;
mod telemetry;
mod upstream;

use std::process::ExitCode;

pub use edgeway_filters::standard;
use edgeway_sdk::Filters;

/// What a program with filters of its own needs, in one line.
pub mod prelude {
    pub use std::process::ExitCode;

    pub use edgeway_sdk::prelude::*;
}

/// What a fuzzer drives, in `fuzz/`.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::files::paths::{Led, Paths};
}

/// Measured against the others, it takes the least CPU time for each request
/// (`decisions/0003-allocator.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole program: runs the command line of this process with these filters.
///
/// Call it first thing in `main`, and return what it returns.
pub fn main(filters: Filters) -> ExitCode {
    // Before anything else asks for a provider: Pingora would install another one. An error means
    // that the program has installed its own, which is its right.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    cli::main(filters)
}
