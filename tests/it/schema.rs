//! `edgeway schema`: what editors know of the configuration. That examples are as it says, and mistakes are not, is
//! tested beside the code that makes it.

use edgeway_tests::program;
use serde_json::Value;
use std::process::Command;

fn schema(name: &str) -> Value {
    let output = Command::new(program(name)).arg("schema").output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_schema_describes_keys_and_filters_with_what_people_have_written_of_them() {
    let schema = schema("edgeway");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let connect =
        &schema["properties"]["upstreams"]["additionalProperties"]["properties"]["timeouts"];
    assert!(
        connect["properties"]["connect"]["description"].is_string(),
        "{connect}"
    );
    let filters = &schema["$defs"]["filter"]["anyOf"][1]["properties"];
    let leeway = &filters["jwt"]["properties"]["leeway"];
    assert_eq!(
        leeway["description"],
        "How far clocks may differ, for `exp` and `nbf`."
    );
    // Small enough for an editor.
    assert!(
        schema.to_string().len() < 600_000,
        "{}",
        schema.to_string().len()
    );
}

#[test]
fn a_filter_of_somebody_else_is_in_the_schema_of_its_program() {
    let filters = &schema("examples/tenants")["$defs"]["filter"];
    let names = filters["anyOf"][0]["enum"].as_array().unwrap();
    assert!(names.contains(&"tenants".into()) && names.contains(&"jwt".into()));
    let tenants = &filters["anyOf"][1]["properties"]["tenants"];
    assert_eq!(tenants["properties"]["allow"]["type"], "array");
    assert_eq!(tenants["additionalProperties"], false);
}
