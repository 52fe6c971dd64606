use super::{Diagnostic, Look, Problems, nearest, one_of, suggestion};
use crate::config::document::{Document, NodeId};

fn value(document: &Document, name: &str) -> NodeId {
    document
        .entry(document.root(), name)
        .expect("the key is in the text")
        .1
}

/// How one problem at the value of `name` looks in a text.
fn rendered(text: &str, name: &str, look: Look) -> String {
    let mut problems = Problems::default();
    let document = Document::from_text("conf/e.yaml", text, &mut problems);
    problems.push(Diagnostic::error("it is wrong").at(value(&document, name)));
    problems.render(&document, look)
}

#[test]
fn a_diagnostic_shows_place_line_mark_path_and_help() {
    let mut problems = Problems::default();
    let document = Document::from_text("conf/e.yaml", "a: 1\nb: { c: two }\n", &mut problems);
    let (key, two) = document.entries(value(&document, "b"))[0];
    problems.push(
        Diagnostic::warning("`c` is not what it was")
            .at(two)
            .help("leave it")
            .also(value(&document, "a"), "it was this"),
    );
    problems.push(Diagnostic::error("it is bad").at(key));
    problems.push(Diagnostic::error("it is missing").at_key_of(two));
    let golden = "\
error: it is bad
 --> conf/e.yaml:2:6
  |
2 | b: { c: two }
  |      ^
  |
  = at: b.c

error: it is missing
 --> conf/e.yaml:2:6
  |
2 | b: { c: two }
  |      ^
  |
  = at: b.c

warning: `c` is not what it was
 --> conf/e.yaml:2:9
  |
2 | b: { c: two }
  |         ^^^
  |
 ::: conf/e.yaml:1:4
  |
1 | a: 1
  |    - it was this
  |
  = at: b.c
  = help: leave it

";
    assert_eq!(problems.render(&document, Look::Plain), golden);
    assert_eq!((problems.errors(), problems.warnings()), (2, 1));
}

#[test]
fn a_problem_without_place_is_only_a_sentence() {
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", "", &mut problems);
    problems.push(Diagnostic::error("nothing is right"));
    problems.push(Diagnostic::error("the top is wrong").at_key_of(document.root()));
    let said = problems.render(&document, Look::Plain);
    assert!(
        said.starts_with("error: nothing is right\n\nerror: the top is wrong\n --> e.yaml:1:1\n"),
        "{said}"
    );
}

#[test]
fn the_same_problem_is_told_once() {
    let mut problems = Problems::default();
    let document = Document::from_text("e.yaml", "a: 1", &mut problems);
    for _ in 0..3 {
        problems.push(Diagnostic::error("it is wrong").at(document.root()));
    }
    assert_eq!(problems.errors(), 1);
}

#[test]
fn a_column_counts_characters() {
    let said = rendered("{ é🦀: ü, a: x }", "a", Look::Plain);
    assert!(said.contains("conf/e.yaml:1:13\n"), "{said}");
}

#[test]
fn a_long_line_is_cut_around_the_mark() {
    let far = format!(
        "{{ b: {}, a: wrong, c: {} }}",
        "é".repeat(5000),
        "z".repeat(5000)
    );
    let said = rendered(&far, "a", Look::Plain);
    assert!(said.contains("conf/e.yaml:1:5011\n"), "{said}");
    assert!(
        said.contains("a: wrong") && said.contains("^^^^^"),
        "{said}"
    );
    assert!(
        said.lines().all(|line| line.chars().count() < 140),
        "{said}"
    );
}

#[test]
fn a_mark_stays_under_its_word_beside_a_masked_secret() {
    let said = rendered(
        "{ secret: hunter2hunter2, a: wrong, key: k2 }",
        "a",
        Look::Plain,
    );
    let golden = "\
error: it is wrong
 --> conf/e.yaml:1:30
  |
1 | { secret: ***, a: wrong, key: *** }
  |                   ^^^^^
  |
  = at: a

";
    assert_eq!(said, golden);
}

#[test]
fn a_mark_on_a_secret_is_under_its_mask() {
    let said = rendered("secret: hunter2\nnext: 1", "secret", Look::Plain);
    assert!(
        said.contains("1 | secret: ***\n  |         ^^^\n"),
        "{said}"
    );
}

#[test]
fn colour_changes_nothing_but_colour() {
    let plain = rendered("a: x", "a", Look::Plain);
    let coloured = rendered("a: x", "a", Look::Coloured);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    let mut stripped = String::new();
    for (index, part) in coloured.split('\u{1b}').enumerate() {
        stripped.push_str(if index == 0 {
            part
        } else {
            part.split_once('m').unwrap().1
        });
    }
    assert_eq!(stripped, plain);
}

#[test]
fn the_nearest_word_is_what_was_probably_meant() {
    let words = [
        "upstream",
        "filters",
        "strip_prefix",
        "match",
        "max_age",
        "ttl",
    ];
    for (word, near) in [
        ("upstrem", Some("upstream")),
        ("filter", Some("filters")),
        ("stripPrefix", Some("strip_prefix")),
        ("STRIP-PREFIX", Some("strip_prefix")),
        ("maxage", Some("max_age")),
        ("mtach", Some("match")),
        ("tll", Some("ttl")),
        ("colour", None),
        ("", None),
        ("x", None),
    ] {
        assert_eq!(nearest(word, &words), near, "{word}");
    }
    assert_eq!(nearest(&"x".repeat(1_000_000), &words), None);
}

#[test]
fn words_that_are_known_are_listed() {
    assert_eq!(one_of(&["a"]), "`a`");
    assert_eq!(one_of(&["a", "b"]), "`a` or `b`");
    assert_eq!(one_of(&["a", "b", "c"]), "one of `a`, `b`, `c`");
    assert_eq!(
        suggestion("zzz", &["a", "b"]).unwrap(),
        "expected `a` or `b`"
    );
    assert_eq!(suggestion("aab", &["aaa"]).unwrap(), "did you mean `aaa`?");
    assert_eq!(suggestion::<&str>("x", &[]), None);
}
