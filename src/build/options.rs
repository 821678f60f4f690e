//! What `sealift build` is asked for, resolved: no flags and no environment from here on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Platform;

use super::lock_file::LockFile;
use crate::chart::Engine;
use crate::image::{ClusterKind, Reference};
use crate::layer::Compression;
use crate::trust::Policy;

/// A build.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the image is called.
    pub name: Reference,
    /// What the Kubefile is called in messages.
    pub kubefile: String,
    /// The Kubefile's text.
    pub text: String,
    /// The context directory.
    pub context: PathBuf,
    /// The ignore file that is the Kubefile's own.
    pub ignore_file: Option<PathBuf>,
    /// What it is built for.
    pub platform: Platform,
    /// Values for ARG.
    pub build_args: BTreeMap<String, String>,
    /// Labels that win over the Kubefile's.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the rootfs manifest.
    pub annotations: BTreeMap<String, String>,
    /// Whether the image brings a cluster.
    pub kind: ClusterKind,
    /// How layers are compressed.
    pub compression: Compression,
    /// Whether every instruction is carried out again.
    pub no_cache: bool,
    /// Images whose layers are taken for instructions that are the same.
    pub cache_from: Vec<Reference>,
    /// What names have to stand for (`--locked`).
    pub lock: Option<LockFile>,
    /// What renders helm charts; a `helm` in the image's `bin/` goes before the one given here.
    pub engine: Engine,
    /// When the base image and the container images are asked for in registries.
    pub pull: Pull,
    /// Whether container images are brought along (`--build-mode all`).
    pub with_images: bool,
    /// More lists of container images: what they are called, their text.
    pub image_lists: Vec<(String, String)>,
    /// Lists of container images to leave out.
    pub ignored_image_lists: Vec<(String, String)>,
    /// OCI layouts to take container images from.
    pub archives: Vec<PathBuf>,
    /// Whether container images that are nowhere are only warned of.
    pub allow_missing: bool,
    /// Which images must be signed to build from them or to be brought along.
    pub policy: Policy,
    /// No time in the image is later: `SOURCE_DATE_EPOCH`, seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// When registries and servers are asked for what the store may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// When the store does not have it.
    #[default]
    Missing,
    /// Always; what has the same digest is not moved again.
    Always,
    /// Always, but what the store has is taken where the registry cannot be reached or has none.
    Newer,
    /// Never.
    Never,
}
