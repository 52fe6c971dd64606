//! Files that a route answers with, before it leads anywhere else.

use std::{borrow::Cow, fmt, sync::Arc};

use edgeway_sdk::{
    Coding, Template,
    template::{Piece, Source},
};
use http::StatusCode;
use smallvec::SmallVec;

use super::Route;
use crate::{
    config::files::Value,
    files::{Candidate, Files, Form, Look, Name},
};

/// Files that a route answers with, before it leads anywhere else.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) files: Arc<Files>,
    pub(crate) below: Below,
    pub(crate) wanted: Box<[Wanted]>,
    pub(crate) otherwise: Otherwise,
}

/// What of a path is looked for.
#[derive(Debug)]
pub(crate) enum Below {
    /// All of it.
    Whole,
    /// What is left without this, which has no slash at its end.
    Rest(Box<str>),
    /// This, whatever the path is.
    This(Box<str>),
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The path, which is a folder if it ends like one.
    Path,
    /// A folder of this path.
    Folder,
    Other(Template<Value>),
}

/// What becomes of a request for which nothing is found.
#[derive(Debug)]
pub(crate) enum Otherwise {
    Status(StatusCode),
    /// It gets this file.
    File(Name),
    /// It goes on as one of another route: after the filters of this one come those of the other.
    Route(Arc<Route>),
    /// It goes to where the route leads.
    Target,
}

impl Below {
    /// What is looked for, of a path in normal spelling.
    fn of<'p>(&'p self, path: &'p str) -> &'p str {
        match self {
            Self::Whole => path,
            Self::Rest(prefix) => path.strip_prefix(&**prefix).unwrap_or(path),
            Self::This(path) => path,
        }
    }
}

impl Serving {
    /// What to look for, to answer a request for this path, which is in normal spelling. It has a `slash` at its end if
    /// it had one as the client sent it.
    pub(crate) fn look(
        &self,
        path: &str,
        slash: bool,
        source: &impl Source,
        codings: SmallVec<[Coding; 3]>,
    ) -> Look {
        let path = self.below.of(path);
        let mut candidates = SmallVec::new();
        for wanted in &self.wanted {
            let (text, moves) = wanted.render(path, source);
            let form = match (text.ends_with('/'), wanted, slash) {
                (_, Wanted::Folder, true) | (true, Wanted::Path, true) => Form::Folder,
                (true, Wanted::Other(_), _) if slash || !moves => Form::Folder,
                (_, Wanted::Folder, false) | (true, Wanted::Path | Wanted::Other(_), _) => {
                    Form::FolderWithoutSlash
                }
                (false, Wanted::Path | Wanted::Other(_), _) => Form::File,
            };
            if let Ok(name) = Name::parse(&text, self.files.rules) {
                candidates.push(Candidate { name, form });
            }
        }
        if let Otherwise::File(name) = &self.otherwise {
            candidates.push(Candidate {
                name: name.clone(),
                form: Form::File,
            });
        }
        Look {
            candidates,
            codings,
        }
    }
}

impl Wanted {
    /// Also tells whether what comes of it ends like the path of the request but for a slash.
    fn render<'p>(&self, path: &'p str, source: &impl Source) -> (Cow<'p, str>, bool) {
        let template = match self {
            Self::Path | Self::Folder => return (Cow::Borrowed(path), false),
            Self::Other(template) => template,
        };
        let mut text = String::with_capacity(64);
        for piece in template.pieces() {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Value(Value::Path) => text.push_str(path),
                Piece::Value(Value::Of(variable)) => text.extend(variable.value(source)),
            }
        }
        let moves = matches!(template.pieces(), [.., Piece::Value(Value::Path), Piece::Text(end)] if end == "/");
        (Cow::Owned(text), moves)
    }
}

impl From<&Template<Value>> for Wanted {
    fn from(template: &Template<Value>) -> Self {
        match template.pieces() {
            [Piece::Value(Value::Path)] => Self::Path,
            [Piece::Value(Value::Path), Piece::Text(end)] if end == "/" => Self::Folder,
            _ => Self::Other(template.clone()),
        }
    }
}

/// As tables show it: `files in /srv/app, else 404`.
impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files in {}", self.files.root.path().display())?;
        match &self.otherwise {
            Otherwise::Status(StatusCode::NOT_FOUND) => Ok(()),
            Otherwise::Status(status) => write!(f, ", else {}", status.as_u16()),
            Otherwise::File(name) => {
                write!(f, ", else {}", String::from_utf8_lossy(name.as_bytes()))
            }
            Otherwise::Route(route) => write!(f, ", else route {}", route.name),
            Otherwise::Target => f.write_str(", else "),
        }
    }
}
