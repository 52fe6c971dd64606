//! Lets requests pass by their method, and refuses all others with 405 and the list of those that pass.
//!
//! Whoever allows `GET` allows `HEAD`, which is the same without the body (RFC 9110, 9.3.2).
//!
//! **`OPTIONS`** asks which methods there are. Where it is not allowed itself it is answered here, by 204 and
//! `Allow`, and the upstream never sees it. So `cors` stands above this filter: it answers what browsers ask
//! before a request from another origin.
//!
//! **Other words for a method.** Many frameworks let a `POST` name another method in a header
//! (`X-HTTP-Method-Override` and its kin) or in the query (`_method`). Whoever allows `POST` alone does not
//! mean `DELETE`. So they are dropped, or else judged as if they were the method. So are the spellings that an
//! application takes for the same name: headers with `_` for `-`; in the query `.method`, blanks before the name, and
//! what else PHP takes for `_method`. Old frameworks tell pairs of a query apart by `;` too: what is named so can't
//! be dropped without a guess at the rest, and is refused with 400. A field `_method` of a form in the body is not
//! looked at.
//!
//! With `mode: report` nothing is dropped; that it would be is reported.

use std::borrow::Cow;

use edgeway_sdk::{message::is_twin, prelude::*};

pub(crate) const DOC: &str = "\
lets requests pass by their method

allow_methods:
  methods: [GET, POST]       # GET allows HEAD too; OPTIONS, if not named, is answered here
  override: drop             # X-HTTP-Method-Override and ?_method=: drop them, or judge them as the method
";

/// `allow_methods: { methods: [GET, POST], override: judge }`
#[derive(Deserialize)]
pub(crate) struct Config {
    methods: Vec<Verb>,
    #[serde(default, rename = "override")]
    overriding: Override,
}

/// What becomes of other words for a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Override {
    #[default]
    Drop,
    Judge,
}

/// Lets requests pass by their method.
pub(crate) struct AllowMethods {
    methods: Vec<Method>,
    /// The same, as `Allow` has them.
    allow: HeaderValue,
    overriding: Override,
    reports: bool,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<AllowMethods, BuildError> {
    let mut methods: Vec<Method> = Vec::new();
    for (place, Verb(method)) in config.methods.into_iter().enumerate() {
        if methods.contains(&method) {
            let message = format!("`{method}` is allowed already");
            return Err(BuildError::at(format!("methods.{place}"), message));
        }
        methods.push(method);
    }
    if methods.is_empty() {
        return Err(BuildError::at("methods", "no method is allowed")
            .help("nothing could pass; `respond: { status: 404 }` says that there is nothing"));
    }
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD);
    }
    let mut names: Vec<_> = methods.iter().map(Method::as_str).collect();
    if !methods.contains(&Method::OPTIONS) {
        names.push(Method::OPTIONS.as_str());
    }
    Ok(AllowMethods {
        allow: HeaderValue::from_str(&names.join(", ")).map_err(BuildError::new)?,
        methods,
        overriding: config.overriding,
        reports: build.reports(),
    })
}

#[async_trait]
impl Filter for AllowMethods {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        if !self.methods.contains(request.method()) {
            return Ok(self.without(request.method()).into());
        }
        let refused = match self.overriding {
            Override::Judge => self.overridden(request),
            Override::Drop if self.reports => not_dropped(request),
            Override::Drop => {
                forget_other_words(request);
                not_dropped(request)
            }
        };
        Ok(refused.map_or(Flow::Continue, Flow::Respond))
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

impl AllowMethods {
    /// The reply to a request with a method that is not allowed.
    fn without(&self, method: &Method) -> Reply {
        let allow = |reply: Reply| reply.set_header(header::ALLOW, self.allow.clone());
        if *method == Method::OPTIONS {
            return allow(Reply::new(204));
        }
        allow(Reply::new(405))
            .detail("This method is not allowed here.")
            .because("the method is not among those that are allowed")
            .rule("method")
            .key(shortened(method.as_str()))
    }

    /// The refusal of a request that asks for a method by other words, if that is not allowed.
    fn overridden(&self, request: &Request<'_>) -> Option<Reply> {
        let bad = other_words(request).find_map(|words| self.forbidden(&words))?;
        let reply = Reply::new(405).set_header(header::ALLOW, self.allow.clone());
        Some(
            reply
                .detail("This method is not allowed here.")
                .because("the method that the request asks to be taken for is not among those that are allowed")
                .rule("override")
                .key(bad),
        )
    }

    /// The method that these words mean, if it is not allowed. Frameworks don't look at their case.
    fn forbidden(&self, words: &str) -> Option<String> {
        let words = words.trim();
        let is_known = self
            .methods
            .iter()
            .any(|known| known.as_str().eq_ignore_ascii_case(words));
        (!is_known && !words.is_empty()).then(|| shortened(words))
    }
}

/// All that an application may take for the method of this request, beside its method.
fn other_words<'r>(request: &'r Request<'_>) -> impl Iterator<Item = Cow<'r, str>> {
    let headers = request.headers().iter();
    let headers = headers
        .filter(|(name, _)| is_override(name))
        .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()));
    let query = posted_query(request);
    let pairs = query.split('&').chain(query.split(['&', ';']));
    let values = pairs.filter_map(pair).filter(|(name, _)| is_method(name));
    headers.chain(values.map(|(_, value)| value))
}

fn forget_other_words(request: &mut Request<'_>) {
    let names = request.headers().keys().filter(|name| is_override(name));
    for name in names.cloned().collect::<Vec<_>>() {
        request.remove_header(&name);
    }
    let names = posted_query(request).split('&').filter_map(pair);
    let names = names.filter(|(name, _)| is_method(name));
    for name in names.map(|(name, _)| name.into_owned()).collect::<Vec<_>>() {
        request.remove_query(&name);
    }
}

/// The refusal of a request that asks for a method by other words, as far as these were not dropped.
fn not_dropped(request: &Request<'_>) -> Option<Reply> {
    let words = shortened(&other_words(request).next()?);
    Some(
        Reply::new(400)
            .detail("The method can't be named beside the request line here.")
            .because(
                "the request asks to be taken for another method by words that are dropped here",
            )
            .rule("override")
            .key(words),
    )
}

/// The query, if an application looks for a method there: that of a `POST`.
fn posted_query<'r>(request: &'r Request<'_>) -> &'r str {
    let is_post = *request.method() == Method::POST;
    request.query().filter(|_| is_post).unwrap_or_default()
}

/// Name and value of one pair, decoded.
fn pair(text: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(text.as_bytes()).next()
}

/// Whether an application may read a header of this name as one of those that name a method.
fn is_override(name: &HeaderName) -> bool {
    OVERRIDES
        .iter()
        .any(|known| is_twin(known.as_str(), name.as_str()))
}

/// Whether an application may take this name in a query for `_method`. PHP drops blanks before a name, makes `_` of
/// blanks and dots in it, and lets it end at a bracket or a zero. Others don't look at case.
fn is_method(name: &str) -> bool {
    let name = name.trim_start_matches(' ');
    let name = name.split(['[', '\0']).next().unwrap_or_default();
    let read = name.bytes().map(|byte| match byte {
        b'.' | b' ' => b'_',
        other => other.to_ascii_lowercase(),
    });
    read.eq(QUERY.bytes())
}

/// What a request calls a method may be long.
fn shortened(words: &str) -> String {
    words.chars().take(32).collect()
}

/// A method. They are told apart by case, so that `get` would never come.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Verb(Method);

impl TryFrom<Cow<'_, str>> for Verb {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let method = Method::from_bytes(text.as_bytes()).ok();
        let has_small = text.bytes().any(|byte| byte.is_ascii_lowercase());
        let method = method.filter(|_| !has_small && text != "*");
        method.map(Self).ok_or_else(|| {
            format!("expected a method in capital letters such as `GET`, found `{text}`")
        })
    }
}

/// Headers that frameworks take another method from.
const OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];
/// The name in a query that they take it from.
const QUERY: &str = "_method";

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::{self, Outcome, Trial};

    use super::*;

    const READ_AND_POST: &str = r#"{"methods": ["GET", "POST"]}"#;
    const JUDGED: &str = r#"{"methods": ["GET", "POST"], "override": "judge"}"#;

    async fn run(json: &str, trial: Trial) -> Outcome {
        trial.run(&test::build(json, build).unwrap()).await
    }

    fn a(method: &str) -> Trial {
        Trial::new(method.parse().unwrap(), "/")
    }

    #[tokio::test]
    async fn what_is_not_in_the_list_is_405_and_told_what_is() {
        for method in ["GET", "HEAD", "POST"] {
            assert!(run(READ_AND_POST, a(method)).await.passed(), "{method}");
        }
        for method in ["PUT", "DELETE", "PATCH", "get", "PROPFIND"] {
            let outcome = run(READ_AND_POST, a(method)).await;
            assert_eq!(outcome.status(), 405, "{method}");
            assert_eq!(outcome.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
        }
    }

    #[tokio::test]
    async fn head_comes_with_get_only() {
        assert_eq!(
            run(r#"{"methods": ["POST"]}"#, a("HEAD")).await.status(),
            405
        );
        let both = r#"{"methods": ["HEAD", "GET"]}"#;
        assert_eq!(
            run(both, a("PUT")).await.header("allow"),
            Some("HEAD, GET, OPTIONS")
        );
    }

    #[tokio::test]
    async fn options_is_answered_here_unless_it_is_named() {
        let outcome = run(READ_AND_POST, a("OPTIONS")).await;
        assert_eq!((outcome.status().as_u16(), outcome.passed()), (204, false));
        assert_eq!(outcome.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
        let named = r#"{"methods": ["OPTIONS"]}"#;
        assert!(run(named, a("OPTIONS")).await.passed());
        assert_eq!(run(named, a("GET")).await.header("allow"), Some("OPTIONS"));
    }

    #[tokio::test]
    async fn other_words_for_a_method_are_dropped() {
        for name in OVERRIDES {
            let outcome = run(READ_AND_POST, a("POST").header(name.as_str(), "DELETE")).await;
            assert!(outcome.passed());
            assert_eq!(outcome.sent_header(name.as_str()), None);
        }
    }

    #[tokio::test]
    async fn other_words_for_a_method_are_judged_if_that_is_wanted() {
        for name in OVERRIDES {
            let asking = |words| a("POST").header(name.as_str(), words);
            for words in ["DELETE", "delete", " Put "] {
                assert_eq!(run(JUDGED, asking(words)).await.status(), 405, "{words}");
            }
            let two = asking("GET").header(name.as_str(), "DELETE");
            assert_eq!(run(JUDGED, two).await.status(), 405);
            let outcome = run(JUDGED, asking("get")).await;
            assert_eq!(outcome.sent_header(name.as_str()), Some("get"));
        }
    }

    #[tokio::test]
    async fn the_query_of_a_post_is_looked_at_too() {
        for (method, target, status, left) in [
            (Method::POST, "/?a=1&_method=DELETE", 405, "/?a=1"),
            (Method::POST, "/?_method=d%65lete", 405, "/"),
            (Method::POST, "/?_method=post", 200, "/"),
            (Method::POST, "/?method=DELETE", 200, "/?method=DELETE"),
            (Method::GET, "/?_method=DELETE", 200, "/?_method=DELETE"),
        ] {
            let judged = run(JUDGED, Trial::new(method.clone(), target)).await;
            assert_eq!(judged.status(), status, "{target}");
            let dropped = run(READ_AND_POST, Trial::new(method, target)).await;
            assert_eq!(dropped.sent.uri, left);
        }
    }

    #[tokio::test]
    async fn spellings_that_applications_take_for_the_same_name_are_looked_at_too() {
        for name in [
            ".method",
            "%20_method",
            "+_method",
            "++%2emethod",
            "%5fmethod",
            "_method[]",
            "_method%5Bx%5D",
            "_method%00x",
            "_METHOD",
        ] {
            let trial = || Trial::new(Method::POST, &format!("/?a=1&{name}=DELETE&b=2"));
            assert_eq!(run(JUDGED, trial()).await.status(), 405, "{name}");
            let dropped = run(READ_AND_POST, trial()).await;
            assert_eq!(dropped.sent.uri, "/?a=1&b=2", "{name}");
        }
        for name in [
            "_metho",
            "_methods",
            "a_method",
            "a.method",
            "%09_method",
            "",
            "[_method]",
        ] {
            let target = format!("/?{name}=DELETE");
            for json in [JUDGED, READ_AND_POST] {
                let outcome = run(json, Trial::new(Method::POST, &target)).await;
                assert!(outcome.passed(), "{name}");
                assert_eq!(outcome.sent.uri, *target);
            }
        }
    }

    #[tokio::test]
    async fn every_value_of_a_query_is_judged() {
        for (query, status) in [
            ("_method=POST&_method=DELETE", 405),
            ("_method=POST&.method=GET", 200),
            ("_method=DELETE;a=1", 405),
            ("a=1;_method=DELETE", 405),
            ("a;+_method=DELETE&b", 405),
            ("a=1;_method=POST", 200),
            ("a=1;b=_method", 200),
        ] {
            let trial = Trial::new(Method::POST, &format!("/?{query}"));
            assert_eq!(run(JUDGED, trial).await.status(), status, "{query}");
        }
    }

    /// A value of another pair would have to be cut, which another application may mean as it is.
    #[tokio::test]
    async fn what_can_not_be_dropped_is_refused() {
        for query in ["a=1;_method=DELETE", "a;.method=POST&b=2", "a=1;_method"] {
            let target = format!("/?{query}");
            let outcome = run(READ_AND_POST, Trial::new(Method::POST, &target)).await;
            assert_eq!(outcome.status(), 400, "{query}");
            let reply = outcome.reply.unwrap();
            assert_eq!(reply.decided_by_rule(), Some("override"));
            let get = run(READ_AND_POST, Trial::get(&target)).await;
            assert!(get.passed(), "{query}");
        }
        for (query, left) in [
            ("a=1;b=2", "/?a=1;b=2"),
            ("a=1%3B_method=DELETE", "/?a=1%3B_method=DELETE"),
            ("_method=DELETE;a=1&b=2", "/?b=2"),
        ] {
            let trial = Trial::new(Method::POST, &format!("/?{query}"));
            let outcome = run(READ_AND_POST, trial).await;
            assert!(outcome.passed(), "{query}");
            assert_eq!(outcome.sent.uri, left);
        }
    }

    #[tokio::test]
    async fn headers_that_differ_only_in_their_signs_are_looked_at_too() {
        for name in [
            "x_http_method_override",
            "x-http_method-override",
            "x_http_method",
            "x_method_override",
        ] {
            let trial = || a("POST").header(name, "DELETE").header("x_other", "1");
            assert_eq!(run(JUDGED, trial()).await.status(), 405, "{name}");
            let dropped = run(READ_AND_POST, trial()).await;
            assert!(dropped.passed());
            assert_eq!(dropped.sent_header(name), None);
            assert_eq!(dropped.sent_header("x_other"), Some("1"));
        }
    }

    #[tokio::test]
    async fn one_that_only_reports_leaves_the_request_as_it_is() {
        let resources = edgeway_sdk::Resources::default();
        for json in [READ_AND_POST, JUDGED] {
            let config = serde_json::from_str(json).unwrap();
            let folder = std::path::Path::new(".");
            let mut stage = Build::new(&resources, folder).reporting(true);
            let filter = build(config, &mut stage).unwrap();
            let header = a("POST").header("x-http-method-override", "DELETE");
            let query = Trial::new(Method::POST, "/?a=1&_method=DELETE");
            let pair = Trial::new(Method::POST, "/?a=1;_method=DELETE");
            let status = if json == JUDGED { 405 } else { 400 };
            for trial in [header, query, pair] {
                let outcome = trial.run(&filter).await;
                assert_eq!(outcome.status(), status, "{json}");
                let (head, reply) = (&outcome.sent, outcome.reply.as_ref().unwrap());
                assert_eq!(reply.decided_by_rule(), Some("override"));
                assert_eq!(reply.about(), Some("DELETE"));
                let is_whole = head.headers.contains_key("x-http-method-override")
                    || head.uri.to_string().contains("_method=DELETE");
                assert!(is_whole, "{json}: {head:?}");
            }
            assert!(a("POST").run(&filter).await.passed());
        }
    }

    #[test]
    fn a_list_without_sense_is_refused() {
        for json in [
            r#"{"methods": []}"#,
            r#"{"methods": ["GET", "PUT", "GET"]}"#,
        ] {
            assert!(test::build(json, build).is_err(), "{json}");
        }
        for json in [
            "{}",
            r#"{"methods": ["get"]}"#,
            r#"{"methods": ["*"]}"#,
            r#"{"methods": ["G T"]}"#,
            r#"{"methods": ["GET"], "override": "keep"}"#,
        ] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }
}
