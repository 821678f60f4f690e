//! The values of templates, with their Go types.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use super::budget;
use super::object::Object;

/// A map that several values may share, as in Go; `range` visits its keys in order.
pub type Map = Rc<RefCell<BTreeMap<String, Value>>>;

/// The limit on how deep values are copied and compared: a map may contain itself.
const MAX_DEPTH: usize = 1000;

/// A value of a template.
#[derive(Debug, Clone)]
pub enum Value {
    /// No value (Go's invalid `reflect.Value`): nil after a stage of a pipeline.
    Absent,
    /// Go's nil in an `interface{}`.
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `int64`
    Int64(i64),
    /// `float64`: every number of a values file is one.
    Float(f64),
    /// `string`
    Text(Rc<str>),
    /// `[]byte`
    Bytes(Rc<[u8]>),
    /// A slice: `[]interface{}`, or one of another type (see [`List`]).
    List(Rc<List>),
    /// `map[string]interface{}`
    Map(Map),
    /// A Go struct.
    Object(Rc<dyn Object>),
}

impl Value {
    /// Makes a string.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(text.as_ref().into())
    }

    /// Makes a `[]interface{}`.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::slice("[]interface {}", items)
    }

    /// Makes a `[]string`.
    pub fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
        Value::slice("[]string", items.into_iter().map(Value::text))
    }

    /// Makes a slice of a Go type.
    pub fn slice(ty: &'static str, items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(Rc::new(List { items: items.into_iter().collect(), ty, is_nil: false }))
    }

    /// The nil slice of a Go type, which JSON and YAML write as `null`.
    pub fn nil_slice(ty: &'static str) -> Value {
        Value::List(Rc::new(List { items: Vec::new(), ty, is_nil: true }))
    }

    /// Makes a map.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(new_map(entries))
    }

    /// Whether it is nil or absent.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Absent | Value::Nil)
    }

    /// Whether `if` takes it for true.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Absent | Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) | Value::Int64(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.borrow().is_empty(),
            Value::Object(object) => object.is_true(),
        }
    }

    /// The Go type (`%T`).
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Absent | Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Int64(_) => "int64",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::Bytes(_) => "[]uint8",
            Value::List(list) => list.ty,
            Value::Map(_) => "map[string]interface {}",
            Value::Object(object) => object.type_name(),
        }
    }

    /// The Go kind, as `kindOf` prints it.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Absent | Value::Nil => "invalid",
            Value::List(_) | Value::Bytes(_) => "slice",
            Value::Map(_) => "map",
            Value::Object(object) => object.kind_name(),
            other => other.type_name(),
        }
    }

    /// Makes a Go struct.
    pub fn object(object: impl Object) -> Value {
        Value::Object(Rc::new(object))
    }

    /// The Go struct, if it is one of this type.
    pub fn as_object<T: Object>(&self) -> Option<&T> {
        match self {
            Value::Object(object) => (&**object as &dyn Any).downcast_ref(),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value of a key; nil where there is none, or this is not a map.
    pub fn get(&self, key: &str) -> Value {
        self.as_map().and_then(|map| map.borrow().get(key).cloned()).unwrap_or(Value::Nil)
    }

    /// The value at a dotted path through maps; nil where there is none.
    pub fn at(&self, path: &str) -> Value {
        path.split('.').fold(self.clone(), |value, key| value.get(key))
    }

    /// Copies the value so that no map is shared; what nests too deep, or exceeds the budget, becomes nil.
    pub fn deep_copy(&self) -> Value {
        self.copy_to(0)
    }

    fn copy_to(&self, depth: usize) -> Value {
        match self {
            Value::List(_) | Value::Map(_) if depth > MAX_DEPTH || budget::spend(budget::VALUE).is_err() => Value::Nil,
            Value::List(list) if list.is_nil => self.clone(),
            Value::List(list) => Value::slice(list.ty, list.iter().map(|item| item.copy_to(depth + 1))),
            Value::Map(map) => Value::map(map.borrow().iter().map(|(key, value)| (key.clone(), value.copy_to(depth + 1)))),
            other => other.clone(),
        }
    }

    /// Compares as Go's `reflect.DeepEqual`; false for what nests too deep.
    pub fn deep_equal(&self, other: &Value) -> bool {
        self.equals(other, 0)
    }

    fn equals(&self, other: &Value, depth: usize) -> bool {
        if depth > MAX_DEPTH || budget::spend(1).is_err() {
            return false;
        }
        match (self, other) {
            (Value::Absent | Value::Nil, Value::Absent | Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) | (Value::Int64(a), Value::Int64(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) if a.ty != b.ty || a.is_nil != b.is_nil => false,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b, depth + 1)),
            (Value::Map(a), Value::Map(b)) => {
                let (a, b) = (a.borrow(), b.borrow());
                a.len() == b.len() && a.iter().zip(b.iter()).all(|((ka, va), (kb, vb))| ka == kb && va.equals(vb, depth + 1))
            }
            (Value::Object(a), Value::Object(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A Go slice.
#[derive(Debug, Clone)]
pub struct List {
    items: Vec<Value>,
    ty: &'static str,
    is_nil: bool,
}

impl List {
    /// The Go type, such as `[]string`.
    pub fn type_name(&self) -> &'static str {
        self.ty
    }

    /// Whether it is a nil slice.
    pub fn is_nil(&self) -> bool {
        self.is_nil
    }
}

impl Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

/// Makes a map of entries.
pub fn new_map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Map {
    Rc::new(RefCell::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}
