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
    let mut documents = Documents::new(text).merged_in_order();
    let value = match documents.next() {
        Some(node) => node
            .and_then(|node| documents.check_end().map(|()| node))
            .map_err(|error| in_words_of_go(text, &error))
            .and_then(|node| types.value(&node)),
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
        all.push(Types::Resolved.value(&node.map_err(|error| in_words_of_go(text, &error))?)?);
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
        if is_text_in_go(scalar) {
            return Ok(Value::text(&scalar.text));
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

/// Whether Go takes a scalar for text that YAML 1.1 does not: too large a number (`57E396`), an underscore in a number that starts with a point,
/// and what has a tag of the user's own.
fn is_text_in_go(scalar: &Scalar) -> bool {
    let known = ["str", "binary", "int", "float", "bool", "null", "timestamp", "merge"];
    if scalar.tag.as_deref().is_some_and(|tag| !known.contains(&tag)) {
        return true;
    }
    let is_number = scalar.style == Style::Plain && scalar.tag.is_none();
    match scalar.resolve() {
        Resolved::Float(value) if is_number => {
            value.is_infinite() && !scalar.text.to_ascii_lowercase().contains("inf")
                || scalar.text.starts_with('.') && scalar.text.contains('_')
        }
        _ => false,
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
fn in_words_of_go(text: &str, error: &Error) -> String {
    match error.kind {
        ErrorKind::Syntax => {}
        ErrorKind::TooDeep => return "yaml: exceeded max depth or size".to_owned(),
        ErrorKind::TooLarge => return "yaml: document contains excessive aliasing".to_owned(),
        ErrorKind::Merge => return "yaml: map merge requires map or sequence of maps as the value".to_owned(),
        ErrorKind::Key => return format!("yaml: {}", error.message),
    }
    // what ours say, what Go says, and whether it is Go's parser that says it and not its scanner, which counts lines in another way
    let known = [
        ("unclosed bracket", "did not find expected node content", true),
        ("unclosed quote", "found unexpected end of stream", false),
        ("misplaced bracket", "did not find expected node content", true),
        ("unexpected character", "found character that cannot start any token", false),
        ("did not find expected node content", "did not find expected node content", true),
        ("mapping values are not allowed", "mapping values are not allowed in this context", false),
        ("block sequence entries are not allowed", "block sequence entries are not allowed in this context", false),
        ("directive name", "could not find expected directive name", false),
        ("tab", "found character that cannot start any token", false),
        ("while parsing node", "did not find expected node content", true),
        ("flow sequence", "did not find expected node content", true),
        ("flow mapping", "did not find expected ',' or '}'", true),
        ("block mapping", "did not find expected key", true),
        ("block collection", "did not find expected '-' indicator", true),
        ("simple key", "could not find expected ':'", false),
        ("undefined alias", "unknown anchor referenced", true),
        ("unknown anchor", "unknown anchor referenced", true),
    ];
    let lower = error.message.to_lowercase();
    // `while scanning a tag, did not find …`
    let own =
        error.message.strip_prefix("while ").and_then(|message| message.split_once(", ")).map_or(error.message.as_str(), |(_, own)| own);
    let (message, by_parser) =
        known.iter().find(|(ours, ..)| lower.contains(ours)).map_or((own, false), |(_, go, by_parser)| (*go, *by_parser));
    // Go counts lines from 0, and a new one at the end of the text, but not inside of quotes
    let newlines = text.matches('\n').count();
    let line = if lower.contains("simple key") {
        // a key without a colon is found on the next line
        error.line.max(1)
    } else if lower.contains("unclosed quote") {
        newlines
    } else if lower.contains("unclosed") || error.span.start >= text.trim_end().len() {
        newlines + usize::from(!text.ends_with('\n'))
    } else {
        error.line.max(1) - 1
    };
    match line {
        0 => format!("yaml: {message}"),
        line if by_parser => format!("yaml: line {line}: {message}"),
        line => format!("yaml: line {}: {message}", line + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::json::{Style, write};

    /// Held to helm 3.17.3.
    #[test]
    fn documents_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("x: 57E396", r#"{"x":"57E396"}"#),
            ("x: 1e3\nz: .6_", r#"{"x":1000,"z":".6_"}"#),
            ("x: !foo 12\nz: !", r#"{"x":"12","z":""}"#),
            ("a: {b: 2, <<: {b: 1, c: 3}, c: 4}", r#"{"a":{"b":1,"c":4}}"#),
            ("a: {<<: [{b: 1}, {b: 2}], <<: {b: 3}}", r#"{"a":{"b":3}}"#),
            ("a: [", "yaml: line 1: did not find expected node content"),
            ("a: b: c", "yaml: mapping values are not allowed in this context"),
            ("x: 1\na: b: c", "yaml: line 2: mapping values are not allowed in this context"),
            ("first\nsecond: x\n", "yaml: line 2: mapping values are not allowed in this context"),
            ("a: \"x", "yaml: found unexpected end of stream"),
            ("a: 'x\n", "yaml: line 2: found unexpected end of stream"),
            ("a: 1\nb", "yaml: line 3: could not find expected ':'"),
            ("x: @a", "yaml: found character that cannot start any token"),
            ("- a\nb: 1", "yaml: line 1: did not find expected '-' indicator"),
        ] {
            let got = read(text).map_or_else(|error| error, |value| write(&value, Style::Raw).unwrap());
            assert_eq!(got.trim_start_matches("error converting YAML to JSON: "), expected, "{text}");
        }
    }
}
