//! As much of HTTP/1.1 as a load generator needs: write a request, recognise a whole answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Largest answer understood: head and body.
pub(crate) const ANSWER_LIMIT: usize = 128 * 1024;

/// What the head of an answer must say: the name of a header, and how its value begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sign(pub(crate) &'static str, pub(crate) &'static str);

/// One whole answer at the front of the bytes it was parsed from.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// Bytes of head and body together.
    pub(crate) length: usize,
}

/// The head of an answer whose body may be of any length.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// None for a body in chunks.
    pub(crate) length: Option<u64>,
    pub(crate) coding: Option<String>,
    /// How long the head itself is.
    pub(crate) bytes: usize,
}

impl Head {
    /// `Ok(None)` means that more bytes are needed.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let start = match head.parse(bytes) {
            Ok(httparse::Status::Complete(start)) => start,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("a head that is not HTTP ({error})")),
        };
        let value = |name: &str| {
            let mut headers = head.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
            str::from_utf8(header.value).ok()
        };
        let length = value("content-length").and_then(|length| length.parse().ok());
        if length.is_none() && value("transfer-encoding") != Some("chunked") {
            return Err("an answer without a length or chunks".to_owned());
        }
        Ok(Some(Self {
            status: head.code.expect("a complete head has a status"),
            length,
            coding: value("content-encoding").map(str::to_owned),
            bytes: start,
        }))
    }
}

/// `Ok(None)` means that more bytes are needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    parse_signed(bytes, None)
}

/// As [`parse`]; an answer without the sign is an error.
pub(crate) fn parse_signed(bytes: &[u8], sign: Option<Sign>) -> Result<Option<Answer<'_>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("a head that is not HTTP ({error})")),
    };
    let length = start + content_length(head.headers)?;
    if length > ANSWER_LIMIT {
        return Err(format!("an answer of {length} bytes"));
    }
    let status = head.code.expect("a complete head has a status");
    if let Some(sign) = sign
        && !sign.is_in(head.headers)
    {
        let Sign(name, value) = sign;
        return Err(format!("status {status} without `{name}: {value}`"));
    }
    Ok(bytes.get(start..length).map(|body| Answer {
        status,
        body,
        length,
    }))
}

impl Sign {
    fn is_in(self, headers: &[httparse::Header<'_>]) -> bool {
        headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case(self.0) && header.value.starts_with(self.1.as_bytes())
        })
    }
}

/// The path of a whole request; `None` means that more bytes are needed.
pub(crate) fn path(bytes: &[u8]) -> io::Result<Option<String>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(io::Error::other)?;
    let path = request.path.unwrap_or_default();
    Ok(parsed.is_complete().then(|| path.to_owned()))
}

/// A keep-alive request without a body; `headers` are whole lines without their ends.
pub(crate) fn get(path: &str, headers: &[&str]) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// An answer with status 200.
pub(crate) fn answer(body: &[u8]) -> Vec<u8> {
    answer_with("", body)
}

/// The same with more in its head: whole lines with their ends.
pub(crate) fn answer_with(lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\n{lines}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Asks once, on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(answer) = parse(&received).map_err(io::Error::other)? {
            return Ok((answer.status, answer.body.to_vec()));
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => received.extend(&chunk[..count]),
        }
    }
}

/// A body of unknown length is refused: an upstream that says how long its answer is must be
/// heard by the client.
fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize, String> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| str::from_utf8(header.value).ok())
        .and_then(|value| value.trim().parse::<usize>().ok())
        .map(|length| length.min(ANSWER_LIMIT + 1))
        .ok_or_else(|| "an answer without a content-length".to_owned())
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(None), "{end} bytes");
        }
        let answer = parse(whole).unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.body, answer.length),
            (200, &b"ok"[..], whole.len())
        );
    }

    #[test]
    fn an_answer_without_its_sign_is_refused() {
        let hit =
            b"HTTP/1.1 200 OK\r\ncache-status: edgeway; hit; ttl=9\r\ncontent-length: 0\r\n\r\n";
        let with = |name, value| parse_signed(hit, Some(Sign(name, value)));
        assert!(with("Cache-Status", "edgeway; hit").is_ok());
        for (name, value) in [
            ("Cache-Status", "edgeway; fwd"),
            ("X-Cache", "edgeway; hit"),
        ] {
            assert!(with(name, value).unwrap_err().contains("without"), "{name}");
        }
    }

    #[test]
    fn bytes_of_a_next_answer_are_not_part_of_this_one() {
        let answer = parse(b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1").unwrap();
        assert_eq!(answer.unwrap().length, 38);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for (bytes, reason) in [
            (
                &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
                "without a content-length",
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
                "an answer of",
            ),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        ] {
            assert!(parse(bytes).unwrap_err().contains(reason), "{reason}");
        }
    }
}
