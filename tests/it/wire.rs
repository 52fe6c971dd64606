//! What an endpoint sees of a request, byte for byte.

use std::sync::{Arc, Mutex};

use edgeway_tests::{Caller, Upstream};

/// One request as an endpoint has seen it, that is as strict as can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// With the empty line that ends it.
    pub(crate) head: String,
    /// Without its chunks.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        let wanted = fields.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value).collect()
    }

    /// What the endpoint answers.
    pub(crate) fn told(&self) -> String {
        format!("{}: {}", self.line(), String::from_utf8_lossy(&self.body))
    }
}

/// An endpoint that notes each whole request, and answers with its line and its body.
pub(crate) fn noting() -> (Upstream, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let upstream = Upstream::raw(move |mut caller| {
        while let Some(request) = receive(&mut caller) {
            let told = request.told();
            noted.lock().unwrap().push(request);
            let length = told.len();
            caller.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{told}"
            ));
        }
    });
    (upstream, seen)
}

/// A whole request; none if the gateway has closed before its end.
pub(crate) fn receive(caller: &mut Caller) -> Option<Seen> {
    let head = caller.head()?;
    let mut seen = Seen {
        head,
        body: Vec::new(),
    };
    if seen.all("expect") == ["100-continue"] {
        caller.send("HTTP/1.1 100 Continue\r\n\r\n");
    }
    let (lengths, codings) = (seen.all("content-length"), seen.all("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => {}
        ([length], []) => {
            let plain = length.bytes().all(|byte| byte.is_ascii_digit());
            assert!(plain, "the endpoint was sent {head:?}", head = seen.head);
            seen.body = caller.body(length.parse().ok()?)?;
        }
        ([], ["chunked"]) => while chunk(caller, &mut seen.body)? {},
        _ => panic!("the endpoint was sent {:?}", seen.head),
    }
    Some(seen)
}

/// One more chunk; false if it was the last one.
fn chunk(caller: &mut Caller, body: &mut Vec<u8>) -> Option<bool> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(caller.body(1)?);
    }
    let digits = str::from_utf8(&line[..line.len() - 2]).unwrap();
    let size = usize::from_str_radix(digits, 16);
    let size = size.unwrap_or_else(|_| panic!("the endpoint was sent the chunk size {digits:?}"));
    body.extend(caller.body(size)?);
    assert_eq!(caller.body(2)?, b"\r\n", "the end of a chunk");
    Some(size > 0)
}
