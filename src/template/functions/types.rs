//! Types, defaults and choices, after sprig's `reflect.go` and `defaults.go`.

use super::{Row, string, text};
use crate::template::Value;

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("typeOf", "a", |_, a| text(a[0].type_name())),
    ("typeIs", "sa", |_, a| Ok(Value::Bool(a[1].type_name() == string(a, 0)))),
    ("typeIsLike", "sa", |_, a| {
        let name = a[1].type_name();
        Ok(Value::Bool(name == string(a, 0) || name.strip_prefix('*') == Some(string(a, 0))))
    }),
    ("kindOf", "a", |_, a| text(a[0].kind_name())),
    ("kindIs", "sa", |_, a| Ok(Value::Bool(a[1].kind_name() == string(a, 0)))),
    ("deepEqual", "aa", |_, a| Ok(Value::Bool(a[0].deep_equal(&a[1])))),
    ("default", "aa*", |_, a| Ok(if a.get(1).is_some_and(|value| !empty(value)) { a[1].clone() } else { a[0].clone() })),
    ("empty", "a", |_, a| Ok(Value::Bool(empty(&a[0])))),
    ("coalesce", "a*", |_, a| Ok(a.iter().find(|value| !empty(value)).cloned().unwrap_or(Value::Nil))),
    ("all", "a*", |_, a| Ok(Value::Bool(!a.iter().any(empty)))),
    ("any", "a*", |_, a| Ok(Value::Bool(!a.iter().all(empty)))),
    ("ternary", "aab", |_, a| Ok(if a[2].is_true() { a[0].clone() } else { a[1].clone() })),
    ("fail", "s", |_, a| Err(string(a, 0).to_owned())),
];

/// Whether a value is empty for sprig: nil, false, 0, or of length 0. A struct never is.
pub fn empty(value: &Value) -> bool {
    !value.is_true()
}
