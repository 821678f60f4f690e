//! A Kubefile as text again, one line for each instruction. What is printed means the same when it is read again.

use std::fmt::{self, Display, Formatter};

use super::operands::split;
use super::{Arg, Command, Escape, Files, From, Heredoc, Instruction, Kubefile, Pair, Run, Source, Word, heredoc};
use crate::image::Role;

impl Display for Kubefile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.escape == Escape::Backtick {
            writeln!(f, "# escape=`")?;
        }
        if !self.args.is_empty() {
            // on one line: a value may end in an escaped blank, which only another word after it keeps
            writeln!(f, "ARG {}", joined(&self.args.iter().map(|arg| &arg.value).collect::<Vec<_>>()))?;
        }
        for stage in &self.stages {
            writeln!(f, "{}", stage.from.value)?;
            for step in &stage.steps {
                writeln!(f, "{}", Printed(&step.instruction, self.escape))?;
            }
        }
        Ok(())
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Printed(self, Escape::Backslash).fmt(f)
    }
}

/// An instruction and the escape character that it is printed for.
struct Printed<'a>(&'a Instruction, Escape);

impl Display for Printed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Printed(instruction, escape) = *self;
        match instruction {
            Instruction::Arg(args) => write!(f, "ARG {}", joined(args)),
            Instruction::Env(pairs) => write!(f, "ENV {}", joined_pairs(pairs, escape)),
            Instruction::Label(pairs) => write!(f, "LABEL {}", joined_pairs(pairs, escape)),
            Instruction::Copy(files) => write!(f, "COPY {}", printed_files(files, escape)),
            Instruction::Add(files) => write!(f, "ADD {}", printed_files(files, escape)),
            Instruction::Run(run) => write!(f, "RUN {run}"),
            Instruction::Maintainer(name) => write!(f, "MAINTAINER {}", name.value),
            Instruction::App(app) => {
                let words: Vec<&Word> = std::iter::once(&app.name).chain(&app.sources).collect();
                write!(f, "{} {}", keyword(app.role), list(&words, escape))
            }
            Instruction::AppEnv { app, env } => write!(f, "APPENV {} {}", app.value, joined(env)),
            Instruction::AppCmds { app, cmds } => write!(f, "APPCMDS {} {}", app.value, json(cmds)),
            Instruction::KubeVersion(range) => write!(f, "KUBEVERSION \"{}\"", range.value),
            Instruction::Images(images) => write!(f, "IMAGES {}", list(&images.iter().collect::<Vec<_>>(), escape)),
            Instruction::Launch(apps) => write!(f, "LAUNCH {}", json(apps)),
            Instruction::Cmds(cmds) => write!(f, "CMDS {}", json(cmds)),
            Instruction::Cmd(cmds) => match cmds.as_slice() {
                [one] if serde_json::from_str::<Vec<String>>(&one.value).is_err() && is_line(&one.value, escape) => {
                    write!(f, "CMD {}", one.value)
                }
                _ => write!(f, "CMD {}", json(cmds)),
            },
        }
    }
}

fn keyword(role: Option<Role>) -> &'static str {
    match role {
        None => "APP",
        Some(Role::Cni) => "CNI",
        Some(Role::Csi) => "CSI",
    }
}

impl Display for From {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("FROM ")?;
        if let Some(platform) = &self.platform {
            write!(f, "--platform={} ", platform.value)?;
        }
        f.write_str(&self.image.value)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " AS {}", name.value))
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.value)?;
        self.default.as_ref().map_or(Ok(()), |default| write!(f, "={}", default.value))
    }
}

impl Display for Pair {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key.value, self.value.value)
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.command {
            Command::Shell(command) => f.write_str(&command.value)?,
            Command::Exec(words) => f.write_str(&json(words))?,
        }
        self.heredocs.iter().try_for_each(|heredoc| f.write_str(&heredoc.lines("\n")))
    }
}

fn joined<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// `K=V …`; docker's older form where a value has blanks outside quotes.
fn joined_pairs(pairs: &[Pair], escape: Escape) -> String {
    match pairs {
        [pair] if split(&pair.to_string(), escape).len() != 1 => format!("{} {}", pair.key.value, pair.value.value),
        _ => joined(pairs),
    }
}

/// The words with blanks between, or as JSON where that would not be read as the same words.
fn list(words: &[&Word], escape: Escape) -> String {
    let plain = words.iter().map(|word| word.value.as_str()).collect::<Vec<_>>().join(" ");
    let spans = split(&plain, escape);
    let same = spans.len() == words.len() && spans.iter().zip(words).all(|(span, word)| plain[span.clone()] == word.value);
    let special = |word: &&Word| {
        word.value.starts_with(['#', '[', '-']) || word.value.contains(char::is_control) || heredoc::is_announcement(&word.value)
    };
    if same && !words.iter().any(special) && !plain.ends_with(escape.char()) {
        return plain;
    }
    json(&words.iter().map(|word| (*word).clone()).collect::<Vec<_>>())
}

/// Whether a text is one line that is read back as it is.
fn is_line(text: &str, escape: Escape) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(char::is_control) && !text.ends_with(escape.char())
}

fn json(words: &[Word]) -> String {
    let strings: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
    serde_json::to_string(&strings).expect("strings are JSON")
}

fn printed_files(files: &Files, escape: Escape) -> String {
    let flags = [("from", &files.from), ("checksum", &files.checksum), ("chmod", &files.chmod), ("chown", &files.chown)];
    let flags = flags.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let switches = [("link", files.link), ("parents", files.parents)];
    let switches: String = switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!("--{name} ")).collect();
    let flags: String = flags
        .chain(files.exclude.iter().map(|value| ("exclude", value)))
        .map(|(name, value)| format!("--{name}={} ", value.value))
        .collect();
    let operands = if files.has_inline() { inline(files) } else { plain_files(files, escape) };
    switches + &flags + &operands
}

fn plain_files(files: &Files, escape: Escape) -> String {
    let paths = files.sources.iter().filter_map(|source| match source {
        Source::Path(word) => Some(word),
        Source::Inline(_) => None,
    });
    list(&paths.chain([&files.dest]).collect::<Vec<_>>(), escape)
}

fn inline(files: &Files) -> String {
    let word = |source: &Source| match source {
        Source::Path(word) => word.value.clone(),
        Source::Inline(heredoc) => announcement(heredoc),
    };
    let words: Vec<String> = files.sources.iter().map(word).chain([files.dest.value.clone()]).collect();
    let contents = files.sources.iter().map(|source| match source {
        Source::Path(_) => String::new(),
        Source::Inline(heredoc) => heredoc.lines("\n"),
    });
    words.join(" ") + &contents.collect::<String>()
}

fn announcement(heredoc: &Heredoc) -> String {
    let dash = if heredoc.chomp { "-" } else { "" };
    let quote = if heredoc.expand { "" } else { "\"" };
    format!("<<{dash}{quote}{}{quote}", heredoc.name)
}
