//! The documents of a cluster image, and what hangs on what.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType, Os, Platform};
use serde_json::Value;

use super::{ClusterConfig, parse_platform};
use crate::error::Failure;

/// The artifact type of a cluster image's index.
pub const TYPE_CLUSTER: &str = "application/vnd.sealift.cluster.v1";
/// The artifact type of a workloads manifest.
pub const TYPE_WORKLOADS: &str = "application/vnd.sealift.workloads.v1";
/// On a rootfs manifest: the [`ClusterConfig`] as JSON.
pub const ANNOTATION_CLUSTER: &str = "io.sealift.cluster";
/// On a rootfs manifest: Sealer's document with the same facts.
pub const ANNOTATION_SEALER: &str = "sealer.image.extension";
/// On a manifest of Sealer's: its container images, a JSON list of `{image, appName, platform}`.
pub const ANNOTATION_SEALER_IMAGES: &str = "sealer.image.container.images";
/// The registry in the names of container images of which nobody knows where they are from: Sealer keeps them without one. It is the name
/// that Sealer's own registries have; on site they are found whatever registry is asked for.
pub const DROPPED_REGISTRY: &str = "sea.hub:5000";
/// On a workloads descriptor in the index: the platform it is for.
pub const ANNOTATION_PLATFORM: &str = "io.sealift.platform";
/// On the descriptor of a container image's root among the workloads: the app that brought it.
pub const ANNOTATION_APP: &str = "io.sealift.app";
/// On the descriptor of a container image's root among the workloads, and on names in `index.json`.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What a document is, by its media type and bytes.
#[derive(Debug, Clone)]
pub enum Content {
    /// An index.
    Index(Box<ImageIndex>),
    /// A manifest.
    Manifest(Box<ImageManifest>),
    /// Anything else: a leaf.
    Leaf,
}

/// Reads a document. Docker's media types read like OCI's.
pub fn content_of(media_type: &MediaType, bytes: &[u8]) -> Result<Content> {
    match media_type.to_string().as_str() {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            Ok(Content::Index(Box::new(serde_json::from_slice(bytes).context("not an image index")?)))
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            Ok(Content::Manifest(Box::new(serde_json::from_slice(bytes).context("not an image manifest")?)))
        }
        _ => Ok(Content::Leaf),
    }
}

/// The media type of a manifest or index by its own words, or else by its fields; `None` if it is neither.
pub fn media_type_of(bytes: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let (manifests, layers) = (document["manifests"].is_array(), document["layers"].is_array());
    match document["mediaType"].as_str() {
        Some(media_type) if manifests || layers => Some(media_type.to_owned()),
        _ if manifests => Some("application/vnd.oci.image.index.v1+json".to_owned()),
        _ if layers => Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
        _ => None,
    }
}

/// The descriptors that a document names: an index's manifests, a manifest's config and layers.
///
/// The layers of a workloads manifest include other manifests; they are opaque blobs there, not documents to follow.
pub fn children(content: &Content) -> Vec<Descriptor> {
    match content {
        Content::Index(index) => index.manifests().clone(),
        Content::Manifest(manifest) => std::iter::once(manifest.config().clone()).chain(manifest.layers().iter().cloned()).collect(),
        Content::Leaf => Vec::new(),
    }
}

/// The manifests of one platform of a cluster image.
#[derive(Debug, Clone)]
pub struct Part {
    /// The platform.
    pub platform: Platform,
    /// The rootfs manifest.
    pub rootfs: Descriptor,
    /// The workloads manifest, if the image brings container images.
    pub workloads: Option<Descriptor>,
}

/// A cluster image, as its index lays it out.
#[derive(Debug, Clone)]
pub struct ClusterImage {
    /// One part for each platform, in the index's order.
    pub parts: Vec<Part>,
}

impl ClusterImage {
    /// The index of a cluster image, over the manifests of all its platforms.
    pub fn index(manifests: Vec<Descriptor>) -> Result<ImageIndex> {
        let builder = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex);
        Ok(builder.artifact_type(MediaType::from(TYPE_CLUSTER)).manifests(manifests).build()?)
    }

    /// Reads the layout of a cluster image from its index.
    pub fn from_index(index: &ImageIndex) -> Result<Self> {
        let mut workloads = HashMap::new();
        let mut parts = Vec::new();
        for descriptor in index.manifests() {
            let artifact = descriptor.artifact_type().as_ref().map(MediaType::to_string);
            let annotated = descriptor.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_PLATFORM));
            if artifact.as_deref() == Some(TYPE_WORKLOADS) || annotated.is_some() {
                let platform = parse_platform(annotated.context("a workloads manifest does not say its platform")?)?;
                workloads.insert(key(&platform), descriptor.clone());
            } else if let Some(platform) = descriptor.platform()
                && !matches!((platform.os(), platform.architecture()), (Os::Other(_), Arch::Other(_)))
            {
                parts.push(Part { platform: platform.clone(), rootfs: descriptor.clone(), workloads: None });
            }
        }
        for part in &mut parts {
            part.workloads = workloads.remove(&key(&part.platform));
        }
        if parts.is_empty() {
            bail!("the index names no rootfs manifest");
        }
        Ok(ClusterImage { parts })
    }

    /// The part for `platform`; a part without a variant serves every variant.
    pub fn part(&self, platform: &Platform) -> Result<&Part> {
        let same = |part: &&Part| part.platform.os() == platform.os() && part.platform.architecture() == platform.architecture();
        self.parts
            .iter()
            .filter(same)
            .find(|part| part.platform.variant() == platform.variant())
            .or_else(|| self.parts.iter().find(|part| same(part) && part.platform.variant().is_none()))
            .ok_or_else(|| {
                let have: Vec<_> = self.parts.iter().map(|part| super::platform_string(&part.platform)).collect();
                Failure::failed(format!("the image is not built for {} (it has {})", super::platform_string(platform), have.join(", ")))
                    .into()
            })
    }
}

fn key(platform: &Platform) -> String {
    super::platform_string(platform)
}

impl ClusterConfig {
    /// Whether a manifest says something about a cluster: that of a container image does not.
    pub fn is_in(manifest: &ImageManifest) -> bool {
        let annotations = manifest.annotations().as_ref();
        annotations.is_some_and(|known| [ANNOTATION_CLUSTER, ANNOTATION_SEALER].iter().any(|name| known.contains_key(*name)))
    }

    /// The cluster config of a rootfs manifest: our annotation, else Sealer's.
    pub fn from_manifest(manifest: &ImageManifest) -> Result<Self> {
        let annotation = |name| manifest.annotations().as_ref().and_then(|annotations| annotations.get(name));
        if let Some(text) = annotation(ANNOTATION_CLUSTER) {
            return serde_json::from_str(text).with_context(|| format!("annotation `{ANNOTATION_CLUSTER}`"));
        }
        if let Some(text) = annotation(ANNOTATION_SEALER) {
            return Ok(Self::from_sealer(serde_json::from_str(text).with_context(|| format!("annotation `{ANNOTATION_SEALER}`"))?));
        }
        Err(Failure::failed("not a cluster image: its manifest has neither `io.sealift.cluster` nor `sealer.image.extension`")
            .hint("cluster images are made with `sealift build`; container images go into one with IMAGES")
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_the_documents_own_or_told_by_its_fields() {
        for (text, expected) in [
            (
                r#"{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}"#,
                "application/vnd.docker.distribution.manifest.v2+json",
            ),
            (r#"{"manifests": []}"#, "application/vnd.oci.image.index.v1+json"),
            (r#"{"layers": []}"#, "application/vnd.oci.image.manifest.v1+json"),
            (r#"{"mediaType": "text/x"}"#, ""),
            ("[]", ""),
            ("x", ""),
        ] {
            assert_eq!(media_type_of(text.as_bytes()).unwrap_or_default(), expected, "{text}");
        }
    }
}
