//! Single lines in text files that have other lines too.

/// Where a new line is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before all others, for files whose first match wins.
    First,
    /// After all others.
    Last,
}

/// Replaces all lines that match by `line`, or removes them if it is `None`. An existing line keeps its position.
pub fn set(text: &str, matches: impl Fn(&str) -> bool, line: Option<&str>, position: Position) -> String {
    set_all(text, matches, line.as_slice(), position)
}

/// Replaces all lines that match by `lines`, in their order, where the first of them stood. How lines end (LF or CRLF), and whether the
/// last one ends at all, stays as it is in the file: after removing what was added the file is as before, byte by byte.
pub fn set_all(text: &str, matches: impl Fn(&str) -> bool, lines: &[&str], position: Position) -> String {
    let old: Vec<(&str, &str)> = text.split_inclusive('\n').map(split_ending).collect();
    let default_ending = old.first().map_or("\n", |(_, ending)| if ending.is_empty() { "\n" } else { ending });
    let ends = old.last().is_none_or(|(_, ending)| !ending.is_empty());
    let first_match = old.iter().position(|(line, _)| matches(line));
    let at = first_match.unwrap_or(if position == Position::First { 0 } else { old.len() });
    let is_kept = |(line, _): &&(&str, &str)| !matches(line);
    let before = old[..at].iter().filter(is_kept).copied();
    let after = old[at..].iter().filter(is_kept).copied();
    let ending = first_match.map_or(default_ending, |at| if old[at].1.is_empty() { default_ending } else { old[at].1 });
    let mut new: Vec<(&str, &str)> = before.chain(lines.iter().map(|line| (*line, ending))).chain(after).collect();
    let count = new.len();
    for (number, (_, ending)) in (1..).zip(&mut new) {
        if number == count && !ends {
            *ending = "";
        } else if ending.is_empty() {
            *ending = default_ending;
        }
    }
    new.into_iter().flat_map(|(line, ending)| [line, ending]).collect()
}

/// A line and its ending: LF, CRLF, or nothing.
fn split_ending(line: &str) -> (&str, &str) {
    let content = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    (content, &line[content.len()..])
}

/// Returns the first line that matches.
pub fn find(text: &str, matches: impl Fn(&str) -> bool) -> Option<&str> {
    text.lines().find(|line| matches(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_set_once_and_keeps_its_position() {
        let matches = |line: &str| line.starts_with("a=");
        for (name, text, line, position, expected) in [
            ("new file", "", Some("a=1"), Position::Last, "a=1\n"),
            ("last", "b\nc\n", Some("a=1"), Position::Last, "b\nc\na=1\n"),
            ("first", "b\nc\n", Some("a=1"), Position::First, "a=1\nb\nc\n"),
            ("replaced", "b\na=0\nc\na=2\n", Some("a=1"), Position::First, "b\na=1\nc\n"),
            ("removed", "b\na=0\nc", None, Position::Last, "b\nc"),
            ("no newline at the end", "b", Some("a=1"), Position::Last, "b\na=1"),
            ("no newline at the end, first", "b", Some("a=1"), Position::First, "a=1\nb"),
            ("removed where no newline was at the end", "b\na=1", None, Position::Last, "b"),
            ("CRLF", "b\r\nc\r\n", Some("a=1"), Position::First, "a=1\r\nb\r\nc\r\n"),
            ("CRLF, no newline at the end", "b\r\nc", Some("a=1"), Position::Last, "b\r\nc\r\na=1"),
            ("one line with CRLF", "b\nc\r\na=0\n", Some("a=1"), Position::Last, "b\nc\r\na=1\n"),
            ("a blank line at the end", "b\n\n", Some("a=1"), Position::First, "a=1\nb\n\n"),
            ("nothing to remove", "b\n", None, Position::First, "b\n"),
        ] {
            assert_eq!(set(text, matches, line, position), expected, "{name}");
        }
    }

    #[test]
    fn a_file_is_as_before_when_what_was_added_is_removed() {
        let matches = |line: &str| line.starts_with("a=");
        for text in ["", "b\n", "b", "b\r\n", "b\r\nc", "\n", "\n\n", "b\nc\r\n", "b\r\n\n  c\t\r\n"] {
            for position in [Position::First, Position::Last] {
                let with = set_all(text, matches, &["a=1", "a=2"], position);
                assert_eq!(with.lines().filter(|line| matches(line)).count(), 2, "{text:?}");
                assert_eq!(set(&with, matches, None, position), text, "{position:?}");
            }
        }
    }
}
