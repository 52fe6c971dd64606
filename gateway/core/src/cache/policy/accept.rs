//! `Accept-Encoding` and `Accept-Language`, so that what means the same is the same.

use std::cmp::Ordering;

use edgeway_sdk::coding::weight;
use http::{
    HeaderMap,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE},
};
use smallvec::SmallVec;

use super::list::{Quotes, members, trim};

/// Writes the codings that a request accepts. Their order has no meaning (RFC 9110, section 12.5.3).
pub(super) fn encodings(request: &HeaderMap, out: &mut Vec<u8>) {
    let mut choices: SmallVec<[Choice<'_>; 8]> =
        members(request, &ACCEPT_ENCODING, Quotes::Strings)
            .map(Choice::parse)
            .collect();
    choices.sort_unstable_by(Choice::cmp);
    choices.iter().for_each(|choice| choice.write(out));
}

/// Writes the languages that a request accepts. RFC 9110, section 12.5.4, gives their order no meaning, but
/// applications do, and their users would get each other's language.
pub(super) fn languages(request: &HeaderMap, out: &mut Vec<u8>) {
    for member in members(request, &ACCEPT_LANGUAGE, Quotes::Strings) {
        Choice::parse(member).write(out);
    }
}

/// A coding or a range of languages with its weight. Neither is sensitive to case.
struct Choice<'a> {
    name: &'a [u8],
    /// In thousandths.
    weight: u16,
}

impl<'a> Choice<'a> {
    /// What has another parameter than a weight, or no proper one, is a name as a whole.
    fn parse(member: &'a [u8]) -> Self {
        let whole = Self {
            name: member,
            weight: 1000,
        };
        let Some(end) = member.iter().position(|byte| *byte == b';') else {
            return whole;
        };
        let (name, parameter) = member.split_at(end);
        match weight(trim(parameter.get(1..).unwrap_or_default())) {
            Some(weight) => Self {
                name: trim(name),
                weight,
            },
            None => whole,
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        lower(self.name)
            .cmp(lower(other.name))
            .then(self.weight.cmp(&other.weight))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(lower(self.name));
        if self.weight != 1000 {
            // As a number, which no name looks like.
            out.extend_from_slice(b";q=");
            out.extend_from_slice(&self.weight.to_be_bytes());
        }
        out.push(b',');
    }
}

fn lower(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(u8::to_ascii_lowercase)
}
