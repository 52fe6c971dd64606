//! As much of HTTP/1.1 as a load generator needs: write a request, recognise a whole answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Largest answer understood: head and body.
pub(crate) const ANSWER_LIMIT: usize = 16 * 1024;

/// One whole answer at the front of the bytes it was parsed from.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// Bytes of head and body together.
    pub(crate) length: usize,
}

/// `Ok(None)` means that more bytes are needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
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
    Ok(bytes.get(start..length).map(|body| Answer {
        status,
        body,
        length,
    }))
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
