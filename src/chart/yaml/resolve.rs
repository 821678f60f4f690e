//! What a plain scalar means in YAML 1.1, after `yaml.v2`'s `resolve.go`.

/// The meaning of a plain scalar.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// A date: a text, but one that has to be quoted.
    Date,
    /// `<<`
    Merge,
    Text,
}

/// What `word` means where it stands without quotes.
pub fn resolve(word: &str) -> Scalar {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        "<<" => return Scalar::Merge,
        _ => {}
    }
    if !word.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Scalar::Text;
    }
    if is_date(word) {
        return Scalar::Date;
    }
    let plain = word.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Scalar::Int(number);
    }
    if is_float(&plain)
        && let Ok(number) = plain.parse()
    {
        return Scalar::Float(number);
    }
    Scalar::Text
}

/// `strconv.ParseInt` with base 0, and yaml.v2's `-0b1`.
fn integer(plain: &str) -> Option<i128> {
    let (sign, digits) = match plain.as_bytes().first()? {
        b'-' => (-1, &plain[1..]),
        b'+' => (1, &plain[1..]),
        _ => (1, plain),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()? * sign;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn is_float(word: &str) -> bool {
    let rest = word.strip_prefix(['-', '+']).unwrap_or(word);
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (rest, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let right = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let number = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && right(fraction),
        None => digits(mantissa),
    };
    number && exponent.is_none_or(digits)
}

/// `2001-12-14`, or that with a time: what yaml.v2 takes for a timestamp.
fn is_date(word: &str) -> bool {
    let digits =
        |part: &str, lens: std::ops::RangeInclusive<usize>| lens.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let day_end = word.find(['T', 't', ' ']).unwrap_or(word.len());
    let parts: Vec<&str> = word[..day_end].split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let number = |part: &str| part.parse::<u8>().unwrap_or(0);
    let is_day = digits(year, 4..=4)
        && digits(month, 1..=2)
        && digits(day, 1..=2)
        && (1..=12).contains(&number(month))
        && (1..=31).contains(&number(day));
    if !is_day {
        return false;
    }
    if day_end == word.len() {
        return digits(month, 2..=2) || digits(day, 1..=2);
    }
    let time = word[day_end + 1..].trim_start();
    let clock: Vec<&str> = time.split(':').collect();
    clock.len() >= 3 && digits(clock[0], 1..=2) && digits(clock[1], 2..=2) && clock[2].len() >= 2 && digits(&clock[2][..2], 2..=2)
}

/// Whether yaml.v2 quotes a text because YAML 1.1 would read a base 60 float (`1:20`).
pub fn is_base60(word: &str) -> bool {
    let rest = word.strip_prefix(['-', '+']).unwrap_or(word);
    if !rest.starts_with(|first: char| first.is_ascii_digit()) || !rest.contains(':') {
        return false;
    }
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
        && fraction.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
        && parts.all(|part| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']))
}
