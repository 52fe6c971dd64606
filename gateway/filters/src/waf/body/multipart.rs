//! The parts of a form that is sent with files (RFC 7578).
//!
//! Applications read these in many ways, so what can be read in more than one is told as such: two names, two
//! boundaries, parts in other encodings. Line breaks without a carriage return are accepted, as many accept them.

use std::borrow::Cow;

/// A part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    pub(super) name: Cow<'b, [u8]>,
    /// Of a file.
    pub(super) file: Option<Cow<'b, [u8]>>,
    /// It has a name of a file that not everybody takes for one.
    pub(super) may_be_field: bool,
    pub(super) content_type: Option<&'b [u8]>,
    pub(super) content: &'b [u8],
}

/// What is told of the parts as they are read.
pub(super) trait Sink {
    fn part(&mut self, part: &Part<'_>);
    /// What stands before the first part or behind the last, where nobody should look.
    fn outside(&mut self, text: &[u8]);
    /// It can be read in more than one way.
    fn ambiguous(&mut self);
}

/// What the parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Fields of a form.
    Form,
    /// Documents that belong together, which need no names.
    Other,
}

/// How it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    /// There is no end.
    Unfinished,
    /// There are no parts, or one without a name.
    Malformed,
}

/// Reads the parts.
pub(super) fn read(body: &[u8], boundary: &[u8], sort: Sort, sink: &mut impl Sink) -> Outcome {
    let mut mark = b"--".to_vec();
    mark.extend_from_slice(boundary);
    let mut lines = Lines::default();
    let Some((before, mut rest)) = lines.cut(body, &mark, true) else {
        lines.tell(sink);
        sink.outside(body);
        return Outcome::Malformed;
    };
    if !before.trim_ascii().is_empty() {
        sink.outside(before);
    }
    let mut named = true;
    for _ in 0..MOST_PARTS {
        if let Some(after) = rest.strip_prefix(b"--") {
            // What looks like a part behind the end is one to some.
            lines.is_ambiguous |= !ends_line(after) || find(after, &mark).is_some();
            lines.tell(sink);
            if !after.trim_ascii().is_empty() {
                sink.outside(after);
            }
            return if named {
                Outcome::Whole
            } else {
                Outcome::Malformed
            };
        }
        let Some((text, next)) = lines.cut(rest, &mark, false) else {
            lines.tell(sink);
            // Its name may have been cut off.
            part(rest, sort, sink);
            return if named {
                Outcome::Unfinished
            } else {
                Outcome::Malformed
            };
        };
        named &= part(text, sort, sink) || sort == Sort::Other;
        rest = next;
    }
    sink.ambiguous();
    Outcome::Malformed
}

/// The lines that part a body.
#[derive(Default)]
struct Lines {
    is_ambiguous: bool,
    /// Whether they end in a carriage return and a line feed, if one was seen.
    has_return: Option<bool>,
}

impl Lines {
    /// What stands before the next line that is `mark`, without its line break, and what behind the mark.
    fn cut<'b>(
        &mut self,
        text: &'b [u8],
        mark: &[u8],
        at_start: bool,
    ) -> Option<(&'b [u8], &'b [u8])> {
        let mut from = 0;
        loop {
            let rest = text.get(from..)?;
            let at = from + find(rest, mark)?;
            let before = text.get(..at)?;
            let after = text.get(at + mark.len()..)?;
            let begins = match before {
                [] => at_start,
                [.., b'\r'] => {
                    self.is_ambiguous = true;
                    false
                }
                [.., last] => *last == b'\n',
            };
            if begins && (after.starts_with(b"--") || ends_line(after)) {
                self.note(before);
                let line = before.strip_suffix(b"\n").unwrap_or(before);
                return Some((line.strip_suffix(b"\r").unwrap_or(line), after));
            }
            // A line that only begins with the mark is one of them to some.
            self.is_ambiguous |= begins;
            from = at + 1;
        }
    }

    /// Some know only one kind of line break, so both may not occur.
    fn note(&mut self, before: &[u8]) {
        if !before.ends_with(b"\n") {
            return;
        }
        let has_return = before.ends_with(b"\r\n");
        self.is_ambiguous |= self.has_return.is_some_and(|known| known != has_return);
        self.has_return = Some(has_return);
    }

    fn tell(&self, sink: &mut impl Sink) {
        if self.is_ambiguous {
            sink.ambiguous();
        }
    }
}

/// Whether there is nothing but blanks up to the end of the line.
fn ends_line(text: &[u8]) -> bool {
    let blanks = text.iter().take_while(|byte| b" \t".contains(byte)).count();
    let text = text.get(blanks..).unwrap_or_default();
    text.is_empty() || text.starts_with(b"\n") || text.starts_with(b"\r\n")
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

/// Reads one part, from behind its boundary on. Tells whether it has a name.
fn part(text: &[u8], sort: Sort, sink: &mut impl Sink) -> bool {
    let (head, content) = head_and_content(text);
    let mut disposition = None;
    let mut content_type = None;
    let mut is_ambiguous = false;
    let mut is_encoded = false;
    let lines = unfolded(head);
    for line in &lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            is_ambiguous |= !line.trim_ascii().is_empty();
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"content-disposition" => is_ambiguous |= disposition.replace(value).is_some(),
            b"content-type" => is_ambiguous |= content_type.replace(value).is_some(),
            b"content-transfer-encoding" => {
                let known: [&[u8]; 3] = [b"binary", b"8bit", b"7bit"];
                is_encoded |= !known.iter().any(|known| value.eq_ignore_ascii_case(known));
            }
            _ => {}
        }
    }
    let mut read = Disposition::default();
    if let Some(disposition) = disposition {
        read.parameters(disposition);
    }
    // A document that nobody takes for a field may have what documents of mail have.
    let named = read.name.is_some();
    let is_field = sort == Sort::Form || named;
    if is_ambiguous || is_field && (read.is_ambiguous || is_encoded) {
        sink.ambiguous();
    }
    let may_be_field = read.file.as_ref().is_none_or(Vec::is_empty);
    // Browsers of old send a file's name in both forms.
    let file = match (read.file, read.extended_file) {
        (Some(file), Some(extended)) => Some([file, extended].concat()),
        (file, extended) => file.or(extended),
    };
    sink.part(&Part {
        name: read.name.unwrap_or_default().into(),
        may_be_field,
        file: file.map(Cow::Owned),
        content_type,
        content,
    });
    named
}

fn head_and_content(text: &[u8]) -> (&[u8], &[u8]) {
    // Blanks behind the boundary are padding.
    let start = text
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(text.len(), |at| at + 1);
    let text = text.get(start..).unwrap_or_default();
    if let Some(content) = text
        .strip_prefix(b"\r\n")
        .or_else(|| text.strip_prefix(b"\n"))
    {
        return (b"", content);
    }
    let mut from = 0;
    while let Some(at) = text
        .get(from..)
        .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
    {
        let after = text.get(from + at + 1..).unwrap_or_default();
        if let Some(content) = after
            .strip_prefix(b"\r\n")
            .or_else(|| after.strip_prefix(b"\n"))
        {
            return (text.get(..from + at).unwrap_or_default(), content);
        }
        from += at + 1;
    }
    (text, b"")
}

/// Lines, with those that begin with a blank put to the one before.
fn unfolded(head: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut lines: Vec<Cow<'_, [u8]>> = Vec::new();
    for line in head.split(|byte| *byte == b'\n').take(MOST_LINES) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.first(), lines.last_mut()) {
            (Some(b' ' | b'\t'), Some(last)) => last.to_mut().extend_from_slice(line),
            _ => lines.push(Cow::Borrowed(line)),
        }
    }
    lines
}

#[derive(Default)]
struct Disposition {
    name: Option<Vec<u8>>,
    file: Option<Vec<u8>>,
    /// `filename*`.
    extended_file: Option<Vec<u8>>,
    is_ambiguous: bool,
}

impl Disposition {
    fn parameters(&mut self, value: &[u8]) {
        let start = value.iter().position(|byte| *byte == b';');
        let Some(start) = start else {
            return;
        };
        let (kind, mut rest) = value.split_at(start);
        self.is_ambiguous |= !kind.trim_ascii().eq_ignore_ascii_case(b"form-data");
        while let Some(after) = rest.strip_prefix(b";") {
            let after = after.trim_ascii_start();
            let end = after
                .iter()
                .position(|byte| b"=;".contains(byte))
                .unwrap_or(after.len());
            let (key, value) = after.split_at(end);
            let Some(value) = value.strip_prefix(b"=") else {
                rest = value;
                continue;
            };
            let read = quoted(value.trim_ascii_start());
            self.is_ambiguous |= read.is_ambiguous;
            self.set(key.trim_ascii(), read.value);
            rest = read.rest.trim_ascii_start();
        }
        // Something stands behind a closed quote.
        self.is_ambiguous |= !rest.trim_ascii().is_empty();
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>) {
        let slot = match key.to_ascii_lowercase().as_slice() {
            b"name" => &mut self.name,
            b"filename" => &mut self.file,
            b"filename*" => &mut self.extended_file,
            // `name*0`, `na"me`: read by some.
            _ => {
                self.is_ambiguous = true;
                return;
            }
        };
        self.is_ambiguous |= slot.replace(value).is_some();
    }
}

/// A value, and what stands behind it.
struct Quoted<'t> {
    value: Vec<u8>,
    rest: &'t [u8],
    /// Whether it may end elsewhere.
    is_ambiguous: bool,
}

/// A value in quotes or without.
fn quoted(text: &[u8]) -> Quoted<'_> {
    let Some(inner) = text.strip_prefix(b"\"") else {
        let end = text
            .iter()
            .position(|byte| *byte == b';')
            .unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Quoted {
            is_ambiguous: value.contains(&b'"'),
            value: value.trim_ascii().to_vec(),
            rest,
        };
    };
    let mut value = Vec::new();
    // Each of two backslashes is one for itself, or they are one.
    let is_ambiguous = |upto: usize| inner.windows(2).take(upto).any(|pair| pair == br"\\");
    let mut bytes = inner.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                return Quoted {
                    value,
                    rest: inner.get(at + 1..).unwrap_or_default(),
                    is_ambiguous: is_ambiguous(at),
                };
            }
            // Only quotes are escaped: a path of Windows has backslashes of its own.
            b'\\' if inner.get(at + 1) == Some(&b'"') => {
                value.push(b'"');
                bytes.next();
            }
            byte => value.push(*byte),
        }
    }
    Quoted {
        value,
        rest: b"",
        is_ambiguous: true,
    }
}

const MOST_PARTS: usize = 1_000;
const MOST_LINES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told {
        parts: Vec<(String, Option<String>, String)>,
        outside: String,
        ambiguous: bool,
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    impl Sink for Told {
        fn part(&mut self, part: &Part<'_>) {
            let file = part.file.as_deref().map(text);
            self.parts
                .push((text(&part.name), file, text(part.content)));
        }

        fn outside(&mut self, outside: &[u8]) {
            self.outside.push_str(&text(outside));
        }

        fn ambiguous(&mut self) {
            self.ambiguous = true;
        }
    }

    fn told(body: &str) -> (Told, bool) {
        let mut told = Told::default();
        let outcome = read(body.as_bytes(), b"x", Sort::Form, &mut told);
        (told, outcome == Outcome::Whole)
    }

    fn field(disposition: &str) -> Told {
        told(&format!(
            "--x\r\nContent-Disposition: {disposition}\r\n\r\nv\r\n--x--\r\n"
        ))
        .0
    }

    #[test]
    fn parts_are_read_with_their_names() {
        let body = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1\r\n2\r\n--x\r\n\
            Content-Disposition: form-data; name=f; filename=\"c:\\\"d.txt\"\r\nContent-Type: text/plain\r\n\r\n\r\n--x--\r\n";
        let (told, whole) = told(body);
        assert!(whole && !told.ambiguous, "{:?}", told.parts);
        assert_eq!(told.parts[0], ("a".to_owned(), None, "1\r\n2".to_owned()));
        assert_eq!(told.parts[1].1.as_deref(), Some("c:\"d.txt"));
        assert_eq!(told.parts[1].2, "");
        assert_eq!(told.outside, "");
    }

    #[test]
    fn bare_line_breaks_and_folded_lines_are_accepted() {
        let (told, whole) = told("--x\nContent-Disposition: form-data;\n name=\"a\"\n\nv\n--x--");
        assert!(whole);
        assert_eq!(told.parts, [("a".to_owned(), None, "v".to_owned())]);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_told() {
        for disposition in [
            "form-data; name=a; name=b",
            "form-data; name=\"a\"b",
            "form-data; name=a; filename=b; filename=c",
            "attachment; name=a",
            "form-data; name=a; name*0=b",
            "form-data; name=a\r\nContent-Disposition: form-data; name=b",
            "form-data; name=a\r\nContent-Transfer-Encoding: base64",
            "form-data; name=a\r\nno header at all",
            "form-data; name=\"a",
            r#"form-data; name="a\\""#,
            r#"form-data; name="a\\"; filename="b""#,
            "form-data; name=a; size=3",
            "form-data; name=a\"b; filename=c",
        ] {
            assert!(field(disposition).ambiguous, "{disposition}");
        }
        for disposition in [
            "form-data; name=a",
            "form-data;name=\"a\";filename=\"x.png\"",
            "form-data; name=\"a\"; filename=\"x.png\"; filename*=UTF-8''x.png",
            "form-data; name=a\r\nContent-Transfer-Encoding: binary",
        ] {
            assert!(!field(disposition).ambiguous, "{disposition}");
        }
    }

    #[test]
    fn a_line_that_some_take_for_the_next_boundary_is_told() {
        let with = |line: &str| {
            told(&format!(
                "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv{line}--x--\r\n"
            ))
            .0
        };
        assert!(!with("\r\n").ambiguous && !with("\r\n--x \t\r\n\r\n\r\n").ambiguous);
        assert!(!with(" --x y\r\n").ambiguous);
        for line in [
            "\r\n--xy\r\n",
            "\r\n--x y\r\n\r\n",
            "\r\n--x\ry\r\n",
            "\r--x\r\n\r\n",
            "\n--x\n\nw\r\n",
            "\r\n--x-- y\r\n",
            "\r\n--x--\r\n",
        ] {
            assert!(with(line).ambiguous, "{line:?}");
        }
    }

    #[test]
    fn a_file_that_may_be_a_field_is_told() {
        struct Seen(Vec<bool>);
        impl Sink for Seen {
            fn part(&mut self, part: &Part<'_>) {
                self.0.push(part.may_be_field);
            }
            fn outside(&mut self, _: &[u8]) {}
            fn ambiguous(&mut self) {}
        }
        for (names, may_be) in [
            ("filename=a", false),
            ("filename=a; filename*=a", false),
            ("filename=\"\"", true),
            ("filename*=UTF-8''a", true),
        ] {
            let mut seen = Seen(Vec::new());
            let body =
                format!("--x\r\nContent-Disposition: form-data; name=b; {names}\r\n\r\nv\r\n--x--");
            read(body.as_bytes(), b"x", Sort::Form, &mut seen);
            assert_eq!(seen.0, [may_be], "{names}");
        }
    }

    #[test]
    fn documents_that_belong_together_need_no_names() {
        let body = b"--x\r\nContent-Type: a/b\r\nContent-Disposition: attachment; size=1\r\n\r\nv\r\n--x--";
        for (sort, outcome, ambiguous) in [
            (Sort::Other, Outcome::Whole, false),
            (Sort::Form, Outcome::Malformed, true),
        ] {
            let mut told = Told::default();
            assert_eq!(read(body, b"x", sort, &mut told), outcome);
            assert_eq!(told.ambiguous, ambiguous);
        }
    }

    #[test]
    fn what_stands_outside_of_the_parts_is_told() {
        let (told, whole) = told(
            "hidden\r\n--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--x--\r\nbehind",
        );
        assert!(whole);
        assert!(told.outside.contains("hidden") && told.outside.contains("behind"));
    }

    #[test]
    fn a_form_without_an_end_or_a_name_is_not_whole() {
        assert!(!told("--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv").1);
        assert!(!told("--x\r\nContent-Type: text/plain\r\n\r\nv\r\n--x--").1);
        assert!(!told("nothing").1);
        assert!(!told("").1);
        assert_eq!(told("nothing").0.outside, "nothing");
        let cut = told("--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv").0;
        assert_eq!(cut.parts, [("a".to_owned(), None, "v".to_owned())]);
    }
}
