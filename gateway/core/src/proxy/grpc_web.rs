//! gRPC-Web: how pages in browsers call services of gRPC.
//!
//! A page can't send the frames of HTTP/2, and sees nothing behind the body of an answer. So it calls over any version
//! of HTTP with the content type `application/grpc-web`, or with `application/grpc-web-text` in Base64. The endpoint
//! gets a call of gRPC, and what it says behind its messages becomes the last message of the body. An error without a
//! message stays in the head, where gRPC has it too
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).
//!
//! Filters see what the client sends and gets. Only their hook `upstream` sees the head of gRPC.

mod base64;

use ::base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{ACCEPT, CONTENT_TYPE, TE, TRANSFER_ENCODING},
};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

use self::base64::{Decoder, Malformed};
use super::body;
use crate::snapshot::{Route, Target};

/// The call of a page, while it is translated.
#[derive(Debug)]
pub(super) struct Call {
    sent: Coding,
    wanted: Coding,
    upload: Decoder,
    answer: Answer,
}

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Binary,
    Text,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// None has come, or one that is not gRPC: it passes as it is.
    Foreign,
    /// Messages come. How the call went may have been told in the head.
    Messages { told: bool },
    /// All was said.
    Ended,
}

/// The call that a request is, if its route translates such calls.
pub(super) fn recognise(request: &RequestHeader, route: &Route) -> Option<Call> {
    let translates = matches!(&route.target, Target::Upstream(forward) if forward.grpc_web);
    translates.then(|| Call::of(request)).flatten()
}

impl Call {
    fn of(request: &RequestHeader) -> Option<Self> {
        let sent = Coding::of(content_type(&request.headers)?)?;
        (request.method == Method::POST).then(|| Self {
            sent,
            wanted: Coding::wanted(&request.headers).unwrap_or(sent),
            upload: Decoder::default(),
            answer: Answer::Foreign,
        })
    }

    /// Makes the head for an endpoint one of gRPC. Called at each try, which gets the body from its beginning.
    pub(super) fn ask(&mut self, request: &mut RequestHeader) -> Result<()> {
        self.upload = Decoder::default();
        let translated = content_type(&request.headers).and_then(|kind| {
            let format = after(kind, TEXT).or_else(|| after(kind, BINARY))?;
            Some(format!("{GRPC}{format}"))
        });
        if let Some(translated) = translated {
            request.insert_header(CONTENT_TYPE, translated)?;
        }
        // So a service knows that nobody on the way drops its trailers. Pingora has removed it from requests of HTTP/1.1.
        if request.version == Version::HTTP_2 {
            request.insert_header(TE, HeaderValue::from_static("trailers"))?;
        }
        Ok(())
    }

    /// Whether the body that the endpoint gets has another length than the client's.
    pub(super) fn changes_length(&self) -> bool {
        self.sent == Coding::Text
    }

    /// A piece of the request's body, as the endpoint gets it.
    ///
    /// # Errors
    ///
    /// It is no Base64, which the client has said it is.
    pub(super) fn upload(
        &mut self,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> std::result::Result<(), &'static str> {
        if self.sent == Coding::Binary {
            return Ok(());
        }
        let piece = body.take().unwrap_or_default();
        let decoded = self.upload.decode(&piece, end);
        // An empty piece holds data back; none at all would end the body.
        *body = Some(decoded.map_err(|Malformed| "the body is not Base64")?);
        Ok(())
    }

    /// Makes the head of an endpoint's answer the one that the client gets, if it is of gRPC.
    pub(super) fn answered(
        &mut self,
        client: Version,
        response: &mut ResponseHeader,
    ) -> Result<()> {
        let kind = content_type(&response.headers);
        let Some(format) = kind.and_then(|kind| after(kind, GRPC)) else {
            return Ok(());
        };
        let translated = format!("{}{format}", self.wanted.name());
        response.insert_header(CONTENT_TYPE, translated)?;
        if body::has_no_body(response.status) {
            return Ok(());
        }
        body::reframe(response)?;
        if client == Version::HTTP_11 {
            response.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        let told = response.headers.contains_key(STATUS);
        self.answer = Answer::Messages { told };
        Ok(())
    }

    /// A piece of the answer's body, as the client gets it.
    pub(super) fn download(&mut self, body: &mut Option<Bytes>, end: bool) {
        let Answer::Messages { told } = self.answer else {
            return;
        };
        let last = end.then(|| self.finish(told, &HeaderMap::new())).flatten();
        let piece = body.take().map(|piece| self.wanted.encode(piece));
        *body = match (piece, last) {
            (Some(piece), Some(last)) => Some([piece, last].concat().into()),
            (piece, last) => piece.or(last),
        };
    }

    /// What the endpoint says behind its messages, as the client gets it; none if that passes as it is.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) -> Option<Bytes> {
        let Answer::Messages { told } = self.answer else {
            return None;
        };
        self.finish(told, trailers)
    }

    /// The last message; none if there is nothing to say. A client that is told nothing of how the call went would
    /// take it for a success.
    fn finish(&mut self, told: bool, trailers: &HeaderMap) -> Option<Bytes> {
        self.answer = Answer::Ended;
        let unknown = [(STATUS, UNKNOWN), (MESSAGE, NOT_TOLD)];
        let silent = !told && !trailers.contains_key(STATUS);
        let unknown = unknown.iter().filter(|_| silent);
        let fields = trailers
            .iter()
            .chain(unknown.map(|(name, value)| (name, value)));
        let mut fields = fields.peekable();
        fields.peek()?;
        Some(self.wanted.encode(message(fields)))
    }

    /// The content type of a refusal.
    pub(super) fn kind(&self) -> HeaderValue {
        HeaderValue::from_static(self.wanted.name())
    }

    /// The body of a refusal that is told by these fields. They stand in the head, too: some clients look for them in one
    /// place if the status is no success, and some in the other.
    pub(super) fn refusal(&self, fields: &[(HeaderName, HeaderValue)]) -> Bytes {
        let fields = fields.iter().map(|(name, value)| (name, value));
        self.wanted.encode(message(fields))
    }
}

impl Coding {
    /// The one that a content type names; none if it is of something else.
    fn of(kind: &str) -> Option<Self> {
        let is = |name| after(kind, name).is_some();
        let text = is(TEXT).then_some(Self::Text);
        text.or_else(|| is(BINARY).then_some(Self::Binary))
    }

    /// The first one that `Accept` names.
    fn wanted(headers: &HeaderMap) -> Option<Self> {
        let lines = headers.get_all(ACCEPT).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        lines
            .flat_map(|line| line.split(','))
            .find_map(|kind| Self::of(kind.trim()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Binary => BINARY,
            Self::Text => TEXT,
        }
    }

    /// Each piece by itself, padded: the client is to have it at once.
    fn encode(self, bytes: Bytes) -> Bytes {
        match self {
            Self::Binary => bytes,
            Self::Text => STANDARD.encode(bytes).into(),
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

/// What a content type says behind this name, such as the format of the messages; none if it has another name.
fn after<'k>(kind: &'k str, name: &str) -> Option<&'k str> {
    let (beginning, rest) = kind.split_at_checked(name.len())?;
    let ends = rest.is_empty() || rest.starts_with(['+', ';', ' ']);
    (ends && beginning.eq_ignore_ascii_case(name)).then_some(rest)
}

/// The message that tells what gRPC has behind its messages.
fn message<'f>(fields: impl Iterator<Item = (&'f HeaderName, &'f HeaderValue)>) -> Bytes {
    let mut message = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            message.extend_from_slice(part);
        }
    }
    let length = u32::try_from(message.len() - PREFIX);
    let length = length.expect("no map of headers holds as much as 4 GiB");
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message.into()
}

const GRPC: &str = "application/grpc";
const BINARY: &str = "application/grpc-web";
const TEXT: &str = "application/grpc-web-text";

/// What stands before a message: its kind, and its length in four bytes.
const PREFIX: usize = 5;
/// The kind of the last message.
const TRAILERS: u8 = 0x80;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const UNKNOWN: HeaderValue = HeaderValue::from_static("2");
const NOT_TOLD: HeaderValue =
    HeaderValue::from_static("the service has not said how the call went");

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: &str, accept: Option<&str>) -> RequestHeader {
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        request.set_version(Version::HTTP_2);
        request.insert_header(CONTENT_TYPE, kind).unwrap();
        if let Some(accept) = accept {
            request.insert_header(ACCEPT, accept).unwrap();
        }
        request
    }

    /// A call that has this answer, and how the content type of that is told.
    fn answered(call: &str, fields: &[(&'static str, &str)]) -> (Call, ResponseHeader) {
        let mut call = Call::of(&request(call, None)).unwrap();
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            response.insert_header(*name, *value).unwrap();
        }
        call.answered(Version::HTTP_11, &mut response).unwrap();
        (call, response)
    }

    const MESSAGES: [(&str, &str); 1] = [("content-type", "application/grpc")];

    fn ended(call: &mut Call) -> Option<Bytes> {
        let mut body = None;
        call.download(&mut body, true);
        body
    }

    #[test]
    fn a_call_becomes_one_of_grpc_in_the_same_format() {
        for (kind, translated) in [
            ("application/grpc-web", "application/grpc"),
            ("application/grpc-web-text", "application/grpc"),
            ("application/grpc-web+proto", "application/grpc+proto"),
            ("Application/gRPC-Web-Text+json", "application/grpc+json"),
            ("application/grpc-web; a=b", "application/grpc; a=b"),
        ] {
            let mut request = request(kind, None);
            Call::of(&request).unwrap().ask(&mut request).unwrap();
            assert_eq!(request.headers[CONTENT_TYPE], translated);
            assert_eq!(request.headers[TE], "trailers");
        }
    }

    #[test]
    fn what_is_no_call_of_a_page_is_none() {
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-websocket",
            "application/grpc-web-textual",
            "application/json",
            "",
        ] {
            assert!(Call::of(&request(kind, None)).is_none(), "{kind}");
        }
        let mut get = request(BINARY, None);
        get.set_method(Method::GET);
        assert!(Call::of(&get).is_none());
    }

    #[test]
    fn the_answer_is_written_as_the_client_accepts_it_or_else_as_it_has_called() {
        for (kind, accept, wanted) in [
            (BINARY, None, Coding::Binary),
            (TEXT, None, Coding::Text),
            (BINARY, Some("*/*"), Coding::Binary),
            (TEXT, Some("*/*"), Coding::Text),
            (
                BINARY,
                Some("application/grpc-web-text+proto"),
                Coding::Text,
            ),
            (
                TEXT,
                Some("text/html, application/grpc-web"),
                Coding::Binary,
            ),
        ] {
            let call = Call::of(&request(kind, accept)).unwrap();
            assert_eq!(call.wanted, wanted, "{kind} {accept:?}");
        }
    }

    #[test]
    fn a_try_gets_the_body_from_its_beginning() {
        let mut head = request(TEXT, None);
        let mut call = Call::of(&head).unwrap();
        for _ in 0..2 {
            call.ask(&mut head).unwrap();
            let mut body = Some(Bytes::from_static(b"YWJjY"));
            call.upload(&mut body, false).unwrap();
            assert_eq!(body.as_deref(), Some(&b"abc"[..]));
        }
        let mut nothing = None;
        assert!(call.upload(&mut nothing, true).is_err());
    }

    #[test]
    fn what_grpc_has_behind_its_messages_is_the_last_message() {
        let (mut call, head) = answered(BINARY, &MESSAGES);
        assert_eq!(head.headers[CONTENT_TYPE], "application/grpc-web");
        let mut body = Some(Bytes::from_static(b"hello"));
        call.download(&mut body, false);
        assert_eq!(body.as_deref(), Some(&b"hello"[..]));
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", HeaderValue::from_static("0"));
        trailers.append("x-a", HeaderValue::from_static("1"));
        trailers.append("x-a", HeaderValue::from_static("2"));
        let last = call.trailers(&trailers).unwrap();
        let text = b"\x80\0\0\0\x20grpc-status: 0\r\nx-a: 1\r\nx-a: 2\r\n";
        assert_eq!(text[4] as usize + PREFIX, text.len());
        assert_eq!(&last[..], text);
        assert_eq!(ended(&mut call), None);
    }

    #[test]
    fn text_is_encoded_piece_by_piece() {
        let kind = [("content-type", "application/grpc+json")];
        let (mut call, head) = answered(TEXT, &kind);
        assert_eq!(head.headers[CONTENT_TYPE], "application/grpc-web-text+json");
        for _ in 0..2 {
            let mut body = Some(Bytes::from_static(b"a"));
            call.download(&mut body, false);
            assert_eq!(body.as_deref(), Some(&b"YQ=="[..]));
        }
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", HeaderValue::from_static("0"));
        let last = call.trailers(&trailers).unwrap();
        let last = STANDARD.decode(last).unwrap();
        assert_eq!(last, b"\x80\0\0\0\x10grpc-status: 0\r\n");
    }

    #[test]
    fn silence_about_how_the_call_went_is_no_success() {
        let unknown = "grpc-status: 2\r\ngrpc-message: ";
        let says = |last: &[u8]| String::from_utf8_lossy(last).contains(unknown);
        let (mut call, _) = answered(BINARY, &MESSAGES);
        let mut body = Some(Bytes::from_static(b"hello"));
        call.download(&mut body, true);
        let body = body.unwrap();
        assert!(body.starts_with(b"hello\x80") && says(&body));
        assert_eq!(call.trailers(&HeaderMap::new()), None);

        let (mut call, _) = answered(BINARY, &MESSAGES);
        assert!(says(&call.trailers(&HeaderMap::new()).unwrap()));

        let told = [MESSAGES[0], ("grpc-status", "5")];
        let (mut call, head) = answered(BINARY, &told);
        assert_eq!(head.headers["grpc-status"], "5");
        assert_eq!(ended(&mut call), None);
    }

    #[test]
    fn an_answer_that_is_not_grpc_passes_as_it_is() {
        for kind in ["text/html", "application/grpc-web", "application/json"] {
            let fields = [("content-type", kind), ("content-length", "5")];
            let (mut call, head) = answered(TEXT, &fields);
            assert_eq!(head.headers[CONTENT_TYPE], kind);
            assert_eq!(head.headers["content-length"], "5");
            let mut body = Some(Bytes::from_static(b"hello"));
            call.download(&mut body, true);
            assert_eq!(body.as_deref(), Some(&b"hello"[..]));
            assert_eq!(call.trailers(&HeaderMap::new()), None);
        }
    }
}
