//! COPY and ADD.

use super::{Parser, Read};
use crate::diagnostic::Diagnostic;
use crate::kubefile::operands::{Flag, Operands};
use crate::kubefile::{Files, Heredoc, Source, Word, heredoc};

impl Parser<'_> {
    pub(super) fn files(&mut self, operands: Operands<'_>, add: bool) -> Read<Files> {
        let usage = if add { "ADD [--flags] source … destination" } else { "COPY [--flags] source … destination" };
        let (flags, operands) = operands.flags();
        let json = operands.json();
        let mut heredocs = Vec::new();
        let mut words = operands.list();
        if json.is_none() {
            self.cut_comment(&mut words);
            heredocs = heredoc::read(&words, &mut self.lines, self.file)?;
        }
        let dest = match words.len() {
            0 => return Err(self.usage(operands.span(), "a source and a destination are missing", usage)),
            1 => return Err(self.usage(operands.span(), "a destination is missing", usage)),
            _ => words.pop().expect("there are two words"),
        };
        if json.is_none() && heredoc::is_announcement(&dest.value) {
            return Err(self.usage(dest.span, "a destination is missing after the heredoc", usage));
        }
        let mut files = Files {
            from: None,
            checksum: None,
            link: false,
            parents: false,
            chmod: None,
            chown: None,
            exclude: Vec::new(),
            sources: sources(words, heredocs),
            dest,
        };
        self.file_flags(&mut files, flags, add)?;
        Ok(files)
    }

    fn file_flags(&self, files: &mut Files, flags: Vec<Flag>, add: bool) -> Read<()> {
        let known: &[&str] = match add {
            true => &["checksum", "chmod", "chown", "exclude", "link"],
            false => &["from", "chmod", "chown", "exclude", "link", "parents"],
        };
        for flag in flags {
            let span = flag.word.span.clone();
            let switch = match flag.name() {
                "link" => Some(&mut files.link),
                "parents" if !add => Some(&mut files.parents),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = self.switch(&flag)?;
                continue;
            }
            let (name, value) = self.flag(flag, known)?;
            let place = match name {
                "from" => &mut files.from,
                "checksum" => &mut files.checksum,
                "chmod" => &mut files.chmod,
                "chown" => &mut files.chown,
                _ => {
                    files.exclude.push(value);
                    continue;
                }
            };
            if place.replace(value).is_some() {
                return Err(self.error(span, format!("`--{name}` is given twice")));
            }
        }
        Ok(())
    }

    /// `--name`, `--name=true` or `--name=false`.
    fn switch(&self, flag: &Flag) -> Read<bool> {
        match flag.value.as_ref().map(|value| (value.value.as_str(), value)) {
            None | Some(("true", _)) => Ok(true),
            Some(("false", _)) => Ok(false),
            Some((_, value)) => Err(self.error(value.span.clone(), format!("`--{}` is `true` or `false`", flag.name()))),
        }
    }

    /// Sealer's documentation has comments after COPY's operands, and Sealer took them by accident.
    fn cut_comment(&mut self, words: &mut Vec<Word>) {
        let Some(at) = words.iter().position(|word| word.value.starts_with('#')).filter(|at| *at >= 2) else {
            return;
        };
        let span = words[at].span.start..words[words.len() - 1].span.end;
        let warning = Diagnostic::warning(self.file, span, "a comment after an instruction is ignored here").label("ignored");
        self.diagnostics.push(warning.help("put the comment on a line of its own"));
        words.truncate(at);
    }
}

fn sources(words: Vec<Word>, heredocs: Vec<Heredoc>) -> Vec<Source> {
    let mut heredocs = heredocs.into_iter();
    let source = |word: Word| match heredoc::is_announcement(&word.value).then(|| heredocs.next()).flatten() {
        Some(heredoc) => Source::Inline(heredoc),
        None => Source::Path(word),
    };
    words.into_iter().map(source).collect()
}
