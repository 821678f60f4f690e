//! `--cache-from`: reuses layers of other images.
//!
//! Images keep cache keys in the comments of their history: those of instructions, and those of the chunks that a large tree is
//! split into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use tokio::runtime::Handle;

use super::instruction_cache::RecordedLayer;
use super::options::Options;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, ClusterImage, Content, Digest, Reference, content_of};
use crate::layer::layers_of;
use crate::registry::client::Client;
use crate::store::Store;
use crate::trust::admit;

/// The prefix of a history comment that holds a key.
const COMMENT: &str = "sealift ";

/// The comment of a history entry: the instruction's key, the entry's number among the instruction's (from 0), and the chunk's key
/// if its layer is a chunk.
pub fn comment(key: &Digest, number: usize, chunk: Option<&Digest>) -> String {
    let chunk = chunk.map(|chunk| format!(" {chunk}")).unwrap_or_default();
    format!("{COMMENT}{key} {number}{chunk}")
}

fn parse(comment: &str) -> Option<(Digest, usize, Option<Digest>)> {
    let mut words = comment.strip_prefix(COMMENT)?.split(' ');
    let (key, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((key, number, words.next().and_then(|chunk| chunk.parse().ok())))
}

/// The images of `--cache-from`.
#[derive(Clone)]
pub struct CacheFrom {
    images: Vec<CacheSource>,
    client: Client,
    store: Store,
    ctx: Context,
    runtime: Handle,
}

#[derive(Clone)]
struct CacheSource {
    name: Reference,
    /// Layers by the keys of instructions.
    steps: BTreeMap<Digest, Vec<RecordedLayer>>,
    /// Layers by the keys of chunks.
    chunks: BTreeMap<Digest, RecordedLayer>,
    /// Whether a pull from it failed: it is not used again.
    is_unreachable: Arc<AtomicBool>,
}

impl CacheFrom {
    /// Reads the manifests and configs of the images, from the store or a registry. An image that is not found is a warning only: before
    /// the first push there is none.
    pub async fn open(options: &Options, client: &Client, store: &Store, ctx: &Context) -> Result<Self> {
        let runtime = Handle::current();
        let mut cache_from = CacheFrom { images: Vec::new(), client: client.clone(), store: store.clone(), ctx: ctx.clone(), runtime };
        for name in &options.cache_from {
            match cache_from.read(name, options).await {
                Ok(source) => cache_from.images.push(source),
                Err(error) => {
                    ctx.check()?;
                    ctx.warn(format!("--cache-from {} is not used: {error:#}", name.familiar()));
                }
            }
        }
        Ok(cache_from)
    }

    /// Whether there are no images to reuse layers of.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Pulls the layers of the instruction with this key into the store; `None` if no image has them.
    ///
    /// Blocks: not for async code.
    pub fn step(&self, key: &Digest) -> Result<Option<Vec<RecordedLayer>>> {
        self.pull_first(|source| source.steps.get(key).cloned())
    }

    /// Pulls the layer of the chunk with this key into the store; `None` if no image has it.
    ///
    /// Blocks: not for async code.
    pub fn chunk(&self, key: &Digest) -> Result<Option<RecordedLayer>> {
        let found = self.pull_first(|source| source.chunks.get(key).map(|layer| vec![layer.clone()]))?;
        Ok(found.and_then(|layers| layers.into_iter().next()))
    }

    /// Pulls from the first image that has the layers. A pull that fails is a warning only: the layers can be built.
    fn pull_first(&self, find: impl Fn(&CacheSource) -> Option<Vec<RecordedLayer>>) -> Result<Option<Vec<RecordedLayer>>> {
        for source in self.images.iter().filter(|source| !source.is_unreachable.load(Ordering::Relaxed)) {
            let Some(layers) = find(source) else { continue };
            match self.pull(&source.name, &layers) {
                Ok(()) => return Ok(Some(layers)),
                Err(error) => {
                    self.ctx.check()?;
                    if !source.is_unreachable.swap(true, Ordering::Relaxed) {
                        self.ctx.warn(format!("--cache-from {} is no longer used: {error:#}", source.name.familiar()));
                    }
                }
            }
        }
        Ok(None)
    }

    fn pull(&self, name: &Reference, layers: &[RecordedLayer]) -> Result<()> {
        for layer in layers {
            let blob = Blob::try_from(&layer.descriptor)?;
            if !self.store.has(&blob) {
                self.runtime.block_on(self.client.pull_blob(name, &blob, &self.store, &self.ctx))?;
            }
        }
        Ok(())
    }

    async fn read(&self, name: &Reference, options: &Options) -> Result<CacheSource> {
        let (root, mut content) = match self.store.resolve(name)? {
            Some(root) => (root.clone(), self.store.read_manifest(&root)?),
            None => self.manifest(name).await?,
        };
        admit(&options.policy, Some(&self.client), name, &root, &self.store, &self.ctx).await?;
        if let Content::Index(index) = &content {
            let rootfs = ClusterImage::from_index(index)?.part(&options.platform)?.rootfs.clone();
            content = match self.has(&rootfs)? {
                true => self.store.read_manifest(&rootfs)?,
                false => self.manifest(&name.with_digest(rootfs.digest().try_into()?)).await?.1,
            };
        }
        let Content::Manifest(manifest) = content else {
            return Err(Failure::verification("it is not an image").into());
        };
        let config = Blob::try_from(manifest.config())?;
        self.client.pull_blob(name, &config, &self.store, &self.ctx).await?;
        self.cache_source(name, &manifest, &config)
    }

    fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.store.has(&Blob::try_from(descriptor)?))
    }

    async fn manifest(&self, name: &Reference) -> Result<(Descriptor, Content)> {
        let found = self.client.manifest(name, &self.ctx).await?;
        let (descriptor, bytes) = found.with_context(|| Failure::failed(format!("no such image: {}", name.familiar())))?;
        let content = content_of(descriptor.media_type(), &bytes)?;
        Ok((descriptor, content))
    }

    fn cache_source(&self, name: &Reference, manifest: &ImageManifest, config: &Blob) -> Result<CacheSource> {
        let config: ImageConfiguration = serde_json::from_slice(&self.store.read(config)?).context("image config")?;
        let mut layers = layers_of(&self.store, manifest)?.into_iter();
        let (steps, chunks) = (BTreeMap::new(), BTreeMap::new());
        let mut source = CacheSource { name: name.clone(), steps, chunks, is_unreachable: Arc::default() };
        for entry in config.history().iter().flatten() {
            // an instruction without a layer has a key too
            let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
            let Some((key, number, chunk)) = entry.comment().as_deref().and_then(parse) else { continue };
            let layer = layer.map(|layer| RecordedLayer::new(&layer, chunk));
            if let (Some(chunk), Some(layer)) = (chunk, &layer) {
                source.chunks.insert(chunk, layer.clone());
            }
            let known = source.steps.entry(key).or_default();
            if number == 0 {
                known.clear();
            }
            known.extend(layer);
        }
        Ok(source)
    }
}
