//! What programs write, line by line.

use std::io::{BufRead as _, BufReader, Read, Result};

/// A longer line is told in pieces of this many bytes, so that memory stays bounded whatever a program writes.
pub const LONGEST_LINE: u64 = 64 << 10;

/// Gives each line of `stream` to `tell`, without the blanks at its end; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// Fails if the stream cannot be read.
pub fn each_line(stream: impl Read, mut tell: impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        tell(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_one_by_one_and_endless_ones_in_pieces() {
        let long = "x".repeat(LONGEST_LINE as usize + 5);
        let text = format!("one\r\n\n{long}\nlast");
        let mut lines = Vec::new();
        each_line(text.as_bytes(), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [3, 0, LONGEST_LINE as usize, 5, 4]);
        assert_eq!((lines[0].as_str(), lines[4].as_str()), ("one", "last"));
    }
}
