//! `--cache-from`: layers of other images, found by the keys that images keep in their history.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use tokio::runtime::Handle;

use super::options::Options;
use crate::error::Failure;
use crate::events::Job;
use crate::image::{Blob, ClusterImage, Content, Digest, Name, content_of};
use crate::layer::{Layer, layers_of};
use crate::registry::client::Client;
use crate::store::Store;
use crate::trust::admit;

/// What stands before the key in the comment of a history entry.
const COMMENT: &str = "sealift ";

/// The comment of one of the history entries of an instruction with this key: the first has the number 0.
pub fn comment(key: &Digest, number: usize) -> String {
    format!("{COMMENT}{key} {number}")
}

fn parse(comment: &str) -> Option<(Digest, usize)> {
    let (key, number) = comment.strip_prefix(COMMENT)?.split_once(' ')?;
    Some((key.parse().ok()?, number.parse().ok()?))
}

/// Images that lend their layers.
#[derive(Clone)]
pub struct Lenders {
    images: Vec<Lender>,
    client: Client,
    store: Store,
    job: Job,
}

#[derive(Clone)]
struct Lender {
    name: Name,
    layers: BTreeMap<Digest, Vec<Layer>>,
}

impl Lenders {
    /// Looks at the documents of images in the store, else in a registry. One that is nowhere is warned of: the first build of all has none.
    pub async fn open(options: &Options, client: &Client, store: &Store, job: &Job) -> Result<Self> {
        let mut lenders = Lenders { images: Vec::new(), client: client.clone(), store: store.clone(), job: job.clone() };
        for name in &options.cache_from {
            match lenders.look_at(name, options).await {
                Ok(layers) => lenders.images.push(Lender { name: name.clone(), layers }),
                Err(error) => {
                    job.check()?;
                    job.warn(format!("nothing is taken from {}: {error:#}", name.familiar()));
                }
            }
        }
        Ok(lenders)
    }

    /// The layers of an instruction with this key, brought into the store.
    ///
    /// To be called where blocking is allowed, inside the runtime.
    pub fn borrow(&self, key: &Digest) -> Result<Option<Vec<Layer>>> {
        let lent = self.images.iter().find_map(|lender| Some((&lender.name, lender.layers.get(key)?)));
        let Some((name, layers)) = lent else { return Ok(None) };
        for layer in layers {
            let blob = Blob::try_from(&layer.descriptor)?;
            if !self.store.has(&blob) {
                Handle::current().block_on(self.client.pull_blob(name, &blob, &self.store, &self.job))?;
            }
        }
        Ok(Some(layers.clone()))
    }

    async fn look_at(&self, name: &Name, options: &Options) -> Result<BTreeMap<Digest, Vec<Layer>>> {
        let (root, mut content) = match self.store.resolve(name)? {
            Some(root) => (root.clone(), self.store.document(&root)?),
            None => self.document(name).await?,
        };
        admit(&options.policy, Some(&self.client), name, &root, &self.store, &self.job).await?;
        if let Content::Index(index) = &content {
            let rootfs = ClusterImage::from_index(index)?.part(&options.platform)?.rootfs.clone();
            content = match self.has(&rootfs)? {
                true => self.store.document(&rootfs)?,
                false => self.document(&name.with_digest(rootfs.digest().try_into()?)).await?.1,
            };
        }
        let Content::Manifest(manifest) = content else {
            return Err(Failure::verification("it is no image").into());
        };
        let config = Blob::try_from(manifest.config())?;
        self.client.pull_blob(name, &config, &self.store, &self.job).await?;
        self.keys(&manifest, &config)
    }

    fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.store.has(&Blob::try_from(descriptor)?))
    }

    async fn document(&self, name: &Name) -> Result<(Descriptor, Content)> {
        let found = self.client.manifest(name, &self.job).await?;
        let (descriptor, bytes) = found.with_context(|| Failure::failed(format!("no such image: {}", name.familiar())))?;
        let content = content_of(descriptor.media_type(), &bytes)?;
        Ok((descriptor, content))
    }

    fn keys(&self, manifest: &ImageManifest, config: &Blob) -> Result<BTreeMap<Digest, Vec<Layer>>> {
        let config: ImageConfiguration = serde_json::from_slice(&self.store.read(config)?).context("image config")?;
        let mut layers = layers_of(&self.store, manifest)?.into_iter();
        let mut keys: BTreeMap<Digest, Vec<Layer>> = BTreeMap::new();
        for entry in config.history().iter().flatten() {
            // an instruction that made no layer is known too
            let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
            let Some((key, number)) = entry.comment().as_deref().and_then(parse) else { continue };
            let known = keys.entry(key).or_default();
            if number == 0 {
                known.clear();
            }
            known.extend(layer);
        }
        Ok(keys)
    }
}
