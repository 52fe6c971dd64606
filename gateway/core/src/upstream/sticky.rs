//! Which endpoint a session belongs to, as a token that only we can write.
//!
//! A token is the id of an endpoint, the time of its making, and a signature over both. The id stands for
//! the name of the endpoint, but tells it to nobody who does not have the secret. Tokens of another
//! upstream, or made by another secret, are as good as none.

use std::{fmt, fmt::Write as _, time::Duration};

use aws_lc_rs::{constant_time, digest, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use edgeway_sdk::{exchange::Scheme, message};
use http::{HeaderMap, HeaderValue};

use crate::config::{SameSite, StickyCookie};

/// What signs the tokens of one upstream.
pub(crate) struct Key(hmac::Key);

/// An endpoint, to those who have the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id([u8; ID]);

/// What the client keeps: letters, digits, `-` and `_`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token([u8; TEXT]);

/// What a token has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: Id,
    /// Seconds since 1970.
    issued: u32,
}

const ID: usize = 8;
const TIME: usize = 4;
const TAG: usize = 16;
/// A token in bytes, and as base64 without padding.
const LENGTH: usize = ID + TIME + TAG;
const TEXT: usize = (LENGTH * 4).div_ceil(3);

/// What a signature is for, so that none is good for anything else.
const FOR_ID: u8 = 0;
const FOR_TOKEN: u8 = 1;

impl Key {
    /// A key of its own for each upstream.
    pub(crate) fn new(secret: &[u8], upstream: &str) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&root, upstream.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    /// A key that nobody else has, nor this process when it is started again.
    pub(crate) fn random(upstream: &str) -> Self {
        Self::new(&rand::random::<[u8; 32]>(), upstream)
    }

    /// The id of an endpoint, which is the same wherever the secret is.
    pub(crate) fn id(&self, endpoint: &str) -> Id {
        let tag = self.sign(FOR_ID, endpoint.as_bytes());
        Id(first(tag.as_ref()))
    }

    /// A token for a session with this endpoint that begins, or is renewed, now.
    pub(crate) fn token(&self, id: Id, now: u32) -> Token {
        let mut token = [0; LENGTH];
        let (claim, tag) = token.split_at_mut(ID + TIME);
        let (place, time) = claim.split_at_mut(ID);
        place.copy_from_slice(&id.0);
        time.copy_from_slice(&now.to_be_bytes());
        tag.copy_from_slice(&first::<TAG>(self.sign(FOR_TOKEN, claim).as_ref()));
        let mut text = [0; TEXT];
        URL_SAFE_NO_PAD
            .encode_slice(token, &mut text)
            .expect("the text has the length of the token in base64");
        Token(text)
    }

    /// What a token says, if it is one of ours and not older than `ttl`. Whatever else the client may have
    /// sent is none.
    pub(crate) fn read(&self, text: &[u8], now: u32, ttl: Option<Duration>) -> Option<Session> {
        if text.len() != TEXT {
            return None;
        }
        // Longer than the token by what the decoder rounds up.
        let mut token = [0; TEXT.div_ceil(4) * 3];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut token).ok()?;
        let (claim, tag) = token.get(..length)?.split_at_checked(ID + TIME)?;
        let expected: [u8; TAG] = first(self.sign(FOR_TOKEN, claim).as_ref());
        constant_time::verify_slices_are_equal(&expected, tag).ok()?;
        let (id, time) = claim.split_first_chunk()?;
        let session = Session {
            id: Id(*id),
            issued: u32::from_be_bytes(time.try_into().ok()?),
        };
        let alive = ttl.is_none_or(|ttl| session.age(now) <= ttl);
        alive.then_some(session)
    }

    fn sign(&self, purpose: u8, data: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[purpose]);
        context.update(data);
        context.sign()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Session {
    /// Whether more than half of its time is over, so that the client should have a new token.
    pub(crate) fn is_stale(self, now: u32, ttl: Option<Duration>) -> bool {
        ttl.is_some_and(|ttl| self.age(now) > ttl / 2)
    }

    /// A token from the future was signed by a gateway whose clock is ahead of ours, and is new.
    fn age(self, now: u32) -> Duration {
        Duration::from_secs(now.saturating_sub(self.issued).into())
    }
}

impl Token {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is text")
    }

    /// The token as the value of a header.
    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("base64 is text")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The cookie that carries a token.
#[derive(Debug)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) ttl: Option<Duration>,
    /// What follows the token, without `Secure`.
    attributes: String,
    secure: Secure,
}

/// When clients are told to send the cookie over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secure {
    /// When it was given over TLS.
    AsGiven,
    Always,
}

impl Cookie {
    pub(crate) fn new(config: &StickyCookie, upstream: &str) -> Self {
        let name = config.name.as_ref().map(|name| name.0.clone());
        let mut attributes = format!("; Path={}", config.path.0);
        if let Some(domain) = &config.domain {
            attributes.push_str("; Domain=");
            attributes.push_str(&domain.0);
        }
        if let Some(ttl) = config.ttl.0 {
            write!(attributes, "; Max-Age={}", ttl.as_secs())
                .expect("a string takes what is written");
        }
        attributes.push_str("; HttpOnly; SameSite=");
        attributes.push_str(match config.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        });
        Self {
            name: name.unwrap_or_else(|| own_name(upstream)),
            ttl: config.ttl.0,
            attributes,
            secure: match config.same_site {
                SameSite::Lax | SameSite::Strict => Secure::AsGiven,
                SameSite::None => Secure::Always,
            },
        }
    }

    /// What the client has sent as this cookie.
    pub(crate) fn find<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        message::cookie(headers, &self.name).map(str::as_bytes)
    }

    /// The value of `Set-Cookie` for a client that came by `scheme`.
    pub(crate) fn value(&self, token: &Token, scheme: Scheme) -> HeaderValue {
        let secure = match (self.secure, scheme) {
            (Secure::AsGiven, Scheme::Http) => "",
            (Secure::AsGiven, Scheme::Https) | (Secure::Always, _) => "; Secure",
        };
        let line = [&self.name, "=", token.as_str(), &self.attributes, secure].concat();
        HeaderValue::from_maybe_shared(Bytes::from(line))
            .expect("name, path and domain were read as what a cookie may have")
    }
}

/// Upstreams on one host must not overwrite each other's cookies, nor tell what they are called.
fn own_name(upstream: &str) -> String {
    let digest = digest::digest(&digest::SHA256, upstream.as_bytes());
    let [a, b, c, d] = first(digest.as_ref());
    format!("edgeway_{:08x}", u32::from_be_bytes([a, b, c, d]))
}

/// The first bytes of what is longer.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("SHA-256 makes 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";
    const NOW: u32 = 1_800_000_000;
    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    fn key() -> Key {
        Key::new(SECRET, "products")
    }

    fn token() -> Token {
        let key = key();
        key.token(key.id("product-1:8080"), NOW)
    }

    fn id_in(text: &[u8]) -> Option<Id> {
        key().read(text, NOW, HOUR).map(|session| session.id)
    }

    #[test]
    fn a_token_leads_back_to_its_endpoint() {
        let (one, two) = (key().id("product-1:8080"), key().id("product-2:8080"));
        assert_ne!(one, two);
        assert_eq!(id_in(token().as_str().as_bytes()), Some(one));
        assert_eq!(token().header_value(), token().as_str());
        let again = Key::new(SECRET, "products");
        assert_eq!(again.id("product-1:8080"), one, "another gateway knows it");
    }

    #[test]
    fn a_token_shows_neither_endpoint_nor_upstream() {
        let bytes = URL_SAFE_NO_PAD.decode(token().as_str()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("product"));
        let ids: HashSet<Id> = [b"0123456789abcdef", b"0123456789abcdeg"]
            .into_iter()
            .flat_map(|secret| ["a", "b"].map(|upstream| Key::new(secret, upstream).id("x:1")))
            .collect();
        assert_eq!(
            ids.len(),
            4,
            "an id can't be guessed from the endpoint's name"
        );
    }

    #[test]
    fn a_token_of_another_upstream_or_secret_is_none() {
        let text = token();
        let text = text.as_str().as_bytes();
        assert!(key().read(text, NOW, None).is_some());
        for other in [
            Key::new(SECRET, "orders"),
            Key::new(SECRET, ""),
            Key::new(b"0123456789abcdeX", "products"),
            Key::random("products"),
        ] {
            assert_eq!(other.read(text, NOW, None), None);
        }
        let (one, other) = (Key::random("a"), Key::random("a"));
        assert_ne!(one.id("x"), other.id("x"), "chance comes but once");
    }

    #[test]
    fn a_token_with_one_bit_changed_is_none() {
        let text = *token().as_str().as_bytes().first_chunk::<TEXT>().unwrap();
        for place in 0..TEXT {
            for bit in 0..8 {
                let mut forged = text;
                forged[place] ^= 1 << bit;
                assert_eq!(id_in(&forged), None, "byte {place}, bit {bit}");
            }
        }
        let whole = URL_SAFE_NO_PAD.decode(text).unwrap();
        for place in 0..LENGTH {
            for bit in 0..8 {
                let mut forged = whole.clone();
                forged[place] ^= 1 << bit;
                let forged = URL_SAFE_NO_PAD.encode(&forged);
                assert_eq!(id_in(forged.as_bytes()), None, "byte {place}, bit {bit}");
            }
        }
    }

    #[test]
    fn whatever_is_no_token_is_none() {
        let text = token().as_str().to_owned();
        let padded = format!("{text}==");
        let longer = format!("{text}A");
        let lone = "A".repeat(TEXT - 1) + "\u{0}";
        let cases: [&[u8]; 10] = [
            b"",
            b"x",
            padded.as_bytes(),
            longer.as_bytes(),
            &text.as_bytes()[1..],
            &text.as_bytes()[..TEXT - 1],
            &[b'A'; TEXT],
            &[0xff; TEXT],
            &[b'='; TEXT],
            lone.as_bytes(),
        ];
        for case in cases {
            assert_eq!(id_in(case), None, "{case:?}");
        }
        for length in 0..200 {
            assert_eq!(id_in(&vec![b'_'; length]), None, "{length} letters");
        }
        let plus = text.replace(['-', '_'], "+");
        assert!(plus == text || id_in(plus.as_bytes()).is_none());
    }

    #[test]
    fn a_token_lives_as_long_as_its_time_and_is_stale_after_half_of_it() {
        let text = token();
        let read = |now, ttl| key().read(text.as_str().as_bytes(), now, ttl);
        let session = read(NOW + 3600, HOUR).expect("its time is just over");
        assert!(session.is_stale(NOW + 1801, HOUR));
        assert!(!session.is_stale(NOW + 1800, HOUR));
        assert_eq!(read(NOW + 3601, HOUR), None);
        assert!(read(u32::MAX, None).is_some(), "without a ttl it lives on");
        assert!(!session.is_stale(u32::MAX, None));
        let early = read(NOW - 30, HOUR).expect("another gateway's clock is ahead");
        assert!(!early.is_stale(NOW - 30, HOUR));
        assert!(read(0, HOUR).is_some());
        assert!(read(u32::MAX, Some(Duration::MAX)).is_some());
    }

    #[test]
    fn neither_key_nor_token_shows_itself() {
        assert_eq!(format!("{:?} {:?}", key(), token()), "Key(***) Token(***)");
    }

    fn cookie(name: Option<&str>, more: impl FnOnce(&mut StickyCookie)) -> Cookie {
        let mut config = StickyCookie {
            name: name.map(|name| name.parse().unwrap()),
            ..StickyCookie::default()
        };
        more(&mut config);
        Cookie::new(&config, "products")
    }

    #[test]
    fn a_cookie_is_secure_when_the_client_came_over_tls() {
        let plain = cookie(Some("sid"), |_| ());
        let token = token();
        let value = format!("sid={}; Path=/; HttpOnly; SameSite=Lax", token.as_str());
        assert_eq!(plain.value(&token, Scheme::Http), value);
        assert_eq!(
            plain.value(&token, Scheme::Https),
            format!("{value}; Secure")
        );
    }

    #[test]
    fn a_cookie_says_all_that_is_configured() {
        let full = cookie(Some("sid"), |config| {
            config.ttl = "1h".parse().unwrap();
            config.path = "/shop".parse().unwrap();
            config.domain = "example.com".parse().ok();
            config.same_site = SameSite::None;
        });
        let token = token();
        let value = format!(
            "sid={}; Path=/shop; Domain=example.com; Max-Age=3600; HttpOnly; SameSite=None; Secure",
            token.as_str()
        );
        assert_eq!(full.value(&token, Scheme::Http), value);
        assert_eq!(full.ttl, HOUR);
        let strict = cookie(Some("sid"), |config| config.same_site = SameSite::Strict);
        let value = strict.value(&token, Scheme::Http);
        assert!(value.to_str().unwrap().ends_with("; SameSite=Strict"));
    }

    #[test]
    fn a_cookie_without_a_name_has_one_for_its_upstream() {
        let config = StickyCookie::default();
        let [products, orders] = ["products", "orders"].map(|name| Cookie::new(&config, name).name);
        assert_ne!(products, orders);
        assert!(
            products.starts_with("edgeway_") && products.len() == 16,
            "{products}"
        );
        assert_eq!(products, Cookie::new(&config, "products").name);
    }

    #[test]
    fn what_a_client_sends_back_is_found_and_read() {
        let cookie = cookie(None, |_| ());
        let token = token();
        let mut headers = HeaderMap::new();
        assert_eq!(cookie.find(&headers), None);
        let line = format!("a=1; {}={}; b=2", cookie.name, token.as_str());
        headers.insert(http::header::COOKIE, line.parse().unwrap());
        let text = cookie.find(&headers).unwrap();
        assert_eq!(id_in(text), Some(key().id("product-1:8080")));
    }
}
