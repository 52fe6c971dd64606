//! Lets only requests with certain headers pass.
//!
//! A header may be sent twice, and an application behind may read `X_Tenant` as `X-Tenant`. So a value is
//! denied if any of those that could be read has it, and allowed only if all of them do.

use edgeway_sdk::{message::is_twin, prelude::*, types::Header};
use regex::bytes::{Regex, RegexBuilder};

use crate::written::{OneOrMany, Refusing};

/// What `edgeway filters` shows.
pub(crate) const DOC: &str = "\
refuses requests by what their headers say

header_access:
  # First `deny`: one that fits is enough to refuse. Then, if there is any `allow`, one of them must fit.
  # Each tests one header by one of: present, equals (a value or several), prefix (one or several), regex.
  deny:                                  # default: none. Fits if any value of the header does
    - { header: User-Agent, regex: \"(?i)sqlmap|nikto\", name: scanners }   # name: for log and metrics
    - { header: X-Tenant, present: false }
  allow:                                 # default: none. Fits if the header is there and all its values do
    - { header: X-Api-Version, equals: [\"1\", \"2\"] }
    - { header: X-Client, prefix: acme- }
  # A value is what is behind the colon, commas included; case matters, but not that of names.
  # `X_Tenant` counts as `X-Tenant`: there are applications that read it so.
  status: 403                            # of a refusal
";

/// `header_access: { deny: [{ header: User-Agent, prefix: curl }] }`
#[derive(Deserialize)]
pub(crate) struct Config {
    deny: Option<Vec<Written>>,
    allow: Option<Vec<Written>>,
    #[serde(default)]
    status: Refusing,
}

/// A rule as it is written.
#[derive(Deserialize)]
struct Written {
    header: Header,
    present: Option<bool>,
    equals: Option<OneOrMany<String>>,
    prefix: Option<OneOrMany<String>>,
    regex: Option<Pattern>,
    name: Option<String>,
}

/// A regular expression for the bytes of a value.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let built = RegexBuilder::new(&text).size_limit(LARGEST).build();
        built
            .map(Self)
            .map_err(|error| format!("`{text}` is no regular expression: {error}"))
    }
}

/// Lets only requests with certain headers pass.
pub(crate) struct HeaderAccess {
    deny: Vec<Rule>,
    allow: Option<Vec<Rule>>,
    status: u16,
}

struct Rule {
    header: HeaderName,
    test: Test,
    name: Option<String>,
    /// Where it is written.
    place: String,
}

enum Test {
    Present,
    Absent,
    Equals(OneOrMany<String>),
    Prefix(OneOrMany<String>),
    Regex(Regex),
}

/// Builds the filter.
pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<HeaderAccess, BuildError> {
    if config.deny.is_none() && config.allow.is_none() {
        let error = BuildError::new("nothing is allowed or denied, so it would have no effect");
        return Err(error.help("give `allow` or `deny`"));
    }
    Ok(HeaderAccess {
        deny: rules("deny", config.deny)?.unwrap_or_default(),
        allow: rules("allow", config.allow)?,
        status: config.status.0,
    })
}

fn rules(key: &str, written: Option<Vec<Written>>) -> Result<Option<Vec<Rule>>, BuildError> {
    let Some(written) = written else {
        return Ok(None);
    };
    if written.is_empty() {
        return Err(BuildError::at(key, "the list is empty").help("leave it out"));
    }
    let rules = written.into_iter().enumerate();
    let rules = rules.map(|(index, written)| Rule::new(format!("{key}.{index}"), written));
    rules.collect::<Result<_, _>>().map(Some)
}

impl Rule {
    fn new(place: String, written: Written) -> Result<Self, BuildError> {
        let Header(header) = written.header;
        // HTTP/2 has no such header.
        if header == header::HOST {
            let error = BuildError::at(format!("{place}.header"), "`host` can't be tested here");
            return Err(error.help("use the `host` of a route's `match`, or of `when`"));
        }
        let tests = [
            written
                .present
                .map(|is| if is { Test::Present } else { Test::Absent }),
            written.equals.map(Test::Equals),
            written.prefix.map(Test::Prefix),
            written.regex.map(|Pattern(regex)| Test::Regex(regex)),
        ];
        let mut tests = tests.into_iter().flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else {
            let message = "expected one of `present`, `equals`, `prefix` and `regex`";
            return Err(BuildError::at(place, message));
        };
        Ok(Self {
            header,
            test,
            name: written.name,
            place,
        })
    }

    /// Whether any value fits.
    fn fits_any(&self, headers: &HeaderMap) -> bool {
        let mut values = values(headers, &self.header);
        match &self.test {
            Test::Absent => values.next().is_none(),
            Test::Present | Test::Equals(_) | Test::Prefix(_) | Test::Regex(_) => {
                values.any(|value| self.test.fits(value))
            }
        }
    }

    /// Whether there is a value and all fit.
    fn fits_all(&self, headers: &HeaderMap) -> bool {
        let mut values = values(headers, &self.header).peekable();
        match &self.test {
            Test::Absent => values.next().is_none(),
            Test::Present | Test::Equals(_) | Test::Prefix(_) | Test::Regex(_) => {
                values.peek().is_some() && values.all(|value| self.test.fits(value))
            }
        }
    }
}

impl Test {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Absent => false,
            Self::Equals(texts) => texts.iter().any(|text| text.as_bytes() == value),
            Self::Prefix(texts) => texts.iter().any(|text| value.starts_with(text.as_bytes())),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// The values of all headers that an application may read under this name.
fn values<'h>(headers: &'h HeaderMap, name: &'h HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let found = headers
        .iter()
        .filter(move |(known, _)| is_twin(known.as_str(), name.as_str()));
    found.map(|(_, value)| value.as_bytes())
}

#[async_trait]
impl Filter for HeaderAccess {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let headers = request.headers();
        if let Some(rule) = self.deny.iter().find(|rule| rule.fits_any(headers)) {
            let name = rule.name.clone().unwrap_or_else(|| "deny".to_owned());
            let reason = format!("`{}` is as `{}` denies it", rule.header, rule.place);
            return Ok(self
                .refuse(name, reason)
                .key(rule.header.to_string())
                .into());
        }
        let Some(allow) = &self.allow else {
            return Ok(Flow::Continue);
        };
        if allow.iter().any(|rule| rule.fits_all(headers)) {
            return Ok(Flow::Continue);
        }
        let reason = "no header is as `allow` has it".to_owned();
        Ok(self.refuse("not_allowed".to_owned(), reason).into())
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

impl HeaderAccess {
    fn refuse(&self, rule: String, reason: String) -> Reply {
        Reply::new(self.status)
            .detail("A header of the request is not allowed, or missing.")
            .rule(rule)
            .because(reason)
    }
}

/// The bytes that a compiled expression may take.
const LARGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use edgeway_sdk::test::{self, Trial};

    use super::*;

    fn filter(json: &str) -> HeaderAccess {
        test::build(json, build).unwrap()
    }

    /// Whether requests with these headers pass.
    async fn check(json: &str, cases: &[(&[(&str, &str)], bool)]) {
        let filter = filter(json);
        for (headers, passes) in cases {
            let trial = headers
                .iter()
                .fold(Trial::get("/"), |trial, (name, value)| {
                    trial.header(name, value)
                });
            assert_eq!(
                trial.run(&filter).await.passed(),
                *passes,
                "{json} {headers:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_value_is_denied_wherever_it_hides() {
        let json = r#"{"deny": [{"header": "X-Role-Name", "equals": ["admin", "root"]}]}"#;
        check(
            json,
            &[
                (&[], true),
                (&[("x-role-name", "guest")], true),
                (&[("x-role-name", "administrator")], true),
                (&[("x-role-name", "Admin")], true),
                (&[("X-ROLE-NAME", "admin")], false),
                (&[("x-role-name", "root")], false),
                (&[("x-role-name", "guest"), ("x-role-name", "admin")], false),
                (&[("x_role_name", "admin")], false),
                (&[("x-role_name", "admin"), ("x-role-name", "guest")], false),
                (&[("x-role-names", "admin")], true),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_value_is_allowed_only_if_no_other_stands_beside_it() {
        let json = r#"{"allow": [{"header": "X-Tenant", "equals": "acme"}, {"header": "X-Probe", "present": true}]}"#;
        check(
            json,
            &[
                (&[("x-tenant", "acme")], true),
                (&[("x-tenant", "acme"), ("x-tenant", "acme")], true),
                (&[("x-tenant", "acme"), ("x-tenant", "evil")], false),
                (&[("x-tenant", "acme"), ("x_tenant", "evil")], false),
                (&[("x-tenant", "acme, evil")], false),
                (&[("x-tenant", "")], false),
                (&[], false),
                (&[("x-probe", "")], true),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_header_is_tested_in_any_way() {
        check(
            r#"{"deny": [{"header": "User-Agent", "regex": "(?i)sqlmap|^nikto"}]}"#,
            &[
                (&[("user-agent", "a SQLMap b")], false),
                (&[("user-agent", "nikto")], false),
                (&[("user-agent", "a nikto")], true),
            ],
        )
        .await;
        check(
            r#"{"deny": [{"header": "User-Agent", "prefix": ["curl", "wget"]}]}"#,
            &[
                (&[("user-agent", "curl/8")], false),
                (&[("user-agent", "Wget")], true),
                (&[("user-agent", "wget")], false),
                (&[("user-agent", "a curl")], true),
            ],
        )
        .await;
        let absent = r#"[{"header": "X-A", "present": false}]"#;
        let (none, one): (&[_], &[_]) = (&[], &[("x-a", "1")]);
        check(
            &format!(r#"{{"deny": {absent}}}"#),
            &[(none, false), (one, true)],
        )
        .await;
        check(
            &format!(r#"{{"allow": {absent}}}"#),
            &[(none, true), (one, false)],
        )
        .await;
        let both = r#"{"deny": [{"header": "X-B", "present": true}], "allow": [{"header": "X-A", "present": true}]}"#;
        check(
            both,
            &[
                (one, true),
                (none, false),
                (&[("x-a", "1"), ("x-b", "1")], false),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_value_that_is_not_text_is_tested_too() {
        let filter = filter(r#"{"deny": [{"header": "X-A", "regex": "(?-u)\\xff"}]}"#);
        let (mut head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let value = HeaderValue::from_bytes(b"a\xffb").unwrap();
        head.headers.insert("x-a", value);
        let mut exchange = edgeway_sdk::Exchange::new(([192, 0, 2, 1], 1).into());
        let flow = filter
            .request(&mut Request::new(&mut head, &mut exchange))
            .await;
        assert!(matches!(flow, Ok(Flow::Respond(_))));
    }

    #[tokio::test]
    async fn a_refusal_names_the_rule_and_never_the_value() {
        let json = r#"{"status": 400, "deny": [
            {"header": "X-A", "equals": "hunter2", "name": "leaked"}, {"header": "X-B", "present": true}],
            "allow": [{"header": "X-C", "present": true}]}"#;
        let filter = filter(json);
        for (header, rule, key, reason) in [
            (
                "x-a",
                "leaked",
                Some("x-a"),
                "`x-a` is as `deny.0` denies it",
            ),
            ("x-b", "deny", Some("x-b"), "`x-b` is as `deny.1` denies it"),
            ("x-d", "not_allowed", None, "no header is as `allow` has it"),
        ] {
            let outcome = Trial::get("/").header(header, "hunter2").run(&filter).await;
            assert_eq!(outcome.status(), 400);
            let reply = outcome.reply.unwrap();
            assert_eq!(reply.reason(), Some(reason));
            assert_eq!((reply.decided_by_rule(), reply.about()), (Some(rule), key));
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (json, key) in [
            ("{}", None),
            (r#"{"deny": []}"#, Some("deny")),
            (r#"{"deny": [{"header": "X-A"}]}"#, Some("deny.0")),
            (
                r#"{"allow": [{"header": "X-A", "present": true}, {"header": "X-A", "present": true, "prefix": "a"}]}"#,
                Some("allow.1"),
            ),
            (
                r#"{"deny": [{"header": "Host", "present": true}]}"#,
                Some("deny.0.header"),
            ),
        ] {
            let error = test::build(json, build).err().expect(json);
            assert_eq!(error.key.as_deref(), key, "{json}");
        }
        for json in [
            r#"{"deny": [{"header": "X-A", "regex": "("}]}"#,
            r#"{"deny": [{"header": "X-A", "regex": "a{1000}{1000}"}]}"#,
            r#"{"deny": [{"header": "X-A", "equals": []}]}"#,
            r#"{"deny": [{"header": "X A", "present": true}]}"#,
        ] {
            assert!(test::build(json, build).is_err(), "{json}");
        }
    }
}
