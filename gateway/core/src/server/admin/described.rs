//! What is told of the calls: to people by `GET /`, to programs by `GET /openapi.json`.
//!
//! A call is described where it is added to the [`Calls`]: there is none without.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::calls::Shared;

/// The calls, each with what is told of it.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) router: Router<Shared>,
    pub(super) described: Vec<Described>,
}

impl Calls {
    /// Has a call answered.
    pub(super) fn add<H, T>(mut self, described: Described, answer: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let answer: MethodRouter<Shared> = on(described.method.filter(), answer);
        self.router = self.router.route(described.path, answer);
        self.described.push(described);
        self
    }
}

/// What is told of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described {
    pub(super) method: Method,
    /// As it stands in the URL, with the names of its parts in braces.
    pub(super) path: &'static str,
    /// One sentence, which begins with a verb in the third person.
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) takes: Option<Content>,
    pub(super) status: u16,
    pub(super) gives: Option<Content>,
    /// Whether it is answered without the token.
    pub(super) open: bool,
}

/// The methods of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// Something that the query of a call may say: its name, what it is for, and whether it may be
/// there several times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// One that makes sense.
    pub(super) example: &'static str,
}

/// What a body holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) media_type: &'static str,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
    /// JSON; none for texts.
    pub(super) example: Option<&'static str>,
}

impl Described {
    pub(super) const fn get(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Get, path, summary)
    }

    pub(super) const fn post(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Post, path, summary)
    }

    pub(super) const fn put(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Put, path, summary)
    }

    pub(super) const fn patch(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Patch, path, summary)
    }

    pub(super) const fn delete(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Delete, path, summary)
    }

    /// One that is answered with 204 and nothing, until it is said otherwise.
    const fn new(method: Method, path: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            summary,
            parameters: &[],
            takes: None,
            status: 204,
            gives: None,
            open: false,
        }
    }

    /// It is answered to everybody, without the token: nothing of it is to keep.
    pub(super) const fn for_everybody(mut self) -> Self {
        self.open = true;
        self
    }

    /// What may stand in the query.
    pub(super) const fn with(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    /// The body that it has, and an example of one.
    pub(super) const fn takes<T: JsonSchema>(mut self, example: &'static str) -> Self {
        self.takes = Some(Content::json::<T>(example));
        self
    }

    /// The answer that it gets with 200, and an example of one.
    pub(super) const fn gives<T: JsonSchema>(self, example: &'static str) -> Self {
        self.gives_with::<T>(200, example)
    }

    /// The same with another status.
    pub(super) const fn gives_with<T: JsonSchema>(
        mut self,
        status: u16,
        example: &'static str,
    ) -> Self {
        self.status = status;
        self.gives = Some(Content::json::<T>(example));
        self
    }

    /// It gets a text of this type.
    pub(super) const fn gives_text(mut self, media_type: &'static str) -> Self {
        self.status = 200;
        self.gives = Some(Content {
            media_type,
            schema: String::json_schema,
            example: None,
        });
        self
    }

    /// It gets server-sent events; the data of each is one of these.
    pub(super) const fn streams<T: JsonSchema>(mut self, example: &'static str) -> Self {
        self.status = 200;
        self.gives = Some(Content {
            media_type: EVENTS,
            ..Content::json::<T>(example)
        });
        self
    }
}

/// The media type of server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";

impl Content {
    const fn json<T: JsonSchema>(example: &'static str) -> Self {
        Self {
            media_type: "application/json",
            schema: SchemaGenerator::subschema_for::<T>,
            example: Some(example),
        }
    }
}

impl Method {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}
