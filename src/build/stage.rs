//! What a stage has come to: its layers, its history, and what is known of its rootfs without unpacking it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::base_image::BaseImage;
use super::image_sources::ImageSources;
use super::instruction_cache::{InstructionCache, Record};
use super::rootfs_view::{Entry, RootfsView};
use crate::events::Context;
use crate::image::Digest;
use crate::layer::{Layer, Tree};

/// The finished stages, by their numbers in the Kubefile, from 0.
pub type FinishedStages = BTreeMap<usize, StageResult>;

/// A stage after some or all of its instructions.
#[derive(Debug, Clone, Default)]
pub struct StageResult {
    /// All layers, the base image's first.
    pub layers: Vec<Layer>,
    /// How many of them are the base image's.
    pub base_layers: usize,
    /// The instructions, in order.
    pub history: Vec<HistoryEntry>,
    /// The newest modification time of anything that went in, seconds since 1970.
    pub newest_mtime: i64,
    /// Files that may name container images.
    pub image_sources: ImageSources,
    /// The paths of the rootfs.
    pub view: RootfsView,
    /// Whether a RUN or COPY --from was skipped by a check: the build may find more.
    pub is_partial: bool,
}

/// An instruction in an image's history.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// Its first line.
    pub text: String,
    /// The layers that it made: for each that is a chunk of a large tree, the chunk's cache key.
    pub layers: Vec<Option<Digest>>,
    /// Its cache key, if it can make layers.
    pub key: Option<Digest>,
}

/// A rootfs as its layers: nothing is unpacked.
#[derive(Clone, Copy)]
pub struct LayeredRootfs<'a> {
    /// Its layers, lowest first.
    pub layers: &'a [Layer],
    /// Its paths.
    pub view: &'a RootfsView,
}

impl StageResult {
    /// A stage before its first instruction, on a base image.
    pub fn from_base(base: &BaseImage) -> Self {
        StageResult {
            layers: base.layers.clone(),
            base_layers: base.layers.len(),
            newest_mtime: base.created(),
            view: base.view.clone(),
            ..StageResult::default()
        }
    }

    /// The rootfs so far.
    pub fn rootfs(&self) -> LayeredRootfs<'_> {
        LayeredRootfs { layers: &self.layers, view: &self.view }
    }

    /// Follows files that an instruction copied.
    pub fn apply_tree(&mut self, tree: &Tree, cache: &InstructionCache, ctx: &Context) -> Result<()> {
        self.view.apply(tree);
        self.image_sources.apply(tree, cache, ctx)
    }

    /// Follows the changes that a record lists.
    pub fn apply_changes(&mut self, record: &Record) {
        for (path, change) in &record.changes {
            match change {
                Some(entry) => self.view.put(path, entry.clone()),
                None => self.view.remove(path),
            }
            if change != &Some(Entry::Dir) {
                self.image_sources.remove(path);
            }
        }
        for (path, digest) in &record.image_sources {
            self.image_sources.add_known(path.clone(), *digest);
        }
    }

    /// Adds a record's layers on top. Gives the cache keys of those that are chunks.
    pub fn add_layers(&mut self, record: Record) -> Vec<Option<Digest>> {
        self.newest_mtime = self.newest_mtime.max(record.newest);
        let chunks = record.layers.iter().map(|layer| layer.chunk).collect();
        self.layers.extend(record.layers.into_iter().map(Layer::from));
        chunks
    }
}
