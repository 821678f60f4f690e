//! `sealift sbom`

use anyhow::Result;
use tokio::task::spawn_blocking;

use super::Context;
use crate::image::Name;
use crate::trust::{attach, sbom};

/// Print a bill of materials of an image, as CycloneDX 1.6
///
/// The packages of its root file system (dpkg, apk, rpm) and its files with their digests, and each container image with its packages.
/// The same image gives the same document. A database that is damaged is left out, with a warning.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    name: Name,
    /// Of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Keep it beside the image too: it goes with the image through push, pull, save and load
    #[arg(long)]
    attach: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let (store, job) = (context.store()?, context.job.clone());
    let bom = spawn_blocking(move || {
        let _in_use = store.in_use()?;
        let part = store.part(&args.name, args.platform.as_deref())?;
        let bom = sbom(&store, &args.name, &part, &job)?;
        if args.attach {
            let attached = attach(&store, &store.find(&args.name)?, &part.platform, &bom)?;
            job.note(format!("attached to {} as {}", args.name.familiar(), attached.digest()));
        }
        anyhow::Ok(bom)
    })
    .await??;
    let text = serde_json::to_string_pretty(&bom)? + "\n";
    context.console.answer(&bom, || text)
}
