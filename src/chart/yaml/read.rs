//! YAML to the values of templates: YAML to JSON, as Kubernetes reads it.

use std::collections::BTreeMap;

use crate::template::json;
use crate::template::{Value, display, float, new_map};
use crate::yaml::{Content, Documents, Error, ErrorKind, Node, Resolved, Scalar, Style};

/// Reads the first document; nil if there is none.
///
/// # Errors
/// Fails with a message like Go's.
pub fn read(text: &str) -> Result<Value, String> {
    first(text, Types::Resolved)
}

/// Reads the first document with plain scalars as texts, as in the metadata of a chart: `1.10` is "1.1", as in Go.
///
/// # Errors
/// Fails with a message like Go's.
pub fn strings(text: &str) -> Result<Value, String> {
    first(text, Types::Text)
}

fn first(text: &str, types: Types) -> Result<Value, String> {
    let value = match Documents::new(text).merged_in_order().next() {
        Some(node) => node.map_err(|error| in_words_of_go(&error)).and_then(|node| types.value(&node)),
        None => Ok(Value::Nil),
    };
    value.map_err(|message| format!("error converting YAML to JSON: {message}"))
}

#[cfg(test)]
/// Reads all documents; empty ones are left out.
///
/// # Errors
/// Fails with a message like Go's.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for node in Documents::new(text).merged_in_order() {
        all.push(Types::Resolved.value(&node.map_err(|error| in_words_of_go(&error))?)?);
    }
    all.retain(|document| !document.is_nil());
    Ok(all)
}

/// What plain scalars become.
#[derive(Clone, Copy, PartialEq)]
enum Types {
    /// What YAML 1.1 says they are.
    Resolved,
    /// Text, except for null.
    Text,
}

impl Types {
    fn value(self, node: &Node) -> Result<Value, String> {
        Ok(match &node.content {
            Content::Scalar(scalar) => self.scalar(scalar)?,
            Content::List(items) => Value::list(items.iter().map(|item| self.value(item)).collect::<Result<Vec<_>, _>>()?),
            Content::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, value) in entries.iter() {
                    map.insert(self.key(key)?, self.value(value)?);
                }
                Value::Map(new_map(map))
            }
        })
    }

    fn scalar(self, scalar: &Scalar) -> Result<Value, String> {
        if scalar.tag.as_deref() == Some("binary") {
            use base64::Engine as _;
            let packed: String = scalar.text.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(packed)
                .map_err(|_| "yaml: !!binary value contains invalid base64 data")?;
            return Ok(Value::text(String::from_utf8_lossy(&bytes)));
        }
        Ok(match scalar.resolve() {
            Resolved::Null => Value::Nil,
            Resolved::Text | Resolved::Date | Resolved::Merge => Value::text(&scalar.text),
            other if self == Types::Text => Value::text(as_text(other)?),
            Resolved::Bool(value) => Value::Bool(value),
            Resolved::Int(value) => Value::Float(value as f64),
            Resolved::Float(value) if scalar.tag.as_deref() == Some("float") || value.is_finite() => Value::Float(value),
            Resolved::Float(value) => return Err(format!("json: unsupported value: {}", float(value, 'g', None))),
        })
    }

    /// A key as JSON has it.
    fn key(self, key: &Node) -> Result<String, String> {
        if let Content::Scalar(scalar) = &key.content
            && (scalar.style, &scalar.tag, key.is_alias) == (Style::Plain, &None, false)
        {
            return match scalar.resolve() {
                Resolved::Null => Ok("null".to_owned()),
                Resolved::Text | Resolved::Date | Resolved::Merge => Ok(scalar.text.to_string()),
                other => as_text(other),
            };
        }
        match self.value(key)? {
            Value::Text(text) => Ok(text.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Float(value) => json::number(value),
            Value::Nil => Ok("null".to_owned()),
            other => Err(format!("yaml: invalid map key: {}", display(&other))),
        }
    }
}

/// A scalar where Go wants a string: floats with the precision of 32 bits, as `sigs.k8s.io/yaml` has it.
fn as_text(scalar: Resolved) -> Result<String, String> {
    Ok(match scalar {
        Resolved::Bool(value) => value.to_string(),
        Resolved::Int(value) => value.to_string(),
        Resolved::Float(value) => {
            let short: f64 = (value as f32).to_string().parse().unwrap_or(value);
            crate::template::float(short, 'g', None)
        }
        _ => String::new(),
    })
}

/// An error in the words of Go's parser.
fn in_words_of_go(error: &Error) -> String {
    match error.kind {
        ErrorKind::Syntax => {}
        ErrorKind::TooDeep => return "yaml: exceeded max depth or size".to_owned(),
        ErrorKind::TooLarge => return "yaml: document contains excessive aliasing".to_owned(),
        ErrorKind::Merge => return "yaml: map merge requires map or sequence of maps as the value".to_owned(),
        ErrorKind::Key => return format!("yaml: {}", error.message),
    }
    let known = [
        ("unclosed bracket", "did not find expected node content"),
        ("did not find expected node content", "did not find expected node content"),
        ("mapping values are not allowed", "mapping values are not allowed in this context"),
        ("tab", "found character that cannot start any token"),
        ("while parsing node", "did not find expected node content"),
        ("flow sequence", "did not find expected node content"),
        ("flow mapping", "did not find expected ',' or '}'"),
        ("block mapping", "did not find expected key"),
        ("block collection", "did not find expected '-' indicator"),
        ("simple key", "could not find expected ':'"),
        ("undefined alias", "unknown anchor referenced"),
        ("unknown anchor", "unknown anchor referenced"),
    ];
    let lower = error.message.to_lowercase();
    let message = known.iter().find(|(ours, _)| lower.contains(ours)).map_or(error.message.as_str(), |(_, go)| go);
    format!("yaml: line {}: {message}", error.line.max(1))
}
