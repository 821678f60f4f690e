//! `sealift rmi`

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use crate::image::Reference;

/// Remove names of images from the store
///
/// Only the names go; `sealift prune` deletes the blobs that no name reaches any more.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The names
    #[arg(required = true)]
    names: Vec<Reference>,
}

/// Removes the names, all or none.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let known: Vec<Reference> = store.names()?.into_iter().map(|(name, _)| name).collect();
    if let Some(missing) = args.names.iter().find(|name| !known.contains(name)) {
        // tells which names are like it; a name by digest finds an image, but is none
        store.find(missing)?;
        anyhow::bail!(crate::error::Failure::usage(format!("{missing} is no name in the store")).hint("`sealift images` lists the names"));
    }
    for name in &args.names {
        store.untag(name)?;
    }
    cmd.ctx.note("the names are removed; `sealift prune` frees the space of what no name reaches");
    cmd.console.answer(&json!({"removed": args.names}), || args.names.iter().map(|name| format!("{}\n", name.familiar())).collect())
}
