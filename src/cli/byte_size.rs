//! Sizes as they are typed: `4G`, `700M`, `65536`.

/// Reads a number of bytes; K, M, G and T are powers of 1024, with or without `B` or `iB` after them.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("unknown unit `{unit}`: expected K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number and a unit, for example 4G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_nonsense_refused() {
        for (text, expected) in [
            ("4G", Some(4 << 30)),
            ("700M", Some(700 << 20)),
            ("64k", Some(64 << 10)),
            ("1GiB", Some(1 << 30)),
            ("2TB", Some(2 << 40)),
            ("65536", Some(65536)),
            ("", None),
            ("G", None),
            ("4X", None),
            ("-1G", None),
            ("99999999999T", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
