//! The user's values: files (`--values`) and assignments (`--set`). After Helm's `strvals`.

use serde_json::{Map, Value};

use super::yaml;
use crate::template::json;

/// Reads a values file; an empty one is an empty mapping.
///
/// # Errors
/// Fails where it is not YAML, or not a mapping.
pub fn from_yaml(text: &str) -> Result<Value, String> {
    let value = yaml::read(text)?;
    match serde_json::from_str(&json::write(&value, json::Style::Raw)?).map_err(|error| error.to_string())? {
        Value::Null => Ok(Value::Object(Map::new())),
        map @ Value::Object(_) => Ok(map),
        _ => Err("expected a mapping at the top level".to_owned()),
    }
}

/// Merges `above` into `below`: mappings are merged, everything else is replaced.
pub fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// The limit on an index, as in Helm.
const MAX_INDEX: usize = 65_536;

/// Carries out the assignments of `--set`, such as `a.b=1,c[0]=x,d={p,q}`; with `as_strings` (`--set-string`) every value is a string.
///
/// # Errors
/// Fails where one is not an assignment, or has an invalid key or index.
pub fn set(values: &mut Value, assignments: &str, as_strings: bool) -> Result<(), String> {
    for assignment in split(assignments, ',') {
        let (path, value) = split_once(&assignment, '=').ok_or_else(|| format!("key {assignment:?} has no value"))?;
        let value = match value.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')) {
            Some("") => Value::Array(Vec::new()),
            Some(inside) => Value::Array(split(inside, ',').iter().map(|item| typed_value(item, as_strings)).collect()),
            None => typed_value(&value, as_strings),
        };
        set_at(values, &steps(&path)?, value)?;
    }
    Ok(())
}

/// A step of a path: a key or an index.
enum Step {
    Key(String),
    Index(usize),
}

/// Splits at a character, except inside braces and after a backslash, which is kept.
fn split(text: &str, sign: char) -> Vec<String> {
    let (mut parts, mut depth, mut escaped) = (vec![String::new()], 0, false);
    for character in text.chars() {
        let splits = character == sign && depth == 0 && !escaped;
        match character {
            '{' if !escaped => depth += 1,
            '}' if !escaped => depth -= 1,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        match parts.last_mut() {
            Some(last) if !splits => last.push(character),
            _ => parts.push(String::new()),
        }
    }
    parts
}

fn split_once(text: &str, sign: char) -> Option<(String, String)> {
    let first = split(text, sign).into_iter().next()?;
    let rest = text.get(first.len() + 1..)?;
    Some((first, rest.to_owned()))
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    out
}

fn typed_value(text: &str, as_strings: bool) -> Value {
    let plain = unescaped(text);
    let number = (plain == "0" || !plain.starts_with('0')).then(|| plain.parse::<i64>().ok()).flatten();
    match (plain.as_str(), number) {
        _ if as_strings => Value::String(plain),
        ("true" | "True" | "TRUE", _) => Value::Bool(true),
        ("false" | "False" | "FALSE", _) => Value::Bool(false),
        ("null", _) => Value::Null,
        (_, Some(number)) => Value::from(number),
        _ => Value::String(plain),
    }
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut all = Vec::new();
    for part in split(path, '.') {
        let mut rest = part.as_str();
        let key = rest.find('[').map_or(rest, |at| &rest[..at]);
        if !key.is_empty() || all.is_empty() {
            all.push(Step::Key(unescaped(key)));
        }
        rest = &rest[key.len()..];
        while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let index = index
                .parse()
                .ok()
                .filter(|index| *index < MAX_INDEX)
                .ok_or_else(|| format!("invalid index {index:?} in {path:?}: expected a number below {MAX_INDEX}"))?;
            all.push(Step::Index(index));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(format!("invalid key {part:?} in {path:?}: expected KEY or KEY[INDEX]"));
        }
    }
    Ok(all)
}

fn set_at(values: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *values = value;
        return Ok(());
    };
    match step {
        Step::Key(key) => {
            if !values.is_object() {
                *values = Value::Object(Map::new());
            }
            let slot = values.as_object_mut().map(|map| map.entry(key.clone()).or_insert(Value::Null));
            slot.map_or(Ok(()), |slot| set_at(slot, rest, value))
        }
        Step::Index(index) => {
            if !values.is_array() {
                *values = Value::Array(Vec::new());
            }
            let Some(items) = values.as_array_mut() else { return Ok(()) };
            if items.len() <= *index {
                items.resize(index + 1, Value::Null);
            }
            set_at(&mut items[*index], rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_means_what_helm_means_by_it() {
        for (assignments, as_strings, expected) in [
            ("a=1,b=x", false, r#"{"a":1,"b":"x"}"#),
            ("a.b.c=true,a.d=null", false, r#"{"a":{"b":{"c":true},"d":null}}"#),
            ("a={x,2}", false, r#"{"a":["x",2]}"#),
            ("a[1].b=y", false, r#"{"a":[null,{"b":"y"}]}"#),
            (r"a\.b=1\,2", false, r#"{"a.b":"1,2"}"#),
            ("a=1,b=true", true, r#"{"a":"1","b":"true"}"#),
            ("a=007,b=k=v", false, r#"{"a":"007","b":"k=v"}"#),
        ] {
            let mut values = Value::Null;
            set(&mut values, assignments, as_strings).unwrap();
            assert_eq!(values.to_string(), expected, "{assignments}");
        }
        assert!(set(&mut Value::Null, "a", false).is_err());
        assert!(set(&mut Value::Null, "a[99999999]=1", false).is_err());
    }
}
