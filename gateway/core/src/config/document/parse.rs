//! From YAML events to nodes.
//!
//! Everything is bounded here, so that what reads the tree later may recurse: the depth, the
//! number of nodes, and the number of nodes that a tree with its aliases written out would have.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{Document, FileId, Kind, NodeId, Parent, Place, Scalar, Style};
use crate::config::diagnostic::{Diagnostic, Problems};

/// How deep lists and maps may be nested, aliases included.
const DEPTH: usize = 128;

/// How many nodes a document may have, with its aliases written out.
const NODES: usize = 1_000_000;

/// Parses the text of `file`. Returns its top node, or nothing if the file is empty or broken; a
/// broken file is marked so, and reported.
pub(super) fn parse(
    document: &mut Document,
    file: FileId,
    problems: &mut Problems,
) -> Option<NodeId> {
    let text = Rc::clone(&document.file(file).text);
    let mut builder = Builder {
        offsets: Offsets::new(&text),
        document,
        problems,
        file,
        open: Vec::new(),
        anchors: HashMap::new(),
        top: None,
        expanded: 0,
    };
    match builder.run(&text) {
        Ok(()) => builder.top,
        Err(Stop) => {
            builder.document.complete = false;
            if let Some(file) = builder.document.files.get_mut(file.0 as usize) {
                file.broken = true;
            }
            None
        }
    }
}

/// The rest of the file can't be read; the reason has been reported.
struct Stop;

struct Builder<'a> {
    document: &'a mut Document,
    problems: &'a mut Problems,
    file: FileId,
    offsets: Offsets,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    top: Option<NodeId>,
    expanded: usize,
}

/// A list or map whose end has not been seen.
struct Open {
    node: NodeId,
    anchor: usize,
    /// The elements of a list; keys and values of a map by turns.
    children: Vec<NodeId>,
    end: u32,
    extent: Extent,
}

/// How large a node is when its aliases are written out.
#[derive(Clone, Copy)]
struct Extent {
    nodes: usize,
    height: usize,
}

struct Anchored {
    node: NodeId,
    extent: Extent,
}

impl Builder<'_> {
    fn run(&mut self, text: &str) -> Result<(), Stop> {
        for event in Parser::<'_, StrInput<'_>>::new_from_str(text) {
            match event {
                Ok((event, span)) => self.event(event, span)?,
                Err(error) => return self.stop(syntax_error(text, &error, self.place_of(&error))),
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let place = self.place(span);
        match event {
            Event::DocumentStart(_) if self.top.is_some() => self.stop(
                Diagnostic::error("a file holds one YAML document")
                    .at(place)
                    .help("remove the `---`, or move what follows to a file of its own"),
            ),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                let style = self.style(style, tag.as_deref(), place);
                let kind = Kind::Scalar(Scalar::new(text.into_owned(), style));
                let place = self.without_space(place);
                let node = self.add(kind, place)?;
                self.finish(
                    node,
                    anchor,
                    Extent {
                        nodes: 1,
                        height: 0,
                    },
                    place.end,
                );
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", place);
                self.begin(Kind::Sequence(Vec::new()), anchor, place)
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", place);
                self.begin(Kind::Mapping(Vec::new()), anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end(place);
                Ok(())
            }
        }
    }

    fn begin(&mut self, kind: Kind, anchor: usize, place: Place) -> Result<(), Stop> {
        if self.open.len() >= DEPTH {
            return self.stop(too_deep().at(place));
        }
        let node = self.add(kind, place)?;
        let extent = Extent {
            nodes: 1,
            height: 1,
        };
        self.open.push(Open {
            node,
            anchor,
            children: Vec::new(),
            end: place.end,
            extent,
        });
        Ok(())
    }

    fn end(&mut self, place: Place) {
        let Some(open) = self.open.pop() else { return };
        // Only `]` and `}` have a width; a block ends where its last value does.
        let end = if place.start < place.end {
            place.end
        } else {
            open.end
        };
        let kind = match self.document.kind(open.node) {
            Kind::Mapping(_) => Kind::Mapping(self.entries(&open.children)),
            Kind::Sequence(_) | Kind::Scalar(_) => Kind::Sequence(open.children),
        };
        let node = self.document.node_mut(open.node);
        node.kind = kind;
        node.place.end = end.max(node.place.start);
        self.finish(open.node, open.anchor, open.extent, end);
    }

    /// Makes a node whose parent is the innermost open list or map.
    fn add(&mut self, kind: Kind, place: Place) -> Result<NodeId, Stop> {
        if self.document.nodes.len() + self.expanded >= NODES {
            return self.stop(too_large().at(place));
        }
        let parent = self.parent(NodeId(
            u32::try_from(self.document.nodes.len()).unwrap_or(0),
        ));
        Ok(self.document.add_node(kind, place, parent))
    }

    fn parent(&self, child: NodeId) -> Parent {
        let Some(open) = self.open.last() else {
            return Parent::Root;
        };
        let index = open.children.len();
        match self.document.kind(open.node) {
            Kind::Mapping(_) => {
                let key = open.children.last().filter(|_| index % 2 == 1).copied();
                Parent::Entry {
                    mapping: open.node,
                    key: key.unwrap_or(child),
                }
            }
            Kind::Sequence(_) | Kind::Scalar(_) => Parent::Element {
                sequence: open.node,
                index,
            },
        }
    }

    /// Hands a node that is complete to its parent, and remembers it if it has an anchor.
    fn finish(&mut self, node: NodeId, anchor: usize, extent: Extent, end: u32) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node, extent });
        }
        let Some(open) = self.open.last_mut() else {
            self.top = Some(node);
            return;
        };
        open.children.push(node);
        open.end = open.end.max(end);
        open.extent.nodes = open.extent.nodes.saturating_add(extent.nodes);
        open.extent.height = open.extent.height.max(extent.height + 1);
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some(Anchored { node, extent }) = self.anchors.get(&anchor) else {
            return self.stop(
                Diagnostic::error("an alias stands inside the value that it repeats").at(place),
            );
        };
        let (node, extent) = (*node, *extent);
        if self.open.len() + extent.height > DEPTH {
            return self.stop(too_deep().at(place));
        }
        self.expanded = self.expanded.saturating_add(extent.nodes);
        if self.document.nodes.len().saturating_add(self.expanded) > NODES {
            return self.stop(too_large().at(place));
        }
        self.finish(node, 0, extent, place.end);
        Ok(())
    }

    /// Pairs keys and values; refuses keys that are not words or were there before.
    fn entries(&mut self, children: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let mut entries = Entries::default();
        let mut merged = Vec::new();
        for pair in children.chunks_exact(2) {
            let &[key, value] = pair else { continue };
            self.place_of_nothing(key, value);
            match self.key(key) {
                Some(name) if &*name == "<<" => merged.push(value),
                Some(name) => {
                    if let Some(first) = entries.insert(name, key, value) {
                        self.twice(key, first);
                    }
                }
                None => {}
            }
        }
        for value in merged {
            self.merge(&mut entries, value);
        }
        entries.list
    }

    fn key(&mut self, key: NodeId) -> Option<Rc<str>> {
        let place = self.document.place(key);
        match self.document.text(key) {
            Some("") => self
                .problems
                .push(Diagnostic::error("a key is missing here").at(place)),
            Some(text) => return Some(text.into()),
            None => self.problems.push(
                Diagnostic::error("a key is a word, not a list or a map")
                    .at(place)
                    .help("text with `{` or `[` at its beginning needs quotes"),
            ),
        }
        None
    }

    fn twice(&mut self, key: NodeId, first: NodeId) {
        let name = self.document.text(key).unwrap_or_default();
        let problem = Diagnostic::error(format!("the key `{name}` is there twice"));
        self.problems
            .push(problem.at(key).also(first, "first here"));
    }

    /// Adds the entries of the maps under `<<` that the map has not itself.
    fn merge(&mut self, entries: &mut Entries, value: NodeId) {
        let sources = match self.document.kind(value) {
            Kind::Sequence(sources) => sources.clone(),
            Kind::Mapping(_) | Kind::Scalar(_) => vec![value],
        };
        for source in sources {
            if !matches!(self.document.kind(source), Kind::Mapping(_)) {
                let problem = Diagnostic::error("`<<` takes a map, or a list of maps");
                self.problems.push(problem.at(source));
            }
            for (key, value) in self.document.entries(source) {
                if let Some(name) = self.document.text(*key) {
                    entries.insert(name.into(), *key, *value);
                }
            }
        }
    }

    /// A value that was left out has no text to point at, so its key is where it stands.
    fn place_of_nothing(&mut self, key: NodeId, value: NodeId) {
        let place = self.document.place(key);
        let left_out = matches!(self.document.kind(value), Kind::Scalar(scalar)
            if scalar.text().is_empty() && scalar.style() == Style::Plain);
        if left_out && self.document.key_of(value) == Some(key) {
            self.document.node_mut(value).place = place;
        }
    }

    fn style(&mut self, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Style {
        let written = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        match tag.map(|tag| (tag.is_yaml_core_schema(), tag.suffix.as_str())) {
            None => written,
            Some((true, "str")) | Some((false, "!")) => match written {
                Style::Plain | Style::Quoted => Style::Quoted,
                Style::Block => Style::Block,
            },
            Some((true, "int" | "float" | "bool" | "null")) => Style::Plain,
            Some(_) => {
                self.unknown_tag(place);
                written
            }
        }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, own: &str, place: Place) {
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema() || tag.suffix != own) {
            self.unknown_tag(place);
        }
    }

    fn unknown_tag(&mut self, place: Place) {
        let problem = Diagnostic::error("a YAML tag has no effect here");
        self.problems.push(
            problem
                .at(place)
                .help("remove the word that begins with `!`"),
        );
    }

    fn stop<T>(&mut self, problem: Diagnostic) -> Result<T, Stop> {
        self.problems.push(problem);
        Err(Stop)
    }

    fn place(&self, span: Span) -> Place {
        let start = self.offsets.byte(span.start);
        let end = self.offsets.byte(span.end).max(start);
        Place {
            file: self.file,
            start,
            end,
        }
    }

    /// The parser counts the space behind a quoted scalar as part of it.
    fn without_space(&self, place: Place) -> Place {
        let text = self
            .document
            .file(self.file)
            .text
            .get(place.start as usize..place.end as usize);
        let text = text.unwrap_or_default();
        let space = text.len() - text.trim_end().len();
        Place {
            end: place.end - u32::try_from(space).unwrap_or(0),
            ..place
        }
    }

    fn place_of(&self, error: &ScanError) -> Place {
        let start = self.offsets.byte(*error.marker());
        Place {
            file: self.file,
            start,
            end: start,
        }
    }
}

/// The entries of a map, found by name.
#[derive(Default)]
struct Entries {
    list: Vec<(NodeId, NodeId)>,
    keys: HashMap<Rc<str>, NodeId>,
}

impl Entries {
    /// Adds an entry, or returns the key of the one that has its name already.
    fn insert(&mut self, name: Rc<str>, key: NodeId, value: NodeId) -> Option<NodeId> {
        if let Some(first) = self.keys.get(&name) {
            return Some(*first);
        }
        self.keys.insert(name, key);
        self.list.push((key, value));
        None
    }
}

/// The parser counts characters; we count bytes.
struct Offsets {
    /// Where each character begins, and the end; empty if every character is one byte.
    starts: Vec<u32>,
    end: u32,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let starts = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| number(at)).collect()
        };
        Self {
            starts,
            end: number(text.len()),
        }
    }

    fn byte(&self, mark: Marker) -> u32 {
        if self.starts.is_empty() {
            return u32::try_from(mark.index())
                .unwrap_or(self.end)
                .min(self.end);
        }
        self.starts.get(mark.index()).copied().unwrap_or(self.end)
    }
}

fn too_deep() -> Diagnostic {
    Diagnostic::error(format!("lists and maps are nested more than {DEPTH} deep"))
}

fn too_large() -> Diagnostic {
    Diagnostic::error(format!("the configuration has more than {NODES} values"))
        .help("an alias counts as often as it is used")
}

/// The parser's complaint in our words, with a remedy for what people usually get wrong.
fn syntax_error(text: &str, error: &ScanError, place: Place) -> Diagnostic {
    if let Some(tab) = tab_before(text, place.start as usize) {
        let at = u32::try_from(tab).unwrap_or(place.start);
        return Diagnostic::error("a tab can't indent YAML")
            .at(Place {
                start: at,
                end: at + 1,
                ..place
            })
            .help("indent with spaces");
    }
    let info = error.info();
    let reason = info
        .rsplit_once(", ")
        .filter(|_| info.starts_with("while "))
        .map_or(info, |(_, what)| what);
    Diagnostic::error(format!("this is not YAML: {reason}"))
        .at(place)
        .help_if(remedy(info))
}

fn remedy(info: &str) -> Option<&'static str> {
    let known = [
        (
            "mapping values are not allowed",
            "a text with `: ` in it needs quotes, and a key above this line needs its `:`",
        ),
        (
            "illegal placement of ':'",
            "a `[` or `{` above is not closed",
        ),
        ("in quoted scalar", "a quote is opened and not closed"),
        (
            "unknown anchor",
            "a text that begins with `*` needs quotes; an alias comes after its anchor, `&name`",
        ),
        (
            "did not find expected key",
            "align this line with the keys above it",
        ),
        (
            "expected '-' indicator",
            "indent it like the key beside the `-` above, or begin it with a `-` of its own",
        ),
        (
            "simple key expect",
            "a key needs a `:` and a space after it",
        ),
        (
            "found unknown escape character",
            "in double quotes, write `\\\\` for a backslash",
        ),
        (
            "unexpected end of stream",
            "a quote is opened and not closed",
        ),
        (
            "',' or '}'",
            "a `{` needs commas between its entries, and a `}`",
        ),
        (
            "',' or ']'",
            "a `[` needs commas between its elements, and a `]`",
        ),
    ];
    known
        .iter()
        .find(|(part, _)| info.contains(part))
        .map(|(_, remedy)| *remedy)
}

/// A tab in the indentation of the line where parsing stopped, or of the one before it.
fn tab_before(text: &str, at: usize) -> Option<usize> {
    let end = text
        .get(at..)?
        .find('\n')
        .map_or(text.len(), |length| at + length);
    let mut start = end;
    for line in text.get(..end)?.rsplit('\n').take(2) {
        start = start.saturating_sub(line.len());
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line.get(..indent).and_then(|indent| indent.find('\t')) {
            return Some(start + tab);
        }
        start = start.saturating_sub(1);
    }
    None
}
