//! The head of a stored response, and what Pingora knows of its age.
//!
//! Pingora's own type can be neither copied nor built from its parts, except through bytes. It is made anew
//! for each hit: from the parts where that loses nothing, which is nearly always, and else from the bytes.

use std::{sync::LazyLock, time::SystemTime};

use bytes::Bytes;
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, ETAG, HeaderName, LAST_MODIFIED},
};
use pingora::{
    Error, ErrorType, OrErr, Result,
    cache::{CacheMeta, key::HashBinary},
    http::ResponseHeader,
};
use serde::{Deserialize, Serialize};

use super::{memory::Filing, policy::freshness::Freshness, purges::Turn, time::seconds};

/// What the cache knows of a response that Pingora has no place for. Goes with its meta data, as an
/// extension.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    pub(crate) freshness: Freshness,
    pub(crate) filing: Filing,
    /// When the request for it was sent: a purge after that is meant for it.
    pub(crate) requested: Turn,
    /// Whether others who ask are given it while it still comes.
    pub(crate) shared: bool,
    /// Whether the body is what edits of filters have made of the upstream's.
    pub(crate) edited: bool,
}

/// All of a response but its body.
#[derive(Clone)]
pub(crate) struct Head {
    header: ResponseHeader,
    freshness: Freshness,
    edited: bool,
    created: SystemTime,
    /// When the first variant of its family was stored, those of whom are not older.
    begun: SystemTime,
    variance: Option<HashBinary>,
    /// What the other parts don't tell: the response was revalidated, or is of a family of variants that
    /// began with another.
    exact: Option<Box<[u8]>>,
}

/// A head as it is on a disk.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Pingora's bytes.
    meta: Bytes,
    header: Bytes,
    freshness: Freshness,
    /// Files that were written before there was this have no such body.
    #[serde(default)]
    edited: bool,
}

impl Head {
    /// Copies all it needs, so that no receive buffer is kept.
    ///
    /// # Errors
    ///
    /// There are no [`Notes`], or Pingora's data can't be written.
    pub(crate) fn new(meta: &CacheMeta) -> Result<Self> {
        let Some(notes) = meta.extensions().get::<Notes>() else {
            return Error::e_explain(ErrorType::InternalError, "a response without notes");
        };
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
            freshness: notes.freshness,
            edited: notes.edited,
            created: meta.created(),
            begun,
            variance: meta.variance(),
            exact,
        })
    }

    /// The version of what [`to_disk`](Self::to_disk) writes.
    pub(crate) const VERSION: u32 = 1;

    /// All of it, as bytes.
    ///
    /// # Errors
    ///
    /// Pingora's data can't be written.
    pub(crate) fn to_disk(&self) -> Result<Bytes> {
        let (meta, header) = self.meta()?.serialize()?;
        let written = Written {
            meta: meta.into(),
            header: header.into(),
            freshness: self.freshness,
            edited: self.edited,
        };
        let bytes = rmp_serde::to_vec(&written);
        Ok(bytes
            .or_err(ErrorType::InternalError, "a head that can't be written")?
            .into())
    }

    /// What [`to_disk`](Self::to_disk) has written.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub(crate) fn from_disk(bytes: &[u8], filing: &Filing) -> Result<Self> {
        let written: Written = rmp_serde::from_slice(bytes)
            .or_err(ErrorType::InternalError, "a head that can't be read")?;
        let mut meta = CacheMeta::deserialize(&written.meta, &written.header)?;
        meta.extensions_mut().insert(Notes {
            freshness: written.freshness,
            filing: filing.clone(),
            requested: Turn::now(),
            shared: true,
            edited: written.edited,
        });
        Self::new(&meta)
    }

    pub(crate) fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// When its body was stored.
    pub(crate) fn created(&self) -> SystemTime {
        self.created
    }

    /// Since when the variants of its name are valid.
    pub(crate) fn begun(&self) -> SystemTime {
        self.begun
    }

    /// Which variant it is.
    pub(crate) fn variant(&self) -> Option<&HashBinary> {
        self.variance.as_ref()
    }

    /// Whether its body is what filters have made of the upstream's. It may be other bytes when it is fetched again,
    /// though the upstream says that it is the same: there are no parts of it.
    pub(crate) fn edited(&self) -> bool {
        self.edited
    }

    /// As the response has it; a purge may have it be stale before.
    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// What Pingora is given on a hit.
    ///
    /// # Errors
    ///
    /// Pingora's data can't be read, which never happens to what it has written itself.
    pub(crate) fn meta(&self) -> Result<CacheMeta> {
        if let Some(exact) = &self.exact {
            let mut meta = CacheMeta::deserialize(exact, &EMPTY)?;
            *meta.response_header_mut() = self.header.clone();
            return Ok(meta);
        }
        let mut meta = meta(&self.freshness, self.created, self.header.clone());
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
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
        // What is fresh within a second is, so the next one.
        seconds(self.freshness.useful_until()).saturating_add(1)
    }

    /// The length that the body is going to have, if it is said.
    pub(crate) fn content_length(&self) -> Option<u64> {
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

/// What Pingora is to know of a response. It may serve it stale at any time: whether it does is asked of the
/// rules then.
pub(crate) fn meta(
    freshness: &Freshness,
    created: SystemTime,
    header: ResponseHeader,
) -> CacheMeta {
    let until = freshness
        .received
        .checked_add(freshness.remaining(freshness.received));
    let until = until.unwrap_or(freshness.received);
    CacheMeta::new(until, created, 0, u32::MAX, header)
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
pub(super) mod tests {
    use std::time::Duration;

    use super::super::policy::{
        freshness::{Basis, Stale},
        rules::Windows,
    };
    use super::*;

    /// Of a response that is fresh from then on for so many seconds, and may be served stale as long after
    /// that as is said.
    pub(crate) fn stored(
        at: SystemTime,
        fresh: u64,
        stale: u64,
        header: ResponseHeader,
    ) -> CacheMeta {
        let freshness = Freshness {
            lifetime: Duration::from_secs(fresh),
            basis: Basis::MaxAge,
            initial_age: Duration::ZERO,
            received: at,
            stale: Stale::For(Windows {
                while_revalidate: Duration::ZERO,
                if_error: Duration::from_secs(stale),
            }),
        };
        let mut meta = meta(&freshness, at, header);
        meta.extensions_mut().insert(Notes {
            freshness,
            filing: Filing::default(),
            requested: Turn::now(),
            shared: true,
            edited: false,
        });
        meta
    }

    fn response() -> ResponseHeader {
        ResponseHeader::build_no_case(200, None).unwrap()
    }

    #[test]
    fn a_head_keeps_no_buffer_that_its_headers_were_slices_of() {
        let buffer = Bytes::from(vec![b'a'; 4_096]);
        let mut header = ResponseHeader::build(200, None).unwrap();
        let value = HeaderValue::from_maybe_shared(buffer.slice(10..20)).unwrap();
        header.append_header("x-slice", value).unwrap();
        let meta = stored(SystemTime::now(), 1, 0, header);
        let head = Head::new(&meta).unwrap();
        drop(meta);
        assert!(buffer.is_unique());
        assert_eq!(head.header().headers["x-slice"], "aaaaaaaaaa");
    }

    #[test]
    fn what_can_neither_be_served_stale_nor_revalidated_is_of_no_use_when_it_is_not_fresh() {
        let expires = |fresh, stale, header| {
            let meta = stored(SystemTime::UNIX_EPOCH, fresh, stale, header);
            Head::new(&meta).unwrap().expires()
        };
        assert_eq!(expires(1_000, 0, response()), 1_001);
        assert_eq!(expires(1_000, 60, response()), 1_061);
        let mut validated = response();
        validated.append_header("etag", "\"1\"").unwrap();
        assert_eq!(expires(1_000, 0, validated), u32::MAX);
    }
}
