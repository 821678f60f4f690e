//! `sealift tag`

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::image::Name;

/// Give an image more names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    source: Name,
    /// Its new names; a name that another image has moves to this one
    #[arg(required = true)]
    names: Vec<Name>,
}

/// Points the names at the image.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let store = context.store()?;
    let _in_use = store.in_use()?;
    let descriptor = store.find(&args.source)?;
    args.names.iter().try_for_each(|name| store.tag(name, &descriptor))?;
    let digest = descriptor.digest().to_string();
    context.console.answer(&json!({"digest": digest, "names": args.names}), || format!("{digest}\n"))
}
