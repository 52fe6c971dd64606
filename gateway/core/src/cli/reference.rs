//! `edgeway reference DIR`: pages about all keys, filters, commands and calls, made of what knows them.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory};
use edgeway_sdk::Filters;
use serde_json::Value;

use super::{Line, exit, tell};
use crate::{
    config::schema::{ANNOTATED, Note, notes, of_filter, schema},
    server::described_calls,
};

/// The options of the command.
#[derive(Args)]
pub(super) struct Reference {
    /// The folder that the pages are written into
    folder: PathBuf,
}

/// What stands at the top of each page.
const MADE: &str =
    "<!-- Made by `edgeway reference gateway/core/reference`: edit what it is made of. -->\n\n";

/// Writes the pages.
pub(super) fn write(options: &Reference, filters: &Filters) -> io::Result<ExitCode> {
    let folder = &options.folder;
    let pages = [
        ("configuration.md", configuration(filters)),
        ("filters.md", about_filters(filters)),
        ("cli.md", commands()),
        ("api.md", calls(&described_calls())),
    ];
    for (name, page) in pages {
        if let Err(error) = page_into(folder, name, &page) {
            tell(&format!(
                "error: {}: {error}\n",
                folder.join(name).display()
            ));
            return Ok(exit::configuration());
        }
    }
    writeln!(io::stdout(), "4 pages in {}", folder.display())?;
    Ok(ExitCode::SUCCESS)
}

fn page_into(folder: &Path, name: &str, page: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), format!("{MADE}{}\n", page.trim_end()))
}

/// The keys of the file, a section for each at the top.
fn configuration(filters: &Filters) -> String {
    let schema = schema(filters);
    let notes = notes(ANNOTATED);
    let mut page = String::from(
        "# Configuration\n\nOne YAML file, with what it includes. `conf/edgeway.yaml` is the same as a file with \
         comments; `edgeway schema` writes it for editors: put\n\
         `# yaml-language-server: $schema=/usr/share/edgeway/schema.json` on the first line.\n\n\
         A length of time is written `250ms`, `5s`, `1m30s`; a secret is best `env:NAME` or `file:/path`. An unknown key \
         is an error. `*` stands for a name of yours, `[]` for each element of a list.\n",
    );
    let top = notes.iter().filter(|note| note.way.len() == 1);
    let mut seen: Vec<&str> = Vec::new();
    let written = top.filter_map(|note| note.way.first().map(String::as_str));
    let known = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|known| known.keys());
    for key in written.chain(known.map(String::as_str)) {
        let section = &schema["properties"][key];
        if seen.contains(&key) || section.is_null() {
            continue;
        }
        seen.push(key);
        add(&mut page, format_args!("\n## {key}\n"));
        if let Some(text) = section["description"].as_str() {
            add(&mut page, format_args!("\n{text}\n"));
        }
        match key {
            "filters" => page.push_str("\nA list of filters, see [filters](filters.md).\n"),
            _ => table(&mut page, section, key, &notes),
        }
    }
    page
}

/// The filters, a section for each.
fn about_filters(filters: &Filters) -> String {
    let mut page = String::from(
        "# Filters\n\nA filter is a name, or a name with what it takes. Beside any of them may stand `when` and `unless` \
         (for which requests it is), `mode: report` (refuse nothing, and tell what it would have refused) and `name`.\n\n",
    );
    for entry in filters.iter() {
        let name = entry.name();
        add(
            &mut page,
            format_args!("- [{name}](#{name}): {}\n", entry.summary()),
        );
    }
    for entry in filters.iter() {
        let schema = of_filter(entry);
        add(&mut page, format_args!("\n## {}\n", entry.name()));
        if let Some(text) = schema["description"].as_str() {
            add(&mut page, format_args!("\n{text}\n"));
        }
        if !entry.yaml().is_empty() {
            add(
                &mut page,
                format_args!("\n```yaml\n{}\n```\n", entry.yaml()),
            );
        }
        table(&mut page, &schema, entry.name(), &notes(entry.yaml()));
    }
    page
}

/// The keys of a part, with all that is within them.
fn table(page: &mut String, schema: &Value, name: &str, notes: &[Note]) {
    let mut rows = Vec::new();
    gather(schema, name, &mut rows);
    if rows.is_empty() {
        add(page, format_args!("\n{}.\n", capital(&kind(schema))));
        return;
    }
    page.push_str("\n| key | type | default or example | |\n|---|---|---|---|\n");
    for (path, schema) in rows {
        let way: Vec<&str> = path
            .split(['.'])
            .map(|key| key.trim_end_matches("[]"))
            .collect();
        let matches = |note: &&Note| {
            let keys = note.way.iter().zip(&way);
            note.way.len() == way.len()
                && keys.into_iter().all(|(own, key)| own == key || *key == "*")
        };
        let note = notes.iter().find(matches);
        let value = note.map(value).unwrap_or_default();
        let text = schema["description"].as_str().unwrap_or_default();
        let (kind, text) = (cell(&kind(schema)), cell(text));
        add(
            page,
            format_args!("| `{path}` | {kind} | {value} | {text} |\n"),
        );
    }
}

/// The default, or an example.
fn value(note: &Note) -> String {
    if note.value.is_empty() {
        return String::new();
    }
    let value = cell(&note.value);
    match note.is_default {
        true => format!("`{value}`"),
        false => format!("such as `{value}`"),
    }
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// All keys below a part, by their ways.
fn gather<'s>(schema: &'s Value, path: &str, rows: &mut Vec<(String, &'s Value)>) {
    if let Some(forms) = schema["anyOf"].as_array() {
        forms.iter().for_each(|form| gather(form, path, rows));
        return;
    }
    if let Some(items) = schema.get("items") {
        return gather(items, &format!("{path}[]"), rows);
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (key, property) in properties {
            let path = format!("{path}.{key}");
            if !rows.iter().any(|(known, _)| *known == path) {
                rows.push((path.clone(), property));
            }
            gather(property, &path, rows);
        }
    }
    if let Some(others) = schema
        .get("additionalProperties")
        .filter(|others| others.is_object())
    {
        gather(others, &format!("{path}.*"), rows);
    }
}

/// What a value is, in words.
fn kind(schema: &Value) -> String {
    if let Some(forms) = schema["anyOf"].as_array() {
        let mut kinds: Vec<String> = Vec::new();
        for kind in forms.iter().filter(|form| form["type"] != "null").map(kind) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        return kinds.join(", or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        return words.join(", ");
    }
    if schema.get("$ref").is_some() {
        return "a [filter](filters.md)".to_owned();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some("string") => "text".to_owned(),
        Some("integer" | "number") => "number".to_owned(),
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("array") => format!("list: {}", self::kind(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!(
                "map of names: {}",
                self::kind(&schema["additionalProperties"])
            )
        }
        Some("object") => "map".to_owned(),
        Some("null") => "nothing".to_owned(),
        _ => "anything".to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// The commands, as their `--help` tells of them.
fn commands() -> String {
    let mut line = Line::command().term_width(100);
    line.build();
    let mut page = String::from("# Command line\n");
    add(
        &mut page,
        format_args!(
            "\n```text\n{}\n```\n",
            plain(&line.render_long_help().to_string())
        ),
    );
    for command in line.get_subcommands_mut() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let name = command.get_name().to_owned();
        let help = plain(&command.render_long_help().to_string());
        add(
            &mut page,
            format_args!("\n## {name}\n\n```text\n{help}\n```\n"),
        );
    }
    page
}

/// Without blanks at the ends of lines.
fn plain(help: &str) -> String {
    let lines = help.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The calls of the admin listener.
fn calls(openapi: &Value) -> String {
    let mut page = String::from(
        "# Admin API\n\nWhat the admin listener answers, as JSON. `GET /openapi.json` describes the same for programs.\n\n\
         | call | |\n|---|---|\n",
    );
    let paths = openapi["paths"].as_object();
    for (path, methods) in paths.into_iter().flatten() {
        for (method, call) in methods.as_object().into_iter().flatten() {
            let Some(summary) = call["summary"].as_str() else {
                continue;
            };
            let method = method.to_uppercase();
            add(
                &mut page,
                format_args!("| `{method} {path}` | {} |\n", cell(summary)),
            );
        }
    }
    page
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("a string takes what is written");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_is_told_in_words() {
        let either = json!({ "anyOf": [{ "type": ["string", "number"] }, { "type": "array", "items": { "type": "integer" } },
            { "type": "null" }] });
        assert_eq!(kind(&either), "text, or list: number");
        assert_eq!(kind(&json!({ "enum": ["a", "b"] })), "`a`, `b`");
        assert_eq!(kind(&json!({})), "anything");
    }

    #[test]
    fn keys_are_gathered_with_the_way_to_them() {
        let schema = json!({ "type": "object", "additionalProperties": { "properties": {
            "list": { "type": "array", "items": { "properties": { "deep": { "type": "integer" } } } } } } });
        let mut rows = Vec::new();
        gather(&schema, "top", &mut rows);
        let paths: Vec<_> = rows.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["top.*.list", "top.*.list[].deep"]);
    }
}
