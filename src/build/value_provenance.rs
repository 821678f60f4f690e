//! Finds which values of a chart the name of a container image is made of (`build --check --why`).
//!
//! Each value is changed alone, and the chart is rendered again: if the name changes, it is made of the value. So it works whatever
//! templates do with values: defaults, `tpl`, `printf`, values that a parent chart sets for its subcharts.

use std::collections::BTreeMap;

use crate::chart::{Files, load_archive};
use crate::image::Reference;
use crate::yaml::scalars;

/// A value in a file of a chart, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueProvenance {
    /// The file's path in the chart.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// The limit on the values that are tried: the chart is rendered for each.
const MAX_VALUES: usize = 256;

/// The values that the name of `image` is made of. `requires_image` renders files and tells whether they require it; `None` if they do
/// not render.
pub fn values_of(image: &Reference, files: &Files, requires_image: impl Fn(Files) -> Option<bool>) -> Vec<ValueProvenance> {
    let files = unpacked(files);
    let mut candidates = candidates(image, &files);
    candidates.truncate(MAX_VALUES);
    let is_part = |candidate: &Candidate| {
        let mut changed = files.clone();
        changed.insert(candidate.value.file.clone(), candidate.changed.clone().into_bytes());
        requires_image(changed) == Some(false)
    };
    candidates.into_iter().filter(is_part).map(|candidate| candidate.value).collect()
}

/// A value that may be part of the name, and its file with the value changed.
struct Candidate {
    value: ValueProvenance,
    changed: String,
}

fn candidates(image: &Reference, files: &Files) -> Vec<Candidate> {
    let names = [image.to_string(), image.familiar()];
    let is_part = |text: &str| !text.is_empty() && (names.iter().any(|name| name.contains(text)) || text.contains("{{"));
    let mut all = Vec::new();
    for (file, bytes) in files.iter().filter(|(file, _)| holds_values(file)) {
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        let text_of = |line: usize| text.lines().nth(line - 1).unwrap_or_default();
        let is_value =
            |line: usize| !file.ends_with("Chart.yaml") || ["version:", "appVersion:"].iter().any(|key| text_of(line).starts_with(key));
        for scalar in scalars(text).into_iter().filter(|scalar| is_part(scalar.text.trim()) && is_value(scalar.line)) {
            let other = serde_json::Value::String(format!("{}0", scalar.text)).to_string();
            let changed = [&text[..scalar.span.start], &other, &text[scalar.span.end..]].concat();
            all.push(Candidate { value: ValueProvenance { file: file.clone(), line: scalar.line }, changed });
        }
    }
    all
}

/// Whether a file holds values of the chart or its subcharts; versions are in `Chart.yaml`.
fn holds_values(file: &str) -> bool {
    let mut parts = file.rsplit('/');
    let is_named = matches!(parts.next(), Some("values.yaml" | "Chart.yaml"));
    let above: Vec<&str> = parts.collect();
    is_named && above.len().is_multiple_of(2) && above.iter().skip(1).step_by(2).all(|part| *part == "charts")
}

/// The files, with packed subcharts unpacked.
fn unpacked(files: &Files) -> Files {
    let mut all = BTreeMap::new();
    for (path, bytes) in files {
        let inside = path.strip_prefix("charts/").and_then(|name| name.strip_suffix(".tgz")).filter(|name| !name.contains('/'));
        match inside.map(|name| (name, load_archive(bytes))) {
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
    fn values_are_in_the_value_files_of_charts_and_subcharts() {
        for (file, expected) in [
            ("values.yaml", true),
            ("Chart.yaml", true),
            ("charts/db/values.yaml", true),
            ("charts/db/charts/x/Chart.yaml", true),
            ("files/values.yaml", false),
            ("templates/a.yaml", false),
            ("charts/db/files/values.yaml", false),
        ] {
            assert_eq!(holds_values(file), expected, "{file}");
        }
    }
}
