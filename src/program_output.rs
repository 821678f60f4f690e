//! Reads the output of programs line by line, and makes it fit for a terminal.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader, Read, Result};

/// Longer lines are split after this many bytes, so that memory stays bounded whatever a program writes.
pub const MAX_LINE: u64 = 64 << 10;

/// Calls `on_line` with each line of `stream`, without trailing whitespace. Invalid UTF-8 is replaced.
///
/// # Errors
/// Fails if the stream cannot be read.
pub fn each_line(stream: impl Read, mut on_line: impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        on_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

/// The text without escape sequences (ECMA-48: those of colours, titles, the cursor), other control characters but for tabs and line
/// ends, and characters that change the direction of what follows: text of others must not move what a terminal shows.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || is_direction(c));
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            c if is_harmless(c) => clean.push(c),
            _ => {}
        }
    }
    Cow::Owned(clean)
}

/// The marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an escape character.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('[') => {
            *rest = ahead;
            skip_control_sequence(rest);
        }
        // a string up to BEL or ST, if it has an end: then the text is all that is left of it
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut string = ahead.clone();
            let end = string.find(|c| matches!(c, '\u{7}' | '\u{1b}' | '\u{9c}' | '\n'));
            *rest = match end {
                Some('\u{1b}') if string.clone().next() == Some('\\') => {
                    string.next();
                    string
                }
                Some('\u{7}' | '\u{9c}') => string,
                _ => ahead,
            };
        }
        Some('\u{20}'..='\u{7e}') => *rest = ahead,
        _ => {}
    }
}

/// Skips parameters and the final character of a control sequence.
fn skip_control_sequence(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    while let Some(c) = ahead.next() {
        match c {
            '\u{20}'..='\u{3f}' => *rest = ahead.clone(),
            '\u{40}'..='\u{7e}' => {
                *rest = ahead;
                return;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_moves_nothing_on_a_terminal() {
        for (text, expected) in [
            ("plain\ttext, 中文 ü\n", "plain\ttext, 中文 ü\n"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;no end", "0;no end"),
            ("\u{1b}[2J\u{1b}[Hclear\u{1b}c", "clear"),
            ("10%\r20%\u{8}\u{0}", "10%20%"),
            ("\u{9b}31mred", "red"),
            ("a\u{202e}b\u{2066}c", "abc"),
            ("at the end\u{1b}", "at the end"),
            ("\u{1b}[31", ""),
        ] {
            assert_eq!(printable(text), expected, "{text:?}");
            assert!(matches!(printable(expected), Cow::Borrowed(_)), "{text:?}");
        }
    }

    #[test]
    fn lines_are_passed_one_by_one_and_long_ones_are_split() {
        let long = "x".repeat(MAX_LINE as usize + 5);
        let text = format!("one\r\n\n{long}\nlast");
        let mut lines = Vec::new();
        each_line(text.as_bytes(), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [3, 0, MAX_LINE as usize, 5, 4]);
        assert_eq!((lines[0].as_str(), lines[4].as_str()), ("one", "last"));
    }
}
