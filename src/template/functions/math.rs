//! Numbers, after sprig's `numeric.go` and `spf13/cast`.

use super::{Result, Row, decimal, int, strval, text};
use crate::template::{Engine, Value, parse_float, parse_int};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("int", "a", |_, a| Ok(Value::Int(to_int(&a[0])))),
    ("int64", "a", |_, a| Ok(Value::Int64(to_int(&a[0])))),
    ("float64", "a", |_, a| Ok(Value::Float(to_float(&a[0])))),
    ("atoi", "s", |_, a| Ok(Value::Int(super::string(a, 0).parse().unwrap_or(0)))),
    ("toDecimal", "a", |_, a| Ok(Value::Int64(i64::from_str_radix(&strval(&a[0]), 8).unwrap_or(0)))),
    ("add1", "a", |_, a| Ok(Value::Int64(to_int(&a[0]).wrapping_add(1)))),
    ("add", "a*", |_, a| Ok(Value::Int64(a.iter().map(to_int).fold(0, i64::wrapping_add)))),
    ("sub", "aa", |_, a| Ok(Value::Int64(to_int(&a[0]).wrapping_sub(to_int(&a[1]))))),
    ("div", "aa", |_, a| divided(a).map(|(a, b)| Value::Int64(a.wrapping_div(b)))),
    ("mod", "aa", |_, a| divided(a).map(|(a, b)| Value::Int64(a.wrapping_rem(b)))),
    ("mul", "aa*", |_, a| Ok(Value::Int64(a.iter().map(to_int).fold(1, i64::wrapping_mul)))),
    ("max", "aa*", largest),
    ("biggest", "aa*", largest),
    ("min", "aa*", |_, a| Ok(Value::Int64(a.iter().map(to_int).min().unwrap_or(0)))),
    ("add1f", "a", |_, a| decimal::fold(&[a[0].clone(), Value::Int(1)], |a, b| Ok(a.add(b)))),
    ("addf", "a*", |_, a| decimal::fold(&[&[Value::Int(0)], a].concat(), |a, b| Ok(a.add(b)))),
    ("subf", "aa*", |_, a| decimal::fold(a, |a, b| Ok(a.subtract(b)))),
    ("mulf", "aa*", |_, a| decimal::fold(a, |a, b| Ok(a.multiply(b)))),
    ("divf", "aa*", |_, a| decimal::fold(a, |a, b| a.divide(b))),
    ("maxf", "aa*", |_, a| Ok(Value::Float(a.iter().map(to_float).fold(f64::NEG_INFINITY, f64::max)))),
    ("minf", "aa*", |_, a| Ok(Value::Float(a.iter().map(to_float).fold(f64::INFINITY, f64::min)))),
    ("ceil", "a", |_, a| Ok(Value::Float(to_float(&a[0]).ceil()))),
    ("floor", "a", |_, a| Ok(Value::Float(to_float(&a[0]).floor()))),
    ("round", "aif*", round),
    ("until", "i", |_, a| counted(0, int(a, 0), if int(a, 0) < 0 { -1 } else { 1 })),
    ("untilStep", "iii", |_, a| counted(int(a, 0), int(a, 1), int(a, 2))),
    ("seq", "i*", seq),
];

/// Converts as `cast.ToInt64`: what is not a number is 0; a float loses its fraction.
pub fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(value) | Value::Int64(value) => *value,
        // what does not fit is the smallest int64, as Go converts it on amd64
        Value::Float(value) if value.abs() < 9_223_372_036_854_775_807.0 => *value as i64,
        Value::Float(_) => i64::MIN,
        Value::Bool(value) => i64::from(*value),
        Value::Text(text) => parse_int(without_zero_decimals(text)).unwrap_or(0),
        _ => 0,
    }
}

/// A number without the `.00` that says nothing: `cast.trimZeroDecimal`.
fn without_zero_decimals(text: &str) -> &str {
    let trimmed = text.trim_end_matches('0');
    if trimmed.len() < text.len() { trimmed.strip_suffix('.').unwrap_or(text) } else { text }
}

/// Converts as `cast.ToFloat64`: what is not a number is 0.
pub fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(value) | Value::Int64(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Text(text) => parse_float(text).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn divided(a: &[Value]) -> Result<(i64, i64)> {
    match to_int(&a[1]) {
        0 => Err("runtime error: integer divide by zero".to_owned()),
        by => Ok((to_int(&a[0]), by)),
    }
}

fn largest(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::Int64(a.iter().map(to_int).max().unwrap_or(0)))
}

fn round(_: &Engine, a: &[Value]) -> Result {
    let value = to_float(&a[0]);
    let half = a.get(2).map_or(0.5, to_float);
    let scale = 10f64.powi(i32::try_from(int(a, 1)).unwrap_or(0));
    let digits = scale * value;
    // as sprig: the fraction of a negative number is below every bound, so that it is rounded down
    let rounded = if digits.fract() >= half { digits.ceil() } else { digits.floor() };
    Ok(Value::Float(rounded / scale))
}

/// The limit on the length of a list of numbers.
const MAX_LENGTH: usize = 1_000_000;

fn numbers(start: i64, stop: i64, step: i64) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    let mut at = start;
    while step > 0 && at < stop || step < 0 && at > stop {
        all.push(at);
        if all.len() > MAX_LENGTH {
            return Err(format!("the list would be longer than the limit of {MAX_LENGTH} numbers"));
        }
        at = at.saturating_add(step);
    }
    Ok(all)
}

fn counted(start: i64, stop: i64, step: i64) -> Result {
    Ok(Value::slice("[]int", numbers(start, stop, step)?.into_iter().map(Value::Int)))
}

/// As sprig's `seq`, which behaves as bash's: start, step and end, where it counts down only for a negative step.
fn seq(_: &Engine, a: &[Value]) -> Result {
    let toward = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match a {
        [end] => (1, toward(1, to_int(end)), to_int(end)),
        [start, end] => (to_int(start), toward(to_int(start), to_int(end)), to_int(end)),
        [start, step, end] if to_int(end) >= to_int(start) || to_int(step) <= 0 => (to_int(start), to_int(step), to_int(end)),
        _ => return text(""),
    };
    let stop = end.saturating_add(toward(start, end));
    let counts_away = (stop > start) != (step > 0);
    let all = if counts_away { Vec::new() } else { numbers(start, stop, step)? };
    text(all.iter().map(i64::to_string).collect::<Vec<_>>().join(" "))
}
