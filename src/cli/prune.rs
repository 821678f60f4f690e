//! `sealift prune`

use anyhow::Result;

use super::{CommandContext, bytes};
use crate::build;

/// Delete what no name reaches from the store
///
/// Blobs of removed images, downloads that nobody went on with, leftovers of killed commands, and what builds remember of layers
/// that are gone. Waits for commands that use the store.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would go, delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Forget all that builds remember: the next one carries every instruction out again
    #[arg(long)]
    cache: bool,
}

/// Prunes the store.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let pruned = tokio::task::spawn_blocking(move || {
        let mut pruned = store.prune(args.dry_run, &ctx)?;
        let forgotten = build::prune(&store, args.cache, args.dry_run, &ctx)?;
        pruned.leftovers += forgotten.leftovers;
        pruned.bytes += forgotten.bytes;
        anyhow::Ok(pruned)
    })
    .await??;
    cmd.console.answer(&pruned, || {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        format!("{verb} {} blobs and {} leftovers, {}\n", pruned.blobs, pruned.leftovers, bytes(pruned.bytes))
    })
}
