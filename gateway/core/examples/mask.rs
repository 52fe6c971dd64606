//! A gateway with a filter that edits bodies: it hides a word in all that clients get.
//!
//! ```yaml
//! routes:
//!   - filters:
//!       - mask: { word: secret }
//!     upstream: pages
//! ```
//!
//! A body comes in pieces, and the word may begin in one and end in the next. So what may be its
//! beginning is held back until more is known, or the body ends.

use bytes::Bytes;
use edgeway::prelude::*;

#[derive(Deserialize)]
struct Mask {
    word: String,
}

#[async_trait]
impl Filter for Mask {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        // In a compressed body no word can be found.
        request.remove_header(&header::ACCEPT_ENCODING);
        Ok(Flow::Continue)
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        if response.header(header::CONTENT_ENCODING).is_some() {
            return Err(Error::status(502).because("the body is compressed"));
        }
        response.edit_body(Masking {
            word: self.word.clone().into_bytes(),
            held: Vec::new(),
        });
        Ok(())
    }
}

struct Masking {
    word: Vec<u8>,
    /// What may be the beginning of the word.
    held: Vec<u8>,
}

impl BodyEdit for Masking {
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes> {
        if piece.contains(&0) {
            return Err(Error::status(502).because("the body is no text"));
        }
        self.held.extend_from_slice(&piece);
        self.hide();
        let kept = if end { 0 } else { self.beginning() };
        let known = self.held.len() - kept;
        Ok(self.held.drain(..known).collect())
    }
}

impl Masking {
    /// Puts stars in the place of the word.
    fn hide(&mut self) {
        let mut at = 0;
        while let Some(rest) = self.held.get_mut(at..)
            && rest.len() >= self.word.len()
        {
            if !self.word.is_empty() && rest.starts_with(&self.word) {
                rest[..self.word.len()].fill(b'*');
            }
            at += 1;
        }
    }

    /// How many of the last bytes may be the beginning of the word.
    fn beginning(&self) -> usize {
        let most = self.word.len().saturating_sub(1).min(self.held.len());
        let lengths = (1..=most).rev();
        let mut fitting = lengths.filter(|length| self.held.ends_with(&self.word[..*length]));
        fitting.next().unwrap_or(0)
    }
}

fn main() -> ExitCode {
    edgeway::main(edgeway::standard().add("mask", |config: Mask, _| Ok(config)))
}
