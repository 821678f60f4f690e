//! Single documents and blobs, and what refers to an image: for signatures, SBOMs and other artifacts beside images.

use anyhow::{Result, bail};
use oci_spec::image::Descriptor;

use super::download::{download, piece};
use super::manifest::{self, Manifest};
use super::push::put_document;
use super::upload::Upload;
use super::{Client, referrers};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;

impl Client {
    /// What refers to `subject` in the repository of `name` (its tag is not looked at), of one artifact type if told which:
    /// by the referrers API, or by the tag `sha256-<hex>` where a registry has none. Mirrors that list nothing are passed over.
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

    /// The manifest or index that `name` points at, verified, and its bytes (at most 4 MiB); `None` if the registry does not have it.
    pub async fn manifest(&self, name: &Reference, ctx: &Context) -> Result<Option<(Descriptor, Vec<u8>)>> {
        let get = |session| async move { manifest::get(&session, name.version(), name.digest(), ctx).await };
        Ok(self.first_source(name, ctx, get).await?.map(|document| (document.descriptor, document.bytes)))
    }

    /// Puts a manifest or index under the tag or digest of `name`; what it names must be there already. One with a `subject` is
    /// listed among the referrers of that from then on.
    pub async fn push_manifest(&self, name: &Reference, descriptor: &Descriptor, bytes: &[u8], ctx: &Context) -> Result<()> {
        let document = Manifest::new(descriptor.clone(), bytes.to_vec())?;
        let session = self.session(name.registry(), name, vec![format!("repository:{}:pull,push", name.repository())], ctx).await?;
        put_document(&session, name.version(), &document, ctx).await
    }

    /// Gets one blob of the repository of `name` into the store, verified; the bytes that went over the wire.
    pub async fn pull_blob(&self, name: &Reference, blob: &Blob, store: &Store, ctx: &Context) -> Result<u64> {
        if store.has(blob) {
            return Ok(0);
        }
        let _in_use = store.lock_shared()?;
        let pulled = self
            .first_source(name, ctx, |session| async move { download(&session, *blob, piece(&[*blob], 1), store, ctx).await.map(Some) });
        match pulled.await? {
            Some(moved) => Ok(moved),
            None => bail!(Failure::failed(format!("no such blob: {} (not in {}/{})", blob.digest, name.registry(), name.repository()))),
        }
    }

    /// Puts one blob of the store into the repository of `name`, if it is not there; the bytes that went over the wire.
    pub async fn push_blob(&self, name: &Reference, blob: &Blob, store: &Store, ctx: &Context) -> Result<u64> {
        let _in_use = store.lock_shared()?;
        let session = self.session(name.registry(), name, vec![format!("repository:{}:pull,push", name.repository())], ctx).await?;
        let (_, moved) = Upload { session: &session, blob: *blob, store, mount: None }.run(ctx).await?;
        Ok(moved)
    }
}
