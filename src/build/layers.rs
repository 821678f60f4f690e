//! Turns what instructions copy and change into layers: from the cache, from `--cache-from`, or packed.

use std::path::Path;

use anyhow::Result;

use super::cache_key::{CacheKey, entries};
use super::image_sources::ImageSources;
use super::instruction_cache::{Record, RecordedLayer};
use super::layer_cache::LayerCache;
use super::prepare::Prepared;
use super::rootfs_view::Entry;
use crate::image::{ClusterConfig, Digest};
use crate::layer::{FORMAT, Layer, PackOptions, Source, Tree, changes, flatten, pack, pack_cached};
use crate::workloads::FileKind;

/// The limit on an image's layers; some unpackers take no more than 127.
const MAX_LAYERS: usize = 100;
/// The limit on one instruction's layers.
const MAX_LAYERS_PER_INSTRUCTION: usize = 48;

/// Makes the layers of instructions.
pub struct LayerBuilder<'a> {
    prepared: &'a Prepared,
}

/// The layers of copied files.
pub struct CopiedLayers {
    /// The instruction's cache key.
    pub key: Digest,
    /// The layers.
    pub record: Record,
    /// Whether they had to be packed.
    pub is_new: bool,
}

impl<'a> LayerBuilder<'a> {
    /// A builder for one stage.
    pub fn new(prepared: &'a Prepared) -> Self {
        LayerBuilder { prepared }
    }

    /// The limit on the layers of an instruction, on `existing` layers and before `remaining` more instructions.
    pub fn max_layers(&self, existing: usize, remaining: usize) -> usize {
        MAX_LAYERS.saturating_sub(existing + remaining).clamp(1, MAX_LAYERS_PER_INSTRUCTION)
    }

    /// A cache key with what all instructions depend on.
    pub fn key(&self, kind: &str, max_layers: usize) -> CacheKey {
        let options = &self.prepared.options;
        let mut key = CacheKey::new(kind);
        key.part(ClusterConfig::SCHEMA);
        key.part(format!("{FORMAT} {:?} {max_layers} {:?}", options.compression, options.source_date_epoch));
        key
    }

    /// No time in the image is later than `SOURCE_DATE_EPOCH`.
    pub fn clamped(&self, mtime: i64) -> i64 {
        self.prepared.options.source_date_epoch.map_or(mtime, |epoch| epoch.min(mtime))
    }

    /// The layers of copied files. Files of a shape that was never seen are not read for their key: it comes of packing them.
    pub fn of_tree(&self, tree: &Tree, max_layers: usize) -> Result<CopiedLayers> {
        let Prepared { cache, cache_from, store, ctx, .. } = self.prepared;
        let mut shape = self.key("shape", max_layers);
        shape.shape(&entries(tree))?;
        let shape = shape.finish();
        let has_shape = cache.has_shape(&shape);
        let key = match has_shape || !cache_from.is_empty() {
            true => Some(self.tree_key(tree, max_layers, |path| cache.files.digest(path, ctx))?),
            false => None,
        };
        let copied = match key.and_then(|key| Some((key, cache.step(&key, store)?))) {
            Some((key, record)) => CopiedLayers { key, record, is_new: false },
            None => self.make_tree(key, tree, max_layers)?,
        };
        if !has_shape {
            cache.remember_shape(&shape)?;
        }
        Ok(copied)
    }

    /// The cache key of copied files.
    fn tree_key(&self, tree: &Tree, max_layers: usize, digest: impl Fn(&Path) -> Result<Digest> + Sync) -> Result<Digest> {
        let mut key = self.key("placed", max_layers);
        key.entries(&entries(tree), digest)?;
        Ok(key.finish())
    }

    /// Takes layers from `--cache-from`, or else packs them.
    fn make_tree(&self, key: Option<Digest>, tree: &Tree, max_layers: usize) -> Result<CopiedLayers> {
        let Prepared { cache, cache_from, store, ctx, options, .. } = self.prepared;
        let newest = self.clamped(tree.values().map(|entry| entry.mtime).max().unwrap_or(0));
        if let Some(key) = key
            && let Some(layers) = self.pull_cached(&key)?
        {
            let record = Record { layers, newest, ..Record::default() };
            cache.remember_step(&key, &record)?;
            return Ok(CopiedLayers { key, record, is_new: false });
        }
        let pack_options = PackOptions { compression: options.compression, newest_mtime: newest, max_layers };
        let chunks = LayerCache::new(cache, cache_from, &pack_options, store, ctx);
        let layers = pack_cached(tree, &pack_options, &chunks, store, ctx)?;
        let layers = layers.iter().map(|layer| chunks.recorded(layer)).collect::<Result<_>>()?;
        let record = Record { layers, newest, ..Record::default() };
        let key = self.tree_key(tree, max_layers, |path| chunks.digest(path))?;
        cache.remember_step(&key, &record)?;
        Ok(CopiedLayers { key, record, is_new: true })
    }

    /// What an instruction with this key came to, in an earlier build or in an image of `--cache-from`.
    pub fn cached(&self, key: &Digest) -> Result<Option<Record>> {
        let Prepared { cache, store, ctx, scratch, .. } = self.prepared;
        if let Some(record) = cache.step(key, store) {
            return Ok(Some(record));
        }
        let Some(recorded) = self.pull_cached(key)? else { return Ok(None) };
        let layers: Vec<Layer> = recorded.iter().cloned().map(Layer::from).collect();
        let changes = changes(store, &layers, ctx)?;
        let newest = self.clamped(changes.values().map(|entry| entry.mtime).max().unwrap_or(0));
        let may_name_images = |path: &Path| FileKind::of(path).is_some();
        let files = match changes.keys().any(|path| may_name_images(path)) {
            true => flatten(store, &layers, may_name_images, scratch.path()?, ctx)?,
            false => Tree::new(),
        };
        let record = Record { layers: recorded, newest, ..Record::default() };
        self.remember(key, record, &changes, &files).map(Some)
    }

    fn pull_cached(&self, key: &Digest) -> Result<Option<Vec<RecordedLayer>>> {
        if self.prepared.cache.is_write_only() { Ok(None) } else { self.prepared.cache_from.step(key) }
    }

    /// Packs changes whose files are in the build's scratch directory.
    pub fn of_changes(&self, key: &Digest, changes: &Tree, newest: i64, max_layers: usize) -> Result<Record> {
        let Prepared { store, ctx, options, .. } = self.prepared;
        let newest = self.clamped(newest);
        let options = PackOptions { compression: options.compression, newest_mtime: newest, max_layers };
        let layers = pack(changes, &options, store, ctx)?;
        let layers = layers.iter().map(|layer| RecordedLayer::new(layer, None)).collect();
        self.remember(key, Record { layers, newest, ..Record::default() }, changes, changes)
    }

    /// Adds to a record what later instructions and builds need to know of the changes, and keeps it in the cache. `files` has the
    /// bytes of those that may name container images.
    fn remember(&self, key: &Digest, mut record: Record, changes: &Tree, files: &Tree) -> Result<Record> {
        let Prepared { cache, ctx, .. } = self.prepared;
        let mut sources = ImageSources::default();
        sources.apply(files, cache, ctx)?;
        // the files go with the scratch directory, so what they name is read now
        sources.required_images(cache)?;
        record.image_sources = sources.within(changes);
        record.changes = changes.iter().map(|(path, entry)| (path.clone(), change(&entry.source))).collect();
        cache.remember_step(key, &record)?;
        Ok(record)
    }
}

/// What stands at a path after a change; `None` if nothing.
fn change(source: &Source) -> Option<Entry> {
    match source {
        Source::Whiteout => None,
        Source::Directory | Source::OpaqueDirectory => Some(Entry::Dir),
        Source::Symlink(target) => Some(Entry::Link(target.clone())),
        Source::File(..) | Source::Bytes(_) | Source::Hardlink(_) => Some(Entry::File),
    }
}
