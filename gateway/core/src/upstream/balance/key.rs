//! Numbers for what requests are told apart by.

use std::net::IpAddr;

use edgeway_sdk::{
    Template,
    template::{Piece, Source},
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A number for these bytes, the same in each process and release (XXH3): gateways side by side send a key
/// to the same endpoint.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The hash of a key of several parts, which are not put together for it.
///
/// Where a part ends matters: `ab`, `c` is another key than `a`, `bc`. A single part gives its [`hash`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Key(u64);

impl Key {
    /// Adds a part, which may be empty.
    pub(crate) fn write(&mut self, part: &[u8]) {
        self.0 = xxh3_64_with_seed(part, self.0);
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

/// The key that the values of this request make in a template; none if it has none of them. No text is
/// written for it.
pub(crate) fn of_values(template: &Template, source: &impl Source) -> Option<u64> {
    let mut key = Key::default();
    let mut found = false;
    for piece in template.pieces() {
        if let Piece::Value(variable) = piece {
            let value = variable.value(source).unwrap_or_default();
            found |= !value.is_empty();
            key.write(value.as_bytes());
        }
    }
    found.then(|| key.finish())
}

/// The key of a client. A network of IPv6 is one client: who has an address there has them all.
pub(crate) fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::Exchange;

    use super::*;

    fn key(parts: &[&str]) -> u64 {
        let mut key = Key::default();
        parts.iter().for_each(|part| key.write(part.as_bytes()));
        key.finish()
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(b"203.0.113.7"), 6_502_167_830_794_959_396);
        assert_eq!(key(&["203.0.113.7", "/cart"]), 5_525_392_271_556_572_111);
    }

    #[test]
    fn parts_are_told_apart() {
        assert_eq!(key(&["abc"]), hash(b"abc"));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
    }

    fn key_of(template: &str, headers: &[(&str, &str)]) -> Option<u64> {
        let mut request = http::Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let exchange = Exchange::new(([10, 0, 0, 7], 4242).into());
        of_values(&template.parse().unwrap(), &(&head, &exchange))
    }

    #[test]
    fn requests_have_a_key_if_they_have_a_value() {
        let user = "u-{header.x-user}";
        assert_eq!(key_of(user, &[]), None);
        assert_eq!(key_of(user, &[("x-user", "")]), None);
        let ann = key_of(user, &[("x-user", "ann")]);
        assert!(ann.is_some());
        assert_eq!(ann, key_of(user, &[("x-user", "ann"), ("x-other", "1")]));
        assert_ne!(ann, key_of(user, &[("x-user", "bob")]));
        let two = "{header.a}{header.b}";
        assert!(key_of(two, &[("b", "x")]).is_some());
        assert_ne!(key_of(two, &[("b", "x")]), key_of(two, &[("a", "x")]));
        assert_ne!(
            key_of(two, &[("a", "x"), ("b", "yz")]),
            key_of(two, &[("a", "xy"), ("b", "z")])
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let key = |text: &str| of_address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::2:3:4:5"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
