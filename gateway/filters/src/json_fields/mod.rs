//! Removes, renames and adds fields of JSON documents, on their way to the upstream and back.
//!
//! **Paths** are those of JSONPath (RFC 9535) without their `$.`: `user.ssn` is a field of a field; `items[*].price` one
//! of all elements of an array; `*` and `[*]` are all that an object or an array has; `["a.b"]` is a name with signs in
//! it. A path that leads nowhere in a document changes nothing there. Case matters: before an application that does
//! not mind it (Go's `encoding/json`) each spelling needs a path.
//!
//! **Order.** Fields are removed, then renamed, then set, then added. Paths are those of the document as it came, but
//! for the last name of what is set and added. A field that is renamed takes the place of one that has the new name.
//! A value without text (`{claim.tenant}` of who has none) is no field: nothing is added, and what was to be set is
//! removed.
//!
//! **A name that stands twice** in an object is found as often as it stands there, also if it is written with escapes:
//! nothing that is removed comes through to an application that takes the first, or the last. Of a field that is
//! renamed the last one stays.
//!
//! **Bytes** that no rule speaks of go on as they came: numbers keep all their digits.
//!
//! **What can't be read** is refused, or what is to be removed would pass: larger bodies than `max_size` (413; they are
//! held in memory), such as are compressed (415) or are no JSON (400). Of a response each of these is a 502, and if
//! its head was sent before, the connection ends. With `unreadable: pass` they go on as they are. A response is asked
//! for without compression and, where its path looks like that of a document, whole; `compress` may stand above.
//!
//! **What is looked at** has the `Content-Type` `application/json` or one that ends in `+json`. Many applications read
//! JSON whatever the type says: for those name the others that clients may send under `types`. What the gateway
//! itself says of an error stays as it is.

use std::sync::Arc;

use edgeway_sdk::{message::WHOLE_BODY, prelude::*};

use self::{
    edit::{Known, Rewriting},
    rewrite::rewrite,
    rules::Rules,
    written::Written,
};
use crate::{
    criteria::{List, MediaType},
    plain::{self, Body},
};

mod edit;
mod path;
mod rewrite;
mod rules;
mod written;

pub(crate) const DOC: &str = "\
changes JSON documents: removes, renames and adds fields

json_fields:
  request:                      # on the way to the upstream; default: nothing
    remove: [password, 'user.ssn', 'items[*].cost', '[\"a.b\"]']   # a path to each
    rename: { userName: user_name }     # a path, and the name that its last step is given
    set: { tenant: '{claim.tenant}', source: edge }   # instead of what is there; values of the request as text
    add: { version: 2, draft: false, note: null }     # where there is none
  response:                     # on the way to the client; the same keys
    remove: ['users[*].password_hash']
  max_size: 1MiB                # the largest body; it is held in memory
  unreadable: refuse            # larger, compressed or broken bodies: refuse or pass
  types: [text/plain]           # Content-Type of what is JSON too, besides application/json and +json; default: none
";

/// `json_fields: { response: { remove: [password] } }`
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    request: Written,
    #[serde(default)]
    response: Written,
    max_size: Option<Size>,
    #[serde(default)]
    unreadable: Unreadable,
    types: Option<List<MediaType>>,
}

/// What becomes of bodies that can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unreadable {
    #[default]
    Refuse,
    Pass,
}

/// Changes fields of JSON documents.
pub(crate) struct JsonFields {
    request: Option<Arc<Rules>>,
    response: Option<Arc<Rules>>,
    max: usize,
    unreadable: Unreadable,
    types: Option<List<MediaType>>,
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

pub(crate) fn build(config: Config, _: &mut Build<'_>) -> Result<JsonFields, BuildError> {
    let request = Rules::new(config.request, "request")?;
    let response = Rules::new(config.response, "response")?;
    if request.is_none() && response.is_none() {
        return Err(BuildError::new("there is nothing to change")
            .help("name fields under `request` or `response`"));
    }
    let max = match config.max_size {
        None => 1 << 20,
        Some(Size(bytes)) => usize::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| BuildError::at("max_size", "expected a size of at least one byte"))?,
    };
    Ok(JsonFields {
        request: request.map(Arc::new),
        response: response.map(Arc::new),
        max,
        unreadable: config.unreadable,
        types: config.types,
    })
}

#[async_trait]
impl Filter for JsonFields {
    fn refuses(&self) -> bool {
        self.unreadable == Unreadable::Refuse
    }

    fn offline(&self, _: &Request<'_>) -> Offline {
        Offline::Decides
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST | Hooks::RESPONSE.only_if(self.response.is_some())
    }

    async fn request(&self, request: &mut Request<'_>) -> Result<Flow> {
        if self.response.is_some() {
            plain::ask(request);
            // What is removed must not come in a part.
            plain::ask_for_all(request);
        }
        let Some(rules) = &self.request else {
            return Ok(Flow::Continue);
        };
        let content_type = plain::content_type(request.headers());
        if !content_type.is_some_and(|content_type| self.is_for(&content_type))
            || !request.has_body()
        {
            return Ok(Flow::Continue);
        }
        if plain::is_coded(request.headers()) {
            return Ok(self.flow(&Problem::Coded));
        }
        let length = length(request.headers());
        if length.is_some_and(|length| length > self.max) {
            return Ok(self.flow(&Problem::TooLarge(self.max)));
        }
        let edit = self.rewriting(Side::Request, rules, rules.values(request));
        let is_raw = request
            .exchange()
            .request_edits
            .iter()
            .all(|edit| edit.edit.keeps_length());
        if !is_raw || length.is_none_or(|length| length > WHOLE_BODY) {
            request.edit_body(edit);
            return Ok(Flow::Continue);
        }
        // What comes out is known at once, and so the endpoint can be told its length.
        let body = request.body(WHOLE_BODY).await?;
        match rewrite(&body, rules, &rules.values(request)) {
            _ if body.is_empty() => Ok(Flow::Continue),
            Ok(body) => {
                request.edit_body(Known::new(body));
                Ok(Flow::Continue)
            }
            Err(wrong) => Ok(self.flow(&Problem::Broken(wrong))),
        }
    }

    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        let Some(rules) = &self.response else {
            return Ok(());
        };
        // What the gateway says of an error is no document of the application, and must not become another error.
        if response.origin() == Origin::Reply && response.status().as_u16() >= 400 {
            return Ok(());
        }
        let problem = match Body::of(response, |content_type| self.is_for(content_type)) {
            Body::Other => return Ok(()),
            Body::Coded => Some(Problem::Coded),
            Body::Plain => length(response.headers())
                .filter(|length| *length > self.max)
                .map(|_| Problem::TooLarge(self.max)),
        };
        match problem {
            Some(problem) if self.refuses() => Err(Error::refusal(problem.reply(Side::Response))),
            Some(problem) => {
                let route = &response.exchange().route;
                log::debug!("a response of the route `{route}` is left as it is: {problem}");
                Ok(())
            }
            None => {
                let values = rules.values(response);
                plain::edit(response, self.rewriting(Side::Response, rules, values));
                Ok(())
            }
        }
    }
}

impl JsonFields {
    fn is_for(&self, content_type: &str) -> bool {
        let essence = plain::essence(content_type);
        let suffix = essence
            .len()
            .checked_sub("+json".len())
            .and_then(|at| essence.get(at..));
        essence.eq_ignore_ascii_case("application/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
            || self
                .types
                .as_ref()
                .is_some_and(|types| types.has_type(essence))
    }

    fn rewriting(&self, side: Side, rules: &Arc<Rules>, values: rules::Values) -> Rewriting {
        Rewriting::new(side, Arc::clone(rules), values, self.max, self.unreadable)
    }

    /// What a request comes to that can't be read.
    fn flow(&self, problem: &Problem) -> Flow {
        match self.unreadable {
            Unreadable::Refuse => problem.reply(Side::Request).into(),
            Unreadable::Pass => Flow::Continue,
        }
    }
}

/// Why a body can't be read.
#[derive(Debug)]
enum Problem {
    /// Than so many bytes.
    TooLarge(usize),
    Coded,
    Broken(rewrite::Wrong),
}

impl Problem {
    fn reply(&self, side: Side) -> Reply {
        let (status, rule, detail) = match self {
            Self::TooLarge(_) => (413, "max_size", "The body is too large."),
            Self::Coded => (415, "coding", "The body must not be compressed."),
            Self::Broken(_) => (400, "json", "The body is not valid JSON."),
        };
        let reply = match side {
            Side::Request => Reply::new(status).detail(detail),
            Side::Response => Reply::new(502),
        };
        let reply = reply.because(self.to_string()).rule(rule);
        match (self, side) {
            (Self::Coded, Side::Request) => reply.header(header::ACCEPT_ENCODING, "identity"),
            _ => reply,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge(most) => write!(f, "the body is larger than {}", Size(*most as u64)),
            Self::Coded => f.write_str("the body is compressed"),
            Self::Broken(wrong) => write!(f, "the body is no JSON: {wrong}"),
        }
    }
}

/// How long the body is, if that is told. What is longer than memory is longer than anything.
fn length(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    let length: u64 = length.parse().ok()?;
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
