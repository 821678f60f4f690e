//! Errors and warnings about lines of input files: drawn for people with the place underlined, or as JSON with line and column.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use anyhow::Result;
use serde::Serialize;

use crate::error::Failure;

/// A range of bytes in a text.
pub type Span = Range<usize>;

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but perhaps not as intended.
    Warning,
}

/// An error or a warning about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file, as the user named it.
    pub file: String,
    /// The place: bytes of the file's text.
    pub span: Span,
    /// What is wrong: one line, lower case.
    pub message: String,
    /// A note under the marked text, such as what was expected.
    pub label: Option<String>,
    /// The fix: what to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error: the file cannot be used.
    pub fn error(file: impl Into<String>, span: Span, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Error, file: file.into(), span, message: message.into(), label: None, help: None }
    }

    /// A warning: the file is perhaps not as intended.
    pub fn warning(file: impl Into<String>, span: Span, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(file, span, message) }
    }

    /// Adds a note under the marked text.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds the fix: what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Draws it with the lines of the file's `text` that it is about, without a newline at the end.
    pub fn render(&self, text: &str, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mark = AnnotationKind::Primary.span(within(&self.span, text)).label(self.label.as_deref());
        let mut group: Group<'_> = level.primary_title(&self.message).element(Snippet::source(text).path(&self.file).annotation(mark));
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The diagnostic for JSON, its place as lines and columns of `text`.
    pub fn located(&self, text: &str) -> Located {
        self.located_by(text, &line_starts(text))
    }

    fn located_by(&self, text: &str, lines: &[usize]) -> Located {
        let span = within(&self.span, text);
        let ((line, column), (end_line, end_column)) = (position(text, lines, span.start), position(text, lines, span.end));
        Located {
            severity: self.severity,
            file: self.file.clone(),
            line,
            column,
            end_line,
            end_column,
            message: self.message.clone(),
            label: self.label.clone(),
            help: self.help.clone(),
        }
    }
}

/// A diagnostic with lines and columns, both from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Located {
    /// Error or warning.
    pub severity: Severity,
    /// The file, as the user named it.
    pub file: String,
    /// The line it begins on.
    pub line: usize,
    /// The column it begins in.
    pub column: usize,
    /// The line it ends on.
    pub end_line: usize,
    /// The column after its end.
    pub end_column: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The diagnostics of a file with errors, and its text: the cause of the [`Failure`] that [`refuse_errors`] returns.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", render_all(.diagnostics, .text, false))]
pub struct Invalid {
    /// The file's text.
    pub text: String,
    /// The errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Returns all diagnostics as one error of kind [`crate::error::Kind::Usage`], if one of them is an error.
pub fn refuse_errors(text: &str, diagnostics: &[Diagnostic]) -> Result<()> {
    let Some(first) = diagnostics.iter().find(|diagnostic| diagnostic.is_error()) else {
        return Ok(());
    };
    let summary = Failure::usage(format!("{}: {}", first.file, count(diagnostics)));
    Err(anyhow::Error::from(Invalid { text: text.to_owned(), diagnostics: diagnostics.to_vec() }).context(summary))
}

/// Counts diagnostics: `2 errors, 1 warning`.
pub fn count(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let some = |count: usize, noun| (count > 0).then(|| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }));
    let parts: Vec<String> = [some(errors, "error"), some(diagnostics.len() - errors, "warning")].into_iter().flatten().collect();
    if parts.is_empty() { "no errors".to_owned() } else { parts.join(", ") }
}

/// How many diagnostics of one text are drawn: nobody reads more, and each costs a walk through the text.
const MAX_DRAWN: usize = 100;

/// Draws the diagnostics of one text, at most 100, errors before warnings; a blank line after each.
pub fn render_all(diagnostics: &[Diagnostic], text: &str, color: bool) -> String {
    let mut drawn: Vec<&Diagnostic> = diagnostics.iter().collect();
    if drawn.len() > MAX_DRAWN {
        drawn.sort_by_key(|diagnostic| !diagnostic.is_error());
        drawn.truncate(MAX_DRAWN);
    }
    let mut all: String = drawn.iter().map(|diagnostic| diagnostic.render(text, color) + "\n\n").collect();
    if diagnostics.len() > MAX_DRAWN {
        all += &format!("and {} more; `-o json` lists them all\n\n", diagnostics.len() - MAX_DRAWN);
    }
    all
}

/// The diagnostics of one text for JSON.
pub fn located_all(diagnostics: &[Diagnostic], text: &str) -> Vec<Located> {
    let lines = line_starts(text);
    diagnostics.iter().map(|diagnostic| diagnostic.located_by(text, &lines)).collect()
}

/// The name among `known` that `word` may be a misspelling of: at most one edit for every four letters, and one more.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(&word.to_lowercase(), &name.to_lowercase());
    let (distance, name) = known.into_iter().map(|name| (distance(name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.chars().count() / 4 && distance < name.chars().count()).then_some(name)
}

/// The span cut to the text, on character boundaries and not backwards.
fn within(span: &Span, text: &str) -> Span {
    let boundary = |offset: usize| (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let start = boundary(span.start);
    start..boundary(span.end).max(start)
}

/// Where the lines of a text begin, in bytes.
fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
}

/// Line and column of an offset, both from 1.
fn position(text: &str, lines: &[usize], offset: usize) -> (usize, usize) {
    let line = lines.partition_point(|start| *start <= offset);
    (line, text[lines[line - 1]..offset].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    const TEXT: &str = "FROM scratch\nLANUCH [\"ä\"]\n";

    #[test]
    fn of_very_many_diagnostics_a_hundred_are_drawn_and_all_are_counted() {
        let mut many = vec![Diagnostic::warning("K", 0..1, "w"); 300];
        many.push(Diagnostic::error("K", 0..1, "the error"));
        let drawn = render_all(&many, TEXT, false);
        assert_eq!(drawn.matches("warning: w").count(), 99);
        assert!(drawn.starts_with("error: the error") && drawn.ends_with("and 201 more; `-o json` lists them all\n\n"), "{drawn}");
        assert_eq!(located_all(&many, TEXT).len(), 301);
    }

    #[test]
    fn the_place_is_drawn_with_label_and_help() {
        let diagnostic =
            Diagnostic::error("Kubefile", 13..19, "unknown instruction `LANUCH`").label("not known").help("did you mean `LAUNCH`?");
        insta::assert_snapshot!(diagnostic.render(TEXT, false), @r#"
        error: unknown instruction `LANUCH`
         --> Kubefile:2:1
          |
        2 | LANUCH ["ä"]
          | ^^^^^^ not known
          |
          = help: did you mean `LAUNCH`?
        "#);
        assert!(diagnostic.render(TEXT, true).contains("\x1b["));
    }

    #[test]
    fn columns_count_characters_from_one() {
        let located = Diagnostic::warning("K", 21..25, "m").located(TEXT);
        assert_eq!((located.line, located.column, located.end_line, located.end_column), (2, 9, 2, 12));
    }

    #[test]
    fn spans_outside_the_text_and_inside_characters_are_drawn_too() {
        for span in [23..24, 500..600, 0..500] {
            let diagnostic = Diagnostic::error("K", span, "m");
            assert!(diagnostic.render(TEXT, false).starts_with("error: m"));
            assert!(diagnostic.located(TEXT).line >= 1);
        }
        assert!(Diagnostic::error("K", 0..0, "m").render("", false).starts_with("error: m"));
    }

    #[test]
    fn only_errors_refuse_a_file_and_they_are_usage_errors() {
        let warning = Diagnostic::warning("K", 0..1, "w");
        assert!(refuse_errors(TEXT, std::slice::from_ref(&warning)).is_ok());
        let error = refuse_errors(TEXT, &[warning, Diagnostic::error("K", 0..1, "e")]).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Usage);
        assert_eq!(error.to_string(), "K: 1 error, 1 warning");
        assert_eq!(error.downcast_ref::<Invalid>().unwrap().diagnostics.len(), 2);
    }

    #[test]
    fn near_names_are_suggested_far_ones_are_not() {
        for (word, expected) in
            [("LANUCH", Some("LAUNCH")), ("lunch", Some("LAUNCH")), ("WORKDIR", None), ("CPY", Some("COPY")), ("", None)]
        {
            assert_eq!(did_you_mean(word, ["LAUNCH", "COPY", "APP"]), expected, "{word}");
        }
    }
}
