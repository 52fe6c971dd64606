//! The JSON schema of the configuration, for editors: made of the types that read it, those of filters included.
//!
//! [`probe`] asks them what they take; [`mod@notes`] adds what people have written about it, in `conf/edgeway.yaml` and in
//! the texts of filters.

mod notes;
mod probe;

use edgeway_sdk::Filters;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Map, Value, json};

pub(crate) use self::notes::{Note, notes};
use self::{
    notes::annotate,
    probe::{Form, KEYS, Probe, Read, Seen, Step, Wanted, look},
};
use super::{BESIDE, ConditionConfig, Config, Enforcement, tests::TestConfig};

/// The annotated configuration, which names every key.
pub(crate) const ANNOTATED: &str = include_str!("../../../../../conf/edgeway.yaml");

/// How deep a value may be: what is deeper may be anything.
const DEPTH: usize = 16;

/// So many keys on the way to a map that are keys of that map, too: then it is likely to be within itself.
const NESTED: usize = 3;

/// What a filter may be.
const FILTER: &str = "#/$defs/filter";

/// The schema (draft 2020-12) of a configuration file with these filters.
pub(crate) fn schema(filters: &Filters) -> Value {
    let mut root = of::<Config>();
    let own = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Edgeway",
        "description": "The configuration of Edgeway, a programmable API gateway.",
    });
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    set(&mut root, &["properties", "include"], texts);
    set(
        &mut root,
        &["properties", "tests"],
        json!({ "type": ["array", "null"], "items": of::<TestConfig>() }),
    );
    // An included file has less: what must be there is for the main file.
    if let Some(root) = root.as_object_mut() {
        root.remove("required");
        root.extend(own.as_object().cloned().unwrap_or_default());
        root.insert("type".to_owned(), json!("object"));
    }
    annotate(&mut root, ANNOTATED);
    set(&mut root, &["$defs"], json!({ "filter": filter(filters) }));
    root
}

/// The schema of what a filter takes.
pub(crate) fn of_filter(entry: &edgeway_sdk::filters::Entry) -> Value {
    let read = |probe: Probe<'_>| {
        let mut probe = <dyn erased_serde::Deserializer<'_>>::erase(probe);
        entry
            .read(&mut probe)
            .map(drop)
            .map_err(probe::Error::custom)
    };
    let mut schema = explore(&read, &mut Vec::new());
    let yaml = entry.yaml();
    let mut whole = json!({ "type": "object", "properties": { entry.name(): schema.take() } });
    annotate(&mut whole, yaml);
    let mut schema = whole["properties"][entry.name()].take();
    if let (Some(schema), false) = (schema.as_object_mut(), entry.summary().is_empty()) {
        let mut description = capital(entry.summary());
        description.push('.');
        schema.insert("description".to_owned(), description.into());
    }
    schema
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A filter by itself, or with what it takes.
fn filter(filters: &Filters) -> Value {
    let mut properties: Map<String, Value> = filters
        .iter()
        .map(|entry| (entry.name().to_owned(), of_filter(entry)))
        .collect();
    let names: Vec<_> = filters.iter().map(|entry| entry.name()).collect();
    for beside in BESIDE {
        let schema = match beside {
            "when" | "unless" => of::<ConditionConfig>(),
            "mode" => of::<Enforcement>(),
            _ => json!({ "type": ["string", "number", "boolean"] }),
        };
        properties.insert(beside.to_owned(), schema);
    }
    json!({
        "anyOf": [
            { "enum": names },
            { "type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1 },
        ]
    })
}

/// The schema of a type.
fn of<T: DeserializeOwned>() -> Value {
    let read = |probe: Probe<'_>| T::deserialize(probe).map(drop);
    explore(&read, &mut Vec::new())
}

/// What may be at the end of a way.
fn explore(read: &Read<'_>, way: &mut Vec<Step>) -> Value {
    let (seen, key) = seen(read, way, Form::Nothing);
    let Some(wanted) = seen.wanted.filter(|_| way.len() < DEPTH) else {
        return json!({});
    };
    let takes = |form| look(read, way, form, key);
    let mut forms = match &wanted {
        Wanted::Bool => vec![json!({ "type": "boolean" })],
        Wanted::Integer { signed: true } => vec![json!({ "type": "integer" })],
        Wanted::Integer { signed: false } => vec![json!({ "type": "integer", "minimum": 0 })],
        Wanted::Number => vec![json!({ "type": "number" })],
        Wanted::Text => vec![text(&takes(Form::Map))],
        Wanted::Unit => vec![json!({ "type": ["null", "object"], "maxProperties": 0 })],
        Wanted::Node => return json!({}),
        Wanted::Named => return json!({ "$ref": FILTER }),
        Wanted::Enum(variants) => choices(read, way, variants),
        Wanted::Struct(fields) => {
            let mut forms = scalars(&takes);
            forms.push(object(read, way, fields));
            forms
        }
        Wanted::Map => {
            let mut forms = scalars(&takes);
            forms.push(entries(read, way));
            forms
        }
        Wanted::List => {
            let mut forms = scalars(&takes);
            forms.push(list(read, way));
            forms
        }
        Wanted::Any => {
            let mut forms = scalars(&takes);
            let (listed, mapped) = (takes(Form::List), takes(Form::Map));
            let anything = [Form::Text, Form::Number, Form::Bool];
            if listed.taken
                && mapped.fields.is_none()
                && anything.into_iter().all(|form| takes(form).taken)
            {
                return json!({});
            }
            if listed.taken {
                forms.push(list(read, way));
            }
            match mapped.fields {
                Some(fields) => forms.push(object(read, way, fields)),
                None if mapped.taken => forms.push(entries(read, way)),
                None => {}
            }
            forms
        }
    };
    if seen.optional {
        forms.push(json!({ "type": "null" }));
    }
    either(forms)
}

/// What is wanted at the end of a way, and a key of one's own by which one comes there.
fn seen(read: &Read<'_>, way: &[Step], form: Form) -> (Seen, &'static str) {
    let mut tried = KEYS.iter().map(|key| (look(read, way, form, key), *key));
    let found = tried.find(|(seen, _)| seen.wanted.is_some());
    found.unwrap_or_else(|| (Seen::default(), KEYS[0]))
}

/// Words and numbers, as far as they are taken. Whoever takes a word is not asked for numbers: a file may write both.
fn scalars(takes: &impl Fn(Form) -> Seen) -> Vec<Value> {
    if takes(Form::Text).taken {
        let mut text = text(&takes(Form::Bool));
        let others = [(Form::Integer, "number"), (Form::Bool, "boolean")];
        let others = others.into_iter().filter(|(form, _)| takes(*form).taken);
        let kinds = ["string"].into_iter().chain(others.map(|(_, kind)| kind));
        text["type"] = kinds.collect::<Vec<_>>().into();
        return vec![text];
    }
    let kinds = [
        (Form::Integer, json!({ "type": "integer" })),
        (Form::Number, json!({ "type": "number" })),
        (Form::Bool, json!({ "type": "boolean" })),
    ];
    let taken = kinds.into_iter().filter(|(form, _)| takes(*form).taken);
    taken.map(|(_, schema)| schema).collect()
}

/// A text, which may look like a number. `refused` is what came of something else: it tells what is expected.
fn text(refused: &Seen) -> Value {
    let mut schema = json!({ "type": ["string", "number", "boolean"] });
    let Some(expected) = refused
        .expected
        .as_deref()
        .filter(|expected| expected.contains('`'))
    else {
        return schema;
    };
    schema["description"] = format!("{}.", capital(expected)).into();
    let examples: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    schema["examples"] = examples.into();
    schema
}

fn object(read: &Read<'_>, way: &mut Vec<Step>, fields: &[&'static str]) -> Value {
    let mut properties = Map::new();
    // A type within itself may be so for ever.
    let own = |step: &&Step| matches!(step, Step::Field(name) if fields.contains(&name.as_str()));
    if !fields.is_empty() && way.iter().filter(own).count() > NESTED {
        return json!({ "type": "object" });
    }
    for field in fields {
        way.push(Step::Field((*field).to_owned()));
        properties.insert((*field).to_owned(), explore(read, way));
        way.pop();
    }
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

fn entries(read: &Read<'_>, way: &mut Vec<Step>) -> Value {
    way.push(Step::Entry);
    let value = explore(read, way);
    way.pop();
    json!({ "type": ["object", "null"], "additionalProperties": value })
}

fn list(read: &Read<'_>, way: &mut Vec<Step>) -> Value {
    way.push(Step::Element);
    let items = explore(read, way);
    way.pop();
    json!({ "type": "array", "items": items })
}

/// Words, and words with something behind them.
fn choices(read: &Read<'_>, way: &mut Vec<Step>, variants: &[&'static str]) -> Vec<Value> {
    let (mut words, mut properties) = (Vec::new(), Map::new());
    for variant in variants {
        way.push(Step::Variant((*variant).to_owned()));
        let (seen, _) = seen(read, way, Form::Nothing);
        match seen.wanted {
            None | Some(Wanted::Unit) => words.push(*variant),
            Some(_) => {
                properties.insert((*variant).to_owned(), explore(read, way));
            }
        }
        way.pop();
    }
    let mut forms = Vec::new();
    if !words.is_empty() {
        forms.push(json!({ "enum": words }));
    }
    if !properties.is_empty() {
        forms.push(json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        }));
    }
    forms
}

fn either(mut forms: Vec<Value>) -> Value {
    match forms.len() {
        1 => forms.remove(0),
        _ => json!({ "anyOf": forms }),
    }
}

fn set(schema: &mut Value, way: &[&str], value: Value) {
    let mut at = schema;
    for key in way {
        at = &mut at[*key];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, num::NonZeroU16};

    use edgeway_sdk::{BuildError, Filter, Period};
    use serde::Deserialize;

    use super::*;
    use crate::config::{At, Entries, OneOrMany};

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Sample {
        on: Option<bool>,
        wait: At<Period>,
        names: Vec<String>,
        one: OneOrMany<crate::config::Network>,
        by: Entries<At<NonZeroU16>>,
        statuses: HashMap<u16, String>,
        choice: Choice,
        inner: Option<Box<Inner>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its shape is of interest")]
    enum Choice {
        PlainWord,
        WithNumber(u8),
        WithMap { key: String },
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Inner {
        depth: f64,
    }

    #[test]
    fn a_type_tells_all_that_it_takes() {
        let schema = of::<Sample>();
        let properties = &schema["properties"];
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(properties["on"]["anyOf"][0]["type"], "boolean");
        assert_eq!(properties["on"]["anyOf"][1]["type"], "null");
        assert_eq!(properties["names"]["items"]["type"][0], "string");
        assert!(
            properties["wait"]["examples"].is_array(),
            "{}",
            properties["wait"]
        );
        assert_eq!(properties["one"]["anyOf"][1]["type"], "array");
        assert_eq!(properties["by"]["additionalProperties"]["type"], "integer");
        assert_eq!(
            properties["statuses"]["additionalProperties"]["type"][0],
            "string"
        );
        let choice = &properties["choice"]["anyOf"];
        assert_eq!(choice[0]["enum"], json!(["plain_word"]));
        assert_eq!(choice[1]["properties"]["with_number"]["type"], "integer");
        assert_eq!(
            choice[1]["properties"]["with_map"]["properties"]["key"]["type"][0],
            "string"
        );
        assert_eq!(
            properties["inner"]["anyOf"][0]["properties"]["depth"]["type"],
            "number"
        );
    }

    struct Tenants;

    impl Filter for Tenants {}

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct TenantsConfig {
        allow: Vec<String>,
    }

    #[test]
    fn a_filter_of_somebody_else_is_in_the_schema_with_its_keys_and_notes() {
        let text = "lets tenants pass\n\ntenants:\n  allow: [a]   # who may";
        let build = |_: TenantsConfig, _: &mut edgeway_sdk::Build<'_>| Ok::<_, BuildError>(Tenants);
        let schema = schema(&Filters::new().add_documented("tenants", text, build));
        let filter = &schema["$defs"]["filter"]["anyOf"][1]["properties"];
        let allow = &filter["tenants"]["properties"]["allow"];
        assert_eq!(allow["type"], "array");
        assert_eq!(allow["description"], "Who may.");
        assert_eq!(filter["tenants"]["description"], "Lets tenants pass.");
        assert_eq!(filter["tenants"]["additionalProperties"], false);
        assert!(filter["when"]["properties"]["claims"].is_object());
        assert_eq!(schema["properties"]["filters"]["items"]["$ref"], FILTER);
    }

    /// What a file says, with what it includes.
    fn said(path: &std::path::Path) -> Value {
        let mut problems = crate::config::diagnostic::Problems::default();
        let document = crate::config::document::Document::load(path, &mut problems);
        assert!(!problems.has_errors(), "{}", path.display());
        serde_json::to_value(document.written()).unwrap()
    }

    fn conf() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf")
    }

    #[test]
    fn every_example_is_as_the_schema_says() {
        let schema = schema(&edgeway_filters::standard());
        let validator = jsonschema::validator_for(&schema).unwrap();
        let examples = std::fs::read_dir(conf().join("examples")).unwrap();
        let examples = examples.map(|entry| entry.unwrap().path());
        let files: Vec<_> = examples
            .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
            .chain([conf().join("edgeway.yaml")])
            .collect();
        assert!(files.len() > 30, "{files:?}");
        for file in files {
            let said = said(&file);
            let wrong: Vec<_> = validator
                .iter_errors(&said)
                .map(|error| format!("{}: {error:.300}", error.instance_path()))
                .collect();
            assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
        }
    }

    #[test]
    fn what_nobody_understands_is_not_as_the_schema_says() {
        let text = "filters that tenants pass\n\ntenants:\n  allow: [a]";
        let build = |_: TenantsConfig, _: &mut edgeway_sdk::Build<'_>| Ok::<_, BuildError>(Tenants);
        let filters = edgeway_filters::standard().add_documented("tenants", text, build);
        let validator = jsonschema::validator_for(&schema(&filters)).unwrap();
        let right = json!({
            "listeners": { "http": { "bind": ":80" } },
            "routes": [{ "filters": ["request_id", { "tenants": { "allow": ["a"] }, "mode": "report" }],
                         "respond": { "status": 200 } }],
        });
        assert!(
            validator.is_valid(&right),
            "{:?}",
            validator
                .iter_errors(&right)
                .next()
                .map(|error| error.to_string())
        );
        for (pointer, wrong) in [
            ("/listeners/http", json!({ "bnid": ":80" })),
            ("/listeners", json!([])),
            ("/routes/0/filters/0", json!("requestid")),
            ("/routes/0/filters/1/tenants", json!({ "alow": [] })),
            ("/routes/0/filters/1/tenants/allow", json!("a")),
            ("/routes/0/filters/1/mode", json!("loud")),
            ("/routes/0", json!({ "upstraem": "a" })),
        ] {
            let mut document = right.clone();
            *document.pointer_mut(pointer).unwrap() = wrong;
            assert!(!validator.is_valid(&document), "{pointer}");
        }
    }
}
