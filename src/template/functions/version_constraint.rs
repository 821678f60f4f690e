//! Constraints of versions such as `>=1.19-0, <2 || ^3.1`, after `constraints.go` of Masterminds/semver v3.3.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Result;
use super::version::{Version, compare_pre};
use crate::template::quote;

/// The operators; the empty one means a version or a range of wildcards.
const OPERATORS: &str = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";

/// A version in which numbers may be wildcards.
const VERSION: &str = concat!(
    r"v?([0-9|x|X|\*]+)(\.[0-9|x|X|\*]+)?(\.[0-9|x|X|\*]+)?",
    r"(-([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?",
    r"(\+([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?"
);

fn pattern(text: &str) -> Regex {
    Regex::new(&text.replace("OPS", OPERATORS).replace("VERSION", VERSION)).expect("the pattern is constant and valid")
}

/// Versions and comparisons are separated by `(?-u:\s)`: Go's `\s` is ASCII only.
static ONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?-u:\s)*(OPS)(?-u:\s)*(VERSION)(?-u:\s)*$"));
static RANGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u:\s)*(VERSION)(?-u:\s)+-(?-u:\s)+(VERSION)(?-u:\s)*"));
static EACH: LazyLock<Regex> = LazyLock::new(|| pattern(r"(OPS)(?-u:\s)*(VERSION)"));
static ALL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^((?-u:\s)*(OPS)(?-u:\s)*(VERSION)(?-u:\s)*)((?:(?-u:\s)+|,(?-u:\s)*)(OPS)(?-u:\s)*(VERSION)(?-u:\s)*)*$"));

/// Whether a version satisfies a constraint such as `>=1.19-0, <2 || ^3.1`.
///
/// # Errors
/// Fails where the constraint or the version is invalid.
pub fn satisfies(constraint: &str, version: &str) -> Result<bool> {
    let alternatives = parse(constraint)?;
    let version = Version::parse(version)?;
    Ok(alternatives.iter().any(|all| all.iter().all(|condition| condition.admits_of_its_kind(&version))))
}

/// As [`satisfies`], after semver v3.5: where one comparison has a prerelease, those beside it admit prereleases too, and `!=` does not where none
/// has one.
///
/// # Errors
/// Fails where the constraint or the version is invalid.
pub fn satisfies_by_group(constraint: &str, version: &str) -> Result<bool> {
    let alternatives = parse(constraint).map_err(|message| match message.strip_prefix("improper constraint: ") {
        Some(text) => format!("improper constraint: {}", quote(text)),
        None => message.to_lowercase(),
    })?;
    let version = Version::parse(version)?;
    let wanted = |all: &[Condition]| version.pre.is_empty() || all.iter().any(|condition| !condition.version.pre.is_empty());
    Ok(alternatives.iter().any(|all| wanted(all) && all.iter().all(|condition| condition.admits(&version))))
}

/// Reads the alternatives of a constraint, each with comparisons that must all hold.
fn parse(constraint: &str) -> Result<Vec<Vec<Condition>>> {
    // `1.2 - 1.4` is a range
    let ranges = RANGE.replace_all(constraint, |range: &Captures<'_>| format!(">= {}, <= {} ", &range[1], &range[11]));
    let mut alternatives = Vec::new();
    for alternative in ranges.split("||") {
        if !ALL.is_match(alternative) {
            return Err(format!("improper constraint: {alternative}"));
        }
        alternatives.push(EACH.find_iter(alternative).map(|one| Condition::parse(one.as_str())).collect::<Result<Vec<_>>>()?);
    }
    Ok(alternatives)
}

/// One comparison.
struct Condition {
    operator: String,
    version: Version,
    /// How many of major, minor and patch are written; the rest are wildcards.
    specified: usize,
}

impl Condition {
    fn parse(text: &str) -> Result<Condition> {
        let parts = ONE.captures(text).ok_or_else(|| format!("improper constraint: {text}"))?;
        let part = |number: usize| parts.get(number).map_or("", |part| part.as_str());
        let is_wildcard = |part: &str| matches!(part.trim_start_matches('.'), "" | "x" | "X" | "*");
        let specified = (3..6).take_while(|number| !is_wildcard(part(*number))).count();
        let version = match specified {
            0 => format!("0.0.0{}", part(6)),
            1 => format!("{}.0.0{}", part(3), part(6)),
            2 => format!("{}{}.0{}", part(3), part(4), part(6)),
            _ => part(2).to_owned(),
        };
        let version = Version::parse(&version).map_err(|_| "constraint Parser Error".to_owned())?;
        Ok(Condition { operator: part(1).to_owned(), version, specified })
    }

    /// Whether it admits the version, which must be no prerelease unless the comparison has one.
    fn admits_of_its_kind(&self, version: &Version) -> bool {
        let unwanted_prerelease = !version.pre.is_empty() && self.version.pre.is_empty();
        if unwanted_prerelease && (self.operator != "!=" || self.specified < 3) {
            return false;
        }
        self.admits(version)
    }

    fn admits(&self, version: &Version) -> bool {
        let (own, dirty) = (&self.version, self.specified < 3);
        let order = version.compare(own);
        let [major, minor, _] = version.numbers;
        let [own_major, own_minor, _] = own.numbers;
        match self.operator.as_str() {
            "" | "=" if !dirty => order.is_eq(),
            "" | "=" | "~" | "~>" => self.tilde(version),
            "!=" if dirty => self.differs(version),
            "!=" => order.is_ne(),
            ">" if dirty && major != own_major => major > own_major,
            // `>11` is 12 or more, `>11.1` is 11.2 or more
            ">" if self.specified == 1 => false,
            ">" if self.specified == 2 => minor > own_minor,
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            ">=" | "=>" => order.is_ge(),
            "<=" | "=<" if dirty => major < own_major || major == own_major && (self.specified == 1 || minor <= own_minor),
            "<=" | "=<" => order.is_le(),
            _ => self.caret(version),
        }
    }

    /// `!=` with wildcards. A bare wildcard is 0.0.0 here, in every part.
    fn differs(&self, version: &Version) -> bool {
        let same = |count: usize| version.numbers[..count] == self.version.numbers[..count];
        match self.specified {
            1 => !same(1),
            2 if same(2) => {
                let prerelease = !version.pre.is_empty() || !self.version.pre.is_empty();
                prerelease && compare_pre_texts(&version.pre, &self.version.pre)
            }
            2 => true,
            _ => !same(3) || version.compare(&self.version).is_ne(),
        }
    }

    fn tilde(&self, version: &Version) -> bool {
        if version.compare(&self.version).is_lt() {
            return false;
        }
        // ~0.0.0 and ~* are anything
        if self.version.numbers == [0, 0, 0] && matches!(self.specified, 0 | 3) {
            return true;
        }
        let significant = if self.specified == 1 { 1 } else { 2 };
        version.numbers[..significant] == self.version.numbers[..significant]
    }

    fn caret(&self, version: &Version) -> bool {
        if version.compare(&self.version).is_lt() {
            return false;
        }
        let [major, minor, _] = self.version.numbers;
        let significant = if major > 0 || self.specified == 1 {
            1
        } else if minor > 0 || self.specified == 2 {
            2
        } else {
            3
        };
        version.numbers[..significant] == self.version.numbers[..significant]
    }
}

/// Whether two prereleases differ; none is above all others.
fn compare_pre_texts(a: &str, b: &str) -> bool {
    if a.is_empty() || b.is_empty() { a != b } else { compare_pre(a, b).is_ne() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held to helm 3.17.3.
    #[test]
    fn ranges_admit_what_semver_admits() {
        for (constraint, version, expected) in [
            ("^x", "1.2.3", Ok(false)),
            ("^x", "0.0.0", Ok(true)),
            ("<= *", "1.2.3", Ok(false)),
            ("<= *", "0.0.7", Ok(true)),
            ("!=x", "1.2.3", Ok(true)),
            ("!=x", "0.0.0", Ok(false)),
            ("*", "1.2.3", Ok(true)),
            ("> *", "0.0.1", Ok(true)),
            ("~*", "9.9.9", Ok(true)),
            (">=1.19-0", "1.20.0-rc.1", Ok(true)),
            (">=1.19", "1.20.0-rc.1", Ok(false)),
            (">=1.19, <2 || ^3.1", "3.4.0", Ok(true)),
            ("1.2 - 1.4", "1.4.9", Ok(true)),
            (">1.2 <1.5", "1.2.9", Ok(false)),
            ("1.2x", "1.2.0", Err("constraint Parser Error")),
            ("", "1.2.0", Err("improper constraint: ")),
            (">> 1", "1.2.0", Err("improper constraint: >> 1")),
            ("1", "x", Err("Invalid Semantic Version")),
        ] {
            assert_eq!(satisfies(constraint, version), expected.map_err(str::to_owned), "{constraint} {version}");
        }
    }
}
