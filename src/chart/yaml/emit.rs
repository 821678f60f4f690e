//! Values to text, after `yaml.v2`'s emitter: sorted keys, its styles of scalars, lines folded at 80 columns.

use std::cmp::Ordering;

use crate::chart::template::{Value, float};
use crate::chart::{budget, json};
use crate::yaml::{Resolved, is_base60, resolve};

/// Deeper than this nothing is written: a map may hold itself.
const DEEPEST: usize = 500;
/// Text is folded at the first blank after this column.
const WIDTH: usize = 80;

/// Writes a value as a document that ends with a newline.
///
/// # Errors
/// Fails for what JSON cannot say, and for what is nested too deep.
pub fn write(value: &Value) -> Result<String, String> {
    emit(value, false)
}

/// Writes a value as [`write`] does, with lists in mappings indented under their keys.
///
/// # Errors
/// Fails as [`write`] does.
pub fn write_pretty(value: &Value) -> Result<String, String> {
    emit(value, true)
}

fn emit(value: &Value, pretty: bool) -> Result<String, String> {
    let mut emitter = Emitter { out: String::new(), column: 0, pretty };
    emitter.value(value, Place { indent: 0, inside_map: false, depth: 0, root: true })?;
    emitter.put("\n");
    Ok(emitter.out)
}

#[derive(Clone, Copy)]
struct Place {
    /// The column of the collection that holds the value.
    indent: usize,
    inside_map: bool,
    depth: usize,
    root: bool,
}

struct Emitter {
    out: String,
    column: usize,
    /// Whether lists in mappings are indented.
    pretty: bool,
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column = match text.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.column + text.chars().count(),
        };
    }

    fn line(&mut self, indent: usize) {
        self.put("\n");
        self.put(&" ".repeat(indent));
    }

    fn value(&mut self, value: &Value, place: Place) -> Result<(), String> {
        if place.depth > DEEPEST {
            return Err("yaml: nested too deep".to_owned());
        }
        // what is deep is indented as far
        budget::spend(budget::VALUE + place.indent + value.as_text().map_or(0, str::len))?;
        match value {
            Value::Map(map) if map.borrow().is_empty() => self.word(place, "{}"),
            Value::Map(map) => {
                let map = map.borrow();
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                entries.sort_by(|(a, _), (b, _)| natural(a, b));
                let indent = if place.inside_map { place.indent + 2 } else { place.indent };
                for (at, (key, value)) in entries.into_iter().enumerate() {
                    if at > 0 || place.inside_map {
                        self.line(indent);
                    }
                    self.text(key, indent, true);
                    self.put(":");
                    self.value(value, Place { indent, inside_map: true, depth: place.depth + 1, root: false })?;
                }
            }
            Value::List(items) if items.is_empty() => self.word(place, "[]"),
            Value::List(items) => {
                // a list in a map stands under its key, not indented
                let indent = if self.pretty && place.inside_map { place.indent + 2 } else { place.indent };
                for (at, item) in items.iter().enumerate() {
                    if at > 0 || place.inside_map {
                        self.line(indent);
                    }
                    self.put("- ");
                    self.value(item, Place { indent: indent + 2, inside_map: false, depth: place.depth + 1, root: false })?;
                }
            }
            Value::Object(object) => self.value(&object.to_map(), Place { depth: place.depth + 1, ..place })?,
            Value::Text(text) => {
                self.word(place, "");
                // what follows a dash is already indented; what follows a key, or stands alone, is indented by two
                let indent = if place.inside_map || place.root { place.indent + 2 } else { place.indent };
                self.text(text, indent, false);
            }
            Value::Bytes(bytes) => {
                use base64::Engine as _;
                let text = Value::text(base64::engine::general_purpose::STANDARD.encode(bytes));
                self.value(&text, place)?;
            }
            Value::Float(number) => self.word(place, &number_text(*number)?),
            Value::Absent | Value::Nil => self.word(place, "null"),
            other => self.word(place, &crate::chart::template::display(other)),
        }
        Ok(())
    }

    fn word(&mut self, place: Place, word: &str) {
        if place.inside_map {
            self.put(" ");
        }
        self.put(word);
    }

    fn text(&mut self, text: &str, indent: usize, is_key: bool) {
        let shape = Shape::of(text);
        let plain = resolve(text) == Resolved::Text && !is_base60(text);
        if text.contains('\n') && shape.block && !is_key {
            self.literal(text, indent);
        } else if !text.contains('\n') && plain && shape.plain {
            self.folded(text, indent, is_key, "");
        } else if !text.contains('\n') && plain && shape.single {
            self.put("'");
            self.folded(&text.replace('\'', "''"), indent, is_key, "'");
            self.put("'");
        } else {
            self.double_quoted(text, indent, is_key);
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        if !text.ends_with('\n') {
            self.put("-");
        } else if text.len() == 1 || text.ends_with("\n\n") {
            self.put("+");
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.put("\n");
            if !line.is_empty() {
                self.put(&" ".repeat(indent));
                self.put(line);
            }
        }
    }

    /// Plain or single-quoted text; folded at a blank beyond the width, but not in a key.
    fn folded(&mut self, text: &str, indent: usize, is_key: bool, quote: &str) {
        let letters: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (at, letter) in letters.iter().enumerate() {
            let next_blank = letters.get(at + 1) == Some(&' ');
            let inside = quote.is_empty() || at > 0 && at < letters.len() - 1;
            if *letter == ' ' {
                if !is_key && !spaces && self.column > WIDTH && inside && !next_blank {
                    self.line(indent);
                } else {
                    self.put(" ");
                }
            } else {
                self.put(letter.encode_utf8(&mut [0; 4]));
            }
            spaces = *letter == ' ';
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, is_key: bool) {
        self.put("\"");
        let letters: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (at, letter) in letters.iter().enumerate() {
            if let Some(escaped) = escape(*letter) {
                self.put(&escaped);
                spaces = false;
            } else if *letter == ' ' {
                if !is_key && !spaces && self.column > WIDTH && at > 0 && at < letters.len() - 1 {
                    self.line(indent);
                    if letters.get(at + 1) == Some(&' ') {
                        self.put("\\");
                    }
                } else {
                    self.put(" ");
                }
                spaces = true;
            } else {
                self.put(letter.encode_utf8(&mut [0; 4]));
                spaces = false;
            }
        }
        self.put("\"");
    }
}

/// A number as it comes out of JSON and back: whole numbers without a point.
fn number_text(number: f64) -> Result<String, String> {
    let text = json::number(number)?;
    Ok(match resolve(&text) {
        Resolved::Float(value) => float(value, 'g', None),
        _ => text,
    })
}

/// What `yaml_emitter_analyze_scalar` finds: the styles that can hold a text.
struct Shape {
    plain: bool,
    single: bool,
    block: bool,
}

impl Shape {
    fn of(text: &str) -> Shape {
        let letters: Vec<char> = text.chars().collect();
        let (Some(first), Some(last)) = (letters.first(), letters.last()) else { return Shape { plain: true, single: true, block: false } };
        let blank = |at: usize| letters.get(at).is_none_or(|letter| matches!(letter, ' ' | '\t') || is_break(*letter));
        let indicator = text.starts_with("---")
            || text.starts_with("...")
            || letters.iter().enumerate().any(|(at, letter)| match letter {
                '#' if at > 0 => blank(at - 1),
                ':' => blank(at + 1),
                '?' | '-' if at == 0 => blank(1),
                _ => at == 0 && "#,[]{}&*!|>'\"%@`".contains(*letter),
            });
        let special = letters.iter().any(|letter| !is_printable(*letter));
        let pair = |a: fn(char) -> bool, b: fn(char) -> bool| letters.windows(2).any(|two| a(two[0]) && b(two[1]));
        let space: fn(char) -> bool = |letter| letter == ' ';
        let (break_space, space_break) = (pair(is_break, space), pair(space, is_break));
        let edges = [first, last].into_iter().any(|letter| *letter == ' ' || is_break(*letter));
        let lines = letters.iter().any(|letter| is_break(*letter));
        Shape {
            plain: !indicator && !special && !edges && !break_space && !space_break && !lines,
            single: !break_space && !space_break && !special,
            block: *last != ' ' && !space_break && !special,
        }
    }
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && letter != '\u{feff}'
}

/// The escape of a letter in double quotes; `None` where it stands for itself.
fn escape(letter: char) -> Option<String> {
    let code = u32::from(letter);
    Some(match letter {
        '\0' => "\\0".to_owned(),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        '\u{1b}' => "\\e".to_owned(),
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{85}' => "\\N".to_owned(),
        '\u{2028}' => "\\L".to_owned(),
        '\u{2029}' => "\\P".to_owned(),
        _ if is_printable(letter) => return None,
        _ if code <= 0xff => format!("\\x{code:02X}"),
        _ if code <= 0xffff => format!("\\u{code:04X}"),
        _ => format!("\\U{code:08X}"),
    })
}

/// The order of yaml.v2's keys: numbers inside by their value, letters after other signs.
fn natural(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(a, b)| a != b) else { return left.len().cmp(&right.len()) };
    match (left[at].is_alphabetic(), right[at].is_alphabetic()) {
        (true, true) => return left[at].cmp(&right[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => {}
    }
    let inside_number = (left[at] == '0' || right[at] == '0')
        && left[..at].iter().rev().take_while(|letter| letter.is_ascii_digit()).any(|letter| *letter != '0');
    let number = |letters: &[char]| {
        let digits: Vec<u32> = letters[at..].iter().map_while(|letter| letter.to_digit(10)).collect();
        let start = i64::from(inside_number);
        (digits.iter().fold(start, |sum, digit| sum.wrapping_mul(10).wrapping_add(i64::from(*digit))), digits.len())
    };
    number(&left).cmp(&number(&right)).then(left[at].cmp(&right[at]))
}
