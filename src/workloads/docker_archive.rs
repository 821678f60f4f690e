//! What `docker save` writes: `manifest.json` with a config and plain layer tars for each image (docker's image-spec v1.2). An OCI manifest
//! is made for each, so that they travel like others.

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use crate::error::Failure;
use crate::image::{Blob, Digest};

/// One image of a docker archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    /// The file of its config.
    pub config: String,
    /// Its names.
    pub repo_tags: Option<Vec<String>>,
    /// The files of its layers, the lowest first.
    pub layers: Vec<String>,
}

/// Reads `manifest.json`.
pub(super) fn parse(manifest: &[u8]) -> Result<Vec<Saved>> {
    serde_json::from_slice(manifest).context("manifest.json")
}

/// The manifest of an image with this config and layers of these sizes in bytes, and the layers' digests: those of the tars.
pub(super) fn manifest(config: &[u8], layers: impl ExactSizeIterator<Item = u64>) -> Result<(Vec<u8>, Vec<Digest>)> {
    let parsed: ImageConfiguration = serde_json::from_slice(config).context("image config")?;
    let diff_ids = parsed.rootfs().diff_ids().iter().map(|text| text.parse()).collect::<Result<Vec<Digest>>>()?;
    ensure!(
        diff_ids.len() == layers.len(),
        Failure::verification(format!("the image has {} layers, its config names {}", layers.len(), diff_ids.len()))
    );
    let described = diff_ids.iter().zip(layers).map(|(digest, size)| Descriptor::new(MediaType::ImageLayer, size, *digest));
    let blob = Blob::of(config);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(Descriptor::new(MediaType::ImageConfig, blob.size, blob.digest))
        .layers(described.collect::<Vec<_>>())
        .build()?;
    Ok((manifest.to_string()?.into_bytes(), diff_ids))
}
