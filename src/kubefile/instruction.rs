//! What a Kubefile says: stages of instructions, each with its place in the text.

use crate::diagnostic::Span;
use crate::image::Role;

/// A value and where it stands. Two are equal when their values are, wherever they stand.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the Kubefile's text.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Spanned { value, span }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A word as it was written, quotes, escapes and variables included.
pub type Word = Spanned<String>;

/// A whole Kubefile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kubefile {
    /// The escape character: `\`, or what `# escape=` says.
    pub escape: Escape,
    /// Build arguments before the first FROM.
    pub args: Vec<Spanned<Arg>>,
    /// The stages; the last one is the image. Never empty in a Kubefile without errors.
    pub stages: Vec<Stage>,
}

/// The escape character of a Kubefile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`.
    #[default]
    Backslash,
    /// `` ` ``, as Windows users like it.
    Backtick,
}

impl Escape {
    /// The character.
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// One FROM and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What it starts from.
    pub from: Spanned<From>,
    /// Its instructions, in order.
    pub steps: Vec<Step>,
}

impl Stage {
    /// The name that `AS` gives it.
    pub fn name(&self) -> Option<&str> {
        self.from.value.name.as_ref().map(|name| name.value.as_str())
    }
}

/// `FROM [--platform=P] IMAGE [AS name]`.
#[derive(Debug, Clone, PartialEq)]
pub struct From {
    /// The platform of the base image, if not the one that is built.
    pub platform: Option<Word>,
    /// An image, an earlier stage's name, or `scratch`.
    pub image: Word,
    /// The stage's name.
    pub name: Option<Word>,
}

impl From {
    /// Whether the stage starts empty.
    pub fn is_scratch(&self) -> bool {
        self.image.value == "scratch"
    }
}

/// One instruction and its place.
#[derive(Debug, Clone)]
pub struct Step {
    /// The instruction.
    pub instruction: Instruction,
    /// Its bytes, continuation lines and heredocs included.
    pub span: Span,
    /// Its first line, from 1.
    pub line: usize,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.instruction == other.instruction
    }
}

/// What an instruction after FROM says.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// `ARG K[=V] …`: build arguments.
    Arg(Vec<Arg>),
    /// `ENV K=V …`: environment of the build, defaults for the cluster's env.
    Env(Vec<Pair>),
    /// `COPY`: from the context, a stage or an image.
    Copy(Files),
    /// `ADD`: from the context or by http.
    Add(Files),
    /// `RUN`: a command at build time.
    Run(Run),
    /// `LABEL K=V …`.
    Label(Vec<Pair>),
    /// `MAINTAINER` and the rest of the line.
    Maintainer(Word),
    /// `APP`, `CNI`, `CSI`: an application.
    App(App),
    /// `APPENV name K=V …`.
    AppEnv {
        /// The application.
        app: Word,
        /// Its environment; later ones add to and replace earlier ones.
        env: Vec<Pair>,
    },
    /// `APPCMDS name ["…"]`; the last one counts. The elements are words of one command: joined by a blank.
    AppCmds {
        /// The application.
        app: Word,
        /// Its launch command.
        cmds: Vec<Word>,
    },
    /// `KUBEVERSION "range"`: the Kubernetes versions that the applications need, without its quotes.
    KubeVersion(Word),
    /// `IMAGES ref…`: container images to bundle.
    Images(Vec<Word>),
    /// `LAUNCH ["a","b"]` or `LAUNCH a b`: applications to launch, in order.
    Launch(Vec<Word>),
    /// `CMDS ["…"]`: raw launch commands, in order. Not expanded at build time.
    Cmds(Vec<Word>),
    /// `CMD command` or `CMD ["command", …]`: more raw launch commands. Not expanded at build time.
    Cmd(Vec<Word>),
}

/// A build argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// Its name.
    pub name: Word,
    /// Its default.
    pub default: Option<Word>,
}

/// A key with a value. Both may have quotes and variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The key.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// What COPY and ADD say.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// `--from`: a stage's name or number, or an image. COPY only.
    pub from: Option<Word>,
    /// `--checksum`: the digest of the one URL. ADD only.
    pub checksum: Option<Word>,
    /// `--link`: means nothing here, as every COPY is a layer that needs no other.
    pub link: bool,
    /// `--parents`: the directories above the sources come along. COPY only.
    pub parents: bool,
    /// `--chmod`: an octal mode, or changes of it.
    pub chmod: Option<Word>,
    /// `--chown`: `user[:group]`, names or numbers.
    pub chown: Option<Word>,
    /// `--exclude`: patterns of paths to leave out.
    pub exclude: Vec<Word>,
    /// What to copy, at least one.
    pub sources: Vec<Source>,
    /// Where to.
    pub dest: Word,
}

impl Files {
    /// Whether a source's content stands in the Kubefile.
    pub fn has_inline(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, Source::Inline(_)))
    }
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A path, a glob or (ADD) a URL.
    Path(Word),
    /// A file whose content stands in the Kubefile.
    Inline(Heredoc),
}

/// Lines in the Kubefile that are the content of a file or the input of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Heredoc {
    /// The word that ends it, which is the file's name for COPY and ADD.
    pub name: String,
    /// Whether variables in it expand: not if the word was quoted.
    pub expand: bool,
    /// Whether leading tabs are cut from its lines (`<<-`); they are gone from `content` already.
    pub chomp: bool,
    /// The lines between, each with its newline.
    pub content: Spanned<String>,
}

/// What RUN says.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The command.
    pub command: Command,
    /// The heredocs that the command's text refers to, in order.
    pub heredocs: Vec<Heredoc>,
}

impl Run {
    /// What the shell runs: the heredoc itself if the command is nothing else, otherwise the command with its heredocs after it.
    /// `None` for the exec form. A script that starts with `#!` names its own interpreter.
    pub fn script(&self) -> Option<String> {
        let Command::Shell(command) = &self.command else {
            return None;
        };
        match self.heredocs.as_slice() {
            [only] if super::heredoc::is_announcement(&command.value) => Some(only.content.value.clone()),
            heredocs => Some(command.value.clone() + &heredocs.iter().map(|heredoc| heredoc.lines("\n")).collect::<String>()),
        }
    }
}

impl Heredoc {
    /// Its content between `before` and the word that ends it.
    pub(super) fn lines(&self, before: &str) -> String {
        format!("{before}{}{}", self.content.value, self.name)
    }
}

/// A command in one of Dockerfile's two forms.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// For the shell, which also expands its variables.
    Shell(Word),
    /// A program and its arguments.
    Exec(Vec<Word>),
}

/// `APP name SRC…`; `CNI` and `CSI` give it a role.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its role, if it is the network or storage plugin.
    pub role: Option<Role>,
    /// Its name.
    pub name: Word,
    /// Its sources: `local://path`, `http(s)://…`, `oci://registry/chart:tag`.
    pub sources: Vec<Word>,
}
