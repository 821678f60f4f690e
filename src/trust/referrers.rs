//! Pushes and pulls the referrers of an image: signatures, SBOMs and other artifacts.

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::Descriptor;

use super::Policy;
use super::simple_signing::{self, is_signatures, signature_tag, signatures_in};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::{Blob, Content, Digest, Reference, children, content_of, subject_of};
use crate::registry::client::Client;
use crate::store::Store;

/// Pushes the referrers of an image, after the image itself; returns their number.
///
/// Signatures are pushed under cosign's tag too, merged with those that the registry has.
pub async fn push_referrers(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    for signed in [vec![image.clone()], platform_manifests(store, image)?].concat() {
        let digest = Blob::try_from(&signed)?.digest;
        if store.referrers(&digest)?.iter().any(is_signatures) {
            pull_signatures(client, &signed, &name.with_tag(&signature_tag(&digest)), store, ctx).await?;
        }
    }
    let referrers = store.referrers_recursive(image)?;
    for referrer in &referrers {
        push_referrer(client, referrer, name, store, ctx)
            .await
            .with_context(|| format!("push {}, which refers to the image", referrer.digest()))?;
    }
    Ok(referrers.len())
}

async fn push_referrer(client: &Client, referrer: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<()> {
    let content = store.read_manifest(referrer)?;
    for child in children(&content) {
        client.push_blob(name, &Blob::try_from(&child)?, store, ctx).await?;
    }
    let blob = Blob::try_from(referrer)?;
    let bytes = store.read(&blob)?;
    client.push_manifest(&name.with_digest(blob.digest), referrer, &bytes, ctx).await?;
    match subject_of(&content)? {
        Some(subject) if is_signatures(referrer) => {
            client.push_manifest(&name.with_tag(&signature_tag(&subject)), referrer, &bytes, ctx).await
        }
        _ => Ok(()),
    }
}

/// Fetches the referrers of a pulled image into the store. Warns instead of failing if the registry cannot list them.
pub async fn fetch_referrers(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<()> {
    match pull_referrers(client, image, name, store, ctx).await {
        Ok(0) => Ok(()),
        Ok(count) => {
            ctx.note(format!("fetched {count} signatures and other referrers of {}", name.familiar()));
            Ok(())
        }
        Err(error) if kind_of(&error) == Kind::Interrupted => Err(error),
        Err(error) => {
            ctx.warn(format!("signatures of {} were not fetched: {error:#}", name.familiar()));
            Ok(())
        }
    }
}

/// Checks the policy for an image that a build uses. Missing signatures are fetched first, if `registry` is given.
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
        && !policy.accepts(store, name, &digest)
    {
        fetch_referrers(client, image, name, store, ctx).await?;
    }
    policy.check(store, name, &digest, ctx)
}

/// The manifests in the index of an image in the store; none if the image is a single manifest.
pub fn platform_manifests(store: &Store, image: &Descriptor) -> Result<Vec<Descriptor>> {
    if !store.has(&Blob::try_from(image)?) {
        return Ok(Vec::new());
    }
    Ok(match store.read_manifest(image)? {
        Content::Index(index) => index.manifests().clone(),
        _ => Vec::new(),
    })
}

/// Pulls the referrers of an image and of its manifests that are in the store; returns the number of new referrers and signatures.
pub async fn pull_referrers(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    let _in_use = store.lock_shared()?;
    let mut pulled = pull_referrers_of(client, image, name, store, ctx).await?;
    for manifest in platform_manifests(store, image)? {
        if store.has(&Blob::try_from(&manifest)?) {
            pulled += pull_referrers_of(client, &manifest, name, store, ctx).await?;
        }
    }
    Ok(pulled)
}

async fn pull_referrers_of(client: &Client, image: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    let digest = Blob::try_from(image)?.digest;
    let mut pulled = pull_signatures(client, image, &name.with_tag(&signature_tag(&digest)), store, ctx).await?;
    for referrer in client.referrers(name, &digest, None, ctx).await? {
        let reference = name.with_digest(Blob::try_from(&referrer)?.digest);
        pulled += if is_signatures(&referrer) {
            pull_signatures(client, image, &reference, store, ctx).await?
        } else {
            usize::from(
                pull_referrer(client, &digest, &reference, store, ctx).await.with_context(|| format!("pull {}", referrer.digest()))?,
            )
        };
    }
    Ok(pulled)
}

/// Merges the signatures of a manifest in a registry into those of the image; returns how many are new.
async fn pull_signatures(client: &Client, image: &Descriptor, from: &Reference, store: &Store, ctx: &Context) -> Result<usize> {
    let Some((descriptor, bytes)) = client.manifest(from, ctx).await? else { return Ok(0) };
    let Content::Manifest(manifest) = content_of(descriptor.media_type(), &bytes)? else { return Ok(0) };
    let known = simple_signing::layers(store, &Blob::try_from(image)?.digest)?;
    let is_known = |layer: &Descriptor| known.iter().any(|known| simple_signing::same(known, layer));
    let new: Vec<Descriptor> = signatures_in(manifest.layers()).into_iter().filter(|layer| !is_known(layer)).collect();
    for layer in &new {
        client.pull_blob(from, &Blob::try_from(layer)?, store, ctx).await?;
    }
    let count = new.len();
    if count > 0 {
        simple_signing::add(store, image, new)?;
    }
    Ok(count)
}

async fn pull_referrer(client: &Client, subject: &Digest, from: &Reference, store: &Store, ctx: &Context) -> Result<bool> {
    let Some((descriptor, bytes)) = client.manifest(from, ctx).await? else { return Ok(false) };
    let content = content_of(descriptor.media_type(), &bytes)?;
    if !matches!(content, Content::Manifest(_)) {
        return Ok(false);
    }
    ensure!(
        subject_of(&content)? == Some(*subject),
        Failure::verification(format!("{} is listed as a referrer of {subject}, but has another subject", descriptor.digest()))
    );
    for child in children(&content) {
        client.pull_blob(from, &Blob::try_from(&child)?, store, ctx).await?;
    }
    store.put(&bytes)?;
    store.attach(&descriptor)?;
    Ok(true)
}
