//! `sealift tag`

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use crate::image::Reference;

/// Give an image more names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    source: Reference,
    /// Its new names; a name that another image has moves to this one
    #[arg(required = true)]
    names: Vec<Reference>,
}

/// Points the names at the image.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let descriptor = store.find(&args.source)?;
    args.names.iter().try_for_each(|name| store.tag(name, &descriptor))?;
    let digest = descriptor.digest().to_string();
    cmd.console.answer(&json!({"digest": digest, "names": args.names}), || format!("{digest}\n"))
}
