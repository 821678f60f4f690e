//! Case of words and line wrapping, after goutils, xstrings and `strings.Title`, which sprig uses.

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Upper,
    Lower,
    Digit,
    Separator,
}

fn class(letter: char) -> Class {
    match letter {
        '_' | '-' | ' ' => Class::Separator,
        _ if letter.is_uppercase() => Class::Upper,
        _ if letter.is_numeric() => Class::Digit,
        _ => Class::Lower,
    }
}

/// Converts as `xstrings.ToSnakeCase`: `HTTPServer` to `http_server`, `FirstName2` to `first_name_2`.
fn snakecase(word: &str, separator: char) -> String {
    let letters: Vec<char> = word.chars().collect();
    let mut out = String::new();
    for (at, letter) in letters.iter().copied().enumerate() {
        let before = at.checked_sub(1).map(|at| class(letters[at]));
        let after = letters.get(at + 1).map(|letter| class(*letter));
        let cut = match (before, class(letter)) {
            (None, _) | (Some(Class::Separator), _) => false,
            (Some(Class::Lower | Class::Digit), Class::Upper) => true,
            (Some(Class::Upper), Class::Upper) => after == Some(Class::Lower),
            (Some(Class::Lower | Class::Upper), Class::Digit) => true,
            _ => false,
        };
        if cut {
            out.push(separator);
        }
        if class(letter) == Class::Separator {
            out.push(separator);
        } else {
            out.extend(letter.to_lowercase());
        }
    }
    out
}

/// Converts as `xstrings.ToCamelCase`: `http_server` to `HttpServer`; separators at the start stay.
fn camelcase(word: &str) -> String {
    let start = word.find(|letter| class(letter) != Class::Separator).unwrap_or(word.len());
    let mut out = word[..start].to_owned();
    let mut first = true;
    for letter in word[start..].chars() {
        if class(letter) == Class::Separator {
            first = true;
        } else if first {
            out.extend(letter.to_uppercase());
            first = false;
        } else {
            out.push(letter);
        }
    }
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
