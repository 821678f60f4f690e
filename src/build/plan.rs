//! Plans a build: resolves variables, paths and options of every instruction, and checks them all before anything is executed.

mod apps;
mod copy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use url::Url;

use super::add_archive::Format;
use super::base_image::BaseImage;
use super::chown::Ownership;
use super::context::BuildContext;
use super::copy_destination::{Destination, Item};
use super::copy_from::Selection;
use super::download::{Downloaded, DownloadedFile, Remote};
use super::options::Options;
use super::scratch_dir::ScratchDir;
use super::stage_sources::{FileSource, Image, StageSources};
use super::variables::{Variables, is_predefined};
use crate::diagnostic::{Diagnostic, Span};
use crate::image::{ClusterConfig, Digest, RuntimeKind, platform_string};
use crate::kubefile::{Command, Escape, Heredoc, Instruction, Kubefile, Mode, Pair, Run, Stage, Step, Word, expand};
use crate::workloads::{FoundImage, FoundImages};

/// A checked build.
#[derive(Debug)]
pub struct Plan {
    /// The stages that the last one needs, and the last one: it is the image.
    pub stages: Vec<PlannedStage>,
    /// What has to be downloaded before the plan is complete; plan again then.
    pub missing: Vec<MissingDownload>,
}

/// A stage.
#[derive(Debug)]
pub struct PlannedStage {
    /// Its number in the Kubefile, from 0.
    pub number: usize,
    /// What FROM names.
    pub start: FileSource,
    /// The instructions, in order.
    pub instructions: Vec<PlannedInstruction>,
    /// The cluster config of an image of it.
    pub cluster: ClusterConfig,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// The container images that IMAGES names.
    pub images: FoundImages,
}

/// A file that the plan depends on, and that is not downloaded yet.
#[derive(Debug, Clone)]
pub struct MissingDownload {
    /// Where it is.
    pub remote: Remote,
    /// The line of the instruction that names it, from 1.
    pub line: usize,
    /// The first line of that instruction.
    pub title: String,
}

impl Plan {
    /// The stage that is the image.
    pub fn image(&self) -> &PlannedStage {
        self.stages.last().expect("a Kubefile without a stage is refused")
    }
}

/// An instruction whose words are resolved.
#[derive(Debug)]
pub struct PlannedInstruction {
    /// Its first line.
    pub title: String,
    /// Its line in the Kubefile, from 1.
    pub line: usize,
    /// What it does.
    pub operation: Operation,
}

impl PlannedInstruction {
    /// Whether it can change the rootfs.
    pub fn changes_rootfs(&self) -> bool {
        self.operation.changes_rootfs()
    }
}

/// What an instruction does to the rootfs.
#[derive(Debug)]
pub enum Operation {
    /// COPY, ADD and APP: copies files into it.
    Copy(CopyFiles),
    /// RUN: runs a command in it.
    Run(RunCommand),
    /// Nothing: the instruction only sets metadata of the image.
    Metadata,
}

impl Operation {
    /// Whether it can change the rootfs.
    pub fn changes_rootfs(&self) -> bool {
        !matches!(self, Operation::Metadata)
    }
}

/// A command to run in the rootfs.
#[derive(Debug)]
pub struct RunCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The variables of ARG and ENV.
    pub env: BTreeMap<String, String>,
}

/// Files to copy into the rootfs.
#[derive(Debug)]
pub struct CopyFiles {
    /// The files.
    pub sources: Vec<CopySource>,
    /// Where they go.
    pub destination: Destination,
    /// `--chmod`.
    pub mode: Option<Mode>,
    /// `--chown`; without it, files from the context and from URLs belong to root.
    pub owner: Option<Ownership>,
}

/// One source of a copy.
#[derive(Debug)]
pub enum CopySource {
    /// A file or the content of a directory.
    Item(Item),
    /// The content of an archive.
    Archive(PathBuf, Format),
    /// What `--from` selects in a stage or an image, once that is finished.
    From(Selection),
}

impl CopyFiles {
    /// Whether its files or their owner are known only when other stages or instructions are finished.
    pub fn is_late(&self) -> bool {
        let is_named = self.owner.as_ref().is_some_and(|owner| owner.numbers().is_none());
        is_named || self.sources.iter().any(|source| matches!(source, CopySource::From(_)))
    }

    /// What of it is known now: with this, it is late no more.
    pub fn known_part(mut self) -> Self {
        self.sources.retain(|source| !matches!(source, CopySource::From(_)));
        self.owner.take_if(|owner| owner.numbers().is_none());
        self
    }

    /// Whether it unpacks archives, so that its files are known only when that is done.
    pub fn unpacks(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, CopySource::Archive(..)))
    }
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// What FROM and `--from` name.
    pub sources: &'a StageSources,
    /// The images that are in the store: of a Kubefile with errors, not all of them.
    pub base_images: &'a BTreeMap<Image, BaseImage>,
    /// The context directory.
    pub context: &'a BuildContext,
    /// What is requested.
    pub options: &'a Options,
    /// The files that are downloaded.
    pub downloaded: &'a Downloaded,
    /// A directory for the files of unpacked archives; it is gone after the build.
    pub scratch: &'a ScratchDir,
}

/// Plans the stages of a Kubefile that the last one needs. Gives the plan as far as it goes, and everything that is wrong.
pub fn plan(kubefile: &Kubefile, inputs: Inputs<'_>) -> (Plan, Vec<Diagnostic>) {
    let (mut stages, mut missing, mut diagnostics) = (Vec::new(), Vec::new(), unused_arguments(kubefile, inputs.options));
    for number in inputs.sources.stages() {
        let mut planner = Planner::new(number, kubefile, inputs, &stages);
        planner.stage(&kubefile.stages[number]);
        if number + 1 == kubefile.stages.len() {
            planner.check_base(&kubefile.stages[number]);
        }
        let (planned, found, downloads) = planner.finish();
        stages.push(planned);
        diagnostics.extend(found);
        missing.extend(downloads);
    }
    (Plan { stages, missing }, diagnostics)
}

/// Warns of build arguments that no ARG declares.
fn unused_arguments(kubefile: &Kubefile, options: &Options) -> Vec<Diagnostic> {
    let steps = kubefile.stages.iter().flat_map(|stage| &stage.steps);
    let in_stages = steps.filter_map(|step| match &step.instruction {
        Instruction::Arg(args) => Some(args),
        _ => None,
    });
    let declared: BTreeSet<&str> =
        kubefile.args.iter().map(|arg| &arg.value).chain(in_stages.flatten()).map(|arg| arg.name.value.as_str()).collect();
    let unused = options.build_args.keys().filter(|name| !declared.contains(name.as_str()) && !is_predefined(name));
    unused
        .map(|name| Diagnostic::warning(&options.kubefile, 0..0, format!("build argument `{name}` is not used: no ARG declares it")))
        .collect()
}

/// Plans one stage.
struct Planner<'a> {
    inputs: Inputs<'a>,
    context: &'a BuildContext,
    options: &'a Options,
    escape: Escape,
    base_is_known: bool,
    variables: Variables,
    diagnostics: Vec<Diagnostic>,
    missing: Vec<MissingDownload>,
    /// The instruction that is being planned: its line and title.
    current: (usize, String),
    stage: PlannedStage,
}

impl<'a> Planner<'a> {
    /// A planner for a stage, whose FROM may name one of `earlier`.
    fn new(number: usize, kubefile: &Kubefile, inputs: Inputs<'a>, earlier: &[PlannedStage]) -> Self {
        let start = inputs.sources.start(number);
        let stage = |number| earlier.iter().find(|stage: &&PlannedStage| stage.number == number);
        let (cluster, env, images) = match &start {
            FileSource::Scratch => Default::default(),
            FileSource::Stage(number) => {
                stage(*number).map(|stage| (stage.cluster.clone(), stage.env.clone(), stage.images.clone())).unwrap_or_default()
            }
            FileSource::Image(image) => {
                inputs.base_images.get(image).map(|base| (base.cluster.clone(), base.env(), FoundImages::default())).unwrap_or_default()
            }
        };
        let base_is_known = inputs.sources.root(number).is_none_or(|image| inputs.base_images.contains_key(image));
        let mut variables = Variables::global(kubefile, inputs.options);
        variables.enter_stage(env.clone());
        let cluster = inherited(cluster, inputs.options);
        Planner {
            inputs,
            context: inputs.context,
            options: inputs.options,
            escape: kubefile.escape,
            base_is_known,
            variables,
            diagnostics: Vec::new(),
            missing: Vec::new(),
            current: Default::default(),
            stage: PlannedStage { number, start, instructions: Vec::new(), cluster, env, images },
        }
    }
}

/// What a stage inherits of its base's cluster config: all but the kind and what is launched.
fn inherited(cluster: ClusterConfig, options: &Options) -> ClusterConfig {
    ClusterConfig { schema_version: ClusterConfig::SCHEMA.to_owned(), kind: options.kind, launch: Default::default(), ..cluster }
}

impl Planner<'_> {
    fn error(&mut self, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(&self.options.kubefile, span.clone(), message));
        self.diagnostics.last_mut().expect("it was just pushed")
    }

    /// A word with its variables replaced.
    fn word(&mut self, word: &Word) -> String {
        match expand(&word.value, self.escape, |name| self.variables.get(name)) {
            Ok(expanded) => expanded.text,
            Err(error) => {
                self.error(&word.span, error.to_string());
                String::new()
            }
        }
    }

    /// Checks that the last stage is based on a cluster image for the platform that is built.
    fn check_base(&mut self, stage: &Stage) {
        let Some(image) = self.inputs.sources.root(self.stage.number) else { return };
        if self.inputs.base_images.get(image).is_some_and(|base| !base.is_cluster) {
            let message = format!("`{}` is not a cluster image: a cluster image cannot be based on it", image.name.familiar());
            self.error(&stage.from.value.image.span, message).help = Some(
                "use `FROM scratch`, or an image that `sealift build` made; `COPY --from=` copies files out of other images".to_owned(),
            );
        }
        let built = platform_string(&self.options.platform);
        if image.platform != built {
            let span = stage.from.value.platform.as_ref().map_or(&stage.from.span, |word| &word.span);
            self.error(span, format!("the image is built for {built}, but its base is for {}", image.platform)).help =
                Some(format!("build with `--platform {}`, or leave `--platform` out of FROM", image.platform));
        }
    }

    fn stage(&mut self, stage: &Stage) {
        for step in &stage.steps {
            let title = title(self.options.text.get(step.span.clone()).unwrap_or_default());
            self.current = (step.line, title.clone());
            let operation = self.instruction(step);
            self.stage.instructions.push(PlannedInstruction { title, line: step.line, operation });
        }
    }

    fn instruction(&mut self, step: &Step) -> Operation {
        match &step.instruction {
            Instruction::Arg(args) => {
                for arg in args {
                    let default = arg.default.as_ref().map(|word| self.word(word));
                    self.variables.declare(&arg.name.value, default);
                }
            }
            Instruction::Env(pairs) => self.env(pairs),
            Instruction::Label(pairs) => {
                let labels = self.pairs(pairs);
                self.stage.cluster.labels.extend(labels);
            }
            Instruction::Maintainer(who) => {
                self.stage.cluster.labels.insert("maintainer".to_owned(), who.value.clone());
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
            Instruction::Cmds(cmds) => self.stage.cluster.launch.cmds = cmds.iter().map(|cmd| cmd.value.clone()).collect(),
            Instruction::Cmd(cmds) => self.stage.cluster.launch.cmds.extend(cmds.iter().map(|cmd| cmd.value.clone())),
        }
        Operation::Metadata
    }

    /// A file from a URL, if it is downloaded; else it is noted as missing.
    fn remote(&mut self, url: &str, checksum: Option<Digest>, span: &Span) -> Option<(Url, DownloadedFile)> {
        let url: Url = match url.parse() {
            Ok(url) => url,
            Err(error) => {
                self.error(span, format!("`{url}` is not a valid URL: {error}"));
                return None;
            }
        };
        let remote = Remote { url: url.clone(), checksum };
        let fetched = self.inputs.downloaded.get(&remote).cloned();
        if fetched.is_none() {
            let (line, title) = self.current.clone();
            self.missing.push(MissingDownload { remote, line, title });
        }
        fetched.map(|fetched| (url, fetched))
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Vec<(String, String)> {
        // as in docker, all of them see the variables as they were before the instruction
        pairs.iter().map(|pair| (self.word(&pair.key), self.word(&pair.value))).collect()
    }

    fn env(&mut self, pairs: &[Pair]) {
        for (key, value) in self.pairs(pairs) {
            self.variables.set(&key, &value);
            self.stage.cluster.env.insert(key, value);
        }
    }

    fn run(&mut self, run: &Run) -> Operation {
        let argv = match &run.command {
            Command::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
            Command::Shell(text) => shell(&text.value, &run.heredocs),
        };
        Operation::Run(RunCommand { argv, env: self.variables.for_commands() })
    }

    fn kube_version(&mut self, range: &Word) {
        let range = self.word(range);
        self.stage.cluster.labels.insert("app.alpha.sealer.io/supported-kube-version".to_owned(), range.clone());
        self.stage.cluster.kube_version = Some(range);
    }

    fn images(&mut self, images: &[Word], line: usize) {
        for word in images {
            match self.word(word).parse() {
                Ok(image) => self.stage.images.images.push(FoundImage { image, line, in_container: false }),
                Err(error) => {
                    self.error(&word.span, format!("{error:#}"));
                }
            }
        }
    }

    fn finish(mut self) -> (PlannedStage, Vec<Diagnostic>, Vec<MissingDownload>) {
        // the kind of an application is known when all of its files are here
        if self.missing.is_empty() {
            self.check_launch_commands();
        }
        self.stage.env = self.variables.env().clone();
        let cluster = &mut self.stage.cluster;
        cluster.labels.extend(self.options.labels.clone());
        cluster.runtime = match cluster.labels.get("cluster.alpha.sealer.io/cluster-runtime-type").map(String::as_str) {
            Some("none") => RuntimeKind::None,
            _ => RuntimeKind::Kubernetes,
        };
        cluster.runtime_version = cluster.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned();
        (self.stage, self.diagnostics, self.missing)
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
            // the shell pipes the script into its interpreter
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
