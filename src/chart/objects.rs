//! The Go structs that templates meet: `.Chart`, `.Capabilities`, `.Files`, versions and times.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::functions::{date::Time, files, version::Version};
use super::template::{Value, display};

/// Of `.Chart`: a method of the chart rather than a field of its metadata, so it is not printed with those.
pub const IS_ROOT: &str = "IsRoot";

/// A struct with its fields and methods.
#[derive(Debug)]
pub enum Object {
    /// A plain struct.
    Struct {
        /// Its Go type.
        ty: &'static str,
        /// Its fields, in Go's order.
        fields: Vec<(&'static str, Value)>,
    },
    /// `.Capabilities.APIVersions`
    ApiVersions(Vec<String>),
    /// `.Files`
    Files(Rc<BTreeMap<String, Rc<[u8]>>>),
    /// `semver`
    Version(Version),
    /// `now`
    Time(Time),
}

impl Object {
    /// The Go type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::Struct { ty, .. } => ty,
            Object::ApiVersions(_) => "chartutil.VersionSet",
            Object::Files(_) => "engine.files",
            Object::Version(_) => "*semver.Version",
            Object::Time(_) => "time.Time",
        }
    }

    /// The Go kind.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Object::ApiVersions(_) => "slice",
            Object::Files(_) => "map",
            Object::Time(_) => "struct",
            _ if self.type_name().starts_with('*') => "ptr",
            _ => "struct",
        }
    }

    /// Whether `if` takes it.
    pub fn is_true(&self) -> bool {
        match self {
            Object::ApiVersions(versions) => !versions.is_empty(),
            Object::Files(files) => !files.is_empty(),
            _ => true,
        }
    }

    /// How it prints; `depth` is 0 where it is printed itself.
    pub fn display(&self, depth: usize) -> String {
        match self {
            // Go prints an address that differs with each run
            Object::Struct { ty, .. } if ty.starts_with('*') && depth > 0 => "0xc000000000".to_owned(),
            Object::Struct { ty: "chartutil.KubeVersion", fields } => fields.first().map(|(_, value)| display(value)).unwrap_or_default(),
            Object::Struct { ty, fields } => {
                let inside: Vec<String> = fields.iter().filter(|(name, _)| *name != IS_ROOT).map(|(_, value)| display(value)).collect();
                format!("{}{{{}}}", if ty.starts_with('*') { "&" } else { "" }, inside.join(" "))
            }
            Object::ApiVersions(versions) => format!("[{}]", versions.join(" ")),
            Object::Files(files) => display(&Value::map(files.iter().map(|(name, bytes)| (name.clone(), Value::Bytes(Rc::clone(bytes)))))),
            Object::Version(version) => version.to_string(),
            Object::Time(time) => time.to_string(),
        }
    }

    /// A field, or the result of a method; `None` if there is none of that name.
    ///
    /// # Errors
    /// Fails where the arguments do not fit the method.
    pub fn member(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        match self {
            Object::Struct { ty: "chartutil.KubeVersion", fields } if matches!(name, "GitVersion" | "String") => {
                fields.first().map(|(_, value)| Ok(value.clone()))
            }
            Object::Struct { fields, .. } => fields.iter().find(|(field, _)| *field == name).map(|(_, value)| Ok(value.clone())),
            Object::ApiVersions(versions) => (name == "Has").then(|| {
                let wanted = text(name, arguments, 0)?;
                Ok(Value::Bool(versions.contains(&wanted)))
            }),
            Object::Files(all) => files::method(all, name, arguments),
            Object::Version(version) => version.method(name, arguments),
            Object::Time(time) => time.method(name, arguments),
        }
    }

    /// The struct as JSON sees it: a map.
    pub fn to_map(&self) -> Value {
        match self {
            Object::Struct { fields, .. } => {
                let shown = fields.iter().filter(|(name, value)| value.is_true() && *name != IS_ROOT);
                Value::map(shown.map(|(name, value)| (json_name(name), value.clone())))
            }
            Object::ApiVersions(versions) => Value::texts(versions),
            Object::Files(files) => Value::map(files.iter().map(|(name, bytes)| (name.clone(), Value::Bytes(Rc::clone(bytes))))),
            Object::Version(version) => Value::text(version.to_string()),
            Object::Time(time) => Value::text(time.rfc3339()),
        }
    }
}

fn json_name(field: &str) -> String {
    match field {
        "APIVersion" => "apiVersion".to_owned(),
        _ => field[..1].to_lowercase() + &field[1..],
    }
}

/// The argument of a method as text.
pub fn text(method: &str, arguments: &[Value], at: usize) -> Result<String, String> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text.to_string()),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        None => Err(format!("wrong number of args for {method}: want {} got {}", at + 1, arguments.len())),
    }
}
