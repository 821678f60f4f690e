//! Parses templates, after Go's `text/template/parse/parse.go`.

use std::rc::Rc;

use super::lex::{Kind, Token, lex};
use super::node::{Branch, Command, Expr, ExprKind, Node, Pipe, Source, Tree};
use super::number;

/// The limit on how deep parentheses and branches nest.
const MAX_DEPTH: usize = 400;

/// Parses a template file: returns its own tree, then those that it defines.
///
/// # Errors
/// Fails with Go's message, `template: file:line: …`.
pub fn parse(file: &str, text: &str, is_function: &dyn Fn(&str) -> bool) -> Result<Vec<Tree>, String> {
    let source = Rc::new(Source { file: file.to_owned(), text: text.to_owned() });
    let mut parser = Parser {
        source: Rc::clone(&source),
        tokens: lex(text),
        at: 0,
        line: 1,
        variables: vec!["$".to_owned()],
        loops: 0,
        depth: 0,
        defined: Vec::new(),
        is_function,
    };
    let body = parser.file().map_err(|message| format!("template: {file}:{}: {message}", parser.line))?;
    let mut trees = vec![Tree { name: file.to_owned(), source, body }];
    trees.append(&mut parser.defined);
    Ok(trees)
}

/// Whether a body prints only white space: such a definition does not replace another.
pub fn is_empty(body: &[Node]) -> bool {
    body.iter().all(|node| matches!(node, Node::Text(_, text) if text.trim().is_empty()))
}

struct Parser<'a> {
    source: Rc<Source>,
    tokens: Vec<Token>,
    at: usize,
    line: usize,
    variables: Vec<String>,
    loops: usize,
    depth: usize,
    defined: Vec<Tree>,
    is_function: &'a dyn Fn(&str) -> bool,
}

/// What terminates a list of nodes.
#[derive(Debug, PartialEq, Eq)]
enum Terminator {
    End,
    Else,
    File,
}

type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        self.line = token.line;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn peek_non_space(&mut self) -> Token {
        self.skip_space();
        self.peek().clone()
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { Err(unexpected(&token, context)) }
    }

    fn file(&mut self) -> Parsed<Vec<Node>> {
        let (body, terminator) = self.nodes(true)?;
        match terminator {
            Terminator::File => Ok(body),
            Terminator::End => Err("unexpected {{end}}".to_owned()),
            Terminator::Else => Err("unexpected {{else}}".to_owned()),
        }
    }

    fn nodes(&mut self, top: bool) -> Parsed<(Vec<Node>, Terminator)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let mut nodes = Vec::new();
        let terminator = loop {
            let token = self.next();
            match token.kind {
                Kind::Text => nodes.push(Node::Text(token.pos, token.text)),
                Kind::Open => {
                    let word = self.peek_non_space();
                    match (word.kind, word.text.as_str()) {
                        (Kind::Keyword, "end") => {
                            self.next_non_space();
                            self.expect(Kind::Close, "end")?;
                            break Terminator::End;
                        }
                        (Kind::Keyword, "else") => {
                            self.next_non_space();
                            break Terminator::Else;
                        }
                        (Kind::Keyword, "define") if top => {
                            self.next_non_space();
                            self.define()?;
                        }
                        _ => nodes.extend(self.action()?),
                    }
                }
                Kind::End if top => break Terminator::File,
                _ => return Err(unexpected(&token, "input")),
            }
        };
        self.depth -= 1;
        Ok((nodes, terminator))
    }

    fn name(&mut self, context: &str) -> Parsed<String> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Quoted => number::unquote(&token.text).ok_or_else(|| "invalid syntax".to_owned()),
            Kind::Raw => Ok(token.text[1..token.text.len() - 1].to_owned()),
            _ => Err(unexpected(&token, context)),
        }
    }

    fn define(&mut self) -> Parsed<()> {
        let name = self.name("define clause")?;
        self.expect(Kind::Close, "define clause")?;
        self.definition(name, "define clause")
    }

    /// Parses the body of `define` or `block`, which has variables of its own.
    fn definition(&mut self, name: String, context: &str) -> Parsed<()> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, terminator) = self.nodes(false)?;
        if terminator != Terminator::End {
            return Err(format!("unexpected {{{{else}}}} in {context}"));
        }
        (self.variables, self.loops) = (outer, loops);
        match self.defined.iter().position(|tree| tree.name == name) {
            Some(at) if is_empty(&self.defined[at].body) => {
                self.defined.remove(at);
            }
            Some(_) if is_empty(&body) => return Ok(()),
            Some(_) => return Err(format!("template: multiple definition of template {name:?}")),
            None => {}
        }
        self.defined.push(Tree { name, source: Rc::clone(&self.source), body });
        Ok(())
    }

    fn action(&mut self) -> Parsed<Option<Node>> {
        let token = self.peek_non_space();
        if token.kind != Kind::Keyword {
            let pipe = self.pipe(token.pos, Kind::Close, "command")?;
            return Ok(Some(Node::Action(pipe)));
        }
        self.next_non_space();
        Ok(Some(match token.text.as_str() {
            "if" => Node::If(self.branch("if")?),
            "with" => Node::With(self.branch("with")?),
            "range" => Node::Range(self.branch("range")?),
            "template" => {
                let pos = self.peek_non_space().pos;
                let name = self.name("template clause")?;
                Node::Template { pos, name, pipe: self.argument("template clause")? }
            }
            "block" => {
                let pos = self.peek_non_space().pos;
                let name = self.name("block clause")?;
                let pipe = Some(self.pipe(pos, Kind::Close, "block clause")?);
                self.definition(name.clone(), "block clause")?;
                Node::Template { pos, name, pipe }
            }
            word @ ("break" | "continue") => {
                self.expect(Kind::Close, word)?;
                if self.loops == 0 {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            _ => return Err(unexpected(&token, "command")),
        }))
    }

    fn argument(&mut self, context: &str) -> Parsed<Option<Pipe>> {
        let token = self.peek_non_space();
        if token.kind == Kind::Close {
            self.next_non_space();
            return Ok(None);
        }
        self.pipe(token.pos, Kind::Close, context).map(Some)
    }

    fn branch(&mut self, word: &str) -> Parsed<Branch> {
        let scope = self.variables.len();
        let pos = self.peek_non_space().pos;
        let pipe = self.pipe(pos, Kind::Close, word)?;
        let is_range = word == "range";
        self.loops += usize::from(is_range);
        let (body, terminator) = self.nodes(false)?;
        self.loops -= usize::from(is_range);
        let else_body = if terminator == Terminator::Else { self.else_clause(word)? } else { Vec::new() };
        self.variables.truncate(scope);
        Ok(Branch { pipe, body, else_body })
    }

    /// Parses what follows `{{ else`: another branch, or a body up to `{{ end }}`.
    fn else_clause(&mut self, word: &str) -> Parsed<Vec<Node>> {
        let token = self.peek_non_space();
        if token.kind == Kind::Keyword && token.text == word && word != "range" {
            self.next_non_space();
            let branch = self.branch(word)?;
            return Ok(vec![if word == "if" { Node::If(branch) } else { Node::With(branch) }]);
        }
        self.expect(Kind::Close, "else")?;
        let (body, terminator) = self.nodes(false)?;
        if terminator != Terminator::End {
            return Err("expected end; found {{else}}".to_owned());
        }
        Ok(body)
    }

    /// Parses a pipeline up to the token that closes it.
    fn pipe(&mut self, pos: usize, close: Kind, context: &str) -> Parsed<Pipe> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let mut pipe = Pipe { pos, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        let declared = if pipe.assigns { Vec::new() } else { pipe.variables.clone() };
        loop {
            let token = self.peek_non_space();
            match token.kind {
                kind if kind == close => {
                    self.next_non_space();
                    break;
                }
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::Raw
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => pipe.commands.push(self.command()?),
                _ => {
                    self.next_non_space();
                    return Err(unexpected(&token, context));
                }
            }
        }
        self.check_pipeline(&pipe, context)?;
        self.variables.extend(declared);
        self.depth -= 1;
        Ok(pipe)
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Parsed<()> {
        if pipe.commands.is_empty() {
            return Err(format!("missing value for {context}"));
        }
        for (at, command) in pipe.commands.iter().enumerate().skip(1) {
            if matches!(
                command.operands[0].kind,
                ExprKind::Bool(_) | ExprKind::Dot | ExprKind::Nil | ExprKind::Number(..) | ExprKind::Text(..)
            ) {
                return Err(format!("non executable command in pipeline stage {}", at + 1));
            }
        }
        Ok(())
    }

    /// Parses `$a, $b :=` before a pipeline.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        let start = self.at;
        let mut names = Vec::new();
        loop {
            let token = self.peek_non_space();
            if token.kind != Kind::Variable {
                break;
            }
            self.next_non_space();
            names.push(token.text);
            let sign = self.peek_non_space();
            match sign.kind {
                Kind::Declare | Kind::Assign => {
                    self.next_non_space();
                    if names.len() > 1 && context != "range" || names.len() > 2 {
                        return Err(format!("too many declarations in {context}"));
                    }
                    pipe.assigns = sign.kind == Kind::Assign;
                    if pipe.assigns {
                        names.iter().try_for_each(|name| self.check_declared(name))?;
                    }
                    pipe.variables = names;
                    return Ok(());
                }
                Kind::Comma if context == "range" => {
                    self.next_non_space();
                }
                _ => break,
            }
        }
        self.at = start;
        Ok(())
    }

    fn check_declared(&self, name: &str) -> Parsed<()> {
        if self.variables.iter().any(|variable| variable == name) { Ok(()) } else { Err(format!("undefined variable {name:?}")) }
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut command = Command { pos: self.peek_non_space().pos, operands: Vec::new() };
        loop {
            self.skip_space();
            command.operands.extend(self.operand()?);
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::Close | Kind::RightParen => self.at -= 1,
                Kind::Pipe => {
                    let after = self.peek_non_space();
                    if matches!(after.kind, Kind::Close | Kind::RightParen) {
                        return Err("missing value for command".to_owned());
                    }
                }
                _ => return Err(unexpected(&token, "operand")),
            }
            break;
        }
        if command.operands.is_empty() {
            return Err("empty command".to_owned());
        }
        Ok(command)
    }

    /// Parses an operand with the fields behind it.
    fn operand(&mut self) -> Parsed<Option<Expr>> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.next().text[1..].to_owned());
        }
        let kind = match term.kind {
            ExprKind::Field(first) => ExprKind::Field([first, fields].concat()),
            ExprKind::Variable(first) => ExprKind::Variable([first, fields].concat()),
            ExprKind::Bool(_) | ExprKind::Text(..) | ExprKind::Number(..) | ExprKind::Nil | ExprKind::Dot => {
                return Err(format!("unexpected . after term {:?}", term.to_string()));
            }
            _ => ExprKind::Chain(Box::new(term), fields),
        };
        Ok(Some(Expr { pos, kind }))
    }

    fn term(&mut self) -> Parsed<Option<Expr>> {
        let token = self.peek_non_space();
        let pos = token.pos;
        let kind = match token.kind {
            Kind::Identifier => {
                if !(self.is_function)(&token.text) {
                    self.line = token.line;
                    return Err(format!("function {:?} not defined", token.text));
                }
                ExprKind::Function(token.text)
            }
            Kind::Dot => ExprKind::Dot,
            Kind::Nil => ExprKind::Nil,
            Kind::Variable => {
                self.line = token.line;
                self.check_declared(&token.text)?;
                ExprKind::Variable(vec![token.text])
            }
            Kind::Field => ExprKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::Number => {
                self.line = token.line;
                let value = number::parse(&token.text)?;
                ExprKind::Number(token.text, value)
            }
            Kind::Char => {
                let text = number::unquote(&token.text).filter(|text| text.chars().count() == 1);
                let code =
                    text.and_then(|text| text.chars().next()).ok_or_else(|| format!("malformed character constant: {}", token.text))?;
                let int = i64::from(u32::from(code));
                let value = super::node::Number { int: Some(int), float: Some(int as f64), is_float: false, complex: None };
                ExprKind::Number(token.text, value)
            }
            Kind::Quoted => {
                let text = number::unquote(&token.text).ok_or("invalid syntax")?;
                ExprKind::Text(token.text, text.into())
            }
            Kind::Raw => {
                let text = token.text[1..token.text.len() - 1].replace('\r', "");
                ExprKind::Text(token.text, text.into())
            }
            Kind::LeftParen => {
                self.next_non_space();
                let pos = self.peek_non_space().pos;
                let pipe = self.pipe(pos, Kind::RightParen, "parenthesized pipeline")?;
                return Ok(Some(Expr { pos, kind: ExprKind::Pipe(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        self.next_non_space();
        Ok(Some(Expr { pos, kind }))
    }
}

fn unexpected(token: &Token, context: &str) -> String {
    match token.kind {
        Kind::Error => token.text.clone(),
        Kind::End => "unexpected EOF".to_owned(),
        Kind::Keyword => format!("unexpected <{}> in {context}", token.text),
        _ => format!("unexpected {:?} in {context}", token.text),
    }
}
