//! `sealift push`

use anyhow::{Context as _, Result};

use super::{CommandContext, RegistryArgs, bytes};
use crate::error::Failure;
use crate::image::Reference;
use crate::registry::client::Summary;
use crate::trust::push_referrers;

/// Push an image from the store to a registry
///
/// Only what the registry does not have is sent, in parallel; signatures and SBOMs go along. Prints the image's digest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    name: Reference,
    /// Where to push it [default: the same name]
    destination: Option<Reference>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Pushes the image.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let descriptor = store.resolve(&args.name)?.with_context(|| {
        Failure::failed(format!("no such image: {} (not in the store)", args.name.familiar())).hint("`sealift images` lists what is there")
    })?;
    let destination = args.destination.as_ref().unwrap_or(&args.name);
    let _in_use = store.lock_shared()?;
    let client = args.registry.client()?;
    let summary = client.push(&descriptor, destination, &store, &cmd.ctx).await?;
    push_referrers(&client, &descriptor, destination, &store, &cmd.ctx).await?;
    cmd.ctx.note(story("pushed", destination, &summary));
    cmd.console.answer(&summary, || format!("{}\n", summary.digest))
}

/// What a transfer came to, in a line.
pub fn story(verb: &str, name: &Reference, summary: &Summary) -> String {
    let mut line = format!("{verb} {name}: {} in {} blobs moved", bytes(summary.moved_bytes), summary.moved_blobs);
    for (count, what) in [(summary.present_blobs, "there already"), (summary.mounted_blobs, "mounted")] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}
