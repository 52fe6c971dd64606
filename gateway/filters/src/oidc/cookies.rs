//! The cookies of a filter: the session, over as many cookies as it needs, and one for each login under way.

use std::fmt::Write as _;

use edgeway_sdk::{Request, exchange::Scheme};
use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

/// Names and reads cookies.
pub(super) struct Cookies {
    base: String,
}

impl Cookies {
    /// Cookies whose names begin with this.
    pub(super) fn new(base: String) -> Self {
        Self { base }
    }

    /// The cookies for browsers that use this scheme.
    pub(super) fn over(&self, scheme: Scheme) -> Names<'_> {
        Names {
            base: &self.base,
            scheme,
        }
    }

    /// Takes all our cookies out of a request: they are nobody else's business.
    pub(super) fn strip(&self, request: &mut Request<'_>) {
        let kept: Vec<&[u8]> = pairs(request.headers())
            .filter(|pair| !pair.is_empty() && !self.is_ours(pair))
            .collect();
        if kept.len() == pairs(request.headers()).count() {
            return;
        }
        match HeaderValue::from_bytes(&kept.join(&b"; "[..])) {
            Ok(rest) if !rest.is_empty() => request.set_header(COOKIE, rest),
            _ => request.remove_header(&COOKIE),
        }
    }

    fn is_ours(&self, pair: &[u8]) -> bool {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
        let name = name.strip_prefix(HOST_PREFIX.as_bytes()).unwrap_or(name);
        let rest = name.strip_prefix(self.base.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"_"))
    }
}

/// The cookies of browsers that use one scheme. Over TLS they have the prefix `__Host-`: no other host, and
/// nobody without TLS, can have set them.
#[derive(Clone, Copy)]
pub(super) struct Names<'c> {
    base: &'c str,
    scheme: Scheme,
}

impl<'c> Names<'c> {
    /// The sealed session that a request carries, put together from its parts.
    pub(super) fn session(self, headers: &HeaderMap) -> Option<String> {
        let first = value(headers, &self.part(0))?;
        let (number, first) = first.split_once('.')?;
        let number: usize = number.parse().ok().filter(|number| *number <= MOST_PARTS)?;
        let mut text = first.to_owned();
        for index in 1..number {
            text.push_str(value(headers, &self.part(index))?);
        }
        Some(text)
    }

    /// The cookies that keep this session for so many seconds, and forget what was longer before. None if it
    /// is longer than browsers keep.
    pub(super) fn set_session(
        self,
        sealed: &str,
        seconds: u64,
        headers: &HeaderMap,
    ) -> Option<Vec<HeaderValue>> {
        let parts: Vec<&[u8]> = sealed.as_bytes().chunks(PART).collect();
        if parts.len() > MOST_PARTS {
            return None;
        }
        let mut lines = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let part = std::str::from_utf8(part).ok()?;
            let number = match index {
                0 => format!("{}.", parts.len()),
                _ => String::new(),
            };
            lines.extend(self.line(&self.part(index), &format!("{number}{part}"), seconds));
        }
        lines.extend(self.forget_parts(parts.len(), headers));
        Some(lines)
    }

    /// Has the browser forget the session of this request.
    pub(super) fn forget_session(self, headers: &HeaderMap) -> Vec<HeaderValue> {
        self.forget_parts(0, headers).collect()
    }

    fn forget_parts<'s>(
        self,
        from: usize,
        headers: &'s HeaderMap,
    ) -> impl Iterator<Item = HeaderValue> + use<'s, 'c> {
        (from..MOST_PARTS)
            .map(move |index| self.part(index))
            .filter(move |name| has(headers, name))
            .filter_map(move |name| self.line(&name, "", 0))
    }

    /// What a login with this state is kept as.
    pub(super) fn login(self, state: &str) -> Option<String> {
        let short = state.get(..12)?;
        Some(format!("{}{}_login_{short}", self.prefix(), self.base))
    }

    /// The names and values of all logins that a browser has under way.
    pub(super) fn logins<'h>(
        self,
        headers: &'h HeaderMap,
    ) -> impl Iterator<Item = (&'h str, &'h str)> + use<'h, 'c> {
        let start = format!("{}{}_login_", self.prefix(), self.base);
        pairs(headers)
            .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
            .filter(move |(name, _)| name.starts_with(&start))
    }

    /// A line that sets a cookie for so many seconds; for none, that has it forgotten.
    pub(super) fn line(self, name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
        let mut line = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax");
        if self.scheme == Scheme::Https {
            line.push_str("; Secure");
        }
        HeaderValue::try_from(line).ok()
    }

    fn part(self, index: usize) -> String {
        let mut name = format!("{}{}", self.prefix(), self.base);
        if index > 0 {
            write!(name, "_{index}").expect("a text grows");
        }
        name
    }

    fn prefix(self) -> &'static str {
        match self.scheme {
            Scheme::Https => HOST_PREFIX,
            Scheme::Http => "",
        }
    }
}

/// Adds these `Set-Cookie` lines to a reply.
pub(super) fn add(
    reply: edgeway_sdk::Reply,
    lines: impl IntoIterator<Item = HeaderValue>,
) -> edgeway_sdk::Reply {
    lines
        .into_iter()
        .fold(reply, |reply, line| reply.header(SET_COOKIE, line))
}

/// The cookies of a request, one by one.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
}

fn has(headers: &HeaderMap, name: &str) -> bool {
    pairs(headers).any(|pair| {
        let rest = pair.strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"="))
    })
}

/// The value of a cookie that is there once. Of two, one is not ours.
pub(super) fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = pairs(headers)
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

const HOST_PREFIX: &str = "__Host-";
/// In bytes. With its name and attributes a cookie of this length has less than the 4096 that browsers keep.
const PART: usize = 3_600;
/// More would not fit into the head of a request.
const MOST_PARTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies() -> Cookies {
        Cookies::new("sess".to_owned())
    }

    /// What a browser sends that has got these lines.
    fn kept(lines: &[HeaderValue]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let text = line.to_str().unwrap();
            if !text.contains("Max-Age=0") {
                let pair = text.split(';').next().unwrap();
                headers.append(COOKIE, pair.parse().unwrap());
            }
        }
        headers
    }

    #[test]
    fn a_long_session_is_split_and_put_together_again() {
        let cookies = cookies();
        let names = cookies.over(Scheme::Https);
        let sealed = "x".repeat(PART * 2) + "yz";
        let lines = names.set_session(&sealed, 60, &HeaderMap::new()).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() < 4096));
        let headers = kept(&lines);
        assert_eq!(names.session(&headers), Some(sealed));
        // The browser has lost a part.
        let headers = kept(&lines[..2]);
        assert_eq!(names.session(&headers), None);
    }

    #[test]
    fn a_session_that_has_become_shorter_leaves_nothing_behind() {
        let cookies = cookies();
        let names = cookies.over(Scheme::Http);
        let long = names.set_session(&"x".repeat(PART * 3), 60, &HeaderMap::new());
        let before = kept(&long.unwrap());
        let lines = names.set_session("short", 60, &before).unwrap();
        let texts: Vec<_> = lines.iter().map(|line| line.to_str().unwrap()).collect();
        assert!(texts[0].starts_with("sess=1.short; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"));
        assert!(
            texts[1].starts_with("sess_1=; Path=/; Max-Age=0"),
            "{texts:?}"
        );
        assert!(
            texts[2].starts_with("sess_2=; Path=/; Max-Age=0"),
            "{texts:?}"
        );
        assert_eq!(texts.len(), 3);
    }

    #[test]
    fn a_session_that_browsers_would_not_keep_is_not_set() {
        let cookies = cookies();
        let text = "x".repeat(PART * MOST_PARTS + 1);
        let names = cookies.over(Scheme::Http);
        assert_eq!(names.set_session(&text, 60, &HeaderMap::new()), None);
    }

    #[test]
    fn a_cookie_without_the_prefix_is_no_session_over_tls() {
        let cookies = cookies();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("sess=1.abc"));
        assert_eq!(cookies.over(Scheme::Https).session(&headers), None);
        assert!(cookies.over(Scheme::Http).session(&headers).is_some());
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("sess=1.abc; sess=1.def"));
        assert_eq!(cookies().over(Scheme::Http).session(&headers), None);
    }

    #[test]
    fn our_cookies_are_told_from_others() {
        let cookies = cookies();
        for (pair, ours) in [
            ("sess=1", true),
            ("__Host-sess=1", true),
            ("__Host-sess_1=x", true),
            ("sess_login_abc=x", true),
            ("session=x", false),
            ("xsess=1", false),
            ("a=sess", false),
        ] {
            assert_eq!(cookies.is_ours(pair.as_bytes()), ours, "{pair}");
        }
    }
}
