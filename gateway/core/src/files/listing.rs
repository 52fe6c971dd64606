//! What is in a folder, for people and for programs.

mod page;

use std::{
    borrow::Cow,
    cmp::{Ordering, Reverse},
    os::fd::BorrowedFd,
    time::{Duration, UNIX_EPOCH},
};

use edgeway_sdk::{Reply, coding::weight};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, VARY, X_CONTENT_TYPE_OPTIONS},
    request,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};
use serde::Serialize;

use self::page::Page;
use super::{Failure, Files, Name, entity::Stamp, name::is_servable, open::Wait};
use crate::{cache::policy::date, route::normalise};

/// A listing that somebody has asked for.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// As the client has it, with its escapes.
    path: String,
    /// Of the folder, below the one that the target serves.
    name: Name,
    order: Order,
    format: Format,
}

/// How entries are sorted. Folders come first always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Order {
    by: Key,
    falling: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Name,
    Size,
    Modified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Html,
    Json,
}

/// What stands in a listing.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: Box<[u8]>,
    folder: bool,
    /// Of a file.
    size: u64,
    /// In seconds since 1970.
    modified: u64,
}

/// What was found in a folder.
#[derive(Debug, Default)]
struct Content {
    entries: Vec<Entry>,
    /// How many there are beside them.
    more: usize,
}

impl Listing {
    /// Reads what a request for the folder of this name wants.
    pub(crate) fn of(request: &request::Parts, name: Name) -> Self {
        Self {
            path: request.uri.path().to_owned(),
            name,
            order: Order::of(request.uri.query().unwrap_or_default()),
            format: Format::of(&request.headers),
        }
    }

    /// Reads the folder, which waits for the disk, and tells what is in it: all that is served and is a file or a
    /// folder, up to [`MOST`].
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub(crate) fn read(&self, files: &Files, folder: BorrowedFd<'_>) -> Result<Reply, Failure> {
        let mut content = self.content(files, folder)?;
        let entries = &mut content.entries;
        entries.sort_by(|one, other| self.order.cmp(one, other));
        Ok(self.reply(&content))
    }

    fn content(&self, files: &Files, folder: BorrowedFd<'_>) -> Result<Content, Failure> {
        let broken = |error| Failure::of(error, Wait::Disk);
        let mut content = Content::default();
        for entry in Dir::read_from(folder).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let name = entry.file_name();
            let servable = is_servable(name.to_bytes(), files.rules, self.name.is_root());
            if !servable || !is_askable(name.to_bytes()) {
                continue;
            }
            if content.entries.len() >= MOST {
                content.more += 1;
                continue;
            }
            let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is(&stat, FileType::Symlink) => self.follow(files, name.to_bytes()),
                other => other.ok(),
            };
            // What is gone in the meantime, or what may not be looked at, is no part of it.
            let entry = stat.and_then(|stat| Entry::new(name.to_bytes(), &stat));
            content.entries.extend(entry);
        }
        Ok(content)
    }

    /// What a symbolic link leads to, if it is followed.
    fn follow(&self, files: &Files, name: &[u8]) -> Option<Stat> {
        let door = files.root.door(Wait::Disk).ok()?;
        let opened = files.root.open(&door, &self.name.below(name), Wait::Disk);
        fstat(opened.ok()?.descriptor).ok()
    }

    /// How many folders lie between the folder and the one that the target serves.
    fn depth(&self) -> usize {
        let name = self.name.as_bytes();
        let segments = name.split(|byte| *byte == b'/');
        segments.filter(|segment| !segment.is_empty()).count()
    }

    fn reply(&self, content: &Content) -> Reply {
        let total = content.entries.len() + content.more;
        let reply = Reply::new(200)
            .set_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
            .set_header(VARY, HeaderValue::from_static("accept"))
            .set_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self.format {
            Format::Html => reply
                .set_header(
                    CONTENT_SECURITY_POLICY,
                    HeaderValue::from_static(page::POLICY),
                )
                .body(
                    HTML,
                    Page {
                        listing: self,
                        content,
                    }
                    .to_string(),
                ),
            Format::Json => reply
                .set_header(TOTAL, total.into())
                .body("application/json", json(&content.entries)),
        }
    }
}

impl Entry {
    /// None of what is neither a file nor a folder.
    fn new(name: &[u8], stat: &Stat) -> Option<Self> {
        let folder = is(stat, FileType::Directory);
        if !folder && !is(stat, FileType::RegularFile) {
            return None;
        }
        let stamp = Stamp::from(stat);
        Some(Self {
            name: name.into(),
            folder,
            size: if folder { 0 } else { stamp.length },
            modified: u64::try_from(stamp.modified.seconds).unwrap_or(0),
        })
    }

    fn time(&self) -> String {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(self.modified));
        date::rfc3339(time.unwrap_or(UNIX_EPOCH))
    }

    /// What leads there from the page of its folder.
    fn link(&self) -> String {
        let slash = if self.folder { "/" } else { "" };
        format!("{}{slash}", percent_encode(&self.name, ESCAPED))
    }
}

impl Order {
    /// What a query says: `sort=name|size|modified`, `order=asc|desc`.
    fn of(query: &str) -> Self {
        let mut order = Self::default();
        for pair in query.split('&') {
            match pair {
                "sort=name" => order.by = Key::Name,
                "sort=size" => order.by = Key::Size,
                "sort=modified" => order.by = Key::Modified,
                "order=asc" => order.falling = false,
                "order=desc" => order.falling = true,
                _ => {}
            }
        }
        order
    }

    fn cmp(self, one: &Entry, other: &Entry) -> Ordering {
        let turned = |order: Ordering| if self.falling { order.reverse() } else { order };
        let letters = |entry: &Entry| entry.name.to_ascii_lowercase();
        let by_name = || {
            letters(one)
                .cmp(&letters(other))
                .then_with(|| one.name.cmp(&other.name))
        };
        let order = match self.by {
            Key::Name => turned(by_name()),
            Key::Size => turned(one.size.cmp(&other.size)).then_with(by_name),
            Key::Modified => turned(one.modified.cmp(&other.modified)).then_with(by_name),
        };
        Reverse(one.folder).cmp(&Reverse(other.folder)).then(order)
    }
}

impl Format {
    /// JSON for who likes it better than HTML, as programs say, and browsers don't.
    fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).iter();
        let ranges: Vec<_> = lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .map(Range::parse)
            .collect();
        // The most specific range counts, and of two kinds that are as welcome the one that is meant more.
        let welcome = |kinds: [&[u8]; 3]| {
            let weight = |kind: &[u8]| {
                let of = ranges
                    .iter()
                    .filter(|range| range.kind.eq_ignore_ascii_case(kind));
                of.map(|range| range.weight).max()
            };
            let found = kinds.into_iter().zip([3, 2, 1]);
            let mut found = found.filter_map(|(kind, meant)| Some((weight(kind)?, meant)));
            found.next().unwrap_or_default()
        };
        let json = welcome([b"application/json", b"application/*", b"*/*"]);
        match json > welcome([b"text/html", b"text/*", b"*/*"]) && json.0 > 0 {
            true => Self::Json,
            false => Self::Html,
        }
    }
}

/// A member of `Accept`.
struct Range<'a> {
    kind: &'a [u8],
    weight: u16,
}

impl<'a> Range<'a> {
    fn parse(member: &'a [u8]) -> Self {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        Self {
            kind: parts.next().unwrap_or_default(),
            weight: parts.find_map(weight).unwrap_or(1000),
        }
    }
}

/// An entry as programs read it.
#[derive(Serialize)]
struct Item<'a> {
    /// What is not UTF-8 in it is replaced; `href` leads there nevertheless.
    name: Cow<'a, str>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    modified: String,
    href: String,
}

fn json(entries: &[Entry]) -> Vec<u8> {
    let items: Vec<_> = entries
        .iter()
        .map(|entry| Item {
            name: String::from_utf8_lossy(&entry.name),
            r#type: if entry.folder { "folder" } else { "file" },
            size: (!entry.folder).then_some(entry.size),
            modified: entry.time(),
            href: entry.link(),
        })
        .collect();
    serde_json::to_vec(&items).expect("texts and numbers are JSON")
}

/// Whether a client can ask for a name: the path of no request has a control character or hides a dot segment.
fn is_askable(name: &[u8]) -> bool {
    normalise(&format!("/{}", percent_encode(name, ESCAPED))).is_ok()
}

fn is(stat: &Stat, of: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == of
}

const HTML: &str = "text/html; charset=utf-8";
/// How many entries a listing has at most.
const MOST: usize = 10_000;
/// How many there are, which the list in JSON has no place for.
const TOTAL: HeaderName = HeaderName::from_static("x-total-count");
/// All that could mean something in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs,
        os::{
            fd::AsFd,
            unix::{ffi::OsStrExt, fs::symlink},
        },
        path::Path,
    };

    use http::Request;

    use super::*;
    use crate::{
        config::files::Symlinks,
        files::{Root, Rules, entity::Tagging, mime::Types},
    };

    /// The listing of the folder `a b` in the folder that is served.
    fn listed(root: &Path, query: &str, accept: &'static str) -> Reply {
        let files = Files {
            root: Root::new(root.to_owned(), Symlinks::Inside),
            rules: Rules::default(),
            index: Box::default(),
            precompressed: Box::default(),
            listing: true,
            types: Types::default(),
            tagging: Tagging::None,
            memory: None,
            small: 0,
        };
        let request = Request::get(format!("/static/a%20b/?{query}"));
        let (request, ()) = request
            .header(ACCEPT, accept)
            .body(())
            .unwrap()
            .into_parts();
        let name = Name::parse("/a%20b/", Rules::default()).unwrap();
        let opened = fs::File::open(root.join("a b")).unwrap();
        let listing = Listing::of(&request, name);
        listing.read(&files, opened.as_fd()).unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a b")).unwrap();
        root
    }

    fn text(reply: &Reply) -> &str {
        str::from_utf8(reply.content().unwrap()).unwrap()
    }

    fn names(root: &Path, query: &str) -> Vec<String> {
        let reply = listed(root, query, "application/json");
        let items: Vec<serde_json::Value> = serde_json::from_str(text(&reply)).unwrap();
        let name = |item: &serde_json::Value| item["name"].as_str().unwrap().to_owned();
        items.iter().map(name).collect()
    }

    #[test]
    fn files_and_folders_that_are_served_are_listed_in_the_order_asked_for() {
        let root = folder();
        let path = root.path();
        let within = |name: &str| path.join("a b").join(name);
        fs::write(within("b.txt"), "12345").unwrap();
        fs::write(within("C.txt"), "1").unwrap();
        fs::write(within("a.txt"), "123").unwrap();
        fs::write(within(".hidden"), "1").unwrap();
        fs::create_dir(within("z")).unwrap();
        symlink("../a b/a.txt", within("in")).unwrap();
        symlink("/etc/passwd", within("out")).unwrap();
        symlink("nowhere", within("broken")).unwrap();
        symlink("../..", within("above")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, within("fifo"), 0o600.into()).unwrap();
        assert_eq!(names(path, ""), ["z", "a.txt", "b.txt", "C.txt", "in"]);
        assert_eq!(
            names(path, "order=desc"),
            ["z", "in", "C.txt", "b.txt", "a.txt"]
        );
        assert_eq!(
            names(path, "sort=size"),
            ["z", "C.txt", "a.txt", "in", "b.txt"]
        );
        assert_eq!(
            names(path, "sort=size&order=desc&x=%3C&sort="),
            ["z", "b.txt", "a.txt", "in", "C.txt"]
        );
    }

    #[test]
    fn hostile_names_are_text_in_a_page_and_escaped_in_its_links() {
        let root = folder();
        let create = |name: &[u8]| {
            fs::write(root.path().join("a b").join(OsStr::from_bytes(name)), "").unwrap()
        };
        create(b"<img src=x onerror=alert(1)>.txt");
        create(b"\" onclick=\"x.txt");
        create(b"javascript:alert(1)");
        create(b"new\nline");
        create(b"..;x");
        create(b"new line\xff?#%2e\\");
        let reply = listed(root.path(), "", "text/html,*/*;q=0.8");
        let page = text(&reply);
        for part in [
            "<title>/static/a b/</title>",
            "<a href=\"../\">static/</a><span>a b</span>",
            "href=\"%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.txt\"",
            "<bdi>&lt;img src=x onerror=alert(1)&gt;.txt</bdi>",
            "href=\"%22%20onclick%3D%22x.txt\"",
            "href=\"javascript%3Aalert%281%29\"",
            "href=\"new%20line%FF%3F%23%252e%5C\"",
            "<bdi>new line\u{fffd}?#%2e\\</bdi>",
            "0 folders, 4 files, 0 B",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert_eq!(
            reply.headers().get("content-security-policy").unwrap(),
            page::POLICY
        );
    }

    #[test]
    fn a_program_is_told_the_number_and_a_link_to_each() {
        let root = folder();
        let name = OsStr::from_bytes(b"caf\xe9 1.txt");
        fs::write(root.path().join("a b").join(name), "123").unwrap();
        let reply = listed(root.path(), "", "application/json");
        let items: serde_json::Value = serde_json::from_str(text(&reply)).unwrap();
        assert_eq!(items[0]["name"], "caf\u{fffd} 1.txt");
        assert_eq!(items[0]["href"], "caf%E9%201.txt");
        assert_eq!(items[0]["type"], "file");
        assert_eq!(items[0]["size"], 3);
        assert_eq!(items[0]["modified"].as_str().unwrap().len(), 20);
        assert_eq!(reply.headers().get("x-total-count").unwrap(), "1");
    }

    #[test]
    fn browsers_get_a_page_and_programs_that_ask_for_it_get_json() {
        for (accept, format) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Html,
            ),
            ("*/*", Format::Html),
            ("", Format::Html),
            ("application/json", Format::Json),
            ("application/json, text/plain, */*", Format::Json),
            ("application/json, */*;q=0.5", Format::Json),
            (
                "Application/JSON;charset=utf-8;q=0.9, text/html;q=0.8",
                Format::Json,
            ),
            ("application/*, text/html;q=0", Format::Json),
            ("application/json;q=0, */*", Format::Html),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Format::of(&headers), format, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format::Html);
    }

    #[test]
    fn a_listing_has_an_end() {
        let root = folder();
        for at in 0..MOST + 3 {
            fs::write(root.path().join("a b").join(at.to_string()), "").unwrap();
        }
        let reply = listed(root.path(), "", "text/html");
        assert!(text(&reply).contains("0 folders, 10000 files, 0 B; and 3 more, not shown"));
        let reply = listed(root.path(), "", "application/json");
        assert_eq!(reply.headers().get("x-total-count").unwrap(), "10003");
    }
}
