//! Reads JSON as Go's `encoding/json`, with the words of its errors.

use super::number::parse_float;
use super::{Value, budget, quote};

/// Lists and objects nest this deep, as in Go.
const MAX_DEPTH: usize = 10_000;

/// Reads a value; all numbers are floats.
///
/// # Errors
/// Fails with Go's message where it is not JSON, and where a number is too large for a float.
pub fn read(text: &str) -> Result<Value, String> {
    budget::spend(text.len().saturating_mul(budget::VALUE))?;
    let mut reader = Reader { bytes: text.as_bytes(), at: 0, depth: 0, too_large: None };
    let value = reader.value()?;
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(reader.unexpected("after top-level value"));
    }
    reader.too_large.map_or(Ok(value), Err)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// The first number that no float can hold: reading goes on, as in Go.
    too_large: Option<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn end(&self) -> String {
        "unexpected end of JSON input".to_owned()
    }

    /// The error about the next byte. Go sees a space at the end of the text.
    fn unexpected(&self, context: &str) -> String {
        let byte = self.peek().unwrap_or(b' ');
        let shown = match byte {
            b'\'' => r"\'".to_owned(),
            b'"' => "\"".to_owned(),
            other => quote(&char::from(other).to_string()).trim_matches('"').to_owned(),
        };
        format!("invalid character '{shown}' {context}")
    }

    fn value(&mut self) -> Result<Value, String> {
        self.skip_space();
        match self.peek() {
            None => Err(self.end()),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Value::text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Nil),
            Some(_) => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<Value, String>) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Reads what follows an item: a comma, or the byte that closes; returns whether it closes.
    fn closes(&mut self, close: u8, context: &str) -> Result<bool, String> {
        self.skip_space();
        match self.peek() {
            None => return Err(self.end()),
            Some(byte) if byte == close || byte == b',' => self.at += 1,
            Some(_) => return Err(self.unexpected(context)),
        }
        Ok(self.bytes[self.at - 1] == close)
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::list(items));
        }
        loop {
            items.push(self.value()?);
            if self.closes(b']', "after array element")? {
                return Ok(Value::list(items));
            }
        }
    }

    fn object(&mut self) -> Result<Value, String> {
        let mut entries = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::map::<String>([]));
        }
        loop {
            self.skip_space();
            match self.peek() {
                None => return Err(self.end()),
                Some(b'"') => {}
                Some(_) => return Err(self.unexpected("looking for beginning of object key string")),
            }
            let key = self.string()?;
            self.skip_space();
            match self.peek() {
                None => return Err(self.end()),
                Some(b':') => self.at += 1,
                Some(_) => return Err(self.unexpected("after object key")),
            }
            entries.push((key, self.value()?));
            if self.closes(b'}', "after object key:value pair")? {
                return Ok(Value::map(entries));
            }
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, String> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.unexpected(&format!("in literal {word} (expecting '{}')", char::from(expected))));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected(context));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
        Ok(parse_float(&text).map_or_else(
            || {
                self.too_large.get_or_insert_with(|| format!("json: cannot unmarshal number {text} into Go value of type float64"));
                Value::Nil
            },
            Value::Float,
        ))
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.end()),
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut text)?;
                }
                Some(byte) if byte < 0x20 => return Err(self.unexpected("in string literal")),
                Some(byte) => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Reads what follows a backslash.
    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), String> {
        let simple = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.unit()?;
                let character = match char::from_u32(unit) {
                    None if (0xd800..0xdc00).contains(&unit) && self.bytes[self.at..].starts_with(b"\\u") => {
                        let after_first = self.at;
                        self.at += 2;
                        let low = self.unit()?;
                        let pair = (0xdc00..0xe000).contains(&low).then(|| 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
                        // half a pair is read again by itself
                        self.at = if pair.is_some() { self.at } else { after_first };
                        pair.and_then(char::from_u32)
                    }
                    other => other,
                };
                text.extend(character.unwrap_or('\u{fffd}').to_string().bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        text.push(simple);
        self.at += 1;
        Ok(())
    }

    /// Reads four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, String> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.unexpected(r"in \u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::json::{Style, write};

    /// Held to helm 3.17.3.
    #[test]
    fn errors_have_the_words_of_go() {
        for (text, expected) in [
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("[1", "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 2}"#, "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("tru", "invalid character ' ' in literal true (expecting 'e')"),
            (r#"{"a":tru}"#, "invalid character '}' in literal true (expecting 'e')"),
            ("1 2", "invalid character '2' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u12g4""#, r"invalid character 'g' in \u hexadecimal character escape"),
            ("\"a\nb\"", r"invalid character '\n' in string literal"),
            ("-", "invalid character ' ' in numeric literal"),
            ("1.", "invalid character ' ' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
            ("é", "invalid character 'Ã' looking for beginning of value"),
            ("[1e999]", "json: cannot unmarshal number 1e999 into Go value of type float64"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        for (text, expected) in [
            (r#" {"b" : [1, 2.50 ,-0], "a":null, "a": true} "#, r#"{"a":true,"b":[1,2.5,-0]}"#),
            (r#""\ud83d\ude00 \ud83d \/""#, "\"\u{1f600} \u{fffd} /\""),
            ("[]", "[]"),
            ("{}", "{}"),
        ] {
            assert_eq!(write(&read(text).unwrap(), Style::Raw).unwrap(), expected, "{text}");
        }
    }
}
