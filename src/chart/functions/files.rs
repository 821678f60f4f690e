//! The methods of `.Files`.

use std::collections::BTreeMap;
use std::rc::Rc;

use globset::GlobBuilder;

use super::path::base;
use super::{Result, text};
use crate::chart::objects::{Object, text as argument};
use crate::chart::template::Value;
use crate::chart::yaml;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

type Files = BTreeMap<String, Rc<[u8]>>;

/// Calls a method; `None` if there is none of that name.
pub fn method(files: &Files, name: &str, arguments: &[Value]) -> Option<Result> {
    let found = |arguments: &[Value]| argument(name, arguments, 0).map(|path| files.get(&path).cloned().unwrap_or_else(|| Rc::from([])));
    Some(match name {
        "Get" => found(arguments).and_then(|bytes| text(String::from_utf8_lossy(&bytes))),
        "GetBytes" => found(arguments).map(Value::Bytes),
        "Glob" => argument(name, arguments, 0).map(|pattern| globbed(files, &pattern)),
        "Lines" => found(arguments).map(|bytes| lines(&String::from_utf8_lossy(&bytes))),
        "AsConfig" => as_map(files, |bytes| String::from_utf8_lossy(bytes).into_owned()),
        "AsSecrets" => as_map(files, |bytes| BASE64.encode(bytes)),
        other => return files.get(other).map(|bytes| Ok(Value::Bytes(Rc::clone(bytes)))),
    })
}

/// The files that a pattern names; `*` stops at `/`, `**` does not. A pattern that is none names every file, as in Helm.
fn globbed(files: &Files, pattern: &str) -> Value {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build().or_else(|_| GlobBuilder::new("**").build());
    let matcher = glob.map(|glob| glob.compile_matcher());
    let kept = files.iter().filter(|(path, _)| matcher.as_ref().is_ok_and(|matcher| matcher.is_match(path)));
    Value::Object(Rc::new(Object::Files(Rc::new(kept.map(|(path, bytes)| (path.clone(), Rc::clone(bytes))).collect()))))
}

fn lines(text: &str) -> Value {
    if text.is_empty() { Value::list([]) } else { Value::texts(text.split('\n')) }
}

fn as_map(files: &Files, encoded: impl Fn(&[u8]) -> String) -> Result {
    if files.is_empty() {
        return text("");
    }
    let map = Value::map(files.iter().map(|(path, bytes)| (base(path), Value::text(encoded(bytes)))));
    text(yaml::write(&map).unwrap_or_default().trim_end_matches('\n'))
}
