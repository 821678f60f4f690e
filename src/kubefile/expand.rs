//! What a word means: quotes and escapes removed, variables replaced (docker's rules, moby/buildkit `shell/lex.go`).

use super::Escape;
use super::pattern::{replaced, without_prefix, without_suffix};

/// A word's meaning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Variables that had no value where the word wants one: they are empty in the text.
    pub unknown: Vec<String>,
}

/// Why a word has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote that does not end.
    #[error("a {0} quote is not closed")]
    OpenQuote(&'static str),
    /// `${` without `}`.
    #[error("`${{` is not closed by `}}`")]
    OpenBrace,
    /// `${` with something in it that is no variable, or a modifier that does not exist.
    #[error(
        "`{0}` is not a valid variable: expected ${{NAME}}, ${{NAME:-default}}, ${{NAME:+other}}, ${{NAME:?message}}, ${{NAME#prefix}}, ${{NAME%suffix}} or ${{NAME/pattern/other}}"
    )]
    NoVariable(String),
    /// `${NAME:?message}` without a value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Kubefile says then.
        message: String,
    },
}

/// The variables that every build has without saying so: `ARCH`, and those of docker for the target and the build machine.
pub const PREDEFINED: [&str; 9] =
    ["ARCH", "TARGETARCH", "TARGETOS", "TARGETVARIANT", "TARGETPLATFORM", "BUILDARCH", "BUILDOS", "BUILDVARIANT", "BUILDPLATFORM"];

/// Expands a word: `$V`, `${V}`, `${V:-d}`, `${V:+d}`, `${V:?m}` (and these without the colon, which do not count an empty
/// value as missing), `${V#p}`, `${V##p}`, `${V%p}`, `${V%%p}`, `${V/p/o}`, `${V//p/o}`, quotes and escapes. `lookup` gives a variable's
/// value.
pub fn expand(word: &str, escape: Escape, lookup: impl Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let mut expander = Expander { rest: word, escape: escape.char(), lookup: &lookup, unknown: Vec::new(), depth: 0, guards: false };
    let (text, _) = expander.until(&[])?;
    Ok(Expanded { text, unknown: expander.unknown })
}

/// Expands the content of a heredoc: variables as in [`expand`], but quotes mean themselves and escapes only guard `$` and
/// themselves.
pub fn expand_heredoc(content: &str, escape: Escape, lookup: impl Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let mut expander = Expander { rest: content, escape: escape.char(), lookup: &lookup, unknown: Vec::new(), depth: 0, guards: false };
    let mut text = String::new();
    while let Some(char) = expander.next() {
        match char {
            '$' => text += &expander.dollar()?,
            _ => expander.guarded(char, &['$'], &mut text),
        }
    }
    Ok(Expanded { text, unknown: expander.unknown })
}

/// The variables that a word names, without looking at their values.
pub fn variables(word: &str, escape: Escape) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    expand(word, escape, |name| {
        names.borrow_mut().push(name.to_owned());
        None
    })
    .ok();
    names.into_inner()
}

/// `${` may stand inside `${`; no one nests deeper than this, and the stack is bounded.
const MAX_DEPTH: usize = 32;

struct Expander<'a> {
    rest: &'a str,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unknown: Vec<String>,
    depth: usize,
    /// Whether escapes stay, as `\\`: they guard the wildcards of a pattern.
    guards: bool,
}

impl Expander<'_> {
    fn next(&mut self) -> Option<char> {
        let char = self.rest.chars().next()?;
        self.rest = &self.rest[char.len_utf8()..];
        Some(char)
    }

    /// Expands up to one of `ends`, which is consumed and given back, or without any to the end of the word.
    fn until(&mut self, ends: &[char]) -> Result<(String, Option<char>), ExpandError> {
        let mut text = String::new();
        while let Some(char) = self.next() {
            match char {
                _ if ends.contains(&char) => return Ok((text, Some(char))),
                '\'' => self.single_quoted(&mut text)?,
                '"' => self.double_quoted(&mut text)?,
                '$' => text += &self.dollar()?,
                _ if char == self.escape => {
                    text.extend(self.guards.then_some('\\'));
                    text.extend(self.next());
                }
                _ => text.push(char),
            }
        }
        if ends.is_empty() { Ok((text, None)) } else { Err(ExpandError::OpenBrace) }
    }

    fn single_quoted(&mut self, text: &mut String) -> Result<(), ExpandError> {
        let (inside, after) = self.rest.split_once('\'').ok_or(ExpandError::OpenQuote("single"))?;
        text.push_str(inside);
        self.rest = after;
        Ok(())
    }

    fn double_quoted(&mut self, text: &mut String) -> Result<(), ExpandError> {
        while let Some(char) = self.next() {
            match char {
                '"' => return Ok(()),
                '$' => *text += &self.dollar()?,
                _ => self.guarded(char, &['"', '$'], text),
            }
        }
        Err(ExpandError::OpenQuote("double"))
    }

    /// Takes `char`; if it is the escape character before itself or one of `guards`, takes that one instead.
    fn guarded(&mut self, char: char, guards: &[char], text: &mut String) {
        let escaped = self.rest.chars().next().filter(|next| guards.contains(next) || *next == self.escape);
        if char == self.escape && escaped.is_some() {
            text.extend(self.next());
        } else {
            text.push(char);
        }
    }

    /// What follows a `$`. Alone it means itself.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if let Some(after) = self.rest.strip_prefix('{') {
            self.rest = after;
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(self.value(&name))
    }

    fn braced(&mut self) -> Result<String, ExpandError> {
        let inside = self.rest;
        let wrong = || ExpandError::NoVariable(format!("${{{}", inside.split_inclusive('}').next().unwrap_or(inside)));
        let name = self.name();
        if name.is_empty() || self.depth >= MAX_DEPTH {
            return Err(if inside.contains('}') { wrong() } else { ExpandError::OpenBrace });
        }
        let mut operator = self.next().ok_or(ExpandError::OpenBrace)?;
        match operator {
            '}' => return Ok(self.value(&name)),
            '#' | '%' | '/' => return self.patterned(&name, operator)?.ok_or_else(wrong),
            _ => {}
        }
        let colon = operator == ':';
        if colon {
            operator = self.next().ok_or(ExpandError::OpenBrace)?;
        }
        if !['-', '+', '?'].contains(&operator) {
            return Err(wrong());
        }
        self.modified(name, operator, colon)
    }

    /// `${name<operator>word}` from the word on.
    fn modified(&mut self, name: String, operator: char, empty_is_missing: bool) -> Result<String, ExpandError> {
        let known = self.unknown.len();
        let other = self.deeper(&['}'], false)?.0;
        let value = (self.lookup)(&name).filter(|value| !(empty_is_missing && value.is_empty()));
        let other_counts = value.is_some() == (operator == '+');
        if !other_counts {
            self.unknown.truncate(known);
        }
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(other)),
            ('+', value) => Ok(value.map_or_else(String::new, |_| other)),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(ExpandError::Required { name, message: if other.is_empty() { "is not set".to_owned() } else { other } }),
        }
    }

    /// `${name#pattern}` and its like from the pattern on; `None` if a `/` has no second one.
    fn patterned(&mut self, name: &str, operator: char) -> Result<Option<String>, ExpandError> {
        let twice = self.rest.starts_with(operator);
        if twice {
            self.next();
        }
        let (pattern, end) = self.deeper(if operator == '/' { &['/', '}'] } else { &['}'] }, true)?;
        let value = self.value(name);
        Ok(match operator {
            '#' => Some(without_prefix(&value, &pattern, twice)),
            '%' => Some(without_suffix(&value, &pattern, twice)),
            _ if end == Some('}') => None,
            _ => Some(replaced(&value, &pattern, &self.deeper(&['}'], false)?.0, twice)),
        })
    }

    /// What stands inside `${}`, with the end that came.
    fn deeper(&mut self, ends: &[char], guards: bool) -> Result<(String, Option<char>), ExpandError> {
        let before = std::mem::replace(&mut self.guards, guards);
        self.depth += 1;
        let found = self.until(ends);
        self.depth -= 1;
        self.guards = before;
        found
    }

    /// A variable's name: letters, digits and `_`; or one digit or special character, as docker reads them.
    fn name(&mut self) -> String {
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let length = match self.rest.chars().next() {
            Some(digit) if digit.is_ascii_digit() => 1,
            _ => self.rest.find(|char| !is_name(char)).unwrap_or(self.rest.len()),
        };
        let name = self.rest[..length].to_owned();
        self.rest = &self.rest[length..];
        name
    }

    fn value(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.unknown.push(name.to_owned());
            String::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "V" => Some("v".to_owned()),
            "E" => Some(String::new()),
            "SP" => Some("a b".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn words_expand_as_dockers_do() {
        for (word, expected) in [
            ("plain", "plain"),
            ("$V/x", "v/x"),
            ("${V}x", "vx"),
            ("a$SP", "aa b"),
            ("${NO:-d}", "d"),
            ("${V:-d}", "v"),
            ("${E:-d}", "d"),
            ("${E-d}", ""),
            ("${V:+d}", "d"),
            ("${NO:+d}", ""),
            ("${E:+d}", ""),
            ("${E+d}", "d"),
            ("${NO:-${V}x}", "vx"),
            ("${NO:-\"a}b\"}", "a}b"),
            (r"\$V", "$V"),
            (r"\\$V", r"\v"),
            (r"a\b", "ab"),
            ("'$V'", "$V"),
            ("\"$V\"", "v"),
            (r#""\$V \x \"""#, r#"$V \x ""#),
            ("a\"b c\"d'e f'", "ab cde f"),
            ("$", "$"),
            ("$ x", "$ x"),
            ("a$-b", "a$-b"),
            ("${V:?no}", "v"),
            ("ä$V→", "äv→"),
        ] {
            let expanded = expand(word, Escape::Backslash, lookup).unwrap();
            assert_eq!((expanded.text.as_str(), expanded.unknown.len()), (expected, 0), "{word}");
        }
    }

    #[test]
    fn unknown_variables_are_empty_and_named() {
        for (word, text, unknown) in
            [("a$NO", "a", vec!["NO"]), ("${NO}${X}", "", vec!["NO", "X"]), ("${V:-$NO}", "v", vec![]), ("${Y:-$NO}", "", vec!["NO"])]
        {
            let expanded = expand(word, Escape::Backslash, lookup).unwrap();
            assert_eq!((expanded.text.as_str(), expanded.unknown), (text, unknown.into_iter().map(String::from).collect()), "{word}");
        }
    }

    #[test]
    fn words_without_a_meaning_say_why() {
        for (word, expected) in [
            ("'a", ExpandError::OpenQuote("single")),
            ("\"a", ExpandError::OpenQuote("double")),
            ("${V", ExpandError::OpenBrace),
            ("${V:-a", ExpandError::OpenBrace),
            ("${", ExpandError::OpenBrace),
            ("${}", ExpandError::NoVariable("${}".to_owned())),
            ("${V^x}", ExpandError::NoVariable("${V^x}".to_owned())),
            ("${V/x}", ExpandError::NoVariable("${V/x}".to_owned())),
            ("${V#x", ExpandError::OpenBrace),
            ("${V/x/y", ExpandError::OpenBrace),
            ("${NO:?want it}", ExpandError::Required { name: "NO".to_owned(), message: "want it".to_owned() }),
        ] {
            assert_eq!(expand(word, Escape::Backslash, lookup), Err(expected), "{word}");
        }
        assert!(expand(&"${A:-".repeat(100_000), Escape::Backslash, lookup).is_err());
    }

    #[test]
    fn patterns_take_away_and_replace_as_dockers_do() {
        for (value, word, expected) in [
            ("foo:bar:baz", "${P#*:}", "bar:baz"),
            ("foo:bar:baz", "${P##*:}", "baz"),
            ("foo:bar:baz", "${P%:*}", "foo:bar"),
            ("foo:bar:baz", "${P%%:*}", "foo"),
            ("foo:bar:baz", "${P#bar}", "foo:bar:baz"),
            ("foo:bar:baz", "${P/:/-}", "foo-bar:baz"),
            ("foo:bar:baz", "${P//:/-}", "foo-bar-baz"),
            ("foo:bar:baz", "${P/b*z/}", "foo:"),
            ("foo:bar:baz", "${P//b?/$V}", "foo:vr:vz"),
            ("v1.2.3", "${P#v}", "1.2.3"),
            ("v1.2.3", "${P%.*}-x", "v1.2-x"),
            ("v1.2.3", "${P//./_}", "v1_2_3"),
            ("a*b*c", r"${P#*\*}", "b*c"),
            ("a*b*c", r"${P//\*/}", "abc"),
            ("a/b/c", r"${P//\//-}", "a-b-c"),
            ("a$1b", "${P/a/$E$}", "$$1b"),
            ("äöü", "${P#?}", "öü"),
            ("äöü", "${P%?}", "äö"),
            ("", "${P#*}", ""),
            ("x", "${P//}", "x"),
        ] {
            let lookup = |name: &str| if name == "P" { Some(value.to_owned()) } else { lookup(name) };
            let expanded = expand(word, Escape::Backslash, lookup);
            let expected = if word == "${P//}" { Err(ExpandError::NoVariable("${P//}".to_owned())) } else { Ok(expected.to_owned()) };
            assert_eq!(expanded.map(|expanded| expanded.text), expected, "{value} {word}");
        }
        assert_eq!(expand("${NO#x}", Escape::Backslash, lookup).unwrap().unknown, ["NO"]);
    }

    #[test]
    fn the_other_escape_leaves_backslashes_alone() {
        assert_eq!(expand(r"C:\x\`$V", Escape::Backtick, lookup).unwrap().text, r"C:\x\$V");
    }

    #[test]
    fn heredocs_keep_their_quotes() {
        let expanded = expand_heredoc("it's \"$V\" \\$V \\n ${NO}\n", Escape::Backslash, lookup).unwrap();
        assert_eq!((expanded.text.as_str(), expanded.unknown), ("it's \"v\" $V \\n \n", vec!["NO".to_owned()]));
    }

    #[test]
    fn the_variables_of_a_word_are_found_without_values() {
        assert_eq!(variables("$A/${B:-$C}'$D'", Escape::Backslash), ["A", "C", "B"]);
    }
}
