//! Regular expressions; Go's and Rust's share the syntax of RE2.

use regex::Regex;

use super::{Result, Row, int, string, text};
use crate::template::budget;
use crate::template::{Engine, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    // an invalid pattern matches nothing, as in sprig
    ("regexMatch", "ss", |engine, a| is_match(engine, a).or(Ok(Value::Bool(false)))),
    ("mustRegexMatch", "ss", is_match),
    ("regexFind", "ss", find),
    ("mustRegexFind", "ss", find),
    ("regexFindAll", "ssi", find_all),
    ("mustRegexFindAll", "ssi", find_all),
    ("regexReplaceAll", "sss", replace),
    ("mustRegexReplaceAll", "sss", replace),
    ("regexReplaceAllLiteral", "sss", replace_literal),
    ("mustRegexReplaceAllLiteral", "sss", replace_literal),
    ("regexSplit", "ssi", split),
    ("mustRegexSplit", "ssi", split),
    ("regexQuoteMeta", "s", |_, a| text(quote_meta(string(a, 0)))),
];

fn compiled(a: &[Value]) -> Result<Regex> {
    Regex::new(string(a, 0)).map_err(|error| format!("error parsing regexp: {}", error.to_string().lines().last().unwrap_or_default()))
}

fn is_match(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::Bool(compiled(a)?.is_match(string(a, 1))))
}

fn find(_: &Engine, a: &[Value]) -> Result {
    text(compiled(a)?.find(string(a, 1)).map_or("", |found| found.as_str()))
}

/// The limit on matches; a negative number means all.
fn match_limit(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn find_all(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::texts(compiled(a)?.find_iter(string(a, 1)).take(match_limit(int(a, 2))).map(|found| found.as_str())))
}

fn replace(_: &Engine, a: &[Value]) -> Result {
    let pattern = compiled(a)?;
    // each `$` may stand for the whole match
    let dollars = string(a, 2).matches('$').count();
    for found in pattern.find_iter(string(a, 1)) {
        budget::spend(string(a, 2).len().saturating_add(dollars.saturating_mul(found.len())))?;
    }
    text(pattern.replace_all(string(a, 1), string(a, 2)))
}

fn replace_literal(_: &Engine, a: &[Value]) -> Result {
    let pattern = compiled(a)?;
    budget::spend(pattern.find_iter(string(a, 1)).count().saturating_mul(string(a, 2).len()))?;
    text(pattern.replace_all(string(a, 1), regex::NoExpand(string(a, 2))))
}

fn split(_: &Engine, a: &[Value]) -> Result {
    let pattern = compiled(a)?;
    match int(a, 2) {
        0 => Ok(Value::list([])),
        count if count > 0 => Ok(Value::texts(pattern.splitn(string(a, 1), match_limit(count)))),
        _ => Ok(Value::texts(pattern.split(string(a, 1)))),
    }
}

fn quote_meta(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
