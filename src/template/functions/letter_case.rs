//! Case of words and line wrapping, after goutils, xstrings and `strings.Title`, which sprig uses.

use std::sync::LazyLock;

use regex::Regex;

use super::{Result, Row, int, string, text};
use crate::template::budget;

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("title", "s", |_, a| text(map_first_letters(string(a, 0), |letter| letter.to_uppercase().collect()))),
    ("untitle", "s", |_, a| text(untitle(string(a, 0)))),
    ("initials", "s", |_, a| text(string(a, 0).split_whitespace().filter_map(|word| word.chars().next()).collect::<String>())),
    ("swapcase", "s", |_, a| text(swapcase(string(a, 0)))),
    ("snakecase", "s", |_, a| text(snakecase(string(a, 0), '_'))),
    ("kebabcase", "s", |_, a| text(snakecase(string(a, 0), '-'))),
    ("camelcase", "s", |_, a| text(camelcase(string(a, 0)))),
    ("wrap", "is", |_, a| text(wrap(string(a, 1), int(a, 0), "\n", false))),
    ("wrapWith", "iss", |_, a| {
        budget::spend(string(a, 2).len().saturating_mul(string(a, 1).len()))?;
        text(wrap(string(a, 2), int(a, 0), string(a, 1), true))
    }),
    ("shuffle", "s", |_, a| shuffle(string(a, 0))),
];

fn shuffle(word: &str) -> Result {
    use rand::seq::SliceRandom as _;
    let mut letters: Vec<char> = word.chars().collect();
    letters.shuffle(&mut rand::rng());
    text(letters.into_iter().collect::<String>())
}

/// Changes the first letter of each word; as in `strings.Title`, a word ends at what is not a letter, digit or `_`.
fn map_first_letters(words: &str, change: impl Fn(char) -> String) -> String {
    let mut out = String::new();
    let mut previous = ' ';
    for letter in words.chars() {
        let inside = previous.is_alphanumeric() || previous == '_' || !previous.is_ascii() && !previous.is_whitespace();
        if inside {
            out.push(letter)
        } else {
            out.push_str(&change(letter))
        }
        previous = letter;
    }
    out
}

/// Puts the first letter of each word in lower case; words end at white space.
fn untitle(words: &str) -> String {
    let mut out = String::new();
    let mut starts = true;
    for letter in words.chars() {
        if starts {
            out.extend(letter.to_lowercase())
        } else {
            out.push(letter)
        }
        starts = letter.is_whitespace();
    }
    out
}

fn swapcase(word: &str) -> String {
    let mut out = String::new();
    for letter in word.chars() {
        if letter.is_uppercase() {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
    }
    out
}

/// The kinds of parts that `xstrings` splits a text into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    Number,
    UpperCase,
    Alphabet,
    Connector,
    Punctuation,
    Other,
}

fn is_connector(letter: char) -> bool {
    letter == '-' || letter == '_' || letter.is_whitespace()
}

/// Go's `unicode.IsPunct`: `$+<=>^`|~` are symbols and not punctuation.
fn is_punctuation(letter: char) -> bool {
    static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{P}").expect("the pattern is constant and valid"));
    if letter.is_ascii() {
        return letter.is_ascii_punctuation() && !"$+<=>^`|~".contains(letter);
    }
    PUNCTUATION.is_match(letter.encode_utf8(&mut [0; 4]))
}

/// `xstrings.isAlphabet`: a letter that is not one of the common Chinese characters.
fn is_alphabet(letter: char) -> bool {
    letter.is_alphabetic() && !matches!(letter, '\u{3400}'..='\u{4d85}' | '\u{4e00}'..='\u{9fcc}' | '\u{20000}'..='\u{2b81d}')
}

/// Splits off the first part of a text, as `xstrings.nextWord`.
fn next_part(text: &str) -> (Part, &str, &str) {
    let Some(first) = text.chars().next() else { return (Part::None, "", "") };
    let run = |from: usize, fits: &dyn Fn(char) -> bool| from + text[from..].find(|letter| !fits(letter)).unwrap_or(text.len() - from);
    let start = first.len_utf8();
    let (part, end) = if is_connector(first) {
        (Part::Connector, run(start, &is_connector))
    } else if is_punctuation(first) {
        (Part::Punctuation, run(start, &is_punctuation))
    } else if first.is_uppercase() {
        let second = text[start..].chars().next();
        let end = match second {
            Some(second) if second.is_uppercase() => {
                let end = run(start, &char::is_uppercase);
                // of `HTTPStatus` the `S` belongs to what follows
                let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
                if text[end..].starts_with(is_alphabet) { end - last } else { end }
            }
            Some(second) if is_alphabet(second) => run(start, &|letter| is_alphabet(letter) && !letter.is_uppercase()),
            _ => start,
        };
        (Part::UpperCase, end)
    } else if is_alphabet(first) {
        (Part::Alphabet, run(start, &|letter| is_alphabet(letter) && !letter.is_uppercase()))
    } else if first.is_numeric() {
        (Part::Number, run(start, &char::is_numeric))
    } else {
        let fits = |letter| !is_connector(letter) && !is_alphabet(letter) && !char::is_numeric(letter) && !is_punctuation(letter);
        (Part::Other, run(start, &fits))
    };
    (part, &text[..end], &text[end..])
}

fn push_lower(out: &mut String, part: Part, text: &str, connector: char) {
    match part {
        Part::UpperCase => out.extend(text.chars().map(|letter| super::strings::simple_case(letter, letter.to_lowercase()))),
        Part::Connector => out.extend(text.chars().map(|_| connector)),
        _ => out.push_str(text),
    }
}

/// Converts as `xstrings.ToSnakeCase` 1.5: `HTTPServer` to `http_server`, `http2xx` to `http_2xx`, `Bld4Floor` to `bld4_floor`.
fn snakecase(text: &str, connector: char) -> String {
    let mut out = String::new();
    let (mut part, mut word, mut rest) = next_part(text);
    let separates = |part: Part| !matches!(part, Part::Connector | Part::Punctuation);
    while !rest.is_empty() {
        if part != Part::Connector {
            push_lower(&mut out, part, word, connector);
        }
        let (previous, last) = (part, word);
        (part, word, rest) = next_part(rest);
        match previous {
            Part::Number => {
                while matches!(part, Part::Alphabet | Part::Number) {
                    push_lower(&mut out, part, word, connector);
                    (part, word, rest) = next_part(rest);
                }
                if part != Part::None && separates(part) {
                    out.push(connector);
                }
            }
            Part::Connector => push_lower(&mut out, previous, last, connector),
            Part::Punctuation => {}
            _ if part != Part::Number => {
                if separates(part) {
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (part, word, rest) = next_part(rest);
                if part != Part::Alphabet {
                    // a number is part of the word before it, unless letters in lower case follow
                    out.push_str(number);
                    if separates(part) {
                        out.push(connector);
                    }
                    continue;
                }
                out.push(connector);
                out.push_str(number);
                while matches!(part, Part::Alphabet | Part::Number) {
                    push_lower(&mut out, part, word, connector);
                    (part, word, rest) = next_part(rest);
                }
                if part != Part::None && separates(part) {
                    out.push(connector);
                }
            }
        }
    }
    push_lower(&mut out, part, word, connector);
    out
}

/// Converts as `xstrings.ToPascalCase` 1.5: `http_server` to `HttpServer`, `ID_YB` to `IdYb`; connectors at the start stay, and all but the last
/// of several.
fn camelcase(text: &str) -> String {
    let upper = |letter: char| super::strings::simple_case(letter, letter.to_uppercase());
    let lower = |letter: char| super::strings::simple_case(letter, letter.to_lowercase());
    let start = text.find(|letter| !is_connector(letter)).unwrap_or(text.len());
    let mut out = text[..start].to_owned();
    let mut letters = text[start..].chars();
    let Some(first) = letters.next() else { return out };
    let (mut was_upper, mut last) = (first.is_uppercase(), upper(first));
    for letter in letters {
        let mut letter = letter;
        match (is_connector(letter), is_connector(last)) {
            (true, true) => out.push(last),
            (false, true) => {
                was_upper = letter.is_uppercase();
                letter = upper(letter);
            }
            _ => {
                if was_upper && letter.is_uppercase() {
                    letter = lower(letter);
                } else {
                    was_upper = false;
                }
                out.push(last);
            }
        }
        last = letter;
    }
    out.push(last);
    out
}

/// Breaks lines at spaces to a width in characters, as `goutils.WrapCustom`; `breaks_words` breaks words that are wider.
fn wrap(words: &str, width: i64, newline: &str, breaks_words: bool) -> String {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let letters: Vec<char> = words.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while letters.len() - at > width {
        if letters[at] == ' ' {
            at += 1;
            continue;
        }
        let end = at + width;
        let blank = letters[at..=end.min(letters.len() - 1)].iter().rposition(|letter| *letter == ' ').map(|offset| at + offset);
        let (cut, next) = match blank.filter(|blank| *blank >= at && *blank > 0) {
            Some(blank) => (blank, blank + 1),
            None if breaks_words => (end, end),
            None => match letters[end..].iter().position(|letter| *letter == ' ') {
                Some(offset) => (end + offset, end + offset + 1),
                None => break,
            },
        };
        out.extend(&letters[at..cut]);
        out.push_str(newline);
        at = next;
    }
    out.extend(&letters[at..]);
    out
}
