//! Reads number constants and quoted strings in Go's syntax.

use super::node::Number;

/// Reads a number constant; `None` if it is not one in Go.
pub fn parse(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if let Some(value) = integer(digits) {
        let value = if negative { value.wrapping_neg() } else { value };
        return Some(Number { int: Some(value), float: value as f64, is_float: false });
    }
    if !digits.contains(|character: char| character.is_ascii_digit())
        || digits.contains(|c: char| c.is_alphabetic() && c != 'e' && c != 'E')
    {
        return None;
    }
    let float: f64 = digits.replace('_', "").parse().ok()?;
    let float = if negative { -float } else { float };
    let int = (float.fract() == 0.0 && float.abs() < 9.2e18).then_some(float as i64);
    Some(Number { int, float, is_float: true })
}

/// Reads an integer without a sign, as Go's `strconv.ParseInt(text, 0, 64)`.
pub fn integer(text: &str) -> Option<i64> {
    let plain = text.replace('_', "");
    let (radix, digits) = match plain.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &plain[2..]),
        Some("0b") => (2, &plain[2..]),
        Some("0o") => (8, &plain[2..]),
        _ if plain.len() > 1 && plain.starts_with('0') => (8, &plain[1..]),
        _ => (10, plain.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok()
}

/// Reads a string in double quotes, which are part of `text`; `None` if an escape is invalid.
pub fn unquote(text: &str) -> Option<String> {
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    let mut bytes = Vec::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend(character.to_string().bytes());
            continue;
        }
        let simple = match characters.next()? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '\'' => b'\'',
            '"' => b'"',
            'x' => u8::try_from(digits(&mut characters, 2, 16, 0)?).ok()?,
            'u' => {
                bytes.extend(char::from_u32(digits(&mut characters, 4, 16, 0)?)?.to_string().bytes());
                continue;
            }
            'U' => {
                bytes.extend(char::from_u32(digits(&mut characters, 8, 16, 0)?)?.to_string().bytes());
                continue;
            }
            octal @ '0'..='7' => u8::try_from(digits(&mut characters, 2, 8, octal.to_digit(8)?)?).ok()?,
            _ => return None,
        };
        bytes.push(simple);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn digits(characters: &mut std::str::Chars<'_>, count: usize, radix: u32, start: u32) -> Option<u32> {
    (0..count).try_fold(start, |value, _| Some(value.checked_mul(radix)? + characters.next()?.to_digit(radix)?))
}
