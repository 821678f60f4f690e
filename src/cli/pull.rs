//! `sealift pull`

use std::time::Instant;

use anyhow::Result;

use super::trust_args::PolicyArgs;
use super::{CommandContext, RegistryArgs};
use crate::image::{Reference, parse_platform};
use crate::trust::{PullOptions, pull_verified};

/// Pull an image from a registry into the store
///
/// Fetches only missing blobs, in parallel, and resumes an interrupted pull. Signatures and SBOMs are pulled too; an image that the trust
/// policy refuses gets no name in the store. Prints the image's digest.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift pull registry.example.com/team/shop:1.0\n  sealift pull registry.example.com/team/shop:1.0 --platform linux/arm64\n  sealift pull docker.io/library/nginx:1.27 --mirror docker.io=10.0.0.1:5000"
)]
pub struct Args {
    /// The image, for example registry.example.com/shop:2.1
    name: Reference,
    /// Pull only these platforms, for example linux/arm64 [default: all of the image]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Verify the contents of all layers now; by default, layers of images over 64 MiB are verified before they are used
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
    let (policy, began) = (args.policy.policy()?, Instant::now());
    let options = PullOptions { platforms: &platforms, verify_layers: args.check_layers, ..PullOptions::all(&policy) };
    let (_, summary) = pull_verified(&client, &args.name, &options, &store, &cmd.ctx).await?;
    cmd.ctx.note(super::push::summary_line("pulled", &args.name, &summary, began.elapsed()));
    cmd.console.answer(&summary, || format!("{}\n", summary.digest))
}
