//! What a hook is given: a view of the request, the attempt, the response or the record.
//!
//! Each hook has one argument, so that a view can grow without breaking filters, and each view can
//! be made without a socket, by [`test`](crate::test).

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request, response,
};
use percent_encoding::percent_decode_str;

use crate::{
    BodyEdit, Error, Exchange, Identity, Result, Trace, Values,
    body::Edit,
    exchange::{Content, Scheme, Speed},
};

/// The head of a request, wherever it is kept, and a way to its body.
#[async_trait]
pub trait RequestHead: Send + Sync {
    /// Method, target and headers.
    fn parts(&self) -> &request::Parts;
    /// Replaces all headers of this name by one.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Adds a header beside those of the same name.
    fn append(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all headers of this name.
    fn remove(&mut self, name: &HeaderName);
    /// Replaces the query of the target; none takes the question mark away too.
    fn set_query(&mut self, query: Option<&str>);
    /// Whether a body follows.
    fn has_body(&mut self) -> bool;
    /// Reads the body that follows, all of it.
    ///
    /// # Errors
    ///
    /// There is none to be read here, it is longer than `max` bytes, or it did not come.
    async fn body(&mut self, max: usize) -> Result<Bytes> {
        let _ = max;
        Err(Error::status(500).because("the body can't be read here"))
    }
}

/// The head of a response, wherever it is kept.
pub trait ResponseHead: Send + Sync {
    /// Status and headers.
    fn parts(&self) -> &response::Parts;
    /// Changes the status.
    fn set_status(&mut self, status: StatusCode);
    /// Replaces all headers of this name by one.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Adds a header beside those of the same name.
    fn append(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all headers of this name.
    fn remove(&mut self, name: &HeaderName);
}

/// The longest body that [`Request::body`] reads.
pub const WHOLE_BODY: usize = 64 * 1024;

/// Whether a header belongs to the connection or to the framing of the body (RFC 9110, 7.6.1; RFC
/// 9112, 6). The gateway alone decides on these: a filter that could change them could smuggle.
pub fn is_framing(name: &HeaderName) -> bool {
    const FRAMING: [&str; 9] = [
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    FRAMING.contains(&name.as_str())
}

/// What holds for one body alone, beside its type and its length.
const OF_A_BODY: [HeaderName; 14] = [
    header::ACCEPT_RANGES,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LAST_MODIFIED,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("signature"),
    HeaderName::from_static("signature-input"),
];

/// Whether two names of headers, in lower case, differ in nothing but `_` for `-`: WSGI and CGI applications can't tell
/// them apart.
pub fn is_twin(one: &str, other: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(dashed).eq(other.bytes().map(dashed))
}

/// A request on its way down the chain.
pub struct Request<'a> {
    head: &'a mut dyn RequestHead,
    exchange: &'a mut Exchange,
}

impl<'a> Request<'a> {
    /// A view of this head and this exchange.
    pub fn new(head: &'a mut dyn RequestHead, exchange: &'a mut Exchange) -> Self {
        Self { head, exchange }
    }

    /// Method, target and headers, as earlier filters left them.
    pub fn parts(&self) -> &request::Parts {
        self.head.parts()
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.parts().method
    }

    /// How the client reached the edge.
    pub fn scheme(&self) -> Scheme {
        self.exchange.scheme
    }

    /// The host that was asked for: lower case, without port or trailing dot.
    pub fn host(&self) -> &str {
        &self.exchange.host
    }

    /// The path as routes match it: normalised, not decoded any further.
    pub fn path(&self) -> &str {
        path(self.head.parts(), self.exchange)
    }

    /// The query as it was sent, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.head.parts().uri.query()
    }

    /// The first value of this name in the query, decoded as a form (`+` is a space).
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.query()?, name)
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.parts().headers
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie(self.headers(), name)
    }

    /// Replaces all headers of this name by one; later filters and the upstream see it.
    ///
    /// The headers that frame the message ([`is_framing`]) are the gateway's: they stay as they are.
    pub fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !is_framing(&name) {
            self.head.set(name, value);
        }
    }

    /// Adds a header beside those of the same name; see [`set_header`](Self::set_header).
    pub fn append_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !is_framing(&name) {
            self.head.append(name, value);
        }
    }

    /// Removes all headers of this name; see [`set_header`](Self::set_header).
    pub fn remove_header(&mut self, name: &HeaderName) {
        if !is_framing(name) {
            self.head.remove(name);
        }
    }

    /// Takes all values of this name out of the query: neither later filters nor logs, caches and the upstream
    /// see them.
    pub fn remove_query(&mut self, name: &str) {
        let Some(query) = self.query() else { return };
        let is_other = |pair: &&str| form_decode(pair.split('=').next().unwrap_or(pair)) != name;
        let rest: Vec<_> = query.split('&').filter(is_other).collect();
        if rest.len() < query.split('&').count() {
            let rest = rest.join("&");
            self.head.set_query((!rest.is_empty()).then_some(&rest));
        }
    }

    /// The address of the client, as far as trusted proxies tell.
    pub fn client(&self) -> IpAddr {
        self.exchange.client
    }

    /// The address of the connection: the client's, or that of a proxy in front of us.
    pub fn peer(&self) -> SocketAddr {
        self.exchange.peer
    }

    /// The id of the request.
    pub fn id(&self) -> &str {
        self.exchange.id()
    }

    /// The name of the route.
    pub fn route(&self) -> &str {
        &self.exchange.route
    }

    /// Who is calling, if a filter before this one has found out.
    pub fn identity(&self) -> Option<&Identity> {
        self.exchange.values.get()
    }

    /// What filters tell each other.
    pub fn values(&self) -> &Values {
        &self.exchange.values
    }

    /// What filters tell each other, to add to.
    pub fn values_mut(&mut self) -> &mut Values {
        &mut self.exchange.values
    }

    /// The trace that the request is part of, if a filter before this one follows it.
    pub fn trace(&self) -> Option<&Trace> {
        self.exchange.trace.as_ref()
    }

    /// Says which trace the request is part of, for logs and for filters after this one.
    pub fn set_trace(&mut self, trace: Trace) {
        self.exchange.trace = Some(trace);
    }

    /// Has the body pass through `edit`, after the edits of filters before this one.
    pub fn edit_body(&mut self, edit: impl BodyEdit + 'static) {
        self.exchange.request_edits.push(Edit {
            edit: Box::new(edit),
            caller: self.exchange.caller,
        });
    }

    /// Whether a body follows the head. It may be empty all the same, if its length is not known beforehand.
    pub fn has_body(&mut self) -> bool {
        self.head.has_body()
    }

    /// The whole body, as the client sent it. The upstream is sent it all the same; edits of filters before this one
    /// are not seen here.
    ///
    /// Waits for the client. To decide by a body that may be long use [`edit_body`](Self::edit_body).
    ///
    /// # Errors
    ///
    /// 413 if it is longer than `max`, which can't be more than [`WHOLE_BODY`]; 400 or 408 if it does not come.
    pub async fn body(&mut self, max: usize) -> Result<Bytes> {
        self.head.body(max.min(WHOLE_BODY)).await
    }

    /// All that belongs to this request but the head.
    pub fn exchange(&self) -> &Exchange {
        self.exchange
    }
}

/// A request on its way to one endpoint.
pub struct Upstream<'a> {
    head: &'a mut dyn RequestHead,
    exchange: &'a mut Exchange,
    endpoint: &'a str,
    attempt: u32,
}

impl<'a> Upstream<'a> {
    /// A view of this attempt, the first being number 1.
    pub fn new(
        head: &'a mut dyn RequestHead,
        exchange: &'a mut Exchange,
        endpoint: &'a str,
        attempt: u32,
    ) -> Self {
        Self {
            head,
            exchange,
            endpoint,
            attempt,
        }
    }

    /// The endpoint as the configuration writes it.
    pub fn endpoint(&self) -> &str {
        self.endpoint
    }

    /// Which attempt this is: 1, 2, ...
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Method, target and headers, as the endpoint will see them.
    pub fn parts(&self) -> &request::Parts {
        self.head.parts()
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.parts().method
    }

    /// The target as the endpoint will see it: path and query.
    pub fn target(&self) -> &str {
        self.head
            .parts()
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str())
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.parts().headers
    }

    /// Replaces all headers of this name by one. Framing headers ([`is_framing`]) stay.
    pub fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !is_framing(&name) {
            self.head.set(name, value);
        }
    }

    /// Adds a header beside those of the same name. Framing headers ([`is_framing`]) stay.
    pub fn append_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !is_framing(&name) {
            self.head.append(name, value);
        }
    }

    /// Removes all headers of this name. Framing headers ([`is_framing`]) stay.
    pub fn remove_header(&mut self, name: &HeaderName) {
        if !is_framing(name) {
            self.head.remove(name);
        }
    }

    /// All that belongs to this request but the head.
    pub fn exchange(&self) -> &Exchange {
        self.exchange
    }

    /// What filters tell each other, to add to.
    pub fn values_mut(&mut self) -> &mut Values {
        &mut self.exchange.values
    }
}

/// Where a response came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An endpoint.
    Upstream,
    /// The gateway itself: a filter's reply, a fixed one, an error.
    Reply,
    /// The cache.
    Cache,
}

/// A response on its way up the chain.
pub struct Response<'a> {
    head: &'a mut dyn ResponseHead,
    request: &'a request::Parts,
    exchange: &'a mut Exchange,
    origin: Origin,
}

impl<'a> Response<'a> {
    /// A view of this head, which answers this request.
    pub fn new(
        head: &'a mut dyn ResponseHead,
        request: &'a request::Parts,
        exchange: &'a mut Exchange,
        origin: Origin,
    ) -> Self {
        Self {
            head,
            request,
            exchange,
            origin,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.parts().status
    }

    /// Changes the status. Meant for statuses of the same kind: a body stays as it is.
    pub fn set_status(&mut self, status: StatusCode) {
        self.head.set_status(status);
    }

    /// Where the response came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.parts().headers
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Replaces all headers of this name by one. Framing headers ([`is_framing`]) stay.
    pub fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !is_framing(&name) {
            self.head.set(name, value);
        }
    }

    /// Adds a header beside those of the same name. Framing headers ([`is_framing`]) stay.
    pub fn append_header(&mut self, name: HeaderName, value: HeaderValue) {
        if !is_framing(&name) {
            self.head.append(name, value);
        }
    }

    /// Removes all headers of this name. Framing headers ([`is_framing`]) stay.
    pub fn remove_header(&mut self, name: &HeaderName) {
        if !is_framing(name) {
            self.head.remove(name);
        }
    }

    /// The request that this answers, as filters left it.
    pub fn request(&self) -> &request::Parts {
        self.request
    }

    /// The path of the request as routes match it.
    pub fn path(&self) -> &str {
        path(self.request, self.exchange)
    }

    /// All that belongs to this request but the heads.
    pub fn exchange(&self) -> &Exchange {
        self.exchange
    }

    /// What filters tell each other, to add to.
    pub fn values_mut(&mut self) -> &mut Values {
        &mut self.exchange.values
    }

    /// Who has written the body, as far as it was decided.
    pub fn content(&self) -> &Content {
        &self.exchange.content
    }

    /// Puts this body in the place of the one that comes, with its length. What was said of that one goes with it: how
    /// it is coded, its validators, its digests. So do edits of filters below this one; those above see this body.
    ///
    /// To a `HEAD`, and with a status that has no body, none is sent.
    pub fn replace_body(&mut self, content_type: HeaderValue, body: impl Into<Bytes>) {
        // Of a 416 it says how long the body is of which no part is there.
        let is_length = self.status() == StatusCode::RANGE_NOT_SATISFIABLE;
        for name in &OF_A_BODY {
            if !(is_length && name == header::CONTENT_RANGE) {
                self.head.remove(name);
            }
        }
        if self.status() == StatusCode::PARTIAL_CONTENT {
            self.head.set_status(StatusCode::OK);
        }
        self.head.set(header::CONTENT_TYPE, content_type);
        self.exchange.response_edits.clear();
        self.exchange.replacement = Some(body.into());
        self.exchange.content = Content::Replaced;
    }

    /// Has the body pass through `edit`, before the edits of filters above this one.
    ///
    /// The client is given the whole body then, whichever part it asks for. A part that the endpoint has made can't
    /// be edited: the client gets 416, unless the filter has removed `Range` from the request.
    pub fn edit_body(&mut self, edit: impl BodyEdit + 'static) {
        self.exchange.response_edits.push(Edit {
            edit: Box::new(edit),
            caller: self.exchange.caller,
        });
    }

    /// Has the body go out at this many bytes per second, once the first `after` bytes are sent. The slowest of several
    /// filters counts.
    pub fn limit_rate(&mut self, rate: NonZeroU64, after: u64) {
        let speed = &mut self.exchange.speed;
        if speed.is_none_or(|known| rate < known.rate) {
            *speed = Some(Speed { rate, after });
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Record<'a> {
    /// The request, as filters left it.
    pub request: &'a request::Parts,
    /// All that belongs to this request but the heads.
    pub exchange: &'a Exchange,
    /// The status that was sent; none if the client left before.
    pub status: Option<StatusCode>,
    /// The headers that were sent.
    pub response_headers: Option<&'a HeaderMap>,
    /// Where the response came from.
    pub origin: Origin,
    /// Bytes of the request's body that were read.
    pub bytes_received: u64,
    /// Bytes of the response's body that were sent.
    pub bytes_sent: u64,
    /// The upstream, if the route has one.
    pub upstream: Option<&'a str>,
    /// The endpoint of the last attempt, as the configuration writes it.
    pub endpoint: Option<&'a str>,
    /// How many attempts were made.
    pub attempts: u32,
    /// What became of each of them.
    pub tries: &'a [Try<'a>],
    /// The listener that the client has come to.
    pub listener: &'a str,
    /// From the arrival of the head to when the filters were done with it: all had let it pass, or one had
    /// replied. None if no filter looks at requests.
    pub filtered: Option<Duration>,
    /// From the arrival of the head to the last byte.
    pub duration: Duration,
    /// From the arrival of the head to the head of the endpoint's response.
    pub upstream_duration: Option<Duration>,
    /// What went wrong, if the request did not end as it should.
    pub error: Option<&'a str>,
}

/// One attempt to have an endpoint answer a request. All times are since the request's head had arrived.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    /// Which attempt it is: 1, 2, ...
    pub number: u32,
    /// The endpoint as the configuration writes it.
    pub endpoint: &'a str,
    /// Whether it was made beside the one before it, as that was silent.
    pub hedged: bool,
    /// When the endpoint was chosen.
    pub chosen: Duration,
    /// When there was a connection to it; none if there never was.
    pub connected: Option<Duration>,
    /// Whether that was one that other requests have used before.
    pub reused: bool,
    /// When the whole request was sent.
    pub sent: Option<Duration>,
    /// When the head of the answer had come.
    pub answered: Option<Duration>,
    /// When it had failed, or was given up: the request went on without it, or ended.
    pub ended: Option<Duration>,
    /// The status of the answer.
    pub status: Option<StatusCode>,
    /// What went wrong, in one word: `ConnectRefused`. That may be after an answer has begun.
    pub error: Option<&'static str>,
}

impl Record<'_> {
    /// The path as routes match it.
    pub fn path(&self) -> &str {
        path(self.request, self.exchange)
    }

    /// The first header of this name in the request, if it is text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.request.headers.get(name)?.to_str().ok()
    }
}

fn path<'a>(head: &'a request::Parts, exchange: &'a Exchange) -> &'a str {
    exchange
        .normalised
        .as_deref()
        .unwrap_or_else(|| head.uri.path())
}

/// The first cookie of this name (RFC 6265, 5.4), without quotes, if it is text.
///
/// Cookies are read one by one: what another application has stored for this host, in whatever
/// encoding, must not hide ours.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair.trim_ascii()).ok()?.split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.trim_matches('"'))
}

/// The first value of this name in a query, decoded as a form (`+` is a space).
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(known, _)| form_decode(known) == name)
        .map(|(_, value)| form_decode(value))
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[async_trait]
impl RequestHead for request::Parts {
    fn parts(&self) -> &request::Parts {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.headers.remove(name);
    }

    fn set_query(&mut self, query: Option<&str>) {
        if let Some(uri) = with_query(&self.uri, query) {
            self.uri = uri;
        }
    }

    fn has_body(&mut self) -> bool {
        let length = self.headers.get(header::CONTENT_LENGTH);
        length.is_some_and(|length| length != "0")
            || self.headers.contains_key(header::TRANSFER_ENCODING)
    }
}

/// A URI with another query; none if that is no query.
pub fn with_query(uri: &Uri, query: Option<&str>) -> Option<Uri> {
    let mut target = uri.path().to_owned();
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

impl ResponseHead for response::Parts {
    fn parts(&self) -> &response::Parts {
        self
    }

    fn set_status(&mut self, status: StatusCode) {
        self.status = status;
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_several_headers() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; bb=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=\"3\"; c"));
        assert_eq!(cookie(&headers, "b"), Some("3"));
        assert_eq!(cookie(&headers, "bb"), Some("2"));
        assert_eq!(cookie(&headers, "c"), None);
    }

    #[test]
    fn a_cookie_is_found_beside_one_that_is_not_ascii() {
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"name=\xc3\xa9; odd=\xff; sid=7");
        headers.append(header::COOKIE, line.unwrap());
        assert_eq!(cookie(&headers, "sid"), Some("7"));
        assert_eq!(cookie(&headers, "name"), Some("\u{e9}"));
        assert_eq!(cookie(&headers, "odd"), None);
    }

    #[test]
    fn a_query_value_is_decoded_as_a_form() {
        assert_eq!(
            query_value("a=1&b=x+y%21&b=2", "b").as_deref(),
            Some("x y!")
        );
        assert_eq!(query_value("%61=1", "a").as_deref(), Some("1"));
        assert_eq!(query_value("a", "a").as_deref(), Some(""));
        assert_eq!(query_value("ab=1", "a"), None);
    }

    #[test]
    fn a_filter_cannot_change_how_a_message_is_framed() {
        let (mut head, ()) = http::Request::get("/")
            .header("content-length", "5")
            .body(())
            .unwrap()
            .into_parts();
        let mut exchange = Exchange::new(([127, 0, 0, 1], 1).into());
        let mut request = Request::new(&mut head, &mut exchange);
        request.remove_header(&header::CONTENT_LENGTH);
        request.set_header(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
        assert_eq!(request.header(header::CONTENT_LENGTH), Some("5"));
        assert_eq!(request.header(header::TRANSFER_ENCODING), None);
    }
    /// A request for `target`, and what belongs to it.
    fn request_for(target: &str) -> (request::Parts, Exchange) {
        let (head, ()) = http::Request::get(target).body(()).unwrap().into_parts();
        (head, Exchange::new(([127, 0, 0, 1], 1).into()))
    }

    #[test]
    fn all_values_of_a_name_leave_the_query_and_the_others_stay_as_they_were() {
        for (target, rest) in [
            ("/a?key=1", "/a"),
            ("/a?x=%20&key=1&y&%6bey=2", "/a?x=%20&y"),
            ("/a?keys=1", "/a?keys=1"),
            ("/a?key", "/a"),
            ("/a", "/a"),
            ("http://h.test/a?key=1&b", "http://h.test/a?b"),
        ] {
            let (mut head, mut exchange) = request_for(target);
            Request::new(&mut head, &mut exchange).remove_query("key");
            assert_eq!(head.uri.to_string(), rest, "{target}");
        }
    }

    #[test]
    fn a_body_in_the_place_of_another_has_nothing_of_that_one() {
        struct Nothing;
        impl BodyEdit for Nothing {
            fn edit(&mut self, _: Bytes, _: bool) -> Result<Bytes> {
                Ok(Bytes::new())
            }
        }
        let (request, mut exchange) = request_for("/");
        let response = http::Response::builder().status(206);
        let response = response.header("content-encoding", "gzip");
        let response = response.header("etag", "\"a\"").header("retry-after", "5");
        let (mut head, ()) = response.body(()).unwrap().into_parts();
        let mut response = Response::new(&mut head, &request, &mut exchange, Origin::Upstream);
        response.edit_body(Nothing);
        response.replace_body(HeaderValue::from_static("text/plain"), "page");
        assert_eq!(response.content(), &Content::Replaced);
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["retry-after", "content-type"]);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(exchange.replacement.as_deref(), Some(&b"page"[..]));
        assert!(exchange.response_edits.is_empty());
    }

    #[test]
    fn the_slowest_of_several_filters_says_how_fast_a_body_goes() {
        let (request, mut exchange) = request_for("/");
        let (mut head, ()) = http::Response::new(()).into_parts();
        let mut response = Response::new(&mut head, &request, &mut exchange, Origin::Reply);
        for (rate, after) in [(500, 1), (100, 2), (300, 3)] {
            response.limit_rate(NonZeroU64::new(rate).unwrap(), after);
        }
        let speed = exchange.speed.unwrap();
        assert_eq!((speed.rate.get(), speed.after), (100, 2));
    }

    #[test]
    fn a_refusal_comes_through_an_error_whole() {
        let reply = crate::Reply::new(413).rule("size").key("b").because("why");
        let error = Error::refusal(reply.detail("Too large."));
        assert_eq!((error.code().as_u16(), error.reason()), (413, "why"));
        let reply = crate::Reply::from(error);
        assert_eq!(reply.decided_by_rule(), Some("size"));
        assert_eq!(
            (reply.about(), reply.client_detail()),
            (Some("b"), Some("Too large."))
        );
    }
}
