//! Archives of `docker save`: `manifest.json` lists a config and plain layer tars for each image (docker's image-spec v1.2). Each image gets
//! an OCI manifest, so that it is stored like any other.

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use crate::error::Failure;
use crate::image::{Blob, Digest};

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ManifestEntry {
    /// The path of its config in the archive.
    pub config: String,
    /// Its names, like `nginx:1.25`; none for an image without a tag.
    pub repo_tags: Option<Vec<String>>,
    /// The paths of its layers in the archive, the lowest first.
    pub layers: Vec<String>,
}

/// Reads `manifest.json`.
pub(crate) fn parse(manifest: &[u8]) -> Result<Vec<ManifestEntry>> {
    serde_json::from_slice(manifest).context("manifest.json")
}

/// The OCI manifest of an image with this config and layers of these sizes in bytes, and the digests of its layers: those of the plain tars
/// (`diff_ids`).
///
/// # Errors
/// `Verification` if the number of layers is not that of the config.
pub(crate) fn manifest(config: &[u8], layers: impl ExactSizeIterator<Item = u64>) -> Result<(Vec<u8>, Vec<Digest>)> {
    let parsed: ImageConfiguration = serde_json::from_slice(config).context("image config")?;
    let diff_ids = parsed.rootfs().diff_ids().iter().map(|text| text.parse()).collect::<Result<Vec<Digest>>>()?;
    ensure!(
        diff_ids.len() == layers.len(),
        Failure::verification(format!("the image has {} layers, but its config lists {}", layers.len(), diff_ids.len()))
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

/// The path in the archive that a symbolic link points to.
pub(crate) fn link_target(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}
