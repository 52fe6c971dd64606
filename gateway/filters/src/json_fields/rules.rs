//! What is done to the fields of an object, wherever it is.

use edgeway_sdk::{prelude::*, template::Source};
use smallvec::SmallVec;

use super::{
    path::{Path, Step},
    written::{Scalar, Written},
};

/// What is done to the documents of one side, as a tree: each node is a place, or many of them.
#[derive(Debug)]
pub(super) struct Rules {
    root: Node,
    /// What is put in, by the numbers that nodes have of it.
    values: Vec<Scalar>,
}

/// What is done at a place, and below it.
#[derive(Debug, Default)]
pub(super) struct Node {
    children: Vec<(Step, Self)>,
    pub(super) removes: bool,
    /// The name that it is given.
    pub(super) rename: Option<Box<str>>,
    /// Fields that this object gets, instead of what it has of these names.
    pub(super) set: Vec<Put>,
    /// Fields that this object gets if it has none of these names.
    pub(super) add: Vec<Put>,
}

/// A field that is put into an object.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) name: Box<str>,
    value: usize,
}

/// The values of one request, as JSON. What has none is no field.
pub(super) type Values = Vec<Option<String>>;

/// The nodes for one place.
pub(super) type Nodes<'n> = SmallVec<[&'n Node; 2]>;

impl Rules {
    /// `side` is the key under which this is written. None if nothing is to be done.
    pub(super) fn new(written: Written, side: &str) -> Result<Option<Self>, BuildError> {
        let mut rules = Self {
            root: Node::default(),
            values: Vec::new(),
        };
        if written.is_empty() {
            return Ok(None);
        }
        for (number, path) in written.remove.iter().enumerate() {
            let node = rules.root.at(path.steps());
            if node.removes {
                let key = format!("{side}.remove.{number}");
                return Err(BuildError::at(key, format!("`{path}` stands here twice")));
            }
            node.removes = true;
        }
        for (path, name) in written.rename.0 {
            let key = format!("{side}.rename.{path}");
            rules
                .rename(&path, name)
                .map_err(|why| BuildError::at(key, why))?;
        }
        for (path, value) in written.set.0 {
            let key = format!("{side}.set.{path}");
            let put = rules
                .put(&path, value)
                .map_err(|why| BuildError::at(key, why))?;
            rules.root.at(path.last().0).set.push(put);
        }
        for (path, value) in written.add.0 {
            let key = format!("{side}.add.{path}");
            let put = rules
                .put(&path, value)
                .map_err(|why| BuildError::at(key, why))?;
            let node = rules.root.at(path.last().0);
            if node.set.iter().any(|set| set.name == put.name) {
                let message = format!("`{path}` is set, so adding it has no effect");
                return Err(BuildError::at(format!("{side}.add.{path}"), message));
            }
            node.add.push(put);
        }
        Ok(Some(rules))
    }

    fn rename(&mut self, path: &Path, name: String) -> Result<(), String> {
        let (_, last) = path.last();
        let node = self.root.at(path.steps());
        if *last == Step::All {
            return Err(format!(
                "`{path}` is many fields, which can't have one name"
            ));
        }
        if node.removes {
            return Err(format!("`{path}` is removed, so renaming it has no effect"));
        }
        if *last == Step::Name(name.clone()) {
            return Err(format!("`{path}` has this name already"));
        }
        node.rename = Some(name.into());
        Ok(())
    }

    fn put(&mut self, path: &Path, value: Scalar) -> Result<Put, String> {
        let (_, Step::Name(name)) = path.last() else {
            return Err(format!(
                "`{path}` is no field: the last step must be a name"
            ));
        };
        self.values.push(value);
        Ok(Put {
            name: name.as_str().into(),
            value: self.values.len() - 1,
        })
    }

    pub(super) fn root(&self) -> Nodes<'_> {
        [&self.root].into_iter().collect()
    }

    pub(super) fn values(&self, source: &impl Source) -> Values {
        self.values.iter().map(|value| value.json(source)).collect()
    }
}

impl Node {
    fn at(&mut self, steps: &[Step]) -> &mut Self {
        steps.iter().fold(self, |node, step| node.child(step))
    }

    fn child(&mut self, step: &Step) -> &mut Self {
        let known = self.children.iter().position(|(known, _)| known == step);
        let place = known.unwrap_or_else(|| {
            self.children.push((step.clone(), Self::default()));
            self.children.len() - 1
        });
        &mut self.children[place].1
    }

    /// What is done to the field of this name: first what is said of this name, then what is of all.
    pub(super) fn field<'n>(&'n self, name: &str) -> impl Iterator<Item = &'n Self> {
        let named = self
            .children
            .iter()
            .filter(move |(step, _)| matches!(step, Step::Name(known) if known == name));
        let named: SmallVec<[&Self; 2]> = named.map(|(_, node)| node).collect();
        named.into_iter().chain(self.element())
    }

    /// What is done to an element of an array.
    pub(super) fn element(&self) -> impl Iterator<Item = &Self> {
        let all = self.children.iter().filter(|(step, _)| *step == Step::All);
        all.map(|(_, node)| node)
    }

    /// Whether nothing is done within the place.
    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// The fields of this object that may be given another name: that name, by the old one.
    pub(super) fn renames(&self) -> impl Iterator<Item = (&str, &str)> {
        self.children.iter().filter_map(|(step, node)| match step {
            Step::Name(name) => Some((name.as_str(), node.rename.as_deref()?)),
            Step::All => None,
        })
    }
}

impl Put {
    pub(super) fn value<'v>(&self, values: &'v Values) -> Option<&'v str> {
        values.get(self.value)?.as_deref()
    }
}
