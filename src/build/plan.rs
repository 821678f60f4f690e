//! What a build will do, worked out and checked as a whole before anything is done.

mod apps;
mod copy;

use std::collections::{BTreeMap, BTreeSet};

use super::add_archive::Format;
use super::base_image::BaseImage;
use super::chown::Ownership;
use super::context::BuildContext;
use super::copy_destination::{Destination, Item};
use super::copy_from::Selection;
use super::download::{Downloaded, Fetched, Remote};
use super::options::Options;
use super::scratch_dir::ScratchDir;
use super::stage_sources::{FileSource, Image, StageSources};
use super::variables::{Variables, is_predefined};
use crate::diagnostic::{Diagnostic, Span};
use url::Url;

use crate::image::{ClusterConfig, Digest, RuntimeKind, platform_string};
use crate::kubefile::{Command, Escape, Heredoc, Instruction, Kubefile, Mode, Pair, Run, Stage, Step, Word, expand};
use crate::workloads::{FoundImage, FoundImages};

/// A checked build.
#[derive(Debug)]
pub struct Plan {
    /// The stages that the last one needs, and the last one: it is the image.
    pub stages: Vec<PlannedStage>,
    /// What has to be fetched before the plan is whole; it is to be made again then.
    pub lacks: Vec<Lacking>,
}

/// A stage.
#[derive(Debug)]
pub struct PlannedStage {
    /// Its number in the Kubefile, from 0.
    pub number: usize,
    /// What it starts from.
    pub start: FileSource,
    /// The instructions, in order.
    pub steps: Vec<Planned>,
    /// What an image of it says about the cluster.
    pub cluster: ClusterConfig,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// What IMAGES names.
    pub images: FoundImages,
}

/// Something that a plan wants to have a look at, and is not here yet.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// What.
    pub remote: Remote,
    /// The instruction's line, from 1.
    pub line: usize,
    /// The instruction.
    pub title: String,
}

impl Plan {
    /// The stage that is the image.
    pub fn image(&self) -> &PlannedStage {
        self.stages.last().expect("a Kubefile without a stage is refused")
    }

    /// Whether something is made that is known only when the build has done it.
    pub fn has_surprises(&self) -> bool {
        let late = |step: &Planned| match &step.work {
            Work::Run { .. } => true,
            Work::Place(placement) => placement.is_late(),
            Work::Nothing => false,
        };
        self.stages.iter().any(|stage| stage.steps.iter().any(late))
    }
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
    /// `--chmod`.
    pub mode: Option<Mode>,
    /// `--chown`; else files from the context and from URLs are root's.
    pub owner: Option<Ownership>,
}

/// Something to put somewhere.
#[derive(Debug)]
pub enum Piece {
    /// A file or the content of a directory.
    Item(Item),
    /// The content of an archive.
    Archive(std::path::PathBuf, Format),
    /// What a path or pattern selects in a stage or an image, once that is there.
    From(Selection),
}

impl Placement {
    /// Whether what it puts, or as whose, is known only when other stages or instructions are finished.
    pub fn is_late(&self) -> bool {
        let is_named = self.owner.as_ref().is_some_and(|owner| owner.numbers().is_none());
        is_named || self.pieces.iter().any(|piece| matches!(piece, Piece::From(_)))
    }

    /// Whether it unpacks archives, so that what it puts is known only when that is done.
    pub fn unpacks(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Archive(..)))
    }
}

/// What a build can know before it begins.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Where stages and `--from` take their files from.
    pub origins: &'a StageSources,
    /// The images that are there: of a Kubefile with errors, not all of them.
    pub bases: &'a BTreeMap<Image, BaseImage>,
    /// The context directory.
    pub context: &'a BuildContext,
    /// What is asked for.
    pub options: &'a Options,
    /// What was fetched.
    pub downloaded: &'a Downloaded,
    /// A directory for what comes out of archives; it is there as long as the build.
    pub workdir: &'a ScratchDir,
}

/// Works out what the needed stages of a Kubefile do. Gives the plan as far as it goes, and all that is wrong.
pub fn plan(kubefile: &Kubefile, known: Known<'_>) -> (Plan, Vec<Diagnostic>) {
    let (mut stages, mut lacks, mut diagnostics) = (Vec::new(), Vec::new(), unused_arguments(kubefile, known.options));
    for number in known.origins.stages() {
        let mut planner = Planner::new(number, kubefile, known, &stages);
        planner.stage(&kubefile.stages[number]);
        if number + 1 == kubefile.stages.len() {
            planner.is_image(&kubefile.stages[number]);
        }
        let (planned, found, lacking) = planner.finish();
        stages.push(planned);
        diagnostics.extend(found);
        lacks.extend(lacking);
    }
    (Plan { stages, lacks }, diagnostics)
}

/// Arguments that the user gave and no ARG takes.
fn unused_arguments(kubefile: &Kubefile, options: &Options) -> Vec<Diagnostic> {
    let steps = kubefile.stages.iter().flat_map(|stage| &stage.steps);
    let in_stages = steps.filter_map(|step| match &step.instruction {
        Instruction::Arg(args) => Some(args),
        _ => None,
    });
    let taken: BTreeSet<&str> =
        kubefile.args.iter().map(|arg| &arg.value).chain(in_stages.flatten()).map(|arg| arg.name.value.as_str()).collect();
    let unused = options.build_args.keys().filter(|name| !taken.contains(name.as_str()) && !is_predefined(name));
    unused.map(|name| Diagnostic::warning(&options.kubefile, 0..0, format!("no ARG takes the build argument `{name}`"))).collect()
}

struct Planner<'a> {
    known: Known<'a>,
    context: &'a BuildContext,
    options: &'a Options,
    escape: Escape,
    base_is_known: bool,
    scope: Variables,
    diagnostics: Vec<Diagnostic>,
    /// What the instructions want that is not here yet.
    lacks: Vec<Lacking>,
    /// The instruction that is being planned: its line and title.
    at: (usize, String),
    plan: PlannedStage,
}

impl<'a> Planner<'a> {
    /// For a stage, which may start from one of `earlier`.
    fn new(number: usize, kubefile: &Kubefile, known: Known<'a>, earlier: &[PlannedStage]) -> Self {
        let start = known.origins.start(number);
        let stage = |number| earlier.iter().find(|stage: &&PlannedStage| stage.number == number);
        let (cluster, env, images) = match &start {
            FileSource::Scratch => Default::default(),
            FileSource::Stage(number) => {
                stage(*number).map(|stage| (stage.cluster.clone(), stage.env.clone(), stage.images.clone())).unwrap_or_default()
            }
            FileSource::Image(image) => {
                known.bases.get(image).map(|base| (base.cluster.clone(), base.env(), FoundImages::default())).unwrap_or_default()
            }
        };
        let base_is_known = known.origins.root(number).is_none_or(|image| known.bases.contains_key(image));
        let mut scope = Variables::global(kubefile, known.options);
        scope.enter_stage(env.clone());
        let cluster = not_inherited(cluster, known.options);
        Planner {
            known,
            context: known.context,
            options: known.options,
            escape: kubefile.escape,
            base_is_known,
            scope,
            diagnostics: Vec::new(),
            lacks: Vec::new(),
            at: Default::default(),
            plan: PlannedStage { number, start, steps: Vec::new(), cluster, env, images },
        }
    }
}

/// What a base says, without what is not inherited.
fn not_inherited(cluster: ClusterConfig, options: &Options) -> ClusterConfig {
    ClusterConfig { schema_version: ClusterConfig::SCHEMA.to_owned(), kind: options.kind, launch: Default::default(), ..cluster }
}

impl Planner<'_> {
    fn error(&mut self, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(&self.options.kubefile, span.clone(), message));
        self.diagnostics.last_mut().expect("one was just added")
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

    /// The image comes from a cluster image, for the platform that is built.
    fn is_image(&mut self, stage: &Stage) {
        let Some(image) = self.known.origins.root(self.plan.number) else { return };
        if self.known.bases.get(image).is_some_and(|base| !base.is_cluster) {
            let message = format!("`{}` is no cluster image, so no cluster image can start from it", image.name.familiar());
            self.error(&stage.from.value.image.span, message).help = Some(
                "start from one that `sealift build` made, or from `scratch`; take files out of other images with `COPY --from=`"
                    .to_owned(),
            );
        }
        let built = platform_string(&self.options.platform);
        if image.platform != built {
            let span = stage.from.value.platform.as_ref().map_or(&stage.from.span, |word| &word.span);
            self.error(span, format!("the image is built for {built}, but starts from one for {}", image.platform)).help =
                Some(format!("build with `--platform {}`, or leave `--platform` out of FROM", image.platform));
        }
    }

    fn stage(&mut self, stage: &Stage) {
        for step in &stage.steps {
            let title = title(self.options.text.get(step.span.clone()).unwrap_or_default());
            self.at = (step.line, title.clone());
            let work = self.step(step);
            self.plan.steps.push(Planned { title, line: step.line, work });
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

    /// A file from a URL, if it was fetched.
    fn remote(&mut self, url: &str, checksum: Option<Digest>, span: &Span) -> Option<(Url, Fetched)> {
        let url: Url = match url.parse() {
            Ok(url) => url,
            Err(error) => {
                self.error(span, format!("`{url}` is no URL: {error}"));
                return None;
            }
        };
        let remote = Remote { url: url.clone(), checksum };
        let fetched = self.known.downloaded.get(&remote).cloned();
        if fetched.is_none() {
            let (line, title) = self.at.clone();
            self.lacks.push(Lacking { remote, line, title });
        }
        fetched.map(|fetched| (url, fetched))
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
                Ok(image) => self.plan.images.images.push(FoundImage { image, line, in_container: false }),
                Err(error) => {
                    self.error(&word.span, format!("{error:#}"));
                }
            }
        }
    }

    fn finish(mut self) -> (PlannedStage, Vec<Diagnostic>, Vec<Lacking>) {
        // what an application is, is known when all of it is here
        if self.lacks.is_empty() {
            self.apps_can_be_launched();
        }
        self.plan.env = self.scope.env().clone();
        let cluster = &mut self.plan.cluster;
        cluster.labels.extend(self.options.labels.clone());
        cluster.runtime = match cluster.labels.get("cluster.alpha.sealer.io/cluster-runtime-type").map(String::as_str) {
            Some("none") => RuntimeKind::None,
            _ => RuntimeKind::Kubernetes,
        };
        cluster.runtime_version = cluster.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned();
        (self.plan, self.diagnostics, self.lacks)
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
