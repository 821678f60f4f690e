//! Brings the wanted container images into the store: from what it has, from archives, from mirrors and registries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use futures_util::{StreamExt as _, stream};
use oci_spec::image::{Descriptor, Platform};

use super::image_archive::ImageArchive;
use super::image_blobs::{Blobs, gather};
use super::required_images::{Asked, RequiredImages};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Unit};
use crate::image::{Blob, Digest, Reference};
use crate::registry::client::Client;
use crate::store::Store;

/// Images are fetched this many at once; each fetches several blobs at once.
const AT_ONCE: usize = 3;

/// Where images come from.
pub struct Sources {
    /// Asked first, in order.
    pub archives: Vec<Arc<ImageArchive>>,
    /// Asked for the rest.
    pub client: Client,
    /// Roots that an earlier build fetched under these names.
    pub known: BTreeMap<Reference, Descriptor>,
    /// Digests that images must have.
    pub locked: BTreeMap<Reference, Digest>,
    /// Whether a missing image is only warned of.
    pub allow_missing: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The blobs of each image, its root first.
    pub images: BTreeMap<Reference, Blobs>,
    /// Images that are nowhere, if that is allowed.
    pub missing: Vec<Reference>,
}

impl Sources {
    /// Fetches all wanted images for one platform. Those that are nowhere are reported together, with who asks for them.
    pub async fn fetch(&self, wanted: &RequiredImages, platform: &Platform, store: &Store, ctx: &Context) -> Result<Fetched> {
        let failures = Mutex::new(Vec::new());
        let images: Vec<(Reference, Blobs)> = stream::iter(&wanted.images)
            .map(|(name, asked)| self.try_one(name, asked, platform, store, ctx, &failures))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        ctx.check()?;
        let mut failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.sort_by(|one: &Missing, other| one.name.cmp(&other.name));
        if !self.allow_missing && !failures.is_empty() {
            return Err(all_missing(&failures));
        }
        for missing in &failures {
            ctx.warn(format!("left out {}: {:#}", missing.name, missing.error));
        }
        Ok(Fetched { images: images.into_iter().collect(), missing: failures.into_iter().map(|one| one.name).collect() })
    }

    async fn try_one(
        &self,
        name: &Reference,
        asked: &Asked,
        platform: &Platform,
        store: &Store,
        ctx: &Context,
        failures: &Mutex<Vec<Missing>>,
    ) -> Option<(Reference, Blobs)> {
        match self.one(name, platform, store, ctx).await {
            Ok(blobs) => Some((name.clone(), blobs)),
            Err(error) => {
                let missing = Missing { name: name.clone(), places: asked.places.iter().map(ToString::to_string).collect(), error };
                failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(missing);
                None
            }
        }
    }

    async fn one(&self, name: &Reference, platform: &Platform, store: &Store, ctx: &Context) -> Result<Blobs> {
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
            && let Ok(blobs) = gather(name, root, platform, store, |blob| is_here(blob, store))
        {
            return Ok(blobs);
        }
        let exact = locked.map_or_else(|| name.clone(), |digest| name.with_digest(*digest));
        let (root, _) = self.client.pull(&exact, std::slice::from_ref(platform), store, ctx).await?;
        gather(name, &root, platform, store, |blob| is_here(blob, store))
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
    if let Ok(blobs) = gather(name, root, platform, store, |blob| is_here(blob, store)) {
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

fn is_here(blob: &Blob, store: &Store) -> Result<()> {
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
        .map(|missing| format!("  {} (asked for by {}): {:#}", missing.name.familiar(), missing.places.join(", "), missing.error))
        .collect();
    let is_network = failures.iter().all(|missing| kind_of(&missing.error) == Kind::Network);
    let kind = if is_network { Kind::Network } else { kind_of(&failures[0].error) };
    let noun = if failures.len() == 1 { "container image is" } else { "container images are" };
    Failure::new(kind, format!("{} {noun} missing:\n{}", failures.len(), lines.join("\n")))
        .hint("take them from a layout on this machine with `--from-archive PATH`, or from another registry with `--mirror docker.io=HOST:PORT`")
        .hint("an image that is not needed goes into `.imageignore`; `--allow-missing` builds without those that are missing")
        .into()
}
