//! Starts the real gateway and the real services, and talks to them over sockets.
//!
//! A test is a plain `#[test]`: everything here blocks, waits at most a fixed time, and panics with
//! the log of the gateway when something is not as promised.
//!
//! ```no_run
//! use edgeway_tests::{Echo, Gateway};
//!
//! let echo = Echo::start();
//! let gateway = Gateway::start(&format!(
//!     "
//!     upstreams:
//!       echo:
//!         endpoints: [{echo}]
//!     routes:
//!       - match: {{ path: /users/ }}
//!         upstream: echo
//!     "
//! ));
//! let answer = gateway.get("/users/7");
//! assert_eq!(answer.status, 200);
//! assert_eq!(answer.json()["path"], "/users/7");
//! assert_eq!(echo.stats().requests, 1);
//! ```
//!
//! * [`Gateway`]: the program under test; [`Setup`] for files, variables and other commands.
//! * [`Request`], [`Answer`], [`Connection`]: an HTTP/1.1 client that is strict about framing.
//! * [`Echo`], [`Auth`], [`Product`]: the services. Their `Display` is their address.
//! * [`Upstream`]: an endpoint of a few lines that may misbehave.
//! * [`load()`], [`load_during()`]: many requests at once, and what became of them.
//! * [`eventually`]: waits for what must become true.
//!
//! The programs are those beside the running test in the target folder: `make test` builds them.

mod client;
mod gateway;
mod load;
mod process;
mod services;
mod upstream;
mod wait;

pub use client::{Answer, Broken, Connection, Framing, Request};
pub use gateway::{Finished, Gateway, Setup};
pub use load::{Outcomes, load, load_during};
pub use process::program;
pub use services::{Auth, Echo, Product, Stats};
pub use upstream::{Caller, Upstream};
pub use wait::{PATIENCE, eventually, eventually_some};
