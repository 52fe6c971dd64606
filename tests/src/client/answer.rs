//! What comes back.

use std::{fmt, io};

use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of the final response.
    pub status: u16,
    /// Statuses such as 100 that came before it.
    pub interim: Vec<u16>,
    /// Lines in their order, with names as they were spelt.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// How the end of the body is told.
    pub framing: Framing,
    /// Whether another request may be sent on this connection.
    pub reusable: bool,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There can't be a body: the answer to `HEAD`, a 204 or a 304.
    Bodiless,
    /// By `Content-Length`.
    Length(u64),
    /// By an empty chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Answer {
    /// The value of a header that is there at most once.
    ///
    /// # Panics
    ///
    /// When it is there more than once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.header_all(name);
        assert!(values.len() <= 1, "`{name}` more than once: {values:?}");
        values.first().copied()
    }

    /// All values of a header, in their order.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let wanted = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        let lines = self.headers.iter().filter(wanted);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a text was expected")
    }

    /// Of an answer of the echo service: the values of a header that the service has received.
    #[track_caller]
    pub fn received(&self, name: &str) -> Vec<String> {
        let report = self.json();
        let headers = report["headers"]
            .as_array()
            .expect("an answer of the echo service");
        let pairs = headers
            .iter()
            .filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
        let wanted = pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.to_owned()).collect()
    }
}

/// An answer that did not come, or not whole.
#[derive(Debug)]
pub struct Broken {
    /// What had come: the head, and the body as far as it goes.
    pub partial: Option<Box<Answer>>,
    /// Why no more came.
    pub reason: io::Error,
}

impl From<io::Error> for Broken {
    fn from(reason: io::Error) -> Self {
        Self {
            partial: None,
            reason,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.partial {
            None => write!(f, "no answer: {}", self.reason),
            Some(answer) => write!(
                f,
                "a {} that broke after {} bytes of the body: {}",
                answer.status,
                answer.body.len(),
                self.reason
            ),
        }
    }
}
