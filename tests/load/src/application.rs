//! The application behind caches: it says nothing of how long a page may be kept, and counts its requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::endpoint::Endpoint;
use crate::fault::{Result, Trouble};
use crate::http;

pub(crate) struct Application {
    endpoint: Endpoint,
    asked: Arc<AtomicU64>,
}

impl Application {
    pub(crate) fn start() -> Result<Self> {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let endpoint = Endpoint::start(move |path| {
            count.fetch_add(1, Ordering::SeqCst);
            if path == SLOW {
                thread::sleep(TIME);
            }
            answer(path)
        });
        Ok(Self {
            endpoint: endpoint.trouble(|| "cannot start the application".to_owned())?,
            asked,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Requests since the start.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// With a `Date`, as every application that has a clock sends it (RFC 9110, 6.6.1).
fn answer(path: &str) -> Vec<u8> {
    let date = Timestamp::now().strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n");
    http::answer_with(&date.to_string(), &body(path))
}

/// The page of a path: JSON that names it, 200 bytes or as long as a [`LARGE`] one.
pub(crate) fn body(path: &str) -> Vec<u8> {
    let length = if path == LARGE {
        100 * 1024
    } else {
        SMALL_BODY
    };
    let text = format!(r#"{{"path":"{path}","text":""#);
    let filler = "x".repeat(length.saturating_sub(text.len() + r#""}"#.len()));
    format!(r#"{text}{filler}"}}"#).into_bytes()
}

pub(crate) const LARGE: &str = "/large";
/// The page that takes [`TIME`] to make.
pub(crate) const SLOW: &str = "/slow";
pub(crate) const TIME: Duration = Duration::from_millis(100);
/// Bytes.
pub(crate) const SMALL_BODY: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_long_as_promised_and_name_their_paths() {
        for (path, length) in [("/", 200), ("/object/199999", 200), (LARGE, 102_400)] {
            let body = body(path);
            assert_eq!(body.len(), length, "{path}");
            let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(page["path"], path);
        }
    }

    #[test]
    fn every_request_is_counted() {
        let application = Application::start().unwrap();
        for (path, count) in [("/", 1), (LARGE, 2), ("/object/7", 3)] {
            let answer = http::ask(application.address(), &http::get(path, &[])).unwrap();
            assert_eq!(answer, (200, body(path)));
            assert_eq!(application.asked(), count);
        }
    }
}
