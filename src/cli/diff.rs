//! `sealift diff`

use anyhow::Result;
use tokio::task::spawn_blocking;

use super::{CommandContext, ImageArg, bytes};
use crate::diff::{Change, Difference, Kind, Side, compare};

/// Show what changed between two images
///
/// Files, apps and container images, and how many bytes someone who has the first image needs for the second.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift diff shop:1.0 shop:1.1\n  sealift diff shop:1.0 shop:1.1 -o json")]
pub struct Args {
    /// The old image in the store: its name or digest
    #[arg(add = super::complete::images())]
    before: ImageArg,
    /// The new image
    #[arg(add = super::complete::images())]
    after: ImageArg,
    /// The platform, of images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let difference = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let (before, after) = (args.before.in_store(&store)?, args.after.in_store(&store)?);
        let part = |name| store.inspect_platform(name, args.platform.as_deref());
        let (old, new) = (part(&before)?, part(&after)?);
        let (before, after) = (store.find(&before)?, store.find(&after)?);
        compare(&store, &Side { root: &before, part: &old }, &Side { root: &after, part: &new }, &ctx)
    })
    .await??;
    cmd.console.answer(&difference, || describe(&difference))
}

fn describe(difference: &Difference) -> String {
    let mut text = String::new();
    for (title, changes) in [("Files", &difference.files), ("Apps", &difference.apps), ("Container images", &difference.workloads)] {
        if !changes.is_empty() {
            text += &format!("{title}\n{}", changes.iter().map(line).collect::<String>());
        }
    }
    let (missing, total) = (difference.to_transfer, difference.total);
    text + &format!("To move: {} of {} blobs, {} of {}\n", missing.blobs, total.blobs, bytes(missing.bytes), bytes(total.bytes))
}

fn line(change: &Change) -> String {
    let name = &change.name;
    match &change.kind {
        Kind::Added { after } => format!("  + {name}  {after}\n"),
        Kind::Removed { before } => format!("  - {name}  {before}\n"),
        Kind::Changed { before, after } => format!("  ~ {name}  {before}  =>  {after}\n"),
    }
}
