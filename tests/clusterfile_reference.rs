//! `docs/clusterfile.md` against the JSON Schemas: every field is in a table with its type and default, and every example is valid.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::documents::{read, root};
use sealift::clusterfile;
use serde_json::Value;

/// A field as tables show it: its type, and its default, `required` or `–`.
type Field = (String, String);

/// The fields of a kind by path: `spec.hosts[].ips`. Objects that stand in several places are written out at the first one.
fn fields_of(kind: &str) -> BTreeMap<String, Field> {
    let schema = clusterfile::schema(kind).unwrap();
    let (mut fields, mut seen) = (BTreeMap::new(), BTreeSet::new());
    if kind != "Cluster" {
        seen.insert("#/$defs/Metadata".to_owned()); // written out for `Cluster`
    }
    collect(&schema, &schema, "", &mut fields, &mut seen);
    fields
}

fn collect(root: &Value, object: &Value, path: &str, fields: &mut BTreeMap<String, Field>, seen: &mut BTreeSet<String>) {
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut below = Vec::new();
    for (name, property) in object["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match (&property["default"], required.contains(&name.as_str())) {
            (_, true) => "required".to_owned(),
            (Value::Null, false) => "–".to_owned(),
            (Value::String(text), false) => format!("`{text}`"),
            (value, false) => format!("`{value}`"),
        };
        fields.insert(path.clone(), (type_of(root, property), default));
        below.push((path, property));
    }
    for (path, property) in below {
        for (reference, list) in references(property) {
            let target = &root["$defs"][reference.trim_start_matches("#/$defs/")];
            let inner: Vec<(String, bool)> = if is_object(target) { vec![(reference, list)] } else { references(target) };
            for (reference, list) in inner {
                let target = &root["$defs"][reference.trim_start_matches("#/$defs/")];
                if is_object(target) && seen.insert(reference.clone()) {
                    let path = if list { format!("{path}[]") } else { path.clone() };
                    collect(root, target, &path, fields, seen);
                }
            }
        }
    }
}

fn is_object(schema: &Value) -> bool {
    schema["properties"].is_object()
}

/// The definitions that a schema refers to, and whether it is a list of them.
fn references(schema: &Value) -> Vec<(String, bool)> {
    let own = schema["$ref"].as_str().map(|reference| (reference.to_owned(), false));
    let items = schema["items"]["$ref"].as_str().map(|reference| (reference.to_owned(), true));
    let any = schema["anyOf"].as_array().into_iter().flatten().flat_map(references);
    own.into_iter().chain(items).chain(any).collect()
}

/// The type in the tables' words.
fn type_of(root: &Value, schema: &Value) -> String {
    let mut kinds = BTreeSet::new();
    kinds_of(root, schema, &mut kinds);
    kinds.remove("null");
    let has = |kind: &str| kinds.contains(kind);
    let text = if has("text") {
        if has("list") {
            "text or list"
        } else if has("object") {
            "text or object"
        } else {
            "text"
        }
    } else if has("list") && has("map") {
        "list or map"
    } else {
        ["list of objects", "list", "map", "object", "boolean"].into_iter().find(|kind| has(kind)).unwrap_or("any")
    };
    text.to_owned()
}

fn kinds_of(root: &Value, schema: &Value, kinds: &mut BTreeSet<&'static str>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return match reference {
            "#/$defs/Scalar" => drop(kinds.insert("text")),
            _ => kinds_of(root, &root["$defs"][reference.trim_start_matches("#/$defs/")], kinds),
        };
    }
    schema["anyOf"].as_array().into_iter().flatten().for_each(|branch| kinds_of(root, branch, kinds));
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => Vec::new(),
        single => vec![single.clone()],
    };
    for kind in types {
        kinds.insert(match kind.as_str().unwrap() {
            "string" => "text",
            "boolean" => "boolean",
            "array" if schema["items"]["$ref"].as_str().is_some_and(|item| item != "#/$defs/Scalar") => "list of objects",
            "array" => "list",
            "object" if is_object(schema) => "object",
            "object" => "map",
            _ => "null",
        });
    }
}

/// The rows of the tables of fields in a chapter, by path.
fn rows_of(kind: &str) -> BTreeMap<String, Field> {
    let text = read(root().join("docs/clusterfile.md")).text;
    let chapter = text.split("\n## ").find(|chapter| chapter.starts_with(&format!("{kind}\n"))).unwrap();
    let rows = chapter.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').splitn(4, '|').map(str::trim).collect();
        assert!(cells.len() == 4 && !cells[3].is_empty(), "a row without a meaning: {line}");
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), cells[2].to_owned()))
    });
    let all: Vec<(String, Field)> = rows.collect();
    let unique: BTreeMap<String, Field> = all.iter().cloned().collect();
    assert_eq!(all.len(), unique.len(), "{kind}: a field stands twice");
    unique
}

#[test]
fn every_field_of_the_schemas_is_in_the_reference_and_no_other() {
    for kind in clusterfile::SCHEMAS {
        let (fields, rows) = (fields_of(kind), rows_of(kind));
        assert!(fields.len() > 5, "{kind}: {fields:?}");
        let wrong: Vec<String> = fields
            .iter()
            .filter(|(path, field)| rows.get(*path) != Some(field))
            .map(|(path, field)| format!("| `{path}` | {} | {} |", field.0, field.1))
            .chain(rows.keys().filter(|path| !fields.contains_key(*path)).map(|path| format!("`{path}` is no field")))
            .collect();
        assert!(wrong.is_empty(), "docs/clusterfile.md, {kind}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn every_example_of_the_reference_is_valid() {
    let text = read(root().join("docs/clusterfile.md")).text;
    let examples: Vec<&str> = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 6, "{} examples", examples.len());
    let cluster = "apiVersion: sealift.io/v1\nkind: Cluster\nspec: {image: 'shop:1', hosts: [{ips: [10.0.0.2], roles: [master]}]}\n";
    for example in examples {
        let whole = if example.contains("kind: Cluster\n") { example.to_owned() } else { format!("{cluster}---\n{example}") };
        if let Err(error) = clusterfile::load("docs/clusterfile.md", &whole) {
            panic!("{example}\n{error:#}");
        }
    }
}
