//! Tags that a response carries, so that all responses with a tag can be purged together.

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// The tags of a response, sorted and each once.
pub(crate) type Tags<'h> = SmallVec<[&'h [u8]; 8]>;

/// A response has more tags, or a longer one, than is kept. It should not be stored: a purge by a tag that was
/// dropped would leave it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// The tags in a field such as `Cache-Tag` or `Surrogate-Key`, between commas or spaces. Case matters.
pub(crate) fn tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Tags<'h>, TooMany> {
    let mut tags = Tags::new();
    let all = headers.get_all(name).iter().flat_map(|line| {
        line.as_bytes()
            .split(|byte| matches!(byte, b',' | b' ' | b'\t'))
            .filter(|tag| !tag.is_empty())
    });
    for tag in all {
        if tags.len() == MOST || tag.len() > LONGEST {
            return Err(TooMany);
        }
        tags.push(tag);
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// Tags, with those that are there twice.
const MOST: usize = 1024;
/// Of a tag, in bytes.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("cache-tag");

    fn headers(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| (NAME, line.parse().unwrap()));
        let mut headers = HeaderMap::new();
        lines.for_each(|(name, line)| {
            headers.append(name, line);
        });
        headers
    }

    #[test]
    fn tags_are_between_commas_or_spaces() {
        let headers = headers(&["b,a , c", "a  Z,,"]);
        assert_eq!(
            tags(&headers, &NAME).unwrap().as_slice(),
            [&b"Z"[..], b"a", b"b", b"c"]
        );
        assert!(tags(&HeaderMap::new(), &NAME).unwrap().is_empty());
    }

    #[test]
    fn a_response_with_too_many_tags_has_none() {
        let many = |count: usize| headers(&[&vec!["t"; count].join(" ")]);
        assert_eq!(tags(&many(MOST), &NAME).unwrap().len(), 1);
        assert_eq!(tags(&many(MOST + 1), &NAME), Err(TooMany));
        assert!(tags(&headers(&[&"t".repeat(LONGEST)]), &NAME).is_ok());
        assert_eq!(
            tags(&headers(&[&"t".repeat(LONGEST + 1)]), &NAME),
            Err(TooMany)
        );
    }
}
