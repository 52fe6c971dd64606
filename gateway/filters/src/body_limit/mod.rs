//! Limits the bodies of requests, also by what they unpack to.
//!
//! **`max`** is the size on the wire, as `requests.max_body` and the `max_body` of a route have it. These hold
//! beside it, and the smallest counts. It is here for what they can't do: to be smaller for some requests
//! only (`when`, `unless`), or to be tried out (`mode: report`).
//!
//! **Bombs.** A body that is sent packed (`Content-Encoding: gzip`, `deflate`, `br` or `zstd`) may be a thousand
//! times as large when the application unpacks it. So it is unpacked here too, as it passes, and counted:
//! it may become `decompressed` bytes, and `ratio` times what has come. (The ratio is not looked at
//! below 64 KiB.) Nothing is kept of it but the window that the coding needs, at most as much as has been
//! unpacked, and never more than 16 MiB. The body goes on as it came. What has gone on before the limit was
//! reached can't be taken back: the application sees a body that breaks off.
//!
//! A body in a coding that is not known here, or in several one inside the other, can't be judged: it is refused
//! with 415, unless `unknown: pass`. One that breaks the rules of its coding is refused with 400: applications
//! forgive different mistakes, and might read on.

use std::borrow::Cow;

use bytes::Bytes;
use edgeway_sdk::prelude::*;

use self::unpack::{Coding, Unpacked, Unpacking};

mod unpack;

pub(crate) const DOC: &str = "\
limits the bodies of requests, also by what they unpack to

body_limit:
  max: 1MiB                # as it is sent; only `requests.max_body` and the route's limit if not given
  decompressed: 10MiB      # what a body with Content-Encoding may unpack to; off: it is not looked at
  ratio: 100               # how many times larger it may get
  unknown: refuse          # bodies in other codings than gzip, deflate, br and zstd: refuse (415) or pass
";

/// `body_limit: { max: 1MiB, decompressed: 5MiB }`
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Config {
    max: Option<Size>,
    decompressed: Option<Decompressed>,
    ratio: Option<Ratio>,
    unknown: Option<Unknown>,
}

/// What a packed body may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
enum Decompressed {
    Off,
    Most(u64),
}

impl TryFrom<Cow<'_, str>> for Decompressed {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let size = text.parse();
        let size =
            size.map_err(|_| format!("expected a size such as `10MiB`, or `off`, found `{text}`"));
        size.map(|Size(bytes)| Self::Most(bytes))
    }
}

/// How many times larger a body may get.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u32")]
struct Ratio(u32);

impl TryFrom<u32> for Ratio {
    type Error = &'static str;

    fn try_from(ratio: u32) -> Result<Self, &'static str> {
        match ratio {
            0 => Err("expected a number of at least 1: how many times larger a body may get"),
            ratio => Ok(Self(ratio)),
        }
    }
}

/// What becomes of bodies in codings that are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unknown {
    #[default]
    Refuse,
    Pass,
}

/// Limits the bodies of requests.
pub(crate) struct BodyLimit {
    max: Option<u64>,
    /// None if nobody looks into packed bodies.
    unpacked: Option<Limits>,
    unknown: Unknown,
}

/// What a packed body may become.
#[derive(Clone, Copy, Debug)]
struct Limits {
    size: u64,
    ratio: u64,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<BodyLimit, BuildError> {
    let size = match config.decompressed {
        None => Some(10 << 20),
        Some(Decompressed::Most(size)) => Some(size),
        Some(Decompressed::Off) => None,
    };
    if size.is_none() {
        let given = [
            ("ratio", config.ratio.is_some()),
            ("unknown", config.unknown.is_some()),
        ];
        if let Some((key, _)) = given.iter().find(|(_, is_given)| *is_given) {
            let message = format!("`{key}` has no effect with `decompressed: off`");
            return Err(BuildError::at(*key, message));
        }
        if config.max.is_none() {
            return Err(BuildError::at("decompressed", "nothing is limited")
                .help("give `max`, or leave the filter out"));
        }
    }
    let ratio = config.ratio.map_or(100, |ratio| ratio.0.into());
    Ok(BodyLimit {
        max: config.max.map(|Size(bytes)| bytes),
        unpacked: size.map(|size| Limits { size, ratio }),
        unknown: config.unknown.unwrap_or_default(),
    })
}

#[async_trait]
impl Filter for BodyLimit {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        if !request.has_body() {
            return Ok(Flow::Continue);
        }
        let length = length(request.headers());
        if let (Some(max), Some(length)) = (self.max, length)
            && length > max
        {
            return Ok(too_large(max).into());
        }
        let unpacking = match (self.unpacked, Coding::of(request.headers())) {
            (None, _) | (Some(_), Ok(None)) => None,
            (Some(limits), Ok(Some(coding))) => {
                Some((limits, Unpacking::new(coding).or_status(500)?))
            }
            (Some(_), Err(codings)) => match self.unknown {
                Unknown::Pass => None,
                Unknown::Refuse => return Ok(not_understood(codings).into()),
            },
        };
        // A length that was told is kept to, or the body breaks off.
        let max = self.max.filter(|_| length.is_none());
        if max.is_some() || unpacking.is_some() {
            request.edit_body(Watched {
                max,
                received: 0,
                unpacking,
                held: Bytes::new(),
            });
        }
        Ok(Flow::Continue)
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

/// How long the body is, if that is told.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn too_large(max: u64) -> Reply {
    Reply::new(413)
        .detail("The body is too large.")
        .because(format!("the body is larger than {}", Size(max)))
        .rule("max")
}

fn not_understood(codings: String) -> Reply {
    Reply::new(415)
        .header(header::ACCEPT_ENCODING, "gzip, deflate, br, zstd")
        .detail("The coding of the body is not understood.")
        .because("nobody can tell what the body unpacks to")
        .rule("coding")
        .key(codings)
}

/// A body that is counted as it passes.
struct Watched {
    max: Option<u64>,
    received: u64,
    unpacking: Option<(Limits, Unpacking)>,
    /// The piece that was refused.
    held: Bytes,
}

impl BodyEdit for Watched {
    fn edit(&mut self, piece: Bytes, _: bool) -> Result<Bytes> {
        match self.look_at(&piece) {
            Ok(()) => Ok(piece),
            Err(reply) => {
                self.held = piece;
                self.unpacking = None;
                Err(Error::refusal(*reply))
            }
        }
    }

    fn keeps_length(&self) -> bool {
        true
    }

    fn held(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

impl Watched {
    fn look_at(&mut self, piece: &[u8]) -> Result<(), Box<Reply>> {
        self.received += piece.len() as u64;
        if let Some(max) = self.max
            && self.received > max
        {
            return Err(too_large(max).into());
        }
        let Some((limits, unpacking)) = &mut self.unpacking else {
            return Ok(());
        };
        let by_ratio = self.received.saturating_mul(limits.ratio).max(GRACE);
        let most = limits.size.min(by_ratio);
        match unpacking.take(piece, most) {
            Unpacked::Fits => Ok(()),
            Unpacked::Exceeds => Err(bomb(*limits, by_ratio).into()),
            Unpacked::Broken(why) => Err(broken(why).into()),
        }
    }
}

fn bomb(limits: Limits, by_ratio: u64) -> Reply {
    let reply = Reply::new(413).detail("The body is too large when it is unpacked.");
    if limits.size <= by_ratio {
        let why = format!("the body unpacks to more than {}", Size(limits.size));
        return reply.because(why).rule("decompressed");
    }
    let why = format!(
        "the body unpacks to more than {} times its size",
        limits.ratio
    );
    reply.because(why).rule("ratio")
}

fn broken(why: String) -> Reply {
    Reply::new(400)
        .detail("The body can't be unpacked.")
        .because(why)
        .rule("broken")
}

/// Below so many bytes nobody asks for the ratio: a page of blanks packs well.
const GRACE: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
