//! The functions of templates: Go's own and sprig's (v3.3), each with its parameters.

mod builtin;
mod certificate;
mod crypto;
pub mod date;
mod decimal;
mod dict;
mod encode;
mod letter_case;
mod list;
mod math;
mod path;
mod random;
mod regexp;
mod strings;
mod types;
mod url;
pub mod version;
mod version_constraint;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Engine, Value, display};

pub use encode::decode_base64_text;
pub use path::base;

/// What a function does: values to a value, or to the message of an error.
pub type Run = fn(&Engine, &[Value]) -> std::result::Result<Value, String>;

/// The result of a function.
pub type Result<T = Value> = std::result::Result<T, String>;

/// A row of a table of functions: name, parameters (see [`Function`]), what it does.
pub type Row = (&'static str, &'static str, Run);

/// The functions that a template may call, by name.
pub type Functions = HashMap<&'static str, Function>;

/// A function. Its parameters are a letter each: `s` string, `i` int, `b` bool, `f` float64, `m` map, `l` list, `a` anything;
/// a `*` says that the last may come any number of times.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    parameters: &'static str,
    /// Calls it; the engine has checked the number and types of the arguments.
    pub run: Run,
}

impl Function {
    /// The type of the parameter at a position, counted from 0.
    pub fn parameter(&self, at: usize) -> char {
        let parameters = self.parameters.trim_end_matches('*');
        parameters.chars().nth(at).or(parameters.chars().last()).unwrap_or('a')
    }

    /// How many arguments are expected, if `count` does not fit.
    pub fn expected_count(&self, count: usize) -> Option<String> {
        let fixed = self.parameters.trim_end_matches('*').len();
        if self.parameters.ends_with('*') {
            return (count < fixed - 1).then(|| format!("at least {}", fixed - 1));
        }
        (count != fixed).then(|| fixed.to_string())
    }
}

/// Tables whose functions depend on nothing but their arguments.
const HERMETIC_TABLES: [&[Row]; 13] = [
    builtin::TABLE,
    crypto::TABLE,
    dict::TABLE,
    encode::TABLE,
    letter_case::TABLE,
    list::TABLE,
    math::TABLE,
    path::TABLE,
    regexp::TABLE,
    strings::TABLE,
    types::TABLE,
    url::TABLE,
    version::TABLE,
];

/// Tables whose functions depend on the time or on random numbers.
const NONHERMETIC_TABLES: [&[Row]; 3] = [certificate::TABLE, date::TABLE, random::TABLE];

/// Functions of the hermetic tables that use random numbers all the same.
const NONHERMETIC: [&str; 4] = ["bcrypt", "encryptAES", "htpasswd", "shuffle"];

/// Go's own functions and sprig's, without `env` and `expandenv`, which Helm takes away as well.
pub static SPRIG: LazyLock<Functions> = LazyLock::new(|| HERMETIC_TABLES.into_iter().chain(NONHERMETIC_TABLES).flat_map(rows).collect());

/// Those of [`SPRIG`] that depend on nothing but their arguments: sprig's `HermeticTxtFuncMap`.
pub static HERMETIC: LazyLock<Functions> = LazyLock::new(|| {
    let all = HERMETIC_TABLES.into_iter().flat_map(rows);
    all.filter(|(name, _)| !NONHERMETIC.contains(name)).collect()
});

/// The functions of a table by their names.
pub fn rows(table: &'static [Row]) -> impl Iterator<Item = (&'static str, Function)> {
    table.iter().map(|(name, parameters, run)| (*name, Function { parameters, run: *run }))
}

/// Whether a function is there to ask if a value is set, so that it may get one that is not.
pub fn accepts_unset(name: &str) -> bool {
    matches!(name, "and" | "or" | "not" | "eq" | "ne" | "default" | "empty" | "coalesce" | "all" | "any" | "ternary")
        || matches!(name, "deepEqual" | "kindIs" | "kindOf" | "typeIs" | "typeIsLike" | "typeOf")
}

/// The string argument at a position; empty where it is not one, which the engine prevents.
pub fn string(arguments: &[Value], at: usize) -> &str {
    arguments.get(at).and_then(Value::as_text).unwrap_or_default()
}

/// The int argument at a position; 0 where it is not one, which the engine prevents.
fn int(arguments: &[Value], at: usize) -> i64 {
    match arguments.get(at) {
        Some(Value::Int(value) | Value::Int64(value)) => *value,
        _ => 0,
    }
}

/// Converts a value to text as sprig's `strval`.
fn strval(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => display(other),
    }
}

/// Converts a list to texts as sprig's `strslice`; nil is left out.
fn strslice(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().filter(|item| !item.is_nil()).map(strval).collect(),
        Value::Absent | Value::Nil => Vec::new(),
        other => vec![strval(other)],
    }
}

/// Returns a text as the result of a function.
pub fn text(value: impl AsRef<str>) -> Result {
    Ok(Value::text(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: &[Value]) -> Result {
        (SPRIG[name].run)(&Engine::new(&SPRIG), arguments)
    }

    #[test]
    fn keys_are_in_the_forms_of_go() {
        for (kind, head) in [
            ("rsa", "-----BEGIN RSA PRIVATE KEY-----\n"),
            ("ecdsa", "-----BEGIN EC PRIVATE KEY-----\n"),
            ("ed25519", "-----BEGIN PRIVATE KEY-----\n"),
            ("x", "Unknown type x"),
        ] {
            let key = run("genPrivateKey", &[Value::text(kind)]).unwrap();
            assert!(key.as_text().unwrap().starts_with(head), "{key:?}");
        }
        assert!(run("genPrivateKey", &[Value::text("dsa")]).unwrap_err().contains("use rsa"));
    }

    #[test]
    fn hermetic_functions_depend_on_their_arguments_only() {
        for name in ["now", "date", "randAlphaNum", "uuidv4", "genCA", "genPrivateKey", "shuffle", "bcrypt", "env", "expandenv"] {
            assert!(!HERMETIC.contains_key(name), "{name}");
        }
        for name in ["b64enc", "b64dec", "default", "quote", "trim", "indent", "splitList", "join", "sha256sum", "semverCompare"] {
            assert!(HERMETIC.contains_key(name), "{name}");
        }
    }
}
