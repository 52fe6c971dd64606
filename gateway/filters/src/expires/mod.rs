//! Tells browsers how long they may keep a response: `Cache-Control` and `Expires`.
//!
//! The first rule that fits a response decides. Only responses to `GET` and `HEAD` are looked at, and of
//! these, unless a rule names other `statuses`, 200, 203, 204, 206, 301 and 308. Not the temporary
//! redirects: a browser that remembers the way to a login page never gets past it. A 304 counts as
//! the 200 that it stands for, since browsers take the new headers over.
//!
//! **What the response says itself stays**, whether in `Cache-Control`, `Expires` or `Pragma: no-cache`.
//! With `override: true` it is replaced, but for `no-store`, which stays as it is, and `private`, which
//! stays private. (Whoever knows better takes the headers away first, by the filter `headers` further down.)
//!
//! **What is for one visitor is not shared.** Browsers are not the only ones who read this: what carries
//! a lifetime may be kept by every cache on the way. So a response becomes `private` if it sets a cookie,
//! and also if the request had a cookie or `Authorization`, or was found to be somebody's, unless the rule
//! says `scope: public`.
//!
//! **Time counts from now.** A response out of a cache is `Age` seconds old, and a browser subtracts them
//! from `max-age`. So they are added here: else what the gateway keeps for a day could never be kept by
//! browsers for an hour. `Expires` is a moment and needs nothing.
//!
//! Of two filters of this kind on the way up, the first one that has a rule for the response decides: that
//! of the route before that of all routes. So `expires: off` on a route shields it.

mod written;

use std::time::{Duration, SystemTime};

use edgeway_sdk::prelude::*;

pub(crate) use self::written::build;
use crate::criteria::{List, MediaType, PathPattern, Statuses};

pub(crate) const DOC: &str = "\
tells browsers how long they may keep a response

expires:                          # or one lifetime for all responses: `expires: 1h`
  - types: [image/*, font/*]      # the first rule that fits decides; what is given here must all hold
    paths: ['*.png', /static/]    # /static/ is all below it, a * is any letters
    for: 30d                      # or max (ten years), 0s, no_cache, no_store, or off (says nothing)
    immutable: true               # not even a reload asks again
    #scope: public                # or private; if not given, private for what is for one visitor
    #shared_for: 10m              # how long caches that many share may keep it, if not as long
    #stale_while_revalidate: 1m   # how much longer it may be used while a new one is fetched
    #stale_if_error: 1d           # how much longer it may be used while there is no new one
    #override: true               # also if the response says something; never for no-store
  - statuses: [404]               # 200, 203, 204, 206, 301 and 308 if not given
    for: 10s
  - types: text/html
    for: 5m
    must_revalidate: true         # it may never be used any longer
";

/// Tells browsers how long they may keep a response.
pub(crate) struct Expires {
    rules: Vec<Rule>,
}

struct Rule {
    paths: Option<List<PathPattern>>,
    statuses: Option<List<Statuses>>,
    types: Option<List<MediaType>>,
    verdict: Verdict,
}

enum Verdict {
    /// The response stays as it is.
    Off,
    Say {
        what: Words,
        if_stated: IfStated,
    },
}

/// What happens to a response that says something itself.
#[derive(Clone, Copy, PartialEq)]
enum IfStated {
    Keep,
    Replace,
}

/// Whether a rule is for a response.
#[derive(PartialEq)]
enum Fit {
    Yes,
    No,
    /// The response does not tell its type.
    Unknown,
}

/// Left by the filter whose rule has decided, for those above.
struct Decided;

#[async_trait]
impl Filter for Expires {
    fn refuses(&self) -> bool {
        false
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        let is_read = matches!(response.request().method, Method::GET | Method::HEAD);
        if !is_read || response.exchange().values.get::<Decided>().is_some() {
            return Ok(());
        }
        let mut fits = self.rules.iter().map(|rule| (rule, rule.fits(response)));
        let Some((rule, fit)) = fits.find(|(_, fit)| *fit != Fit::No) else {
            return Ok(());
        };
        response.values_mut().insert(Decided);
        // Of a 304 without a type nothing is changed in the browser, so its time begins anew as before.
        if let (Fit::Yes, Verdict::Say { what, if_stated }) = (fit, &rule.verdict) {
            say(response, what, *if_stated);
        }
        Ok(())
    }

    fn hooks(&self) -> Hooks {
        Hooks::RESPONSE
    }
}

impl Rule {
    fn fits(&self, response: &Response<'_>) -> Fit {
        let in_place = self
            .paths
            .as_ref()
            .is_none_or(|paths| paths.has_path(response.path()));
        if !in_place || !self.has_status(response.status()) {
            return Fit::No;
        }
        let Some(types) = &self.types else {
            return Fit::Yes;
        };
        match content_type(response) {
            Some(known) if types.has_type(known) => Fit::Yes,
            None if response.status() == StatusCode::NOT_MODIFIED => Fit::Unknown,
            Some(known) if is_ranges(response, known) => Fit::Unknown,
            Some(_) | None => Fit::No,
        }
    }

    fn has_status(&self, status: StatusCode) -> bool {
        let status = match status {
            StatusCode::NOT_MODIFIED => StatusCode::OK,
            other => other,
        };
        match &self.statuses {
            Some(statuses) => statuses.has_status(status),
            None => matches!(status.as_u16(), 200 | 203 | 204 | 206 | 301 | 308),
        }
    }
}

fn content_type<'a>(response: &'a Response<'_>) -> Option<&'a str> {
    response.header(header::CONTENT_TYPE)
}

/// Several ranges have a type of their own, each with the true one inside.
fn is_ranges(response: &Response<'_>, content_type: &str) -> bool {
    const RANGES: &str = "multipart/byteranges";
    let start = content_type.get(..RANGES.len()).unwrap_or_default();
    response.status() == StatusCode::PARTIAL_CONTENT && start.eq_ignore_ascii_case(RANGES)
}

fn say(response: &mut Response<'_>, words: &Words, if_stated: IfStated) {
    let stated = Stated::of(response.headers());
    if stated.anything && (if_stated == IfStated::Keep || stated.no_store) {
        return;
    }
    let is_personal = stated.private
        || response.headers().contains_key(header::SET_COOKIE)
        || (words.scope != Some(Scope::Public) && is_somebodys(response));
    let age = age(response.headers());
    response.set_header(header::CACHE_CONTROL, words.cache_control(is_personal, age));
    match words.expires(SystemTime::now()) {
        Some(moment) => response.set_header(header::EXPIRES, moment),
        None => response.remove_header(&header::EXPIRES),
    }
    response.remove_header(&header::PRAGMA);
}

/// Whether the request may have come from somebody who is known to the application.
fn is_somebodys(response: &Response<'_>) -> bool {
    let headers = &response.request().headers;
    headers.contains_key(header::AUTHORIZATION)
        || headers.contains_key(header::COOKIE)
        || response.exchange().values.get::<Identity>().is_some()
}

/// What a response says itself about being kept.
#[derive(Debug, Default, PartialEq)]
struct Stated {
    anything: bool,
    no_store: bool,
    private: bool,
}

impl Stated {
    fn of(headers: &HeaderMap) -> Self {
        let directives = |name| {
            let lines = headers.get_all(name).iter();
            lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        };
        let mut stated = Self {
            anything: headers.contains_key(header::CACHE_CONTROL)
                || headers.contains_key(header::EXPIRES),
            ..Self::default()
        };
        stated.anything |= directives(header::PRAGMA).any(|word| is(word, b"no-cache"));
        for word in directives(header::CACHE_CONTROL) {
            stated.no_store |= is(word, b"no-store");
            stated.private |= is(word, b"private");
        }
        stated
    }
}

/// Whether a directive, perhaps with an argument, has this name.
fn is(directive: &[u8], name: &[u8]) -> bool {
    let own = directive.split(|byte| *byte == b'=').next();
    own.unwrap_or_default()
        .trim_ascii()
        .eq_ignore_ascii_case(name)
}

/// How old a response is, in seconds, as the caches that it came from say.
fn age(headers: &HeaderMap) -> u64 {
    let text = headers.get(header::AGE).and_then(|age| age.to_str().ok());
    let age = text.and_then(|text| text.trim().parse().ok());
    age.unwrap_or(0).min(LONGEST)
}

/// What is said about a response.
struct Words {
    lifetime: Lifetime,
    scope: Option<Scope>,
    shared_for: Option<u64>,
    /// The directives that always hold: `, immutable`.
    others: String,
    /// What is said of a new response.
    usual: HeaderValue,
    /// The same, if it is for one visitor.
    personal: HeaderValue,
}

/// How long a response may be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lifetime {
    /// Not at all.
    NoStore,
    /// For ever, but it must be asked for every time whether it is still right.
    NoCache,
    Max,
    /// In seconds.
    For(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Public,
    Private,
}

impl Words {
    fn new(
        lifetime: Lifetime,
        scope: Option<Scope>,
        shared_for: Option<u64>,
        others: String,
    ) -> Self {
        let empty = HeaderValue::from_static("");
        let mut words = Self {
            lifetime,
            scope,
            shared_for,
            others,
            usual: empty.clone(),
            personal: empty,
        };
        words.usual = words.written(scope, 0);
        words.personal = words.written(Some(Scope::Private), 0);
        words
    }

    fn cache_control(&self, is_personal: bool, age: u64) -> HeaderValue {
        let passes = self.shared_for.is_some() || matches!(self.lifetime, Lifetime::For(1..));
        match (is_personal, age) {
            (true, age) if age > 0 && passes => self.written(Some(Scope::Private), age),
            (false, age) if age > 0 && passes => self.written(self.scope, age),
            (true, _) => self.personal.clone(),
            (false, _) => self.usual.clone(),
        }
    }

    /// What is said of a response that is `age` seconds old already.
    fn written(&self, scope: Option<Scope>, age: u64) -> HeaderValue {
        let before = match (self.lifetime, scope) {
            (Lifetime::NoStore, _) | (_, None) => "",
            (_, Some(Scope::Public)) => "public, ",
            (_, Some(Scope::Private)) => "private, ",
        };
        let left = |seconds: u64| match seconds {
            0 => 0,
            seconds => seconds.saturating_add(age).min(LONGEST),
        };
        let lifetime = match self.lifetime {
            Lifetime::NoStore => "no-store".to_owned(),
            Lifetime::NoCache => "no-cache".to_owned(),
            Lifetime::Max => format!("max-age={MAX}"),
            Lifetime::For(seconds) => format!("max-age={}", left(seconds)),
        };
        let shared = match self.shared_for {
            Some(seconds) if scope != Some(Scope::Private) => {
                format!(", s-maxage={}", left(seconds))
            }
            Some(_) | None => String::new(),
        };
        let text = format!("{before}{lifetime}{shared}{}", self.others);
        HeaderValue::try_from(text).expect("directives are words and numbers")
    }

    /// When it expires, for those who don't know `Cache-Control`; none if they must not keep it.
    fn expires(&self, now: SystemTime) -> Option<HeaderValue> {
        match self.lifetime {
            Lifetime::NoStore => None,
            Lifetime::NoCache => Some(HeaderValue::from_static(LONG_AGO)),
            Lifetime::Max => Some(HeaderValue::from_static(FAR_AWAY)),
            Lifetime::For(seconds) => {
                let moment = now.checked_add(Duration::from_secs(seconds))?;
                HeaderValue::try_from(httpdate::fmt_http_date(moment)).ok()
            }
        }
    }
}

/// Of `max`, in seconds: ten years of 365 days.
const MAX: u64 = 315_360_000;
/// Of `max`: the last hour that a clock of 32 bits can tell, but two.
const FAR_AWAY: &str = "Thu, 31 Dec 2037 23:55:55 GMT";
const LONG_AGO: &str = "Thu, 01 Jan 1970 00:00:01 GMT";
/// What every cache can count to (RFC 9111, 1.2.2), in seconds.
const LONGEST: u64 = 2_147_483_647;

#[cfg(test)]
mod tests;
