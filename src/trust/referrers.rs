//! Signatures and SBOMs go where their image goes: through registries.

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::Descriptor;

use super::Policy;
use super::signature::{self, is_signatures, signatures_in, tag_of};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::{Blob, Content, Digest, Reference, children, content_of, subject_of};
use crate::registry::client::Client;
use crate::store::Store;

/// Pushes what refers to an image, after the image; how many documents that were.
///
/// Signatures are put under cosign's tag too, together with those that are there.
pub async fn push_referrers(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    for signed in [vec![image.clone()], arms(store, image)?].concat() {
        let digest = Blob::try_from(&signed)?.digest;
        if store.referrers(&digest)?.iter().any(is_signatures) {
            pull_signatures(client, &signed, &name.with_tag(&tag_of(&digest)), store, ctx).await?;
        }
    }
    let referrers = store.referrers_recursive(image)?;
    for referrer in &referrers {
        push_one(client, referrer, name, store, ctx)
            .await
            .with_context(|| format!("push {}, which refers to the image", referrer.digest()))?;
    }
    Ok(referrers.len())
}

async fn push_one(client: &Client, referrer: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<()> {
    let content = store.read_manifest(referrer)?;
    for child in children(&content) {
        client.push_blob(name, &Blob::try_from(&child)?, store, ctx).await?;
    }
    let blob = Blob::try_from(referrer)?;
    let bytes = store.read(&blob)?;
    client.push_manifest(&name.with_digest(blob.digest), referrer, &bytes, ctx).await?;
    match subject_of(&content)? {
        Some(subject) if is_signatures(referrer) => client.push_manifest(&name.with_tag(&tag_of(&subject)), referrer, &bytes, ctx).await,
        _ => Ok(()),
    }
}

/// Brings what refers to a pulled image into the store. A registry that cannot say what that is is no reason to fail.
pub async fn bring_referrers(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<()> {
    match pull_referrers(client, image, name, store, ctx).await {
        Ok(0) => Ok(()),
        Ok(count) => {
            ctx.note(format!("{count} signatures and other documents about {} came along", name.familiar()));
            Ok(())
        }
        Err(error) if kind_of(&error) == Kind::Interrupted => Err(error),
        Err(error) => {
            ctx.warn(format!("signatures of {} were not fetched: {error:#}", name.familiar()));
            Ok(())
        }
    }
}

/// Refuses an image that a build would take in and that the policy does not trust. Signatures that the store does not have are fetched
/// from the registry, if one may be asked.
///
/// # Errors
/// As [`Policy::check`].
pub async fn admit(
    policy: &Policy,
    registry: Option<&Client>,
    name: &Reference,
    image: &Descriptor,
    store: &Store,
    ctx: &Context,
) -> Result<()> {
    let digest = Blob::try_from(image)?.digest;
    if let Some(client) = registry
        && !policy.is_content(store, name, &digest)
    {
        bring_referrers(client, image, name, store, ctx).await?;
    }
    policy.check(store, name, &digest, ctx)
}

/// The manifests that an image of the store names, if it is for several platforms or has container images.
pub fn arms(store: &Store, image: &Descriptor) -> Result<Vec<Descriptor>> {
    if !store.has(&Blob::try_from(image)?) {
        return Ok(Vec::new());
    }
    Ok(match store.read_manifest(image)? {
        Content::Index(index) => index.manifests().clone(),
        _ => Vec::new(),
    })
}

/// Pulls what refers to an image, or to one of its manifests that are here, and keeps it beside the image; how many documents and
/// signatures that were.
pub async fn pull_referrers(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    let _in_use = store.lock_shared()?;
    let mut pulled = pull_those_of(client, image, name, store, ctx).await?;
    for arm in arms(store, image)? {
        if store.has(&Blob::try_from(&arm)?) {
            pulled += pull_those_of(client, &arm, name, store, ctx).await?;
        }
    }
    Ok(pulled)
}

async fn pull_those_of(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    let digest = Blob::try_from(image)?.digest;
    let mut pulled = pull_signatures(client, image, &name.with_tag(&tag_of(&digest)), store, ctx).await?;
    for referrer in client.referrers(name, &digest, None, ctx).await? {
        let one = name.with_digest(Blob::try_from(&referrer)?.digest);
        pulled += if is_signatures(&referrer) {
            pull_signatures(client, image, &one, store, ctx).await?
        } else {
            usize::from(pull_one(client, &digest, &one, store, ctx).await.with_context(|| format!("pull {}", referrer.digest()))?)
        };
    }
    Ok(pulled)
}

/// Adds the signatures in a manifest of a registry to those of the image; how many are new.
async fn pull_signatures(client: &Client, image: &Descriptor, from: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    let Some((descriptor, bytes)) = client.manifest(from, ctx).await? else { return Ok(0) };
    let Content::Manifest(manifest) = content_of(descriptor.media_type(), &bytes)? else { return Ok(0) };
    let known = signature::layers(store, &Blob::try_from(image)?.digest)?;
    let is_known = |layer: &Descriptor| known.iter().any(|known| signature::same(known, layer));
    let new: Vec<Descriptor> = signatures_in(manifest.layers()).into_iter().filter(|layer| !is_known(layer)).collect();
    for layer in &new {
        client.pull_blob(from, &Blob::try_from(layer)?, store, ctx).await?;
    }
    let count = new.len();
    if count > 0 {
        signature::add(store, image, new)?;
    }
    Ok(count)
}

async fn pull_one(client: &Client, subject: &Digest, from: &Reference, store: &Store, ctx: &Context) -> Result<bool> {
    let Some((descriptor, bytes)) = client.manifest(from, ctx).await? else { return Ok(false) };
    let content = content_of(descriptor.media_type(), &bytes)?;
    if !matches!(content, Content::Manifest(_)) {
        return Ok(false);
    }
    ensure!(
        subject_of(&content)? == Some(*subject),
        Failure::verification(format!("{} is listed as referring to {subject} and does not", descriptor.digest()))
    );
    for child in children(&content) {
        client.pull_blob(from, &Blob::try_from(&child)?, store, ctx).await?;
    }
    store.put(&bytes)?;
    store.attach(&descriptor)?;
    Ok(true)
}
