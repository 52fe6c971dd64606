//! Unpacks bodies to see how large they get.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use edgeway_sdk::prelude::*;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use zstd::stream::{raw, write, zio};

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// How the body that belongs to these headers is packed, if it is. The error names codings that are not
    /// known, or that are several.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let lines = lines.map(|line| line.to_str().unwrap_or("\u{fffd}"));
        let codings = lines.flat_map(|line| line.split(',')).map(str::trim);
        let mut codings =
            codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
        let Some(first) = codings.next() else {
            return Ok(None);
        };
        let known = KNOWN
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(first));
        match (known, codings.next()) {
            (Some((_, coding)), None) => Ok(Some(*coding)),
            (_, second) => {
                let mut named: String = first.chars().take(LONGEST).collect();
                if let Some(second) = second {
                    named.push_str(", ");
                    named.extend(second.chars().take(LONGEST));
                }
                Err(named)
            }
        }
    }
}

/// What became of a piece.
#[derive(Debug, PartialEq)]
pub(super) enum Unpacked {
    Fits,
    /// The body has become larger than it may.
    Exceeds,
    /// It breaks the rules of its coding, or goes on after its end.
    Broken(String),
}

/// A body on its way out of its coding.
pub(super) struct Unpacking {
    /// None until the first bytes have shown which of the two forms of `deflate` it is.
    decoder: Option<Box<dyn Unpack>>,
    first: Vec<u8>,
}

impl Unpacking {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        let count = Count::default();
        let decoder: Option<Box<dyn Unpack>> = match coding {
            Coding::Gzip => Some(Box::new(MultiGzDecoder::new(count))),
            Coding::Deflate => None,
            Coding::Brotli => Some(Box::new(DecompressorWriter::new(count, BUFFER))),
            Coding::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(raw::DParameter::WindowLogMax(ZSTD_WINDOW))?;
                Some(Box::new(write::Decoder::with_writer(zio::Writer::new(
                    count, decoder,
                ))))
            }
        };
        Ok(Self {
            decoder,
            first: Vec::new(),
        })
    }

    /// Takes the next piece. The body may have become `most` bytes by then.
    pub(super) fn take(&mut self, piece: &[u8], most: u64) -> Unpacked {
        let mut rest = piece;
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => {
                let missing = FIRST.saturating_sub(self.first.len()).min(piece.len());
                let (first, after) = piece.split_at(missing);
                self.first.extend_from_slice(first);
                if self.first.len() < FIRST {
                    return Unpacked::Fits;
                }
                rest = after;
                self.decoder.insert(deflate(&self.first))
            }
        };
        decoder.count().most = most;
        // Decoders keep what they have unpacked for a while; what was not flushed would not be counted.
        let written = decoder
            .write_all(&std::mem::take(&mut self.first))
            .and_then(|()| decoder.write_all(rest))
            .and_then(|()| decoder.flush());
        match written {
            Ok(()) => Unpacked::Fits,
            Err(_) if decoder.count().is_exceeded => Unpacked::Exceeds,
            Err(error) => Unpacked::Broken(error.to_string()),
        }
    }
}

/// The decoder for a body in `deflate`. By RFC 9110, 8.4.1.2 that has the frame of zlib; some clients leave it
/// out, and browsers and many applications understand both.
fn deflate(first: &[u8]) -> Box<dyn Unpack> {
    let is_zlib = match first {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        }
        _ => false,
    };
    if is_zlib {
        Box::new(ZlibDecoder::new(Count::default()))
    } else {
        Box::new(DeflateDecoder::new(Count::default()))
    }
}

/// Something that unpacks what is written to it into a [`Count`].
trait Unpack: Write + Send + Sync {
    fn count(&mut self) -> &mut Count;
}

macro_rules! unpacks {
    ($($decoder:ty,)*) => {$(
        impl Unpack for $decoder {
            fn count(&mut self) -> &mut Count {
                self.get_mut()
            }
        }
    )*};
}

unpacks! {
    MultiGzDecoder<Count>,
    ZlibDecoder<Count>,
    DeflateDecoder<Count>,
    DecompressorWriter<Count>,
    write::Decoder<'static, Count>,
}

/// How many bytes have been unpacked. It keeps none of them.
#[derive(Debug, Default)]
struct Count {
    bytes: u64,
    most: u64,
    is_exceeded: bool,
}

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.most {
            self.is_exceeded = true;
            // Ends the decoder's work in the middle of a piece.
            return Err(io::Error::other(
                "the body is too large when it is unpacked",
            ));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const KNOWN: [(&str, Coding); 5] = [
    ("gzip", Coding::Gzip),
    ("x-gzip", Coding::Gzip),
    ("deflate", Coding::Deflate),
    ("br", Coding::Brotli),
    ("zstd", Coding::Zstd),
];
/// How much of an unknown coding's name is told.
const LONGEST: usize = 32;
/// How many bytes show which form of `deflate` it is.
const FIRST: usize = 2;
/// What brotli unpacks at once, in bytes.
const BUFFER: usize = 4096;
/// The largest window of zstd as a power of two: 8 MiB, which is what bodies may have (RFC 9659).
const ZSTD_WINDOW: u32 = 23;
