//! Lets pages of other origins call a route, as the Fetch standard says.
//!
//! A preflight (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) is answered here: 204
//! with what is allowed, and it is the browser that compares its wish with that; 403, without any
//! such header, when the origin itself is not allowed, so that the log shows it. Any other `OPTIONS`
//! goes on down. All other requests go on down too, whatever their origin: not to be read by a
//! page is all that CORS can do to a response. The headers are added to every response, also to one
//! that a filter below this one made, since a page that can't read a 401 can't log in. What the
//! upstream says about CORS itself is replaced.
//!
//! It keeps nobody out, so that there is nothing that it could only report: it has no `mode: report`.
//!
//! Name this filter before those that authenticate: a preflight never carries credentials.

use std::borrow::Cow;

use edgeway_sdk::prelude::*;
use http::request;

use crate::{list::vary, origins::Allowed};

pub(crate) const DOC: &str = "\
lets pages of other origins call a route

cors:
  origins: [https://app.example.com, 'https://*.example.org']   # 'null' for pages in a sandbox; ['*'] for all
  methods: [GET, HEAD, POST]      # what a page may do
  headers: []                     # request headers that a page may set, beside the harmless ones
  expose: []                      # response headers that a page may read, beside the harmless ones
  credentials: false              # whether cookies and Authorization may be sent along
  max_age: 10m                    # how long a browser may remember the answer to a preflight
  private_network: false          # whether pages of public sites may call into a private network
";

/// `cors: { origins: [https://app.example.com], headers: [Content-Type] }`
#[derive(Deserialize)]
pub(crate) struct Config {
    origins: Vec<Allowed>,
    #[serde(default = "Config::methods")]
    methods: Vec<Verb>,
    #[serde(default)]
    headers: Vec<Name>,
    #[serde(default)]
    expose: Vec<Name>,
    #[serde(default)]
    credentials: bool,
    #[serde(default = "Config::max_age")]
    max_age: Period,
    #[serde(default)]
    private_network: bool,
}

impl Config {
    fn methods() -> Vec<Verb> {
        [Method::GET, Method::HEAD, Method::POST]
            .map(|method| Verb(method.to_string()))
            .into()
    }

    fn max_age() -> Period {
        Period(std::time::Duration::from_secs(600))
    }
}

/// Lets pages of other origins call a route.
pub(crate) struct Cors {
    origins: Origins,
    credentials: bool,
    private_network: bool,
    /// What is said to every page that may read the response.
    expose: Option<HeaderValue>,
    /// What is said to a preflight beside that.
    preflight: Vec<(HeaderName, HeaderValue)>,
}

enum Origins {
    /// Every origin, and none of them with credentials: the response is the same for all.
    All,
    Some(Vec<Allowed>),
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Cors, BuildError> {
    refuse_empty(&config)?;
    if config.credentials {
        refuse_stars(&config)?;
        warn_of_tampering(&config, build);
    }
    if config.private_network && is_for_everybody(&config) {
        return Err(BuildError::at(
            "private_network",
            "a private network can't be opened to all origins",
        )
        .help(
            "list the origins: any page in the world could call what only the network may reach",
        ));
    }
    let mut preflight = vec![(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        list(config.methods.iter().map(|verb| verb.0.as_str()))?,
    )];
    if !config.headers.is_empty() {
        let names = list(config.headers.iter().map(|name| name.0.as_str()))?;
        preflight.push((header::ACCESS_CONTROL_ALLOW_HEADERS, names));
    }
    let age = HeaderValue::from(config.max_age.0.as_secs());
    preflight.push((header::ACCESS_CONTROL_MAX_AGE, age));
    let expose = match config.expose.as_slice() {
        [] => None,
        names => Some(list(names.iter().map(|name| name.0.as_str()))?),
    };
    let all = config.origins.contains(&Allowed::All);
    Ok(Cors {
        origins: if all {
            Origins::All
        } else {
            Origins::Some(config.origins)
        },
        credentials: config.credentials,
        private_network: config.private_network,
        expose,
        preflight,
    })
}

/// Every page can make itself one without an origin, so that `null` is everybody as well.
fn is_for_everybody(config: &Config) -> bool {
    let open = [Allowed::All, Allowed::Null];
    config.origins.iter().any(|origin| open.contains(origin))
}

/// Who can change a page on its way acts in the name of its visitors.
fn warn_of_tampering(config: &Config, build: &mut Build<'_>) {
    for (place, origin) in config.origins.iter().enumerate() {
        if origin.is_open_to_tampering() {
            let what = "pages without TLS may send credentials";
            let warning = BuildError::at(format!("origins.{place}"), what);
            build.warn(
                warning
                    .help("write `https`: others on the way can put what they like into the page"),
            );
        }
    }
}

fn refuse_empty(config: &Config) -> Result<(), BuildError> {
    if config.origins.is_empty() {
        return Err(BuildError::at("origins", "no origin is allowed")
            .help("leave the filter out: without it no other origin is"));
    }
    if config.origins.len() > 1 && config.origins.contains(&Allowed::All) {
        return Err(BuildError::at(
            "origins",
            "beside `*` other origins mean nothing",
        ));
    }
    if config.methods.is_empty() {
        return Err(BuildError::at("methods", "no method is allowed"));
    }
    Ok(())
}

/// With credentials a browser takes a star for a name, and no page could do anything.
fn refuse_stars(config: &Config) -> Result<(), BuildError> {
    if config.origins.contains(&Allowed::All) {
        return Err(
            BuildError::at("credentials", "credentials can't be allowed to all origins")
                .help("list the origins: any page could act in the name of its visitors"),
        );
    }
    if config.origins.contains(&Allowed::Null) {
        return Err(BuildError::at(
            "credentials",
            "credentials can't be allowed to the origin `null`",
        )
        .help("every page can put itself into a sandbox, and is of this origin then"));
    }
    let lists = [
        ("methods", config.methods.iter().any(|verb| verb.0 == "*")),
        ("headers", config.headers.iter().any(|name| name.0 == "*")),
        ("expose", config.expose.iter().any(|name| name.0 == "*")),
    ];
    match lists.into_iter().find(|(_, star)| *star) {
        Some((key, _)) => Err(BuildError::at(key, "with credentials a `*` means nothing")
            .help("list what is allowed")),
        None => Ok(()),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> Result<HeaderValue, BuildError> {
    let names: Vec<_> = names.collect();
    HeaderValue::from_str(&names.join(", ")).map_err(BuildError::new)
}

#[async_trait]
impl Filter for Cors {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        if !is_preflight(request.parts()) {
            return Ok(Flow::Continue);
        }
        if self.permits(request.headers()) {
            return Ok(Reply::new(204).into());
        }
        Ok(Reply::new(403)
            .detail("This origin is not allowed.")
            .because("the origin of a preflight is not allowed")
            .rule("origin")
            .key(sent(request.headers()))
            .into())
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        for name in &ANSWERS {
            response.remove_header(name);
        }
        let preflight = is_preflight(response.request());
        if let Origins::Some(_) = self.origins {
            // Also where the origin was not allowed: the next one may be.
            vary(response, if preflight { VARY_PREFLIGHT } else { VARY });
            if preflight && self.private_network {
                response.append_header(header::VARY, HeaderValue::from(ASKS_FOR_PRIVATE_NETWORK));
            }
        }
        if !self.permits(&response.request().headers) {
            return Ok(());
        }
        self.allow(response);
        if preflight {
            for (name, value) in &self.preflight {
                response.set_header(name.clone(), value.clone());
            }
        }
        if preflight && self.private_network && asks_for_private_network(response.request()) {
            response.set_header(ALLOWS_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Ok(())
    }

    /// What it answers is no refusal, but what the browser asked for, also when that is no; and it says what pages
    /// may read by headers that it would set all the same.
    fn refuses(&self) -> bool {
        false
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }
}

impl Cors {
    fn permits(&self, headers: &HeaderMap) -> bool {
        match &self.origins {
            Origins::All => true,
            Origins::Some(allowed) => origin(headers)
                .and_then(|origin| origin.to_str().ok())
                .is_some_and(|origin| allowed.iter().any(|allowed| allowed.matches(origin))),
        }
    }

    /// Lets the page that asked read the response.
    fn allow(&self, response: &mut Response<'_>) {
        let allowed = match self.origins {
            Origins::All => Some(HeaderValue::from_static("*")),
            Origins::Some(_) => origin(&response.request().headers).cloned(),
        };
        if let Some(allowed) = allowed {
            response.set_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
        if self.credentials {
            let value = HeaderValue::from_static("true");
            response.set_header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, value);
        }
        if let Some(names) = &self.expose {
            response.set_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }
}

/// The origin that the operator is told of.
fn sent(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::ORIGIN)
        .map(|origin| String::from_utf8_lossy(origin.as_bytes()));
    text.unwrap_or_default().chars().take(LONGEST).collect()
}

/// The origin of the page; none if there are several, which no browser sends.
fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_preflight(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether a page of a public site is about to call into a private network.
fn asks_for_private_network(head: &request::Parts) -> bool {
    let asked = head.headers.get(ASKS_FOR_PRIVATE_NETWORK);
    asked.is_some_and(|value| value == "true")
}

/// A method, or `*`. Methods are told apart by case, so that `get` would never be asked for.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Verb(String);

impl TryFrom<Cow<'_, str>> for Verb {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        let is_method = Method::from_bytes(text.as_bytes()).is_ok();
        if !is_method || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(format!(
                "expected a method in capital letters, found `{text}`"
            ));
        }
        Ok(Self(text.into_owned()))
    }
}

/// The name of a header, as the file spells it, or `*`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Name(String);

impl TryFrom<Cow<'_, str>> for Name {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        text.parse::<edgeway_sdk::types::Header>()?;
        Ok(Self(text.into_owned()))
    }
}

/// The headers that answer for CORS.
const ANSWERS: [HeaderName; 7] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    ALLOWS_PRIVATE_NETWORK,
];
const ASKS_FOR_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
/// How much of an origin is told.
const LONGEST: usize = 100;
const VARY: &str = "Origin";
const VARY_PREFLIGHT: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::{self, Outcome, Trial};

    use super::*;

    const FULL: &str = r#"{
        "origins": ["https://app.example.com", "https://*.example.org", "http://localhost:3000"],
        "methods": ["GET", "DELETE"],
        "headers": ["Content-Type", "Authorization"],
        "expose": ["X-Total"],
        "credentials": true,
        "max_age": "1h"
    }"#;

    async fn run(json: &str, trial: Trial) -> Outcome {
        trial.run(&test::build(json, build).unwrap()).await
    }

    fn preflight(origin: &str) -> Trial {
        Trial::new(Method::OPTIONS, "/")
            .header("origin", origin)
            .header("access-control-request-method", "DELETE")
    }

    fn from(origin: &str) -> Trial {
        Trial::get("/").header("origin", origin)
    }

    #[tokio::test]
    async fn a_preflight_is_told_what_is_allowed() {
        let outcome = run(FULL, preflight("https://app.example.com")).await;
        assert_eq!(outcome.status(), 204);
        let expected = [
            ("allow-origin", "https://app.example.com"),
            ("allow-credentials", "true"),
            ("allow-methods", "GET, DELETE"),
            ("allow-headers", "Content-Type, Authorization"),
            ("expose-headers", "X-Total"),
            ("max-age", "3600"),
        ];
        for (name, value) in expected {
            let name = format!("access-control-{name}");
            assert_eq!(outcome.header(&name), Some(value), "{name}");
        }
        assert_eq!(outcome.header("vary"), Some(VARY_PREFLIGHT));
    }

    #[tokio::test]
    async fn a_preflight_of_another_origin_is_refused() {
        let outcome = run(FULL, preflight("https://evil.example")).await;
        assert_eq!(outcome.status(), 403);
        assert_eq!(outcome.header("access-control-allow-origin"), None);
        assert_eq!(outcome.header("access-control-allow-methods"), None);
        assert_eq!(outcome.header("vary"), Some(VARY_PREFLIGHT));
    }

    #[tokio::test]
    async fn an_options_that_is_no_preflight_goes_down() {
        let trials = [
            Trial::new(Method::OPTIONS, "/"),
            Trial::new(Method::OPTIONS, "/").header("origin", "https://app.example.com"),
            Trial::new(Method::OPTIONS, "/").header("access-control-request-method", "GET"),
            from("https://app.example.com").header("access-control-request-method", "GET"),
        ];
        for trial in trials {
            assert!(run(FULL, trial).await.passed());
        }
    }

    #[tokio::test]
    async fn only_an_allowed_origin_is_echoed() {
        let cases = [
            ("https://app.example.com", true),
            ("https://a.example.org", true),
            ("https://a.b.example.org", true),
            ("http://localhost:3000", true),
            ("https://example.org", false),
            ("https://.example.org", false),
            ("http://a.example.org", false),
            ("https://a.example.org:8443", false),
            ("https://evil.example/.example.org", false),
            ("https://evil.example:1@a.example.org", false),
            ("https://app.example.com.evil.example", false),
            ("https://app.example.com:444", false),
            ("https://evilexample.org", false),
            ("http://localhost", false),
            ("null", false),
            ("*", false),
            ("", false),
        ];
        for (origin, allowed) in cases {
            let outcome = run(FULL, from(origin)).await;
            assert!(outcome.passed(), "{origin}");
            let expected = allowed.then_some(origin);
            let echoed = outcome.header("access-control-allow-origin");
            assert_eq!(echoed, expected, "{origin}");
            let credentials = outcome.header("access-control-allow-credentials");
            assert_eq!(credentials, allowed.then_some("true"), "{origin}");
            assert_eq!(outcome.header("vary"), Some("Origin"), "{origin}");
            assert_eq!(outcome.header("access-control-max-age"), None, "{origin}");
        }
    }

    #[tokio::test]
    async fn two_origins_are_none() {
        let trial = from("https://app.example.com").header("origin", "https://evil.example");
        let outcome = run(FULL, trial).await;
        assert_eq!(outcome.header("access-control-allow-origin"), None);
    }

    #[tokio::test]
    async fn what_the_upstream_says_is_replaced() {
        for (origin, expected) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("https://evil.example", None),
        ] {
            let trial = from(origin)
                .answer_header("access-control-allow-origin", "*")
                .answer_header("access-control-allow-methods", "PUT")
                .answer_header("vary", "Accept, Origin");
            let outcome = run(FULL, trial).await;
            assert_eq!(outcome.header("access-control-allow-origin"), expected);
            assert_eq!(outcome.header("access-control-allow-methods"), None);
            assert_eq!(outcome.headers().get_all("vary").iter().count(), 1);
        }
    }

    #[tokio::test]
    async fn a_star_is_said_to_everybody_and_does_not_vary() {
        let json = r#"{"origins": ["*"], "headers": ["*"]}"#;
        for trial in [Trial::get("/"), from("null"), from("https://a.example")] {
            let outcome = run(json, trial).await;
            assert_eq!(outcome.header("access-control-allow-origin"), Some("*"));
            assert_eq!(outcome.header("vary"), None);
        }
        let outcome = run(json, preflight("https://a.example")).await;
        assert_eq!(outcome.status(), 204);
        assert_eq!(
            outcome.header("access-control-allow-methods"),
            Some("GET, HEAD, POST")
        );
        assert_eq!(outcome.header("access-control-allow-headers"), Some("*"));
        assert_eq!(outcome.header("access-control-max-age"), Some("600"));
    }

    #[tokio::test]
    async fn only_what_was_configured_is_said() {
        let json = r#"{"origins": ["https://a.example"]}"#;
        let outcome = run(json, preflight("https://a.example")).await;
        assert_eq!(outcome.header("access-control-allow-headers"), None);
        assert_eq!(outcome.header("access-control-expose-headers"), None);
        assert_eq!(outcome.header("access-control-allow-credentials"), None);
    }

    #[tokio::test]
    async fn pages_in_a_sandbox_are_allowed_only_by_their_name() {
        let json = r#"{"origins": ["null", "https://a.example"]}"#;
        for (origin, allowed) in [("null", true), ("https://a.example", true), ("NULL", false)] {
            let outcome = run(json, from(origin)).await;
            let echoed = outcome.header("access-control-allow-origin");
            assert_eq!(echoed, allowed.then_some(origin));
        }
    }

    #[tokio::test]
    async fn a_private_network_is_opened_to_whom_it_is_meant_for_when_asked() {
        const ALLOWS: &str = "access-control-allow-private-network";
        let asking =
            |origin| preflight(origin).header("access-control-request-private-network", "true");
        let app = "https://a.example";
        let open = r#"{"origins": ["https://a.example"], "private_network": true}"#;
        let outcome = run(open, asking(app)).await;
        assert_eq!(outcome.header(ALLOWS), Some("true"));
        let vary: Vec<_> = outcome.headers().get_all("vary").iter().collect();
        assert_eq!(
            vary,
            [VARY_PREFLIGHT, "access-control-request-private-network"]
        );
        assert_eq!(run(open, preflight(app)).await.header(ALLOWS), None);
        assert_eq!(
            run(open, asking("https://b.example")).await.header(ALLOWS),
            None
        );
        let shut = r#"{"origins": ["https://a.example"]}"#;
        assert_eq!(run(shut, asking(app)).await.header(ALLOWS), None);
        let trial = from(app).answer_header(ALLOWS, "true");
        assert_eq!(run(shut, trial).await.header(ALLOWS), None);
    }

    #[test]
    fn it_can_not_be_told_to_only_report() {
        let json = r#"{"origins": ["https://a.example"]}"#;
        assert!(!test::build(json, build).unwrap().refuses());
    }

    #[test]
    fn credentials_of_pages_that_can_be_tampered_with_are_warned_of() {
        let resources = edgeway_sdk::Resources::default();
        let mut stage = Build::new(&resources, std::path::Path::new("."));
        let json = r#"{"origins": ["https://a.example", "http://b.example", "http://localhost:3000"],
                       "credentials": true}"#;
        assert!(build(serde_json::from_str(json).unwrap(), &mut stage).is_ok());
        let keys: Vec<_> = stage
            .warnings
            .iter()
            .map(|warning| warning.key.as_deref())
            .collect();
        assert_eq!(keys, [Some("origins.1")]);
    }

    #[test]
    fn what_no_browser_would_heed_and_what_is_dangerous_is_refused_at_its_key() {
        let cases = [
            (r#"{"origins": []}"#, "origins"),
            (r#"{"origins": ["*", "http://a"]}"#, "origins"),
            (r#"{"origins": ["*"], "methods": []}"#, "methods"),
            (r#"{"origins": ["*"], "credentials": true}"#, "credentials"),
            (
                r#"{"origins": ["null"], "credentials": true}"#,
                "credentials",
            ),
            (
                r#"{"origins": ["*"], "private_network": true}"#,
                "private_network",
            ),
            (
                r#"{"origins": ["null"], "private_network": true}"#,
                "private_network",
            ),
            (
                r#"{"origins": ["http://a"], "credentials": true, "methods": ["*"]}"#,
                "methods",
            ),
            (
                r#"{"origins": ["http://a"], "credentials": true, "headers": ["*"]}"#,
                "headers",
            ),
            (
                r#"{"origins": ["http://a"], "credentials": true, "expose": ["*"]}"#,
                "expose",
            ),
        ];
        for (json, key) in cases {
            let error = test::build(json, build).err().expect(json);
            assert_eq!(error.key.as_deref(), Some(key), "{json}");
        }
        for json in [
            r#"{"origins": ["*"], "methods": ["get"]}"#,
            r#"{"origins": ["*"], "headers": ["a b"]}"#,
            r#"{"origins": ["*"], "max_age": "10"}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }
}
