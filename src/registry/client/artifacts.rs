//! Pulls and pushes single manifests and blobs, and lists referrers: for signatures, SBOMs and other artifacts.

use anyhow::{Result, bail};
use oci_spec::image::Descriptor;

use super::download::{download, range_size};
use super::manifest::{self, Manifest};
use super::push::put_manifest;
use super::upload::Upload;
use super::{Client, referrers};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;

impl Client {
    /// Lists the referrers of `subject` in the repository of `name` (its tag is ignored), optionally of one artifact type: by the
    /// referrers API, or by the referrers tag `sha256-<hex>` if the registry has no such API. Mirrors without referrers are skipped.
    pub async fn referrers(
        &self,
        name: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
        ctx: &Context,
    ) -> Result<Vec<Descriptor>> {
        let listed = self.first_source(name, ctx, |session| async move {
            let found = referrers::list(&session, subject, artifact_type, ctx).await?;
            Ok((!found.is_empty()).then_some(found))
        });
        Ok(listed.await?.unwrap_or_default())
    }

    /// Gets the manifest or index of `name`, verified, with its bytes (at most 4 MiB); `None` if the registry does not have it.
    pub async fn manifest(&self, name: &Reference, ctx: &Context) -> Result<Option<(Descriptor, Vec<u8>)>> {
        let get = |session| async move { manifest::get(&session, name.version(), name.digest(), ctx).await };
        Ok(self.first_source(name, ctx, get).await?.map(|manifest| (manifest.descriptor, manifest.bytes)))
    }

    /// Puts a manifest or index under the tag or digest of `name`; its blobs must be in the registry already. One with a `subject`
    /// is added to the referrers of that.
    pub async fn push_manifest(&self, name: &Reference, descriptor: &Descriptor, bytes: &[u8], ctx: &Context) -> Result<()> {
        let manifest = Manifest::new(descriptor.clone(), bytes.to_vec())?;
        let session = self.session(name.registry(), name, vec![format!("repository:{}:pull,push", name.repository())], ctx).await?;
        put_manifest(&session, name.version(), &manifest, ctx).await
    }

    /// Pulls one blob of the repository of `name` into the store; returns the transferred bytes.
    pub async fn pull_blob(&self, name: &Reference, blob: &Blob, store: &Store, ctx: &Context) -> Result<u64> {
        if store.has(blob) {
            return Ok(0);
        }
        let _in_use = store.lock_shared()?;
        let pulled = self.first_source(name, ctx, |session| async move {
            download(&session, *blob, range_size(&[*blob], 1), store, ctx).await.map(Some)
        });
        match pulled.await? {
            Some(moved) => Ok(moved),
            None => bail!(Failure::failed(format!("no such blob: {} (not in {}/{})", blob.digest, name.registry(), name.repository()))),
        }
    }

    /// Pushes one blob of the store to the repository of `name` unless it is there; returns the transferred bytes.
    pub async fn push_blob(&self, name: &Reference, blob: &Blob, store: &Store, ctx: &Context) -> Result<u64> {
        let _in_use = store.lock_shared()?;
        let session = self.session(name.registry(), name, vec![format!("repository:{}:pull,push", name.repository())], ctx).await?;
        let (_, moved) = Upload { session: &session, blob: *blob, store, mount: None }.run(ctx).await?;
        Ok(moved)
    }
}
