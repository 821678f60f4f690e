//! Pushes an image out of the store.

use std::collections::HashMap;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::Descriptor;

use super::Summary;
use super::image_graph::ImageGraph;
use super::manifest::{self, Manifest};
use super::referrers::enlist;
use super::session::Session;
use super::upload::{Moved, Upload};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Algorithm, Digest, Reference, subject_of};
use crate::store::Store;

/// A push under way.
pub struct Push<'a> {
    /// Where to.
    pub session: &'a Session,
    /// What.
    pub tree: &'a ImageGraph,
    /// Where from.
    pub store: &'a Store,
    /// Other repositories of the registry, by the blobs that they have.
    pub elsewhere: &'a HashMap<Digest, String>,
    /// What to report to.
    pub ctx: &'a Context,
}

impl Push<'_> {
    /// Pushes it under `name`: blobs in parallel, then the documents, those that are named before those that name them.
    pub async fn run(&self, name: &Reference) -> Result<Summary> {
        self.check_absent(name).await?;
        let root = self.tree.documents.first().expect("a tree has a root");
        let summary = Summary { digest: root.descriptor.digest().to_string(), ..Summary::default() };
        let mut summary = stream::iter(self.tree.blobs()?)
            .map(|blob| async move {
                let mount = self.elsewhere.get(&blob.digest).cloned();
                Upload { session: self.session, blob, store: self.store, mount }.run(self.ctx).await
            })
            .buffer_unordered(self.ctx.transfers())
            .try_fold(summary, |summary, moved| async move { Ok(counted(summary, moved)) })
            .await?;
        for document in self.tree.documents[1..].iter().rev() {
            summary.moved_bytes += self.put(document, document.descriptor.digest().as_ref()).await?;
        }
        let digest = Digest::try_from(root.descriptor.digest())?;
        if digest.algorithm() != Algorithm::Sha256 {
            // under a tag a registry knows it by the digest that it computes itself
            summary.moved_bytes += self.put(root, &digest.to_string()).await?;
        }
        summary.moved_bytes += self.put(root, name.version()).await?;
        Ok(summary)
    }

    /// Arms that are not in the store must be in the registry, or its index would name what nobody has.
    async fn check_absent(&self, name: &Reference) -> Result<()> {
        for arm in &self.tree.absent {
            if manifest::head(self.session, arm.digest().as_ref(), self.ctx).await?.is_none() {
                let platform = arm
                    .platform()
                    .as_ref()
                    .map_or_else(String::new, |platform| format!(" for {}", crate::image::platform_string(platform)));
                let message = format!("{} is incomplete in the store: manifest {}{platform} is missing", name.familiar(), arm.digest());
                return Err(Failure::failed(message).hint("pull it again without `--platform`, then push").into());
            }
        }
        Ok(())
    }

    /// Puts a document unless the registry has just it; the bytes that went over the wire.
    async fn put(&self, document: &Manifest, version: &str) -> Result<u64> {
        self.ctx.check()?;
        // one that refers to another is put again: an earlier push may have ended before it was listed
        if subject_of(&document.content)?.is_none() {
            let there = manifest::head(self.session, version, self.ctx).await?;
            let is_same = |there: Descriptor| Digest::try_from(there.digest()).is_ok_and(|digest| digest.alike(&document.bytes) == digest);
            if there.is_some_and(is_same) {
                return Ok(0);
            }
        }
        put_document(self.session, version, document, self.ctx).await?;
        Ok(document.bytes.len() as u64)
    }
}

/// Puts a document, and sees to it that it is listed where it refers to another.
pub async fn put_document(session: &Session, version: &str, document: &Manifest, ctx: &Context) -> Result<()> {
    let listed = manifest::put(session, version, document, ctx).await?;
    match subject_of(&document.content)? {
        Some(subject) if !listed => enlist(session, &subject, document, ctx).await,
        _ => Ok(()),
    }
}

fn counted(mut summary: Summary, (moved, bytes): (Moved, u64)) -> Summary {
    summary.moved_bytes += bytes;
    match moved {
        Moved::Present => summary.present_blobs += 1,
        Moved::Mounted => summary.mounted_blobs += 1,
        Moved::Sent => summary.moved_blobs += 1,
    }
    summary
}
