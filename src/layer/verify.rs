//! The one verifier of images from elsewhere: what their documents say of their layers, and the layers themselves. Used wherever an image
//! arrives: an archive, a registry, FROM, fsck.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};

use super::decode::{Decoded, compression_by_magic, describe};
use super::member::{Kind, Members, below};
use super::{compression_of, diff_ids};
use crate::error::Failure;
use crate::events::Job;
use crate::image::{Blob, Content, Digest};
use crate::store::Store;

/// Checks every image manifest that `root` reaches with [`check_manifest`]; all documents must be in the store.
pub fn check_image(store: &Store, root: &Descriptor) -> Result<()> {
    manifests(store, root)?.iter().try_for_each(|(descriptor, manifest)| check_manifest(store, descriptor, manifest))
}

/// The image manifests that `root` reaches: those whose config is an image's.
fn manifests(store: &Store, root: &Descriptor) -> Result<Vec<(Descriptor, ImageManifest)>> {
    let of = |node: crate::store::Node| match node.content {
        Content::Manifest(manifest) if is_image(&manifest) => Some((node.descriptor, *manifest)),
        _ => None,
    };
    Ok(store.walk(root)?.into_iter().filter_map(of).collect())
}

/// Whether a manifest is that of an image, and not of an artifact.
fn is_image(manifest: &ImageManifest) -> bool {
    let docker = MediaType::from("application/vnd.docker.container.image.v1+json");
    [MediaType::ImageConfig, docker].contains(manifest.config().media_type())
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

/// Checks an image with all its layers, without writing anything: their bytes, that they are tars and nothing more, the digest of what
/// is in them, and that no name leads out of the root. `max_bytes` bounds what one layer may unpack to; 0 is no limit.
///
/// What only shows on the disk is found when an image is unpacked: a name below a symbolic link.
pub fn check_layers(store: &Store, root: &Descriptor, max_bytes: u64, job: &Job) -> Result<()> {
    for (descriptor, manifest) in manifests(store, root)? {
        check_manifest(store, &descriptor, &manifest)?;
        for (layer, diff_id) in manifest.layers().iter().zip(diff_ids(store, &manifest)?) {
            job.check()?;
            sift(store, layer, &diff_id, max_bytes).with_context(|| Failure::verification(format!("layer {}", layer.digest())))?;
        }
    }
    Ok(())
}

fn sift(store: &Store, layer: &Descriptor, diff_id: &Digest, max_bytes: u64) -> Result<()> {
    let mut reader = store.reader(&Blob::try_from(layer)?)?;
    let mut decoded = Decoded::new(&mut reader, compression_of(layer.media_type())?, max_bytes)?;
    match check_members(&mut decoded) {
        Ok(()) => decoded.verify(diff_id),
        // bytes that are damaged fail somewhere in the decoder; that the blob is damaged is the better answer
        Err(error) => {
            drop(decoded);
            io::copy(&mut reader, &mut io::sink())?;
            Err(error)
        }
    }
}

/// Reads a tar as a layer's, and checks its names. Errors are of kind `Verification`.
pub fn check_members(tar: impl io::Read) -> Result<()> {
    let mut members = Members::new(tar);
    while let Some(member) = members.next()? {
        if member.kind == Kind::Hardlink && below(&member.link).is_err() {
            bail!(
                Failure::verification(format!("the hard link `{}` leads out to `{}`", member.path.display(), member.link.display()))
                    .hint("the layer tries to write outside its root: do not use this image")
            );
        }
    }
    Ok(())
}
