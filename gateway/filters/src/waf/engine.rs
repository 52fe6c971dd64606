//! The search for attacks in one value.
//!
//! Most values are a number, a word, an identifier: those end after one look at their bytes. The others are
//! searched for all words of all rules at once, and only the patterns of rules whose words occur are tried.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use super::{
    normalise::{self, Kinds},
    rules::{self, Places, Rule, by_code},
    sql,
};

/// All rules, ready to be used. Made once.
pub(super) struct Engine {
    rules: Vec<Compiled>,
    words: AhoCorasick,
    /// The rule that a word belongs to.
    owners: Vec<u8>,
    by_code: ByCode,
    /// All rules but those of SQL.
    not_sql: Rules,
}

struct Compiled {
    rule: &'static Rule,
    /// None if the words are all that there is to it.
    pattern: Option<Regex>,
}

/// Where the rules are that are found by code.
struct ByCode {
    grammar: usize,
    statement: usize,
    tautology: usize,
    breakout: usize,
    stacked: usize,
    html: usize,
    operator: usize,
    /// What a whole statement may have.
    forgiven: Rules,
}

/// A rule that matches, and a part of what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) rule: usize,
    pub(super) extract: Box<[u8]>,
}

/// A set of rules.
#[derive(Clone, Copy, Default)]
pub(super) struct Rules(u128);

impl Rules {
    pub(super) fn add(&mut self, rule: usize) {
        self.0 |= 1 << rule;
    }

    pub(super) fn has(self, rule: usize) -> bool {
        self.0 & (1 << rule) != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn next(&mut self) -> Option<usize> {
        let first = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (first < 128).then_some(first as usize)
    }
}

/// What a value is looked at as.
struct View<'a> {
    /// Without disguises.
    text: Cow<'a, [u8]>,
    /// Without comments of SQL, if there are any.
    sql: Option<Vec<u8>>,
    kinds: Kinds,
    place: Places,
}

impl View<'_> {
    fn sql(&self) -> &[u8] {
        self.sql.as_deref().unwrap_or(&self.text)
    }
}

impl Engine {
    /// Compiles all rules.
    ///
    /// # Errors
    ///
    /// Only if a rule of ours is wrong, which a test would have seen.
    pub(super) fn new() -> Result<Self, String> {
        let rules = rules::all()
            .map(Compiled::new)
            .collect::<Result<Vec<_>, _>>()?;
        let mut words = Vec::new();
        let mut owners = Vec::new();
        for (at, compiled) in rules.iter().enumerate() {
            for word in compiled.rule.words {
                words.push(*word);
                owners.push(u8::try_from(at).map_err(|_| "there are too many rules")?);
            }
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)
            .map_err(|error| error.to_string())?;
        let mut not_sql = Rules::default();
        for (at, _) in rules
            .iter()
            .enumerate()
            .filter(|(_, known)| known.rule.class != rules::Class::Sqli)
        {
            not_sql.add(at);
        }
        Ok(Self {
            by_code: ByCode::of(&rules)?,
            not_sql,
            rules,
            words,
            owners,
        })
    }

    pub(super) fn rule(&self, at: usize) -> &'static Rule {
        self.rules[at].rule
    }

    /// The rule of this name.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.rules.iter().position(|known| known.rule.id == id)
    }

    /// All rules of these classes.
    pub(super) fn of(&self, classes: &[rules::Class]) -> Rules {
        let mut rules = Rules::default();
        for (at, rule) in self.rules().enumerate() {
            if classes.contains(&rule.class) {
                rules.add(at);
            }
        }
        rules
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.rules.iter().map(|known| known.rule)
    }

    /// What is found in `value`, without the rules in `off`. The application's own decoding of the place (of a
    /// query, of JSON) has been done.
    pub(super) fn search(&self, value: &[u8], place: Places, off: Rules, found: &mut Vec<Match>) {
        let kinds = Kinds::of(value);
        if is_harmless(value, kinds, place) {
            return;
        }
        let text = if kinds.has(Kinds::ESCAPE) {
            normalise::plain(value)
        } else {
            Cow::Borrowed(value)
        };
        let kinds = match &text {
            Cow::Owned(text) => Kinds::of(text),
            Cow::Borrowed(_) => kinds,
        };
        let sql = kinds
            .has(Kinds::SLASH)
            .then(|| normalise::without_comments(&text))
            .flatten();
        let was_disguised = matches!(text, Cow::Owned(_));
        let view = View {
            text,
            sql,
            kinds,
            place,
        };
        let before = found.len();
        self.search_view(&view, off, found);
        // What an application does not undo is a part of the text: `'%27'` is not three quotes to a database.
        let written = Kinds::of(value);
        if was_disguised && written.has(Kinds::QUOTE) {
            let mut off = off.union(self.not_sql);
            for known in found.get(before..).unwrap_or_default() {
                off.add(known.rule);
            }
            let sql = written.has(Kinds::SLASH);
            let view = View {
                text: Cow::Borrowed(value),
                sql: sql.then(|| normalise::without_comments(value)).flatten(),
                kinds: written,
                place,
            };
            self.search_view(&view, off, found);
        }
        self.forgive_statements(before, found);
    }

    fn search_view(&self, view: &View<'_>, off: Rules, found: &mut Vec<Match>) {
        let candidates = self.candidates(view);
        self.search_patterns(view, candidates, off, found);
        self.search_grammars(view, candidates, off, found);
    }

    /// The rules of which a word occurs.
    fn candidates(&self, view: &View<'_>) -> Rules {
        let mut rules = Rules::default();
        for text in [Some(&*view.text), view.sql.as_deref()]
            .into_iter()
            .flatten()
        {
            for word in self.words.find_overlapping_iter(text) {
                let owner = usize::from(self.owners[word.pattern().as_usize()]);
                // `FeedGrabber/` is no `grabber/`.
                let is_name = self.rules[owner].rule.class == rules::Class::Scanner;
                if is_name && is_inside(text, word.start()) {
                    continue;
                }
                rules.add(owner);
            }
        }
        rules
    }

    fn search_patterns(
        &self,
        view: &View<'_>,
        mut candidates: Rules,
        off: Rules,
        found: &mut Vec<Match>,
    ) {
        let mut criticals = 0;
        while let Some(at) = candidates.next() {
            // What is left would only take time.
            if criticals == ENOUGH {
                return;
            }
            let compiled = &self.rules[at];
            if off.has(at) || at == self.by_code.grammar || !compiled.rule.places.has(view.place) {
                continue;
            }
            let Some(range) = self.matches(at, compiled, view) else {
                continue;
            };
            criticals += usize::from(compiled.rule.score == rules::CRITICAL);
            found.push(Match {
                rule: at,
                extract: range.get(..LONGEST_EXTRACT).unwrap_or(range).into(),
            });
        }
    }

    /// The part of the value that this rule matches; a rule of SQL also without comments.
    fn matches<'v>(&self, at: usize, compiled: &Compiled, view: &'v View<'_>) -> Option<&'v [u8]> {
        let sql = view.sql.as_deref();
        let sql = sql.filter(|_| compiled.rule.class == rules::Class::Sqli);
        let found = sql.and_then(|sql| self.matches_text(at, compiled, sql));
        found.or_else(|| self.matches_text(at, compiled, &view.text))
    }

    fn matches_text<'t>(&self, at: usize, compiled: &Compiled, text: &'t [u8]) -> Option<&'t [u8]> {
        let Some(pattern) = &compiled.pattern else {
            return Some(text);
        };
        match at {
            at if at == self.by_code.tautology => sql::tautology(pattern, text),
            at if at == self.by_code.breakout => sql::breakout(pattern, text),
            at if at == self.by_code.operator && is_filter(text) => None,
            at if at == self.by_code.stacked => sql::stacked(pattern, text),
            _ => pattern.find(text).map(|found| found.as_bytes()),
        }
    }

    fn search_grammars(
        &self,
        view: &View<'_>,
        candidates: Rules,
        off: Rules,
        found: &mut Vec<Match>,
    ) {
        let ByCode {
            grammar,
            statement,
            html,
            ..
        } = self.by_code;
        let looks = |rule: usize| !off.has(rule) && self.rules[rule].rule.places.has(view.place);
        let mut push = |rule: usize, extract: &[u8]| {
            found.push(Match {
                rule,
                extract: extract.get(..LONGEST_EXTRACT).unwrap_or(extract).into(),
            });
        };
        if candidates.has(grammar) && (looks(grammar) || looks(statement)) {
            match sql::grammar(view.sql(), view.kinds) {
                Some(sql::Grammar::Injection) if looks(grammar) => push(grammar, view.sql()),
                Some(sql::Grammar::Statement) if looks(statement) => push(statement, view.sql()),
                _ => {}
            }
        }
        if looks(html) && super::html::grammar(&view.text, view.kinds) {
            push(html, &view.text);
        }
    }
}

impl Engine {
    /// In a statement that stands for itself, what joins and compares is nothing special.
    fn forgive_statements(&self, from: usize, found: &mut Vec<Match>) {
        let new = found.get(from..).unwrap_or_default();
        if !new.iter().any(|known| known.rule == self.by_code.statement) {
            return;
        }
        let mut at = 0;
        found.retain(|known| {
            at += 1;
            at <= from || !self.by_code.forgiven.has(known.rule)
        });
    }
}

/// Whether there can't be anything in it: names, numbers, identifiers. A path may name a file, and a header a
/// scanner, by letters alone.
fn is_harmless(value: &[u8], kinds: Kinds, place: Places) -> bool {
    if kinds.has(SUSPICIOUS) || !place.has(Places::INPUT.and(Places::HEADER)) {
        return value.is_empty();
    }
    // `win.ini`, `__proto__`, and Java's `rO0AB...`.
    let names_file = kinds.has(Kinds::DOT) && kinds.has(Kinds::LETTER);
    let is_inner = kinds.has(Kinds::UNDERSCORE) && value.windows(2).any(|pair| pair == b"__");
    let is_object = value.get(..4).is_some_and(|begin| {
        let known = [b"ro0a", b"aced", b"kzta", b"cs7q"];
        known
            .into_iter()
            .any(|known| begin.eq_ignore_ascii_case(known))
    });
    let is_long_word = matches!(value, b"prototype" | b"constructor");
    !names_file && !is_inner && !is_object && !is_long_word
}

/// Whether what begins at `start` goes on a word.
fn is_inside(text: &[u8], start: usize) -> bool {
    let letter = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    start > 0 && letter(start - 1) && letter(start)
}

/// `filter[price][$gte]`: a parameter by which interfaces offer these operators to everybody.
fn is_filter(name: &[u8]) -> bool {
    let lower = name.get(..8).unwrap_or(name).to_ascii_lowercase();
    let begin = [&b"filter["[..], b"filters["];
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"[]$_.-".contains(byte);
    begin.iter().any(|begin| lower.starts_with(begin))
        && name.ends_with(b"]")
        && name.iter().all(allowed)
        && !name
            .windows(6)
            .any(|part| part.eq_ignore_ascii_case(b"$where"))
        && !name
            .windows(5)
            .any(|part| part.eq_ignore_ascii_case(b"$expr"))
        && !name
            .windows(5)
            .any(|part| part.eq_ignore_ascii_case(b"$func"))
}

/// Without any of these a value is a word.
const SUSPICIOUS: Kinds = Kinds::BLANK
    .and(Kinds::ESCAPE)
    .and(Kinds::QUOTE)
    .and(Kinds::ANGLE)
    .and(Kinds::OPERATOR)
    .and(Kinds::SLASH)
    .and(Kinds::OTHER);

impl Compiled {
    fn new(rule: &'static Rule) -> Result<Self, String> {
        if rule.pattern.is_empty() {
            return Ok(Self {
                rule,
                pattern: None,
            });
        }
        let pattern = RegexBuilder::new(rule.pattern)
            .case_insensitive(true)
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(LARGEST)
            .dfa_size_limit(LARGEST)
            .build()
            .map_err(|error| format!("{}: {error}", rule.id))?;
        Ok(Self {
            rule,
            pattern: Some(pattern),
        })
    }
}

impl ByCode {
    fn of(rules: &[Compiled]) -> Result<Self, String> {
        let find = |id: &str| {
            let at = rules.iter().position(|known| known.rule.id == id);
            at.ok_or_else(|| format!("there is no rule {id}"))
        };
        let mut forgiven = Rules::default();
        for id in FORGIVEN {
            forgiven.add(find(id)?);
        }
        Ok(Self {
            forgiven,
            grammar: find(by_code::SQL_GRAMMAR)?,
            statement: find(by_code::SQL_STATEMENT)?,
            tautology: find(by_code::SQL_TAUTOLOGY)?,
            breakout: find(by_code::SQL_BREAKOUT)?,
            stacked: find(by_code::SQL_STACKED)?,
            html: find(by_code::HTML_GRAMMAR)?,
            operator: find(by_code::NOSQL_OPERATOR)?,
        })
    }
}

/// What a statement of SQL may have without being an injection.
const FORGIVEN: [&str; 8] = [
    by_code::SQL_TAUTOLOGY,
    by_code::SQL_BREAKOUT,
    "sqli-union",
    "sqli-subquery",
    "sqli-comment",
    "sqli-concatenation",
    "sqli-conditional",
    "sqli-keywords",
];

/// So many rules that are certain are looked for in one value, and no more.
const ENOUGH: usize = 12;
/// How much is kept of what a rule has matched.
const LONGEST_EXTRACT: usize = 128;
/// What one pattern may take, compiled.
const LARGEST: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own_and_words_in_lower_case() {
        let engine = Engine::new().unwrap();
        let mut names = HashSet::new();
        for rule in engine.rules() {
            assert!(names.insert(rule.id), "{}", rule.id);
            for word in rule.words {
                assert!(
                    !word.is_empty() && *word == word.to_lowercase(),
                    "{}: {word}",
                    rule.id
                );
            }
            assert!(
                (rules::NOTICE..=rules::CRITICAL).contains(&rule.score),
                "{}",
                rule.id
            );
        }
        assert!(names.len() <= 128, "a set of rules has 128 bits");
    }

    #[test]
    fn a_rule_without_words_is_found_by_code() {
        let engine = Engine::new().unwrap();
        for rule in engine.rules().filter(|rule| rule.words.is_empty()) {
            assert_eq!(rule.pattern, "", "{} can't be found", rule.id);
        }
    }

    #[test]
    fn names_numbers_and_identifiers_are_not_searched() {
        for value in [
            "",
            "17",
            "red",
            "Trail-shoes_38",
            "550e8400-e29b-41d4-a716-446655440000",
            "2024-11-12",
            "1.5",
        ] {
            assert!(
                is_harmless(value.as_bytes(), Kinds::of(value.as_bytes()), Places::VALUE),
                "{value}"
            );
        }
        for value in [
            "win.ini",
            "__proto__",
            "rO0ABXNyABFq",
            "a b",
            "it's",
            "prototype",
        ] {
            assert!(
                !is_harmless(value.as_bytes(), Kinds::of(value.as_bytes()), Places::VALUE),
                "{value}"
            );
        }
        assert!(!is_harmless(b"sqlmap", Kinds::of(b"sqlmap"), Places::AGENT));
    }

    #[test]
    fn a_set_of_rules_gives_back_what_was_put_into_it() {
        let mut rules = Rules::default();
        for rule in [127, 3, 64] {
            rules.add(rule);
        }
        assert!(rules.has(64) && !rules.has(63));
        let all: Vec<_> = std::iter::from_fn(|| rules.next()).collect();
        assert_eq!(all, [3, 64, 127]);
    }
}
