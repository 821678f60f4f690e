//! Patterns in `${NAME#pattern}`, `${NAME%pattern}` and `${NAME/pattern/other}`: `*` is any text, `?` any character, `\` guards.

use regex::{NoExpand, Regex};

enum Token {
    Any,
    One,
    Char(char),
}

/// The value without the shortest (or longest) beginning that the pattern matches.
pub fn without_prefix(value: &str, pattern: &str, longest: bool) -> String {
    match regex("^", tokens(pattern).iter(), longest).and_then(|regex| regex.find(value)) {
        Some(found) => value[found.end()..].to_owned(),
        None => value.to_owned(),
    }
}

/// The value without the shortest (or longest) end that the pattern matches.
pub fn without_suffix(value: &str, pattern: &str, longest: bool) -> String {
    let backwards: String = value.chars().rev().collect();
    match regex("^", tokens(pattern).iter().rev(), longest).and_then(|regex| regex.find(&backwards)) {
        Some(found) => value[..value.len() - found.end()].to_owned(),
        None => value.to_owned(),
    }
}

/// The value with another text where the pattern matches first, or everywhere.
pub fn replaced(value: &str, pattern: &str, other: &str, everywhere: bool) -> String {
    let regex = regex("", tokens(pattern).iter(), true).filter(|_| !pattern.is_empty());
    match regex {
        Some(regex) => regex.replacen(value, if everywhere { 0 } else { 1 }, NoExpand(other)).into_owned(),
        None => value.to_owned(),
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let (mut tokens, mut chars) = (Vec::new(), pattern.chars());
    while let Some(char) = chars.next() {
        tokens.push(match char {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Char(chars.next().unwrap_or('\\')),
            _ => Token::Char(char),
        });
    }
    tokens
}

/// `None` if the pattern is too large: it matches nothing then.
fn regex<'a>(start: &str, tokens: impl Iterator<Item = &'a Token>, longest: bool) -> Option<Regex> {
    let mut text = format!("(?s){start}");
    for token in tokens {
        match token {
            Token::Any => text += if longest { ".*" } else { ".*?" },
            Token::One => text.push('.'),
            Token::Char(char) => text += &regex::escape(&char.to_string()),
        }
    }
    Regex::new(&text).ok()
}
