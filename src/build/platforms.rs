//! Lists of images for several platforms: an index made of images that were built apart, as `docker manifest` and `buildah manifest` do.

use anyhow::{Result, bail};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType, Platform};

use crate::error::Failure;
use crate::events::Job;
use crate::image::{ANNOTATION_PLATFORM, ClusterConfig, Content, Name, TYPE_CLUSTER, canonical, platform_string};
use crate::store::Store;

/// Makes a list of images under a name that has no image yet.
///
/// # Errors
/// Of kind `Usage` if the name is taken; see [`add`].
pub fn create(list: &Name, images: &[Name], store: &Store, job: &Job) -> Result<Descriptor> {
    if store.resolve(list)?.is_some() {
        return Err(Failure::usage(format!("{} is there already", list.familiar()))
            .hint(format!("`sealift manifest add {0} IMAGE` adds to it, `sealift rmi {0}` removes the name", list.familiar()))
            .into());
    }
    let mut arms = Vec::new();
    for image in images {
        join(&mut arms, arms_of(image, None, store)?, image, job);
    }
    write(list, arms, store)
}

/// Adds an image to a list: all of its platforms, or the one image as one for `platform`. What the list has for the same platform
/// is replaced, and a warning says so.
///
/// # Errors
/// Of kind `Usage` if the name is no list, or it is not known what platform the image is for.
pub fn add(list: &Name, image: &Name, platform: Option<&Platform>, store: &Store, job: &Job) -> Result<Descriptor> {
    let mut arms = index_of(list, store)?.manifests().clone();
    join(&mut arms, arms_of(image, platform, store)?, image, job);
    write(list, arms, store)
}

/// The index that a name points at.
///
/// # Errors
/// Of kind `Usage` if it points at one image.
pub fn index_of(list: &Name, store: &Store) -> Result<ImageIndex> {
    match store.document(&store.find(list)?)? {
        Content::Index(index) => Ok(*index),
        _ => Err(Failure::usage(format!("{} is one image, not a list of several", list.familiar()))
            .hint("`sealift manifest create LIST IMAGE…` makes a list")
            .into()),
    }
}

/// What an image adds to a list.
fn arms_of(image: &Name, platform: Option<&Platform>, store: &Store) -> Result<Vec<Descriptor>> {
    let found = store.find(image)?;
    match (store.document(&found)?, platform) {
        (Content::Index(index), None) => Ok(index.manifests().clone()),
        (Content::Index(_), Some(_)) => {
            bail!(Failure::usage(format!("{} is for several platforms itself", image.familiar())).hint("leave `--platform` out"))
        }
        (Content::Manifest(manifest), platform) => {
            let known = store.survey(&found)?.into_iter().next().map(|part| part.platform);
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
fn join(arms: &mut Vec<Descriptor>, new: Vec<Descriptor>, image: &Name, job: &Job) {
    for arm in new {
        if let Some(at) = arms.iter().position(|known| place_of(known) == place_of(&arm)) {
            let old = arms.remove(at);
            if old.digest() != arm.digest() {
                job.warn(format!("{} replaces {} for {}", image.familiar(), old.digest(), place_of(&arm)));
            }
        }
        arms.push(arm);
    }
}

/// The place that an arm has in a list: its platform, and whether it is the workloads of that.
fn place_of(arm: &Descriptor) -> String {
    match arm.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_PLATFORM)) {
        Some(platform) => format!("the workloads of {platform}"),
        None => arm.platform().as_ref().map_or_else(|| arm.digest().to_string(), platform_string),
    }
}

/// Writes the index and names it. One with the parts of cluster images is a cluster image.
fn write(list: &Name, arms: Vec<Descriptor>, store: &Store) -> Result<Descriptor> {
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
    matches!(store.document(arm), Ok(Content::Manifest(manifest)) if ClusterConfig::is_in(&manifest))
}
