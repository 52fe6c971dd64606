//! Encoders, and where they wait to be used again.
//!
//! What an encoder keeps of the body before is hundreds of kilobytes and more, which to get anew for each response
//! would cost more than to compress a small one. So each thread keeps a few.

use std::{
    cell::RefCell,
    io::{self, Write},
    mem,
    ops::RangeInclusive,
};

use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use bytes::Bytes;
use edgeway_sdk::coding::Coding;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, get_error_name,
    zstd_sys::ZSTD_EndDirective,
};

/// What is to follow a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    /// More: what is better put together with it waits.
    More,
    /// More, but nobody knows when: all of it comes out.
    Pause,
    /// Nothing.
    End,
}

/// A coding and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effort {
    pub(super) coding: Coding,
    pub(super) level: u8,
}

impl Effort {
    /// The levels that there are: those for what is made once and sent for years, of which one takes up to a second and
    /// 600 MiB, are left out.
    pub(super) const fn levels(coding: Coding) -> RangeInclusive<u8> {
        match coding {
            Coding::Gzip | Coding::Zstd => 1..=9,
            Coding::Brotli => 0..=6,
        }
    }

    /// What an encoder takes at most, in bytes, for a body of this length, if it is known. As measured, a little more
    /// rather than less.
    pub(super) fn memory(self, length: Option<u64>) -> usize {
        let most = match (self.coding, self.level) {
            (Coding::Gzip, _) => MIB / 2,
            (Coding::Brotli, ..=3) => 3 * MIB,
            (Coding::Brotli, 4) => 4 * MIB,
            (Coding::Brotli, _) => 6 * MIB,
            (Coding::Zstd, ..=4) => 2 * MIB,
            (Coding::Zstd, 5 | 6) => 4 * MIB,
            (Coding::Zstd, _) => 12 * MIB,
        };
        let length = length.and_then(|length| usize::try_from(length).ok());
        length.map_or(most, |length| {
            most.min(MIB.saturating_add(length.saturating_mul(16)))
        })
    }
}

/// Compresses one body after the other.
pub(super) struct Encoder {
    effort: Effort,
    kind: Kind,
}

enum Kind {
    Gzip(Compress),
    /// Can't begin anew: it is there for one body.
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(CCtx<'static>),
}

impl Encoder {
    /// One that has waited, or a new one.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub(super) fn take(effort: Effort) -> io::Result<Self> {
        let waited = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            let place = idle.iter().position(|encoder| encoder.effort == effort)?;
            Some(idle.swap_remove(place))
        });
        match waited {
            Ok(Some(waited)) => Ok(waited),
            Ok(None) | Err(_) => Self::new(effort),
        }
    }

    fn new(effort: Effort) -> io::Result<Self> {
        let level = effort.level;
        let kind = match effort.coding {
            Coding::Gzip => Kind::Gzip(Compress::new_gzip(
                Compression::new(level.into()),
                GZIP_WINDOW,
            )),
            Coding::Brotli => {
                let params = BrotliEncoderParams {
                    quality: level.into(),
                    lgwin: BROTLI_WINDOW,
                    ..BrotliEncoderParams::default()
                };
                let writer = CompressorWriter::with_params(Vec::new(), BUFFER, &params);
                Kind::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
                for parameter in [
                    CParameter::CompressionLevel(level.into()),
                    CParameter::WindowLog(ZSTD_WINDOW),
                ] {
                    context.set_parameter(parameter).map_err(of_zstd)?;
                }
                Kind::Zstd(context)
            }
        };
        Ok(Self { effort, kind })
    }

    /// Takes the next piece, and tells what comes out by it.
    ///
    /// # Errors
    ///
    /// There is no memory for what it needs. It is of no use any more then.
    pub(super) fn push(&mut self, piece: &[u8], then: Then) -> io::Result<Bytes> {
        let out = match &mut self.kind {
            Kind::Gzip(context) => gzip(context, piece, then)?,
            Kind::Brotli(writer) => brotli(writer, piece, then)?,
            Kind::Zstd(context) => zstd(context, piece, then)?,
        };
        Ok(out.into())
    }

    /// Has it wait for the next body, after the end of one.
    pub(super) fn put_back(mut self) {
        match &mut self.kind {
            Kind::Gzip(context) => context.reset(),
            Kind::Zstd(context) => {
                if context.reset(ResetDirective::SessionOnly).is_err() {
                    return;
                }
            }
            Kind::Brotli(_) => return,
        }
        // At the end of a thread it is just dropped.
        IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() >= MOST_IDLE {
                idle.swap_remove(0);
            }
            idle.push(self);
        })
        .unwrap_or_default();
    }
}

fn gzip(context: &mut Compress, piece: &[u8], then: Then) -> io::Result<Vec<u8>> {
    let flush = match then {
        Then::More => FlushCompress::None,
        Then::Pause => FlushCompress::Sync,
        Then::End => FlushCompress::Finish,
    };
    let mut out = room_for(piece);
    let start = context.total_in();
    loop {
        let taken = usize::try_from(context.total_in() - start).unwrap_or(usize::MAX);
        let rest = piece.get(taken..).unwrap_or_default();
        let status = context.compress_vec(rest, &mut out, flush)?;
        // It fills what is there as long as it has more.
        if status == Status::StreamEnd || (then != Then::End && out.len() < out.capacity()) {
            return Ok(out);
        }
        out.reserve(BUFFER);
    }
}

fn brotli(writer: &mut CompressorWriter<Vec<u8>>, piece: &[u8], then: Then) -> io::Result<Vec<u8>> {
    writer.get_mut().reserve(piece.len() / 4);
    writer.write_all(piece)?;
    match then {
        Then::More => {}
        Then::Pause => writer.flush()?,
        Then::End => {
            // The writer that is left has nothing to compress, and needs nothing.
            let none = BrotliEncoderParams::default();
            let none = CompressorWriter::with_params(Vec::new(), 1, &none);
            return Ok(mem::replace(writer, none).into_inner());
        }
    }
    Ok(mem::take(writer.get_mut()))
}

fn zstd(context: &mut CCtx<'static>, piece: &[u8], then: Then) -> io::Result<Vec<u8>> {
    let directive = match then {
        Then::More => ZSTD_EndDirective::ZSTD_e_continue,
        Then::Pause => ZSTD_EndDirective::ZSTD_e_flush,
        Then::End => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut out = room_for(piece);
    let mut input = InBuffer::around(piece);
    loop {
        let filled = out.len();
        let mut output = OutBuffer::around_pos(&mut out, filled);
        let left = context
            .compress_stream2(&mut output, &mut input, directive)
            .map_err(of_zstd)?;
        let done = match then {
            Then::More => input.pos() == piece.len(),
            Then::Pause | Then::End => left == 0,
        };
        if done {
            return Ok(out);
        }
        out.reserve(BUFFER);
    }
}

/// What most pieces fit into when they are compressed.
fn room_for(piece: &[u8]) -> Vec<u8> {
    Vec::with_capacity(piece.len() / 4 + 256)
}

fn of_zstd(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

thread_local! {
    /// Those that wait, of all levels.
    static IDLE: RefCell<Vec<Encoder>> = const { RefCell::new(Vec::new()) };
}

const MIB: usize = 1 << 20;
/// How many of them there are for each thread.
const MOST_IDLE: usize = 4;
/// By so many bytes output grows.
const BUFFER: usize = 4096;
/// How far back encoders look, as a power of 2, and so how much clients have to keep: 32, 256 and 128 KiB.
const GZIP_WINDOW: u8 = 15;
/// Less would be another way to look, which takes 34 MiB from level 5 on.
const BROTLI_WINDOW: i32 = 18;
const ZSTD_WINDOW: u32 = 17;

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;

    use super::*;

    /// What a client makes of it. Panics if that is not whole.
    pub(crate) fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut out),
            Coding::Brotli => {
                brotli_decompressor::Decompressor::new(coded, 4096).read_to_end(&mut out)
            }
            Coding::Zstd => zstd::stream::read::Decoder::new(coded)
                .unwrap()
                .read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    /// As much as has come can be read.
    fn decoded_so_far(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 1 << 20];
        let mut reader: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
            Coding::Brotli => Box::new(brotli_decompressor::Decompressor::new(coded, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
        };
        let mut length = 0;
        while let Ok(read @ 1..) = reader.read(&mut out[length..]) {
            length += read;
        }
        out.truncate(length);
        out
    }

    /// Text with repetitions, and never the same.
    fn text(length: usize) -> Vec<u8> {
        let words = (0_u32..).map(|n| format!("{} word {} ", n.wrapping_mul(2_654_435_761), n % 7));
        words.flat_map(String::into_bytes).take(length).collect()
    }

    fn efforts() -> impl Iterator<Item = Effort> {
        let all = |coding| Effort::levels(coding).map(move |level| Effort { coding, level });
        Coding::ALL.into_iter().flat_map(all)
    }

    #[test]
    fn a_body_is_the_same_after_every_coding_in_whatever_pieces_it_comes() {
        for effort in efforts() {
            for (length, size) in [
                (0, 1),
                (1, 1),
                (300, 7),
                (100_000, 100_000),
                (300_000, 16_384),
            ] {
                for then in [Then::More, Then::Pause] {
                    let body = text(length);
                    let mut encoder = Encoder::take(effort).unwrap();
                    let mut coded = Vec::new();
                    for piece in body.chunks(size) {
                        coded.extend(encoder.push(piece, then).unwrap());
                    }
                    coded.extend(encoder.push(b"", Then::End).unwrap());
                    encoder.put_back();
                    assert_eq!(
                        decoded(effort.coding, &coded),
                        body,
                        "{effort:?} {length} {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn before_a_pause_all_that_has_come_can_be_read() {
        for effort in efforts() {
            let mut encoder = Encoder::take(effort).unwrap();
            let (body, mut coded) = (text(200_000), Vec::new());
            let mut given = 0;
            for size in [1, 10, 2_000, 70_000, 3, 100_000] {
                let piece = &body[given..given + size];
                given += size;
                coded.extend(encoder.push(piece, Then::Pause).unwrap());
                let so_far = decoded_so_far(effort.coding, &coded);
                assert_eq!(so_far.len(), given, "{effort:?} after {size}");
            }
        }
    }

    #[test]
    fn an_encoder_that_has_waited_knows_nothing_of_the_body_before() {
        for coding in Coding::ALL {
            let effort = Effort { coding, level: 3 };
            let body = text(5_000);
            let code = || {
                let mut encoder = Encoder::take(effort).unwrap();
                let coded = encoder.push(&body, Then::End).unwrap();
                encoder.put_back();
                coded
            };
            let first = code();
            assert_eq!(code(), first, "{coding}");
            assert!(first.len() * 2 < body.len(), "{coding}");
        }
    }

    #[test]
    fn one_that_was_given_up_in_the_middle_is_not_used_again() {
        let effort = Effort {
            coding: Coding::Gzip,
            level: 7,
        };
        let mut encoder = Encoder::take(effort).unwrap();
        encoder.push(b"half", Then::More).unwrap();
        drop(encoder);
        let mut encoder = Encoder::take(effort).unwrap();
        let coded = encoder.push(b"whole", Then::End).unwrap();
        assert_eq!(decoded(Coding::Gzip, &coded), b"whole");
    }

    #[test]
    fn so_many_and_no_more_wait() {
        std::thread::spawn(|| {
            for level in 1..=9 {
                let effort = Effort {
                    coding: Coding::Gzip,
                    level,
                };
                Encoder::take(effort).unwrap().put_back();
            }
            IDLE.with_borrow(|idle| assert_eq!(idle.len(), MOST_IDLE));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_body_that_is_known_to_be_small_is_held_to_take_less() {
        let effort = Effort {
            coding: Coding::Brotli,
            level: 4,
        };
        assert_eq!(effort.memory(None), 4 * MIB);
        assert_eq!(effort.memory(Some(u64::MAX)), 4 * MIB);
        assert_eq!(effort.memory(Some(1024)), MIB + 16 * 1024);
    }
}
