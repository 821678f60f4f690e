//! What a `Config` makes of a file: the data processed, then written over it or merged into it. Pure: text to text.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::yaml::{Node, read_documents};

use super::merge::{object, overlay};
use super::model::{Config, Process, Strategy};

/// Data on its way through the steps.
enum Piece {
    /// The whole text.
    Text(String),
    /// Each top-level value of it.
    Values(Map<String, Value>),
}

impl Config {
    /// The new content of the file; `current` is what it holds, `None` if there is none.
    ///
    /// # Errors
    /// Fails where data or file are not the YAML that a step or a merge needs, naming the config and the file.
    pub fn apply(&self, current: Option<&str>) -> Result<String> {
        self.content(current).with_context(|| format!("config `{}` for {}", self.name, self.path))
    }

    fn content(&self, current: Option<&str>) -> Result<String> {
        let mut piece = Piece::Text(self.data.clone());
        for step in &self.process {
            piece = match step {
                Process::Value => Piece::Values(piece.into_values()?),
                Process::ToJson => piece.each(|value| Ok(value.to_string()))?,
                Process::ToBase64 => piece.encode(),
                Process::ToSecret => return into_secret(&piece.into_values()?, current),
            };
        }
        let text = piece.into_text()?;
        match (self.strategy, current) {
            (Strategy::Merge, Some(current)) => merge(&text, current),
            _ => Ok(text),
        }
    }
}

impl Piece {
    fn into_values(self) -> Result<Map<String, Value>> {
        match self {
            Piece::Values(values) => Ok(values),
            Piece::Text(text) => match parse_one(&text)? {
                Value::Object(values) => Ok(values),
                _ => Err(Failure::usage("the data is not a mapping").into()),
            },
        }
    }

    /// The values as JSON knows them, each made text.
    fn each(self, step: impl Fn(&Value) -> Result<String>) -> Result<Piece> {
        Ok(match self {
            Piece::Text(text) => Piece::Text(step(&parse_one(&text)?)?),
            Piece::Values(mut values) => {
                for value in values.values_mut() {
                    *value = Value::String(step(value)?);
                }
                Piece::Values(values)
            }
        })
    }

    /// Text in base64; a value that is no text goes by its JSON.
    fn encode(self) -> Piece {
        match self {
            Piece::Text(text) => Piece::Text(BASE64.encode(text)),
            Piece::Values(mut values) => {
                for value in values.values_mut() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    *value = Value::String(BASE64.encode(text));
                }
                Piece::Values(values)
            }
        }
    }

    fn into_text(self) -> Result<String> {
        match self {
            Piece::Text(text) => Ok(text),
            Piece::Values(values) => write(&Value::Object(values)),
        }
    }
}

/// Merges values into `data` of the Secret in a file.
fn into_secret(values: &Map<String, Value>, current: Option<&str>) -> Result<String> {
    let missing = || Failure::usage("`toSecret` needs a manifest of a Secret at this path of the image");
    let mut secret = parse_one(current.ok_or_else(missing)?)?;
    if secret.get("kind").and_then(Value::as_str) != Some("Secret") {
        return Err(Failure::usage("`toSecret`: the file is not a manifest of a Secret").into());
    }
    let data = object(&mut secret).entry("data").or_insert(Value::Null);
    overlay(data, &Value::Object(values.clone()));
    write(&secret)
}

/// Merges a map into every document of a file.
fn merge(over: &str, current: &str) -> Result<String> {
    let over = parse_one(over)?;
    if !over.is_object() {
        return Err(Failure::usage("the data to merge is not a mapping").into());
    }
    let mut texts = Vec::new();
    for mut document in parse(current)? {
        if !document.is_object() {
            return Err(Failure::usage("a document of the file is not a mapping").into());
        }
        overlay(&mut document, &over);
        texts.push(write(&document)?);
    }
    if texts.is_empty() {
        texts.push(write(&over)?);
    }
    Ok(texts.join("---\n"))
}

fn parse(text: &str) -> Result<Vec<Value>> {
    let nodes = read_documents(text).map_err(|error| Failure::usage(format!("not YAML: {error}")))?;
    Ok(nodes.iter().map(Node::to_value).collect())
}

fn parse_one(text: &str) -> Result<Value> {
    let mut documents = parse(text)?;
    match documents.len() {
        0 | 1 => Ok(documents.pop().unwrap_or(Value::Null)),
        several => Err(Failure::usage(format!("expected one YAML document, found {several}")).into()),
    }
}

fn write(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).context("write YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data, strategy, steps, what the file holds, what is expected.
    type Case<'a> = (&'a str, Strategy, &'a [Process], Option<&'a str>, &'a str);

    fn config(data: &str, strategy: Strategy, process: &[Process]) -> Config {
        Config {
            name: "c".to_owned(),
            path: "etc/f.yaml".to_owned(),
            data: data.to_owned(),
            strategy,
            process: process.to_vec(),
            app: None,
        }
    }

    #[test]
    fn data_is_processed_then_written_or_merged() {
        use Process::{ToBase64, ToJson, ToSecret, Value};
        let cases: &[Case<'_>] = &[
            ("a: 1\n", Strategy::Overwrite, &[], Some("b: 2\n"), "a: 1\n"),
            ("anything {{ at all", Strategy::Overwrite, &[], None, "anything {{ at all"),
            ("a: 1\n", Strategy::Merge, &[], None, "a: 1\n"),
            (
                "a: {x: 1}\n",
                Strategy::Merge,
                &[],
                Some("a: {y: [2]}\nb: 3\n---\nc: 4\n"),
                "a:\n  \"y\":\n  - 2\n  x: 1\nb: 3\n---\nc: 4\na:\n  x: 1\n",
            ),
            ("a: [1, x]\n", Strategy::Overwrite, &[ToJson], None, "{\"a\":[1,\"x\"]}"),
            ("text", Strategy::Overwrite, &[ToBase64], None, "dGV4dA=="),
            ("k: {u: r}\nl: p\n", Strategy::Overwrite, &[Value, ToJson, ToBase64], None, "k: eyJ1IjoiciJ9\nl: InAi\n"),
            (
                "p: s3\n",
                Strategy::Overwrite,
                &[Value, ToBase64, ToSecret],
                Some("kind: Secret\ndata:\n  old: eA==\n"),
                "kind: Secret\ndata:\n  old: eA==\n  p: czM=\n",
            ),
        ];
        for (data, strategy, process, current, expected) in cases {
            assert_eq!(config(data, *strategy, process).apply(*current).unwrap(), *expected, "{data:?} {process:?}");
        }
    }

    #[test]
    fn what_cannot_be_merged_names_config_and_file() {
        let cases: &[Case<'_>] = &[
            ("- 1\n", Strategy::Merge, &[], Some("a: 1\n"), "not a mapping"),
            ("a: 1\n", Strategy::Merge, &[], Some("- 1\n"), "a document of the file is not a mapping"),
            ("a: 1\n", Strategy::Merge, &[], Some("a: 1\nb: {{ .X }}\n c: [\n"), "line"),
            ("a: 1\n", Strategy::Overwrite, &[Process::ToSecret], None, "needs a manifest of a Secret"),
            ("a: 1\n", Strategy::Overwrite, &[Process::ToSecret], Some("kind: ConfigMap\n"), "is not a manifest of a Secret"),
            ("just text", Strategy::Overwrite, &[Process::Value], None, "not a mapping"),
        ];
        for (data, strategy, process, current, expected) in cases {
            let error = format!("{:#}", config(data, *strategy, process).apply(*current).unwrap_err());
            assert!(error.contains("config `c` for etc/f.yaml") && error.contains(expected), "{error}");
        }
    }
}
