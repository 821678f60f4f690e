//! Go structs that templates meet, with their fields and methods.

use std::any::Any;
use std::fmt::Debug;

use super::display;
use super::value::Value;

/// A Go value that is neither a plain value, a list nor a map: a struct, or a type with methods.
pub trait Object: Any + Debug {
    /// The Go type (`%T`), such as `*semver.Version`.
    fn type_name(&self) -> &'static str;

    /// The Go kind, as `kindOf` prints it: a pointer or a struct where the type does not say more.
    fn kind_name(&self) -> &'static str {
        if self.type_name().starts_with('*') { "ptr" } else { "struct" }
    }

    /// Whether `if` takes it for true.
    fn is_true(&self) -> bool {
        true
    }

    /// How it prints; `depth` counts the values around it, 0 where it is printed itself.
    fn display(&self, depth: usize) -> String;

    /// A field, or the result of a method; `None` if there is none of that name.
    ///
    /// # Errors
    /// Fails where the arguments do not fit the method.
    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>>;

    /// The value that JSON and YAML write for it.
    fn to_plain(&self) -> Value;
}

/// A Go struct without behaviour.
#[derive(Debug)]
pub struct Struct {
    /// Its Go type; one that starts with `*` is a pointer.
    pub ty: &'static str,
    /// Its fields, in Go's order.
    pub fields: Vec<(&'static str, Value)>,
    /// The results of methods without arguments. They are not printed; `String` is what the struct prints, as in Go.
    pub methods: Vec<(&'static str, Value)>,
}

impl Object for Struct {
    fn type_name(&self) -> &'static str {
        self.ty
    }

    fn display(&self, depth: usize) -> String {
        if let Some((_, text)) = self.methods.iter().find(|(name, _)| *name == "String") {
            return display(text);
        }
        let is_pointer = self.ty.starts_with('*');
        if is_pointer && depth > 0 {
            // Go prints an address, which is another in each run
            return "0xc000000000".to_owned();
        }
        let fields: Vec<String> = self.fields.iter().map(|(_, value)| display(value)).collect();
        format!("{}{{{}}}", if is_pointer { "&" } else { "" }, fields.join(" "))
    }

    fn member(&self, name: &str, _arguments: &[Value]) -> Option<Result<Value, String>> {
        self.fields.iter().chain(&self.methods).find(|(field, _)| *field == name).map(|(_, value)| Ok(value.clone()))
    }

    fn to_plain(&self) -> Value {
        Value::map(self.fields.iter().filter(|(_, value)| value.is_true()).map(|(name, value)| (json_name(name), value.clone())))
    }
}

fn json_name(field: &str) -> String {
    match field {
        "APIVersion" => "apiVersion".to_owned(),
        _ => field[..1].to_lowercase() + &field[1..],
    }
}

/// The argument of a method as text.
///
/// # Errors
/// Fails with Go's message where it is missing or no text.
pub fn text_argument(method: &str, arguments: &[Value], at: usize) -> Result<String, String> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text.to_string()),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        None => Err(format!("wrong number of args for {method}: want {} got {}", at + 1, arguments.len())),
    }
}
