//! The call about certificates: whose they are, and until when they are valid.

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
use crate::server::tls::{self, Origin, Shown};

/// Adds the call of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(LIST, certificates)
}

const LIST: Described = Described::get(
    "/v1/certificates",
    "Shows the certificates of all listeners, those first that end first.",
)
.gives::<Certificates>(
    r#"{ "certificates": [{ "listener": "https", "names": ["example.com"], "issuer": "CN=Example CA", "source": "file",
         "file": "/etc/ssl/example.pem", "not_before": 1763784000, "not_after": 1771560000, "days_left": 89,
         "ocsp": { "since": 1763784000, "until": 1764388800 } }],
         "awaited": [{ "listener": "https", "name": "new.example.com" }] }"#,
);

#[derive(Serialize, JsonSchema)]
struct Certificates {
    certificates: Vec<View>,
    /// Names for which an authority has yet to make one.
    awaited: Vec<Awaited>,
}

/// A certificate that a listener shows. Times are seconds since 1970.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CertificateInUse")]
struct View {
    listener: String,
    /// As clients ask for it.
    names: Vec<String>,
    issuer: String,
    /// `file`, `acme`, or `development`.
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    not_before: i64,
    not_after: i64,
    /// Below zero once it has ended.
    days_left: i64,
    /// When the proof holds that it is not revoked, if one is sent along.
    ocsp: Option<Proof>,
}

#[derive(Serialize, JsonSchema)]
struct Proof {
    since: i64,
    until: i64,
}

#[derive(Serialize, JsonSchema)]
struct Awaited {
    listener: String,
    name: String,
}

async fn certificates(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    let (mut certificates, mut awaited) = (Vec::new(), Vec::new());
    for listener in desk.listeners.running() {
        let settings = listener.settings();
        let Some(terminator) = &settings.tls else {
            continue;
        };
        let name = &settings.spec.name;
        let shown = terminator.shown().into_iter();
        certificates.extend(shown.map(|shown| View::of(name, shown)));
        let names = terminator.awaited().into_iter();
        awaited.extend(names.map(|awaited| Awaited {
            listener: name.clone(),
            name: awaited,
        }));
    }
    certificates.sort_by_key(|certificate| certificate.not_after);
    let certificates = Certificates {
        certificates,
        awaited,
    };
    Ok(json(StatusCode::OK, &certificates))
}

impl View {
    fn of(listener: &str, shown: Shown) -> Self {
        const DAY: i64 = 86_400;
        let (source, file) = match shown.origin {
            Origin::File(file) => ("file", Some(file)),
            Origin::Acme => ("acme", None),
            Origin::Development => ("development", None),
        };
        Self {
            listener: listener.to_owned(),
            names: shown.names,
            issuer: shown.issuer,
            source,
            file,
            not_before: shown.not_before,
            not_after: shown.not_after,
            days_left: (shown.not_after - tls::now()).div_euclid(DAY),
            ocsp: shown.proof.map(|(since, until)| Proof { since, until }),
        }
    }
}
