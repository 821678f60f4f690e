//! Reads the manifests and config of an image: a cluster image, one made by Sealer, or any other OCI image.

use anyhow::{Context as _, Result};
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os, Platform, PlatformBuilder};

use super::Store;
use crate::error::Failure;
use crate::image::{
    ANNOTATION_APP, ANNOTATION_CLUSTER, ANNOTATION_REF_NAME, ANNOTATION_SEALER, Blob, ClusterConfig, ClusterImage, Content, Reference,
    host_platform, parse_platform, platform_string, serves, unwrap_workload_blob,
};

/// An image for one platform, its manifest and config parsed.
#[derive(Debug, Clone)]
pub struct InspectedImage {
    /// The platform; `unknown/unknown` if nothing says it.
    pub platform: Platform,
    /// The rootfs manifest's descriptor.
    pub rootfs: Descriptor,
    /// The rootfs manifest.
    pub manifest: ImageManifest,
    /// Its config; `None` if it is not an image config.
    pub config: Option<ImageConfiguration>,
    /// Its cluster config; `None` for an image that is not a cluster image.
    pub cluster: Option<ClusterConfig>,
    /// The container images that it contains.
    pub workloads: Vec<Workload>,
}

/// A container image among the workloads of a cluster image.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its name in Kubernetes manifests.
    pub name: Reference,
    /// Its root: a manifest or an index.
    pub descriptor: Descriptor,
    /// The app that it belongs to.
    pub app: Option<String>,
    /// The size of its blobs in the store, in bytes.
    pub size: u64,
}

impl Store {
    /// Inspects an image: one result for each platform that is in the store.
    pub fn inspect(&self, descriptor: &Descriptor) -> Result<Vec<InspectedImage>> {
        match self.read_manifest(descriptor)? {
            Content::Index(index) => self.inspect_index(&index),
            Content::Manifest(manifest) => Ok(vec![self.inspect_manifest(descriptor, *manifest, None, None)?]),
            Content::Leaf => {
                Err(Failure::failed(format!("{} is not an image: media type `{}`", descriptor.digest(), descriptor.media_type()))
                    .hint("`sealift images` lists the images in the store")
                    .into())
            }
        }
    }

    /// Inspects a named image for one platform. Default: this machine's, or the only one that the image has.
    ///
    /// # Errors
    /// `Usage` if the image has no such platform; the hint lists those that it has.
    pub fn inspect_platform(&self, name: &Reference, platform: Option<&str>) -> Result<InspectedImage> {
        let parts = self.inspect(&self.find(name)?)?;
        let requested = platform.map_or_else(|| Ok(host_platform()), parse_platform)?;
        let available: Vec<String> = parts.iter().map(|part| platform_string(&part.platform)).collect();
        let is_only = parts.len() == 1 && platform.is_none();
        parts.into_iter().find(|part| is_only || serves(&part.platform, &requested)).ok_or_else(|| {
            let requested = platform_string(&requested);
            Failure::usage(format!("image {} is not built for {requested}", name.familiar()))
                .hint(format!("choose one with `--platform`: {}", available.join(", ")))
                .into()
        })
    }

    fn inspect_index(&self, index: &ImageIndex) -> Result<Vec<InspectedImage>> {
        let mut images = Vec::new();
        for part in ClusterImage::from_index(index)?.parts {
            // an index may list platforms that were not pulled
            if !self.has(&Blob::try_from(&part.rootfs)?) {
                continue;
            }
            let Content::Manifest(manifest) = self.read_manifest(&part.rootfs)? else { continue };
            images.push(self.inspect_manifest(&part.rootfs, *manifest, Some(part.platform), part.workloads.as_ref())?);
        }
        Ok(images)
    }

    fn inspect_manifest(
        &self,
        rootfs: &Descriptor,
        manifest: ImageManifest,
        platform: Option<Platform>,
        workloads: Option<&Descriptor>,
    ) -> Result<InspectedImage> {
        let config: Option<ImageConfiguration> = serde_json::from_slice(&self.read(&Blob::try_from(manifest.config())?)?).ok();
        let platform = platform.or_else(|| config.as_ref().map(platform_of)).unwrap_or_else(unknown);
        let annotated = manifest
            .annotations()
            .as_ref()
            .is_some_and(|annotations| [ANNOTATION_CLUSTER, ANNOTATION_SEALER].iter().any(|key| annotations.contains_key(*key)));
        let cluster = if annotated { Some(ClusterConfig::from_manifest(&manifest)?) } else { None };
        let workloads = workloads.map_or(Ok(Vec::new()), |descriptor| self.workloads(descriptor))?;
        Ok(InspectedImage { platform, rootfs: rootfs.clone(), manifest, config, cluster, workloads })
    }

    /// The container images that a workloads manifest lists.
    pub fn workloads(&self, descriptor: &Descriptor) -> Result<Vec<Workload>> {
        let Content::Manifest(manifest) = self.read_manifest(descriptor)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for root in &manifest.layers().iter().map(unwrap_workload_blob).collect::<Vec<_>>() {
            let annotation = |key| root.annotations().as_ref().and_then(|annotations| annotations.get(key));
            let Some(name) = annotation(ANNOTATION_REF_NAME) else { continue };
            let name = name.parse().with_context(|| format!("workloads manifest {}", descriptor.digest()))?;
            found.push(Workload { name, app: annotation(ANNOTATION_APP).cloned(), size: self.total_size(root)?, descriptor: root.clone() });
        }
        Ok(found)
    }

    /// The size in bytes of everything reachable from `root` that is in the store, each blob once.
    pub fn total_size(&self, root: &Descriptor) -> Result<u64> {
        Ok(self.reachable([root])?.iter().filter_map(|digest| self.size_of(digest)).sum())
    }
}

fn platform_of(config: &ImageConfiguration) -> Platform {
    let builder = PlatformBuilder::default().os(config.os().clone()).architecture(config.architecture().clone());
    let builder = match config.variant() {
        Some(variant) => builder.variant(variant.clone()),
        None => builder,
    };
    builder.build().unwrap_or_else(|_| unknown())
}

fn unknown() -> Platform {
    let unknown = "unknown";
    PlatformBuilder::default().os(Os::from(unknown)).architecture(Arch::from(unknown)).build().expect("os and architecture are given")
}
