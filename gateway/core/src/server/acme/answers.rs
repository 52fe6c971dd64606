//! What authorities ask for at a path, to see whether a name is ours (HTTP-01, RFC 8555, 8.3).

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

/// The path under which they ask.
const PREFIX: &str = "/.well-known/acme-challenge/";

/// Answers by token. All listeners without TLS share one table; clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(Arc<ArcSwap<HashMap<Box<str>, Arc<str>>>>);

impl Answers {
    /// What is answered to who asks for this path; none if nobody was told to ask for it.
    pub(crate) fn find(&self, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(PREFIX)?;
        self.0.load().get(token).cloned()
    }

    /// Answers to this token from now on.
    pub(super) fn put(&self, token: &str, answer: &str) {
        self.change(|table| {
            table.insert(token.into(), answer.into());
        });
    }

    /// Ends what [`put`](Self::put) has begun.
    pub(super) fn remove(&self, token: &str) {
        self.change(|table| {
            table.remove(token);
        });
    }

    fn change(&self, change: impl Fn(&mut HashMap<Box<str>, Arc<str>>)) {
        self.0.rcu(|table| {
            let mut table = HashMap::clone(table);
            change(&mut table);
            table
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_that_are_pending_are_answered() {
        let answers = Answers::default();
        answers.put("abc", "abc.thumb");
        let find = |path: &str| answers.find(path).as_deref().map(str::to_owned);
        assert_eq!(
            find("/.well-known/acme-challenge/abc").as_deref(),
            Some("abc.thumb")
        );
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/ab",
            "/.well-known/acme-challenge/abc/",
            "/.well-known/acme-challenge/ABC",
            "/abc",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
        answers.clone().remove("abc");
        assert_eq!(find("/.well-known/acme-challenge/abc"), None);
    }
}
