//! Maps, after sprig's `dict.go` and its use of mergo.

use std::rc::Rc;

use super::types::empty;
use super::{Result, Row, string, strval};
use crate::template::budget;
use crate::template::{Engine, Map, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("dict", "a*", dict),
    ("get", "ms", |_, a| Ok(map(a, 0)?.borrow().get(string(a, 1)).cloned().unwrap_or(Value::text("")))),
    ("set", "msa", |_, a| {
        map(a, 0)?.borrow_mut().insert(string(a, 1).to_owned(), entry(&a[2]));
        Ok(a[0].clone())
    }),
    ("unset", "ms", |_, a| {
        map(a, 0)?.borrow_mut().remove(string(a, 1));
        Ok(a[0].clone())
    }),
    ("hasKey", "ms", |_, a| Ok(Value::Bool(map(a, 0)?.borrow().contains_key(string(a, 1))))),
    ("pluck", "sm*", |_, a| Ok(Value::list(a[1..].iter().filter_map(|value| value.as_map()?.borrow().get(string(a, 0)).cloned())))),
    ("keys", "m*", |_, a| {
        let keys = a.iter().filter_map(Value::as_map).flat_map(|map| map.borrow().keys().cloned().collect::<Vec<_>>());
        Ok(Value::texts(keys))
    }),
    ("values", "m", |_, a| Ok(Value::list(map(a, 0)?.borrow().values().cloned()))),
    ("pick", "ms*", |_, a| {
        let keys = super::list::texts(&a[1..]);
        let from = map(a, 0)?.borrow();
        Ok(Value::map(keys.into_iter().filter_map(|key| from.get(&key).cloned().map(|value| (key, value)))))
    }),
    ("omit", "ms*", |_, a| {
        let omitted = super::list::texts(&a[1..]);
        let from = map(a, 0)?.borrow();
        Ok(Value::map(from.iter().filter(|(key, _)| !omitted.contains(key)).map(|(key, value)| (key.clone(), value.clone()))))
    }),
    ("merge", "mm*", |_, a| merge_all(a, false)),
    ("mustMerge", "mm*", |_, a| merge_all(a, false)),
    ("mergeOverwrite", "mm*", |_, a| merge_all(a, true)),
    ("mustMergeOverwrite", "mm*", |_, a| merge_all(a, true)),
    ("deepCopy", "a", deep_copy),
    ("mustDeepCopy", "a", deep_copy),
    ("dig", "aaa*", dig),
];

fn map(a: &[Value], at: usize) -> Result<&Map> {
    a.get(at).and_then(Value::as_map).ok_or_else(|| "not a map".to_owned())
}

/// The value as an entry of a map, where nothing is absent.
fn entry(value: &Value) -> Value {
    if value.is_nil() { Value::Nil } else { value.clone() }
}

fn dict(_: &Engine, a: &[Value]) -> Result {
    let pairs = a.chunks(2).map(|pair| (strval(&pair[0]), pair.get(1).map_or_else(|| Value::text(""), entry)));
    Ok(Value::map(pairs))
}

fn merge_all(a: &[Value], overwrite: bool) -> Result {
    let target = map(a, 0)?;
    for from in &a[1..] {
        if let Some(from) = from.as_map().filter(|from| !Rc::ptr_eq(from, target)) {
            merge(target, from, overwrite, 0)?;
        }
    }
    Ok(a[0].clone())
}

/// The limit on how deep maps are merged: one may contain itself.
const MAX_DEPTH: usize = 1000;

/// Merges as `mergo.Merge` 1.0: entries of the target that are missing or empty are taken from the source; with `overwrite` all are, those
/// that are empty in the source and nil included. Maps on both sides are merged, also where the one of the target is empty.
fn merge(target: &Map, from: &Map, overwrite: bool, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(format!("maps nest deeper than {MAX_DEPTH} levels"));
    }
    budget::spend(budget::STEP + from.borrow().len() * budget::VALUE)?;
    let entries: Vec<(String, Value)> = from.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in entries {
        let present = target.borrow().get(&key).cloned();
        let replaces = match (&present, &value) {
            (_, new) if new.is_nil() => overwrite,
            (Some(Value::Map(inner)), Value::Map(source)) => {
                if !Rc::ptr_eq(inner, source) {
                    merge(inner, source, overwrite, depth + 1)?;
                }
                inner.borrow().is_empty()
            }
            (Some(old), _) => overwrite || empty(old),
            (None, _) => true,
        };
        if replaces {
            target.borrow_mut().insert(key, value);
        }
    }
    Ok(())
}

fn deep_copy(_: &Engine, a: &[Value]) -> Result {
    if a[0].is_nil() { Err("reflect: call of reflect.Value.Type on zero Value".to_owned()) } else { Ok(a[0].deep_copy()) }
}

fn dig(_: &Engine, a: &[Value]) -> Result {
    let [keys @ .., default, dict] = a else { return Err("dig needs at least three arguments".to_owned()) };
    if keys.is_empty() {
        return Err("dig needs at least three arguments".to_owned());
    }
    let mismatch = |value: &Value, expected: &str| {
        let found = if value.is_nil() { "nil" } else { value.type_name() };
        format!("interface conversion: interface {{}} is {found}, not {expected}")
    };
    dict.as_map().ok_or_else(|| mismatch(dict, "map[string]interface {}"))?;
    if let Some(key) = keys.iter().find(|key| key.as_text().is_none()) {
        return Err(mismatch(key, "string"));
    }
    let mut value = dict.clone();
    for key in keys {
        let Value::Map(map) = &value else { return Err(mismatch(&value, "map[string]interface {}")) };
        let next = map.borrow().get(&strval(key)).cloned();
        match next {
            Some(next) => value = next,
            None => return Ok(default.clone()),
        }
    }
    Ok(value)
}
