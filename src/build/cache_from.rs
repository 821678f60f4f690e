//! `--cache-from`: layers of other images, found by the keys that images keep in their history: of whole instructions, and of the
//! pieces that a large tree is cut into.

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

/// What stands before the key in the comment of a history entry.
const COMMENT: &str = "sealift ";

/// The comment of one of the history entries of an instruction with this key: the first has the number 0. A layer that is a piece
/// of a tree has a key of its own.
pub fn comment(key: &Digest, number: usize, piece: Option<&Digest>) -> String {
    let piece = piece.map(|piece| format!(" {piece}")).unwrap_or_default();
    format!("{COMMENT}{key} {number}{piece}")
}

fn parse(comment: &str) -> Option<(Digest, usize, Option<Digest>)> {
    let mut words = comment.strip_prefix(COMMENT)?.split(' ');
    let (key, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((key, number, words.next().and_then(|piece| piece.parse().ok())))
}

/// Images that lend their layers.
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
    steps: BTreeMap<Digest, Vec<RecordedLayer>>,
    pieces: BTreeMap<Digest, RecordedLayer>,
    /// Whether it did not give what it said it has: it is not asked again.
    gone: Arc<AtomicBool>,
}

impl CacheFrom {
    /// Looks at the documents of images in the store, else in a registry. One that is nowhere is warned of: the first build of all has none.
    pub async fn open(options: &Options, client: &Client, store: &Store, ctx: &Context) -> Result<Self> {
        let runtime = Handle::current();
        let mut lenders = CacheFrom { images: Vec::new(), client: client.clone(), store: store.clone(), ctx: ctx.clone(), runtime };
        for name in &options.cache_from {
            match lenders.look_at(name, options).await {
                Ok(lender) => lenders.images.push(lender),
                Err(error) => {
                    ctx.check()?;
                    ctx.warn(format!("nothing is taken from {}: {error:#}", name.familiar()));
                }
            }
        }
        Ok(lenders)
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.images.is_empty()
    }

    /// The layers of an instruction with this key, brought into the store.
    ///
    /// To be called where blocking is allowed, as [`Self::piece`].
    pub fn step(&self, key: &Digest) -> Result<Option<Vec<RecordedLayer>>> {
        self.find_layers(|lender| lender.steps.get(key).cloned())
    }

    /// The layer of a piece with this key, brought into the store.
    pub fn piece(&self, key: &Digest) -> Result<Option<RecordedLayer>> {
        let found = self.find_layers(|lender| lender.pieces.get(key).map(|layer| vec![layer.clone()]))?;
        Ok(found.and_then(|layers| layers.into_iter().next()))
    }

    /// What the first image has that has it. One that does not give it is warned of: all can be made here.
    fn find_layers(&self, find: impl Fn(&CacheSource) -> Option<Vec<RecordedLayer>>) -> Result<Option<Vec<RecordedLayer>>> {
        for lender in self.images.iter().filter(|lender| !lender.gone.load(Ordering::Relaxed)) {
            let Some(layers) = find(lender) else { continue };
            match self.bring(&lender.name, &layers) {
                Ok(()) => return Ok(Some(layers)),
                Err(error) => {
                    self.ctx.check()?;
                    if !lender.gone.swap(true, Ordering::Relaxed) {
                        self.ctx.warn(format!("nothing more is taken from {}: {error:#}", lender.name.familiar()));
                    }
                }
            }
        }
        Ok(None)
    }

    fn bring(&self, name: &Reference, layers: &[RecordedLayer]) -> Result<()> {
        for layer in layers {
            let blob = Blob::try_from(&layer.descriptor)?;
            if !self.store.has(&blob) {
                self.runtime.block_on(self.client.pull_blob(name, &blob, &self.store, &self.ctx))?;
            }
        }
        Ok(())
    }

    async fn look_at(&self, name: &Reference, options: &Options) -> Result<CacheSource> {
        let (root, mut content) = match self.store.resolve(name)? {
            Some(root) => (root.clone(), self.store.read_manifest(&root)?),
            None => self.document(name).await?,
        };
        admit(&options.policy, Some(&self.client), name, &root, &self.store, &self.ctx).await?;
        if let Content::Index(index) = &content {
            let rootfs = ClusterImage::from_index(index)?.part(&options.platform)?.rootfs.clone();
            content = match self.has(&rootfs)? {
                true => self.store.read_manifest(&rootfs)?,
                false => self.document(&name.with_digest(rootfs.digest().try_into()?)).await?.1,
            };
        }
        let Content::Manifest(manifest) = content else {
            return Err(Failure::verification("it is no image").into());
        };
        let config = Blob::try_from(manifest.config())?;
        self.client.pull_blob(name, &config, &self.store, &self.ctx).await?;
        self.keys(name, &manifest, &config)
    }

    fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.store.has(&Blob::try_from(descriptor)?))
    }

    async fn document(&self, name: &Reference) -> Result<(Descriptor, Content)> {
        let found = self.client.manifest(name, &self.ctx).await?;
        let (descriptor, bytes) = found.with_context(|| Failure::failed(format!("no such image: {}", name.familiar())))?;
        let content = content_of(descriptor.media_type(), &bytes)?;
        Ok((descriptor, content))
    }

    fn keys(&self, name: &Reference, manifest: &ImageManifest, config: &Blob) -> Result<CacheSource> {
        let config: ImageConfiguration = serde_json::from_slice(&self.store.read(config)?).context("image config")?;
        let mut layers = layers_of(&self.store, manifest)?.into_iter();
        let mut lender = CacheSource { name: name.clone(), steps: BTreeMap::new(), pieces: BTreeMap::new(), gone: Arc::default() };
        for entry in config.history().iter().flatten() {
            // an instruction that made no layer is known too
            let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
            let Some((key, number, piece)) = entry.comment().as_deref().and_then(parse) else { continue };
            let layer = layer.map(|layer| RecordedLayer::of(&layer, piece));
            if let (Some(piece), Some(layer)) = (piece, &layer) {
                lender.pieces.insert(piece, layer.clone());
            }
            let known = lender.steps.entry(key).or_default();
            if number == 0 {
                known.clear();
            }
            known.extend(layer);
        }
        Ok(lender)
    }
}
