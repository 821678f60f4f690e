//! Which value wins: the user's, the parent's, the chart's own. After Helm's `chartutil/coalesce.go`.

use super::subcharts::Chart;
use crate::template::{Map, Value, new_map};

/// The values of a chart and of those inside it, under what the user gives.
///
/// # Errors
/// Fails where the values of an inner chart are no mapping.
pub fn coalesce_values(chart: &Chart, given: &Value) -> Result<Value, String> {
    let values = match given.deep_copy() {
        Value::Map(map) => map,
        _ => new_map::<String>([]),
    };
    coalesce(chart, &values)?;
    Ok(Value::Map(values))
}

fn coalesce(chart: &Chart, values: &Map) -> Result<(), String> {
    own(chart, values);
    for inner in &chart.inner {
        let name = inner.name();
        let section = match values.borrow_mut().entry(name.clone()).or_insert_with(|| Value::map::<String>([])) {
            Value::Map(section) => section.clone(),
            other => return Err(format!("type mismatch on {name}: {}", crate::template::display(other))),
        };
        globals(&section, values);
        coalesce(inner, &section)?;
    }
    Ok(())
}

/// The chart's own values, below those that are there. A null takes the chart's value away.
fn own(chart: &Chart, values: &Map) {
    let Some(defaults) = chart.values.as_map() else { return };
    for (key, default) in defaults.borrow().iter() {
        let present = values.borrow().get(key).cloned();
        match present {
            None => drop(values.borrow_mut().insert(key.clone(), default.deep_copy())),
            Some(Value::Nil) => drop(values.borrow_mut().remove(key)),
            Some(Value::Map(section)) => {
                if let Value::Map(default) = default {
                    tables(&section, default);
                }
            }
            Some(_) => {}
        }
    }
}

/// Fills what the first mapping lacks from the second; a null in the first takes the key away.
pub fn tables(into: &Map, from: &Map) {
    for (key, value) in from.borrow().iter() {
        let present = into.borrow().get(key).cloned();
        match (present, value) {
            (Some(Value::Nil), _) => drop(into.borrow_mut().remove(key)),
            (None, value) => drop(into.borrow_mut().insert(key.clone(), value.deep_copy())),
            (Some(Value::Map(into)), Value::Map(from)) => tables(&into, from),
            _ => {}
        }
    }
}

/// Hands `global` of a chart down to one inside it; what the parent says wins.
fn globals(section: &Map, parent: &Map) {
    let own = match section.borrow().get("global") {
        None => new_map::<String>([]),
        Some(Value::Map(own)) => own.clone(),
        Some(_) => return,
    };
    let handed = match parent.borrow().get("global") {
        None => new_map::<String>([]),
        Some(Value::Map(handed)) => handed.clone(),
        Some(_) => return,
    };
    for (key, value) in handed.borrow().iter() {
        let present = own.borrow().get(key).cloned();
        let copy = value.deep_copy();
        match (&copy, present) {
            (Value::Map(copied), Some(Value::Map(present))) => tables(copied, &present),
            (Value::Map(_), Some(_)) | (_, Some(Value::Map(_))) => continue,
            _ => {}
        }
        own.borrow_mut().insert(key.clone(), copy);
    }
    section.borrow_mut().insert("global".to_owned(), Value::Map(own));
}
