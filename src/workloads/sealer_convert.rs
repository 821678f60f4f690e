//! Converts images made by Sealer: the container images in the registry directory of their layers become a workloads manifest, as in images
//! of sealift, so that nothing else has to know Sealer's format.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType, Platform};

use super::artifact::Workloads;
use super::image_blobs::gather;
use super::sealer_registry::{OriginalNames, RegistryTags, blob_at, is_in_registry};
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Blob, Content, Digest, Reference, media_type_of};
use crate::layer::{Layer, each_member, layers_of};
use crate::store::Store;

/// Copies the container images of a rootfs's registry directory into the store, each blob verified. Returns the manifests for an index: the
/// rootfs without the layers that contain nothing else, and the workloads manifest. `own` is a workloads manifest that the image has
/// besides, because it was built from an image of Sealer: its images win.
///
/// An image with missing blobs is left out, with a warning.
///
/// # Errors
/// `Verification` if a blob of the directory or a layer is damaged.
pub fn convert_sealer_image(
    store: &Store,
    platform: &Platform,
    rootfs: &Descriptor,
    own: Option<&Descriptor>,
    tags: &RegistryTags,
    ctx: &Context,
) -> Result<[Descriptor; 2]> {
    let manifest = manifest(store, rootfs)?;
    let kept = copy_blobs(store, &manifest, ctx)?;
    let mut workloads = in_registry(store, platform, &OriginalNames::of(&manifest)?, tags, ctx)?;
    if let Some(own) = own {
        workloads.extend(&Workloads::from_manifest(&self::manifest(store, own)?)?);
    }
    let mut rootfs = if kept.is_empty() { rootfs.clone() } else { with_layers(store, &manifest, &kept)? };
    rootfs.set_platform(Some(platform.clone()));
    Ok([rootfs, workloads.write_for(platform, store)?])
}

fn manifest(store: &Store, descriptor: &Descriptor) -> Result<ImageManifest> {
    match store.read_manifest(descriptor)? {
        Content::Manifest(manifest) => Ok(*manifest),
        _ => Err(Failure::verification(format!("{} is not an image manifest", descriptor.digest())).into()),
    }
}

/// Copies the blobs of the registry directory into the store. Returns the layers that contain other files too.
fn copy_blobs(store: &Store, manifest: &ImageManifest, ctx: &Context) -> Result<Vec<Layer>> {
    let total = manifest.layers().iter().map(Descriptor::size).sum();
    let task = ctx.task("copy the container images out of Sealer's registry directory", Some(total), Unit::Bytes);
    let mut kept = Vec::new();
    for layer in layers_of(store, manifest)? {
        let mut has_other_files = false;
        each_member(store, &layer, |member, _, content| {
            ctx.check()?;
            has_other_files |= !is_in_registry(&member.path);
            match blob_at(&member.path) {
                Some(digest) => copy(store, &Blob { digest, size: member.size }, content),
                None => Ok(()),
            }
        })?;
        task.advance(layer.descriptor.size());
        if has_other_files {
            kept.push(layer);
        }
    }
    task.done("");
    Ok(kept)
}

fn copy(store: &Store, blob: &Blob, content: &mut dyn Read) -> Result<()> {
    if store.has(blob) {
        return Ok(());
    }
    let mut ingest = store.ingest(blob)?;
    ingest.restart()?;
    std::io::copy(content, &mut ingest)?;
    ingest.commit()
}

fn in_registry(store: &Store, platform: &Platform, names: &OriginalNames, tags: &RegistryTags, ctx: &Context) -> Result<Workloads> {
    let mut workloads = Workloads::default();
    for (tag, digest) in tags {
        for (name, app) in names.of_tag(tag)? {
            let apps: BTreeSet<String> = app.into_iter().collect();
            match root(store, digest).and_then(|root| gather(&name, &root, platform, store, |blob| ensure_stored(store, blob))) {
                Ok(blobs) => workloads.add(&name, &blobs, &apps)?,
                Err(error) => ctx.warn(incomplete(&name, &error)),
            }
        }
    }
    Ok(workloads)
}

fn incomplete(name: &Reference, error: &anyhow::Error) -> String {
    format!("container image {name} is incomplete in Sealer's registry directory and is left out: {error:#}")
}

fn root(store: &Store, digest: &Digest) -> Result<Descriptor> {
    let size = store.size_of(digest).with_context(|| format!("blob {digest} is missing"))?;
    let media_type = media_type_of(&store.read(&Blob { digest: *digest, size })?).with_context(|| format!("{digest} is not a manifest"))?;
    Ok(Descriptor::new(MediaType::from(media_type.as_str()), size, *digest))
}

fn ensure_stored(store: &Store, blob: &Blob) -> Result<()> {
    if store.has(blob) { Ok(()) } else { Err(Failure::verification(format!("blob {} is missing", blob.digest)).into()) }
}

/// The image with these of its layers alone, and without history: its entries would no longer belong to the layers.
fn with_layers(store: &Store, manifest: &ImageManifest, layers: &[Layer]) -> Result<Descriptor> {
    let mut config: ImageConfiguration = serde_json::from_slice(&store.read(&manifest.config().try_into()?)?).context("image config")?;
    let mut rootfs = config.rootfs().clone();
    rootfs.set_diff_ids(layers.iter().map(|layer| layer.diff_id.to_string()).collect());
    config.set_rootfs(rootfs);
    config.set_history(None);
    let mut manifest = manifest.clone();
    manifest.set_config(store.put_json(manifest.config().media_type().clone(), &config)?);
    manifest.set_layers(layers.iter().map(|layer| layer.descriptor.clone()).collect());
    let media_type = manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
    store.put_json(media_type, &manifest)
}
