//! `printf`, after Go's `fmt.Sprintf` (`fmt/print.go`, `fmt/format.go`).

use super::budget;
use super::display;
use super::print::{escape, float, printable, quote_with};
use super::value::{List, Value};

/// The limit on how deep values are printed: a map may contain itself.
const MAX_DEPTH: usize = 200;

/// The limit on widths and precisions, as in Go.
const MAX_WIDTH: i64 = 1_000_000;

/// Formats as `fmt.Sprintf`.
pub fn sprintf(format: &str, values: &[Value]) -> String {
    let mut scanner = Scanner { rest: format, values, next: 0, good_index: true, reordered: false };
    let mut printer = Printer { out: String::new(), flags: Flags::default() };
    while let Some((before, after)) = scanner.rest.split_once('%') {
        printer.out.push_str(before);
        scanner.rest = after;
        scanner.verb(&mut printer);
    }
    printer.out.push_str(scanner.rest);
    if !scanner.reordered && scanner.next < values.len() {
        printer.flags = Flags::default();
        printer.out.push_str("%!(EXTRA ");
        for (at, value) in values[scanner.next..].iter().enumerate() {
            printer.out.push_str(if at > 0 { ", " } else { "" });
            printer.with_type(value);
        }
        printer.out.push(')');
    }
    printer.out
}

/// The flags, width and precision between `%` and the verb.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v`: names of fields.
    plus_v: bool,
    /// `%#v`: Go's syntax.
    sharp_v: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Reads a format.
struct Scanner<'a> {
    rest: &'a str,
    values: &'a [Value],
    /// The value that the next verb takes.
    next: usize,
    good_index: bool,
    reordered: bool,
}

impl Scanner<'_> {
    /// Reads what follows a `%`, and prints the value that it takes.
    fn verb(&mut self, printer: &mut Printer) {
        self.good_index = true;
        let mut flags = Flags::default();
        while let Some(flag) = self.take(|c| "-+# 0".contains(c)) {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        let mut after_index = self.index();
        if self.take(|c| c == '*').is_some() {
            match self.star() {
                Some(width) => {
                    flags.minus |= width < 0;
                    flags.width = within_budget(width.abs());
                }
                None => printer.out.push_str("%!(BADWIDTH)"),
            }
            after_index = false;
        } else if let Some(width) = self.number() {
            flags.width = within_budget(width);
            self.good_index &= !after_index;
        }
        if self.rest.len() > 1 && self.take(|c| c == '.').is_some() {
            self.good_index &= !after_index;
            after_index = self.index();
            if self.take(|c| c == '*').is_some() {
                match self.star() {
                    Some(precision) if precision >= 0 => flags.precision = within_budget(precision),
                    _ => printer.out.push_str("%!(BADPREC)"),
                }
                after_index = false;
            } else {
                flags.precision = Some(self.number().and_then(within_budget).unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        let Some(verb) = self.take(|_| true) else {
            printer.out.push_str("%!(NOVERB)");
            return;
        };
        match self.values.get(self.next) {
            _ if verb == '%' => printer.out.push('%'),
            _ if !self.good_index => printer.out.push_str(&format!("%!{verb}(BADINDEX)")),
            None => printer.out.push_str(&format!("%!{verb}(MISSING)")),
            Some(value) => {
                if verb == 'v' {
                    (flags.sharp_v, flags.plus_v) = (flags.sharp, flags.plus);
                    (flags.sharp, flags.plus) = (false, false);
                }
                printer.flags = flags;
                printer.value(value, verb, 0);
                self.next += 1;
            }
        }
    }

    fn take(&mut self, fits: impl Fn(char) -> bool) -> Option<char> {
        let first = self.rest.chars().next().filter(|first| fits(*first))?;
        self.rest = &self.rest[first.len_utf8()..];
        Some(first)
    }

    /// Reads digits; too large a number is skipped and is none.
    fn number(&mut self) -> Option<i64> {
        let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number.parse().ok().filter(|number| *number <= MAX_WIDTH)
    }

    /// Reads `[n]`; returns whether one was there.
    fn index(&mut self) -> bool {
        let Some(inside) = self.rest.strip_prefix('[') else { return false };
        self.reordered = true;
        let Some((number, rest)) = inside.split_once(']') else {
            self.good_index = false;
            self.rest = inside;
            return false;
        };
        self.rest = rest;
        let index = Some(number).filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        let index = index.and_then(|number| number.parse::<usize>().ok()).filter(|index| *index <= 1_000_000);
        match index.map(|index| index.checked_sub(1).filter(|index| *index < self.values.len())) {
            Some(Some(index)) => self.next = index,
            Some(None) => self.good_index = false,
            None => {
                self.good_index = false;
                return false;
            }
        }
        true
    }

    /// The next value as a width or precision.
    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        match value {
            Value::Int(number) | Value::Int64(number) if number.abs() <= MAX_WIDTH => Some(*number),
            _ => None,
        }
    }
}

/// The width, if the budget allows it.
fn within_budget(width: i64) -> Option<usize> {
    usize::try_from(width).ok().filter(|width| budget::spend(*width).is_ok())
}

/// Prints values.
struct Printer {
    out: String,
    flags: Flags,
}

impl Printer {
    /// Prints a value with a verb; `depth` counts the values around it.
    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if depth > MAX_DEPTH || budget::spend(budget::VALUE).is_err() {
            self.out.push('…');
            return;
        }
        match value {
            Value::Absent | Value::Nil if depth > 0 => self.out.push_str(if self.flags.sharp_v { "interface {}(nil)" } else { "<nil>" }),
            Value::Absent | Value::Nil if matches!(verb, 'T' | 'v') => self.pad("<nil>"),
            Value::Absent | Value::Nil => self.bad_verb(value, verb),
            _ if verb == 'T' && depth == 0 => self.text(value.type_name()),
            Value::Bool(on) if matches!(verb, 't' | 'v') => self.pad(if *on { "true" } else { "false" }),
            Value::Int(number) | Value::Int64(number) => self.integer(value, *number, verb),
            Value::Float(number) => self.float(value, *number, verb),
            Value::Text(text) => self.string(value, text, verb),
            Value::Bytes(bytes) => self.bytes(bytes, verb, depth),
            Value::List(items) => self.list(items, verb, depth),
            Value::Map(map) => {
                let entries: Vec<(String, Value)> = map.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                self.entries(value.type_name(), &entries, verb, depth);
            }
            Value::Object(object) => match (object.kind_name(), object.to_plain()) {
                ("map", Value::Map(map)) => {
                    let entries: Vec<(String, Value)> = map.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                    self.entries(value.type_name(), &entries, verb, depth);
                }
                ("slice", Value::List(items)) => self.list(&items, verb, depth),
                _ => self.string(value, &object.display(depth), verb),
            },
            Value::Bool(_) => self.bad_verb(value, verb),
        }
    }

    fn entries(&mut self, ty: &str, entries: &[(String, Value)], verb: char, depth: usize) {
        self.out.push_str(&if self.flags.sharp_v { format!("{ty}{{") } else { "map[".to_owned() });
        for (at, (key, value)) in entries.iter().enumerate() {
            self.separate(at);
            self.value(&Value::text(key), verb, depth + 1);
            self.out.push(':');
            self.value(value, verb, depth + 1);
        }
        self.out.push(if self.flags.sharp_v { '}' } else { ']' });
    }

    fn list(&mut self, items: &List, verb: char, depth: usize) {
        if self.flags.sharp_v {
            self.out.push_str(items.type_name());
            if items.is_nil() {
                self.out.push_str("(nil)");
                return;
            }
        }
        self.out.push(if self.flags.sharp_v { '{' } else { '[' });
        for (at, item) in items.iter().enumerate() {
            self.separate(at);
            self.value(item, verb, depth + 1);
        }
        self.out.push(if self.flags.sharp_v { '}' } else { ']' });
    }

    fn separate(&mut self, at: usize) {
        self.out.push_str(match (at, self.flags.sharp_v) {
            (0, _) => "",
            (_, true) => ", ",
            _ => " ",
        });
    }

    fn bytes(&mut self, bytes: &[u8], verb: char, depth: usize) {
        match verb {
            's' | 'q' => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                self.string(&Value::text(&text), &text, verb);
            }
            'x' | 'X' => self.hexadecimal(bytes, verb),
            'v' if self.flags.sharp_v => {
                let items: Vec<String> = bytes.iter().map(|byte| format!("{byte:#x}")).collect();
                self.out.push_str(&format!("[]byte{{{}}}", items.join(", ")));
            }
            _ => {
                self.out.push('[');
                for (at, byte) in bytes.iter().enumerate() {
                    self.separate(at);
                    self.value(&Value::Int(i64::from(*byte)), verb, depth + 1);
                }
                self.out.push(']');
            }
        }
    }

    /// Prints the value of a verb that does not fit its type: `%!d(string=x)`.
    fn bad_verb(&mut self, value: &Value, verb: char) {
        self.out.push_str(&format!("%!{verb}("));
        self.with_type(value);
        self.out.push(')');
    }

    fn with_type(&mut self, value: &Value) {
        if value.is_nil() {
            self.out.push_str("<nil>");
        } else {
            self.out.push_str(value.type_name());
            self.out.push('=');
            self.value(value, 'v', 0);
        }
    }

    fn string(&mut self, value: &Value, text: &str, verb: char) {
        match verb {
            'v' if self.flags.sharp_v => self.quoted(text),
            'v' | 's' => self.text(text),
            'x' | 'X' => self.hexadecimal(text.as_bytes(), verb),
            'q' => self.quoted(text),
            _ => self.bad_verb(value, verb),
        }
    }

    fn truncated<'a>(&self, text: &'a str) -> &'a str {
        let end = self.flags.precision.and_then(|precision| text.char_indices().nth(precision));
        end.map_or(text, |(end, _)| &text[..end])
    }

    fn text(&mut self, text: &str) {
        self.pad(self.truncated(text).to_owned().as_str());
    }

    fn quoted(&mut self, text: &str) {
        let text = self.truncated(text);
        let raw = self.flags.sharp && text.chars().all(|c| c != '`' && c != '\u{feff}' && c != '\u{7f}' && (c >= ' ' || c == '\t'));
        let quoted = if raw { format!("`{text}`") } else { quote_with(text, self.flags.plus) };
        self.pad(&quoted);
    }

    fn hexadecimal(&mut self, bytes: &[u8], verb: char) {
        let bytes = &bytes[..bytes.len().min(self.flags.precision.unwrap_or(usize::MAX))];
        let pairs: Vec<String> = bytes.iter().map(|byte| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") }).collect();
        let prefix = if self.flags.sharp && !bytes.is_empty() { format!("0{verb}") } else { String::new() };
        let joined = if self.flags.space {
            pairs.iter().map(|pair| format!("{prefix}{pair}")).collect::<Vec<_>>().join(" ")
        } else {
            prefix + &pairs.concat()
        };
        self.pad(&joined);
    }

    fn integer(&mut self, value: &Value, number: i64, verb: char) {
        let magnitude = number.unsigned_abs();
        let sharp = self.flags.sharp;
        let (digits, prefix) = match verb {
            'd' | 'v' => (magnitude.to_string(), ""),
            'b' => (format!("{magnitude:b}"), if sharp { "0b" } else { "" }),
            'o' | 'O' => (format!("{magnitude:o}"), if verb == 'O' { "0o" } else { "" }),
            'x' => (format!("{magnitude:x}"), if sharp { "0x" } else { "" }),
            'X' => (format!("{magnitude:X}"), if sharp { "0X" } else { "" }),
            'c' => return self.pad(&character(number).to_string()),
            'q' => return self.pad(&format!("'{}'", escape(character(number), '\'', self.flags.plus))),
            'U' => {
                let shown = if sharp && printable(character(number)) { format!(" '{}'", character(number)) } else { String::new() };
                let width = self.flags.precision.unwrap_or(4).max(4);
                let code = pad_left(&format!("{:X}", number.cast_unsigned()), width, '0');
                return self.pad_with_spaces(&format!("U+{code}{shown}"));
            }
            _ => return self.bad_verb(value, verb),
        };
        let sign = self.sign(number < 0);
        let digits = match self.flags.precision {
            Some(0) if number == 0 => return self.pad_with_spaces(""),
            Some(precision) => pad_left(&digits, precision, '0'),
            None if self.flags.zero && !self.flags.minus => {
                pad_left(&digits, self.flags.width.unwrap_or(0).saturating_sub(sign.len()), '0')
            }
            None => digits,
        };
        let prefix = if verb == 'o' && sharp && !digits.starts_with('0') { "0" } else { prefix };
        self.pad_with_spaces(&format!("{sign}{prefix}{digits}"));
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.flags.plus, self.flags.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    fn float(&mut self, value: &Value, number: f64, verb: char) {
        let (format, default) = match verb {
            'v' | 'g' | 'G' => ('g', None),
            'e' | 'E' => ('e', Some(6)),
            'f' | 'F' => ('f', Some(6)),
            'x' | 'X' => ('x', None),
            'b' => ('b', None),
            _ => return self.bad_verb(value, verb),
        };
        let precision = self.flags.precision.or(default);
        let text = float(number.abs(), format, precision);
        let mut text = text.strip_prefix('+').unwrap_or(&text).to_owned();
        if number.is_nan() || number.is_infinite() {
            let sign =
                if number.is_infinite() && number > 0.0 && !self.flags.plus && !self.flags.space { "+" } else { self.sign(number < 0.0) };
            let sign = if number.is_infinite() && sign == "+" && !self.flags.plus { "+" } else { sign };
            return self.pad_with_spaces(&format!("{sign}{text}"));
        }
        if self.flags.sharp && format != 'b' {
            text = with_point(&text, format, precision);
        }
        if matches!(verb, 'E' | 'G' | 'X') {
            text = text.to_uppercase();
        }
        let sign = self.sign(number.is_sign_negative());
        if self.flags.zero && !self.flags.minus {
            let width = self.flags.width.unwrap_or(0).saturating_sub(sign.len());
            self.out.push_str(sign);
            self.out.push_str(&pad_left(&text, width, '0'));
        } else {
            self.pad(&format!("{sign}{text}"));
        }
    }

    fn pad_with_spaces(&mut self, text: &str) {
        let flags = self.flags;
        self.flags.zero = false;
        self.pad(text);
        self.flags = flags;
    }

    fn pad(&mut self, text: &str) {
        let width = self.flags.width.unwrap_or(0);
        if self.flags.minus {
            self.out.push_str(text);
            self.out.push_str(&padding(text, width, ' '));
        } else {
            self.out.push_str(&pad_left(text, width, if self.flags.zero { '0' } else { ' ' }));
        }
    }
}

/// A float with a decimal point and its trailing zeros: the flag `#`.
fn with_point(text: &str, format: char, precision: Option<usize>) -> String {
    let exponent = if format == 'x' { 'p' } else { 'e' };
    let (number, tail) = text.find(exponent).map_or((text, ""), |at| text.split_at(at));
    let mut wanted = if matches!(format, 'g' | 'x') { i64::try_from(precision.unwrap_or(6)).unwrap_or(i64::MAX) } else { 0 };
    let significant = number.chars().filter(|c| *c != '.').skip_while(|c| *c == '0').count();
    wanted -= i64::try_from(significant).unwrap_or(i64::MAX);
    let mut number = number.to_owned();
    if !number.contains('.') {
        wanted -= i64::from(number == "0");
        number.push('.');
    }
    number.push_str(&"0".repeat(usize::try_from(wanted).unwrap_or(0)));
    number + tail
}

fn character(number: i64) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

/// The padding for a width in characters; the width of `format!` ends at 65535.
fn padding(text: &str, width: usize, letter: char) -> String {
    letter.to_string().repeat(width.saturating_sub(text.chars().count()))
}

fn pad_left(text: &str, width: usize, letter: char) -> String {
    padding(text, width, letter) + text
}

/// Formats as `fmt.Sprint`: with a space between two operands if neither is a string.
pub fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && value.as_text().is_none() && values[at - 1].as_text().is_none() {
            out.push(' ');
        }
        out.push_str(&display(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held to helm 3.17.3 (Go 1.23).
    #[test]
    fn verbs_print_as_in_go() {
        let list = Value::list([Value::text("a"), Value::Int(1), Value::Nil]);
        let map = Value::map([("b", Value::Float(1.0)), ("a", Value::Int(2))]);
        for (format, value, expected) in [
            ("%#v", &map, r#"map[string]interface {}{"a":2, "b":1}"#),
            ("%+v", &map, "map[a:2 b:1]"),
            ("%05d", &map, "map[%!d(string=0000a):00002 %!d(string=0000b):%!d(float64=00001)]"),
            ("%s", &list, "[a %!s(int=1) <nil>]"),
            ("%4d|", &list, "[%!d(string=   a)    1 <nil>]|"),
            ("%q", &list, "[\"a\" '\\x01' <nil>]"),
            ("%#v", &list, r#"[]interface {}{"a", 1, interface {}(nil)}"#),
            ("%d", &Value::text("x"), "%!d(string=x)"),
            ("%d", &Value::Nil, "%!d(<nil>)"),
            ("%5v|", &Value::Nil, "<nil>|"),
            ("%-7v|", &Value::Bool(true), "true   |"),
            ("%+.2e", &Value::Float(12345.678), "+1.23e+04"),
            ("%#g", &Value::Float(1.5), "1.50000"),
            ("%x", &Value::Float(8080.0), "0x1.f9p+12"),
            ("%x", &Value::text("hi"), "6869"),
            ("% #x", &Value::text("hi"), "0x68 0x69"),
            ("%08.3f", &Value::Float(-3.25159), "-003.252"),
            ("%U", &Value::Int(0x1F600), "U+1F600"),
            ("%!", &Value::Int(1), "%!!(int=1)"),
            ("%", &Value::Int(1), "%!(NOVERB)%!(EXTRA int=1)"),
            ("%[2]d", &Value::Int(1), "%!d(BADINDEX)"),
            ("%[1]d %[1]x", &Value::Int(31), "31 1f"),
            ("%.*f", &Value::Int(2), "%!f(MISSING)"),
            ("%T", &list, "[]interface {}"),
            ("%t", &Value::Int(1), "%!t(int=1)"),
        ] {
            assert_eq!(sprintf(format, std::slice::from_ref(value)), expected, "{format}");
        }
    }
}
