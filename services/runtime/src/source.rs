//! The name by which an instance tells itself apart from its twins.

use std::fmt;

use clap::Args;

/// `--source product-1`, or the variable `HOST_NAME`; else the name of the host.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// Name of this instance, repeated in every answer
    #[arg(long = "source", env = "HOST_NAME", value_name = "NAME")]
    #[arg(default_value_t = host_name())]
    name: String,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
