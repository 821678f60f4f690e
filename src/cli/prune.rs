//! `sealift prune`

use anyhow::Result;

use super::{CommandContext, bytes, count};
use crate::build;

/// Delete blobs of images without a name from the store
///
/// Also deletes interrupted downloads, leftovers of killed commands, and build cache entries whose layers are gone. Waits for commands
/// that use the store.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift prune --dry-run\n  sealift prune\n  sealift prune --cache")]
pub struct Args {
    /// Show what would be deleted, delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Also delete the whole build cache: the next build runs every instruction again
    #[arg(long)]
    cache: bool,
}

/// Prunes the store.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let pruned = tokio::task::spawn_blocking(move || {
        let mut pruned = store.prune(args.dry_run, &ctx)?;
        let cache = build::prune(&store, args.cache, args.dry_run, &ctx)?;
        pruned.leftovers += cache.leftovers;
        pruned.bytes += cache.bytes;
        anyhow::Ok(pruned)
    })
    .await??;
    cmd.console.answer(&pruned, || {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        let blobs = count(usize::try_from(pruned.blobs).unwrap_or(usize::MAX), "blob");
        let leftovers = count(usize::try_from(pruned.leftovers).unwrap_or(usize::MAX), "leftover");
        format!("{verb} {blobs} and {leftovers}, {}\n", bytes(pruned.bytes))
    })
}
