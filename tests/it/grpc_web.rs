//! gRPC-Web: pages in browsers call services of gRPC, in binary and in Base64, over HTTP/1.1 and HTTP/2.

use std::fmt::Display;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use edgeway_tests::{
    Authority, Break, Connection, Endpoint, Gateway, Http2, PATIENCE, Reaction, Received,
    eventually,
};

/// How a page calls.
#[derive(Clone, Copy, Debug)]
struct Page {
    text: bool,
    http2: bool,
}

const PAGES: [Page; 4] = [
    Page::new(false, false),
    Page::new(false, true),
    Page::new(true, false),
    Page::new(true, true),
];

impl Page {
    const fn new(text: bool, http2: bool) -> Self {
        Self { text, http2 }
    }

    fn kind(self) -> &'static str {
        match self.text {
            false => "application/grpc-web+proto",
            true => "application/grpc-web-text+proto",
        }
    }

    fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self.text {
            false => bytes.to_vec(),
            true => STANDARD.encode(bytes).into(),
        }
    }

    /// Each group of four characters by itself: padding may stand in the middle.
    fn decode(self, body: &[u8]) -> Vec<u8> {
        let decoded = |group| STANDARD.decode(group).expect("four characters of Base64");
        match self.text {
            false => body.to_vec(),
            true => body.chunks(4).flat_map(decoded).collect(),
        }
    }

    /// Calls with one message.
    #[track_caller]
    fn call(self, gateway: &Gateway, method: &str, text: &str) -> Told {
        self.send(gateway, method, &[self.encode(&message(text))])
    }

    /// Calls with a body in these pieces, as they are.
    #[track_caller]
    fn send(self, gateway: &Gateway, method: &str, pieces: &[Vec<u8>]) -> Told {
        let (status, headers, body) = match self.http2 {
            false => self.over_http1(&mut gateway.connect(), method, pieces),
            true => self.over_http2(&Http2::open(gateway.address()), method, pieces),
        };
        Told::new(status, headers, &self.decode(&body))
    }

    #[track_caller]
    fn over_http1(self, way: &mut Connection, method: &str, pieces: &[Vec<u8>]) -> Answered {
        let request = way.request("POST", method);
        let request = request.header("Content-Type", self.kind());
        let answer = match pieces {
            [whole] => request.body(whole.clone()),
            _ => request.chunks(pieces.to_vec()),
        };
        let answer = answer.send();
        (answer.status, answer.headers, answer.body)
    }

    #[track_caller]
    fn over_http2(self, way: &Http2, method: &str, pieces: &[Vec<u8>]) -> Answered {
        let mut request = way.request("POST", method, "");
        let kind = self.kind().parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        let mut call = way.begin(request);
        pieces.iter().for_each(|piece| call.send(piece.clone()));
        call.end();
        let (status, headers) = call.head().unwrap();
        let mut body = Vec::new();
        while let Some(piece) = call.piece().unwrap() {
            body.extend(piece);
        }
        assert!(call.trailers().unwrap().is_empty(), "a page sees none");
        let lines = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        (status, lines.collect(), body)
    }
}

/// Status, head and body.
type Answered = (u16, Vec<(String, String)>, Vec<u8>);

/// What a page is told.
#[derive(Debug)]
struct Told {
    status: u16,
    headers: Vec<(String, String)>,
    messages: Vec<Vec<u8>>,
    /// The lines of the last message, if that is not one of the service.
    last: Vec<(String, String)>,
}

impl Told {
    /// Reads a body strictly.
    #[track_caller]
    fn new(status: u16, headers: Vec<(String, String)>, mut body: &[u8]) -> Self {
        let mut told = Self {
            status,
            headers,
            messages: Vec::new(),
            last: Vec::new(),
        };
        while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
            let [kind, length @ ..] = *prefix;
            let (content, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
            assert!(told.last.is_empty(), "something follows the last message");
            match kind {
                0 => told.messages.push(content.to_vec()),
                0x80 => told.last = lines(content),
                _ => panic!("no kind of message: {kind}"),
            }
            body = rest;
        }
        assert!(body.is_empty(), "a part of a message is left: {body:?}");
        told
    }

    fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    fn last(&self, name: &str) -> Option<&str> {
        find(&self.last, name)
    }

    fn text(&self) -> Vec<&str> {
        let texts = self.messages.iter();
        texts.map(|text| str::from_utf8(text).unwrap()).collect()
    }
}

/// A block of headers, of which each has its end.
#[track_caller]
fn lines(block: &[u8]) -> Vec<(String, String)> {
    let text = str::from_utf8(block).unwrap();
    let text = text.strip_suffix("\r\n").expect("the end of a line");
    let lines = text.split("\r\n").map(|line| line.split_once(": "));
    let lines = lines.map(|line| line.expect("a name and a value"));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn find<'l>(lines: &'l [(String, String)], name: &str) -> Option<&'l str> {
    let mut found = lines
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "`{name}` twice: {lines:?}");
    value
}

/// A message as it is sent.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), text.as_bytes()].concat()
}

fn gateway(endpoint: impl Display) -> Gateway {
    Gateway::start(&format!(
        "
        upstreams: {{ app: {{ protocol: http2, endpoints: ['{endpoint}'] }} }}
        routes: [{{ grpc_web: true, upstream: app }}]
        "
    ))
}

fn service(react: impl Fn(&Received) -> Reaction + Send + Sync + 'static) -> Endpoint {
    Endpoint::setup("service").h2c().answers(react).start()
}

fn hello(_: &Received) -> Reaction {
    Reaction::grpc(Some(b"hello"), 0)
}

// ---- calls --------------------------------------------------------------------------------------

#[test]
fn the_call_of_a_page_is_one_of_grpc_for_the_service() {
    let endpoint = service(|request| hello(request).trailer("x-cost", 7));
    let gateway = gateway(&endpoint);
    for page in PAGES {
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_eq!(
            (told.status, told.text()),
            (200, vec!["hello"]),
            "{page:?} {told:?}"
        );
        let kind = page.kind().strip_suffix("+proto").unwrap();
        assert_eq!(told.header("content-type"), Some(kind), "as the service");
        assert_eq!(told.last("grpc-status"), Some("0"));
        assert_eq!(told.last("x-cost"), Some("7"));
        let seen = endpoint.received().pop().unwrap();
        assert_eq!(&*seen.body, message("item"), "{page:?}");
        assert_eq!(seen.header_all("content-type"), ["application/grpc+proto"]);
        assert_eq!(seen.header_all("te"), ["trailers"]);
    }
}

#[test]
fn connections_go_on_after_calls_and_errors() {
    let endpoint = service(|request| match request.path.ends_with("Add") {
        true => hello(request),
        false => Reaction::grpc(None, 5).header("grpc-message", "no such item"),
    });
    let gateway = gateway(&endpoint);
    for page in PAGES.into_iter().filter(|page| !page.http2) {
        let mut way = gateway.connect();
        for method in ["/shop.Cart/Add", "/shop.Cart/Find"].repeat(3) {
            let body = [page.encode(&message("item"))];
            assert_eq!(page.over_http1(&mut way, method, &body).0, 200);
        }
    }
}

/// Where gRPC has it, too: a page may read it if CORS exposes it.
#[test]
fn an_error_without_a_message_stays_in_the_head() {
    let endpoint = service(|_| Reaction::grpc(None, 5).header("grpc-message", "no such item"));
    let gateway = gateway(&endpoint);
    for page in PAGES {
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_eq!(told.status, 200, "{page:?}");
        assert_eq!(told.header("grpc-status"), Some("5"));
        assert_eq!(told.header("grpc-message"), Some("no such item"));
        assert!(told.header("content-type").unwrap().contains("grpc-web"));
        assert!(told.messages.is_empty() && told.last.is_empty());
    }
}

#[test]
fn an_error_after_messages_is_the_last_message() {
    let endpoint = service(|_| Reaction::grpc(Some(b"half"), 13).trailer("grpc-message", "lost"));
    let gateway = gateway(&endpoint);
    for page in PAGES {
        let told = page.call(&gateway, "/shop.Cart/List", "");
        assert_eq!(told.text(), ["half"], "{page:?}");
        assert_eq!(told.last("grpc-status"), Some("13"));
        assert_eq!(told.last("grpc-message"), Some("lost"));
    }
}

/// A page would take silence for success.
#[test]
fn a_service_that_does_not_say_how_the_call_went_has_not_succeeded() {
    let endpoint = service(|_| {
        let answer = Reaction::status(200).header("Content-Type", "application/grpc");
        answer.body(message("hello"))
    });
    let gateway = gateway(&endpoint);
    for page in PAGES {
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_eq!(told.text(), ["hello"], "{page:?}");
        assert_eq!(told.last("grpc-status"), Some("2"));
    }
}

#[test]
fn messages_flow_at_once() {
    let endpoint = Endpoint::setup("relay").h2c().relays().start();
    let gateway = gateway(&endpoint);
    for page in PAGES {
        let texts: Vec<_> = (0..20).map(|number| format!("message {number}")).collect();
        match page.http2 {
            false => flows_over_http1(page, &gateway, &texts),
            true => flows_over_http2(page, &gateway, &texts),
        }
    }
}

/// Each message comes back before the next is sent.
fn flows_over_http1(page: Page, gateway: &Gateway, texts: &[String]) {
    let mut way = gateway.connect();
    way.send(format!(
        "POST /chat.Room/Talk HTTP/1.1\r\nHost: a\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        page.kind()
    ));
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    for (number, text) in texts.iter().enumerate() {
        way.send(chunk(&page.encode(&message(text))));
        if number == 0 {
            assert_eq!(way.head().header("Transfer-Encoding"), Some("chunked"));
        }
        assert_eq!(page.decode(&way.chunk().unwrap()), message(text));
    }
    way.send(b"0\r\n\r\n");
    let told = Told::new(200, Vec::new(), &page.decode(&way.chunk().unwrap()));
    assert_eq!(told.last("grpc-status"), Some("0"));
    assert_eq!(way.chunk().unwrap(), b"");
}

fn flows_over_http2(page: Page, gateway: &Gateway, texts: &[String]) {
    let client = Http2::open(gateway.address());
    let mut request = client.request("POST", "/chat.Room/Talk", "");
    let kind = page.kind().parse().unwrap();
    request.headers_mut().insert("content-type", kind);
    let mut call = client.begin(request);
    for text in texts {
        call.send(page.encode(&message(text)));
        let piece = call.piece().unwrap().unwrap();
        assert_eq!(page.decode(&piece), message(text));
    }
    call.end();
    let last = call.piece().unwrap().unwrap();
    let told = Told::new(200, Vec::new(), &page.decode(&last));
    assert_eq!(told.last("grpc-status"), Some("0"));
    assert_eq!(call.piece().unwrap(), None);
}

#[test]
fn a_message_may_be_cut_at_every_byte() {
    let endpoint = service(hello);
    let gateway = gateway(&endpoint);
    for page in PAGES {
        let body = page.encode(&message("an item of the shop"));
        let cuts = (1..body.len()).map(|at| vec![body[..at].to_vec(), body[at..].to_vec()]);
        let bytes = body.iter().map(|byte| vec![*byte]).collect();
        for pieces in cuts.chain([bytes]) {
            let told = page.send(&gateway, "/shop.Cart/Add", &pieces);
            assert_eq!(told.last("grpc-status"), Some("0"), "{page:?} {pieces:?}");
            let seen = endpoint.received().pop().unwrap();
            assert_eq!(&*seen.body, message("an item of the shop"));
        }
    }
}

#[test]
fn padding_may_stand_in_the_middle() {
    let endpoint = service(hello);
    let gateway = gateway(&endpoint);
    for page in PAGES.into_iter().filter(|page| page.text) {
        let parts = message("item")
            .chunks(2)
            .map(|part| page.encode(part))
            .collect::<Vec<_>>();
        for pieces in [parts.clone(), vec![parts.concat()]] {
            let told = page.send(&gateway, "/shop.Cart/Add", &pieces);
            assert_eq!(told.last("grpc-status"), Some("0"), "{page:?}");
            assert_eq!(&*endpoint.received().pop().unwrap().body, message("item"));
        }
    }
}

#[test]
fn messages_may_be_large() {
    let endpoint = service(|request| Reaction::grpc(request.body.get(5..), 0));
    let gateway = gateway(&endpoint);
    let text: String = ('a'..='z').cycle().take(3_000_001).collect();
    for page in PAGES {
        let body = page.encode(&message(&text));
        let pieces: Vec<_> = body.chunks(50_001).map(<[u8]>::to_vec).collect();
        let told = page.send(&gateway, "/shop.Cart/Add", &pieces);
        assert!(told.text() == [&*text], "{page:?}");
        assert_eq!(told.last("grpc-status"), Some("0"));
    }
}

#[test]
fn a_page_gets_the_form_that_it_accepts() {
    let endpoint = service(hello);
    let gateway = gateway(&endpoint);
    let (binary, text) = (PAGES[0], PAGES[2]);
    for (calls, accepts) in [(binary, text), (text, binary)] {
        let request = gateway.request("POST", "/shop.Cart/Add");
        let request = request.header("Content-Type", calls.kind());
        let request = request.header("Accept", accepts.kind());
        let answer = request.body(calls.encode(&message("item"))).send();
        let body = accepts.decode(&answer.body);
        let told = Told::new(answer.status, answer.headers, &body);
        assert_eq!(told.text(), ["hello"], "{calls:?}");
        assert_eq!(&*endpoint.received().pop().unwrap().body, message("item"));
    }
}

#[test]
fn what_is_no_call_of_a_page_passes_as_it_is() {
    let endpoint = service(|request| match &*request.method {
        "GET" => Reaction::status(200)
            .header("Content-Type", "text/plain")
            .body("page"),
        _ => hello(request),
    });
    let gateway = gateway(&endpoint);
    let client = Http2::open(gateway.address());
    let answer = client.call("/shop.Cart/Add", b"item");
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(0)));
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.body, message("hello"));

    let kind = PAGES[2].kind();
    let got = gateway
        .request("GET", "/")
        .header("Content-Type", kind)
        .send();
    assert_eq!((got.status, got.text()), (200, "page"));
    assert_eq!(got.header("Content-Type"), Some("text/plain"));

    let text = STANDARD.encode("text");
    let request = gateway
        .request("POST", "/")
        .header("Content-Type", "text/plain");
    let answer = request.body(text.clone()).send();
    assert_eq!(answer.header("Content-Type"), Some("application/grpc"));
    let seen = endpoint.received().pop().unwrap();
    assert_eq!(&*seen.body, text.as_bytes());
    assert_eq!(seen.header_all("te"), [""; 0]);
}

#[test]
fn without_the_key_nothing_is_translated() {
    let endpoint = service(hello);
    let gateway = Gateway::start(&format!(
        "
        upstreams: {{ app: {{ protocol: http2, endpoints: ['{endpoint}'] }} }}
        routes: [{{ grpc_web: false, upstream: app }}]
        "
    ));
    let client = Http2::open(gateway.address());
    let page = PAGES[3];
    let body = page.encode(&message("item"));
    let mut request = client.request("POST", "/shop.Cart/Add", body.clone());
    let kind = page.kind().parse().unwrap();
    request.headers_mut().insert("content-type", kind);
    let answer = client.send(request).unwrap();
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.trailers["grpc-status"], "0");
    let seen = endpoint.received().pop().unwrap();
    assert_eq!(
        (&*seen.body, seen.header_all("content-type")),
        (&*body, vec![page.kind()])
    );
}

#[test]
fn an_answer_that_is_not_grpc_passes_as_it_is() {
    let endpoint = service(|_| {
        let answer = Reaction::status(418).header("Content-Type", "text/plain");
        answer.body("a teapot")
    });
    let gateway = gateway(&endpoint);
    let request = gateway.request("POST", "/shop.Cart/Add");
    let request = request.header("Content-Type", PAGES[2].kind());
    let answer = request.body(PAGES[2].encode(&message("item"))).send();
    assert_eq!((answer.status, answer.text()), (418, "a teapot"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain"));
}

// ---- failures -----------------------------------------------------------------------------------

/// Clients look for it in the head or in the body, if the status is no success.
#[track_caller]
fn assert_refused(page: Page, told: &Told, status: u16, grpc: &str) {
    assert_eq!(told.status, status, "{page:?} {told:?}");
    let kind = page.kind().strip_suffix("+proto").unwrap();
    assert_eq!(told.header("content-type"), Some(kind));
    assert_eq!(told.header("grpc-status"), Some(grpc));
    assert_eq!(told.last("grpc-status"), Some(grpc));
    let text = told.last("grpc-message");
    assert!(text.is_some_and(|text| !text.is_empty()));
    assert_eq!(told.header("grpc-message"), text);
    assert!(told.messages.is_empty());
}

#[test]
fn a_page_can_read_what_the_gateway_refuses() {
    let endpoint = service(hello);
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ protocol: http2, endpoints: ['{endpoint}'] }}
          gone: {{ protocol: http2, endpoints: ['127.0.0.1:1'] }}
        routes:
          - {{ match: {{ path: /gone.S/ }}, grpc_web: true, upstream: gone }}
          - match: {{ path: /secret.S/ }}
            filters: [{{ jwt: {{ algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef }} }}]
            grpc_web: true
            upstream: app
          - {{ match: {{ path: /small.S/ }}, max_body: 4B, grpc_web: true, upstream: app }}
          - {{ match: {{ path: /plain.S/ }}, upstream: gone }}
        "
    ));
    for page in PAGES {
        for (method, status, grpc) in [
            ("/gone.S/M", 502, "14"),
            ("/secret.S/M", 401, "16"),
            ("/small.S/M", 413, "2"),
        ] {
            let told = page.call(&gateway, method, "item");
            assert_refused(page, &told, status, grpc);
        }
    }
    // Nobody translates there.
    let request = gateway.request("POST", "/plain.S/M");
    let request = request.header("Content-Type", PAGES[0].kind());
    assert_eq!(request.body("item").send().json()["status"], 502);
}

#[test]
fn a_body_that_is_no_base64_is_refused_and_nobody_else_is_to_blame() {
    let endpoint = service(hello);
    let gateway = gateway(&endpoint);
    let good = PAGES[2].encode(&message("item"));
    let half = &good[..good.len() - 1];
    for page in PAGES.into_iter().filter(|page| page.text) {
        for pieces in [
            vec![b"no base64".to_vec()],
            vec![half.to_vec()],
            vec![good.clone(), b"=".to_vec()],
            vec![half.to_vec(), b"!".to_vec()],
            vec![b"Y".to_vec()],
        ] {
            let told = page.send(&gateway, "/shop.Cart/Add", &pieces);
            assert_refused(page, &told, 400, "13");
        }
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_eq!(told.last("grpc-status"), Some("0"), "{page:?}");
    }
    eventually(PATIENCE, || endpoint.in_flight() == 0);
    assert_eq!(endpoint.received().len(), 2, "the others were not whole");
}

#[test]
fn a_service_that_breaks_off_has_not_answered() {
    let endpoint = service(hello);
    let gateway = gateway(&endpoint);
    for page in PAGES {
        endpoint.breaks(Break::BeforeAnswer);
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_refused(page, &told, 502, "14");

        endpoint.breaks(Break::AfterHead);
        let body = page.encode(&message("item"));
        let broken = match page.http2 {
            false => {
                let request = gateway.request("POST", "/shop.Cart/Add");
                let request = request.header("Content-Type", page.kind());
                request.body(body).attempt().is_err()
            }
            true => {
                let client = Http2::open(gateway.address());
                let mut request = client.request("POST", "/shop.Cart/Add", Bytes::from(body));
                let kind = page.kind().parse().unwrap();
                request.headers_mut().insert("content-type", kind);
                client.send(request).is_err()
            }
        };
        assert!(broken, "{page:?}");
        endpoint.behave();
    }
}

#[test]
fn a_call_that_is_tried_again_is_translated_again() {
    let (bad, good) = (service(hello), service(hello));
    bad.breaks(Break::BeforeAnswer);
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ protocol: http2, endpoints: ['{bad}', '{good}'], max_fails: 0 }}
        routes: [{{ grpc_web: true, retry_unsafe: true, upstream: app }}]
        "
    ));
    for page in PAGES {
        for _ in 0..2 {
            let told = page.call(&gateway, "/shop.Cart/Add", "item");
            assert_eq!((told.status, told.text()), (200, vec!["hello"]), "{page:?}");
        }
    }
    assert!(bad.requests() > 0);
    for seen in good.received() {
        assert_eq!(&*seen.body, message("item"));
        assert_eq!(seen.header_all("content-type"), ["application/grpc+proto"]);
    }
}

// ---- what stands beside it ----------------------------------------------------------------------

#[test]
fn pages_of_other_origins_may_call_and_read_everything() {
    let endpoint = service(|request| match request.path.ends_with("Find") {
        true => Reaction::grpc(None, 5),
        false => hello(request),
    });
    let gateway = Gateway::start(&format!(
        "
        upstreams:
          app: {{ protocol: http2, endpoints: ['{endpoint}'] }}
          gone: {{ protocol: http2, endpoints: ['127.0.0.1:1'] }}
        filters:
          - cors:
              origins: [https://app.example.com]
              methods: [POST]
              headers: [Content-Type, X-Grpc-Web, Grpc-Timeout]
              expose: [grpc-status, grpc-message]
        routes:
          - {{ match: {{ path: /gone.S/ }}, grpc_web: true, upstream: gone }}
          - {{ match: {{ path: / }}, grpc_web: true, upstream: app }}
        "
    ));
    let origin = "https://app.example.com";
    let preflight = gateway.request("OPTIONS", "/shop.Cart/Add");
    let preflight = preflight
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type,x-grpc-web")
        .send();
    assert_eq!(preflight.status, 204);
    let allowed = preflight.header("Access-Control-Allow-Headers");
    assert_eq!(allowed, Some("Content-Type, X-Grpc-Web, Grpc-Timeout"));
    assert_eq!(endpoint.requests(), 0);
    for method in ["/shop.Cart/Add", "/shop.Cart/Find", "/gone.S/M"] {
        let request = gateway.request("POST", method).header("Origin", origin);
        let request = request.header("Content-Type", PAGES[0].kind());
        let answer = request.body(message("item")).send();
        let header = |name| answer.header(name);
        assert_eq!(
            header("Access-Control-Allow-Origin"),
            Some(origin),
            "{method}"
        );
        let exposed = header("Access-Control-Expose-Headers");
        assert_eq!(exposed, Some("grpc-status, grpc-message"), "{method}");
    }
}

/// The filter of `gateway/core/examples/mask.rs` looks for text, and holds back what may be its beginning.
#[test]
fn filters_edit_what_the_client_gets() {
    let endpoint = service(hello);
    let yaml = format!(
        "
        upstreams: {{ app: {{ protocol: http2, endpoints: ['{endpoint}'] }} }}
        routes: [{{ filters: [mask: {{ word: ZWxs }}], grpc_web: true, upstream: app }}]
        "
    );
    let gateway = Gateway::setup(&yaml).program("examples/mask").start();
    for page in PAGES.into_iter().filter(|page| page.text) {
        let body = [page.encode(&message("item"))];
        let (status, _, body) = match page.http2 {
            false => page.over_http1(&mut gateway.connect(), "/a.B/C", &body),
            true => page.over_http2(&Http2::open(gateway.address()), "/a.B/C", &body),
        };
        let last = STANDARD.encode(b"\x80\0\0\0\x10grpc-status: 0\r\n");
        let text = String::from_utf8(body).unwrap();
        assert_eq!((status, text), (200, format!("AAAAAAVo****bw=={last}")));
    }
}

/// A gateway that leaves the protocol to the endpoint.
fn in_front_of_either(endpoint: &Endpoint, authority: &Authority) -> Gateway {
    let ca = authority.ca();
    Gateway::start(&format!(
        "
        upstreams: {{ app: {{ protocol: auto, tls: {{ ca: {} }}, endpoints: [{endpoint}] }} }}
        routes: [{{ grpc_web: true, upstream: app }}]
        ",
        ca.display()
    ))
}

#[test]
fn where_there_is_a_choice_of_protocol_http_2_is_chosen() {
    let authority = Authority::new();
    let setup = Endpoint::setup("a").tls(&authority.certificate(&["127.0.0.1"]));
    let endpoint = setup.answers(hello).start();
    let gateway = in_front_of_either(&endpoint, &authority);
    for page in PAGES {
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_eq!(told.text(), ["hello"], "{page:?}");
        assert_eq!(told.last("grpc-status"), Some("0"));
        assert_eq!(endpoint.received().pop().unwrap().version, "HTTP/2.0");
    }
}

/// It can't say how the call went.
#[test]
fn an_endpoint_that_chooses_http_1_has_not_succeeded() {
    let authority = Authority::new();
    let setup = Endpoint::setup("a").tls(&authority.certificate(&["127.0.0.1"]));
    let endpoint = setup.alpn(&["http/1.1"]).answers(hello).start();
    let gateway = in_front_of_either(&endpoint, &authority);
    for page in PAGES {
        let told = page.call(&gateway, "/shop.Cart/Add", "item");
        assert_eq!(told.text(), ["hello"], "{page:?}");
        assert_eq!(told.last("grpc-status"), Some("2"));
        let seen = endpoint.received().pop().unwrap();
        assert_eq!(
            (&*seen.version, &*seen.body),
            ("HTTP/1.1", &*message("item"))
        );
    }
}
