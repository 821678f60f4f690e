//! Lists of images for several platforms: an index made of images that were built apart, as `docker manifest` and `buildah manifest` do.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType, Platform};

use crate::error::Failure;
use crate::events::Context;
use crate::image::{
    ANNOTATION_PLATFORM, ClusterConfig, Content, Reference, TYPE_CLUSTER, canonical, host_platform, parse_platform, platform_string,
};
use crate::store::Store;

/// Makes a list of images under a name that has no image yet.
///
/// # Errors
/// Of kind `Usage` if the name is taken; see [`add`].
pub fn create(list: &Reference, images: &[Reference], store: &Store, ctx: &Context) -> Result<Descriptor> {
    if store.resolve(list)?.is_some() {
        return Err(Failure::usage(format!("{} is there already", list.familiar()))
            .hint(format!("`sealift manifest add {0} IMAGE` adds to it, `sealift rmi {0}` removes the name", list.familiar()))
            .into());
    }
    let mut arms = Vec::new();
    for image in images {
        join(&mut arms, arms_of(image, None, store)?, image, ctx);
    }
    write(list, arms, store)
}

/// Adds an image to a list: all of its platforms, or the one image as one for `platform`. What the list has for the same platform
/// is replaced, and a warning says so.
///
/// # Errors
/// Of kind `Usage` if the name is no list, or it is not known what platform the image is for.
pub fn add(list: &Reference, image: &Reference, platform: Option<&Platform>, store: &Store, ctx: &Context) -> Result<Descriptor> {
    let mut arms = index_of(list, store)?.manifests().clone();
    join(&mut arms, arms_of(image, platform, store)?, image, ctx);
    write(list, arms, store)
}

/// Takes images out of a list, each said by its digest, its platform, or its name in the store. The workloads of a platform go with
/// its root file system.
///
/// # Errors
/// Of kind `Usage` if the list does not have one of them.
pub fn remove(list: &Reference, which: &[String], store: &Store) -> Result<Descriptor> {
    let mut arms = index_of(list, store)?.manifests().clone();
    for text in which {
        let digest = find(&arms, text, list, store)?.digest().clone();
        let platform = arms.iter().find(|arm| *arm.digest() == digest).and_then(|arm| arm.platform().as_ref().map(platform_string));
        arms.retain(|arm| *arm.digest() != digest && (platform.is_none() || workloads_of(arm) != platform.as_ref()));
    }
    write(list, arms, store)
}

/// What [`annotate`] says anew.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The operating system.
    pub os: Option<String>,
    /// The architecture.
    pub arch: Option<String>,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// Annotations that are added or replaced.
    pub annotations: BTreeMap<String, String>,
}

/// Says something else about an image of a list; `which` as with [`remove`].
///
/// # Errors
/// Of kind `Usage` if the list does not have the image, or a cluster image would be for another platform than it was built for.
pub fn annotate(list: &Reference, which: &str, changes: &Changes, store: &Store) -> Result<Descriptor> {
    let mut arms = index_of(list, store)?.manifests().clone();
    let digest = find(&arms, which, list, store)?.digest().clone();
    for arm in arms.iter_mut().filter(|arm| *arm.digest() == digest) {
        if let Some(platform) = changes.platform(arm.platform().as_ref())? {
            if is_of_cluster(arm, store) || workloads_of(arm).is_some() {
                bail!(
                    Failure::usage(format!("{which} is part of a cluster image, whose platform is what it was built for"))
                        .hint("`sealift build --platform` builds it for another one")
                );
            }
            arm.set_platform(Some(platform));
        }
        let mut annotations = arm.annotations().clone().unwrap_or_default();
        annotations.extend(changes.annotations.clone());
        arm.set_annotations((!annotations.is_empty()).then_some(annotations));
    }
    write(list, arms, store)
}

impl Changes {
    /// The platform that `known` becomes; none if nothing is said about it.
    fn platform(&self, known: Option<&Platform>) -> Result<Option<Platform>> {
        if self.os.is_none() && self.arch.is_none() && self.variant.is_none() {
            return Ok(None);
        }
        let mut platform = known.cloned().unwrap_or_else(host_platform);
        let text = |new: &Option<String>, old: String| new.clone().unwrap_or(old);
        let (os, arch) = (text(&self.os, platform.os().to_string()), text(&self.arch, platform.architecture().to_string()));
        let said = parse_platform(&format!("{os}/{arch}"))?;
        // a variant is one of its architecture
        let kept = if self.arch.is_none() { platform.variant().clone() } else { None };
        platform.set_os(said.os().clone());
        platform.set_architecture(said.architecture().clone());
        platform.set_variant(self.variant.clone().or(kept));
        Ok(Some(platform))
    }
}

/// The arm that is meant by its digest, its platform, or the name of its image.
fn find<'a>(arms: &'a [Descriptor], text: &str, list: &Reference, store: &Store) -> Result<&'a Descriptor> {
    let is_platform = |arm: &&Descriptor| arm.platform().as_ref().is_some_and(|platform| platform_string(platform) == text);
    let by = |digest: &str| arms.iter().find(|arm| arm.digest().to_string() == digest);
    let found = by(text).or_else(|| arms.iter().find(is_platform));
    let found = found.or_else(|| by(store.resolve(&text.parse().ok()?).ok()??.digest().as_ref()));
    found.with_context(|| {
        Failure::usage(format!("{} has no {text}", list.familiar()))
            .hint(format!("`sealift manifest inspect {}` shows the digests and platforms that it has", list.familiar()))
    })
}

/// The platform whose workloads an arm is.
fn workloads_of(arm: &Descriptor) -> Option<&String> {
    arm.annotations().as_ref()?.get(ANNOTATION_PLATFORM)
}

/// The index that a name points at.
///
/// # Errors
/// Of kind `Usage` if it points at one image.
pub fn index_of(list: &Reference, store: &Store) -> Result<ImageIndex> {
    match store.read_manifest(&store.find(list)?)? {
        Content::Index(index) => Ok(*index),
        _ => Err(Failure::usage(format!("{} is one image, not a list of several", list.familiar()))
            .hint("`sealift manifest create LIST IMAGE…` makes a list")
            .into()),
    }
}

/// What an image adds to a list.
fn arms_of(image: &Reference, platform: Option<&Platform>, store: &Store) -> Result<Vec<Descriptor>> {
    let found = store.find(image)?;
    match (store.read_manifest(&found)?, platform) {
        (Content::Index(index), None) => Ok(index.manifests().clone()),
        (Content::Index(_), Some(_)) => {
            bail!(Failure::usage(format!("{} is for several platforms itself", image.familiar())).hint("leave `--platform` out"))
        }
        (Content::Manifest(manifest), platform) => {
            let known = store.inspect(&found)?.into_iter().next().map(|part| part.platform);
            let platform = platform.cloned().or(known).filter(|platform| !platform_string(platform).starts_with("unknown"));
            let Some(platform) = platform else {
                bail!(Failure::usage(format!("{} does not say what platform it is for", image.familiar())).hint("say it with `--platform`"))
            };
            let mut arm = Descriptor::new(found.media_type().clone(), found.size(), found.digest().clone());
            arm.set_platform(Some(platform));
            arm.set_artifact_type(manifest.artifact_type().clone());
            Ok(vec![arm])
        }
        (Content::Leaf, _) => bail!(Failure::usage(format!("{} is no image", image.familiar()))),
    }
}

/// Puts new arms after those that stay.
fn join(arms: &mut Vec<Descriptor>, new: Vec<Descriptor>, image: &Reference, ctx: &Context) {
    for arm in new {
        if let Some(at) = arms.iter().position(|known| place_of(known) == place_of(&arm)) {
            let old = arms.remove(at);
            if old.digest() != arm.digest() {
                ctx.warn(format!("{} replaces {} for {}", image.familiar(), old.digest(), place_of(&arm)));
            }
        }
        arms.push(arm);
    }
}

/// The place that an arm has in a list: its platform, and whether it is the workloads of that.
fn place_of(arm: &Descriptor) -> String {
    match workloads_of(arm) {
        Some(platform) => format!("the workloads of {platform}"),
        None => arm.platform().as_ref().map_or_else(|| arm.digest().to_string(), platform_string),
    }
}

/// Writes the index and names it. One with the parts of cluster images is a cluster image.
fn write(list: &Reference, arms: Vec<Descriptor>, store: &Store) -> Result<Descriptor> {
    let is_cluster = arms.iter().any(|arm| is_of_cluster(arm, store));
    let builder = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(arms);
    let builder = if is_cluster { builder.artifact_type(MediaType::from(TYPE_CLUSTER)) } else { builder };
    let blob = store.put(&canonical(&builder.build()?)?)?;
    let mut descriptor = Descriptor::new(MediaType::ImageIndex, blob.size, oci_spec::image::Digest::from(blob.digest));
    if is_cluster {
        descriptor.set_artifact_type(Some(MediaType::from(TYPE_CLUSTER)));
    }
    store.tag(list, &descriptor)?;
    Ok(descriptor)
}

/// Whether an arm that is here says something about a cluster.
fn is_of_cluster(arm: &Descriptor, store: &Store) -> bool {
    matches!(store.read_manifest(arm), Ok(Content::Manifest(manifest)) if ClusterConfig::is_in(&manifest))
}
