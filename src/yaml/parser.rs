//! Builds trees from the events of granit-parser.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::node::{Content, Node, Scalar, Style};
use super::resolve::{Resolved, resolve};
use crate::diagnostic::Span;

/// Lists and mappings are nested at most this deep.
pub const MAX_DEPTH: usize = 500;
/// A stream has at most this many nodes, those of an anchor counted again for each alias ("billion laughs"). A scalar counts as one node,
/// and as one more for each 100 bytes.
pub const MAX_NODES: usize = 2_000_000;

/// Why a text cannot be read as YAML, and where that shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// The bytes that it is about; empty where only a position is known.
    pub span: Span,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong: lower case, one line.
    pub message: String,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not YAML.
    Syntax,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// More nodes than [`MAX_NODES`].
    TooLarge,
    /// The value of a merge key (`<<`) is neither a mapping nor a list of mappings.
    Merge,
    /// A key is a list, a mapping or null.
    Key,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads all documents, merge keys resolved. Empty documents are left out.
///
/// # Errors
/// Fails at the first error, and if a key is no text, number or boolean.
pub fn read_documents(text: &str) -> Result<Vec<Node>, Error> {
    let documents = Documents::new(text).merged().filter(|node| !node.as_ref().is_ok_and(Node::is_null)).collect::<Result<Vec<_>, _>>()?;
    documents.iter().try_for_each(check_keys)?;
    Ok(documents)
}

/// Reads the documents before the first error, and that error. Merge keys stay as they are.
pub fn read_all(text: &str) -> (Vec<Node>, Option<Error>) {
    let mut nodes = Vec::new();
    for document in Documents::new(text) {
        match document {
            Ok(node) => nodes.push(node),
            Err(error) => return (nodes, Some(error)),
        }
    }
    (nodes, None)
}

fn check_keys(node: &Node) -> Result<(), Error> {
    if let Content::List(items) = &node.content {
        return items.iter().try_for_each(check_keys);
    }
    for (key, value) in node.entries() {
        if key.text().is_none() {
            let message = format!("expected text as a key, found {}", key.kind());
            return Err(Error { kind: ErrorKind::Key, span: key.span.clone(), line: key.line, message });
        }
        check_keys(value)?;
    }
    Ok(())
}

/// What becomes of merge keys (`<<`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merging {
    /// They stay as they are.
    No,
    /// What a mapping has itself wins, wherever it stands.
    OwnWins,
    /// What comes later wins.
    LaterWins,
}

/// The documents of a text, one after the other; the last item is the error, if there is one.
pub struct Documents<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    merging: Merging,
    /// Lists and mappings that are not closed yet, the innermost last.
    open: Vec<Collection>,
    /// The nodes that have an anchor, each with its weight.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    ended: bool,
}

/// A list or mapping whose end has not come yet.
struct Collection {
    start: Start,
    items: Items,
    /// How many nodes it has, itself included.
    weight: usize,
}

enum Items {
    List(Vec<Node>),
    /// The entries, and a key that waits for its value.
    Map(Vec<(Node, Node)>, Option<Node>),
}

/// Where a node begins, and its anchor.
struct Start {
    span: Span,
    line: usize,
    anchor: Option<usize>,
}

impl<'a> Documents<'a> {
    /// Reads a text; merge keys (`<<`) stay as they are.
    pub fn new(text: &'a str) -> Self {
        let parser = Parser::new_from_str(text);
        Documents { text, parser, merging: Merging::No, open: Vec::new(), anchors: HashMap::new(), nodes: 0, ended: false }
    }

    /// Puts the entries of `<<: *defaults` in the place of the merge key. What a mapping has itself wins; of two that are merged the first
    /// (<https://yaml.org/type/merge.html>).
    pub fn merged(mut self) -> Self {
        self.merging = Merging::OwnWins;
        self
    }

    /// Puts the entries of `<<: *defaults` in the place of the merge key as Go's YAML does: they override the entries before them, and are
    /// overridden by those after them.
    pub fn merged_in_order(mut self) -> Self {
        self.merging = Merging::LaterWins;
        self
    }

    /// What was read of a document before the error.
    pub fn partial(mut self) -> Option<Node> {
        let mut inner = None;
        while let Some(mut collection) = self.open.pop() {
            if let Some(node) = inner {
                collection.push(node);
            }
            inner = Some(collection.into_node().0);
        }
        inner
    }

    fn document(&mut self) -> Result<Option<Node>, Error> {
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let at = self.offset(error.marker());
                Error { kind: ErrorKind::Syntax, span: at..at, line: error.marker().line(), message: first_line(&error.info()) }
            })?;
            if matches!(event, Event::DocumentStart(..)) {
                self.anchors.clear();
            }
            let anchor = event.anchor_id().filter(|id| *id != 0);
            let start = Start { span: self.span(&span), line: span.start.line(), anchor };
            if let Some(root) = self.read(event, start)? {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }

    /// Takes an event; returns the root of the document if it is complete.
    fn read(&mut self, event: Event<'a>, start: Start) -> Result<Option<Node>, Error> {
        let (node, weight, anchor) = match event {
            Event::Scalar(text, style, _, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let weight = 1 + text.len() / 100;
                self.count(weight, &start)?;
                let content = Content::Scalar(Scalar { text: text.into(), style, tag: tag.map(|tag| tag.suffix().into()) });
                (Node { span: start.span, line: start.line, is_alias: false, content }, weight, start.anchor)
            }
            Event::Alias(id) => {
                let (content, weight) = match self.anchors.get(&id) {
                    Some((node, weight)) => (node.content.clone(), *weight),
                    None => return Err(start.error(ErrorKind::Syntax, "an alias inside of its own anchor")),
                };
                self.count(weight, &start)?;
                (Node { span: start.span, line: start.line, is_alias: true, content }, weight, None)
            }
            Event::SequenceStart(..) => return self.open(start, Items::List(Vec::new())),
            Event::MappingStart(..) => return self.open(start, Items::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(mut collection) => {
                    match self.merging {
                        Merging::No => {}
                        Merging::OwnWins => collection.merge()?,
                        Merging::LaterWins => collection.merge_in_order()?,
                    }
                    collection.into_node()
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if let Some(id) = anchor {
            self.anchors.insert(id, (node.clone(), weight));
        }
        match self.open.last_mut() {
            Some(collection) => {
                collection.weight += weight;
                collection.push(node);
                Ok(None)
            }
            None => Ok(Some(node)),
        }
    }

    fn open(&mut self, start: Start, items: Items) -> Result<Option<Node>, Error> {
        self.count(1, &start)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(start.error(ErrorKind::TooDeep, format!("nested deeper than {MAX_DEPTH} levels (limit)")));
        }
        self.open.push(Collection { start, items, weight: 1 });
        Ok(None)
    }

    fn count(&mut self, nodes: usize, start: &Start) -> Result<(), Error> {
        self.nodes += nodes;
        match self.nodes > MAX_NODES {
            true => Err(start.error(ErrorKind::TooLarge, format!("more than {MAX_NODES} values, those of aliases included (limit)"))),
            false => Ok(()),
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let start = self.offset(&span.start);
        start..self.offset(&span.end).max(start)
    }

    /// The byte of a marker, inside the text and at the start of a character.
    fn offset(&self, marker: &granit_parser::Marker) -> usize {
        let by_characters = || self.text.char_indices().nth(marker.index()).map_or(self.text.len(), |(at, _)| at);
        let mut offset = marker.byte_offset().unwrap_or_else(by_characters).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Node, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let document = self.document().transpose();
        self.ended = !matches!(document, Some(Ok(_)));
        document
    }
}

impl Start {
    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, span: self.span.clone(), line: self.line, message: message.into() }
    }
}

impl Collection {
    fn push(&mut self, mut node: Node) {
        match &mut self.items {
            Items::List(items) => items.push(node),
            Items::Map(entries, key) => match key.take() {
                None => *key = Some(node),
                Some(key) => {
                    if node.span.is_empty() {
                        node.span = key.span.clone();
                    }
                    entries.push((key, node));
                }
            },
        }
    }

    fn into_node(self) -> (Node, usize, Option<usize>) {
        let content = match self.items {
            Items::List(items) => Content::List(Arc::new(items)),
            Items::Map(entries, _) => Content::Map(Arc::new(entries)),
        };
        (Node { span: self.start.span, line: self.start.line, is_alias: false, content }, self.weight, self.start.anchor)
    }

    /// Resolves the merge keys of a mapping.
    fn merge(&mut self) -> Result<(), Error> {
        let Items::Map(entries, _) = &mut self.items else { return Ok(()) };
        if !entries.iter().any(|(key, _)| is_merge_key(key)) {
            return Ok(());
        }
        let (merges, mut own): (Vec<_>, Vec<_>) = std::mem::take(entries).into_iter().partition(|(key, _)| is_merge_key(key));
        let mut known: HashSet<String> = own.iter().filter_map(|(key, _)| key.text().map(str::to_owned)).collect();
        for (_, value) in &merges {
            for entry in merged_entries(value)? {
                if entry.0.text().is_none_or(|key| known.insert(key.to_owned())) {
                    own.push(entry.clone());
                }
            }
        }
        *entries = own;
        Ok(())
    }

    /// Resolves the merge keys of a mapping one after the other: later entries win.
    fn merge_in_order(&mut self) -> Result<(), Error> {
        let Items::Map(entries, _) = &mut self.items else { return Ok(()) };
        if !entries.iter().any(|(key, _)| is_merge_key(key)) {
            return Ok(());
        }
        let (mut all, mut places): (Vec<(Node, Node)>, HashMap<String, usize>) = Default::default();
        let mut put = |entry: (Node, Node)| match entry.0.text().map(str::to_owned) {
            Some(key) => match places.get(&key) {
                Some(at) => all[*at] = entry,
                None => {
                    places.insert(key, all.len());
                    all.push(entry);
                }
            },
            None => all.push(entry),
        };
        for (key, value) in std::mem::take(entries) {
            match &value.content {
                _ if !is_merge_key(&key) => put((key, value)),
                // of a list the first mapping wins
                Content::List(items) => {
                    for item in items.iter().rev() {
                        merged_entries(item)?.into_iter().cloned().for_each(&mut put);
                    }
                }
                _ => merged_entries(&value)?.into_iter().cloned().for_each(&mut put),
            }
        }
        *entries = all;
        Ok(())
    }
}

fn is_merge_key(key: &Node) -> bool {
    let Content::Scalar(scalar) = &key.content else { return false };
    !key.is_alias && scalar.style == Style::Plain && scalar.tag.is_none() && resolve(&scalar.text) == Resolved::Merge
}

/// The entries that the value of a merge key has: those of one mapping, or of a list of them.
fn merged_entries(value: &Node) -> Result<Vec<&(Node, Node)>, Error> {
    match &value.content {
        Content::Map(entries) => Ok(entries.iter().collect()),
        Content::List(items) => Ok(items.iter().map(merged_entries).collect::<Result<Vec<_>, _>>()?.concat()),
        Content::Scalar(_) => {
            let message = format!("`<<` expects a mapping or a list of mappings, found {}", value.kind());
            Err(Error { kind: ErrorKind::Merge, span: value.span.clone(), line: value.line, message })
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nb: [x, \"y z\", 0123]\nc:\n  d: &n hello\n  e: *n\n  f:\n---\n---\n{ü: ö}\n";
        let nodes = read_documents(text).unwrap();
        let place = |node: Option<&Node>| text[node.unwrap().span.clone()].to_owned();
        assert_eq!(nodes.len(), 2);
        assert_eq!(place(nodes[0].get("a")), "1");
        assert_eq!(place(nodes[0].get("b").unwrap().items().get(1)), "\"y z\"");
        assert_eq!(nodes[0].get("b").unwrap().items()[2].text(), Some("0123"));
        assert_eq!(place(nodes[0].at(&["c", "e"])), "*n");
        assert_eq!(nodes[0].at(&["c", "e"]).unwrap().text(), Some("hello"));
        assert_eq!(place(nodes[0].at(&["c", "f"])), "f");
        assert_eq!((place(nodes[1].get("ü")), nodes[1].get("ü").unwrap().line), ("ö".to_owned(), 9));
    }

    #[test]
    fn documents_keep_their_lines_and_aliases_are_followed() {
        let (documents, error) = read_all("a: &x {image: one}\nb: *x\n---\n- c\n- |\n  d\n");
        assert_eq!(error, None);
        let copied = documents[0].get("b").unwrap();
        assert_eq!((copied.line, copied.is_alias, copied.get("image").unwrap().text()), (2, true, Some("one")));
        let Content::List(items) = &documents[1].content else { panic!("a list") };
        assert_eq!((items[0].line, items[1].text()), (4, Some("d\n")));
    }

    #[test]
    fn merge_keys_add_what_a_mapping_does_not_have() {
        let text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd:\n  <<: *b\n  '<<': 4\n";
        let merged = read_documents(text).unwrap()[0].to_value();
        assert_eq!(merged["c"], serde_json::json!({"x": 3, "y": 1, "z": 2}));
        assert_eq!(merged["d"], serde_json::json!({"<<": 4, "y": 2, "z": 2}));
        assert!(read_all(text).0[0].at(&["c", "<<"]).is_some());
        let error = read_documents("a:\n  <<: 1\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2: `<<` expects a mapping or a list of mappings, found a number");
    }

    #[test]
    fn what_comes_before_an_error_is_kept() {
        let (documents, error) = read_all("a: 1\n---\nb: [\n");
        assert_eq!(documents.len(), 1);
        assert_eq!(error.unwrap().kind, ErrorKind::Syntax);
        let mut documents = Documents::new("a: 1\nb:\n- x\n- c: d\n  e: }\n");
        assert!(documents.next().unwrap().is_err() && documents.next().is_none());
        assert_eq!(documents.partial().unwrap().to_value(), serde_json::json!({"a": 1, "b": ["x", {"c": "d"}]}));
    }

    #[test]
    fn errors_have_a_place() {
        for (text, least, line) in [
            ("a: 1\nb: [\n", 1, 2),
            ("// comment\na: b\n", 1, 1),
            ("spec:\n  passwd: ******\n", 0, 2),
            ("a: b: c\n", 0, 1),
            ("a: *x\n", 3, 1),
            ("a: &x [*x]\n", 7, 1),
            ("a: 1\n{b: c}: d\n", 5, 2),
        ] {
            let error = read_documents(text).unwrap_err();
            assert!(error.span.start >= least && error.span.end <= text.len() && error.line >= line, "{text:?}: {error:?}");
            assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn bombs_and_depths_end() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(",");
            laughs += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert_eq!(read_documents(&laughs).unwrap_err().kind, ErrorKind::TooLarge);
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(","));
        assert_eq!(read_documents(&long).unwrap_err().kind, ErrorKind::TooLarge);
        assert!(read_documents(&"[".repeat(100_000)).is_err());
        assert!(read_documents(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))).is_err());
        assert!(read_documents(&format!("{}{}", "{\"a\":".repeat(200), "}".repeat(200))).is_ok());
    }
}
