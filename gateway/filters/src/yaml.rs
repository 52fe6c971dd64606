//! Lists in YAML files that filters read: keys, rules. (JSON is YAML too.)
//!
//! It is the plain part of YAML: no anchors, no tags, no second document, and no name twice in a map.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::watched::Wrong;

/// The entries of the list that a file is, each with its line. An empty file is an empty list.
pub(crate) fn list<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<(usize, T)>, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|_| Wrong::file("the text is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Wrong::line(error.marker().line(), error.info()))?;
        reader.event(event, span)?;
    }
    let entries = reader.entries.into_iter().map(|(line, value)| {
        let entry = serde_json::from_value(value);
        entry
            .map(|entry| (line, entry))
            .map_err(|error| Wrong::line(line, error))
    });
    entries.collect()
}

#[derive(Default)]
struct Reader {
    /// The lists and maps whose ends have not been seen; the outermost is the list of entries.
    open: Vec<Open>,
    is_complete: bool,
    entries: Vec<(usize, Value)>,
}

struct Open {
    line: usize,
    node: Node,
}

enum Node {
    List(Vec<Value>),
    /// With the name whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Wrong> {
        let line = span.start.line();
        let plain = |is_plain: bool| {
            let wrong = || Wrong::line(line, "anchors and tags are not understood here");
            if is_plain { Ok(()) } else { Err(wrong()) }
        };
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.is_complete => {
                Err(Wrong::line(line, "a file holds one YAML document"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(_) => plain(false),
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor == 0 && tag.is_none())?;
                self.value(scalar(&text, style), line)
            }
            Event::SequenceStart(anchor, tag) => {
                plain(anchor == 0 && tag.is_none())?;
                self.begin(Node::List(Vec::new()), line)
            }
            Event::MappingStart(anchor, tag) => {
                plain(anchor == 0 && tag.is_none())?;
                self.begin(Node::Map(Map::new(), None), line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    fn begin(&mut self, node: Node, line: usize) -> Result<(), Wrong> {
        if self.open.is_empty() && matches!(node, Node::Map(..)) {
            return Err(Wrong::line(line, EXPECTED));
        }
        if self.open.len() == DEEPEST {
            return Err(Wrong::line(
                line,
                format!("values nest more than {DEEPEST} deep"),
            ));
        }
        self.open.push(Open { line, node });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Wrong> {
        let Some(Open { line, node }) = self.open.pop() else {
            return Ok(());
        };
        if self.open.is_empty() {
            self.is_complete = true;
            return Ok(());
        }
        let value = match node {
            Node::List(list) => Value::Array(list),
            Node::Map(map, _) => Value::Object(map),
        };
        self.value(value, line)
    }

    fn value(&mut self, value: Value, line: usize) -> Result<(), Wrong> {
        let is_entry = self.open.len() == 1;
        let Some(Open { node, .. }) = self.open.last_mut() else {
            // An empty file has one value, which is nothing.
            self.is_complete = true;
            let is_nothing = value.is_null();
            return if is_nothing {
                Ok(())
            } else {
                Err(Wrong::line(line, EXPECTED))
            };
        };
        match node {
            Node::List(_) if is_entry => self.entries.push((line, value)),
            Node::List(list) => list.push(value),
            Node::Map(map, next) => match next.take() {
                None => *next = Some(name(value, map, line)?),
                Some(name) => {
                    map.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

/// A name of a map that is not in it yet.
fn name(value: Value, map: &Map<String, Value>, line: usize) -> Result<String, Wrong> {
    let Value::String(name) = value else {
        return Err(Wrong::line(line, "expected a name"));
    };
    if map.contains_key(&name) {
        return Err(Wrong::line(line, format!("`{name}` is written twice")));
    }
    Ok(name)
}

/// What a scalar means, by the core schema: whatever is not a word or number of that is a text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        text => {
            let number = text.parse().map(Value::Number);
            number.unwrap_or_else(|_| text.into())
        }
    }
}

const EXPECTED: &str = "expected a list";
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read_with_the_lines_of_its_entries() {
        let text =
            "# keys\n- a: 1\n  b: [x, 'true', true, ~, -1.5, 2027-01-31]\n\n-  c: {d: }\n- 7\n";
        let expected = [
            (
                2,
                json!({"a": 1, "b": ["x", "true", true, null, -1.5, "2027-01-31"]}),
            ),
            (5, json!({"c": {"d": null}})),
            (6, json!(7)),
        ];
        assert_eq!(list::<Value>(text.as_bytes()).unwrap(), expected);
        let expected = [(1, json!({"a": [1]}))];
        assert_eq!(list::<Value>(b"[{\"a\": [1]}]").unwrap(), expected);
        for empty in ["", "# nothing\n", "[]", "---\n"] {
            assert_eq!(list::<Value>(empty.as_bytes()).unwrap(), [], "{empty}");
        }
    }

    #[test]
    fn what_is_no_plain_list_is_refused_with_the_line() {
        for (text, line, message) in [
            ("a: 1\n", 1, "expected a list"),
            ("a\n", 1, "expected a list"),
            ("- &x 1\n- *x\n", 1, "anchors"),
            ("- 1\n- !!str 1\n", 2, "anchors"),
            ("- a: 1\n  b: 2\n  a: 3\n", 3, "`a` is written twice"),
            ("- [1, 2]: 3\n", 1, "expected a name"),
            ("- 1\n---\n- 2\n", 2, "one YAML document"),
            ("- a: [1\n- b\n", 3, ""),
            ("- a: b: c\n", 1, ""),
        ] {
            let error = list::<Value>(text.as_bytes()).unwrap_err();
            let said = format!("{error:?}");
            assert!(said.contains(&format!("Some({line})")), "{text}: {said}");
            assert!(said.contains(message), "{text}: {said}");
        }
        let deep = format!("- {}", "[".repeat(100_000));
        assert!(list::<Value>(deep.as_bytes()).is_err());
        assert!(list::<Value>(b"\xff").is_err());
    }

    #[test]
    fn an_entry_that_is_not_as_it_should_be_is_refused_with_its_line() {
        let error = list::<u8>(b"- 1\n- x\n").unwrap_err();
        assert!(format!("{error:?}").contains("Some(2)"));
    }
}
