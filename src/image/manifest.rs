//! The manifests and indexes of a cluster image, their annotations, and which blobs they refer to.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType, Os, Platform};
use serde_json::Value;

use super::{ClusterConfig, parse_platform, variant_of};
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
/// The registry in the names of container images whose registry is unknown: Sealer does not keep it. It is the name of Sealer's own
/// local registry; a cluster's local registry serves these images for any registry name.
pub const UNKNOWN_REGISTRY: &str = "sea.hub:5000";
/// On a workloads descriptor in the index: the platform it is for.
pub const ANNOTATION_PLATFORM: &str = "io.sealift.platform";
/// On the descriptor of a container image's root among the workloads: the app that needs it.
pub const ANNOTATION_APP: &str = "io.sealift.app";
/// On the descriptor of a container image's root among the workloads, and on names in `index.json`.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// On a manifest's descriptor in an index, with the value `true`: a layer is compressed with zstd. skopeo, podman and buildah write it,
/// and change an index that lacks it while they copy it (containers/image, `internal/manifest`).
pub const ANNOTATION_ZSTD: &str = "io.github.containers.compression.zstd";

/// Sets [`ANNOTATION_ZSTD`] on the entry of an index if one of the layers of its manifest is compressed with zstd.
pub fn announce_compression(entry: &mut Descriptor, manifest: &ImageManifest) {
    let is_zstd = |layer: &Descriptor| layer.media_type().as_ref().ends_with("+zstd");
    if manifest.layers().iter().any(is_zstd) {
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_ZSTD.to_owned(), "true".to_owned());
        entry.set_annotations(Some(annotations));
    }
}

/// A parsed index or manifest, or a blob that is neither.
#[derive(Debug, Clone)]
pub enum Content {
    /// An index.
    Index(Box<ImageIndex>),
    /// A manifest.
    Manifest(Box<ImageManifest>),
    /// Anything else: a leaf.
    Leaf,
}

/// Parses a document by its media type. Docker's media types are read like OCI's.
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

/// The media type of a manifest or index: its field `mediaType`, or else by its other fields; `None` if it is neither.
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

/// The descriptors in a document: an index's manifests, a manifest's config and layers.
///
/// The layers of a workloads manifest include other manifests; they are opaque blobs there, not documents to follow (see
/// [`super::wrap_workload_blob`]).
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
    /// The workloads manifest, if the image contains container images.
    pub workloads: Option<Descriptor>,
}

/// A cluster image, parsed from its index.
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
                let platform = parse_platform(annotated.context("a workloads manifest has no annotation `io.sealift.platform`")?)?;
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
            bail!("the index lists no rootfs manifest");
        }
        Ok(ClusterImage { parts })
    }

    /// The part for `platform`; a part without a variant serves every variant.
    pub fn part(&self, platform: &Platform) -> Result<&Part> {
        let same = |part: &&Part| part.platform.os() == platform.os() && part.platform.architecture() == platform.architecture();
        self.parts
            .iter()
            .filter(same)
            .find(|part| variant_of(&part.platform) == variant_of(platform))
            .or_else(|| self.parts.iter().find(|part| same(part) && variant_of(&part.platform).is_none()))
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
    /// Whether a manifest has a cluster config; that of a container image has none.
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
            .hint("build a cluster image with `sealift build`; the instruction IMAGES adds container images to it")
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::DescriptorBuilder;

    #[test]
    fn the_baseline_variant_of_an_architecture_is_no_variant() {
        let part = |platform: &str| Part {
            platform: parse_platform(platform).unwrap(),
            rootfs: DescriptorBuilder::default()
                .media_type(MediaType::ImageManifest)
                .digest(crate::image::Digest::of(platform.as_bytes()))
                .size(1_u64)
                .build()
                .unwrap(),
            workloads: None,
        };
        for (has, requested, expected) in [
            (vec!["linux/amd64/v1"], "linux/amd64", Some("linux/amd64/v1")),
            (vec!["linux/amd64"], "linux/amd64/v1", Some("linux/amd64")),
            (vec!["linux/arm64/v8"], "linux/arm64", Some("linux/arm64/v8")),
            (vec!["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3", Some("linux/amd64/v3")),
            (vec!["linux/amd64/v1"], "linux/amd64/v3", Some("linux/amd64/v1")),
            (vec!["linux/amd64/v3"], "linux/amd64", None),
            (vec!["linux/arm64/v8"], "linux/amd64", None),
        ] {
            let image = ClusterImage { parts: has.iter().map(|platform| part(platform)).collect() };
            let found = image.part(&parse_platform(requested).unwrap()).ok().map(|part| crate::image::platform_string(&part.platform));
            assert_eq!(found.as_deref(), expected, "{has:?} {requested}");
        }
    }

    #[test]
    fn the_media_type_is_declared_or_derived_from_the_fields() {
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
