//! Whom a limit counts: the client's address, or what a template makes of the request.
//!
//! A value that a request does not have (a header that was not sent) would be a way around the limit.
//! The client's address stands in for it.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    hash::{BuildHasher, Hasher as _},
    net::{IpAddr, Ipv6Addr},
};

use edgeway_sdk::{
    prelude::*,
    template::{Piece, Variable},
};

/// What a request is counted under.
#[derive(Debug)]
pub(crate) struct LimitKey {
    parts: Box<[Part]>,
    prefix: Ipv6Prefix,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Client,
    Value(Variable),
}

/// A part of the key of one request.
enum Found<'a> {
    Text(Cow<'a, str>),
    Client(IpAddr),
}

impl LimitKey {
    /// The key that this template makes, or the client's address alone. Of IPv6 addresses only the
    /// `prefix` counts, in the template as well.
    pub(crate) fn new(template: Option<Template>, prefix: Ipv6Prefix) -> Self {
        let client = Variable::parse_beside("client_ip", &[]).ok();
        let part = |piece: &Piece| match piece {
            Piece::Text(text) => Part::Text(text.clone()),
            Piece::Value(value) if Some(value) == client.as_ref() => Part::Client,
            Piece::Value(value) => Part::Value(value.clone()),
        };
        let parts = match template {
            Some(template) => template.pieces().iter().map(part).collect(),
            None => Box::from([Part::Client]),
        };
        Self { parts, prefix }
    }

    /// A number for the key of this request. Nobody can choose keys that share one as long as the
    /// `state` is random and kept to oneself.
    pub(crate) fn hash(&self, request: &Request<'_>, state: &impl BuildHasher) -> u64 {
        let mut hasher = state.build_hasher();
        self.feed(request, |bytes| hasher.write(bytes));
        hasher.finish()
    }

    /// The key of this request in bytes that are the same in every gateway, and of no other key.
    pub(crate) fn bytes(&self, request: &Request<'_>) -> Vec<u8> {
        let mut all = Vec::with_capacity(64);
        self.feed(request, |bytes| all.extend_from_slice(bytes));
        all
    }

    /// The key of this request as the operator reads it: `192.0.2.1`, `2001:db8::/64`, `acme/orders`. Of what
    /// may be a secret only the beginning is shown.
    pub(crate) fn text(&self, request: &Request<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            // Writing to a string does not fail.
            match self.found(part, request) {
                Found::Text(value) if part.may_be_secret() => text.push_str(&shortened(&value)),
                Found::Text(value) => text.push_str(&value),
                Found::Client(IpAddr::V6(address)) if self.prefix.0 < 128 => {
                    write!(text, "{address}/{}", self.prefix.0).ok();
                }
                Found::Client(address) => {
                    write!(text, "{address}").ok();
                }
            }
        }
        text
    }

    /// Each part with its kind and its end, so that different keys never look alike.
    fn feed(&self, request: &Request<'_>, mut take: impl FnMut(&[u8])) {
        for part in &self.parts {
            match self.found(part, request) {
                Found::Text(value) => {
                    take(value.as_bytes());
                    // No text has this byte.
                    take(&[0xff]);
                }
                Found::Client(IpAddr::V4(address)) => {
                    take(&[0xfe, 4]);
                    take(&address.octets());
                }
                Found::Client(IpAddr::V6(address)) => {
                    take(&[0xfe, 6]);
                    take(&address.octets());
                }
            }
        }
    }

    fn found<'a>(&'a self, part: &'a Part, request: &'a Request<'_>) -> Found<'a> {
        let value = match part {
            Part::Text(text) => Some(Cow::Borrowed(text.as_str())),
            Part::Client => None,
            Part::Value(variable) => variable.value(request).filter(|value| !value.is_empty()),
        };
        match value {
            Some(value) => Found::Text(value),
            None => Found::Client(self.prefix.network(request.client())),
        }
    }
}

impl Part {
    fn may_be_secret(&self) -> bool {
        match self {
            Self::Value(variable) => variable.is_sent(),
            Self::Text(_) | Self::Client => false,
        }
    }
}

/// A value of which nobody learns who reads it in a log, unless it is too short to be a secret.
fn shortened(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHORT) {
        None => Cow::Borrowed(value),
        Some(_) => Cow::Owned(value.chars().take(SHOWN).chain(['\u{2026}']).collect()),
    }
}

/// How much of an IPv6 address tells clients apart: whoever has one address of a network has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub(crate) struct Ipv6Prefix(u8);

impl Ipv6Prefix {
    fn network(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let mask = u128::MAX << (128 - u32::from(self.0));
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
            address @ IpAddr::V4(_) => address,
        }
    }
}

impl Default for Ipv6Prefix {
    fn default() -> Self {
        Self(64)
    }
}

impl TryFrom<u8> for Ipv6Prefix {
    type Error = String;

    fn try_from(bits: u8) -> Result<Self, String> {
        match bits {
            1..=128 => Ok(Self(bits)),
            _ => Err(format!(
                "expected a number of bits from 1 to 128, found {bits}"
            )),
        }
    }
}

impl fmt::Display for Ipv6Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is no longer than this is no secret.
const SHORT: usize = 12;
/// The characters of a longer value that are shown.
const SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ahash::RandomState;
    use edgeway_sdk::Exchange;
    use http::request;

    use super::*;

    fn key(template: &str) -> LimitKey {
        LimitKey::new(Some(template.parse().unwrap()), Ipv6Prefix::default())
    }

    /// A request of this client with this header `x-tenant`.
    fn asked(client: &str, tenant: Option<&str>) -> (request::Parts, Exchange) {
        let mut request = http::Request::get("/orders?page=2");
        if let Some(tenant) = tenant {
            request = request.header("x-tenant", tenant);
        }
        let client: IpAddr = client.parse().unwrap();
        let exchange = Exchange::new(SocketAddr::new(client, 40_000));
        (request.body(()).unwrap().into_parts().0, exchange)
    }

    fn text(key: &LimitKey, client: &str, tenant: Option<&str>) -> String {
        let (mut head, mut exchange) = asked(client, tenant);
        key.text(&Request::new(&mut head, &mut exchange))
    }

    fn is_same(key: &LimitKey, one: (&str, Option<&str>), other: (&str, Option<&str>)) -> bool {
        let state = RandomState::with_seeds(1, 2, 3, 4);
        let [one, other] = [one, other].map(|(client, tenant)| {
            let (mut head, mut exchange) = asked(client, tenant);
            let request = Request::new(&mut head, &mut exchange);
            (key.hash(&request, &state), key.bytes(&request))
        });
        assert_eq!(one.0 == other.0, one.1 == other.1);
        one == other
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_an_ipv4_client_its_address() {
        let key = LimitKey::new(None, Ipv6Prefix::default());
        let same = |one, other| is_same(&key, (one, None), (other, None));
        assert!(same("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::"));
        assert!(!same("2001:db8:1:2::", "2001:db8:1:3::"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert_eq!(text(&key, "2001:db8:1:2:3::4", None), "2001:db8:1:2::/64");
        assert_eq!(text(&key, "::ffff:192.0.2.1", None), "192.0.2.1");
    }

    #[test]
    fn the_prefix_says_how_much_of_an_ipv6_address_counts() {
        let key = |bits| LimitKey::new(None, Ipv6Prefix(bits));
        assert_eq!(text(&key(48), "2001:db8:1:2::9", None), "2001:db8:1::/48");
        assert_eq!(text(&key(128), "2001:db8:1:2::9", None), "2001:db8:1:2::9");
        assert_eq!(text(&key(1), "2001:db8::", None), "::/1");
        for wrong in ["0", "129", "-1", "\"64\""] {
            assert!(
                serde_json::from_str::<Ipv6Prefix>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_a_request_does_not_have_is_the_clients_address() {
        let key = key("{header.x-tenant}");
        assert_eq!(text(&key, "192.0.2.1", Some("acme")), "acme");
        for missing in [None, Some("")] {
            assert_eq!(text(&key, "192.0.2.1", missing), "192.0.2.1");
            assert!(!is_same(
                &key,
                ("192.0.2.1", missing),
                ("192.0.2.2", missing)
            ));
        }
        // Nor can a client take another one's place by naming its address.
        assert!(!is_same(
            &key,
            ("192.0.2.1", None),
            ("192.0.2.2", Some("192.0.2.1"))
        ));
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let key = key("{header.x-tenant}");
        assert_eq!(
            text(&key, "192.0.2.1", Some("acme-holding")),
            "acme-holding"
        );
        let secret = Some("sk_live_0123456789");
        assert_eq!(text(&key, "192.0.2.1", secret), "sk_l\u{2026}");
        let path = LimitKey::new(Some("{path}".parse().unwrap()), Ipv6Prefix(64));
        assert_eq!(text(&path, "192.0.2.1", secret), "/orders");
    }

    #[test]
    fn a_key_of_several_parts_tells_them_apart() {
        let key = key("{header.x-tenant}{path}{client_ip}");
        assert_eq!(
            text(&key, "2001:db8::1", Some("acme")),
            "acme/orders2001:db8::/64"
        );
        let (one, other) = (Some("acme"), Some("acme/orders"));
        assert!(!is_same(&key, ("192.0.2.1", one), ("192.0.2.1", other)));
        assert!(is_same(&key, ("192.0.2.1", one), ("192.0.2.1", one)));
    }
}
