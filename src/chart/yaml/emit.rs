//! Values of templates to YAML, as the emitter of Go's `yaml.v2` writes it: sorted keys, its choice of quotes, lines folded at 80 columns.

use std::cmp::Ordering;

use crate::template::{Value, float};
use crate::template::{budget, json};
use crate::yaml::{Resolved, is_base60, resolve};

/// The limit of nesting: a map may contain itself.
const MAX_DEPTH: usize = 500;
/// Longer keys are written behind a `?`.
const MAX_SIMPLE_KEY: usize = 128;
/// Lines are folded at the first space after this column.
const FOLD_COLUMN: usize = 80;

/// Writes a value as a document that ends with a newline.
///
/// # Errors
/// Fails for numbers that JSON does not have (`.inf`, `.nan`), and beyond 500 levels of nesting.
pub fn write(value: &Value) -> Result<String, String> {
    emit(value, false)
}

/// Writes a value as [`write`] does, but indents lists below their keys and folds no lines (`toYamlPretty`, which is yaml.v3).
///
/// # Errors
/// Fails as [`write`] does.
pub fn write_pretty(value: &Value) -> Result<String, String> {
    emit(value, true)
}

fn emit(value: &Value, pretty: bool) -> Result<String, String> {
    let mut emitter = Emitter { out: String::new(), column: 0, pretty, fold_column: if pretty { usize::MAX } else { FOLD_COLUMN } };
    emitter.value(value, Position { indent: 0, inside_map: false, depth: 0, root: true })?;
    emitter.push("\n");
    Ok(emitter.out)
}

#[derive(Clone, Copy)]
struct Position {
    /// The column of the list or mapping that contains the value.
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
    fold_column: usize,
}

impl Emitter {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
        self.column = match text.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.column + text.chars().count(),
        };
    }

    fn line(&mut self, indent: usize) {
        self.push("\n");
        self.push(&" ".repeat(indent));
    }

    fn value(&mut self, value: &Value, position: Position) -> Result<(), String> {
        if position.depth > MAX_DEPTH {
            return Err("yaml: nested too deep".to_owned());
        }
        // indentation is work too
        budget::spend(budget::VALUE + position.indent + value.as_text().map_or(0, str::len))?;
        match value {
            Value::Map(map) if map.borrow().is_empty() => self.word(position, "{}"),
            Value::Map(map) => {
                let map = map.borrow();
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                entries.sort_by(|(a, _), (b, _)| natural_order(a, b));
                let indent = if position.inside_map { position.indent + 2 } else { position.indent };
                for (at, (key, value)) in entries.into_iter().enumerate() {
                    if at > 0 || position.inside_map {
                        self.line(indent);
                    }
                    self.entry(key, value, Position { indent, inside_map: true, depth: position.depth + 1, root: false })?;
                }
            }
            Value::List(items) if items.is_nil() => self.word(position, "null"),
            Value::List(items) if items.is_empty() => self.word(position, "[]"),
            Value::List(items) => {
                // yaml.v2 does not indent a list below its key
                let indent = if self.pretty && position.inside_map { position.indent + 2 } else { position.indent };
                for (at, item) in items.iter().enumerate() {
                    if at > 0 || position.inside_map {
                        self.line(indent);
                    }
                    self.push("- ");
                    self.value(item, Position { indent: indent + 2, inside_map: false, depth: position.depth + 1, root: false })?;
                }
            }
            Value::Object(object) if object.is_nil() => self.word(position, "null"),
            Value::Object(object) => self.value(&object.to_plain(), Position { depth: position.depth + 1, ..position })?,
            Value::Text(text) => {
                self.word(position, "");
                // lines of text after a dash are indented already; after a key, or alone, they are indented by two
                let indent = if position.inside_map || position.root { position.indent + 2 } else { position.indent };
                self.text(text, indent, false);
            }
            Value::Bytes(bytes) => {
                use base64::Engine as _;
                let text = Value::text(base64::engine::general_purpose::STANDARD.encode(bytes));
                self.value(&text, position)?;
            }
            Value::Float(number) => self.word(position, &number_text(*number)?),
            Value::Absent | Value::Nil => self.word(position, "null"),
            other => self.word(position, &crate::template::display(other)),
        }
        Ok(())
    }

    /// Writes a key and its value; a key of several lines, or a long one, is written behind a `?`.
    fn entry(&mut self, key: &str, value: &Value, position: Position) -> Result<(), String> {
        if key.len() <= MAX_SIMPLE_KEY && !key.chars().any(is_break) {
            self.text(key, position.indent, true);
            self.push(":");
            return self.value(value, position);
        }
        self.push("? ");
        self.text(key, position.indent + 2, false);
        self.line(position.indent);
        self.push(":");
        let value = match value {
            Value::Object(object) => object.to_plain(),
            other => other.clone(),
        };
        let starts_here = match &value {
            Value::Map(map) => !map.borrow().is_empty(),
            Value::List(items) => !items.is_empty(),
            _ => false,
        };
        if starts_here {
            self.push(" ");
            return self.value(&value, Position { indent: position.indent + 2, inside_map: false, ..position });
        }
        self.value(&value, position)
    }

    fn word(&mut self, position: Position, word: &str) {
        if position.inside_map {
            self.push(" ");
        }
        self.push(word);
    }

    fn text(&mut self, text: &str, indent: usize, is_key: bool) {
        let allowed = AllowedStyles::of(text);
        let plain = resolve(text) == Resolved::Text && !is_base60(text);
        if text.contains('\n') && allowed.block && !is_key {
            self.literal(text, indent);
        } else if !text.contains('\n') && plain && allowed.plain {
            self.folded(text, indent, is_key, "");
        } else if !text.contains('\n') && plain && allowed.single {
            self.push("'");
            self.folded(&text.replace('\'', "''"), indent, is_key, "'");
            self.push("'");
        } else {
            self.double_quoted(text, indent, is_key);
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.push("|");
        if text.starts_with([' ', '\n']) {
            self.push("2");
        }
        if !text.ends_with('\n') {
            self.push("-");
        } else if text.len() == 1 || text.ends_with("\n\n") {
            self.push("+");
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.push("\n");
            if !line.is_empty() {
                self.push(&" ".repeat(indent));
                self.push(line);
            }
        }
    }

    /// Plain or single-quoted text, folded unless it is a key.
    fn folded(&mut self, text: &str, indent: usize, is_key: bool, quote: &str) {
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (at, c) in chars.iter().enumerate() {
            let next_blank = chars.get(at + 1) == Some(&' ');
            let inside = quote.is_empty() || at > 0 && at < chars.len() - 1;
            if *c == ' ' {
                if !is_key && !spaces && self.column > self.fold_column && inside && !next_blank {
                    self.line(indent);
                } else {
                    self.push(" ");
                }
            } else {
                self.push(c.encode_utf8(&mut [0; 4]));
            }
            spaces = *c == ' ';
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, is_key: bool) {
        self.push("\"");
        let chars: Vec<char> = text.chars().collect();
        let mut spaces = false;
        for (at, c) in chars.iter().enumerate() {
            if let Some(escaped) = escape(*c) {
                self.push(&escaped);
                spaces = false;
            } else if *c == ' ' {
                if !is_key && !spaces && self.column > self.fold_column && at > 0 && at < chars.len() - 1 {
                    self.line(indent);
                    if chars.get(at + 1) == Some(&' ') {
                        self.push("\\");
                    }
                } else {
                    self.push(" ");
                }
                spaces = true;
            } else {
                self.push(c.encode_utf8(&mut [0; 4]));
                spaces = false;
            }
        }
        self.push("\"");
    }
}

/// A number after a round trip through JSON: whole numbers without a point.
fn number_text(number: f64) -> Result<String, String> {
    let text = json::number(number)?;
    Ok(match resolve(&text) {
        Resolved::Float(value) => float(value, 'g', None),
        _ => text,
    })
}

/// The styles that can represent a text, as `yaml_emitter_analyze_scalar` finds them.
struct AllowedStyles {
    plain: bool,
    single: bool,
    block: bool,
}

impl AllowedStyles {
    fn of(text: &str) -> AllowedStyles {
        let chars: Vec<char> = text.chars().collect();
        let (Some(first), Some(last)) = (chars.first(), chars.last()) else {
            return AllowedStyles { plain: true, single: true, block: false };
        };
        let blank = |at: usize| chars.get(at).is_none_or(|c| matches!(c, ' ' | '\t') || is_break(*c));
        let indicator = text.starts_with("---")
            || text.starts_with("...")
            || chars.iter().enumerate().any(|(at, c)| match c {
                '#' if at > 0 => blank(at - 1),
                ':' => blank(at + 1),
                '?' | '-' if at == 0 => blank(1),
                _ => at == 0 && "#,[]{}&*!|>'\"%@`".contains(*c),
            });
        let unprintable = chars.iter().any(|c| !is_printable(*c));
        let pair = |a: fn(char) -> bool, b: fn(char) -> bool| chars.windows(2).any(|two| a(two[0]) && b(two[1]));
        let space: fn(char) -> bool = |c| c == ' ';
        let (break_space, space_break) = (pair(is_break, space), pair(space, is_break));
        let edges = [first, last].into_iter().any(|c| *c == ' ' || is_break(*c));
        let lines = chars.iter().any(|c| is_break(*c));
        AllowedStyles {
            plain: !indicator && !unprintable && !edges && !break_space && !space_break && !lines,
            single: !break_space && !space_break && !unprintable,
            block: *last != ' ' && !space_break && !unprintable,
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// The escape sequence of a character in double quotes; `None` if it needs none.
fn escape(c: char) -> Option<String> {
    let code = u32::from(c);
    Some(match c {
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
        _ if is_printable(c) => return None,
        _ if code <= 0xff => format!("\\x{code:02X}"),
        _ if code <= 0xffff => format!("\\u{code:04X}"),
        _ => format!("\\U{code:08X}"),
    })
}

/// The order of keys in yaml.v2: digits compare as numbers, letters come after other characters.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(a, b)| a != b) else { return left.len().cmp(&right.len()) };
    match (left[at].is_alphabetic(), right[at].is_alphabetic()) {
        (true, true) => return left[at].cmp(&right[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => {}
    }
    let inside_number =
        (left[at] == '0' || right[at] == '0') && left[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |chars: &[char]| {
        let digits: Vec<u32> = chars[at..].iter().map_while(|c| c.to_digit(10)).collect();
        let start = i64::from(inside_number);
        (digits.iter().fold(start, |sum, digit| sum.wrapping_mul(10).wrapping_add(i64::from(*digit))), digits.len())
    };
    number(&left).cmp(&number(&right)).then(left[at].cmp(&right[at]))
}
