//! Which inner charts are on, under which names, and what they give their parents. After Helm's `chartutil/dependencies.go`.

use super::coalesce::{coalesce_values, tables};
use super::subcharts::Chart;
use crate::template::functions::version::satisfies;
use crate::template::{Map, Value, new_map};

/// Names, drops and links the inner charts of a chart as the values want it.
///
/// # Errors
/// Fails where a chart that is asked for is not there, and where values do not fit together.
pub fn resolve(chart: &mut Chart, values: &Value) -> Result<(), String> {
    present(chart)?;
    choose(chart, values, "")?;
    import(chart)
}

/// What `Chart.yaml` lists is in `charts/`.
fn present(chart: &Chart) -> Result<(), String> {
    let missing: Vec<String> = chart
        .dependencies()
        .iter()
        .map(|one| field(one, "name"))
        .filter(|name| !chart.inner.iter().any(|inner| inner.name() == *name))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("found in Chart.yaml, but missing in charts/ directory: {}", missing.join(", "))) }
}

fn field(value: &Value, name: &str) -> String {
    value.get(name).as_text().unwrap_or_default().to_owned()
}

/// Whether a dependency means a chart.
fn means(dependency: &Value, chart: &Chart) -> bool {
    let range = field(dependency, "version");
    field(dependency, "name") == chart.name() && (range.is_empty() || satisfies(&range, &chart.field("version")).unwrap_or(false))
}

fn choose(chart: &mut Chart, values: &Value, path: &str) -> Result<(), String> {
    let listed = chart.dependencies();
    if listed.is_empty() {
        return Ok(());
    }
    let mut inner: Vec<Chart> = chart.inner.iter().filter(|inner| !listed.iter().any(|one| means(one, inner))).cloned().collect();
    let mut named = Vec::new();
    for dependency in &listed {
        let alias = field(dependency, "alias");
        if let Some(found) = chart.inner.iter().find(|inner| means(dependency, inner)) {
            inner.push(renamed(found, &alias));
        }
        if !alias.is_empty() {
            set(dependency, "name", &alias);
        }
        named.push(dependency.clone());
    }
    chart.inner = inner;
    let all = coalesce_values(chart, values)?;
    let off: Vec<String> = named.iter().filter(|one| !enabled(one, &all, path)).map(|one| field(one, "name")).collect();
    chart.inner.retain(|inner| !off.contains(&inner.name()));
    if let Some(metadata) = chart.metadata.as_map() {
        let kept = named.into_iter().filter(|one| !off.contains(&field(one, "name")));
        metadata.borrow_mut().insert("dependencies".to_owned(), Value::list(kept));
    }
    for inner in &mut chart.inner {
        let below = format!("{path}{}.", inner.name());
        choose(inner, &all, &below)?;
    }
    Ok(())
}

fn renamed(chart: &Chart, alias: &str) -> Chart {
    let mut copy = chart.clone();
    copy.metadata = chart.metadata.deep_copy();
    if !alias.is_empty() {
        set(&copy.metadata, "name", alias);
    }
    copy
}

fn set(value: &Value, key: &str, text: &str) {
    if let Some(map) = value.as_map() {
        map.borrow_mut().insert(key.to_owned(), Value::text(text));
    }
}

/// Whether the tags and conditions of a dependency let it in; a condition wins over tags.
fn enabled(dependency: &Value, values: &Value, path: &str) -> bool {
    for condition in field(dependency, "condition").split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
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

/// `import-values`, from the innermost charts up.
fn import(chart: &mut Chart) -> Result<(), String> {
    chart.inner.iter_mut().try_for_each(import)?;
    let listed = chart.dependencies();
    if listed.is_empty() {
        return Ok(());
    }
    let Value::Map(all) = coalesce_values(chart, &Value::Nil)? else { return Ok(()) };
    let mut imported: Map = new_map::<String>([]);
    for dependency in &listed {
        let Value::List(imports) = dependency.get("import-values") else { continue };
        let section = Value::Map(all.clone()).at(&field(dependency, "name"));
        for wanted in imports.iter() {
            match wanted {
                Value::Text(name) => {
                    if let Value::Map(table) = section.at(&format!("exports.{name}")) {
                        tables(&imported, &table);
                    }
                }
                Value::Map(_) => {
                    if let Value::Map(table) = section.at(&field(wanted, "child")) {
                        tables(&all, &nested(&field(wanted, "parent"), table));
                        // Helm goes on from here with all the values: what was imported by name before is lost
                        imported = all.clone();
                    }
                }
                _ => {}
            }
        }
    }
    if !std::rc::Rc::ptr_eq(&imported, &all) {
        tables(&imported, &all);
    }
    chart.values = Value::Map(imported);
    Ok(())
}

/// A table under a dotted path; `.` is the top.
fn nested(path: &str, table: Map) -> Map {
    if path == "." || path.is_empty() {
        return table;
    }
    path.rsplit('.').fold(table, |inner, key| new_map([(key, Value::Map(inner))]))
}
