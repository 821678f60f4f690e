//! `sealift rmi`

use anyhow::Result;
use serde_json::json;

use super::{CommandContext, ImageArg};
use crate::error::Failure;
use crate::image::Reference;
use crate::store::Store;

/// Remove image names from the store
///
/// Removes names only; `sealift prune` then deletes the blobs of images without a name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift rmi shop:1.0\n  sealift rmi 3f2a9c1b8d7e\n  sealift rmi shop:1.0 shop:1.1; sealift prune")]
pub struct Args {
    /// The names, or digests of images with one name
    #[arg(required = true, value_name = "NAME", add = super::complete::images())]
    names: Vec<ImageArg>,
}

/// Removes the names, all or none.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let names = args.names.iter().map(|arg| name_to_remove(arg, &store)).collect::<Result<Vec<_>>>()?;
    for name in &names {
        store.untag(name)?;
    }
    cmd.ctx.note("names removed; `sealift prune` frees the disk space of images without a name");
    cmd.console.answer(&json!({"removed": names}), || names.iter().map(|name| format!("{}\n", name.familiar())).collect())
}

/// The name; of a digest the only name with it.
fn name_to_remove(arg: &ImageArg, store: &Store) -> Result<Reference> {
    let name = arg.in_store(store)?;
    let digest = store.find(&name)?.digest().clone();
    let refs = store.refs()?;
    let of_image: Vec<&Reference> = refs.iter().filter(|(_, image)| *image.digest() == digest).map(|(name, _)| name).collect();
    match of_image.as_slice() {
        _ if !arg.is_digest() && of_image.contains(&&name) => Ok(name),
        [only] => Ok((*only).clone()),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.familiar())).collect();
            Err(Failure::usage(format!("{digest} has several names: {}", names.join(", "))).hint("name those to remove").into())
        }
    }
}
