//! Values as Go templates know them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::budget;
use super::object::Object;

/// A map that several values may share, as in Go; ranges go through its keys in order.
pub type Map = Rc<RefCell<BTreeMap<String, Value>>>;

/// Values are copied and compared this deep: a map may hold itself.
const DEEPEST: usize = 1000;

/// A value of a template.
#[derive(Debug, Clone)]
pub enum Value {
    /// No value at all (Go's invalid `reflect.Value`): what a pipeline makes of nil.
    Absent,
    /// Go's nil in an `interface{}`.
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `int64`
    Int64(i64),
    /// `float64`: every number of values files is one.
    Float(f64),
    /// `string`
    Text(Rc<str>),
    /// `[]byte`
    Bytes(Rc<[u8]>),
    /// `[]interface{}`
    List(Rc<Vec<Value>>),
    /// `map[string]interface{}`
    Map(Map),
    /// A Go struct with fields and methods.
    Object(Rc<dyn Object>),
}

impl Value {
    /// A text.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(text.as_ref().into())
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(Rc::new(items.into_iter().collect()))
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
        Value::list(items.into_iter().map(Value::text))
    }

    /// A map.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(new_map(entries))
    }

    /// Whether this is nil or nothing.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Absent | Value::Nil)
    }

    /// What `if` makes of the value.
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

    /// The name of the Go type (`%T`).
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Absent | Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Int64(_) => "int64",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::Bytes(_) => "[]uint8",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
            Value::Object(object) => object.type_name(),
        }
    }

    /// The name of the Go kind, as `kindOf` says it.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Absent | Value::Nil => "invalid",
            Value::List(_) | Value::Bytes(_) => "slice",
            Value::Map(_) => "map",
            Value::Object(object) => object.kind_name(),
            other => other.type_name(),
        }
    }

    /// A Go struct as a value.
    pub fn object(object: impl Object) -> Value {
        Value::Object(Rc::new(object))
    }

    /// The Go struct of a type, if this is one.
    pub fn as_object<T: Object>(&self) -> Option<&T> {
        match self {
            Value::Object(object) => (&**object as &dyn Any).downcast_ref(),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The map, if this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value under a key of a map; nil where there is none.
    pub fn get(&self, key: &str) -> Value {
        self.as_map().and_then(|map| map.borrow().get(key).cloned()).unwrap_or(Value::Nil)
    }

    /// The value at a dotted path of maps; nil where there is none.
    pub fn at(&self, path: &str) -> Value {
        path.split('.').fold(self.clone(), |value, key| value.get(key))
    }

    /// A copy that shares no map with this one.
    pub fn deep_copy(&self) -> Value {
        self.copy_to(0)
    }

    /// What is too deep is left out, as a map may hold itself; so is all, once there was too much work.
    fn copy_to(&self, depth: usize) -> Value {
        match self {
            Value::List(_) | Value::Map(_) if depth > DEEPEST || budget::spend(budget::VALUE).is_err() => Value::Nil,
            Value::List(items) => Value::list(items.iter().map(|item| item.copy_to(depth + 1))),
            Value::Map(map) => Value::map(map.borrow().iter().map(|(key, value)| (key.clone(), value.copy_to(depth + 1)))),
            other => other.clone(),
        }
    }

    /// `reflect.DeepEqual`.
    pub fn deep_equal(&self, other: &Value) -> bool {
        self.equals(other, 0)
    }

    fn equals(&self, other: &Value, depth: usize) -> bool {
        if depth > DEEPEST || budget::spend(1).is_err() {
            return false;
        }
        match (self, other) {
            (Value::Absent | Value::Nil, Value::Absent | Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) | (Value::Int64(a), Value::Int64(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
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

/// A new map of entries.
pub fn new_map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Map {
    Rc::new(RefCell::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}
