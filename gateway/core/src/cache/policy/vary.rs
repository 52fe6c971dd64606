//! Which stored response fits a request (RFC 9111, section 4.1).

use http::{
    HeaderMap, HeaderName,
    header::{
        ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, DATE, FROM, HOST,
        IF_MODIFIED_SINCE, ORIGIN, REFERER, USER_AGENT, VARY,
    },
};
use smallvec::SmallVec;

use super::{
    accept,
    list::{Quotes, members, split, trim},
};

/// The names of a `Vary`, sorted and each once, so that neither their order nor their case matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vary {
    None,
    Names(SmallVec<[HeaderName; 4]>),
    /// By what is not in the client's request, or by more than [`MOST`] fields: no request fits.
    Any,
}

impl Vary {
    /// That of a response. A name that is none makes it one that nothing fits.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut names: SmallVec<[HeaderName; 4]> = SmallVec::new();
        for member in members(headers, &VARY, Quotes::Strings) {
            let name = HeaderName::from_bytes(member).ok();
            let Some(name) = name.filter(|name| is_told(name) && names.len() < MOST) else {
                return Self::Any;
            };
            if let Err(place) = names.binary_search_by(|other| other.as_str().cmp(name.as_str())) {
                names.insert(place, name);
            }
        }
        match names.is_empty() {
            true => Self::None,
            false => Self::Names(names),
        }
    }

    /// Writes into a key what a request has in the fields that are named. Two requests with the same bytes
    /// get the same response.
    ///
    /// Each name and each value is preceded by its length, so that no value can pass for two, and a field
    /// that is missing differs from one that is empty.
    pub(crate) fn write(&self, request: &HeaderMap, key: &mut Vec<u8>) {
        let Self::Names(names) = self else {
            return;
        };
        for name in names {
            framed(key, |key| key.extend_from_slice(name.as_str().as_bytes()));
            match request.contains_key(name) {
                true => framed(key, |key| value(request, name, key)),
                false => key.extend_from_slice(&ABSENT.to_be_bytes()),
            }
        }
    }
}

/// Whether a name is one of what the client has sent. Some fields are added on the way to the upstream, and differ
/// from client to client.
fn is_told(name: &HeaderName) -> bool {
    const ADDED: [&str; 5] = [
        "*",
        "forwarded",
        "x-forwarded-for",
        "x-real-ip",
        "x-request-id",
    ];
    !ADDED.contains(&name.as_str())
}

/// Writes what a request has in a field, in the form in which it is compared.
fn value(request: &HeaderMap, name: &HeaderName, key: &mut Vec<u8>) {
    match *name {
        ACCEPT_ENCODING => accept::encodings(request, key),
        ACCEPT_LANGUAGE => accept::languages(request, key),
        // HTTP/2 sends each cookie in a line of its own (RFC 9113, section 8.2.3).
        COOKIE => join(lines(request, name), b"; ", key),
        _ if SINGLE.contains(name) => join(lines(request, name), b", ", key),
        // What is not known is taken for a list, which is what fields are whose lines can be combined.
        _ => join(
            request
                .get_all(name)
                .iter()
                .flat_map(|line| split(line.as_bytes(), Quotes::Strings)),
            b",",
            key,
        ),
    }
}

fn lines<'h>(request: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    request
        .get_all(name)
        .iter()
        .map(|line| trim(line.as_bytes()))
}

fn join<'h>(parts: impl Iterator<Item = &'h [u8]>, between: &[u8], key: &mut Vec<u8>) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            key.extend_from_slice(between);
        }
        key.extend_from_slice(part);
    }
}

/// Writes the length before what is written.
fn framed(key: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = key.len();
    key.extend_from_slice(&[0; LENGTH]);
    write(key);
    let length = u32::try_from(key.len() - start - LENGTH).unwrap_or(ABSENT - 1);
    if let Some(place) = key.get_mut(start..start + LENGTH) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// More fields than any response varies by that a cache is of use to.
const MOST: usize = 16;
const LENGTH: usize = 4;
const ABSENT: u32 = u32::MAX;

/// Fields with one value, in which a comma is a comma.
const SINGLE: [HeaderName; 8] = [
    AUTHORIZATION,
    DATE,
    FROM,
    HOST,
    IF_MODIFIED_SINCE,
    ORIGIN,
    REFERER,
    USER_AGENT,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    /// Whether two requests fit the same response.
    fn fit(vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]) -> bool {
        let vary = Vary::of(&headers(&[("vary", vary)]));
        let key = |fields| {
            let mut key = Vec::new();
            vary.write(&headers(fields), &mut key);
            key
        };
        key(one) == key(other)
    }

    #[test]
    fn names_are_sorted_and_each_there_once() {
        let names = |lines: &[(&str, &str)]| Vary::of(&headers(lines));
        let foo_bar = names(&[("vary", "Foo, bar")]);
        assert_eq!(names(&[("vary", "BAR,,foo"), ("vary", "foo")]), foo_bar);
        assert_eq!(names(&[]), Vary::None);
        assert_eq!(names(&[("vary", " , ")]), Vary::None);
    }

    #[test]
    fn a_star_anywhere_fits_nothing() {
        for line in [
            "*",
            "*, *",
            ", *",
            "*, Foo",
            "Foo, *",
            "Foo,*",
            "not a name",
        ] {
            assert_eq!(Vary::of(&headers(&[("vary", line)])), Vary::Any, "{line}");
        }
        assert_eq!(
            Vary::of(&headers(&[("vary", ""), ("vary", "*")])),
            Vary::Any
        );
        let many: Vec<_> = (0..=MOST).map(|at| format!("x-{at}")).collect();
        assert_eq!(Vary::of(&headers(&[("vary", &many.join(","))])), Vary::Any);
        assert!(matches!(
            Vary::of(&headers(&[("vary", &many[1..].join(","))])),
            Vary::Names(_)
        ));
    }

    #[test]
    fn selecting_fields_must_be_the_same() {
        assert!(fit("Foo", &[("foo", "1")], &[("FOO", " 1 ")]));
        assert!(fit(
            "Foo",
            &[("foo", "1"), ("other", "2")],
            &[("foo", "1"), ("other", "3")]
        ));
        assert!(fit("Foo, Bar", &[("foo", "1")], &[("foo", "1")]));
        assert!(!fit("Foo", &[("foo", "1")], &[("foo", "2")]));
        assert!(!fit("Foo", &[("foo", "1")], &[("foo", "1"), ("foo", "1")]));
        assert!(!fit("Foo", &[("foo", "a")], &[("foo", "A")]));
        assert!(!fit(
            "Foo, Bar",
            &[("foo", "1"), ("bar", "2")],
            &[("foo", "2"), ("bar", "1")]
        ));
    }

    #[test]
    fn a_field_that_is_missing_is_not_one_that_is_empty() {
        assert!(!fit("Foo", &[], &[("foo", "")]));
        assert!(!fit("Foo", &[], &[("foo", "1")]));
        assert!(fit("Foo", &[], &[]));
    }

    #[test]
    fn lines_are_combined_and_space_around_commas_does_not_matter() {
        assert!(fit(
            "Foo",
            &[("foo", "1, 2")],
            &[("foo", "1"), ("foo", "2")]
        ));
        assert!(fit("Foo", &[("foo", "1,2")], &[("foo", " 1 ,  2 ")]));
        assert!(!fit("Foo", &[("foo", "1 2")], &[("foo", "12")]));
        assert!(!fit("Foo", &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")]));
        assert!(!fit(
            "User-Agent",
            &[("user-agent", "a, b")],
            &[("user-agent", "a,b")]
        ));
        assert!(!fit("Cookie", &[("cookie", "a, b")], &[("cookie", "a,b")]));
        assert!(fit(
            "Cookie",
            &[("cookie", "a=1; b=2")],
            &[("cookie", "a=1"), ("cookie", "b=2")]
        ));
    }

    #[test]
    fn values_cannot_move_from_one_field_to_another() {
        let one = [("a", "x"), ("b", "y")];
        for other in [
            [("a", "xb"), ("b", "")],
            [("a", ""), ("b", "x")],
            [("a", "x,y"), ("b", "")],
        ] {
            assert!(!fit("A, B", &one, &other), "{other:?}");
        }
        assert!(!fit("A, B", &[("a", "x")], &[("b", "x")]));
    }

    #[test]
    fn codings_are_compared_by_what_they_mean() {
        let same = |one, other| {
            fit(
                "Accept-Encoding",
                &[("accept-encoding", one)],
                &[("accept-encoding", other)],
            )
        };
        assert!(same("gzip, br", "BR ,gzip;q=1.0"));
        assert!(same("gzip;q=0.50, br", "br,gzip ; Q=0.5"));
        assert!(!same("gzip, br", "gzip"));
        assert!(!same("gzip;q=0", "gzip"));
        assert!(!same("gzip", ""));
        assert!(!same("gzip;x=1", "gzip"));
    }

    #[test]
    fn languages_are_compared_by_what_they_mean_and_their_order() {
        let same = |one, other| {
            fit(
                "Accept-Language",
                &[("accept-language", one)],
                &[("accept-language", other)],
            )
        };
        assert!(same("en, de", "eN,De"));
        assert!(same("de, en;q=0.8", " de ,  en; q=0.80"));
        assert!(!same("en, de", "de, en"));
        assert!(!same("en;q=0.8", "en;q=0.7"));
    }
}
