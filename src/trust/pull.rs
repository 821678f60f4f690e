//! Pulls an image with its signatures, checks the trust policy, and only then names the image in the store.

use anyhow::Result;
use oci_spec::image::{Descriptor, Platform};
use tokio::task::spawn_blocking;

use super::{Policy, fetch_referrers};
use crate::events::Context;
use crate::image::{Blob, Reference};
use crate::layer::{LayerVerification, check_layers};
use crate::registry::client::{Client, Summary};
use crate::store::Store;

/// What to pull, and what to check before the image is tagged.
#[derive(Debug, Clone, Copy)]
pub struct PullOptions<'a> {
    /// The platforms; all of the image if empty.
    pub platforms: &'a [Platform],
    /// Which images may be used.
    pub policy: &'a Policy,
    /// Verify the contents of all layers now, however large they are.
    pub verify_layers: bool,
    /// Fetch signatures and SBOMs even if the policy accepts the image without.
    pub all_referrers: bool,
}

impl<'a> PullOptions<'a> {
    /// All platforms and all referrers; large layers are verified later, before they are used.
    pub fn all(policy: &'a Policy) -> Self {
        PullOptions { platforms: &[], policy, verify_layers: false, all_referrers: true }
    }
}

/// Pulls `name`, fetches its referrers, checks the policy, and tags the image with `name` in the store. Returns its descriptor and the transferred bytes.
///
/// # Errors
/// Those of the registry client, and of kind `Verification` if a layer or the policy does not verify: then `name` stays what it was.
pub async fn pull_verified(
    client: &Client,
    name: &Reference,
    options: &PullOptions<'_>,
    store: &Store,
    ctx: &Context,
) -> Result<(Descriptor, Summary)> {
    let (image, summary) = client.pull(name, options.platforms, store, ctx).await?;
    if options.verify_layers {
        let (store, image, ctx) = (store.clone(), image.clone(), ctx.clone());
        spawn_blocking(move || check_layers(&store, &image, LayerVerification::default(), &ctx)).await??;
    }
    let digest = Blob::try_from(&image)?.digest;
    if options.all_referrers || !options.policy.accepts(store, name, &digest) {
        fetch_referrers(client, &image, name, store, ctx).await?;
    }
    let (policy, checked_store, image_name, checked_ctx) = (options.policy.clone(), store.clone(), name.clone(), ctx.clone());
    spawn_blocking(move || policy.check(&checked_store, &image_name, &digest, &checked_ctx)).await??;
    store.tag(name, &image)?;
    Ok((image, summary))
}
