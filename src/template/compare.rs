//! `eq`, `ne`, `lt`, `le`, `gt` and `ge`, as Go compares.

use super::sprintf;
use super::value::Value;

#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Bool,
    Int,
    Float,
    Text,
}

const INCOMPATIBLE: &str = "incompatible types for comparison";
const INVALID: &str = "invalid type for comparison";

fn kind(value: &Value) -> Option<Kind> {
    match value {
        Value::Bool(_) => Some(Kind::Bool),
        Value::Int(_) | Value::Int64(_) => Some(Kind::Int),
        Value::Float(_) => Some(Kind::Float),
        Value::Text(_) => Some(Kind::Text),
        _ => None,
    }
}

/// Whether `first` equals any of the others (`eq`).
///
/// # Errors
/// Fails with Go's message where the types cannot be compared.
pub fn equal(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equals(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equals(a: &Value, b: &Value) -> Result<bool, String> {
    let shown = |value: &Value| sprintf("%s", std::slice::from_ref(value));
    match (kind(a), kind(b)) {
        (left, right) if left != right => {
            return if a.is_nil() || b.is_nil() { Ok(false) } else { Err(INCOMPATIBLE.to_owned()) };
        }
        (Some(_), _) => {
            return Ok(match (a, b) {
                (Value::Int(a) | Value::Int64(a), Value::Int(b) | Value::Int64(b)) => a == b,
                (a, b) => a.deep_equal(b),
            });
        }
        _ => {}
    }
    if !a.is_nil() && !b.is_nil() && a.kind_name() != b.kind_name() {
        return Err(format!("non-comparable types {}: {}, {}: {}", shown(a), a.type_name(), b.type_name(), shown(b)));
    }
    if is_nil(a) || is_nil(b) {
        return Ok(is_nil(a) == is_nil(b));
    }
    if matches!(b.kind_name(), "map" | "slice") {
        return Err(format!("non-comparable type {}: {}", shown(b), b.type_name()));
    }
    Ok(a.deep_equal(b))
}

/// Whether Go has a nil of any type.
fn is_nil(value: &Value) -> bool {
    match value {
        Value::List(list) => list.is_nil(),
        Value::Object(object) => object.is_nil(),
        other => other.is_nil(),
    }
}

/// Whether `a` is less than `b` (`lt`).
///
/// # Errors
/// Fails with Go's message where the types cannot be compared.
pub fn less(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Int(a) | Value::Int64(a), Value::Int(b) | Value::Int64(b)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Text(a), Value::Text(b)) => Ok(a < b),
        _ if kind(a).is_none() || kind(b).is_none() || kind(a) == Some(Kind::Bool) && kind(b) == Some(Kind::Bool) => {
            Err(INVALID.to_owned())
        }
        _ => Err(INCOMPATIBLE.to_owned()),
    }
}

/// Calls one of `eq ne lt le gt ge`.
///
/// # Errors
/// Fails with Go's message where the types cannot be compared.
pub fn compare(name: &str, values: &[Value]) -> Result<Value, String> {
    let (a, rest) = values.split_first().ok_or("missing argument for comparison")?;
    let b = rest.first().unwrap_or(&Value::Absent);
    Ok(Value::Bool(match name {
        "eq" => equal(a, rest)?,
        "ne" => !equal(a, &rest[..1])?,
        "lt" => less(a, b)?,
        "le" => less(a, b)? || equal(a, &rest[..1])?,
        "gt" => !(less(a, b)? || equal(a, &rest[..1])?),
        _ => !less(a, b)?,
    }))
}
