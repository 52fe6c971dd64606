//! What an inspection has found.
//!
//! The score of a request is that of its worst value, and what is wrong with the request as such. The scores of
//! several values are not added up: a long document has more odd words than a short one, and is no worse.

use edgeway_sdk::Reply;

use super::{
    engine::{Engine, Match},
    rules::Rule,
};

/// Where a value stands, for the operator: `query q`, `header referer`, `json user.name`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a [u8],
}

/// What a value is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Path,
    Query,
    Header,
    Cookie,
    Form,
    Json,
    Multipart,
    Xml,
    Body,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Form => "form",
            Self::Json => "json",
            Self::Multipart => "multipart",
            Self::Xml => "xml",
            Self::Body => "body",
        }
    }

    /// Whether its names are those of parameters of the application.
    pub(super) fn has_parameters(self) -> bool {
        matches!(
            self,
            Self::Query | Self::Form | Self::Json | Self::Multipart
        )
    }
}

/// A value that something was found in.
#[derive(Debug)]
struct Finding {
    place: String,
    score: u32,
    matches: Vec<Match>,
}

/// All that was found in a request so far.
#[derive(Debug, Default)]
pub(super) struct Score {
    worst: Option<Finding>,
    /// Of the request as such: rules, each once.
    general: Vec<(usize, u32)>,
}

impl Score {
    /// Notes what was found in one value.
    pub(super) fn value(&mut self, engine: &Engine, place: Place<'_>, matches: Vec<Match>) {
        let score = matches
            .iter()
            .map(|known| engine.rule(known.rule).score)
            .sum();
        if self
            .worst
            .as_ref()
            .is_some_and(|worst| worst.score >= score)
        {
            return;
        }
        let mut text = place.kind.name().to_owned();
        if !place.name.is_empty() {
            text.push(' ');
            escape(place.name, LONGEST_NAME, &mut text);
        }
        self.worst = Some(Finding {
            place: text,
            score,
            matches,
        });
    }

    /// Notes what is wrong with the request as such.
    pub(super) fn general(&mut self, engine: &Engine, rule: usize) {
        if self.general.iter().all(|(known, _)| *known != rule) {
            self.general.push((rule, engine.rule(rule).score));
        }
    }

    pub(super) fn total(&self) -> u32 {
        let general = self.general.iter().map(|(_, score)| *score).sum::<u32>();
        general + self.worst.as_ref().map_or(0, |worst| worst.score)
    }

    /// The refusal, if the score has reached `threshold`.
    pub(super) fn verdict(&self, engine: &Engine, threshold: u32) -> Option<Reply> {
        let total = self.total();
        if total < threshold {
            return None;
        }
        let mut rules: Vec<&Rule> = self.rules(engine).collect();
        // The heaviest first: it is the one that is counted.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.score));
        let first = rules.first()?;
        let place = self.worst.as_ref().map_or("request", |worst| &worst.place);
        let mut why = format!("score {total} in {place}:");
        for rule in &rules {
            why.push_str(&format!(" {}({})", rule.id, rule.score));
        }
        if let Some(found) = self.extract(engine) {
            why.push_str(", found `");
            escape(found, LONGEST_EXTRACT, &mut why);
            why.push('`');
        }
        let reply = Reply::new(403)
            .detail("The request looks like an attack.")
            .because(why)
            .rule(first.id)
            .key(place.to_owned());
        Some(reply)
    }

    fn rules<'e>(&self, engine: &'e Engine) -> impl Iterator<Item = &'e Rule> {
        let matches = self.worst.iter().flat_map(|worst| &worst.matches);
        let matched = matches.map(|known| known.rule);
        let general = self.general.iter().map(|(rule, _)| *rule);
        let mut all: Vec<usize> = matched.chain(general).collect();
        all.dedup();
        all.into_iter().map(|rule| engine.rule(rule))
    }

    /// A part of what the heaviest rule has matched.
    fn extract(&self, engine: &Engine) -> Option<&[u8]> {
        let matches = &self.worst.as_ref()?.matches;
        let heaviest = matches
            .iter()
            .rev()
            .max_by_key(|known| engine.rule(known.rule).score)?;
        Some(&heaviest.extract)
    }
}

/// Adds `text` so that it stays in its line of the log, and is no longer than `most`.
fn escape(text: &[u8], most: usize, out: &mut String) {
    for byte in text.iter().take(most) {
        match byte {
            b'`' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    if text.len() > most {
        out.push_str("...");
    }
}

const LONGEST_NAME: usize = 64;
const LONGEST_EXTRACT: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(engine: &Engine, rules: &[&str]) -> Vec<Match> {
        let rules = rules.iter().map(|id| Match {
            rule: engine.find(id).unwrap(),
            extract: b"a\nb`c".as_slice().into(),
        });
        rules.collect()
    }

    const PLACE: Place<'static> = Place {
        kind: Kind::Query,
        name: b"q",
    };

    #[test]
    fn the_worst_value_counts_and_what_is_wrong_as_such() {
        let engine = Engine::new().unwrap();
        let mut score = Score::default();
        score.value(&engine, PLACE, found(&engine, &["sqli-hex"]));
        score.value(&engine, PLACE, found(&engine, &["sqli-keywords"]));
        assert_eq!(score.total(), 3);
        let malformed = engine.find("protocol-malformed-body").unwrap();
        score.general(&engine, malformed);
        score.general(&engine, malformed);
        assert_eq!(score.total(), 6);
        assert!(score.verdict(&engine, 7).is_none());
        let reply = score.verdict(&engine, 6).unwrap();
        assert_eq!(reply.about(), Some("query q"));
        assert_eq!(
            reply.reason(),
            Some("score 6 in query q: sqli-hex(3) protocol-malformed-body(3), found `a\\x0ab\\`c`")
        );
    }

    #[test]
    fn the_heaviest_rule_is_the_one_that_is_counted() {
        let engine = Engine::new().unwrap();
        let mut score = Score::default();
        score.value(
            &engine,
            PLACE,
            found(&engine, &["sqli-keywords", "sqli-hex", "sqli-union"]),
        );
        let reply = score.verdict(&engine, 5).unwrap();
        assert_eq!(reply.decided_by_rule(), Some("sqli-union"));
    }
}
