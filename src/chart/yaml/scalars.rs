//! Where the values of a YAML text stand.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle};

/// A value that is a text, number or the like, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// What it says.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// Its bytes in the YAML text, quotes included.
    pub span: Range<usize>,
}

/// What is open: a list, or a mapping that waits for a key or for a value.
enum Open {
    List,
    Key,
    Value,
}

/// The values of a YAML text up to where it is none; keys are not among them.
pub fn scalars(text: &str) -> Vec<Scalar> {
    let (mut found, mut open): (Vec<Scalar>, Vec<Open>) = Default::default();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            open.pop();
            continue;
        }
        if !event.is_node() {
            continue;
        }
        let is_key = matches!(open.last(), Some(Open::Key));
        match open.last_mut() {
            Some(at @ Open::Key) => *at = Open::Value,
            Some(at @ Open::Value) => *at = Open::Key,
            _ => {}
        }
        match event {
            Event::SequenceStart(..) => open.push(Open::List),
            Event::MappingStart(..) => open.push(Open::Key),
            Event::Scalar(said, style, ..) if !is_key && !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) => {
                if let (Some(start), Some(end)) = (span.start.byte_offset(), span.end.byte_offset())
                    && text.get(start..end).is_some_and(|part| !part.contains('\n'))
                {
                    found.push(Scalar { text: said.into_owned(), line: span.start.line(), span: start..end });
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_stand() {
        let text = "# é\na: x # c\nb: [1, 'two', {c: \"d\"}]\ne: |\n  block\nf: &g h\ni: *g\n";
        let found: Vec<_> = scalars(text).into_iter().map(|one| (one.line, one.text, text[one.span].to_owned())).collect();
        let expected = [(2, "x", "x"), (3, "1", "1"), (3, "two", "'two'"), (3, "d", "\"d\""), (6, "h", "h")];
        assert_eq!(found, expected.map(|(line, said, part)| (line, said.to_owned(), part.to_owned())));
        assert_eq!(scalars("a: 1\nb: [").len(), 1);
    }
}
