//! A cluster image as a run reads it from the store: its blobs by platform, and its small files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType, Platform};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::runtime::sealer;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{
    ANNOTATION_REF_NAME, Blob, ClusterConfig, ClusterImage, Content, Digest, Part, Reference, children, content_of, host_platform,
    oci_arch, platform_string,
};
use crate::layer;
use crate::store::Store;
use crate::workloads;

/// A cluster image, read from the store.
#[derive(Debug, Clone)]
pub struct ImageContent {
    /// The reference it was opened by.
    pub name: Reference,
    /// The descriptor of its index, or of the manifest of an image for one platform.
    pub descriptor: Descriptor,
    /// Its content for each platform that the store has. Never empty.
    pub parts: Vec<ImagePart>,
}

/// The content of a cluster image for one platform.
#[derive(Debug, Clone)]
pub struct ImagePart {
    /// The platform that it is built for.
    pub platform: Platform,
    /// The cluster configuration, from the annotations of the rootfs manifest.
    pub config: ClusterConfig,
    /// The rootfs manifest.
    pub rootfs: Blob,
    /// The blobs that unpacking the rootfs needs: its manifest, config and layers.
    pub rootfs_blobs: Vec<Blob>,
    /// The blobs that the local registry serves, the index or manifest that the name points at included.
    pub workload_blobs: Vec<Blob>,
    /// The names of the container images that it contains.
    pub workloads: Vec<String>,
    /// The small text files of the rootfs that a run reads or a Clusterfile may override, by path. Overrides are applied in place.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// The paths below `bin/`, for images in Sealer's layout; else empty.
    pub programs: BTreeSet<String>,
    /// The files that the Clusterfile or a template overrides, by path.
    pub overridden: BTreeMap<PathBuf, Vec<u8>>,
}

impl ImageContent {
    /// Reads an image from the store.
    ///
    /// # Errors
    /// Fails if the store has no such image; of kind `Verification` if a blob of it is damaged, or a layer does not match its diff ID.
    pub fn open(store: &Store, name: &Reference, ctx: &Context) -> Result<ImageContent> {
        let descriptor = store.resolve(name)?.ok_or_else(|| {
            Failure::failed(format!("no such image: {} (not in the store)", name.familiar()))
                .hint("`sealift images` lists the images in the store")
        })?;
        let content = store.read(&Blob::try_from(&descriptor)?)?;
        let parts = match content_of(descriptor.media_type(), &content)? {
            Content::Index(index) => ClusterImage::from_index(&index)?.parts,
            Content::Manifest(manifest) => {
                vec![Part { platform: platform(store, &manifest)?, rootfs: descriptor.clone(), workloads: None }]
            }
            Content::Leaf => {
                return Err(Failure::usage(format!("{name} is not a cluster image: neither an index nor a manifest"))
                    .hint("build one with `sealift build`")
                    .into());
            }
        };
        let present = |part: &Part| Blob::try_from(&part.rootfs).is_ok_and(|blob| store.has(&blob));
        let parts: Vec<Part> = parts.into_iter().filter(present).collect();
        if parts.is_empty() {
            return Err(Failure::usage(format!("no platform of {name} is in the store"))
                .hint(format!("pull it again: `sealift pull {name}`"))
                .into());
        }
        for part in &parts {
            layer::check_layers(store, &part.rootfs, layer::LayerVerification::default(), ctx)?;
        }
        let (descriptor, parts) = convert_sealer_registry(store, descriptor, parts, ctx)?;
        let root = Blob::try_from(&descriptor)?;
        let parts = parts.into_iter().map(|part| ImagePart::read(store, root, part, ctx)).collect::<Result<Vec<_>>>()?;
        Ok(ImageContent { name: name.clone(), descriptor, parts })
    }

    /// The content for hosts of an architecture, named as `uname -m` prints it.
    ///
    /// # Errors
    /// `Usage` if the store has no such platform of the image.
    pub fn part(&self, machine: &str) -> Result<&ImagePart> {
        let arch = oci_arch(machine);
        self.parts.iter().find(|part| *part.platform.architecture() == arch).ok_or_else(|| {
            let have: Vec<String> = self.parts.iter().map(|part| platform_string(&part.platform)).collect();
            Failure::usage(format!("image {} is not built for linux/{arch} (the store has {})", self.name.familiar(), have.join(", ")))
                .hint(format!("build it with `--platform linux/{arch}`, or pull that platform"))
                .into()
        })
    }

    /// The cluster configuration; the same on every platform.
    pub fn config(&self) -> &ClusterConfig {
        &self.parts[0].config
    }

    /// The digest of its index or manifest.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Blob::try_from(&self.descriptor)?.digest)
    }
}

/// The platform in the image's config; what the config leaves out is as on this machine.
fn platform(store: &Store, manifest: &ImageManifest) -> Result<Platform> {
    let config: ImageConfiguration = serde_json::from_slice(&store.read(&manifest.config().try_into()?)?).context("image config")?;
    let mut platform = host_platform();
    platform.set_os(config.os().clone());
    platform.set_architecture(config.architecture().clone());
    platform.set_variant(config.variant().clone());
    Ok(platform)
}

/// Converts an image of Sealer's: container images in its registry directory move from the rootfs to a workloads manifest. Other
/// images are returned unchanged.
fn convert_sealer_registry(store: &Store, descriptor: Descriptor, parts: Vec<Part>, ctx: &Context) -> Result<(Descriptor, Vec<Part>)> {
    let mut manifests = Vec::new();
    let mut converted = false;
    for part in &parts {
        let tags = workloads::read_tags(&small_files(store, &read_manifest(store, &part.rootfs)?, &Blob::try_from(&part.rootfs)?)?)?;
        if tags.is_empty() {
            manifests.push(part.rootfs.clone());
            manifests.extend(part.workloads.clone());
            continue;
        }
        let digests = std::iter::once(&part.rootfs).chain(&part.workloads).map(|of| Ok(Blob::try_from(of)?.digest.hex()));
        let key = format!("adopted-{}", digests.collect::<Result<Vec<_>>>()?.join("-"));
        let complete = |[rootfs, workloads]: &[Descriptor; 2]| is_complete(store, rootfs) && is_complete(store, workloads);
        let convert = || workloads::convert_sealer_image(store, &part.platform, &part.rootfs, part.workloads.as_ref(), &tags, ctx);
        manifests.extend(cached(store, &key, complete, convert)?);
        converted = true;
    }
    if !converted {
        return Ok((descriptor, parts));
    }
    let index = ClusterImage::index(manifests)?;
    Ok((store.put_json(MediaType::ImageIndex, &index)?, ClusterImage::from_index(&index)?.parts))
}

/// Whether a manifest and all of its children are in the store.
fn is_complete(store: &Store, manifest: &Descriptor) -> bool {
    let has = |descriptor: &Descriptor| Blob::try_from(descriptor).is_ok_and(|blob| store.has(&blob));
    has(manifest) && store.read_manifest(manifest).is_ok_and(|content| children(&content).iter().all(has))
}

fn read_manifest(store: &Store, manifest: &Descriptor) -> Result<ImageManifest> {
    serde_json::from_slice(&store.read(&Blob::try_from(manifest)?)?).with_context(|| format!("manifest {}", manifest.digest()))
}

impl ImagePart {
    fn read(store: &Store, root: Blob, part: Part, ctx: &Context) -> Result<ImagePart> {
        let rootfs = Blob::try_from(&part.rootfs)?;
        let manifest = read_manifest(store, &part.rootfs)?;
        let config = ClusterConfig::from_manifest(&manifest)?;
        let files = small_files(store, &manifest, &rootfs)?;
        let (workload_blobs, workloads) = workloads(store, root, part.workloads.as_ref())?;
        let rootfs_blobs =
            std::iter::once(Ok(rootfs)).chain(std::iter::once(manifest.config()).chain(manifest.layers()).map(Blob::try_from));
        let rootfs_blobs = rootfs_blobs.collect::<Result<Vec<_>>>()?;
        let mut part = ImagePart {
            platform: part.platform,
            config,
            rootfs,
            rootfs_blobs,
            workload_blobs,
            workloads,
            files,
            programs: BTreeSet::new(),
            overridden: BTreeMap::new(),
        };
        if sealer::is_sealer_layout(&part) {
            part.programs = programs(store, &manifest, &rootfs, ctx)?;
        }
        Ok(part)
    }

    /// Replaces a file of the rootfs, or adds one.
    pub(super) fn override_file(&mut self, path: PathBuf, content: Vec<u8>) {
        self.files.insert(path.clone(), content.clone());
        self.overridden.insert(path, content);
    }

    /// The text of a small file of the rootfs; `None` if there is none, or it is not UTF-8.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(Path::new(path)).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Whether the rootfs has this small file.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(Path::new(path))
    }
}

/// The blobs that the registry serves, and the names of the container images.
fn workloads(store: &Store, root: Blob, descriptor: Option<&Descriptor>) -> Result<(Vec<Blob>, Vec<String>)> {
    let Some(descriptor) = descriptor else {
        return Ok((vec![root], Vec::new()));
    };
    let blob = Blob::try_from(descriptor)?;
    let manifest = read_manifest(store, descriptor)?;
    let mut blobs = vec![blob];
    for child in std::iter::once(manifest.config()).chain(manifest.layers()) {
        blobs.push(Blob::try_from(child)?);
    }
    blobs.push(root);
    let name = |layer: &Descriptor| layer.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_REF_NAME).cloned());
    Ok((blobs, manifest.layers().iter().filter_map(name).collect()))
}

/// Whether a run reads this file, or a Clusterfile may override it. Decided by its name: text files are small, programs and
/// archives may be of any size.
pub(super) fn is_small_file(path: &Path) -> bool {
    let within = |directories: &[&str]| directories.iter().any(|directory| path.starts_with(directory));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml" | "json" | "sh" | "tmpl" | "conf" | "toml" | "cfg" | "env" | "properties") => {
            within(&["application/apps", "charts", "etc", "host/etc", "manifests", "scripts", "statics"])
        }
        None => within(&["etc", "host/etc"]) || workloads::is_tag_path(path),
        Some(_) => within(&["etc"]),
    }
}

fn small_files(store: &Store, manifest: &ImageManifest, rootfs: &Blob) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    cached(store, &format!("files-{}", rootfs.digest.hex()), |_| true, || layer::read_files(store, manifest, is_small_file))
}

/// The paths below `bin/` in the rootfs.
fn programs(store: &Store, manifest: &ImageManifest, rootfs: &Blob, ctx: &Context) -> Result<BTreeSet<String>> {
    let list = || {
        let tree = layer::tree_of(store, &layer::layers_of(store, manifest)?, ctx, || {})?;
        Ok(tree.into_keys().filter(|path| path.starts_with("bin")).map(|path| path.display().to_string()).collect())
    };
    cached(store, &format!("programs-{}", rootfs.digest.hex()), |_| true, list)
}

/// Computes a value that needs all layers of an image, and caches it beside the store under `key`. A cached value that is no longer
/// `valid` is computed again.
fn cached<T: Serialize + DeserializeOwned>(
    store: &Store,
    key: &str,
    valid: impl Fn(&T) -> bool,
    compute: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let file = store.root().join("cache/run").join(key);
    if let Ok(bytes) = std::fs::read(&file)
        && let Ok(value) = serde_json::from_slice(&bytes)
        && valid(&value)
    {
        return Ok(value);
    }
    let value = compute()?;
    if let Err(error) = crate::atomic_file::write(&file, &serde_json::to_vec(&value)?, 0o644) {
        tracing::info!("{}: {error:#}", file.display()); // without the cache it is only slower
    }
    Ok(value)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::image::ClusterKind;

    /// The content of an image that has only these files.
    pub fn part<const N: usize>(files: [(&str, &str); N]) -> ImagePart {
        let blob = Blob::of(b"rootfs");
        ImagePart {
            platform: host_platform(),
            config: ClusterConfig::new(ClusterKind::KubeInstaller),
            rootfs: blob,
            rootfs_blobs: vec![blob],
            workload_blobs: Vec::new(),
            workloads: Vec::new(),
            files: files.into_iter().map(|(path, text)| (path.into(), text.into())).collect(),
            programs: BTreeSet::new(),
            overridden: BTreeMap::new(),
        }
    }
}
