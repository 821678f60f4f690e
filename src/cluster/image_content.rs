//! A cluster image as a run needs it: read from the store, small files included.

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

/// A cluster image.
#[derive(Debug, Clone)]
pub struct ImageContent {
    /// Its name.
    pub name: Reference,
    /// Its index, or the manifest of an image of one platform.
    pub descriptor: Descriptor,
    /// What it brings for each platform.
    pub parts: Vec<ImagePart>,
}

/// What a cluster image brings for one platform.
#[derive(Debug, Clone)]
pub struct ImagePart {
    /// The platform.
    pub platform: Platform,
    /// What the image says about the cluster.
    pub config: ClusterConfig,
    /// The rootfs manifest.
    pub rootfs: Blob,
    /// Everything that unpacking the rootfs needs: its manifest, config and layers.
    pub rootfs_blobs: Vec<Blob>,
    /// Everything that the registry on site serves, the documents on the way from the name included.
    pub workload_blobs: Vec<Blob>,
    /// The names of the container images that it brings.
    pub workloads: Vec<String>,
    /// Small files of the rootfs that a run looks at or a Clusterfile may change.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// The paths of its programs below `bin/`, where images that are laid out as Sealer's have them.
    pub programs: BTreeSet<String>,
    /// Those of the small files that the Clusterfile or templates change.
    pub changed: BTreeMap<PathBuf, Vec<u8>>,
}

impl ImageContent {
    /// Reads an image from the store.
    ///
    /// # Errors
    /// Fails if the store has no such image; of kind `Verification` if a blob of it is damaged, or a layer of the rootfs is not what it
    /// should be.
    pub fn open(store: &Store, name: &Reference, ctx: &Context) -> Result<ImageContent> {
        let descriptor = store.resolve(name)?.ok_or_else(|| {
            Failure::failed(format!("no such image: {} (not in the store)", name.familiar())).hint("`sealift images` lists what is there")
        })?;
        let document = store.read(&Blob::try_from(&descriptor)?)?;
        let parts = match content_of(descriptor.media_type(), &document)? {
            Content::Index(index) => ClusterImage::from_index(&index)?.parts,
            Content::Manifest(manifest) => {
                vec![Part { platform: platform(store, &manifest)?, rootfs: descriptor.clone(), workloads: None }]
            }
            Content::Leaf => return Err(Failure::usage(format!("{name} is not a cluster image")).into()),
        };
        let present = |part: &Part| Blob::try_from(&part.rootfs).is_ok_and(|blob| store.has(&blob));
        let parts: Vec<Part> = parts.into_iter().filter(present).collect();
        if parts.is_empty() {
            return Err(Failure::usage(format!("the store has no platform of {name}")).hint("pull it again").into());
        }
        for part in &parts {
            layer::check_layers(store, &part.rootfs, layer::LayerVerification::default(), ctx)?;
        }
        let (descriptor, parts) = adopted(store, descriptor, parts, ctx)?;
        let root = Blob::try_from(&descriptor)?;
        let parts = parts.into_iter().map(|part| ImagePart::read(store, root, part, ctx)).collect::<Result<Vec<_>>>()?;
        Ok(ImageContent { name: name.clone(), descriptor, parts })
    }

    /// What it brings for hosts of this architecture, named as `uname -m` does.
    pub fn part(&self, machine: &str) -> Result<&ImagePart> {
        let wanted = oci_arch(machine);
        self.parts.iter().find(|part| *part.platform.architecture() == wanted).ok_or_else(|| {
            let have: Vec<String> = self.parts.iter().map(|part| platform_string(&part.platform)).collect();
            Failure::usage(format!("image {} is not built for {wanted} (the store has {})", self.name.familiar(), have.join(", ")))
                .hint(format!("build it with `--platform linux/{wanted}`, or pull that platform"))
                .into()
        })
    }

    /// What it says about the cluster; the same on every platform.
    pub fn config(&self) -> &ClusterConfig {
        &self.parts[0].config
    }

    /// The digest that its name points at.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Blob::try_from(&self.descriptor)?.digest)
    }
}

/// What the image's config says, or else the platform of this machine.
fn platform(store: &Store, manifest: &ImageManifest) -> Result<Platform> {
    let config: ImageConfiguration = serde_json::from_slice(&store.read(&manifest.config().try_into()?)?).context("image config")?;
    let mut platform = host_platform();
    platform.set_os(config.os().clone());
    platform.set_architecture(config.architecture().clone());
    platform.set_variant(config.variant().clone());
    Ok(platform)
}

/// The image as sealift runs it: container images that Sealer keeps in a tree of the rootfs are taken out of it. Other images stay
/// what they are.
fn adopted(store: &Store, descriptor: Descriptor, parts: Vec<Part>, ctx: &Context) -> Result<(Descriptor, Vec<Part>)> {
    let mut manifests = Vec::new();
    let mut changed = false;
    for part in &parts {
        let tags = workloads::read_tags(&small_files(store, &document(store, &part.rootfs)?, &Blob::try_from(&part.rootfs)?)?)?;
        if tags.is_empty() {
            manifests.push(part.rootfs.clone());
            manifests.extend(part.workloads.clone());
            continue;
        }
        let digests = std::iter::once(&part.rootfs).chain(&part.workloads).map(|of| Ok(Blob::try_from(of)?.digest.hex()));
        let name = format!("adopted-{}", digests.collect::<Result<Vec<_>>>()?.join("-"));
        let whole = |[rootfs, workloads]: &[Descriptor; 2]| is_whole(store, rootfs) && is_whole(store, workloads);
        let convert = || workloads::convert_sealer_image(store, &part.platform, &part.rootfs, part.workloads.as_ref(), &tags, ctx);
        manifests.extend(remembered(store, &name, whole, convert)?);
        changed = true;
    }
    if !changed {
        return Ok((descriptor, parts));
    }
    let index = ClusterImage::index(manifests)?;
    Ok((store.put_document(MediaType::ImageIndex, &index)?, ClusterImage::from_index(&index)?.parts))
}

/// Whether a manifest is in the store with all that it names.
fn is_whole(store: &Store, manifest: &Descriptor) -> bool {
    let has = |descriptor: &Descriptor| Blob::try_from(descriptor).is_ok_and(|blob| store.has(&blob));
    has(manifest) && store.document(manifest).is_ok_and(|content| children(&content).iter().all(has))
}

fn document(store: &Store, manifest: &Descriptor) -> Result<ImageManifest> {
    serde_json::from_slice(&store.read(&Blob::try_from(manifest)?)?).with_context(|| format!("manifest {}", manifest.digest()))
}

impl ImagePart {
    fn read(store: &Store, root: Blob, part: Part, ctx: &Context) -> Result<ImagePart> {
        let rootfs = Blob::try_from(&part.rootfs)?;
        let manifest: ImageManifest = serde_json::from_slice(&store.read(&rootfs)?).context("rootfs manifest")?;
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
            changed: BTreeMap::new(),
        };
        if sealer::is_sealers(&part) {
            part.programs = programs(store, &manifest, &rootfs, ctx)?;
        }
        Ok(part)
    }

    /// Makes a file of the rootfs another than the image has.
    pub(super) fn change(&mut self, path: PathBuf, content: Vec<u8>) {
        self.files.insert(path.clone(), content.clone());
        self.changed.insert(path, content);
    }

    /// A small file of the rootfs, as text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(Path::new(path)).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Whether the rootfs has this file, among those a run looks at.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(Path::new(path))
    }

    /// How many bytes its blobs are.
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |blobs: &[Blob]| blobs.iter().map(|blob| blob.size).sum();
        (sum(&self.rootfs_blobs), sum(&self.workload_blobs))
    }
}

/// The blobs that the registry serves, and the names of the container images.
fn workloads(store: &Store, root: Blob, descriptor: Option<&Descriptor>) -> Result<(Vec<Blob>, Vec<String>)> {
    let Some(descriptor) = descriptor else {
        return Ok((vec![root], Vec::new()));
    };
    let blob = Blob::try_from(descriptor)?;
    let manifest: ImageManifest = serde_json::from_slice(&store.read(&blob)?).context("workloads manifest")?;
    let mut blobs = vec![blob];
    for child in std::iter::once(manifest.config()).chain(manifest.layers()) {
        blobs.push(Blob::try_from(child)?);
    }
    blobs.push(root);
    let name = |layer: &Descriptor| layer.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_REF_NAME).cloned());
    Ok((blobs, manifest.layers().iter().filter_map(name).collect()))
}

/// Whether a run looks at this file itself, or a Clusterfile may change it: texts, by their names; programs and archives may
/// be of any size.
pub(super) fn is_looked_at(path: &Path) -> bool {
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
    remembered(store, &format!("files-{}", rootfs.digest.hex()), |_| true, || layer::read_files(store, manifest, is_looked_at))
}

/// What lies below `bin/`.
fn programs(store: &Store, manifest: &ImageManifest, rootfs: &Blob, ctx: &Context) -> Result<BTreeSet<String>> {
    let list = || {
        let tree = layer::outline(store, &layer::layers_of(store, manifest)?, ctx, || {})?;
        Ok(tree.into_keys().filter(|path| path.starts_with("bin")).map(|path| path.display().to_string()).collect())
    };
    remembered(store, &format!("programs-{}", rootfs.digest.hex()), |_| true, list)
}

/// What reads all layers of an image is done once: what came of it is kept beside the store, as long as it is still `right`.
fn remembered<T: Serialize + DeserializeOwned>(
    store: &Store,
    name: &str,
    right: impl Fn(&T) -> bool,
    make: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let kept = store.root().join("cache/run").join(name);
    if let Ok(bytes) = std::fs::read(&kept)
        && let Ok(known) = serde_json::from_slice(&bytes)
        && right(&known)
    {
        return Ok(known);
    }
    let made = make()?;
    if let Err(error) = crate::atomic_file::write(&kept, &serde_json::to_vec(&made)?, 0o644) {
        tracing::info!("{}: {error:#}", kept.display()); // a store that cannot be written is slower, no more
    }
    Ok(made)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::image::ClusterKind;

    /// What an image brings that has nothing but these files.
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
            changed: BTreeMap::new(),
        }
    }
}
