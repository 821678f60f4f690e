//! Maps the output of a template to the lines that wrote it.

use std::rc::Rc;

use super::node::Source;

/// The output of a template.
#[derive(Debug)]
pub struct MappedText {
    /// The output.
    pub text: String,
    source: Rc<Source>,
    marks: Vec<Mark>,
}

/// Where a part of the output begins.
#[derive(Debug)]
struct Mark {
    /// Offset in the output.
    at: usize,
    /// Offset in the source.
    pos: usize,
    /// Whether it is copied from the source.
    copied: bool,
}

impl MappedText {
    /// Makes an empty output of a source.
    pub fn new(source: Rc<Source>) -> Self {
        MappedText { text: String::new(), source, marks: Vec::new() }
    }

    /// Adds text that is copied from the source.
    pub fn copied(&mut self, pos: usize, text: &str) {
        self.add(pos, text, true);
    }

    /// Adds the output of an action.
    pub fn generated(&mut self, pos: usize, text: &str) {
        self.add(pos, text, false);
    }

    fn add(&mut self, pos: usize, text: &str, copied: bool) {
        self.marks.push(Mark { at: self.text.len(), pos, copied });
        self.text.push_str(text);
    }

    /// For each line of the output, the line of the source that wrote its first word, counted from 1.
    pub fn lines(&self) -> Vec<usize> {
        let newlines: Vec<usize> = self.source.text.match_indices('\n').map(|(at, _)| at).collect();
        let number = |pos: usize| 1 + newlines.partition_point(|newline| *newline < pos);
        let mut start = 0;
        let mut lines = Vec::new();
        for line in self.text.split('\n') {
            lines.push(number(self.pos_of(start + (line.len() - line.trim_start().len()))));
            start += line.len() + 1;
        }
        lines
    }

    /// The offset in the source of what wrote at an offset of the output.
    fn pos_of(&self, at: usize) -> usize {
        // of marks at one offset only the last has text
        match self.marks.partition_point(|mark| mark.at <= at).checked_sub(1).map(|number| &self.marks[number]) {
            Some(mark) if mark.copied => mark.pos + (at - mark.at),
            Some(mark) => mark.pos,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, Value, functions::SPRIG};

    #[test]
    fn lines_are_those_that_wrote_them() {
        let values = Value::map([("list", Value::list([Value::text("a"), Value::text("b")])), ("x", Value::text("one\ntwo"))]);
        for (name, template, expected) in [
            ("text", "a\nb\n", vec![1, 2, 3]),
            ("trimmed", "{{- if .x }}\n\n{{- end }}\na: 1\n{{- /* no */}}\nb: {{ .x }}\n", vec![3, 4, 6, 6, 7]),
            ("loop", "l:\n{{- range .list }}\n- x\n  y\n{{- end }}", vec![1, 3, 4, 3, 4]),
            ("in the middle", "a:\n  image: {{ .x | quote }}\n", vec![1, 2, 3]),
            ("included", "{{ define \"t\" }}a\nb\n{{ end }}\nx:\n{{ template \"t\" . }}\nc", vec![3, 4, 5, 5, 5, 6]),
        ] {
            let mut engine = Engine::new(&SPRIG);
            engine.add("t.yaml", template).unwrap();
            let written = engine.execute_mapped("t.yaml", &values).unwrap();
            assert_eq!(written.lines(), expected, "{name}: {:?}", written.text);
        }
    }
}
