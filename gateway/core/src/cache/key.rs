//! What responses are stored under.
//!
//! A response has a name, which a request tells before anything is known of the response: scheme, host, path,
//! query and route. Under one name there may be variants: by the values that the route adds to the key, and by
//! what the response's `Vary` names. So a name can be purged whole, whoever the variants are for.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::LazyLock,
};

use aws_lc_rs::digest;
use edgeway_sdk::{Identity, template::Source};
use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE, FORWARDED},
};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    memory::{Ending, Filing, Key},
    plan::{KeyRule, QueryRule},
    policy::vary::Vary,
};

/// Which variant of a response, as a digest of all that tells it from others. Collisions can't be made, so
/// nobody gets what was meant for others.
pub(crate) type Variant = [u8; 16];

/// The parts of a request that make a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) route: &'a str,
    pub(crate) scheme: &'a str,
    /// Lower case, without a port.
    pub(crate) host: &'a str,
    /// `Host` as it was sent, where that has more than the host: applications make links of it.
    pub(crate) told: &'a [u8],
    /// The headers in which a trusted proxy says how the request has come, and sometimes who sends it.
    pub(crate) way: Option<&'a HeaderMap>,
    /// What the route says of its cache: what was stored by other rules is not for these.
    pub(crate) seal: u64,
    /// The upstream, where the request chooses among several.
    pub(crate) upstream: &'a str,
    /// As it was sent.
    pub(crate) path: &'a str,
    /// The path as routes see it, where that is another.
    pub(crate) normal: Option<&'a str>,
    pub(crate) query: Option<&'a str>,
}

/// The name of a response, with its hash.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    bytes: SmallVec<[u8; 128]>,
    hash: u128,
    filing: Filing,
}

impl Name {
    /// The name that a request asks for.
    pub(crate) fn of(parts: &Parts<'_>, rule: &QueryRule) -> Self {
        let mut bytes = SmallVec::new();
        for part in [parts.route, parts.scheme, parts.upstream] {
            framed(&mut bytes, part.as_bytes());
        }
        bytes.extend_from_slice(&parts.seal.to_be_bytes());
        framed(&mut bytes, parts.told);
        framed(&mut bytes, &parts.way.map(way).unwrap_or_default());
        let host = framed(&mut bytes, parts.host.as_bytes());
        let sent = framed(&mut bytes, parts.path.as_bytes());
        // Purges go by the path that all spellings share.
        let path = match parts.normal {
            Some(normal) => framed(&mut bytes, normal.as_bytes()),
            None => sent,
        };
        query(&mut bytes, parts.query, rule);
        let hash = xxh3_128_with_seed(&bytes, *SEED);
        let filing = Filing {
            host,
            path,
            tags: Box::default(),
        };
        Self {
            bytes,
            hash,
            filing,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn hash(&self) -> u128 {
        self.hash
    }

    /// Where the host and the path are, with these tags.
    pub(crate) fn filing(&self, tags: Box<str>) -> Filing {
        Filing {
            tags,
            ..self.filing.clone()
        }
    }

    /// What the store has under this name itself, or under one of its variants.
    pub(crate) fn key<'a>(&'a self, variant: Option<&'a Variant>) -> Key<'a> {
        Key {
            hash: of_variant(self.hash, variant),
            name: &self.bytes,
            variant,
        }
    }
}

/// How the names of all routes begin and end that have this query, whether or not they sort it.
pub(crate) fn common_endings(asked: Option<&str>) -> [Ending; 2] {
    [QueryRule::AsSent, QueryRule::Sorted].map(|rule| Ending {
        beginning: Box::default(),
        ending: ending(asked, &rule),
    })
}

/// How the names of a route begin and end with this query.
pub(crate) fn ending_of(route: &str, asked: Option<&str>, rule: &QueryRule) -> Ending {
    let mut beginning = SmallVec::new();
    framed(&mut beginning, route.as_bytes());
    Ending {
        beginning: beginning.as_slice().into(),
        ending: ending(asked, rule),
    }
}

fn ending(asked: Option<&str>, rule: &QueryRule) -> Box<[u8]> {
    let mut bytes = SmallVec::new();
    query(&mut bytes, asked, rule);
    bytes.as_slice().into()
}

/// The hash of what is under this name, or under a variant of it.
pub(crate) fn hash_of(name: &[u8], variant: Option<&Variant>) -> u128 {
    of_variant(xxh3_128_with_seed(name, *SEED), variant)
}

/// The hash of a variant of the name with this hash.
pub(crate) fn of_variant(name: u128, variant: Option<&Variant>) -> u128 {
    let Some(variant) = variant else {
        return name;
    };
    let mut both = [0; 32];
    both[..16].copy_from_slice(&name.to_ne_bytes());
    both[16..].copy_from_slice(variant);
    xxh3_128_with_seed(&both, *SEED)
}

/// Which variant a request wants of a response with these headers. `None` where there is only one.
pub(crate) fn variant(
    request: &impl Source,
    response: &HeaderMap,
    rule: &KeyRule,
) -> Option<Variant> {
    let vary = Vary::of(response);
    if rule.by.is_empty() && vary == Vary::None {
        return None;
    }
    let mut told = Vec::with_capacity(128);
    for value in &rule.by {
        let value = value.render(request);
        told.extend_from_slice(&length(value.as_bytes()));
        told.extend_from_slice(value.as_bytes());
    }
    let (head, exchange) = request.source();
    let headers = &head.headers;
    if rule.headers.contains(&AUTHORIZATION) {
        caller(exchange.values.get::<Identity>(), &mut told);
    }
    // Whole, where a value as text is the first line at most.
    Vary::Names(rule.headers.iter().cloned().collect()).write(headers, &mut told);
    for name in &rule.cookies {
        cookies(headers, name, &mut told);
    }
    for path in &rule.claims {
        let claim = exchange.values.get::<Identity>();
        let claim = claim.and_then(|identity| identity.claim(path)?.to_string().into());
        text(claim.as_deref(), &mut told);
    }
    vary.write(headers, &mut told);
    let digest = digest::digest(&digest::SHA256, &told);
    digest.as_ref().first_chunk().copied()
}

/// All that the way of a request is told by, but for addresses and the scheme: applications get these from us.
fn way(headers: &HeaderMap) -> SmallVec<[u8; 128]> {
    let tells = |name: &&str| {
        let rest = name.strip_prefix("x-forwarded-");
        rest.is_some_and(|rest| !matches!(rest, "for" | "proto"))
    };
    let names = headers.keys().map(|name| name.as_str());
    let mut names: SmallVec<[&str; 4]> = names.filter(tells).collect();
    names.sort_unstable();
    let mut bytes = SmallVec::new();
    for name in names {
        for line in headers.get_all(name) {
            framed(&mut bytes, name.as_bytes());
            framed(&mut bytes, line.as_bytes());
        }
    }
    for line in headers.get_all(FORWARDED) {
        let pairs = line.as_bytes().split(|byte| b",;".contains(byte));
        let pairs = pairs.map(<[u8]>::trim_ascii);
        for pair in pairs.filter(|pair| !is_address(pair)) {
            framed(&mut bytes, pair);
        }
    }
    bytes
}

/// Whether this is `for=` or `by=` of `Forwarded`.
fn is_address(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"for") || name.eq_ignore_ascii_case(b"by")
}

/// Adds whom a filter has recognised. It may have been by something else than `Authorization`, or that may be
/// gone by now; then applications are told nothing but what is added here.
fn caller(identity: Option<&Identity>, told: &mut Vec<u8>) {
    let claims = identity.and_then(|identity| serde_json::to_string(identity.claims()).ok());
    text(identity.map(Identity::subject), told);
    text(claims.as_deref(), told);
}

/// Adds a text. That there is none is something else than an empty one.
fn text(text: Option<&str>, told: &mut Vec<u8>) {
    let Some(text) = text else {
        told.extend_from_slice(&u32::MAX.to_be_bytes());
        return;
    };
    told.extend_from_slice(&length(text.as_bytes()));
    told.extend_from_slice(text.as_bytes());
}

/// Adds all cookies of a name, and how many there are.
fn cookies(headers: &HeaderMap, name: &str, told: &mut Vec<u8>) {
    let pairs = headers.get_all(COOKIE).iter();
    let pairs = pairs.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let named = pairs.map(<[u8]>::trim_ascii).filter(|pair| {
        let rest = pair.strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    });
    let mut count: u32 = 0;
    for pair in named {
        told.extend_from_slice(&length(pair));
        told.extend_from_slice(pair);
        count += 1;
    }
    told.extend_from_slice(&count.to_be_bytes());
}

/// Adds a part, with its length before it, so that no part can pass for two. Tells where it is.
fn framed(bytes: &mut SmallVec<[u8; 128]>, part: &[u8]) -> std::ops::Range<u32> {
    bytes.extend(length(part));
    let start = bytes.len();
    if !part.is_empty() {
        bytes.extend_from_slice(part);
    }
    // A request head is far smaller than what four bytes can count.
    start as u32..bytes.len() as u32
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Adds the query. That there is none is something else than an empty one.
fn query(bytes: &mut SmallVec<[u8; 128]>, query: Option<&str>, rule: &QueryRule) {
    let Some(query) = query.filter(|_| *rule != QueryRule::Nothing) else {
        return;
    };
    let keeps = |parameter: &&str| match rule {
        QueryRule::AsSent | QueryRule::Sorted => true,
        // What an application might take for one that matters does.
        _ if parameter.contains(';') => true,
        QueryRule::Only(names) => resembles(parameter, names),
        QueryRule::Without(names) => !is_among(parameter, names),
        QueryRule::Nothing => false,
    };
    if *rule == QueryRule::AsSent {
        framed(bytes, query.as_bytes());
        return;
    }
    let mut parameters: SmallVec<[&str; 16]> = query.split('&').filter(keeps).collect();
    // Such as an application may take for the same stay in their order, which may matter to it.
    if parameters.iter().all(|parameter| is_plain(parameter)) {
        parameters.sort_by(|one, other| lower(name(one)).cmp(lower(name(other))));
    }
    for parameter in parameters {
        framed(bytes, parameter.as_bytes());
    }
}

/// Whether a parameter has one name only, to every application.
fn is_plain(parameter: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !parameter.contains(';') && name(parameter).bytes().all(plain)
}

fn lower(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

/// Whether a parameter has one of these names, however its letters are encoded.
fn is_among(parameter: &str, names: &[Box<str>]) -> bool {
    let name = name(parameter);
    if !name.contains(['%', '+']) {
        return names.iter().any(|known| **known == *name);
    }
    let spaced = name.replace('+', " ");
    let decoded = percent_decode_str(&spaced);
    names.iter().any(|known| decoded.clone().eq(known.bytes()))
}

/// Whether some application might take a parameter for one of these: there are those that forget spaces before
/// a name, and read `page[]` or `page[x]` as `page`.
fn resembles(parameter: &str, names: &[Box<str>]) -> bool {
    let name = name(parameter);
    if is_among(parameter, names) {
        return true;
    }
    let spaced = name.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8_lossy();
    let plain = decoded.split(['[', '\0']).next().unwrap_or_default().trim();
    let same = |known: &str| known.trim_end_matches("[]").eq_ignore_ascii_case(plain);
    names.iter().any(|known| same(known))
}

fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

/// Different in each process, so that nobody can choose where a name is stored.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

#[cfg(test)]
mod tests {
    use edgeway_sdk::{Exchange, Template};
    use http::{Request, request};

    use super::*;

    const PARTS: Parts<'static> = Parts {
        route: "/",
        scheme: "http",
        host: "example.com",
        told: b"",
        way: None,
        seal: 0,
        upstream: "",
        path: "/a",
        normal: None,
        query: Some("x=1&y=2"),
    };

    fn name(query: Option<&str>, rule: &QueryRule) -> Vec<u8> {
        let parts = Parts { query, ..PARTS };
        Name::of(&parts, rule).bytes().to_vec()
    }

    fn request(headers: &[(&'static str, &'static str)]) -> (request::Parts, Exchange) {
        let mut request = Request::new(()).into_parts().0;
        for (name, value) in headers {
            request.headers.append(*name, value.parse().unwrap());
        }
        (request, Exchange::new(([127, 0, 0, 1], 1).into()))
    }

    fn wanted(
        headers: &[(&'static str, &'static str)],
        vary: &str,
        by: &[&str],
    ) -> Option<Variant> {
        let mut response = HeaderMap::new();
        if !vary.is_empty() {
            response.insert("vary", vary.parse().unwrap());
        }
        let by: Vec<Template> = by.iter().map(|by| by.parse().unwrap()).collect();
        let rule = KeyRule {
            by: by.into(),
            ..KeyRule::default()
        };
        let (request, exchange) = request(headers);
        variant(&(&request, &exchange), &response, &rule)
    }

    #[test]
    fn every_part_makes_another_name() {
        let others = [
            Parts {
                route: "/b",
                ..PARTS
            },
            Parts {
                scheme: "https",
                ..PARTS
            },
            Parts {
                host: "example.org",
                ..PARTS
            },
            Parts {
                told: b"example.com:81",
                ..PARTS
            },
            Parts { seal: 1, ..PARTS },
            Parts {
                upstream: "/",
                ..PARTS
            },
            Parts {
                path: "/b",
                ..PARTS
            },
            Parts {
                query: None,
                ..PARTS
            },
            Parts {
                query: Some("y=2&x=1"),
                ..PARTS
            },
            // What is moved over a border is still another name.
            Parts {
                host: "example.com/",
                path: "a",
                ..PARTS
            },
        ];
        let rule = QueryRule::AsSent;
        let all = [PARTS].into_iter().chain(others);
        let names: Vec<_> = all.map(|parts| Name::of(&parts, &rule)).collect();
        for (place, one) in names.iter().enumerate() {
            for other in &names[place + 1..] {
                assert_ne!(one.bytes(), other.bytes());
                assert_ne!(one.hash(), other.hash());
            }
        }
    }

    #[test]
    fn a_query_counts_as_the_rule_says() {
        let sent = QueryRule::AsSent;
        assert_ne!(name(Some("a=1&b=2"), &sent), name(Some("b=2&a=1"), &sent));
        assert_ne!(name(Some(""), &sent), name(None, &sent));
        let sorted = QueryRule::Sorted;
        assert_eq!(
            name(Some("a=1&b=2"), &sorted),
            name(Some("b=2&a=1"), &sorted)
        );
        assert_ne!(
            name(Some("a=1&a=2"), &sorted),
            name(Some("a=2&a=1"), &sorted)
        );
        assert_ne!(name(Some("a=1&b"), &sorted), name(Some("a=1b"), &sorted));
        let only = QueryRule::Only(["page".into()].into());
        assert_eq!(
            name(Some("utm=1&page=2"), &only),
            name(Some("page=2"), &only)
        );
        assert_eq!(
            name(Some("p%61ge=2"), &only).len(),
            name(Some("page=2"), &only).len() + 2
        );
        assert_ne!(name(Some("page=2"), &only), name(Some("page=3"), &only));
        let without = QueryRule::Without(["utm source".into()].into());
        assert_eq!(
            name(Some("utm+source=1&a=2"), &without),
            name(Some("a=2"), &without)
        );
        assert_ne!(
            name(Some("utm=1&a=2"), &without),
            name(Some("a=2"), &without)
        );
        assert_eq!(
            name(Some("a=1"), &QueryRule::Nothing),
            name(None, &QueryRule::Nothing)
        );
    }

    #[test]
    fn a_response_that_varies_by_nothing_has_one_variant() {
        assert_eq!(wanted(&[("accept-language", "de")], "", &[]), None);
    }

    #[test]
    fn what_a_response_varies_by_and_what_the_route_adds_tell_variants_apart() {
        let of = |language, tenant| {
            let headers = [("accept-language", language), ("x-tenant", tenant)];
            wanted(&headers, "accept-language", &["{header.x-tenant}"])
        };
        assert_eq!(of("de", "a"), of("de", "a"));
        assert_ne!(of("de", "a"), of("en", "a"));
        assert_ne!(of("de", "a"), of("de", "b"));
        let two = |a, b| wanted(&[("a", a), ("b", b)], "", &["{header.a}", "{header.b}"]);
        assert_ne!(two("xy", "z"), two("x", "yz"));
    }

    #[test]
    fn headers_of_the_key_count_whole_whatever_is_in_them() {
        let rule = KeyRule {
            by: ["{header.authorization}".parse().unwrap()].into(),
            headers: [AUTHORIZATION].into(),
            ..KeyRule::default()
        };
        let of = |lines: &[&[u8]]| {
            let (mut request, exchange) = request(&[]);
            for line in lines {
                let line = http::HeaderValue::from_bytes(line).unwrap();
                request.headers.append(AUTHORIZATION, line);
            }
            variant(&(&request, &exchange), &HeaderMap::new(), &rule)
        };
        let all = [
            of(&[]),
            of(&[b""]),
            of(&[b"Bearer \xe4"]),
            of(&[b"Bearer \xf6"]),
            of(&[b"", b"Bearer a"]),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
    }

    #[test]
    fn what_a_trusted_proxy_says_of_the_way_counts_but_for_addresses() {
        let of = |lines: &[(&'static str, &'static str)]| {
            let (request, _) = request(lines);
            let way = Some(&request.headers);
            let parts = Parts { way, ..PARTS };
            Name::of(&parts, &QueryRule::AsSent).hash()
        };
        let all = [
            of(&[]),
            of(&[("x-forwarded-host", "a")]),
            of(&[("x-forwarded-host", "a"), ("x-forwarded-host", "b")]),
            of(&[("x-forwarded-host", "b"), ("x-forwarded-host", "a")]),
            of(&[("x-forwarded-port", "a")]),
            of(&[("x-forwarded-user", "a")]),
            of(&[("forwarded", "host=a")]),
            of(&[("forwarded", "proto=a")]),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        for addresses in [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=192.0.2.1;BY=_a"),
            ("x-real-ip", "192.0.2.1"),
        ] {
            assert_eq!(of(&[addresses]), all[0], "{addresses:?}");
        }
        let one = [("x-forwarded-port", "1"), ("x-forwarded-host", "a")];
        let other = [one[1], one[0]];
        assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn a_key_by_authorization_has_whom_a_filter_has_recognised() {
        let rule = KeyRule {
            headers: [AUTHORIZATION].into(),
            ..KeyRule::default()
        };
        let rule = KeyRule {
            by: ["{header.authorization}".parse().unwrap()].into(),
            ..rule
        };
        let of = |identity: Option<(&str, &str)>| {
            let (request, mut exchange) = request(&[]);
            if let Some((subject, role)) = identity {
                let claims = [("role".to_owned(), role.into())].into_iter().collect();
                let identity = Identity::with_claims(subject, std::sync::Arc::new(claims));
                exchange.values.insert(identity);
            }
            variant(&(&request, &exchange), &HeaderMap::new(), &rule)
        };
        let all = [None, Some(("", "")), Some(("a", "")), Some(("a", "b"))];
        let all = all.map(of);
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        assert_eq!(of(Some(("a", "b"))), all[3]);
    }

    #[test]
    fn parameters_are_sorted_only_if_all_applications_tell_them_apart() {
        let sorted = QueryRule::Sorted;
        for (one, other) in [
            ("a=1&%61=2", "%61=2&a=1"),
            ("a[]=1&a=2", "a=2&a[]=1"),
            ("A=1&a=2", "a=2&A=1"),
            ("b=1;a=1&a=2", "a=2&b=1;a=1"),
        ] {
            assert_ne!(
                name(Some(one), &sorted),
                name(Some(other), &sorted),
                "{one}"
            );
        }
        assert_eq!(
            name(Some("B=1&a=2"), &sorted),
            name(Some("a=2&B=1"), &sorted)
        );
    }

    #[test]
    fn a_parameter_that_some_application_takes_for_one_that_matters_does() {
        let only = QueryRule::Only(["page".into()].into());
        let without = QueryRule::Without(["utm".into()].into());
        for parameter in [
            "x;page=2",
            "%20page=2",
            "+page=2",
            "page[]=2",
            "page%5Ba%5D=2",
            "PAGE=2",
        ] {
            assert_ne!(
                name(Some(parameter), &only),
                name(Some("x=1"), &only),
                "{parameter}"
            );
        }
        assert_ne!(
            name(Some("utm=1;page=2"), &without),
            name(Some("utm=1"), &without)
        );
        for parameter in ["pages=2", "mypage=2", "x=page"] {
            assert_eq!(
                name(Some(parameter), &only),
                name(Some("x=1"), &only),
                "{parameter}"
            );
        }
    }

    #[test]
    fn all_cookies_of_a_name_count_and_no_others() {
        let rule = KeyRule {
            by: ["{cookie.a}".parse().unwrap()].into(),
            cookies: ["a".into()].into(),
            ..KeyRule::default()
        };
        let wanted = |cookie: &'static str| {
            let (request, exchange) = request(&[("cookie", cookie)]);
            variant(&(&request, &exchange), &HeaderMap::new(), &rule)
        };
        assert_ne!(wanted("a=1"), wanted("a=2"));
        assert_ne!(wanted("a=1"), wanted("a=1; a=2"));
        assert_ne!(wanted("a=1; a=2"), wanted("a=1; a=3"));
        assert_ne!(wanted("b=1"), wanted("a="));
        assert_eq!(wanted("a=1"), wanted("ab=2; a=1;b=3"));
    }

    #[test]
    fn claims_count_as_they_are_whatever_they_are() {
        let rule = KeyRule {
            by: ["{claim.org}".parse().unwrap()].into(),
            claims: ["org".into()].into(),
            ..KeyRule::default()
        };
        let wanted = |claims: serde_json::Value| {
            let (request, mut exchange) = request(&[]);
            let claims = claims.as_object().cloned().unwrap_or_default();
            let identity = Identity::with_claims("ann", std::sync::Arc::new(claims));
            exchange.values.insert(identity);
            variant(&(&request, &exchange), &HeaderMap::new(), &rule)
        };
        let all = [
            wanted(serde_json::json!({})),
            wanted(serde_json::json!({ "org": "" })),
            wanted(serde_json::json!({ "org": { "id": 1 } })),
            wanted(serde_json::json!({ "org": { "id": 2 } })),
            wanted(serde_json::json!({ "org": ["a", "b"] })),
            wanted(serde_json::json!({ "org": ["a,b"] })),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        let other = serde_json::json!({ "org": "", "sub": "bob" });
        assert_eq!(wanted(other), all[1]);
    }

    #[test]
    fn a_filing_finds_host_and_path_in_the_name() {
        let name = Name::of(&PARTS, &QueryRule::AsSent);
        let filing = name.filing("a b".into());
        let part =
            |range: std::ops::Range<u32>| &name.bytes()[range.start as usize..range.end as usize];
        assert_eq!(part(filing.host), b"example.com");
        assert_eq!(part(filing.path), b"/a");
        assert_eq!(&*filing.tags, "a b");
    }

    #[test]
    fn spellings_of_a_path_have_names_of_their_own_and_are_filed_under_one() {
        let spelt = Parts {
            path: "/%61",
            normal: Some("/a"),
            ..PARTS
        };
        let [plain, spelt] = [PARTS, spelt].map(|parts| Name::of(&parts, &QueryRule::AsSent));
        assert_ne!(plain.bytes(), spelt.bytes());
        for name in [plain, spelt] {
            let path = name.filing("".into()).path;
            let (path, rest) = (path.start as usize..path.end as usize, path.end as usize);
            assert_eq!(&name.bytes()[path], b"/a");
            assert_eq!(
                name.bytes()[rest..],
                *ending(PARTS.query, &QueryRule::AsSent)
            );
        }
    }

    #[test]
    fn an_ending_is_that_of_the_names_of_its_route_and_query() {
        let only = QueryRule::Only(["page".into()].into());
        let of = |route, query, rule: &QueryRule| {
            let parts = Parts {
                route,
                query,
                ..PARTS
            };
            Name::of(&parts, rule)
        };
        let is = |name: &Name, one: &Ending| {
            let rest = name.filing("".into()).path.end as usize;
            name.bytes().starts_with(&one.beginning) && name.bytes()[rest..] == *one.ending
        };
        let mine = ending_of("r", Some("b=1&page=2"), &only);
        assert!(is(&of("r", Some("page=2&a=3"), &only), &mine));
        assert!(!is(&of("r", Some("page=3"), &only), &mine));
        assert!(!is(&of("rr", Some("page=2"), &only), &mine));
        let everyones = common_endings(Some("b=1&a=2"));
        let is_one = |name: &Name| everyones.iter().any(|one| is(name, one));
        for route in ["r", "rr"] {
            assert!(is_one(&of(route, Some("b=1&a=2"), &QueryRule::AsSent)));
            assert!(is_one(&of(route, Some("a=2&b=1"), &QueryRule::Sorted)));
            assert!(!is_one(&of(route, Some("a=2&b=1"), &QueryRule::AsSent)));
            assert!(!is_one(&of(route, None, &QueryRule::AsSent)));
        }
    }
}
