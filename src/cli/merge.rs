//! `sealift merge`

use anyhow::Result;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::CommandContext;
use crate::build;
use crate::image::Reference;

/// Make one cluster image of several
///
/// The layers of all, in this order, their applications, launch lists, environment and container images. Where two say different
/// things about the same, the later one counts, and a warning says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the image is called
    #[arg(short, long, value_name = "NAME")]
    tag: Reference,
    /// The images in the store
    #[arg(required = true, num_args = 2.., value_name = "IMAGE")]
    images: Vec<Reference>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let name = args.tag.clone();
    let digest = spawn_blocking(move || build::merge(&args.tag, &args.images, &store, &ctx)).await??;
    cmd.console.answer(&json!({ "name": name, "digest": digest }), || format!("{digest}\n"))
}
