//! Changes a document, and leaves every byte that it has no reason to change: numbers keep their digits, fields their
//! order, texts their escapes, and blanks their places.
//!
//! Nothing is taken for JSON that is not (RFC 8259): an application that reads more than that must not find in it what
//! was not found here.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{
    rules::{Node, Nodes, Put, Rules, Values},
    written::quoted,
};

/// Why a text is no document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    what: &'static str,
    /// After how many bytes.
    at: usize,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after {} bytes", self.what, self.at)
    }
}

/// What the document becomes. Each name that a rule speaks of is found as often as it stands there.
pub(super) fn rewrite(document: &[u8], rules: &Rules, values: &Values) -> Result<Vec<u8>, Wrong> {
    let text = std::str::from_utf8(document).map_err(|error| Wrong {
        what: "the text is not UTF-8",
        at: error.valid_up_to(),
    })?;
    let mut walk = Walk {
        reader: Reader::new(text.as_bytes()),
        values,
        out: Vec::with_capacity(text.len() + 64),
    };
    walk.reader.take(BOM);
    walk.reader.blanks();
    walk.keep(0);
    walk.value(&rules.root())?;
    let end = walk.reader.at;
    walk.reader.blanks();
    match walk.reader.peek() {
        None => walk.keep(end),
        Some(_) => return Err(walk.reader.wrong("there is more than one value")),
    }
    Ok(walk.out)
}

struct Walk<'t, 'v> {
    reader: Reader<'t>,
    values: &'v Values,
    out: Vec<u8>,
}

impl Walk<'_, '_> {
    /// Copies all from `start` to where the reader is.
    fn keep(&mut self, start: usize) {
        self.out.extend_from_slice(self.reader.since(start));
    }

    fn value(&mut self, nodes: &Nodes<'_>) -> Result<(), Wrong> {
        let is_leaf = nodes.iter().all(|node| node.is_leaf());
        match self.reader.peek() {
            Some(b'{') if !is_leaf => self.object(nodes),
            Some(b'[') if !is_leaf => self.array(nodes),
            _ => {
                let start = self.reader.at;
                self.reader.skip()?;
                self.keep(start);
                Ok(())
            }
        }
    }

    fn array(&mut self, nodes: &Nodes<'_>) -> Result<(), Wrong> {
        let below: Nodes<'_> = nodes.iter().flat_map(|node| node.element()).collect();
        let removes = below.iter().any(|node| node.removes);
        let mut is_first = true;
        let mut items = self.reader.open(b'[')?;
        self.out.push(b'[');
        while items.next(&mut self.reader)? {
            if removes {
                self.reader.skip()?;
            } else {
                self.separate(&items, &mut is_first);
                self.value(&below)?;
            }
            items.ends(&mut self.reader);
        }
        self.close(&items, b']');
        Ok(())
    }

    fn object(&mut self, nodes: &Nodes<'_>) -> Result<(), Wrong> {
        let renaming = self.renaming(nodes)?;
        let mut has = SmallVec::<[&str; 8]>::new();
        let mut is_first = true;
        let mut items = self.reader.open(b'{')?;
        self.out.push(b'{');
        let mut number = 0;
        while items.next(&mut self.reader)? {
            let key_start = self.reader.at;
            let key = self.reader.text()?;
            let key_end = self.reader.at;
            self.reader.colon()?;
            let below: Nodes<'_> = nodes.iter().flat_map(|node| node.field(&key)).collect();
            let new = renaming.of(&key);
            let name = new.map_or(&*key, |new| new.name);
            let is_dropped = below.iter().any(|node| node.removes)
                || new.is_some_and(|new| new.last != Some(number))
                || (new.is_none() && renaming.takes(&key))
                || puts(nodes, |node| &node.set).any(|put| &*put.name == name);
            if is_dropped {
                self.reader.skip()?;
            } else {
                let mut added = puts(nodes, |node| &node.add).map(|put| &*put.name);
                has.extend(added.find(|add| *add == name && !has.contains(add)));
                self.separate(&items, &mut is_first);
                match new {
                    Some(new) => self.out.extend_from_slice(quoted(new.name).as_bytes()),
                    None => self
                        .out
                        .extend_from_slice(self.reader.span(key_start, key_end)),
                }
                self.keep(key_end);
                self.value(&below)?;
            }
            items.ends(&mut self.reader);
            number += 1;
        }
        self.put(nodes, has, is_first);
        self.close(&items, b'}');
        Ok(())
    }

    /// Adds fields at the end, none twice.
    fn put<'n>(&mut self, nodes: &Nodes<'n>, mut has: SmallVec<[&'n str; 8]>, mut is_first: bool) {
        let set = puts(nodes, |node| &node.set);
        for put in set.chain(puts(nodes, |node| &node.add)) {
            let Some(value) = put.value(self.values) else {
                continue;
            };
            if has.contains(&&*put.name) {
                continue;
            }
            has.push(&put.name);
            if !is_first {
                self.out.push(b',');
            }
            is_first = false;
            self.out.extend_from_slice(quoted(&put.name).as_bytes());
            self.out.push(b':');
            self.out.extend_from_slice(value.as_bytes());
        }
    }

    /// Looks ahead for which fields get another name.
    fn renaming<'n>(&self, nodes: &Nodes<'n>) -> Result<Renaming<'n>, Wrong> {
        let new = |(old, name): (&'n str, &'n str)| New {
            old,
            name,
            last: None,
        };
        let mut renaming = Renaming(
            nodes
                .iter()
                .flat_map(|node| node.renames())
                .map(new)
                .collect(),
        );
        if renaming.0.is_empty() {
            return Ok(renaming);
        }
        let mut reader = self.reader.clone();
        let mut items = reader.open(b'{')?;
        let mut number = 0;
        while items.next(&mut reader)? {
            let key = reader.text()?;
            if let Some(new) = renaming.0.iter_mut().find(|new| new.old == key) {
                new.last = Some(number);
            }
            reader.colon()?;
            reader.skip()?;
            items.ends(&mut reader);
            number += 1;
        }
        Ok(renaming)
    }

    /// Copies the blanks before an item, and the comma if it is not the first.
    fn separate(&mut self, items: &Items, is_first: &mut bool) {
        if !*is_first {
            let (start, end) = items.trail;
            self.out.extend_from_slice(self.reader.span(start, end));
            self.out.push(b',');
        }
        *is_first = false;
        let (start, end) = items.lead;
        self.out.extend_from_slice(self.reader.span(start, end));
    }

    fn close(&mut self, items: &Items, end: u8) {
        let (start, last) = items.lead;
        self.out.extend_from_slice(self.reader.span(start, last));
        self.out.push(end);
    }
}

fn puts<'n, 'a>(
    nodes: &'a Nodes<'n>,
    of: impl Fn(&'n Node) -> &'n Vec<Put> + 'a,
) -> impl Iterator<Item = &'n Put> + 'a {
    nodes.iter().flat_map(move |node| of(node))
}

/// Which fields of an object get another name.
struct Renaming<'n>(SmallVec<[New<'n>; 2]>);

#[derive(Clone, Copy)]
struct New<'n> {
    old: &'n str,
    name: &'n str,
    /// Where the old name stands for the last time: that field is meant, and the others go.
    last: Option<usize>,
}

impl<'n> Renaming<'n> {
    fn of(&self, key: &str) -> Option<New<'n>> {
        self.0.iter().copied().find(|new| new.old == key)
    }

    /// Whether a field loses its name to another one.
    fn takes(&self, key: &str) -> bool {
        self.0
            .iter()
            .any(|new| new.name == key && new.last.is_some())
    }
}

/// A text that is read from its begin to its end.
#[derive(Clone)]
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    depth: usize,
}

/// The items of an array or an object.
struct Items {
    end: u8,
    /// The blanks before the comma before the item.
    trail: (usize, usize),
    /// The blanks before the item, or before the end.
    lead: (usize, usize),
    is_first: bool,
    /// Where the last item has ended.
    ended: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn span(&self, start: usize, end: usize) -> &'t [u8] {
        self.text.get(start..end).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'t [u8] {
        self.span(start, self.at)
    }

    fn take(&mut self, word: &[u8]) -> bool {
        let is_there = self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word));
        if is_there {
            self.at += word.len();
        }
        is_there
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The colon between a name and its value, and the blanks around it.
    fn colon(&mut self) -> Result<(), Wrong> {
        self.blanks();
        if !self.take(b":") {
            return Err(self.wrong("a colon is missing"));
        }
        self.blanks();
        Ok(())
    }

    /// Goes into an array or an object.
    fn open(&mut self, begin: u8) -> Result<Items, Wrong> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("it is nested too deep"));
        }
        self.at += 1;
        Ok(Items {
            end: if begin == b'{' { b'}' } else { b']' },
            trail: (self.at, self.at),
            lead: (self.at, self.at),
            is_first: true,
            ended: self.at,
        })
    }

    /// Passes a value, and sees that it is one.
    fn skip(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            Some(begin @ (b'{' | b'[')) => {
                let mut items = self.open(begin)?;
                while items.next(self)? {
                    if begin == b'{' {
                        self.string()?;
                        self.colon()?;
                    }
                    self.skip()?;
                    items.ends(self);
                }
                Ok(())
            }
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take(b"true") || self.take(b"false") || self.take(b"null") => Ok(()),
            _ => Err(self.wrong("a value is missing")),
        }
    }

    fn number(&mut self) -> Result<(), Wrong> {
        self.take(b"-");
        if !self.take(b"0") {
            self.digits()?;
        }
        if self.take(b".") {
            self.digits()?;
        }
        if self.take(b"e") || self.take(b"E") {
            let _signed = self.take(b"+") || self.take(b"-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.wrong("a digit is missing")),
        }
    }

    /// Passes a text. Tells whether there are escapes in it.
    fn string(&mut self) -> Result<bool, Wrong> {
        if !self.take(b"\"") {
            return Err(self.wrong("a quote is missing"));
        }
        let mut has_escapes = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err(self.wrong("a text has a control character in it")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a text does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        let digits = match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            _ => return Err(self.wrong("an escape is unknown")),
        };
        self.at += 1;
        let hexadecimal = self.text.get(self.at..self.at + digits);
        if !hexadecimal.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(self.wrong("an escape is not whole"));
        }
        self.at += digits;
        Ok(())
    }

    /// A text, without its escapes.
    fn text(&mut self) -> Result<Cow<'t, str>, Wrong> {
        let start = self.at;
        let has_escapes = self.string()?;
        let inside = self.span(start + 1, self.at - 1);
        Ok(match has_escapes {
            false => String::from_utf8_lossy(inside),
            true => Cow::Owned(unescaped(inside)),
        })
    }
}

impl Items {
    /// Goes to the next item, or behind the end.
    fn next(&mut self, reader: &mut Reader<'_>) -> Result<bool, Wrong> {
        reader.blanks();
        self.lead = (self.ended, reader.at);
        if reader.peek() == Some(self.end) {
            reader.at += 1;
            reader.depth -= 1;
            return Ok(false);
        }
        if !std::mem::take(&mut self.is_first) {
            if !reader.take(b",") {
                return Err(reader.wrong("a comma is missing"));
            }
            self.trail = self.lead;
            let comma = reader.at;
            reader.blanks();
            self.lead = (comma, reader.at);
        }
        Ok(true)
    }

    fn ends(&mut self, reader: &mut Reader<'_>) {
        self.ended = reader.at;
    }
}

/// Resolves escapes that were looked at before. What is no letter (half of a pair) becomes U+FFFD.
fn unescaped(text: &[u8]) -> String {
    let mut units = Vec::with_capacity(text.len());
    let text = String::from_utf8_lossy(text);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
            continue;
        }
        let unit = match chars.next() {
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => 0x0a,
            Some('r') => 0x0d,
            Some('t') => 0x09,
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(0xfffd)
            }
            other => other.map_or(0xfffd, |char| char as u16),
        };
        units.push(unit);
    }
    String::from_utf16_lossy(&units)
}

/// How deep a document may be nested.
const DEEPEST: usize = 128;
/// Which some write before a document, and which readers may pass over.
const BOM: &[u8] = b"\xef\xbb\xbf";
