//! Paths with slashes, after Go's `path`.

use super::{Row, string, text};
use crate::template::Value;

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("base", "s", |_, a| text(base(string(a, 0)))),
    ("osBase", "s", |_, a| text(base(string(a, 0)))),
    ("dir", "s", |_, a| text(dir(string(a, 0)))),
    ("osDir", "s", |_, a| text(dir(string(a, 0)))),
    ("clean", "s", |_, a| text(clean(string(a, 0)))),
    ("osClean", "s", |_, a| text(clean(string(a, 0)))),
    ("ext", "s", |_, a| text(ext(string(a, 0)))),
    ("osExt", "s", |_, a| text(ext(string(a, 0)))),
    ("isAbs", "s", |_, a| Ok(Value::Bool(string(a, 0).starts_with('/')))),
    ("osIsAbs", "s", |_, a| Ok(Value::Bool(string(a, 0).starts_with('/')))),
];

/// The last element of a path, as `path.Base`.
pub fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

fn dir(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

fn ext(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.').map_or("", |at| &name[at..])
}

/// The shortest equivalent path, as `path.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    match (rooted, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}
