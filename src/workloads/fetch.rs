//! Fetches the required container images into the store: from archives on this machine, from what the store has, and from registries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use futures_util::{StreamExt as _, stream};
use oci_spec::image::{Descriptor, Platform};

use super::image_archive::ImageArchive;
use super::image_blobs::{Blobs, gather};
use super::required_images::{RequiredBy, RequiredImages};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Unit};
use crate::image::{Blob, Digest, Reference};
use crate::registry::client::Client;
use crate::store::Store;

/// The number of images that are fetched at the same time; each fetches several blobs at the same time.
const PARALLEL_IMAGES: usize = 3;

/// Where images come from.
pub struct Sources {
    /// Archives on this machine, tried first, in this order.
    pub archives: Vec<Arc<ImageArchive>>,
    /// The client of mirrors and registries, for images that are nowhere else.
    pub client: Client,
    /// The roots (manifest or index) that an earlier build fetched for these names.
    pub known: BTreeMap<Reference, Descriptor>,
    /// The digests that images must have (`Kubefile.lock`).
    pub locked: BTreeMap<Reference, Digest>,
    /// Whether a missing image is a warning and no error.
    pub allow_missing: bool,
}

/// The result of [`Sources::fetch`].
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The blobs of each image, its root first.
    pub images: BTreeMap<Reference, Blobs>,
    /// Images that could not be fetched, if that is allowed.
    pub missing: Vec<Reference>,
}

impl Sources {
    /// Fetches all required images for one platform.
    ///
    /// # Errors
    /// One error lists all images that could not be fetched, each with the places that require it. It is of kind `Network` if all of them
    /// failed for that.
    pub async fn fetch(&self, required: &RequiredImages, platform: &Platform, store: &Store, ctx: &Context) -> Result<Fetched> {
        let failures = Mutex::new(Vec::new());
        let images: Vec<(Reference, Blobs)> = stream::iter(&required.images)
            .map(|(name, required_by)| self.try_fetch(name, required_by, platform, store, ctx, &failures))
            .buffer_unordered(PARALLEL_IMAGES)
            .filter_map(std::future::ready)
            .collect()
            .await;
        ctx.check()?;
        let mut failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.sort_by(|a: &Missing, b| a.name.cmp(&b.name));
        if !self.allow_missing && !failures.is_empty() {
            return Err(all_missing(&failures));
        }
        for missing in &failures {
            ctx.warn(format!("container image {} is missing in the cluster image: {:#}", missing.name, missing.error));
        }
        Ok(Fetched { images: images.into_iter().collect(), missing: failures.into_iter().map(|missing| missing.name).collect() })
    }

    async fn try_fetch(
        &self,
        name: &Reference,
        required_by: &RequiredBy,
        platform: &Platform,
        store: &Store,
        ctx: &Context,
        failures: &Mutex<Vec<Missing>>,
    ) -> Option<(Reference, Blobs)> {
        match self.fetch_one(name, platform, store, ctx).await {
            Ok(blobs) => Some((name.clone(), blobs)),
            Err(error) => {
                let missing = Missing { name: name.clone(), places: required_by.places.iter().map(ToString::to_string).collect(), error };
                failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(missing);
                None
            }
        }
    }

    async fn fetch_one(&self, name: &Reference, platform: &Platform, store: &Store, ctx: &Context) -> Result<Blobs> {
        ctx.check()?;
        let locked = self.locked.get(name);
        let fits = |root: &&Descriptor| locked.is_none_or(|digest| digest.to_string() == root.digest().to_string());
        for archive in &self.archives {
            if let Some(root) = archive.find(name).filter(fits) {
                let (archive, name, root, platform) = (archive.clone(), name.clone(), root.clone(), platform.clone());
                let (store, ctx) = (store.clone(), ctx.clone());
                return tokio::task::spawn_blocking(move || from_archive(&archive, &name, &root, &platform, &store, &ctx)).await?;
            }
        }
        if let Some(root) = self.known.get(name).filter(fits)
            && let Ok(blobs) = gather(name, root, platform, store, |blob| ensure_stored(blob, store))
        {
            return Ok(blobs);
        }
        let exact = locked.map_or_else(|| name.clone(), |digest| name.with_digest(*digest));
        let (root, _) = self.client.pull(&exact, std::slice::from_ref(platform), store, ctx).await?;
        gather(name, &root, platform, store, |blob| ensure_stored(blob, store))
    }
}

fn from_archive(
    archive: &ImageArchive,
    name: &Reference,
    root: &Descriptor,
    platform: &Platform,
    store: &Store,
    ctx: &Context,
) -> Result<Blobs> {
    if let Ok(blobs) = gather(name, root, platform, store, |blob| ensure_stored(blob, store)) {
        return Ok(blobs);
    }
    let task = ctx.task(format!("copy {}", name.familiar()), None, Unit::Bytes);
    let blobs = gather(name, root, platform, store, |blob| {
        archive.fetch(blob, store, ctx)?;
        task.advance(blob.size);
        Ok(())
    })?;
    task.done("");
    Ok(blobs)
}

fn ensure_stored(blob: &Blob, store: &Store) -> Result<()> {
    match store.has(blob) {
        true => Ok(()),
        false => Err(Failure::failed(format!("blob {} is not in the store", blob.digest)).into()),
    }
}

struct Missing {
    name: Reference,
    places: Vec<String>,
    error: anyhow::Error,
}

fn all_missing(failures: &[Missing]) -> anyhow::Error {
    let lines: Vec<String> = failures
        .iter()
        .map(|missing| format!("  {} (required by {}): {:#}", missing.name.familiar(), missing.places.join(", "), missing.error))
        .collect();
    let is_network = failures.iter().all(|missing| kind_of(&missing.error) == Kind::Network);
    let kind = if is_network { Kind::Network } else { kind_of(&failures[0].error) };
    let noun = if failures.len() == 1 { "container image is" } else { "container images are" };
    Failure::new(kind, format!("{} {noun} missing:\n{}", failures.len(), lines.join("\n")))
        .hint("fetch them from an archive on this machine with `--from-archive PATH`, or from another registry with `--mirror docker.io=HOST:PORT`")
        .hint("list images that are not needed in `.imageignore`, or build without the missing ones with `--allow-missing`")
        .into()
}
