//! Reads the output of programs line by line.

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

#[cfg(test)]
mod tests {
    use super::*;

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
