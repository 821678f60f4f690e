//! Ranges of Kubernetes versions, as KUBEVERSION writes them: npm's and Masterminds' notation.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// `>=1.19 <1.23`, `1.20.x || ^1.22`, `1.18 - 1.20`, `~1.21.3`, `!=1.20.4`, `*`. A leading `v` and what follows `-` or `+` in a
/// version (vendors' builds: `v1.20.4-ack-3`) do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange {
    text: String,
    alternatives: Vec<Vec<Bound>>,
}

/// Major, minor, patch.
type Version = [u64; 3];

/// One condition on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    AtLeast(Version),
    Below(Version),
    /// Outside of the half-open interval.
    Outside(Version, Version),
}

impl VersionRange {
    /// Whether a version such as `v1.20.2` is in the range; fails if it is no version.
    pub fn matches(&self, version: &str) -> Result<bool> {
        let partial = Partial::parse(version)?;
        if partial.given == 0 {
            return Err(wrong(version).into());
        }
        let version = partial.low();
        let holds = |bound: &Bound| match *bound {
            Bound::AtLeast(low) => version >= low,
            Bound::Below(high) => version < high,
            Bound::Outside(low, high) => version < low || version >= high,
        };
        Ok(self.alternatives.iter().any(|bounds| bounds.iter().all(holds)))
    }
}

impl FromStr for VersionRange {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let alternatives = text.split("||").map(alternative).collect::<Result<_>>()?;
        Ok(VersionRange { text: text.to_owned(), alternatives })
    }
}

/// Conditions that hold together, separated by blanks or commas.
fn alternative(text: &str) -> Result<Vec<Bound>> {
    if let Some((low, high)) = text.split_once(" - ") {
        let (low, high) = (Partial::parse(low.trim())?, Partial::parse(high.trim())?);
        return Ok(vec![Bound::AtLeast(low.low()), Bound::Below(high.after())]);
    }
    let mut bounds = Vec::new();
    let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let (operator, mut version) = word.split_at(word.find(|char| !"<>=!~^".contains(char)).unwrap_or(word.len()));
        if version.is_empty() {
            version = words.next().ok_or_else(|| wrong(text))?;
        }
        bounds.extend(bounds_of(operator, Partial::parse(version)?).ok_or_else(|| wrong(word))?);
    }
    if bounds.is_empty() { Err(wrong(text).into()) } else { Ok(bounds) }
}

fn bounds_of(operator: &str, version: Partial) -> Option<Vec<Bound>> {
    let (low, after) = (version.low(), version.after());
    Some(match operator {
        "" | "=" | "==" => vec![Bound::AtLeast(low), Bound::Below(after)],
        "!=" => vec![Bound::Outside(low, after)],
        ">=" | "=>" => vec![Bound::AtLeast(low)],
        ">" => vec![Bound::AtLeast(after)],
        "<" => vec![Bound::Below(low)],
        "<=" | "=<" => vec![Bound::Below(after)],
        "~" | "~>" => vec![Bound::AtLeast(low), Bound::Below(version.cut(2).after())],
        "^" => vec![Bound::AtLeast(low), Bound::Below(version.cut(if low[0] > 0 { 1 } else { 2 }).after())],
        _ => return None,
    })
}

/// A version with as many parts as were given: `1.20` is all of 1.20.
#[derive(Debug, Clone, Copy)]
struct Partial {
    parts: Version,
    given: usize,
}

impl Partial {
    fn parse(text: &str) -> Result<Self> {
        let numbers = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let numbers = numbers.split(['-', '+']).next().unwrap_or_default();
        let mut version = Partial { parts: [0; 3], given: 0 };
        let mut open = false;
        for (index, part) in numbers.split('.').enumerate() {
            let any = ["x", "X", "*"].contains(&part);
            if index > 2 || part.is_empty() || part.len() > 9 || (open && !any) {
                return Err(wrong(text).into());
            }
            open = any;
            if !open {
                version.parts[index] = part.parse().map_err(|_| wrong(text))?;
                version.given += 1;
            }
        }
        Ok(version)
    }

    /// The lowest version it means.
    fn low(self) -> Version {
        self.parts
    }

    /// The lowest version above all it means.
    fn after(self) -> Version {
        let mut parts = self.parts;
        match self.given {
            0 => return [u64::MAX; 3],
            given => parts[given - 1] += 1,
        }
        parts
    }

    /// Only its first `count` parts.
    fn cut(self, count: usize) -> Partial {
        let mut cut = Partial { given: self.given.min(count), ..self };
        cut.parts[cut.given..].fill(0);
        cut
    }
}

fn wrong(text: &str) -> Failure {
    Failure::usage(format!("`{}` is not a version or a range of versions", text.trim()))
        .hint("write it like `>=1.19.0 <1.23.0`, `1.20.x`, `^1.22` or `1.18 - 1.20`")
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for VersionRange {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, inside, outside) in [
            (">=1.19.0 <1.23.0", vec!["1.19.0", "v1.22.15", "v1.20.4-ack-3"], vec!["1.18.9", "1.23.0"]),
            (">= 1.19, < 1.23", vec!["1.19.0", "1.22.9"], vec!["1.23.1"]),
            ("1.20", vec!["1.20.0", "1.20.15"], vec!["1.21.0", "1.19.9"]),
            ("1.20.x || ^1.22.1", vec!["1.20.3", "1.22.1", "1.99.0"], vec!["1.21.0", "1.22.0", "2.0.0"]),
            ("~1.21.3", vec!["1.21.3", "1.21.9"], vec!["1.21.2", "1.22.0"]),
            ("1.18 - 1.20", vec!["1.18.0", "1.20.9"], vec!["1.17.9", "1.21.0"]),
            ("!=1.20.4", vec!["1.20.3", "1.20.5"], vec!["1.20.4"]),
            (">1.20", vec!["1.21.0"], vec!["1.20.9"]),
            ("<=1.20", vec!["1.20.9"], vec!["1.21.0"]),
            ("*", vec!["0.0.1", "99.1.2"], vec![]),
            ("^0.2", vec!["0.2.9"], vec!["0.3.0"]),
        ] {
            let parsed: VersionRange = range.parse().unwrap();
            inside.iter().for_each(|version| assert!(parsed.matches(version).unwrap(), "{version} in {range}"));
            outside.iter().for_each(|version| assert!(!parsed.matches(version).unwrap(), "{version} not in {range}"));
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["", "a", "1.2.3.4", ">=", "1.20 ||", "<>1.2", "1..2", "99999999999999999999", "1.-2"] {
            assert!(bad.parse::<VersionRange>().is_err(), "{bad}");
        }
        assert!("*".parse::<VersionRange>().unwrap().matches("x.y").is_err());
    }
}
