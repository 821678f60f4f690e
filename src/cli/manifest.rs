//! `sealift manifest`

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::trust_args::annotations;
use super::{CommandContext, push};
use crate::build::manifest_list::{self, Changes};
use crate::image::{Reference, parse_platform};

/// Make one name of images for several platforms
///
/// A list names one image for each platform; pulled by its name, each machine gets its own. Images for several platforms, and cluster
/// images, add all that they have.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
    Add(AddArgs),
    Annotate(AnnotateArgs),
    Inspect(InspectArgs),
    /// Push a list, with all of its images
    Push(push::Args),
    #[command(alias = "rm")]
    Remove(RemoveArgs),
}

/// Make a list of images in the store
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// What the list is called
    list: Reference,
    /// Images to begin with
    images: Vec<Reference>,
}

/// Add an image of the store to a list; it replaces what the list has for the same platform
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// The list
    list: Reference,
    /// The image
    image: Reference,
    /// The platform that the image is for [default: what it says itself]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Say something else about an image of a list
#[derive(Debug, clap::Args)]
struct AnnotateArgs {
    /// The list
    list: Reference,
    /// Its digest, its platform as OS/ARCH, or its name in the store
    image: String,
    /// The operating system that it is for
    #[arg(long)]
    os: Option<String>,
    /// The architecture that it is for
    #[arg(long)]
    arch: Option<String>,
    /// The variant of the architecture, such as v7
    #[arg(long)]
    variant: Option<String>,
    /// Add or replace an annotation
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
}

/// Take images out of a list
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The list
    list: Reference,
    /// Their digests, their platforms as OS/ARCH, or their names in the store
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Print a list as it is
#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// The list
    list: Reference,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    match args.command {
        Command::Push(args) => push::run(args, cmd).await,
        Command::Inspect(InspectArgs { list }) => {
            let index = spawn_blocking(move || manifest_list::index_of(&list, &store)).await??;
            let text = serde_json::to_string_pretty(&index)? + "\n";
            cmd.console.answer(&index, || text)
        }
        Command::Create(CreateArgs { list, images }) => {
            let made = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::create(&list, &images, &store, &ctx)
            });
            answer(&made.await??, cmd)
        }
        Command::Annotate(args) => {
            let annotations = annotations(&args.annotations)?;
            let changes = Changes { os: args.os, arch: args.arch, variant: args.variant, annotations };
            let made = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::annotate(&args.list, &args.image, &changes, &store)
            });
            answer(&made.await??, cmd)
        }
        Command::Remove(RemoveArgs { list, images }) => {
            let made = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::remove(&list, &images, &store)
            });
            answer(&made.await??, cmd)
        }
        Command::Add(AddArgs { list, image, platform }) => {
            let platform = platform.as_deref().map(parse_platform).transpose()?;
            let made = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::add(&list, &image, platform.as_ref(), &store, &ctx)
            });
            answer(&made.await??, cmd)
        }
    }
}

fn answer(list: &Descriptor, cmd: &CommandContext) -> Result<()> {
    cmd.console.answer(&json!({ "digest": list.digest() }), || format!("{}\n", list.digest()))
}
