//! Builds a cluster image from a Kubefile. The steps are a pipeline, and each is a file:
//!
//! ```text
//! Kubefile
//!    │
//!    ▼ prepare              parses the text, pulls FROM images, downloads URLs
//!    ▼ plan                 resolves variables and paths, reports all errors at once
//!    ▼ execute              walks the instructions, stage after stage
//!    ├── instruction_cache  the key is known: reuses the layers
//!    ├── sandbox            RUN: runs the command in an unpacked rootfs
//!    ▼ layers               packs what changed
//!    ▼ workloads            finds and fetches container images
//!    ▼ index                writes config, manifests and index, and tags it
//!    │
//! image in the store
//! ```
//!
//! | step | what it uses |
//! |---|---|
//! | `prepare` | `stage_sources`, `base_image`, `download`, `lock_file`, `context` with `ignore_file` |
//! | `plan` | `variables`, `app_kind` |
//! | `execute` | `stage`, `copy_destination`, `copy_from`, `add_archive`, `chown`, `rootfs_view` |
//! | `instruction_cache` | `cache_key`, `file_digests`, `cache_from`, `prune_cache` |
//! | `sandbox` | `rootfs`, `run_diff`, `user_namespace`, `scratch_dir` |
//! | `layers` | `layer_cache` |
//! | `workloads` | `image_sources`, `charts`, `value_provenance` |
//!
//! `sealift build --check` goes the same way and stops before images are fetched; `execute::Mode` is all that differs. Layers are packed
//! straight from the context's files: a rootfs is unpacked only when a RUN needs one. The same inputs give the same digest, wherever and
//! whenever they are built.
//!
//! `merge` and `manifest_list` make images of images that are built already.

mod add_archive;
mod app_kind;
mod base_image;
mod cache_from;
mod cache_key;
mod charts;
mod chown;
mod context;
mod copy_destination;
mod copy_from;
mod download;
mod execute;
mod file_digests;
mod ignore_file;
mod image_sources;
mod index;
mod instruction_cache;
mod launched_charts;
mod layer_cache;
mod layers;
mod lock_file;
pub mod manifest_list;
mod merge;
mod options;
mod path_encoding;
mod plan;
mod prepare;
mod prune_cache;
mod rootfs;
mod rootfs_view;
mod run_diff;
mod sandbox;
mod scratch_dir;
mod stage;
mod stage_sources;
#[cfg(test)]
mod test_support;
pub mod user_namespace;
mod value_provenance;
mod variables;
mod workloads;

use std::sync::Arc;

use anyhow::Result;
use oci_spec::image::Platform;
use serde::Serialize;

use crate::events::Context;
use crate::image::{Digest, Reference};
use crate::registry::client::Client;
use crate::store::Store;
use crate::workloads::RequiredImages;

pub use lock_file::LockFile;
pub use merge::merge;
pub use options::{Options, Pull};
pub use prune_cache::prune;

use execute::{Mode, execute};
use index::PlatformImage;
use prepare::{Prepared, prepare};

/// The image that a build made.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// The image's name.
    pub name: Reference,
    /// The digest of its index.
    pub digest: Digest,
    /// Whether the name pointed at this image before.
    pub unchanged: bool,
    /// The number of the rootfs's layers; for several platforms, the highest.
    pub layers: usize,
    /// The number of container images in it; for several platforms, the highest.
    pub images: usize,
    /// Container images that were not found, with `--allow-missing`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Reference>,
    /// The digests of everything that it was built from by name.
    #[serde(skip)]
    pub lock_file: LockFile,
}

/// What a build would need, without building it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The container images that the build would fetch, and what could not be decided.
    #[serde(rename = "wanted")]
    pub required: RequiredImages,
    /// Whether a RUN or COPY --from may require more: only building it shows that.
    #[serde(rename = "runs")]
    pub is_partial: bool,
}

/// Builds an image for each of the platforms into the store, and tags their index.
///
/// # Errors
/// Fails with everything that is wrong in the Kubefile at once, of kind `Usage`; with the instruction that failed; with all container
/// images that are missing or not trusted. The name still points at what it did before then.
pub async fn build(options: Options, platforms: &[Platform], client: &Client, store: &Store, ctx: &Context) -> Result<Built> {
    let _lock = store.lock_shared()?;
    let name = options.name.clone();
    let mut images = Vec::new();
    for platform in platforms {
        images.push(build_platform(Options { platform: platform.clone(), ..options.clone() }, client, store, ctx).await?);
    }
    ctx.check()?;
    let store = store.clone();
    tokio::task::spawn_blocking(move || index::write_index(name, images, &store)).await?
}

async fn build_platform(options: Options, client: &Client, store: &Store, ctx: &Context) -> Result<PlatformImage> {
    let (prepared, mut plan) = prepare(options, client, store, ctx).await?;
    let prepared = Arc::new(prepared);
    let (required, plan, stage) = blocking(prepared.clone(), move |prepared| {
        let stage = execute(prepared, &mut plan, Mode::Build)?;
        let required = workloads::required_images(prepared, &plan, &stage)?;
        Ok((required, plan, stage))
    })
    .await?;
    let fetched = workloads::fetch(&prepared, &required, client).await?;
    blocking(prepared, move |prepared| index::write_platform(prepared, &plan, &stage, &required, fetched)).await
}

/// Checks a Kubefile and lists the container images that a build would fetch; builds nothing. Of the image `why` it also says which
/// values of charts its name is made of.
///
/// # Errors
/// Fails with everything that is wrong in the Kubefile at once, of kind `Usage`.
pub async fn check(options: Options, why: Option<Reference>, client: &Client, store: &Store, ctx: &Context) -> Result<Checked> {
    let _lock = store.lock_shared()?;
    let (prepared, mut plan) = prepare(options, client, store, ctx).await?;
    blocking(Arc::new(prepared), move |prepared| {
        let stage = execute(prepared, &mut plan, Mode::Check)?;
        let mut required = workloads::required_images(prepared, &plan, &stage)?;
        if let Some(image) = why {
            workloads::explain(&image, prepared, &plan, &stage, &mut required)?;
        }
        Ok(Checked { required, is_partial: stage.is_partial })
    })
    .await
}

/// Runs a step that reads and writes files, off the async threads.
async fn blocking<T, F>(prepared: Arc<Prepared>, step: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Prepared) -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(move || step(&prepared)).await?
}
