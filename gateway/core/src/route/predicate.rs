//! What a route may ask of a request besides host, path and method.

use std::{borrow::Cow, fmt, iter};

use http::header::{COOKIE, HeaderName, HeaderValue};

use super::{Case, Expression, MatchError, RouteRequest};

/// One condition on a header, a query parameter or a cookie.
///
/// What occurs more than once satisfies [`Test::Equals`] and [`Test::Matches`] if one of its values does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    subject: Subject,
    test: Test,
}

/// What a predicate looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A request header.
    Header(HeaderName),
    /// A query parameter; name and value are decoded as a form's are.
    Query(String),
    /// A cookie; quotes around its value do not count.
    Cookie(String),
    /// `http` or `https`.
    Scheme,
    /// The listener that the request has come to, by its name.
    Listener,
}

/// What a predicate wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is there, with whatever value.
    Present,
    /// It is not there.
    Absent,
    /// It has exactly this value.
    Equals(String),
    /// Its value has a match of this regex.
    Matches(Expression),
}

impl Subject {
    /// A header by its name, in any case.
    pub fn header(name: &str) -> Result<Self, MatchError> {
        HeaderName::try_from(name)
            .map(Self::Header)
            .map_err(|_| MatchError::new(format!("`{name}` is not a header name")))
    }

    /// A query parameter by its decoded name.
    pub fn query(name: &str) -> Result<Self, MatchError> {
        if name.is_empty() {
            return Err(MatchError::new("a query parameter has a name"));
        }
        Ok(Self::Query(name.to_owned()))
    }

    /// A cookie by its name, which is case-sensitive.
    pub fn cookie(name: &str) -> Result<Self, MatchError> {
        // The grammar of a cookie's name is that of a header's, but case counts.
        HeaderName::try_from(name)
            .map(|_| Self::Cookie(name.to_owned()))
            .map_err(|_| MatchError::new(format!("`{name}` is not a cookie name")))
    }
}

impl Test {
    /// The test for a regex, found anywhere in the value unless it is anchored.
    pub fn matches(pattern: &str, case: Case) -> Result<Self, MatchError> {
        Expression::parse(pattern, case).map(Self::Matches)
    }

    /// Whether one of these values, which are all that there are, is what it wants.
    pub(crate) fn holds<'v>(&self, mut values: impl Iterator<Item = Cow<'v, [u8]>>) -> bool {
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Equals(expected) => values.any(|value| *value == *expected.as_bytes()),
            Self::Matches(expression) => values.any(|value| {
                expression
                    .regex()
                    .is_match(&String::from_utf8_lossy(&value))
            }),
        }
    }
}

impl Predicate {
    /// An error says that no request could satisfy the predicate.
    pub fn new(subject: Subject, test: Test) -> Result<Self, MatchError> {
        if let (Subject::Header(name), Test::Equals(value)) = (&subject, &test)
            && (HeaderValue::from_str(value).is_err() || value.trim() != value)
        {
            return Err(MatchError::new(format!(
                "header `{name}` cannot have the value `{}`",
                value.escape_debug()
            )));
        }
        Ok(Self { subject, test })
    }

    /// Whether a request satisfies it.
    pub fn holds(&self, request: &RouteRequest<'_>) -> bool {
        match &self.subject {
            Subject::Header(name) => {
                let values = request.headers.get_all(name).iter();
                self.test
                    .holds(values.map(|value| Cow::Borrowed(value.as_bytes())))
            }
            Subject::Query(name) => self
                .test
                .holds(query_values(request.query.unwrap_or_default(), name)),
            Subject::Cookie(name) => self.test.holds(cookie_values(request, name)),
            Subject::Scheme => self
                .test
                .holds(iter::once(request.scheme.as_bytes().into())),
            Subject::Listener => self
                .test
                .holds(iter::once(request.listener.as_bytes().into())),
        }
    }

    /// The values of what it looks at, as far as they are text.
    pub(super) fn values(&self, request: &RouteRequest<'_>) -> Vec<String> {
        let text = |value: Cow<'_, [u8]>| String::from_utf8_lossy(&value).into_owned();
        match &self.subject {
            Subject::Header(name) => {
                let values = request.headers.get_all(name).iter();
                values.map(|value| text(value.as_bytes().into())).collect()
            }
            Subject::Query(name) => query_values(request.query.unwrap_or_default(), name)
                .map(text)
                .collect(),
            Subject::Cookie(name) => cookie_values(request, name).map(text).collect(),
            Subject::Scheme => vec![request.scheme.to_owned()],
            Subject::Listener => vec![request.listener.to_owned()],
        }
    }

    /// Whether every request that satisfies this predicate surely satisfies the other.
    pub(super) fn implies(&self, other: &Self) -> bool {
        if self.subject != other.subject {
            return false;
        }
        match (&self.test, &other.test) {
            (Test::Equals(_) | Test::Matches(_), Test::Present) => true,
            (test, other) => test == other,
        }
    }
}

/// As it stands behind what has one value always.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("any"),
            Self::Absent => f.write_str("none"),
            Self::Equals(value) => f.write_str(value),
            Self::Matches(expression) => expression.fmt(f),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.subject {
            Subject::Header(name) => ("header", name.as_str()),
            Subject::Query(name) => ("query", name.as_str()),
            Subject::Cookie(name) => ("cookie", name.as_str()),
            Subject::Scheme => return write!(f, "scheme {}", self.test),
            Subject::Listener => return write!(f, "listener {}", self.test),
        };
        match &self.test {
            Test::Present => write!(f, "{kind} {name}"),
            Test::Absent => write!(f, "no {kind} {name}"),
            Test::Equals(value) => write!(f, "{kind} {name}={value}"),
            Test::Matches(expression) => write!(f, "{kind} {name} {expression}"),
        }
    }
}

fn query_values<'q>(query: &'q str, name: &'q str) -> impl Iterator<Item = Cow<'q, [u8]>> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*form_decoded(key) == *name.as_bytes()).then(|| form_decoded(value))
    })
}

fn form_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&spaced).collect())
}

fn cookie_values<'r>(
    request: &RouteRequest<'r>,
    name: &'r str,
) -> impl Iterator<Item = Cow<'r, [u8]>> {
    let fields = request.headers.get_all(COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let equals = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at(equals);
        (key.trim_ascii_end() == name.as_bytes()).then(|| Cow::Borrowed(unquoted(value)))
    })
}

/// The value after the `=` that it begins with.
fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii_start();
    value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn holds(
        subject: Result<Subject, MatchError>,
        test: Test,
        headers: &[(&str, &str)],
        query: &str,
    ) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let request = RouteRequest {
            host: None,
            path: "/",
            readings: &[],
            method: &Method::GET,
            scheme: "http",
            listener: "http",
            headers: &map,
            query: Some(query),
        };
        Predicate::new(subject.unwrap(), test)
            .unwrap()
            .holds(&request)
    }

    fn equals(value: &str) -> Test {
        Test::Equals(value.to_owned())
    }

    #[test]
    fn any_value_of_a_repeated_header_is_enough() {
        let headers = [("x-tier", "free"), ("X-Tier", "gold")];
        let tier = || Subject::header("X-TIER");
        assert!(holds(tier(), equals("gold"), &headers, ""));
        assert!(holds(
            tier(),
            Test::matches("^GO", Case::Ignored).unwrap(),
            &headers,
            ""
        ));
        assert!(holds(tier(), Test::Present, &headers, ""));
        assert!(!holds(tier(), Test::Absent, &headers, ""));
        assert!(!holds(tier(), equals("Gold"), &headers, ""));
        assert!(holds(tier(), Test::Absent, &[], ""));
    }

    #[test]
    fn query_parameters_are_decoded_before_they_are_compared() {
        let query = "a=1&full+name=J%c3%b6rg+M&flag&empty=&a=2";
        for (name, test) in [
            ("a", equals("1")),
            ("a", equals("2")),
            ("full name", equals("Jörg M")),
            ("flag", Test::Present),
            ("flag", equals("")),
            ("empty", equals("")),
            ("b", Test::Absent),
        ] {
            assert!(holds(Subject::query(name), test, &[], query), "{name}");
        }
        assert!(holds(
            Subject::query("na%20me"),
            Test::Absent,
            &[],
            "na%20me=1"
        ));
        assert!(holds(Subject::query("a"), equals("%zz"), &[], "a=%zz"));
        assert!(!holds(Subject::query("a"), Test::Present, &[], "aa=1&b=a"));
    }

    #[test]
    fn cookies_are_found_in_every_cookie_field() {
        let headers = [
            ("cookie", "beta=1; theme=\"dark\";x = y"),
            ("cookie", "sid=a=b"),
        ];
        for (name, value) in [("beta", "1"), ("theme", "dark"), ("sid", "a=b"), ("x", "y")] {
            assert!(
                holds(Subject::cookie(name), equals(value), &headers, ""),
                "{name}"
            );
        }
        assert!(holds(Subject::cookie("Beta"), Test::Absent, &headers, ""));
        assert!(holds(Subject::cookie("a"), Test::Absent, &headers, ""));
    }

    #[test]
    fn a_predicate_that_no_request_satisfies_is_refused() {
        assert_eq!(
            Subject::header("a b").unwrap_err().to_string(),
            "`a b` is not a header name"
        );
        assert_eq!(
            Subject::query("").unwrap_err().to_string(),
            "a query parameter has a name"
        );
        assert_eq!(
            Subject::cookie("a;b").unwrap_err().to_string(),
            "`a;b` is not a cookie name"
        );
        let impossible = Predicate::new(Subject::header("x").unwrap(), equals("a\nb"));
        assert_eq!(
            impossible.unwrap_err().to_string(),
            "header `x` cannot have the value `a\\nb`"
        );
        assert!(Predicate::new(Subject::query("x").unwrap(), equals("a\nb")).is_ok());
    }
}
