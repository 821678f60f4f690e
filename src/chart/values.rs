//! The user's values: files (`--values`) and assignments (`--set`). After Helm's `strvals`.

use serde_json::{Map, Number, Value};

use super::yaml;
use crate::template::{self, json};

/// Reads a values file; an empty one is an empty mapping. Its numbers are floats, as in Helm.
///
/// # Errors
/// Fails where it is not YAML, or not a mapping.
pub fn from_yaml(text: &str) -> Result<Value, String> {
    let value = yaml::read(text)?;
    match serde_json::from_str(&json::write(&value, json::Style::Raw)?).map_err(|error| error.to_string())? {
        Value::Null => Ok(Value::Object(Map::new())),
        map @ Value::Object(_) => Ok(with_floats(map)),
        _ => Err("expected a mapping at the top level".to_owned()),
    }
}

/// The value with floats for all numbers: only `--set` makes integers.
fn with_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().and_then(Number::from_f64).map_or(Value::Null, Value::Number),
        Value::Array(items) => items.into_iter().map(with_floats).collect(),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, with_floats(value))).collect()),
        other => other,
    }
}

/// The user's values for templates: integers stay integers, as those of `--set` are in Helm.
pub fn of_user(value: &Value) -> template::Value {
    match value {
        Value::Null => template::Value::Nil,
        Value::Bool(value) => template::Value::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(int) => template::Value::Int64(int),
            None => template::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => template::Value::text(text),
        Value::Array(items) => template::Value::list(items.iter().map(of_user)),
        Value::Object(map) => template::Value::map(map.iter().map(|(key, value)| (key.clone(), of_user(value)))),
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
/// The limit on how deep a name nests, as in Helm.
const MAX_NESTING: usize = 30;

/// Carries out the assignments of `--set`, such as `a.b=1,c[0]=x,d={p,q}`; with `as_strings` (`--set-string`) every value is a string.
///
/// # Errors
/// Fails with Helm's message where one is not an assignment, has an invalid key or index, or goes into what is no mapping or list.
pub fn set(values: &mut Value, assignments: &str, as_strings: bool) -> Result<(), String> {
    if !values.is_object() {
        *values = Value::Object(Map::new());
    }
    let Some(map) = values.as_object_mut() else { return Ok(()) };
    let mut parser = Parser { rest: assignments, as_strings };
    while !parser.rest.is_empty() {
        parser.key(map, 0)?;
    }
    Ok(())
}

/// Reads assignments, after `strvals/parser.go`.
struct Parser<'a> {
    rest: &'a str,
    as_strings: bool,
}

impl Parser<'_> {
    /// Reads up to one of the characters, which is skipped and returned, or to the end; a backslash takes the meaning of the next character.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        let mut characters = self.rest.chars();
        let stop = loop {
            match characters.next() {
                Some('\\') => text.extend(characters.next()),
                Some(character) if stops.contains(&character) => break Some(character),
                Some(character) => text.push(character),
                None => break None,
            }
        };
        self.rest = characters.as_str();
        (text, stop)
    }

    /// Reads an assignment to a key of a mapping.
    fn key(&mut self, map: &mut Map<String, Value>, nesting: usize) -> Result<(), String> {
        let (key, stop) = self.until(&['=', '[', ',', '.']);
        match stop {
            None => Err(format!("key {key:?} has no value")),
            Some(',') => Err(format!("key {key:?} has no value (cannot end with ,)")),
            Some('=') => {
                let value = self.value()?;
                put(map, key, value);
                Ok(())
            }
            Some('[') => {
                let index = self.index()?;
                let mut list = match map.get(&key) {
                    None => Vec::new(),
                    Some(Value::Array(list)) => list.clone(),
                    Some(other) => return Err(not_a(other, "[]interface {}")),
                };
                self.item(&mut list, index, nesting)?;
                put(map, key, Value::Array(list));
                Ok(())
            }
            Some(_) => {
                if nesting + 1 > MAX_NESTING {
                    return Err(format!("value name nested level is greater than maximum supported nested level of {MAX_NESTING}"));
                }
                let mut inner = match map.get(&key) {
                    None => Map::new(),
                    Some(Value::Object(inner)) => inner.clone(),
                    Some(other) => return Err(not_a(other, "map[string]interface {}")),
                };
                self.key(&mut inner, nesting + 1)?;
                if inner.is_empty() {
                    return Err(format!("key map {key:?} has no value"));
                }
                put(map, key, Value::Object(inner));
                Ok(())
            }
        }
    }

    /// Reads the number between brackets.
    fn index(&mut self) -> Result<usize, String> {
        let (digits, _) = self.until(&[']']);
        let index: i64 = digits.parse().map_err(|_| format!("error parsing index: strconv.Atoi: parsing {digits:?}: invalid syntax"))?;
        let index = usize::try_from(index).map_err(|_| format!("negative {index} index not allowed"))?;
        if index > MAX_INDEX {
            return Err(format!("index of {index} is greater than maximum supported index of {MAX_INDEX}"));
        }
        Ok(index)
    }

    /// Reads what follows an index, up to the value of the item.
    fn item(&mut self, list: &mut Vec<Value>, index: usize, nesting: usize) -> Result<(), String> {
        let (text, stop) = self.until(&['[', '.', '=']);
        if !text.is_empty() {
            return Err(format!("unexpected data at end of array index: {text:?}"));
        }
        let present = list.get(index).cloned();
        let value = match stop {
            None => return Err("EOF".to_owned()),
            Some('=') => self.value()?,
            Some('[') => {
                let inner_index = self.index()?;
                let mut inner = match present {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::Array(inner)) => inner,
                    Some(other) => return Err(not_a(&other, "[]interface {}")),
                };
                self.item(&mut inner, inner_index, nesting)?;
                Value::Array(inner)
            }
            Some(_) => {
                let mut inner = match present {
                    Some(Value::Object(inner)) => inner,
                    _ => Map::new(),
                };
                self.key(&mut inner, nesting)?;
                Value::Object(inner)
            }
        };
        if list.len() <= index {
            list.resize(index + 1, Value::Null);
        }
        list[index] = value;
        Ok(())
    }

    /// Reads a value: a list in braces, or text up to the next comma.
    fn value(&mut self) -> Result<Value, String> {
        if let Some(inside) = self.rest.strip_prefix('{') {
            self.rest = inside;
            let mut items = Vec::new();
            loop {
                let (item, stop) = self.until(&[',', '}']);
                match stop {
                    None => return Err("list must terminate with '}'".to_owned()),
                    // an empty list has one empty text, as in Helm
                    Some(_) => items.push(typed_value(item, self.as_strings)),
                }
                if stop == Some('}') {
                    self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
                    return Ok(Value::Array(items));
                }
            }
        }
        let (text, _) = self.until(&[',']);
        Ok(typed_value(text, self.as_strings))
    }
}

/// Puts an entry into a mapping; an empty key is ignored.
fn put(map: &mut Map<String, Value>, key: String, value: Value) {
    if !key.is_empty() {
        map.insert(key, value);
    }
}

/// The error of a name that leads into another type.
fn not_a(value: &Value, expected: &str) -> String {
    let found = template::Value::type_name(&of_user(value));
    let found = if value.is_null() { "nil" } else { found };
    format!("unable to parse key: interface conversion: interface {{}} is {found}, not {expected}")
}

fn typed_value(text: String, as_strings: bool) -> Value {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    let number = (is("0") || !text.starts_with('0')).then(|| text.parse::<i64>().ok()).flatten();
    match number {
        _ if as_strings => Value::String(text),
        _ if is("true") => Value::Bool(true),
        _ if is("false") => Value::Bool(false),
        _ if is("null") => Value::Null,
        Some(number) => Value::from(number),
        None => Value::String(text),
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
            ("a={},b={c},d=1", false, r#"{"a":[""],"b":["c"],"d":1}"#),
            ("a[1].b=y", false, r#"{"a":[null,{"b":"y"}]}"#),
            ("a[0][1]=x,a[0][0]=y", false, r#"{"a":[["y","x"]]}"#),
            (r"a\.b=1\,2", false, r#"{"a.b":"1,2"}"#),
            ("a=1,b=true", true, r#"{"a":"1","b":"true"}"#),
            ("a=007,b=k=v", false, r#"{"a":"007","b":"k=v"}"#),
            ("a=tRue,b=NULL,c=,d=-0,e=+5", false, r#"{"a":true,"b":null,"c":"","d":0,"e":5}"#),
            ("a=9223372036854775808,b=1.5", false, r#"{"a":"9223372036854775808","b":"1.5"}"#),
        ] {
            let mut values = Value::Null;
            set(&mut values, assignments, as_strings).unwrap();
            assert_eq!(values.to_string(), expected, "{assignments}");
        }
        for (assignments, expected) in [
            ("a", "key \"a\" has no value"),
            ("a=1,b", "key \"b\" has no value"),
            ("a,b=1", "key \"a\" has no value (cannot end with ,)"),
            ("a[99999999]=1", "index of 99999999 is greater than maximum supported index of 65536"),
            ("a[x]=1", "error parsing index: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("a[0]b=1", "unexpected data at end of array index: \"b\""),
            ("a={b", "list must terminate with '}'"),
            ("a=1,a.b=2", "unable to parse key: interface conversion: interface {} is int64, not map[string]interface {}"),
        ] {
            assert_eq!(set(&mut Value::Null, assignments, false).unwrap_err(), expected, "{assignments}");
        }
    }

    #[test]
    fn numbers_of_files_are_floats_and_those_of_set_are_not() {
        let mut values = from_yaml("a: 1000000\nb: [2]\n").unwrap();
        set(&mut values, "c=1000000", false).unwrap();
        assert_eq!(template::display(&of_user(&values)), "map[a:1e+06 b:[2] c:1000000]");
    }
}
