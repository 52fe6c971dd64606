//! The description of the calls for programs: OpenAPI 3.1.

use axum::extract::State;
use http::StatusCode;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    call::Call,
    calls::{Answer, Shared},
    described::{Calls, Content, Described},
    problem::{self, Members},
};

/// Adds the call of this file.
pub(super) fn add(calls: Calls) -> Calls {
    calls.add(DESCRIPTION, description)
}

const DESCRIPTION: Described =
    Described::get("/openapi.json", "Describes the calls (OpenAPI 3.1).")
        .gives::<Map<String, Value>>(r#"{ "openapi": "3.1.0" }"#);

async fn description(State(desk): State<Shared>, call: Call<()>) -> Answer {
    call.names()?;
    Ok(problem::json(StatusCode::OK, &document(&desk.described)))
}

/// The description of all calls there are, for pages that are made of it.
pub(crate) fn of_all() -> Value {
    document(&super::calls::added(Calls::default()).described)
}

/// The whole description.
fn document(calls: &[Described]) -> Value {
    let mut schemas = Schemas::default();
    let problem = schemas.given.subschema_for::<Members<'static>>();
    let mut paths = Map::new();
    for call in calls {
        let operations = paths.entry(call.path).or_insert_with(|| json!({}));
        operations[call.method.as_str().to_ascii_lowercase()] = operation(call, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Edgeway's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the running gateway is doing, and how to change it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The admin listener." }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.given.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "It was not done; `detail` says why.",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The `token` of the listener, if it has one.",
                },
            },
        },
    })
}

/// What makes the schemas. Bodies that are sent and answers are not alike: what a caller may leave out is there
/// in an answer.
struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        let inline = settings().with(|settings| settings.inline_subschemas = true);
        Self {
            taken: inline.for_deserialize().into_generator(),
            given: settings().for_serialize().into_generator(),
        }
    }
}

fn operation(call: &Described, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": operation_id(call),
        "summary": call.summary,
        "tags": [tag(call.path)],
        "responses": {
            call.status.to_string(): answer(call, &mut schemas.given),
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    let parameters: Vec<_> = in_path(call.path).chain(in_query(call)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = &call.takes {
        operation["requestBody"] = json!({
            "required": true,
            "content": content(body, &mut schemas.taken),
        });
    }
    if call.open {
        operation["security"] = json!([{}]);
    }
    operation
}

fn answer(call: &Described, generator: &mut SchemaGenerator) -> Value {
    let status = StatusCode::from_u16(call.status).ok();
    let reason = status.and_then(|status| status.canonical_reason());
    let mut answer = json!({ "description": reason.unwrap_or("Done") });
    if let Some(given) = &call.gives {
        answer["content"] = content(given, generator);
    }
    answer
}

fn content(content: &Content, generator: &mut SchemaGenerator) -> Value {
    let mut described = json!({ "schema": (content.schema)(generator) });
    let example = content.example.map(serde_json::from_str::<Value>);
    if let Some(Ok(example)) = example {
        described["example"] = example;
    }
    json!({ content.media_type: described })
}

fn in_path(path: &str) -> impl Iterator<Item = Value> {
    names(path).map(|name| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": format!("The name of the {name}, percent-encoded."),
            "schema": { "type": "string" },
        })
    })
}

fn in_query(call: &Described) -> impl Iterator<Item = Value> {
    call.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.about,
            "schema": { "type": "string" },
            "example": parameter.example,
        })
    })
}

/// What stands in braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let segments = path.split('/');
    segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// `patch_v1_upstreams_upstream`: what a call is named in programs made of the description.
fn operation_id(call: &Described) -> String {
    let mut id = call.method.as_str().to_ascii_lowercase();
    for word in call.path.split(|c: char| !c.is_ascii_alphanumeric()) {
        if !word.is_empty() {
            id.push('_');
            id.push_str(word);
        }
    }
    id
}

/// What calls are grouped by: what comes after the version.
fn tag(path: &str) -> &str {
    let path = path.strip_prefix("/v1").unwrap_or("/gateway");
    path.split('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{super::calls, *};

    fn calls() -> Vec<Described> {
        calls::added(Calls::default()).described
    }

    #[test]
    fn every_example_is_json() {
        for call in calls() {
            for content in call.takes.iter().chain(&call.gives) {
                let Some(example) = content.example else {
                    continue;
                };
                let parsed = serde_json::from_str::<Value>(example);
                assert!(
                    parsed.is_ok(),
                    "{} {}: {parsed:?}",
                    call.method.as_str(),
                    call.path
                );
            }
        }
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_a_sentence() {
        let mut ids = HashSet::new();
        for call in calls() {
            assert!(ids.insert(operation_id(&call)), "{}", call.path);
            assert!(call.summary.ends_with('.'), "{}", call.summary);
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = document(&calls());
        let text = document.to_string();
        let named = text.split("\"$ref\":\"#").skip(1);
        for named in named.filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(named).is_some(), "{named}");
        }
    }

    #[test]
    fn calls_are_grouped_by_what_they_are_about() {
        assert_eq!(tag("/v1/upstreams/{upstream}"), "upstreams");
        assert_eq!(tag("/metrics"), "gateway");
    }
}
