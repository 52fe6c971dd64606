//! Content codings, and which of them a client takes (RFC 9110, section 12.5.3).
//!
//! ```
//! use edgeway_sdk::coding::{Coding, negotiate};
//! use http::{HeaderMap, HeaderValue, header::ACCEPT_ENCODING};
//!
//! let mut headers = HeaderMap::new();
//! headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br;q=0.8, zstd;q=0"));
//! let offered = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
//! assert_eq!(negotiate(&headers, &offered), Some(Coding::Gzip));
//! ```

use std::{cmp::Reverse, fmt};

use http::{HeaderMap, HeaderValue, header::ACCEPT_ENCODING};
use serde::Deserialize;
use smallvec::SmallVec;

/// A content coding that the gateway knows, written as HTTP has it: `gzip`, `br`, `zstd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Coding {
    /// The format of RFC 1952.
    #[serde(rename = "gzip")]
    Gzip,
    /// The format of RFC 7932.
    #[serde(rename = "br")]
    Brotli,
    /// The format of RFC 8878.
    #[serde(rename = "zstd")]
    Zstd,
}

impl Coding {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// As `Content-Encoding` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The value of `Content-Encoding`.
    #[must_use]
    pub const fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// The coding of this name, in any case. `x-gzip` is an old name of `gzip` (RFC 9110, section 8.4.1.3).
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let known = Self::ALL
            .into_iter()
            .find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()));
        known.or_else(|| name.eq_ignore_ascii_case(b"x-gzip").then_some(Self::Gzip))
    }

    const fn index(self) -> usize {
        match self {
            Self::Gzip => 0,
            Self::Brotli => 1,
            Self::Zstd => 2,
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The coding that a client likes best of those that are offered, which stand in our own order of preference:
/// of what it likes equally, the first. None for a body as it is.
///
/// A client that says nothing takes anything, but cannot be trusted to, and gets the body as it is. So does one
/// that takes nothing at all: a body which it may refuse tells it more than a failure.
#[must_use]
pub fn negotiate(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    Accepted::of(headers).best(offered)
}

/// What a client says of codings.
///
/// What is no proper member of the list is left out of it. A coding that is named more than once is as welcome
/// as the least of what is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    named: [Option<u16>; 3],
    identity: Option<u16>,
    others: Option<u16>,
}

impl Accepted {
    /// Reads `Accept-Encoding`, all lines of it.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self {
            named: [None; 3],
            identity: None,
            others: None,
        };
        for line in headers.get_all(ACCEPT_ENCODING) {
            let members = line.as_bytes().split(|byte| *byte == b',');
            members.for_each(|member| accepted.read(member));
        }
        accepted
    }

    /// See [`negotiate`].
    #[must_use]
    pub fn best(&self, offered: &[Coding]) -> Option<Coding> {
        self.ranked(offered).first().copied()
    }

    /// The codings of those that are offered which a client likes at least as well as a body as it is, the best
    /// one first.
    #[must_use]
    pub fn ranked(&self, offered: &[Coding]) -> SmallVec<[Coding; 3]> {
        // Only where it says so does a client like the body better as it is.
        let plain = self.identity.unwrap_or(0).max(1);
        let offered = offered.iter().copied();
        let mut ranked: SmallVec<_> = offered
            .filter(|coding| self.weight(*coding) >= plain)
            .collect();
        // Stable: of those that are equal, ours comes first.
        ranked.sort_by_key(|coding| Reverse(self.weight(*coding)));
        ranked
    }

    /// Whether a client has said that it takes a coding.
    #[must_use]
    pub fn accepts(&self, coding: Coding) -> bool {
        self.weight(coding) > 0
    }

    /// Whether a client takes a body as it is, which all do that don't refuse it (`identity;q=0`, `*;q=0`).
    #[must_use]
    pub fn accepts_identity(&self) -> bool {
        self.identity.or(self.others) != Some(0)
    }

    /// How welcome a coding is, from 0 to 1000.
    fn weight(&self, coding: Coding) -> u16 {
        let named = self.named.get(coding.index()).copied().flatten();
        named.or(self.others).unwrap_or(0)
    }

    fn read(&mut self, member: &[u8]) {
        let Some((name, weight)) = weighted(member) else {
            return;
        };
        let place = match Coding::named(name) {
            Some(coding) => self.named.get_mut(coding.index()),
            None if name == b"*" => Some(&mut self.others),
            None if name.eq_ignore_ascii_case(b"identity") => Some(&mut self.identity),
            None => None,
        };
        if let Some(place) = place {
            *place = Some(place.map_or(weight, |least| least.min(weight)));
        }
    }
}

/// A member of a list such as `Accept-Encoding` and its weight in thousandths, which is 1000 where none is
/// written (RFC 9110, section 12.4.2). None if it has another parameter, or a weight that cannot be read.
#[must_use]
pub fn weighted(member: &[u8]) -> Option<(&[u8], u16)> {
    let Some(end) = member.iter().position(|byte| *byte == b';') else {
        return Some((member.trim_ascii(), 1000));
    };
    let (name, parameter) = member.split_at(end);
    let weight = weight(parameter.get(1..)?.trim_ascii())?;
    Some((name.trim_ascii(), weight))
}

/// The thousandths in `q=0.5`.
#[must_use]
pub fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), rest @ ..] = parameter else {
        return None;
    };
    let fraction = match rest {
        [] => &[][..],
        [b'.', fraction @ ..] if fraction.len() <= 3 => fraction,
        _ => return None,
    };
    let mut weight = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = *fraction.get(place).unwrap_or(&b'0');
        digit.is_ascii_digit().then_some(())?;
        weight = weight * 10 + u16::from(digit - b'0');
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    fn sent(lines: &[&'static str]) -> Accepted {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        Accepted::of(&headers)
    }

    #[test]
    fn the_client_chooses_and_our_order_decides_what_is_equal() {
        for (line, best) in [
            ("gzip", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Brotli)),
            ("gzip,deflate,zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, br;q=0.9", Some(Coding::Gzip)),
            ("gzip; q=0.5 ,\tbr ;Q=0.499", Some(Coding::Gzip)),
            ("br;q=0.001", Some(Coding::Brotli)),
            ("br;q=0, zstd;q=0.000, gzip;q=0.", None),
            ("*", Some(Coding::Brotli)),
            ("*;q=0.1, br;q=0", Some(Coding::Zstd)),
            ("gzip;q=0.2, *;q=0", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("identity", None),
            ("identity;q=0", None),
            ("identity, gzip", Some(Coding::Gzip)),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=1", Some(Coding::Gzip)),
            ("deflate, compress, sdch", None),
            ("", None),
            (",, ,", None),
        ] {
            assert_eq!(sent(&[line]).best(&OURS), best, "{line}");
        }
        assert_eq!(sent(&[]).best(&OURS), None);
        assert_eq!(sent(&["gzip"]).best(&[]), None);
        assert_eq!(
            sent(&["gzip;q=0.5", "br;q=0.4"]).best(&OURS),
            Some(Coding::Gzip)
        );
    }

    #[test]
    fn all_that_a_client_likes_better_than_the_body_as_it_is_are_ranked() {
        use Coding::{Brotli, Gzip, Zstd};
        for (line, ranked) in [
            ("gzip, br, zstd", &[Brotli, Zstd, Gzip][..]),
            ("gzip, br;q=0.5, zstd;q=0.7", &[Gzip, Zstd, Brotli]),
            ("gzip, br;q=0.5, identity;q=0.7", &[Gzip]),
            ("gzip;q=0, *;q=0.5", &[Brotli, Zstd]),
        ] {
            assert_eq!(sent(&[line]).ranked(&OURS).as_slice(), ranked, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_accepted() {
        for line in [
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.5555",
            "gzip;q=-1",
            "gzip;q=",
            "gzip;q",
            "gzip;level=9",
            "gzip;q=0.5;x=1",
            "gzip;",
            "gzip q=1",
            "gzip br",
            "\"gzip\"",
            "gzip;q=1.0x",
            "gzip;q=.5",
            "gzip;q= 1",
        ] {
            let accepted = sent(&[line]);
            assert_eq!(accepted.best(&OURS), None, "{line}");
            assert!(accepted.accepts_identity(), "{line}");
        }
    }

    #[test]
    fn a_coding_that_is_named_twice_is_as_welcome_as_the_least() {
        assert_eq!(sent(&["gzip, gzip;q=0"]).best(&OURS), None);
        assert_eq!(sent(&["gzip;q=0", "x-gzip"]).best(&OURS), None);
        assert_eq!(
            sent(&["br, gzip;q=0.5, br;q=0.1"]).best(&OURS),
            Some(Coding::Gzip)
        );
    }

    #[test]
    fn a_body_as_it_is_must_be_refused_in_so_many_words() {
        for (line, accepted) in [
            ("", true),
            ("gzip", true),
            ("identity;q=0", false),
            ("gzip, identity;q=0", false),
            ("*;q=0", false),
            ("*;q=0, identity;q=0.1", true),
            ("identity;q=0, *", false),
            ("identity;q=0.5", true),
        ] {
            assert_eq!(sent(&[line]).accepts_identity(), accepted, "{line}");
        }
        assert!(sent(&[]).accepts_identity());
    }

    #[test]
    fn codings_have_the_names_that_headers_give_them() {
        for coding in Coding::ALL {
            assert_eq!(Coding::named(coding.name().as_bytes()), Some(coding));
            assert_eq!(coding.header_value(), coding.to_string());
            let written = format!("\"{coding}\"");
            assert_eq!(serde_json::from_str::<Coding>(&written).ok(), Some(coding));
        }
        assert_eq!(Coding::named(b"deflate"), None);
    }
}
