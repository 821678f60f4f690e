//! Reads and writes JSON as Go's `encoding/json`.

use super::budget;
use super::{Value, float};

pub use super::json_reader::read;

/// How JSON is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With `<`, `>` and `&` as escapes, as `json.Marshal`.
    Escaped,
    /// Without these escapes.
    Raw,
    /// Indented by two spaces, with these escapes.
    Pretty,
}

/// The limit on how deep values are written: a map may contain itself.
const MAX_DEPTH: usize = 500;

/// Writes a value on one line, or indented; keys are sorted.
///
/// # Errors
/// Fails for numbers that are not finite, and for what nests deeper than 500 levels.
pub fn write(value: &Value, style: Style) -> Result<String, String> {
    let mut out = String::new();
    write_value(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value, style: Style, depth: usize) -> Result<(), String> {
    use base64::Engine as _;
    if depth > MAX_DEPTH {
        return Err(format!("json: nested deeper than {MAX_DEPTH} levels"));
    }
    budget::spend(budget::VALUE + value.as_text().map_or(0, str::len))?;
    match value {
        Value::Absent | Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Int64(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&number(*value)?),
        Value::Text(text) => write_text(out, text, style),
        Value::Bytes(bytes) => write_text(out, &base64::engine::general_purpose::STANDARD.encode(bytes), style),
        Value::Object(object) if object.is_nil() => out.push_str("null"),
        Value::Object(object) => match object.entries() {
            Some(entries) => write_entries(out, &entries, style, depth)?,
            None => write_value(out, &object.to_plain(), style, depth + 1)?,
        },
        Value::List(items) if items.is_nil() => out.push_str("null"),
        Value::List(items) => {
            let mut inside = Vec::new();
            for item in items.iter() {
                let mut text = String::new();
                write_value(&mut text, item, style, depth + 1)?;
                inside.push(text);
            }
            write_group(out, ('[', ']'), &inside, style, depth);
        }
        Value::Map(map) => {
            let entries: Vec<(String, Value)> = map.borrow().iter().map(|(key, item)| (key.clone(), item.clone())).collect();
            write_entries(out, &entries, style, depth)?;
        }
    }
    Ok(())
}

fn write_entries(out: &mut String, entries: &[(String, Value)], style: Style, depth: usize) -> Result<(), String> {
    let mut inside = Vec::new();
    for (key, item) in entries {
        let mut text = String::new();
        write_text(&mut text, key, style);
        text.push_str(if style == Style::Pretty { ": " } else { ":" });
        write_value(&mut text, item, style, depth + 1)?;
        inside.push(text);
    }
    write_group(out, ('{', '}'), &inside, style, depth);
    Ok(())
}

fn write_group(out: &mut String, (open, close): (char, char), inside: &[String], style: Style, depth: usize) {
    out.push(open);
    if style == Style::Pretty && !inside.is_empty() {
        let indent = "  ".repeat(depth + 1);
        out.push_str(&inside.iter().map(|text| format!("\n{indent}{text}")).collect::<Vec<_>>().join(","));
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    } else {
        out.push_str(&inside.join(","));
    }
    out.push(close);
}

/// Formats a number as `encoding/json` does: with an exponent from 1e21 on and below 1e-6.
///
/// # Errors
/// Fails for what is not finite.
pub fn number(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Err(format!("json: unsupported value: {}", float(value, 'g', None)));
    }
    if value != 0.0 && (value.abs() < 1e-6 || value.abs() >= 1e21) {
        return Ok(float(value, 'e', None).replace("e-0", "e-"));
    }
    Ok(float(value, 'f', None))
}

fn write_text(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' if style != Style::Raw => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ if u32::from(character) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Converts a JSON value of serde to one of templates.
pub fn from_serde(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::text(text),
        serde_json::Value::Array(items) => Value::list(items.iter().map(from_serde)),
        serde_json::Value::Object(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), from_serde(value)))),
    }
}
