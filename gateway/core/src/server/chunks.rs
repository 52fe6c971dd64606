//! Where a chunked body ends, read as RFC 9112 (7.1) has it and no other way: what two readers see
//! differently becomes somebody else's request.

use memchr::memchr;

/// The longest extension of a chunk, in bytes. They mean nothing to anybody, and could be most of a body.
const LONGEST_EXTENSION: u16 = 256;

/// The most that trailers may have together, in bytes.
const TRAILERS: u16 = 16 * 1024;

/// How far a body has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    /// Of the size so far, or of the data to come.
    left: u64,
    /// Digits of the size, bytes of the extension or of the trailers.
    count: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    Trailer { begins: bool },
    TrailerEnd,
    LastEnd,
}

/// What a piece of a body has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All of it belongs to the body, and there is more to come.
    More,
    /// The body ends after so many bytes of it.
    End(usize),
    /// After so many bytes of it, which are well, something comes that may not be there.
    Malformed(usize),
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            state: State::Size,
            left: 0,
            count: 0,
        }
    }
}

impl Chunks {
    /// Reads on.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Data {
                at += self.skip(bytes.len() - at);
                continue;
            }
            match self.next(byte) {
                Some(false) => at += 1,
                Some(true) => return Step::End(at + 1),
                None => return Step::Malformed(at),
            }
        }
        Step::More
    }

    /// Passes over data; tells how much of it.
    fn skip(&mut self, there: usize) -> usize {
        let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
        self.left -= skipped as u64;
        if self.left == 0 {
            self.state = State::DataReturn;
        }
        skipped
    }

    /// Whether the body ends with this byte; none if it may not be there.
    fn next(&mut self, byte: u8) -> Option<bool> {
        self.state = match (self.state, byte) {
            (State::Size, _) => return self.size(byte).map(|()| false),
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, _) => {
                self.count += 1;
                let allowed = self.count <= LONGEST_EXTENSION && is_text(byte);
                return allowed.then_some(false);
            }
            (State::SizeEnd, b'\n') => {
                self.count = 0;
                if self.left == 0 {
                    State::Trailer { begins: true }
                } else {
                    State::Data
                }
            }
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size,
            (State::Trailer { begins: true }, b'\r') => State::LastEnd,
            (State::Trailer { begins: false }, b'\r') => State::TrailerEnd,
            (State::Trailer { begins }, _) => {
                self.count += 1;
                // A line that begins with a blank would go on the one before it.
                let allowed = self.count <= TRAILERS && is_text(byte);
                if !allowed || (begins && memchr(byte, b" \t:").is_some()) {
                    return None;
                }
                State::Trailer { begins: false }
            }
            (State::TrailerEnd, b'\n') => State::Trailer { begins: true },
            (State::LastEnd, b'\n') => return Some(true),
            _ => return None,
        };
        Some(false)
    }

    fn size(&mut self, byte: u8) -> Option<()> {
        let first = self.count == 0;
        match byte {
            b'\r' if !first => self.state = State::SizeEnd,
            b';' if !first => {
                self.state = State::Extension;
                self.count = 0;
            }
            _ => {
                let digit = char::from(byte).to_digit(16)?;
                // Up to 2^60: no sum with such a number can overflow anywhere.
                if self.left >> 56 != 0 || self.count == 16 {
                    return None;
                }
                self.left = (self.left << 4) | u64::from(digit);
                self.count += 1;
            }
        }
        Some(())
    }
}

/// What may stand in an extension or a trailer: anything but control characters.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a body in one piece, and byte by byte.
    fn read(body: &str) -> Step {
        let whole = Chunks::default().feed(body.as_bytes());
        let mut chunks = Chunks::default();
        let mut step = Step::More;
        for (at, byte) in body.bytes().enumerate() {
            step = match chunks.feed(&[byte]) {
                Step::End(1) => Step::End(at + 1),
                Step::Malformed(0) => Step::Malformed(at),
                step => step,
            };
            if step != Step::More {
                break;
            }
        }
        assert_eq!(whole, step, "{body:?}");
        whole
    }

    #[test]
    fn a_body_ends_with_its_last_line_and_no_byte_later() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=b;c=\"d\"\r\nhello\r\n00\r\n\r\n",
            "1\r\n\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        ] {
            assert_eq!(read(body), Step::End(body.len()), "{body:?}");
            let more = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(read(&more), Step::End(body.len()), "{body:?}");
            let less = body.get(..body.len() - 1).unwrap();
            assert_eq!(read(less), Step::More, "{body:?}");
        }
    }

    #[test]
    fn what_another_reader_could_take_for_something_else_is_malformed() {
        for body in [
            "\r\n",
            "x\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "-5\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "5 ;a\r\nhello\r\n",
            "5\nhello\r\n",
            "5\rhello\r\n",
            "5;a\nhello\r\n",
            "5;a\0\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello0\r\n\r\n",
            "0\r\n\n",
            "0\r\nX: a\n\r\n",
            "0\r\n X: a\r\n\r\n",
            "0\r\n: a\r\n\r\n",
            "1000000000000000000\r\n",
            "00000000000000005\r\n",
            "ffffffffffffffff\r\n",
        ] {
            assert!(matches!(read(body), Step::Malformed(_)), "{body:?}");
        }
        let long = format!("1;{}", "a".repeat(257));
        assert_eq!(read(&long), Step::Malformed(2 + 256));
        let long = format!("0\r\n{}", "a".repeat(16_385));
        assert_eq!(read(&long), Step::Malformed(3 + 16_384));
        assert_eq!(read("5\r\nhelloworld"), Step::Malformed(8));
    }

    #[test]
    fn no_bytes_and_no_splits_make_it_panic() {
        let alphabet = b"0159afAF;=\r\n\r\n\t x\0";
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let body: String = (0..24)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    char::from(alphabet[(seed >> 16) as usize % alphabet.len()])
                })
                .collect();
            read(&body);
        }
    }
}
