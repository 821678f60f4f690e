//! Heredocs: which words of a line announce one, and the lines up to the word that ends it.

use crate::diagnostic::Diagnostic;

use super::logical_line::Lines;
use super::{Heredoc, Spanned, Word};

/// What `<<NAME` announces.
struct Announced {
    name: String,
    expand: bool,
    chomp: bool,
}

/// Whether a word announces a heredoc: `<<EOF`, `<<-EOF`, `<<"EOF"`, `0<<EOF`.
pub(super) fn is_announcement(word: &str) -> bool {
    announced(word).is_some()
}

fn announced(word: &str) -> Option<Announced> {
    let rest = word.trim_start_matches(|char: char| char.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let quoted = |quote: char| rest.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let (expand, name) = quoted('"').or_else(|| quoted('\'')).map_or((true, rest), |name| (false, name));
    let is_name = |char: char| char.is_alphanumeric() || "_.-".contains(char);
    (!name.is_empty() && name.chars().all(is_name)).then(|| Announced { name: name.to_owned(), expand, chomp })
}

/// Reads the heredocs that `words` announce from the lines that follow, in order.
pub(super) fn read(words: &[Word], lines: &mut Lines<'_>, file: &str) -> Result<Vec<Heredoc>, Diagnostic> {
    words
        .iter()
        .filter_map(|word| announced(&word.value).map(|announced| (word, announced)))
        .map(|(word, announced)| one(word, announced, lines, file))
        .collect()
}

fn one(word: &Word, announced: Announced, lines: &mut Lines<'_>, file: &str) -> Result<Heredoc, Diagnostic> {
    let begin = lines.offset();
    let mut content = String::new();
    while let Some((offset, line)) = lines.physical() {
        let line = if announced.chomp { line.trim_start_matches('\t') } else { line };
        if line == announced.name {
            let Announced { name, expand, chomp } = announced;
            return Ok(Heredoc { name, expand, chomp, content: Spanned::new(content, begin..offset) });
        }
        content.push_str(line);
        content.push('\n');
    }
    let error = Diagnostic::error(file, word.span.clone(), format!("the heredoc `{}` does not end", announced.name));
    Err(error.label("begins here").help(format!("end it with a line that is only `{}`", announced.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_told_from_other_words() {
        for (word, expected) in [
            ("<<EOF", Some(("EOF", true, false))),
            ("<<-EOF", Some(("EOF", true, true))),
            ("<<\"EOF\"", Some(("EOF", false, false))),
            ("<<'a.yaml'", Some(("a.yaml", false, false))),
            ("0<<EOF", Some(("EOF", true, false))),
            ("<<<EOF", None),
            ("<<", None),
            ("a<<EOF", None),
            ("<<E|F", None),
        ] {
            let found = announced(word);
            assert_eq!(found.as_ref().map(|found| (found.name.as_str(), found.expand, found.chomp)), expected, "{word}");
        }
    }
}
