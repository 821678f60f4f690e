//! `sealift pull`

use anyhow::Result;

use super::trust_args::PolicyArgs;
use super::{CommandContext, RegistryArgs};
use crate::image::{Reference, parse_platform};
use crate::layer::{LayerVerification, check_layers};
use crate::trust::bring_referrers;

/// Pull an image from a registry into the store
///
/// Only what is missing is fetched, in parallel, and an interrupted pull goes on where it ended. Signatures and SBOMs come along; an
/// image that the trust policy refuses is not named. Prints the image's digest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, for example registry.example.com/shop:2.1
    name: Reference,
    /// Pull these platforms only, for example linux/arm64 [default: all that the image has]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Look into all layers now. Otherwise those of an image of more than 64 MiB are looked into when it is run or built upon
    #[arg(long)]
    check_layers: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Pulls and names the image.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let platforms = args.platform.iter().map(|text| parse_platform(text)).collect::<Result<Vec<_>>>()?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let client = args.registry.client()?;
    let (root, summary) = client.pull(&args.name, &platforms, &store, &cmd.ctx).await?;
    if args.check_layers {
        let (store, root, ctx) = (store.clone(), root.clone(), cmd.ctx.clone());
        tokio::task::spawn_blocking(move || check_layers(&store, &root, LayerVerification::default(), &ctx)).await??;
    }
    bring_referrers(&client, &root, &args.name, &store, &cmd.ctx).await?;
    args.policy.check(&store, &args.name, &root, cmd).await?;
    store.tag(&args.name, &root)?;
    cmd.ctx.note(super::push::story("pulled", &args.name, &summary));
    cmd.console.answer(&summary, || format!("{}\n", summary.digest))
}
