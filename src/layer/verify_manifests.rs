//! Verifies manifests and configs: that they agree with each other and with the layers' media types and sizes. Used wherever an image
//! arrives: `load`, `pull`, FROM, `fsck`. The content of layers is verified in `verify_layers`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};

use super::decompress::{compression_by_magic, describe};
use super::symlink_resolver::SymlinkResolver;
use super::tar_reader::TarReader;
use super::{compression_of, diff_ids};
use crate::error::Failure;
use crate::image::{Blob, Content, TYPE_WORKLOADS};
use crate::store::Store;

/// The image manifests reachable from `root` that are in the store, without artifacts.
pub(super) fn manifests(store: &Store, root: &Descriptor) -> Result<Vec<(Descriptor, ImageManifest)>> {
    Ok(all_manifests(store, root)?.into_iter().filter(|(_, manifest)| is_image(manifest)).collect())
}

/// The manifests reachable from `root` that are in the store: an index may list platforms that were not pulled.
fn all_manifests(store: &Store, root: &Descriptor) -> Result<Vec<(Descriptor, ImageManifest)>> {
    let (mut found, mut open, mut seen) = (Vec::new(), vec![root.clone()], BTreeSet::new());
    while let Some(descriptor) = open.pop() {
        let blob = Blob::try_from(&descriptor)?;
        if !store.has(&blob) || !seen.insert(blob) {
            continue;
        }
        match store.read_manifest(&descriptor)? {
            Content::Index(index) => open.extend(index.manifests().iter().rev().cloned()),
            Content::Manifest(manifest) => found.push((descriptor, *manifest)),
            Content::Leaf => {}
        }
    }
    Ok(found)
}

/// Whether a manifest is of an image and not of an artifact, by the media type of its config.
pub fn is_image(manifest: &ImageManifest) -> bool {
    let docker = MediaType::from("application/vnd.docker.container.image.v1+json");
    [MediaType::ImageConfig, docker].contains(manifest.config().media_type())
}

/// Checks the container images among the workloads reachable from `root`: that their manifests and configs parse, and that each config
/// lists as many layers as its manifest; without that no container runtime unpacks them.
///
/// Everything else is left to the container runtime: these images are stored unchanged. Blobs that are not in the store are skipped.
/// Errors are of kind `Verification` and name the image.
pub fn check_workloads(store: &Store, root: &Descriptor) -> Result<()> {
    for (descriptor, manifest) in all_manifests(store, root)? {
        if manifest.artifact_type().as_ref().is_none_or(|kind| kind.to_string() != TYPE_WORKLOADS) {
            continue;
        }
        for workload in store.workloads(&descriptor)? {
            check_original(store, &workload.descriptor)
                .with_context(|| Failure::verification(format!("container image {}", workload.name.familiar())))?;
        }
    }
    Ok(())
}

fn check_original(store: &Store, descriptor: &Descriptor) -> Result<()> {
    if !store.has(&Blob::try_from(descriptor)?) {
        return Ok(());
    }
    match store.read_manifest(descriptor)? {
        Content::Index(index) => index.manifests().iter().try_for_each(|child| check_original(store, child)),
        Content::Manifest(manifest) if is_image(&manifest) && store.has(&Blob::try_from(manifest.config())?) => {
            diff_ids(store, &manifest).map(drop).with_context(|| Failure::verification(format!("image manifest {}", descriptor.digest())))
        }
        _ => Ok(()),
    }
}

/// Checks what registries and most clients do not: that config and manifest agree on the number of layers and on the history, that every
/// layer has the media type of a layer, and that its first bytes show the compression of that media type.
///
/// Layers that are not in the store are skipped. Errors are of kind `Verification` and name the blob. Artifacts have nothing to check.
pub fn check_manifest(store: &Store, descriptor: &Descriptor, manifest: &ImageManifest) -> Result<()> {
    if !is_image(manifest) {
        return Ok(());
    }
    let layers = manifest.layers();
    check_history(store, manifest)
        .and_then(|()| layers.iter().try_for_each(|layer| check_layer(store, layer)))
        .with_context(|| Failure::verification(format!("image manifest {}", descriptor.digest())))
}

fn check_history(store: &Store, manifest: &ImageManifest) -> Result<()> {
    let layers = diff_ids(store, manifest)?.len();
    let blob = Blob::try_from(manifest.config())?;
    let config: ImageConfiguration = serde_json::from_slice(&store.read(&blob)?).context("image config")?;
    let Some(history) = config.history().as_ref().filter(|history| !history.is_empty()) else { return Ok(()) };
    let listed = history.iter().filter(|step| step.empty_layer() != Some(true)).count();
    ensure!(
        listed == layers,
        Failure::verification(format!("the manifest has {layers} layers, the history of its config {} lists {listed}", blob.digest))
    );
    Ok(())
}

fn check_layer(store: &Store, layer: &Descriptor) -> Result<()> {
    let blob = Blob::try_from(layer).with_context(|| Failure::verification(format!("layer {}", layer.digest())))?;
    let declared =
        compression_of(layer.media_type()).map_err(|error| Failure::verification(format!("layer {}: {error:#}", blob.digest)))?;
    match store.size_of(&blob.digest) {
        None => return Ok(()),
        Some(size) => ensure!(
            size == blob.size,
            Failure::verification(format!("layer {} has {size} bytes, the manifest says {}", blob.digest, blob.size))
        ),
    }
    let found = compression_by_magic(&first_bytes(&store.blob_path(&blob.digest))?);
    ensure!(
        found == declared,
        Failure::verification(format!("layer {} is {}, but its media type says {}", blob.digest, describe(found), describe(declared)))
    );
    Ok(())
}

fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut bytes)).with_context(|| path.display().to_string())?;
    Ok(bytes)
}

/// Reads a layer's tar, and checks that no path leads out of the root. Errors are of kind `Verification`.
pub fn check_members(tar: impl io::Read) -> Result<()> {
    follow_members(tar, &mut SymlinkResolver::default())
}

/// Reads a layer's tar and adds its members to `resolver`.
pub(super) fn follow_members(tar: impl io::Read, resolver: &mut SymlinkResolver) -> Result<()> {
    let mut members = TarReader::new(tar);
    while let Some(member) = members.next()? {
        resolver.add_member(&member)?;
    }
    Ok(())
}
