//! Writes small databases in MaxMind's format (MaxMind DB File Format Specification 2.0), so that tests need
//! no real one.

use std::net::{IpAddr, Ipv4Addr};

/// A database of the countries of these networks, none of which may lie within another.
pub(crate) fn countries(networks: &[(&str, &str)]) -> Vec<u8> {
    let records = networks.iter().map(|(network, country)| {
        let country = map(&[("iso_code", text(country))]);
        (*network, map(&[("country", country)]))
    });
    database("Test-Country", records)
}

/// A database of the numbers of the systems that these networks belong to.
pub(crate) fn asns(networks: &[(&str, u32)]) -> Vec<u8> {
    let records = networks.iter().map(|(network, asn)| {
        let number = number(6, &asn.to_be_bytes());
        (*network, map(&[("autonomous_system_number", number)]))
    });
    database("Test-ASN", records)
}

fn database<'a>(kind: &str, records: impl Iterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let (mut tree, mut data) = (Tree(vec![[Branch::Nothing; 2]]), Vec::new());
    for (network, record) in records {
        tree.insert(network, data.len());
        data.extend(record);
    }
    let mut file = tree.write();
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let nodes = u32::try_from(tree.0.len()).unwrap();
    file.extend(map(&[
        (
            "binary_format_major_version",
            number(5, &2_u16.to_be_bytes()),
        ),
        ("binary_format_minor_version", number(5, &[])),
        ("build_epoch", number(9, &1_700_000_000_u64.to_be_bytes())),
        ("database_type", text(kind)),
        ("description", map(&[("en", text("a test"))])),
        ("ip_version", number(5, &6_u16.to_be_bytes())),
        ("languages", [head(11, 1), text("en")].concat()),
        ("node_count", number(6, &nodes.to_be_bytes())),
        ("record_size", number(5, &32_u16.to_be_bytes())),
    ]));
    file
}

#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    Data(usize),
}

/// A tree of the bits of addresses; IPv4 is below `::/96`.
struct Tree(Vec<[Branch; 2]>);

impl Tree {
    fn insert(&mut self, network: &str, place: usize) {
        let (address, length) = network.split_once('/').unwrap();
        let length: u32 = length.parse().unwrap();
        let (bits, length) = match address.parse().unwrap() {
            IpAddr::V4(address) => (u128::from(Ipv4Addr::to_bits(address)), length + 96),
            IpAddr::V6(address) => (address.to_bits(), length),
        };
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth == length - 1 {
                self.0[node][side] = Branch::Data(place);
                return;
            }
            node = match self.0[node][side] {
                Branch::Node(next) => next,
                Branch::Nothing => {
                    self.0.push([Branch::Nothing; 2]);
                    let next = self.0.len() - 1;
                    self.0[node][side] = Branch::Node(next);
                    next
                }
                Branch::Data(_) => panic!("{network} lies within another network"),
            };
        }
    }

    fn write(&self) -> Vec<u8> {
        let nodes = self.0.len();
        let record = |branch: &Branch| match *branch {
            Branch::Nothing => nodes,
            Branch::Node(node) => node,
            Branch::Data(place) => nodes + 16 + place,
        };
        let records = self.0.iter().flatten().map(record);
        records
            .flat_map(|number| u32::try_from(number).unwrap().to_be_bytes())
            .collect()
    }
}

fn head(kind: u8, size: usize) -> Vec<u8> {
    let (size, more) = match u8::try_from(size).unwrap() {
        size @ 0..29 => (size, None),
        size => (29, Some(size - 29)),
    };
    let mut head = match kind {
        1..=7 => vec![kind << 5 | size],
        _ => vec![size, kind - 7],
    };
    head.extend(more);
    head
}

fn text(text: &str) -> Vec<u8> {
    [head(2, text.len()), text.into()].concat()
}

fn number(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [head(kind, bytes.len()), bytes.into()].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .map(|(name, value)| [text(name), value.clone()].concat());
    let entries: Vec<_> = entries.collect();
    [head(7, entries.len()), entries.concat()].concat()
}
