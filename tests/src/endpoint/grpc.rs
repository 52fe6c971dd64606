//! Health as endpoints tell it: by a status, or by gRPC.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Endpoint, EndpointSetup, Reaction, Received};

/// How an endpoint says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// 200, or `SERVING`.
    Up,
    /// 503, or `NOT_SERVING`.
    Down,
    /// The question is never answered.
    Hanging,
    /// 404, or the gRPC status 5 (not found): nobody here knows of health.
    Unknown,
}

impl Health {
    pub(super) fn reaction(self) -> Reaction {
        match self {
            Self::Up => Reaction::status(200).body("ok\n"),
            Self::Down => Reaction::status(503).body("down\n"),
            Self::Hanging => Reaction::hang(),
            Self::Unknown => Reaction::status(404),
        }
    }

    /// As a `HealthCheckResponse`: the number of the field `status`, and its value.
    fn grpc(self) -> Reaction {
        match self {
            Self::Up => Reaction::grpc(Some(&[0x08, 1]), 0),
            Self::Down => Reaction::grpc(Some(&[0x08, 2]), 0),
            Self::Hanging => Reaction::hang(),
            Self::Unknown => Reaction::grpc(None, 5),
        }
    }
}

/// An endpoint with the standard health service of gRPC, `grpc.health.v1.Health/Check`. Other
/// methods get the status 12, unimplemented.
#[derive(Debug)]
pub struct GrpcHealth {
    endpoint: Endpoint,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug)]
struct Told {
    health: Health,
    asked: Vec<String>,
}

impl GrpcHealth {
    /// One in the clear that is up.
    pub fn start() -> Self {
        Self::with(Endpoint::setup("grpc").h2c())
    }

    /// One of another kind, such as with TLS, that is up.
    pub fn with(setup: EndpointSetup) -> Self {
        let told = Arc::new(Mutex::new(Told {
            health: Health::Up,
            asked: Vec::new(),
        }));
        let shared = Arc::clone(&told);
        let endpoint = setup
            .answers(move |request| check(request, &shared))
            .start();
        Self { endpoint, told }
    }

    /// What it says from now on.
    pub fn set(&self, health: Health) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .health = health;
    }

    /// The names of services that it was asked for; the empty one means the endpoint as a whole.
    pub fn asked(&self) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.asked.clone()
    }

    /// The endpoint, for what else can be done with it.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }
}

/// The address, as a configuration takes it.
impl fmt::Display for GrpcHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

fn check(request: &Received, told: &Mutex<Told>) -> Reaction {
    const INVALID_ARGUMENT: u8 = 3;
    const UNIMPLEMENTED: u8 = 12;
    if request.method != "POST" || request.path != "/grpc.health.v1.Health/Check" {
        return Reaction::grpc(None, UNIMPLEMENTED);
    }
    let Some(service) = service(request) else {
        return Reaction::grpc(None, INVALID_ARGUMENT);
    };
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    told.asked.push(service);
    told.health.grpc()
}

/// The field `service` of a `HealthCheckRequest`; none if it is anything else, or not gRPC.
fn service(request: &Received) -> Option<String> {
    let kind = *request.header_all("content-type").first()?;
    let [0, a, b, c, d, message @ ..] = &request.body[..] else {
        return None;
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    if !kind.starts_with("application/grpc") || usize::try_from(length) != Ok(message.len()) {
        return None;
    }
    match message {
        [] => Some(String::new()),
        [0x0a, length, name @ ..] if usize::from(*length) == name.len() => {
            String::from_utf8(name.to_vec()).ok()
        }
        _ => None,
    }
}
