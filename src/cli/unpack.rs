//! `sealift unpack`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::ImageManifest;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::Context;
use crate::error::Failure;
use crate::events::Job;
use crate::image::{Blob, Name, host_platform, parse_platform, platform_string, serves};
use crate::layer::{self, UnpackOptions};
use crate::store::Store;

/// Unpack an image's root file system to a directory
///
/// Every byte is verified, and nothing is written outside the directory, which must be empty or not there. Owners are set when root
/// does it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    name: Name,
    /// The directory
    directory: PathBuf,
    /// Of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let (store, job) = (context.store()?, context.job.clone());
    let directory = args.directory.clone();
    let manifest = spawn_blocking(move || unpack(&store, &args, &job)).await??;
    let answer = json!({ "manifest": manifest.digest, "directory": directory });
    context.console.answer(&answer, || format!("{} in {}\n", manifest.digest, directory.display()))
}

fn unpack(store: &Store, args: &Args, job: &Job) -> Result<Blob> {
    let _in_use = store.in_use()?;
    let blob = rootfs(store, args)?;
    let manifest: ImageManifest = serde_json::from_slice(&store.read(&blob)?)
        .with_context(|| Failure::verification(format!("blob {} is no image manifest", blob.digest)))?;
    make_empty(&args.directory)?;
    let options = UnpackOptions { owners: rustix::process::geteuid().is_root(), max_bytes: 0 };
    layer::unpack_image(store, &manifest, &args.directory, &options, job)?;
    Ok(blob)
}

/// The manifest of the root file system for the platform that is asked for.
fn rootfs(store: &Store, args: &Args) -> Result<Blob> {
    let parts = store.survey(&store.find(&args.name)?)?;
    let platform = args.platform.as_deref().map_or_else(|| Ok(host_platform()), parse_platform)?;
    let part = match parts.as_slice() {
        [only] if args.platform.is_none() => Some(only),
        parts => parts.iter().find(|part| serves(&part.platform, &platform)),
    };
    let there = || parts.iter().map(|part| platform_string(&part.platform)).collect::<Vec<_>>().join(", ");
    let part = part.ok_or_else(|| {
        Failure::usage(format!("image {} is not built for {}", args.name.familiar(), platform_string(&platform)))
            .hint(format!("there is: {}", there()))
    })?;
    Blob::try_from(&part.rootfs)
}

fn make_empty(directory: &Path) -> Result<()> {
    fs_err::create_dir_all(directory)?;
    if fs_err::read_dir(directory)?.next().is_some() {
        return Err(Failure::usage(format!("{} is not empty", directory.display()))
            .hint("name a directory that is, or is not there yet")
            .into());
    }
    Ok(())
}
