//! Takes a request apart, and has every part looked at.

use std::borrow::Cow;

use edgeway_sdk::prelude::*;
use smallvec::SmallVec;

use super::{
    Book,
    engine::Rules,
    rules::{Class, Places, by_code},
    score::{Kind, Place, Score},
};

/// The inspection of one request, from its head to the end of its body.
pub(super) struct Inspection<'a> {
    book: &'a Book,
    /// As routes match it.
    path: &'a str,
    off: Rules,
    pub(super) score: Score,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(book: &'a Book, path: &'a str) -> Self {
        Self {
            book,
            path,
            off: book.off(path),
            score: Score::default(),
        }
    }

    /// Looks at all of the request but its body.
    pub(super) fn head(&mut self, request: &Request<'_>) {
        let parts = request.parts();
        self.path(parts.uri.path());
        if let Some(query) = parts.uri.query() {
            self.pairs(Kind::Query, query.as_bytes());
        }
        for (name, value) in &parts.headers {
            self.header(name, value.as_bytes());
        }
    }

    fn path(&mut self, path: &str) {
        let place = Place {
            kind: Kind::Path,
            name: b"",
        };
        self.look(place, Places::PATH, path.as_bytes());
        // What is put into a segment is a value as well.
        for segment in path
            .split('/')
            .filter(|segment| segment.contains(ODD_IN_SEGMENT))
        {
            self.look(place, Places::VALUE, segment.as_bytes());
        }
    }

    /// A query, or a form that is written like one.
    pub(super) fn pairs(&mut self, kind: Kind, text: &[u8]) {
        let mut names: SmallVec<[&[u8]; 16]> = SmallVec::new();
        for pair in text
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            if names.len() == MOST_PAIRS {
                self.general(by_code::COUNT);
                return;
            }
            let (name, value) = split(pair, b'=');
            names.push(name);
            let name = decoded(name);
            self.name(kind, &name);
            let place = Place { kind, name: &name };
            self.look(place, Places::VALUE, &decoded(value));
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            self.joined(kind, text);
        }
    }

    /// Values of one name as some frameworks join them: what is harmless in pieces may not be so as a whole.
    fn joined(&mut self, kind: Kind, text: &[u8]) {
        let pairs = text
            .split(|byte| *byte == b'&')
            .map(|pair| split(pair, b'='));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|(name, _)| *name);
        for same in pairs
            .chunk_by(|one, other| one.0 == other.0)
            .filter(|same| same.len() > 1)
        {
            let values: Vec<_> = same.iter().map(|(_, value)| decoded(value)).collect();
            let name = decoded(same[0].0);
            let place = Place { kind, name: &name };
            self.look(place, Places::VALUE, &values.join(&b','));
        }
    }

    fn header(&mut self, name: &HeaderName, value: &[u8]) {
        if name == header::COOKIE {
            return self.cookies(value);
        }
        let place = Place {
            kind: Kind::Header,
            name: name.as_str().as_bytes(),
        };
        if name == header::USER_AGENT {
            return self.look(place, Places::AGENT, value);
        }
        if name == header::REFERER && is_search(value) {
            let off = self
                .book
                .engine
                .of(&[Class::Sqli, Class::Xss, Class::Traversal]);
            return self.look_without(off, place, Places::HEADER, value);
        }
        // Their grammar is known, and has no use for what attacks are made of.
        let is_known = KNOWN.contains(name) || name.as_str().starts_with("sec-");
        if !is_known || value.iter().any(|byte| b"$<'`{".contains(byte)) {
            self.look(place, Places::HEADER, value);
        }
    }

    fn cookies(&mut self, value: &[u8]) {
        for pair in value.split(|byte| *byte == b';') {
            let (name, value) = split(pair.trim_ascii(), b'=');
            self.name(Kind::Cookie, name);
            let place = Place {
                kind: Kind::Cookie,
                name,
            };
            self.look(place, Places::COOKIE, value);
            if let Some(plain) = unquoted(value) {
                self.look(place, Places::COOKIE, &plain);
            }
        }
    }

    /// The name of a parameter, a field or a key.
    pub(super) fn name(&mut self, kind: Kind, name: &[u8]) {
        self.look(Place { kind, name }, Places::NAME, name);
    }

    /// Looks at one value.
    pub(super) fn look(&mut self, place: Place<'_>, kind: Places, value: &[u8]) {
        self.look_without(Rules::default(), place, kind, value);
    }

    fn look_without(&mut self, off: Rules, place: Place<'_>, kind: Places, value: &[u8]) {
        let all_off = self.off.union(off);
        if self.score.total() >= self.book.threshold {
            return;
        }
        let mut found = Vec::new();
        self.book.engine.search(value, kind, all_off, &mut found);
        if found.is_empty() {
            return;
        }
        let off = self.book.off_at(self.path, place);
        // Once more, for what is an exception may have ended the search before the rest of it.
        if found.iter().any(|known| off.has(known.rule)) {
            found.clear();
            let off = all_off.union(off);
            self.book.engine.search(value, kind, off, &mut found);
        }
        if !found.is_empty() {
            self.score.value(&self.book.engine, place, found);
        }
    }

    /// Notes what is wrong with the request as such, by the name of the rule.
    pub(super) fn general(&mut self, rule: &str) {
        if let Some(rule) = self
            .book
            .engine
            .find(rule)
            .filter(|rule| !self.off.has(*rule))
        {
            self.score.general(&self.book.engine, rule);
        }
    }

    pub(super) fn verdict(&self) -> Option<Reply> {
        self.score.verdict(&self.book.engine, self.book.threshold)
    }
}

/// The parts before and behind the first `separator`; without one, all is a value, and a name.
fn split(pair: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == separator) {
        Some(at) => {
            let (name, value) = pair.split_at(at);
            (name, value.get(1..).unwrap_or_default())
        }
        None => (pair, pair),
    }
}

/// Whether a browser comes from a list of what was found: its query is what somebody wants to read about, and nothing
/// in it is written as browsers don't write it.
fn is_search(referer: &[u8]) -> bool {
    let Some(rest) = referer.strip_prefix(b"https://") else {
        return false;
    };
    let rest = rest.strip_prefix(b"www.").unwrap_or(rest);
    ENGINES.iter().any(|engine| rest.starts_with(engine))
        && !rest.iter().any(|byte| b"<>\"'`{}|\\ ".contains(byte))
}

/// What stands in quotes in a cookie, as some frameworks read it: `\073` is a byte, `\"` a quote. Nothing if it has no
/// quotes or nothing is escaped.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let inner = value.strip_prefix(b"\"")?;
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    if !inner.contains(&b'\\') {
        return None;
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut rest = inner;
    loop {
        rest = match *rest {
            [
                b'\\',
                high @ b'0'..=b'3',
                middle @ b'0'..=b'7',
                low @ b'0'..=b'7',
                ref after @ ..,
            ] => {
                plain.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                after
            }
            [b'\\', byte, ref after @ ..] | [byte, ref after @ ..] => {
                plain.push(byte);
                after
            }
            [] => return Some(plain),
        };
    }
}

/// As a form is decoded: `+` is a blank, `%41` a byte.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None if *byte == b'+' => out.push(b' '),
            None => out.push(*byte),
        }
    }
    Cow::Owned(out)
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

const ENGINES: [&[u8]; 7] = [
    b"google.com/search?",
    b"bing.com/search?",
    b"duckduckgo.com/?",
    b"search.yahoo.com/search?",
    b"ecosia.org/search?",
    b"yandex.com/search/?",
    b"search.brave.com/search?",
];
/// What no plain segment of a path has.
const ODD_IN_SEGMENT: [char; 12] = ['%', '\'', '"', '(', ';', '<', '=', '$', '{', '*', '|', '`'];
/// More parameters than these are not looked at, and not let in.
const MOST_PAIRS: usize = 1_000;
const KNOWN: [HeaderName; 22] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DNT,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::PRAGMA,
    header::RANGE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE_INSECURE_REQUESTS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once() {
        for (text, plain) in [
            ("a+b", "a b"),
            ("a%2Bb", "a+b"),
            ("%2541", "%41"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%e2%82%ac", "€"),
        ] {
            assert_eq!(&*decoded(text.as_bytes()), plain.as_bytes(), "{text}");
        }
        assert!(matches!(decoded(b"plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_escaped_in_a_cookie_in_quotes_is_decoded() {
        assert_eq!(
            unquoted(br#""1\047 or \"a\"\\""#).as_deref(),
            Some(&br#"1' or "a"\"#[..])
        );
        assert_eq!(unquoted(br#""\47\"#).as_deref(), Some(&br"47\"[..]));
        assert_eq!(unquoted(br"1\047"), None);
        assert_eq!(unquoted(b"\"plain\""), None);
    }

    #[test]
    fn a_pair_without_a_sign_is_a_name_and_a_value() {
        assert_eq!(split(b"a=b=c", b'='), (&b"a"[..], &b"b=c"[..]));
        assert_eq!(split(b"a", b'='), (&b"a"[..], &b"a"[..]));
        assert_eq!(split(b"=a", b'='), (&b""[..], &b"a"[..]));
    }
}
