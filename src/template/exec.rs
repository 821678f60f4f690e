//! Executes templates, after Go's `text/template/exec.go`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::budget;
use super::functions::{Functions, accepts_unset};
use super::node::{Branch, Command, Expr, ExprKind, Node, Number, Pipe, Tree};
use super::object::Complex;
use super::parse::{is_empty, parse};
use super::source_map::MappedText;
use super::value::Value;
use super::{compare, display};

/// The limit on how deep templates call each other, as in Helm.
const MAX_DEPTH: usize = 1000;

/// Templates that can call each other, and the functions that they may call.
#[derive(Debug, Clone)]
pub struct Engine {
    functions: &'static Functions,
    trees: HashMap<String, Rc<Tree>>,
    /// How many calls of `include` are open for each template.
    included: Rc<RefCell<HashMap<String, usize>>>,
    depth: Rc<Cell<usize>>,
    /// Whether `range` counts up to an integer, as from Go 1.24 on.
    ranges_over_integers: bool,
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
        Engine { functions, trees: HashMap::new(), included: Rc::default(), depth: Rc::default(), ranges_over_integers: false, unset: None }
    }

    /// An engine whose `range` counts up to integers, as that of Go 1.24 and later.
    pub fn ranging_over_integers(functions: &'static Functions) -> Self {
        Engine { ranges_over_integers: true, ..Engine::new(functions) }
    }

    /// An engine that records each value that is printed or used without being set; only functions that ask whether a value is set
    /// may get one (see [`accepts_unset`]).
    pub fn recording_unset(functions: &'static Functions) -> Self {
        Engine { unset: Some(Rc::default()), ..Engine::new(functions) }
    }

    /// What was recorded so far, each expression of a line once.
    pub fn unset(&self) -> Vec<Unset> {
        self.unset.as_ref().map(|unset| unset.borrow().clone()).unwrap_or_default()
    }

    /// Parses a file, and adds it with what it defines; definitions of the same name are replaced, unless the new one is empty.
    ///
    /// # Errors
    /// Fails with Go's message, `template: file:line: …`.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), String> {
        for tree in parse(file, text, &|name| self.functions.contains_key(name))? {
            if !is_empty(&tree.body) || !self.trees.contains_key(&tree.name) {
                self.trees.insert(tree.name.clone(), Rc::new(tree));
            }
        }
        Ok(())
    }

    /// Parses a file, and adds it in place of the one of its name, even if it is empty.
    ///
    /// # Errors
    /// Fails with Go's message, `template: file:line: …`.
    pub fn replace(&mut self, file: &str, text: &str) -> Result<(), String> {
        self.trees.remove(file);
        self.add(file, text)
    }

    /// Executes a template with `dot` as its `.`.
    ///
    /// # Errors
    /// Fails with Go's message.
    pub fn execute(&self, name: &str, dot: &Value) -> Result<String, String> {
        self.execute_mapped(name, dot).map(|written| written.text)
    }

    /// Executes a template, and records which of its lines wrote which text.
    ///
    /// # Errors
    /// Fails with Go's message, `template: file:line:column: …`.
    pub fn execute_mapped(&self, name: &str, dot: &Value) -> Result<MappedText, String> {
        let tree = self.trees.get(name).ok_or_else(|| format!("template: no template {name:?} associated with template \"gotpl\""))?;
        if self.depth.get() >= MAX_DEPTH {
            return Err(format!("template: {name}: exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.depth.set(self.depth.get() + 1);
        // Go's nil as the data of a template is no value at all, of which every field is nothing
        let dot = if dot.is_nil() { &Value::Absent } else { dot };
        let variables = vec![("$".to_owned(), dot.clone())];
        let mut execution = Execution { engine: self, tree: Rc::clone(tree), out: MappedText::new(Rc::clone(&tree.source)), variables };
        let result = execution.walk(dot, &tree.body);
        self.depth.set(self.depth.get() - 1);
        match result {
            Ok(()) | Err(Stop::Break | Stop::Continue) => Ok(execution.out),
            Err(Stop::Error(message)) => Err(message),
        }
    }

    /// Executes a template for Helm's `include`: at most 1000 times inside itself.
    ///
    /// # Errors
    /// Fails with Go's message.
    pub fn include(&self, name: &str, dot: &Value) -> Result<String, String> {
        let times = self.included.borrow().get(name).copied().unwrap_or(0);
        if times > MAX_DEPTH {
            return Err(format!("rendering template has a nested reference name: {name}: unable to execute template"));
        }
        self.included.borrow_mut().insert(name.to_owned(), times + 1);
        let rendered = self.execute(name, dot);
        self.included.borrow_mut().insert(name.to_owned(), times);
        rendered
    }
}

/// Why the execution of a list of nodes ends early.
enum Stop {
    Break,
    Continue,
    Error(String),
}

type Step<T> = Result<T, Stop>;

/// The execution of one template.
struct Execution<'a> {
    engine: &'a Engine,
    tree: Rc<Tree>,
    out: MappedText,
    variables: Vec<(String, Value)>,
}

impl Execution<'_> {
    fn error<T>(&self, pos: usize, context: impl std::fmt::Display, message: &str) -> Step<T> {
        let place = self.tree.source.place(pos);
        Err(Stop::Error(format!("template: {place}: executing {:?} at <{context}>: {message}", self.tree.name)))
    }

    fn walk(&mut self, dot: &Value, nodes: &[Node]) -> Step<()> {
        nodes.iter().try_for_each(|node| self.node(dot, node))
    }

    fn spend(&self, units: usize) -> Step<()> {
        budget::spend(units).map_err(|message| Stop::Error(format!("template: {}: {message}", self.tree.source.file)))
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
                    self.print(pipe.pos, pipe, &value)?;
                }
            }
            Node::If(branch) => {
                let mark = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let result = self.walk(dot, if value.is_true() { &branch.body } else { &branch.else_body });
                self.variables.truncate(mark);
                result?;
            }
            Node::With(branch) => {
                let mark = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let result = if value.is_true() { self.walk(&value, &branch.body) } else { self.walk(dot, &branch.else_body) };
                self.variables.truncate(mark);
                result?;
            }
            Node::Range(branch) => self.range(dot, branch)?,
            Node::Template { pos, name, pipe } => self.template(dot, *pos, name, pipe.as_ref())?,
            Node::Break => return Err(Stop::Break),
            Node::Continue => return Err(Stop::Continue),
        }
        Ok(())
    }

    fn print(&mut self, pos: usize, expression: &Pipe, value: &Value) -> Step<()> {
        match value {
            value if value.is_nil() && self.engine.unset.is_some() => self.record_unset(pos, expression),
            Value::Absent | Value::Nil => self.out.generated(pos, "<no value>"),
            value => {
                let text = display(value);
                self.spend(text.len())?;
                self.out.generated(pos, &text);
            }
        }
        Ok(())
    }

    /// Whether a function must not get this value, because it is not set and that is recorded.
    fn rejects(&self, function: &Expr, value: &Value) -> bool {
        let ExprKind::Function(name) = &function.kind else { return false };
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
            return self.error(pos, context(), &format!("template {name:?} not defined"));
        }
        let dot = pipe.map_or(Ok(Value::Absent), |pipe| self.pipe(dot, pipe))?;
        let text = self.engine.execute(name, &dot).map_err(Stop::Error)?;
        self.spend(text.len())?;
        self.out.generated(pos, &text);
        Ok(())
    }

    fn range(&mut self, dot: &Value, branch: &Branch) -> Step<()> {
        let mark = self.variables.len();
        // the variables are set for each item, not for the whole list
        let value = self.commands(dot, &branch.pipe)?;
        if !branch.pipe.assigns {
            self.variables.extend(branch.pipe.variables.iter().map(|name| (name.clone(), value.clone())));
        }
        let result = self.iterate(dot, branch, &value);
        self.variables.truncate(mark);
        result
    }

    fn iterate(&mut self, dot: &Value, branch: &Branch, value: &Value) -> Step<()> {
        let entries: Vec<(Value, Value)> = match value {
            Value::Absent | Value::Nil => Vec::new(),
            Value::List(items) => items.iter().enumerate().map(|(at, item)| (int_value(at), item.clone())).collect(),
            Value::Bytes(bytes) => bytes.iter().enumerate().map(|(at, byte)| (int_value(at), Value::Int(i64::from(*byte)))).collect(),
            Value::Map(map) => map.borrow().iter().map(|(key, value)| (Value::text(key), value.clone())).collect(),
            Value::Int(_) | Value::Int64(_) if self.engine.ranges_over_integers && branch.pipe.variables.len() > 1 => {
                let (pos, place): (usize, &dyn std::fmt::Display) =
                    last_operand(&branch.pipe).map_or((branch.pipe.pos, &branch.pipe as _), |operand| (operand.pos, operand));
                return self.error(pos, place, &format!("can't use {} to iterate over more than one variable", display(value)));
            }
            Value::Int(count) | Value::Int64(count) if self.engine.ranges_over_integers => {
                let of = |at: i64| if matches!(value, Value::Int(_)) { Value::Int(at) } else { Value::Int64(at) };
                self.spend(usize::try_from(*count).unwrap_or(0))?;
                (0..*count).map(|at| (of(at), of(at))).collect()
            }
            Value::Object(object) => match (object.kind_name(), object.to_plain()) {
                ("map", Value::Map(map)) => map.borrow().iter().map(|(key, value)| (Value::text(key), value.clone())).collect(),
                ("slice", Value::List(items)) => items.iter().enumerate().map(|(at, item)| (int_value(at), item.clone())).collect(),
                _ => return self.cannot_iterate(branch, value),
            },
            other => return self.cannot_iterate(branch, other),
        };
        if entries.is_empty() {
            return self.walk(dot, &branch.else_body);
        }
        for (key, item) in entries {
            let mark = self.variables.len();
            match branch.pipe.variables.as_slice() {
                [element] => self.assign(element, &item),
                [index, element] => {
                    self.assign(index, &key);
                    self.assign(element, &item);
                }
                _ => {}
            }
            let result = self.walk(&item, &branch.body);
            self.variables.truncate(mark);
            match result {
                Err(Stop::Break) => break,
                Ok(()) | Err(Stop::Continue) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    fn cannot_iterate<T>(&self, branch: &Branch, value: &Value) -> Step<T> {
        match last_operand(&branch.pipe) {
            Some(operand) => self.error(operand.pos, operand, &format!("range can't iterate over {}", display(value))),
            None => self.error(branch.pipe.pos, &branch.pipe, &format!("range can't iterate over {}", display(value))),
        }
    }

    fn assign(&mut self, name: &str, value: &Value) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(variable, _)| variable == name) {
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
                && self.rejects(&command.operands[0], value)
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
        let first = &command.operands[0];
        let arguments = &command.operands[1..];
        match &first.kind {
            ExprKind::Field(fields) => self.fields(dot, dot.clone(), first, fields, arguments, last),
            ExprKind::Chain(inner, fields) => {
                let inner = self.argument(dot, 'a', inner)?;
                self.fields(dot, inner, first, fields, arguments, last)
            }
            ExprKind::Variable(parts) => {
                let value = self.variable(&parts[0]);
                if parts.len() == 1 {
                    self.not_a_function(first, arguments, last.as_ref())?;
                    return Ok(value);
                }
                self.fields(dot, value, first, &parts[1..], arguments, last)
            }
            ExprKind::Function(name) => self.function(dot, name, command.pos, &command.to_string(), first, arguments, last),
            ExprKind::Pipe(pipe) => {
                self.not_a_function(first, arguments, last.as_ref())?;
                self.pipe(dot, pipe)
            }
            ExprKind::Nil => self.error(first.pos, first, "nil is not a command"),
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
        self.error(first.pos, first, &format!("can't give argument to non-function {first}"))
    }

    fn variable(&self, name: &str) -> Value {
        self.variables.iter().rev().find(|(variable, _)| variable == name).map_or(Value::Absent, |(_, value)| value.clone())
    }

    /// Evaluates `.a.b.c`; only the last may be a method with arguments.
    fn fields(&mut self, dot: &Value, start: Value, at: &Expr, fields: &[String], arguments: &[Expr], last: Option<Value>) -> Step<Value> {
        let mut value = start;
        let mut ty = value.type_name();
        for (number, field) in fields.iter().enumerate() {
            let is_last = number + 1 == fields.len();
            let (operands, piped) = if is_last { (arguments, last.clone()) } else { (&[][..], None) };
            let of_struct = matches!(&value, Value::Object(object) if object.kind_name() != "map");
            value = self.field(dot, &value, ty, at, field, operands, piped)?;
            ty = if of_struct { value.type_name() } else { "interface {}" };
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
        operands: &[Expr],
        last: Option<Value>,
    ) -> Step<Value> {
        let has_arguments = !operands.is_empty() || last.is_some();
        match receiver {
            Value::Absent => Ok(Value::Absent),
            Value::Nil => self.error(at.pos, at, &format!("nil pointer evaluating interface {{}}.{field}")),
            Value::Map(_) if has_arguments => self.error(at.pos, at, &format!("{field} is not a method but has arguments")),
            Value::Map(map) => Ok(map.borrow().get(field).cloned().unwrap_or(Value::Nil)),
            Value::Object(object) => {
                let mut arguments = Vec::new();
                for operand in operands {
                    arguments.push(self.argument(dot, 'a', operand)?);
                }
                arguments.extend(last);
                match object.member(field, &arguments) {
                    Some(Ok(value)) => Ok(value),
                    Some(Err(message)) => self.error(at.pos, at, &format!("error calling {field}: {message}")),
                    None => self.error(at.pos, at, &format!("can't evaluate field {field} in type {ty}")),
                }
            }
            _ => self.error(at.pos, at, &format!("can't evaluate field {field} in type {ty}")),
        }
    }

    /// Calls a function; `context` and `pos` are the place in errors.
    #[allow(clippy::too_many_arguments, reason = "as Go's evalFunction: where, what, and with which arguments")]
    fn function(
        &mut self,
        dot: &Value,
        name: &str,
        pos: usize,
        context: &str,
        first: &Expr,
        operands: &[Expr],
        last: Option<Value>,
    ) -> Step<Value> {
        let Some(function) = self.engine.functions.get(name) else {
            return self.error(first.pos, first, &format!("{name:?} is not a defined function"));
        };
        if name == "and" || name == "or" {
            return self.short_circuit(dot, name == "or", first, operands, last);
        }
        let count = operands.len() + usize::from(last.is_some());
        if let Some(expected) = function.expected_count(count) {
            return self.error(first.pos, first, &format!("wrong number of args for {name}: want {expected} got {count}"));
        }
        let (mut arguments, unset) = (Vec::with_capacity(count), self.unset_count());
        for (at, operand) in operands.iter().enumerate() {
            let value = self.argument(dot, function.parameter(at), operand)?;
            if self.rejects(first, &value) {
                self.record_unset(operand.pos, operand);
            }
            arguments.push(value);
        }
        if self.unset_count() > unset {
            return Ok(Value::text(""));
        }
        if let Some(value) = last {
            let at = operands.last().unwrap_or(first);
            arguments.push(self.validate_type(value, function.parameter(arguments.len()), at)?);
        }
        let result = if matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge") {
            compare::compare(name, &arguments)
        } else {
            (function.run)(self.engine, &arguments)
        };
        self.spend(budget::STEP + result.as_ref().map_or(0, size))?;
        result.or_else(|message| self.error(pos, context, &format!("error calling {name}: {message}")))
    }

    /// Evaluates the arguments of `and` and `or` up to the first that decides.
    fn short_circuit(&mut self, dot: &Value, stops_at: bool, first: &Expr, operands: &[Expr], last: Option<Value>) -> Step<Value> {
        let name = if stops_at { "or" } else { "and" };
        let mut value = match (operands.split_first(), &last) {
            (Some((operand, _)), _) => self.argument(dot, 'a', operand)?,
            (None, Some(last)) => return Ok(last.clone()),
            (None, None) => return self.error(first.pos, first, &format!("wrong number of args for {name}: want at least 1 got 0")),
        };
        for operand in &operands[1..] {
            if value.is_true() == stops_at {
                return Ok(value);
            }
            value = self.argument(dot, 'a', operand)?;
        }
        match last {
            Some(last) if value.is_true() != stops_at => Ok(last),
            _ => Ok(value),
        }
    }

    /// Evaluates an argument for a parameter of a type, a letter of [`Function`](super::functions::Function).
    fn argument(&mut self, dot: &Value, ty: char, operand: &Expr) -> Step<Value> {
        let value = match &operand.kind {
            ExprKind::Dot => dot.clone(),
            ExprKind::Nil if matches!(ty, 's' | 'i' | 'b' | 'f') => {
                return self.error(operand.pos, operand, &format!("cannot assign nil to {}", go_type(ty)));
            }
            ExprKind::Nil => return Ok(zero_value(ty)),
            ExprKind::Field(fields) => self.fields(dot, dot.clone(), operand, fields, &[], None)?,
            ExprKind::Variable(parts) => {
                let value = self.variable(&parts[0]);
                self.fields(dot, value, operand, &parts[1..], &[], None)?
            }
            ExprKind::Pipe(pipe) => self.pipe(dot, pipe)?,
            ExprKind::Function(name) => self.function(dot, name, operand.pos, name, operand, &[], None)?,
            ExprKind::Chain(inner, fields) => {
                let inner = self.argument(dot, 'a', inner)?;
                self.fields(dot, inner, operand, fields, &[], None)?
            }
            ExprKind::Bool(_) | ExprKind::Number(..) | ExprKind::Text(..) => return self.constant(ty, operand),
        };
        self.validate_type(value, ty, operand)
    }

    fn constant(&self, ty: char, operand: &Expr) -> Step<Value> {
        let expected = |what: &str| self.error(operand.pos, operand, &format!("expected {what}; found {operand}"));
        match (ty, &operand.kind) {
            ('a' | 'b', ExprKind::Bool(value)) => Ok(Value::Bool(*value)),
            ('a' | 's', ExprKind::Text(_, text)) => Ok(Value::Text(Rc::clone(text))),
            ('a', ExprKind::Number(_, Number { complex: Some((real, imaginary)), .. })) => {
                Ok(Value::object(Complex { real: *real, imaginary: *imaginary }))
            }
            ('f', ExprKind::Number(_, Number { float: Some(float), .. })) => Ok(Value::Float(*float)),
            ('a', ExprKind::Number(_, Number { float: Some(float), is_float: true, .. })) => Ok(Value::Float(*float)),
            ('a' | 'i', ExprKind::Number(text, Number { int, .. })) => match int {
                Some(int) => Ok(Value::Int(*int)),
                None if ty == 'a' => self.error(operand.pos, operand, &format!("{text} overflows int")),
                None => expected("integer"),
            },
            ('b', _) => expected("bool"),
            ('s', _) => expected("string"),
            ('i', _) => expected("integer"),
            ('f', _) => expected("float"),
            _ => self.error(operand.pos, operand, &format!("can't handle {operand} for arg of type {}", go_type(ty))),
        }
    }

    /// Checks the type of an argument: Go's `validateType`.
    fn validate_type(&self, value: Value, ty: char, at: &Expr) -> Step<Value> {
        if value.is_nil() && ty != 'a' && self.engine.unset.is_some() {
            self.record_unset(at.pos, at);
            return Ok(Value::text(""));
        }
        let is_valid = match (ty, &value) {
            ('a', _) => return Ok(value),
            ('m' | 'l', Value::Absent) => return Ok(zero_value(ty)),
            (_, Value::Absent) => return self.error(at.pos, at, &format!("invalid value; expected {}", go_type(ty))),
            ('s', Value::Text(_)) | ('i', Value::Int(_)) | ('b', Value::Bool(_)) | ('f', Value::Float(_)) => true,
            ('m', Value::Map(_)) | ('l', Value::List(_)) => true,
            _ => false,
        };
        if is_valid {
            return Ok(value);
        }
        let at = match &at.kind {
            ExprKind::Pipe(pipe) => last_operand(pipe).unwrap_or(at),
            _ => at,
        };
        let got = if value.is_nil() { "interface {}" } else { value.type_name() };
        self.error(at.pos, at, &format!("wrong type for value; expected {}; got {got}", go_type(ty)))
    }
}

/// The operand of a pipeline that is evaluated last: Go reports errors there.
fn last_operand(pipe: &Pipe) -> Option<&Expr> {
    let operand = pipe.commands.last()?.operands.last()?;
    match &operand.kind {
        ExprKind::Pipe(inner) => last_operand(inner).or(Some(operand)),
        _ => Some(operand),
    }
}

/// What it costs to keep the result of a function, in units; the values inside items of a list are not counted.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len() * budget::VALUE,
        Value::Map(map) => map.borrow().len() * budget::VALUE,
        _ => 0,
    }
}

fn int_value(at: usize) -> Value {
    Value::Int(i64::try_from(at).unwrap_or(i64::MAX))
}

fn go_type(ty: char) -> &'static str {
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

/// The zero value of a type that can be nil in Go.
fn zero_value(ty: char) -> Value {
    match ty {
        'm' => Value::map::<String>([]),
        'l' => Value::list([]),
        _ => Value::Nil,
    }
}
