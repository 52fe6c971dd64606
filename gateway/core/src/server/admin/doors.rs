//! The call about listeners: who is connected, and until when certificates are valid.

use std::sync::{Arc, atomic::Ordering};

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;

use super::{
    call::Call,
    calls::{Answer, Desk},
    problem::json,
};
use crate::server::{listeners::Listener, tls::Expiry};

#[derive(Serialize)]
struct Listeners {
    listeners: Vec<View>,
}

/// A listener.
#[derive(Serialize)]
struct View {
    name: String,
    bind: String,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<Certificate>>,
}

#[derive(Serialize)]
struct Certificate {
    names: Vec<String>,
    /// Below zero once it has ended.
    expires_in_s: i64,
}

pub(super) async fn listeners(State(desk): State<Arc<Desk>>, call: Call<()>) -> Answer {
    call.names()?;
    let listeners = desk.listeners.running();
    let listeners = listeners
        .iter()
        .map(|listener| View::of(listener))
        .collect();
    Ok(json(StatusCode::OK, &Listeners { listeners }))
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
