//! Sends the headers that tell browsers to be careful.
//!
//! What the response says itself stays, since the application knows best what its pages need, unless
//! `override: true`. Every header can be given another value, or be left out by `off`.
//!
//! * `Strict-Transport-Security` goes out over https alone, where it counts (RFC 6797, 7.2). What the listener says
//!   about it in its `tls` stays like what the response says.
//! * Who may show the page in a frame is told twice: by `X-Frame-Options` and by `frame-ancestors` of a
//!   `Content-Security-Policy`. A policy of the response stays beside ours: browsers heed both.
//! * There is no other policy for content unless one is given: only the application knows where its scripts
//!   come from.
//! * `X-XSS-Protection` is not sent: what it turned on was a hole itself, and is gone from browsers.

use std::{borrow::Cow, fmt};

use edgeway_sdk::{exchange::Scheme, prelude::*};
use serde::{Deserializer, de};

use crate::origins::Allowed;

pub(crate) const DOC: &str = "\
sends the headers that tell browsers to be careful

security_headers:                                   # as a bare word: as below, with no `csp`
  hsts: max-age=31536000                            # over https only; any of these may be another text, or off
  content_type_options: nosniff
  referrer_policy: strict-origin-when-cross-origin
  frames: same_origin                               # who may show a page in a frame: none, same_origin, a list
                                                    # such as [https://app.example.com], or off
  permissions_policy: camera=(), geolocation=(), microphone=()
  opener_policy: same-origin-allow-popups
  resource_policy: same-site
  csp: default-src 'self'                           # Content-Security-Policy; none if not given
  csp_report_only: default-src 'none'               # a policy that is only tried; none if not given
  embedder_policy: require-corp                     # none if not given
  override: false                                   # whether what the response says itself is replaced
";

/// `security_headers: { csp: default-src 'self', frames: none }`
#[derive(Deserialize)]
pub(crate) struct Config {
    hsts: Option<Text>,
    content_type_options: Option<Text>,
    referrer_policy: Option<Text>,
    frames: Option<Frames>,
    permissions_policy: Option<Text>,
    opener_policy: Option<Text>,
    resource_policy: Option<Text>,
    csp: Option<Text>,
    csp_report_only: Option<Text>,
    embedder_policy: Option<Text>,
    #[serde(default, rename = "override")]
    overrides: bool,
}

/// Sends the headers that tell browsers to be careful.
pub(crate) struct SecurityHeaders {
    /// What goes out over https only.
    hsts: Option<HeaderValue>,
    others: Vec<(HeaderName, HeaderValue)>,
    csp: Option<HeaderValue>,
    frames: Option<Framing>,
    overrides: bool,
}

/// Who may show a page in a frame, in both ways to say it.
struct Framing {
    /// None if that header has no word for it.
    options: Option<HeaderValue>,
    ancestors: HeaderValue,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<SecurityHeaders, BuildError> {
    let preset = [
        (
            header::X_CONTENT_TYPE_OPTIONS,
            config.content_type_options,
            "nosniff",
        ),
        (
            header::REFERRER_POLICY,
            config.referrer_policy,
            "strict-origin-when-cross-origin",
        ),
        (
            PERMISSIONS_POLICY,
            config.permissions_policy,
            "camera=(), geolocation=(), microphone=()",
        ),
        (
            OPENER_POLICY,
            config.opener_policy,
            "same-origin-allow-popups",
        ),
        (RESOURCE_POLICY, config.resource_policy, "same-site"),
    ];
    let mut others: Vec<_> = preset
        .into_iter()
        .filter_map(|(name, written, usual)| Some((name, or_usual(written, usual)?)))
        .collect();
    let report_only = header::CONTENT_SECURITY_POLICY_REPORT_ONLY;
    for (key, name, written) in [
        ("csp_report_only", report_only, config.csp_report_only),
        ("embedder_policy", EMBEDDER_POLICY, config.embedder_policy),
    ] {
        others.extend(only_if_given(key, written)?.map(|value| (name, value)));
    }
    let csp = only_if_given("csp", config.csp)?;
    let says_it_itself = csp.as_ref().is_some_and(has_ancestors);
    if says_it_itself && config.frames.is_some() {
        let message = "`frames` has no effect: `csp` says `frame-ancestors` itself";
        return Err(BuildError::at("frames", message).help("say it in one of the two"));
    }
    let frames = match config.frames.unwrap_or_default() {
        Frames::Given(framing) if !says_it_itself => Some(framing),
        Frames::Given(_) | Frames::Off => None,
    };
    Ok(SecurityHeaders {
        hsts: hsts(config.hsts)?,
        others,
        csp: match (csp, &frames) {
            (Some(csp), Some(framing)) => Some(joined(&csp, &framing.ancestors)?),
            (csp, _) => csp,
        },
        frames,
        overrides: config.overrides,
    })
}

fn or_usual(written: Option<Text>, usual: &'static str) -> Option<HeaderValue> {
    match written {
        None => Some(HeaderValue::from_static(usual)),
        Some(Text::Off) => None,
        Some(Text::Given(value)) => Some(value),
    }
}

fn only_if_given(
    key: &'static str,
    written: Option<Text>,
) -> Result<Option<HeaderValue>, BuildError> {
    match written {
        None => Ok(None),
        Some(Text::Off) => {
            let message = format!("`{key}: off` has no effect: there is none unless it is given");
            Err(BuildError::at(key, message).help("leave it out"))
        }
        Some(Text::Given(value)) => Ok(Some(value)),
    }
}

fn hsts(written: Option<Text>) -> Result<Option<HeaderValue>, BuildError> {
    let value = or_usual(written, "max-age=31536000");
    let has_age = |value: &HeaderValue| {
        let directives = value.as_bytes().split(|byte| *byte == b';');
        let mut ages = directives.filter_map(|text| text.trim_ascii().strip_prefix(b"max-age="));
        ages.any(|age| !age.is_empty() && age.iter().all(u8::is_ascii_digit))
    };
    if value.as_ref().is_some_and(|value| !has_age(value)) {
        let message = "expected `max-age` with a number of seconds, such as `max-age=31536000; includeSubDomains`";
        return Err(BuildError::at("hsts", message));
    }
    Ok(value)
}

fn joined(csp: &HeaderValue, ancestors: &HeaderValue) -> Result<HeaderValue, BuildError> {
    let policy = csp.as_bytes().trim_ascii();
    let policy = policy.strip_suffix(b";").unwrap_or(policy);
    HeaderValue::from_bytes(&[policy, b"; ", ancestors.as_bytes()].concat())
        .map_err(BuildError::new)
}

#[async_trait]
impl Filter for SecurityHeaders {
    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        if response.exchange().scheme == Scheme::Https
            && let Some(hsts) = &self.hsts
        {
            self.put(response, &header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        for (name, value) in &self.others {
            self.put(response, name, value);
        }
        if let Some(framing) = &self.frames {
            self.frame(response, framing);
        }
        if let Some(csp) = &self.csp {
            self.put(response, &header::CONTENT_SECURITY_POLICY, csp);
        }
        Ok(())
    }

    fn refuses(&self) -> bool {
        false
    }

    fn hooks(&self) -> Hooks {
        Hooks::RESPONSE
    }
}

impl SecurityHeaders {
    fn put(&self, response: &mut Response<'_>, name: &HeaderName, value: &HeaderValue) {
        if self.overrides || !response.headers().contains_key(name) {
            response.set_header(name.clone(), value.clone());
        }
    }

    /// Says who may show the page in a frame. Where the response has said so in either way, both stay: the
    /// policy beats the other header, and ours might be the weaker one.
    fn frame(&self, response: &mut Response<'_>, framing: &Framing) {
        let policies = response.headers().get_all(header::CONTENT_SECURITY_POLICY);
        let is_said = response.headers().contains_key(header::X_FRAME_OPTIONS)
            || policies.iter().any(has_ancestors);
        if is_said && !self.overrides {
            return;
        }
        match &framing.options {
            Some(options) => response.set_header(header::X_FRAME_OPTIONS, options.clone()),
            None => response.remove_header(&header::X_FRAME_OPTIONS),
        }
        let is_in_policy = self.csp.is_some()
            && (self.overrides
                || !response
                    .headers()
                    .contains_key(header::CONTENT_SECURITY_POLICY));
        if !is_in_policy {
            // Beside what else there is: browsers heed each of several policies.
            response.append_header(header::CONTENT_SECURITY_POLICY, framing.ancestors.clone());
        }
    }
}

fn has_ancestors(policy: &HeaderValue) -> bool {
    let directives = policy.as_bytes().split(|byte| matches!(byte, b';' | b','));
    let mut names = directives.map(|directive| {
        let directive = directive.trim_ascii();
        let end = directive.iter().position(u8::is_ascii_whitespace);
        directive
            .get(..end.unwrap_or(directive.len()))
            .unwrap_or_default()
    });
    names.any(|name| name.eq_ignore_ascii_case(b"frame-ancestors"))
}

/// The value of a header, or `off`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
enum Text {
    Off,
    Given(HeaderValue),
}

impl TryFrom<Cow<'_, str>> for Text {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let value = HeaderValue::from_str(text.trim()).ok();
        let value = value.filter(|value| !value.is_empty() && value.to_str().is_ok());
        value.map(Self::Given).ok_or_else(|| {
            format!("expected the value of a header, in one line, or `off`, found `{text}`")
        })
    }
}

/// `none`, `same_origin`, `off`, or a list of origins.
enum Frames {
    Off,
    Given(Framing),
}

impl Default for Frames {
    fn default() -> Self {
        Self::same_origin()
    }
}

impl Frames {
    fn same_origin() -> Self {
        Self::Given(Framing {
            options: Some(HeaderValue::from_static("SAMEORIGIN")),
            ancestors: HeaderValue::from_static("frame-ancestors 'self'"),
        })
    }

    fn none() -> Self {
        Self::Given(Framing {
            options: Some(HeaderValue::from_static("DENY")),
            ancestors: HeaderValue::from_static("frame-ancestors 'none'"),
        })
    }
}

impl<'de> Deserialize<'de> for Frames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrList)
    }
}

struct WordOrList;

impl<'de> de::Visitor<'de> for WordOrList {
    type Value = Frames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "`none`, `same_origin`, `off`, or a list of origins such as `https://app.example.com`",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Frames, E> {
        match text {
            "none" => Ok(Frames::none()),
            "same_origin" => Ok(Frames::same_origin()),
            "off" => Ok(Frames::Off),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Frames, A::Error> {
        let mut ancestors = "frame-ancestors".to_owned();
        while let Some(Ancestor(source)) = list.next_element()? {
            ancestors.push(' ');
            ancestors.push_str(&source);
        }
        if !ancestors.contains(' ') {
            return Err(de::Error::custom("the list is empty; write `none`"));
        }
        Ok(Frames::Given(Framing {
            // It knows no lists.
            options: None,
            ancestors: HeaderValue::try_from(ancestors).map_err(de::Error::custom)?,
        }))
    }
}

/// `same_origin`, or an origin, as a policy has it.
#[derive(Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
struct Ancestor(String);

impl TryFrom<Cow<'_, str>> for Ancestor {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        if text == "same_origin" {
            return Ok(Self("'self'".to_owned()));
        }
        match Allowed::try_from(text)? {
            Allowed::One(origin) => Ok(Self(origin)),
            Allowed::Below { before, after } => Ok(Self(format!("{before}*{after}"))),
            Allowed::All => Err("all origins are `frames: off`".to_owned()),
            Allowed::Null => Err("no page can be told apart by the origin `null`".to_owned()),
        }
    }
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const EMBEDDER_POLICY: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");

#[cfg(test)]
mod tests {
    use edgeway_sdk::{
        Exchange,
        test::{self, Outcome, Trial},
    };

    use super::*;

    const NAMES: [&str; 7] = [
        "content-security-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "permissions-policy",
        "referrer-policy",
        "x-content-type-options",
        "x-frame-options",
    ];

    async fn run(json: &str, trial: Trial) -> Outcome {
        trial.run(&test::build(json, build).unwrap()).await
    }

    async fn seen(json: &str, trial: Trial, name: &str) -> Vec<String> {
        let outcome = run(json, trial).await;
        let values = outcome.headers().get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn the_preset_is_sent_with_every_response() {
        let outcome = run("{}", Trial::get("/")).await;
        let expected = [
            "frame-ancestors 'self'",
            "same-origin-allow-popups",
            "same-site",
            "camera=(), geolocation=(), microphone=()",
            "strict-origin-when-cross-origin",
            "nosniff",
            "SAMEORIGIN",
        ];
        for (name, value) in NAMES.into_iter().zip(expected) {
            assert_eq!(outcome.header(name), Some(value), "{name}");
        }
        assert_eq!(outcome.headers().len(), NAMES.len());
        assert!(!test::build("{}", build).unwrap().refuses());
    }

    #[test]
    fn hsts_is_sent_over_https_only() {
        let hsts = |json, scheme| {
            let filter = test::build(json, build).unwrap();
            let (request, ()) = http::Request::new(()).into_parts();
            let (mut answer, ()) = http::Response::new(()).into_parts();
            let mut exchange = Exchange::new(([192, 0, 2, 1], 1).into());
            exchange.scheme = scheme;
            let mut response =
                Response::new(&mut answer, &request, &mut exchange, Origin::Upstream);
            filter.response(&mut response).unwrap();
            answer.headers.remove(header::STRICT_TRANSPORT_SECURITY)
        };
        assert_eq!(hsts("{}", Scheme::Https).unwrap(), "max-age=31536000");
        assert_eq!(hsts("{}", Scheme::Http), None);
        let other = r#"{"hsts": "max-age=60; includeSubDomains"}"#;
        let value = hsts(other, Scheme::Https).unwrap();
        assert_eq!(value, "max-age=60; includeSubDomains");
        assert_eq!(hsts(r#"{"hsts": "off"}"#, Scheme::Https), None);
    }

    #[tokio::test]
    async fn everything_can_have_another_value_or_be_left_out() {
        for (key, name) in [
            ("content_type_options", "x-content-type-options"),
            ("referrer_policy", "referrer-policy"),
            ("permissions_policy", "permissions-policy"),
            ("opener_policy", "cross-origin-opener-policy"),
            ("resource_policy", "cross-origin-resource-policy"),
        ] {
            let json = format!("{{\"{key}\": \"other\"}}");
            assert_eq!(seen(&json, Trial::get("/"), name).await, ["other"]);
            let json = format!("{{\"{key}\": \"off\"}}");
            assert_eq!(seen(&json, Trial::get("/"), name).await, [""; 0]);
        }
        for (key, name) in [
            ("csp_report_only", "content-security-policy-report-only"),
            ("embedder_policy", "cross-origin-embedder-policy"),
        ] {
            assert_eq!(seen("{}", Trial::get("/"), name).await, [""; 0]);
            let json = format!("{{\"{key}\": \"given\"}}");
            assert_eq!(seen(&json, Trial::get("/"), name).await, ["given"]);
        }
    }

    #[tokio::test]
    async fn who_may_frame_is_said_in_both_ways() {
        for (frames, options, ancestors) in [
            ("\"none\"", &["DENY"][..], &["frame-ancestors 'none'"][..]),
            (
                "\"same_origin\"",
                &["SAMEORIGIN"],
                &["frame-ancestors 'self'"],
            ),
            ("\"off\"", &[], &[]),
            (
                r#"["same_origin", "https://App.example", "https://*.a.example"]"#,
                &[],
                &["frame-ancestors 'self' https://app.example https://*.a.example"],
            ),
        ] {
            let json = format!("{{\"frames\": {frames}}}");
            assert_eq!(
                seen(&json, Trial::get("/"), "x-frame-options").await,
                options
            );
            let policy = seen(&json, Trial::get("/"), "content-security-policy").await;
            assert_eq!(policy, ancestors);
        }
    }

    #[tokio::test]
    async fn a_policy_is_sent_together_with_who_may_frame() {
        let name = "content-security-policy";
        let json = r#"{"csp": "default-src 'self'; ", "frames": "none"}"#;
        let ours = "default-src 'self'; frame-ancestors 'none'";
        assert_eq!(seen(json, Trial::get("/"), name).await, [ours]);
        let json = r#"{"csp": "default-src 'self'; Frame-Ancestors https://a.example"}"#;
        let ours = "default-src 'self'; Frame-Ancestors https://a.example";
        assert_eq!(seen(json, Trial::get("/"), name).await, [ours]);
        assert_eq!(
            seen(json, Trial::get("/"), "x-frame-options").await,
            [""; 0]
        );
    }

    #[tokio::test]
    async fn what_the_response_says_stays_unless_it_is_overridden() {
        for name in NAMES
            .into_iter()
            .filter(|name| *name != "content-security-policy")
        {
            let trial = || Trial::get("/").answer_header(name, "theirs");
            assert_eq!(seen("{}", trial(), name).await, ["theirs"]);
            let replaced = seen(r#"{"override": true}"#, trial(), name).await;
            assert!(replaced.len() == 1 && replaced[0] != "theirs", "{name}");
        }
        let trial = || Trial::get("/").answer_header("content-security-policy", "img-src *");
        let name = "content-security-policy";
        let csp = r#"{"csp": "default-src 'self'"}"#;
        let both = ["img-src *", "frame-ancestors 'self'"];
        assert_eq!(seen(csp, trial(), name).await, both);
        let csp = r#"{"csp": "default-src 'self'", "override": true}"#;
        let ours = ["default-src 'self'; frame-ancestors 'self'"];
        assert_eq!(seen(csp, trial(), name).await, ours);
    }

    #[tokio::test]
    async fn a_response_that_says_who_may_frame_is_not_contradicted() {
        let strict = || Trial::get("/").answer_header("x-frame-options", "DENY");
        assert_eq!(
            seen("{}", strict(), "content-security-policy").await,
            [""; 0]
        );
        let own = "img-src *;frame-ancestors https://b.example";
        let trial = || Trial::get("/").answer_header("content-security-policy", own);
        assert_eq!(seen("{}", trial(), "content-security-policy").await, [own]);
        assert_eq!(seen("{}", trial(), "x-frame-options").await, [""; 0]);
        let list = r#"{"frames": ["https://a.example"], "override": true}"#;
        assert_eq!(seen(list, strict(), "x-frame-options").await, [""; 0]);
    }

    #[test]
    fn what_has_no_effect_or_no_sense_is_refused_at_its_key() {
        for (json, key) in [
            (r#"{"csp": "off"}"#, "csp"),
            (r#"{"csp_report_only": "off"}"#, "csp_report_only"),
            (r#"{"embedder_policy": "off"}"#, "embedder_policy"),
            (r#"{"hsts": "31536000"}"#, "hsts"),
            (r#"{"hsts": "includeSubDomains; max-age="}"#, "hsts"),
            (
                r#"{"csp": "frame-ancestors *", "frames": "none"}"#,
                "frames",
            ),
        ] {
            let error = test::build(json, build).err().expect(json);
            assert_eq!(error.key.as_deref(), Some(key), "{json}");
        }
        for json in [
            r#"{"referrer_policy": ""}"#,
            r#"{"referrer_policy": "a\nb"}"#,
            r#"{"referrer_policy": true}"#,
            r#"{"frames": "deny"}"#,
            r#"{"frames": []}"#,
            r#"{"frames": ["*"]}"#,
            r#"{"frames": ["null"]}"#,
            r#"{"frames": ["example.com"]}"#,
        ] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }
}
