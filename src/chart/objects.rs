//! Go structs that only charts meet: `.Capabilities.APIVersions` and `.Files`.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use globset::GlobBuilder;

use super::yaml;
use crate::template::functions::{Result, base, text};
use crate::template::{Object, Struct, Value, display, text_argument};

/// `.Capabilities.APIVersions`
#[derive(Debug)]
pub struct ApiVersions(pub Vec<String>);

impl Object for ApiVersions {
    fn type_name(&self) -> &'static str {
        "chartutil.VersionSet"
    }

    fn kind_name(&self) -> &'static str {
        "slice"
    }

    fn is_true(&self) -> bool {
        !self.0.is_empty()
    }

    fn display(&self, _depth: usize) -> String {
        format!("[{}]", self.0.join(" "))
    }

    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        (name == "Has").then(|| text_argument(name, arguments, 0).map(|version| Value::Bool(self.0.contains(&version))))
    }

    fn to_plain(&self) -> Value {
        Value::texts(&self.0)
    }
}

/// `.Files`: the files of a chart by path, or some of them.
#[derive(Debug)]
pub struct FileSet(pub BTreeMap<String, Rc<[u8]>>);

impl Object for FileSet {
    fn type_name(&self) -> &'static str {
        "engine.files"
    }

    fn kind_name(&self) -> &'static str {
        "map"
    }

    fn is_true(&self) -> bool {
        !self.0.is_empty()
    }

    fn display(&self, _depth: usize) -> String {
        display(&self.to_plain())
    }

    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        let file = || text_argument(name, arguments, 0).map(|path| self.0.get(&path).cloned().unwrap_or_else(|| Rc::from([])));
        Some(match name {
            "Get" => file().and_then(|bytes| text(String::from_utf8_lossy(&bytes))),
            "GetBytes" => file().map(Value::Bytes),
            "Glob" => text_argument(name, arguments, 0).map(|pattern| Value::object(self.glob(&pattern))),
            "Lines" => file().map(|bytes| lines(&String::from_utf8_lossy(&bytes))),
            "AsConfig" => self.as_yaml(|bytes| String::from_utf8_lossy(bytes).into_owned()),
            "AsSecrets" => self.as_yaml(|bytes| BASE64.encode(bytes)),
            path => self.0.get(path).map_or_else(|| Ok(self.zero()), |bytes| Ok(Value::Bytes(Rc::clone(bytes)))),
        })
    }

    fn zero(&self) -> Value {
        Value::Bytes(Rc::from([]))
    }

    fn to_plain(&self) -> Value {
        Value::map(self.0.iter().map(|(path, bytes)| (path.clone(), Value::Bytes(Rc::clone(bytes)))))
    }
}

impl FileSet {
    /// The files whose paths match; `*` stops at `/`, `**` does not. An invalid pattern matches every file, as in Helm.
    fn glob(&self, pattern: &str) -> FileSet {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build().or_else(|_| GlobBuilder::new("**").build());
        let matcher = glob.map(|glob| glob.compile_matcher());
        let matching = self.0.iter().filter(|(path, _)| matcher.as_ref().is_ok_and(|matcher| matcher.is_match(path)));
        FileSet(matching.map(|(path, bytes)| (path.clone(), Rc::clone(bytes))).collect())
    }

    /// A YAML mapping from file names to contents, for `data` of a ConfigMap or Secret.
    fn as_yaml(&self, encode: impl Fn(&[u8]) -> String) -> Result {
        if self.0.is_empty() {
            return text("");
        }
        let map = Value::map(self.0.iter().map(|(path, bytes)| (base(path), Value::text(encode(bytes)))));
        text(yaml::write(&map).unwrap_or_default().trim_end_matches('\n'))
    }
}

/// The lines of a file, without an empty one at the end.
fn lines(text: &str) -> Value {
    if text.is_empty() { Value::texts::<&str>([]) } else { Value::texts(text.strip_suffix('\n').unwrap_or(text).split('\n')) }
}

/// `.Chart`: the metadata of the chart, and whether it is the one that is installed.
#[derive(Debug)]
pub struct ChartMetadata {
    /// `Chart.yaml`.
    pub metadata: Struct,
    /// Whether no other chart contains it.
    pub is_root: bool,
}

impl Object for ChartMetadata {
    fn type_name(&self) -> &'static str {
        "struct { chart.Metadata; IsRoot bool }"
    }

    fn display(&self, depth: usize) -> String {
        format!("{{{} {}}}", self.metadata.display(depth + 1), self.is_root)
    }

    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        match name {
            "IsRoot" => Some(Ok(Value::Bool(self.is_root))),
            "Metadata" => Some(Ok(Value::object(self.metadata.clone()))),
            _ => self.metadata.member(name, arguments),
        }
    }

    fn entries(&self) -> Option<Vec<(String, Value)>> {
        let mut entries = self.metadata.entries()?;
        entries.push(("IsRoot".to_owned(), Value::Bool(self.is_root)));
        Some(entries)
    }

    fn to_plain(&self) -> Value {
        Value::map(self.entries().unwrap_or_default())
    }
}
