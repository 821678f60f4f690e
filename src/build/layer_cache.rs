//! The cache of chunks: a large tree is split into chunks, each a layer, and unchanged chunks are not packed again.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::cache_from::CacheFrom;
use super::cache_key::CacheKey;
use super::instruction_cache::{InstructionCache, RecordedLayer};
use crate::events::Context;
use crate::image::{ClusterConfig, Digest};
use crate::layer::{ChunkCache, Entry, FORMAT, Layer, PackOptions};
use crate::store::Store;

/// The cached chunks of a tree that is packed.
///
/// Files are read once: the digests of a chunk whose shape was never built come from packing it.
pub struct LayerCache<'a> {
    cache: &'a InstructionCache,
    cache_from: &'a CacheFrom,
    options: &'a PackOptions,
    store: &'a Store,
    ctx: &'a Context,
    /// The digests of the files that were packed.
    packed: Shared<PathBuf>,
    /// The keys of the tree's chunks, by their layers' digests.
    keys: Shared<Digest>,
}

impl<'a> LayerCache<'a> {
    /// The chunks in the build cache and in the images of `--cache-from`, as packed with these options.
    pub fn new(
        cache: &'a InstructionCache,
        cache_from: &'a CacheFrom,
        options: &'a PackOptions,
        store: &'a Store,
        ctx: &'a Context,
    ) -> Self {
        LayerCache { cache, cache_from, options, store, ctx, packed: Shared::default(), keys: Shared::default() }
    }

    /// The digest of a file: as it was packed, if it was.
    pub fn digest(&self, path: &Path) -> Result<Digest> {
        self.packed.get(path).map_or_else(|| self.cache.files.digest(path, self.ctx), Ok)
    }

    /// A layer as it is kept in the cache: with its key, if it is a chunk.
    pub fn recorded(&self, layer: &Layer) -> Result<RecordedLayer> {
        Ok(RecordedLayer::new(layer, self.keys.get(&layer.descriptor.digest().try_into()?)))
    }

    /// A chunk's key in images: without times, as those of instructions.
    fn key(&self, chunk: &[(&Path, &Entry)]) -> Result<Digest> {
        let mut key = self.new_key("piece");
        key.entries(chunk, |path| self.digest(path))?;
        Ok(key.finish())
    }

    /// The key of a chunk's shape: of all but its contents.
    fn shape(&self, chunk: &[(&Path, &Entry)]) -> Result<Digest> {
        let mut key = self.new_key("shape of a piece");
        key.shape(chunk)?;
        Ok(key.finish())
    }

    fn new_key(&self, kind: &str) -> CacheKey {
        let mut key = CacheKey::new(kind);
        key.part(ClusterConfig::SCHEMA);
        key.part(format!("{FORMAT} {:?}", self.options.compression));
        key
    }

    /// A chunk's key in the build cache: with its times, so that the layer is the same as if it was packed again.
    fn timed(&self, key: &Digest, chunk: &[(&Path, &Entry)]) -> Digest {
        let mut timed = CacheKey::new("at");
        timed.part(key.to_string());
        for (_, entry) in chunk {
            timed.part(entry.mtime.min(self.options.newest_mtime).to_le_bytes());
        }
        timed.finish()
    }

    fn note(&self, layer: &Layer, key: Digest) -> Result<()> {
        self.keys.put(layer.descriptor.digest().try_into()?, key);
        Ok(())
    }
}

impl ChunkCache for LayerCache<'_> {
    fn get(&self, chunk: &[(&Path, &Entry)]) -> Result<Option<Layer>> {
        if self.cache.is_write_only() || (self.cache_from.is_empty() && !self.cache.has_shape(&self.shape(chunk)?)) {
            return Ok(None);
        }
        let key = self.key(chunk)?;
        let recorded = match self.cache.chunk(&self.timed(&key, chunk), self.store) {
            Some(recorded) => Some(recorded),
            None => self.cache_from.chunk(&key)?,
        };
        let layer = recorded.map(Layer::from);
        layer.iter().try_for_each(|layer| self.note(layer, key))?;
        Ok(layer)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        let own = path.to_owned();
        Ok(Box::new(self.cache.files.open_once(path, move |digest| self.packed.put(own.clone(), digest))?))
    }

    fn put(&self, chunk: &[(&Path, &Entry)], layer: &Layer) -> Result<()> {
        let key = self.key(chunk)?;
        self.note(layer, key)?;
        self.cache.remember_chunk(&self.timed(&key, chunk), &RecordedLayer::new(layer, Some(key)))?;
        self.cache.remember_shape(&self.shape(chunk)?)
    }
}

/// Digests that several threads write and read.
struct Shared<K>(Mutex<HashMap<K, Digest>>);

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Shared(Mutex::default())
    }
}

impl<K: Hash + Eq> Shared<K> {
    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Digest>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn put(&self, key: K, digest: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, digest);
    }
}
