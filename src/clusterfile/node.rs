//! YAML documents as trees that remember where everything stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::Span;

/// A value of a YAML document and the bytes of the file where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands in the file.
    pub span: Span,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// A number or a boolean; and its text as written, since `0123` may be meant as a word.
    Plain(Value, String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in order.
    Map(Vec<(Key, Node)>),
}

/// A key of a map and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Where it stands in the file.
    pub span: Span,
    /// Its text.
    pub text: String,
}

/// Why a text is not YAML, and where that shows.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxError {
    /// Where it shows.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

impl Node {
    /// Parses a stream of YAML documents; empty documents do not count.
    pub fn parse_stream(text: &str) -> Result<Vec<Node>, SyntaxError> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        };
        let raw: Vec<Spanned<Raw>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| syntax_error(&error, text))?;
        Ok(raw.into_iter().map(|raw| Node::place(raw, text)).filter(|node| node.content != Content::Null).collect())
    }

    fn place(raw: Spanned<Raw>, text: &str) -> Node {
        let span = bytes_of(&raw.referenced, text);
        let content = match raw.value {
            Raw::Null => Content::Null,
            Raw::Text(value) => Content::Text(value),
            Raw::Plain(value) => {
                let written = text.get(bytes_of(&raw.defined, text)).map(|written| written.trim().trim_matches(['"', '\'']).to_owned());
                Content::Plain(value.clone(), written.filter(|text| !text.is_empty()).unwrap_or_else(|| value.to_string()))
            }
            Raw::List(items) => Content::List(items.into_iter().map(|item| Node::place(item, text)).collect()),
            Raw::Map(entries) => Content::Map(entries.into_iter().map(|(key, value)| place_entry(key, value, text)).collect()),
        };
        Node { span, content }
    }

    /// Nothing, standing at a place.
    pub fn empty(span: Span) -> Node {
        Node { span, content: Content::Null }
    }

    /// What a reader of a message calls it.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "nothing",
            Content::Plain(Value::Bool(_), _) => "a boolean",
            Content::Plain(..) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// The value of a key; the last one if there are several.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().rev().find(|(own, _)| own.text == key).map(|(_, value)| value)
    }

    /// The value below a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list, or the node itself where a list is meant and one item is written.
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::Null => &[],
            Content::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The text of a scalar as written.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Plain(_, text) | Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value without places.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Plain(value, _) => value.clone(),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Node::to_value).collect(),
            Content::Map(entries) => entries.iter().map(|(key, value)| (key.text.clone(), value.to_value())).collect(),
        }
    }
}

fn place_entry(key: Spanned<KeyText>, value: Spanned<Raw>, text: &str) -> (Key, Node) {
    let key = Key { span: bytes_of(&key.referenced, text), text: key.value.0 };
    let mut node = Node::place(value, text);
    if node.span.is_empty() {
        node.span = key.span.clone();
    }
    (key, node)
}

/// The bytes of a place, inside the text and at character boundaries whatever the parser says.
fn bytes_of(location: &Location, text: &str) -> Span {
    let span = location.span();
    let offset = |bytes: Option<u64>| bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let start = floor(text, offset(span.byte_offset()));
    let end = floor(text, start.saturating_add(offset(span.byte_len()))).max(start);
    start..end
}

fn floor(text: &str, mut offset: usize) -> usize {
    offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn syntax_error(error: &serde_saphyr::Error, text: &str) -> SyntaxError {
    let span = error.location().map(|location| start_of(&location, text)).unwrap_or(0..0);
    let message = error.without_snippet().to_string();
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or(message).trim_start_matches("error: ").to_owned();
    SyntaxError { span, message }
}

/// The first byte of a place, found by its line and column where the parser gives no offset.
fn start_of(location: &Location, text: &str) -> Span {
    let known = bytes_of(location, text);
    if known.start > 0 || location.line() <= 1 {
        return known.start..known.end.max(known.start);
    }
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(index(location.line())).map(str::len).sum();
    let line = text[start..].lines().next().unwrap_or_default();
    let column = line.char_indices().nth(index(location.column())).map_or(line.len(), |(at, _)| at);
    start + column..start + column
}

/// A YAML value as the parser gives it.
enum Raw {
    Null,
    Plain(Value),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<KeyText>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Number::from_f64(value).map_or_else(|| Raw::Text(value.to_string()), |number| Raw::Plain(number.into())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// A key, whatever scalar it is written as.
struct KeyText(String);

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(KeyText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nb: [x, \"y z\", 0123]\nc:\n  d: &n hello\n  e: *n\n  f:\n---\n---\n{ü: ö}\n";
        let nodes = Node::parse_stream(text).unwrap();
        let place = |node: Option<&Node>| text[node.unwrap().span.clone()].to_owned();
        assert_eq!(nodes.len(), 2);
        assert_eq!(place(nodes[0].get("a")), "1");
        assert_eq!(place(nodes[0].get("b").unwrap().items().get(1)), "\"y z\"");
        assert_eq!(nodes[0].get("b").unwrap().items()[2].text(), Some("0123"));
        assert_eq!(place(nodes[0].at(&["c", "e"])), "*n");
        assert_eq!(nodes[0].at(&["c", "e"]).unwrap().text(), Some("hello"));
        assert_eq!(place(nodes[0].at(&["c", "f"])), "f");
        assert_eq!(place(nodes[1].get("ü")), "ö");
    }

    #[test]
    fn what_is_not_yaml_has_a_place() {
        for (text, place) in [("a: 1\nb: [\n", 1), ("// comment\na: b\n", 1), ("spec:\n  passwd: ******\n", 0), ("a: b: c\n", 0)] {
            let error = Node::parse_stream(text).unwrap_err();
            assert!(error.span.start >= place && error.span.end <= text.len(), "{text:?}: {error:?}");
            assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error:?}");
        }
    }
}
