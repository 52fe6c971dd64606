//! What clients are held to, compiled.

use std::time::Duration;

use crate::config::{Connections, Requests, Underscores};

/// What holds for every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    pub(crate) underscores: Underscores,
    pub(crate) keepalive: Duration,
    pub(crate) header_timeout: Duration,
    /// In bytes.
    pub(crate) max_target: usize,
    pub(crate) max_header_size: usize,
    /// Header lines.
    pub(crate) max_headers: usize,
    /// Where the route says nothing else.
    pub(crate) max_body: Option<u64>,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// How many bytes a second a client has to send and to receive; any number if zero.
    pub(crate) min_rate: u64,
}

/// What holds for all connections of clients together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// At once; as many as there are descriptors for if not given.
    pub(crate) max: Option<usize>,
    /// At once of one client.
    pub(crate) per_client: u32,
    /// Requests of one connection.
    pub(crate) max_requests: u32,
    /// In bytes; that of the control group if not given.
    pub(crate) memory_limit: Option<u64>,
}

impl From<&Requests> for RequestLimits {
    fn from(written: &Requests) -> Self {
        Self {
            underscores: written.underscore_headers,
            keepalive: written.keepalive.0,
            header_timeout: written.header_timeout.0,
            max_target: written.max_target.0,
            max_header_size: written.max_header_size.0,
            max_headers: written.max_headers.0.get().into(),
            max_body: written.max_body.0,
            read_timeout: written.read_timeout.0,
            write_timeout: written.write_timeout.0,
            min_rate: written.min_rate.0,
        }
    }
}

impl From<&Connections> for ConnectionLimits {
    fn from(written: &Connections) -> Self {
        Self {
            max: written.max.as_ref().map(|max| max.value.get()),
            per_client: written.per_client.get(),
            max_requests: written.max_requests.get(),
            memory_limit: written.memory_limit.map(|limit| limit.0),
        }
    }
}
