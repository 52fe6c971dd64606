//! The prefixes of one host as a tree of segments.

use ahash::AHashMap;
use smallvec::SmallVec;

use super::{
    PathText, Reached,
    table::{Candidate, Candidates, probe},
};

/// A node is a path of whole segments; the root is the empty one.
///
/// A request's path is walked once from the left, each segment hashed once, and no deeper than there are
/// prefixes: a path of a thousand segments costs no more than the longest prefix.
#[derive(Debug, Default)]
pub(super) struct PrefixTree {
    children: AHashMap<Box<str>, Self>,
    /// Prefixes written without a slash at the end.
    plain: Candidates,
    /// Prefixes written with one.
    directory: Candidates,
}

impl PrefixTree {
    pub(super) fn insert(&mut self, path: &PathText, candidate: Candidate) {
        let mut node = self;
        for segment in path
            .as_str()
            .split('/')
            .filter(|segment| !segment.is_empty())
        {
            node = node.children.entry(segment.into()).or_default();
        }
        let list = if path.is_directory() {
            &mut node.directory
        } else {
            &mut node.plain
        };
        list.insert(candidate);
    }

    /// The first candidate that is accepted, from the longest prefix of `path` to the shortest.
    pub(super) fn find(
        &self,
        path: &str,
        accept: &mut impl FnMut(usize) -> bool,
    ) -> Option<(Candidate, Reached)> {
        self.trail(path).into_iter().rev().find_map(|(node, rest)| {
            // A path that ends here is the prefix without its slash: the longest is `/users`, then `/users/`.
            if rest.is_empty() {
                let plain = node.plain.first(accept).map(|found| (found, Reached::Path));
                return plain.or_else(|| {
                    node.directory
                        .first(accept)
                        .map(|found| (found, Reached::SlashMissing))
                });
            }
            let found = node
                .directory
                .first(accept)
                .or_else(|| node.plain.first(accept));
            found.map(|found| (found, Reached::Path))
        })
    }

    /// The nodes on the way of `path`, each with what comes after it.
    fn trail<'t, 'p>(&'t self, path: &'p str) -> SmallVec<[(&'t Self, &'p str); 16]> {
        let mut trail = SmallVec::new();
        let mut next = Some((self, path));
        while let Some((node, rest)) = next {
            trail.push((node, rest));
            next = node.child(rest);
        }
        trail
    }

    fn child<'p>(&self, rest: &'p str) -> Option<(&Self, &'p str)> {
        let below = rest.strip_prefix('/')?;
        let end = memchr::memchr(b'/', below.as_bytes()).unwrap_or(below.len());
        let (segment, rest) = below.split_at(end);
        Some((probe(&self.children, segment)?, rest))
    }
}
