//! JSON Schemas of the kinds, for editors that complete and validate Clusterfiles.

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::document::{ApplicationDocument, ClusterDocument, ConfigDocument, PluginDocument};

/// The kinds that have a schema of ours; kubeadm's own kinds are described by Kubernetes.
pub const SCHEMAS: &[&str] = &["Application", "Cluster", "Config", "Plugin"];

/// The JSON Schema of a kind, if it has one.
pub fn schema(kind: &str) -> Option<Value> {
    match kind {
        "Application" => Some(strict::<ApplicationDocument>(kind)),
        "Cluster" => Some(strict::<ClusterDocument>(kind)),
        "Config" => Some(strict::<ConfigDocument>(kind)),
        "Plugin" => Some(strict::<PluginDocument>(kind)),
        _ => None,
    }
}

/// The schema of a type with its identifier; unknown fields are errors.
fn strict<T: JsonSchema>(kind: &str) -> Value {
    let mut schema = schema_for!(T).to_value();
    close(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$id".to_owned(), json!(format!("urn:sealift:schema:v1:{kind}")));
    }
    schema
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            // what serde takes for a field that is missing is no default that a user would want to see
            if fields.get("default").is_some_and(|default| [json!(""), json!({}), json!([]), json!(null)].contains(default)) {
                fields.remove("default");
            }
            let is_struct = fields.get("properties").is_some_and(|properties| properties.get("type").is_none_or(Value::is_object));
            if is_struct && !fields.contains_key("additionalProperties") && fields.get("type") == Some(&json!("object")) {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_in_docs_are_those_of_the_program() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
        for kind in SCHEMAS {
            let file = folder.join(format!("{kind}.json"));
            let expected = serde_json::to_string_pretty(&schema(kind).unwrap()).unwrap() + "\n";
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                std::fs::write(&file, &expected).unwrap();
            }
            let found = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(found, expected, "`sealift schema {kind} > docs/schema/{kind}.json`");
        }
    }

    #[test]
    fn every_schema_says_what_it_is_and_what_is_required() {
        for kind in SCHEMAS {
            let schema = schema(kind).unwrap();
            assert_eq!(schema["$id"], format!("urn:sealift:schema:v1:{kind}"));
            assert_eq!(schema["properties"]["kind"]["const"], *kind);
            assert_eq!(schema["required"], json!(["apiVersion", "kind", "spec"]));
        }
        assert_eq!(schema("Cluster").unwrap()["$defs"]["HostDocument"]["required"], json!(["ips", "roles"]));
        assert_eq!(schema("Config").unwrap()["$defs"]["ConfigSpec"]["properties"]["strategy"]["enum"], json!(["overwrite", "merge", null]));
    }

    #[test]
    fn unknown_fields_are_wrong_in_every_struct_but_not_in_maps() {
        let cluster = schema("Cluster").unwrap();
        assert_eq!(cluster["additionalProperties"], json!(false));
        assert_eq!(cluster["$defs"]["SshDocument"]["additionalProperties"], json!(false));
        assert_ne!(cluster["$defs"]["HostDocument"]["properties"]["labels"]["additionalProperties"], json!(false));
    }
}
