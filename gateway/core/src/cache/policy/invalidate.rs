//! What a request that changes something makes invalid (RFC 9111, section 4.4).

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONTENT_LOCATION, LOCATION},
};
use smallvec::SmallVec;

/// Where a request went, as the client has named it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: &'a str,
    /// The host, and the port if it is not that of the scheme.
    pub(crate) authority: &'a str,
    /// Begins with `/`. May have a query.
    pub(crate) path: &'a str,
}

/// The paths, with their queries, that a request has made invalid: that of its target, and those of
/// `Location` and `Content-Location`. They have the scheme and the authority of the target, because nothing
/// else may be touched. Empty if the method is safe or the response says that it failed.
pub(crate) fn invalidated(
    method: &Method,
    target: Target<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> SmallVec<[String; 3]> {
    let done = status.is_success() || status.is_redirection();
    if method.is_safe() || !done {
        return SmallVec::new();
    }
    let mut paths = SmallVec::new();
    paths.push(target.path.to_owned());
    let places = [LOCATION, CONTENT_LOCATION];
    for path in places
        .iter()
        .filter_map(|name| place(target, headers, name))
    {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn place(target: Target<'_>, headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    resolve(target, headers.get(name)?.to_str().ok()?.trim())
}

/// The path and query of a reference (RFC 3986, section 5.2), if it has the origin of the target.
fn resolve(target: Target<'_>, reference: &str) -> Option<String> {
    let reference = before(reference, '#');
    let (scheme, rest) = match scheme(reference) {
        Some((scheme, rest)) => (scheme, rest),
        None if !reference.starts_with("//") => return Some(merge(target.path, reference)),
        None => (target.scheme, reference),
    };
    let rest = rest.strip_prefix("//")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let same = scheme.eq_ignore_ascii_case(target.scheme)
        && origin(scheme, authority).eq_ignore_ascii_case(origin(target.scheme, target.authority));
    same.then(|| merge("/", path))
}

/// `https` and `//host/path` of `https://host/path`.
fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let first = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    (first && scheme.bytes().all(inside)).then_some((scheme, rest))
}

/// An authority without the port that goes without saying.
fn origin<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    authority.strip_suffix(':').unwrap_or(authority)
}

fn merge(base: &str, reference: &str) -> String {
    let (path, query) = match reference.find('?') {
        Some(mark) => reference.split_at(mark),
        None => (reference, ""),
    };
    let base_path = before(base, '?');
    if path.is_empty() {
        // An empty reference is the base, query and all.
        return match query {
            "" => base.to_owned(),
            query => format!("{base_path}{query}"),
        };
    }
    let folder = match path.starts_with('/') {
        true => "",
        false => base_path.rsplit_once('/').map_or("", |(folder, _)| folder),
    };
    let mut whole = without_dots(folder, path);
    whole.push_str(query);
    whole
}

/// A folder and a path below it as one path, in which `.` and `..` have been followed.
fn without_dots(folder: &str, path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let path = path.strip_prefix('/').unwrap_or(path);
    let folder = folder.strip_prefix('/').map(|folder| folder.split('/'));
    let segments = folder.into_iter().flatten().chain(path.split('/'));
    let mut open = false;
    for segment in segments {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut whole = String::with_capacity(path.len() + 1);
    for segment in &kept {
        whole.push('/');
        whole.push_str(segment);
    }
    if open || whole.is_empty() {
        whole.push('/');
    }
    whole
}

fn before(text: &str, mark: char) -> &str {
    text.split(mark).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'static> = Target {
        scheme: "https",
        authority: "a.example",
        path: "/b/c/d?q",
    };

    #[test]
    fn references_are_resolved_as_rfc_3986_has_it() {
        for (reference, path) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d?y"),
            ("g?y", "/b/c/g?y"),
            ("g#s", "/b/c/g"),
            ("", "/b/c/d?q"),
            ("#s", "/b/c/d?q"),
            (".", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("./a:b", "/b/c/a:b"),
            ("//a.example/x", "/x"),
            ("https://A.example:443", "/"),
            ("HTTPS://a.example?x", "/?x"),
            ("https://a.example:/x//y", "/x//y"),
        ] {
            assert_eq!(
                resolve(TARGET, reference).as_deref(),
                Some(path),
                "{reference}"
            );
        }
    }

    #[test]
    fn another_origin_is_left_alone() {
        for reference in [
            "https://b.example/x",
            "http://a.example/x",
            "https://a.example:8443/x",
            "https://user@a.example/x",
            "//a.example.evil/x",
            "mailto:x",
            "https:g",
        ] {
            assert_eq!(resolve(TARGET, reference), None, "{reference}");
        }
    }

    #[test]
    fn only_a_success_of_an_unsafe_method_invalidates() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "new".parse().unwrap());
        headers.insert(CONTENT_LOCATION, "/b/c/d?q".parse().unwrap());
        let paths = |method: &str, status: u16| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            invalidated(&method, TARGET, status, &headers).to_vec()
        };
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
            assert_eq!(paths(method, 201), ["/b/c/d?q", "/b/c/new"], "{method}");
            assert_eq!(paths(method, 303), ["/b/c/d?q", "/b/c/new"], "{method}");
            assert!(
                paths(method, 500).is_empty() && paths(method, 404).is_empty(),
                "{method}"
            );
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(paths(method, 200).is_empty(), "{method}");
        }
    }
}
