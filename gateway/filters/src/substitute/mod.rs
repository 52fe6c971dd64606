//! Replaces texts in the bodies of responses, as they pass.
//!
//! **What is found.** All replacements are looked for at once. Where several fit, the one that begins first is made,
//! and of those that begin at the same place the one that stands first in the list. What was put in is not searched
//! again. Bytes are compared: the letters of a `from` and of a `pattern` are those of UTF-8. Responses in UTF-16 or
//! UTF-32 stay as they are.
//!
//! **Pieces.** A body passes piece by piece, however it was sent, and what is found does not depend on where the
//! pieces begin and end. For a `from` nothing is held back but what may be its beginning. For a `pattern` as much is
//! held back as two of the longest texts that it fits; where there is no longest one (`v[0-9]+`), `max_match` says
//! how long a text is found for sure.
//!
//! **Compressed bodies** can't be searched. So the request goes on without `Accept-Encoding`, and what comes in a
//! coding all the same stays as it is. Clients can be given compressed bodies nevertheless: with `compress` above this
//! filter in the list.
//!
//! **Parts.** An edited body is given out whole, with a weak `ETag` and without `Accept-Ranges`. `Range` is taken off
//! requests for paths that end as texts do, or have no extension; for films and archives it stays. A part of a body
//! of these types that an endpoint sends nevertheless is refused with 416.
//!
//! **Values of the request** in `to` are what strangers have written. In HTML and XML they are escaped (`<` becomes
//! `&lt;`), which is right in text and between the quotes of an attribute; in JavaScript and JSON they are escaped as
//! in a string; in other types they stand as they are. With `raw: true` they stand as they are everywhere: then a
//! `Host` header may put a script into the page. Where a response is kept by a cache of ours this is still done for
//! each client by itself; where other caches are between, a value that differs from client to client should not be
//! put into what they may keep.

use std::sync::Arc;

use edgeway_sdk::prelude::*;

use self::{
    escape::Escape,
    stream::Substituting,
    written::{Replacement, compile},
};
use crate::{
    criteria::{List, MediaType},
    plain::{self, Body},
};

mod escape;
mod stream;
mod written;

pub(crate) const DOC: &str = "\
replaces texts in the bodies of responses

substitute:
  replace:                  # where several fit at the same place, the first of them is made
    - from: http://old.example.com      # as it stands
      to: 'https://{host}'              # values of the request are escaped for HTML, XML and JavaScript
    - pattern: '/v([0-9]+)/app\\.js'     # a regex; of a bounded length, or see `max_match`
      to: '/v{1}/app.min.js?{query.x}'  # {1} is what the first group has found, {0} all of it
      raw: true             # values of the request are not escaped: dangerous in pages; default: false
  types: [text/html, text/css]          # Content-Type of what is searched; default: text/html
  once: false               # true: each is made once in a body
  max_match: 2KiB           # how long a text a pattern without a longest one finds for sure; default: 1KiB
";

/// `substitute: { replace: [{ from: "http://old", to: "https://{host}" }] }`
#[derive(Deserialize)]
pub(crate) struct Config {
    replace: Vec<Replacement>,
    types: Option<List<MediaType>>,
    #[serde(default)]
    once: bool,
    max_match: Option<Size>,
}

/// Replaces texts in the bodies of responses.
pub(crate) struct Substitute {
    search: Arc<stream::Search>,
    /// None is `text/html`.
    types: Option<List<MediaType>>,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<Substitute, BuildError> {
    Ok(Substitute {
        search: Arc::new(compile(&config.replace, config.once, config.max_match)?),
        types: config.types,
    })
}

#[async_trait]
impl Filter for Substitute {
    fn refuses(&self) -> bool {
        false
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE
    }

    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        plain::ask(request);
        Ok(Flow::Continue)
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        match Body::of(response, |content_type| self.is_for(content_type)) {
            Body::Other => {}
            Body::Coded => {
                let route = &response.exchange().route;
                log::debug!("a compressed body of the route `{route}` is left as it is");
            }
            Body::Plain => {
                let content_type = plain::content_type(response.headers());
                let escape = Escape::of(&content_type.unwrap_or_default());
                let texts = self.search.render(response, escape);
                let edit = Substituting::new(Arc::clone(&self.search), texts);
                plain::edit(response, edit);
            }
        }
        Ok(())
    }
}

impl Substitute {
    fn is_for(&self, content_type: &str) -> bool {
        let fits = match &self.types {
            Some(types) => types.has_type(content_type),
            None => plain::essence(content_type).eq_ignore_ascii_case("text/html"),
        };
        fits && !is_wide(content_type)
    }
}

/// Whether the letters are of several bytes each.
fn is_wide(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1);
    let charset = parameters.filter_map(|parameter| parameter.split_once('='));
    let mut charset = charset.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charset.any(|(_, value)| {
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        ["utf-16", "utf-32", "ucs-2", "iso-10646-ucs"]
            .iter()
            .any(|wide| value.starts_with(wide))
    })
}

#[cfg(test)]
mod tests;
