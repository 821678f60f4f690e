//! The functions of templates: Go's own, sprig's (v3.2) and Helm's.

mod builtin;
mod certificate;
pub mod clock;
mod crypto;
mod dict;
mod encode;
pub mod files;
mod helm;
mod kinds;
mod list;
mod math;
mod path;
mod random;
mod regexp;
mod text;
mod url;
pub mod version;
mod words;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::template::{Engine, Value, display};

pub use helm::{execution_error, parse_error};

/// What a function does: values to a value, or to the message of an error.
pub type Run = fn(&Engine, &[Value]) -> std::result::Result<Value, String>;

/// The result of a function.
pub type Result<T = Value> = std::result::Result<T, String>;

/// A row of a table of functions: name, parameters, what it does.
pub type Row = (&'static str, &'static str, Run);

/// A function. Its parameters are a letter each: `s` string, `i` int, `b` bool, `f` float64, `m` map, `l` list, `a` anything;
/// a `*` says that the last may come any number of times.
#[derive(Clone, Copy)]
pub struct Function {
    parameters: &'static str,
    /// Calls it with as many arguments, of such types, as it takes.
    pub run: Run,
}

impl Function {
    /// The type of the parameter at a place.
    pub fn parameter(&self, at: usize) -> char {
        let parameters = self.parameters.trim_end_matches('*');
        parameters.chars().nth(at).or(parameters.chars().last()).unwrap_or('a')
    }

    /// What is wanted, if so many arguments do not fit.
    pub fn misfit(&self, count: usize) -> Option<String> {
        let fixed = self.parameters.trim_end_matches('*').len();
        if self.parameters.ends_with('*') {
            return (count < fixed - 1).then(|| format!("at least {}", fixed - 1));
        }
        (count != fixed).then(|| fixed.to_string())
    }
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let tables: [&[Row]; 17] = [
        builtin::TABLE,
        certificate::TABLE,
        clock::TABLE,
        crypto::TABLE,
        dict::TABLE,
        encode::TABLE,
        helm::TABLE,
        kinds::TABLE,
        list::TABLE,
        math::TABLE,
        path::TABLE,
        random::TABLE,
        regexp::TABLE,
        text::TABLE,
        url::TABLE,
        version::TABLE,
        words::TABLE,
    ];
    tables.into_iter().flatten().map(|(name, parameters, run)| (*name, Function { parameters, run: *run })).collect()
});

/// The function of a name.
pub fn find(name: &str) -> Option<Function> {
    FUNCTIONS.get(name).copied()
}

/// A string argument; the engine has checked that it is one.
fn string(arguments: &[Value], at: usize) -> &str {
    arguments.get(at).and_then(Value::as_text).unwrap_or_default()
}

/// An int argument; the engine has checked that it is one.
fn int(arguments: &[Value], at: usize) -> i64 {
    match arguments.get(at) {
        Some(Value::Int(value) | Value::Int64(value)) => *value,
        _ => 0,
    }
}

/// sprig's `strval`: how a value reads as text.
fn strval(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => display(other),
    }
}

/// sprig's `strslice`: the values of a list that are not nil, as texts.
fn strslice(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().filter(|item| !item.is_nil()).map(strval).collect(),
        Value::Absent | Value::Nil => Vec::new(),
        other => vec![strval(other)],
    }
}

/// A text as a value.
fn text(value: impl AsRef<str>) -> Result {
    Ok(Value::text(value))
}
