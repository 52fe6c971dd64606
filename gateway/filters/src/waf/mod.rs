//! Looks for attacks: a web application firewall.
//!
//! Path, query, headers, cookies and the beginning of the body are taken apart into values, as an application would
//! (forms, JSON, XML, parts of a form with files, packed or not). Each value is freed of its disguises and compared
//! with rules for SQL injection, scripts, ways to files, commands and their like. What matches adds to the score of
//! the value; a request whose score reaches the threshold is answered with 403, and what was found stands in the log.
//!
//! A firewall is a second line of defence. It makes known attacks hard and loud; it does not mend an application
//! that puts texts into its queries. What it refuses by mistake is cured by an exception for that place
//! (`exceptions`), and a new installation begins with `mode: report`.

mod body;
mod config;
mod engine;
mod html;
mod inspect;
mod normalise;
mod rules;
mod score;
mod sql;

use std::sync::Arc;

use edgeway_sdk::prelude::*;
use http::{Version, request};

pub(crate) use self::config::Config;
use self::{
    body::{Content, Held},
    config::{Book, Longer},
    inspect::Inspection,
};

pub(crate) const DOC: &str = "\
looks for attacks: SQL injection, scripts, ways to files, commands and more

waf:                              # all of it can be left out: `waf: {}`
  threshold: 5                    # the score that refuses: a rule adds 5 (certain), 3 (suspicious) or 2 (odd)
  body: 128KiB                    # how much of a body is looked at; 0 is none
  longer: pass                    # or refuse: what happens to bodies that are longer
  disable: [php-variable]         # rules that are off; the log names them
  exceptions:                     # where rules are off
    - class: [sqli, xss]          # sqli, xss, traversal, rce, php, java, template, nosql, ldap, xxe, ssrf,
      path: /editor/              #   prototype, protocol, scanner; all if neither class nor rule is given
      parameter: [text, 'blocks.*']   # of a query, a form or JSON; a * at the end is any letters
    - rule: 'traversal-*'
      header: X-Original-Path
    - rule: sqli-grammar
      cookie: preferences
";

/// Looks for attacks.
pub(crate) struct Waf {
    book: Arc<Book>,
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<Waf, BuildError> {
    let book = Arc::new(Book::new(config, build)?);
    Ok(Waf { book })
}

#[async_trait]
impl Filter for Waf {
    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        let mut inspection = Inspection::new(&self.book, request.path());
        inspection.head(request);
        if let Some(reply) = inspection.verdict() {
            return Ok(reply.into());
        }
        let score = inspection.score;
        if self.book.body > 0 && may_have_body(request.parts()) {
            let content = Content::of(request.parts());
            let held = Held::new(Arc::clone(&self.book), request.path(), content, score);
            request.edit_body(held);
        }
        Ok(Flow::Continue)
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }
}

/// Whether a body may follow. Over HTTP/2 the head need not tell.
fn may_have_body(head: &request::Parts) -> bool {
    head.version == Version::HTTP_2
        || head.headers.contains_key(header::TRANSFER_ENCODING)
        || head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

#[cfg(test)]
mod tests;
