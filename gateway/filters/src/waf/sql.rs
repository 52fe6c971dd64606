//! What patterns alone can't tell of SQL: whether a quote ends somebody else's text, whether two sides are the
//! same, whether words are a sentence of English or one of SQL.

use std::{borrow::Cow, ops::Range};

use regex::bytes::{Captures, Regex};

use super::normalise::Kinds;

/// What libinjection makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    Injection,
    /// A statement from its first word on, that does not leave any text before it.
    Statement,
}

/// Looks at the grammar of a value, as if it stood in a number, in single and in double quotes.
pub(super) fn grammar(text: &[u8], kinds: Kinds) -> Option<Grammar> {
    if !kinds.has(
        Kinds::QUOTE
            .and(Kinds::OPERATOR)
            .and(Kinds::SLASH)
            .and(Kinds::BLANK)
            .and(Kinds::OTHER),
    ) {
        return None;
    }
    let text = text.get(..LONGEST).unwrap_or(text);
    if is_sum(text) {
        return None;
    }
    let text = &*without_decades(text);
    let fingerprint = fingerprint(text)?;
    if is_prose(&fingerprint, text) {
        return None;
    }
    if fingerprint.starts_with('E') && is_whole(text) {
        return Some(Grammar::Statement);
    }
    Some(Grammar::Injection)
}

/// `5 or 6 = 11`, and no more: nobody asks a database whether two numbers are equal that are not, with blanks.
fn is_sum(text: &[u8]) -> bool {
    if text.len() > 32 {
        return false;
    }
    let text = text.trim_ascii();
    let text = text.strip_suffix(b"?").unwrap_or(text);
    let mut words = text.split(u8::is_ascii_whitespace);
    let words = [(); 6].map(|()| words.next());
    match words {
        [
            Some(first),
            Some(b"or"),
            Some(left),
            Some(b"="),
            Some(right),
            None,
        ] => is_number(first) && is_number(left) && is_number(right) && left != right,
        _ => false,
    }
}

/// The text without the quotes of decades, if it has no others.
fn without_decades(text: &[u8]) -> Cow<'_, [u8]> {
    let is_quote = |at: &usize| text.get(*at).is_some_and(|byte| b"'\"`".contains(byte));
    let mut quotes = (0..text.len()).filter(is_quote).peekable();
    if quotes.peek().is_none() || !quotes.all(|at| is_decade(text, at)) {
        return Cow::Borrowed(text);
    }
    let without = text.iter().map(|byte| match byte {
        b'\'' => b' ',
        byte => *byte,
    });
    Cow::Owned(without.collect())
}

/// Whether the quote there is that of `the '90s`.
fn is_decade(text: &[u8], at: usize) -> bool {
    let Some([b'\'', b'0'..=b'9', b'0', b's' | b'S', rest @ ..]) = text.get(at..) else {
        return false;
    };
    let word = at.checked_sub(1).and_then(|before| text.get(before));
    let before = at.checked_sub(2).and_then(|before| text.get(before));
    word == Some(&b' ')
        && before.is_some_and(u8::is_ascii_alphabetic)
        && !rest
            .first()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_(".contains(byte))
}

fn fingerprint(text: &[u8]) -> Option<String> {
    let found = libinjectionrs::detect_sqli(text);
    if !found.is_injection() {
        return None;
    }
    found.fingerprint.map(|fingerprint| fingerprint.to_string())
}

/// Whether what looks like an injection is rather a line of another language, words in quotes, an amount.
///
/// A fingerprint has a letter for each word: `s` text, `1` number, `n` name, `o` operator, `&` and/or, `k` keyword,
/// `f` function, `E` select and its like, `U` union, `B` group or order by, `c` comment.
fn is_prose(fingerprint: &str, text: &[u8]) -> bool {
    let letters = fingerprint.as_bytes();
    let compares = || text.iter().any(|byte| b"=<>^".contains(byte));
    match letters {
        // `"pizza" and "pasta"`, `35% cotton and 65% wool`.
        [b's' | b'1', b'&', b's' | b'1' | b'n'] => !compares(),
        [b's', b'&', b's', b'o', b's'] => is_html(text),
        // `path + '/' + name`, `ruler = '='`. What is left of it, `'='`, is found by its pattern.
        [b's', b'o', b's', ..] | [b's', b'o', b'n', ..] | [b's', b'o', b'1'] => true,
        // An identifier with dashes at its end.
        [b'1' | b'n', b'c'] | [b'1', b'n', b'c'] => true,
        [b's', b'c'] => !text.contains(&b'\'') && !text.contains(&b'"'),
        // The licence at the head of a script.
        [b'X', ..] => !text
            .windows(4)
            .any(|mark| mark.starts_with(b"/*!") && mark.ends_with(b"5")),
        // A call of a function, with no select in it: rather of another language.
        [b'f' | b'k' | b'T' | b't', rest @ ..] => {
            !rest.contains(&b'E') && !rest.contains(&b'U') && !rest.starts_with(b"(f(1")
        }
        [b'n', b'&', b'1' | b'(' | b'f', ..] => false,
        [b'n', b')', rest @ ..] => !rest.iter().any(|letter| b"EU1&".contains(letter)),
        [b'n', b'U', rest @ ..] => !rest.iter().any(|letter| b"1svf(c".contains(letter)),
        [b'n', b'B' | b',' | b';', rest @ ..] => !rest.iter().any(|letter| b"EU1".contains(letter)),
        [b'n', b'k', b'1', ..] => false,
        [b'n', b'o', b'(', b'E', ..] => false,
        [b'n', ..] => true,
        [b'1', b'o', ..] => {
            !letters.contains(&b'E') && !letters.contains(&b'c') && !letters.contains(&b'f')
        }
        _ => is_html(text),
    }
}

/// Whether all quotes are those of attributes.
fn is_html(text: &[u8]) -> bool {
    if !text.contains(&b'<') {
        return false;
    }
    let mut open = None;
    let mut before = b' ';
    for byte in text {
        match (open, *byte) {
            (Some(quote), byte) if byte == quote => open = None,
            (None, b'\'' | b'"') if before != b'=' => return false,
            (None, quote @ (b'\'' | b'"')) => open = Some(quote),
            _ => {}
        }
        before = *byte;
    }
    open.is_none()
}

/// Whether quotes and parentheses are closed and nothing is commented out: it needs nothing around it.
fn is_whole(text: &[u8]) -> bool {
    let mut depth = 0_i32;
    let mut quotes = [0_u32; 3];
    for byte in text {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\'' => quotes[0] += 1,
            b'"' => quotes[1] += 1,
            b'`' => quotes[2] += 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    let trimmed = text.trim_ascii_end();
    let last = trimmed
        .rsplit(|byte| !byte.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    let dangles = DANGLING.iter().any(|word| last.eq_ignore_ascii_case(word));
    text.trim_ascii_start()
        .first()
        .is_some_and(u8::is_ascii_alphabetic)
        && !dangles
        && depth == 0
        && quotes.iter().all(|count| count % 2 == 0)
        && !trimmed.ends_with(b"--")
        && !trimmed.ends_with(b"#")
}

/// A comparison that is always true, or always false: of numbers, or of a thing with itself.
pub(super) fn tautology<'t>(pattern: &Regex, text: &'t [u8]) -> Option<&'t [u8]> {
    if is_sum(text) {
        return None;
    }
    let same = |found: &Captures<'t>| {
        let (left, right) = (found.get(1)?.as_bytes(), found.get(2)?.as_bytes());
        let trivial = is_number(left) && is_number(right)
            || left.eq_ignore_ascii_case(right)
            // `or 'x'='xy`: the end of the value is the begin of what follows.
            || found.get(2)?.end() == text.len() && right.len() <= left.len() + 1 && left.starts_with(right);
        trivial
            .then(|| found.get(0).map(|all| all.as_bytes()))
            .flatten()
    };
    pattern.captures_iter(text).find_map(|found| same(&found))
}

/// A quote that is an odd one, and something behind it that goes on in SQL.
pub(super) fn breakout<'t>(pattern: &Regex, text: &'t [u8]) -> Option<&'t [u8]> {
    let calm = Calm::of(text);
    let mut counted = 0;
    let mut quotes = [0_u32; 3];
    let mut all_before = [0_u32; 3];
    let mut from = 0;
    while let Some(found) = pattern.captures_at(text, from) {
        let (Some(all), Some(quote)) = (found.get(0), found.get(1)) else {
            break;
        };
        count(&mut quotes, text, counted..quote.start());
        count_all(&mut all_before, text, counted..quote.start());
        counted = quote.start();
        let mark = text.get(quote.start()).copied().unwrap_or_default();
        let rest = count_of(&calm.quotes, mark) - count_of(&all_before, mark);
        if count_of(&quotes, mark).is_multiple_of(2)
            && !calm.is_quoted(text, quote.start(), all.end(), rest)
        {
            return Some(all.as_bytes());
        }
        from = quote.end();
    }
    None
}

/// What is asked of a value for each of its quotes, found once.
struct Calm {
    /// Behind the last operator and the last `--`.
    from: usize,
    /// All of them, apostrophes too.
    quotes: [u32; 3],
}

impl Calm {
    fn of(text: &[u8]) -> Self {
        let is_operator = |byte: &u8| b"=<>()|&;#*+/^@%".contains(byte);
        let operator = text.iter().rposition(is_operator).map_or(0, |at| at + 1);
        let dashes = text.windows(2).rposition(|pair| pair == b"--");
        let mut quotes = [0; 3];
        count_all(&mut quotes, text, 0..text.len());
        Self {
            from: operator.max(dashes.map_or(0, |at| at + 1)),
            quotes,
        }
    }

    /// Whether the quote at `start` begins words in quotes instead of ending a text: `"like" stamp`, `a "b" or "c"`,
    /// `18 '#`. From it on there are `rest` of its kind.
    fn is_quoted(&self, text: &[u8], start: usize, end: usize, rest: u32) -> bool {
        let is_calm = start >= self.from;
        let closed = rest.is_multiple_of(2);
        let before = text.get(..start).unwrap_or_default();
        let after_blank = before.last().is_some_and(u8::is_ascii_whitespace);
        let ends = end == text.len();
        is_calm && closed || after_blank && ends && text.len() - start <= 3
    }
}

/// A statement behind the end of another: of a text (an odd quote), or of a short word or number.
pub(super) fn stacked<'t>(pattern: &Regex, text: &'t [u8]) -> Option<&'t [u8]> {
    let found = pattern.find(text)?;
    let end = text
        .get(found.start()..)
        .and_then(|rest| rest.iter().position(|byte| *byte == b';'))?;
    let before = text.get(..found.start() + end)?;
    let mut quotes = [0_u32; 3];
    count(&mut quotes, text, 0..before.len());
    let words = before
        .iter()
        .filter(|byte| byte.is_ascii_whitespace())
        .count();
    let leaves = quotes.iter().any(|count| count % 2 == 1) || words <= 2 && before.len() <= 48;
    leaves.then(|| found.as_bytes())
}

/// Counts quotes, but for the apostrophes of words.
fn count(quotes: &mut [u32; 3], text: &[u8], range: Range<usize>) {
    for at in range {
        match text.get(at) {
            Some(b'\'') if !is_apostrophe(text, at) => quotes[0] += 1,
            Some(b'"') => quotes[1] += 1,
            Some(b'`') => quotes[2] += 1,
            _ => {}
        }
    }
}

/// Counts all quotes.
fn count_all(quotes: &mut [u32; 3], text: &[u8], range: Range<usize>) {
    for byte in text.get(range).unwrap_or_default() {
        match byte {
            b'\'' => quotes[0] += 1,
            b'"' => quotes[1] += 1,
            b'`' => quotes[2] += 1,
            _ => {}
        }
    }
}

/// Whether it stands between two letters: `don't`.
fn is_apostrophe(text: &[u8], at: usize) -> bool {
    let is_letter = |at: usize| {
        text.get(at)
            .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80)
    };
    at > 0 && is_letter(at - 1) && is_letter(at + 1)
}

fn count_of(quotes: &[u32; 3], quote: u8) -> u32 {
    match quote {
        b'\'' => quotes[0],
        b'"' => quotes[1],
        _ => quotes[2],
    }
}

fn is_number(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
        && text
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// No statement ends with these.
const DANGLING: [&[u8]; 6] = [b"where", b"and", b"or", b"from", b"by", b"having"];
/// How much of a value is looked at: its grammar shows in the first words.
const LONGEST: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn grammar_of(text: &str) -> Option<Grammar> {
        grammar(text.as_bytes(), Kinds::of(text.as_bytes()))
    }

    #[test]
    fn an_injection_is_told_from_a_statement_and_from_prose() {
        for text in [
            "1' or '1'='1",
            "-1 union select 1,2",
            "select 1 from a where",
            "(select 1 from dual)",
            "x' or '90s'='90s",
            "5 or 5 = 5",
            "5 or 6 = 6 --",
        ] {
            assert_eq!(grammar_of(text), Some(Grammar::Injection), "{text}");
        }
        for text in [
            "SELECT name FROM people WHERE age > 21",
            "select count(*) from a;",
        ] {
            assert_eq!(grammar_of(text), Some(Grammar::Statement), "{text}");
        }
        for text in [
            "\"pizza\" and \"pasta\"",
            "35% cotton and 65% wool",
            "path = path + '/' + name",
            "if (a < b && c > d)",
            "print(f(-3))",
            "european union select committee",
            "see <a href=\"/teams/\">teams</a> or groups",
            "1611-IioXXIG1--",
            "the '90s #",
            "Best of the '80s--",
            "5 or 6 = 11",
        ] {
            assert_eq!(grammar_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_statement_is_whole_if_it_needs_nothing_around_it() {
        for text in ["select 1", "select ('a')", "select \"a\", 'b' from c;"] {
            assert!(is_whole(text.as_bytes()), "{text}");
        }
        for text in [
            "select 1)",
            "select (1",
            "select 'a",
            "select 1 --",
            "select 1 from a where",
            "(select 1)",
        ] {
            assert!(!is_whole(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_comparison_is_trivial_between_numbers_and_between_the_same() {
        let pattern = Regex::new(r"or (\w+)=(\w+)").unwrap();
        let is = |text: &str| tautology(&pattern, text.as_bytes()).is_some();
        assert!(is("or 1=1") && is("or 1=2") && is("or a=A") && is("or x=y or b=b"));
        assert!(!is("or a=b") && !is("or page=2"));
    }

    #[test]
    fn the_apostrophes_of_words_are_no_quotes() {
        let quotes = |text: &str| {
            let mut quotes = [0; 3];
            count(&mut quotes, text.as_bytes(), 0..text.len());
            quotes
        };
        assert_eq!(quotes("don't l'été O'Brien"), [0, 0, 0]);
        assert_eq!(quotes("boys' 'n' 5'"), [4, 0, 0]);
        assert_eq!(quotes("\"a\" `b"), [0, 2, 1]);
    }
}
