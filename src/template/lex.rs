//! Splits a template into tokens, after Go's `text/template/parse/lex.go`.

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Open,
    Close,
    Space,
    Dot,
    Field,
    Variable,
    Identifier,
    Keyword,
    Bool,
    Nil,
    Number,
    Char,
    Quoted,
    Raw,
    Declare,
    Assign,
    Pipe,
    Comma,
    LeftParen,
    RightParen,
    Error,
    End,
}

/// A token, with its offset in bytes and its line, counted from 1.
#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    pub pos: usize,
    pub line: usize,
    pub text: String,
}

const KEYWORDS: [&str; 10] = ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// Splits a template into tokens; the last one is an error or the end.
pub fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, pos: 0, line: 1, depth: 0, tokens: Vec::new() };
    if let Err(message) = lexer.run() {
        let (pos, line) = (lexer.pos, lexer.line);
        lexer.tokens.push(Token { kind: Kind::Error, pos, line, text: message });
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    line: usize,
    /// Open parentheses of the action.
    depth: usize,
    tokens: Vec<Token>,
}

fn is_name_character(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    /// Adds the next `len` bytes as a token.
    fn emit(&mut self, kind: Kind, len: usize) {
        let text = &self.text[self.pos..self.pos + len];
        self.tokens.push(Token { kind, pos: self.pos, line: self.line, text: text.to_owned() });
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        self.line += self.text[self.pos..self.pos + len].matches('\n').count();
        self.pos += len;
    }

    fn run(&mut self) -> Result<(), String> {
        loop {
            let Some(at) = self.rest().find("{{") else {
                let len = self.rest().len();
                if len > 0 {
                    self.emit(Kind::Text, len);
                }
                self.emit(Kind::End, 0);
                return Ok(());
            };
            let before = &self.rest()[..at];
            let trims = trims_before(&self.rest()[at + 2..]);
            let text_len = if trims { before.trim_end_matches(is_space).len() } else { at };
            if text_len > 0 {
                self.emit(Kind::Text, text_len);
            }
            self.skip(at - text_len);
            self.action(if trims { 2 } else { 0 })?;
        }
    }

    /// Reads from `{{` to the `}}` that closes it; `marker` is the length of `- `.
    fn action(&mut self, marker: usize) -> Result<(), String> {
        if self.rest()[2 + marker..].starts_with("/*") {
            return self.comment(2 + marker);
        }
        self.emit(Kind::Open, 2);
        self.skip(marker);
        self.depth = 0;
        loop {
            let rest = self.rest();
            let trims = rest.starts_with(is_space) && rest[1..].starts_with("-}}");
            if trims || rest.starts_with("}}") {
                if self.depth > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                self.skip(if trims { 2 } else { 0 });
                self.emit(Kind::Close, 2);
                self.trim_after(trims);
                return Ok(());
            }
            self.inside_action()?;
        }
    }

    fn trim_after(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(is_space).len());
        }
    }

    fn comment(&mut self, opening: usize) -> Result<(), String> {
        self.skip(opening);
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.skip(end + 2);
        let trims = self.rest().starts_with(is_space) && self.rest()[1..].starts_with("-}}");
        if !trims && !self.rest().starts_with("}}") {
            return Err("comment ends before closing delimiter".to_owned());
        }
        self.skip(if trims { 4 } else { 2 });
        self.trim_after(trims);
        Ok(())
    }

    fn inside_action(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Err("unclosed action".to_owned()) };
        let second = rest[first.len_utf8()..].chars().next();
        match first {
            _ if is_space(first) => {
                let mut len = rest.len() - rest.trim_start_matches(is_space).len();
                if rest[len..].starts_with("-}}") {
                    len -= 1;
                }
                self.emit(Kind::Space, len.max(1));
            }
            '=' => self.emit(Kind::Assign, 1),
            ':' if second == Some('=') => self.emit(Kind::Declare, 2),
            ':' => return Err("expected :=".to_owned()),
            '|' => self.emit(Kind::Pipe, 1),
            ',' => self.emit(Kind::Comma, 1),
            '"' => self.quoted('"', Kind::Quoted, "unterminated quoted string")?,
            '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
            '`' => {
                let len = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
                self.emit(Kind::Raw, len + 2);
            }
            '$' => self.word(1, Kind::Variable)?,
            '.' if !second.is_some_and(|next| next.is_ascii_digit()) => {
                if second.is_some_and(is_name_character) {
                    self.word(1, Kind::Field)?
                } else {
                    self.emit(Kind::Dot, 1)
                }
            }
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            '(' => {
                self.depth += 1;
                self.emit(Kind::LeftParen, 1);
            }
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or("unexpected right paren")?;
                self.emit(Kind::RightParen, 1);
            }
            _ if is_name_character(first) => self.word(0, Kind::Identifier)?,
            _ => return Err(format!("unrecognized character in action: {}", code_point(first))),
        }
        Ok(())
    }

    /// Reads a name after `sigil` bytes of `$` or `.`.
    fn word(&mut self, sigil: usize, kind: Kind) -> Result<(), String> {
        let rest = self.rest();
        let len = sigil + rest[sigil..].find(|character| !is_name_character(character)).unwrap_or(rest.len() - sigil);
        if let Some(next) = rest[len..].chars().next()
            && !(is_space(next) || matches!(next, '.' | ',' | '|' | ':' | ')' | '(' | '=') || rest[len..].starts_with("}}"))
        {
            return Err(format!("bad character {}", code_point(next)));
        }
        let kind = match &rest[..len] {
            _ if kind != Kind::Identifier => kind,
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => kind,
        };
        self.emit(kind, len);
        Ok(())
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Result<(), String> {
        let rest = self.rest();
        let mut escaped = false;
        for (at, character) in rest.char_indices().skip(1) {
            match character {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if character == quote => {
                    self.emit(kind, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(unterminated.to_owned())
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let bad = |len: usize| Err(format!("bad number syntax: {}", super::quote(&rest[..len])));
        let mut len = match scan_number(rest) {
            Ok(len) => len,
            Err(len) => return bad(len),
        };
        if rest[len..].starts_with(['+', '-']) {
            // a complex number: `1+2i`
            match scan_number(&rest[len..]) {
                Ok(more) if rest[..len + more].ends_with('i') => len += more,
                Ok(more) | Err(more) => return bad(len + more),
            }
        }
        self.emit(Kind::Number, len);
        Ok(())
    }
}

/// The length of a number, which is an error where a letter or digit follows that cannot be part of it.
fn scan_number(text: &str) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let accept = |at: &mut usize, letters: &str| {
        let accepted = bytes.get(*at).is_some_and(|byte| letters.as_bytes().contains(byte));
        *at += usize::from(accepted);
        accepted
    };
    let decimal = "0123456789_";
    accept(&mut at, "+-");
    let mut digits = decimal;
    if accept(&mut at, "0") {
        if accept(&mut at, "xX") {
            digits = "0123456789abcdefABCDEF_";
        } else if accept(&mut at, "oO") {
            digits = "01234567_";
        } else if accept(&mut at, "bB") {
            digits = "01_";
        }
    }
    while accept(&mut at, digits) {}
    if accept(&mut at, ".") {
        while accept(&mut at, digits) {}
    }
    let exponent = match digits.len() {
        11 => "eE",
        23 => "pP",
        _ => "",
    };
    if accept(&mut at, exponent) {
        accept(&mut at, "+-");
        while accept(&mut at, decimal) {}
    }
    accept(&mut at, "i");
    match text[at..].chars().next().filter(|next| is_name_character(*next)) {
        Some(next) => Err(at + next.len_utf8()),
        None => Ok(at),
    }
}

fn trims_before(after: &str) -> bool {
    after.starts_with('-') && after[1..].starts_with(is_space)
}

fn code_point(character: char) -> String {
    format!("U+{:04X} '{character}'", u32::from(character))
}
