//! `sealift merge`

use anyhow::Result;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{CommandContext, ImageArg};
use crate::build;
use crate::image::Reference;

/// Merge several cluster images into one
///
/// Takes the layers of all images in this order, and their apps, launch lists, environment and container images. Where two images
/// conflict, the later one wins, with a warning.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift merge -t shop:full kubernetes:v1.31 shop:1.0")]
pub struct Args {
    /// The name of the merged image
    #[arg(short, long, value_name = "NAME")]
    tag: Reference,
    /// The images in the store: their names or digests
    #[arg(required = true, num_args = 2.., value_name = "IMAGE", add = super::complete::images())]
    images: Vec<ImageArg>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let name = args.tag.clone();
    let digest = spawn_blocking(move || build::merge(&args.tag, &ImageArg::all_in_store(&args.images, &store)?, &store, &ctx)).await??;
    cmd.console.answer(&json!({ "name": name, "digest": digest }), || format!("{digest}\n"))
}
