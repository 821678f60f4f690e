//! Dependencies: which subcharts are enabled, under which names, and which values their parents import. After Helm's
//! `chartutil/dependencies.go`.

use super::coalesce::{Nulls, coalesce_tables, coalesce_values};
use super::helm_version::HelmVersion;
use super::subcharts::Chart;
use crate::template::functions::version::satisfies;
use crate::template::{Map, Value, new_map};

/// Renames subcharts to their aliases, removes those that values disable, and imports their values.
///
/// # Errors
/// Fails where a dependency is missing in `charts/`, and where a subchart's values are not a mapping.
pub fn resolve(chart: &mut Chart, values: &Value, helm: HelmVersion) -> Result<(), String> {
    check_present(chart)?;
    select(chart, values, "", helm)?;
    import_values(chart)
}

/// Checks that what `Chart.yaml` lists is in `charts/`.
fn check_present(chart: &Chart) -> Result<(), String> {
    let missing: Vec<String> = chart
        .dependencies()
        .iter()
        .map(|dependency| field(dependency, "name"))
        .filter(|name| !chart.subcharts.iter().any(|subchart| subchart.name() == *name))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("found in Chart.yaml, but missing in charts/ directory: {}", missing.join(", "))) }
}

fn field(value: &Value, name: &str) -> String {
    value.get(name).as_text().unwrap_or_default().to_owned()
}

/// Whether a dependency stands for a chart: by name and version range.
fn matches(dependency: &Value, chart: &Chart) -> bool {
    let range = field(dependency, "version");
    field(dependency, "name") == chart.name() && satisfies(&range, &chart.field("version")).unwrap_or(false)
}

fn select(chart: &mut Chart, values: &Value, path: &str, helm: HelmVersion) -> Result<(), String> {
    let listed = chart.dependencies();
    if listed.is_empty() {
        return Ok(());
    }
    let mut subcharts: Vec<Chart> =
        chart.subcharts.iter().filter(|subchart| !listed.iter().any(|dependency| matches(dependency, subchart))).cloned().collect();
    let mut dependencies = Vec::new();
    for dependency in &listed {
        let alias = field(dependency, "alias");
        if let Some(found) = chart.subcharts.iter().find(|subchart| matches(dependency, subchart)) {
            subcharts.push(with_alias(found, &alias, helm));
        }
        if !alias.is_empty() {
            set_field(dependency, "name", &alias);
        }
        dependencies.push(dependency.clone());
    }
    chart.subcharts = subcharts;
    let all = coalesce_values(chart, values, Nulls::in_templates(helm))?;
    let disabled: Vec<String> =
        dependencies.iter().filter(|dependency| !is_enabled(dependency, &all, path)).map(|dependency| field(dependency, "name")).collect();
    chart.subcharts.retain(|subchart| !disabled.contains(&subchart.name()));
    if let Some(metadata) = chart.metadata.as_map() {
        let enabled = dependencies.into_iter().filter(|dependency| !disabled.contains(&field(dependency, "name")));
        metadata.borrow_mut().insert("dependencies".to_owned(), Value::list(enabled));
    }
    for subchart in &mut chart.subcharts {
        let subpath = format!("{path}{}.", subchart.name());
        select(subchart, &all, &subpath, helm)?;
    }
    Ok(())
}

fn with_alias(chart: &Chart, alias: &str, helm: HelmVersion) -> Chart {
    let mut copy = chart.clone();
    copy.metadata = chart.metadata.deep_copy();
    if !alias.is_empty() {
        // in Helm 3 the charts inside stay below the chart's own name, unless their listing is looked through
        if helm == HelmVersion::V3 && chart.dependencies().is_empty() {
            copy.name_in_paths = Some(chart.name());
        }
        set_field(&copy.metadata, "name", alias);
    }
    copy
}

fn set_field(value: &Value, key: &str, text: &str) {
    if let Some(map) = value.as_map() {
        map.borrow_mut().insert(key.to_owned(), Value::text(text));
    }
}

/// Whether the tags and conditions of a dependency enable it; a condition wins over tags.
fn is_enabled(dependency: &Value, values: &Value, path: &str) -> bool {
    for condition in field(dependency, "condition").trim().split(',').filter(|condition| !condition.is_empty()) {
        if let Value::Bool(on) = values.at(&format!("{path}{condition}")) {
            return on;
        }
    }
    let Value::List(tags) = dependency.get("tags") else { return true };
    let states: Vec<bool> = tags
        .iter()
        .filter_map(Value::as_text)
        .filter_map(|tag| match values.get("tags").get(tag) {
            Value::Bool(on) => Some(on),
            _ => None,
        })
        .collect();
    states.is_empty() || states.contains(&true)
}

/// Carries out `import-values`, the deepest subcharts first. What is imported lies below the values of the parent, and of several imports
/// the first wins.
fn import_values(chart: &mut Chart) -> Result<(), String> {
    chart.subcharts.iter_mut().try_for_each(import_values)?;
    let listed = chart.dependencies();
    if listed.is_empty() {
        return Ok(());
    }
    let Value::Map(all) = coalesce_values(chart, &Value::Nil, Nulls::Keep)? else { return Ok(()) };
    let imported: Map = new_map::<String>([]);
    for dependency in &listed {
        let Value::List(imports) = dependency.get("import-values") else { continue };
        let section = Value::Map(all.clone()).at(&field(dependency, "name"));
        for import in imports.iter() {
            match import {
                Value::Text(name) => {
                    if let Value::Map(table) = section.at(&format!("exports.{name}")) {
                        coalesce_tables(&imported, &table, Nulls::Keep);
                    }
                }
                Value::Map(_) => {
                    let (child, parent) = (import.get("child"), import.get("parent"));
                    let (Some(child), Some(parent)) = (child.as_text(), parent.as_text()) else {
                        return Err("interface conversion: interface {} is nil, not string".to_owned());
                    };
                    if let Value::Map(table) = section.at(child) {
                        coalesce_tables(&imported, &wrap_at(parent, table), Nulls::Keep);
                    }
                }
                _ => {}
            }
        }
    }
    let values = Value::Map(all).deep_copy();
    if let Some(values) = values.as_map() {
        coalesce_tables(values, &imported, Nulls::Keep);
    }
    chart.values = values;
    Ok(())
}

/// Wraps a table in maps, one for each key of a dotted path; `.` is the table itself.
fn wrap_at(path: &str, table: Map) -> Map {
    if path == "." || path.is_empty() {
        return table;
    }
    path.rsplit('.').fold(table, |inner, key| new_map([(key, Value::Map(inner))]))
}
