//! The tree of a parsed template.

use std::fmt;
use std::rc::Rc;

/// A template with a name: a file or a `define`.
#[derive(Debug)]
pub struct Tree {
    /// What `template` and `include` call it.
    pub name: String,
    /// The source text and its file.
    pub source: Rc<Source>,
    /// What it does.
    pub body: Vec<Node>,
}

/// The file that a template was read from.
#[derive(Debug)]
pub struct Source {
    /// The name in errors.
    pub file: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// `file:line:column` of a byte offset; lines count from 1, columns are bytes from 0, as Go says them.
    pub fn place(&self, pos: usize) -> String {
        let column = self.before(pos).iter().rposition(|byte| *byte == b'\n').map_or(pos, |newline| pos - newline - 1);
        format!("{}:{}:{column}", self.file, self.line(pos))
    }

    /// The line of a byte offset, counted from 1.
    pub fn line(&self, pos: usize) -> usize {
        1 + self.before(pos).iter().filter(|byte| **byte == b'\n').count()
    }

    fn before(&self, pos: usize) -> &[u8] {
        &self.text.as_bytes()[..pos.min(self.text.len())]
    }
}

/// A statement.
#[derive(Debug)]
pub enum Node {
    /// Text between actions, and its offset in the source.
    Text(usize, String),
    /// `{{ pipeline }}`
    Action(Pipe),
    /// `{{ if }}`
    If(Branch),
    /// `{{ with }}`
    With(Branch),
    /// `{{ range }}`
    Range(Branch),
    /// `{{ template "name" pipeline }}`
    Template {
        /// Offset in the source.
        pos: usize,
        /// The template to run.
        name: String,
        /// Its dot.
        pipe: Option<Pipe>,
    },
    /// `{{ break }}`
    Break,
    /// `{{ continue }}`
    Continue,
}

/// What `if`, `with` and `range` have in common.
#[derive(Debug)]
pub struct Branch {
    /// The condition, or what to range over.
    pub pipe: Pipe,
    /// The body.
    pub body: Vec<Node>,
    /// The body of `else`.
    pub otherwise: Vec<Node>,
}

/// A pipeline with its variables.
#[derive(Debug)]
pub struct Pipe {
    /// Offset in the source.
    pub pos: usize,
    /// The variables on the left.
    pub variables: Vec<String>,
    /// Whether they are assigned (`=`) rather than declared (`:=`).
    pub assigns: bool,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// A function, method or field with its arguments.
#[derive(Debug)]
pub struct Command {
    /// Offset in the source.
    pub pos: usize,
    /// The words; the first says what to do.
    pub words: Vec<Expr>,
}

/// A word with its offset in the source.
#[derive(Debug)]
pub struct Expr {
    /// Offset in the source.
    pub pos: usize,
    /// What it is.
    pub kind: Word,
}

/// What a word is.
#[derive(Debug)]
pub enum Word {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A number: its text, and what it is.
    Number(String, Number),
    /// A string: as written, and what it says.
    Text(String, Rc<str>),
    /// A function.
    Function(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`; the first is the name with its dollar.
    Variable(Vec<String>),
    /// `(pipeline).a.b`
    Chain(Box<Expr>, Vec<String>),
    /// `(pipeline)`
    Pipe(Box<Pipe>),
}

/// A number of a template.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its value as an integer, if it has one.
    pub int: Option<i64>,
    /// Its value as a float.
    pub float: f64,
    /// Whether it stands for a float where nothing says which (`1.0`, `1e3`).
    pub is_float: bool,
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (at, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if at > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            write!(f, "{}{word}", if at > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dotted = |f: &mut fmt::Formatter<'_>, fields: &[String]| fields.iter().try_for_each(|field| write!(f, ".{field}"));
        match &self.kind {
            Word::Dot => f.write_str("."),
            Word::Nil => f.write_str("nil"),
            Word::Bool(value) => write!(f, "{value}"),
            Word::Number(text, _) | Word::Text(text, _) | Word::Function(text) => f.write_str(text),
            Word::Field(fields) => dotted(f, fields),
            Word::Variable(parts) => f.write_str(&parts.join(".")),
            Word::Chain(inner, fields) => {
                write!(f, "{inner}")?;
                dotted(f, fields)
            }
            Word::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}
