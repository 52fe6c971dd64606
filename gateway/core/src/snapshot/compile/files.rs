//! Files, and what each route says of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use edgeway_sdk::types::FilePath;
use http::{HeaderValue, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::Compiler;
use crate::{
    config::{
        At, Route,
        diagnostic::{Diagnostic, Problems, nearest, suggestion},
        files::{self, Fallback, FullFiles, Tags},
    },
    files::{Files, Memory, Name, Root, Rules, entity::Tagging, is_supported, mime::Types},
    route::PathPattern,
    snapshot::serving::{Below, Otherwise, Serving, Wanted},
};

/// The files of a route, but for what another route does; none if they are wrong, which has been told then.
pub(super) fn serving(
    compiler: Compiler<'_>,
    route: &At<Route>,
    problems: &mut Problems,
) -> Option<Serving> {
    let written = route.value.files.as_ref()?;
    let before = problems.errors();
    let bare;
    let config = match &written.value {
        files::Files::Full(config) => config,
        files::Files::Folder(folder) => {
            let (value, node) = (folder.clone(), written.node);
            bare = FullFiles {
                root: Some(At { value, node }),
                ..FullFiles::default()
            };
            &bare
        }
    };
    if let Err(error) = is_supported() {
        let message = format!("this system can't open files below one folder safely: {error}");
        let needed = Diagnostic::error(message).at(written);
        problems.push(needed.help("`files` needs `openat2`, of Linux 5.6 or newer"));
    }
    let place = place(compiler, written, config, &route.value, problems);
    let otherwise = otherwise(config, &route.value, problems);
    let wanted = wanted(compiler, config, problems);
    if problems.errors() > before {
        return None;
    }
    let (folder, below) = place?;
    Some(Serving {
        files: Arc::new(files(compiler, folder, config, problems)?),
        below,
        wanted: wanted?,
        otherwise: otherwise?,
    })
}

/// The folder, and what of a path is looked for in it.
fn place(
    compiler: Compiler<'_>,
    written: &At<files::Files>,
    config: &FullFiles,
    route: &Route,
    problems: &mut Problems,
) -> Option<(PathBuf, Below)> {
    let place = match (&config.root, &config.alias) {
        (Some(root), None) => Some((root, compiler.folder.join(&root.value), Below::Whole)),
        (None, Some(alias)) => {
            let (folder, below) = aliased(compiler, (alias, config), route, problems)?;
            Some((alias, folder, below))
        }
        (Some(_), Some(alias)) => {
            let twice = Diagnostic::error("these files have both a `root` and an `alias`");
            problems.push(twice.at(alias).help(ROOT_OR_ALIAS));
            None
        }
        // One that is wrong, or misspelt, has been told.
        (None, None) if problems.has_errors() && is_meant(compiler, written) => None,
        (None, None) => {
            let nowhere = Diagnostic::error("expected the folder of these files");
            problems.push(nowhere.at(written).help(ROOT_OR_ALIAS));
            None
        }
    };
    let (spot, folder, below) = place?;
    if !folder.is_dir() {
        let what = if folder.exists() {
            "is no folder"
        } else {
            "does not exist"
        };
        let message = format!("`{}` {what}", folder.display());
        let gone = Diagnostic::warning(message).at(spot);
        problems.push(gone.help("as long as it is so, nothing is found there"));
    }
    Some((folder, below))
}

/// Whether a folder is written, as well as it may be.
fn is_meant(compiler: Compiler<'_>, written: &At<files::Files>) -> bool {
    let document = compiler.document;
    let mut names = document
        .entries(written.node)
        .iter()
        .filter_map(|(key, _)| document.text(*key));
    names.any(|name| nearest(name, &["root", "alias"]).is_some())
}

const ROOT_OR_ALIAS: &str = "write `root` to look for the whole path below a folder, or `alias` for what comes after the path of the route";

/// What an alias stands for: for a route with one path, this may be a file.
fn aliased(
    compiler: Compiler<'_>,
    (alias, config): (&At<FilePath>, &FullFiles),
    route: &Route,
    problems: &mut Problems,
) -> Option<(PathBuf, Below)> {
    let folder = compiler.folder.join(&alias.value);
    let rewritten = route.strip_prefix.is_some() || route.add_prefix.is_some();
    if (rewritten || route.rewrite.is_some()) && !leads_elsewhere(route) {
        let message = "`alias` stands for the path of the route, which is rewritten before";
        let wrong = Diagnostic::error(message).at(alias);
        problems.push(wrong.help("write `root` instead"));
        return None;
    }
    match route.matching.path() {
        PathPattern::Prefix(path, _) => {
            let prefix = path.as_str().trim_end_matches('/');
            Some((folder, Below::Rest(prefix.into())))
        }
        PathPattern::Exact(path) if path.is_directory() => Some((folder, Below::This("/".into()))),
        PathPattern::Exact(_) => {
            let (parent, name) = (folder.parent(), folder.file_name());
            let (Some(parent), Some(name)) = (parent, name) else {
                let message = "expected a file, as the route is for one path";
                problems.push(Diagnostic::error(message).at(alias));
                return None;
            };
            let encoded = percent_encode(name.as_encoded_bytes(), NON_ALPHANUMERIC);
            let this = format!("/{encoded}");
            if Name::parse(&this, rules(config)).is_err() {
                let message = format!("`{}` is no file that is served", alias.value.0.display());
                problems.push(Diagnostic::error(message).at(alias));
                return None;
            }
            Some((parent.to_owned(), Below::This(this.into())))
        }
        PathPattern::Regex(_) => {
            let message =
                "`alias` needs a route with a path: of a regex nobody knows what it stands for";
            let wrong = Diagnostic::error(message).at(alias);
            problems
                .push(wrong.help("write `root`, with a `rewrite` if it has to be another path"));
            None
        }
    }
}

/// Whether a route has another target beside its files.
pub(super) fn leads_elsewhere(route: &Route) -> bool {
    route.upstream.is_some()
        || route.split.is_some()
        || route.redirect.is_some()
        || route.respond.is_some()
}

/// What becomes of requests for which nothing is found, but for another route.
fn otherwise(config: &FullFiles, route: &Route, problems: &mut Problems) -> Option<Otherwise> {
    let Some(fallback) = &config.fallback else {
        return Some(match leads_elsewhere(route) {
            true => Otherwise::Target,
            false => Otherwise::Status(StatusCode::NOT_FOUND),
        });
    };
    if leads_elsewhere(route) {
        let message = "`fallback` has no effect beside another target";
        let wrong = Diagnostic::error(message).at(fallback);
        problems.push(wrong.help("what is not found goes there"));
        return None;
    }
    match &fallback.value {
        Fallback::Status(status) => Some(Otherwise::Status(*status)),
        Fallback::File(path) => match Name::parse(path, rules(config)) {
            Ok(name) if !name.is_root() => Some(Otherwise::File(name)),
            _ => {
                let message = format!("`{path}` is no file that is served");
                problems.push(Diagnostic::error(message).at(fallback));
                None
            }
        },
        // Until the other one is known.
        Fallback::Route(_) => Some(Otherwise::Target),
    }
}

fn rules(config: &FullFiles) -> Rules {
    Rules {
        hidden: config.hidden,
    }
}

fn wanted(
    compiler: Compiler<'_>,
    config: &FullFiles,
    problems: &mut Problems,
) -> Option<Box<[Wanted]>> {
    let Some(written) = &config.try_files else {
        return Some([Wanted::Path, Wanted::Folder].into());
    };
    if written.value.is_empty() {
        // Those that are wrong have been told.
        if !compiler.document.elements(written.node).is_empty() {
            return None;
        }
        let nothing = Diagnostic::error("nothing would be looked for").at(written);
        problems.push(nothing.help("expected paths such as `{path}` and `{path}/`"));
        return None;
    }
    let candidates = written.value.iter();
    Some(candidates.map(|one| Wanted::from(&one.value.0)).collect())
}

fn files(
    compiler: Compiler<'_>,
    folder: PathBuf,
    config: &FullFiles,
    problems: &mut Problems,
) -> Option<Files> {
    let index = match &config.index {
        Some(names) => names.iter().map(|name| bytes(&name.value.0)).collect(),
        None => [bytes("index.html")].into(),
    };
    let precompressed = match &config.precompressed {
        Some(written) => {
            let mut codings = written.value.iter();
            while let Some(coding) = codings.next() {
                if codings.as_slice().contains(coding) {
                    let message = format!("`{coding}` is written twice");
                    problems.push(Diagnostic::error(message).at(written));
                    return None;
                }
            }
            written.value.clone().into()
        }
        None => Box::default(),
    };
    let memory = config.memory.0;
    Some(Files {
        memory: memory.map(|memory| shared(compiler, &folder, config, memory)),
        small: memory.map_or(SMALL, |memory| memory.max_file.0),
        root: Root::new(folder, config.symlinks),
        rules: rules(config),
        index,
        precompressed,
        listing: config.listing,
        types: types(config),
        tagging: match config.etag {
            Tags::Strong => Tagging::Strong,
            Tags::Weak => Tagging::Weak,
            Tags::None => Tagging::None,
        },
    })
}

/// Files of so many bytes are read as a whole if none are kept: it takes as much to have the kernel send them.
const SMALL: usize = 16 * 1024;

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn types(config: &FullFiles) -> Types {
    let own = config.types.iter();
    let own = own.map(|(end, of)| (end.value.clone(), of.0.clone()));
    let unknown = HeaderValue::from_static("application/octet-stream");
    let default = config.default_type.as_ref().map_or(&unknown, |of| &of.0);
    Types::new(own, default, config.charset.0.as_deref())
}

/// What is kept of these files, also by the configuration before. Whatever of what is kept depends on the
/// configuration is a part of its name.
fn shared(
    compiler: Compiler<'_>,
    folder: &Path,
    config: &FullFiles,
    memory: files::FileMemory,
) -> Arc<Memory> {
    let own: Vec<_> = config
        .types
        .iter()
        .map(|(end, of)| (&end.value, of))
        .collect();
    let siblings = config.precompressed.as_ref();
    let varies = siblings.is_some_and(|siblings| !siblings.value.is_empty());
    let identity = format!(
        "{folder:?} {memory:?} {:?} {:?} {:?} {own:?} {:?} {varies}",
        config.symlinks, config.etag, config.charset, config.default_type
    );
    let make = || Memory::new(memory.size.0, memory.max_file.0);
    compiler.resources.shared(&identity, make)
}

/// Which route each one's files fall back on, by their places; none if some are wrong, which has been told then.
pub(super) fn fallbacks(
    routes: &[At<Route>],
    problems: &mut Problems,
) -> Option<Vec<Option<usize>>> {
    let before = problems.errors();
    let named: Vec<_> = routes
        .iter()
        .map(|route| route.value.name.as_ref().map(|name| name.value.as_str()))
        .collect();
    let mut fallbacks = Vec::new();
    for route in routes {
        let wanted = fallback_of(&route.value);
        let found = wanted.and_then(|wanted| {
            let known = named.iter().position(|name| *name == Some(&wanted.value));
            if known.is_none() {
                let message = format!("there is no route with the name `{}`", wanted.value);
                let names: Vec<_> = named.iter().flatten().copied().collect();
                let unknown = Diagnostic::error(message).at(wanted);
                problems.push(unknown.help_if(suggestion(&wanted.value, &names)));
            }
            known
        });
        fallbacks.push(found);
    }
    for (place, route) in routes.iter().enumerate() {
        if let Some(wanted) = fallback_of(&route.value)
            && comes_back(&fallbacks, place)
        {
            let message = format!("the fallback `{}` leads back to this route", wanted.value);
            problems.push(Diagnostic::error(message).at(wanted));
        }
    }
    (problems.errors() == before).then_some(fallbacks)
}

/// The route that a route's files fall back on.
pub(super) fn fallback_of(route: &Route) -> Option<&At<String>> {
    let files::Files::Full(files) = &route.files.as_ref()?.value else {
        return None;
    };
    match &files.fallback.as_ref()?.value {
        Fallback::Route(name) => Some(name),
        Fallback::Status(_) | Fallback::File(_) => None,
    }
}

/// Whether fallbacks of fallbacks lead to where they have begun.
fn comes_back(fallbacks: &[Option<usize>], begin: usize) -> bool {
    let mut at = begin;
    for _ in fallbacks {
        match fallbacks.get(at).copied().flatten() {
            Some(next) if next == begin => return true,
            Some(next) => at = next,
            None => return false,
        }
    }
    // In a circle that it is not a part of.
    false
}
