//! Checks a document against its JSON Schema and turns it into the value that its type reads.
//!
//! The schemas are those of [`super::document`]; only the keywords that they use are known here: `$ref`, `anyOf`, `type`,
//! `properties`, `additionalProperties`, `items`. Scalars are taken as written where text is meant, `null` is the same as
//! leaving a field out (as in Go), and the case of a key does not matter (as in Go) but is noted.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::finding::Findings;
use crate::diagnostic::did_you_mean;
use crate::yaml::{Content, Node};

/// Reads a document as the type that its schema is made from. Errors are noted; what is wrong is left out.
pub fn read<T: DeserializeOwned + schemars::JsonSchema + Default>(node: &Node, strict: bool, findings: &mut Findings) -> T {
    let schema = schemars::schema_for!(T).to_value();
    let mut shape = Shape { root: &schema, strict, findings };
    let value = shape.of(node, &schema).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_else(|error| {
        findings.error(&node.span, error.to_string());
        T::default()
    })
}

struct Shape<'a> {
    root: &'a Value,
    strict: bool,
    findings: &'a mut Findings,
}

impl<'a> Shape<'a> {
    /// The value of a node as the schema wants it, or `None` if it is nothing or wrong.
    fn of(&mut self, node: &Node, schema: &'a Value) -> Option<Value> {
        if node.is_null() {
            return None;
        }
        let branches = self.branches(schema);
        match branches.iter().find(|branch| fits(node, branch)) {
            Some(branch) => self.take(node, branch),
            None => {
                self.findings.error(&node.span, format!("expected {}, found {}", expected(&branches), node.kind()));
                None
            }
        }
    }

    /// The schemas that a value may follow, references resolved.
    fn branches(&self, schema: &'a Value) -> Vec<&'a Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix("#/$defs/").and_then(|name| self.root.get("$defs")?.get(name));
            return target.map(|target| self.branches(target)).unwrap_or_default();
        }
        match schema.get("anyOf").and_then(Value::as_array) {
            Some(any) => any.iter().flat_map(|schema| self.branches(schema)).collect(),
            None => vec![schema],
        }
    }

    fn take(&mut self, node: &Node, schema: &'a Value) -> Option<Value> {
        if !types(schema).iter().any(|kind| ["object", "array", "boolean", "string"].contains(kind)) {
            return Some(node.to_value());
        }
        match &node.content {
            Content::Map(_) => Some(self.map(node, schema)),
            Content::List(items) => Some(self.list(items, schema)),
            _ if types(schema).contains(&"boolean") => node.text().and_then(|text| text.to_lowercase().parse().ok()).map(Value::Bool),
            _ => node.text().map(Value::from),
        }
    }

    fn list(&mut self, items: &[Node], schema: &'a Value) -> Value {
        let Some(item_schema) = schema.get("items") else {
            return items.iter().map(Node::to_value).collect();
        };
        let null = |item: &Node| item.is_null();
        for item in items.iter().filter(|item| null(item)) {
            self.findings.error_if(self.strict, &item.span, "an item of this list is empty");
        }
        items.iter().filter(|item| !null(item)).filter_map(|item| self.of(item, item_schema)).collect()
    }

    fn map(&mut self, node: &Node, schema: &'a Value) -> Value {
        let known = schema.get("properties").and_then(Value::as_object);
        let mut value = Map::new();
        for (key, child) in node.entries() {
            let Some((name, child_schema)) = self.field(key, schema, known) else { continue };
            if value.contains_key(&name) {
                self.findings.error(&key.span, format!("duplicate key `{name}`"));
            }
            if let Some(child) = self.of(child, child_schema) {
                value.insert(name, child);
            }
        }
        Value::Object(value)
    }

    /// The schema of a field and its proper name; what is not known is noted.
    fn field(&mut self, key: &Node, schema: &'a Value, known: Option<&'a Map<String, Value>>) -> Option<(String, &'a Value)> {
        let name = key.text().unwrap_or_default();
        if let Some(child) = known.and_then(|known| known.get(name)) {
            return Some((name.to_owned(), child));
        }
        if let Some(additional) = schema.get("additionalProperties").filter(|additional| additional.is_object()) {
            return Some((name.to_owned(), additional));
        }
        let known = known?;
        if let Some((proper, child)) = known.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
            self.findings.error_if(self.strict, &key.span, format!("field `{name}` is written `{proper}`"));
            return Some((proper.clone(), child));
        }
        let finding = self.findings.error_if(self.strict, &key.span, format!("unknown field `{name}`"));
        match did_you_mean(name, known.keys().map(String::as_str)) {
            Some(similar) => finding.help(format!("did you mean `{similar}`?")),
            None => finding.help(format!("known here: {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))),
        }
        None
    }
}

/// The types that a schema without references and alternatives allows, but for null.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => vec!["any"],
    }
}

fn fits(node: &Node, schema: &Value) -> bool {
    types(schema).into_iter().any(|kind| match (kind, &node.content) {
        ("any", _) | ("object", Content::Map(_)) | ("array", Content::List(_)) => true,
        ("string", Content::Scalar(_)) => true,
        ("boolean", _) => node.text().is_some_and(|text| ["true", "false"].contains(&text.to_lowercase().as_str())),
        _ => false,
    })
}

fn expected(branches: &[&Value]) -> String {
    let word = |kind: &&str| match *kind {
        "object" => "a mapping",
        "array" => "a list",
        "boolean" => "true or false",
        _ => "text",
    };
    let mut words: Vec<&str> =
        branches.iter().flat_map(|branch| types(branch)).filter(|kind| !["any", "null"].contains(kind)).map(|kind| word(&kind)).collect();
    words.sort_unstable();
    words.dedup();
    words.join(" or ")
}
