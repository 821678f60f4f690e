//! Manifest lists: an index over images that were built separately, as `docker manifest` and `buildah manifest` make.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType, Platform};

use crate::error::Failure;
use crate::events::Context;
use crate::image::{
    ANNOTATION_PLATFORM, ClusterConfig, Content, Reference, TYPE_CLUSTER, announce_compression, canonical, host_platform, parse_platform,
    platform_string,
};
use crate::store::Store;

/// Creates a manifest list of images under a new name. Gives its descriptor, as do the other functions.
///
/// # Errors
/// Of kind `Usage` if the name exists; see [`add`].
pub fn create(list: &Reference, images: &[Reference], store: &Store, ctx: &Context) -> Result<Descriptor> {
    if store.resolve(list)?.is_some() {
        return Err(Failure::usage(format!("{} exists already", list.familiar()))
            .hint(format!("`sealift manifest add {0} IMAGE` adds to it, `sealift rmi {0}` removes the name", list.familiar()))
            .into());
    }
    let mut manifests = Vec::new();
    for image in images {
        add_all(&mut manifests, manifests_of(image, None, store)?, image, ctx);
    }
    write(list, manifests, store)
}

/// Adds an image to a list: all of its platforms, or a single image as the one for `platform`. It replaces what the list has for the same
/// platform, with a warning.
///
/// # Errors
/// Of kind `Usage` if the name is not a list, or the platform of the image is not known.
pub fn add(list: &Reference, image: &Reference, platform: Option<&Platform>, store: &Store, ctx: &Context) -> Result<Descriptor> {
    let mut manifests = index_of(list, store)?.manifests().clone();
    add_all(&mut manifests, manifests_of(image, platform, store)?, image, ctx);
    write(list, manifests, store)
}

/// Removes images from a list, each given as its digest, platform, or name in the store. The workloads of a platform are removed with
/// its rootfs.
///
/// # Errors
/// Of kind `Usage` if the list does not have one of them.
pub fn remove(list: &Reference, which: &[String], store: &Store) -> Result<Descriptor> {
    let mut manifests = index_of(list, store)?.manifests().clone();
    for text in which {
        let digest = find(&manifests, text, list, store)?.digest().clone();
        let platform = manifests
            .iter()
            .find(|manifest| *manifest.digest() == digest)
            .and_then(|manifest| manifest.platform().as_ref().map(platform_string));
        manifests.retain(|manifest| *manifest.digest() != digest && (platform.is_none() || workloads_of(manifest) != platform.as_ref()));
    }
    write(list, manifests, store)
}

/// What [`annotate`] changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The operating system.
    pub os: Option<String>,
    /// The architecture.
    pub arch: Option<String>,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// Annotations to add or replace.
    pub annotations: BTreeMap<String, String>,
}

/// Changes the platform and annotations of an image in a list; `which` as in [`remove`].
///
/// # Errors
/// Of kind `Usage` if the list does not have the image, or if it is a cluster image, whose platform is fixed.
pub fn annotate(list: &Reference, which: &str, changes: &Changes, store: &Store) -> Result<Descriptor> {
    let mut manifests = index_of(list, store)?.manifests().clone();
    let digest = find(&manifests, which, list, store)?.digest().clone();
    for manifest in manifests.iter_mut().filter(|manifest| *manifest.digest() == digest) {
        if let Some(platform) = changes.platform(manifest.platform().as_ref())? {
            if is_of_cluster(manifest, store) || workloads_of(manifest).is_some() {
                bail!(
                    Failure::usage(format!("{which} belongs to a cluster image: its platform is fixed at build time"))
                        .hint("build it for another platform: `sealift build --platform`")
                );
            }
            manifest.set_platform(Some(platform));
        }
        let mut annotations = manifest.annotations().clone().unwrap_or_default();
        annotations.extend(changes.annotations.clone());
        manifest.set_annotations((!annotations.is_empty()).then_some(annotations));
    }
    write(list, manifests, store)
}

impl Changes {
    /// The changed platform; `None` if it does not change.
    fn platform(&self, known: Option<&Platform>) -> Result<Option<Platform>> {
        if self.os.is_none() && self.arch.is_none() && self.variant.is_none() {
            return Ok(None);
        }
        let mut platform = known.cloned().unwrap_or_else(host_platform);
        let text = |change: &Option<String>, old: String| change.clone().unwrap_or(old);
        let (os, arch) = (text(&self.os, platform.os().to_string()), text(&self.arch, platform.architecture().to_string()));
        let new = parse_platform(&format!("{os}/{arch}"))?;
        // a variant belongs to an architecture: with another one it is gone
        let kept = if self.arch.is_none() { platform.variant().clone() } else { None };
        platform.set_os(new.os().clone());
        platform.set_architecture(new.architecture().clone());
        platform.set_variant(self.variant.clone().or(kept));
        Ok(Some(platform))
    }
}

/// Finds a manifest of a list by its digest, its platform, or the name of its image.
fn find<'a>(manifests: &'a [Descriptor], text: &str, list: &Reference, store: &Store) -> Result<&'a Descriptor> {
    let is_platform = |manifest: &&Descriptor| manifest.platform().as_ref().is_some_and(|platform| platform_string(platform) == text);
    let by_digest = |digest: &str| manifests.iter().find(|manifest| manifest.digest().to_string() == digest);
    let found = by_digest(text).or_else(|| manifests.iter().find(is_platform));
    let found = found.or_else(|| by_digest(store.resolve(&text.parse().ok()?).ok()??.digest().as_ref()));
    found.with_context(|| {
        Failure::usage(format!("no {text} in {}", list.familiar()))
            .hint(format!("`sealift manifest inspect {}` lists its digests and platforms", list.familiar()))
    })
}

/// The platform whose workloads a manifest lists, if it does.
fn workloads_of(manifest: &Descriptor) -> Option<&String> {
    manifest.annotations().as_ref()?.get(ANNOTATION_PLATFORM)
}

/// Reads the manifest list with this name.
///
/// # Errors
/// Of kind `Usage` if it is a single image.
pub fn index_of(list: &Reference, store: &Store) -> Result<ImageIndex> {
    match store.read_manifest(&store.find(list)?)? {
        Content::Index(index) => Ok(*index),
        _ => Err(Failure::usage(format!("{} is a single image, not a manifest list", list.familiar()))
            .hint("create a list: `sealift manifest create LIST IMAGE…`")
            .into()),
    }
}

/// The manifests that an image adds to a list.
fn manifests_of(image: &Reference, platform: Option<&Platform>, store: &Store) -> Result<Vec<Descriptor>> {
    let found = store.find(image)?;
    match (store.read_manifest(&found)?, platform) {
        (Content::Index(index), None) => Ok(index.manifests().clone()),
        (Content::Index(_), Some(_)) => {
            bail!(Failure::usage(format!("{} is for several platforms already", image.familiar())).hint("remove `--platform`"))
        }
        (Content::Manifest(manifest), platform) => {
            let known = store.inspect(&found)?.into_iter().next().map(|part| part.platform);
            let platform = platform.cloned().or(known).filter(|platform| !platform_string(platform).starts_with("unknown"));
            let Some(platform) = platform else {
                bail!(
                    Failure::usage(format!("the platform of {} is not known", image.familiar())).hint("give it: `--platform linux/amd64`")
                )
            };
            let mut descriptor = Descriptor::new(found.media_type().clone(), found.size(), found.digest().clone());
            descriptor.set_platform(Some(platform));
            descriptor.set_artifact_type(manifest.artifact_type().clone());
            Ok(vec![descriptor])
        }
        (Content::Leaf, _) => {
            bail!(Failure::usage(format!("{} is not an image", image.familiar())).hint("`sealift images` lists the images in the store"))
        }
    }
}

/// Adds manifests. They replace those with the same key.
fn add_all(manifests: &mut Vec<Descriptor>, new: Vec<Descriptor>, image: &Reference, ctx: &Context) {
    for manifest in new {
        if let Some(index) = manifests.iter().position(|known| key_of(known) == key_of(&manifest)) {
            let old = manifests.remove(index);
            if old.digest() != manifest.digest() {
                ctx.warn(format!("{} replaces {} for {}", image.familiar(), old.digest(), key_of(&manifest)));
            }
        }
        manifests.push(manifest);
    }
}

/// What a list has one manifest for: a platform's rootfs, or its workloads.
fn key_of(manifest: &Descriptor) -> String {
    match workloads_of(manifest) {
        Some(platform) => format!("the workloads of {platform}"),
        None => manifest.platform().as_ref().map_or_else(|| manifest.digest().to_string(), platform_string),
    }
}

/// Writes and tags the index. It is a cluster image if one of its manifests is.
fn write(list: &Reference, mut manifests: Vec<Descriptor>, store: &Store) -> Result<Descriptor> {
    for entry in &mut manifests {
        if let Ok(Content::Manifest(manifest)) = store.read_manifest(entry) {
            announce_compression(entry, &manifest);
        }
    }
    let is_cluster = manifests.iter().any(|manifest| is_of_cluster(manifest, store));
    let builder = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(manifests);
    let builder = if is_cluster { builder.artifact_type(MediaType::from(TYPE_CLUSTER)) } else { builder };
    let blob = store.put(&canonical(&builder.build()?)?)?;
    let mut descriptor = Descriptor::new(MediaType::ImageIndex, blob.size, oci_spec::image::Digest::from(blob.digest));
    if is_cluster {
        descriptor.set_artifact_type(Some(MediaType::from(TYPE_CLUSTER)));
    }
    store.tag(list, &descriptor)?;
    Ok(descriptor)
}

/// Whether a manifest is the rootfs manifest of a cluster image, as far as the store has it.
fn is_of_cluster(manifest: &Descriptor, store: &Store) -> bool {
    matches!(store.read_manifest(manifest), Ok(Content::Manifest(manifest)) if ClusterConfig::is_in(&manifest))
}
