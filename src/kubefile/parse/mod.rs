//! Text to a Kubefile and all that is wrong with it. An instruction with an error is left out; the rest is still read.

mod apps;
mod files;

use anyhow::Result;

use crate::diagnostic::{Diagnostic, Span, did_you_mean, refuse_errors};
use crate::image::Role;

use super::logical_line::{Lines, LogicalLine};
use super::operands::{Flag, Operands};
use super::{Arg, Command, From, Instruction, Kubefile, Pair, Run, Spanned, Stage, Step, Word, check, heredoc};

/// A Kubefile as far as it could be read, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says. Only whole if no diagnostic is an error.
    pub kubefile: Kubefile,
    /// All errors and warnings, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The Kubefile and its warnings; fails with everything that is wrong with it if one thing is an error.
    pub fn checked(self, text: &str) -> Result<(Kubefile, Vec<Diagnostic>)> {
        refuse_errors(text, &self.diagnostics)?;
        Ok((self.kubefile, self.diagnostics))
    }
}

/// Every instruction.
pub const INSTRUCTIONS: [&str; 18] = [
    "FROM",
    "ARG",
    "ENV",
    "COPY",
    "ADD",
    "RUN",
    "LABEL",
    "MAINTAINER",
    "APP",
    "APPENV",
    "APPCMDS",
    "CNI",
    "CSI",
    "KUBEVERSION",
    "IMAGES",
    "LAUNCH",
    "CMDS",
    "CMD",
];

/// Instructions of Dockerfiles that mean nothing for a cluster image, and what to do instead.
const OF_CONTAINERS: [(&str, &str); 9] = [
    ("ENTRYPOINT", "say what is launched with LAUNCH or CMDS"),
    ("EXPOSE", "say ports in the manifests of an APP"),
    ("HEALTHCHECK", "say probes in the manifests of an APP"),
    ("ONBUILD", "write it in the Kubefile that starts from this image"),
    ("SHELL", "write `RUN [\"bash\", \"-c\", \"…\"]`, or a heredoc that begins with `#!`"),
    ("STOPSIGNAL", "say it in the manifests of an APP"),
    ("USER", "RUN is root; `RUN setpriv --reuid=… --regid=… --clear-groups command` is another user"),
    ("VOLUME", "say volumes in the manifests of an APP, or bring storage with CSI"),
    ("WORKDIR", "RUN begins at the root of the image, paths of COPY start there: write `RUN cd dir && command`"),
];

/// Reads a Kubefile. `file` is its name in the diagnostics.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut diagnostics = Vec::new();
    let lines = Lines::new(file, text, &mut diagnostics);
    let kubefile = Kubefile { escape: lines.escape, ..Kubefile::default() };
    let mut parser = Parser { file, lines, kubefile, diagnostics, complained_of_from: false };
    while let Some(line) = parser.lines.logical(&mut parser.diagnostics) {
        if let Err(error) = parser.line(&line) {
            parser.diagnostics.push(*error);
        }
    }
    parser.finish()
}

/// What reading one instruction gives; the error is boxed as it is the rarer and larger half.
type Read<T> = Result<T, Box<Diagnostic>>;

struct Parser<'a> {
    file: &'a str,
    lines: Lines<'a>,
    kubefile: Kubefile,
    diagnostics: Vec<Diagnostic>,
    complained_of_from: bool,
}

impl Parser<'_> {
    fn finish(mut self) -> Parsed {
        if self.kubefile.stages.is_empty() {
            self.complain_of_from(0..0);
        }
        check::check(self.file, &self.kubefile, &mut self.diagnostics);
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
        Parsed { kubefile: self.kubefile, diagnostics: self.diagnostics }
    }

    fn line(&mut self, line: &LogicalLine) -> Read<()> {
        let (keyword, operands) = Operands::of(line, self.kubefile.escape);
        let name = keyword.value.to_ascii_uppercase();
        match name.as_str() {
            "FROM" => {
                let from = self.from(operands)?;
                self.kubefile.stages.push(Stage { from: Spanned::new(from, line.whole()), steps: Vec::new() });
                return Ok(());
            }
            "ARG" if self.kubefile.stages.is_empty() => {
                let args = self.args(operands)?;
                self.kubefile.args.extend(args.into_iter().map(|arg| Spanned::new(arg, line.whole())));
                return Ok(());
            }
            _ => {}
        }
        let instruction = self.instruction(&name, &keyword, operands)?;
        let span = line.whole();
        let end = self.lines.offset().max(span.end);
        let has_heredocs = matches!(&instruction, Instruction::Run(run) if !run.heredocs.is_empty())
            || matches!(&instruction, Instruction::Copy(files) | Instruction::Add(files) if files.has_inline());
        let step = Step { instruction, span: span.start..if has_heredocs { end } else { span.end }, line: line.number };
        self.stage(line).steps.push(step);
        Ok(())
    }

    /// The stage that is being read. Without a FROM, one that starts from nobody knows what.
    fn stage(&mut self, line: &LogicalLine) -> &mut Stage {
        if self.kubefile.stages.is_empty() {
            self.complain_of_from(line.whole());
            let image = Word::new(String::new(), line.whole());
            let from = Spanned::new(From { platform: None, image, name: None }, line.whole());
            self.kubefile.stages.push(Stage { from, steps: Vec::new() });
        }
        self.kubefile.stages.last_mut().expect("a stage was just made")
    }

    fn complain_of_from(&mut self, span: Span) {
        if !std::mem::replace(&mut self.complained_of_from, true) {
            let error = Diagnostic::error(self.file, span, "the Kubefile does not start with FROM");
            self.diagnostics.push(error.help("write `FROM scratch`, or the cluster image to start from, as first instruction"));
        }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(self.file, span, message))
    }

    fn usage(&self, span: Span, message: impl Into<String>, usage: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(self.file, span, message).help(format!("write `{usage}`")))
    }

    fn instruction(&mut self, name: &str, keyword: &Word, operands: Operands<'_>) -> Read<Instruction> {
        Ok(match name {
            "ARG" => Instruction::Arg(self.args(operands)?),
            "ENV" => Instruction::Env(self.pairs(&operands, "ENV KEY=value …")?),
            "LABEL" => Instruction::Label(self.pairs(&operands, "LABEL key=value …")?),
            "COPY" => Instruction::Copy(self.files(operands, false)?),
            "ADD" => Instruction::Add(self.files(operands, true)?),
            "RUN" => Instruction::Run(self.run(operands)?),
            "MAINTAINER" => Instruction::Maintainer(self.rest(&operands, "MAINTAINER name")?),
            "APP" => Instruction::App(self.app(&operands, None, "APP name local://path …")?),
            "CNI" => Instruction::App(self.app(&operands, Some(Role::Cni), "CNI name local://path …")?),
            "CSI" => Instruction::App(self.app(&operands, Some(Role::Csi), "CSI name local://path …")?),
            "APPENV" => self.app_env(&operands)?,
            "APPCMDS" => self.app_cmds(&operands)?,
            "KUBEVERSION" => Instruction::KubeVersion(self.kube_version(&operands)?),
            "IMAGES" => Instruction::Images(self.list(&operands, "IMAGES image:tag …")?),
            "LAUNCH" => Instruction::Launch(self.launch(&operands)?),
            "CMDS" => Instruction::Cmds(self.json(&operands, r#"CMDS ["command", …]"#)?),
            "CMD" => Instruction::Cmd(self.cmd(&operands)?),
            _ => return Err(self.unknown(keyword, name)),
        })
    }

    fn unknown(&self, keyword: &Word, name: &str) -> Box<Diagnostic> {
        let error = Diagnostic::error(self.file, keyword.span.clone(), format!("unknown instruction `{}`", keyword.value));
        Box::new(if let Some((_, instead)) = OF_CONTAINERS.iter().find(|(known, _)| *known == name) {
            error.help(format!("a cluster image is not a container and has no {name}; {instead}"))
        } else if let Some(meant) = did_you_mean(name, INSTRUCTIONS) {
            error.help(format!("did you mean `{meant}`?"))
        } else {
            error.help(format!(
                "instructions are {}; a long instruction goes on after `{}` at the end of a line",
                INSTRUCTIONS.join(", "),
                self.kubefile.escape.char()
            ))
        })
    }

    fn from(&self, operands: Operands<'_>) -> Read<From> {
        const USAGE: &str = "FROM [--platform=os/arch] image|scratch [AS name]";
        let whole = operands.span();
        let (flags, operands) = operands.flags();
        let mut platform = None;
        for flag in flags {
            match self.flag(flag, &["platform"])? {
                ("platform", value) => platform = Some(value),
                _ => unreachable!("only known flags are given"),
            }
        }
        let words = operands.words();
        let from = |image: &Word, name: Option<&Word>| From { platform: platform.clone(), image: image.clone(), name: name.cloned() };
        match words.as_slice() {
            [] => Err(self.usage(whole, "FROM without an image", USAGE)),
            [image] => Ok(from(image, None)),
            [image, word, name] if word.value.eq_ignore_ascii_case("AS") => Ok(from(image, Some(name))),
            [_, other, ..] => Err(self.usage(other.span.start..operands.span().end, "FROM takes one image", USAGE)),
        }
    }

    /// Splits `--name=value`; the name is one of `known`.
    fn flag(&self, flag: Flag, known: &[&'static str]) -> Read<(&'static str, Word)> {
        let name = flag.name();
        let Some(found) = known.iter().find(|known| **known == name) else {
            let error = Diagnostic::error(self.file, flag.word.span.clone(), format!("unknown flag `--{name}`"));
            let help = match did_you_mean(name, known.iter().copied()) {
                Some(meant) => format!("did you mean `--{meant}`?"),
                None if known.is_empty() => "this instruction takes no flags here".to_owned(),
                None => format!("known here: {}", known.iter().map(|known| format!("--{known}=")).collect::<Vec<_>>().join(", ")),
            };
            return Err(Box::new(error.help(help)));
        };
        let value = flag.value.clone().filter(|value| !value.value.is_empty());
        let value =
            value.ok_or_else(|| self.usage(flag.word.span.clone(), format!("`--{name}` needs a value"), &format!("--{name}=value")))?;
        Ok((found, value))
    }

    fn args(&self, operands: Operands<'_>) -> Read<Vec<Arg>> {
        if operands.is_empty() {
            return Err(self.usage(operands.span(), "ARG without a name", "ARG NAME[=default] …"));
        }
        let arg = |pair: Result<Pair, Word>| match pair {
            Ok(Pair { key, value }) => Ok(Arg { name: key, default: Some(value) }),
            Err(word) if word.value.starts_with('=') => Err(self.usage(word.span, "ARG without a name", "ARG NAME[=default] …")),
            Err(word) => Ok(Arg { name: word, default: None }),
        };
        operands.keys_and_values().map(arg).collect()
    }

    fn pairs(&self, operands: &Operands<'_>, usage: &str) -> Read<Vec<Pair>> {
        if operands.is_empty() {
            return Err(self.usage(operands.span(), "a key and a value are missing", usage));
        }
        operands.pairs().map_err(|word| self.usage(word.span, format!("`{}` is not of the form key=value", word.value), usage))
    }

    fn rest(&self, operands: &Operands<'_>, usage: &str) -> Read<Word> {
        if operands.is_empty() { Err(self.usage(operands.span(), "nothing follows the instruction", usage)) } else { Ok(operands.rest()) }
    }

    fn list(&self, operands: &Operands<'_>, usage: &str) -> Read<Vec<Word>> {
        let words = operands.list();
        if words.is_empty() { Err(self.usage(operands.span(), "the list is empty", usage)) } else { Ok(words) }
    }

    fn json(&self, operands: &Operands<'_>, usage: &str) -> Read<Vec<Word>> {
        operands
            .json()
            .filter(|words| !words.is_empty())
            .ok_or_else(|| label_json(self.usage(operands.span(), "want a JSON list of strings", usage), &operands.rest().value))
    }

    fn kube_version(&self, operands: &Operands<'_>) -> Read<Word> {
        let mut word = self.rest(operands, r#"KUBEVERSION ">=1.19.0 <1.23.0""#)?;
        for quote in ['"', '\''] {
            if let Some(inside) = word.value.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
                word.value = inside.to_owned();
            }
        }
        Ok(word)
    }

    fn run(&mut self, operands: Operands<'_>) -> Read<Run> {
        let (flags, operands) = operands.flags();
        for flag in flags {
            self.flag(flag, &[])?;
        }
        if let Some(words) = operands.json() {
            let empty = words.first().is_none_or(|program| program.value.is_empty());
            return if empty {
                Err(self.usage(operands.span(), "RUN without a program", r#"RUN ["program", "argument", …]"#))
            } else {
                Ok(Run { command: Command::Exec(words), heredocs: Vec::new() })
            };
        }
        let command = Command::Shell(self.rest(&operands, "RUN command")?);
        let heredocs = heredoc::read(&operands.words(), &mut self.lines, self.file)?;
        Ok(Run { command, heredocs })
    }
}

/// Says what a list that is no JSON probably got wrong.
fn label_json(mut error: Box<Diagnostic>, text: &str) -> Box<Diagnostic> {
    let label = match serde_json::from_str::<Vec<String>>(text) {
        _ if text.is_empty() => return error,
        _ if text.contains('\'') => "JSON needs double quotes".to_owned(),
        Ok(_) => "the list is empty".to_owned(),
        Err(_) if !text.starts_with('[') => "does not start with `[`".to_owned(),
        Err(error) => error.to_string().split(" at line").next().unwrap_or_default().to_owned(),
    };
    error.label = Some(label);
    error
}
