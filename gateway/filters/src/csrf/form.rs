//! Fields of forms, in the two ways that browsers send them.

use std::borrow::Cow;

use edgeway_sdk::message::query_value;

/// How a form is sent.
#[derive(Debug, PartialEq)]
pub(super) enum Form {
    /// As a query is written.
    Urlencoded,
    /// In parts between lines with this text (RFC 7578).
    Multipart(String),
}

impl Form {
    /// By the `Content-Type` of the body; none if that is no form.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = essence.trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Some(Self::Urlencoded);
        }
        if !essence.eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary")?;
        (!boundary.is_empty() && boundary.len() <= BOUNDARY).then_some(Self::Multipart(boundary))
    }

    /// The first field of this name.
    pub(super) fn field<'a>(&self, body: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Urlencoded => {
                let value = query_value(std::str::from_utf8(body).ok()?, name)?;
                Some(match value {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            }
            Self::Multipart(boundary) => part(body, boundary, name).map(Cow::Borrowed),
        }
    }
}

fn part<'a>(body: &'a [u8], boundary: &str, name: &str) -> Option<&'a [u8]> {
    let line = format!("\r\n--{boundary}");
    // The first line has no end of another before it.
    let mut rest = match body.strip_prefix(line.trim_start().as_bytes()) {
        Some(rest) => rest,
        None => split(body, line.as_bytes())?.1,
    };
    loop {
        let (whole, after) = split(rest, line.as_bytes())?;
        // What stands behind the boundary in its line means nothing.
        let (_, inside) = split(whole, b"\r\n")?;
        let (head, content) = match inside.strip_prefix(b"\r\n") {
            Some(content) => (&b""[..], content),
            None => split(inside, b"\r\n\r\n")?,
        };
        if is_named(head, name) {
            return Some(content);
        }
        rest = after;
    }
}

/// Whether the head of a part is that of the field with this name, and not of a file.
fn is_named(head: &[u8], name: &str) -> bool {
    let Ok(head) = std::str::from_utf8(head) else {
        return false;
    };
    let disposition = head.split("\r\n").find_map(|line| {
        let (field, value) = line.split_once(':')?;
        let is_it = field.trim().eq_ignore_ascii_case("content-disposition");
        is_it.then_some(value)
    });
    let parameters = disposition.and_then(|value| value.split_once(';'));
    let Some((kind, parameters)) = parameters else {
        return false;
    };
    kind.trim().eq_ignore_ascii_case("form-data")
        && parameter(parameters, "filename").is_none()
        && parameter(parameters, "name").as_deref() == Some(name)
}

/// A parameter, without the quotes that it may stand in.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    parameters.split(';').find_map(|pair| {
        let (known, value) = pair.split_once('=')?;
        let value = value.trim();
        let quoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        let is_it = known.trim().eq_ignore_ascii_case(name);
        is_it.then(|| quoted.unwrap_or(value).to_owned())
    })
}

fn split<'a>(bytes: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(by.len()).position(|window| window == by)?;
    Some((bytes.get(..at)?, bytes.get(at + by.len()..)?))
}

/// The most letters of a boundary (RFC 2046, 5.1.1).
const BOUNDARY: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(content_type: &str, body: &str) -> Option<String> {
        let form = Form::of(content_type)?;
        let value = form.field(body.as_bytes(), "csrf_token")?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn a_field_of_a_urlencoded_form_is_found_and_decoded() {
        let kind = "application/x-www-form-urlencoded";
        for (body, value) in [
            ("a=1&csrf_token=x.y&b=2", Some("x.y")),
            ("csrf%5Ftoken=x%2Ey", Some("x.y")),
            ("csrf_token=", Some("")),
            ("xcsrf_token=1&a=csrf_token=2", None),
            ("", None),
        ] {
            assert_eq!(field(kind, body).as_deref(), value, "{body}");
        }
        let kind = "Application/X-WWW-Form-Urlencoded; charset=UTF-8";
        assert_eq!(field(kind, "csrf_token=1").as_deref(), Some("1"));
    }

    #[test]
    fn a_field_of_a_multipart_form_is_found_between_others_and_files() {
        let kind = "multipart/form-data; boundary=\"--x y\"";
        let body = "preamble\r\n----x y\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"csrf_token\"\r\n\r\nname=\"csrf_token\"\r\n\
            ----x y  \r\n\
            content-disposition: form-data; filename=a; name=\"csrf_token\"\r\n\r\nof a file\r\n\
            ----x y\r\n\
            Content-Type: text/plain\r\ncontent-disposition: form-data;name=\"csrf_token\"\r\n\r\nx.y\r\n\
            ----x y--\r\n";
        assert_eq!(field(kind, body).as_deref(), Some("x.y"));
        let first = body.strip_prefix("preamble\r\n").unwrap();
        assert_eq!(field(kind, first).as_deref(), Some("x.y"));
        // One that breaks off has no field.
        let cut = body.split("x.y\r\n").next().unwrap();
        assert_eq!(field(kind, cut), None);
    }

    #[test]
    fn what_is_no_form_has_no_fields() {
        for kind in [
            "text/plain",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=x",
            "",
        ] {
            assert_eq!(Form::of(kind), None, "{kind}");
        }
        assert_eq!(
            Form::of(&format!("multipart/form-data; boundary={}", "x".repeat(71))),
            None
        );
        for body in [
            "",
            "--x",
            "--x\r\n",
            "--x\r\n\r\n",
            "--x--\r\n",
            "\r\n--x\r\n\r\n\r\n--x--",
        ] {
            assert_eq!(
                field("multipart/form-data; boundary=x", body),
                None,
                "{body:?}"
            );
        }
    }
}
