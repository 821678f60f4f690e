//! Shared by the tests of this module.

use std::path::Path;

use super::options::{Options, Pull};
use crate::image::{ClusterKind, parse_platform};
use crate::layer::Compression;

/// The options of a build of `text`, all others at their defaults.
pub fn options(context: &Path, text: &str) -> Options {
    Options {
        name: "test:1".parse().unwrap(),
        kubefile: "Kubefile".to_owned(),
        text: text.to_owned(),
        context: context.to_owned(),
        ignore_file: None,
        platform: parse_platform("linux/amd64").unwrap(),
        build_args: Default::default(),
        labels: Default::default(),
        annotations: Default::default(),
        kind: ClusterKind::KubeInstaller,
        compression: Compression::Zstd,
        no_cache: false,
        cache_from: Vec::new(),
        lock: None,
        engine: Default::default(),
        pull: Pull::Missing,
        with_images: true,
        image_lists: Vec::new(),
        ignored_image_lists: Vec::new(),
        archives: Vec::new(),
        allow_missing: false,
        policy: Default::default(),
        source_date_epoch: None,
    }
}
