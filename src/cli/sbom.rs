//! `sealift sbom`

use anyhow::{Result, ensure};
use oci_spec::image::Descriptor;
use tokio::task::spawn_blocking;

use super::{CommandContext, RegistryArgs};
use crate::error::Failure;
use crate::image::Reference;
use crate::registry::client::Client;
use crate::trust::{attach, push_referrers, sbom};

/// Print a bill of materials of an image, as CycloneDX 1.6
///
/// The packages of its root file system (dpkg, apk, rpm) and its files with their digests, and each container image with its packages.
/// The same image gives the same document. A database that is damaged is left out, with a warning.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    name: Reference,
    /// Of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Keep it beside the image too: it goes with the image through push, pull, save and load
    #[arg(long)]
    attach: bool,
    /// Push what refers to the image at once, to the registry that its name says and that has the image
    #[arg(long, requires = "attach")]
    push: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let _in_use = store.lock_shared()?;
    let image = store.find(&args.name)?;
    let client = if args.push { Some(registry_with(&image, &args, cmd).await?) } else { None };
    let (ours, name, subject) = (store.clone(), args.name.clone(), image.clone());
    let bom = spawn_blocking(move || {
        let part = ours.part(&name, args.platform.as_deref())?;
        let bom = sbom(&ours, &name, &part, &ctx)?;
        if args.attach {
            let attached = attach(&ours, &subject, &part.platform, &bom)?;
            ctx.note(format!("attached to {} as {}", name.familiar(), attached.digest()));
        }
        anyhow::Ok(bom)
    })
    .await??;
    if let Some(client) = client {
        let count = push_referrers(&client, &image, &args.name, &store, &cmd.ctx).await?;
        cmd.ctx.note(format!("pushed {count} documents about {}", args.name.familiar()));
    }
    let text = serde_json::to_string_pretty(&bom)? + "\n";
    cmd.console.answer(&bom, || text)
}

/// A client for the registry of the image's name, which must have this image under it.
async fn registry_with(image: &Descriptor, args: &Args, cmd: &CommandContext) -> Result<Client> {
    let client = args.registry.client()?;
    let there = client.resolve(&args.name, &cmd.ctx).await?;
    ensure!(
        there.is_some_and(|there| there.digest() == image.digest()),
        Failure::failed(format!("{} does not have {} as it is in the store", args.name.registry(), args.name.familiar()))
            .hint(format!("`sealift push {}` pushes the image, and what is attached to it", args.name.familiar()))
    );
    Ok(client)
}
