//! Base64 in pieces.

use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// Reads Base64 that comes in pieces of any size. Padding may stand in the middle: who writes it pads whenever
/// something is to leave at once.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of four characters whose rest is still to come.
    held: [u8; QUANTUM],
    count: usize,
}

impl Decoder {
    /// What the next piece comes to, together with what the last one has left.
    ///
    /// # Errors
    ///
    /// It is no Base64, or ends in the middle of four characters.
    pub(super) fn decode(&mut self, piece: &[u8], end: bool) -> Result<Bytes, Malformed> {
        let mut decoded = Vec::with_capacity((self.count + piece.len()) / QUANTUM * 3);
        let rest = self.complete(piece, &mut decoded)?;
        let (whole, rest) = rest.split_at(rest.len() - rest.len() % QUANTUM);
        decode_whole(whole, &mut decoded)?;
        self.hold(rest);
        match end && self.count > 0 {
            true => Err(Malformed),
            false => Ok(decoded.into()),
        }
    }

    /// Completes the four characters that were begun, if there are any, and tells what is left of the piece.
    fn complete<'p>(
        &mut self,
        piece: &'p [u8],
        decoded: &mut Vec<u8>,
    ) -> Result<&'p [u8], Malformed> {
        if self.count == 0 {
            return Ok(piece);
        }
        let (first, rest) = piece.split_at(piece.len().min(QUANTUM - self.count));
        self.hold(first);
        if self.count == QUANTUM {
            self.count = 0;
            decode_whole(&self.held, decoded)?;
        }
        Ok(rest)
    }

    /// Keeps what is too short to be decoded.
    fn hold(&mut self, characters: &[u8]) {
        let until = self.count + characters.len();
        self.held[self.count..until].copy_from_slice(characters);
        self.count = until;
    }
}

/// What is no Base64.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// Decodes groups of four characters, from one padding to the next.
fn decode_whole(mut text: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
    while !text.is_empty() {
        let padding = text.iter().position(|character| *character == b'=');
        let until = padding.map_or(text.len(), |at| (at / QUANTUM + 1) * QUANTUM);
        let (segment, rest) = text.split_at(until);
        STANDARD.decode_vec(segment, decoded)?;
        text = rest;
    }
    Ok(())
}

/// So many characters stand for three bytes.
const QUANTUM: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// What pieces of this size come to.
    fn decoded(text: &str, size: usize) -> Result<Vec<u8>, Malformed> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            all.extend(decoder.decode(piece, false)?);
        }
        all.extend(decoder.decode(&[], true)?);
        Ok(all)
    }

    #[test]
    fn a_text_means_the_same_in_pieces_of_any_size() {
        let long = STANDARD.encode([0xfb; 1000]);
        for (text, meaning) in [
            ("", &b""[..]),
            ("YQ==", b"a"),
            ("YWI=", b"ab"),
            ("YWJj", b"abc"),
            ("YWJjZA==", b"abcd"),
            ("YQ==YWI=YWJjYQ==", b"aababca"),
            ("YQ==YQ==YQ==YWJj", b"aaaabc"),
            (&long, &[0xfb; 1000]),
        ] {
            for size in 1..=text.len() + 1 {
                assert_eq!(decoded(text, size).as_deref(), Ok(meaning), "{text} {size}");
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_told_in_pieces_of_any_size() {
        for text in [
            "Y",
            "YQ",
            "YQ=",
            "YQ===",
            "=",
            "====",
            "Y===",
            "YQ==Y",
            "Y=Q=",
            "YQ=a",
            "=YWJ",
            "YWJj\n",
            "YW Jj",
            "YW-_",
            "YWJjY\u{e9}==",
            "YR==",
        ] {
            for size in 1..=text.len() {
                assert_eq!(decoded(text, size), Err(Malformed), "{text} {size}");
            }
        }
    }

    #[test]
    fn what_can_be_told_of_a_piece_is_told_at_once() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(b"YWJjY", false).unwrap(), "abc");
        assert_eq!(decoder.decode(b"Q", false).unwrap(), "");
        assert_eq!(decoder.decode(b"==", false).unwrap(), "a");
        assert_eq!(decoder.decode(b"YWI=", true).unwrap(), "ab");
    }
}
