//! What people have written about the keys of a configuration, in the comments of one that names them all.

use serde_json::Value;

/// A key of an annotated configuration.
pub(crate) struct Note {
    /// The keys that lead to it, itself the last; the elements of a list are passed by.
    pub(crate) way: Vec<String>,
    /// What is written there: a default, if the key is commented out, else an example.
    pub(crate) value: String,
    pub(crate) is_default: bool,
    pub(crate) text: String,
}

/// Adds to a schema what is said of its keys in an annotated configuration.
pub(super) fn annotate(schema: &mut Value, yaml: &str) {
    for note in notes(yaml) {
        let Some(property) = find(schema, &note.way) else {
            continue;
        };
        let Some(property) = property.as_object_mut() else {
            continue;
        };
        let more = property.get("description").and_then(Value::as_str);
        if note.text.is_empty() || more.is_some_and(|more| more.contains(&note.text)) {
            continue;
        }
        property.insert("description".to_owned(), note.text.into());
    }
}

/// The schema of a key.
fn find<'s>(schema: &'s mut Value, way: &[String]) -> Option<&'s mut Value> {
    let Some((first, rest)) = way.split_first() else {
        return Some(schema);
    };
    // The forms that it may have, the elements of a list, and the map itself.
    if schema.get("anyOf").is_some() {
        let forms = schema.get_mut("anyOf")?.as_array_mut()?;
        let place = forms
            .iter_mut()
            .position(|form| find(form, way).is_some())?;
        return find(forms.get_mut(place)?, way);
    }
    if schema.get("items").is_some() {
        return find(schema.get_mut("items")?, way);
    }
    let known = schema
        .get("properties")
        .is_some_and(|known| known.get(first).is_some());
    if known {
        return find(schema.get_mut("properties")?.get_mut(first)?, rest);
    }
    let others = schema.get_mut("additionalProperties")?;
    if rest.is_empty() || !others.is_object() {
        return None;
    }
    find(others, rest)
}

/// The keys of an annotated configuration: those with a `#` right before them are commented out.
pub(crate) fn notes(yaml: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut before = String::new();
    for line in yaml.lines() {
        let Some(line) = Line::read(line) else {
            match comment(line) {
                Some(text) => push(&mut before, text),
                None => before.clear(),
            }
            continue;
        };
        open.retain(|(depth, _)| *depth < line.depth);
        open.push((line.depth, line.key.to_owned()));
        let mut text = std::mem::take(&mut before);
        push(&mut text, line.comment);
        notes.push(Note {
            way: open.iter().map(|(_, key)| key.clone()).collect(),
            value: line.value.to_owned(),
            is_default: line.is_out,
            text: sentence(&text),
        });
    }
    notes
}

/// A line with a key.
struct Line<'l> {
    depth: usize,
    key: &'l str,
    value: &'l str,
    comment: &'l str,
    is_out: bool,
}

impl<'l> Line<'l> {
    fn read(line: &'l str) -> Option<Self> {
        let bare = line.trim_start();
        let mut depth = line.len() - bare.len();
        let out = bare
            .strip_prefix('#')
            .filter(|rest| !rest.starts_with([' ', '#']));
        // With a blank it is prose, or a key that excludes another.
        let mut rest = out.or_else(|| bare.strip_prefix("# ")).unwrap_or(bare);
        if rest.starts_with('#') {
            return None;
        }
        while let Some(item) = rest.strip_prefix("- ") {
            depth += 2;
            rest = item;
        }
        let (key, after) = rest.split_once(':')?;
        let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if key.is_empty()
            || !key.bytes().all(is_key)
            || !(after.is_empty() || after.starts_with(' '))
        {
            return None;
        }
        let (value, comment) = after.split_once(" #").unwrap_or((after, ""));
        Some(Self {
            depth,
            key,
            value: value.trim(),
            comment: comment.trim(),
            is_out: out.is_some(),
        })
    }
}

/// The text of a line that is nothing but a comment.
fn comment(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("# ").map(str::trim)
}

fn push(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut sentence = super::capital(text);
    if !sentence.is_empty() && !sentence.ends_with(['.', ':', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_what_stands_above_a_key_or_behind_it() {
        let yaml = "# Head.\n\n# Above\n# it\nrequests:\n  keep: 1s  # behind it\n  #out: 5   # a default\n  # Note: of nobody.\n  # other: 6\n\
            list:\n  - name: x\n    #deep: { a: b }\n";
        let notes: Vec<_> = notes(yaml)
            .into_iter()
            .map(|note| (note.way.join("."), note.value, note.is_default, note.text))
            .collect();
        let note = |way: &str, value: &str, is_default, text: &str| {
            (
                way.to_owned(),
                value.to_owned(),
                is_default,
                text.to_owned(),
            )
        };
        assert_eq!(
            notes,
            [
                note("requests", "", false, "Above it."),
                note("requests.keep", "1s", false, "Behind it."),
                note("requests.out", "5", true, "A default."),
                note("requests.other", "6", false, "Note: of nobody."),
                note("list", "", false, ""),
                note("list.name", "x", false, ""),
                note("list.deep", "{ a: b }", true, ""),
            ]
        );
    }
}
