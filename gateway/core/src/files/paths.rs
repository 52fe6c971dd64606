//! What any path must lead to, by a walk that is as plain as can be: the property that a test holds against random
//! paths, and a fuzzer against paths of its own.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use edgeway_sdk::Exchange;
use http::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;
use tokio::runtime::{Builder, Runtime};

use super::{File, Files, Found, Root, Rules, entity::Tagging, mime::Types};
use crate::{
    config::files::Symlinks,
    route::normalise,
    snapshot::serving::{Below, Otherwise, Serving, Wanted},
};

/// A folder with names of all kinds, served in several ways.
#[derive(Debug)]
pub struct Paths {
    root: PathBuf,
    servings: Vec<Serving>,
    exchange: Exchange,
    runtime: Runtime,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Led {
    /// To the content of a file.
    File(Vec<u8>),
    /// To a folder with an index, whose slash is missing.
    Folder,
    /// To nothing that is served.
    Nowhere,
}

impl Paths {
    /// Makes the folder below one that is empty, with something beside it that no path may lead to.
    ///
    /// # Errors
    ///
    /// The folder cannot be filled.
    pub fn plant(folder: &Path) -> io::Result<Self> {
        let root = folder.join("site");
        fs::create_dir_all(root.join("d/e"))?;
        fs::create_dir_all(root.join(".h/d"))?;
        fs::create_dir_all(root.join(".well-known"))?;
        fs::write(folder.join("canary"), CANARY)?;
        for name in NAMES {
            fs::write(root.join(OsStr::from_bytes(name)), name)?;
        }
        for (target, link) in LINKS {
            symlink(target, root.join(link))?;
        }
        let served = |hidden, symlinks| serving(&root, Rules { hidden }, symlinks);
        let servings = vec![
            served(false, Symlinks::Inside),
            served(true, Symlinks::Inside),
            served(false, Symlinks::None),
            served(true, Symlinks::None),
        ];
        let runtime = Builder::new_current_thread().build()?;
        let exchange = Exchange::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        Ok(Self {
            root,
            servings,
            exchange,
            runtime,
        })
    }

    /// Follows the path that is made of some bytes, and says where it leads: to what the plain walk finds.
    ///
    /// # Panics
    ///
    /// When it leads elsewhere.
    pub fn check(&self, data: &[u8]) -> Led {
        let (kind, rest) = data.split_first().unwrap_or((&0, &[]));
        let place = usize::from(*kind) % self.servings.len();
        let path = path(rest);
        let Some(serving) = self.servings.get(place) else {
            return Led::Nowhere;
        };
        let Ok(normal) = normalise(&path) else {
            return Led::Nowhere;
        };
        let led = self.follow(serving, normal.matched());
        let hidden = serving.files.rules.hidden;
        let links = if place < 2 {
            Links::Followed
        } else {
            Links::Refused
        };
        let expected = walk(&self.root, &path, hidden, links);
        assert_eq!(
            led, expected,
            "{path:?} with hidden: {hidden} and links {links:?}"
        );
        led
    }

    fn follow(&self, serving: &Serving, path: &str) -> Led {
        let (request, ()) = Request::new(()).into_parts();
        let source = (&request, &self.exchange);
        let look = serving.look(path, path.ends_with('/'), &source, SmallVec::new());
        match self.runtime.block_on(serving.files.find(look)) {
            Ok(Found::File(File::Small(kept))) => {
                let length = kept.entity.stamp.length;
                Led::File(kept.slice(&(0..length)).to_vec())
            }
            Ok(Found::SlashMissing) => Led::Folder,
            Ok(Found::Nothing) => Led::Nowhere,
            other => panic!("{other:?}"),
        }
    }
}

fn serving(root: &Path, rules: Rules, symlinks: Symlinks) -> Serving {
    let files = Files {
        root: Root::new(root.to_owned(), symlinks),
        rules,
        index: Box::new([b"index.html".as_slice().into()]),
        precompressed: Box::default(),
        listing: false,
        types: Types::default(),
        tagging: Tagging::Strong,
        memory: None,
        small: 1 << 20,
    };
    Serving {
        files: Arc::new(files),
        below: Below::Whole,
        wanted: Box::new([Wanted::Path, Wanted::Folder]),
        otherwise: Otherwise::Status(StatusCode::NOT_FOUND),
    }
}

/// A path of bytes: those that are no ASCII stand for what means something in paths.
fn path(data: &[u8]) -> String {
    let mut path = String::from("/");
    for byte in data {
        match byte.checked_sub(0x80) {
            None => path.push(char::from(*byte)),
            Some(number) => {
                let token = TOKENS.get(usize::from(number) % TOKENS.len());
                path.push_str(token.copied().unwrap_or_default());
            }
        }
    }
    path
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Followed,
    Refused,
}

/// Where a path leads, in four plain steps.
fn walk(root: &Path, path: &str, hidden: bool, links: Links) -> Led {
    // What stands between slashes is decoded, once.
    let segments = path
        .split('/')
        .map(|segment| percent_decode_str(segment).collect::<Vec<u8>>());
    let segments: Vec<_> = segments.collect();
    // Dot segments are taken out.
    let mut names: Vec<Vec<u8>> = Vec::new();
    for segment in &segments {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    // Names that are not served lead nowhere.
    for (place, name) in names.iter().enumerate() {
        let known = place == 0 && name == b".well-known";
        if name.contains(&b'/') || (name.starts_with(b".") && !hidden && !known) {
            return Led::Nowhere;
        }
    }
    // The rest is looked up.
    let ends = matches!(segments.last().map(Vec::as_slice), Some(b"" | b"." | b".."));
    let index = || {
        let names = names.iter().cloned().chain([b"index.html".to_vec()]);
        content(root, names.collect(), links)
    };
    match content(root, names.iter().cloned().collect(), links) {
        Some(content) if !ends => Led::File(content),
        Some(_) => Led::Nowhere,
        None => match index() {
            Some(content) if ends => Led::File(content),
            Some(_) => Led::Folder,
            None => Led::Nowhere,
        },
    }
}

/// The content of the file of this name, if there is one that can be reached without a step out of the folder.
fn content(root: &Path, mut names: VecDeque<Vec<u8>>, links: Links) -> Option<Vec<u8>> {
    let mut place = Vec::new();
    let mut left = 40;
    while let Some(name) = names.pop_front() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                place.pop()?;
                continue;
            }
            _ => place.push(name),
        }
        let here = reached(root, &place);
        if !fs::symlink_metadata(&here).ok()?.is_symlink() {
            continue;
        }
        left = (left > 0 && links == Links::Followed).then(|| left - 1)?;
        place.pop();
        let target = fs::read_link(&here).ok()?;
        let target = target.as_os_str().as_bytes();
        if target.starts_with(b"/") {
            return None;
        }
        for part in target.split(|byte| *byte == b'/').rev() {
            names.push_front(part.to_vec());
        }
    }
    let here = reached(root, &place);
    here.is_file().then(|| fs::read(here).ok())?
}

fn reached(root: &Path, names: &[Vec<u8>]) -> PathBuf {
    let names = names.iter().map(|name| OsStr::from_bytes(name));
    root.iter().chain(names).collect()
}

const CANARY: &str = "nobody may see this";

/// Each holds its own name.
const NAMES: &[&[u8]] = &[
    b"index.html",
    b"a",
    b"a b",
    b"%41",
    b"%2e%2e",
    b"a;b",
    b"a\\b",
    b"\xff",
    b"\xc0\xae",
    b".env",
    b"..a",
    b"...",
    b".h/a",
    b".h/d/a",
    b".well-known/a",
    b"d/index.html",
    b"d/a",
    b"d/.env",
    b"d/e/a",
];

const LINKS: &[(&str, &str)] = &[
    ("d/a", "in"),
    ("d", "in-folder"),
    ("../in-folder/e", "d/ladder"),
    ("../index.html", "d/back"),
    (".h/a", "shown"),
    ("../site/d/a", "around"),
    ("../canary", "out"),
    ("..", "up"),
    ("../..", "d/up"),
    ("/", "top"),
    ("circle-b", "circle-a"),
    ("circle-a", "circle-b"),
    ("nowhere", "broken"),
    ("out", "twice-out"),
];

const TOKENS: &[&str] = &[
    "/",
    "/..",
    "/../",
    "/.",
    "//",
    "%2e",
    "%2E%2e",
    "%2f",
    "%5c",
    "%00",
    "%25",
    "%",
    "%c0%ae",
    "%ff",
    "%20",
    ";",
    "\\",
    "index.html",
    "a",
    "%61",
    "d",
    "e",
    "d/e/a",
    ".env",
    ".h",
    ".well-known",
    "..a",
    "...",
    "in",
    "in-folder",
    "ladder",
    "back",
    "shown",
    "around",
    "out",
    "up",
    "top",
    "circle-a",
    "broken",
    "twice-out",
    "canary",
    "site",
    "etc/passwd",
    "%41",
    "%2541",
    "%252e",
];

#[cfg(test)]
mod tests {
    use std::{
        env,
        time::{Duration, Instant},
    };

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// The same paths in every run, or as many others as fit into `EDGEWAY_FUZZ` seconds.
    #[test]
    fn any_path_leads_where_a_plain_walk_leads() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::plant(folder.path()).unwrap();
        let longer = env::var("EDGEWAY_FUZZ").ok();
        let end =
            longer.map(|seconds| Instant::now() + Duration::from_secs(seconds.parse().unwrap()));
        let seed = end.map_or(42, |_| rand::random());
        let mut random = StdRng::seed_from_u64(seed);
        let (mut found, mut round) = (0, 0);
        while end.map_or(round < 20_000, |end| Instant::now() < end) {
            round += 1;
            let mut data = vec![0; random.random_range(1..12)];
            // Rarely a plain character.
            data.fill_with(|| {
                random.random_range(0_u8..=255) | if random.random_ratio(1, 8) { 0 } else { 0x80 }
            });
            found += usize::from(paths.check(&data) != Led::Nowhere);
        }
        assert!(found * 100 > round, "{found} of {round}");
    }

    #[test]
    fn the_walk_finds_what_is_there_and_not_what_lies_outside() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::plant(folder.path()).unwrap();
        let walk = |path| walk(&paths.root, path, false, Links::Followed);
        let file = |name: &str| Led::File(name.as_bytes().to_vec());
        for (path, led) in [
            ("/", file("index.html")),
            ("/d", Led::Folder),
            ("/d/", file("d/index.html")),
            ("/d/ladder/a", file("d/e/a")),
            ("/d/back", file("index.html")),
            ("/shown", file(".h/a")),
            ("/x/../a", file("a")),
            ("/a/", Led::Nowhere),
            ("/.env", Led::Nowhere),
            ("/out", Led::Nowhere),
            ("/around", Led::Nowhere),
            ("/up/canary", Led::Nowhere),
            ("/d/up/canary", Led::Nowhere),
            ("/../canary", Led::Nowhere),
        ] {
            assert_eq!(walk(path), led, "{path}");
        }
    }
}
