//! Semantic versions and their constraints, after Masterminds/semver v3.

use std::cmp::Ordering;
use std::fmt;

use super::{Result, Row, string};
use crate::template::{Object, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("semver", "s", |_, a| Version::parse(string(a, 0)).map(Value::object)),
    ("semverCompare", "ss", |_, a| Ok(Value::Bool(satisfies(string(a, 0), string(a, 1))?))),
];

/// A semantic version, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: String,
    meta: String,
    original: String,
}

impl Version {
    /// Reads a version; minor and patch may be missing, and it may start with `v`.
    ///
    /// # Errors
    /// Fails with the message of Masterminds/semver.
    pub fn parse(original: &str) -> Result<Version> {
        let invalid = || "Invalid Semantic Version".to_owned();
        let text = original.strip_prefix('v').unwrap_or(original);
        let (text, meta) = text.split_once('+').unwrap_or((text, ""));
        let (core, pre) = text.split_once('-').unwrap_or((text, ""));
        let mut numbers = [0; 3];
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > 3 || original.ends_with(['-', '+']) {
            return Err(invalid());
        }
        for (slot, part) in numbers.iter_mut().zip(parts) {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(invalid());
            }
            *slot = part.parse().map_err(|_| invalid())?;
        }
        let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        for list in [pre, meta] {
            if !list.is_empty() && !list.split('.').all(word) {
                return Err(invalid());
            }
        }
        Ok(Version { numbers, pre: pre.to_owned(), meta: meta.to_owned(), original: original.to_owned() })
    }

    /// Compares by precedence: build metadata does not count.
    fn compare(&self, other: &Version) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => compare_pre(&self.pre, &other.pre),
        })
    }
}

impl Object for Version {
    fn type_name(&self) -> &'static str {
        "*semver.Version"
    }

    fn display(&self, _depth: usize) -> String {
        self.to_string()
    }

    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        let number = |at: usize| Ok(Value::Int64(i64::try_from(self.numbers[at]).unwrap_or(i64::MAX)));
        let other = || {
            let got = |value: &Value| format!("wrong type for value; expected *semver.Version; got {}", value.type_name());
            let argument = arguments.first().ok_or("wrong type for value; expected *semver.Version")?;
            argument.as_object::<Version>().ok_or_else(|| got(argument))
        };
        Some(match name {
            "Major" => number(0),
            "Minor" => number(1),
            "Patch" => number(2),
            "Prerelease" => Ok(Value::text(&self.pre)),
            "Metadata" => Ok(Value::text(&self.meta)),
            "Original" => Ok(Value::text(&self.original)),
            "String" => Ok(Value::text(self.to_string())),
            "Compare" => other().map(|other| Value::Int(self.compare(other) as i64)),
            "Equal" => other().map(|other| Value::Bool(self.compare(other).is_eq())),
            "GreaterThan" => other().map(|other| Value::Bool(self.compare(other).is_gt())),
            "LessThan" => other().map(|other| Value::Bool(self.compare(other).is_lt())),
            _ => return None,
        })
    }

    fn to_plain(&self) -> Value {
        Value::text(self.to_string())
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => Ordering::Less,
            (_, None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                _ => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (operator, part) in [('-', &self.pre), ('+', &self.meta)] {
            if !part.is_empty() {
                write!(f, "{operator}{part}")?;
            }
        }
        Ok(())
    }
}

/// Whether a version satisfies a constraint such as `>=1.19-0, <2 || ^3.1`.
///
/// # Errors
/// Fails where the constraint or the version is invalid.
pub fn satisfies(constraint: &str, version: &str) -> Result<bool> {
    let mut any = Vec::new();
    for alternative in constraint.split("||") {
        any.push(conditions(alternative).ok_or_else(|| format!("improper constraint: {constraint}"))?);
    }
    let version = Version::parse(version)?;
    Ok(any.iter().any(|all| all.iter().all(|condition| condition.admits(&version))))
}

/// One comparison of a constraint.
struct Condition {
    operator: String,
    version: Version,
    /// How many of major, minor and patch are specified; the rest are wildcards.
    specified: usize,
}

/// Reads the comparisons of one alternative, separated by spaces or commas; `None` if one is invalid. `1.2 - 1.4` is a range.
fn conditions(text: &str) -> Option<Vec<Condition>> {
    let ranged = text.trim();
    if let Some((low, high)) = ranged.split_once(" - ") {
        return Some(vec![condition(">=", low.trim())?, condition("<=", high.trim())?]);
    }
    let mut all = Vec::new();
    let mut rest = ranged;
    while !rest.is_empty() {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let operator = rest.find(|c: char| !"=!<>~^".contains(c)).unwrap_or(rest.len());
        let (operator, after) = rest.split_at(operator);
        let after = after.trim_start();
        let end = after.find([' ', ',', '\t']).unwrap_or(after.len());
        if end == 0 {
            return if operator.is_empty() && !all.is_empty() { Some(all) } else { None };
        }
        // `>=1.2<2` without a blank
        let end = after[..end].find(['<', '>', '=', '!', '~', '^']).unwrap_or(end);
        all.push(condition(operator, &after[..end])?);
        rest = after[end..].trim_start();
    }
    (!all.is_empty()).then_some(all)
}

fn condition(operator: &str, text: &str) -> Option<Condition> {
    let operator = match operator {
        "" | "=" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^" => operator,
        _ => return None,
    };
    let plain = text.strip_prefix('v').unwrap_or(text);
    let core_end = plain.find(['-', '+']).unwrap_or(plain.len());
    let parts: Vec<&str> = plain[..core_end].split('.').collect();
    let specified = parts.iter().position(|part| matches!(*part, "x" | "X" | "*")).unwrap_or(parts.len());
    if parts.len() > 3 {
        return None;
    }
    let whole: Vec<String> =
        parts.iter().enumerate().map(|(at, part)| if at < specified { (*part).to_owned() } else { "0".to_owned() }).collect();
    let version = Version::parse(&format!("{}{}", whole.join("."), &plain[core_end..])).ok()?;
    Some(Condition { operator: operator.to_owned(), version, specified })
}

impl Condition {
    fn admits(&self, version: &Version) -> bool {
        let order = version.compare(&self.version);
        let dirty = self.specified < 3;
        // a prerelease satisfies only a constraint that has one too
        if !version.pre.is_empty() && self.version.pre.is_empty() && self.operator != "!=" {
            return false;
        }
        let same = |count: usize| version.numbers[..count] == self.version.numbers[..count];
        match self.operator.as_str() {
            "" | "=" if dirty => self.tilde(version),
            "" | "=" => order.is_eq(),
            "!=" if dirty => {
                if !version.pre.is_empty() && self.version.pre.is_empty() {
                    return false;
                }
                !same(self.specified)
            }
            "!=" => !order.is_eq(),
            ">" if dirty && self.specified > 0 => order.is_gt() && !same(self.specified),
            ">" if dirty => false,
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            ">=" | "=>" => order.is_ge(),
            "<=" | "=<" if dirty => order.is_lt() || same(self.specified),
            "<=" | "=<" => order.is_le(),
            "~" | "~>" => self.tilde(version),
            _ => self.caret(version),
        }
    }

    fn tilde(&self, version: &Version) -> bool {
        let significant = self.specified.min(2);
        !version.compare(&self.version).is_lt()
            && (significant == 0 || version.numbers[..significant] == self.version.numbers[..significant])
    }

    fn caret(&self, version: &Version) -> bool {
        if version.compare(&self.version).is_lt() {
            return false;
        }
        let [major, minor, patch] = self.version.numbers;
        let significant = match self.specified {
            0 => 0,
            _ if major > 0 || self.specified == 1 => 1,
            _ if minor > 0 || self.specified == 2 => 2,
            _ if patch > 0 || version.numbers[2] == 0 => 3,
            _ => 3,
        };
        version.numbers[..significant] == self.version.numbers[..significant]
    }
}
