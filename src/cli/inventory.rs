//! `sealift inventory`

use std::path::Path;

use anyhow::Result;

use super::Context;
use crate::archive::Inventory;
use crate::durable;

/// List what is in the store, for those who save archives for this site
///
/// Taken to where images are built, it makes `sealift save --for FILE` leave out all that is here. It lists only what a name keeps:
/// `prune` takes away nothing of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write; `-` is stdout
    // has the id of the global option, whose place it takes in this command
    #[arg(id = "output", short, long, value_name = "FILE", default_value = "-")]
    file: String,
}

/// Writes the inventory.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let store = context.store()?;
    let inventory = tokio::task::spawn_blocking(move || {
        let _in_use = store.in_use()?;
        Inventory::take(&store)
    })
    .await??;
    let text = serde_json::to_string_pretty(&inventory)? + "\n";
    if args.file == "-" {
        return context.console.answer(&(), || text);
    }
    durable::write(Path::new(&args.file), text.as_bytes(), 0o644)?;
    context.job.note(format!("wrote {}: {} images, {} blobs", args.file, inventory.images.len(), inventory.blobs.len()));
    Ok(())
}
