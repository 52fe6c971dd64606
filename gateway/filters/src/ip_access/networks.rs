//! Sets of addresses, fast to look up however many there are.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::watched::{self, Content, Wrong};

/// An address, or all that begin with the same bits: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
///
/// IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct Network(IpNet);

impl TryFrom<Cow<'_, str>> for Network {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| {
                format!("expected an address or a network such as `10.0.0.0/8`, found `{text}`")
            })?,
        };
        // Whoever writes 10.1.2.3/8 means one of two things, which differ by sixteen million addresses.
        if network.trunc() != network {
            let (all, one) = (network.trunc(), network.addr());
            return Err(format!("expected `{all}` or `{one}`, found `{text}`"));
        }
        Ok(Self(canonical(network)))
    }
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6.addr().to_ipv4_mapped();
    let length = v6.prefix_len().checked_sub(96);
    match v4.zip(length) {
        Some((address, length)) => IpNet::new(address.into(), length).unwrap_or(network),
        None => network,
    }
}

/// A set of addresses.
#[derive(Debug, Default)]
pub(super) struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// Ranges in order, none of which touches the next.
#[derive(Debug)]
struct Ranges<T>(Box<[(T, T)]>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network(network) in networks {
            match network {
                IpNet::V4(network) => {
                    v4.push((network.network().to_bits(), network.broadcast().to_bits()));
                }
                IpNet::V6(network) => {
                    v6.push((network.network().to_bits(), network.broadcast().to_bits()));
                }
            }
        }
        Self {
            v4: Ranges::new(v4, |end| end.checked_add(1)),
            v6: Ranges::new(v6, |end| end.checked_add(1)),
        }
    }
}

impl Networks {
    /// Whether this address is in the set. IPv4 that came over an IPv6 socket is IPv4.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(Ipv4Addr::to_bits(address)),
            IpAddr::V6(address) => self.v6.contains(Ipv6Addr::to_bits(address)),
        }
    }
}

impl<T: Ord + Copy> Ranges<T> {
    fn new(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if after(*end).is_none_or(|next| first <= next) => {
                    *end = last.max(*end);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    fn contains(&self, address: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= address);
        let before = after.checked_sub(1).and_then(|place| self.0.get(place));
        before.is_some_and(|(_, last)| address <= *last)
    }
}

/// A file with a network on each line, and perhaps a comment behind it that begins with `#` or `;`.
impl Content for Networks {
    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let networks = watched::lines(&bytes)?.filter_map(|(number, line)| {
            let written = line.split(['#', ';']).next().unwrap_or_default().trim();
            // A line may be a comment of the other kind.
            let parse = || {
                written
                    .parse::<Network>()
                    .map_err(|error| Wrong::line(number, error))
            };
            (!written.is_empty()).then(parse)
        });
        networks.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn networks(list: &[&str]) -> Networks {
        list.iter()
            .map(|text| text.parse::<Network>().unwrap())
            .collect()
    }

    #[test]
    fn an_address_is_in_a_set_or_not() {
        let set = networks(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7",
            "192.0.2.8/31",
            "255.255.255.255",
            "2001:db8::/32",
            "::1",
            "::ffff:198.51.100.0/120",
        ]);
        for (address, is_in) in [
            ("10.0.0.0", true),
            ("10.1.2.3", true),
            ("10.255.255.255", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.6", false),
            ("192.0.2.7", true),
            ("192.0.2.9", true),
            ("192.0.2.10", false),
            ("255.255.255.255", true),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.0.0.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::2", false),
            ("198.51.100.255", true),
            ("198.51.101.0", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), is_in, "{address}");
        }
        assert_eq!(set.v4.0.len(), 4, "what touches is one");
        assert!(!Networks::default().contains([0, 0, 0, 0].into()));
        let all = networks(&["0.0.0.0/0", "::/0"]);
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff::ffff"] {
            assert!(all.contains(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_may_be_meant() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "example.com",
            "10.0.0.1-10.0.0.9",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert_eq!(
            error,
            "expected `10.0.0.0/8` or `10.1.2.3`, found `10.1.2.3/8`"
        );
    }

    #[test]
    fn a_file_has_a_network_a_line() {
        let text = "# offices\n10.0.0.0/8 # Bonn\n; and\n\n192.0.2.7;home\n";
        let set = Networks::parse(text.into()).unwrap();
        assert!(set.contains([10, 1, 1, 1].into()) && set.contains([192, 0, 2, 7].into()));
        let wrong = Networks::parse("10.0.0.0/8\nx\n".into()).unwrap_err();
        let expected = "expected an address or a network such as `10.0.0.0/8`, found `x`";
        assert_eq!(wrong, Wrong::line(2, expected));
    }

    #[test]
    fn many_networks_cost_no_more_than_a_few() {
        // Every other /24 of 10.0.0.0 and beyond, so that nothing merges.
        let many = (0..100_000_u32).map(|number| {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + (number << 9));
            format!("{address}/24").parse::<Network>().unwrap()
        });
        let set: Networks = many.collect();
        assert_eq!(set.v4.0.len(), 100_000);
        let start = Instant::now();
        let found = (0..200_000_u32)
            .filter(|number| set.contains(Ipv4Addr::from_bits(0x0a00_0000 + (number << 8)).into()))
            .count();
        assert_eq!(found, 100_000);
        // 17 comparisons each; a walk over the list would take minutes.
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}
