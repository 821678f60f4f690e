//! Deep merging of documents.

use serde_json::{Map, Value, json};

/// Merges maps deeply; anything else replaces. Null says nothing.
pub fn overlay(under: &mut Value, over: &Value) {
    match over {
        Value::Null => {}
        Value::Object(fields) => {
            let under = object(under);
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                overlay(under.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *under = over.clone(),
    }
}

/// The fields of a value, which becomes a map if it is none.
pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("just made a map")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_merge_lists_and_scalars_replace_null_says_nothing() {
        let mut under = json!({"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": 5});
        overlay(&mut under, &json!({"a": {"c": [3], "f": {"g": null, "h": 1}}, "d": {"i": true}, "e": null}));
        assert_eq!(under, json!({"a": {"b": 1, "c": [3], "f": {"h": 1}}, "d": {"i": true}, "e": 5}));
    }
}
