//! `eq`, `ne`, `lt`, `le`, `gt` and `ge`, as Go compares.

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
    if matches!(first, Value::Map(_) | Value::List(_) | Value::Bytes(_)) {
        return Err(format!("uncomparable type {}: {}", first.type_name(), super::display(first)));
    }
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        let is_equal = match (kind(first), kind(other)) {
            (a, b) if a != b => {
                if !first.is_nil() && !other.is_nil() {
                    return Err(INCOMPATIBLE.to_owned());
                }
                false
            }
            (None, _) if matches!(other, Value::Map(_) | Value::List(_) | Value::Bytes(_)) && !first.is_nil() => {
                return Err(format!("uncomparable type {}: {}", other.type_name(), super::display(other)));
            }
            _ => match (first, other) {
                (Value::Int(a) | Value::Int64(a), Value::Int(b) | Value::Int64(b)) => a == b,
                (a, b) => a.deep_equal(b),
            },
        };
        if is_equal {
            return Ok(true);
        }
    }
    Ok(false)
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
