//! Strings, after sprig's `strings.go`.

use super::{Result, Row, int, string, strslice, strval, text};
use crate::template::budget;
use crate::template::{TextMap, Value, quote};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("hello", "", |_, _| text("Hello!")),
    ("upper", "s", |_, a| text(string(a, 0).chars().map(|letter| simple_case(letter, letter.to_uppercase())).collect::<String>())),
    ("lower", "s", |_, a| text(string(a, 0).chars().map(|letter| simple_case(letter, letter.to_lowercase())).collect::<String>())),
    ("trim", "s", |_, a| text(string(a, 0).trim())),
    ("trimall", "ss", trim_all),
    ("trimAll", "ss", trim_all),
    ("trimSuffix", "ss", |_, a| text(string(a, 1).strip_suffix(string(a, 0)).unwrap_or(string(a, 1)))),
    ("trimPrefix", "ss", |_, a| text(string(a, 1).strip_prefix(string(a, 0)).unwrap_or(string(a, 1)))),
    ("nospace", "s", |_, a| text(without_space(string(a, 0)))),
    ("contains", "ss", |_, a| Ok(Value::Bool(string(a, 1).contains(string(a, 0))))),
    ("hasPrefix", "ss", |_, a| Ok(Value::Bool(string(a, 1).starts_with(string(a, 0))))),
    ("hasSuffix", "ss", |_, a| Ok(Value::Bool(string(a, 1).ends_with(string(a, 0))))),
    ("quote", "a*", |_, a| text(join_quoted(a, |word| quote(&word)))),
    ("squote", "a*", |_, a| text(join_quoted(a, |word| format!("'{word}'")))),
    ("cat", "a*", |_, a| text(super::builtin::cat(a))),
    ("indent", "is", |_, a| text(indent(int(a, 0), string(a, 1))?)),
    ("nindent", "is", |_, a| text(format!("\n{}", indent(int(a, 0), string(a, 1))?))),
    ("replace", "sss", |_, a| text(replace(string(a, 2), string(a, 0), string(a, 1))?)),
    ("plural", "ssi", |_, a| text(string(a, usize::from(int(a, 2) != 1)))),
    ("repeat", "is", |_, a| text(repeat(string(a, 1), int(a, 0))?)),
    ("trunc", "is", |_, a| text(trunc(int(a, 0), string(a, 1)))),
    ("substr", "iis", |_, a| text(substr(int(a, 0), int(a, 1), string(a, 2))?)),
    ("abbrev", "is", |_, a| text(abbrev(0, int(a, 0), string(a, 1)))),
    ("abbrevboth", "iis", |_, a| text(abbrev(int(a, 0), int(a, 1), string(a, 2)))),
    ("split", "ss", |_, a| Ok(numbered(split_list(string(a, 1), string(a, 0)).into_iter()))),
    ("splitn", "sis", splitn),
    ("splitList", "ss", |_, a| Ok(Value::texts(split_list(string(a, 1), string(a, 0))))),
    ("join", "sa", join),
    ("sortAlpha", "a", |_, a| {
        let mut words = strslice(&a[0]);
        words.sort();
        Ok(Value::texts(words))
    }),
    ("toString", "a", |_, a| text(strval(&a[0]))),
    ("toStrings", "a", |_, a| Ok(Value::texts(strslice(&a[0])))),
];

/// As `goutils.DeleteWhiteSpace`, which takes each byte for a letter where there is something to delete.
fn without_space(word: &str) -> String {
    let letters = word.bytes().map(char::from);
    if letters.clone().any(char::is_whitespace) { letters.filter(|letter| !letter.is_whitespace()).collect() } else { word.to_owned() }
}

/// The limit on a text that a function makes, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Changes the case of a letter if the result is one letter, as Go does.
pub fn simple_case(letter: char, mut cased: impl ExactSizeIterator<Item = char>) -> char {
    cased.next().filter(|_| cased.len() == 0).unwrap_or(letter)
}

fn replace(word: &str, old: &str, new: &str) -> Result<String> {
    budget::spend(word.matches(old).count().saturating_mul(new.len()))?;
    Ok(word.replace(old, new))
}

fn join(_: &crate::template::Engine, a: &[Value]) -> Result {
    let words = strslice(&a[1]);
    budget::spend(words.len().saturating_mul(string(a, 0).len()))?;
    text(words.join(string(a, 0)))
}

fn trim_all(_: &crate::template::Engine, a: &[Value]) -> Result {
    text(string(a, 1).trim_matches(|character| string(a, 0).contains(character)))
}

fn join_quoted(values: &[Value], quoted: impl Fn(String) -> String) -> String {
    values.iter().filter(|value| !value.is_nil()).map(|value| quoted(strval(value))).collect::<Vec<_>>().join(" ")
}

fn indent(spaces: i64, words: &str) -> Result<String> {
    let pad = repeat(" ", spaces)?;
    if pad.len().saturating_mul(words.matches('\n').count() + 1) > MAX_BYTES {
        return Err(format!("the result is larger than the limit of {} MiB", MAX_BYTES >> 20));
    }
    Ok(format!("{pad}{}", words.replace('\n', &format!("\n{pad}"))))
}

fn repeat(word: &str, count: i64) -> Result<String> {
    let count = usize::try_from(count).map_err(|_| "strings: negative Repeat count".to_owned())?;
    if word.len().saturating_mul(count) > MAX_BYTES {
        return Err("strings: Repeat count causes overflow".to_owned());
    }
    Ok(word.repeat(count))
}

/// A range of bytes of a text.
fn bytes(word: &str, from: usize, to: usize) -> String {
    lossy(&word.as_bytes()[from..to])
}

/// The text of bytes; each that is not part of a character becomes U+FFFD.
pub fn lossy(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    out
}

fn trunc(count: i64, word: &str) -> String {
    let keep = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    match word.len().checked_sub(keep) {
        None | Some(0) => word.to_owned(),
        Some(cut) if count < 0 => bytes(word, cut, word.len()),
        Some(_) => bytes(word, 0, keep),
    }
}

/// A range of bytes; where one bound is left open (negative, or an end beyond the text) the other counts.
///
/// Fails as Go does where a bound lies outside the text.
fn substr(start: i64, end: i64, word: &str) -> Result<String> {
    let len = i64::try_from(word.len()).unwrap_or(i64::MAX);
    let (from, to) = match (start < 0, end < 0 || end > len) {
        (true, _) => (0, end),
        (false, true) => (start, len),
        (false, false) => (start, end),
    };
    if to < 0 || to > len {
        let length = if to < 0 { String::new() } else { format!(" with length {len}") };
        return Err(format!("runtime error: slice bounds out of range [:{to}]{length}"));
    }
    if from > to {
        return Err(format!("runtime error: slice bounds out of range [{from}:{to}]"));
    }
    let bound = |at: i64| usize::try_from(at).unwrap_or_default();
    Ok(bytes(word, bound(from), bound(to)))
}

/// `goutils.AbbreviateFull`: at most `width` characters, with dots where something is left out.
fn abbrev(offset: i64, width: i64, word: &str) -> String {
    let len = i64::try_from(word.len()).unwrap_or(i64::MAX);
    if width < 4 || offset > 0 && width < 7 || width >= len {
        return word.to_owned();
    }
    let at = |at: i64| usize::try_from(at).unwrap_or(0).min(word.len());
    let offset = if len - offset < width - 3 { len - (width - 3) } else { offset.min(len) };
    if offset <= 4 {
        return bytes(word, 0, at(width - 3)) + "...";
    }
    if offset + width - 3 < len {
        return format!("...{}", abbrev(0, width - 3, &bytes(word, at(offset), word.len())));
    }
    format!("...{}", bytes(word, at(len - (width - 3)), word.len()))
}

fn split_list<'a>(word: &'a str, separator: &str) -> Vec<&'a str> {
    if separator.is_empty() {
        return word.char_indices().map(|(at, character)| &word[at..at + character.len_utf8()]).collect();
    }
    word.split(separator).collect()
}

fn numbered<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    Value::object(TextMap { entries: words.enumerate().map(|(at, word)| (format!("_{at}"), word.to_owned())).collect(), is_nil: false })
}

fn splitn(_: &crate::template::Engine, a: &[Value]) -> Result {
    match usize::try_from(int(a, 1)) {
        Ok(count) => Ok(numbered(string(a, 2).splitn(count, string(a, 0)))),
        Err(_) => Ok(numbered(string(a, 2).split(string(a, 0)))),
    }
}
