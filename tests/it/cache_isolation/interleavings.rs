//! Many users at once, in every order that chance brings about: nobody gets what is another's.
//!
//! The application names in every answer for whom it is. How it says that this may be kept, or must not be,
//! varies at random; clients choose it, so that a run can be repeated by its seed.

use std::{fmt, sync::Barrier, thread};

use bytes::Bytes;
use edgeway_tests::{Endpoint, Gateway, Http2, Reaction, Received};
use serde_json::json;

use super::super::{
    cache_surge::ms,
    jwt::tokens::{SECRET, token},
};

/// How many ask at the same time, and how often each.
const CLIENTS: u64 = 12;
const REQUESTS: usize = 300;

#[test]
fn no_interleaving_gives_anyone_what_is_for_another() {
    for seed in [0x5eed, 0xc0ffee] {
        let run = run(seed, &ROUTES, CLIENTS, REQUESTS);
        assert!(
            run.leaks.is_empty(),
            "seed {seed:#x}, {} of {} answers:\n{}",
            run.leaks.len(),
            run.answers,
            run.leaks[..run.leaks.len().min(8)].join("\n")
        );
        // Otherwise nothing would be shared that could be wrong.
        let all = run.answers;
        assert!(run.hits > all / 10, "{} hits of {all}", run.hits);
        assert!(run.not_modified > 20, "{} of {all}", run.not_modified);
        assert!(run.parts > 20, "{} of {all}", run.parts);
        assert!(run.revalidated > 5, "{} of {all}", run.revalidated);
    }
}

/// So that it is known to find what it is for.
#[test]
fn a_route_that_shares_what_is_personal_is_found_out() {
    let careless = "cache: { ttl: 1m, despite: [cookie, authorization] }";
    let run = run(7, &[("plain", careless)], 4, 200);
    assert!(!run.leaks.is_empty(), "of {} answers", run.answers);
}

/// Below `/NAME/`. What is behind the first word says what has to be the same for what is served.
const ROUTES: [(&str, &str); 11] = [
    ("plain", "cache: { ttl: 1m }"),
    ("rfc", "cache: {}"),
    ("short", "cache: { ttl: 20ms }"),
    (
        "sudden",
        "cache: { ttl: 20ms, stale_while_revalidate: 0s, heuristic: 10% }",
    ),
    ("tenant", "cache: { ttl: 1m, by: '{header.x-tenant}' }"),
    ("token", "cache: { ttl: 1m, by: '{header.authorization}' }"),
    ("cookies", "cache: { ttl: 1m, by: '{header.cookie}' }"),
    (
        "session",
        "cache: { ttl: 100ms, by: '{cookie.session}', despite: cookie }",
    ),
    ("jwt", "filters: [{ jwt: JWT }], cache: { ttl: 1m }"),
    (
        "claim",
        "filters: [{ jwt: JWT }], cache: { ttl: 1m, by: '{claim.sub}', despite: authorization }",
    ),
    (
        "stripped",
        "filters: [{ jwt: STRIPPED }], cache: { ttl: 1m, by: '{header.authorization}' }",
    ),
];

/// What an application may say, with a few mistakes among it.
const SAYINGS: [&[(&str, &str)]; 16] = [
    &[],
    &[],
    &[("ETag", "")],
    &[("Vary", "Accept-Language")],
    &[("Vary", "Accept-Language"), ("Cache-Control", "max-age=60")],
    &[
        ("Vary", "Authorization, Cookie, Accept-Language"),
        ("Cache-Control", "max-age=60"),
        ("ETag", ""),
    ],
    &[("Cache-Control", "max-age=60")],
    &[("Cache-Control", "private"), ("Vary", "Cookie")],
    &[("Cache-Control", "private, max-age=60"), ("ETag", "")],
    &[("Cache-Control", "no-store")],
    &[("Set-Cookie", "")],
    &[("Cache-Control", "max-age=60"), ("Set-Cookie", "")],
    &[("Cache-Control", "public, max-age=1"), ("ETag", "")],
    &[("Cache-Control", "s-maxage=60"), ("ETag", "")],
    &[
        ("Cache-Control", "max-age=0, must-revalidate"),
        ("ETag", ""),
    ],
    &[
        ("Cache-Control", "max-age=60, private=\"x-for-you\""),
        ("X-For-You", ""),
    ],
];

/// Which of these a response says.
fn says(saying: usize, name: &str, text: &str) -> bool {
    let lines = SAYINGS[saying].iter();
    { lines }.any(|(known, value)| *known == name && value.contains(text))
}

/// For whom a response is, or who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Visitor {
    /// `-`, `bearer:NAME` or `cookie:NAME`.
    user: String,
    language: String,
    host: String,
    forwarded: String,
    tenant: String,
}

/// All that a response tells of itself, in one line.
#[derive(Clone, Debug)]
struct Made {
    saying: usize,
    path: String,
    visitor: Visitor,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visitor = &self.visitor;
        write!(
            f,
            "{}|{}|{}|{}|{}|{}|{}",
            self.saying,
            self.path,
            visitor.user,
            visitor.language,
            visitor.host,
            visitor.forwarded,
            visitor.tenant
        )
    }
}

impl Made {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('|').map(str::to_owned);
        Some(Self {
            saying: parts.next()?.parse().ok()?,
            path: parts.next()?,
            visitor: Visitor {
                user: parts.next()?,
                language: parts.next()?,
                host: parts.next()?,
                forwarded: parts.next()?,
                tenant: parts.next()?,
            },
        })
    }

    /// Why this must not be given to somebody, if so.
    fn is_not_for(&self, who: &Visitor, path: &str) -> Option<&'static str> {
        let made = &self.visitor;
        if self.path != path {
            return Some("another page");
        }
        if (&made.host, &made.forwarded) != (&who.host, &who.forwarded) {
            return Some("another host");
        }
        if says(self.saying, "Vary", "Accept-Language") && made.language != who.language {
            return Some("another language");
        }
        let route = path.split('/').nth(1).unwrap_or_default();
        if route == "tenant" && made.tenant != who.tenant {
            return Some("another tenant");
        }
        let same = made.user == who.user;
        let either = |kind: &str| made.user.starts_with(kind) || who.user.starts_with(kind);
        let keyed = match route {
            "token" | "claim" | "stripped" => either("bearer"),
            "cookies" | "session" => either("cookie"),
            _ => false,
        };
        let stated = says(self.saying, "Cache-Control", "max-age");
        let public = ["public", "s-maxage"]
            .iter()
            .any(|word| says(self.saying, "Cache-Control", word));
        let never = says(self.saying, "Cache-Control", "no-store")
            || says(self.saying, "Set-Cookie", "")
            || ["private", "private, max-age=60"]
                .iter()
                .any(|word| SAYINGS[self.saying].contains(&("Cache-Control", word)));
        let shared = match made.user.split(':').next() {
            // RFC 9111, section 3.5.
            Some("bearer") => public || says(self.saying, "Cache-Control", "must-revalidate"),
            Some("cookie") => public,
            _ => public || stated,
        };
        let varies = says(self.saying, "Vary", "Authorization");
        (!same && (keyed || never || varies || !shared)).then_some("another user")
    }
}

struct Run {
    answers: usize,
    hits: usize,
    not_modified: usize,
    revalidated: usize,
    parts: usize,
    leaks: Vec<String>,
}

fn run(seed: u64, routes: &[(&'static str, &str)], clients: u64, requests: usize) -> Run {
    let app = Endpoint::setup("app").answers(page).start();
    let gateway = Gateway::start(&configuration(&app, routes));
    let ready = Barrier::new(usize::try_from(clients).unwrap());
    let names: Vec<_> = routes.iter().map(|(name, _)| *name).collect();
    let tokens: Vec<_> = USERS
        .iter()
        .map(|user| token(json!({ "sub": user })))
        .collect();
    let runs: Vec<Run> = thread::scope(|scope| {
        let run = |client: u64| {
            let (gateway, ready, names, tokens) = (&gateway, &ready, &names, &tokens);
            scope.spawn(move || {
                let mut client = Client {
                    chance: Chance(seed.wrapping_mul(1000).wrapping_add(client)),
                    routes: names,
                    tokens,
                    way: Way::to(gateway, client),
                    tags: Vec::new(),
                    run: Run::nothing(),
                };
                ready.wait();
                for _ in 0..requests {
                    client.ask();
                }
                client.run
            })
        };
        let clients: Vec<_> = (0..clients).map(run).collect();
        let clients = clients.into_iter();
        clients.map(|client| client.join().unwrap()).collect()
    });
    runs.into_iter().fold(Run::nothing(), Run::and)
}

fn configuration(app: &Endpoint, routes: &[(&str, &str)]) -> String {
    let jwt = format!("algorithms: [HS256], secret: {SECRET}");
    let routes: String = routes
        .iter()
        .map(|(name, rest)| {
            let rest = rest.replace("JWT", &format!("{{ {jwt} }}")).replace(
                "STRIPPED",
                &format!("{{ {jwt}, strip_token: true, forward: {{ sub: X-User }} }}"),
            );
            format!("  - {{ match: {{ path: /{name}/ }}, upstream: app, {rest} }}\n")
        })
        .collect();
    format!(
        "trusted_proxies: [127.0.0.1]\n\
         upstreams: {{ app: {{ endpoints: [{app}], max_fails: 0 }} }}\n\
         routes:\n{routes}"
    )
}

const USERS: [&str; 3] = ["ann", "bob", "cleo"];

/// The application.
fn page(request: &Received) -> Reaction {
    let header = |name: &str| request.header_all(name).join(", ");
    let made = Made {
        saying: header("x-say").parse().unwrap(),
        path: request.path.clone(),
        visitor: Visitor {
            user: user(
                &header("authorization"),
                &header("cookie"),
                &header("x-user"),
            ),
            language: header("accept-language"),
            host: request.host.clone(),
            forwarded: header("x-forwarded-host"),
            tenant: header("x-tenant"),
        },
    };
    let delay: u64 = header("x-delay").parse().unwrap();
    // What somebody has, and may have, is still good if the client says so.
    let known = header("if-none-match");
    let known = Made::read(known.trim_matches('"')).filter(|_| header("x-304") == "1");
    let known = known.filter(|known| known.is_not_for(&made.visitor, &made.path).is_none());
    let status = if known.is_some() { 304 } else { 200 };
    let made = known.unwrap_or(made);
    let own = format!("\"{made}\"");
    let mut answer = Reaction::status(status);
    if status == 200 {
        answer = answer.body(made.to_string());
    }
    for (name, value) in SAYINGS[made.saying] {
        answer = match *name {
            "ETag" => answer.header(name, &own),
            "Set-Cookie" => answer.header(name, format!("session={}", made.visitor.user)),
            "X-For-You" => answer.header(name, &made.visitor.user),
            name => answer.header(name, value),
        };
    }
    answer.header("X-Made", &made).after(ms(delay))
}

/// Whom the application takes the sender for.
fn user(authorization: &str, cookies: &str, told: &str) -> String {
    if !told.is_empty() {
        return format!("bearer:{told}");
    }
    if let Some(token) = authorization.strip_prefix("Bearer ") {
        return format!("bearer:{}", subject(token));
    }
    let session = cookies
        .split("; ")
        .find_map(|pair| pair.strip_prefix("session="));
    session.map_or_else(|| "-".to_owned(), |user| format!("cookie:{user}"))
}

fn subject(token: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
    let claims: serde_json::Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let place = self.below(all.len());
        &all[place]
    }

    /// In this many of 100 cases.
    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

/// Every third client speaks HTTP/2.
enum Way<'g> {
    Http1(&'g Gateway),
    Http2(Http2),
}

/// What is the same in both versions.
struct Got {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl<'g> Way<'g> {
    fn to(gateway: &'g Gateway, client: u64) -> Self {
        match client % 3 {
            2 => Self::Http2(Http2::open(gateway.address())),
            _ => Self::Http1(gateway),
        }
    }

    fn send(&self, method: &str, path: &str, host: &str, lines: &[(&str, String)]) -> Got {
        match self {
            Self::Http1(gateway) => {
                let request = gateway.request(method, path).host(host);
                let lines = lines.iter();
                let answer = { lines }
                    .fold(request, |request, (name, value)| {
                        request.header(name, value)
                    })
                    .send();
                Got {
                    status: answer.status,
                    headers: answer.headers,
                    body: answer.body,
                }
            }
            Self::Http2(connection) => {
                let mut request = connection.request(method, path, Bytes::new());
                *request.uri_mut() = format!("http://{host}{path}").parse().unwrap();
                for (name, value) in lines {
                    let name: http::HeaderName = name.parse().unwrap();
                    // As browsers do it, each cookie has a line of its own.
                    let between = if name == "cookie" { "; " } else { "\n" };
                    for value in value.split(between) {
                        let value = value.parse().unwrap();
                        request.headers_mut().append(name.clone(), value);
                    }
                }
                let answer = connection.send(request);
                let answer =
                    answer.unwrap_or_else(|error| panic!("{method} {path} {lines:?}: {error}"));
                let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    (name.to_string(), value.to_str().unwrap().to_owned())
                };
                Got {
                    status: answer.status,
                    headers: answer.headers.iter().map(line).collect(),
                    body: answer.body.to_vec(),
                }
            }
        }
    }
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let lines = self.headers.iter();
        let found = { lines }.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

struct Client<'a> {
    chance: Chance,
    routes: &'a [&'static str],
    tokens: &'a [String],
    way: Way<'a>,
    /// Entity tags that it was given.
    tags: Vec<(String, String)>,
    run: Run,
}

impl Client<'_> {
    fn ask(&mut self) {
        let chance = &mut self.chance;
        let route = *chance.one_of(self.routes);
        let path = format!("/{route}/{}", chance.below(3));
        let number = chance.below(USERS.len());
        let name = USERS[number];
        let needs_token = matches!(route, "jwt" | "claim" | "stripped");
        let kind = if needs_token { 1 } else { chance.below(3) };
        let visitor = Visitor {
            user: match kind {
                0 => "-".to_owned(),
                1 => format!("bearer:{name}"),
                _ => format!("cookie:{name}"),
            },
            language: (*chance.one_of(&["de", "en"])).to_owned(),
            host: (*chance.one_of(&["a.test", "a.test", "b.test"])).to_owned(),
            forwarded: (*chance.one_of(&["shop.test", "shop.test", "evil.test"])).to_owned(),
            tenant: (*chance.one_of(&["red", "blue"])).to_owned(),
        };
        let mut lines = vec![
            ("accept-language", visitor.language.clone()),
            ("x-forwarded-host", visitor.forwarded.clone()),
            ("x-tenant", visitor.tenant.clone()),
            ("x-say", chance.below(SAYINGS.len()).to_string()),
            ("x-304", chance.below(2).to_string()),
            ("x-delay", chance.below(3).to_string()),
        ];
        match kind {
            1 => lines.push(("authorization", format!("Bearer {}", self.tokens[number]))),
            2 => lines.push(("cookie", format!("theme=dark; session={name}"))),
            _ => {}
        }
        let method = match chance.below(20) {
            0 => "POST",
            1..4 => "HEAD",
            _ => "GET",
        };
        let known = self.tags.iter().filter(|(of, _)| *of == path);
        let known: Vec<_> = known.map(|(_, tag)| tag.clone()).collect();
        if method != "POST" && !known.is_empty() && chance.percent(30) {
            lines.push(("if-none-match", chance.one_of(&known).clone()));
        } else if method == "GET" && chance.percent(15) {
            lines.push(("range", "bytes=0-3".to_owned()));
        }
        if chance.percent(5) {
            lines.push(("cache-control", "no-cache".to_owned()));
        }
        let got = self.way.send(method, &path, &visitor.host, &lines);
        self.count(&got);
        if let Some(why) = self.look(&got, method, &visitor, &path) {
            let status = got.status;
            let leak = format!(
                "{why}: {method} {path} of {visitor:?} {lines:?} got {status} {:?} {}",
                got.headers,
                String::from_utf8_lossy(&got.body)
            );
            self.run.leaks.push(leak);
        }
        if got.status == 200 && !got.header("etag").is_empty() && self.tags.len() < 64 {
            self.tags.push((path, got.header("etag").to_owned()));
        }
    }

    fn count(&mut self, got: &Got) {
        let told = got.header("cache-status");
        self.run.answers += 1;
        self.run.hits += usize::from(told.contains("hit"));
        self.run.not_modified += usize::from(got.status == 304);
        self.run.revalidated += usize::from(told.contains("fwd-status=304"));
        self.run.parts += usize::from(got.status == 206);
    }

    /// What is wrong with an answer.
    fn look(&self, got: &Got, method: &str, visitor: &Visitor, path: &str) -> Option<&'static str> {
        let Some(made) = Made::read(got.header("x-made")) else {
            return Some("no page of the application");
        };
        if let Some(why) = made.is_not_for(visitor, path) {
            return Some(why);
        }
        let text = made.to_string();
        let whole = match got.status {
            200 if method == "HEAD" => "",
            200 => text.as_str(),
            206 => text.get(..4).unwrap(),
            304 => {
                // What the client has is what it may use now.
                let tag = got.header("etag").trim_matches('"');
                let wrong = tag != text || method == "POST";
                return wrong.then_some("a 304 for something else");
            }
            _ => return Some("another status"),
        };
        if got.body != whole.as_bytes() {
            return Some("a body that is not that of its head");
        }
        let cookies = got.headers.iter();
        let of_another = { cookies }
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .any(|(_, value)| *value != format!("session={}", visitor.user));
        if of_another {
            return Some("a cookie of another");
        }
        let for_you = got.header("x-for-you");
        (!for_you.is_empty() && for_you != visitor.user).then_some("a field of another")
    }
}

impl Run {
    fn nothing() -> Self {
        Self {
            answers: 0,
            hits: 0,
            not_modified: 0,
            revalidated: 0,
            parts: 0,
            leaks: Vec::new(),
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.answers += other.answers;
        self.hits += other.hits;
        self.not_modified += other.not_modified;
        self.revalidated += other.revalidated;
        self.parts += other.parts;
        self.leaks.extend(other.leaks);
        self
    }
}
