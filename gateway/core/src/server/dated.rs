//! The date of a response that was made before it is sent.
//!
//! Pingora writes the present time over the `Date` of every head of HTTP/1.1, and has no switch for that. But
//! caches tell from it how old a response is, and it is not for us to change (RFC 9110, 6.6.1): that of a
//! stored response is put back where its head is written.

use std::{ops::Range, sync::OnceLock};

use http::HeaderValue;
use memchr::memchr_iter;

/// The date of the next response, if it is not that of its sending.
#[derive(Debug, Default)]
pub(super) struct Dated(OnceLock<HeaderValue>);

impl Dated {
    /// For the next response. Of several the first counts.
    pub(super) fn set(&self, date: HeaderValue) {
        drop(self.0.set(date));
    }

    pub(super) fn clear(&mut self) {
        self.0.take();
    }

    /// What is to be written, if this is the head of the response, in three pieces.
    pub(super) fn rewrite<'a>(
        &mut self,
        written: &'a [u8],
    ) -> Option<(&'a [u8], HeaderValue, &'a [u8])> {
        self.0.get()?;
        let place = place(written)?;
        let before = written.get(..place.start)?;
        let after = written.get(place.end..)?;
        Some((before, self.0.take()?, after))
    }
}

/// Where the date is in a final head.
fn place(head: &[u8]) -> Option<Range<usize>> {
    if !head.starts_with(b"HTTP/1.") || head.get(9) == Some(&b'1') {
        return None;
    }
    let mut start = 0;
    for newline in memchr_iter(b'\n', head) {
        let end = newline + 1;
        let line = head.get(start..end)?;
        if line == b"\r\n" {
            return None;
        }
        let name = line.get(..NAME.len());
        if name.is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            return line
                .ends_with(b"\r\n")
                .then_some(start + NAME.len()..end - 2);
        }
        start = end;
    }
    None
}

const NAME: &[u8] = b"date: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn dated() -> Dated {
        let dated = Dated::default();
        dated.set(HeaderValue::from_static("then"));
        dated
    }

    fn rewritten(dated: &mut Dated, written: &str) -> Option<String> {
        let (before, date, after) = dated.rewrite(written.as_bytes())?;
        let whole = [before, date.as_bytes(), after].concat();
        Some(String::from_utf8(whole).unwrap())
    }

    #[test]
    fn the_date_of_the_next_final_head_is_replaced_and_that_of_no_other() {
        let mut dated = dated();
        let interim = "HTTP/1.1 103 Early Hints\r\ndate: now\r\n\r\n";
        assert_eq!(rewritten(&mut dated, interim), None);
        assert_eq!(rewritten(&mut dated, "date: now\r\n\r\n"), None);
        let head = "HTTP/1.1 200 OK\r\nX-Date: now\r\nDate: now\r\nConnection: close\r\n\r\nbody";
        let then = "HTTP/1.1 200 OK\r\nX-Date: now\r\nDate: then\r\nConnection: close\r\n\r\nbody";
        assert_eq!(rewritten(&mut dated, head).as_deref(), Some(then));
        assert_eq!(rewritten(&mut dated, head), None);
    }

    #[test]
    fn a_body_is_left_as_it_is() {
        let body = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nDate: now\r\n";
        assert_eq!(rewritten(&mut dated(), body), None);
        assert_eq!(rewritten(&mut dated(), "HTTP/1.1 200 OK\r\nDate: no"), None);
    }

    #[test]
    fn what_is_cleared_is_not_for_the_response_after() {
        let mut dated = dated();
        dated.clear();
        assert_eq!(
            rewritten(&mut dated, "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n"),
            None
        );
    }
}
