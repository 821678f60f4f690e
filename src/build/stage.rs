//! A stage under construction: carries out a plan's instructions, one layer set after another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::add_archive;
use super::base_image::BaseImage;
use super::cache_from::CacheFrom;
use super::cache_key::{CacheKey, entries};
use super::copy_destination::{self, Attributes, place};
use super::copy_from::Finished;
use super::image_sources::ImageSources;
use super::instruction_cache::{InstructionCache, Record, RecordedLayer};
use super::layer_cache::LayerCache;
use super::options::Options;
use super::plan::{Piece, Placement, Planned, PlannedStage, Work};
use super::rootfs::Rootfs;
use super::rootfs_view::{Entry, RootfsView};
use super::sandbox::{self, Invocation, Mode};
use super::scratch_dir::ScratchDir;
use super::stage_sources::{FileSource, Image};
use crate::error::{Failure, hints_of, kind_of};
use crate::events::{Context, Unit};
use crate::image::{ClusterConfig, Digest};
use crate::layer::{FORMAT, Layer, PackOptions, Source, Tree, changes, flatten, pack, pack_anew};
use crate::store::Store;
use crate::workloads::FileKind;

/// An image has at most this many layers; some unpackers take no more than 127.
const MOST_LAYERS: usize = 100;
/// One instruction makes at most this many.
const MOST_LAYERS_OF_ONE: usize = 48;

/// Where stages are built, and what they may take from.
pub struct StageContext<'a> {
    /// What is asked for.
    pub options: &'a Options,
    /// What earlier builds remembered.
    pub cache: &'a InstructionCache,
    /// The images that lend their layers.
    pub lenders: &'a CacheFrom,
    /// Where layers go.
    pub store: &'a Store,
    /// The build's directory.
    pub workdir: &'a ScratchDir,
    /// What to report to.
    pub ctx: &'a Context,
    /// The images that stages start from or take files from.
    pub bases: &'a BTreeMap<Image, BaseImage>,
    /// The stages that are finished.
    pub finished: BTreeMap<usize, StageResult>,
}

impl StageContext<'_> {
    /// What a stage has before its first instruction.
    pub fn start(&self, origin: &FileSource) -> StageResult {
        match origin {
            FileSource::Scratch => StageResult::default(),
            FileSource::Stage(number) => self.finished.get(number).cloned().unwrap_or_default(),
            FileSource::Image(image) => self.bases.get(image).map(StageResult::on).unwrap_or_default(),
        }
    }

    fn rootfs(&self, origin: &FileSource) -> Result<Finished<'_>> {
        let found = match origin {
            FileSource::Scratch => None,
            FileSource::Stage(number) => self.finished.get(number).map(|made| Finished { layers: &made.layers, layout: &made.layout }),
            FileSource::Image(image) => self.bases.get(image).map(|base| Finished { layers: &base.layers, layout: &base.layout }),
        };
        found.with_context(|| format!("nothing can be copied from {origin:?}"))
    }
}

/// What the instructions have made so far.
pub struct Stage<'a> {
    site: &'a StageContext<'a>,
    number: usize,
    options: &'a Options,
    cache: &'a InstructionCache,
    store: &'a Store,
    ctx: &'a Context,
    layout: RootfsView,
    rootfs: Option<Rootfs>,
    /// The layers of the instruction that is carried out: their keys, if they are pieces.
    pieces: Vec<Option<Digest>>,
    /// The result.
    pub made: StageResult,
}

/// A finished stage.
#[derive(Debug, Clone, Default)]
pub struct StageResult {
    /// All layers, the base image's first.
    pub layers: Vec<Layer>,
    /// How many of them are the base image's.
    pub from_base: usize,
    /// What was done, in order.
    pub history: Vec<HistoryEntry>,
    /// The newest time of anything that went in, seconds since 1970.
    pub newest: i64,
    /// Files that may name container images.
    pub named: ImageSources,
    /// The paths of the rootfs.
    pub layout: RootfsView,
    /// How many instructions had to be carried out, not counting those that only say something.
    pub carried_out: usize,
}

/// An instruction that was carried out.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// Its text.
    pub text: String,
    /// The layers that it made: the key of each that is a piece of a tree.
    pub layers: Vec<Option<Digest>>,
    /// What it is remembered under, if it can make layers.
    pub key: Option<Digest>,
}

impl StageResult {
    /// What is there before the first instruction on a base image.
    fn on(base: &BaseImage) -> Self {
        StageResult {
            layers: base.layers.clone(),
            from_base: base.layers.len(),
            newest: base.created(),
            layout: base.layout.clone(),
            ..StageResult::default()
        }
    }
}

impl<'a> Stage<'a> {
    /// A stage before its first instruction.
    pub fn new(planned: &PlannedStage, site: &'a StageContext<'a>) -> Self {
        let StageContext { options, cache, store, ctx, .. } = *site;
        let mut made = site.start(&planned.start);
        made.carried_out = 0;
        Stage {
            site,
            number: planned.number,
            options,
            cache,
            store,
            ctx,
            layout: made.layout.clone(),
            rootfs: None,
            pieces: Vec::new(),
            made,
        }
    }

    /// Carries out all instructions.
    pub fn carry_out(mut self, steps: Vec<Planned>) -> Result<StageResult> {
        let count = steps.iter().filter(|step| !matches!(step.work, Work::Nothing)).count();
        let mut number = 0;
        for Planned { title, line, work } in steps {
            self.ctx.check()?;
            let mut key = None;
            if !matches!(work, Work::Nothing) {
                number += 1;
                let place = format!("[{number}/{count}]");
                key = self.step(work, &title, &place, count - number).map_err(|error| self.at(line, &title, error))?;
            }
            self.made.history.push(HistoryEntry { text: title, layers: std::mem::take(&mut self.pieces), key });
        }
        self.made.layout = self.layout;
        Ok(self.made)
    }

    /// Follows all instructions but RUN and COPY --from without making anything: only layout and names come of it.
    pub fn look_only(mut self, steps: Vec<Planned>) -> Result<StageResult> {
        for step in steps {
            if let Work::Place(placement) = step.work {
                let early = placement.pieces.into_iter().filter(|piece| !matches!(piece, Piece::From(_)));
                let items = self.items(early.collect())?;
                let tree = place(items, &placement.destination, Attributes::default(), &self.layout);
                self.layout.apply(&tree);
                self.made.named.apply(&tree, self.cache, self.ctx)?;
            }
        }
        self.made.layout = self.layout;
        Ok(self.made)
    }

    /// Says which instruction failed. The kind and the hints stay what they are.
    fn at(&self, line: usize, title: &str, error: anyhow::Error) -> anyhow::Error {
        let mut failure = Failure::new(kind_of(&error), format!("{}:{line}: {title}", self.options.kubefile));
        failure.hints = hints_of(&error).to_vec();
        error.context(failure)
    }

    fn step(&mut self, work: Work, title: &str, place: &str, after: usize) -> Result<Option<Digest>> {
        let task = self.ctx.task(format!("{place} {title}"), None, Unit::Items);
        let carried_out = self.made.carried_out;
        let key = match work {
            Work::Place(placement) if placement.is_late() || placement.unpacks() => Some(self.place_late(placement, after)?),
            Work::Place(placement) => Some(self.place(placement, after)?),
            Work::Run { argv, env } => Some(self.run(argv, env, title, after)?),
            Work::Nothing => None,
        };
        if self.made.carried_out == carried_out {
            task.unchanged()
        } else {
            task.done("")
        }
        Ok(key)
    }

    fn place(&mut self, placement: Placement, after: usize) -> Result<Digest> {
        let tree = self.placed(placement)?;
        let max_layers = self.max_layers(after);
        let mut shape = self.key("shape", max_layers);
        shape.shape(&entries(&tree))?;
        let shape = shape.finish();
        let saw = self.cache.saw(&shape);
        let known = match saw || self.site.lenders.any() {
            true => Some(self.place_key(&tree, max_layers, |path| self.cache.files.digest(path, self.ctx))?),
            false => None,
        };
        let (key, record) = match known.and_then(|key| Some((key, self.cache.step(&key, self.store)?))) {
            Some(remembered) => remembered,
            None => self.place_anew(known, &tree, max_layers)?,
        };
        if !saw {
            self.cache.remember_shape(&shape)?;
        }
        self.layout.apply(&tree);
        self.made.named.apply(&tree, self.cache, self.ctx)?;
        self.take(record);
        Ok(key)
    }

    /// What a placed tree is remembered under.
    fn place_key(&self, tree: &Tree, max_layers: usize, digest: impl Fn(&Path) -> Result<Digest> + Sync) -> Result<Digest> {
        let mut key = self.key("placed", max_layers);
        key.entries(&entries(tree), digest)?;
        Ok(key.finish())
    }

    /// Packs a placed tree, or borrows its layers. Its key, if not `known`, comes of the packing.
    fn place_anew(&mut self, known: Option<Digest>, tree: &Tree, max_layers: usize) -> Result<(Digest, Record)> {
        let newest = tree.values().map(|entry| entry.mtime).max().unwrap_or(0);
        if let Some(key) = known
            && let Some(layers) = self.from_cache_source(&key)?
        {
            let record = self.record(layers, newest);
            self.cache.remember_step(&key, &record)?;
            return Ok((key, record));
        }
        let newest = self.newest(newest);
        let options = PackOptions { compression: self.options.compression, newest_mtime: newest, max_layers };
        let pieces = LayerCache::new(self.cache, self.site.lenders, &options, self.store, self.ctx);
        self.made.carried_out += 1;
        let layers = pack_anew(tree, &options, &pieces, self.store, self.ctx)?;
        let record = self.record(layers.iter().map(|layer| pieces.recorded(layer)).collect::<Result<_>>()?, newest);
        let key = self.place_key(tree, max_layers, |path| pieces.digest(path))?;
        self.cache.remember_step(&key, &record)?;
        Ok((key, record))
    }

    /// The layer that a placement makes.
    fn placed(&self, placement: Placement) -> Result<Tree> {
        let items = self.items(placement.pieces)?;
        let rootfs = Finished { layers: &self.made.layers, layout: &self.layout };
        let owner = placement.owner.as_ref().map(|owner| owner.look_up(rootfs, self.site.workdir, self.store, self.ctx));
        let attributes = Attributes { mode: placement.mode.clone(), owner: owner.transpose()? };
        Ok(place(items, &placement.destination, attributes, &self.layout))
    }

    fn items(&self, pieces: Vec<Piece>) -> Result<Vec<copy_destination::Item>> {
        let mut items = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Item(item) => items.push(item),
                Piece::Archive(path, format) => {
                    let tree = add_archive::read(&path, format, self.site.workdir.path()?).with_context(|| path.display().to_string())?;
                    items.push(copy_destination::Item { name: PathBuf::new(), tree });
                }
                Piece::From(selection) => {
                    let from = self.site.rootfs(&selection.origin)?;
                    items.extend(selection.items(from, self.site.workdir.path()?, self.store, self.ctx)?);
                }
            }
        }
        Ok(items)
    }

    /// Places what comes from other stages and images: what that is, is looked up only if it is not remembered.
    fn place_late(&mut self, placement: Placement, after: usize) -> Result<Digest> {
        let max_layers = self.max_layers(after);
        let mut key = self.key("copy", max_layers);
        key.part(format!("{:?} {:?} {:?}", placement.destination, placement.mode, placement.owner));
        for piece in &placement.pieces {
            match piece {
                Piece::From(selection) => selection.add_to(&mut key, self.site.rootfs(&selection.origin)?),
                Piece::Item(item) => key.entries(&entries(&item.tree), |path| self.cache.files.digest(path, self.ctx))?,
                Piece::Archive(path, _) => key.part(self.cache.files.digest(path, self.ctx)?.to_string()),
            }
        }
        key.part("on");
        self.made.layers.iter().for_each(|layer| key.part(layer.diff_id.to_string()));
        let key = key.finish();
        let record = match self.remembered(&key)? {
            Some(record) => record,
            None => {
                let tree = self.placed(placement)?;
                let newest = tree.values().map(|entry| entry.mtime).max().unwrap_or(0);
                self.pack_for_later(&key, &tree, newest, max_layers)?
            }
        };
        self.follow(record);
        Ok(key)
    }

    fn run(&mut self, argv: Vec<String>, env: BTreeMap<String, String>, title: &str, after: usize) -> Result<Digest> {
        let mode = if self.layout.is_file("bin/sh".as_ref()) { Mode::Own } else { Mode::Host };
        let invocation = Invocation::new(argv, env, mode);
        let max_layers = self.max_layers(after);
        let mut key = self.key("run", max_layers);
        key.part(serde_json::to_vec(&invocation)?);
        for layer in &self.made.layers {
            key.part(layer.diff_id.to_string());
        }
        let key = key.finish();
        let record = match self.remembered(&key)? {
            Some(record) => record,
            None if mode == Mode::Own && !sandbox::can_run(&self.options.platform) => {
                return Err(sandbox::cannot_run(&self.options.platform));
            }
            None => self.run_anew(&key, &invocation, title, max_layers)?,
        };
        self.follow(record);
        Ok(key)
    }

    /// What an instruction came to in an earlier build, or in one that lends its layers.
    fn remembered(&self, key: &Digest) -> Result<Option<Record>> {
        if let Some(record) = self.cache.step(key, self.store) {
            return Ok(Some(record));
        }
        let Some(lent) = self.from_cache_source(key)? else { return Ok(None) };
        let layers: Vec<Layer> = lent.iter().cloned().map(Layer::from).collect();
        let changes = changes(self.store, &layers, self.ctx)?;
        let newest = changes.values().map(|entry| entry.mtime).max().unwrap_or(0);
        let may_name = |path: &Path| FileKind::of(path).is_some();
        let files = match changes.keys().any(|path| may_name(path)) {
            true => flatten(self.store, &layers, may_name, self.site.workdir.path()?, self.ctx)?,
            false => Tree::new(),
        };
        let record = self.record(lent, newest);
        self.with_names(key, record, &changes, &files).map(Some)
    }

    fn from_cache_source(&self, key: &Digest) -> Result<Option<Vec<RecordedLayer>>> {
        if self.cache.is_write_only() { Ok(None) } else { self.site.lenders.step(key) }
    }

    /// Takes what an instruction came to, and what it changed.
    fn follow(&mut self, record: Record) {
        for (path, item) in &record.changes {
            match item {
                Some(item) => self.layout.put(path, item.clone()),
                None => self.layout.remove(path),
            }
            if item != &Some(Entry::Dir) {
                self.made.named.remove(path);
            }
        }
        for (path, digest) in &record.named {
            self.made.named.add_known(path.clone(), *digest);
        }
        self.take(record);
    }

    fn run_anew(&mut self, key: &Digest, invocation: &Invocation, title: &str, max_layers: usize) -> Result<Record> {
        let mut rootfs = match self.rootfs.take() {
            Some(rootfs) => rootfs,
            None => Rootfs::new(self.site.workdir.path()?.join(self.number.to_string()))?,
        };
        rootfs.catch_up(&self.made.layers, self.store, self.ctx)?;
        let changes = rootfs.run(invocation, title, self.newest(self.made.newest), self.ctx)?;
        let record = self.pack_for_later(key, &changes, self.made.newest, max_layers)?;
        rootfs.has(record.layers.len());
        self.rootfs = Some(rootfs);
        Ok(record)
    }

    /// Packs what lies in the build's directory, and remembers what of it later instructions and builds want to know.
    fn pack_for_later(&mut self, key: &Digest, changes: &Tree, newest: i64, max_layers: usize) -> Result<Record> {
        let record = self.pack(changes, newest, max_layers)?;
        self.with_names(key, record, changes, changes)
    }

    /// Adds what later instructions and builds want to know of changes, and remembers the record. `files` has the bytes of those that
    /// may name container images.
    fn with_names(&self, key: &Digest, mut record: Record, changes: &Tree, files: &Tree) -> Result<Record> {
        let mut named = ImageSources::default();
        named.apply(files, self.cache, self.ctx)?;
        // the files are gone with the build directory, so what they name is read now
        named.wanted(self.cache)?;
        record.named = named.within(changes);
        record.changes = changes.iter().map(|(path, entry)| (path.clone(), change(&entry.source))).collect();
        self.cache.remember_step(key, &record)?;
        Ok(record)
    }

    fn pack(&mut self, tree: &Tree, newest: i64, max_layers: usize) -> Result<Record> {
        self.made.carried_out += 1;
        let newest = self.newest(newest);
        let options = PackOptions { compression: self.options.compression, newest_mtime: newest, max_layers };
        let layers = pack(tree, &options, self.store, self.ctx)?;
        Ok(self.record(layers.iter().map(|layer| RecordedLayer::of(layer, None)).collect(), newest))
    }

    fn record(&self, layers: Vec<RecordedLayer>, newest: i64) -> Record {
        Record { layers, newest: self.newest(newest), ..Record::default() }
    }

    /// No time in the image is later than the epoch that is asked for.
    fn newest(&self, newest: i64) -> i64 {
        self.options.source_date_epoch.map_or(newest, |epoch| epoch.min(newest))
    }

    fn take(&mut self, record: Record) {
        self.made.newest = self.made.newest.max(record.newest);
        self.pieces.extend(record.layers.iter().map(|layer| layer.piece));
        self.made.layers.extend(record.layers.into_iter().map(Layer::from));
    }

    /// A key with what all instructions depend on.
    fn key(&self, kind: &str, max_layers: usize) -> CacheKey {
        let mut key = CacheKey::new(kind);
        key.part(ClusterConfig::SCHEMA);
        key.part(format!("{FORMAT} {:?} {max_layers} {:?}", self.options.compression, self.options.source_date_epoch));
        key
    }

    /// How many layers an instruction may make when `after` more follow.
    fn max_layers(&self, after: usize) -> usize {
        MOST_LAYERS.saturating_sub(self.made.layers.len() + after).clamp(1, MOST_LAYERS_OF_ONE)
    }
}

fn change(source: &Source) -> Option<Entry> {
    match source {
        Source::Whiteout => None,
        Source::Directory | Source::OpaqueDirectory => Some(Entry::Dir),
        Source::Symlink(target) => Some(Entry::Link(target.clone())),
        Source::File(..) | Source::Bytes(_) | Source::Hardlink(_) => Some(Entry::File),
    }
}
