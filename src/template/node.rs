//! The syntax tree of a template, after Go's `text/template/parse/node.go`.

use std::fmt;
use std::rc::Rc;

/// A named template: a file or a `define`.
#[derive(Debug)]
pub struct Tree {
    /// The name for `template` and `include`.
    pub name: String,
    /// The source text and its file.
    pub source: Rc<Source>,
    /// Its statements.
    pub body: Vec<Node>,
}

/// The file that a template was read from.
#[derive(Debug)]
pub struct Source {
    /// The file's name in errors.
    pub file: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// `file:line:column` of a byte offset; lines count from 1, columns are bytes from 0, as in Go's messages.
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
        /// The template to execute.
        name: String,
        /// Its `.`; nil where there is none.
        pipe: Option<Pipe>,
    },
    /// `{{ break }}`
    Break,
    /// `{{ continue }}`
    Continue,
}

/// An `if`, `with` or `range`.
#[derive(Debug)]
pub struct Branch {
    /// The condition, or what to range over.
    pub pipe: Pipe,
    /// The body.
    pub body: Vec<Node>,
    /// The body of `else`.
    pub else_body: Vec<Node>,
}

/// A pipeline, with the variables it sets.
#[derive(Debug)]
pub struct Pipe {
    /// Offset in the source.
    pub pos: usize,
    /// The variables on the left, with their `$`.
    pub variables: Vec<String>,
    /// Whether they are assigned (`=`) rather than declared (`:=`).
    pub assigns: bool,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// A stage of a pipeline: a function, method or field with its arguments.
#[derive(Debug)]
pub struct Command {
    /// Offset in the source.
    pub pos: usize,
    /// The operands: what to call, then its arguments.
    pub operands: Vec<Expr>,
}

/// An operand with its offset in the source.
#[derive(Debug)]
pub struct Expr {
    /// Offset in the source.
    pub pos: usize,
    /// What it is.
    pub kind: ExprKind,
}

/// The kinds of operands.
#[derive(Debug)]
pub enum ExprKind {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A number: as written, and its value.
    Number(String, Number),
    /// A string: as written, and its value.
    Text(String, Rc<str>),
    /// A function's name.
    Function(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`; the first part is the variable with its `$`.
    Variable(Vec<String>),
    /// `(pipeline).a.b`
    Chain(Box<Expr>, Vec<String>),
    /// `(pipeline)`
    Pipe(Box<Pipe>),
}

/// The value of a number constant.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its value as an integer, if it has one.
    pub int: Option<i64>,
    /// Its value as a float, if it has one.
    pub float: Option<f64>,
    /// Whether it is a float where the type is not known (`1.0`, `1e3`).
    pub is_float: bool,
    /// Its real and imaginary part where it is written as a complex number (`1i`, `1+2i`).
    pub complex: Option<(f64, f64)>,
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
        for (at, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if at > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dotted = |f: &mut fmt::Formatter<'_>, fields: &[String]| fields.iter().try_for_each(|field| write!(f, ".{field}"));
        match &self.kind {
            ExprKind::Dot => f.write_str("."),
            ExprKind::Nil => f.write_str("nil"),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Number(text, _) | ExprKind::Text(text, _) | ExprKind::Function(text) => f.write_str(text),
            ExprKind::Field(fields) => dotted(f, fields),
            ExprKind::Variable(parts) => f.write_str(&parts.join(".")),
            ExprKind::Chain(inner, fields) => {
                write!(f, "{inner}")?;
                dotted(f, fields)
            }
            ExprKind::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}
