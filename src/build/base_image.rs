//! FROM: what a stage starts with.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, Platform};

use super::instruction_cache::InstructionCache;
use super::options::{Options, Pull};
use super::rootfs_view::RootfsView;
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{ANNOTATION_SEALER_IMAGES, ClusterConfig, ClusterImage, Content, Digest, Reference};
use crate::layer::{Layer, LayerVerification, check_layers, layers_of, outline};
use crate::registry::client::Client;
use crate::store::Store;
use crate::trust::admit;
use crate::workloads::Workloads;

/// A base image, for one platform.
#[derive(Debug, Clone, Default)]
pub struct BaseImage {
    /// What it says about the cluster; nothing if it is no cluster image.
    pub cluster: ClusterConfig,
    /// Whether it is a cluster image.
    pub is_cluster: bool,
    /// Its OCI config.
    pub config: ImageConfiguration,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Its container images.
    pub workloads: Workloads,
    /// What Sealer's annotation says of container images among its files.
    pub sealers_images: Option<String>,
    /// The paths of its rootfs.
    pub layout: RootfsView,
}

/// Brings a base image into the store, if `options` want it, and gives its root.
pub async fn bring(
    name: &Reference,
    platform: &Platform,
    options: &Options,
    client: &Client,
    store: &Store,
    ctx: &Context,
) -> Result<Descriptor> {
    let fetch = || async { Ok::<_, anyhow::Error>(client.pull(name, std::slice::from_ref(platform), store, ctx).await?.0) };
    let asked = (options.pull != Pull::Never).then_some(client);
    let (root, asked) = match (options.pull, store.resolve(name)?) {
        (Pull::Missing | Pull::Never, Some(root)) => (root, asked),
        (Pull::Never, None) => {
            let message = format!("no such image: {} (not in the store, and `--pull never` asks nowhere else)", name.familiar());
            return Err(Failure::failed(message).hint(format!("sealift pull {}", name.familiar())).into());
        }
        (Pull::Newer, Some(root)) => match fetch().await {
            Ok(newest) => (newest, asked),
            Err(error) => {
                ctx.check()?;
                ctx.warn(format!("{error:#}; what the store has of {} is taken", name.familiar()));
                (root, None)
            }
        },
        _ => (fetch().await?, asked),
    };
    admit(&options.policy, asked, name, &root, store, ctx).await?;
    if store.resolve(name)?.is_none_or(|known| known.digest() != root.digest()) {
        store.tag(name, &root)?;
    }
    Ok(root)
}

impl BaseImage {
    /// Reads a base image from the store.
    pub fn read(root: &Descriptor, platform: &Platform, cache: &InstructionCache, store: &Store, ctx: &Context) -> Result<Self> {
        let (rootfs, workloads) = match store.read_manifest(root)? {
            Content::Index(index) => {
                let image = ClusterImage::from_index(&index)?;
                let part = image.part(platform)?;
                (part.rootfs.clone(), part.workloads.clone())
            }
            // images made by Sealer for one platform have no index
            _ => (root.clone(), None),
        };
        let manifest = manifest(&rootfs, store)?;
        check_layers(store, &rootfs, LayerVerification::default(), ctx)?;
        let is_cluster = ClusterConfig::is_in(&manifest);
        let cluster = if is_cluster { ClusterConfig::from_manifest(&manifest)? } else { ClusterConfig::default() };
        let config: ImageConfiguration = serde_json::from_slice(&store.read(&manifest.config().try_into()?)?).context("image config")?;
        let layers = layers_of(store, &manifest)?;
        let workloads = match workloads {
            Some(descriptor) => Workloads::from_manifest(&self::manifest(&descriptor, store)?)?,
            None => Workloads::default(),
        };
        let layout = layout(&Digest::try_from(rootfs.digest())?, &layers, cache, store, ctx)?;
        let sealers_images = manifest.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_SEALER_IMAGES).cloned());
        Ok(BaseImage { cluster, is_cluster, config, layers, workloads, sealers_images, layout })
    }

    /// Its environment.
    pub fn env(&self) -> BTreeMap<String, String> {
        let env = self.config.config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default();
        env.iter().filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// When it was made, in seconds since 1970; 0 if it does not say.
    pub fn created(&self) -> i64 {
        let text = self.config.created().as_deref().unwrap_or_default();
        text.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
    }
}

fn manifest(descriptor: &Descriptor, store: &Store) -> Result<ImageManifest> {
    match store.read_manifest(descriptor)? {
        Content::Manifest(manifest) => Ok(*manifest),
        _ => Err(Failure::verification(format!("{} is no image manifest", descriptor.digest())).into()),
    }
}

/// The paths of a rootfs: remembered, or else read from its layers once.
fn layout(manifest: &Digest, layers: &[Layer], cache: &InstructionCache, store: &Store, ctx: &Context) -> Result<RootfsView> {
    if let Some(layout) = cache.layout(manifest) {
        return Ok(layout);
    }
    let task = ctx.task("read the base image's paths", Some(layers.len() as u64), Unit::Items);
    let mut layout = RootfsView::default();
    layout.apply(&outline(store, layers, ctx, || task.advance(1))?);
    layout.add_parents();
    task.done("");
    cache.remember_layout(manifest, &layout)?;
    Ok(layout)
}
