//! Merges values: the user's win over the parent chart's, and those over the chart's own. After Helm's `chartutil/coalesce.go`.

use super::subcharts::Chart;
use crate::template::{Map, Value, new_map};

/// Merges the user's values with those of a chart and its subcharts.
///
/// # Errors
/// Fails where the values of a subchart are not a mapping.
pub fn coalesce_values(chart: &Chart, user_values: &Value) -> Result<Value, String> {
    let values = match user_values.deep_copy() {
        Value::Map(map) => map,
        _ => new_map::<String>([]),
    };
    coalesce_chart(chart, &values)?;
    Ok(Value::Map(values))
}

fn coalesce_chart(chart: &Chart, values: &Map) -> Result<(), String> {
    coalesce_defaults(chart, values);
    for subchart in &chart.subcharts {
        let name = subchart.name();
        let section = match values.borrow_mut().entry(name.clone()).or_insert_with(|| Value::map::<String>([])) {
            Value::Map(section) => section.clone(),
            other => return Err(format!("type mismatch on {name}: {}", crate::template::display(other))),
        };
        coalesce_globals(&section, values);
        coalesce_chart(subchart, &section)?;
    }
    Ok(())
}

/// Adds the chart's own values where there are none yet. A null removes the chart's value.
fn coalesce_defaults(chart: &Chart, values: &Map) {
    let Some(defaults) = chart.values.as_map() else { return };
    for (key, default) in defaults.borrow().iter() {
        let present = values.borrow().get(key).cloned();
        match present {
            None => drop(values.borrow_mut().insert(key.clone(), default.deep_copy())),
            Some(Value::Nil) => drop(values.borrow_mut().remove(key)),
            Some(Value::Map(section)) => {
                if let Value::Map(default) = default {
                    coalesce_tables(&section, default);
                }
            }
            Some(_) => {}
        }
    }
}

/// Adds what is missing in `into` from `from`; a null in `into` removes the key.
pub fn coalesce_tables(into: &Map, from: &Map) {
    for (key, value) in from.borrow().iter() {
        let present = into.borrow().get(key).cloned();
        match (present, value) {
            (Some(Value::Nil), _) => drop(into.borrow_mut().remove(key)),
            (None, value) => drop(into.borrow_mut().insert(key.clone(), value.deep_copy())),
            (Some(Value::Map(into)), Value::Map(from)) => coalesce_tables(&into, from),
            _ => {}
        }
    }
}

/// Copies `global` of a chart to a subchart; the parent's values win.
fn coalesce_globals(section: &Map, parent: &Map) {
    let globals = match section.borrow().get("global") {
        None => new_map::<String>([]),
        Some(Value::Map(globals)) => globals.clone(),
        Some(_) => return,
    };
    let parent_globals = match parent.borrow().get("global") {
        None => new_map::<String>([]),
        Some(Value::Map(parent_globals)) => parent_globals.clone(),
        Some(_) => return,
    };
    for (key, value) in parent_globals.borrow().iter() {
        let present = globals.borrow().get(key).cloned();
        let copy = value.deep_copy();
        match (&copy, present) {
            (Value::Map(copied), Some(Value::Map(present))) => coalesce_tables(copied, &present),
            (Value::Map(_), Some(_)) | (_, Some(Value::Map(_))) => continue,
            _ => {}
        }
        globals.borrow_mut().insert(key.clone(), copy);
    }
    section.borrow_mut().insert("global".to_owned(), Value::Map(globals));
}
