//! The text of a configuration as a tree in which every value knows where it was written.
//!
//! A [`Document`] is one main file and the files it includes. Values are nodes of an arena, named
//! by [`NodeId`]; a node keeps its [`Place`] in its file and its parent, from which comes the path
//! that diagnostics print. An alias (`*name`) and a merge (`<<`) share the nodes of the anchor, so
//! a value written once has one place, wherever it is used.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::Problems;

mod include;
mod parse;
mod scalar;
mod sources;
mod written;

pub(crate) use scalar::{Scalar, Style, Value};
pub(crate) use sources::Sources;
pub(crate) use written::{MASK, Tree};

/// A file of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(u32);

/// A value or a key of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// The number under which serde may carry the node.
    pub(super) fn raw(self) -> u32 {
        self.0
    }

    /// The node with a number that [`NodeId::raw`] gave.
    pub(super) fn from_raw(number: u32) -> Self {
        Self(number)
    }
}

/// The empty map that stands for the top until a file has been read.
const NO_ROOT: NodeId = NodeId(0);

/// A piece of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A place as people name it. Line and column begin at one; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A word, a number, a text, or nothing.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<NodeId>),
    /// A map, in the order of the file: key and value. Keys are scalars, and differ.
    Mapping(Vec<(NodeId, NodeId)>),
}

/// Where a node hangs in its file.
#[derive(Clone, Copy, Debug)]
enum Parent {
    Root,
    /// The node is `key` or the value beside it.
    Entry {
        mapping: NodeId,
        key: NodeId,
    },
    Element {
        sequence: NodeId,
        index: usize,
    },
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    place: Place,
    parent: Parent,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    name: String,
    text: Rc<str>,
    /// Where each line begins, in bytes.
    lines: Vec<u32>,
    /// Whether parsing ended early, so that the tree does not know all the file's secrets.
    broken: bool,
}

/// The tree of a configuration, with its text.
#[derive(Debug)]
pub(crate) struct Document {
    files: Vec<File>,
    nodes: Vec<Node>,
    root: NodeId,
    complete: bool,
    sources: Sources,
}

impl Document {
    /// Reads the file at `path` and all that it includes.
    ///
    /// There always is a document: a part that can't be read is left out and reported, see
    /// [`Document::is_complete`].
    pub(crate) fn load(path: &Path, problems: &mut Problems) -> Self {
        let mut document = Self::empty();
        include::load(&mut document, path, problems);
        document
    }

    /// Reads `text` as if it stood in a file called `name`.
    #[cfg(test)]
    pub(crate) fn from_text(name: &str, text: &str, problems: &mut Problems) -> Self {
        let mut document = Self::empty();
        include::adopt(&mut document, Path::new(name), text, problems);
        document
    }

    fn empty() -> Self {
        let place = Place {
            file: FileId(0),
            start: 0,
            end: 0,
        };
        let root = Node {
            kind: Kind::Mapping(Vec::new()),
            place,
            parent: Parent::Root,
        };
        Self {
            files: Vec::new(),
            nodes: vec![root],
            root: NO_ROOT,
            complete: true,
            sources: Sources::default(),
        }
    }

    /// The map at the top of the main file, with what was included, and without `include`.
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// Whether every file could be read to its end. If not, names may be missing that are written
    /// somewhere, and complaints about missing names would mislead.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the main file could be read. If not, nothing can be said of what it holds.
    pub(crate) fn is_readable(&self) -> bool {
        self.complete || self.root != NO_ROOT
    }

    /// The files that were read, the main file first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// All files that it was made of or should have been, as they were when they were read.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What the node holds.
    pub(crate) fn kind(&self, node: NodeId) -> &Kind {
        &self.node(node).kind
    }

    /// Where the node is written.
    pub(crate) fn place(&self, node: NodeId) -> Place {
        self.node(node).place
    }

    /// The node's text, if it is a scalar.
    pub(crate) fn text(&self, node: NodeId) -> Option<&str> {
        match self.kind(node) {
            Kind::Scalar(scalar) => Some(scalar.text()),
            Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// The keys and values of a map; nothing for any other node.
    pub(crate) fn entries(&self, node: NodeId) -> &[(NodeId, NodeId)] {
        match self.kind(node) {
            Kind::Mapping(entries) => entries,
            Kind::Scalar(_) | Kind::Sequence(_) => &[],
        }
    }

    /// The elements of a list; nothing for any other node.
    pub(crate) fn elements(&self, node: NodeId) -> &[NodeId] {
        match self.kind(node) {
            Kind::Sequence(elements) => elements,
            Kind::Scalar(_) | Kind::Mapping(_) => &[],
        }
    }

    /// The key and value called `name` in the map `node`.
    pub(crate) fn entry(&self, node: NodeId, name: &str) -> Option<(NodeId, NodeId)> {
        self.entries(node)
            .iter()
            .copied()
            .find(|(key, _)| self.text(*key) == Some(name))
    }

    /// The key under which the node stands (itself, if it is a key), unless it stands in a list.
    pub(crate) fn key_of(&self, node: NodeId) -> Option<NodeId> {
        match self.node(node).parent {
            Parent::Entry { key, .. } => Some(key),
            Parent::Root | Parent::Element { .. } => None,
        }
    }

    /// Where to point if something is missing in a node: its key, or else its beginning.
    pub(super) fn heading(&self, node: NodeId) -> NodeId {
        let first = || self.entries(node).first().map(|(key, _)| *key);
        match self.node(node).parent {
            Parent::Entry { key, .. } => key,
            Parent::Element { .. } => node,
            Parent::Root => first().unwrap_or(node),
        }
    }

    /// The path of the node in its own file: `routes[0].match.host`. The top has none.
    pub(crate) fn path(&self, node: NodeId) -> Option<String> {
        let mut steps = Vec::new();
        let mut at = node;
        loop {
            match self.node(at).parent {
                Parent::Root => break,
                Parent::Entry { mapping, key } => {
                    steps.push(Step::Key(self.text(key).unwrap_or_default()));
                    at = mapping;
                }
                Parent::Element { sequence, index } => {
                    steps.push(Step::Index(index));
                    at = sequence;
                }
            }
        }
        (!steps.is_empty()).then(|| steps.iter().rev().fold(String::new(), Step::append))
    }

    /// File, line and column of the beginning of a place.
    pub(crate) fn position(&self, place: Place) -> Position<'_> {
        let file = self.file(place.file);
        let line = file.line_of(place.start);
        let start = file.lines.get(line).map_or(0, |start| *start as usize);
        let before = file
            .text
            .get(start..place.start as usize)
            .unwrap_or_default();
        Position {
            file: &file.name,
            line: line + 1,
            column: before.chars().count() + 1,
        }
    }

    /// The first line of a place, and where it begins.
    pub(super) fn line(&self, place: Place) -> (usize, &str) {
        let file = self.file(place.file);
        let range = file.range_of_line(place.start);
        let text = file.text.get(range.clone()).unwrap_or_default();
        (range.start, text.trim_end_matches(['\n', '\r']))
    }

    /// Whether the node's text must not be shown: it stands, alone or in a list, under a key that
    /// speaks of a secret, or is what a filter knows of one of its users; and it does not merely say
    /// where the secret is.
    pub(crate) fn is_secret(&self, node: NodeId) -> bool {
        let Kind::Scalar(scalar) = self.kind(node) else {
            return false;
        };
        if matches!(scalar.value(), Value::Null | Value::Bool(_)) || names_a_source(scalar.text()) {
            return false;
        }
        let mut at = node;
        while let Parent::Element { sequence, .. } = self.node(at).parent {
            at = sequence;
        }
        let Parent::Entry { mapping, key } = self.node(at).parent else {
            return false;
        };
        let name = self.text(key);
        // What a limit counts by is called so, too.
        let counts_by = name == Some("key") && scalar.text().starts_with('{');
        let named = name.is_some_and(speaks_of_a_secret) && !counts_by;
        key != node && (named || self.is_a_filters_users(mapping))
    }

    /// Whether a map is the `users` of a filter, and not a thing of this name.
    fn is_a_filters_users(&self, mapping: NodeId) -> bool {
        let mut names = self.ancestors(mapping).filter_map(|key| self.text(key));
        names.next() == Some("users") && names.any(|name| name == "filters")
    }

    /// The keys above a node, the nearest first.
    fn ancestors(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let up = |at: &NodeId| match self.node(*at).parent {
            Parent::Root => None,
            Parent::Entry { mapping, .. } => Some(mapping),
            Parent::Element { sequence, .. } => Some(sequence),
        };
        std::iter::successors(Some(node), up).filter_map(|at| self.key_of(at))
    }

    /// What must not be shown of the first line of a place, as ranges of the file, in order.
    pub(super) fn secrets(&self, place: Place) -> Vec<Range<usize>> {
        let file = self.file(place.file);
        let line = file.range_of_line(place.start);
        if file.broken {
            return Vec::from_iter(guessed_secret(&file.text, line));
        }
        let mut found: Vec<_> = (0..)
            .map(NodeId)
            .zip(&self.nodes)
            .filter(|(_, node)| node.place.file == place.file)
            .map(|(id, node)| (id, node.place.start as usize..node.place.end as usize))
            .filter(|(_, range)| range.start < line.end && range.end > line.start)
            .filter_map(|(id, range)| self.secret_part(id, range))
            .collect();
        found.sort_by_key(|range| range.start);
        found
    }

    /// What must not be shown of a node's text, which stands at `range` of its file.
    fn secret_part(&self, node: NodeId, range: Range<usize>) -> Option<Range<usize>> {
        if self.is_secret(node) {
            return Some(range);
        }
        self.text(node)?;
        let text = self.file(self.place(node).file).text.get(range.clone())?;
        let password = password_in_url(text)?;
        Some(range.start + password.start..range.start + password.end)
    }

    fn node(&self, node: NodeId) -> &Node {
        self.nodes
            .get(node.0 as usize)
            .expect("a node id comes from the document that holds it")
    }

    fn node_mut(&mut self, node: NodeId) -> &mut Node {
        self.nodes
            .get_mut(node.0 as usize)
            .expect("a node id comes from the document that holds it")
    }

    fn file(&self, file: FileId) -> &File {
        self.files
            .get(file.0 as usize)
            .expect("a place is made after its file was added")
    }

    fn add_file(&mut self, path: &Path, text: &str) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).expect("the number of files is bounded"));
        self.files.push(File::new(path, text));
        id
    }

    fn add_node(&mut self, kind: Kind, place: Place, parent: Parent) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("the number of nodes is bounded"));
        self.nodes.push(Node {
            kind,
            place,
            parent,
        });
        id
    }
}

impl File {
    fn new(path: &Path, text: &str) -> Self {
        // Sizes are bounded when a file is read; a longer text only loses its later lines' numbers.
        let breaks = text
            .match_indices('\n')
            .filter_map(|(at, _)| u32::try_from(at + 1).ok());
        Self {
            path: path.to_owned(),
            name: path.display().to_string(),
            text: text.into(),
            lines: std::iter::once(0).chain(breaks).collect(),
            broken: false,
        }
    }

    /// The number of the line, from zero, in which a byte is.
    fn line_of(&self, at: u32) -> usize {
        self.lines
            .partition_point(|start| *start <= at)
            .saturating_sub(1)
    }

    fn range_of_line(&self, at: u32) -> Range<usize> {
        let line = self.line_of(at);
        let bound = |line: usize| {
            self.lines
                .get(line)
                .map_or(self.text.len(), |at| *at as usize)
        };
        bound(line)..bound(line + 1)
    }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Step<'_> {
    fn append(mut path: String, step: &Self) -> String {
        match step {
            Self::Index(index) => path.push_str(&format!("[{index}]")),
            Self::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                let simple = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
                if !key.is_empty() && key.chars().all(simple) {
                    path.push_str(key);
                } else {
                    path.push_str(&format!("{key:?}"));
                }
            }
        }
        path
    }
}

fn speaks_of_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let said = |word: &&str| key.contains(*word);
    ["secret", "password", "token", "key"].iter().any(said) && !key.contains("public")
}

fn names_a_source(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

/// The password of `https://me:password@example.com`.
fn password_in_url(text: &str) -> Option<Range<usize>> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (name, password) = user.split_once(':')?;
    let start = scheme.len() + "://".len() + name.len() + 1;
    Some(start..start + password.len())
}

/// What may be a secret in a line, as far as a glance at the text can tell: for files that are not
/// YAML all through. Rather too much than too little.
fn guessed_secret(text: &str, line: Range<usize>) -> Option<Range<usize>> {
    let here = text.get(line.clone())?;
    if let Some(from) = after_secret_key(here) {
        return Some(line.start + from..line.end);
    }
    let above = text
        .get(..line.start)?
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty());
    let depth = indent(here) + usize::from(here.trim_start().starts_with('-'));
    let key = above.into_iter().find(|above| indent(above) < depth)?;
    after_secret_key(key).map(|_| line)
}

/// Where the value of the first secret key of a line begins.
fn after_secret_key(line: &str) -> Option<usize> {
    let mut end = 0;
    for part in line.split_inclusive(':') {
        end += part.len();
        let word = part.trim_end_matches([':', ' ', '"', '\'']);
        let word = word.rsplit(['{', ',', ' ']).next().unwrap_or(word);
        if part.ends_with(':') && (speaks_of_a_secret(word) || word == "users") {
            return Some(end);
        }
    }
    None
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests;
