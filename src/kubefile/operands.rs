//! The operands of an instruction: words, JSON lists, flags, key-value pairs.

use crate::diagnostic::Span;

use super::logical_line::LogicalLine;
use super::{Escape, Pair, Word};

/// What follows an instruction's name on its line, or what is left of it.
#[derive(Clone)]
pub(super) struct Operands<'a> {
    line: &'a LogicalLine,
    range: Span,
    escape: Escape,
}

/// `--name`, or `--name=value`.
pub(super) struct Flag {
    /// The whole.
    pub word: Word,
    /// What follows the `=`.
    pub value: Option<Word>,
}

impl Flag {
    /// Its name, without the dashes.
    pub fn name(&self) -> &str {
        let name = self.word.value.trim_start_matches("--");
        name.split_once('=').map_or(name, |(name, _)| name)
    }
}

impl<'a> Operands<'a> {
    /// The line's first word and what follows it.
    pub fn of(line: &'a LogicalLine, escape: Escape) -> (Word, Self) {
        let text = &line.text;
        let start = text.len() - text.trim_start().len();
        let end = text[start..].find(char::is_whitespace).map_or(text.len(), |length| start + length);
        let word = Word::new(text[start..end].to_owned(), line.span(start..end));
        (word, Operands { line, range: end..text.len(), escape }.trimmed())
    }

    /// Without blanks around it, and without an escape character at its end that escapes nothing.
    fn trimmed(mut self) -> Self {
        let text = self.text();
        let mut kept = text.trim_end();
        while is_dangling(kept, self.escape) {
            kept = kept[..kept.len() - 1].trim_end();
        }
        let front = kept.len() - kept.trim_start().len();
        self.range = self.range.start + front..self.range.start + kept.len();
        self
    }

    fn text(&self) -> &'a str {
        &self.line.text[self.range.clone()]
    }

    fn word_at(&self, range: Span) -> Word {
        Word::new(self.line.text[range.clone()].to_owned(), self.line.span(range))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Where it stands; the whole line if it is empty.
    pub fn span(&self) -> Span {
        if self.is_empty() { self.line.whole() } else { self.line.span(self.range.clone()) }
    }

    /// All that is left as one word.
    pub fn rest(&self) -> Word {
        self.word_at(self.range.clone())
    }

    /// The words, separated by blanks outside quotes.
    pub fn words(&self) -> Vec<Word> {
        self.word_ranges().map(|range| self.word_at(range)).collect()
    }

    /// Where the words are in the line.
    fn word_ranges(&self) -> impl Iterator<Item = Span> {
        split(self.text(), self.escape).into_iter().map(|at| self.range.start + at.start..self.range.start + at.end)
    }

    /// The words, each split at its first `=`; one without it, or with nothing before it, as it is.
    pub fn keys_and_values(&self) -> impl Iterator<Item = Result<Pair, Word>> {
        self.word_ranges().map(|range| match self.line.text[range.clone()].find('=').filter(|length| *length > 0) {
            Some(length) => {
                let middle = range.start + length;
                Ok(Pair { key: self.word_at(range.start..middle), value: self.word_at(middle + 1..range.end) })
            }
            None => Err(self.word_at(range)),
        })
    }

    /// The first word and what follows it.
    pub fn shift(&self) -> Option<(Word, Self)> {
        let first = split(self.text(), self.escape).into_iter().next()?;
        let end = self.range.start + first.end;
        let rest = Operands { range: end..self.range.end, ..self.clone() };
        Some((self.word_at(self.range.start + first.start..end), rest.trimmed()))
    }

    /// Takes the words that start with `--` off the front.
    pub fn flags(mut self) -> (Vec<Flag>, Self) {
        let mut flags = Vec::new();
        while let Some((word, rest)) = self.shift().filter(|(word, _)| word.value.starts_with("--")) {
            let value = self.keys_and_values().next().and_then(Result::ok).map(|pair| pair.value);
            flags.push(Flag { word, value });
            self = rest;
        }
        (flags, self)
    }

    /// The strings of a JSON list, if it is one. Anything else, docker reads as words.
    pub fn json(&self) -> Option<Vec<Word>> {
        let text = self.text();
        let values: Vec<String> = text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()?;
        let spans = string_literals(text);
        let at = |span: Span| self.line.span(self.range.start + span.start..self.range.start + span.end);
        Some(values.into_iter().zip(spans).map(|(value, span)| Word::new(value, at(span))).collect())
    }

    /// A JSON list, else words.
    pub fn list(&self) -> Vec<Word> {
        self.json().unwrap_or_else(|| self.words())
    }

    /// `K=V …`, or in docker's older form `K all the rest`. Fails with the word that is neither.
    pub fn pairs(&self) -> Result<Vec<Pair>, Word> {
        let words = self.words();
        match words.first() {
            Some(first) if !first.value.contains('=') => match self.shift() {
                Some((key, rest)) if !rest.is_empty() => Ok(vec![Pair { key, value: rest.rest() }]),
                _ => Err(first.clone()),
            },
            _ => self.keys_and_values().collect(),
        }
    }
}

/// Whether a text ends with an escape character that is not itself escaped.
fn is_dangling(text: &str, escape: Escape) -> bool {
    text.chars().rev().take_while(|char| *char == escape.char()).count() % 2 == 1
}

/// Where the words of a text are: separated by blanks outside quotes. A quote that does not end holds nothing together.
pub(super) fn split(text: &str, escape: Escape) -> Vec<Span> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find(|char: char| !char.is_whitespace()).map(|skip| at + skip) {
        let end = begin + word_length(&text[begin..], escape);
        words.push(begin..end);
        at = end;
    }
    words
}

fn word_length(text: &str, escape: Escape) -> usize {
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\'' | '"' => {
                if let Some(length) = quoted_length(&text[at..], char, escape) {
                    chars.by_ref().take_while(|(index, _)| *index < at + length - 1).for_each(drop);
                }
            }
            _ if char == escape.char() => drop(chars.next()),
            _ if char.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

/// The length of a quoted text with its quotes, if it ends.
fn quoted_length(text: &str, quote: char, escape: Escape) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        if char == quote {
            return Some(at + 1);
        }
        if char == escape.char() && quote == '"' {
            chars.next();
        }
    }
    None
}

/// Where the string literals of a valid JSON text are, quotes included.
fn string_literals(text: &str) -> Vec<Span> {
    let mut literals = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find('"').map(|skip| at + skip) {
        at = begin + quoted_length(&text[begin..], '"', Escape::Backslash).unwrap_or(text.len() - begin);
        literals.push(begin..at);
    }
    literals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubefile::logical_line::Lines;

    fn with<T>(text: &str, look: impl FnOnce(Operands<'_>) -> T) -> T {
        let line = Lines::new("K", text, &mut Vec::new()).logical(&mut Vec::new()).unwrap();
        look(Operands::of(&line, Escape::Backslash).1)
    }

    #[test]
    fn words_split_at_blanks_outside_quotes() {
        for (text, expected) in [
            ("C a  b\tc ", vec!["a", "b", "c"]),
            (r#"C "a b" c'd e'f"#, vec![r#""a b""#, "c'd e'f"]),
            (r"C a\ b c", vec![r"a\ b", "c"]),
            (r#"C "a\" b" c"#, vec![r#""a\" b""#, "c"]),
            ("C it's here", vec!["it's", "here"]),
            ("C '' x", vec!["''", "x"]),
            ("C", vec![]),
        ] {
            let words: Vec<String> = with(text, |operands| operands.words().into_iter().map(|word| word.value).collect());
            assert_eq!(words, expected, "{text}");
        }
    }

    #[test]
    fn json_lists_know_where_their_strings_are() {
        let text = r#"L ["a", "b\"c"]"#;
        let words = with(text, |operands| operands.json()).unwrap();
        assert_eq!((words[1].value.as_str(), &text[words[1].span.clone()]), ("b\"c", r#""b\"c""#));
        for other in ["L [a]", "L [1]", "L a", "L ['a']", "L [ -f x ] && y"] {
            assert!(with(other, |operands| operands.json()).is_none(), "{other}");
        }
    }

    #[test]
    fn pairs_come_in_both_forms() {
        let show = |pairs: Result<Vec<Pair>, Word>| match pairs {
            Ok(pairs) => pairs.iter().map(|pair| format!("{}|{}", pair.key.value, pair.value.value)).collect::<Vec<_>>().join(" "),
            Err(word) => format!("no: {}", word.value),
        };
        for (text, expected) in [
            ("E a=1 b='2 3'", "a|1 b|'2 3'"),
            ("E a all of it", "a|all of it"),
            ("E a b=c", "a|b=c"),
            ("E a=", "a|"),
            ("E a", "no: a"),
            ("E a=1 b", "no: b"),
            ("E =1", "no: =1"),
        ] {
            assert_eq!(with(text, |operands| show(operands.pairs())), expected, "{text}");
        }
    }

    #[test]
    fn flags_are_taken_from_the_front_only() {
        let (flags, rest) = with("C --a=1 --b x --c", |operands| {
            let (flags, rest) = operands.flags();
            (flags.len(), rest.rest().value)
        });
        assert_eq!((flags, rest.as_str()), (2, "x --c"));
    }
}
