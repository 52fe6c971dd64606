//! Shows pages of our own for errors.
//!
//! * A page has up to three forms, and a client gets the one that it likes best by its `Accept`. Clients that want JSON
//!   get a problem document (RFC 9457) where a page has no JSON of its own.
//! * What is written by hand stays: a reply with a body of its own (a `respond` target with a text, a page of a filter)
//!   is no error that nobody has a page for.
//! * Of several filters the innermost shows its page: that of a route comes before those of all routes.
//! * Values that stand in a page are escaped: what a client has asked for never becomes a part of its HTML or JSON. In
//!   HTML that holds for texts and for attributes in quotes: put none into a script.
//! * Headers stay as they were (`Retry-After`, `WWW-Authenticate`, those of CORS), but for what told of the body. What an
//!   endpoint has said of how long its error may be kept was of another body, too: the page is `no-store`.
//! * Calls of gRPC are left alone: they are told of errors by headers.

mod accept;
mod json;
mod statuses;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::HashSet, sync::Arc};

use edgeway_sdk::{exchange::Content, prelude::*, types::FilePath};
use http::HeaderMap;
use serde_json::json;

use self::{
    accept::{Form, choose},
    json::Document,
    statuses::Statuses,
    text::{Escape, Text, Told},
};
use crate::{list::vary, watched::Watched, written::OneOrMany};

pub(crate) const DOC: &str = "\
shows pages of our own for errors

error_pages:
  pages:                          # the first that is for the status
    - statuses: [404, 410]        # a status, 4xx, 5xx, a range such as 500-504, all, or a list of these
      html: '<h1>{title}</h1><p>There is no {path} here.</p>'
      json: { code: '{status}', message: '{title}', request: '{request_id}' }
                                  # default: a problem document (RFC 9457)
      text: '{status} {title}'    # default: none. Of the forms that a page has a client gets the one it likes best
      status: 200                 # what is sent instead of the status; default: none
    - statuses: all
      html: '<h1>{status} {title}</h1><p>{detail}</p>'
                                  # {status}, {title}, {detail} (what the client may know of the reason) or any value of
                                  # the request such as {host} or {request_id}; any other brace is a brace
      #file: sorry.html           # .html, .json, .txt or a list of these, instead of writing it here; watched
  of: [replies]                   # upstream: errors of endpoints as well, whatever body they have; default: [replies]
";

/// The largest file of a page: it is kept in memory.
const LARGEST: u64 = 1 << 20;

/// `error_pages: { pages: [{ statuses: 5xx, file: sorry.html }], of: [replies, upstream] }`
#[derive(Deserialize)]
pub(crate) struct Config {
    pages: Vec<Written>,
    #[serde(default = "Config::of")]
    of: Vec<Source>,
}

impl Config {
    fn of() -> Vec<Source> {
        vec![Source::Replies]
    }
}

/// A page as it is written.
#[derive(Deserialize)]
struct Written {
    statuses: OneOrMany<Statuses>,
    status: Option<u16>,
    html: Option<Text>,
    json: Option<Document>,
    text: Option<Text>,
    file: Option<OneOrMany<FilePath>>,
}

/// Whose errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Replies,
    Upstream,
}

/// Shows pages of our own for errors.
#[derive(Debug)]
pub(crate) struct ErrorPages {
    pages: Vec<Page>,
    of: Vec<Source>,
}

#[derive(Debug)]
struct Page {
    statuses: Vec<Statuses>,
    status: Option<StatusCode>,
    /// In the order in which we prefer them.
    forms: Vec<Form>,
    /// The same.
    bodies: Vec<Body>,
}

/// A form of a page.
enum Body {
    Html(Kept<Text>),
    Plain(Kept<Text>),
    Json(Kept<Document>),
    /// The usual document, which has no place in a file.
    Problem,
}

/// What is written in the configuration, or in a file that may change.
enum Kept<T> {
    Here(T),
    File(Arc<Watched<T>>),
}

pub(crate) fn build(config: Config, build: &mut Build<'_>) -> Result<ErrorPages, BuildError> {
    if config.pages.is_empty() {
        return Err(BuildError::at("pages", "there is no page to show"));
    }
    if config.of.is_empty() {
        return Err(BuildError::at(
            "of",
            "there are no errors to show a page for",
        ));
    }
    let mut covered = HashSet::new();
    let mut pages = Vec::new();
    for (place, written) in config.pages.into_iter().enumerate() {
        let statuses: Vec<_> = written.statuses.iter().copied().collect();
        let mut new = 0;
        for status in statuses.iter().flat_map(|statuses| statuses.each()) {
            new += usize::from(covered.insert(status));
        }
        if new == 0 {
            let message = "this page is never shown: those before it are for the same statuses";
            return Err(BuildError::at(format!("pages.{place}.statuses"), message));
        }
        pages.push(Page::new(written, statuses, place, build)?);
    }
    Ok(ErrorPages {
        pages,
        of: config.of,
    })
}

impl Page {
    fn new(
        written: Written,
        statuses: Vec<Statuses>,
        place: usize,
        build: &mut Build<'_>,
    ) -> Result<Self, BuildError> {
        let status = written.status.map(|status| sent(status, place));
        let mut forms = Forms {
            json: written.json.map(Kept::Here),
            html: written.html.map(Kept::Here),
            plain: written.text.map(Kept::Here),
        };
        let is_list = written
            .file
            .as_ref()
            .is_some_and(|files| files.iter().len() > 1);
        for (index, file) in written.file.iter().flat_map(OneOrMany::iter).enumerate() {
            let key = match is_list {
                true => format!("pages.{place}.file.{index}"),
                false => format!("pages.{place}.file"),
            };
            forms.read(&key, file, build)?;
        }
        if forms.is_empty() {
            let message = "this page has nothing to show";
            let help = "write `html`, `json`, `text` or `file`";
            return Err(BuildError::at(format!("pages.{place}"), message).help(help));
        }
        let bodies = forms.in_order();
        Ok(Self {
            statuses,
            status: status.transpose()?,
            forms: bodies.iter().map(Body::form).collect(),
            bodies,
        })
    }

    /// The form that a client likes best.
    fn for_client(&self, headers: &HeaderMap) -> &Body {
        self.bodies
            .get(choose(headers, &self.forms))
            .unwrap_or(&Body::Problem)
    }
}

/// The status that is sent instead of another one. A page needs one with a body, and one that means nothing else.
fn sent(status: u16, place: usize) -> Result<StatusCode, BuildError> {
    let may_have_a_page = matches!(status, 200..=203 | 400..=599);
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|_| may_have_a_page);
    status.ok_or_else(|| {
        let message = "expected a status with a page: 200 to 203, or 400 to 599";
        BuildError::at(format!("pages.{place}.status"), message)
    })
}

/// The forms that a page has.
struct Forms {
    json: Option<Kept<Document>>,
    html: Option<Kept<Text>>,
    plain: Option<Kept<Text>>,
}

impl Forms {
    fn is_empty(&self) -> bool {
        self.json.is_none() && self.html.is_none() && self.plain.is_none()
    }

    fn read(
        &mut self,
        key: &str,
        file: &FilePath,
        build: &mut Build<'_>,
    ) -> Result<(), BuildError> {
        let extension = file
            .as_ref()
            .extension()
            .and_then(|extension| extension.to_str());
        let known = match extension.unwrap_or_default() {
            "html" | "htm" => self
                .html
                .replace(Kept::File(Watched::open(key, file, build)?))
                .is_some(),
            "txt" => self
                .plain
                .replace(Kept::File(Watched::open(key, file, build)?))
                .is_some(),
            "json" => self
                .json
                .replace(Kept::File(Watched::open(key, file, build)?))
                .is_some(),
            _ => {
                let message = "expected a file whose name ends in `.html`, `.json` or `.txt`";
                return Err(BuildError::at(key, message));
            }
        };
        match known {
            true => Err(BuildError::at(key, "this page has that form already")),
            false => Ok(()),
        }
    }

    /// What clients are offered, the best first, if it is all the same to them. What is not written comes last.
    fn in_order(self) -> Vec<Body> {
        let problem = self.json.is_none().then_some(Body::Problem);
        let written = [
            self.json.map(Body::Json),
            self.html.map(Body::Html),
            self.plain.map(Body::Plain),
        ];
        written.into_iter().flatten().chain(problem).collect()
    }
}

impl Body {
    fn form(&self) -> Form {
        match self {
            Self::Html(_) => Form::Html,
            Self::Plain(_) => Form::Plain,
            Self::Json(_) | Self::Problem => Form::Json,
        }
    }

    /// What goes out, and its type.
    fn render(&self, told: &Told<'_, '_>) -> (&'static str, Vec<u8>) {
        match self {
            Self::Html(text) => {
                let page = text.with(|text| text.render(told, Escape::Html));
                ("text/html; charset=utf-8", page.into_bytes())
            }
            Self::Plain(text) => {
                let page = text.with(|text| text.render(told, Escape::No));
                ("text/plain; charset=utf-8", page.into_bytes())
            }
            Self::Json(document) => (
                "application/json",
                document.with(|document| document.render(told)),
            ),
            Self::Problem => ("application/problem+json", problem(told)),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.form().fmt(f)
    }
}

impl<T: crate::watched::Content> Kept<T> {
    fn with<R>(&self, render: impl FnOnce(&T) -> R) -> R {
        match self {
            Self::Here(content) => render(content),
            Self::File(file) => render(&file.current().content),
        }
    }
}

/// A problem document (RFC 9457), as the gateway's own are.
fn problem(told: &Told<'_, '_>) -> Vec<u8> {
    let mut problem = json!({
        "type": "about:blank",
        "title": told.title(),
        "status": told.status.as_u16(),
        "request_id": told.response.exchange().id(),
    });
    if let (Some(members), Some(detail)) = (problem.as_object_mut(), told.detail) {
        members.insert("detail".to_owned(), detail.into());
    }
    problem.to_string().into_bytes()
}

impl ErrorPages {
    /// The page for a response; none if it stays as it is.
    fn page(&self, response: &Response<'_>) -> Option<&Page> {
        let status = response.status();
        let is_for = |page: &&Page| {
            page.statuses
                .iter()
                .any(|statuses| statuses.contain(status))
        };
        let page = self.pages.iter().find(is_for)?;
        let source = match (response.origin(), response.content()) {
            (_, Content::Replaced) | (Origin::Reply, Content::Given) => return None,
            (Origin::Reply, Content::Standard(_)) => Source::Replies,
            (Origin::Upstream | Origin::Cache, _) => Source::Upstream,
        };
        let is_call = is_grpc(&response.request().headers) || is_grpc(response.headers());
        (self.of.contains(&source) && !is_call).then_some(page)
    }
}

/// Whether a message belongs to a call of gRPC, also one of a page.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[async_trait]
impl Filter for ErrorPages {
    fn response(&self, response: &mut Response<'_>) -> Result<()> {
        let Some(page) = self.page(response) else {
            return Ok(());
        };
        let detail = match (response.origin(), response.content()) {
            (Origin::Reply, Content::Standard(detail)) => detail.as_deref(),
            _ => None,
        };
        let told = Told {
            status: response.status(),
            detail,
            response,
        };
        let body = page.for_client(&response.request().headers);
        let (kind, body) = body.render(&told);
        response.replace_body(HeaderValue::from_static(kind), body);
        if let Some(status) = page.status {
            response.set_status(status);
        }
        let nosniff = HeaderValue::from_static("nosniff");
        response.set_header(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        vary(response, "Accept");
        keep_from_caches(response);
        Ok(())
    }

    fn refuses(&self) -> bool {
        false
    }

    fn hooks(&self) -> Hooks {
        Hooks::RESPONSE
    }
}

/// A page tells of this request alone. What the gateway has said of the reply itself stays; what an endpoint has said was
/// of another body.
fn keep_from_caches(response: &mut Response<'_>) {
    let said = |name: &HeaderName| response.headers().contains_key(name);
    if response.origin() == Origin::Reply && LIFETIMES.iter().any(said) {
        return;
    }
    for name in &LIFETIMES {
        response.remove_header(name);
    }
    let no_store = HeaderValue::from_static("no-store");
    response.set_header(header::CACHE_CONTROL, no_store);
}

/// What says for how long, and for whom, a response may be kept.
const LIFETIMES: [HeaderName; 5] = [
    header::CACHE_CONTROL,
    header::EXPIRES,
    header::AGE,
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
];
