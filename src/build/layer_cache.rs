//! What pieces of trees came to in earlier builds, here and elsewhere: those that hold the same are not packed again.

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
use crate::layer::{Entry, FORMAT, Layer, Memory, PackOptions};
use crate::store::Store;

/// The memory of the pieces of a tree that is packed.
///
/// Files are read once: where nothing of a piece's shape was made before, their digests come of packing them.
pub struct LayerCache<'a> {
    cache: &'a InstructionCache,
    lenders: &'a CacheFrom,
    options: &'a PackOptions,
    store: &'a Store,
    ctx: &'a Context,
    /// The digests of files as they were when they were packed.
    packed: Shared<PathBuf>,
    /// The keys of the pieces that were met, by their layers' digests.
    keys: Shared<Digest>,
}

impl<'a> LayerCache<'a> {
    /// The memory of pieces that are packed with these options, and of the images that lend their layers.
    pub fn new(cache: &'a InstructionCache, lenders: &'a CacheFrom, options: &'a PackOptions, store: &'a Store, ctx: &'a Context) -> Self {
        LayerCache { cache, lenders, options, store, ctx, packed: Shared::default(), keys: Shared::default() }
    }

    /// The digest of a file: of what was packed, if it was.
    pub fn digest(&self, path: &Path) -> Result<Digest> {
        self.packed.get(path).map_or_else(|| self.cache.files.digest(path, self.ctx), Ok)
    }

    /// A layer as it is written down: with its key, if it is of a piece.
    pub fn recorded(&self, layer: &Layer) -> Result<RecordedLayer> {
        Ok(RecordedLayer::of(layer, self.keys.get(&layer.descriptor.digest().try_into()?)))
    }

    /// What a piece is known by in images: without times, as instructions are.
    fn key(&self, piece: &[(&Path, &Entry)]) -> Result<Digest> {
        let mut key = self.begin("piece");
        key.entries(piece, |path| self.digest(path))?;
        Ok(key.finish())
    }

    /// What all pieces have in common with this one that it could be.
    fn shape(&self, piece: &[(&Path, &Entry)]) -> Result<Digest> {
        let mut key = self.begin("shape of a piece");
        key.shape(piece)?;
        Ok(key.finish())
    }

    fn begin(&self, kind: &str) -> CacheKey {
        let mut key = CacheKey::new(kind);
        key.part(ClusterConfig::SCHEMA);
        key.part(format!("{FORMAT} {:?}", self.options.compression));
        key
    }

    /// What a piece is remembered under here: with its times, so that it is the same as packed anew.
    fn timed(&self, key: &Digest, piece: &[(&Path, &Entry)]) -> Digest {
        let mut timed = CacheKey::new("at");
        timed.part(key.to_string());
        for (_, entry) in piece {
            timed.part(entry.mtime.min(self.options.newest_mtime).to_le_bytes());
        }
        timed.finish()
    }

    fn note(&self, layer: &Layer, key: Digest) -> Result<()> {
        self.keys.put(layer.descriptor.digest().try_into()?, key);
        Ok(())
    }
}

impl Memory for LayerCache<'_> {
    fn recall(&self, piece: &[(&Path, &Entry)]) -> Result<Option<Layer>> {
        if self.cache.is_write_only() || !(self.lenders.any() || self.cache.saw(&self.shape(piece)?)) {
            return Ok(None);
        }
        let key = self.key(piece)?;
        let recorded = match self.cache.piece(&self.timed(&key, piece), self.store) {
            Some(recorded) => Some(recorded),
            None => self.lenders.piece(&key)?,
        };
        let layer = recorded.map(Layer::from);
        layer.iter().try_for_each(|layer| self.note(layer, key))?;
        Ok(layer)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        let own = path.to_owned();
        Ok(Box::new(self.cache.files.open_once(path, move |digest| self.packed.put(own.clone(), digest))?))
    }

    fn remember(&self, piece: &[(&Path, &Entry)], layer: &Layer) -> Result<()> {
        let key = self.key(piece)?;
        self.note(layer, key)?;
        self.cache.remember_piece(&self.timed(&key, piece), &RecordedLayer::of(layer, Some(key)))?;
        self.cache.remember_shape(&self.shape(piece)?)
    }
}

/// Digests that several threads note and look up.
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
