//! Reads number constants and quoted strings in Go's syntax: `strconv`, and the number nodes of `text/template/parse`.

use super::node::Number;

/// Reads a number constant.
///
/// # Errors
/// Fails with Go's message where it is not one, or has no type that can hold it.
pub fn parse(text: &str) -> Result<Number, String> {
    let illegal = || format!("illegal number syntax: {text:?}");
    if let Some(at) = text.char_indices().skip(1).find(|(at, c)| is_pair_sign(text, *at, *c)).map(|(at, _)| at) {
        let imaginary = text.strip_suffix('i').ok_or_else(illegal)?;
        return match (parse_float(&text[..at]), parse_float(&imaginary[at..])) {
            (Some(real), Some(imaginary)) => Ok(complex(real, imaginary)),
            _ => Err("expected complex number".to_owned()),
        };
    }
    if let Some(imaginary) = text.strip_suffix('i').and_then(parse_float) {
        return Ok(complex(0.0, imaginary));
    }
    if let Some(int) = parse_int(text) {
        let is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
        let looks_like_float = if is_hexadecimal { text.contains(['p', 'P']) } else { text.contains(['e', 'E', 'p', 'P']) };
        return Ok(Number { int: Some(int), float: Some(int as f64), is_float: looks_like_float, complex: None });
    }
    if parse_uint(text).is_some() {
        let float = parse_uint(text).map(|value| value as f64);
        return Ok(Number { int: None, float, is_float: false, complex: None });
    }
    let float = parse_float(text).ok_or_else(illegal)?;
    if !text.contains(['.', 'e', 'E', 'p', 'P']) {
        return Err(format!("integer overflow: {text:?}"));
    }
    Ok(Number { int: whole(float), float: Some(float), is_float: true, complex: None })
}

/// Whether a sign stands between the real and the imaginary part, and not in an exponent.
fn is_pair_sign(text: &str, at: usize, sign: char) -> bool {
    let is_hexadecimal = text.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
    matches!(sign, '+' | '-') && !text[..at].ends_with(if is_hexadecimal { ['p', 'P'] } else { ['e', 'E'] })
}

fn complex(real: f64, imaginary: f64) -> Number {
    let float = (imaginary == 0.0).then_some(real);
    Number { int: float.and_then(whole), float, is_float: false, complex: Some((real, imaginary)) }
}

/// The integer that a float is; `None` where it has a fraction or does not fit.
fn whole(float: f64) -> Option<i64> {
    (float.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float)).then_some(float as i64)
}

/// Reads an integer as Go's `strconv.ParseInt(text, 0, 64)`: with a sign, a prefix of its base and underscores between digits.
pub fn parse_int(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(digits) => parse_uint(digits).and_then(|value| 0_i64.checked_sub_unsigned(value)),
        None => parse_uint(text.strip_prefix('+').unwrap_or(text)).and_then(|value| i64::try_from(value).ok()),
    }
}

/// Reads an integer without a sign as Go's `strconv.ParseUint(text, 0, 64)`.
fn parse_uint(text: &str) -> Option<u64> {
    if text.contains('_') && !underscores_are_valid(text) {
        return None;
    }
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
    u64::from_str_radix(digits, radix).ok()
}

/// Whether underscores stand between digits only: Go's `underscoreOK`.
fn underscores_are_valid(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let has_prefix = ["0b", "0o", "0x"].iter().any(|prefix| text.starts_with(prefix));
    let is_digit = |c: char| c.is_ascii_digit() || text.starts_with("0x") && c.is_ascii_hexdigit();
    let mut after_digit = has_prefix;
    let mut after_underscore = false;
    for c in text.chars().skip(if has_prefix { 2 } else { 0 }) {
        match c {
            _ if is_digit(c) => (after_digit, after_underscore) = (true, false),
            '_' if !after_digit => return false,
            '_' => (after_digit, after_underscore) = (false, true),
            _ if after_underscore => return false,
            _ => after_digit = false,
        }
    }
    !after_underscore
}

/// Reads a float as Go's `strconv.ParseFloat(text, 64)`: decimal, hexadecimal (`0x1p-2`), `inf` and `nan`; `None` also where it is too large.
pub fn parse_float(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" if digits.len() == text.len() => f64::NAN,
        _ if digits.contains('_') && !underscores_are_valid(digits) => return None,
        lower => {
            let plain = lower.replace('_', "");
            let value = match plain.strip_prefix("0x") {
                Some(hexadecimal) => parse_hexadecimal(hexadecimal)?,
                None if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => plain.parse().ok()?,
                None => return None,
            };
            if f64::is_infinite(value) {
                return None;
            }
            value
        }
    };
    Some(if negative { -value } else { value })
}

/// Reads a hexadecimal float after its `0x`, in lower case; the exponent of 2 must be there.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if exponent_digits.is_empty() || !exponent_digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut exponent: i32 = exponent.parse().unwrap_or(if exponent.starts_with('-') { -100_000 } else { 100_000 });
    exponent = exponent.clamp(-100_000, 100_000);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut bits = 0_u64;
    for (at, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let is_fraction = at >= whole.len();
        if bits >> 59 == 0 {
            bits = bits << 4 | digit;
            exponent -= if is_fraction { 4 } else { 0 };
        } else {
            // the digits that do not fit only decide how it is rounded
            bits |= u64::from(digit != 0);
            exponent += if is_fraction { 0 } else { 4 };
        }
    }
    let mut value = bits as f64;
    while exponent != 0 && value != 0.0 && value.is_finite() {
        let step = exponent.clamp(-1000, 1000);
        value *= 2f64.powi(step);
        exponent -= step;
    }
    Some(value)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_go() {
        for (text, expected) in [
            ("0x1p60", "1152921504606846976"),
            ("0x1p-2", "0.25"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("0X_1F", "31"),
            ("1_000", "1000"),
            ("0b101", "5"),
            ("0o17", "15"),
            ("017", "15"),
            ("0x1.8p1", "3"),
            ("1e3", "1000"),
            ("1_0.5", "10.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1i", "(0+1i)"),
            ("1+2i", "(1+2i)"),
            ("-1e2-0x1p1i", "(-100-2i)"),
            ("9223372036854775808", "overflows"),
            ("18446744073709551616", "integer overflow: \"18446744073709551616\""),
            ("1e1000", "illegal number syntax: \"1e1000\""),
            ("08", "integer overflow: \"08\""),
            ("1__0", "illegal number syntax: \"1__0\""),
            ("1_", "illegal number syntax: \"1_\""),
            ("0x1.8", "illegal number syntax: \"0x1.8\""),
            ("0b2", "illegal number syntax: \"0b2\""),
        ] {
            let shown = match parse(text) {
                Err(message) => message,
                Ok(Number { complex: Some((real, imaginary)), .. }) => format!("({real}{imaginary:+}i)"),
                Ok(Number { int: Some(int), .. }) => int.to_string(),
                Ok(Number { float: Some(float), is_float: true, .. }) => float.to_string(),
                Ok(_) => "overflows".to_owned(),
            };
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn floats_are_those_of_strconv() {
        for (text, expected) in [
            ("0x1p3", Some(8.0)),
            ("-0X.8P+4", Some(-8.0)),
            ("0x1.fffffffffffff8p1023", None),
            ("0x1p-1074", Some(5e-324)),
            ("Infinity", Some(f64::INFINITY)),
            ("+inf", Some(f64::INFINITY)),
            ("infin", None),
            ("1e400", None),
            ("1_000.5", Some(1000.5)),
            ("1._5", None),
            ("", None),
            ("e5", None),
        ] {
            assert_eq!(parse_float(text), expected, "{text}");
        }
    }
}
