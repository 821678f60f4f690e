//! YAML as a tree that knows its lines. JSON reads as YAML.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScanError};

/// A value and the line it stands on.
#[derive(Debug, Clone)]
pub struct Node {
    /// Counted from 1; of a text of several lines (`|`) that of its first line.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A YAML value. Scalars keep their text; what it means is for the reader to say.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text, number, boolean or null, as written.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the file's order. Keys that are no scalars are left out.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// What stands in for a node that is deeper than anyone writes.
const DEEPEST: usize = 200;
/// Aliases are copied; no document may grow beyond this many nodes by them ("billion laughs").
const MOST_NODES: usize = 1_000_000;

/// Reads all documents of `text`. Documents before a syntax error are kept; the error's line and text come along.
pub fn parse(text: &str) -> (Vec<Node>, Option<(usize, String)>) {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(node)) => documents.push(node),
            Ok(None) => return (documents, None),
            Err(error) => return (documents, Some((error.marker().line(), error.info().to_owned()))),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, usize)>, ScanError> {
        self.parser.next_event().transpose().map(|event| event.map(|(event, span)| (event, span.start.line())))
    }

    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        while let Some((event, line)) = self.next()? {
            if event.is_node() {
                return self.node(event, line, 0).map(Some);
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, ScanError> {
        self.nodes += 1;
        let anchor = event.anchor_id();
        let value = match event {
            Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(id) => return Ok(self.alias(id, line)),
            _ => Value::Scalar(String::new()),
        };
        let node = Node { line, value };
        if let Some(id) = anchor.filter(|id| *id != 0) {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, line: usize) -> Node {
        let target = self.anchors.get(&id);
        let weight = target.map_or(0, weigh);
        self.nodes += weight;
        match target {
            Some(node) if self.nodes < MOST_NODES => Node { line, value: node.value.clone() },
            _ => Node { line, value: Value::Scalar(String::new()) },
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, ScanError> {
        let mut items = Vec::new();
        while let Some((event, line)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            if event.is_node() {
                items.extend(self.below(event, line, depth)?);
            }
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, ScanError> {
        let (mut entries, mut key): (Vec<(String, Node)>, Option<Node>) = (Vec::new(), None);
        while let Some((event, line)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            if !event.is_node() {
                continue;
            }
            let node = self.below(event, line, depth)?.unwrap_or(Node { line, value: Value::Scalar(String::new()) });
            match key.take() {
                None => key = Some(node),
                Some(name) => entries.extend(name.text().map(|name| (name.to_owned(), node))),
            }
        }
        Ok(Value::Map(entries))
    }

    /// A node inside another; what is too deep is read over.
    fn below(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Option<Node>, ScanError> {
        if depth < DEEPEST {
            return self.node(event, line, depth + 1).map(Some);
        }
        let mut open = usize::from(matches!(event, Event::SequenceStart(..) | Event::MappingStart(..)));
        while open > 0 {
            match self.next()? {
                Some((Event::SequenceStart(..) | Event::MappingStart(..), _)) => open += 1,
                Some((Event::SequenceEnd | Event::MappingEnd, _)) => open -= 1,
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }
}

fn weigh(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(weigh).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| weigh(node)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_lines_and_aliases_are_followed() {
        let (documents, error) = parse("a: &x {image: one}\nb: *x\n---\n- c\n- |\n  d\n");
        assert!(error.is_none());
        let copied = documents[0].get("b").unwrap();
        assert_eq!((copied.line, copied.get("image").unwrap().text()), (2, Some("one")));
        let Value::List(items) = &documents[1].value else { panic!("a list") };
        assert_eq!((items[0].line, items[1].text()), (4, Some("d\n")));
    }

    #[test]
    fn what_comes_before_an_error_is_kept() {
        let (documents, error) = parse("a: 1\n---\nb: [\n");
        assert_eq!(documents.len(), 1);
        assert!(error.is_some());
    }

    #[test]
    fn bombs_and_depths_end() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(",");
            laughs += &format!("a{level}: &a{level} [{below}]\n");
        }
        parse(&laughs);
        parse(&"[".repeat(100_000));
        parse(&format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
    }
}
