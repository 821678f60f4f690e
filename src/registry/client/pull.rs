//! Pulls an image into the store.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::{Descriptor, Platform};
use tokio::task::spawn_blocking;

use super::Summary;
use super::download::{download, range_size};
use super::image_graph::{blobs, manifests_for};
use super::manifest::{self, Manifest};
use super::session::Session;
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Blob, Content, Reference};
use crate::layer::{LayerVerification, check_layers, check_workloads};
use crate::store::Store;

/// Layers up to this total size in bytes are verified when they are pulled. Verifying more would take longer than the transfer, and is
/// left to the users of the image: `run` before it changes hosts, `build` with it as base, and unpacking.
const CHECK_LIMIT: u64 = 64 << 20;

/// A pull of one image from one registry.
pub struct Pull<'a> {
    /// The repository to pull from.
    pub session: &'a Session,
    /// The platforms to pull; all if empty.
    pub platforms: &'a [Platform],
    /// The store to pull into.
    pub store: &'a Store,
    /// Receives progress.
    pub ctx: &'a Context,
    /// Transferred bytes of manifests.
    pub manifest_bytes: AtomicU64,
}

impl Pull<'_> {
    /// Pulls the image; `None` if this registry does not have it.
    pub async fn run(&self, name: &Reference) -> Result<Option<(Descriptor, Summary)>> {
        let Some(root) = self.root(name).await? else { return Ok(None) };
        let descriptor = root.descriptor.clone();
        let manifests = self.fetch_manifests(root).await?;
        let blobs = blobs(&manifests)?;
        let (present, missing): (Vec<Blob>, Vec<Blob>) = blobs.into_iter().partition(|blob| self.store.has(blob));
        self.store.ensure_disk_space(missing.iter().map(|blob| blob.size).sum(), "to pull")?;
        let moved_blobs = missing.len() as u64;
        let at_once = if self.session.is_near() { self.ctx.near_downloads() } else { self.ctx.transfers() };
        let range_size = range_size(&missing, at_once);
        let whole = self.ctx.task(format!("pull {}", name.familiar()), Some(missing.iter().map(|blob| blob.size).sum()), Unit::Bytes);
        let parts = self.ctx.within(&whole);
        let moved_bytes: u64 = stream::iter(missing)
            .map(|blob| download(self.session, blob, range_size, self.store, &parts))
            .buffer_unordered(at_once)
            .try_fold(0, |sum, moved| async move { Ok(sum + moved) })
            .await?;
        whole.done("");
        manifests.iter().rev().try_for_each(|manifest| self.store_manifest(manifest))?;
        self.check(&descriptor).await?;
        let summary = Summary {
            digest: descriptor.digest().to_string(),
            moved_bytes: moved_bytes + self.manifest_bytes.load(Ordering::Relaxed),
            moved_blobs,
            present_blobs: present.len() as u64,
            mounted_blobs: 0,
        };
        Ok(Some((descriptor, summary)))
    }

    /// Verifies layers up to [`CHECK_LIMIT`], and the workloads.
    async fn check(&self, root: &Descriptor) -> Result<()> {
        let (store, root, ctx) = (self.store.clone(), root.clone(), self.ctx.clone());
        spawn_blocking(move || {
            check_layers(&store, &root, LayerVerification { max_total: Some(CHECK_LIMIT), ..LayerVerification::default() }, &ctx)?;
            check_workloads(&store, &root)
        })
        .await?
    }

    /// The root manifest: from the store if the registry still has the same digest for the name.
    async fn root(&self, name: &Reference) -> Result<Option<Manifest>> {
        if let Some(known) = self.store.resolve(name)?.filter(|known| Blob::try_from(known).is_ok_and(|blob| self.store.has(&blob))) {
            match manifest::head(self.session, name.version(), self.ctx).await? {
                None => return Ok(None),
                Some(current) if current.digest() == known.digest() => {
                    return Manifest::new(known.clone(), self.store.read(&Blob::try_from(&known)?)?).map(Some);
                }
                Some(_) => {}
            }
        }
        let root = manifest::get(self.session, name.version(), name.digest(), self.ctx).await?;
        self.count_bytes(root.as_ref());
        Ok(root)
    }

    /// The root and all manifests below it for the requested platforms, each after its parent.
    async fn fetch_manifests(&self, root: Manifest) -> Result<Vec<Manifest>> {
        let mut manifests = vec![root];
        let (mut next, mut not_built) = (0, None);
        while let Some(manifest) = manifests.get(next) {
            if let Content::Index(index) = &manifest.content {
                match manifests_for(index, self.platforms) {
                    Ok(entries) => {
                        for entry in entries {
                            manifests.push(self.child(entry).await?);
                        }
                    }
                    // another nested index may be for the platform
                    Err(error) => drop(not_built.get_or_insert(error)),
                }
            }
            next += 1;
        }
        match not_built {
            Some(error) if !manifests.iter().any(|manifest| matches!(manifest.content, Content::Manifest(_))) => Err(error),
            _ => Ok(manifests),
        }
    }

    async fn child(&self, entry: Descriptor) -> Result<Manifest> {
        let blob = Blob::try_from(&entry)?;
        if self.store.has(&blob) {
            return Manifest::new(entry, self.store.read(&blob)?);
        }
        let version = blob.digest.to_string();
        let found = manifest::get(self.session, &version, Some(blob.digest), self.ctx).await?;
        self.count_bytes(found.as_ref());
        let found = found.with_context(|| {
            Failure::failed(format!("{} has no manifest {version}, which the index of the image lists", self.session.repository()))
                .hint("push the image again, or pull other platforms with `--platform`")
        })?;
        Manifest::new(entry, found.bytes)
    }

    fn count_bytes(&self, manifest: Option<&Manifest>) {
        self.manifest_bytes.fetch_add(manifest.map_or(0, |manifest| manifest.bytes.len() as u64), Ordering::Relaxed);
    }

    fn store_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.store.put_verified(&Blob::try_from(&manifest.descriptor)?, &manifest.bytes)
    }
}
