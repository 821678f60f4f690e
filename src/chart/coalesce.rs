//! Merges values: the user's win over the parent chart's, and those over the chart's own. After Helm's `coalesce.go`; as there, maps below
//! `global` are shared by a chart and the charts inside it.

use std::cell::RefCell;
use std::rc::Rc;

use super::helm_version::HelmVersion;
use super::subcharts::Chart;
use crate::template::{Map, Value, new_map, sprintf};

/// What a null means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// It takes away the key below it: `CoalesceValues` of Helm 3.
    Remove,
    /// It takes away a value below it, and those of a chart's own values say nothing: `CoalesceValues` of Helm 4.
    RemoveValues,
    /// It stays, so that a later merge sees it: `MergeValues`.
    Keep,
}

impl Nulls {
    /// What a null means in the values that templates get.
    pub fn in_templates(helm: HelmVersion) -> Nulls {
        match helm {
            HelmVersion::V3 => Nulls::Remove,
            HelmVersion::V4 => Nulls::RemoveValues,
        }
    }
}

/// Merges the user's values with those of a chart and its subcharts.
///
/// # Errors
/// Fails where the values of a subchart are not a mapping.
pub fn coalesce_values(chart: &Chart, user_values: &Value, nulls: Nulls) -> Result<Value, String> {
    let values = match user_values.deep_copy() {
        Value::Map(map) => map,
        _ => new_map::<String>([]),
    };
    coalesce_chart(chart, &values, nulls)?;
    Ok(Value::Map(values))
}

fn coalesce_chart(chart: &Chart, values: &Map, nulls: Nulls) -> Result<(), String> {
    coalesce_defaults(chart, values, nulls);
    for subchart in &chart.subcharts {
        let name = subchart.name();
        let section = match values.borrow_mut().entry(name.clone()).or_insert_with(|| Value::map::<String>([])) {
            Value::Map(section) => section.clone(),
            other => return Err(format!("type mismatch on {name}: {}", sprintf("%t", std::slice::from_ref(other)))),
        };
        coalesce_globals(&section, values);
        coalesce_chart(subchart, &section, nulls)?;
    }
    Ok(())
}

/// Adds the chart's own values where there are none yet.
fn coalesce_defaults(chart: &Chart, values: &Map, nulls: Nulls) {
    let Value::Map(defaults) = chart.values.deep_copy() else { return };
    for (key, default) in defaults.borrow().iter() {
        let present = values.borrow().get(key).cloned();
        match (present, default) {
            (None, Value::Nil) if nulls == Nulls::RemoveValues => {}
            (None, default) => {
                remove_nulls(default, nulls);
                values.borrow_mut().insert(key.clone(), default.clone());
            }
            (Some(Value::Nil), _) if nulls != Nulls::Keep => drop(values.borrow_mut().remove(key)),
            (Some(Value::Map(section)), Value::Map(own)) => {
                // nulls for an inner chart must reach it: its own values are merged below them
                let is_subchart = chart.subcharts.iter().any(|subchart| subchart.name() == *key);
                let nulls = if is_subchart { Nulls::Keep } else { nulls };
                remove_nulls(default, nulls);
                coalesce_tables(&section, own, nulls);
            }
            _ => {}
        }
    }
}

/// Takes nulls out of a chart's own values, where that is the rule.
fn remove_nulls(value: &Value, nulls: Nulls) {
    if let (Value::Map(map), Nulls::RemoveValues) = (value, nulls) {
        map.borrow_mut().retain(|_, value| !value.is_nil());
        map.borrow().values().for_each(|value| remove_nulls(value, nulls));
    }
}

/// Adds what is missing in `into` from `from`.
pub fn coalesce_tables(into: &Map, from: &Map, nulls: Nulls) {
    if Rc::ptr_eq(into, from) {
        return;
    }
    for (key, value) in from.borrow().iter() {
        let present = into.borrow().get(key).cloned();
        match (present, value) {
            (Some(Value::Nil), value) if nulls == Nulls::Remove || nulls == Nulls::RemoveValues && !value.is_nil() => {
                into.borrow_mut().remove(key);
            }
            (None, value) => drop(into.borrow_mut().insert(key.clone(), value.clone())),
            (Some(Value::Map(into)), Value::Map(from)) => coalesce_tables(&into, from, nulls),
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
        let copy = match (value, present) {
            (Value::Map(value), present) => {
                let copied = Rc::new(RefCell::new(value.borrow().clone()));
                match present {
                    Some(Value::Map(present)) => coalesce_tables(&copied, &present, Nulls::Keep),
                    Some(_) => continue,
                    None => {}
                }
                Value::Map(copied)
            }
            (_, Some(Value::Map(_))) => continue,
            (value, _) => value.clone(),
        };
        globals.borrow_mut().insert(key.clone(), copy);
    }
    section.borrow_mut().insert("global".to_owned(), Value::Map(globals));
}
