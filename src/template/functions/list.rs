//! Lists, after sprig's `list.go`.

use super::types::empty;
use super::{Result, Row, int, strval};
use crate::template::{Engine, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("list", "a*", |_, a| Ok(Value::list(a.iter().cloned()))),
    ("tuple", "a*", |_, a| Ok(Value::list(a.iter().cloned()))),
    ("append", "aa", append),
    ("push", "aa", append),
    ("mustAppend", "aa", append),
    ("mustPush", "aa", append),
    ("prepend", "aa", prepend),
    ("mustPrepend", "aa", prepend),
    ("first", "a", first),
    ("mustFirst", "a", first),
    ("last", "a", last),
    ("mustLast", "a", last),
    ("rest", "a", rest),
    ("mustRest", "a", rest),
    ("initial", "a", initial),
    ("mustInitial", "a", initial),
    ("reverse", "a", reverse),
    ("mustReverse", "a", reverse),
    ("uniq", "a", uniq),
    ("mustUniq", "a", uniq),
    ("compact", "a", compact),
    ("mustCompact", "a", compact),
    ("without", "aa*", without),
    ("mustWithout", "aa*", without),
    ("has", "aa", has),
    ("mustHas", "aa", has),
    ("slice", "aa*", slice),
    ("mustSlice", "aa*", slice),
    ("concat", "a*", concat),
    ("chunk", "ia", chunk),
    ("mustChunk", "ia", chunk),
];

/// The type of most lists.
const ANY: &str = "[]interface {}";
/// The type of a list of lists.
const CHUNKS: &str = "[][]interface {}";

fn items(value: &Value, verb: &str) -> Result<Vec<Value>> {
    match value {
        Value::List(items) => Ok(items.to_vec()),
        Value::Bytes(bytes) => Ok(bytes.iter().map(|byte| Value::Int(i64::from(*byte))).collect()),
        Value::Object(object) if object.kind_name() == "slice" => items(&object.to_plain(), verb),
        other => Err(format!("Cannot {verb} on type {}", kind(other))),
    }
}

/// The kind of a value in sprig's messages.
fn kind(value: &Value) -> &'static str {
    if value.is_nil() { "<nil>" } else { value.kind_name() }
}

fn append(_: &Engine, a: &[Value]) -> Result {
    let list = items(&a[0], "push")?;
    Ok(Value::list(list.iter().cloned().chain([a[1].clone()])))
}

fn prepend(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::list([a[1].clone()].into_iter().chain(items(&a[0], "prepend")?.iter().cloned())))
}

fn first(_: &Engine, a: &[Value]) -> Result {
    Ok(items(&a[0], "find first")?.first().cloned().unwrap_or(Value::Nil))
}

fn last(_: &Engine, a: &[Value]) -> Result {
    Ok(items(&a[0], "find last")?.last().cloned().unwrap_or(Value::Nil))
}

fn rest(_: &Engine, a: &[Value]) -> Result {
    let list = items(&a[0], "find rest")?;
    if list.is_empty() {
        return Ok(Value::nil_slice(ANY));
    }
    Ok(Value::list(list.into_iter().skip(1)))
}

fn initial(_: &Engine, a: &[Value]) -> Result {
    let mut list = items(&a[0], "find initial")?;
    if list.pop().is_none() {
        return Ok(Value::nil_slice(ANY));
    }
    Ok(Value::list(list))
}

fn reverse(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::list(items(&a[0], "find reverse")?.iter().rev().cloned()))
}

fn contains(list: &[Value], searched: &Value) -> bool {
    list.iter().any(|item| item.deep_equal(searched))
}

fn uniq(_: &Engine, a: &[Value]) -> Result {
    let mut unique: Vec<Value> = Vec::new();
    for item in items(&a[0], "find uniq")?.iter() {
        if !contains(&unique, item) {
            unique.push(item.clone());
        }
    }
    Ok(Value::list(unique))
}

fn compact(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::list(items(&a[0], "compact")?.iter().filter(|item| !empty(item)).cloned()))
}

fn without(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::list(items(&a[0], "find without")?.iter().filter(|item| !contains(&a[1..], item)).cloned()))
}

fn has(_: &Engine, a: &[Value]) -> Result {
    match &a[1] {
        Value::Absent | Value::Nil => Ok(Value::Bool(false)),
        Value::List(list) => Ok(Value::Bool(contains(list, &a[0]))),
        other => Err(format!("Cannot find has on type {}", kind(other))),
    }
}

fn slice(_: &Engine, a: &[Value]) -> Result {
    let Value::List(list) = &a[0] else {
        return Err(format!("list should be type of slice or array but {}", kind(&a[0])));
    };
    if list.is_empty() {
        return Ok(Value::Nil);
    }
    let bound = |at: usize| a.get(at).map(super::math::to_int);
    let start = bound(1).unwrap_or(0);
    let end = bound(2).unwrap_or(i64::try_from(list.len()).unwrap_or(i64::MAX));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= list.len() => Ok(Value::slice(list.type_name(), list[start..end].iter().cloned())),
        _ => Err("reflect.Value.Slice: slice index out of bounds".to_owned()),
    }
}

fn concat(_: &Engine, a: &[Value]) -> Result {
    let mut all = Vec::new();
    for value in a {
        match value {
            Value::List(items) => all.extend(items.iter().cloned()),
            other => return Err(format!("Cannot concat type {} as list", kind(other))),
        }
    }
    // nothing is Go's nil
    Ok(if all.is_empty() { Value::nil_slice(ANY) } else { Value::list(all) })
}

fn chunk(_: &Engine, a: &[Value]) -> Result {
    let (list, size) = (items(&a[1], "chunk")?, int(a, 0));
    let chunk_size = match usize::try_from(size) {
        Ok(0) => None,
        Ok(size) => Some(size),
        // as sprig's arithmetic has it: none, where the list is longer than one and the size negative
        Err(_) if (2..=size.unsigned_abs().saturating_add(1)).contains(&(list.len() as u64)) => return Ok(Value::slice(CHUNKS, [])),
        Err(_) => None,
    };
    let chunk_size = chunk_size.ok_or("runtime error: makeslice: len out of range")?;
    Ok(Value::slice(CHUNKS, list.chunks(chunk_size).map(|chunk| Value::list(chunk.iter().cloned()))))
}

/// Converts values to texts, such as the keys of `pick` and `omit`.
pub fn texts(values: &[Value]) -> Vec<String> {
    values.iter().map(strval).collect()
}
