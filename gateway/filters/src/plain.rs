//! Bodies of responses that a filter wants to read: whole ones, in no coding.

use std::borrow::Cow;

use edgeway_sdk::prelude::*;

use crate::list::members;

/// Has the target send bodies that can be read.
///
/// `Accept-Encoding` goes: what is not compressed need not be unpacked. `Range` goes as well where the path looks
/// like that of a text, since an edited body has no parts that fit the endpoint's; where it looks like that of a
/// film or an archive, those who fetch it need their ranges.
pub(crate) fn ask(request: &mut Request<'_>) {
    request.remove_header(&header::ACCEPT_ENCODING);
    if is_likely_text(request.path()) {
        ask_for_all(request);
    }
}

/// Has the target send whole bodies.
pub(crate) fn ask_for_all(request: &mut Request<'_>) {
    request.remove_header(&header::RANGE);
    request.remove_header(&header::IF_RANGE);
}

/// What a response is to a filter that edits bodies of some media types.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Of another type, or of none.
    Other,
    /// Of such a type, but in a coding.
    Coded,
    /// To be edited. It may be absent: then there is nothing to edit but its tag and its length. Or some parts of one,
    /// of whatever type, which are not passed on.
    Plain,
}

impl Body {
    pub(crate) fn of(response: &Response<'_>, fits: impl Fn(&str) -> bool) -> Self {
        let fits = match content_type(response.headers()) {
            Some(content_type) => {
                fits(&content_type) || essence(&content_type).eq_ignore_ascii_case(PARTS)
            }
            // It may be of a body that was edited when the client got it.
            None => response.status() == StatusCode::NOT_MODIFIED,
        };
        match fits {
            false => Self::Other,
            true if is_coded(response.headers()) => Self::Coded,
            true => Self::Plain,
        }
    }
}

/// Has the body pass through `edit`, and takes back what has been said of its bytes.
pub(crate) fn edit(response: &mut Response<'_>, edit: impl BodyEdit + 'static) {
    for name in &DIGESTS {
        response.remove_header(name);
    }
    response.edit_body(edit);
}

/// Whether the body that belongs to these headers is compressed, or coded in another way.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    members(headers, &header::CONTENT_ENCODING).any(|coding| {
        let is_none = coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
        !is_none
    })
}

/// What `Content-Type` says, whatever bytes it has: that some are no text must not hide what a body is.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let value = headers.get(header::CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()))
}

/// The type without its parameters, as it was written.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_likely_text(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.rsplit_once('.').is_none_or(|(_, extension)| {
        TEXTS
            .iter()
            .any(|text| text.eq_ignore_ascii_case(extension))
    })
}

/// What carries parts of a body, whose own type stands in each of them.
const PARTS: &str = "multipart/byteranges";

const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

const TEXTS: [&str; 20] = [
    "asp", "aspx", "cgi", "css", "csv", "do", "htm", "html", "js", "json", "jsp", "map", "md",
    "mjs", "php", "shtml", "svg", "txt", "xhtml", "xml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_looks_like_a_text_if_it_ends_like_one_or_in_no_way() {
        for path in [
            "/",
            "/users/7",
            "/v1.2/users",
            "/a.html",
            "/a/B.HTM",
            "/x.min.js",
        ] {
            assert!(is_likely_text(path), "{path}");
        }
        for path in ["/film.mp4", "/a/b.tar.gz", "/a.html/b.iso"] {
            assert!(!is_likely_text(path), "{path}");
        }
    }

    #[test]
    fn a_coding_is_seen_wherever_it_stands() {
        let coded = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            is_coded(&headers)
        };
        assert!(coded(&["gzip"]) && coded(&["identity", "br"]) && coded(&["identity, gzip"]));
        assert!(!coded(&[]) && !coded(&["", "Identity"]));
    }
}
