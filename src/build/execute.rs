//! Executes the instructions of a plan, stage after stage.
//!
//! One walk serves `sealift build` and `sealift build --check`. Every instruction comes to an [`Outcome`], and every outcome is applied
//! to the stage in the same way; [`Mode`] decides only where an outcome comes from.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::add_archive;
use super::cache_key::entries;
use super::copy_destination::{Attributes, Item, place};
use super::instruction_cache::Record;
use super::layers::LayerBuilder;
use super::plan::{CopyFiles, CopySource, Operation, Plan, PlannedInstruction, PlannedStage, RunCommand};
use super::prepare::Prepared;
use super::rootfs::Rootfs;
use super::sandbox::{self, Invocation, Tools};
use super::stage::{FinishedStages, HistoryEntry, LayeredRootfs, StageResult};
use super::stage_sources::FileSource;
use crate::error::Failure;
use crate::events::Unit;
use crate::image::Digest;
use crate::layer::Tree;

/// Where the outcome of an instruction comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The cache, or else the instruction is carried out and its layers are packed.
    Build,
    /// The plan alone: nothing is run, and no layer is made. RUN and COPY --from come to nothing.
    Check,
}

/// Executes all stages. Gives what the last one came to: it is the image.
///
/// # Errors
/// Fails with the place and the text of the instruction that failed.
pub fn execute(prepared: &Prepared, plan: &mut Plan, mode: Mode) -> Result<StageResult> {
    let mut finished = FinishedStages::new();
    for stage in &mut plan.stages {
        let instructions = std::mem::take(&mut stage.instructions);
        let result = Executor::new(prepared, &finished, stage, mode).execute(instructions)?;
        finished.insert(stage.number, result);
    }
    Ok(finished.remove(&plan.image().number).unwrap_or_default())
}

/// What an instruction comes to.
#[derive(Default)]
struct Outcome {
    /// The files that it copied; else the record lists what it changed.
    tree: Option<Tree>,
    /// Its layers, and its cache key.
    record: Option<(Digest, Record)>,
    /// Whether it was carried out: it was not in the cache.
    is_new: bool,
    /// Whether some of it is not known in this mode.
    is_partial: bool,
}

/// A stage that is being executed.
struct Executor<'a> {
    prepared: &'a Prepared,
    finished: &'a FinishedStages,
    mode: Mode,
    number: usize,
    layers: LayerBuilder<'a>,
    /// Unpacked by the first RUN that is not cached.
    rootfs: Option<Rootfs>,
    result: StageResult,
}

impl<'a> Executor<'a> {
    fn new(prepared: &'a Prepared, finished: &'a FinishedStages, stage: &PlannedStage, mode: Mode) -> Self {
        let result = match &stage.start {
            FileSource::Scratch => StageResult::default(),
            FileSource::Stage(number) => finished.get(number).cloned().unwrap_or_default(),
            FileSource::Image(image) => prepared.base_images.get(image).map(StageResult::from_base).unwrap_or_default(),
        };
        Executor { prepared, finished, mode, number: stage.number, layers: LayerBuilder::new(prepared), rootfs: None, result }
    }

    fn execute(mut self, instructions: Vec<PlannedInstruction>) -> Result<StageResult> {
        let count = instructions.iter().filter(|instruction| instruction.changes_rootfs()).count();
        let mut number = 0;
        for instruction in instructions {
            self.prepared.ctx.check()?;
            number += usize::from(instruction.changes_rootfs());
            let (line, title) = (instruction.line, instruction.title.clone());
            let executed = self.instruction(instruction, number, count);
            executed.map_err(|error| self.prepared.options.at_instruction(line, &title, error))?;
        }
        Ok(self.result)
    }

    /// Executes instruction `number` of the `count` that change the rootfs.
    fn instruction(&mut self, instruction: PlannedInstruction, number: usize, count: usize) -> Result<()> {
        let PlannedInstruction { title, operation, .. } = instruction;
        let shows_progress = self.mode == Mode::Build && operation.changes_rootfs();
        let task = shows_progress.then(|| self.prepared.ctx.task(format!("[{number}/{count}] {title}"), None, Unit::Items));
        let max_layers = self.layers.max_layers(self.result.layers.len(), count - number);
        let outcome = self.outcome(operation, &title, max_layers)?;
        let is_new = outcome.is_new;
        self.apply(outcome, title)?;
        match task {
            Some(task) if is_new => task.done(""),
            Some(task) => task.unchanged(),
            None => {}
        }
        Ok(())
    }

    /// What an instruction comes to. Here alone the modes differ.
    fn outcome(&mut self, operation: Operation, title: &str, max_layers: usize) -> Result<Outcome> {
        match (operation, self.mode) {
            (Operation::Metadata, _) => Ok(Outcome::default()),
            (Operation::Run(command), Mode::Build) => self.run(command, title, max_layers),
            (Operation::Run(_), Mode::Check) => Ok(Outcome { is_partial: true, ..Outcome::default() }),
            (Operation::Copy(copy), Mode::Build) if copy.is_late() || copy.unpacks() => self.copy_late(copy, max_layers),
            (Operation::Copy(copy), Mode::Build) => self.copy(copy, max_layers),
            (Operation::Copy(copy), Mode::Check) => {
                let is_partial = copy.is_late();
                Ok(Outcome { tree: Some(self.tree(copy.known_part())?), is_partial, ..Outcome::default() })
            }
        }
    }

    /// Applies an outcome to the stage, in both modes alike.
    fn apply(&mut self, outcome: Outcome, title: String) -> Result<()> {
        let Outcome { tree, record, is_partial, .. } = outcome;
        match (&tree, &record) {
            (Some(tree), _) => self.result.apply_tree(tree, &self.prepared.cache, &self.prepared.ctx)?,
            (None, Some((_, record))) => self.result.apply_changes(record),
            (None, None) => {}
        }
        let key = record.as_ref().map(|(key, _)| *key);
        let layers = record.map(|(_, record)| self.result.add_layers(record)).unwrap_or_default();
        self.result.history.push(HistoryEntry { text: title, layers, key });
        self.result.is_partial |= is_partial;
        Ok(())
    }

    /// COPY and ADD of files that are here: their digests are in the key.
    fn copy(&mut self, copy: CopyFiles, max_layers: usize) -> Result<Outcome> {
        let tree = self.tree(copy)?;
        let copied = self.layers.of_tree(&tree, max_layers)?;
        Ok(Outcome { tree: Some(tree), record: Some((copied.key, copied.record)), is_new: copied.is_new, is_partial: false })
    }

    /// COPY --from, and what has to be unpacked or looked up first: its files are read only if it is not cached.
    fn copy_late(&mut self, copy: CopyFiles, max_layers: usize) -> Result<Outcome> {
        let mut key = self.layers.key("copy", max_layers);
        key.part(format!("{:?} {:?} {:?}", copy.destination, copy.mode, copy.owner));
        let digest = |path: &std::path::Path| self.prepared.cache.files.digest(path, &self.prepared.ctx);
        for source in &copy.sources {
            match source {
                CopySource::From(selection) => selection.add_to(&mut key, self.rootfs_of(&selection.source)?),
                CopySource::Item(item) => key.entries(&entries(&item.tree), digest)?,
                CopySource::Archive(path, _) => key.part(digest(path)?.to_string()),
            }
        }
        key.part("on");
        self.result.layers.iter().for_each(|layer| key.part(layer.diff_id.to_string()));
        let key = key.finish();
        if let Some(record) = self.layers.cached(&key)? {
            return Ok(Outcome { record: Some((key, record)), ..Outcome::default() });
        }
        let tree = self.tree(copy)?;
        let newest = tree.values().map(|entry| entry.mtime).max().unwrap_or(0);
        let record = self.layers.of_changes(&key, &tree, newest, max_layers)?;
        Ok(Outcome { record: Some((key, record)), is_new: true, ..Outcome::default() })
    }

    fn run(&mut self, command: RunCommand, title: &str, max_layers: usize) -> Result<Outcome> {
        let platform = &self.prepared.options.platform;
        let tools = if self.result.view.is_file("bin/sh".as_ref()) { Tools::Rootfs } else { Tools::Host };
        let invocation = Invocation::new(command.argv, command.env, tools);
        let mut key = self.layers.key("run", max_layers);
        key.part(serde_json::to_vec(&invocation)?);
        self.result.layers.iter().for_each(|layer| key.part(layer.diff_id.to_string()));
        let key = key.finish();
        if let Some(record) = self.layers.cached(&key)? {
            return Ok(Outcome { record: Some((key, record)), ..Outcome::default() });
        }
        if tools == Tools::Rootfs && !sandbox::can_run(platform) {
            return Err(sandbox::cannot_run(platform));
        }
        let mut rootfs = match self.rootfs.take() {
            Some(rootfs) => rootfs,
            None => Rootfs::new(self.prepared.scratch.path()?.join(self.number.to_string()))?,
        };
        let Prepared { store, ctx, .. } = self.prepared;
        rootfs.unpack_missing(&self.result.layers, store, ctx)?;
        let newest = self.result.newest_mtime;
        let changes = rootfs.run(&invocation, title, self.layers.clamped(newest), ctx)?;
        let record = self.layers.of_changes(&key, &changes, newest, max_layers)?;
        rootfs.skip_layers(record.layers.len());
        self.rootfs = Some(rootfs);
        Ok(Outcome { record: Some((key, record)), is_new: true, ..Outcome::default() })
    }

    /// What a copy puts into the rootfs, as a layer.
    fn tree(&self, copy: CopyFiles) -> Result<Tree> {
        let Prepared { scratch, store, ctx, .. } = self.prepared;
        let mut items = Vec::new();
        for source in copy.sources {
            match source {
                CopySource::Item(item) => items.push(item),
                CopySource::Archive(path, format) => {
                    let tree = add_archive::read(&path, format, scratch.path()?).with_context(|| path.display().to_string())?;
                    items.push(Item { name: PathBuf::new(), tree });
                }
                CopySource::From(selection) => {
                    let from = self.rootfs_of(&selection.source)?;
                    items.extend(selection.items(from, scratch.path()?, store, ctx)?);
                }
            }
        }
        let owner = copy.owner.as_ref().map(|owner| owner.look_up(self.result.rootfs(), scratch, store, ctx));
        let attributes = Attributes { mode: copy.mode, owner: owner.transpose()? };
        Ok(place(items, &copy.destination, attributes, &self.result.view))
    }

    /// The rootfs that COPY --from takes files from.
    fn rootfs_of(&self, source: &FileSource) -> Result<LayeredRootfs<'_>> {
        let found = match source {
            FileSource::Scratch => None,
            FileSource::Stage(number) => self.finished.get(number).map(StageResult::rootfs),
            FileSource::Image(image) => {
                self.prepared.base_images.get(image).map(|base| LayeredRootfs { layers: &base.layers, view: &base.view })
            }
        };
        found.with_context(|| {
            Failure::failed(format!("{source} has no files"))
                .hint("name an earlier stage or an image: `COPY --from=NAME SOURCE DESTINATION`")
        })
    }
}
