//! Headers that are lists (RFC 9110, section 5.6.1).

use edgeway_sdk::prelude::*;

/// The members of a list, from all its lines; they may be empty.
pub(crate) fn members<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii)
}

/// Says in `Vary` that the response is another one for other values of the first of these request headers; nothing if
/// that is said already.
pub(crate) fn vary(response: &mut Response<'_>, names: &'static str) {
    let first = names.split(',').next().unwrap_or_default();
    let known = members(response.headers(), &header::VARY)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(first.as_bytes()));
    if !known {
        response.append_header(header::VARY, HeaderValue::from_static(names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_those_of_all_lines() {
        let mut headers = HeaderMap::new();
        for line in ["a,\tb ", "", " c"] {
            headers.append(header::VARY, HeaderValue::from_static(line));
        }
        let found: Vec<_> = members(&headers, &header::VARY).collect();
        assert_eq!(found, [&b"a"[..], b"b", b"", b"c"]);
        assert_eq!(members(&headers, &header::ACCEPT).count(), 0);
    }
}
