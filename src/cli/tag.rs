//! `sealift tag`

use anyhow::Result;
use serde_json::json;

use super::{CommandContext, ImageArg};
use crate::image::Reference;

/// Give an image more names
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift tag shop:1.0 shop:stable\n  sealift tag 3f2a9c1b8d7e registry.example.com/team/shop:1.0")]
pub struct Args {
    /// The image in the store: its name or digest
    #[arg(add = super::complete::images())]
    source: ImageArg,
    /// Its new names; a name of another image is moved to this one
    #[arg(required = true)]
    names: Vec<Reference>,
}

/// Points the names at the image.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let descriptor = store.find(&args.source.in_store(&store)?)?;
    args.names.iter().try_for_each(|name| store.tag(name, &descriptor))?;
    let digest = descriptor.digest().to_string();
    cmd.console.answer(&json!({"digest": digest, "names": args.names}), || format!("{digest}\n"))
}
