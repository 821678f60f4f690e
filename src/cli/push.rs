//! `sealift push`

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{CommandContext, ImageArg, RegistryArgs, bytes, count};
use crate::error::Failure;
use crate::image::Reference;
use crate::registry::client::Summary;
use crate::trust::push_referrers;

/// Push an image from the store to a registry
///
/// Sends only the blobs that the registry does not have, in parallel, and also signatures and SBOMs. Prints the image's digest.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift push registry.example.com/team/shop:1.0\n  sealift push shop:1.0 registry.example.com/team/shop:1.0\n  sealift push 3f2a9c1b8d7e 127.0.0.1:5000/shop:1.0"
)]
pub struct Args {
    /// The image in the store: its name or digest
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// The name in the registry [default: the same name]
    destination: Option<Reference>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Pushes the image.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let name = if args.destination.is_some() { args.name.in_store(&store)? } else { args.name.only_name_in_store(&store)? };
    let descriptor = store.resolve(&name)?.with_context(|| {
        Failure::failed(format!("no such image: {} (not in the store)", name.familiar())).hint("`sealift images` lists the images")
    })?;
    let destination = args.destination.as_ref().unwrap_or(&name);
    let _in_use = store.lock_shared()?;
    let (client, began) = (args.registry.client()?, Instant::now());
    let summary = client.push(&descriptor, destination, &store, &cmd.ctx).await?;
    push_referrers(&client, &descriptor, destination, &store, &cmd.ctx).await?;
    cmd.ctx.note(summary_line("pushed", destination, &summary, began.elapsed()));
    cmd.console.answer(&summary, || format!("{}\n", summary.digest))
}

/// The result of a transfer in a line: `pushed shop:1: 12.00 MiB in 3 blobs, 2 already there (1.5 s)`.
pub fn summary_line(verb: &str, name: &Reference, summary: &Summary, time: Duration) -> String {
    let blobs = count(usize::try_from(summary.moved_blobs).unwrap_or(usize::MAX), "blob");
    let mut line = format!("{verb} {name}: {} in {blobs}", bytes(summary.moved_bytes));
    for (count, what) in [(summary.present_blobs, "already there"), (summary.mounted_blobs, "mounted")] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line + &format!(" ({:.1} s)", time.as_secs_f64())
}
