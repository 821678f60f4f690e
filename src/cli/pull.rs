//! `sealift pull`

use anyhow::Result;

use super::trust_args::PolicyArgs;
use super::{Context, RegistryArgs};
use crate::image::{Name, parse_platform};
use crate::layer::{Sifting, check_layers};
use crate::trust::bring_referrers;

/// Pull an image from a registry into the store
///
/// Only what is missing is fetched, in parallel, and an interrupted pull goes on where it ended. Signatures and SBOMs come along; an
/// image that the trust policy refuses is not named. Prints the image's digest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, for example registry.example.com/shop:2.1
    name: Name,
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
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let platforms = args.platform.iter().map(|text| parse_platform(text)).collect::<Result<Vec<_>>>()?;
    let store = context.store()?;
    let _in_use = store.in_use()?;
    let client = args.registry.client()?;
    let (root, summary) = client.pull(&args.name, &platforms, &store, &context.job).await?;
    if args.check_layers {
        let (store, root, job) = (store.clone(), root.clone(), context.job.clone());
        tokio::task::spawn_blocking(move || check_layers(&store, &root, Sifting::default(), &job)).await??;
    }
    bring_referrers(&client, &root, &args.name, &store, &context.job).await?;
    args.policy.check(&store, &args.name, &root, context).await?;
    store.tag(&args.name, &root)?;
    context.job.note(super::push::story("pulled", &args.name, &summary));
    context.console.answer(&summary, || format!("{}\n", summary.digest))
}
