//! A Clusterfile's text with its passwords struck out, so that messages can show the lines around a mistake.

use crate::diagnostic::Span;
use crate::yaml::{Content, Node, read_all};

/// The fields that hold secrets.
const SECRET: [&str; 3] = ["passwd", "pkpasswd", "password"];

/// The text with every password replaced by as many bytes of `*`: places stay what they are.
pub fn masked(text: &str) -> String {
    let mut spans = Vec::new();
    // merge keys stay: a password that another one overrides is secret too
    match read_all(text) {
        (nodes, None) => nodes.iter().for_each(|node| find(node, &mut spans)),
        (_, Some(_)) => find_in_lines(text, &mut spans),
    }
    let mut bytes = text.as_bytes().to_vec();
    for byte in spans.into_iter().flat_map(|span| within(&span, text.len())) {
        if bytes[byte] != b'\n' {
            bytes[byte] = b'*';
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn within(span: &Span, length: usize) -> Span {
    span.start.min(length)..span.end.min(length)
}

fn find(node: &Node, spans: &mut Vec<Span>) {
    for (key, value) in node.entries() {
        match &value.content {
            Content::Scalar(_) if value.text().is_some() && key.text().is_some_and(is_secret) => spans.push(value.span.clone()),
            _ => find(value, spans),
        }
    }
    if let Content::List(items) = &node.content {
        items.iter().for_each(|item| find(item, spans));
    }
}

fn is_secret(key: &str) -> bool {
    SECRET.contains(&key.to_lowercase().as_str())
}

/// What follows such a field to the end of its line, in a text that is not YAML.
fn find_in_lines(text: &str, spans: &mut Vec<Span>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let word =
            |before: &str| before.rsplit(|character: char| !character.is_alphanumeric()).find(|word| !word.is_empty()).map(is_secret);
        let colon = line.match_indices(':').map(|(at, _)| at).find(|at| word(&line[..*at]) == Some(true));
        spans.extend(colon.map(|at| start + at + 1..start + line.len()));
        start += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_struck_out_and_places_stay() {
        let cases = [
            ("a: {passwd: s3cret, port: 22}\n", "a: {passwd: ******, port: 22}\n"),
            ("- pkPasswd: \"s: x\"\n  Password: 1234\n", "- pkPasswd: ******\n  Password: ****\n"),
            ("passwdFrom: {env: NAME}\npasswd:\npk: x\n", "passwdFrom: {env: NAME}\npasswd:\npk: x\n"),
            ("a: {passwd: x, <<: {passwd: s3cret}}\n", "a: {passwd: *, <<: {passwd: ******}}\n"),
            ("a: [\n  passwd: s3cret, x\nport: 22\n", "a: [\n  passwd:**********\nport: 22\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn every_kind_of_scalar_is_struck_out() {
        for value in
            ["'geheim'", "|\n    geheim\n", ">-\n    geheim\n    geheim\n", "!!str geheim", "&a geheim", "gehéim", "geheim, geheim"]
        {
            let text = format!("spec:\n  passwd: {value}\n  port: 1\n");
            let masked = masked(&text);
            assert!(!masked.contains("geh") && masked.contains("port: 1") && masked.len() == text.len(), "{masked}");
        }
    }
}
