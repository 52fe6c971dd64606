//! Explanations of requests that clients have sent: who may ask for one, and where it waits to be fetched.
//!
//! Whoever knows the key of the configuration signs method, host and path of a request, and until when that is good.
//! The gateway tells by which id the request is known, and explains it for a minute to those who may ask it other
//! things, too: through the admin listener.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use edgeway_sdk::Secret;
use http::{HeaderMap, HeaderName, Method, header::HOST};

use super::Explanation;

/// The header of such a request, with what is signed, and of its response, with its id.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-edgeway-explain");

/// For how long a signature is good.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(60);

/// For how long, and how many, explanations wait.
const KEPT_FOR: Duration = Duration::from_secs(60);
const KEPT: usize = 64;

/// What signs requests that are to be explained.
#[derive(Clone)]
pub(crate) struct Key(Arc<hmac::Key>);

impl Key {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self(Arc::new(hmac::Key::new(
            hmac::HMAC_SHA256,
            secret.reveal().as_bytes(),
        )))
    }

    /// What a request carries that is to be explained: `1.SECONDS.HEX`.
    pub(crate) fn sign(&self, method: &Method, host: &str, path: &str, now: SystemTime) -> String {
        let until = seconds(now + GOOD_FOR);
        let tag = hmac::sign(&self.0, &message(until, method, host, path));
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("1.{until}.{hex}")
    }

    /// Whether this was signed for this request, and is still good.
    pub(crate) fn permits(
        &self,
        token: &str,
        method: &Method,
        host: &str,
        path: &str,
        now: SystemTime,
    ) -> bool {
        let mut parts = token.split('.');
        let (Some("1"), Some(until), Some(hex), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let Ok(until) = until.parse::<u64>() else {
            return false;
        };
        let now = seconds(now);
        // One from far ahead was not made here.
        let good = now <= until && until <= now + 2 * GOOD_FOR.as_secs();
        let tag = bytes(hex).unwrap_or_default();
        good && hmac::verify(&self.0, &message(until, method, host, path), &tag).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

fn message(until: u64, method: &Method, host: &str, path: &str) -> Vec<u8> {
    format!(
        "edgeway explain\n{until}\n{method}\n{}\n{path}",
        plain(host)
    )
    .into_bytes()
}

/// A host without its port, in lower case.
fn plain(host: &str) -> String {
    let end = match host.starts_with('[') {
        true => host.find(']').map(|end| end + 1),
        false => host.find(':'),
    };
    let name = end.and_then(|end| host.get(..end)).unwrap_or(host);
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The host that a head names.
pub(crate) fn host_of(headers: &HeaderMap) -> &str {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or_default()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

/// Explanations that wait to be fetched. A resource: a reload forgets none.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<VecDeque<(Instant, Box<Explanation>)>>);

impl Kept {
    /// Keeps an explanation, the oldest making room for it.
    pub(crate) fn keep(&self, explanation: Box<Explanation>) {
        let mut kept = self.open();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), explanation));
    }

    /// The explanation of the request of this id.
    pub(crate) fn of(&self, id: &str) -> Option<Box<Explanation>> {
        let kept = self.open();
        let found = kept.iter().rev().find(|(_, kept)| kept.request.id == id);
        found.map(|(_, explanation)| explanation.clone())
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<(Instant, Box<Explanation>)>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept
            .front()
            .is_some_and(|(since, _)| since.elapsed() > KEPT_FOR)
        {
            kept.pop_front();
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_one_method_host_and_path_and_for_a_minute() {
        let key = Key::new(&Secret::new("a key that nobody guesses"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let token = key.sign(&Method::GET, "A.org:8443", "/x", now);
        let permits = |method: Method, host: &str, path: &str, after: u64| {
            key.permits(
                &token,
                &method,
                host,
                path,
                now + Duration::from_secs(after),
            )
        };
        assert!(permits(Method::GET, "a.org", "/x", 0));
        assert!(permits(Method::GET, "a.org.:80", "/x", 60));
        assert!(!permits(Method::GET, "a.org", "/x", 61));
        assert!(!permits(Method::POST, "a.org", "/x", 0));
        assert!(!permits(Method::GET, "b.org", "/x", 0));
        assert!(!permits(Method::GET, "a.org", "/y", 0));
        let other = Key::new(&Secret::new("another"));
        assert!(!other.permits(&token, &Method::GET, "a.org", "/x", now));
        for wrong in [
            "",
            "1",
            "1.2.3",
            "2.1000060.00",
            &token[..token.len() - 1],
            &format!("{token}.x"),
        ] {
            assert!(
                !key.permits(wrong, &Method::GET, "a.org", "/x", now),
                "{wrong}"
            );
        }
    }

    #[test]
    fn of_many_explanations_the_newest_are_kept() {
        let kept = Kept::default();
        for number in 0..=KEPT {
            let mut explanation = Explanation::default();
            explanation.request.id = number.to_string();
            kept.keep(Box::new(explanation));
        }
        assert!(kept.of("0").is_none());
        assert!(kept.of("1").is_some());
        assert!(kept.of(&KEPT.to_string()).is_some());
    }
}
