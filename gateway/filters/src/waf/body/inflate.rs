//! Bodies that are sent compressed, unpacked for inspection and no further.

use std::io::{self, Read};

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// What `Content-Encoding` says; nothing if it is not known, or says more than one.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            // What a client of S3 cuts into pieces, and what some take for the place of the character set.
            b"" | b"identity" | b"aws-chunked" | b"utf-8" | b"utf8" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"br" => Some(Self::Brotli),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// What was packed.
pub(super) struct Unpacked {
    pub(super) body: Vec<u8>,
    /// There is more, or there may be.
    pub(super) is_cut: bool,
}

/// Unpacks at most `most` bytes of a body, of which `is_cut` says whether its end is missing. Nothing if it is not
/// packed as it says.
pub(super) fn unpack(coding: Coding, packed: &[u8], is_cut: bool, most: usize) -> Option<Unpacked> {
    let attempt = |reader: &mut dyn Read| {
        let mut body = Vec::new();
        let read = reader.take(most as u64 + 1).read_to_end(&mut body);
        let more = body.len() > most;
        body.truncate(most);
        // Only its end may be missing.
        let is_begin = is_cut
            && !body.is_empty()
            && read.as_ref().is_err_and(|error| may_be_cut(coding, error));
        (read.is_ok() || more || is_begin).then_some(Unpacked {
            body,
            is_cut: more || is_cut,
        })
    };
    match coding {
        Coding::Identity => attempt(&mut &*packed),
        Coding::Gzip => attempt(&mut flate2::read::MultiGzDecoder::new(packed)),
        // Some send it without the head that the RFC asks for.
        Coding::Deflate => attempt(&mut flate2::read::ZlibDecoder::new(packed))
            .or_else(|| attempt(&mut flate2::read::DeflateDecoder::new(packed))),
        Coding::Brotli => attempt(&mut brotli_decompressor::Decompressor::new(packed, 4_096)),
        Coding::Zstd => attempt(&mut zstd::stream::read::Decoder::new(packed).ok()?),
    }
}

/// Whether unpacking failed for the packed data has no end; that of Brotli does not tell.
fn may_be_cut(coding: Coding, error: &io::Error) -> bool {
    coding == Coding::Brotli || error.kind() == io::ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut packer = write::GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(body).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn each_coding_is_unpacked() {
        let body = b"a=1' or 1=1".repeat(20);
        let mut zlib = write::ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&body).unwrap();
        let mut raw = write::DeflateEncoder::new(Vec::new(), Compression::best());
        raw.write_all(&body).unwrap();
        for (name, packed) in [
            ("identity", body.clone()),
            ("gzip", gzip(&body)),
            ("X-Gzip", gzip(&body)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("zstd", zstd::encode_all(&*body, 1).unwrap()),
        ] {
            let coding = Coding::of(name.as_bytes()).unwrap();
            let unpacked = unpack(coding, &packed, false, 1_000).unwrap();
            assert_eq!(
                (unpacked.body, unpacked.is_cut),
                (body.clone(), false),
                "{name}"
            );
        }
        // `hello` by the brotli tool.
        let brotli = [0x0f, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
        let unpacked = unpack(Coding::Brotli, &brotli, false, 1_000).unwrap();
        assert_eq!(unpacked.body, b"hello");
    }

    #[test]
    fn a_bomb_is_unpacked_up_to_the_limit() {
        let bomb = gzip(&vec![b'a'; 50_000_000]);
        let unpacked = unpack(Coding::Gzip, &bomb, false, 10_000).unwrap();
        assert_eq!((unpacked.body.len(), unpacked.is_cut), (10_000, true));
    }

    #[test]
    fn what_is_not_packed_as_it_says_is_not_unpacked() {
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            assert!(
                unpack(coding, b"a=1' or 1=1", false, 1_000).is_none(),
                "{coding:?}"
            );
        }
        let whole = gzip(b"a=1");
        let cut = whole.get(..whole.len() - 6).unwrap();
        assert!(unpack(Coding::Gzip, cut, false, 1_000).is_none());
        assert_eq!(unpack(Coding::Gzip, cut, true, 1_000).unwrap().body, b"a=1");
        let numbers = (0..9_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_string());
        let mut wrong = gzip(numbers.collect::<String>().as_bytes());
        wrong.truncate(wrong.len() - 6);
        assert!(unpack(Coding::Gzip, &wrong, true, 100_000).is_some());
        // A block of a kind that does not exist.
        wrong[10] |= 6;
        assert!(unpack(Coding::Gzip, &wrong, true, 100_000).is_none());
        assert_eq!(Coding::of(b"aws-chunked"), Some(Coding::Identity));
        for value in ["gzip, gzip", "compress", "x"] {
            assert_eq!(Coding::of(value.as_bytes()), None, "{value}");
        }
    }
}
