//! Runs templates, after Go's `text/template/exec.go`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::budget;
use super::functions::{Functions, accepts_unset};
use super::node::{Branch, Command, Expr, Node, Number, Pipe, Tree, Word};
use super::parse::{is_empty, parse};
use super::source_map::MappedText;
use super::value::Value;
use super::{compare, display};

/// Templates call each other this deep, as in Helm.
const DEEPEST: usize = 1000;

/// Templates that can call each other, and the functions that they may call.
#[derive(Debug, Clone)]
pub struct Engine {
    functions: &'static Functions,
    trees: HashMap<String, Rc<Tree>>,
    /// How often each template is being included now.
    included: Rc<RefCell<HashMap<String, usize>>>,
    depth: Rc<Cell<usize>>,
    /// What was printed or used without being set; `None` where Go's `<no value>` is printed for it.
    unset: Option<Rc<RefCell<Vec<Unset>>>>,
}

/// A value that a template printed or used and that was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unset {
    /// The expression, such as `.NAME`.
    pub expression: String,
    /// The line of the template, counted from 1.
    pub line: usize,
}

impl Engine {
    /// An engine without templates.
    pub fn new(functions: &'static Functions) -> Self {
        Engine { functions, trees: HashMap::new(), included: Rc::default(), depth: Rc::default(), unset: None }
    }

    /// An engine that records what is printed, or given to a function, without being set; only functions that ask whether a value
    /// is set may get it (see [`accepts_unset`]).
    pub fn recording_unset(functions: &'static Functions) -> Self {
        Engine { unset: Some(Rc::default()), ..Engine::new(functions) }
    }

    /// What was recorded so far, each expression of a line once.
    pub fn unset(&self) -> Vec<Unset> {
        self.unset.as_ref().map(|unset| unset.borrow().clone()).unwrap_or_default()
    }

    /// Adds a file and what it defines; what was defined before under the same name is replaced.
    ///
    /// # Errors
    /// Fails with Go's message where the text is no template.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), String> {
        for tree in parse(file, text, &|name| self.functions.contains_key(name))? {
            if !is_empty(&tree.body) || !self.trees.contains_key(&tree.name) {
                self.trees.insert(tree.name.clone(), Rc::new(tree));
            }
        }
        Ok(())
    }

    /// Adds a file in place of the one of its name, even if it does nothing.
    ///
    /// # Errors
    /// Fails with Go's message where the text is no template.
    pub fn replace(&mut self, file: &str, text: &str) -> Result<(), String> {
        self.trees.remove(file);
        self.add(file, text)
    }

    /// Runs a template.
    ///
    /// # Errors
    /// Fails with Go's message.
    pub fn execute(&self, name: &str, dot: &Value) -> Result<String, String> {
        self.run(name, dot).map(|written| written.text)
    }

    /// Runs a template.
    ///
    /// # Errors
    /// Fails with Go's message.
    pub fn run(&self, name: &str, dot: &Value) -> Result<MappedText, String> {
        let tree = self.trees.get(name).ok_or_else(|| format!("template: no template {name:?} associated with template \"gotpl\""))?;
        if self.depth.get() >= DEEPEST {
            return Err(format!("template: {name}: exceeded maximum template depth ({DEEPEST})"));
        }
        self.depth.set(self.depth.get() + 1);
        let variables = vec![("$".to_owned(), dot.clone())];
        let mut run = Run { engine: self, tree: Rc::clone(tree), out: MappedText::new(Rc::clone(&tree.source)), variables };
        let ended = run.walk(dot, &tree.body);
        self.depth.set(self.depth.get() - 1);
        match ended {
            Ok(()) | Err(Stop::Break | Stop::Continue) => Ok(run.out),
            Err(Stop::Fault(message)) => Err(message),
        }
    }

    /// `include`: at most so many times inside itself.
    ///
    /// # Errors
    /// Fails with Go's message.
    pub fn include(&self, name: &str, dot: &Value) -> Result<String, String> {
        let times = self.included.borrow().get(name).copied().unwrap_or(0);
        if times > DEEPEST {
            return Err(format!("rendering template has a nested reference name: {name}: unable to execute template"));
        }
        self.included.borrow_mut().insert(name.to_owned(), times + 1);
        let rendered = self.execute(name, dot);
        self.included.borrow_mut().insert(name.to_owned(), times);
        rendered
    }
}

/// Why a walk ends before its end.
enum Stop {
    Break,
    Continue,
    Fault(String),
}

type Step<T> = Result<T, Stop>;

struct Run<'a> {
    engine: &'a Engine,
    tree: Rc<Tree>,
    out: MappedText,
    variables: Vec<(String, Value)>,
}

impl Run<'_> {
    fn fault<T>(&self, pos: usize, context: impl std::fmt::Display, message: &str) -> Step<T> {
        let place = self.tree.source.place(pos);
        Err(Stop::Fault(format!("template: {place}: executing {:?} at <{context}>: {message}", self.tree.name)))
    }

    fn walk(&mut self, dot: &Value, nodes: &[Node]) -> Step<()> {
        nodes.iter().try_for_each(|node| self.node(dot, node))
    }

    fn spend(&self, units: usize) -> Step<()> {
        budget::spend(units).map_err(|message| Stop::Fault(format!("template: {}: {message}", self.tree.source.file)))
    }

    fn node(&mut self, dot: &Value, node: &Node) -> Step<()> {
        self.spend(budget::STEP)?;
        match node {
            Node::Text(pos, text) => {
                self.spend(text.len())?;
                self.out.copied(*pos, text);
            }
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(pipe.pos, pipe, &value);
                }
            }
            Node::If(branch) => {
                let mark = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let done = self.walk(dot, if value.is_true() { &branch.body } else { &branch.otherwise });
                self.variables.truncate(mark);
                done?;
            }
            Node::With(branch) => {
                let mark = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let done = if value.is_true() { self.walk(&value, &branch.body) } else { self.walk(dot, &branch.otherwise) };
                self.variables.truncate(mark);
                done?;
            }
            Node::Range(branch) => self.range(dot, branch)?,
            Node::Template { pos, name, pipe } => self.template(dot, *pos, name, pipe.as_ref())?,
            Node::Break => return Err(Stop::Break),
            Node::Continue => return Err(Stop::Continue),
        }
        Ok(())
    }

    fn print(&mut self, pos: usize, expression: &dyn std::fmt::Display, value: &Value) {
        match value {
            value if value.is_nil() && self.engine.unset.is_some() => self.record_unset(pos, expression),
            Value::Absent | Value::Nil => self.out.made(pos, "<no value>"),
            value => self.out.made(pos, &display(value)),
        }
    }

    /// Whether a value that is not set must not go to a function.
    fn rejects(&self, function: &Expr, value: &Value) -> bool {
        let Word::Function(name) = &function.kind else { return false };
        value.is_nil() && self.engine.unset.is_some() && !accepts_unset(name)
    }

    fn record_unset(&self, pos: usize, expression: &dyn std::fmt::Display) {
        let Some(unset) = &self.engine.unset else { return };
        let found = Unset { expression: expression.to_string(), line: self.tree.source.line(pos) };
        if !unset.borrow().contains(&found) {
            unset.borrow_mut().push(found);
        }
    }

    fn unset_count(&self) -> usize {
        self.engine.unset.as_ref().map_or(0, |unset| unset.borrow().len())
    }

    fn template(&mut self, dot: &Value, pos: usize, name: &str, pipe: Option<&Pipe>) -> Step<()> {
        let context = || format!("{{{{template {name:?}{}}}}}", pipe.map(|pipe| format!(" {pipe}")).unwrap_or_default());
        if !self.engine.trees.contains_key(name) {
            return self.fault(pos, context(), &format!("template {name:?} not defined"));
        }
        let dot = pipe.map_or(Ok(Value::Absent), |pipe| self.pipe(dot, pipe))?;
        let text = self.engine.execute(name, &dot).map_err(Stop::Fault)?;
        self.out.made(pos, &text);
        Ok(())
    }

    fn range(&mut self, dot: &Value, branch: &Branch) -> Step<()> {
        let mark = self.variables.len();
        // the variables are those of each round, not of the whole
        let value = self.commands(dot, &branch.pipe)?;
        if !branch.pipe.assigns {
            self.variables.extend(branch.pipe.variables.iter().map(|name| (name.clone(), value.clone())));
        }
        let done = self.rounds(dot, branch, &value);
        self.variables.truncate(mark);
        done
    }

    fn rounds(&mut self, dot: &Value, branch: &Branch, value: &Value) -> Step<()> {
        let entries: Vec<(Value, Value)> = match value {
            Value::Absent | Value::Nil => Vec::new(),
            Value::List(items) => items.iter().enumerate().map(|(at, item)| (position(at), item.clone())).collect(),
            Value::Bytes(bytes) => bytes.iter().enumerate().map(|(at, byte)| (position(at), Value::Int(i64::from(*byte)))).collect(),
            Value::Map(map) => map.borrow().iter().map(|(key, value)| (Value::text(key), value.clone())).collect(),
            Value::Object(object) => match (object.kind_name(), object.to_plain()) {
                ("map", Value::Map(map)) => map.borrow().iter().map(|(key, value)| (Value::text(key), value.clone())).collect(),
                ("slice", Value::List(items)) => items.iter().enumerate().map(|(at, item)| (position(at), item.clone())).collect(),
                _ => return self.not_a_range(branch, value),
            },
            other => return self.not_a_range(branch, other),
        };
        if entries.is_empty() {
            return self.walk(dot, &branch.otherwise);
        }
        for (key, item) in entries {
            let mark = self.variables.len();
            match branch.pipe.variables.as_slice() {
                [one] => self.assign(one, &item),
                [index, one] => {
                    self.assign(index, &key);
                    self.assign(one, &item);
                }
                _ => {}
            }
            let round = self.walk(&item, &branch.body);
            self.variables.truncate(mark);
            match round {
                Err(Stop::Break) => break,
                Ok(()) | Err(Stop::Continue) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn not_a_range<T>(&self, branch: &Branch, value: &Value) -> Step<T> {
        match last_word(&branch.pipe) {
            Some(word) => self.fault(word.pos, word, &format!("range can't iterate over {}", display(value))),
            None => self.fault(branch.pipe.pos, &branch.pipe, &format!("range can't iterate over {}", display(value))),
        }
    }

    fn assign(&mut self, name: &str, value: &Value) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value.clone();
        }
    }

    fn pipe(&mut self, dot: &Value, pipe: &Pipe) -> Step<Value> {
        let value = self.commands(dot, pipe)?;
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, &value);
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, dot: &Value, pipe: &Pipe) -> Step<Value> {
        let mut last = None;
        for (at, command) in pipe.commands.iter().enumerate() {
            if let (Some(previous), Some(value)) = (at.checked_sub(1).map(|at| &pipe.commands[at]), &last)
                && self.rejects(&command.words[0], value)
            {
                self.record_unset(previous.pos, previous);
                last = Some(Value::text(""));
            }
            let value = self.command(dot, command, last)?;
            last = Some(if value.is_nil() { Value::Absent } else { value });
        }
        Ok(last.unwrap_or(Value::Absent))
    }

    fn command(&mut self, dot: &Value, command: &Command, last: Option<Value>) -> Step<Value> {
        let first = &command.words[0];
        let arguments = &command.words[1..];
        match &first.kind {
            Word::Field(fields) => self.fields(dot, dot.clone(), first, fields, arguments, last),
            Word::Chain(inner, fields) => {
                let inner = self.argument(dot, 'a', inner)?;
                self.fields(dot, inner, first, fields, arguments, last)
            }
            Word::Variable(parts) => {
                let value = self.variable(&parts[0]);
                if parts.len() == 1 {
                    self.not_a_function(first, arguments, last.as_ref())?;
                    return Ok(value);
                }
                self.fields(dot, value, first, &parts[1..], arguments, last)
            }
            Word::Function(name) => self.function(dot, name, command.pos, &command.to_string(), first, arguments, last),
            Word::Pipe(pipe) => {
                self.not_a_function(first, arguments, last.as_ref())?;
                self.pipe(dot, pipe)
            }
            Word::Nil => self.fault(first.pos, first, "nil is not a command"),
            _ => {
                self.not_a_function(first, arguments, last.as_ref())?;
                self.argument(dot, 'a', first)
            }
        }
    }

    fn not_a_function(&self, first: &Expr, arguments: &[Expr], last: Option<&Value>) -> Step<()> {
        if arguments.is_empty() && last.is_none() {
            return Ok(());
        }
        self.fault(first.pos, first, &format!("can't give argument to non-function {first}"))
    }

    fn variable(&self, name: &str) -> Value {
        self.variables.iter().rev().find(|(known, _)| known == name).map_or(Value::Absent, |(_, value)| value.clone())
    }

    /// `.a.b.c`; only the last may be a method with arguments.
    fn fields(&mut self, dot: &Value, start: Value, at: &Expr, fields: &[String], arguments: &[Expr], last: Option<Value>) -> Step<Value> {
        let mut value = start;
        let mut ty = value.type_name();
        for (number, field) in fields.iter().enumerate() {
            let is_last = number + 1 == fields.len();
            let (words, piped) = if is_last { (arguments, last.clone()) } else { (&[][..], None) };
            value = self.field(dot, &value, ty, at, field, words, piped)?;
            ty = "interface {}";
        }
        Ok(value)
    }

    #[allow(clippy::too_many_arguments, reason = "as Go's evalField: where, what, and with which arguments")]
    fn field(
        &mut self,
        dot: &Value,
        receiver: &Value,
        ty: &str,
        at: &Expr,
        field: &str,
        words: &[Expr],
        last: Option<Value>,
    ) -> Step<Value> {
        let has_arguments = !words.is_empty() || last.is_some();
        match receiver {
            Value::Absent => Ok(Value::Absent),
            Value::Nil => self.fault(at.pos, at, &format!("nil pointer evaluating interface {{}}.{field}")),
            Value::Map(_) if has_arguments => self.fault(at.pos, at, &format!("{field} is not a method but has arguments")),
            Value::Map(map) => Ok(map.borrow().get(field).cloned().unwrap_or(Value::Nil)),
            Value::Object(object) => {
                let mut arguments = Vec::new();
                for word in words {
                    arguments.push(self.argument(dot, 'a', word)?);
                }
                arguments.extend(last);
                match object.member(field, &arguments) {
                    Some(Ok(value)) => Ok(value),
                    Some(Err(message)) => self.fault(at.pos, at, &format!("error calling {field}: {message}")),
                    None => self.fault(at.pos, at, &format!("can't evaluate field {field} in type {}", object.type_name())),
                }
            }
            _ => self.fault(at.pos, at, &format!("can't evaluate field {field} in type {ty}")),
        }
    }

    /// Calls a function; `context` and `pos` say where in errors.
    #[allow(clippy::too_many_arguments, reason = "as Go's evalFunction: where, what, and with which arguments")]
    fn function(
        &mut self,
        dot: &Value,
        name: &str,
        pos: usize,
        context: &str,
        first: &Expr,
        words: &[Expr],
        last: Option<Value>,
    ) -> Step<Value> {
        let Some(function) = self.engine.functions.get(name) else {
            return self.fault(first.pos, first, &format!("{name:?} is not a defined function"));
        };
        if name == "and" || name == "or" {
            return self.shortcut(dot, name == "or", first, words, last);
        }
        let count = words.len() + usize::from(last.is_some());
        if let Some(expected) = function.expected_count(count) {
            return self.fault(first.pos, first, &format!("wrong number of args for {name}: want {expected} got {count}"));
        }
        let (mut arguments, unset) = (Vec::with_capacity(count), self.unset_count());
        for (at, word) in words.iter().enumerate() {
            let value = self.argument(dot, function.parameter(at), word)?;
            if self.rejects(first, &value) {
                self.record_unset(word.pos, word);
            }
            arguments.push(value);
        }
        if self.unset_count() > unset {
            return Ok(Value::text(""));
        }
        if let Some(value) = last {
            let at = words.last().unwrap_or(first);
            arguments.push(self.piped(value, function.parameter(arguments.len()), at)?);
        }
        let result = if matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge") {
            compare::compare(name, &arguments)
        } else {
            (function.run)(self.engine, &arguments)
        };
        self.spend(budget::STEP + result.as_ref().map_or(0, size))?;
        result.or_else(|message| self.fault(pos, context, &format!("error calling {name}: {message}")))
    }

    /// `and` and `or` look at no more arguments than they need.
    fn shortcut(&mut self, dot: &Value, stops_at: bool, first: &Expr, words: &[Expr], last: Option<Value>) -> Step<Value> {
        let name = if stops_at { "or" } else { "and" };
        let mut value = match (words.split_first(), &last) {
            (Some((word, _)), _) => self.argument(dot, 'a', word)?,
            (None, Some(last)) => return Ok(last.clone()),
            (None, None) => return self.fault(first.pos, first, &format!("wrong number of args for {name}: want at least 1 got 0")),
        };
        for word in &words[1..] {
            if value.is_true() == stops_at {
                return Ok(value);
            }
            value = self.argument(dot, 'a', word)?;
        }
        match last {
            Some(last) if value.is_true() != stops_at => Ok(last),
            _ => Ok(value),
        }
    }

    /// An argument for a parameter of a type (see `Function` in `functions`).
    fn argument(&mut self, dot: &Value, ty: char, word: &Expr) -> Step<Value> {
        let value = match &word.kind {
            Word::Dot => dot.clone(),
            Word::Nil if matches!(ty, 's' | 'i' | 'b' | 'f') => {
                return self.fault(word.pos, word, &format!("cannot assign nil to {}", type_of(ty)));
            }
            Word::Nil => return Ok(empty_of(ty)),
            Word::Field(fields) => self.fields(dot, dot.clone(), word, fields, &[], None)?,
            Word::Variable(parts) => {
                let value = self.variable(&parts[0]);
                self.fields(dot, value, word, &parts[1..], &[], None)?
            }
            Word::Pipe(pipe) => self.pipe(dot, pipe)?,
            Word::Function(name) => self.function(dot, name, word.pos, name, word, &[], None)?,
            Word::Chain(inner, fields) => {
                let inner = self.argument(dot, 'a', inner)?;
                self.fields(dot, inner, word, fields, &[], None)?
            }
            Word::Bool(_) | Word::Number(..) | Word::Text(..) => return self.constant(ty, word),
        };
        self.fitting(value, ty, word)
    }

    fn constant(&self, ty: char, word: &Expr) -> Step<Value> {
        let expected = |what: &str| self.fault(word.pos, word, &format!("expected {what}; found {word}"));
        match (ty, &word.kind) {
            ('a' | 'b', Word::Bool(value)) => Ok(Value::Bool(*value)),
            ('a' | 's', Word::Text(_, text)) => Ok(Value::Text(Rc::clone(text))),
            ('f', Word::Number(_, Number { float, .. })) => Ok(Value::Float(*float)),
            ('a', Word::Number(_, Number { float, is_float: true, .. })) => Ok(Value::Float(*float)),
            ('a' | 'i', Word::Number(text, Number { int, .. })) => match int {
                Some(int) => Ok(Value::Int(*int)),
                None if ty == 'a' => self.fault(word.pos, word, &format!("{text} overflows int")),
                None => expected("integer"),
            },
            ('b', _) => expected("bool"),
            ('s', _) => expected("string"),
            ('i', _) => expected("integer"),
            ('f', _) => expected("float"),
            _ => self.fault(word.pos, word, &format!("can't handle {word} for arg of type {}", type_of(ty))),
        }
    }

    /// What came through the pipe, for a parameter.
    fn piped(&self, value: Value, ty: char, at: &Expr) -> Step<Value> {
        self.fitting(value, ty, at)
    }

    /// Go's `validateType`.
    fn fitting(&self, value: Value, ty: char, at: &Expr) -> Step<Value> {
        if value.is_nil() && ty != 'a' && self.engine.unset.is_some() {
            self.record_unset(at.pos, at);
            return Ok(Value::text(""));
        }
        let fits = match (ty, &value) {
            ('a', _) => return Ok(value),
            ('m' | 'l', Value::Absent) => return Ok(empty_of(ty)),
            (_, Value::Absent) => return self.fault(at.pos, at, &format!("invalid value; expected {}", type_of(ty))),
            ('s', Value::Text(_)) | ('i', Value::Int(_)) | ('b', Value::Bool(_)) | ('f', Value::Float(_)) => true,
            ('m', Value::Map(_)) | ('l', Value::List(_)) => true,
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let at = match &at.kind {
            Word::Pipe(pipe) => last_word(pipe).unwrap_or(at),
            _ => at,
        };
        let got = if value.is_nil() { "interface {}" } else { value.type_name() };
        self.fault(at.pos, at, &format!("wrong type for value; expected {}; got {got}", type_of(ty)))
    }
}

/// The word of a pipeline that is looked at last: that is where Go says an error is.
fn last_word(pipe: &Pipe) -> Option<&Expr> {
    let word = pipe.commands.last()?.words.last()?;
    match &word.kind {
        Word::Pipe(inner) => last_word(inner).or(Some(word)),
        _ => Some(word),
    }
}

/// What it costs to keep a value that a function made, without what is inside a list's items.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len() * budget::VALUE,
        Value::Map(map) => map.borrow().len() * budget::VALUE,
        _ => 0,
    }
}

fn position(at: usize) -> Value {
    Value::Int(i64::try_from(at).unwrap_or(i64::MAX))
}

fn type_of(ty: char) -> &'static str {
    match ty {
        's' => "string",
        'i' => "int",
        'b' => "bool",
        'f' => "float64",
        'm' => "map[string]interface {}",
        'l' => "[]interface {}",
        _ => "interface {}",
    }
}

/// Go's zero value of a type that may be nil.
fn empty_of(ty: char) -> Value {
    match ty {
        'm' => Value::map::<String>([]),
        'l' => Value::list([]),
        _ => Value::Nil,
    }
}
