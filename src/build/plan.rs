//! What a build will do, worked out and checked as a whole before anything is done.

mod apps;
mod copy;

use std::collections::BTreeMap;

use super::base::Base;
use super::context::Context;
use super::options::Options;
use super::place::{Attributes, Destination, Item};
use super::scope::Scope;
use super::untar::Format;
use crate::diagnostic::{Diagnostic, Span};
use crate::image::{ClusterConfig, RuntimeKind};
use crate::kubefile::{Command, Escape, Heredoc, Instruction, Kubefile, Pair, Run, Stage, Step, Word, expand};
use crate::workloads::{Finds, Found};

/// A checked build.
#[derive(Debug)]
pub struct Plan {
    /// The instructions, in order.
    pub steps: Vec<Planned>,
    /// What the image will say about the cluster.
    pub cluster: ClusterConfig,
    /// The image's environment.
    pub env: BTreeMap<String, String>,
    /// What IMAGES names.
    pub images: Finds,
}

/// An instruction.
#[derive(Debug)]
pub struct Planned {
    /// Its first line.
    pub title: String,
    /// Where it stands, from 1.
    pub line: usize,
    /// What it does.
    pub work: Work,
}

/// What an instruction does to the rootfs.
#[derive(Debug)]
pub enum Work {
    /// Puts files into it.
    Place(Placement),
    /// Runs a command.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Arguments and environment of the Kubefile.
        env: BTreeMap<String, String>,
    },
    /// Nothing: it only says something about the image.
    Nothing,
}

/// Files to put somewhere.
#[derive(Debug)]
pub struct Placement {
    /// The files.
    pub pieces: Vec<Piece>,
    /// Where to.
    pub destination: Destination,
    /// Who owns them.
    pub attributes: Attributes,
}

/// Something to put somewhere.
#[derive(Debug)]
pub enum Piece {
    /// A file or the content of a directory.
    Item(Item),
    /// The content of an archive.
    Archive(std::path::PathBuf, Format),
}

/// Works out what the last stage of a Kubefile does on a base image. Gives the plan as far as it goes, and all that is wrong.
pub fn plan(kubefile: &Kubefile, base: Option<&Base>, context: &Context, options: &Options) -> (Plan, Vec<Diagnostic>) {
    let mut scope = Scope::new(&options.build_args, &options.platform);
    let mut planner = Planner {
        context,
        options,
        escape: kubefile.escape,
        base_is_known: base.is_some(),
        diagnostics: Vec::new(),
        plan: Plan { steps: Vec::new(), cluster: start(base, options), env: BTreeMap::new(), images: Finds::default() },
        scope: scope.clone(),
    };
    declare_global(&mut scope, kubefile);
    scope.enter_stage(base.map(Base::env).unwrap_or_default());
    planner.scope = scope;
    if let Some(stage) = kubefile.stages.last() {
        planner.refuse_other_stages(&kubefile.stages);
        planner.stage(stage);
    }
    planner.finish()
}

/// The base image that the last stage names, its variables expanded.
pub fn base_name(kubefile: &Kubefile, options: &Options) -> Option<String> {
    let mut scope = Scope::new(&options.build_args, &options.platform);
    declare_global(&mut scope, kubefile);
    let image = &kubefile.stages.last()?.from.value.image;
    let name = expand(&image.value, kubefile.escape, |name| scope.get(name)).ok()?.text;
    (name != "scratch").then_some(name)
}

fn declare_global(scope: &mut Scope, kubefile: &Kubefile) {
    for arg in &kubefile.args {
        let default = arg.value.default.as_ref();
        let default = default.and_then(|word| expand(&word.value, kubefile.escape, |name| scope.get(name)).ok()).map(|word| word.text);
        scope.declare(&arg.value.name.value, default);
    }
}

/// What the base says, without what is not inherited.
fn start(base: Option<&Base>, options: &Options) -> ClusterConfig {
    let mut cluster = base.map(|base| base.cluster.clone()).unwrap_or_default();
    cluster.schema_version = ClusterConfig::SCHEMA.to_owned();
    cluster.kind = options.kind;
    cluster.launch = Default::default();
    cluster
}

struct Planner<'a> {
    context: &'a Context,
    options: &'a Options,
    escape: Escape,
    base_is_known: bool,
    scope: Scope,
    diagnostics: Vec<Diagnostic>,
    plan: Plan,
}

impl Planner<'_> {
    fn error(&mut self, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(&self.options.kubefile, span.clone(), message));
        self.diagnostics.last_mut().expect("one was just added")
    }

    fn not_yet(&mut self, span: &Span, what: &str, instead: &str) {
        self.error(span, format!("{what} is not carried out yet")).help = Some(instead.to_owned());
    }

    /// A word's meaning; what is wrong with it, the parser has said.
    fn word(&mut self, word: &Word) -> String {
        match expand(&word.value, self.escape, |name| self.scope.get(name)) {
            Ok(expanded) => expanded.text,
            Err(error) => {
                self.error(&word.span, error.to_string());
                String::new()
            }
        }
    }

    fn refuse_other_stages(&mut self, stages: &[Stage]) {
        for stage in stages.iter().skip(1) {
            self.not_yet(&stage.from.span, "a second stage", "build the first stage as an image of its own, and name it in FROM");
        }
        if let Some(platform) = stages.last().and_then(|stage| stage.from.value.platform.as_ref()) {
            let text = self.word(platform);
            if text != crate::image::platform_string(&self.options.platform) {
                self.not_yet(&platform.span, "a base image of another platform", "leave `--platform` out: it is the one that is built");
            }
        }
    }

    fn stage(&mut self, stage: &Stage) {
        for step in &stage.steps {
            let work = self.step(step);
            let text = self.options.text.get(step.span.clone()).unwrap_or_default();
            self.plan.steps.push(Planned { title: title(text), line: step.line, work });
        }
    }

    fn step(&mut self, step: &Step) -> Work {
        match &step.instruction {
            Instruction::Arg(args) => {
                for arg in args {
                    let default = arg.default.as_ref().map(|word| self.word(word));
                    self.scope.declare(&arg.name.value, default);
                }
            }
            Instruction::Env(pairs) => self.env(pairs),
            Instruction::Label(pairs) => {
                let labels = self.pairs(pairs);
                self.plan.cluster.labels.extend(labels);
            }
            Instruction::Maintainer(who) => {
                self.plan.cluster.labels.insert("maintainer".to_owned(), who.value.clone());
            }
            Instruction::Copy(files) => return self.copy(files, false),
            Instruction::Add(files) => return self.copy(files, true),
            Instruction::Run(run) => return self.run(run),
            Instruction::App(app) => return self.app(app, &step.span),
            Instruction::AppEnv { app, env } => self.app_env(app, env),
            Instruction::AppCmds { app, cmds } => self.app_cmds(app, cmds),
            Instruction::KubeVersion(range) => self.kube_version(range),
            Instruction::Images(images) => self.images(images, step.line),
            Instruction::Launch(apps) => self.launch(apps),
            Instruction::Cmds(cmds) => self.plan.cluster.launch.cmds = cmds.iter().map(|cmd| cmd.value.clone()).collect(),
            Instruction::Cmd(cmds) => self.plan.cluster.launch.cmds.extend(cmds.iter().map(|cmd| cmd.value.clone())),
        }
        Work::Nothing
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Vec<(String, String)> {
        // all of them see the variables as they were before the instruction
        pairs.iter().map(|pair| (self.word(&pair.key), self.word(&pair.value))).collect()
    }

    fn env(&mut self, pairs: &[Pair]) {
        for (key, value) in self.pairs(pairs) {
            self.scope.set(&key, &value);
            self.plan.cluster.env.insert(key, value);
        }
    }

    fn run(&mut self, run: &Run) -> Work {
        let argv = match &run.command {
            Command::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
            Command::Shell(text) => shell(&text.value, &run.heredocs),
        };
        Work::Run { argv, env: self.scope.variables() }
    }

    fn kube_version(&mut self, range: &Word) {
        let range = self.word(range);
        self.plan.cluster.labels.insert("app.alpha.sealer.io/supported-kube-version".to_owned(), range.clone());
        self.plan.cluster.kube_version = Some(range);
    }

    fn images(&mut self, images: &[Word], line: usize) {
        for word in images {
            match self.word(word).parse() {
                Ok(image) => self.plan.images.images.push(Found { image, line }),
                Err(error) => {
                    self.error(&word.span, format!("{error:#}"));
                }
            }
        }
    }

    fn finish(mut self) -> (Plan, Vec<Diagnostic>) {
        self.apps_can_be_launched();
        self.unused_arguments();
        self.plan.env = self.scope.env().clone();
        let cluster = &mut self.plan.cluster;
        cluster.labels.extend(self.options.labels.clone());
        cluster.runtime = match cluster.labels.get("cluster.alpha.sealer.io/cluster-runtime-type").map(String::as_str) {
            Some("none") => RuntimeKind::None,
            _ => RuntimeKind::Kubernetes,
        };
        cluster.runtime_version = cluster.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned();
        (self.plan, self.diagnostics)
    }

    fn unused_arguments(&mut self) {
        for name in self.scope.unused() {
            let message = format!("no ARG takes the build argument `{name}`");
            self.diagnostics.push(Diagnostic::warning(&self.options.kubefile, 0..0, message));
        }
    }
}

/// The first line, for progress and history.
fn title(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default().trim_end_matches('\\').trim_end();
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A shell's arguments. A heredoc alone is a script, which may say its own interpreter; else it follows the command.
fn shell(command: &str, heredocs: &[Heredoc]) -> Vec<String> {
    let is_alone = |heredoc: &Heredoc| {
        let word = command.trim().trim_start_matches("<<").trim_start_matches('-').trim_matches(['"', '\'']);
        word == heredoc.name
    };
    let argv = |program: &str, rest: &[&str]| std::iter::once(program).chain(rest.iter().copied()).map(str::to_owned).collect();
    if let [script] = heredocs
        && is_alone(script)
    {
        let content = &script.content.value;
        return match content.strip_prefix("#!").and_then(|rest| rest.lines().next()) {
            // the script is handed to its interpreter through a pipe that the shell makes
            Some(interpreter) => argv("/bin/sh", &["-c", &format!("printf '%s' \"$1\" | {}", interpreter.trim()), "sh", content]),
            None => argv("/bin/sh", &["-c", content]),
        };
    }
    let mut text = command.to_owned();
    for heredoc in heredocs {
        text += &format!("\n{}{}", heredoc.content.value, heredoc.name);
    }
    argv("/bin/sh", &["-c", &text])
}

#[cfg(test)]
mod tests;
