//! The body of a request: held back until its beginning has been looked at.

mod inflate;
mod json;
mod multipart;
mod xml;

use std::{borrow::Cow, mem, sync::Arc};

use bytes::{Bytes, BytesMut};
use edgeway_sdk::prelude::*;
use http::request;

use self::inflate::Coding;
use super::{
    Book, Longer,
    inspect::Inspection,
    rules::{Places, by_code},
    score::{Kind, Place, Score},
};

/// Holds a body back until it has been looked at, then lets it go as it came.
pub(super) struct Held {
    book: Arc<Book>,
    path: Box<str>,
    content: Content,
    /// What the head has added to the score.
    score: Score,
    body: BytesMut,
    is_done: bool,
}

/// What the head says of the body.
pub(super) struct Content {
    /// What a browser reports of pages that break their rules: it has samples of scripts in it.
    is_report: bool,
    format: Format,
    coding: Option<Coding>,
    is_strange: bool,
}

/// How a body is to be read.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    Form,
    Json,
    Multipart(multipart::Sort, Box<[u8]>),
    /// Said to be so, but without a boundary, or with several.
    BrokenMultipart,
    Xml,
    /// Anything else that people write.
    Text,
    /// Images, archives.
    Binary,
}

impl Content {
    pub(super) fn of(head: &request::Parts) -> Self {
        let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
        let value = types.next().map_or(&b""[..], |value| value.as_bytes());
        let mut codings = head.headers.get_all(header::CONTENT_ENCODING).iter();
        let coding = codings.next().map_or(&b""[..], |value| value.as_bytes());
        let coding = Coding::of(coding).filter(|_| codings.next().is_none());
        let reports: [&[u8]; 2] = [b"application/csp-report", b"application/reports+json"];
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        Self {
            is_report: reports
                .iter()
                .any(|known| essence.eq_ignore_ascii_case(known)),
            format: Format::of(value),
            coding,
            is_strange: types.next().is_some() || !charsets(value).all(is_safe_charset),
        }
    }
}

impl Format {
    fn of(content_type: &[u8]) -> Self {
        let end = content_type.iter().position(|byte| b";, ".contains(byte));
        let essence = content_type
            .get(..end.unwrap_or(content_type.len()))
            .unwrap_or_default();
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let text = String::from_utf8_lossy(&essence);
        match &*text {
            "application/x-www-form-urlencoded" => Self::Form,
            "multipart/form-data" => boundary(multipart::Sort::Form, content_type),
            "application/json"
            | "text/json"
            | "application/x-ndjson"
            | "application/jsonl"
            | "application/csp-report" => Self::Json,
            "application/xml" | "text/xml" => Self::Xml,
            "application/octet-stream"
            | "application/zip"
            | "application/gzip"
            | "application/pdf"
            | "application/protobuf"
            | "application/x-protobuf" => Self::Binary,
            _ if text.starts_with("multipart/") => boundary(multipart::Sort::Other, content_type),
            _ if text.ends_with("+json") => Self::Json,
            _ if text.ends_with("+xml") => Self::Xml,
            _ if text.starts_with("application/grpc") => Self::Binary,
            _ if ["image/", "audio/", "video/", "font/"]
                .iter()
                .any(|kind| text.starts_with(kind)) =>
            {
                Self::Binary
            }
            _ => Self::Text,
        }
    }
}

/// The values of the parameter `charset`.
fn charsets(content_type: &[u8]) -> impl Iterator<Item = &[u8]> {
    parameters(content_type, b"charset")
}

fn parameters<'v>(content_type: &'v [u8], name: &'static [u8]) -> impl Iterator<Item = &'v [u8]> {
    content_type
        .split(|byte| *byte == b';')
        .skip(1)
        .filter_map(move |parameter| {
            let at = parameter.iter().position(|byte| *byte == b'=')?;
            let (key, value) = parameter.split_at(at);
            let is_it = key.trim_ascii().eq_ignore_ascii_case(name);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            is_it.then_some(value)
        })
}

/// What stands in quotes of one or of the other kind, if it does.
fn inner(value: &[u8]) -> Option<&[u8]> {
    let in_quotes = |quote: &[u8]| value.strip_prefix(quote)?.strip_suffix(quote);
    in_quotes(b"\"").or_else(|| in_quotes(b"'"))
}

/// Whether ASCII is written as ASCII in it.
fn is_safe_charset(charset: &[u8]) -> bool {
    let charset = inner(charset).unwrap_or(charset).trim_ascii();
    let name = String::from_utf8_lossy(charset).to_ascii_lowercase();
    let known = [
        // Written down, but not filled in.
        "",
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "gbk",
        "gb2312",
        "gb18030",
        "big5",
        "shift_jis",
        "euc-jp",
        "euc-kr",
        "windows-31j",
        "windows-874",
        "macintosh",
        "ks_c_5601-1987",
        "tis-620",
    ];
    let families = [
        "iso-8859-",
        "iso8859-",
        "windows-125",
        "cp125",
        "koi8-",
        "latin",
    ];
    known.contains(&&*name) || families.iter().any(|family| name.starts_with(family))
}

fn boundary(sort: multipart::Sort, content_type: &[u8]) -> Format {
    let mut found = parameters(content_type, b"boundary");
    let (Some(boundary), None) = (found.next(), found.next()) else {
        return Format::BrokenMultipart;
    };
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    let (boundary, good) = match boundary.strip_prefix(b"\"") {
        Some(inner) => {
            let inner = inner.strip_suffix(b"\"").unwrap_or_default();
            (inner, inner.iter().all(allowed))
        }
        None => (boundary, boundary.iter().all(is_token)),
    };
    if boundary.is_empty() || boundary.len() > 70 || !good || boundaries(content_type) != 1 {
        return Format::BrokenMultipart;
    }
    Format::Multipart(sort, boundary.into())
}

/// How often some reader may find the parameter `boundary` or `boundary*`, in quotes and after anything too.
fn boundaries(content_type: &[u8]) -> usize {
    const NAME: &[u8] = b"boundary";
    let is_one = |at: &usize| {
        let found = content_type.get(*at..*at + NAME.len());
        let after = content_type.get(*at + NAME.len()..).unwrap_or_default();
        found.is_some_and(|found| found.eq_ignore_ascii_case(NAME))
            && matches!(after.trim_ascii_start().first(), Some(b'=' | b'*'))
    };
    (0..content_type.len()).filter(is_one).count()
}

impl Held {
    pub(super) fn new(book: Arc<Book>, path: &str, content: Content, score: Score) -> Self {
        Self {
            book,
            path: path.into(),
            content,
            score,
            body: BytesMut::new(),
            is_done: false,
        }
    }

    /// Looks at what has come, be it the whole body or its beginning.
    fn judge(&mut self, whole: bool) -> Result<()> {
        if !whole && self.book.longer == Longer::Refuse {
            return Err(Error::refusal(self.book.too_long()));
        }
        let mut inspection = Inspection::new(&self.book, &self.path);
        inspection.score = mem::take(&mut self.score);
        let is_more = inspect(
            &mut inspection,
            &self.content,
            &self.body,
            !whole,
            self.book.body,
        );
        if is_more && self.book.longer == Longer::Refuse {
            return Err(Error::refusal(self.book.too_long()));
        }
        match inspection.verdict() {
            Some(reply) => Err(Error::refusal(reply)),
            None => Ok(()),
        }
    }
}

impl BodyEdit for Held {
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes> {
        if self.is_done {
            return Ok(piece);
        }
        // Most bodies come in one piece, and are not copied.
        if end && self.body.is_empty() && piece.is_empty() {
            self.is_done = true;
            return Ok(piece);
        }
        self.body.extend_from_slice(&piece);
        if !end && self.body.len() <= self.book.body {
            return Ok(Bytes::new());
        }
        self.is_done = true;
        let whole = end && self.body.len() <= self.book.body;
        self.judge(whole)?;
        Ok(mem::take(&mut self.body).freeze())
    }

    fn keeps_length(&self) -> bool {
        true
    }

    fn held(&mut self) -> Bytes {
        mem::take(&mut self.body).freeze()
    }
}

/// Looks at a body, of which `is_cut` says whether there is more of it; at `most` bytes of it. Tells whether there is
/// more of it when it is unpacked.
fn inspect(
    inspection: &mut Inspection<'_>,
    content: &Content,
    body: &[u8],
    is_cut: bool,
    most: usize,
) -> bool {
    if content.is_strange {
        inspection.general(by_code::CHARSET);
    }
    let begin = body.get(..most).unwrap_or(body);
    let unpacked = match content.coding {
        Some(Coding::Identity) => Some((Cow::Borrowed(begin), is_cut)),
        Some(coding) => inflate::unpack(coding, begin, is_cut, most)
            .map(|unpacked| (Cow::Owned(unpacked.body), unpacked.is_cut)),
        None => None,
    };
    let Some((unpacked, is_cut)) = unpacked else {
        inspection.general(by_code::COMPRESSED);
        return false;
    };
    let mut reader = Reader {
        is_report: content.is_report,
        inspection,
        is_cut,
    };
    reader.read(&content.format, &unpacked);
    if content.coding != Some(Coding::Identity) {
        reader.packed(&content.format, begin);
    }
    is_cut
}

struct Reader<'i, 'a> {
    is_report: bool,
    inspection: &'i mut Inspection<'a>,
    is_cut: bool,
}

impl Reader<'_, '_> {
    fn read(&mut self, format: &Format, body: &[u8]) {
        match format {
            Format::Form => self.form(body),
            Format::Json => self.json(body),
            Format::Multipart(sort, boundary) => self.multipart(*sort, body, boundary),
            Format::BrokenMultipart => {
                self.inspection.general(by_code::MULTIPART);
                self.text(Kind::Body, body);
            }
            Format::Xml => self.xml(body),
            Format::Text => self.unknown(body),
            Format::Binary if looks_like_json(body) || begins_as_text(body) => self.unknown(body),
            Format::Binary => self.binary(b"", body),
        }
    }

    /// The bytes of a packed body as they came: many frameworks don't unpack what they get. Only what is no packed data
    /// is looked at.
    fn packed(&mut self, format: &Format, body: &[u8]) {
        match format {
            Format::Form => {
                for piece in body.split(|byte| *byte == b'&') {
                    if piece.len() >= 4 && piece.contains(&b'=') && piece.iter().all(is_written) {
                        self.inspection.pairs(Kind::Form, piece);
                    } else {
                        written(piece).for_each(|text| self.inspection.pairs(Kind::Form, text));
                    }
                }
            }
            Format::Multipart(sort, boundary) if contains(body, boundary) => {
                multipart::read(body, boundary, *sort, self);
            }
            _ => {
                if looks_like_json(body) {
                    json::read(body, self);
                }
                written(body).for_each(|text| self.text(Kind::Body, text));
            }
        }
    }

    /// Some don't ask what type a body has before they read it as JSON.
    fn form(&mut self, body: &[u8]) {
        if looks_like_json(body) {
            self.documents(body);
        }
        self.inspection.pairs(Kind::Form, body);
    }

    fn json(&mut self, body: &[u8]) {
        match self.documents(body) {
            json::Outcome::Whole => {}
            json::Outcome::TooDeep => self.inspection.general(by_code::NESTING),
            json::Outcome::Malformed if self.is_cut && json::is_begin(body) => {}
            json::Outcome::Malformed => {
                self.inspection.general(by_code::MALFORMED);
                self.text(Kind::Body, body);
            }
        }
    }

    fn documents(&mut self, body: &[u8]) -> json::Outcome {
        let ended = if self.is_cut {
            let mut ended = body.to_vec();
            ended.extend(json::ending(body));
            Cow::Owned(ended)
        } else {
            Cow::Borrowed(body)
        };
        json::read(&ended, self)
    }

    fn multipart(&mut self, sort: multipart::Sort, body: &[u8], boundary: &[u8]) {
        match multipart::read(body, boundary, sort, self) {
            multipart::Outcome::Whole => {}
            multipart::Outcome::Unfinished if self.is_cut => {}
            multipart::Outcome::Unfinished => self.inspection.general(by_code::MALFORMED),
            multipart::Outcome::Malformed => {
                self.inspection.general(by_code::MALFORMED);
                self.text(Kind::Body, body);
            }
        }
    }

    /// The texts between tags and in attributes, and the document as a whole for what its head declares.
    fn xml(&mut self, body: &[u8]) {
        let place = Place {
            kind: Kind::Xml,
            name: b"",
        };
        let declared = xml::charset(body).is_some_and(|charset| !is_safe_charset(charset));
        if declared || xml::is_wide(body) {
            self.inspection.general(by_code::CHARSET);
        }
        self.inspection.look(place, Places::XML, body);
        xml::read(body, |text| {
            self.inspection.look(place, Places::VALUE, text);
        });
    }

    /// A body whose type says nothing of how it is read: as what it looks like, and as a text.
    fn unknown(&mut self, body: &[u8]) {
        if body.contains(&0) && !looks_written(body) {
            return self.binary(b"", body);
        }
        if looks_like_json(body) && self.documents(body) == json::Outcome::Whole {
            return;
        }
        if is_form(body) {
            self.inspection.pairs(Kind::Form, body);
        }
        self.text(Kind::Body, body);
    }

    fn text(&mut self, kind: Kind, body: &[u8]) {
        let place = Place { kind, name: b"" };
        self.inspection
            .look(place, Places::VALUE.and(Places::XML), body);
    }

    /// The beginning of a file, for what is dangerous wherever it stands.
    fn binary(&mut self, name: &[u8], body: &[u8]) {
        let place = Place {
            kind: Kind::Body,
            name,
        };
        let begin = body.get(..LOOKED_AT).unwrap_or(body);
        self.inspection.look(place, Places::RAW, begin);
    }
}

/// Whether a text with null bytes in it is one all the same, and no file.
fn looks_written(body: &[u8]) -> bool {
    let strange = body
        .iter()
        .filter(|byte| byte.is_ascii_control() && !b"\t\r\n".contains(byte));
    strange.count() * 10 < body.len()
}

fn looks_like_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Whether a body that should be a file begins as texts do.
fn begins_as_text(body: &[u8]) -> bool {
    let begin = body.get(..BEGIN).unwrap_or(body);
    let is_text = match std::str::from_utf8(begin) {
        Ok(_) => true,
        // Its last character may have been cut.
        Err(error) => error.error_len().is_none() && begin.len() == BEGIN,
    };
    let is_odd = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    is_text && !begin.iter().any(is_odd) && !begin.starts_with(b"%PDF-")
}

/// Runs of characters that chance does not bring forth.
fn written(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| !is_written(byte))
        .filter(|run| run.len() >= SHORTEST_RUN)
}

fn is_written(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len().max(1)).any(|window| window == word)
}

fn is_form(body: &[u8]) -> bool {
    let name = body.iter().take_while(|byte| **byte != b'=');
    body.contains(&b'=')
        && name.clone().count() <= 64
        && !name.into_iter().any(u8::is_ascii_whitespace)
}

impl json::Sink for Reader<'_, '_> {
    fn key(&mut self, path: &str, key: &str) {
        let place = Place {
            kind: Kind::Json,
            name: path.as_bytes(),
        };
        self.inspection.look(place, Places::NAME, key.as_bytes());
    }

    fn text(&mut self, path: &str, text: &str) {
        if self.is_report && SAMPLES.contains(&path) {
            return;
        }
        let place = Place {
            kind: Kind::Json,
            name: path.as_bytes(),
        };
        self.inspection.look(place, Places::VALUE, text.as_bytes());
    }
}

impl multipart::Sink for Reader<'_, '_> {
    fn part(&mut self, part: &multipart::Part<'_>) {
        let place = Place {
            kind: Kind::Multipart,
            name: &part.name,
        };
        self.inspection.name(Kind::Multipart, &part.name);
        if let Some(content_type) = part.content_type
            && !charsets(content_type).all(is_safe_charset)
        {
            self.inspection.general(by_code::CHARSET);
        }
        if part.name.eq_ignore_ascii_case(b"_charset_") && !is_safe_charset(part.content) {
            self.inspection.general(by_code::CHARSET);
        }
        let format = part.content_type.map_or(Format::Text, Format::of);
        match &part.file {
            Some(file) => {
                self.inspection.look(place, Places::FILE_NAME, file);
                self.binary(&part.name, part.content);
                if part.may_be_field {
                    self.inspection.look(place, Places::VALUE, part.content);
                }
            }
            None if !part.name.is_empty() => {
                self.inspection.look(place, Places::VALUE, part.content);
            }
            None => match format {
                Format::Multipart(..) | Format::BrokenMultipart => {
                    self.text(Kind::Body, part.content)
                }
                format => self.read(&format, part.content),
            },
        }
    }

    fn outside(&mut self, text: &[u8]) {
        Reader::text(self, Kind::Body, text);
    }

    fn ambiguous(&mut self) {
        self.inspection.general(by_code::MULTIPART);
    }
}

/// Where reports of browsers have a piece of the script that was not run.
const SAMPLES: [&str; 2] = ["csp-report.script-sample", "body.sample"];
/// How much of a file is looked at.
const LOOKED_AT: usize = 4_096;
/// What tells a text from a file.
const BEGIN: usize = 512;
/// Packed data has shorter runs of written characters by chance.
const SHORTEST_RUN: usize = 16;
