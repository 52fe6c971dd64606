//! The head of a stored response, and what Pingora knows of its age.
//!
//! Pingora's own type can be neither copied nor built from its parts, except through bytes. It is made anew
//! for each hit: from the parts where that loses nothing, which is nearly always, and else from the bytes.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, ETAG, HeaderName, LAST_MODIFIED},
};
use pingora::{
    ErrorType, OrErr, Result,
    cache::{CacheMeta, key::HashBinary},
    http::ResponseHeader,
};

use super::storage::seconds;

/// All of a response but its body.
#[derive(Clone)]
pub(crate) struct Head {
    header: ResponseHeader,
    fresh_until: SystemTime,
    created: SystemTime,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    variance: Option<HashBinary>,
    epoch: Option<SystemTime>,
    /// What the other parts don't tell: the response was revalidated, or is of a family of variants that
    /// began with another.
    exact: Option<Box<[u8]>>,
}

impl Head {
    /// Copies all it needs, so that no receive buffer is kept.
    pub(crate) fn new(meta: &CacheMeta) -> Result<Self> {
        // Only a family of variants asks when it began.
        let begun = meta
            .variance()
            .map_or_else(|| meta.created(), |_| meta.provenance());
        let plain = meta.updated() == meta.created() && begun == meta.created();
        let exact = if plain {
            None
        } else {
            Some(meta.serialize()?.0.into())
        };
        Ok(Self {
            header: copy(meta.response_header())?,
            fresh_until: meta.fresh_until(),
            created: meta.created(),
            stale_while_revalidate: meta.stale_while_revalidate_sec(),
            stale_if_error: meta.stale_if_error_sec(),
            variance: meta.variance(),
            epoch: meta.epoch_override(),
            exact,
        })
    }

    pub(crate) fn header(&self) -> &ResponseHeader {
        &self.header
    }

    pub(super) fn created(&self) -> SystemTime {
        self.created
    }

    /// Until when it is fresh, unless a purge has it be stale.
    pub(crate) fn fresh_until(&self) -> SystemTime {
        self.fresh_until
    }

    /// What Pingora is given on a hit.
    pub(crate) fn meta(&self) -> Result<CacheMeta> {
        if let Some(exact) = &self.exact {
            let mut meta = CacheMeta::deserialize(exact, &EMPTY)?;
            *meta.response_header_mut() = self.header.clone();
            return Ok(meta);
        }
        let mut meta = CacheMeta::new(
            self.fresh_until,
            self.created,
            self.stale_while_revalidate,
            self.stale_if_error,
            self.header.clone(),
        );
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        if let Some(epoch) = self.epoch {
            meta.set_epoch_override(epoch);
        }
        Ok(meta)
    }

    /// From when on it is of no use, in seconds since 1970: neither fresh, nor allowed to be served stale,
    /// nor can the upstream be asked whether it still holds.
    pub(super) fn expires(&self) -> u32 {
        let headers = &self.header.headers;
        if headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED) {
            return u32::MAX;
        }
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        let until = self
            .fresh_until
            .checked_add(Duration::from_secs(stale.into()));
        // What is fresh within a second is, so the next one.
        until.map_or(u32::MAX, |until| seconds(until).saturating_add(1))
    }

    /// The length that the body is going to have, if it is said.
    pub(super) fn content_length(&self) -> Option<u64> {
        let mut values = self.header.headers.get_all(CONTENT_LENGTH).iter();
        let length = values.next()?.to_str().ok()?.parse().ok();
        length.filter(|_| values.next().is_none())
    }

    /// What it takes in memory beyond the value itself, in bytes; a little more rather than less.
    pub(crate) fn size(&self) -> usize {
        let headers = &self.header.headers;
        let values: usize = headers.values().map(HeaderValue::len).sum();
        let names = headers.keys().map(name_size).sum::<usize>();
        let more = headers.len() - headers.keys_len();
        let exact = self.exact.as_ref().map_or(0, |exact| exact.len() + 16);
        let more = if more == 0 {
            0
        } else {
            more.next_power_of_two().max(4)
        };
        let table = headers.capacity() * BUCKET + more * MORE;
        table + table / 8 + values + 64 + names + exact
    }
}

/// A copy that shares nothing with what it was made from: values are slices of one block. How the upstream
/// spells the names is forgotten, as it is for requests.
fn copy(header: &ResponseHeader) -> Result<ResponseHeader> {
    let length = header.headers.values().map(HeaderValue::len).sum();
    let mut block = Vec::with_capacity(length);
    for value in header.headers.values() {
        block.extend_from_slice(value.as_bytes());
    }
    let mut block = Bytes::from(block);
    let mut copy = ResponseHeader::build_no_case(header.status, Some(header.headers.keys_len()))?;
    copy.set_version(header.version);
    let phrase = header.get_reason_phrase();
    if phrase != header.status.canonical_reason() {
        copy.set_reason_phrase(phrase)?;
    }
    for (name, value) in &header.headers {
        let bytes = block.split_to(value.len());
        let mut copied = HeaderValue::from_maybe_shared(bytes).or_err(
            ErrorType::InvalidHTTPHeader,
            "not a value that can be stored",
        )?;
        copied.set_sensitive(value.is_sensitive());
        // Made anew, since it may be a slice too.
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).or_err(
            ErrorType::InvalidHTTPHeader,
            "not a name that can be stored",
        )?;
        copy.append_header(name, copied)?;
    }
    Ok(copy)
}

/// Names that `http` knows take nothing: each time one is made, it is the same text.
fn name_size(name: &HeaderName) -> usize {
    let again = HeaderName::from_bytes(name.as_str().as_bytes());
    match again {
        Ok(again) if again.as_str().as_ptr() == name.as_str().as_ptr() => 0,
        _ => name.as_str().len() + 32,
    }
}

/// What a header takes in a table of `http`, and what one more of the same name does.
const BUCKET: usize = 104 + 4 * 4 / 3;
const MORE: usize = 72;

/// A header with nothing in it, in Pingora's bytes.
static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let header = ResponseHeader::build_no_case(200, Some(0));
    let meta = header
        .map(|header| CacheMeta::new(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH, 0, 0, header));
    let bytes = meta.and_then(|meta| meta.serialize());
    bytes.map(|(_, header)| header).unwrap_or_default()
});

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> ResponseHeader {
        ResponseHeader::build_no_case(200, None).unwrap()
    }

    #[test]
    fn a_head_keeps_no_buffer_that_its_headers_were_slices_of() {
        let buffer = Bytes::from(vec![b'a'; 4_096]);
        let mut header = ResponseHeader::build(200, None).unwrap();
        let value = HeaderValue::from_maybe_shared(buffer.slice(10..20)).unwrap();
        header.append_header("x-slice", value).unwrap();
        let meta = CacheMeta::new(SystemTime::now(), SystemTime::now(), 0, 0, header);
        let head = Head::new(&meta).unwrap();
        drop(meta);
        assert!(buffer.is_unique());
        assert_eq!(head.header().headers["x-slice"], "aaaaaaaaaa");
    }

    #[test]
    fn what_can_neither_be_served_stale_nor_revalidated_is_of_no_use_when_it_is_not_fresh() {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let expires = |swr, sie, header| {
            let meta = CacheMeta::new(until, SystemTime::UNIX_EPOCH, swr, sie, header);
            Head::new(&meta).unwrap().expires()
        };
        assert_eq!(expires(0, 0, response()), 1_001);
        assert_eq!(expires(5, 60, response()), 1_061);
        let mut validated = response();
        validated.append_header("etag", "\"1\"").unwrap();
        assert_eq!(expires(0, 0, validated), u32::MAX);
    }
}
