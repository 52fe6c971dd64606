//! Compresses responses: gzip, brotli, zstd, whichever the client likes best.
//!
//! **Which coding.** What the client likes best by its q-values, and of what it likes equally our first one. The
//! request goes on with that one coding, or `identity`, in `Accept-Encoding`, so that the cache has at most one
//! response for each, and the endpoint may compress itself; later filters and logs see it like this. A client that
//! takes none of ours gets the body as it is, even if it says that it does not take that.
//!
//! **Which responses.** Those whose type is one that shrinks, of at least `min_size` as far as the length is known.
//! Never what is coded already, parts (206), what says `no-transform` (or a request that does), what
//! carries a digest of its bytes, event streams and calls of gRPC. All that may come compressed says so in `Vary`,
//! also when it does not; what does has a weak entity tag, no length, and no parts.
//!
//! **The cache keeps what comes out**, for each coding once: it is compressed on its way in, and not again. What is in
//! the cache uncompressed, and what filters further down edit after that, is compressed for each client. A
//! filter that edits text must stand below this one. To find text it will remove `Accept-Encoding` from the
//! request, and then its edits come first.
//!
//! **A page that comes bit by bit goes out bit by bit**: if its length is not known before, each piece that comes
//! leaves at once. A page in pieces of 200 bytes gets a third larger by that, one in pieces of 16 KiB a hundredth. A body
//! of known length is there already, and is compressed as it suits the encoder.
//!
//! **Memory.** An open body of unknown length takes 0.5 (gzip), 2 (zstd) and 4 MiB (br), more with higher levels. Beyond
//! `memory` for all of them bodies go out as they are.
//!
//! **BREACH.** Who sees how long a compressed page is, and can have a browser ask for it with words of his
//! choice in it, can guess a secret that the page holds, letter by letter. It takes a page of another site that has the
//! browser send cookies along. So what such a page asks for with cookies (`Sec-Fetch-Site: cross-site`, but
//! not when a person follows a link) is not compressed, unless `cross_site: true`. Old browsers don't say this
//! and the same site may have two owners: don't compress pages that hold a secret next to what visitors send
//! (`unless: { path: /account/ }`), or have the secret differ each time, as Django's CSRF tokens do.

mod encoder;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use self::encoder::{Effort, Encoder, Then};
use crate::{
    criteria::{List, MediaType},
    list::vary,
    plain,
    written::OneOrMany,
};
use bytes::Bytes;
use edgeway_sdk::{
    coding::{Accepted, Coding},
    prelude::*,
};

pub(crate) const DOC: &str = "\
compresses responses: gzip, brotli, zstd

compress:                          # or just `compress`
  codings: [zstd, br, gzip]        # of those that a client likes equally, the first one
  levels: { zstd: 3, br: 4, gzip: 5 }   # up to 9, br up to 6: smaller, and more work
  types: [text/*, application/json]     # if not given: text, JSON, JavaScript, XML, SVG, WebAssembly, plain fonts
  min_size: 1KiB                   # what is known to be smaller is not worth it
  memory: 256MiB                   # for all bodies that are being compressed; beyond that they go out as they are
  cross_site: false                # true: also what pages of other sites ask for with cookies (see BREACH)
";

/// `compress: { codings: [br, gzip], min_size: 512B }`
#[derive(Deserialize)]
pub(crate) struct Config {
    codings: Option<OneOrMany<Coding>>,
    #[serde(default)]
    levels: Levels,
    types: Option<List<MediaType>>,
    #[serde(default = "Config::min_size")]
    min_size: Size,
    #[serde(default = "Config::memory")]
    memory: Size,
    #[serde(default)]
    cross_site: bool,
}

impl Config {
    fn min_size() -> Size {
        Size(1024)
    }

    fn memory() -> Size {
        Size(256 << 20)
    }
}

#[derive(Default, Deserialize)]
struct Levels {
    gzip: Option<u8>,
    br: Option<u8>,
    zstd: Option<u8>,
}

impl Levels {
    fn of(&self, coding: Coding) -> Option<u8> {
        match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.br,
            Coding::Zstd => self.zstd,
        }
    }
}

/// Compresses responses.
pub(crate) struct Compress {
    /// Ours, the best first.
    codings: Vec<Coding>,
    efforts: Vec<Effort>,
    types: Option<List<MediaType>>,
    min_size: u64,
    memory: Arc<Memory>,
    cross_site: bool,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<Compress, BuildError> {
    let codings: Vec<_> = match &config.codings {
        Some(codings) => codings.iter().copied().collect(),
        None => vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
    };
    for (place, coding) in codings.iter().enumerate() {
        if codings.iter().take(place).any(|other| other == coding) {
            let key = format!("codings.{place}");
            return Err(BuildError::at(key, format!("`{coding}` is there twice")));
        }
    }
    for coding in Coding::ALL {
        if config.levels.of(coding).is_some() && !codings.contains(&coding) {
            let message = format!("`{coding}` is not among the `codings`: this has no effect");
            return Err(BuildError::at(format!("levels.{coding}"), message));
        }
    }
    let efforts: Result<_, _> = codings
        .iter()
        .map(|coding| effort(*coding, &config.levels))
        .collect();
    let Size(memory) = config.memory;
    if memory < 16 << 20 {
        return Err(BuildError::at("memory", "expected at least 16MiB"));
    }
    Ok(Compress {
        codings,
        efforts: efforts?,
        types: config.types,
        min_size: config.min_size.0,
        memory: Arc::new(Memory::new(memory)),
        cross_site: config.cross_site,
    })
}

fn effort(coding: Coding, levels: &Levels) -> Result<Effort, BuildError> {
    let given = levels.of(coding);
    let level = given.unwrap_or(match coding {
        Coding::Gzip => 5,
        Coding::Brotli => 4,
        Coding::Zstd => 3,
    });
    let known = Effort::levels(coding);
    if known.contains(&level) {
        return Ok(Effort { coding, level });
    }
    let (least, most) = known.into_inner();
    let message = format!("expected a level from {least} to {most}, found {level}");
    let wrong = BuildError::at(format!("levels.{coding}"), message);
    Err(if level > most {
        wrong.help("more is for what is compressed once: see `precompressed` of `files`")
    } else {
        wrong
    })
}

/// What the client accepts, as it has said it.
struct Said(Accepted);

#[async_trait]
impl Filter for Compress {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let said = request
            .values()
            .get::<Said>()
            .map(|Said(accepted)| *accepted);
        let accepted = match said {
            // Another filter of this kind has narrowed the header.
            Some(accepted) => accepted,
            None => {
                let accepted = self.accepted(request);
                request.values_mut().insert(Said(accepted));
                accepted
            }
        };
        let coding = accepted.best(&self.codings);
        let value = coding.map_or(IDENTITY, Coding::header_value);
        request.set_header(header::ACCEPT_ENCODING, value);
        Ok(Flow::Continue)
    }

    /// By what the request says now: that is what the cache tells requests apart by.
    fn fetched(&self, response: &mut Response<'_>) -> Result<()> {
        let accepted = Accepted::of(&response.request().headers);
        self.compress(response, accepted.best(&self.codings));
        Ok(())
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        let said = response.exchange().values.get::<Said>();
        let coding = said.and_then(|Said(accepted)| accepted.best(&self.codings));
        if coding.is_some() {
            self.compress(response, coding);
            // Not before: the tag of what is stored is not for a client to say.
            if let Some(weak) = weak_tag(response) {
                response.set_header(header::ETAG, weak);
            }
        }
        Ok(())
    }

    fn refuses(&self) -> bool {
        false
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::FETCHED | Hooks::RESPONSE
    }
}

impl Compress {
    fn accepted(&self, request: &Request<'_>) -> Accepted {
        let headers = request.headers();
        let foreign = !self.cross_site && is_made_by_another_site(headers);
        match foreign || is_to_stay(headers) {
            true => Accepted::of(&HeaderMap::new()),
            false => Accepted::of(headers),
        }
    }

    /// Compresses a response in this way, if that is right for it.
    fn compress(&self, response: &mut Response<'_>, coding: Option<Coding>) {
        if response.status() == StatusCode::NOT_MODIFIED {
            // It has the headers of a 200 that is not here. A file of ours says in it what it would say there.
            let ours = response.origin() == Origin::Reply;
            if ours || response.headers().contains_key(header::VARY) {
                vary(response, VARY);
            }
            return;
        }
        if !may_change(response) || !self.has_type(response) {
            return;
        }
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            // By whom the request was passed on to, in the one coding that it has asked for.
            return vary(response, VARY);
        }
        let length = length(response);
        if length.is_some_and(|length| length < self.min_size.max(1)) {
            return;
        }
        vary(response, VARY);
        let effort = self
            .efforts
            .iter()
            .find(|effort| Some(effort.coding) == coding);
        let Some(effort) = effort else { return };
        let Some(room) = Memory::take(&self.memory, effort.memory(length)) else {
            return;
        };
        response.set_header(header::CONTENT_ENCODING, effort.coding.header_value());
        response.edit_body(Compressing {
            effort: *effort,
            encoder: None,
            room: Some(room),
            streams: length.is_none(),
        });
    }

    fn has_type(&self, response: &Response<'_>) -> bool {
        let Some(content_type) = response.header(header::CONTENT_TYPE) else {
            return false;
        };
        let essence = plain::essence(content_type);
        if is_never(essence) {
            return false;
        }
        match &self.types {
            Some(types) => types.has_type(essence),
            None => shrinks(essence),
        }
    }
}

/// Whether a response is one whose body may become another.
fn may_change(response: &Response<'_>) -> bool {
    let has_body = match response.status().as_u16() {
        204..=206 => false,
        status => status >= 200,
    };
    let headers = response.headers();
    has_body && !is_to_stay(headers) && !UNCHANGED.iter().any(|name| headers.contains_key(name))
}

/// Whether a message says `no-transform`.
fn is_to_stay(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Whether a page of another site has made a browser ask, with the cookies of this one, and not a person.
fn is_made_by_another_site(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|known| known == value);
    headers.contains_key(header::COOKIE)
        && is("sec-fetch-site", "cross-site")
        && !is("sec-fetch-dest", "document")
}

/// How long the body is, if that is known.
fn length(response: &Response<'_>) -> Option<u64> {
    let exchange = response.exchange();
    if let Some(body) = &exchange.replacement {
        return u64::try_from(body.len()).ok();
    }
    if !exchange.response_edits.is_empty() {
        return None;
    }
    response.header(header::CONTENT_LENGTH)?.parse().ok()
}

/// The weak form of the tag of a 304, if that is how the client knows it.
fn weak_tag(response: &Response<'_>) -> Option<HeaderValue> {
    if response.status() != StatusCode::NOT_MODIFIED {
        return None;
    }
    let tag = response.headers().get(header::ETAG)?.as_bytes();
    if !tag.starts_with(b"\"") {
        return None;
    }
    let weak = [b"W/", tag].concat();
    let asked = response.request().headers.get_all(header::IF_NONE_MATCH);
    let known = |line: &HeaderValue| line.as_bytes().windows(weak.len()).any(|part| part == weak);
    let known = asked.iter().any(known);
    known.then(|| HeaderValue::from_bytes(&weak).ok()).flatten()
}

/// What is never compressed: a stream of events is to come as it is made, and calls of gRPC have their own way.
fn is_never(essence: &str) -> bool {
    const GRPC: &str = "application/grpc";
    let start = essence.get(..GRPC.len()).unwrap_or_default();
    essence.eq_ignore_ascii_case("text/event-stream") || start.eq_ignore_ascii_case(GRPC)
}

/// Whether a type is one that shrinks, of those that are seen on the web.
fn shrinks(essence: &str) -> bool {
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let ends = |end: &str| {
        let start = subtype.len().checked_sub(end.len());
        let known = start.and_then(|start| subtype.get(start..));
        known.is_some_and(|known| known.eq_ignore_ascii_case(end))
    };
    let among = |known: &[&str]| {
        known
            .iter()
            .any(|known| subtype.eq_ignore_ascii_case(known))
    };
    if ends("+json") || ends("+xml") {
        return true;
    }
    match kind.to_ascii_lowercase().as_str() {
        "text" => true,
        "application" => among(&APPLICATION),
        "font" => among(&["ttf", "otf", "collection", "sfnt"]),
        "image" => among(&["bmp", "x-icon", "vnd.microsoft.icon"]),
        "model" => among(&["gltf-binary", "obj", "stl"]),
        _ => false,
    }
}

/// What encoders may take together.
struct Memory {
    most: usize,
    taken: AtomicUsize,
}

impl Memory {
    fn new(most: u64) -> Self {
        Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            taken: AtomicUsize::new(0),
        }
    }

    /// So much of it, until that is dropped; none if there is not so much left.
    fn take(memory: &Arc<Self>, size: usize) -> Option<Room> {
        let before = memory.taken.fetch_add(size, Ordering::Relaxed);
        let room = Room {
            memory: Arc::clone(memory),
            size,
        };
        (before.saturating_add(size) <= memory.most).then_some(room)
    }
}

struct Room {
    memory: Arc<Memory>,
    size: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.memory.taken.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Compresses a body.
struct Compressing {
    effort: Effort,
    /// None before the first piece, and after the last one.
    encoder: Option<Encoder>,
    room: Option<Room>,
    /// Nobody knows how long it is, and when the next piece comes.
    streams: bool,
}

impl BodyEdit for Compressing {
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes> {
        let then = match (end, self.streams) {
            (true, _) => Then::End,
            (false, true) => Then::Pause,
            (false, false) => Then::More,
        };
        if piece.is_empty() && !end {
            return Ok(piece);
        }
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::take(self.effort).or_status(500)?,
        };
        let out = encoder.push(&piece, then).or_status(500)?;
        match end {
            true => {
                encoder.put_back();
                self.room = None;
            }
            false => self.encoder = Some(encoder),
        }
        Ok(out)
    }
}

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const VARY: &str = "Accept-Encoding";

/// What would not be true any more.
const UNCHANGED: [HeaderName; 5] = [
    header::CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// Types that have no suffix to be known by.
const APPLICATION: [&str; 16] = [
    "ecmascript",
    "javascript",
    "json",
    "manifest",
    "ndjson",
    "rtf",
    "toml",
    "vnd.ms-fontobject",
    "wasm",
    "x-font-ttf",
    "x-javascript",
    "x-ndjson",
    "x-sh",
    "x-yaml",
    "xml",
    "yaml",
];

#[cfg(test)]
mod tests;
