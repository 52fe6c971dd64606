//! How the client wants to be answered.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) status: StatusCode,
    pub(crate) delay: Duration,
    pub(crate) size: Option<u64>,
    pub(crate) framing: Framing,
    pub(crate) abort: Option<Abort>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// How the client learns where the body ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Framing {
    #[default]
    Length,
    Chunked,
}

/// Where the connection is closed too early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Abort {
    Head,
    Body,
}

impl Control {
    /// Reads the parameters of a query. A wrong value is an error, so that no test passes by a typo.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut control = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            control
                .set(name, &value)
                .map_err(|expected| format!("`{name}={value}`: expected {expected}\n"))?;
        }
        Ok(control)
    }

    /// The error says what was expected.
    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "status" => self.status = status(value).ok_or("a status from 200 to 999")?,
            "delay" => self.delay = duration(value).ok_or("a time such as `200ms` or `2s`")?,
            "size" => self.size = Some(value.parse().map_err(|_| "a number of bytes")?),
            "chunked" if value == "1" => self.framing = Framing::Chunked,
            "chunked" => return Err("`1`"),
            "abort" => self.abort = Some(abort(value).ok_or("`head` or `body`")?),
            "header" => self.headers.push(header(value).ok_or("`Name:Value`")?),
            _ => {}
        }
        Ok(())
    }
}

fn status(value: &str) -> Option<StatusCode> {
    let status = StatusCode::from_u16(value.parse().ok()?).ok()?;
    (!status.is_informational()).then_some(status)
}

fn duration(value: &str) -> Option<Duration> {
    if let Some(millis) = value.strip_suffix("ms") {
        return Some(Duration::from_millis(millis.parse().ok()?));
    }
    Some(Duration::from_secs(value.strip_suffix('s')?.parse().ok()?))
}

fn abort(value: &str) -> Option<Abort> {
    match value {
        "head" => Some(Abort::Head),
        "body" => Some(Abort::Body),
        _ => None,
    }
}

fn header(value: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = value.split_once(':')?;
    Some((name.parse().ok()?, value.trim().parse().ok()?))
}
