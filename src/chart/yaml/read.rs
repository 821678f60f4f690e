//! Text to values: YAML to JSON, as Kubernetes reads it.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::resolve::{Scalar, resolve};
use crate::template::json;
use crate::template::{Value, new_map};

/// Documents go this deep.
const DEEPEST: usize = 500;
/// No document grows beyond this many nodes by its aliases.
const MOST_NODES: usize = 2_000_000;

/// Reads the first document; nil if there is none.
///
/// # Errors
/// Fails with a message like Go's.
pub fn read(text: &str) -> Result<Value, String> {
    Reader::new(text, false)
        .document()
        .map(|value| value.unwrap_or(Value::Nil))
        .map_err(|message| format!("error converting YAML to JSON: {message}"))
}

/// Reads the first document where plain scalars are wanted as texts, as in the metadata of a chart: `1.10` is "1.1", as in Go.
///
/// # Errors
/// Fails with a message like Go's.
pub fn strings(text: &str) -> Result<Value, String> {
    Reader::new(text, true)
        .document()
        .map(|value| value.unwrap_or(Value::Nil))
        .map_err(|message| format!("error converting YAML to JSON: {message}"))
}

#[cfg(test)]
/// Reads all documents; empty ones are left out.
///
/// # Errors
/// Fails with a message like Go's.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader::new(text, false);
    let mut all = Vec::new();
    while let Some(document) = reader.document()? {
        if !document.is_nil() {
            all.push(document);
        }
    }
    Ok(all)
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    strings: bool,
}

type Parsed<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn new(text: &'a str, strings: bool) -> Self {
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, strings }
    }

    fn next(&mut self) -> Parsed<Option<Event<'a>>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, _))) => Ok(Some(event)),
            Some(Err(error)) => Err(said_by_go(error.marker().line(), &error.info().to_string())),
        }
    }

    fn document(&mut self) -> Parsed<Option<Value>> {
        while let Some(event) = self.next()? {
            if event.is_node() {
                return self.node(event, 0).map(Some);
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Parsed<Value> {
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST_NODES {
            return Err("yaml: exceeded max depth or size".to_owned());
        }
        let (anchor, before) = (event.anchor_id().filter(|id| *id != 0), self.nodes);
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                let tag = tag.as_ref().map(|tag| tag.suffix().to_string());
                self.scalar(&text, style == ScalarStyle::Plain, tag.as_deref())?
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(id) => {
                let (value, weight) = self.anchors.get(&id).cloned().ok_or("yaml: unknown anchor referenced")?;
                self.nodes += weight;
                if self.nodes > MOST_NODES {
                    return Err("yaml: document contains excessive aliasing".to_owned());
                }
                return Ok(value.deep_copy());
            }
            _ => Value::Nil,
        };
        if let Some(id) = anchor {
            self.anchors.insert(id, (value.clone(), self.nodes - before + 1));
        }
        Ok(value)
    }

    fn scalar(&self, text: &str, plain: bool, tag: Option<&str>) -> Parsed<Value> {
        match tag {
            Some("str") => return Ok(Value::text(text)),
            Some("int" | "float" | "bool" | "null") => {}
            Some("binary") => {
                use base64::Engine as _;
                let packed: String = text.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(packed)
                    .map_err(|_| "yaml: !!binary value contains invalid base64 data")?;
                return Ok(Value::text(String::from_utf8_lossy(&bytes)));
            }
            _ if !plain => return Ok(Value::text(text)),
            _ => {}
        }
        Ok(match resolve(text) {
            Scalar::Null => Value::Nil,
            Scalar::Text | Scalar::Date | Scalar::Merge => Value::text(text),
            other if self.strings => Value::text(as_text(&other)?),
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::Float(value as f64),
            Scalar::Float(value) if tag == Some("float") || value.is_finite() => Value::Float(value),
            Scalar::Float(value) => return Err(format!("json: unsupported value: {}", crate::template::float(value, 'g', None))),
        })
    }

    fn list(&mut self, depth: usize) -> Parsed<Value> {
        let mut items = Vec::new();
        while let Some(event) = self.next()? {
            match event {
                Event::SequenceEnd => break,
                event if event.is_node() => items.push(self.node(event, depth + 1)?),
                _ => {}
            }
        }
        Ok(Value::list(items))
    }

    fn map(&mut self, depth: usize) -> Parsed<Value> {
        let (mut entries, mut merged): (BTreeMap<String, Value>, Vec<Value>) = (BTreeMap::new(), Vec::new());
        while let Some(event) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            if !event.is_node() {
                continue;
            }
            let key = self.key(event, depth)?;
            let value = loop {
                match self.next()? {
                    Some(event) if event.is_node() => break self.node(event, depth + 1)?,
                    Some(_) => {}
                    None => return Err("yaml: did not find expected node content".to_owned()),
                }
            };
            match key {
                Some(key) => {
                    entries.insert(key, value);
                }
                None => merged.push(value),
            }
        }
        for value in merged {
            merge(&mut entries, &value)?;
        }
        Ok(Value::Map(new_map(entries)))
    }

    /// A key as JSON has it; `None` for `<<`.
    fn key(&mut self, event: Event<'a>, depth: usize) -> Parsed<Option<String>> {
        if let Event::Scalar(text, ScalarStyle::Plain, _, None) = &event {
            return match resolve(text) {
                Scalar::Merge => Ok(None),
                Scalar::Null => Ok(Some("null".to_owned())),
                Scalar::Text | Scalar::Date => {
                    let text = text.to_string();
                    self.node(event, depth + 1)?;
                    Ok(Some(text))
                }
                other => as_text(&other).map(Some),
            };
        }
        match self.node(event, depth + 1)? {
            Value::Text(text) => Ok(Some(text.to_string())),
            Value::Bool(value) => Ok(Some(value.to_string())),
            Value::Float(value) => json::number(value).map(Some),
            Value::Nil => Ok(Some("null".to_owned())),
            other => Err(format!("yaml: invalid map key: {}", crate::template::display(&other))),
        }
    }
}

/// A scalar where Go wants a string: floats with the precision of 32 bits, as `sigs.k8s.io/yaml` has it.
fn as_text(scalar: &Scalar) -> Parsed<String> {
    Ok(match scalar {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Float(value) => {
            let short: f64 = (*value as f32).to_string().parse().unwrap_or(*value);
            crate::template::float(short, 'g', None)
        }
        _ => String::new(),
    })
}

/// `<<`: what is there already stays.
fn merge(entries: &mut BTreeMap<String, Value>, value: &Value) -> Parsed<()> {
    match value {
        Value::Map(map) => {
            for (key, value) in map.borrow().iter() {
                entries.entry(key.clone()).or_insert_with(|| value.clone());
            }
            Ok(())
        }
        Value::List(items) => items.iter().try_for_each(|item| merge(entries, item)),
        _ => Err("yaml: map merge requires map or sequence of maps as the value".to_owned()),
    }
}

/// The parser's words for what is wrong, as Go's has them.
fn said_by_go(line: usize, words: &str) -> String {
    let known = [
        ("unclosed bracket", "did not find expected node content"),
        ("did not find expected node content", "did not find expected node content"),
        ("mapping values are not allowed", "mapping values are not allowed in this context"),
        ("tab", "found character that cannot start any token"),
        ("while parsing node", "did not find expected node content"),
        ("flow sequence", "did not find expected node content"),
        ("flow mapping", "did not find expected ',' or '}'"),
        ("block mapping", "did not find expected key"),
        ("block collection", "did not find expected '-' indicator"),
        ("simple key", "could not find expected ':'"),
        ("undefined alias", "unknown anchor referenced"),
        ("unknown anchor", "unknown anchor referenced"),
    ];
    let lower = words.to_lowercase();
    let said = known.iter().find(|(theirs, _)| lower.contains(theirs)).map_or(words, |(_, gos)| gos);
    format!("yaml: line {}: {said}", line.max(1))
}
