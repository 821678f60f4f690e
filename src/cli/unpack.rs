//! `sealift unpack`

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{CommandContext, ImageArg};
use crate::error::Failure;
use crate::events::Context;
use crate::image::Blob;
use crate::layer::{self, UnpackOptions};
use crate::store::Store;

/// Unpack the root file system of an image into a directory
///
/// Every byte is verified, and nothing is written outside the directory, which must be empty or not exist. Root also sets the owners.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift unpack shop:1.0 rootfs\n  sealift unpack shop:1.0 rootfs --platform linux/arm64")]
pub struct Args {
    /// The image in the store: its name or digest
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// The directory
    directory: PathBuf,
    /// The platform, of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let directory = args.directory.clone();
    let manifest = spawn_blocking(move || unpack(&store, &args, &ctx)).await??;
    let answer = json!({ "manifest": manifest.digest, "directory": directory });
    cmd.console.answer(&answer, || format!("{} in {}\n", manifest.digest, directory.display()))
}

fn unpack(store: &Store, args: &Args, ctx: &Context) -> Result<Blob> {
    let _in_use = store.lock_shared()?;
    let part = store.inspect_platform(&args.name.in_store(store)?, args.platform.as_deref())?;
    layer::check_manifest(store, &part.rootfs, &part.manifest)?;
    create_empty(&args.directory)?;
    let options = UnpackOptions { owners: rustix::process::geteuid().is_root(), max_bytes: 0 };
    layer::unpack_image(store, &part.manifest, &args.directory, &options, ctx)?;
    Blob::try_from(&part.rootfs)
}

fn create_empty(directory: &Path) -> Result<()> {
    fs_err::create_dir_all(directory)?;
    if fs_err::read_dir(directory)?.next().is_some() {
        return Err(Failure::usage(format!("{} is not empty", directory.display()))
            .hint("name an empty directory, or one that does not exist yet")
            .into());
    }
    Ok(())
}
