use std::fs;
use std::path::Path;

use super::{Document, Kind, NodeId};
use crate::config::diagnostic::{Look, Problems};

/// A document as text again, with what was said of it.
fn parsed(text: &str) -> (String, String) {
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", text, &mut problems);
    (
        written(&document, document.root()),
        problems.render(&document, Look::Plain),
    )
}

fn written(document: &Document, node: NodeId) -> String {
    match document.kind(node) {
        Kind::Scalar(scalar) => scalar.text().to_owned(),
        Kind::Sequence(elements) => {
            let parts: Vec<_> = elements
                .iter()
                .map(|node| written(document, *node))
                .collect();
            format!("[{}]", parts.join(","))
        }
        Kind::Mapping(entries) => {
            let entry = |(key, value): &(NodeId, NodeId)| {
                format!("{}:{}", written(document, *key), written(document, *value))
            };
            format!(
                "{{{}}}",
                entries.iter().map(entry).collect::<Vec<_>>().join(",")
            )
        }
    }
}

/// Places and messages, without the excerpts.
fn heads(said: &str) -> Vec<String> {
    let lines: Vec<_> = said.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| {
            let message = pair[0].strip_prefix("error: ")?;
            let place = pair[1].trim().strip_prefix("--> ");
            Some(place.map_or_else(|| message.to_owned(), |place| format!("{place} {message}")))
        })
        .collect()
}

#[test]
fn a_document_keeps_the_order_of_the_file() {
    let (tree, said) = parsed("b: 1\na: [x, { y: 'z' }]\nc:\n- 1\n- |\n  t\n");
    assert_eq!(
        (tree.as_str(), said.as_str()),
        ("{b:1,a:[x,{y:z}],c:[1,t\n]}", "")
    );
}

#[test]
fn an_empty_file_is_an_empty_map() {
    for text in [
        "",
        "\n\n",
        "# nothing\n",
        "---\n",
        "~",
        "\u{FEFF}",
        "---\n...\n",
    ] {
        assert_eq!(parsed(text), ("{}".to_owned(), String::new()), "{text:?}");
    }
}

#[test]
fn aliases_and_merges_repeat_what_was_anchored() {
    let (tree, said) =
        parsed("a: &a { x: 1, y: 2 }\nb: *a\nc: { <<: *a, y: 3 }\nd: { <<: [{ z: 1 }, *a] }");
    assert_eq!(said, "");
    assert_eq!(
        tree,
        "{a:{x:1,y:2},b:{x:1,y:2},c:{y:3,x:1},d:{z:1,x:1,y:2}}"
    );
}

#[test]
fn every_scalar_is_where_its_place_says() {
    let text = "é: ü # 🦀\r\nlist:\r\n  - ab cd   \r\n  - [ 'x', &a \"ÿ\" ]\r\nlast: 5";
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", text, &mut problems);
    let found: Vec<_> = (0..document.nodes.len())
        .map(|number| NodeId(u32::try_from(number).unwrap()))
        .filter(|node| matches!(document.kind(*node), Kind::Scalar(_)))
        .map(|node| {
            let place = document.place(node);
            let position = document.position(place);
            let text = text.get(place.start as usize..place.end as usize).unwrap();
            format!("{}:{} {text}", position.line, position.column)
        })
        .collect();
    assert_eq!(
        found,
        [
            "1:1 é",
            "1:4 ü",
            "2:1 list",
            "3:5 ab cd",
            "4:7 'x'",
            "4:12 &a \"ÿ\"",
            "5:1 last",
            "5:7 5"
        ]
    );
}

#[test]
fn a_path_names_keys_and_indices() {
    let mut problems = Problems::default();
    let text = "routes: [{ match: { host: x } }]\n\"a.b c\": 1";
    let document = Document::from_text("e.yaml", text, &mut problems);
    let paths: Vec<_> = (0..document.nodes.len())
        .filter_map(|number| document.path(NodeId(u32::try_from(number).unwrap())))
        .collect();
    assert!(
        paths.contains(&"routes[0].match.host".to_owned()),
        "{paths:?}"
    );
    assert!(paths.contains(&"\"a.b c\"".to_owned()), "{paths:?}");
}

#[test]
fn what_is_not_a_configuration_is_refused_where_it_stands() {
    for (text, head) in [
        ("a: 1\nb: 2\na: 3", "e.yaml:3:1 the key `a` is there twice"),
        ("a:\n\tb: 1", "e.yaml:2:1 a tab can't indent YAML"),
        (
            "a: b: c",
            "e.yaml:1:5 this is not YAML: mapping values are not allowed in this context",
        ),
        ("a: *b", "e.yaml:1:4 this is not YAML: found unknown anchor"),
        (
            "a: &a [*a]",
            "e.yaml:1:8 an alias stands inside the value that it repeats",
        ),
        (
            "a: 1\n---\nb: 2",
            "e.yaml:2:1 a file holds one YAML document",
        ),
        ("- a", "e.yaml:1:1 a configuration file is a map at its top"),
        ("a: !x 1", "e.yaml:1:4 a YAML tag has no effect here"),
        ("[a]: 1", "e.yaml:1:1 a key is a word, not a list or a map"),
        ("a: { : 1 }", "e.yaml:1:6 a key is missing here"),
        ("<<: [1]", "e.yaml:1:6 `<<` takes a map, or a list of maps"),
    ] {
        assert_eq!(heads(&parsed(text).1), [head], "{text}");
    }
}

#[test]
fn a_twin_is_shown_with_its_first() {
    let golden = "\
error: the key `a` is there twice
 --> e.yaml:3:1
  |
3 | a: 3
  | ^
  |
 ::: e.yaml:1:1
  |
1 | a: 1
  | - first here
  |
  = at: a

";
    assert_eq!(parsed("a: 1\nb: 2\na: 3\n").1, golden);
}

#[test]
fn a_file_that_is_not_utf8_is_refused_at_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.yaml");
    fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    let mut problems = Problems::default();
    let document = Document::load(&path, &mut problems);
    let said = problems.render(&document, Look::Plain);
    assert!(
        said.contains("e.yaml:2:4\n") && said.contains("not UTF-8"),
        "{said}"
    );
    assert!(!document.is_complete());
}

#[test]
fn what_grows_without_end_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let tower: String = (1..200)
        .map(|n| format!("b{n}: &b{n} [*b{}]\n", n - 1))
        .collect();
    for (text, message) in [
        (bomb, "more than 1000000 values"),
        (format!("b0: &b0 x\n{tower}"), "nested more than 128 deep"),
        ("[".repeat(200), "nested more than 128 deep"),
        ("- ".repeat(100_000), "nested more than 128 deep"),
        ("{a: ".repeat(129), "nested more than 128 deep"),
    ] {
        let said = parsed(&text).1;
        assert!(
            said.contains(message),
            "{}",
            said.lines().next().unwrap_or_default()
        );
    }
}

/// A folder with files, and what comes of loading `main.yaml`.
fn loaded(files: &[(&str, &str)]) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut problems = Problems::default();
    let document = Document::load(&folder.path().join("main.yaml"), &mut problems);
    let said = problems.render(&document, Look::Plain);
    let said = said.replace(&format!("{}/", folder.path().display()), "");
    (written(&document, document.root()), heads(&said))
}

#[test]
fn included_files_add_their_upstreams_and_routes_in_order() {
    let (tree, said) = loaded(&[
        (
            "main.yaml",
            "include: [sites/*.yaml, none/*.yaml]\nlisteners: x\nroutes: [m]",
        ),
        ("sites/b.yaml", "routes: [b1, b2]\nupstreams: { u: 1 }"),
        ("sites/a.yaml", "include: [deep/c.yaml]\nroutes: [a]"),
        ("sites/deep/c.yaml", "routes: [c]\nupstreams: { v: 2 }"),
        ("sites/d.txt", "routes: [never]"),
        ("sites/e.yaml", "# empty"),
    ]);
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(
        tree,
        "{listeners:x,routes:[m,a,c,b1,b2],upstreams:{v:2,u:1}}"
    );
}

#[test]
fn a_wrong_pattern_is_refused_where_it_stands() {
    for (text, head) in [
        (
            "include: [no.yaml]",
            "main.yaml:1:11 `no.yaml` can't be read: No such file or directory (os error 2)",
        ),
        ("include: x", "main.yaml:1:10 `include` is a list of files"),
        (
            "include: ['a***']",
            "main.yaml:1:11 `a***` is no pattern: wildcards are either regular `*` or recursive `**`",
        ),
        (
            "include: [[a]]",
            "main.yaml:1:11 expected the path of a file, or a pattern",
        ),
        (
            "include: ['*.yaml']",
            "main.yaml:1:11 the file `main.yaml` is included twice",
        ),
    ] {
        assert_eq!(loaded(&[("main.yaml", text)]).1, [head], "{text}");
    }
}

#[test]
fn a_wrong_included_file_is_refused_where_it_is_wrong() {
    for (files, heads) in [
        (
            vec![("main.yaml", "include: [a, ./a]"), ("a", "")],
            vec!["main.yaml:1:14 the file `./a` is included twice"],
        ),
        (
            vec![
                ("main.yaml", "include: [a]"),
                ("a", "include: [b]"),
                ("b", "include: [a]"),
            ],
            vec!["b:1:11 the file `a` is included twice"],
        ),
        (
            vec![
                ("main.yaml", "include: [a]"),
                ("a", "listeners: {}\nrotes: []"),
            ],
            vec![
                "a:1:1 an included file can't set `listeners`",
                "a:2:1 an included file can't set `rotes`",
            ],
        ),
        (
            vec![
                ("main.yaml", "include: [a]\nupstreams: { u: 1 }"),
                ("a", "upstreams: { u: 2 }"),
            ],
            vec!["a:1:14 the upstream `u` is there twice"],
        ),
        (
            vec![
                ("main.yaml", "include: [a]"),
                ("a", "upstreams: []\nroutes: {}"),
            ],
            vec!["a:1:12 `upstreams` is a map", "a:2:9 `routes` is a list"],
        ),
        (
            vec![("main.yaml", "include: [a]"), ("a", "routes: [")],
            vec!["a:1:10 this is not YAML: did not find expected node content"],
        ),
    ] {
        assert_eq!(loaded(&files).1, heads, "{files:?}");
    }
}

#[test]
fn a_missing_main_file_is_a_problem_and_not_the_end() {
    let mut problems = Problems::default();
    let document = Document::load(Path::new("no/such.yaml"), &mut problems);
    let said = problems.render(&document, Look::Plain);
    assert_eq!(
        said,
        "error: `no/such.yaml` can't be read: No such file or directory (os error 2)\n\n"
    );
    assert!(!document.is_complete());
}

#[test]
fn the_files_read_are_known() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.yaml"), "include: [a]").unwrap();
    fs::write(folder.path().join("a"), "").unwrap();
    let document = Document::load(&folder.path().join("main.yaml"), &mut Problems::default());
    let names: Vec<_> = document
        .paths()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["main.yaml", "a"]);
}

#[test]
fn a_value_under_a_secret_key_is_secret_unless_it_says_where_it_is() {
    let text = "{ secret: s, Api_Key: s, tokens: [s, [s]], password: { user: p },\n\
                jwt: { secret: env:S, key: file:/s }, keys: ~, other: p }";
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", text, &mut problems);
    for number in 0..document.nodes.len() {
        let node = NodeId(u32::try_from(number).unwrap());
        assert_eq!(
            document.is_secret(node),
            document.text(node) == Some("s"),
            "{node:?}"
        );
    }
}

#[test]
fn a_secret_is_hidden_also_where_the_file_is_not_yaml() {
    for text in [
        "secret: hunter2: x",
        "a: { \"api_key\": hunter2 } }: b: c",
        "keys:\n  - hunter2: x: y",
        "password: 'hunter2",
        "secret: |\n  hunter2\n hunter2: x: y",
    ] {
        let said = parsed(text).1;
        assert!(!said.is_empty() && !said.contains("hunter2"), "{said}");
    }
}
