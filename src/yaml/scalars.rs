//! The scalars of a YAML text with their byte ranges, so that one can be replaced.

use super::node::{Content, Node, Style};
use super::parser::Documents;
use crate::diagnostic::Span;

/// A value that is a scalar on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedScalar {
    /// Its text, without quotes.
    pub text: String,
    /// The line, counted from 1.
    pub line: usize,
    /// Its bytes in the YAML text, quotes included.
    pub span: Span,
}

/// The scalars of a YAML text, up to its first syntax error. Keys, aliases, nulls and scalars of several lines are left out.
pub fn scalars(text: &str) -> Vec<PlacedScalar> {
    let mut documents = Documents::new(text);
    let complete: Vec<Node> = documents.by_ref().filter_map(Result::ok).collect();
    let mut found = Vec::new();
    for document in complete.iter().chain(&documents.partial()) {
        collect(document, text, &mut found);
    }
    found
}

fn collect(node: &Node, text: &str, found: &mut Vec<PlacedScalar>) {
    match &node.content {
        _ if node.is_alias => {}
        Content::List(items) => items.iter().for_each(|item| collect(item, text, found)),
        Content::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, text, found)),
        Content::Scalar(scalar) if scalar.style != Style::Block && !node.is_null() && !text[node.span.clone()].contains('\n') => {
            found.push(PlacedScalar { text: scalar.text.to_string(), line: node.line, span: node.span.clone() });
        }
        Content::Scalar(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_with_their_byte_ranges() {
        let text = "# é\na: x # c\nb: [1, 'two', {c: \"d\"}]\ne: |\n  block\nf: &g h\ni: *g\n";
        let found: Vec<_> = scalars(text).into_iter().map(|scalar| (scalar.line, scalar.text, text[scalar.span].to_owned())).collect();
        let expected = [(2, "x", "x"), (3, "1", "1"), (3, "two", "'two'"), (3, "d", "\"d\""), (6, "h", "h")];
        assert_eq!(found, expected.map(|(line, scalar, part)| (line, scalar.to_owned(), part.to_owned())));
        assert_eq!(scalars("a: 1\nb: [").len(), 1);
    }
}
