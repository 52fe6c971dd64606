//! What the service's answer means.

use std::sync::Arc;

use bytes::Bytes;
use edgeway_sdk::{Identity, Reply, Request, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use crate::client::Answer;

/// Whether a request may pass.
#[derive(Clone)]
pub(super) enum Verdict {
    Admitted(Arc<Admission>),
    Refused(Arc<Refusal>),
    /// There is no answer, or none that means anything.
    Broken(String),
}

/// What goes with a request that may pass.
pub(super) struct Admission {
    /// For the upstream, instead of what the client has sent under these names.
    upstream: Vec<(HeaderName, Vec<HeaderValue>)>,
    client: Vec<(HeaderName, HeaderValue)>,
    identity: Option<Identity>,
    /// Whether it is for this one request: the service has said so, or given it a cookie.
    for_one: bool,
}

/// What the client is told.
pub(super) struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Reads answers.
pub(super) struct Judge {
    upstream: Vec<HeaderName>,
    client: Vec<HeaderName>,
    /// Claims, and the headers that tell them.
    identity: Vec<(String, HeaderName)>,
}

/// What the client is to be told beside the response.
struct ForClient(Vec<(HeaderName, HeaderValue)>);

impl Judge {
    pub(super) fn new(
        upstream: Vec<HeaderName>,
        client: Vec<HeaderName>,
        identity: Vec<(String, HeaderName)>,
    ) -> Self {
        Self {
            upstream,
            client,
            identity,
        }
    }

    pub(super) fn verdict(&self, answer: Answer) -> Verdict {
        let status = answer.status;
        let redirects = status.is_redirection() && answer.headers.contains_key(header::LOCATION);
        if status.is_success() {
            Verdict::Admitted(Arc::new(self.admission(&answer.headers)))
        } else if status.is_client_error() || redirects {
            Verdict::Refused(Arc::new(self.refusal(answer)))
        } else {
            Verdict::Broken(format!("the service answers {status}"))
        }
    }

    fn admission(&self, headers: &HeaderMap) -> Admission {
        let upstream = self.upstream.iter().map(|name| {
            let values = headers.get_all(name).iter().cloned().collect();
            (name.clone(), values)
        });
        let client = self.client.iter().flat_map(|name| {
            let values = headers.get_all(name).iter();
            values.map(|value| (name.clone(), value.clone()))
        });
        Admission {
            upstream: upstream.collect(),
            client: client.collect(),
            identity: self.identity(headers),
            for_one: says_no_store(headers) || headers.contains_key(header::SET_COOKIE),
        }
    }

    /// Who is calling; none if the service does not name anybody.
    fn identity(&self, headers: &HeaderMap) -> Option<Identity> {
        let mut subject = None;
        let mut claims = Map::new();
        for (claim, name) in &self.identity {
            let Some(text) = single(headers, name) else {
                continue;
            };
            if claim == SUBJECT {
                subject = Some(text.to_owned());
            } else {
                claims.insert(claim.clone(), value(claim, text));
            }
        }
        Some(Identity::with_claims(subject?, Arc::new(claims)))
    }

    fn refusal(&self, answer: Answer) -> Refusal {
        let mut headers = HeaderMap::new();
        for name in PASSED_ON.iter().chain(&self.client) {
            if headers.contains_key(name) {
                continue;
            }
            for value in answer.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Refusal {
            status: answer.status,
            headers,
            body: answer.body,
        }
    }
}

impl Verdict {
    /// Whether others who ask the same may be told the same, now.
    pub(super) fn may_be_shared(&self) -> bool {
        match self {
            Self::Admitted(admission) => admission.may_be_kept(),
            Self::Refused(refusal) => !refusal.headers.contains_key(header::SET_COOKIE),
            Self::Broken(_) => true,
        }
    }
}

impl Admission {
    pub(super) fn may_be_kept(&self) -> bool {
        !self.for_one
    }

    /// Lets the request pass with what the service has said.
    pub(super) fn apply(&self, request: &mut Request<'_>) {
        for (name, values) in &self.upstream {
            request.remove_header(name);
            for value in values {
                request.append_header(name.clone(), value.clone());
            }
        }
        if let Some(identity) = &self.identity {
            request.values_mut().insert(identity.clone());
        }
        if !self.client.is_empty() {
            // There may be two filters of this kind.
            let before = request.values().get::<ForClient>();
            let mut headers = before.map_or_else(Vec::new, |before| before.0.clone());
            headers.extend_from_slice(&self.client);
            request.values_mut().insert(ForClient(headers));
        }
    }
}

impl Refusal {
    pub(super) fn reply(&self) -> Reply {
        let mut reply = Reply::new(self.status.as_u16());
        for (name, value) in &self.headers {
            reply = reply.header(name.clone(), value.clone());
        }
        if !self.body.is_empty() {
            reply = reply.bytes(self.body.clone());
        }
        reply
            .because(format!("the service answers {}", self.status))
            .rule("refused")
    }
}

/// Adds what services want the client to know.
pub(super) fn tell_client(response: &mut Response<'_>) {
    if response.exchange().values.get::<ForClient>().is_none() {
        return;
    }
    // Taken, so that a second filter of this kind does not tell it again.
    let told = response.values_mut().insert(ForClient(Vec::new()));
    for (name, value) in told.iter().flat_map(|told| &told.0) {
        if *name == header::SET_COOKIE {
            response.append_header(name.clone(), value.clone());
        } else {
            response.set_header(name.clone(), value.clone());
        }
    }
}

/// The only value of a header. Of several, another reader could believe another one.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let text = std::str::from_utf8(value.as_bytes()).ok()?.trim();
    (!text.is_empty()).then_some(text)
}

/// The value of a claim. Roles and groups are lists, others are texts.
fn value(claim: &str, text: &str) -> Value {
    if !["roles", "groups"].contains(&claim) {
        return text.into();
    }
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).collect()
}

fn says_no_store(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
}

/// The name of the caller among the claims.
pub(super) const SUBJECT: &str = "subject";

/// What belongs to a refusal, whatever is configured.
static PASSED_ON: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::CONTENT_LANGUAGE,
    header::WWW_AUTHENTICATE,
    header::LOCATION,
    header::SET_COOKIE,
    header::RETRY_AFTER,
    header::CACHE_CONTROL,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let pairs = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: Bytes::new(),
            trailers: HeaderMap::new(),
        }
    }

    fn judge() -> Judge {
        let name = HeaderName::from_static;
        let identity = [("subject", name("x-user")), ("roles", name("x-roles"))];
        Judge {
            upstream: vec![name("x-user")],
            client: vec![header::SET_COOKIE],
            identity: identity
                .map(|(claim, name)| (claim.to_owned(), name))
                .to_vec(),
        }
    }

    #[test]
    fn only_a_status_that_says_so_lets_pass() {
        for status in 100..600 {
            let location = [("location", "/login")];
            match judge().verdict(answer(status, &location)) {
                Verdict::Admitted(_) => assert!((200..300).contains(&status), "{status}"),
                Verdict::Refused(_) => assert!((300..500).contains(&status), "{status}"),
                Verdict::Broken(_) => assert!(!(200..500).contains(&status), "{status}"),
            }
        }
        // A redirect to nowhere is no answer.
        let nowhere = judge().verdict(answer(302, &[]));
        assert!(matches!(nowhere, Verdict::Broken(_)));
    }

    #[test]
    fn nobody_is_known_by_a_name_that_is_there_twice_or_empty() {
        let identity = |headers: &[(&'static str, &'static str)]| {
            let identity = judge().identity(&answer(200, headers).headers);
            identity.map(|identity| identity.subject().to_owned())
        };
        assert_eq!(identity(&[("x-user", "ann")]).as_deref(), Some("ann"));
        assert_eq!(identity(&[("x-user", "ann"), ("x-user", "root")]), None);
        assert_eq!(identity(&[("x-user", " ")]), None);
        assert_eq!(identity(&[("x-roles", "admin")]), None);
    }

    #[test]
    fn roles_are_a_list() {
        let headers = answer(200, &[("x-user", "ann"), ("x-roles", "a, b,,c ")]).headers;
        let identity = judge().identity(&headers).unwrap();
        assert_eq!(
            identity.claim("roles"),
            Some(&serde_json::json!(["a", "b", "c"]))
        );
    }

    #[test]
    fn an_answer_with_a_cookie_is_for_one_client() {
        let shared = |status, headers: &[(&'static str, &'static str)]| {
            judge().verdict(answer(status, headers)).may_be_shared()
        };
        assert!(shared(200, &[]));
        assert!(shared(403, &[]));
        assert!(!shared(200, &[("set-cookie", "a=1")]));
        assert!(!shared(403, &[("set-cookie", "a=1")]));
        assert!(!shared(200, &[("cache-control", "private, No-Store")]));
        // Also if the client does not get it.
        let judge = Judge {
            client: Vec::new(),
            ..judge()
        };
        let verdict = judge.verdict(answer(200, &[("set-cookie", "a=1")]));
        assert!(!verdict.may_be_shared());
    }
}
