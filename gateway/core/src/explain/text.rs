//! An explanation as people read it.

use std::fmt::{self, Display, Formatter};

use super::{Changes, Explanation, Headers, Step, Verdict};

/// How wide the names at the left are.
const MARGIN: usize = 10;

/// An explanation to be written to a terminal or a file.
pub(crate) struct Shown<'e> {
    pub(crate) explanation: &'e Explanation,
    pub(crate) colours: bool,
    /// Whether times are told: they are of use where they are those of a real request.
    pub(crate) times: bool,
}

/// What a piece of text is.
#[derive(Clone, Copy)]
enum Tone {
    Name,
    Good,
    Bad,
    Doubtful,
    Quiet,
}

impl Tone {
    /// The parameter of the terminal's `SGR`.
    fn code(self) -> &'static str {
        match self {
            Self::Name => "1",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Doubtful => "33",
            Self::Quiet => "2",
        }
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // What nobody has understood has neither.
        if !self.explanation.request.method.is_empty() {
            self.request(f)?;
            self.route(f)?;
        }
        self.filters(f)?;
        self.cache(f)?;
        self.upstream(f)?;
        self.response(f)
    }
}

impl Shown<'_> {
    fn paint(&self, tone: Tone, text: impl Display) -> String {
        match self.colours {
            true => format!("\x1b[{}m{text}\x1b[0m", tone.code()),
            false => text.to_string(),
        }
    }

    /// A line with a name at the left; without one it belongs to the line before.
    fn line(&self, f: &mut Formatter<'_>, name: &str, text: impl Display) -> fmt::Result {
        let name = format!("{name:MARGIN$}");
        writeln!(f, "{}{text}", self.paint(Tone::Name, name))
    }

    fn request(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let asked = &self.explanation.request;
        let url = format!("{}://{}{}", asked.scheme, asked.host, asked.target);
        let whence = format!("from {}, at the listener {}", asked.client, asked.listener);
        self.line(f, "request", format_args!("{} {url}", asked.method))?;
        self.line(f, "", self.paint(Tone::Quiet, whence))?;
        let sent = asked.target.split('?').next().unwrap_or_default();
        if !asked.path.is_empty() && asked.path != sent {
            self.line(f, "", format_args!("routes see the path {}", asked.path))?;
        }
        if !asked.removed.is_empty() {
            let removed = asked.removed.join(", ");
            let why = format!("removed, as clients may not send it: {removed}");
            self.line(f, "", self.paint(Tone::Doubtful, why))?;
        }
        writeln!(f)
    }

    fn route(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let route = &self.explanation.route;
        let name = self.paint(Tone::Name, &route.name);
        match route.name == route.pattern {
            true => self.line(f, "route", name)?,
            false => self.line(f, "route", format_args!("{name}  {}", route.pattern))?,
        }
        self.line(f, "", format_args!("goes to: {}", route.target))?;
        for near in &route.not {
            let line = match near.name == near.pattern {
                true => format!("not {}: {}", near.name, near.why),
                false => format!("not {} ({}): {}", near.name, near.pattern, near.why),
            };
            self.line(f, "", self.paint(Tone::Quiet, line))?;
        }
        writeln!(f)
    }

    fn filters(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let steps = &self.explanation.filters;
        if steps.is_empty() {
            return Ok(());
        }
        let width = steps.iter().map(|step| step.name.chars().count()).max();
        let width = width.unwrap_or_default();
        for (place, step) in steps.iter().enumerate() {
            let margin = if place == 0 { "filters" } else { "" };
            let name = format!("{:width$}", step.name);
            self.line(f, margin, format_args!("{name}  {}", self.verdict(step)))?;
            let indent = " ".repeat(width + 2);
            for change in changes("", &step.request).chain(changes("response: ", &step.response)) {
                self.line(
                    f,
                    "",
                    format_args!("{indent}{}", self.paint(Tone::Quiet, change)),
                )?;
            }
        }
        writeln!(f)
    }

    fn verdict(&self, step: &Step) -> String {
        let mut text = step.verdict.as_str().to_owned();
        if let Some(status) = step.status {
            text.push_str(&format!(" {status}"));
        }
        if let Some(rule) = &step.rule {
            text.push_str(&format!(" by its rule `{rule}`"));
        }
        if let Some(reason) = &step.reason {
            text.push_str(&format!(": {reason}"));
        }
        if let Some(identity) = &step.identity {
            text.push_str(&format!("; the caller is {identity}"));
        }
        if let Some(took) = step.took.filter(|_| self.times) {
            text.push_str(&format!(" ({took} us)"));
        }
        let tone = match step.verdict {
            Verdict::Pass | Verdict::Delay => Tone::Good,
            Verdict::Reply => Tone::Bad,
            Verdict::Report | Verdict::NotAsked => Tone::Doubtful,
            Verdict::NotForIt | Verdict::NoOpinion | Verdict::NotReached => Tone::Quiet,
        };
        self.paint(tone, text)
    }

    fn cache(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(cache) = &self.explanation.cache else {
            return Ok(());
        };
        let mut said = cache.outcome.to_string();
        if let Some(reason) = &cache.reason {
            said.push_str(&format!(", as of: {reason}"));
        }
        self.line(f, "cache", said)?;
        if let Some(status) = &cache.status {
            self.line(f, "", self.paint(Tone::Quiet, status))?;
        }
        let key = format!("key: {}, in the zone {}", cache.key.join("  "), cache.zone);
        self.line(f, "", self.paint(Tone::Quiet, key))?;
        writeln!(f)
    }

    fn upstream(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, tried) in self.explanation.tries.iter().enumerate() {
            let margin = if place == 0 { "upstream" } else { "" };
            let endpoint = self.paint(Tone::Name, &tried.endpoint);
            let mut text = format!("{}: {endpoint}, by {}", tried.upstream, tried.chosen_by);
            if let Some(at) = tried.at.filter(|_| self.times) {
                text.push_str(&format!(" (after {at} us)"));
            }
            self.line(f, margin, text)?;
            if place == 0 && tried.of.len() > 1 {
                let of = format!("of {}", tried.of.join(", "));
                self.line(f, "", self.paint(Tone::Quiet, of))?;
            }
        }
        if let Some(sent) = &self.explanation.sent {
            self.line(
                f,
                "",
                format_args!("is sent {} {}", sent.method, sent.target),
            )?;
            self.headers(f, &sent.headers)?;
        }
        match self.explanation.tries.is_empty() {
            true => Ok(()),
            false => writeln!(f),
        }
    }

    fn headers(&self, f: &mut Formatter<'_>, headers: &Headers) -> fmt::Result {
        headers.0.iter().try_for_each(|(name, value)| {
            self.line(
                f,
                "",
                self.paint(Tone::Quiet, format_args!("  {name}: {value}")),
            )
        })
    }

    fn response(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let answer = &self.explanation.response;
        let (status, tone) = match answer.status {
            Some(status @ ..=399) => (status.to_string(), Tone::Good),
            Some(status) => (status.to_string(), Tone::Bad),
            None => ("none".to_owned(), Tone::Bad),
        };
        let mut from = match &*answer.from {
            "upstream" => "of the upstream".to_owned(),
            "cache" => "of the cache".to_owned(),
            _ => "of the gateway itself".to_owned(),
        };
        if let Some(filter) = &answer.decided_by {
            from = format!("of the filter {filter}");
        }
        if let Some(reason) = &answer.reason {
            from.push_str(&format!(": {reason}"));
        }
        if let Some(took) = answer.took.filter(|_| self.times) {
            from.push_str(&format!(" (after {took} us)"));
        }
        self.line(
            f,
            "response",
            format_args!("{} {from}", self.paint(tone, status)),
        )?;
        self.headers(f, &answer.headers)
    }
}

/// What has changed in a head, a line for each thing.
fn changes<'c>(of: &'c str, changes: &'c Changes) -> impl Iterator<Item = String> + 'c {
    let line = changes
        .first_line
        .iter()
        .map(move |line| format!("{of}now {line}"));
    let set = changes.set.0.iter();
    let set = set.map(move |(name, value)| format!("{of}sets {name}: {value}"));
    let removed = changes.removed.iter();
    line.chain(set)
        .chain(removed.map(move |name| format!("{of}removes {name}")))
}
