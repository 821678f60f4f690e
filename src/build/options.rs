//! The options of a build, resolved: no flags and no environment from here on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Platform;

use super::lock_file::LockFile;
use crate::chart::Engine;
use crate::error::{Failure, hints_of, kind_of};
use crate::image::{ClusterKind, Reference};
use crate::layer::Compression;
use crate::trust::Policy;

/// A build as it is requested.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the image.
    pub name: Reference,
    /// The name of the Kubefile in messages.
    pub kubefile: String,
    /// The Kubefile's text.
    pub text: String,
    /// The context directory.
    pub context: PathBuf,
    /// The ignore file of this Kubefile, if it has one of its own.
    pub ignore_file: Option<PathBuf>,
    /// The platform to build for.
    pub platform: Platform,
    /// `--build-arg`: values of ARG.
    pub build_args: BTreeMap<String, String>,
    /// Labels, which override the Kubefile's.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the rootfs manifest.
    pub annotations: BTreeMap<String, String>,
    /// Whether the image contains a cluster, or applications only.
    pub kind: ClusterKind,
    /// How layers are compressed.
    pub compression: Compression,
    /// `--no-cache`: every instruction is executed again.
    pub no_cache: bool,
    /// `--cache-from`: images whose layers are reused for the same instructions.
    pub cache_from: Vec<Reference>,
    /// `--locked`: the digests that names must have.
    pub lock: Option<LockFile>,
    /// The engine that renders helm charts. A `helm` in the image's `bin/` is preferred to one of this machine.
    pub engine: Engine,
    /// When images and files are requested from registries and servers.
    pub pull: Pull,
    /// Whether the image contains the container images (`--build-mode all`).
    pub with_images: bool,
    /// More lists of container images: names of files and their texts.
    pub image_lists: Vec<(String, String)>,
    /// Lists of container images to leave out: names of files and their texts.
    pub ignored_image_lists: Vec<(String, String)>,
    /// `--from-archive`: OCI layouts and docker archives that container images are read from.
    pub archives: Vec<PathBuf>,
    /// `--allow-missing`: container images that are not found are warnings.
    pub allow_missing: bool,
    /// Which base images and container images must be signed, and by whom.
    pub policy: Policy,
    /// `SOURCE_DATE_EPOCH`: no time in the image is later. Seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

impl Options {
    /// Says which instruction of the Kubefile an error comes from. `line` counts from 1. Kind and hints stay what they are.
    pub fn at_instruction(&self, line: usize, title: &str, error: anyhow::Error) -> anyhow::Error {
        let mut failure = Failure::new(kind_of(&error), format!("{}:{line}: {title}", self.kubefile));
        failure.hints = hints_of(&error).to_vec();
        error.context(failure)
    }

    /// Says which entry of the lock file an error comes from, if `key` has one.
    pub fn at_lock_entry(&self, key: &str, error: anyhow::Error) -> anyhow::Error {
        match &self.lock {
            Some(lock) => lock.at_entry(key, error),
            None => error,
        }
    }
}

/// When images and files are requested that the store may have (`--pull`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// If the store does not have it.
    #[default]
    Missing,
    /// Always; blobs that the store has are not transferred again.
    Always,
    /// Always, but what the store has is used if the registry is unreachable or does not have it.
    Newer,
    /// Never.
    Never,
}
