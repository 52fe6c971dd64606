//! Where in a request a token stands, and its removal from there.

use std::borrow::Cow;

use edgeway_sdk::{BuildError, Request};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};

use super::{config::Place, refusal::Refusal};

/// The places that a filter looks for tokens in, in order.
pub(super) struct Places(Vec<Place>);

impl Places {
    pub(super) fn new(places: Vec<Place>) -> Result<Self, BuildError> {
        if places.is_empty() {
            return Err(BuildError::at("from", "name at least one place for tokens"));
        }
        Ok(Self(places))
    }

    /// Whether a token can be removed from all these places.
    pub(super) fn can_be_stripped(&self) -> bool {
        !self.0.iter().any(|place| matches!(place, Place::Query(_)))
    }

    /// Whether tokens are looked for in this header.
    pub(super) fn are_in(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|place| match place {
            Place::Header => *name == AUTHORIZATION,
            Place::Cookie(_) => *name == COOKIE,
            Place::Query(_) => false,
        })
    }

    /// The first token of the request. An empty cookie or query value is none: that is how
    /// applications log out.
    pub(super) fn find<'a>(
        &self,
        request: &'a Request<'_>,
    ) -> Result<Option<Cow<'a, str>>, Refusal> {
        for place in &self.0 {
            let token = match place {
                Place::Header => bearer(request.headers())?.map(Cow::Borrowed),
                Place::Cookie(name) => request
                    .cookie(name)
                    .map(Cow::Borrowed)
                    .filter(|token| !token.is_empty()),
                Place::Query(name) => request.query_value(name).filter(|token| !token.is_empty()),
            };
            if token.is_some() {
                return Ok(token);
            }
        }
        Ok(None)
    }

    /// Removes what stands in these places, the unused ones too. Credentials of another scheme stay.
    pub(super) fn strip(&self, request: &mut Request<'_>) {
        for place in &self.0 {
            match place {
                Place::Header if matches!(bearer(request.headers()), Ok(None)) => {}
                Place::Header => request.remove_header(&AUTHORIZATION),
                Place::Cookie(name) => strip_cookie(request, name),
                // Refused when the filter is built.
                Place::Query(_) => {}
            }
        }
    }
}

/// What follows `Bearer` (RFC 6750, 2.1). Another scheme is no token, and not ours to judge.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Ambiguous);
    }
    let Ok(text) = value.to_str() else {
        return Err(Refusal::invalid("the `Authorization` header is not text"));
    };
    let (scheme, token) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    Ok(scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim()))
}

fn strip_cookie(request: &mut Request<'_>, name: &str) {
    let lines = request.headers().get_all(COOKIE).iter();
    let mut pairs: Vec<&[u8]> = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .collect();
    let all = pairs.len();
    pairs.retain(|pair| !is_cookie(pair, name));
    if pairs.len() == all {
        return;
    }
    pairs.retain(|pair| !pair.is_empty());
    let rest = HeaderValue::from_bytes(&pairs.join(&b"; "[..]));
    match rest {
        Ok(rest) if !rest.is_empty() => request.set_header(COOKIE, rest),
        _ => request.remove_header(&COOKIE),
    }
}

fn is_cookie(pair: &[u8], name: &str) -> bool {
    let end = pair.iter().position(|byte| *byte == b'=');
    end.and_then(|end| pair.get(..end)) == Some(name.as_bytes())
}
