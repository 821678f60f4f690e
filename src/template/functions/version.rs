//! Semantic versions, after Masterminds/semver v3.3. Constraints are in [`super::version_constraint`].

use std::cmp::Ordering;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::{Result, Row, string};
use crate::template::{Object, Value, text_argument};

pub use super::version_constraint::{satisfies, satisfies_by_group};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("semver", "s", |_, a| Version::parse(string(a, 0)).map(Value::object)),
    ("semverCompare", "ss", |_, a| Ok(Value::Bool(satisfies(string(a, 0), string(a, 1))?))),
];

static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    let word = r"[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*";
    Regex::new(&format!(r"^v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({word}))?(?:\+({word}))?$"))
        .expect("the pattern is constant and valid")
});

/// A semantic version, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Major, minor and patch.
    pub numbers: [u64; 3],
    /// What follows `-`.
    pub pre: String,
    meta: String,
    original: String,
    /// Whether Go has it as a value, not as a pointer: such a one has fewer methods.
    is_value: bool,
}

impl Version {
    /// Reads a version; minor and patch may be missing, and it may start with `v`.
    ///
    /// # Errors
    /// Fails with the message of Masterminds/semver.
    pub fn parse(original: &str) -> Result<Version> {
        let parts = VERSION.captures(original).ok_or_else(|| "Invalid Semantic Version".to_owned())?;
        let part = |number: usize| parts.get(number).map_or("", |part| part.as_str());
        let mut numbers = [0; 3];
        for (at, number) in numbers.iter_mut().enumerate() {
            let digits = part(at + 1);
            if !digits.is_empty() {
                let out_of_range = || format!("Error parsing version segment: strconv.ParseUint: parsing {digits:?}: value out of range");
                *number = digits.parse().map_err(|_| out_of_range())?;
            }
        }
        check_prerelease(part(4))?;
        Ok(Version { numbers, pre: part(4).to_owned(), meta: part(5).to_owned(), original: original.to_owned(), is_value: false })
    }

    /// Compares by precedence: build metadata does not count.
    pub fn compare(&self, other: &Version) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => compare_pre(&self.pre, &other.pre),
        })
    }

    /// The version with other parts, as the methods that make one return it.
    fn with(&self, numbers: [u64; 3], pre: &str, meta: &str) -> Value {
        let mut next = Version { numbers, pre: pre.to_owned(), meta: meta.to_owned(), original: String::new(), is_value: true };
        let prefix = if self.original.starts_with('v') { "v" } else { "" };
        next.original = format!("{prefix}{next}");
        Value::object(next)
    }

    /// A method that only a pointer has.
    fn pointer_member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        let other = || {
            let got = |value: &Value| format!("wrong type for value; expected *semver.Version; got {}", value.type_name());
            let argument = arguments.first().ok_or("wrong type for value; expected *semver.Version")?;
            argument.as_object::<Version>().filter(|version| !version.is_value).ok_or_else(|| got(argument))
        };
        let ordered = |fits: fn(Ordering) -> bool| other().map(|other| Value::Bool(fits(self.compare(other))));
        Some(match name {
            "Original" => Ok(Value::text(&self.original)),
            "Compare" => other().map(|other| Value::Int(self.compare(other) as i64)),
            "Equal" => ordered(Ordering::is_eq),
            "GreaterThan" => ordered(Ordering::is_gt),
            "GreaterThanEqual" => ordered(Ordering::is_ge),
            "LessThan" => ordered(Ordering::is_lt),
            "LessThanEqual" => ordered(Ordering::is_le),
            _ => return None,
        })
    }
}

/// Checks the words of a prerelease: a number must not start with 0.
fn check_prerelease(pre: &str) -> Result<()> {
    let is_padded = |word: &str| word.len() > 1 && word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit());
    if pre.split('.').any(is_padded) { Err("Version segment starts with 0".to_owned()) } else { Ok(()) }
}

fn check_words(text: &str, error: &str) -> Result<()> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if text.is_empty() || text.split('.').all(is_word) { Ok(()) } else { Err(error.to_owned()) }
}

impl Object for Version {
    fn type_name(&self) -> &'static str {
        if self.is_value { "semver.Version" } else { "*semver.Version" }
    }

    fn display(&self, _depth: usize) -> String {
        self.to_string()
    }

    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        let [major, minor, patch] = self.numbers;
        let number = |number: u64| Ok(Value::Int64(i64::try_from(number).unwrap_or(i64::MAX)));
        Some(match name {
            "Major" => number(major),
            "Minor" => number(minor),
            "Patch" => number(patch),
            "Prerelease" => Ok(Value::text(&self.pre)),
            "Metadata" => Ok(Value::text(&self.meta)),
            "String" => Ok(Value::text(self.to_string())),
            "IncMajor" => Ok(self.with([major.wrapping_add(1), 0, 0], "", "")),
            "IncMinor" => Ok(self.with([major, minor.wrapping_add(1), 0], "", "")),
            "IncPatch" if self.pre.is_empty() => Ok(self.with([major, minor, patch.wrapping_add(1)], "", "")),
            "IncPatch" => Ok(self.with(self.numbers, "", "")),
            "SetPrerelease" => text_argument(name, arguments, 0).and_then(|pre| {
                check_words(&pre, "Invalid Prerelease string").and_then(|()| check_prerelease(&pre))?;
                Ok(self.with(self.numbers, &pre, &self.meta))
            }),
            "SetMetadata" => text_argument(name, arguments, 0).and_then(|meta| {
                check_words(&meta, "Invalid Metadata string")?;
                Ok(self.with(self.numbers, &self.pre, &meta))
            }),
            _ if self.is_value => return None,
            _ => return self.pointer_member(name, arguments),
        })
    }

    fn to_plain(&self) -> Value {
        Value::text(self.to_string())
    }
}

/// Compares two prereleases word by word.
pub fn compare_pre(a: &str, b: &str) -> Ordering {
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
