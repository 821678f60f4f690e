//! The one verifier of images from elsewhere: what their documents say of their layers, and the layers themselves. Used wherever an image
//! arrives: an archive, a registry, FROM, fsck.

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

/// The manifests of images that `root` reaches and that are in the store; those whose config is an image's.
pub(super) fn manifests(store: &Store, root: &Descriptor) -> Result<Vec<(Descriptor, ImageManifest)>> {
    Ok(all_manifests(store, root)?.into_iter().filter(|(_, manifest)| is_image(manifest)).collect())
}

/// The manifests that `root` reaches and that are in the store: an index may list platforms that nobody fetched.
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

/// Whether a manifest is that of an image, and not of an artifact.
pub fn is_image(manifest: &ImageManifest) -> bool {
    let docker = MediaType::from("application/vnd.docker.container.image.v1+json");
    [MediaType::ImageConfig, docker].contains(manifest.config().media_type())
}

/// Checks what can be told of the container images among the workloads of what `root` reaches: that their documents are such, and that
/// each config is of one mind with its manifest about the number of layers, without which no container runtime unpacks them.
///
/// They are originals, kept untouched; what else is odd about them is for the runtime to judge. What is not in the store is passed over.
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

/// Checks what no registry and few clients check: that config and manifest are of one mind about the number of layers and the
/// history, that every layer's media type is one of a layer, and says of its compression what its first bytes say.
///
/// Layers that are not in the store are passed over. Errors are of kind `Verification` and name the blob. Artifacts have nothing to check.
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
    let told = history.iter().filter(|step| step.empty_layer() != Some(true)).count();
    ensure!(
        told == layers,
        Failure::verification(format!("the manifest has {layers} layers, the history of its config {} tells of {told}", blob.digest))
    );
    Ok(())
}

fn check_layer(store: &Store, layer: &Descriptor) -> Result<()> {
    let blob = Blob::try_from(layer).with_context(|| Failure::verification(format!("layer {}", layer.digest())))?;
    let said = compression_of(layer.media_type()).map_err(|error| Failure::verification(format!("layer {}: {error:#}", blob.digest)))?;
    match store.size_of(&blob.digest) {
        None => return Ok(()),
        Some(size) => ensure!(
            size == blob.size,
            Failure::verification(format!("layer {} has {size} bytes, the manifest says {}", blob.digest, blob.size))
        ),
    }
    let found = compression_by_magic(&first_bytes(&store.blob_path(&blob.digest))?);
    ensure!(
        found == said,
        Failure::verification(format!("layer {} is {}, but its media type says {}", blob.digest, describe(found), describe(said)))
    );
    Ok(())
}

fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut bytes)).with_context(|| path.display().to_string())?;
    Ok(bytes)
}

/// Reads a tar as a layer's, and checks that no name leads out of the root. Errors are of kind `Verification`.
pub fn check_members(tar: impl io::Read) -> Result<()> {
    ways_of(tar, &mut SymlinkResolver::default())
}

/// Reads a tar as a layer's and follows its members.
pub(super) fn ways_of(tar: impl io::Read, ways: &mut SymlinkResolver) -> Result<()> {
    let mut members = TarReader::new(tar);
    while let Some(member) = members.next()? {
        ways.pass(&member)?;
    }
    Ok(())
}
