//! Pushes an image out of the store.

use std::collections::HashMap;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::Descriptor;

use super::Summary;
use super::image_graph::ImageGraph;
use super::manifest::{self, Manifest};
use super::referrers::ensure_listed;
use super::session::Session;
use super::upload::{Upload, UploadOutcome};
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Algorithm, Digest, Reference, subject_of};
use crate::store::Store;

/// A push of one image.
pub struct Push<'a> {
    /// The repository to push to.
    pub session: &'a Session,
    /// The image.
    pub graph: &'a ImageGraph,
    /// The store to push from.
    pub store: &'a Store,
    /// For blobs: another repository of the registry to mount them from.
    pub mount_candidates: &'a HashMap<Digest, String>,
    /// Receives progress.
    pub ctx: &'a Context,
}

impl Push<'_> {
    /// Pushes the image to `name`: blobs in parallel, then the manifests, children before parents.
    pub async fn run(&self, name: &Reference) -> Result<Summary> {
        self.check_missing(name).await?;
        let root = self.graph.manifests.first().expect("a graph has a root");
        let summary = Summary { digest: root.descriptor.digest().to_string(), ..Summary::default() };
        let blobs = self.graph.blobs()?;
        let whole = self.ctx.task(format!("push {}", name.familiar()), Some(blobs.iter().map(|blob| blob.size).sum()), Unit::Bytes);
        let parts = &self.ctx.within(&whole);
        let mut summary = stream::iter(blobs)
            .map(|blob| async move {
                let mount = self.mount_candidates.get(&blob.digest).cloned();
                Upload { session: self.session, blob, store: self.store, mount }.run(parts).await
            })
            .buffer_unordered(self.ctx.transfers())
            .try_fold(summary, |summary, moved| async move { Ok(add_blob(summary, moved)) })
            .await?;
        whole.done("");
        for manifest in self.graph.manifests[1..].iter().rev() {
            summary.moved_bytes += self.put(manifest, manifest.descriptor.digest().as_ref()).await?;
        }
        let digest = Digest::try_from(root.descriptor.digest())?;
        if digest.algorithm() != Algorithm::Sha256 {
            // for a tag, the registry computes a digest of its own
            summary.moved_bytes += self.put(root, &digest.to_string()).await?;
        }
        summary.moved_bytes += self.put(root, name.version()).await?;
        Ok(summary)
    }

    /// Fails unless the registry has the manifests that are missing in the store: the index lists them.
    async fn check_missing(&self, name: &Reference) -> Result<()> {
        for missing in &self.graph.missing {
            if manifest::head(self.session, missing.digest().as_ref(), self.ctx).await?.is_none() {
                let platform = missing
                    .platform()
                    .as_ref()
                    .map_or_else(String::new, |platform| format!(" for {}", crate::image::platform_string(platform)));
                let message = format!("{} is incomplete in the store: manifest {}{platform} is missing", name.familiar(), missing.digest());
                return Err(Failure::failed(message).hint("pull it again without `--platform`, then push").into());
            }
        }
        Ok(())
    }

    /// Puts a manifest unless the registry has it already; returns the transferred bytes.
    async fn put(&self, manifest: &Manifest, version: &str) -> Result<u64> {
        self.ctx.check()?;
        // a referrer is always put again: an earlier push may have ended before it was listed
        if subject_of(&manifest.content)?.is_none() {
            let existing = manifest::head(self.session, version, self.ctx).await?;
            let is_same = |existing: Descriptor| {
                Digest::try_from(existing.digest()).is_ok_and(|digest| digest.of_same_algorithm(&manifest.bytes) == digest)
            };
            if existing.is_some_and(is_same) {
                return Ok(0);
            }
        }
        put_manifest(self.session, version, manifest, self.ctx).await?;
        Ok(manifest.bytes.len() as u64)
    }
}

/// Puts a manifest, and makes sure that it is listed as a referrer if it has a `subject`.
pub async fn put_manifest(session: &Session, version: &str, manifest: &Manifest, ctx: &Context) -> Result<()> {
    let listed = manifest::put(session, version, manifest, ctx).await?;
    match subject_of(&manifest.content)? {
        Some(subject) if !listed => ensure_listed(session, &subject, manifest, ctx).await,
        _ => Ok(()),
    }
}

fn add_blob(mut summary: Summary, (moved, bytes): (UploadOutcome, u64)) -> Summary {
    summary.moved_bytes += bytes;
    match moved {
        UploadOutcome::Exists => summary.present_blobs += 1,
        UploadOutcome::Mounted => summary.mounted_blobs += 1,
        UploadOutcome::Pushed => summary.moved_blobs += 1,
    }
    summary
}
