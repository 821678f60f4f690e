//! What an image consists of, as its documents tell: a cluster image, one of Sealer's, or any other OCI image.

use anyhow::{Context as _, Result};
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os, Platform, PlatformBuilder};

use super::Store;
use crate::error::Failure;
use crate::image::{
    ANNOTATION_APP, ANNOTATION_CLUSTER, ANNOTATION_REF_NAME, ANNOTATION_SEALER, Blob, ClusterConfig, ClusterImage, Content, Reference,
    host_platform, parse_platform, platform_string, serves,
};

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct InspectedImage {
    /// The platform.
    pub platform: Platform,
    /// The rootfs manifest's descriptor.
    pub rootfs: Descriptor,
    /// The rootfs manifest.
    pub manifest: ImageManifest,
    /// Its config, if it is an image's.
    pub config: Option<ImageConfiguration>,
    /// What it says about a cluster; none for an image that is no cluster image.
    pub cluster: Option<ClusterConfig>,
    /// The container images that it brings.
    pub workloads: Vec<Workload>,
}

/// A container image among the workloads of a cluster image.
#[derive(Debug, Clone)]
pub struct Workload {
    /// What manifests call it.
    pub name: Reference,
    /// Its root: a manifest or an index.
    pub descriptor: Descriptor,
    /// The app that brought it.
    pub app: Option<String>,
    /// The bytes of what it consists of, as far as it is here.
    pub size: u64,
}

impl Store {
    /// The image's parts, one for each platform that is here.
    pub fn inspect(&self, descriptor: &Descriptor) -> Result<Vec<InspectedImage>> {
        match self.document(descriptor)? {
            Content::Index(index) => self.inspect_index(&index),
            Content::Manifest(manifest) => Ok(vec![self.inspect_manifest(descriptor, *manifest, None, None)?]),
            Content::Leaf => {
                Err(Failure::failed(format!("{} is not an image: media type `{}`", descriptor.digest(), descriptor.media_type()))
                    .hint("`sealift images` lists the images in the store")
                    .into())
            }
        }
    }

    /// The part of a named image for a platform, or for this machine's; an image with one part needs no saying.
    ///
    /// # Errors
    /// `Usage` if it has none for that platform: what there is, is named.
    pub fn part(&self, name: &Reference, platform: Option<&str>) -> Result<InspectedImage> {
        let parts = self.inspect(&self.find(name)?)?;
        let wanted = platform.map_or_else(|| Ok(host_platform()), parse_platform)?;
        let there: Vec<String> = parts.iter().map(|part| platform_string(&part.platform)).collect();
        let alone = parts.len() == 1 && platform.is_none();
        parts.into_iter().find(|part| alone || serves(&part.platform, &wanted)).ok_or_else(|| {
            let wanted = platform_string(&wanted);
            Failure::usage(format!("image {} is not built for {wanted}", name.familiar()))
                .hint(format!("choose one with `--platform`: {}", there.join(", ")))
                .into()
        })
    }

    fn inspect_index(&self, index: &ImageIndex) -> Result<Vec<InspectedImage>> {
        let mut surveyed = Vec::new();
        for part in ClusterImage::from_index(index)?.parts {
            // an index may list platforms that nobody fetched
            if !self.has(&Blob::try_from(&part.rootfs)?) {
                continue;
            }
            let Content::Manifest(manifest) = self.document(&part.rootfs)? else { continue };
            surveyed.push(self.inspect_manifest(&part.rootfs, *manifest, Some(part.platform), part.workloads.as_ref())?);
        }
        Ok(surveyed)
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

    /// The container images that a workloads manifest names.
    pub fn workloads(&self, descriptor: &Descriptor) -> Result<Vec<Workload>> {
        let Content::Manifest(manifest) = self.document(descriptor)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for root in manifest.layers() {
            let annotation = |key| root.annotations().as_ref().and_then(|annotations| annotations.get(key));
            let Some(name) = annotation(ANNOTATION_REF_NAME) else { continue };
            let name = name.parse().with_context(|| format!("workloads manifest {}", descriptor.digest()))?;
            found.push(Workload { name, app: annotation(ANNOTATION_APP).cloned(), size: self.size_below(root)?, descriptor: root.clone() });
        }
        Ok(found)
    }

    /// The bytes of everything reachable from `root` that is here, each blob once.
    pub fn size_below(&self, root: &Descriptor) -> Result<u64> {
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
