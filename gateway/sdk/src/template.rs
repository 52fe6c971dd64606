//! Texts with values of the request in them.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use http::{HeaderName, HeaderValue, request};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::{
    ClientCertificate, Exchange, Identity, Record, Request, Response, Tls, Upstream, message,
};

/// A text with values of the request in it, such as `{client_ip}` or `v1-{header.x-tenant}`.
///
/// What has no value (a header that was not sent) is empty. A brace itself is written twice. The
/// names are those of [`VARIABLES`]; any other is refused when the configuration is read.
///
/// A filter that knows more names than these reads a `Template<V>` with a type `V` of its own: any type
/// that can be made [`FromStr`] the text between the braces. [`Variable::parse_beside`] reads the names
/// that are not its own. It writes out the [`pieces`](Self::pieces) itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<V = Variable> {
    pieces: Vec<Piece<V>>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<V = Variable> {
    /// What stands outside of braces.
    Text(String),
    /// What stands for a value.
    Value(V),
}

/// The names that may stand in braces, and what they mean.
pub const VARIABLES: [(&str, &str); 26] = [
    (
        "client_ip",
        "the client's address, as far as trusted proxies tell",
    ),
    ("peer_ip", "the address of the connection"),
    ("peer_port", "its port"),
    ("scheme", "http or https, as the client used it"),
    ("host", "the host that was asked for, without port"),
    (
        "authority",
        "the host that was asked for, with the port if one was given",
    ),
    ("method", "the method"),
    ("path", "the path, normalised"),
    ("query", "the query, without the question mark"),
    ("target", "path and query as they were sent"),
    ("request_id", "the id of the request"),
    (
        "trace_id",
        "the id of the trace that the request is part of, if a filter follows it",
    ),
    ("route", "the name of the route"),
    ("subject", "who is calling, if a filter has found out"),
    ("claim.NAME", "what is known of the caller; nested by dots"),
    ("header.NAME", "a header of the request"),
    ("cookie.NAME", "a cookie"),
    ("query.NAME", "a value in the query, decoded"),
    (
        "tls.version",
        "TLSv1.2 or TLSv1.3, if the client came over TLS",
    ),
    ("tls.cipher", "the cipher suite"),
    ("tls.sni", "the name that the client asked for by TLS"),
    (
        "tls.client.subject",
        "whom the client's certificate is for: CN=billing,O=Acme",
    ),
    (
        "tls.client.san",
        "its alternative names, separated by commas: DNS:billing.internal",
    ),
    (
        "tls.client.fingerprint",
        "SHA-256 of the client's certificate in hexadecimal digits",
    ),
    (
        "tls.client.serial",
        "its serial number in hexadecimal digits",
    ),
    (
        "tls.client.issuer",
        "who has signed the client's certificate",
    ),
];

/// One of the [`VARIABLES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable(Name);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    ClientIp,
    PeerIp,
    PeerPort,
    Scheme,
    Host,
    Authority,
    Method,
    Path,
    Query,
    Target,
    RequestId,
    TraceId,
    Route,
    Subject,
    Claim(String),
    Header(HeaderName),
    Cookie(String),
    QueryValue(String),
    Tls(OfTls),
    Client(OfClient),
}

/// A part of [`Tls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfTls {
    Version,
    Cipher,
    Sni,
}

/// A part of [`ClientCertificate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfClient {
    Subject,
    Names,
    Fingerprint,
    Serial,
    Issuer,
}

/// A view that has what a template may ask for.
pub trait Source {
    /// The head of the request, and what else belongs to it.
    fn source(&self) -> (&request::Parts, &Exchange);
}

impl Source for (&request::Parts, &Exchange) {
    fn source(&self) -> (&request::Parts, &Exchange) {
        *self
    }
}

impl Source for Request<'_> {
    fn source(&self) -> (&request::Parts, &Exchange) {
        (self.parts(), self.exchange())
    }
}

impl Source for Upstream<'_> {
    fn source(&self) -> (&request::Parts, &Exchange) {
        (self.parts(), self.exchange())
    }
}

impl Source for Response<'_> {
    fn source(&self) -> (&request::Parts, &Exchange) {
        (self.request(), self.exchange())
    }
}

impl Source for Record<'_> {
    fn source(&self) -> (&request::Parts, &Exchange) {
        (self.request, self.exchange)
    }
}

impl Template {
    /// The text for this request; borrowed when no variable is in it.
    pub fn render(&self, source: &impl Source) -> Cow<'_, str> {
        if let Some(text) = self.literal() {
            return Cow::Borrowed(text);
        }
        let mut text = String::with_capacity(64);
        for piece in &self.pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Value(variable) => text.extend(variable.value(source)),
            }
        }
        Cow::Owned(text)
    }

    /// The text as the value of a header; none if the request put something into it that can't
    /// stand there (a line break in a decoded query).
    pub fn header_value(&self, source: &impl Source) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.render(source)).ok()
    }
}

impl<V> Template<V> {
    /// The text, if no variable is in it.
    pub fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The parts of the text in order, for who writes values in a way of their own.
    pub fn pieces(&self) -> &[Piece<V>] {
        &self.pieces
    }
}

impl Variable {
    /// Whether the value is what the client has sent as it likes, and so may be a secret: a header, a cookie, a
    /// part of the query.
    pub fn is_sent(&self) -> bool {
        matches!(
            self.0,
            Name::Query | Name::Target | Name::Header(_) | Name::Cookie(_) | Name::QueryValue(_)
        )
    }

    /// Reads a name. A type with names of its `own` beside these comes here with what is none of them,
    /// so that the error tells of all names.
    ///
    /// # Errors
    ///
    /// A sentence that names the nearest of the known names, or else all.
    pub fn parse_beside(text: &str, own: &[&str]) -> Result<Self, String> {
        match Name::parse(text)? {
            Some(name) => Ok(Self(name)),
            None => Err(unknown(text, own)),
        }
    }

    /// The value for this request, if there is one.
    pub fn value<'a>(&self, source: &'a impl Source) -> Option<Cow<'a, str>> {
        let (head, exchange) = source.source();
        self.0.value(head, exchange)
    }
}

impl Name {
    fn value<'a>(&self, head: &'a request::Parts, exchange: &'a Exchange) -> Option<Cow<'a, str>> {
        let header =
            |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        let identity = || exchange.values.get::<Identity>();
        Some(match self {
            Self::ClientIp => exchange.client.to_string().into(),
            Self::PeerIp => exchange.peer.ip().to_string().into(),
            Self::PeerPort => exchange.peer.port().to_string().into(),
            Self::Scheme => exchange.scheme.as_str().into(),
            Self::Host => exchange.host.as_str().into(),
            Self::Authority => head
                .uri
                .authority()
                .map_or_else(
                    || header(&http::header::HOST).unwrap_or(&exchange.host),
                    |authority| authority.as_str(),
                )
                .into(),
            Self::Method => head.method.as_str().into(),
            Self::Path => exchange
                .normalised
                .as_deref()
                .unwrap_or_else(|| head.uri.path())
                .into(),
            Self::Query => head.uri.query()?.into(),
            Self::Target => head.uri.path_and_query()?.as_str().into(),
            Self::RequestId => exchange.id().into(),
            Self::TraceId => exchange.trace?.id.to_string().into(),
            Self::Route => exchange.route.as_ref().into(),
            Self::Subject => identity()?.subject().into(),
            Self::Claim(path) => plain(identity()?.claim(path)?)?,
            Self::Header(name) => header(name)?.into(),
            Self::Cookie(name) => message::cookie(&head.headers, name)?.into(),
            Self::QueryValue(name) => message::query_value(head.uri.query()?, name)?,
            Self::Tls(part) => part.of(exchange.values.get::<Tls>()?)?.into(),
            Self::Client(part) => part.of(exchange.values.get::<Tls>()?.client.as_ref()?),
        })
    }
}

impl OfTls {
    fn of(self, tls: &Tls) -> Option<&str> {
        match self {
            Self::Version => Some(tls.version),
            Self::Cipher => Some(tls.suite),
            Self::Sni => tls.sni.as_deref(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "version" => Self::Version,
            "cipher" => Self::Cipher,
            "sni" => Self::Sni,
            _ => return None,
        })
    }
}

impl OfClient {
    fn of(self, client: &ClientCertificate) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Subject => &client.subject,
            Self::Names => return client.joined_names(),
            Self::Fingerprint => &client.fingerprint,
            Self::Serial => &client.serial,
            Self::Issuer => &client.issuer,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "subject" => Self::Subject,
            "san" => Self::Names,
            "fingerprint" => Self::Fingerprint,
            "serial" => Self::Serial,
            "issuer" => Self::Issuer,
            _ => return None,
        })
    }
}

/// A claim as plain text: lists are joined by commas; an object has no plain form.
pub fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(_) | Value::Bool(_) => Some(Cow::Owned(value.to_string())),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(plain).collect();
            Some(Cow::Owned(items?.join(",")))
        }
        Value::Null | Value::Object(_) => None,
    }
}

impl<V: FromStr<Err = String>> FromStr for Template<V> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            literal.push_str(before);
            if brace.starts_with("{{") || brace.starts_with("}}") {
                literal.extend(brace.chars().next());
                (_, rest) = brace.split_at(2);
                continue;
            }
            let inside = brace
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside else {
                return Err(format!(
                    "a brace of `{text}` has no partner; a brace itself is written twice"
                ));
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Value(name.parse()?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces })
    }
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse_beside(text, &[])
    }
}

impl Name {
    /// None if there is no such name.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(match text.split_once('.') {
            Some((_, "")) => return Ok(None),
            Some(("header", name)) => Self::Header(
                name.parse()
                    .map_err(|_| format!("`{name}` is no header name"))?,
            ),
            Some(("cookie", name)) => Self::Cookie(name.to_owned()),
            Some(("query", name)) => Self::QueryValue(name.to_owned()),
            Some(("claim", path)) => Self::Claim(path.to_owned()),
            Some(("tls", part)) => {
                let client = part.strip_prefix("client.");
                let client = client.and_then(OfClient::parse).map(Self::Client);
                return Ok(client.or_else(|| OfTls::parse(part).map(Self::Tls)));
            }
            Some(_) => return Ok(None),
            None => match text {
                "client_ip" => Self::ClientIp,
                "peer_ip" => Self::PeerIp,
                "peer_port" => Self::PeerPort,
                "scheme" => Self::Scheme,
                "host" => Self::Host,
                "authority" => Self::Authority,
                "method" => Self::Method,
                "path" => Self::Path,
                "query" => Self::Query,
                "target" => Self::Target,
                "request_id" => Self::RequestId,
                "trace_id" => Self::TraceId,
                "route" => Self::Route,
                "subject" => Self::Subject,
                _ => return Ok(None),
            },
        }))
    }
}

/// What is said of a name that nobody knows.
fn unknown(text: &str, own: &[&str]) -> String {
    let known = VARIABLES
        .iter()
        .map(|(name, _)| *name)
        .chain(own.iter().copied());
    let near = known.clone().filter_map(|name| nearness(text, name));
    if let Some((_, name)) = near.min_by_key(|(distance, _)| *distance) {
        return format!("unknown value `{{{text}}}`; did you mean `{{{name}}}`?");
    }
    let all: Vec<_> = known.map(|name| format!("`{{{name}}}`")).collect();
    format!(
        "unknown value `{{{text}}}`, expected one of {}",
        all.join(", ")
    )
}

/// How far a text is from a known name, and that name as it would stand there; none if it is too far.
/// About one wrong letter in three is forgiven.
fn nearness(text: &str, known: &str) -> Option<(usize, String)> {
    let Some(kind) = known.strip_suffix(".NAME") else {
        return distance(text, known).map(|distance| (distance, known.to_owned()));
    };
    let (written, name) = text.split_once('.').unwrap_or((text, ""));
    let name = if name.is_empty() { "NAME" } else { name };
    distance(written, kind).map(|distance| (distance, format!("{kind}.{name}")))
}

/// The number of wrong letters, case and signs aside; none if they are too many.
fn distance(text: &str, known: &str) -> Option<usize> {
    let folded = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    };
    let (text, known) = (folded(text), folded(known));
    let longer = text.chars().count().max(known.chars().count());
    // What is far longer than any name needs no quadratic comparison.
    let distance = (longer <= LONGEST).then(|| strsim::damerau_levenshtein(&text, &known))?;
    (distance <= longer / 3).then_some(distance)
}

impl<'de, V: FromStr<Err = String>> Deserialize<'de> for Template<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<V>(PhantomData<V>);

        impl<V: FromStr<Err = String>> de::Visitor<'_> for Text<V> {
            type Value = Template<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, perhaps with values such as `{client_ip}` in it")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Template<V>, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// In letters; longer names than this are not compared.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn render(template: &str) -> String {
        let request = http::Request::get("/a/b?q=x+y&n=%0a")
            .header("X-Tenant", "acme")
            .header("Cookie", "sid=7");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut exchange = Exchange::new(([10, 0, 0, 7], 4242).into());
        "api.example.com".clone_into(&mut exchange.host);
        let Value::Object(claims) = json!({"role": "admin", "org": {"ids": [1, 2]}}) else {
            unreachable!()
        };
        exchange
            .values
            .insert(Identity::with_claims("ann", Arc::new(claims)));
        template
            .parse::<Template>()
            .unwrap()
            .render(&(&head, &exchange))
            .into_owned()
    }

    #[test]
    fn values_of_the_request_stand_where_their_names_stood() {
        assert_eq!(render("{client_ip}:{peer_port}"), "10.0.0.7:4242");
        assert_eq!(
            render("{scheme}://{host}{target}"),
            "http://api.example.com/a/b?q=x+y&n=%0a"
        );
        assert_eq!(
            render("{path}|{query.q}|{header.x-tenant}|{cookie.sid}"),
            "/a/b|x y|acme|7"
        );
        assert_eq!(
            render("{subject} {claim.role} {claim.org.ids} {claim.none}."),
            "ann admin 1,2 ."
        );
        assert_eq!(render("{{{method}}}"), "{GET}");
        assert_eq!(render(""), "");
    }

    #[test]
    fn what_tls_knows_of_a_client_is_empty_where_there_is_no_tls() {
        let all = "{tls.version}|{tls.cipher}|{tls.sni}|{tls.client.subject}|{tls.client.san}|{tls.client.fingerprint}|{tls.client.serial}|{tls.client.issuer}";
        assert_eq!(render(all), "|||||||");
        let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let mut exchange = Exchange::new(([10, 0, 0, 7], 4242).into());
        exchange.values.insert(Tls {
            version: "TLSv1.3",
            suite: "TLS_AES_128_GCM_SHA256",
            sni: Some("a.example".into()),
            resumed: false,
            client: Some(ClientCertificate {
                subject: "CN=billing".into(),
                common_name: "billing".into(),
                alternative_names: ["DNS:billing".into(), "IP:10.0.0.7".into()].into(),
                issuer: "CN=ca".into(),
                serial: "0A".into(),
                fingerprint: "ff".into(),
                not_after: 0,
            }),
        });
        let template: Template = all.parse().unwrap();
        assert_eq!(
            template.render(&(&head, &exchange)),
            "TLSv1.3|TLS_AES_128_GCM_SHA256|a.example|CN=billing|DNS:billing,IP:10.0.0.7|ff|0A|CN=ca"
        );
    }

    #[test]
    fn a_name_that_means_nothing_is_refused() {
        for text in [
            "{nope}",
            "{header.}",
            "{header.a b}",
            "{foo.bar}",
            "{tls.}",
            "{tls.key}",
            "{tls.client}",
            "{tls.client.}",
            "{open",
            "close}",
            "{}",
        ] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_known_one() {
        let cases = [
            ("clientip", "client_ip"),
            ("client.ip", "client_ip"),
            (" Host ", "host"),
            ("requst_id", "request_id"),
            ("headers.x-a", "header.x-a"),
            ("header", "header.NAME"),
            ("header.", "header.NAME"),
            ("stauts", "status"),
        ];
        for (text, near) in cases {
            let error = Variable::parse_beside(text, &["status"]).unwrap_err();
            let expected = format!("unknown value `{{{text}}}`; did you mean `{{{near}}}`?");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_name_that_is_near_to_none_is_told_all() {
        for text in ["", "nope", "foo.bar", &"x".repeat(100_000)] {
            let error = Variable::parse_beside(text, &["status"]).unwrap_err();
            assert!(error.contains("expected one of `{client_ip}`, "), "{error}");
            assert!(
                error.ends_with(", `{tls.client.issuer}`, `{status}`"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_filter_can_have_names_of_its_own() {
        #[derive(Debug, PartialEq)]
        struct Answer(u8);

        impl FromStr for Answer {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                text.parse()
                    .map(Self)
                    .map_err(|_| format!("`{text}` is no number"))
            }
        }

        let template: Template<Answer> = "a{42}{{".parse().unwrap();
        let expected = [
            Piece::Text("a".to_owned()),
            Piece::Value(Answer(42)),
            Piece::Text("{".to_owned()),
        ];
        assert_eq!(template.pieces(), expected);
        assert_eq!(
            "{x}".parse::<Template<Answer>>().unwrap_err(),
            "`x` is no number"
        );
    }

    #[test]
    fn a_line_break_never_becomes_a_header() {
        let (head, ()) = http::Request::get("/?n=%0aX:1")
            .body(())
            .unwrap()
            .into_parts();
        let exchange = Exchange::new(([10, 0, 0, 7], 1).into());
        let template: Template = "{query.n}".parse().unwrap();
        assert_eq!(template.header_value(&(&head, &exchange)), None);
    }

    #[test]
    fn what_a_client_sends_as_it_likes_may_be_a_secret() {
        for (name, sent) in [
            ("header.x-api-key", true),
            ("cookie.sid", true),
            ("query.key", true),
            ("target", true),
            ("client_ip", false),
            ("subject", false),
            ("path", false),
        ] {
            assert_eq!(name.parse::<Variable>().unwrap().is_sent(), sent, "{name}");
        }
    }
}
