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
//! * [`Http2`]: a client of HTTP/2, in the clear or over TLS, that shows trailers and may send
//!   its bodies while it reads ([`Streaming`]); [`Frames`]: HTTP/2 frame by frame.
//! * [`Echo`], [`Auth`], [`Product`]: the services. Their `Display` is their address.
//! * [`Tornado`]: an application of another world; [`python()`] finds what it needs.
//! * [`Upstream`]: an endpoint of a few lines that may misbehave, byte by byte.
//! * [`Dns`]: a name server whose names change, and which may fail or be silent.
//! * [`Endpoint`]: one of HTTP/1.1, HTTP/2, TLS or a unix socket that misbehaves when it is told to;
//!   [`GrpcHealth`] tells of its health by gRPC.
//! * [`Authority`], [`Certificate`]: what TLS needs.
//! * [`Acme`]: an authority that makes certificates for who asks for them.
//! * [`Redis`]: a real one, which may be killed, stopped and looked into.
//! * [`Prometheus`]: a real one, which scrapes and may be asked.
//! * [`Provider`]: an issuer of tokens who logs users in, and may do that wrongly.
//! * [`load()`], [`load_during()`]: many requests at once, and what became of them.
//! * [`pace()`], [`pace_during()`]: so many requests a second, whatever becomes of them.
//! * [`eventually`]: waits for what must become true.
//!
//! The programs are those beside the running test in the target folder: `make test` builds them.

mod acme;
mod authority;
mod client;
mod dns;
mod endpoint;
mod gateway;
mod load;
mod process;
mod prometheus;
mod provider;
mod python;
mod redis;
mod services;
mod upstream;
mod wait;

pub use acme::{Acme, AcmeCounts, AcmeFault};
pub use authority::{Authority, Certificate};
pub use client::{
    Address, Answer, Broken, Connection, Frame, Frames, Framing, Http2, Request, Streaming,
    Trailed, asking, block, frame,
};
pub use dns::Dns;
pub use endpoint::{
    Break, Endpoint, EndpointSetup, GrpcHealth, Health, Inbound, Reaction, Received,
};
pub use gateway::{Finished, Gateway, Setup};
pub use load::{Outcomes, Sample, load, load_during, pace, pace_during};
pub use process::program;
pub use prometheus::Prometheus;
pub use provider::{ClientBy, Provider, Wrong};
pub use python::{python, tell_skipped};
pub use redis::Redis;
pub use services::{Auth, Echo, Product, Stats, Tornado};
pub use upstream::{Caller, Upstream};
pub use wait::{PATIENCE, eventually, eventually_some};
