//! The functions of Go's `text/template` itself.

use super::{Result, Row, strval, text};
use crate::template::{Value, sprint, sprintf};

/// The functions with their parameters (see [`Function`](super::Function)); the engine itself evaluates comparisons, `and` and `or`.
pub const TABLE: &[Row] = &[
    ("and", "aa*", |_, _| Ok(Value::Absent)),
    ("or", "aa*", |_, _| Ok(Value::Absent)),
    ("not", "a", |_, a| Ok(Value::Bool(!a[0].is_true()))),
    ("eq", "aa*", |_, _| Ok(Value::Absent)),
    ("ne", "aa", |_, _| Ok(Value::Absent)),
    ("lt", "aa", |_, _| Ok(Value::Absent)),
    ("le", "aa", |_, _| Ok(Value::Absent)),
    ("gt", "aa", |_, _| Ok(Value::Absent)),
    ("ge", "aa", |_, _| Ok(Value::Absent)),
    ("len", "a", |_, a| len(&a[0])),
    ("index", "aa*", |_, a| a[1..].iter().try_fold(a[0].clone(), |value, key| index(&value, key))),
    ("print", "a*", |_, a| text(sprint(a))),
    ("println", "a*", |_, a| text(a.iter().map(|value| sprint(std::slice::from_ref(value))).collect::<Vec<_>>().join(" ") + "\n")),
    ("printf", "sa*", |_, a| text(sprintf(super::string(a, 0), &a[1..]))),
    ("html", "a*", |_, a| text(html(&sprint_all(a)))),
    ("js", "a*", |_, a| text(js(&sprint_all(a)))),
    ("urlquery", "a*", |_, a| text(super::url::escape(&sprint_all(a)))),
    ("call", "aa*", |_, a| Err(format!("non-function of type {}", a[0].type_name()))),
];

fn sprint_all(values: &[Value]) -> String {
    match values {
        [Value::Text(text)] => text.to_string(),
        _ => sprint(values),
    }
}

fn len(value: &Value) -> Result {
    let count = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.borrow().len(),
        Value::Absent | Value::Nil => return Err("len of nil pointer".to_owned()),
        Value::Object(object) if matches!(object.kind_name(), "map" | "slice") => return len(&object.to_plain()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result {
    let at = |len: usize| match key {
        Value::Int(at) | Value::Int64(at) => {
            usize::try_from(*at).ok().filter(|at| *at < len).ok_or_else(|| format!("index out of range: {at}"))
        }
        Value::Absent | Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    match value {
        Value::Absent | Value::Nil => Err("index of untyped nil".to_owned()),
        Value::Map(map) => match key {
            Value::Text(key) => Ok(map.borrow().get(&**key).cloned().unwrap_or(Value::Nil)),
            Value::Absent | Value::Nil => Err("value is nil; should be of type string".to_owned()),
            other => Err(format!("value has type {}; should be string", other.type_name())),
        },
        Value::List(items) => Ok(items[at(items.len())?].clone()),
        Value::Text(text) => Ok(Value::Int(i64::from(text.as_bytes()[at(text.len())?]))),
        Value::Bytes(bytes) => Ok(Value::Int(i64::from(bytes[at(bytes.len())?]))),
        Value::Object(object) if object.kind_name() == "map" => match key {
            Value::Text(key) => {
                object.to_plain().as_map().and_then(|map| map.borrow().get(&**key).cloned()).map_or_else(|| Ok(object.zero()), Ok)
            }
            _ => index(&object.to_plain(), key),
        },
        Value::Object(object) if object.kind_name() == "slice" => index(&object.to_plain(), key),
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(character))),
            _ if u32::from(character) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(character))),
            other => out.push(other),
        }
    }
    out
}

/// Joins values with spaces; nil is left out (`cat`).
pub fn cat(values: &[Value]) -> String {
    values.iter().filter(|value| !value.is_nil()).map(strval).collect::<Vec<_>>().join(" ")
}
