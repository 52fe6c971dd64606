//! How a diagnostic looks: the line of the source with a mark, its path, the remedy.

use std::io::IsTerminal;
use std::ops::Range;

use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet,
};

use super::{Diagnostic, Severity, Spot};
use crate::config::document::{Document, Place};

/// Columns of source shown around a mark.
const WIDTH: usize = 100;

/// A line longer than this is cut before it is given to the renderer.
const LINE: usize = 2_000;

/// With or without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Text only: for logs, files and tests.
    Plain,
    /// With the colours of a terminal.
    Coloured,
}

impl Look {
    /// Colour if standard error is a terminal and `NO_COLOR` is unset or empty.
    pub(crate) fn of_stderr() -> Self {
        Self::of(&std::io::stderr())
    }

    /// The same of standard output.
    pub(crate) fn of_stdout() -> Self {
        Self::of(&std::io::stdout())
    }

    fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if refused || !stream.is_terminal() {
            Self::Plain
        } else {
            Self::Coloured
        }
    }

    fn renderer(self) -> Renderer {
        match self {
            Self::Plain => Renderer::plain(),
            Self::Coloured => Renderer::styled(),
        }
        .term_width(WIDTH)
    }
}

pub(super) fn diagnostic(diagnostic: &Diagnostic, document: &Document, look: Look) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut elements: Vec<Element<'_>> = Vec::new();
    if let Some(spot) = diagnostic.spot {
        elements.extend(excerpt(document, spot, AnnotationKind::Primary, None));
    }
    for (spot, label) in &diagnostic.also {
        elements.extend(excerpt(
            document,
            *spot,
            AnnotationKind::Context,
            Some(label),
        ));
    }
    if let Some(path) = diagnostic.spot.and_then(|spot| spot.path(document)) {
        elements.push(Level::NOTE.with_name("at").message(path).into());
    }
    if let Some(help) = &diagnostic.help {
        elements.push(Level::HELP.message(help.as_str()).into());
    }
    let group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
    let text = look.renderer().render(&[group.elements(elements)]);
    let lines: Vec<_> = text.lines().filter(|line| !leads_nowhere(line)).collect();
    lines.join("\n") + "\n\n"
}

/// Whether a line is the arrow that the renderer puts before a snippet whose file was named apart.
fn leads_nowhere(line: &str) -> bool {
    let text = line.trim_end_matches("\u{1b}[0m").trim_end();
    text.ends_with(":::") && !text.contains('|')
}

/// One line of the source, with a mark under the part of `spot` that is on it.
///
/// The renderer counts the column in the line it is given. Where that was masked or cut before the
/// mark, file, line and column are given apart from it.
fn excerpt<'a>(
    document: &'a Document,
    spot: Spot,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Vec<Element<'a>> {
    let place = spot.place(document);
    let position = document.position(place);
    let line = Line::of(document, place)
        .masked(document.secrets(place))
        .shortened();
    let mark: Annotation<'a> = kind.span(line.mark.clone()).label(label);
    let true_column = line.column() == position.column;
    let snippet = Snippet::source(line.text)
        .line_start(position.line)
        .annotation(mark);
    if true_column {
        return vec![snippet.path(position.file).into()];
    }
    let origin = Origin::path(position.file)
        .line(position.line)
        .char_column(position.column);
    vec![origin.into(), snippet.into()]
}

/// A line of a file and the part of it to mark, in bytes of the line.
struct Line {
    text: String,
    mark: Range<usize>,
    /// Where the line begins in its file.
    start: usize,
}

impl Line {
    fn of(document: &Document, place: Place) -> Self {
        let (start, text) = document.line(place);
        let from = (place.start as usize - start).min(text.len());
        let to = (place.end as usize - start).clamp(from, text.len());
        Self {
            text: text.to_owned(),
            mark: from..to,
            start,
        }
    }

    /// Puts `***` where a secret is, given as ranges of the file in their order.
    fn masked(mut self, secrets: Vec<Range<usize>>) -> Self {
        for secret in secrets.into_iter().rev() {
            let end = secret.end.saturating_sub(self.start).min(self.text.len());
            let start = secret.start.saturating_sub(self.start).min(end);
            let hidden = self.text.get(start..end).unwrap_or_default();
            let indent = hidden.len() - hidden.trim_start().len();
            if !hidden.trim().is_empty() {
                self.replace(start + indent..end, "***");
            }
        }
        self
    }

    fn shortened(mut self) -> Self {
        let end = boundary(&self.text, self.mark.start.saturating_add(LINE));
        self.text.truncate(end);
        self.mark.end = self.mark.end.min(end);
        let start = boundary(&self.text, self.mark.start.saturating_sub(LINE));
        if start > 0 {
            self.replace(0..start, "");
        }
        self
    }

    fn column(&self) -> usize {
        self.text
            .get(..self.mark.start)
            .map_or(0, |before| before.chars().count())
            + 1
    }

    /// Replaces a part of the line, and moves the mark with the text that it marks.
    fn replace(&mut self, part: Range<usize>, text: &str) {
        let moved = |at: usize, inside: usize| match at {
            before if before <= part.start => before,
            after if after >= part.end => after - part.len() + text.len(),
            _ => inside,
        };
        self.mark =
            moved(self.mark.start, part.start)..moved(self.mark.end, part.start + text.len());
        self.text.replace_range(part, text);
    }
}

/// The last beginning of a character at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}
