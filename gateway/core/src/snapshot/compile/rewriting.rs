//! What becomes of paths on the way to an upstream.

use regex::Regex;

use crate::{
    config::{
        At, Rewrite, Route,
        diagnostic::{Diagnostic, Problems},
    },
    route::PathPattern,
    snapshot::{Rewriting, Target},
};

/// The rewriting of a route; none if it is wrong, which has been told then.
pub(super) fn rewriting(
    route: &At<Route>,
    target: Option<&Target>,
    problems: &mut Problems,
) -> Option<Rewriting> {
    let Route {
        strip_prefix,
        add_prefix,
        rewrite,
        matching,
        ..
    } = &route.value;
    let written = [
        strip_prefix.as_ref().map(|at| at.node),
        add_prefix.as_ref().map(|at| at.node),
        rewrite.as_ref().map(|at| at.node),
    ];
    let first = written.into_iter().flatten().next();
    if let (Some(node), Some(Target::Redirect(_) | Target::Respond(_) | Target::NotFound)) =
        (first, target)
        && route.value.files.is_none()
    {
        let message =
            "this has no effect: only paths that go to an upstream or to files can be rewritten";
        problems.push(Diagnostic::error(message).at(node));
        return None;
    }
    let path = matching.path();
    let strip = strip_prefix
        .as_ref()
        .map(|prefix| strip(prefix, &path, problems));
    let add = add_prefix.as_ref().map(|prefix| absolute(prefix, problems));
    let replace = rewrite
        .as_ref()
        .map(|rewrite| replacement(&rewrite.value, problems));
    Some(Rewriting {
        strip: whole(strip)?,
        add: whole(add)?,
        replace: whole(replace)?,
    })
}

/// None if something is written that is wrong; else what is written, if anything.
fn whole<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}

/// A prefix that every path of the route has: another one would have no effect on some of them.
fn strip(prefix: &At<String>, path: &PathPattern, problems: &mut Problems) -> Option<Box<str>> {
    let wanted = absolute(prefix, problems)?;
    let bare = wanted.trim_end_matches('/');
    let begins = |path: &str| {
        path.strip_prefix(bare)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (PathPattern::Exact(text) | PathPattern::Prefix(text, _)) = path else {
        return Some(wanted);
    };
    if !begins(text.as_str()) {
        let message = format!(
            "the paths of this route don't begin with `{}`",
            prefix.value
        );
        let wrong = Diagnostic::error(message).at(prefix);
        problems.push(wrong.help(format!("expected the beginning of `{}`", text.as_str())));
        return None;
    }
    Some(wanted)
}

fn absolute(prefix: &At<String>, problems: &mut Problems) -> Option<Box<str>> {
    let usable = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    if prefix.value.starts_with('/') && prefix.value.chars().all(usable) {
        return Some(prefix.value.as_str().into());
    }
    let message = format!(
        "expected a path that begins with `/`, found `{}`",
        prefix.value
    );
    problems.push(Diagnostic::error(message).at(prefix));
    None
}

fn replacement(rewrite: &Rewrite, problems: &mut Problems) -> Option<(Regex, Box<str>)> {
    let pattern = match Regex::new(&rewrite.pattern.value) {
        Ok(pattern) => pattern,
        Err(error) => {
            let text = error.to_string();
            let reason = text
                .lines()
                .next_back()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            let message = format!("`{}` is not a valid regex: {reason}", rewrite.pattern.value);
            problems.push(Diagnostic::error(message).at(&rewrite.pattern));
            return None;
        }
    };
    if let Some(name) = unknown_group(&pattern, &rewrite.to.value) {
        let wrong = Diagnostic::error(format!("the pattern has no group `{name}`")).at(&rewrite.to);
        problems.push(wrong.help("write `${1}` where letters follow, and `$$` for a dollar sign"));
        return None;
    }
    Some((pattern, rewrite.to.value.as_str().into()))
}

/// The first group that `to` names and the pattern does not have. The regex crate would put nothing
/// in its place, silently.
fn unknown_group<'t>(pattern: &Regex, to: &'t str) -> Option<&'t str> {
    let known = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|known| known == name),
    };
    let mut rest = to;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(literal) = after.strip_prefix('$') {
            rest = literal;
            continue;
        }
        let braced = after
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'));
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        let (name, next) = braced.unwrap_or_else(|| after.split_at(end));
        if !known(name) {
            return Some(name);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_in_the_pattern_is_found() {
        let pattern = Regex::new("^/(a)/(?P<id>b)").unwrap();
        for (to, unknown) in [
            ("/x", None),
            ("/$1/${2}/$id", None),
            ("/$$9", None),
            ("/$3", Some("3")),
            ("/$1x", Some("1x")),
            ("/${name}", Some("name")),
            ("/$", Some("")),
        ] {
            assert_eq!(unknown_group(&pattern, to), unknown, "{to}");
        }
    }
}
