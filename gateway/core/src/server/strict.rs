//! Heads that can be read in one way only.
//!
//! Pingora's parser forgives: it takes a line that ends without CR, writes `%20` where a target has a
//! space, and believes the last of several transfer codings. Whoever stands before or behind us may read
//! such a head otherwise, and see two requests where we see one. So each is looked at first, as it comes,
//! by the letter of RFC 9112, and what has two readings is refused.

use memchr::{memchr, memchr2};

/// The head of a request, as far as it has come. Needs no allocation.
#[derive(Debug, Default)]
pub(super) struct Scan {
    place: Place,
    length: usize,
    target: usize,
    lines: usize,
    field: Field,
    /// The name of the field, or its value if that matters.
    word: Word,
    /// `Content-Length` has come.
    measured: bool,
    /// `Transfer-Encoding` has come.
    chunked: bool,
    /// The client speaks HTTP/1.0.
    old: bool,
    fault: Option<Fault>,
}

/// What is known of a head after the bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The head is well so far, and all bytes belong to it.
    More,
    /// The head ends after so many of the bytes.
    End(usize),
    /// No head goes on like that, whatever comes after it.
    Malformed,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Anything but the others.
    Syntax,
    /// There is such a version, but not here.
    Version,
    /// There is a transfer coding beside `chunked`.
    Coding,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The request. One empty line before it is forgiven (RFC 9112, 2.2): old clients end bodies so.
    #[default]
    Start,
    EmptyEnd,
    MethodStart,
    Method,
    Target,
    /// So many bytes of the version have come.
    Version(u8),
    LineEnd,
    FieldStart,
    Name,
    Value,
    ValueEnd,
    HeadEnd,
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    Length,
    Coding,
}

impl Scan {
    /// Looks at the bytes that have come next. It does not matter how they are cut into pieces.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Verdict {
        let mut rest = bytes;
        loop {
            if self.fault.is_some() {
                return Verdict::Malformed;
            }
            if self.place == Place::End {
                return Verdict::End(bytes.len() - rest.len());
            }
            let Some(first) = rest.first() else {
                return Verdict::More;
            };
            match self.take(*first, rest) {
                Ok(taken) => {
                    self.length += taken;
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Err(fault) => self.fault = Some(fault),
            }
        }
    }

    /// How many bytes of the head have come.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// How many bytes of the request target have come.
    pub(super) fn target_length(&self) -> usize {
        self.target
    }

    /// How many fields have begun.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// The status with which a malformed head is answered.
    pub(super) fn status(&self) -> u16 {
        match self.fault {
            Some(Fault::Syntax) | None => 400,
            Some(Fault::Coding) => 501,
            Some(Fault::Version) => 505,
        }
    }

    /// Takes some of the bytes, of which this is the first, and tells how many. If none, something else
    /// is expected now.
    fn take(&mut self, first: u8, bytes: &[u8]) -> Result<usize, Fault> {
        match self.place {
            Place::Start if first == b'\r' => Ok(self.one(Place::EmptyEnd)),
            Place::Start => Ok(self.none(Place::MethodStart)),
            Place::EmptyEnd => self.end(first, Place::MethodStart),
            Place::MethodStart if is_token(first) => Ok(self.none(Place::Method)),
            Place::Method => self.token(bytes, b' ', Place::Target),
            Place::Target => self.target(bytes),
            Place::Version(place) => self.version(first, place),
            Place::LineEnd => self.end(first, Place::FieldStart),
            Place::FieldStart if first == b'\r' => Ok(self.one(Place::HeadEnd)),
            Place::FieldStart if is_token(first) => {
                self.lines += 1;
                self.word = Word::default();
                Ok(self.none(Place::Name))
            }
            // Also the blank by which a value was once continued on the next line (RFC 9112, 5.2).
            Place::MethodStart | Place::FieldStart => Err(Fault::Syntax),
            Place::Name => self.name(bytes),
            Place::Value => self.value(bytes),
            Place::ValueEnd => self.end(first, Place::FieldStart),
            Place::HeadEnd => self.end(first, Place::End),
            Place::End => Ok(0),
        }
    }

    fn none(&mut self, next: Place) -> usize {
        self.place = next;
        0
    }

    fn one(&mut self, next: Place) -> usize {
        self.place = next;
        1
    }

    /// The LF that ends a line.
    fn end(&mut self, byte: u8, next: Place) -> Result<usize, Fault> {
        match byte {
            b'\n' => Ok(self.one(next)),
            _ => Err(Fault::Syntax),
        }
    }

    /// A token and what must follow it.
    fn token(&mut self, bytes: &[u8], until: u8, next: Place) -> Result<usize, Fault> {
        let length = bytes.iter().take_while(|byte| is_token(**byte)).count();
        match bytes.get(length) {
            None => Ok(length),
            Some(byte) if *byte == until => {
                self.place = next;
                Ok(length + 1)
            }
            Some(_) => Err(Fault::Syntax),
        }
    }

    fn target(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let end = memchr(b' ', bytes);
        let target = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        self.target += target.len();
        if self.target == 0 || !all(target, is_of_target) {
            return Err(Fault::Syntax);
        }
        if end.is_some() {
            self.place = Place::Version(0);
        }
        Ok(target.len() + usize::from(end.is_some()))
    }

    /// One more byte of the version. Pingora would not wait for the next one if it can't be one of ours.
    fn version(&mut self, byte: u8, place: u8) -> Result<usize, Fault> {
        match VERSION.get(usize::from(place)) {
            Some(b'1') if byte == b'1' => self.old = false,
            Some(b'1') if byte == b'0' && place == MINOR => self.old = true,
            Some(b'1') if byte.is_ascii_digit() => return Err(Fault::Version),
            Some(letter) if *letter == byte => {}
            None if byte == b'\r' => return Ok(self.one(Place::LineEnd)),
            Some(_) | None => return Err(Fault::Syntax),
        }
        Ok(self.one(Place::Version(place + 1)))
    }

    fn name(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let used = self.token(bytes, b':', Place::Value)?;
        self.word.push(bytes.get(..used).unwrap_or_default());
        if self.place == Place::Value {
            self.field = if self.word.is("content-length:") {
                Field::Length
            } else if self.word.is("transfer-encoding:") {
                Field::Coding
            } else {
                Field::Other
            };
            self.word = Word::default();
        }
        Ok(used)
    }

    fn value(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let end = memchr2(b'\r', b'\n', bytes);
        let value = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        if !all(value, is_of_value) {
            return Err(Fault::Syntax);
        }
        if self.field != Field::Other {
            self.word.push(value);
        }
        match end.and_then(|end| bytes.get(end)) {
            None => Ok(value.len()),
            Some(b'\r') => {
                self.framed()?;
                self.place = Place::ValueEnd;
                Ok(value.len() + 1)
            }
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Judges the field that ends here, if it frames the body. Only one may, and only once.
    fn framed(&mut self) -> Result<(), Fault> {
        let word = self.word.trimmed();
        match self.field {
            Field::Other => return Ok(()),
            Field::Length if is_length(word) => {}
            Field::Length => return Err(Fault::Syntax),
            Field::Coding => coding(word)?,
        }
        // HTTP/1.0 knows no codings, and who does not know one looks at nothing else.
        if self.measured || self.chunked || (self.old && self.field == Field::Coding) {
            return Err(Fault::Syntax);
        }
        self.measured = self.field == Field::Length;
        self.chunked = self.field == Field::Coding;
        Ok(())
    }
}

/// A number without a sign, of fewer digits than could overflow anywhere.
fn is_length(word: Option<&[u8]>) -> bool {
    word.is_some_and(|digits| {
        (1..=18).contains(&digits.len()) && all(digits, |byte| byte.is_ascii_digit())
    })
}

/// Nothing but chunks.
///
/// # Errors
///
/// The end of the body is not known then (RFC 9112, 6.3), or it is coded in a way that nobody behind us
/// would be told of.
fn coding(word: Option<&[u8]>) -> Result<(), Fault> {
    match word {
        Some(b"chunked") => Ok(()),
        Some(b"gzip, chunked" | b"deflate, chunked" | b"compress, chunked") => Err(Fault::Coding),
        _ => Err(Fault::Syntax),
    }
}

/// A few bytes, in lower case.
#[derive(Debug, Default)]
struct Word {
    bytes: [u8; 24],
    /// How many there were, which may be more.
    length: usize,
}

impl Word {
    fn push(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(more) {
            *place = byte.to_ascii_lowercase();
        }
        self.length += more.len();
    }

    /// Whether these are all there were.
    fn is(&self, word: &str) -> bool {
        self.bytes.get(..self.length) == Some(word.as_bytes())
    }

    /// All there were, without blanks at both ends; none if they were too many.
    fn trimmed(&self) -> Option<&[u8]> {
        let all = self.bytes.get(..self.length)?;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = all
            .iter()
            .position(|byte| !blank(byte))
            .unwrap_or(all.len());
        let end = all
            .iter()
            .rposition(|byte| !blank(byte))
            .map_or(start, |last| last + 1);
        all.get(start..end)
    }
}

/// Of what names and methods are made (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut token = [false; 256];
        let others = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < 256 {
            token[at] = (at as u8).is_ascii_alphanumeric();
            at += 1;
        }
        at = 0;
        while at < others.len() {
            token[others[at] as usize] = true;
            at += 1;
        }
        token
    };
    TOKEN[usize::from(byte)]
}

/// What is visible and no fragment. That is more than RFC 3986 has: browsers send `|` and braces, and
/// others letters of all kinds.
fn is_of_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

/// Anything but controls.
fn is_of_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// Whether all bytes are such. Looks at each of them, which is faster than to stop at the first other one.
fn all(bytes: &[u8], such: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & such(*byte))
}

const VERSION: &[u8] = b"HTTP/1.1";
const MINOR: u8 = 7;

#[cfg(test)]
mod tests;
