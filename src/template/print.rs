//! Formats values as Go's `fmt` and `strconv` do.

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

/// Rewrites an exponent as Go does: with a sign and at least two digits.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else { return text.to_owned() };
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

/// Quotes as `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        out.push_str(&escape(character, '"', false));
    }
    out + "\""
}

fn escape(character: char, quote: char, ascii: bool) -> String {
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
fn printable(character: char) -> bool {
    let hidden = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}');
    !character.is_control() && !hidden && (character == ' ' || !character.is_whitespace())
}

/// Formats as `fmt.Sprint`: with a space between two operands if neither is a string.
pub fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && value.as_text().is_none() && values[at - 1].as_text().is_none() {
            out.push(' ');
        }
        out.push_str(&display(value));
    }
    out
}

/// The flags between `%` and the verb.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The limit on widths and precisions, as in Go.
const MAX_WIDTH: i64 = 1_000_000;

/// The width, if the budget allows it.
fn within_budget(width: i64) -> Option<usize> {
    usize::try_from(width).ok().filter(|width| budget::spend(*width).is_ok())
}

/// Formats as `fmt.Sprintf`.
pub fn sprintf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let (mut used, mut reordered) = (0, false);
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = rest.next_if(|next| "-+# 0".contains(*next)) {
            match flag {
                '-' => (flags.minus, flags.zero) = (true, false),
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = !flags.minus,
            }
        }
        reordered |= argument_index(&mut rest, &mut used);
        match width_or_precision(&mut rest, values, &mut used) {
            Some(Ok(width)) => {
                flags.minus |= width < 0;
                flags.zero &= !flags.minus;
                flags.width = within_budget(width.abs());
            }
            Some(Err(())) => out.push_str("%!(BADWIDTH)"),
            None => {}
        }
        if rest.next_if_eq(&'.').is_some() {
            reordered |= argument_index(&mut rest, &mut used);
            match width_or_precision(&mut rest, values, &mut used) {
                Some(Ok(precision)) => flags.precision = within_budget(precision),
                Some(Err(())) => out.push_str("%!(BADPREC)"),
                None => flags.precision = Some(0),
            }
        }
        reordered |= argument_index(&mut rest, &mut used);
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.get(used) {
                None => {
                    used += 1;
                    out.push_str(&format!("%!{verb}({})", if reordered { "BADINDEX" } else { "MISSING" }));
                }
                Some(value) => {
                    used += 1;
                    out.push_str(&format_value(value, verb, flags, 0));
                }
            },
        }
    }
    if !reordered && used < values.len() {
        let extra = values[used..]
            .iter()
            .map(|value| if value.is_nil() { "<nil>".to_owned() } else { format!("{}={}", value.type_name(), display(value)) });
        out.push_str(&format!("%!(EXTRA {})", extra.collect::<Vec<_>>().join(", ")));
    }
    out
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads `[n]` before a verb or a star; returns whether it was there.
fn argument_index(rest: &mut Rest<'_>, used: &mut usize) -> bool {
    if rest.next_if_eq(&'[').is_none() {
        return false;
    }
    let mut digits = String::new();
    for character in rest.by_ref() {
        if character == ']' {
            break;
        }
        digits.push(character);
    }
    *used = digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1)).unwrap_or(usize::MAX - 1);
    true
}

/// Reads a width or precision: digits, or `*` for the next value.
fn width_or_precision(rest: &mut Rest<'_>, values: &[Value], used: &mut usize) -> Option<Result<i64, ()>> {
    if rest.next_if_eq(&'*').is_some() {
        let value = values.get(*used);
        *used += 1;
        return Some(match value {
            Some(Value::Int(number) | Value::Int64(number)) if number.abs() <= MAX_WIDTH => Ok(*number),
            _ => Err(()),
        });
    }
    let mut digits = String::new();
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    if digits.is_empty() {
        return None;
    }
    Some(digits.parse::<i64>().ok().filter(|number| *number <= MAX_WIDTH).ok_or(()))
}

fn format_value(value: &Value, verb: char, flags: Flags, depth: usize) -> String {
    let bad_verb = || {
        let inside = if value.is_nil() { "<nil>".to_owned() } else { format!("{}={}", value.type_name(), display(value)) };
        format!("%!{verb}({inside})")
    };
    if depth > MAX_DEPTH {
        return "…".to_owned();
    }
    match (verb, value) {
        ('T', _) => pad(value.type_name(), flags),
        ('v', Value::Absent | Value::Nil) => pad("<nil>", flags),
        (_, Value::Absent | Value::Nil) => bad_verb(),
        ('v', Value::Text(text)) if flags.sharp => pad(&quote(text), flags),
        ('v' | 't', Value::Bool(value)) => pad(if *value { "true" } else { "false" }, flags),
        (_, Value::Int(number) | Value::Int64(number)) => integer(*number, verb, flags).unwrap_or_else(bad_verb),
        (_, Value::Float(number)) => floating(*number, verb, flags).unwrap_or_else(bad_verb),
        (_, Value::Text(text)) => string(text, verb, flags).unwrap_or_else(bad_verb),
        ('s' | 'q' | 'x' | 'X', Value::Bytes(bytes)) => match verb {
            'x' | 'X' => hexadecimal(bytes, verb, flags),
            _ => string(&String::from_utf8_lossy(bytes), verb, flags).unwrap_or_else(bad_verb),
        },
        (_, Value::Bytes(bytes)) => format_list(bytes.iter().map(|byte| Value::Int(i64::from(*byte))), verb, flags, depth),
        (_, Value::List(items)) => format_list(items.iter().cloned(), verb, flags, depth),
        (_, Value::Map(map)) => {
            let entries = map.borrow();
            let inside = entries.iter().map(|(key, value)| {
                format!("{}:{}", format_value(&Value::text(key), verb, flags, depth + 1), format_value(value, verb, flags, depth + 1))
            });
            format!("map[{}]", inside.collect::<Vec<_>>().join(" "))
        }
        (_, Value::Object(object)) => string(&object.display(0), verb, flags).unwrap_or_else(bad_verb),
        _ => bad_verb(),
    }
}

fn format_list(items: impl Iterator<Item = Value>, verb: char, flags: Flags, depth: usize) -> String {
    format!("[{}]", items.map(|item| format_value(&item, verb, flags, depth + 1)).collect::<Vec<_>>().join(" "))
}

fn string(text: &str, verb: char, flags: Flags) -> Option<String> {
    let truncated: String = text.chars().take(flags.precision.unwrap_or(usize::MAX)).collect();
    Some(match verb {
        'v' | 's' => pad(&truncated, flags),
        'q' if flags.sharp && !truncated.contains(['`', '\n', '\r']) => pad(&format!("`{truncated}`"), flags),
        'q' => pad(&quote(&truncated), flags),
        'x' | 'X' => hexadecimal(text.as_bytes(), verb, flags),
        _ => return None,
    })
}

fn hexadecimal(bytes: &[u8], verb: char, flags: Flags) -> String {
    let bytes = &bytes[..bytes.len().min(flags.precision.unwrap_or(usize::MAX))];
    let pairs: Vec<String> = bytes.iter().map(|byte| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") }).collect();
    let prefix = if flags.sharp { format!("0{verb}") } else { String::new() };
    let joined = if flags.space {
        pairs.iter().map(|pair| format!("{prefix}{pair}")).collect::<Vec<_>>().join(" ")
    } else {
        prefix + &pairs.concat()
    };
    pad(&joined, flags)
}

fn integer(number: i64, verb: char, flags: Flags) -> Option<String> {
    let magnitude = number.unsigned_abs();
    let (digits, prefix) = match verb {
        'd' | 'v' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), if flags.sharp { "0b" } else { "" }),
        'o' => (format!("{magnitude:o}"), if flags.sharp { "0" } else { "" }),
        'O' => (format!("{magnitude:o}"), "0o"),
        'x' => (format!("{magnitude:x}"), if flags.sharp { "0x" } else { "" }),
        'X' => (format!("{magnitude:X}"), if flags.sharp { "0X" } else { "" }),
        'c' => return Some(pad(&character(number).to_string(), flags)),
        'q' => return Some(pad(&format!("'{}'", escape(character(number), '\'', flags.plus)), flags)),
        'U' => {
            let shown = if flags.sharp { format!(" '{}'", character(number)) } else { String::new() };
            return Some(pad(&format!("U+{number:04X}{shown}"), flags));
        }
        _ => return None,
    };
    let sign = sign(number < 0, flags);
    let digits = match flags.precision {
        Some(0) if number == 0 => String::new(),
        Some(precision) => pad_left(&digits, precision, '0'),
        None if flags.zero => {
            let width = flags.width.unwrap_or(0).saturating_sub(sign.len());
            pad_left(&digits, width, '0')
        }
        None => digits,
    };
    Some(pad(&format!("{sign}{prefix}{digits}"), Flags { zero: false, ..flags }))
}

fn character(number: i64) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn sign(negative: bool, flags: Flags) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn floating(number: f64, verb: char, flags: Flags) -> Option<String> {
    let text = match verb {
        'v' => float(number.abs(), 'g', flags.precision),
        'g' | 'G' => float(number.abs(), 'g', flags.precision),
        'e' | 'E' => float(number.abs(), 'e', Some(flags.precision.unwrap_or(6))),
        'f' | 'F' => float(number.abs(), 'f', Some(flags.precision.unwrap_or(6))),
        _ => return None,
    };
    let text = if verb.is_ascii_uppercase() { text.to_uppercase() } else { text };
    let sign = sign(number.is_sign_negative(), flags);
    let text = text.strip_prefix('+').unwrap_or(&text);
    if flags.zero && number.is_finite() {
        let width = flags.width.unwrap_or(0).saturating_sub(sign.len());
        return Some(format!("{sign}{}", pad_left(text, width, '0')));
    }
    Some(pad(&format!("{sign}{text}"), Flags { zero: false, ..flags }))
}

fn pad(text: &str, flags: Flags) -> String {
    let width = flags.width.unwrap_or(0);
    match (flags.minus, flags.zero) {
        (true, _) => format!("{text}{}", padding(text, width, ' ')),
        (_, true) => pad_left(text, width, '0'),
        _ => pad_left(text, width, ' '),
    }
}

/// The padding for a width in characters; the width of `format!` ends at 65535.
fn padding(text: &str, width: usize, letter: char) -> String {
    letter.to_string().repeat(width.saturating_sub(text.chars().count()))
}

fn pad_left(text: &str, width: usize, letter: char) -> String {
    padding(text, width, letter) + text
}
