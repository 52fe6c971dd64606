use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::Deserialize;
use serde::de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer};

use super::{At, Entries, Named, NodeRef, read_with, rounds, salvage};
use crate::config::diagnostic::{Look, Problems};
use crate::config::document::{Document, NodeId};

#[derive(Debug, Deserialize, PartialEq)]
struct Listener {
    bind: String,
    #[serde(default)]
    backlog: Option<u16>,
    #[serde(default)]
    tls: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Balance {
    RoundRobin,
    LeastConnections,
    Hash {
        header: String,
        #[serde(default)]
        replicas: Option<NonZeroU16>,
    },
    Weighted(#[expect(dead_code, reason = "only whether it can be read matters")] Vec<u8>),
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Rate(u32);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text
            .strip_suffix("/s")
            .and_then(|number| number.parse().ok());
        number
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a rate like `10/s`"))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Root {
    listeners: BTreeMap<At<String>, Listener>,
    balance: Option<Balance>,
    rates: Vec<Rate>,
    timeout: Option<f64>,
    pair: Option<(String, u16)>,
    address: Option<IpAddr>,
    secret: Option<Rate>,
    keys: Vec<u16>,
}

/// The value of a node, if there is no error in it.
fn read<T: DeserializeOwned>(
    document: &Document,
    node: impl Into<NodeRef>,
    problems: &mut Problems,
) -> Option<T> {
    let outcome = rounds(document, node.into(), problems, |node| T::deserialize(node));
    outcome.value.filter(|_| outcome.clean)
}

/// What [`read`] says of a text, and what it makes of it.
fn reading<T: DeserializeOwned>(text: &str) -> (Option<T>, String) {
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", text, &mut problems);
    let before = problems.errors();
    let value = read(&document, document.root(), &mut problems);
    assert_eq!(
        value.is_some(),
        problems.errors() == before,
        "a value comes without errors"
    );
    (value, problems.render(&document, Look::Plain))
}

fn complaints<T: DeserializeOwned>(text: &str) -> String {
    reading::<T>(text).1
}

/// The first line of every complaint, with its line and column.
fn summary<T: DeserializeOwned>(text: &str) -> Vec<String> {
    summarized(&complaints::<T>(text))
}

fn summarized(rendered: &str) -> Vec<String> {
    let mut lines = rendered.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(message) = line.strip_prefix("error: ") {
            let place = lines
                .next()
                .unwrap_or_default()
                .trim()
                .trim_start_matches("--> e.yaml:");
            found.push(format!("{place} {message}"));
        }
    }
    found
}

#[test]
fn a_right_text_becomes_its_value() {
    let (value, said) = reading::<Root>(
        "listeners: { http: { bind: 80, backlog: 5, tls: true } }\n\
         balance: { hash: { header: x, replicas: 3 } }\n\
         rates: [1/s]\ntimeout: 5\npair: [yes, 7]\naddress: \"::1\"\n",
    );
    assert_eq!(said, "");
    let value = value.unwrap();
    assert_eq!(
        value.listeners["http"],
        Listener {
            bind: "80".to_owned(),
            backlog: Some(5),
            tls: true
        }
    );
    let Some(Balance::Hash { header, replicas }) = value.balance else {
        panic!("not a hash")
    };
    assert_eq!(
        (header.as_str(), replicas.map(NonZeroU16::get)),
        ("x", Some(3))
    );
    assert_eq!((value.rates[0].0, value.timeout), (1, Some(5.0)));
    assert_eq!(value.pair, Some(("yes".to_owned(), 7)));
    assert_eq!(value.address, Some("::1".parse().unwrap()));
}

#[test]
fn a_problem_is_told_with_place_mark_path_and_remedy() {
    let said = complaints::<Root>("listeners:\n  http:\n    bnd: \"0.0.0.0:80\"\n");
    let golden = "\
error: unknown key `bnd`
 --> e.yaml:3:5
  |
3 |     bnd: \"0.0.0.0:80\"
  |     ^^^
  |
  = at: listeners.http.bnd
  = help: did you mean `bind`?

";
    assert_eq!(said, golden);
}

#[test]
fn all_problems_of_a_file_are_told_in_one_run() {
    let text = "\
listeners:
  a: { bind: x, backlog: 70000, tls: yes }
  b: { backlog: -1, port: 80 }
balance: round-robin
rates: [1/s, 2/m, 3/s, [4/s]]
timeout: \"5\"
pair: [a, b]
address: localhost
colour: red
";
    assert_eq!(
        summary::<Root>(text),
        [
            "2:26 expected an integer from 0 to 65535, found the number `70000`",
            "2:38 expected `true` or `false`, found the string `yes`",
            "3:3 missing key `bind`",
            "3:17 expected an integer from 0 to 65535, found the number `-1`",
            "3:21 unknown key `port`",
            "4:10 unknown value `round-robin`",
            "5:14 `2/m` is not a rate like `10/s`",
            "5:24 expected a string, found a list",
            "6:10 expected a number, found the string `5`",
            "7:11 expected an integer from 0 to 65535, found the string `b`",
            "8:10 invalid IP address syntax",
            "9:1 unknown key `colour`",
        ]
    );
}

#[test]
fn what_is_wrong_is_said_in_words_of_yaml() {
    for (text, first) in [
        ("listeners: [a]", "1:12 expected a map, found a list"),
        ("listeners: { a: [x] }", "1:17 expected a map, found a list"),
        (
            "listeners: { a: x }",
            "1:17 expected a map, found the string `x`",
        ),
        ("listeners: { a: }", "1:14 missing key `bind`"),
        (
            "listeners: { a: { bind: ~ } }",
            "1:25 expected a string, found nothing",
        ),
        (
            "listeners: { a: { bind: } }",
            "1:19 expected a string, found nothing",
        ),
        ("rates:", "1:1 expected a list, found nothing"),
        ("rates: 1/s", "1:8 expected a list, found the string `1/s`"),
        ("timeout: {}", "1:10 expected a number, found a map"),
        (
            "pair: [a, 1, 2]",
            "1:7 expected a list of 2 elements, found 3",
        ),
        ("pair: [a]", "1:7 expected a list of 2 elements, found 1"),
        (
            "balance: []",
            "1:10 expected one of `round_robin`, `least_connections`, `hash`, `weighted`, found a list",
        ),
        (
            "balance: { round_robin: 1 }",
            "1:25 this word takes no value",
        ),
        ("balance: weighted", "1:10 `weighted` needs a value: a list"),
        ("balance: { weightd: [] }", "1:12 unknown key `weightd`"),
        (
            "balance: { weighted: [256] }",
            "1:23 expected an integer from 0 to 255, found the number `256`",
        ),
        (
            "balance: { hash: { header: x, replicas: 0 } }",
            "1:41 expected an integer from 1 to 65535, found the number `0`",
        ),
        ("balance: hash", "1:1 missing key `header`"),
        (
            "keys: [99999999999999999999]",
            "1:8 expected an integer from 0 to 65535, found a secret",
        ),
    ] {
        assert_eq!(summary::<Root>(text), [first], "{text}");
    }
}

#[test]
fn a_remedy_is_named_for_the_usual_mistakes() {
    for (text, help) in [
        ("listeners: { a: { bind: x, tls: yes } }", "write `true`"),
        (
            "listeners: { a: { bind: x, tls: 'true' } }",
            "remove the quotes",
        ),
        ("timeout: '5'", "remove the quotes"),
        ("rates: 1/s", "write `[1/s]`"),
        ("rates:", "write `[]` for an empty list, or remove the key"),
        (
            "listeners: { a: { bind: null } }",
            "write `\"null\"` if this word is meant",
        ),
        ("balance: { round_robin: 1 }", "write the word alone"),
        (
            "balance:\n  hash:\n  header: x",
            "indent the lines below `hash:` so that they belong to it",
        ),
        ("Listeners: {}", "did you mean `listeners`?"),
        (
            "balance: LeastConnections",
            "did you mean `least_connections`?",
        ),
        (
            "balance: x",
            "expected one of `round_robin`, `least_connections`, `hash`, `weighted`",
        ),
    ] {
        let said = complaints::<Root>(text);
        assert!(
            said.contains(&format!("= help: {help}\n")),
            "{text}\n{said}"
        );
    }
}

#[test]
fn a_secret_is_shown_neither_in_the_line_nor_in_the_message() {
    let said = complaints::<Root>("{ keys: [hunter2, 1], secret: swordfish, rates: [x] }");
    assert!(
        !said.contains("hunter2") && !said.contains("swordfish"),
        "{said}"
    );
    assert!(said.contains("`***` is not a rate"), "{said}");
    assert!(
        said.contains("e.yaml:1:50\n"),
        "the column is that of the file\n{said}"
    );
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Pairs {
    one: u8,
    two: String,
    three: Listener,
    four: bool,
}

#[test]
fn every_missing_key_is_told() {
    assert_eq!(
        summary::<BTreeMap<String, Pairs>>(
            "a: {}\nb: { two: x, three: { bind: y } }\nc: { one: z }"
        ),
        [
            "1:1 missing key `one`",
            "1:1 missing key `two`",
            "1:1 missing key `three`",
            "2:1 missing key `one`",
            "2:1 missing key `four`",
            "3:1 missing key `two`",
            "3:1 missing key `three`",
            "3:11 expected an integer from 0 to 255, found the string `z`",
        ]
    );
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Between")]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Ordered(Between);

#[derive(Debug, Deserialize)]
struct Between {
    #[serde(default)]
    low: u8,
    high: u8,
}

impl TryFrom<Between> for Ordered {
    type Error = &'static str;

    fn try_from(range: Between) -> Result<Self, Self::Error> {
        if range.low > range.high {
            Err("`low` is above `high`")
        } else {
            Ok(Self(range))
        }
    }
}

#[test]
fn a_check_of_the_whole_is_made_only_if_its_parts_are_right() {
    assert_eq!(
        summary::<Vec1>("list: [{ low: 3, high: 2 }]"),
        ["1:8 `low` is above `high`"]
    );
    assert_eq!(
        summary::<Vec1>("list: [{ low: 3, high: x }, { low: x, high: 1 }, { low: 2, hihg: 3 }]"),
        [
            "1:24 expected an integer from 0 to 255, found the string `x`",
            "1:36 expected an integer from 0 to 255, found the string `x`",
            "1:60 unknown key `hihg`",
        ]
    );
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Vec1 {
    list: Vec<Ordered>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Tenants {
    #[serde(alias = "permit")]
    allow: HashSet<String>,
    #[serde(default)]
    limits: HashMap<String, u16>,
}

/// What a stranger's filter says of its configuration, read without our knowing its type.
fn strangers(text: &str) -> Vec<String> {
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", text, &mut problems);
    let node = document
        .entry(document.root(), "tenants")
        .map(|(_, value)| value)
        .unwrap();
    let read = read_with(&document, node, &mut problems, &mut |deserializer| {
        erased_serde::deserialize::<Tenants>(deserializer)
    });
    assert_eq!(read.is_none(), problems.has_errors());
    summarized(&problems.render(&document, Look::Plain))
}

#[test]
fn a_strangers_filter_gets_located_errors_without_work() {
    assert!(strangers("tenants: { allow: [acme], limits: { a: 1 } }").is_empty());
    assert!(strangers("tenants: { permit: [acme] }").is_empty());
    assert_eq!(
        strangers("tenants:\n  alow: [acme]\n  limits: { a: x, b: 70000, c: 3 }\n"),
        [
            "2:3 unknown key `alow`",
            "3:16 expected an integer from 0 to 65535, found the string `x`",
            "3:22 expected an integer from 0 to 65535, found the number `70000`",
        ]
    );
    assert_eq!(
        strangers("tenants: { limits: {} }"),
        ["1:1 missing key `allow`"]
    );
    assert_eq!(strangers("tenants:"), ["1:1 missing key `allow`"]);
    assert_eq!(
        strangers("tenants: [a]"),
        ["1:10 expected a map, found a list"]
    );
    assert_eq!(
        strangers("tenants: { allow: [[a], {}] }"),
        [
            "1:20 expected a string, found a list",
            "1:25 expected a string, found a map"
        ]
    );
}

#[test]
fn a_word_alone_configures_an_empty_map() {
    #[derive(Debug, Deserialize)]
    struct Defaults {
        #[serde(default)]
        number: u8,
    }

    let mut problems = Problems::default();
    let document = Document::from_text(
        "e.yaml",
        "filters: [plain, full: { number: 3 }]",
        &mut problems,
    );
    let filters = document.entry(document.root(), "filters").unwrap().1;
    let filters: Vec<Named> = read(&document, filters, &mut problems).unwrap();
    let names: Vec<_> = filters
        .iter()
        .map(|filter| filter.name.value.as_str())
        .collect();
    let numbers: Vec<_> = filters
        .iter()
        .map(|filter| {
            read::<Defaults>(&document, filter.value, &mut problems)
                .unwrap()
                .number
        })
        .collect();
    assert_eq!((names, numbers), (vec!["plain", "full"], vec![0, 3]));
    let none: Option<Tenants> = read(&document, filters[0].value, &mut problems);
    assert!(none.is_none());
    let said = problems.render(&document, Look::Plain);
    assert_eq!(summarized(&said), ["1:11 missing key `allow`"]);
}

#[test]
fn a_filter_is_a_word_or_a_map_of_one_key() {
    for (text, message) in [
        (
            "[[a]]",
            "1:9 expected a name, or a map of one name to its options, found a list",
        ),
        (
            "[~]",
            "1:9 expected a name, or a map of one name to its options, found nothing",
        ),
        ("[{}]", "1:9 expected one name, found a map with 0 keys"),
        (
            "[{ jwt: , keys: x }]",
            "1:9 expected one name, found a map with 2 keys",
        ),
    ] {
        assert_eq!(
            summary::<HashMap<String, Vec<Named>>>(&format!("names: {text}")),
            [message]
        );
    }
}

#[test]
fn a_place_is_kept_with_a_value_and_with_a_key() {
    #[derive(Deserialize)]
    struct Placed {
        plain: At<u16>,
        maybe: Option<At<String>>,
        list: Vec<At<String>>,
        ordered: Entries<u8>,
        later: NodeRef,
    }

    let text = "plain: 5\nmaybe: x\nlist: [a, b]\nordered: { z: 1, a: 2 }\nlater: { x: [} }";
    let text = text.replace("[}", "[]");
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", &text, &mut problems);
    let placed: Placed = read(&document, document.root(), &mut problems).unwrap();
    let path = |node: NodeId| document.path(node).unwrap();
    assert_eq!(
        (placed.plain.value, path(placed.plain.node)),
        (5, "plain".to_owned())
    );
    assert_eq!(path(placed.maybe.unwrap().node), "maybe");
    assert_eq!(path(placed.list[1].node), "list[1]");
    let ordered: Vec<_> = placed
        .ordered
        .iter()
        .map(|(name, number)| (name.value.as_str(), *number))
        .collect();
    assert_eq!(ordered, [("z", 1), ("a", 2)]);
    assert_eq!(path(placed.later.node), "later");
}

#[test]
fn text_is_borrowed_from_the_document() {
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", "a: hello", &mut problems);
    let reading = super::Reading::new(&document);
    let root = super::NodeDeserializer::new(&reading, document.root());
    let map: HashMap<&str, &str> = Deserialize::deserialize(root).unwrap();
    assert_eq!(map["a"], "hello");
}

#[test]
fn what_serde_buffers_is_refused_at_the_whole_value() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    enum Endpoint {
        Short(String),
        Long { address: String, weight: u16 },
    }

    let text = "a: x\nb: { address: y, weight: 1 }\nc: { address: y, weight: heavy }\nd: [1]";
    let told = "this is written in none of the ways that are known here";
    assert_eq!(
        summary::<HashMap<String, Endpoint>>(text),
        [format!("3:4 {told}"), format!("4:4 {told}")]
    );
}

/// A text, or a map: the pattern of serde's own documentation.
#[derive(Debug)]
struct TextOrMap;

impl<'de> Deserialize<'de> for TextOrMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TextOrMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a map")
            }

            fn visit_str<E>(self, _: &str) -> Result<TextOrMap, E> {
                Ok(TextOrMap)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextOrMap, A::Error> {
                Between::deserialize(MapAccessDeserializer::new(map)).map(|_| TextOrMap)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[test]
fn a_key_that_is_skipped_without_a_word_is_reported() {
    assert_eq!(
        summary::<HashMap<String, TextOrMap>>(
            "a: x\nb: { high: 3, hihg: 4 }\nc: { higj: 3 }\nd: { low: x, lw: 1 }\ne: 5\n"
        ),
        [
            "2:15 unknown key `hihg`",
            "3:6 unknown key `higj`",
            "4:1 missing key `high`",
            "4:11 expected an integer from 0 to 255, found the string `x`",
            "4:14 unknown key `lw`",
            "5:4 expected a text or a map, found the number `5`",
        ]
    );
}

#[test]
fn a_part_that_is_wrong_is_left_out_of_what_is_salvaged() {
    let mut problems = Problems::default();
    let text = "listeners: { a: { bind: x }, b: {}, c: { bind: [] } }\nrates: [1/s, x]";
    let document = Document::from_text("e.yaml", text, &mut problems);
    let root: Root = salvage(&document, document.root(), &mut problems).unwrap();
    assert_eq!(problems.errors(), 3);
    assert_eq!(
        root.listeners
            .keys()
            .map(|name| name.value.as_str())
            .collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(root.rates.len(), 1);
}

#[test]
fn a_type_that_swallows_an_error_is_not_blamed_for_it() {
    #[derive(Debug, Default)]
    struct Lenient;

    impl<'de> Deserialize<'de> for Lenient {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(u8::deserialize(deserializer)
                .map(|_| Self)
                .unwrap_or_default())
        }
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Both {
        a: Lenient,
        b: u16,
    }

    assert!(summary::<Both>("{ a: x, b: 1 }").is_empty());
    assert_eq!(
        summary::<Both>("{ a: x, b: y }"),
        ["1:12 expected an integer from 0 to 65535, found the string `y`"]
    );
}

#[test]
fn a_value_used_twice_is_blamed_once() {
    let text = "a: &x { bind: 1, backlog: y }\nb: *x\nc: { <<: *x, backlog: 2 }";
    assert_eq!(
        summary::<HashMap<String, Listener>>(text),
        ["1:27 expected an integer from 0 to 65535, found the string `y`"]
    );
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Nested {
    #[serde(default)]
    inner: Option<Box<Self>>,
    #[serde(default)]
    list: Vec<Self>,
}

#[test]
fn the_deepest_document_fits_the_stack() {
    for (open, levels) in [
        ("{ inner: ", 1),
        ("{ list: [", 2),
        ("{ list: [{ inner: ", 3),
    ] {
        for depth in [1, 20, 42, 43, 64, 65, 128, 129, 500] {
            let mut text = open.repeat(depth);
            let closing: String = text.chars().rev().filter_map(closing).collect();
            text.push_str(&closing);
            let mut problems = Problems::default();
            let document = Document::from_text("e.yaml", &text, &mut problems);
            let root = document.root();
            let read: Option<Nested> = read_with(&document, root, &mut problems, &mut |node| {
                erased_serde::deserialize(node)
            });
            let fits = levels * depth <= 128;
            assert_eq!(
                (read.is_some(), problems.has_errors()),
                (fits || !document.is_complete(), !fits)
            );
        }
    }
}

fn closing(open: char) -> Option<char> {
    match open {
        '{' => Some('}'),
        '[' => Some(']'),
        _ => None,
    }
}

#[test]
fn a_file_of_errors_comes_to_an_end() {
    let list: String = (0..1000).map(|number| format!("  - x{number}\n")).collect();
    let said = complaints::<Root>(&format!("keys:\n{list}"));
    assert!(said.ends_with("... and 100 more problems\n"), "{said}");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let sample = "# é\nlisteners: &l\n  http: { bind: \"0.0.0.0:80\", backlog: 5, tls: true }\n\
        \x20 b: { <<: *l }\nbalance: { hash: { header: 'x', replicas: 3 } }\nrates:\n  - 1/s\n  - |\n    2/s\n\
        timeout: 1.5\npair: [a, 1]\nsecret: hunter2 # c\nkeys: [1, ~, !!str 2]\n";
    let pieces = [
        "\t",
        "é",
        "\u{1F980}",
        "[",
        "}",
        "\"",
        "'",
        ": ",
        "\n",
        "- ",
        "&a ",
        "*a",
        "<<: *l\n",
        "|\n",
        "!!int ",
        "---\n",
        "\r\n",
        "\u{FEFF}",
        "? ",
        "#",
        "\0",
        "%",
        "",
    ];
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).unwrap()
    };
    for _ in 0..4000 {
        let mut text: Vec<char> = sample.chars().collect();
        for _ in 0..=below(4) {
            let start = below(text.len());
            let end = (start + below(4)).min(text.len());
            text.splice(start..end, pieces[below(pieces.len())].chars());
        }
        complaints::<Root>(&text.into_iter().collect::<String>());
    }
}
