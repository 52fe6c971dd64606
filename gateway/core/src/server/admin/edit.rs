//! Changes of one endpoint in the text of a file of endpoints, with all else left as it is written.
//!
//! An edit may fail to say what it means where YAML is used in unusual ways. Who makes one reads the
//! result, and writes the file anew if it says something else.

use std::{ops::Range, path::Path};

use crate::{
    config::{Mode, diagnostic::Problems, document::Document},
    upstream::discovery::Found,
};

/// A text of endpoints, and where they stand in it.
pub(super) struct Layout<'a> {
    text: &'a str,
    list: Range<usize>,
    endpoints: Vec<Range<usize>>,
}

/// What is to become of the endpoint of a number.
pub(super) enum Edit {
    Add(Found),
    Replace(usize, Found),
    Remove(usize),
}

/// Why a file that the gateway had to write anew has lost its comments.
const ANEW: &str = "# Written by the gateway: its comments were lost, since one line could not be changed alone.\n";

/// A file with these endpoints, and nothing else.
pub(super) fn anew(endpoints: &[Found]) -> String {
    if endpoints.is_empty() {
        return format!("{ANEW}endpoints: []\n");
    }
    let lines = endpoints
        .iter()
        .map(|endpoint| format!("  - {}\n", written(endpoint)));
    format!("{ANEW}endpoints:\n{}", lines.collect::<String>())
}

impl<'a> Layout<'a> {
    /// Finds the endpoints in the text that a document was read from.
    pub(super) fn of(document: &Document, text: &'a str) -> Option<Self> {
        let (_, list) = document.entry(document.root(), "endpoints")?;
        let range = |node| {
            let place = document.place(node);
            let range = place.start as usize..place.end as usize;
            text.get(range.clone()).map(|_| range)
        };
        let endpoints = document.elements(list).iter().map(|node| range(*node));
        Some(Self {
            text,
            list: range(list)?,
            endpoints: endpoints.collect::<Option<_>>()?,
        })
    }

    /// The text after the edit; none if it is not known how.
    pub(super) fn with(&self, edit: &Edit) -> Option<String> {
        let flow = self.text.get(self.list.clone())?.starts_with('[');
        match edit {
            Edit::Replace(number, endpoint) => {
                self.spliced(self.endpoints.get(*number)?.clone(), &written(endpoint))
            }
            Edit::Add(endpoint) if flow => self.add_in_brackets(endpoint),
            Edit::Add(endpoint) => self.add_line(endpoint),
            Edit::Remove(number) if flow => self.spliced(self.with_comma(*number)?, ""),
            Edit::Remove(number) => self.remove_lines(*number),
        }
    }

    fn add_in_brackets(&self, endpoint: &Found) -> Option<String> {
        match self.endpoints.last() {
            Some(last) => self.spliced(last.end..last.end, &format!(", {}", written(endpoint))),
            None => self.spliced(self.list.clone(), &format!("[{}]", written(endpoint))),
        }
    }

    fn add_line(&self, endpoint: &Found) -> Option<String> {
        let last = self.endpoints.last()?;
        let dash = self.dash_before(last)?;
        let indent = self.text.get(self.line_of(dash)..dash)?;
        let end = self.end_of_line(last.end);
        let newline = if self.text.get(..end)?.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        self.spliced(
            end..end,
            &format!("{newline}{indent}- {}\n", written(endpoint)),
        )
    }

    fn remove_lines(&self, number: usize) -> Option<String> {
        let endpoint = self.endpoints.get(number)?;
        let dash = self.dash_before(endpoint)?;
        if self.endpoints.len() == 1 {
            return self.spliced(dash..endpoint.end, " []");
        }
        self.spliced(self.line_of(dash)..self.end_of_line(endpoint.end), "")
    }

    /// An endpoint in brackets with the comma that goes with it.
    fn with_comma(&self, number: usize) -> Option<Range<usize>> {
        let own = self.endpoints.get(number)?;
        if let Some(next) = self.endpoints.get(number + 1) {
            return Some(own.start..next.start);
        }
        let before = number
            .checked_sub(1)
            .and_then(|before| self.endpoints.get(before));
        Some(before.map_or(own.start, |before| before.end)..own.end)
    }

    fn dash_before(&self, endpoint: &Range<usize>) -> Option<usize> {
        let before = self.text.get(..endpoint.start)?.trim_end();
        before.ends_with('-').then(|| before.len() - 1)
    }

    fn line_of(&self, place: usize) -> usize {
        let before = self.text.get(..place).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline + 1)
    }

    fn end_of_line(&self, place: usize) -> usize {
        let rest = self.text.get(place..).unwrap_or_default();
        place + rest.find('\n').map_or(rest.len(), |newline| newline + 1)
    }

    fn spliced(&self, range: Range<usize>, new: &str) -> Option<String> {
        let (before, after) = (self.text.get(..range.start)?, self.text.get(range.end..)?);
        Some(format!("{before}{new}{after}"))
    }
}

/// An endpoint on one line, with what is not as it would be anyway.
fn written(endpoint: &Found) -> String {
    let mut keys = String::new();
    if endpoint.weight.get() != 1 {
        keys.push_str(&format!(", weight: {}", endpoint.weight));
    }
    if endpoint.backup {
        keys.push_str(", backup: true");
    }
    if let Some(most) = endpoint.max_connections {
        keys.push_str(&format!(", max_connections: {most}"));
    }
    if endpoint.mode != Mode::Up {
        keys.push_str(&format!(", state: {}", word(endpoint.mode)));
    }
    let address = quoted(&endpoint.name);
    if keys.is_empty() {
        return address;
    }
    format!("{{ address: {address}{keys} }}")
}

/// A state, as it is written.
pub(super) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Up => "up",
        Mode::Drain => "drain",
        Mode::Maintenance => "maintenance",
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '_' | '-');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.chars().all(plain) {
        return text.to_owned();
    }
    // What JSON writes in quotes, YAML reads.
    serde_json::Value::from(text).to_string()
}

/// Reads a file for its layout; whether it is one file alone.
pub(super) fn document(path: &Path) -> Option<Document> {
    let document = Document::load(path, &mut Problems::default());
    let alone = document.paths().count() == 1;
    alone.then_some(document)
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroU32};

    use super::*;

    fn found(name: &str, weight: u16) -> Found {
        let endpoint = crate::config::Endpoint {
            weight: NonZeroU16::new(weight).unwrap(),
            ..crate::config::Endpoint::at(name.parse().unwrap())
        };
        endpoint.into()
    }

    fn edited(text: &str, edit: &Edit) -> Option<String> {
        let document = Document::from_text("endpoints.yaml", text, &mut Problems::default());
        Layout::of(&document, text)?.with(edit)
    }

    const LINES: &str = "\
# ours
endpoints:
  - a:1   # the first
  # the second
  - address: b:1
    weight: 2
  - c:1
# the end
";

    #[test]
    fn a_line_is_added_behind_the_last_one_as_it_is_indented() {
        let text = edited(LINES, &Edit::Add(found("d:1", 3))).unwrap();
        let wanted = LINES.replace("  - c:1\n", "  - c:1\n  - { address: d:1, weight: 3 }\n");
        assert_eq!(text, wanted);
        let text = edited("endpoints:\n- a:1", &Edit::Add(found("b:1", 1))).unwrap();
        assert_eq!(text, "endpoints:\n- a:1\n- b:1\n");
    }

    #[test]
    fn an_endpoint_is_replaced_and_the_comment_behind_it_stays() {
        let text = edited(LINES, &Edit::Replace(0, found("a:1", 5))).unwrap();
        assert_eq!(
            text,
            LINES.replace("- a:1 ", "- { address: a:1, weight: 5 } ")
        );
        let text = edited(LINES, &Edit::Replace(1, found("b:1", 1))).unwrap();
        let wanted = LINES.replace("- address: b:1\n    weight: 2\n", "- b:1\n");
        assert_eq!(text, wanted);
    }

    #[test]
    fn all_lines_of_an_endpoint_are_removed() {
        let text = edited(LINES, &Edit::Remove(1)).unwrap();
        assert_eq!(text, LINES.replace("  - address: b:1\n    weight: 2\n", ""));
    }

    #[test]
    fn the_last_endpoint_leaves_an_empty_list() {
        for text in [
            "endpoints:\n  - a:1\n",
            "endpoints:\n- a:1\n",
            "endpoints: [ a:1 ]\n",
        ] {
            let empty = edited(text, &Edit::Remove(0)).unwrap();
            let mut problems = Problems::default();
            let document = Document::from_text("endpoints.yaml", &empty, &mut problems);
            let (_, list) = document.entry(document.root(), "endpoints").unwrap();
            let is_list = matches!(
                document.kind(list),
                crate::config::document::Kind::Sequence(_)
            );
            assert!(is_list && document.elements(list).is_empty(), "{empty}");
            let again = edited(&empty, &Edit::Add(found("b:1", 1))).unwrap();
            assert!(again.contains("[b:1]"), "{again}");
        }
    }

    #[test]
    fn in_brackets_commas_stay_right() {
        let text = "endpoints: [a:1, { address: b:1, weight: 2 }, c:1] # three\n";
        for (edit, wanted) in [
            (Edit::Remove(0), "[{ address: b:1, weight: 2 }, c:1]"),
            (Edit::Remove(1), "[a:1, c:1]"),
            (Edit::Remove(2), "[a:1, { address: b:1, weight: 2 }]"),
            (Edit::Replace(1, found("b:1", 1)), "[a:1, b:1, c:1]"),
            (
                Edit::Add(found("d:1", 1)),
                "[a:1, { address: b:1, weight: 2 }, c:1, d:1]",
            ),
        ] {
            assert_eq!(
                edited(text, &edit).unwrap(),
                format!("endpoints: {wanted} # three\n")
            );
        }
    }

    #[test]
    fn what_is_not_plain_is_quoted_and_what_is_usual_left_out() {
        let full = Found {
            backup: true,
            max_connections: NonZeroU32::new(7),
            mode: Mode::Drain,
            ..found("[::1]:80", 2)
        };
        assert_eq!(
            written(&full),
            r#"{ address: "[::1]:80", weight: 2, backup: true, max_connections: 7, state: drain }"#
        );
        assert_eq!(
            written(&found("unix:/run/app.sock", 1)),
            "unix:/run/app.sock"
        );
        assert_eq!(
            written(&found("unix:/run/a b, c", 1)),
            r#""unix:/run/a b, c""#
        );
        assert_eq!(written(&found("-a:1", 1)), r#""-a:1""#);
    }
}
