//! The search through a body that comes in pieces.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use edgeway_sdk::{
    prelude::*,
    template::{Source, Variable},
};
use regex_automata::{Anchored, Input, Match, meta::Regex};

use super::escape::Escape;

/// What is looked for, and what comes in its place. A pattern and its text have the same number.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) regex: Regex,
    pub(super) reach: Reach,
    pub(super) texts: Vec<To>,
    pub(super) once: bool,
}

/// How far has to be looked to know what begins at a place.
#[derive(Debug)]
pub(super) enum Reach {
    /// As far as these texts go on as the body does.
    Literals(Vec<Box<[u8]>>),
    /// So many bytes.
    Patterns(usize),
}

/// What comes in the place of something.
#[derive(Debug)]
pub(super) struct To {
    pub(super) is_raw: bool,
    pub(super) parts: Vec<Out<Variable>>,
}

/// A part of what comes in the place of something, where values of the request are `V`.
#[derive(Debug)]
pub(super) enum Out<V> {
    Text(Box<[u8]>),
    /// What a group has found.
    Group(usize),
    Value(V),
}

/// What is put in, for one request.
pub(super) type Texts = Vec<Vec<Out<Infallible>>>;

impl Search {
    /// Writes the values of a request where they stand.
    pub(super) fn render(&self, source: &impl Source, escape: Escape) -> Texts {
        let render = |to: &To| {
            let escape = if to.is_raw { Escape::Nothing } else { escape };
            let part = |part: &Out<Variable>| match part {
                Out::Text(text) => Out::Text(text.clone()),
                Out::Group(group) => Out::Group(*group),
                Out::Value(variable) => {
                    let mut text = String::new();
                    escape.write(&variable.value(source).unwrap_or_default(), &mut text);
                    Out::Text(text.into_bytes().into())
                }
            };
            to.parts.iter().map(part).collect()
        };
        self.texts.iter().map(render).collect()
    }
}

/// A body in which texts are replaced.
pub(super) struct Substituting {
    search: Arc<Search>,
    texts: Texts,
    /// Some bytes that have gone on, for what looks behind itself, and what is held back.
    buffer: Vec<u8>,
    /// Where that begins which is held back.
    decided: usize,
    /// Which replacements are not made any more.
    spent: Vec<bool>,
}

/// A part of the buffer that can be searched now.
struct Window {
    /// How far a text may reach.
    end: usize,
    /// What begins here or behind is not known yet.
    unknown: usize,
}

impl Substituting {
    pub(super) fn new(search: Arc<Search>, texts: Texts) -> Self {
        Self {
            spent: vec![false; texts.len()],
            search,
            texts,
            buffer: Vec::new(),
            decided: 0,
        }
    }

    /// None if more of the body is needed.
    fn window(&self, end: bool) -> Option<Window> {
        let length = self.buffer.len();
        let whole = Window {
            end: length,
            unknown: length,
        };
        let rest = self.buffer.get(self.decided..)?;
        match &self.search.reach {
            _ if rest.is_empty() => None,
            Reach::Literals(_) if end => Some(whole),
            Reach::Literals(texts) => {
                let unknown = length - beginning(rest, texts);
                (unknown > self.decided).then_some(Window {
                    end: length,
                    unknown,
                })
            }
            // What is decided must not depend on how much has come by chance.
            Reach::Patterns(most)
                if rest.len() > 2 * most + LOOK || (end && rest.len() > 2 * most) =>
            {
                Some(Window {
                    end: self.decided + 2 * most,
                    unknown: self.decided + most,
                })
            }
            Reach::Patterns(_) => end.then_some(whole),
        }
    }

    /// Decides on a window, at least on a byte of it.
    fn pass(&mut self, window: &Window, out: &mut Vec<u8>) {
        while self.decided < window.unknown {
            let input = Input::new(&self.buffer).span(self.decided..window.end);
            let found = self.search.regex.search(&input);
            let found = found.filter(|found| found.start() < window.unknown);
            let until = found.as_ref().map_or(window.unknown, Match::start);
            out.extend_from_slice(&self.buffer[self.decided..until]);
            self.decided = until;
            let Some(found) = found else { return };
            self.replace(&found, window.end, out);
            self.decided = found.end();
            if matches!(self.search.reach, Reach::Patterns(_)) {
                // The next window begins here.
                return;
            }
        }
    }

    fn replace(&mut self, found: &Match, end: usize, out: &mut Vec<u8>) {
        let number = found.pattern().as_usize();
        if self.spent[number] {
            return out.extend_from_slice(&self.buffer[found.range()]);
        }
        self.spent[number] = self.search.once;
        let text = &self.texts[number];
        let mut groups = None;
        if text.iter().any(|part| matches!(part, Out::Group(_))) {
            let mut captures = self.search.regex.create_captures();
            let input = Input::new(&self.buffer).span(found.start()..end);
            let input = input.anchored(Anchored::Pattern(found.pattern()));
            self.search.regex.search_captures(&input, &mut captures);
            groups = Some(captures);
        }
        for part in text {
            match part {
                Out::Text(text) => out.extend_from_slice(text),
                Out::Group(group) => {
                    let span = groups.as_ref().and_then(|groups| groups.get_group(*group));
                    out.extend_from_slice(span.map_or(&[], |span| &self.buffer[span.range()]));
                }
                Out::Value(never) => match *never {},
            }
        }
    }

    /// Forgets what nobody looks at any more.
    fn forget(&mut self) {
        let keep = match self.search.reach {
            Reach::Literals(_) => 0,
            Reach::Patterns(_) => LOOK.min(self.decided),
        };
        self.buffer.drain(..self.decided - keep);
        self.decided = keep;
    }
}

impl BodyEdit for Substituting {
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes> {
        if self.decided == self.buffer.len() && self.spent.iter().all(|spent| *spent) {
            return Ok(piece);
        }
        self.buffer.extend_from_slice(&piece);
        let mut out = Vec::with_capacity(self.buffer.len() - self.decided);
        while let Some(window) = self.window(end) {
            self.pass(&window, &mut out);
        }
        self.forget();
        Ok(out.into())
    }
}

/// How many of the last bytes may be the beginning of one of the texts.
fn beginning(body: &[u8], texts: &[Box<[u8]>]) -> usize {
    let of = |text: &[u8]| {
        let most = (text.len() - 1).min(body.len());
        let mut lengths = (1..=most).rev();
        lengths.find(|length| body.ends_with(&text[..*length]))
    };
    texts.iter().filter_map(|text| of(text)).max().unwrap_or(0)
}

/// How far a pattern looks beyond itself: one letter, for `\b` and its like.
const LOOK: usize = 4;
