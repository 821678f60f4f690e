//! Formats values as Go's `fmt` and `strconv` do; verbs are in [`super::printf`].

use super::budget;
use super::value::Value;

/// The limit on how deep values are printed: a map may contain itself.
const MAX_DEPTH: usize = 200;

/// Formats with `%v`, as an action prints a value other than nil.
pub fn display(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    // where the budget is spent, the next step fails
    if depth > MAX_DEPTH || budget::spend(budget::VALUE).is_err() {
        out.push('…');
        return;
    }
    match value {
        Value::Absent | Value::Nil => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Int64(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&float(*value, 'g', None)),
        Value::Text(text) => out.push_str(text),
        Value::Bytes(bytes) => bracketed(out, bytes.iter().map(|byte| Value::Int(i64::from(*byte))), depth),
        Value::List(items) => bracketed(out, items.iter().cloned(), depth),
        Value::Map(map) => {
            out.push_str("map[");
            for (at, (key, value)) in map.borrow().iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                out.push_str(key);
                out.push(':');
                write_value(out, value, depth + 1);
            }
            out.push(']');
        }
        Value::Object(object) => out.push_str(&object.display(depth)),
    }
}

fn bracketed(out: &mut String, items: impl Iterator<Item = Value>, depth: usize) {
    out.push('[');
    for (at, item) in items.enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        write_value(out, &item, depth + 1);
    }
    out.push(']');
}

/// Formats as `strconv.FormatFloat` with `e`, `f` or `g`; without a precision the shortest text that reads back as the same.
pub fn float(value: f64, format: char, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    match format {
        'f' => precision.map_or_else(|| format!("{value}"), |precision| fixed(value, precision)),
        'b' => binary(value),
        'x' => hexadecimal(value, precision),
        'e' => exponent(&precision.map_or_else(|| format!("{value:e}"), |precision| scientific(value, precision))),
        _ => general(value, precision.map(|precision| precision.min(MAX_DIGITS))),
    }
}

/// No float64 has more digits; `format!` would not write as many zeros as may follow.
const MAX_DIGITS: usize = 1100;

fn fixed(value: f64, precision: usize) -> String {
    let digits = precision.min(MAX_DIGITS);
    format!("{value:.digits$}{}", "0".repeat(precision - digits))
}

fn scientific(value: f64, precision: usize) -> String {
    let digits = precision.min(MAX_DIGITS);
    format!("{value:.digits$e}").replace('e', &format!("{}e", "0".repeat(precision - digits)))
}

/// From this power of ten on an exponent is written where there is no precision: 1000000.0 prints `1e+06`.
const SHORTEST_LIMIT: usize = 6;

fn general(value: f64, precision: Option<usize>) -> String {
    let scientific = precision.map_or_else(|| format!("{value:e}"), |precision| format!("{value:.*e}", precision.max(1) - 1));
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let count = digits.chars().filter(char::is_ascii_digit).count();
    let limit = match precision {
        Some(precision) if precision.max(1) > count && i64::from(power) < i64::try_from(count).unwrap_or(0) => count,
        Some(precision) => precision.max(1),
        None => SHORTEST_LIMIT,
    };
    if power < -4 || i64::from(power) >= i64::try_from(limit).unwrap_or(i64::MAX) {
        return exponent(&format!("{digits}e{power}"));
    }
    let decimals = usize::try_from(i32::try_from(count).unwrap_or(0) - 1 - power).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// Mantissa and exponent of 2 as `%b` writes them.
fn binary(value: f64) -> String {
    let (mantissa, exponent) = parts(value);
    format!("{}{mantissa}p{:+}", if value.is_sign_negative() { "-" } else { "" }, exponent - 52)
}

/// A hexadecimal float as `%x` writes it.
fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    let (mantissa, mut exponent) = parts(value);
    // the first digit is at bit 60
    let mut mantissa = mantissa << 8;
    if mantissa == 0 {
        exponent = 0;
    }
    while mantissa != 0 && mantissa & 1 << 60 == 0 {
        mantissa <<= 1;
        exponent -= 1;
    }
    if let Some(precision) = precision.filter(|precision| *precision < 15) {
        let shift = precision * 4;
        let extra = (mantissa << shift) & ((1 << 60) - 1);
        mantissa >>= 60 - shift;
        mantissa += u64::from(extra | mantissa & 1 > 1 << 59);
        mantissa <<= 60 - shift;
        if mantissa & 1 << 61 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut out = format!("{}0x{}", if value.is_sign_negative() { "-" } else { "" }, mantissa >> 60 & 1);
    let digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    let digits = match precision {
        None => digits.trim_end_matches('0').to_owned(),
        Some(precision) => format!("{digits:0<precision$}")[..precision].to_owned(),
    };
    if !digits.is_empty() {
        out.push('.');
        out.push_str(&digits);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{out}p{sign}{:02}", exponent.unsigned_abs())
}

/// The mantissa of 53 bits and the exponent of a float.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let (mantissa, exponent) = (bits & ((1 << 52) - 1), i32::try_from(bits >> 52 & 0x7ff).unwrap_or_default());
    if exponent == 0 { (mantissa, -1022) } else { (mantissa | 1 << 52, exponent - 1023) }
}

/// Rewrites an exponent as Go does: with a sign and at least two digits.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else { return text.to_owned() };
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

/// Quotes as `strconv.Quote`.
pub fn quote(text: &str) -> String {
    quote_with(text, false)
}

/// Quotes as `strconv.Quote`, or with `ascii` as `strconv.QuoteToASCII`.
pub fn quote_with(text: &str, ascii: bool) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        out.push_str(&escape(character, '"', ascii));
    }
    out + "\""
}

/// The escape sequence of a character inside quotes, or the character itself; `ascii` escapes all beyond ASCII.
pub fn escape(character: char, quote: char, ascii: bool) -> String {
    let code = u32::from(character);
    match character {
        '\\' => "\\\\".to_owned(),
        _ if character == quote => format!("\\{character}"),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        _ if code < 0x20 || code == 0x7f => format!("\\x{code:02x}"),
        _ if !ascii && printable(character) || code < 0x7f => character.to_string(),
        _ if code > 0xffff => format!("\\U{code:08x}"),
        _ => format!("\\u{code:04x}"),
    }
}

/// `strconv.IsPrint`, without its list of characters that are not assigned.
pub fn printable(character: char) -> bool {
    let hidden = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}');
    !character.is_control() && !hidden && (character == ' ' || !character.is_whitespace())
}
