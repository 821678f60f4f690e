//! Secrets: written in the file, or where else they come from.

use secrecy::SecretString;

use super::document::SecretSourceDocument;
use super::finding::Findings;
use super::model::SecretSource;
use crate::diagnostic::Span;

/// A text that is not empty: Sealer's files leave fields empty to say nothing.
pub fn set(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.trim().is_empty())
}

/// A secret, or where it comes from.
type Secret = (Option<SecretString>, Option<SecretSource>);

/// A secret that is written in the file, or where else it comes from; `None` where nothing is said.
pub fn read(
    field: &str,
    written: &Option<String>,
    from: &Option<SecretSourceDocument>,
    place: &dyn Fn(&str) -> Span,
    findings: &mut Findings,
) -> Option<Secret> {
    let from_field = format!("{field}From");
    let source = from.as_ref().and_then(|from| read_source(from, &place(&from_field), findings));
    let written = set(written);
    if written.is_some() {
        let finding = findings.warning(&place(field), format!("`{field}` is in plain text: everybody who can read the file knows it"));
        finding.help(format!("say where it comes from instead: `{field}From: prompt`, `{{env: NAME}}` or `{{file: PATH}}`"));
    }
    match (written, source) {
        (Some(_), Some(_)) => {
            findings.error(&place(&from_field), format!("`{field}` and `{from_field}` exclude each other"));
            None
        }
        (Some(written), None) => Some((Some(SecretString::from(written)), None)),
        (None, Some(source)) => Some((None, Some(source))),
        (None, None) => None,
    }
}

fn read_source(document: &SecretSourceDocument, span: &Span, findings: &mut Findings) -> Option<SecretSource> {
    match document {
        SecretSourceDocument::Word(word) if word == "prompt" => return Some(SecretSource::Prompt),
        SecretSourceDocument::Place(place) => match (set(&place.env), set(&place.file), place.prompt) {
            (Some(name), None, None) => return Some(SecretSource::Env(name)),
            (None, Some(path), None) => return Some(SecretSource::File(path)),
            (None, None, Some(true)) => return Some(SecretSource::Prompt),
            _ => {}
        },
        SecretSourceDocument::Word(_) => {}
    }
    findings.error(span, "a secret comes from one of `prompt`, `{env: NAME}`, `{file: PATH}`");
    None
}
