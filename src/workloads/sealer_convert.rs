//! Images made by Sealer, as sealift runs them: the container images in the tree of their layers become a workloads manifest like
//! that of our own, so that all that comes after knows one way only.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType, Platform};

use super::artifact::Workloads;
use super::image_blobs::gather;
use super::sealer_registry::{Origins, Tags, blob_at, is_of_tree};
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Blob, Content, Digest, Reference, media_type_of};
use crate::layer::{Layer, each_member, layers_of};
use crate::store::Store;

/// Brings the container images in the tree of a root file system into the store, each blob verified. Gives the manifests for an
/// index: the rootfs without the layers that have nothing else, and the workloads. Images of `own`, a workloads manifest that is
/// there besides (the image was built from one of Sealer's), win over those of the tree.
///
/// An image that is not whole in the tree is left out, with a warning.
///
/// # Errors
/// `Verification` if a blob of the tree or a layer is damaged.
pub fn adopt(
    store: &Store,
    platform: &Platform,
    rootfs: &Descriptor,
    own: Option<&Descriptor>,
    tags: &Tags,
    ctx: &Context,
) -> Result<[Descriptor; 2]> {
    let manifest = manifest(store, rootfs)?;
    let kept = take_blobs(store, &manifest, ctx)?;
    let mut workloads = in_tree(store, platform, &Origins::of(&manifest)?, tags, ctx)?;
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
        _ => Err(Failure::verification(format!("{} is no image manifest", descriptor.digest())).into()),
    }
}

/// Puts the blobs of the tree into the store. Gives the layers that have something else.
fn take_blobs(store: &Store, manifest: &ImageManifest, ctx: &Context) -> Result<Vec<Layer>> {
    let total = manifest.layers().iter().map(Descriptor::size).sum();
    let task = ctx.task("take the container images out of Sealer's registry tree", Some(total), Unit::Bytes);
    let mut kept = Vec::new();
    for layer in layers_of(store, manifest)? {
        let mut else_where = false;
        each_member(store, &layer, |member, _, content| {
            ctx.check()?;
            else_where |= !is_of_tree(&member.path);
            match blob_at(&member.path) {
                Some(digest) => take(store, &Blob { digest, size: member.size }, content),
                None => Ok(()),
            }
        })?;
        task.advance(layer.descriptor.size());
        if else_where {
            kept.push(layer);
        }
    }
    task.done("");
    Ok(kept)
}

fn take(store: &Store, blob: &Blob, content: &mut dyn Read) -> Result<()> {
    if store.has(blob) {
        return Ok(());
    }
    let mut ingest = store.ingest(blob)?;
    ingest.restart()?;
    std::io::copy(content, &mut ingest)?;
    ingest.commit()
}

fn in_tree(store: &Store, platform: &Platform, origins: &Origins, tags: &Tags, ctx: &Context) -> Result<Workloads> {
    let mut workloads = Workloads::default();
    for (tag, digest) in tags {
        for (name, app) in origins.names(tag)? {
            let apps: BTreeSet<String> = app.into_iter().collect();
            match root(store, digest).and_then(|root| gather(&name, &root, platform, store, |blob| present(store, blob))) {
                Ok(blobs) => workloads.add(&name, &blobs, &apps)?,
                Err(error) => ctx.warn(left_out(&name, &error)),
            }
        }
    }
    Ok(workloads)
}

fn left_out(name: &Reference, error: &anyhow::Error) -> String {
    format!("container image {name} is not whole in the image's registry tree, and is left out: {error:#}")
}

fn root(store: &Store, digest: &Digest) -> Result<Descriptor> {
    let size = store.size_of(digest).with_context(|| format!("no blob {digest}"))?;
    let media_type = media_type_of(&store.read(&Blob { digest: *digest, size })?).with_context(|| format!("{digest} is no manifest"))?;
    Ok(Descriptor::new(MediaType::from(media_type.as_str()), size, *digest))
}

fn present(store: &Store, blob: &Blob) -> Result<()> {
    if store.has(blob) { Ok(()) } else { Err(Failure::verification(format!("no blob {}", blob.digest)).into()) }
}

/// The same image with these of its layers alone. Its history goes: tools take history and layers apart in step.
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
