//! TOML as Helm's `toToml` writes it: tables after plain values, keys sorted.

use crate::template::budget;
use crate::template::{Value, quote};

/// Deeper than this nothing is written: a map may hold itself.
const DEEPEST: usize = 100;

/// Writes a map.
///
/// # Errors
/// Fails for what is no map at the top, and for nil inside a list.
pub fn write(value: &Value) -> Result<String, String> {
    let value = if let Value::Object(object) = value { object.to_plain() } else { value.clone() };
    if value.as_map().is_none() {
        return Err("toml: top-level values must be Go maps or structs".to_owned());
    }
    let mut out = String::new();
    table(&mut out, &value, &mut Vec::new())?;
    Ok(out)
}

fn table(out: &mut String, value: &Value, path: &mut Vec<String>) -> Result<(), String> {
    let Some(map) = value.as_map().filter(|_| path.len() < DEEPEST) else { return Err("toml: nested too deep".to_owned()) };
    budget::spend(budget::VALUE + path.iter().map(String::len).sum::<usize>())?;
    let map = map.borrow();
    let (tables, plain): (Vec<_>, Vec<_>) = map.iter().filter(|(_, value)| !value.is_nil()).partition(|(_, value)| is_table(value));
    let indent = "  ".repeat(path.len());
    for (key, value) in plain {
        out.push_str(&format!("{indent}{} = {}\n", bare(key), inline(value, path.len())?));
    }
    for (key, value) in tables {
        path.push(bare(key));
        let (name, indent) = (path.join("."), "  ".repeat(path.len() - 1));
        let blank = if path.len() == 1 && !out.is_empty() { "\n" } else { "" };
        match value {
            Value::List(items) => {
                for item in items.iter() {
                    let blank = if out.is_empty() { "" } else { "\n" };
                    out.push_str(&format!("{blank}{indent}[[{name}]]\n"));
                    table(out, item, path)?;
                }
            }
            _ => {
                out.push_str(&format!("{blank}{indent}[{name}]\n"));
                table(out, value, path)?;
            }
        }
        path.pop();
    }
    Ok(())
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::List(items) => !items.is_empty() && items.iter().all(|item| item.as_map().is_some()),
        _ => false,
    }
}

fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain { key.to_owned() } else { quote(key) }
}

fn inline(value: &Value, depth: usize) -> Result<String, String> {
    if depth > DEEPEST {
        return Err("toml: nested too deep".to_owned());
    }
    budget::spend(budget::VALUE + value.as_text().map_or(0, str::len))?;
    Ok(match value {
        Value::Text(text) => quote(text),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e21 => format!("{number:.1}"),
        Value::List(items) => {
            let inside = items.iter().map(|item| inline(item, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", inside.join(", "))
        }
        Value::Map(map) => {
            let inside = map
                .borrow()
                .iter()
                .map(|(key, value)| Ok(format!("{} = {}", bare(key), inline(value, depth + 1)?)))
                .collect::<Result<Vec<_>, String>>()?;
            format!("{{{}}}", inside.join(", "))
        }
        Value::Absent | Value::Nil => return Err("toml: cannot encode array with nil element".to_owned()),
        other => crate::template::display(other),
    })
}
