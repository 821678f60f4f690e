//! Regular expressions. Go's and Rust's share the syntax of RE2, but for a few details that [`translate`] evens out.

use regex::Regex;

use super::{Result, Row, int, string, text};
use crate::template::budget;
use crate::template::{Engine, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    // an invalid pattern matches nothing, as in sprig
    ("regexMatch", "ss", |engine, a| is_match(engine, a).or(Ok(Value::Bool(false)))),
    ("mustRegexMatch", "ss", is_match),
    ("regexFind", "ss", |_, a| find(&must_compile(a)?, a)),
    ("mustRegexFind", "ss", |_, a| find(&compiled(a)?, a)),
    ("regexFindAll", "ssi", |_, a| find_all(&must_compile(a)?, a)),
    ("mustRegexFindAll", "ssi", |_, a| find_all(&compiled(a)?, a)),
    ("regexReplaceAll", "sss", |_, a| replace(&must_compile(a)?, a)),
    ("mustRegexReplaceAll", "sss", |_, a| replace(&compiled(a)?, a)),
    ("regexReplaceAllLiteral", "sss", |_, a| replace_literal(&must_compile(a)?, a)),
    ("mustRegexReplaceAllLiteral", "sss", |_, a| replace_literal(&compiled(a)?, a)),
    ("regexSplit", "ssi", |_, a| split(&must_compile(a)?, a)),
    ("mustRegexSplit", "ssi", |_, a| split(&compiled(a)?, a)),
    ("regexQuoteMeta", "s", |_, a| text(quote_meta(string(a, 0)))),
];

/// Compiles as `regexp.Compile`.
fn compiled(a: &[Value]) -> Result<Regex> {
    let pattern = string(a, 0);
    Regex::new(&translate(pattern)).map_err(|error| format!("error parsing regexp: {}", in_words_of_go(pattern, &error.to_string())))
}

/// Compiles as `regexp.MustCompile`, which panics with another message.
fn must_compile(a: &[Value]) -> Result<Regex> {
    compiled(a).map_err(|message| format!("regexp: Compile({}): {message}", quote_pattern(string(a, 0))))
}

/// The pattern in backquotes where it has none, as Go's messages quote it.
fn quote_pattern(pattern: &str) -> String {
    if pattern.contains('`') { crate::template::quote(pattern) } else { format!("`{pattern}`") }
}

/// What is wrong with a pattern, in Go's words for the most common errors.
fn in_words_of_go(pattern: &str, error: &str) -> String {
    for (own, go) in
        [("unclosed group", "missing closing )"), ("unopened group", "unexpected )"), ("unclosed character class", "missing closing ]")]
    {
        if error.contains(own) {
            let shown = if go.ends_with(']') { &pattern[pattern.find('[').unwrap_or(0)..] } else { pattern };
            return format!("{go}: `{shown}`");
        }
    }
    if error.contains("look-around") {
        let at = pattern.find("(?").unwrap_or(0);
        return format!("invalid or unsupported Perl syntax: `{}`", pattern[at..].chars().take(3).collect::<String>());
    }
    if error.contains("repetition operator missing expression") {
        let operator = pattern.chars().next().unwrap_or_default();
        return format!("missing argument to repetition operator: `{operator}`");
    }
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Writes a pattern of Go's for Rust: `\d`, `\s`, `\w` and `\b` are ASCII there, `\Q…\E` quotes, and inside brackets `[`, `&&`, `--` and `~~` mean
/// themselves.
fn translate(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    // inside brackets: where their content starts in `out`
    let mut class: Option<usize> = None;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        if character == '\\' {
            let escaped = after.chars().next().map_or("", |next| &after[..next.len_utf8()]);
            rest = &after[escaped.len()..];
            match (escaped, class.is_some()) {
                ("Q", _) => {
                    let (quoted, more) = rest.split_once("\\E").unwrap_or((rest, ""));
                    out.push_str(&quote_meta(quoted));
                    rest = more;
                }
                ("d", true) => out.push_str("0-9"),
                ("w", true) => out.push_str("0-9A-Za-z_"),
                ("s", true) => out.push_str(r"\t\n\f\r\x20"),
                ("d", false) => out.push_str("[0-9]"),
                ("w", false) => out.push_str("[0-9A-Za-z_]"),
                ("s", false) => out.push_str(r"[\t\n\f\r\x20]"),
                ("D", _) => out.push_str("[^0-9]"),
                ("W", _) => out.push_str("[^0-9A-Za-z_]"),
                ("S", _) => out.push_str(r"[^\t\n\f\r\x20]"),
                ("b", false) => out.push_str(r"(?-u:\b)"),
                ("B", false) => out.push_str(r"\B"),
                ("1" | "2" | "3" | "4" | "5" | "6" | "7" | "0", _) => {
                    // an octal code
                    let more = rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                    let code = u32::from_str_radix(&format!("{escaped}{}", &rest[..more]), 8).unwrap_or_default();
                    out.push_str(&format!("\\x{{{code:x}}}"));
                    rest = &rest[more..];
                }
                _ => out.push_str(&format!("\\{escaped}")),
            }
            continue;
        }
        rest = after;
        match (class, character) {
            (None, '[') => {
                out.push('[');
                if let Some(more) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = more;
                }
                class = Some(out.len());
                // a bracket that comes first means itself
                if let Some(more) = rest.strip_prefix(']') {
                    out.push_str(r"\]");
                    rest = more;
                }
            }
            (Some(_), ']') => {
                out.push(']');
                class = None;
            }
            (Some(_), '[') => match rest.strip_prefix(':').and_then(|name| name.split_once(":]")) {
                Some((name, more)) => {
                    out.push_str(&format!("[:{name}:]"));
                    rest = more;
                }
                None => out.push_str(r"\["),
            },
            (Some(_), '&' | '~') => out.push_str(&format!("\\{character}")),
            (Some(start), '-') if out.len() == start || rest.starts_with([']', '-']) || out.ends_with('-') => out.push_str(r"\-"),
            _ => out.push(character),
        }
    }
    out
}

fn is_match(_: &Engine, a: &[Value]) -> Result {
    Ok(Value::Bool(compiled(a)?.is_match(string(a, 1))))
}

fn find(pattern: &Regex, a: &[Value]) -> Result {
    text(pattern.find(string(a, 1)).map_or("", |found| found.as_str()))
}

/// The limit on matches; a negative number means all.
fn match_limit(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn find_all(pattern: &Regex, a: &[Value]) -> Result {
    let mut found = pattern.find_iter(string(a, 1)).take(match_limit(int(a, 2))).map(|found| found.as_str()).peekable();
    Ok(if found.peek().is_none() { Value::nil_slice("[]string") } else { Value::texts(found) })
}

fn replace(pattern: &Regex, a: &[Value]) -> Result {
    // each `$` may stand for the whole match
    let dollars = string(a, 2).matches('$').count();
    for found in pattern.find_iter(string(a, 1)) {
        budget::spend(string(a, 2).len().saturating_add(dollars.saturating_mul(found.len())))?;
    }
    text(pattern.replace_all(string(a, 1), string(a, 2)))
}

fn replace_literal(pattern: &Regex, a: &[Value]) -> Result {
    budget::spend(pattern.find_iter(string(a, 1)).count().saturating_mul(string(a, 2).len()))?;
    text(pattern.replace_all(string(a, 1), regex::NoExpand(string(a, 2))))
}

/// Splits as Go's `Regexp.Split`: an empty match at the start separates nothing.
fn split(pattern: &Regex, a: &[Value]) -> Result {
    let (whole, count) = (string(a, 1), int(a, 2));
    if count == 0 {
        return Ok(Value::nil_slice("[]string"));
    }
    if !pattern.as_str().is_empty() && whole.is_empty() {
        return Ok(Value::texts([""]));
    }
    let (mut parts, mut start, mut end) = (Vec::new(), 0, 0);
    for found in pattern.find_iter(whole).take(match_limit(count)) {
        if count > 0 && parts.len() == match_limit(count - 1) {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(&whole[start..end]);
        }
        start = found.end();
    }
    if end != whole.len() {
        parts.push(&whole[start..]);
    }
    Ok(Value::texts(parts))
}

fn quote_meta(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_go_are_written_for_rust() {
        for (pattern, expected) in [
            (r"[[\]]", r"[\[\]]"),
            (r"[]a]", r"[\]a]"),
            (r"[^][]", r"[^\]\[]"),
            (r"[a&&b--c]", r"[a\&\&b\-\-c]"),
            (r"[[:alpha:]-]", r"[[:alpha:]\-]"),
            (r"\d+[\w.]", r"[0-9]+[0-9A-Za-z_.]"),
            (r"\Qa.b\E*", r"a\.b*"),
            (r"a-z", "a-z"),
        ] {
            assert_eq!(translate(pattern), expected, "{pattern}");
            assert!(Regex::new(expected).is_ok(), "{expected}");
        }
    }
}
