//! `sealift diff`

use anyhow::Result;
use tokio::task::spawn_blocking;

use super::{CommandContext, bytes};
use crate::diff::{Change, Difference, Kind, Side, compare};
use crate::image::Reference;

/// Show what changed from one image to another
///
/// Files, applications and container images, and how much has to be moved to somebody who has the first.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first image, in the store
    before: Reference,
    /// The second
    after: Reference,
    /// Of images for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let difference = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let part = |name| store.part(name, args.platform.as_deref());
        let (old, new) = (part(&args.before)?, part(&args.after)?);
        let (before, after) = (store.find(&args.before)?, store.find(&args.after)?);
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
    let (lacking, whole) = (difference.to_move, difference.whole);
    text + &format!("To move: {} of {} blobs, {} of {}\n", lacking.blobs, whole.blobs, bytes(lacking.bytes), bytes(whole.bytes))
}

fn line(change: &Change) -> String {
    let name = &change.name;
    match &change.kind {
        Kind::Added { is } => format!("  + {name}  {is}\n"),
        Kind::Removed { was } => format!("  - {name}  {was}\n"),
        Kind::Changed { was, is } => format!("  ~ {name}  {was}  =>  {is}\n"),
    }
}
