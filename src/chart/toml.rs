//! TOML as Helm's `toToml` writes and `fromToml` reads it: `BurntSushi/toml` with its defaults.
//!
//! Values and keys are written by `toml_writer`. The layout is our own, as no crate has Helm's: keys sorted, tables after plain
//! values and indented by two spaces for each level.

use toml_writer::{ToTomlKey as _, ToTomlValue as _, TomlKeyBuilder, TomlStringBuilder};

use crate::template::functions::date::{self, Time};
use crate::template::{Value, budget};

/// Tables and lists nest this deep; a map may contain itself.
const MAX_DEPTH: usize = 100;

/// Writes a value: a map as a document, everything else as a value alone.
///
/// # Errors
/// Fails with Go's message for nil inside a list, and where maps nest too deep.
pub fn write(value: &Value) -> Result<String, String> {
    let value = plain(value);
    if is_table(&value) && value.as_map().is_none() {
        return Err("toml: top-level values must be Go maps or structs".to_owned());
    }
    if value.as_map().is_none() {
        return inline(&value, 0);
    }
    let mut out = String::new();
    write_table(&mut out, &value, &mut Vec::new())?;
    Ok(out)
}

/// A struct as the map of its fields; a time stays one, as TOML has times.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) if value.as_object::<Time>().is_none() => object.to_plain(),
        other => other.clone(),
    }
}

/// Writes the entries of the table at a path.
fn write_table(out: &mut String, table: &Value, path: &mut Vec<String>) -> Result<(), String> {
    let Some(map) = table.as_map().filter(|_| path.len() < MAX_DEPTH) else { return Err("toml: nested too deep".to_owned()) };
    budget::spend(budget::VALUE + path.iter().map(String::len).sum::<usize>())?;
    let entries: Vec<(String, Value)> = map.borrow().iter().map(|(key, value)| (toml_key(key), plain(value))).collect();
    let (tables, values): (Vec<_>, Vec<_>) =
        entries.into_iter().filter(|(_, value)| !value.is_nil()).partition(|(_, value)| is_table(value));
    let indent = "  ".repeat(path.len());
    for (key, value) in values {
        out.push_str(&format!("{indent}{key} = {}\n", inline(&value, path.len())?));
    }
    for (key, value) in tables {
        path.push(key);
        let name = path.join(".");
        if let Value::List(items) = &value {
            for item in items.iter() {
                let blank = if out.is_empty() { "" } else { "\n" };
                out.push_str(&format!("{blank}{indent}[[{name}]]\n"));
                write_table(out, &plain(item), path)?;
            }
        } else {
            let blank = if path.len() == 1 && !out.is_empty() { "\n" } else { "" };
            out.push_str(&format!("{blank}{indent}[{name}]\n"));
            write_table(out, &value, path)?;
        }
        path.pop();
    }
    Ok(())
}

/// Whether a value gets a header of its own: a map, or a list of maps.
fn is_table(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::List(items) => !items.is_empty() && items.iter().all(|item| item.as_map().is_some()),
        _ => false,
    }
}

fn toml_key(key: &str) -> String {
    let key = TomlKeyBuilder::new(key);
    key.as_unquoted().unwrap_or_else(|| key.as_basic()).to_toml_key()
}

/// A value on one line.
fn inline(value: &Value, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err("toml: nested too deep".to_owned());
    }
    budget::spend(budget::VALUE + value.as_text().map_or(0, str::len))?;
    Ok(match value {
        Value::Text(text) => TomlStringBuilder::new(text).as_basic().to_toml_value(),
        Value::Bool(value) => value.to_toml_value(),
        Value::Int(number) | Value::Int64(number) => number.to_toml_value(),
        Value::Float(number) => number.to_toml_value(),
        Value::Bytes(bytes) => joined(bytes.iter().map(|byte| Ok(byte.to_toml_value())), ['[', ']'])?,
        Value::List(items) => joined(items.iter().map(|item| inline(&plain(item), depth + 1)), ['[', ']'])?,
        Value::Map(map) => {
            let map = map.borrow();
            let entries = map.iter().map(|(key, value)| Ok(format!("{} = {}", toml_key(key), inline(&plain(value), depth + 1)?)));
            joined(entries, ['{', '}'])?
        }
        Value::Absent | Value::Nil => return Err("toml: cannot encode array with nil element".to_owned()),
        Value::Object(object) => value.as_object::<Time>().map_or_else(|| object.display(0), Time::rfc3339),
    })
}

fn joined(items: impl Iterator<Item = Result<String, String>>, [open, close]: [char; 2]) -> Result<String, String> {
    Ok(format!("{open}{}{close}", items.collect::<Result<Vec<_>, _>>()?.join(", ")))
}

/// Reads a document.
///
/// # Errors
/// Fails with the line and the reason where it is not TOML.
pub fn read(text: &str) -> Result<Value, String> {
    budget::spend(text.len().saturating_mul(budget::VALUE))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or(text);
        format!("toml: line {}: {}", 1 + before.matches('\n').count(), error.message())
    })?;
    from_toml(toml::Value::Table(table))
}

fn from_toml(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::text(text),
        toml::Value::Integer(number) => Value::Int64(number),
        toml::Value::Float(number) => Value::Float(number),
        toml::Value::Boolean(value) => Value::Bool(value),
        toml::Value::Datetime(time) => Value::object(time_of(&time)?),
        toml::Value::Array(items) => Value::list(items.into_iter().map(from_toml).collect::<Result<Vec<_>, _>>()?),
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| Ok((key, from_toml(value)?)));
            Value::map(entries.collect::<Result<Vec<_>, String>>()?)
        }
    })
}

/// A date or time; what it does not say is 0, and UTC where it has no offset.
fn time_of(time: &toml::value::Datetime) -> Result<Time, String> {
    let layout = match (time.date.is_some(), time.time.is_some(), time.offset.is_some()) {
        (true, true, true) => "2006-01-02T15:04:05Z07:00",
        (true, true, false) => "2006-01-02T15:04:05",
        (true, false, _) => "2006-01-02",
        _ => "15:04:05",
    };
    date::parse(layout, &time.to_string())
}
