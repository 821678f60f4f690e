//! Lines of ours in text files.

/// Where a line goes that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all others, so that it wins.
    First,
    /// After all others.
    Last,
}

/// The text with exactly one line for which `ours` holds, namely `line`, or with none. A line that is there keeps its place.
pub fn set(text: &str, ours: impl Fn(&str) -> bool, line: Option<&str>, place: Place) -> String {
    let mut line = line;
    let was_there = text.lines().any(&ours);
    let mut lines: Vec<&str> = Vec::new();
    if !was_there && place == Place::First {
        lines.extend(line.take());
    }
    for old in text.lines() {
        match ours(old) {
            true => lines.extend(line.take()),
            false => lines.push(old),
        }
    }
    lines.extend(line.take());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The line for which `ours` holds.
pub fn find(text: &str, ours: impl Fn(&str) -> bool) -> Option<&str> {
    text.lines().find(|line| ours(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_set_once_and_keeps_its_place() {
        let ours = |line: &str| line.starts_with("a=");
        for (name, text, line, place, expected) in [
            ("new file", "", Some("a=1"), Place::Last, "a=1\n"),
            ("last", "b\nc\n", Some("a=1"), Place::Last, "b\nc\na=1\n"),
            ("first", "b\nc\n", Some("a=1"), Place::First, "a=1\nb\nc\n"),
            ("replaced", "b\na=0\nc\na=2\n", Some("a=1"), Place::First, "b\na=1\nc\n"),
            ("removed", "b\na=0\nc", None, Place::Last, "b\nc\n"),
            ("no newline at the end", "b", Some("a=1"), Place::Last, "b\na=1\n"),
            ("nothing to remove", "b\n", None, Place::First, "b\n"),
        ] {
            assert_eq!(set(text, ours, line, place), expected, "{name}");
        }
    }
}
