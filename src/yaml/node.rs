//! The tree of a YAML document.

use std::sync::Arc;

use serde_json::{Number, Value};

use super::resolve::{Resolved, resolve};
use crate::diagnostic::Span;

/// A value of a YAML document and its place.
///
/// Clones are cheap: an alias shares the content of its anchor.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The bytes of a scalar (quotes included, anchor and tag not) or of an alias (`*name`); of a list or mapping the bracket that opens
    /// it. A value that has no bytes of its own has those of its key.
    pub span: Span,
    /// The line, counted from 1; of a block scalar (`|`, `>`) that of its first line of text.
    pub line: usize,
    /// Whether it is written as an alias (`*name`). The content, and the places in it, are those of the anchor.
    pub is_alias: bool,
    /// The value.
    pub content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text, a number, a boolean or null.
    Scalar(Scalar),
    /// A list.
    List(Arc<Vec<Node>>),
    /// A mapping: keys and values, in the order of the file. A key may occur several times.
    Map(Arc<Vec<(Node, Node)>>),
}

/// A scalar as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// The text without quotes, escapes resolved.
    pub text: Arc<str>,
    /// How it is written.
    pub style: Style,
    /// The name of its tag: `str` of `!!str`.
    pub tag: Option<Box<str>>,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be a number, a boolean or null.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// As a block of lines: `|` or `>`.
    Block,
}

impl Scalar {
    /// The type that a scalar has in YAML 1.1. Quoted ones and blocks are text, unless a tag says otherwise.
    pub fn resolve(&self) -> Resolved {
        match self.tag.as_deref() {
            Some("str" | "binary") => Resolved::Text,
            Some("int" | "float" | "bool" | "null") => resolve(&self.text),
            _ if self.style != Style::Plain => Resolved::Text,
            _ => resolve(&self.text),
        }
    }

    fn to_value(&self) -> Value {
        let text = || Value::from(&*self.text);
        match self.resolve() {
            Resolved::Null => Value::Null,
            Resolved::Bool(value) => value.into(),
            Resolved::Int(value) => Number::from_i128(value).map_or_else(text, Value::Number),
            Resolved::Float(value) => Number::from_f64(value).map_or_else(text, Value::Number),
            Resolved::Date | Resolved::Merge | Resolved::Text => text(),
        }
    }
}

impl Node {
    /// Null, at a place.
    pub fn null(span: Span) -> Node {
        let scalar = Scalar { text: "".into(), style: Style::Plain, tag: None };
        Node { span, line: 0, is_alias: false, content: Content::Scalar(scalar) }
    }

    /// The node with other entries, in the same place.
    pub fn with_entries(&self, entries: Vec<(Node, Node)>) -> Node {
        Node { content: Content::Map(Arc::new(entries)), ..self.clone() }
    }

    /// Whether it is null: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }

    /// The type, in the words of an error message.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
            Content::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => "nothing",
                Resolved::Bool(_) => "a boolean",
                Resolved::Int(_) | Resolved::Float(_) => "a number",
                Resolved::Date | Resolved::Merge | Resolved::Text => "text",
            },
        }
    }

    /// The value of a key; the last one if the key occurs several times.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().rev().find(|(own, _)| own.text() == Some(key)).map(|(_, value)| value)
    }

    /// The value below a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The keys and values of a mapping; none of anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list, or the node itself if it is a single value instead of a list. Null has no items.
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ if self.is_null() => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// The text of a scalar as written, whatever its type; `None` for null, lists and mappings.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) if scalar.resolve() != Resolved::Null => Some(&scalar.text),
            _ => None,
        }
    }

    /// The value without places. Keys are as written; keys that are not text are left out; of duplicate keys the last one wins.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(scalar) => scalar.to_value(),
            Content::List(items) => items.iter().map(Node::to_value).collect(),
            Content::Map(entries) => entries
                .iter()
                .filter_map(|(key, value)| Some((key.text()?.to_owned(), value.to_value())))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::yaml::read_documents;

    #[test]
    fn values_have_the_types_of_yaml_1_1() {
        let text =
            "a: 0644\nb: '1'\nc: yes\nd: ~\ne: 1.50\nf: !!str 2\ng: 1_000\nh: 2001-01-01\ni: .inf\nj: |\n  x\nk: 18446744073709551615\n";
        let expected = serde_json::json!({"a": 420, "b": "1", "c": true, "d": null, "e": 1.5, "f": "2", "g": 1000, "h": "2001-01-01",
            "i": ".inf", "j": "x\n", "k": u64::MAX});
        assert_eq!(read_documents(text).unwrap()[0].to_value(), expected);
    }

    #[test]
    fn a_scalar_keeps_its_text_and_null_has_none() {
        let node = &read_documents("a: 0644\nb: null\nc: ''\n").unwrap()[0];
        assert_eq!(["a", "b", "c"].map(|key| node.get(key).unwrap().text()), [Some("0644"), None, Some("")]);
        assert_eq!(["a", "b", "c"].map(|key| node.get(key).unwrap().kind()), ["a number", "nothing", "text"]);
    }
}
