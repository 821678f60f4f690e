//! The types of plain scalars in YAML 1.1, as Kubernetes and helm read them: after `resolve.go` of Go's `yaml.v2`.

/// The type of a plain scalar, and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resolved {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// An integer between `i64::MIN` and `u64::MAX`, also in base 2, 8 (`0644`, `0o644`) or 16.
    Int(i128),
    /// A number with a fraction or exponent, or one that is too large for an integer; `.inf` and `.nan` too.
    Float(f64),
    /// A date: read as text, and quoted when it is written as text.
    Date,
    /// `<<`, the merge key.
    Merge,
    /// Anything else.
    Text,
}

/// The type of `word` if it is written without quotes.
pub fn resolve(word: &str) -> Resolved {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Resolved::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Resolved::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        "<<" => return Resolved::Merge,
        _ => {}
    }
    if !word.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Resolved::Text;
    }
    if is_date(word) {
        return Resolved::Date;
    }
    let plain = word.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Resolved::Int(number);
    }
    if is_float(&plain)
        && let Ok(number) = plain.parse()
    {
        return Resolved::Float(number);
    }
    Resolved::Text
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

/// Whether YAML 1.1 would read a base 60 number (`1:20`); yaml.v2 reads text, and writes such text in quotes.
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
