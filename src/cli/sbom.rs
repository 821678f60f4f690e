//! `sealift sbom`

use anyhow::{Result, ensure};
use oci_spec::image::Descriptor;
use tokio::task::spawn_blocking;

use super::{CommandContext, ImageArg, RegistryArgs};
use crate::error::Failure;
use crate::image::Reference;
use crate::registry::client::Client;
use crate::trust::{attach, push_referrers, sbom};

/// Print the SBOM of an image as CycloneDX 1.6
///
/// Lists the packages of its root file system (dpkg, apk, rpm), its files with their digests, and each container image with its
/// packages. The same image gives the same document. A damaged package database is left out, with a warning.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift sbom shop:1.0 > shop.cdx.json\n  sealift sbom shop:1.0 --attach\n  sealift sbom registry.example.com/shop:1.0 --attach --push"
)]
pub struct Args {
    /// The image in the store: its name or digest
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// The platform, of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Also attach it to the image: it goes with it through push, pull, save and load
    #[arg(long)]
    attach: bool,
    /// Then push what is attached, to the registry of the image's name
    #[arg(long, requires = "attach")]
    push: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let _in_use = store.lock_shared()?;
    let named = args.name.in_store(&store)?;
    let image = store.find(&named)?;
    let client = if args.push { Some(registry_with(&image, &named, &args, cmd).await?) } else { None };
    let (ours, name, subject) = (store.clone(), named.clone(), image.clone());
    let bom = spawn_blocking(move || {
        let part = ours.inspect_platform(&name, args.platform.as_deref())?;
        let bom = sbom(&ours, &name, &part, &ctx)?;
        if args.attach {
            let attached = attach(&ours, &subject, &part.platform, &bom)?;
            ctx.note(format!("attached to {} as {}", name.familiar(), attached.digest()));
        }
        anyhow::Ok(bom)
    })
    .await??;
    if let Some(client) = client {
        let count = push_referrers(&client, &image, &named, &store, &cmd.ctx).await?;
        cmd.ctx.note(format!("pushed {count} referrers of {}", named.familiar()));
    }
    let text = serde_json::to_string_pretty(&bom)? + "\n";
    cmd.console.answer(&bom, || text)
}

/// A client for the registry of the image's name, which must have this image.
async fn registry_with(image: &Descriptor, name: &Reference, args: &Args, cmd: &CommandContext) -> Result<Client> {
    let client = args.registry.client()?;
    let there = client.resolve(name, &cmd.ctx).await?;
    ensure!(
        there.is_some_and(|there| there.digest() == image.digest()),
        Failure::failed(format!("{} does not have {} with the digest that it has in the store", name.registry(), name.familiar()))
            .hint(format!("`sealift push {}` pushes the image and what is attached to it", name.familiar()))
    );
    Ok(client)
}
