//! Go structs that templates meet, with their fields and methods.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;

use super::value::Value;
use super::{display, float};

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

    /// What a map of this type has for a key that is not in it.
    fn zero(&self) -> Value {
        Value::Nil
    }

    /// Whether JSON and YAML write null for it.
    fn is_nil(&self) -> bool {
        false
    }

    /// The fields that JSON writes, in order; `None` for what is not a struct.
    fn entries(&self) -> Option<Vec<(String, Value)>> {
        None
    }

    /// The value that JSON and YAML write for it.
    fn to_plain(&self) -> Value;
}

/// A `complex128`, which only a constant such as `1+2i` makes.
#[derive(Debug)]
pub struct Complex {
    /// The real part.
    pub real: f64,
    /// The imaginary part.
    pub imaginary: f64,
}

impl Object for Complex {
    fn type_name(&self) -> &'static str {
        "complex128"
    }

    fn kind_name(&self) -> &'static str {
        "complex128"
    }

    fn is_true(&self) -> bool {
        self.real != 0.0 || self.imaginary != 0.0
    }

    fn display(&self, _depth: usize) -> String {
        let sign = if self.imaginary.is_sign_negative() || self.imaginary.is_infinite() { "" } else { "+" };
        format!("({}{sign}{}i)", float(self.real, 'g', None), float(self.imaginary, 'g', None))
    }

    fn member(&self, _name: &str, _arguments: &[Value]) -> Option<Result<Value, String>> {
        None
    }

    fn to_plain(&self) -> Value {
        Value::Nil
    }
}

/// A `map[string]string`: what it does not have is an empty text.
#[derive(Debug)]
pub struct TextMap {
    /// Its entries.
    pub entries: BTreeMap<String, String>,
    /// Whether it is Go's nil map.
    pub is_nil: bool,
}

impl Object for TextMap {
    fn type_name(&self) -> &'static str {
        "map[string]string"
    }

    fn kind_name(&self) -> &'static str {
        "map"
    }

    fn is_true(&self) -> bool {
        !self.entries.is_empty()
    }

    fn is_nil(&self) -> bool {
        self.is_nil
    }

    fn display(&self, _depth: usize) -> String {
        display(&self.to_plain())
    }

    fn member(&self, name: &str, _arguments: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(self.entries.get(name).map_or_else(|| self.zero(), Value::text)))
    }

    fn zero(&self) -> Value {
        Value::text("")
    }

    fn to_plain(&self) -> Value {
        Value::map(self.entries.iter().map(|(key, text)| (key, Value::text(text))))
    }
}

/// A Go struct without behaviour.
#[derive(Debug, Clone)]
pub struct Struct {
    /// Its Go type; one that starts with `*` is a pointer.
    pub ty: &'static str,
    /// Its fields, in Go's order.
    pub fields: Vec<(&'static str, Value)>,
    /// The results of methods without arguments. They are not printed; `String` is what the struct prints, as in Go.
    pub methods: Vec<(&'static str, Value)>,
    /// What its fields are called in JSON and YAML.
    pub json: JsonNames,
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

    fn entries(&self) -> Option<Vec<(String, Value)>> {
        let omits_empty = self.json != JsonNames::Fields;
        let fields = self.fields.iter().filter(|(_, value)| !omits_empty || value.is_true());
        Some(fields.map(|(name, value)| (self.json.of(name), value.clone())).collect())
    }

    fn to_plain(&self) -> Value {
        Value::map(self.entries().unwrap_or_default())
    }
}

/// The names of a struct's fields in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonNames {
    /// As they are; fields that are empty are there too.
    Fields,
    /// `apiVersion`, `import-values`: those of `Chart.yaml`. Empty fields are left out.
    Camel,
    /// `git_commit`. Empty fields are left out.
    Snake,
}

impl JsonNames {
    fn of(self, field: &str) -> String {
        match (self, field) {
            (JsonNames::Fields, _) => field.to_owned(),
            (JsonNames::Camel, "APIVersion") => "apiVersion".to_owned(),
            (JsonNames::Camel, "ImportValues") => "import-values".to_owned(),
            (JsonNames::Camel, "URL") => "url".to_owned(),
            (JsonNames::Camel, _) => field[..1].to_lowercase() + &field[1..],
            (JsonNames::Snake, _) => {
                let cuts = field.char_indices().flat_map(|(at, c)| {
                    let cut = (at > 0 && c.is_ascii_uppercase()).then_some('_');
                    cut.into_iter().chain([c.to_ascii_lowercase()])
                });
                cuts.collect()
            }
        }
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
