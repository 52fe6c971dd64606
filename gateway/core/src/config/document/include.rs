//! The main file and the files it includes.
//!
//! `include: [sites-enabled/*.yaml]` is a list of patterns, relative to the folder of the file in
//! which they stand. An included file adds upstreams and routes, and may include further files.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Document, Kind, NodeId, Parent, Place, parse, sources::Stamp};
use crate::config::diagnostic::{Diagnostic, Problems, nearest, one_of};

/// How deep files may include files.
const DEPTH: usize = 16;

/// How many files a configuration may have.
const FILES: usize = 10_000;

/// How large a file may be, in bytes.
const SIZE: u64 = 64 << 20;

/// What an included file may have at its top.
const KEYS: [&str; 4] = ["include", "routes", "tests", "upstreams"];

/// Reads the main file and all it includes into an empty document.
pub(super) fn load(document: &mut Document, path: &Path, problems: &mut Problems) {
    let mut loader = Loader::new(document, problems);
    match loader.read(path) {
        Ok(bytes) => loader.main(path, &bytes),
        Err(reason) => {
            // The document has its main file even so: it is where the top is.
            loader.document.add_file(path, "");
            loader.refuse(Diagnostic::error(unreadable(path, &reason)));
        }
    }
}

/// Reads `text` as the main file, and all it includes, into an empty document.
#[cfg(test)]
pub(super) fn adopt(document: &mut Document, path: &Path, text: &str, problems: &mut Problems) {
    Loader::new(document, problems).main(path, text.as_bytes());
}

struct Loader<'a> {
    document: &'a mut Document,
    problems: &'a mut Problems,
    /// The real paths of the files read.
    seen: HashSet<PathBuf>,
}

impl<'a> Loader<'a> {
    fn new(document: &'a mut Document, problems: &'a mut Problems) -> Self {
        Self {
            document,
            problems,
            seen: HashSet::new(),
        }
    }

    fn main(&mut self, path: &Path, bytes: &[u8]) {
        self.seen.extend(path.canonicalize());
        if let Some(top) = self.parse(path, bytes) {
            self.document.root = top;
            self.follow(top, path, 0);
        }
    }

    /// Parses a file, down to the map at its top.
    fn parse(&mut self, path: &Path, bytes: &[u8]) -> Option<NodeId> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let file = self.document.add_file(path, &text);
        if let Err(error) = std::str::from_utf8(bytes) {
            // Up to here the lossy text is the file's; the mark is as wide as what replaces a byte.
            let start = u32::try_from(error.valid_up_to()).unwrap_or(u32::MAX);
            let place = Place {
                file,
                start,
                end: start.saturating_add(3),
            };
            self.document.complete = false;
            self.problems
                .push(Diagnostic::error("this is not UTF-8 text").at(place));
            return None;
        }
        let top = parse::parse(self.document, file, self.problems)?;
        match self.document.kind(top) {
            Kind::Mapping(_) => return Some(top),
            Kind::Scalar(scalar) if scalar.is_null() => {}
            Kind::Scalar(_) | Kind::Sequence(_) => {
                self.document.complete = false;
                let problem = Diagnostic::error("a configuration file is a map at its top");
                self.problems
                    .push(problem.at(top).help("it begins with a key, like `routes:`"));
            }
        }
        None
    }

    /// Reads what the file with the top node `top` includes.
    fn follow(&mut self, top: NodeId, path: &Path, depth: usize) {
        let Some((_, include)) = self.document.entry(top, "include") else {
            return;
        };
        if let Kind::Mapping(entries) = &mut self.document.node_mut(top).kind {
            entries.retain(|(_, value)| *value != include);
        }
        let Kind::Sequence(patterns) = self.document.kind(include) else {
            let problem = Diagnostic::error("`include` is a list of files");
            return self.refuse(problem.at(include).help("write `include: [sites/*.yaml]`"));
        };
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for pattern in patterns.clone() {
            for found in self.expand(pattern, folder) {
                self.included(&found, pattern, depth + 1);
            }
        }
    }

    /// The files that a pattern matches, sorted.
    fn expand(&mut self, node: NodeId, folder: &Path) -> Vec<PathBuf> {
        let Some(pattern) = self.document.text(node).filter(|text| !text.is_empty()) else {
            self.refuse(Diagnostic::error("expected the path of a file, or a pattern").at(node));
            return Vec::new();
        };
        if !pattern.contains(['*', '?', '[']) {
            return vec![folder.join(pattern)];
        }
        let escaped = glob::Pattern::escape(&folder.to_string_lossy());
        let full = Path::new(&escaped).join(pattern);
        let full = full.to_string_lossy().into_owned();
        let paths = match glob::glob(&full) {
            Ok(paths) => paths,
            Err(error) => {
                let problem =
                    Diagnostic::error(format!("`{pattern}` is no pattern: {}", error.msg));
                self.refuse(problem.at(node));
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for path in paths {
            match path {
                Ok(path) => found.push(path),
                Err(error) => {
                    let reason = error.error().to_string();
                    self.refuse(Diagnostic::error(unreadable(error.path(), &reason)).at(node));
                }
            }
        }
        found.sort();
        self.document.sources.matched(full, found.clone());
        found
    }

    /// The bytes of a file, which is noted.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let file = File::open(path);
        let stamp = file.as_ref().ok().and_then(|file| file.metadata().ok());
        let stamp = stamp.as_ref().map(Stamp::of);
        self.document.sources.read(path, stamp);
        file.map_err(|error| error.to_string()).and_then(read)
    }

    /// Reads one included file and adds what it has to the document.
    fn included(&mut self, path: &Path, pattern: NodeId, depth: usize) {
        if depth > DEPTH || self.seen.len() >= FILES {
            let problem = format!("more than {FILES} files, or includes more than {DEPTH} deep");
            return self.refuse(Diagnostic::error(problem).at(pattern));
        }
        if path
            .canonicalize()
            .is_ok_and(|real| !self.seen.insert(real))
        {
            let problem = format!("the file `{}` is included twice", path.display());
            let help = "include it in one place, and never in itself";
            return self.refuse(Diagnostic::error(problem).at(pattern).help(help));
        }
        let bytes = match self.read(path) {
            Ok(bytes) => bytes,
            Err(reason) => {
                return self.refuse(Diagnostic::error(unreadable(path, &reason)).at(pattern));
            }
        };
        let Some(top) = self.parse(path, &bytes) else {
            return;
        };
        self.only_known_keys(top);
        self.append_upstreams(top);
        self.append_list(top, "routes");
        self.append_list(top, "tests");
        self.follow(top, path, depth);
    }

    fn only_known_keys(&mut self, top: NodeId) {
        for (key, _) in self.document.entries(top) {
            let name = self.document.text(*key).unwrap_or_default();
            if KEYS.contains(&name) {
                continue;
            }
            let help = nearest(name, &KEYS).map_or_else(
                || {
                    format!(
                        "expected {}; the rest belongs in the main file",
                        one_of(&KEYS)
                    )
                },
                |near| format!("did you mean `{near}`?"),
            );
            let problem = Diagnostic::error(format!("an included file can't set `{name}`"));
            self.problems.push(problem.at(*key).help(help));
        }
    }

    fn append_upstreams(&mut self, top: NodeId) {
        let Some(from) = self.section(top, "upstreams", "map") else {
            return;
        };
        let Some(to) = self.main_section(from, Kind::Mapping(Vec::new())) else {
            return;
        };
        let names = self.document.entries(to).iter();
        let names: HashMap<String, NodeId> = names
            .filter_map(|(key, _)| Some((self.document.text(*key)?.to_owned(), *key)))
            .collect();
        let mut added = Vec::new();
        for (key, value) in self.document.entries(from) {
            let name = self.document.text(*key).unwrap_or_default();
            match names.get(name) {
                None => added.push((*key, *value)),
                Some(first) => self.problems.push(
                    Diagnostic::error(format!("the upstream `{name}` is there twice"))
                        .at(*key)
                        .also(*first, "first here"),
                ),
            }
        }
        if let Kind::Mapping(entries) = &mut self.document.node_mut(to).kind {
            entries.extend(added);
        }
    }

    fn append_list(&mut self, top: NodeId, name: &str) {
        let Some(from) = self.section(top, name, "list") else {
            return;
        };
        let Some(to) = self.main_section(from, Kind::Sequence(Vec::new())) else {
            return;
        };
        let added = self.document.elements(from).to_vec();
        if let Kind::Sequence(elements) = &mut self.document.node_mut(to).kind {
            elements.extend(added);
        }
    }

    /// A section of an included file, if it is there and of the right kind.
    fn section(&mut self, top: NodeId, name: &str, wanted: &str) -> Option<NodeId> {
        let (_, value) = self.document.entry(top, name)?;
        let kind = match self.document.kind(value) {
            Kind::Scalar(scalar) if scalar.is_null() => return None,
            Kind::Scalar(_) => "scalar",
            Kind::Sequence(_) => "list",
            Kind::Mapping(_) => "map",
        };
        if kind == wanted {
            return Some(value);
        }
        self.refuse(Diagnostic::error(format!("`{name}` is a {wanted}")).at(value));
        None
    }

    /// The section of the main file to which `from` is added, made if it is not there. A section
    /// of the wrong kind is left for its reader to refuse.
    fn main_section(&mut self, from: NodeId, empty: Kind) -> Option<NodeId> {
        let root = self.document.root();
        let key = self.document.key_of(from)?;
        let name = self.document.text(key)?;
        let to = self.document.entry(root, name);
        if let Some((_, to)) = to {
            return match (self.document.kind(to), &empty) {
                (Kind::Mapping(_), Kind::Mapping(_)) | (Kind::Sequence(_), Kind::Sequence(_)) => {
                    Some(to)
                }
                (Kind::Scalar(scalar), _) if scalar.is_null() => {
                    self.document.node_mut(to).kind = empty;
                    Some(to)
                }
                _ => None,
            };
        }
        let place = self.document.place(from);
        let to = self
            .document
            .add_node(empty, place, Parent::Entry { mapping: root, key });
        if let Kind::Mapping(entries) = &mut self.document.node_mut(root).kind {
            entries.push((key, to));
        }
        Some(to)
    }

    /// Reports a problem because of which something may be missing.
    fn refuse(&mut self, problem: Diagnostic) {
        self.document.complete = false;
        self.problems.push(problem);
    }
}

fn read(file: File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SIZE {
        return Err(format!("it is larger than {} MiB", SIZE >> 20));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, reason: &str) -> String {
    format!("`{}` can't be read: {reason}", path.display())
}
