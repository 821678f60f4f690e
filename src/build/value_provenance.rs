//! Which values of a chart make the name of a container image: those with which, changed alone, it is another.
//!
//! So it holds for whatever templates do with values: defaults, `tpl`, `printf`, what parents say for the charts inside.

use std::collections::BTreeMap;

use crate::chart::{Files, archive};
use crate::image::Reference;
use crate::yaml::scalars;

/// A value in a file of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueProvenance {
    /// The file, by its path in the chart.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

/// No more values than this are tried: each time the chart is rendered.
const MOST: usize = 256;

/// The values that make an image. `asks` renders files and says whether they still ask for it, `None` where they do not render.
pub fn values_of(image: &Reference, files: &Files, asks: impl Fn(Files) -> Option<bool>) -> Vec<ValueProvenance> {
    let files = unpacked(files);
    let mut candidates = candidates(image, &files);
    candidates.truncate(MOST);
    let changes = candidates.into_iter().filter(|one| {
        let mut changed = files.clone();
        changed.insert(one.given.file.clone(), one.changed.clone().into_bytes());
        asks(changed) == Some(false)
    });
    changes.map(|one| one.given).collect()
}

/// A value that may be part of the name, and its file with another in its place.
struct Candidate {
    given: ValueProvenance,
    changed: String,
}

fn candidates(image: &Reference, files: &Files) -> Vec<Candidate> {
    let names = [image.to_string(), image.familiar()];
    let is_part = |text: &str| !text.is_empty() && (names.iter().any(|name| name.contains(text)) || text.contains("{{"));
    let mut all = Vec::new();
    for (file, bytes) in files.iter().filter(|(file, _)| is_read(file)) {
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        let stands = |line: usize| text.lines().nth(line - 1).unwrap_or_default();
        let is_value =
            |line: usize| !file.ends_with("Chart.yaml") || ["version:", "appVersion:"].iter().any(|key| stands(line).starts_with(key));
        for scalar in scalars(text).into_iter().filter(|scalar| is_part(scalar.text.trim()) && is_value(scalar.line)) {
            let other = serde_json::Value::String(format!("{}0", scalar.text)).to_string();
            let changed = [&text[..scalar.span.start], &other, &text[scalar.span.end..]].concat();
            all.push(Candidate { given: ValueProvenance { file: file.clone(), line: scalar.line }, changed });
        }
    }
    all
}

/// Whether values of a chart stand in a file: its own and those of charts inside; versions are in `Chart.yaml`.
fn is_read(file: &str) -> bool {
    let mut parts = file.rsplit('/');
    let is_named = matches!(parts.next(), Some("values.yaml" | "Chart.yaml"));
    let above: Vec<&str> = parts.collect();
    is_named && above.len().is_multiple_of(2) && above.iter().skip(1).step_by(2).all(|part| *part == "charts")
}

/// The files with packed charts laid open under their names.
fn unpacked(files: &Files) -> Files {
    let mut all = BTreeMap::new();
    for (path, bytes) in files {
        let inside = path.strip_prefix("charts/").and_then(|name| name.strip_suffix(".tgz")).filter(|name| !name.contains('/'));
        match inside.map(|name| (name, archive(bytes))) {
            Some((name, Ok(inner))) => all.extend(inner.into_iter().map(|(file, bytes)| (format!("charts/{name}/{file}"), bytes))),
            _ => drop(all.insert(path.clone(), bytes.clone())),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_looked_for_in_the_files_of_charts() {
        for (file, read) in [
            ("values.yaml", true),
            ("Chart.yaml", true),
            ("charts/db/values.yaml", true),
            ("charts/db/charts/x/Chart.yaml", true),
            ("files/values.yaml", false),
            ("templates/a.yaml", false),
            ("charts/db/files/values.yaml", false),
        ] {
            assert_eq!(is_read(file), read, "{file}");
        }
    }
}
