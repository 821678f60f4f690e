//! What Helm adds: `include`, `tpl`, `required`, `lookup`.

use super::{Result, Row, string, text};
use crate::chart::template::{Engine, Value};

/// Marks the message of `required` in the chain of an error, as Helm does.
pub const STARTS: &str = "HELM_ERR_START";
/// Where that message ends.
pub const ENDS: &str = "HELM_ERR_END";

/// Functions by name.
pub const TABLE: &[Row] = &[
    ("include", "sa", |engine, a| text(engine.include(string(a, 0), &a[1])?)),
    ("tpl", "sm", tpl),
    ("required", "sa", |_, a| match &a[1] {
        value if value.is_nil() || value.as_text() == Some("") => Err(format!("{STARTS}{}{ENDS}", string(a, 0))),
        value => Ok(value.clone()),
    }),
    // there is no cluster to ask
    ("lookup", "ssss", |_, _| Ok(Value::map::<String>([]))),
    // names are not resolved: a chart must not depend on where it is rendered
    ("getHostByName", "s", |_, _| text("")),
];

fn tpl(engine: &Engine, a: &[Value]) -> Result {
    let (template, values) = (string(a, 0), &a[1]);
    let name = values.at("Template.Name");
    let name = name.as_text().unwrap_or("gotpl");
    let wrong = |message: String| format!("error during tpl function execution for {}: {message}", crate::chart::template::quote(template));
    let mut inner = engine.clone();
    inner.replace(name, template).map_err(|message| wrong(parse_error(name, &message)))?;
    let rendered = inner.execute(name, values).map_err(|message| wrong(execution_error(name, &message)))?;
    text(rendered.replace("<no value>", ""))
}

/// Helm's form of a parse error: only where, and the last clause.
pub fn parse_error(file: &str, message: &str) -> String {
    let clauses: Vec<&str> = message.split(": ").collect();
    match clauses.as_slice() {
        [_, place, .., last] => format!("parse error at ({place}): {last}"),
        _ => format!("parse error in ({file}): {message}"),
    }
}

/// Helm's form of an error while rendering: a `required` that is not given says only that.
pub fn execution_error(file: &str, message: &str) -> String {
    if !message.starts_with("template: ") {
        return message.to_owned();
    }
    let clauses: Vec<&str> = message.splitn(3, ": ").collect();
    let [_, place, chain] = clauses.as_slice() else { return format!("execution error in ({file}): {message}") };
    match chain.split_once(STARTS).and_then(|(_, rest)| rest.rsplit_once(ENDS)) {
        Some((wanted, _)) => format!("execution error at ({place}): {wanted}"),
        None => message.to_owned(),
    }
}
