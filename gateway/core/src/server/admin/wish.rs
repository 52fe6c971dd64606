//! What a call wants to have purged.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::route::{Host, HostPattern, normalise};

/// `{ "url": "https://example.com/a?b=1" }`: what is to be purged, and how.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Wish {
    pub(super) what: What,
    /// It is still served while a newer one is fetched, or none can be.
    pub(super) soft: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    All,
    /// As names in caches have it.
    Host(String),
    /// All paths of a host that begin so.
    Prefix {
        host: String,
        path: String,
    },
    Pages(Vec<Page>),
    Tags(Vec<String>),
}

/// A URL, whatever its scheme and port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) host: String,
    /// As routes see it.
    pub(super) path: String,
    pub(super) query: Query,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Any,
    Exactly(Option<String>),
}

impl What {
    /// For the log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Host(_) => "host",
            Self::Prefix { .. } => "prefix",
            Self::Pages(_) => "url",
            Self::Tags(_) => "tags",
        }
    }
}

/// A wish as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object such as `{ \"url\": \"https://example.com/a\" }`"
)]
#[schemars(rename = "Purge")]
pub(super) struct Written {
    #[schemars(with = "Option<OneOrSeveral>")]
    url: Option<Texts>,
    any_query: Option<bool>,
    prefix: Option<String>,
    host: Option<String>,
    #[schemars(with = "Option<OneOrSeveral>")]
    tags: Option<Texts>,
    all: Option<bool>,
    soft: Option<bool>,
}

impl TryFrom<Written> for Wish {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.any_query.is_some() && written.url.is_none() {
            return Err("`any_query` has no meaning without `url`".to_owned());
        }
        if written.all == Some(false) {
            return Err("`all` is `true` or not there".to_owned());
        }
        let any_query = written.any_query == Some(true);
        let url = written.url.map(|urls| ("url", pages(&urls, any_query)));
        let prefix = written.prefix.map(|text| ("prefix", prefix(&text)));
        let host = written.host.map(|text| ("host", host(&text)));
        let tags = written.tags.map(|tags| ("tags", self::tags(tags)));
        let all = written.all.map(|_| ("all", Ok(What::All)));
        let mut selections = [url, prefix, host, tags, all].into_iter().flatten();
        let Some((key, what)) = selections.next() else {
            return Err(
                "it does not say what to purge: give `url`, `prefix`, `host`, `tags` or `all`"
                    .to_owned(),
            );
        };
        if let Some((other, _)) = selections.next() {
            return Err(format!("`{key}` and `{other}` can't be in one call"));
        }
        Ok(Self {
            what: what.map_err(|wrong| format!("`{key}`: {wrong}"))?,
            soft: written.soft.unwrap_or_default(),
        })
    }
}

fn pages(urls: &Texts, any_query: bool) -> Result<What, String> {
    let pages = urls.0.iter().map(|url| page(url, any_query));
    pages.collect::<Result<_, _>>().map(What::Pages)
}

fn page(url: &str, any_query: bool) -> Result<Page, String> {
    let mut page = Page::parse(url)?;
    if any_query {
        if page.query != Query::Exactly(None) {
            return Err(format!("`{url}` has a query, and with `any_query` none is"));
        }
        page.query = Query::Any;
    }
    Ok(page)
}

fn prefix(url: &str) -> Result<What, String> {
    let Page { host, path, query } = Page::parse(url)?;
    if query != Query::Exactly(None) {
        return Err(format!("`{url}` has a query: a prefix is one of paths"));
    }
    Ok(What::Prefix { host, path })
}

fn host(text: &str) -> Result<What, String> {
    match HostPattern::parse(text).map_err(|wrong| wrong.to_string())? {
        HostPattern::Exact(name) => Ok(What::Host(name.as_str().to_owned())),
        HostPattern::Wildcard(_) => Err(format!("`{text}` is not one host")),
    }
}

fn tags(Texts(tags): Texts) -> Result<What, String> {
    let is_none = |tag: &&String| tag.is_empty() || tag.contains([' ', '\t', ',']);
    if let Some(tag) = tags.iter().find(is_none) {
        return Err(format!(
            "`{tag}` is not one tag: spaces and commas part them"
        ));
    }
    Ok(What::Tags(tags))
}

impl Page {
    fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &dyn fmt::Display| {
            format!("`{url}` is not a URL such as `https://example.com/a?b=1`: {why}")
        };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        if !["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return Err(wrong(&"it does not begin with `https://` or `http://`"));
        }
        if rest.contains('#') {
            return Err(wrong(&"what follows `#` is never sent"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let host = Host::parse(authority).map_err(|why| wrong(&why))?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if query.is_some_and(|query| !query.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(wrong(
                &"its query is not as clients send it, `%C3%A4` for `ä`",
            ));
        }
        let path = if path.is_empty() { "/" } else { path };
        let path = normalise(path).map_err(|why| wrong(&why))?;
        Ok(Self {
            host: host.as_str().to_owned(),
            path: path.matched().to_owned(),
            query: Query::Exactly(query.map(str::to_owned)),
        })
    }
}

/// One text or a list of them.
struct Texts(Vec<String>);

/// What stands for that in the description.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only described")]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

/// Each slot of a cache is compared with all of them.
const MOST: usize = 256;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    if texts.len() == MOST {
                        let message = format!("a list has at most {MOST} entries");
                        return Err(de::Error::custom(message));
                    }
                    texts.push(text);
                }
                match texts.is_empty() {
                    true => Err(de::Error::custom("the list is empty")),
                    false => Ok(Texts(texts)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(json: &str) -> Result<Wish, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn what(json: &str) -> What {
        wish(json).unwrap().what
    }

    fn page(host: &str, path: &str, query: Option<&str>) -> Page {
        Page {
            host: host.to_owned(),
            path: path.to_owned(),
            query: Query::Exactly(query.map(str::to_owned)),
        }
    }

    #[test]
    fn a_url_is_read_as_requests_for_it_are() {
        for (url, expected) in [
            ("https://example.com", page("example.com", "/", None)),
            (
                "HTTP://Example.COM.:8080/a",
                page("example.com", "/a", None),
            ),
            (
                "https://example.com/a?b=1&c",
                page("example.com", "/a", Some("b=1&c")),
            ),
            (
                "https://example.com?b=/",
                page("example.com", "/", Some("b=/")),
            ),
            (
                "https://example.com/a?",
                page("example.com", "/a", Some("")),
            ),
            (
                "https://[::1]:80/%7Ea//./b%2f",
                page("[::1]", "/~a/b%2F", None),
            ),
            (
                "https://example.com/ä",
                page("example.com", "/%C3%A4", None),
            ),
        ] {
            let read = what(&format!(r#"{{ "url": "{url}" }}"#));
            assert_eq!(read, What::Pages(vec![expected]), "{url}");
        }
    }

    #[test]
    fn every_selection_has_its_form() {
        let any = Page {
            query: Query::Any,
            ..page("a", "/b", None)
        };
        let pages = vec![page("a", "/b", None), page("c", "/", None)];
        for (json, expected) in [
            (r#"{ "all": true }"#, What::All),
            (
                r#"{ "host": "A.example." }"#,
                What::Host("a.example".to_owned()),
            ),
            (
                r#"{ "url": ["http://a/b", "http://c/"] }"#,
                What::Pages(pages),
            ),
            (
                r#"{ "url": "http://a/b", "any_query": true }"#,
                What::Pages(vec![any]),
            ),
            (
                r#"{ "url": "http://a/b", "any_query": false }"#,
                What::Pages(vec![page("a", "/b", None)]),
            ),
            (
                r#"{ "prefix": "http://a/st" }"#,
                What::Prefix {
                    host: "a".to_owned(),
                    path: "/st".to_owned(),
                },
            ),
            (r#"{ "tags": "a" }"#, What::Tags(vec!["a".to_owned()])),
            (
                r#"{ "tags": ["a", "B"] }"#,
                What::Tags(vec!["a".to_owned(), "B".to_owned()]),
            ),
        ] {
            assert_eq!(what(json), expected, "{json}");
        }
    }

    #[test]
    fn a_purge_is_hard_unless_it_is_said_to_be_soft() {
        assert!(!wish(r#"{ "all": true }"#).unwrap().soft);
        assert!(!wish(r#"{ "all": true, "soft": false }"#).unwrap().soft);
        assert!(wish(r#"{ "soft": true, "all": true }"#).unwrap().soft);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let many = format!(r#"{{ "tags": [{}"a"] }}"#, r#""a","#.repeat(MOST));
        for (json, says) in [
            ("[]", "expected an object such as"),
            ("{}", "does not say what to purge"),
            (r#"{ "soft": true }"#, "does not say what to purge"),
            (r#"{ "url": null }"#, "does not say what to purge"),
            (r#"{ "urls": [] }"#, "unknown field `urls`"),
            (r#"{ "all": false }"#, "`all` is `true` or not there"),
            (r#"{ "all": 1 }"#, "expected a boolean"),
            (r#"{ "all": true, "soft": "yes" }"#, "expected a boolean"),
            (
                r#"{ "host": "a", "tags": "b" }"#,
                "`host` and `tags` can't be in one call",
            ),
            (
                r#"{ "url": "http://a/", "all": true }"#,
                "`url` and `all` can't be",
            ),
            (r#"{ "host": "a", "host": "b" }"#, "duplicate field `host`"),
            (
                r#"{ "host": "a", "any_query": true }"#,
                "no meaning without `url`",
            ),
            (
                r#"{ "url": "http://a/?b", "any_query": true }"#,
                "has a query",
            ),
            (r#"{ "url": 7 }"#, "a text or a list of texts"),
            (r#"{ "url": [7] }"#, "expected a string"),
            (r#"{ "url": [] }"#, "the list is empty"),
            (r#"{ "url": "/a" }"#, "does not begin with `https://`"),
            (r#"{ "url": "ftp://a/" }"#, "does not begin with `https://`"),
            (r#"{ "url": "http:///a" }"#, "the host is empty"),
            (r#"{ "url": "http://u@a/" }"#, "not a valid name"),
            (
                r#"{ "url": "http://a:x/" }"#,
                "the port of the host is not valid",
            ),
            (r##"{ "url": "http://a/#b" }"##, "is never sent"),
            (r#"{ "url": "http://a/%zz" }"#, "two hexadecimal digits"),
            (r#"{ "url": "http://a/../b" }"#, "above the root"),
            (r#"{ "url": "http://a/?ä" }"#, "as clients send it"),
            (r#"{ "prefix": "http://a/?b" }"#, "a prefix is one of paths"),
            (
                r#"{ "prefix": "/static/" }"#,
                "`prefix`: `/static/` is not a URL",
            ),
            (r#"{ "host": "*.a.example" }"#, "is not one host"),
            (r#"{ "host": "a:80" }"#, "a port belongs to a listener"),
            (r#"{ "tags": "a b" }"#, "`a b` is not one tag"),
            (r#"{ "tags": ["a", ""] }"#, "`` is not one tag"),
            (&many, "at most 256 entries"),
        ] {
            let error = wish(json).unwrap_err();
            assert!(error.contains(says), "{json}: {error}");
        }
    }
}
