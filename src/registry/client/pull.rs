//! Pulls an image into the store.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::{Descriptor, Platform};
use tokio::task::spawn_blocking;

use super::Summary;
use super::download::{download, piece};
use super::image_graph::{arms, blobs};
use super::manifest::{self, Manifest};
use super::session::Session;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Content, Reference};
use crate::layer::{LayerVerification, check_layers, check_workloads};
use crate::store::Store;

/// Layers of so many bytes together are looked into when they are pulled. To look into more would take longer than to transfer them, and
/// is left to those who use the image: before hosts are touched, when something is built upon it, and when it is unpacked.
const AT_ONCE: u64 = 64 << 20;

/// A pull under way.
pub struct Pull<'a> {
    /// From where.
    pub session: &'a Session,
    /// Of which platforms; all when empty.
    pub platforms: &'a [Platform],
    /// Where to.
    pub store: &'a Store,
    /// What to report to.
    pub ctx: &'a Context,
    /// Bytes of documents over the wire.
    pub document_bytes: AtomicU64,
}

impl Pull<'_> {
    /// Pulls what `name` points at; `None` if this registry does not have it.
    pub async fn run(&self, name: &Reference) -> Result<Option<(Descriptor, Summary)>> {
        let Some(root) = self.root(name).await? else { return Ok(None) };
        let descriptor = root.descriptor.clone();
        let documents = self.gather(root).await?;
        let blobs = blobs(&documents)?;
        let (present, missing): (Vec<Blob>, Vec<Blob>) = blobs.into_iter().partition(|blob| self.store.has(blob));
        self.store.ensure_room(missing.iter().map(|blob| blob.size).sum(), "to pull")?;
        let moved_blobs = missing.len() as u64;
        let at_once = if self.session.is_near() { self.ctx.near_downloads() } else { self.ctx.transfers() };
        let piece = piece(&missing, at_once);
        let moved_bytes: u64 = stream::iter(missing)
            .map(|blob| download(self.session, blob, piece, self.store, self.ctx))
            .buffer_unordered(at_once)
            .try_fold(0, |sum, moved| async move { Ok(sum + moved) })
            .await?;
        documents.iter().rev().try_for_each(|document| self.keep(document))?;
        self.check(&descriptor).await?;
        let summary = Summary {
            digest: descriptor.digest().to_string(),
            moved_bytes: moved_bytes + self.document_bytes.load(Ordering::Relaxed),
            moved_blobs,
            present_blobs: present.len() as u64,
            mounted_blobs: 0,
        };
        Ok(Some((descriptor, summary)))
    }

    /// Looks whether the image is what it should be, as far as that does not take longer than the transfer.
    async fn check(&self, root: &Descriptor) -> Result<()> {
        let (store, root, ctx) = (self.store.clone(), root.clone(), self.ctx.clone());
        spawn_blocking(move || {
            check_layers(&store, &root, LayerVerification { at_once: Some(AT_ONCE), ..LayerVerification::default() }, &ctx)?;
            check_workloads(&store, &root)
        })
        .await?
    }

    /// The root document: from the store when it is there and the registry says that the name still means it.
    async fn root(&self, name: &Reference) -> Result<Option<Manifest>> {
        if let Some(known) = self.store.resolve(name)?.filter(|known| Blob::try_from(known).is_ok_and(|blob| self.store.has(&blob))) {
            match manifest::head(self.session, name.version(), self.ctx).await? {
                None => return Ok(None),
                Some(now) if now.digest() == known.digest() => {
                    return Manifest::new(known.clone(), self.store.read(&Blob::try_from(&known)?)?).map(Some);
                }
                Some(_) => {}
            }
        }
        let root = manifest::get(self.session, name.version(), name.digest(), self.ctx).await?;
        self.count(root.as_ref());
        Ok(root)
    }

    /// The root and all documents below it that are wanted, each after the one that names it.
    async fn gather(&self, root: Manifest) -> Result<Vec<Manifest>> {
        let mut documents = vec![root];
        let mut next = 0;
        while let Some(document) = documents.get(next) {
            if let Content::Index(index) = &document.content {
                for arm in arms(index, self.platforms)? {
                    documents.push(self.arm(arm).await?);
                }
            }
            next += 1;
        }
        Ok(documents)
    }

    async fn arm(&self, arm: Descriptor) -> Result<Manifest> {
        let blob = Blob::try_from(&arm)?;
        if self.store.has(&blob) {
            return Manifest::new(arm, self.store.read(&blob)?);
        }
        let version = blob.digest.to_string();
        let found = manifest::get(self.session, &version, Some(blob.digest), self.ctx).await?;
        self.count(found.as_ref());
        let found = found.with_context(|| {
            Failure::failed(format!("{} has no manifest {version}, which the index of the image lists", self.session.place()))
                .hint("push the image again, or pull other platforms with `--platform`")
        })?;
        Manifest::new(arm, found.bytes)
    }

    fn count(&self, document: Option<&Manifest>) {
        self.document_bytes.fetch_add(document.map_or(0, |document| document.bytes.len() as u64), Ordering::Relaxed);
    }

    fn keep(&self, document: &Manifest) -> Result<()> {
        self.store.put_known(&Blob::try_from(&document.descriptor)?, &document.bytes)
    }
}
