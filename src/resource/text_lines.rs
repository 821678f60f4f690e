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
    let mut line = line;
    let was_there = text.lines().any(&matches);
    let mut lines: Vec<&str> = Vec::new();
    if !was_there && position == Position::First {
        lines.extend(line.take());
    }
    for old in text.lines() {
        match matches(old) {
            true => lines.extend(line.take()),
            false => lines.push(old),
        }
    }
    lines.extend(line.take());
    lines.iter().map(|line| format!("{line}\n")).collect()
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
            ("removed", "b\na=0\nc", None, Position::Last, "b\nc\n"),
            ("no newline at the end", "b", Some("a=1"), Position::Last, "b\na=1\n"),
            ("nothing to remove", "b\n", None, Position::First, "b\n"),
        ] {
            assert_eq!(set(text, matches, line, position), expected, "{name}");
        }
    }
}
