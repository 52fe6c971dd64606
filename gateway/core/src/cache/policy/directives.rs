//! What `Cache-Control` says, of a response and of a request (RFC 9111, section 5.2).
//!
//! Directives are read once, into numbers and flags. What is malformed is taken in the way that caches
//! less: a lifetime that is no number is over, a list of fields that is no list stands for all of them.

use http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::{
    list::{Quotes, closing, digits, members, split, token},
    targeted,
};

/// Longer than any lifetime: what RFC 9111, section 1.2.2, makes of numbers that are too large. In seconds.
pub(crate) const FOREVER: u32 = 1 << 31;

/// The directives of a response. Times are in seconds.
///
/// Of a directive with a time that is there more than once, the first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    flags: u16,
    /// Whether they come from a targeted field, so that `Cache-Control` and `Expires` say nothing.
    pub(crate) targeted: bool,
    pub(crate) max_age: Option<u32>,
    pub(crate) s_maxage: Option<u32>,
    pub(crate) stale_while_revalidate: Option<u32>,
    pub(crate) stale_if_error: Option<u32>,
}

/// A directive that is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Flag {
    NoStore = 1,
    /// Without names of fields.
    NoCache = 1 << 1,
    /// With names of fields: see [`ResponseDirectives::withheld`].
    NoCacheFields = 1 << 2,
    Private = 1 << 3,
    PrivateFields = 1 << 4,
    Public = 1 << 5,
    MustRevalidate = 1 << 6,
    ProxyRevalidate = 1 << 7,
    MustUnderstand = 1 << 8,
    NoTransform = 1 << 9,
}

impl ResponseDirectives {
    /// Those of a response, for a cache that listens to these targeted fields (RFC 9213), the first that is
    /// valid and not empty first of all, and then to `Cache-Control`.
    pub(crate) fn of(headers: &HeaderMap, targets: &[HeaderName]) -> Self {
        targets
            .iter()
            .find_map(|target| targeted::parse(headers, target))
            .unwrap_or_else(|| Self::untargeted(headers))
    }

    fn untargeted(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for member in members(headers, &CACHE_CONTROL, Quotes::Strings) {
            let (name, argument) = directive(member);
            directives.take(name, argument);
        }
        directives
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    pub(super) fn set(&mut self, flag: Flag) {
        self.flags |= flag as u16;
    }

    /// Whether a shared cache is told in so many words that it may store the response.
    pub(crate) fn says_shared(&self) -> bool {
        self.has(Flag::Public) || self.s_maxage.is_some()
    }

    /// Whether stale is out of the question (RFC 9111, section 4.2.4).
    pub(crate) fn forbids_stale(&self) -> bool {
        self.has(Flag::MustRevalidate)
            || self.has(Flag::ProxyRevalidate)
            || self.has(Flag::NoCache)
            || self.s_maxage.is_some()
    }

    /// The names of fields in `no-cache="…"` and `private="…"`, which are not stored (RFC 9111, sections
    /// 5.2.2.4 and 5.2.2.7). In the case in which they were written.
    pub(crate) fn withheld<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> {
        let any = self.has(Flag::NoCacheFields) || self.has(Flag::PrivateFields);
        let lists = any.then(|| members(headers, &CACHE_CONTROL, Quotes::Strings));
        lists
            .into_iter()
            .flatten()
            .filter_map(|member| {
                let (name, argument) = directive(member);
                let qualified =
                    name.eq_ignore_ascii_case(b"no-cache") || name.eq_ignore_ascii_case(b"private");
                qualified.then(|| argument.text()).flatten()
            })
            .flat_map(|names| split(names, Quotes::Strings))
    }

    /// Takes in a directive. One that is not known says nothing.
    pub(super) fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        let mut lower = [0; LONGEST];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"max-age" => first(&mut self.max_age, argument.seconds().or(Some(0))),
            b"s-maxage" => first(&mut self.s_maxage, argument.seconds().or(Some(0))),
            b"stale-while-revalidate" => {
                first(&mut self.stale_while_revalidate, argument.seconds());
            }
            b"stale-if-error" => first(&mut self.stale_if_error, argument.seconds()),
            b"no-store" => self.set(Flag::NoStore),
            b"no-cache" => self.set(argument.qualify(Flag::NoCache, Flag::NoCacheFields)),
            b"private" => self.set(argument.qualify(Flag::Private, Flag::PrivateFields)),
            b"must-revalidate" => self.set(Flag::MustRevalidate),
            b"proxy-revalidate" => self.set(Flag::ProxyRevalidate),
            b"no-transform" => self.set(Flag::NoTransform),
            // These two permit something, so they must be right.
            b"public" if argument == Argument::None => self.set(Flag::Public),
            b"must-understand" if argument == Argument::None => self.set(Flag::MustUnderstand),
            _ => {}
        }
    }
}

/// The directives of a request. Times are in seconds. No one has to obey them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u32>,
    /// [`FOREVER`] if it has no value.
    pub(crate) max_stale: Option<u32>,
    pub(crate) min_fresh: Option<u32>,
    pub(crate) stale_if_error: Option<u32>,
}

impl RequestDirectives {
    /// Those of a request. `Pragma: no-cache` counts where there is no `Cache-Control`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            directives.no_cache = members(headers, &PRAGMA, Quotes::Strings)
                .any(|member| member.eq_ignore_ascii_case(b"no-cache"));
            return directives;
        }
        for member in members(headers, &CACHE_CONTROL, Quotes::Strings) {
            let (name, argument) = directive(member);
            directives.take(name, argument);
        }
        directives
    }

    fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("no-cache") => self.no_cache = true,
            () if is("no-store") => self.no_store = true,
            () if is("only-if-cached") => self.only_if_cached = true,
            () if is("max-age") => first(&mut self.max_age, argument.seconds().or(Some(0))),
            () if is("min-fresh") => first(&mut self.min_fresh, argument.seconds()),
            () if is("stale-if-error") => first(&mut self.stale_if_error, argument.seconds()),
            () if is("max-stale") => {
                let any = (argument == Argument::None).then_some(FOREVER);
                first(&mut self.max_stale, argument.seconds().or(any));
            }
            () => {}
        }
    }
}

/// What a directive has after its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    None,
    Token(&'a [u8]),
    /// What is between the quotes, as it was written.
    Quoted(&'a [u8]),
    Malformed,
}

impl<'a> Argument<'a> {
    fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Token(text) | Self::Quoted(text) => Some(text),
            Self::None | Self::Malformed => None,
        }
    }

    fn seconds(self) -> Option<u32> {
        let seconds = digits(self.text()?, FOREVER.into())?;
        u32::try_from(seconds).ok()
    }

    /// The second flag if this is a list of names and nothing else, or the first.
    fn qualify(self, unqualified: Flag, qualified: Flag) -> Flag {
        let names = self.text().unwrap_or_default();
        let mut names = split(names, Quotes::Strings).peekable();
        let all = names.peek().is_some() && names.all(|name| token(name).1.is_empty());
        if all { qualified } else { unqualified }
    }
}

/// The name of a directive and its argument.
fn directive(member: &[u8]) -> (&[u8], Argument<'_>) {
    let (name, rest) = token(member);
    let argument = match rest {
        [] => Argument::None,
        [b'=', b'"', quoted @ ..] => match closing(quoted, 0, Quotes::Strings) {
            Some(end) if end + 1 == quoted.len() => {
                Argument::Quoted(quoted.get(..end).unwrap_or_default())
            }
            _ => Argument::Malformed,
        },
        [b'=', value @ ..] => match token(value) {
            (value @ [_, ..], []) => Argument::Token(value),
            _ => Argument::Malformed,
        },
        _ => Argument::Malformed,
    };
    (name, argument)
}

fn first(slot: &mut Option<u32>, value: Option<u32>) {
    *slot = slot.or(value);
}

/// The length of the longest name that is known: `stale-while-revalidate`.
const LONGEST: usize = 22;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::of(&headers(lines), &[])
    }

    fn request(lines: &[&str]) -> RequestDirectives {
        RequestDirectives::of(&headers(lines))
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| HeaderValue::from_str(line).unwrap());
        lines.map(|line| (CACHE_CONTROL, line)).collect()
    }

    #[test]
    fn a_lifetime_is_a_number_of_seconds_in_either_form() {
        for (line, seconds) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("max-age=003600", Some(3600)),
            (r#"max-age="3600""#, Some(3600)),
            ("foobar, max-age=3600", Some(3600)),
            ("max-age=2147483647", Some(FOREVER - 1)),
            ("max-age=2147483648", Some(FOREVER)),
            ("max-age=99999999999999999999999", Some(FOREVER)),
            ("xmax-age=3600", None),
            ("max-age-x=3600", None),
            ("", None),
        ] {
            assert_eq!(response(&[line]).max_age, seconds, "{line}");
        }
    }

    #[test]
    fn a_lifetime_that_is_no_number_is_over() {
        for line in [
            "max-age",
            "max-age=",
            "max-age=-3600",
            "max-age=3600.0",
            "max-age=3600a",
            "max-age=a3600",
            "max-age='3600'",
            "max-age =3600",
            "max-age= 3600",
            r#"max-age="3600"#,
            r#"max-age="36"00"#,
            "max-age=3600;x",
        ] {
            assert_eq!(response(&[line]).max_age, Some(0), "{line}");
            assert_eq!(response(&[&format!("s-{line}")]).s_maxage, None, "{line}");
        }
        assert_eq!(response(&["s-maxage=x"]).s_maxage, Some(0));
        assert_eq!(response(&["stale-if-error=x"]).stale_if_error, None);
    }

    #[test]
    fn of_two_lifetimes_the_first_counts() {
        assert_eq!(response(&["max-age=1, max-age=1800"]).max_age, Some(1));
        assert_eq!(response(&["max-age=1800", "max-age=1"]).max_age, Some(1800));
        assert_eq!(response(&["max-age=x, max-age=1800"]).max_age, Some(0));
    }

    #[test]
    fn what_is_in_a_quoted_string_is_no_directive() {
        assert_eq!(
            response(&[r#"extension="max-age=3600", max-age=1"#]).max_age,
            Some(1)
        );
        assert_eq!(
            response(&[r#"max-age=1, extension="max-age=3600""#]).max_age,
            Some(1)
        );
        assert!(!response(&[r#"extension="a, no-store, b""#]).has(Flag::NoStore));
        assert!(response(&[r#"extension="a, no-store, b"#]).has(Flag::NoStore));
    }

    #[test]
    fn what_forbids_counts_however_it_is_written() {
        for line in [
            "No-StOrE",
            "no-store=1",
            "no-store =x",
            "a,,no-store",
            r#"no-store="""#,
        ] {
            assert!(response(&[line]).has(Flag::NoStore), "{line}");
        }
        for line in ["public=1", "public =", "public="] {
            assert!(!response(&[line]).has(Flag::Public), "{line}");
        }
    }

    #[test]
    fn a_list_of_fields_qualifies_and_anything_else_does_not() {
        for (line, names) in [
            (r#"private="Set-Cookie""#, vec!["Set-Cookie"]),
            (r#"no-cache="a, b""#, vec!["a", "b"]),
            ("private=x-user", vec!["x-user"]),
        ] {
            let headers = headers(&[line, "max-age=1"]);
            let directives = ResponseDirectives::of(&headers, &[]);
            assert!(
                !directives.has(Flag::Private) && !directives.has(Flag::NoCache),
                "{line}"
            );
            let withheld: Vec<_> = directives.withheld(&headers).collect();
            assert_eq!(
                withheld,
                names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>()
            );
        }
        for line in [
            "private",
            "private=",
            r#"private="""#,
            r#"private=" , ""#,
            "private=\"a",
            r#"private="a b""#,
        ] {
            assert!(response(&[line]).has(Flag::Private), "{line}");
        }
        let both = response(&[r#"private="a", private"#]);
        assert!(both.has(Flag::Private));
    }

    #[test]
    fn a_request_says_what_it_would_like() {
        let wanted = request(&[
            "no-cache, max-age=5, Max-Stale=7",
            "min-fresh=9, only-if-cached",
        ]);
        assert_eq!(
            wanted,
            RequestDirectives {
                no_cache: true,
                only_if_cached: true,
                max_age: Some(5),
                max_stale: Some(7),
                min_fresh: Some(9),
                ..Default::default()
            }
        );
        assert_eq!(request(&["max-stale"]).max_stale, Some(FOREVER));
        assert_eq!(request(&["max-stale=x"]).max_stale, None);
        assert_eq!(request(&["max-age=x"]).max_age, Some(0));
        assert_eq!(request(&["min-fresh=x"]).min_fresh, None);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("x, No-Cache"));
        assert!(RequestDirectives::of(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!RequestDirectives::of(&headers).no_cache);
        headers.clear();
        headers.insert(PRAGMA, HeaderValue::from_static("unrecognised"));
        assert!(!RequestDirectives::of(&headers).no_cache);
    }
}
