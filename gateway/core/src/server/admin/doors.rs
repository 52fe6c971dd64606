//! The call about listeners: who is connected, and until when certificates are valid.

use std::sync::atomic::Ordering;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Described},
    problem::json,
};
use crate::server::{
    listeners::{self, Listener},
    tls::Expiry,
};

#[derive(Serialize, JsonSchema)]
struct Listeners {
    listeners: Vec<View>,
}

/// A listener.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Listener")]
pub(super) struct View {
    name: String,
    bind: String,
    pub(super) connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<Certificate>>,
}

#[derive(Serialize, JsonSchema)]
struct Certificate {
    names: Vec<String>,
    /// Below zero once it has ended.
    expires_in_s: i64,
}

/// Adds the calls of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(LIST, listeners)
}

const LIST: Described = Described::get(
    "/v1/listeners",
    "Shows all listeners: connections, and until when certificates are valid.",
)
.gives::<Listeners>(
    r#"{ "listeners": [{ "name": "https", "bind": "0.0.0.0:443", "connections": 812,
         "certificates": [{ "names": ["example.com", "*.example.com"], "expires_in_s": 5184000 }] }] }"#,
);

async fn listeners(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let listeners = views(&desk.listeners);
    Ok(json(StatusCode::OK, &Listeners { listeners }))
}

/// All listeners, as they are shown.
pub(super) fn views(listeners: &listeners::Listeners) -> Vec<View> {
    let running = listeners.running();
    running.iter().map(|listener| View::of(listener)).collect()
}

impl View {
    fn of(listener: &Listener) -> Self {
        let settings = listener.settings();
        let expiry = settings.tls.as_ref().map(|terminator| terminator.expiry());
        Self {
            name: settings.spec.name.clone(),
            bind: settings.spec.bind.to_string(),
            connections: listener.connections.load(Ordering::Relaxed),
            certificates: expiry.map(|all| all.into_iter().map(Certificate::from).collect()),
        }
    }
}

impl From<Expiry> for Certificate {
    fn from(expiry: Expiry) -> Self {
        Self {
            expires_in_s: expiry.not_after - crate::server::tls::now(),
            names: expiry.names,
        }
    }
}
