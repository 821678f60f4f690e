//! Base images: what FROM and COPY --from name, pulled and read.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, Platform};

use super::instruction_cache::InstructionCache;
use super::options::{Options, Pull};
use super::rootfs_view::RootfsView;
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Unit};
use crate::image::{ANNOTATION_SEALER_IMAGES, ClusterConfig, ClusterImage, Content, Digest, Reference};
use crate::layer::{Layer, LayerVerification, check_layers, layers_of, tree_of};
use crate::registry::client::Client;
use crate::store::Store;
use crate::trust::{PullOptions, admit, pull_verified};
use crate::workloads::Workloads;

/// A base image, for one platform.
#[derive(Debug, Clone, Default)]
pub struct BaseImage {
    /// Its cluster config; the default if it is not a cluster image.
    pub cluster: ClusterConfig,
    /// Whether it is a cluster image.
    pub is_cluster: bool,
    /// Its OCI config.
    pub config: ImageConfiguration,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Its container images.
    pub workloads: Workloads,
    /// The value of Sealer's annotation that lists container images among its files.
    pub sealer_images: Option<String>,
    /// The paths of its rootfs.
    pub view: RootfsView,
}

/// Pulls a base image into the store as [`Options::pull`] says, checks that it is trusted, and tags it. Gives its root descriptor.
///
/// # Errors
/// Fails if the image is not found or the registry is unreachable; of kind `Verification` if it is not trusted.
pub async fn pull(
    name: &Reference,
    platform: &Platform,
    options: &Options,
    client: &Client,
    store: &Store,
    ctx: &Context,
) -> Result<Descriptor> {
    let pull_options =
        PullOptions { platforms: std::slice::from_ref(platform), policy: &options.policy, verify_layers: false, all_referrers: false };
    let pull = || async { pull_verified(client, name, &pull_options, store, ctx).await.map(|(root, _)| root) };
    let registry = (options.pull != Pull::Never).then_some(client);
    let (root, registry) = match (options.pull, store.resolve(name)?) {
        (Pull::Missing | Pull::Never, Some(root)) => (root, registry),
        (Pull::Never, None) => {
            let message = format!("no such image: {} (not in the store, and `--pull never` forbids pulling it)", name.familiar());
            return Err(Failure::failed(message).hint(format!("pull it first: `sealift pull {}`", name.familiar())).into());
        }
        (Pull::Newer, Some(root)) => match pull().await {
            Ok(newest) => return Ok(newest),
            Err(error) if kind_of(&error) == Kind::Verification => return Err(error),
            Err(error) => {
                ctx.check()?;
                ctx.warn(format!("{error:#}; using {} from the store", name.familiar()));
                (root, None)
            }
        },
        _ => return pull().await,
    };
    admit(&options.policy, registry, name, &root, store, ctx).await?;
    Ok(root)
}

impl BaseImage {
    /// Reads a base image from the store, and checks that all of its layers are there.
    pub fn read(root: &Descriptor, platform: &Platform, cache: &InstructionCache, store: &Store, ctx: &Context) -> Result<Self> {
        let (rootfs, workloads) = match store.read_manifest(root)? {
            Content::Index(index) => {
                let image = ClusterImage::from_index(&index)?;
                let part = image.part(platform)?;
                (part.rootfs.clone(), part.workloads.clone())
            }
            // images that Sealer made for one platform have no index
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
        let view = view(&Digest::try_from(rootfs.digest())?, &layers, cache, store, ctx)?;
        let sealer_images = manifest.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_SEALER_IMAGES).cloned());
        Ok(BaseImage { cluster, is_cluster, config, layers, workloads, sealer_images, view })
    }

    /// Its environment.
    pub fn env(&self) -> BTreeMap<String, String> {
        let env = self.config.config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default();
        env.iter().filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Its creation time, in seconds since 1970; 0 if it has none.
    pub fn created(&self) -> i64 {
        let text = self.config.created().as_deref().unwrap_or_default();
        text.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
    }
}

fn manifest(descriptor: &Descriptor, store: &Store) -> Result<ImageManifest> {
    match store.read_manifest(descriptor)? {
        Content::Manifest(manifest) => Ok(*manifest),
        _ => Err(Failure::verification(format!("{} is not an image manifest", descriptor.digest())).into()),
    }
}

/// The paths of a rootfs: from the build cache, or else read from its layers once.
fn view(manifest: &Digest, layers: &[Layer], cache: &InstructionCache, store: &Store, ctx: &Context) -> Result<RootfsView> {
    if let Some(view) = cache.view(manifest) {
        return Ok(view);
    }
    let task = ctx.task("read the base image's paths", Some(layers.len() as u64), Unit::Items);
    let mut view = RootfsView::default();
    view.apply(&tree_of(store, layers, ctx, || task.advance(1))?);
    view.add_parents();
    task.done("");
    cache.remember_view(manifest, &view)?;
    Ok(view)
}
