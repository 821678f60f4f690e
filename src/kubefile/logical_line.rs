//! Logical lines: directives read, comments dropped, continuation lines joined, with a way back to the text.

use crate::diagnostic::{Diagnostic, Span};

use super::Escape;

/// One instruction's text, continuation lines joined, that knows where each of its bytes stands in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct LogicalLine {
    /// The text.
    pub text: String,
    /// Where runs of the text begin: (offset in `text`, offset in the file), ascending.
    runs: Vec<(usize, usize)>,
    /// Its number in the file, from 1.
    pub number: usize,
}

impl LogicalLine {
    fn push(&mut self, part: &str, file_offset: usize) {
        self.runs.push((self.text.len(), file_offset));
        self.text.push_str(part);
    }

    /// Where the byte at `offset` of the line's text stands in the file.
    fn place(&self, offset: usize) -> usize {
        let run = self.runs.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        self.runs.get(run).map_or(0, |(start, file)| file + (offset - start))
    }

    /// The place in the file of a range of the line's text; not empty, so that it can be seen.
    pub fn span(&self, range: Span) -> Span {
        let start = self.place(range.start);
        let end = if range.end > range.start { self.place(range.end - 1) + 1 } else { start };
        start..end.max(start)
    }

    /// The place of the whole line, without blanks around it.
    pub fn whole(&self) -> Span {
        let start = self.text.len() - self.text.trim_start().len();
        self.span(start..self.text.trim_end().len().max(start))
    }
}

/// Reads a file's lines one after the other.
pub(super) struct Lines<'a> {
    file: &'a str,
    text: &'a str,
    next: usize,
    number: usize,
    /// The escape character in force.
    pub escape: Escape,
}

impl<'a> Lines<'a> {
    /// The lines of `text`, after its BOM and directives.
    pub fn new(file: &'a str, text: &'a str, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let mut lines = Lines { file, text, next: bom, number: 0, escape: Escape::default() };
        lines.directives(diagnostics);
        lines
    }

    /// One physical line without its end (`\n` or `\r\n`), and where it begins.
    pub fn physical(&mut self) -> Option<(usize, &'a str)> {
        let start = self.next;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        self.next += length;
        self.number += 1;
        let line = rest[..length].trim_end_matches('\n');
        Some((start, line.strip_suffix('\r').unwrap_or(line)))
    }

    /// Where the next physical line begins.
    pub fn offset(&self) -> usize {
        self.next
    }

    /// The next logical line that says something.
    pub fn logical(&mut self, diagnostics: &mut Vec<Diagnostic>) -> Option<LogicalLine> {
        loop {
            let (start, line) = self.physical()?;
            if !is_comment(line) && !line.trim().is_empty() {
                return Some(self.join(start, line, diagnostics));
            }
        }
    }

    /// Joins a line with its continuation lines. Comments between are dropped; empty lines too, with a warning, as docker does.
    fn join(&mut self, start: usize, line: &str, diagnostics: &mut Vec<Diagnostic>) -> LogicalLine {
        let mut joined = LogicalLine { number: self.number, ..LogicalLine::default() };
        let (mut start, mut line) = (start, line);
        loop {
            let continued = continued(line, self.escape);
            joined.push(continued.unwrap_or(line), start);
            if continued.is_none() {
                return joined;
            }
            match self.continuation(diagnostics) {
                Some(next) => (start, line) = next,
                None => return joined,
            }
        }
    }

    fn continuation(&mut self, diagnostics: &mut Vec<Diagnostic>) -> Option<(usize, &'a str)> {
        let mut warned = false;
        loop {
            let (start, line) = self.physical()?;
            if line.trim().is_empty() {
                if !std::mem::replace(&mut warned, true) {
                    let warning = Diagnostic::warning(self.file, start..start, "empty line inside a continued instruction");
                    diagnostics.push(warning.help("remove the line, or the escape character at the end of the line before"));
                }
            } else if !is_comment(line) {
                return Some((start, line));
            }
        }
    }

    /// `# escape=`, `# syntax=`, `# platform=`, `# check=`: only before anything else, each once.
    fn directives(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let (next, number) = (self.next, self.number);
            let Some((start, key, value)) =
                self.physical().and_then(|(start, line)| directive(line).map(|(key, value)| (start, key, value)))
            else {
                (self.next, self.number) = (next, number);
                return;
            };
            let span = start..self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
            if seen.contains(&key) {
                diagnostics.push(Diagnostic::error(self.file, span, format!("directive `{key}` is given twice")));
            } else if key == "escape" {
                self.set_escape(value, span, diagnostics);
            }
            seen.push(key);
        }
    }

    fn set_escape(&mut self, value: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) {
        match value {
            "\\" => self.escape = Escape::Backslash,
            "`" => self.escape = Escape::Backtick,
            other => diagnostics.push(
                Diagnostic::error(self.file, span, format!("`{other}` is not a valid escape character"))
                    .help("write `# escape=\\` or `# escape=``"),
            ),
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The known directive that a line holds. An unknown one is a comment.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    ["escape", "syntax", "platform", "check"].contains(&key.as_str()).then(|| (key, value.trim()))
}

/// What a line says before the escape character that ends it, if it ends in one that is not itself escaped.
fn continued(line: &str, escape: Escape) -> Option<&str> {
    let before = line.trim_end().strip_suffix(escape.char())?;
    (!before.ends_with(escape.char())).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> (Vec<(String, usize)>, usize) {
        let mut diagnostics = Vec::new();
        let mut lines = Lines::new("K", text, &mut diagnostics);
        let mut found = Vec::new();
        while let Some(line) = lines.logical(&mut diagnostics) {
            found.push((line.text.clone(), line.number));
        }
        (found, diagnostics.len())
    }

    type Case = (&'static str, &'static str, &'static [(&'static str, usize)], usize);

    #[test]
    fn lines_are_joined_as_docker_joins_them() {
        let cases: &[Case] = &[
            ("plain", "A b\nC d\n", &[("A b", 1), ("C d", 2)], 0),
            ("BOM, CRLF, no newline at the end", "\u{feff}A b\r\nC d", &[("A b", 1), ("C d", 2)], 0),
            ("comments and empty lines", "# x\n\n  # y\nA\n", &[("A", 4)], 0),
            ("continuation", "A \\\n  b\nC\n", &[("A   b", 1), ("C", 3)], 0),
            ("blanks after the escape", "A \\ \t\nb\n", &[("A b", 1)], 0),
            ("comment between", "A \\\n# no\n b\n", &[("A  b", 1)], 0),
            ("empty line between", "A \\\n\n\n b\n", &[("A  b", 1)], 1),
            ("any blank after the escape", "A \\\u{2000}\nb\n", &[("A b", 1)], 0),
            ("escaped escape", "A \\\\\nB\n", &[("A \\\\", 1), ("B", 2)], 0),
            ("other escape", "# escape=`\nA `\nb\\\nC\n", &[("A b\\", 2), ("C", 4)], 0),
            ("continued to the end", "A \\\n", &[("A ", 1)], 0),
            ("directive twice", "# escape=`\n# escape=`\nA\n", &[("A", 3)], 1),
            ("bad escape", "# escape=x\nA\n", &[("A", 2)], 1),
            ("directive after a comment is a comment", "# hello\n# escape=`\nA \\\nb\n", &[("A b", 3)], 0),
        ];
        for (name, text, expected, diagnostics) in cases {
            let expected: Vec<(String, usize)> = expected.iter().map(|(line, number)| ((*line).to_owned(), *number)).collect();
            assert_eq!(logical(text), (expected, *diagnostics), "{name}");
        }
    }

    #[test]
    fn spans_lead_back_over_continuations() {
        let text = "# x\nCOPY a \\\n# y\n  b c\n";
        let line = Lines::new("K", text, &mut Vec::new()).logical(&mut Vec::new()).unwrap();
        let at = line.text.find("b c").unwrap();
        assert_eq!(&text[line.span(at..at + 3)], "b c");
        assert_eq!(&text[line.whole()], "COPY a \\\n# y\n  b c");
    }
}
