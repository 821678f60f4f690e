//! `sealift manifest`

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::trust_args::annotations;
use super::{CommandContext, ImageArg, push};
use crate::build::manifest_list::{self, Changes};
use crate::image::{Reference, parse_platform};

/// Create and change manifest lists (multi-platform images)
///
/// A list names one image for each platform; whoever pulls it gets the one of his platform. Multi-platform images and cluster images
/// add all their manifests.
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
    /// Push a list with all its images
    #[command(after_help = "Examples:\n  sealift manifest push shop:1.0 registry.example.com/team/shop:1.0")]
    Push(push::Args),
    #[command(alias = "rm")]
    Remove(RemoveArgs),
}

/// Create a list of images in the store
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift manifest create shop:1.0 shop-amd64:1.0 shop-arm64:1.0")]
struct CreateArgs {
    /// The name of the list
    list: Reference,
    /// The first images
    #[arg(add = super::complete::images())]
    images: Vec<ImageArg>,
}

/// Add an image in the store to a list; replaces the entry for its platform
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift manifest add shop:1.0 shop-arm64:1.0\n  sealift manifest add shop:1.0 shop-arm:1.0 --platform linux/arm/v7"
)]
struct AddArgs {
    /// The list
    list: Reference,
    /// The image: its name or digest
    #[arg(add = super::complete::images())]
    image: ImageArg,
    /// The platform of the image [default: the one in its config]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Change the platform or annotations of a list's entry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift manifest annotate shop:1.0 linux/arm --variant v7")]
struct AnnotateArgs {
    /// The list
    list: Reference,
    /// The entry: its digest, its platform as OS/ARCH, or its name in the store
    image: String,
    /// The operating system, such as linux
    #[arg(long)]
    os: Option<String>,
    /// The architecture, such as arm64
    #[arg(long)]
    arch: Option<String>,
    /// The variant of the architecture, such as v7
    #[arg(long)]
    variant: Option<String>,
    /// Add or replace an annotation
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
}

/// Remove images from a list
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift manifest remove shop:1.0 linux/arm64")]
struct RemoveArgs {
    /// The list
    list: Reference,
    /// The entries: digests, platforms as OS/ARCH, or names in the store
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Print a list as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift manifest inspect shop:1.0")]
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
            let list = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::create(&list, &ImageArg::all_in_store(&images, &store)?, &store, &ctx)
            });
            answer(&list.await??, cmd)
        }
        Command::Annotate(args) => {
            let annotations = annotations(&args.annotations)?;
            let changes = Changes { os: args.os, arch: args.arch, variant: args.variant, annotations };
            let list = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::annotate(&args.list, &args.image, &changes, &store)
            });
            answer(&list.await??, cmd)
        }
        Command::Remove(RemoveArgs { list, images }) => {
            let list = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::remove(&list, &images, &store)
            });
            answer(&list.await??, cmd)
        }
        Command::Add(AddArgs { list, image, platform }) => {
            let platform = platform.as_deref().map(parse_platform).transpose()?;
            let list = spawn_blocking(move || {
                let _in_use = store.lock_shared()?;
                manifest_list::add(&list, &image.in_store(&store)?, platform.as_ref(), &store, &ctx)
            });
            answer(&list.await??, cmd)
        }
    }
}

fn answer(list: &Descriptor, cmd: &CommandContext) -> Result<()> {
    cmd.console.answer(&json!({ "digest": list.digest() }), || format!("{}\n", list.digest()))
}
