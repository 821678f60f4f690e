//! `sealift fsck`

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Descriptor, Platform};
use serde_json::json;

use super::{CommandContext, RegistryArgs, count};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Content, Digest, Reference};
use crate::layer::{LayerVerification, check_layers};
use crate::store::{Problem, Store, belongs_to_image, ref_name};
use crate::workloads::ImageArchive;

/// Verify every blob in the store, and repair damaged ones
///
/// Lists problems with the images that they affect, and exits with code 6 if there are any.
///
/// With `--repair`, deletes damaged blobs, and fetches missing ones from the registries of the images' names, or from the archive,
/// OCI layout or registry of `--from`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift fsck\n  sealift fsck --layers\n  sealift fsck --repair\n  sealift fsck --repair --from /media/disk/shop.tar"
)]
pub struct Args {
    /// Also verify the contents of root file system layers: tar format and uncompressed digests
    #[arg(long)]
    layers: bool,
    /// Delete damaged blobs and fetch missing ones
    #[arg(long)]
    repair: bool,
    /// Where to fetch from: an archive, an OCI layout directory, or a repository [default: the images' names]
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    from: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Verifies the store, and with `--repair` repairs it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let mut problems = check(&store, args.layers, &cmd.ctx).await?;
    if args.repair && !problems.is_empty() {
        problems = repair(problems, &args, &store, cmd).await?;
    }
    cmd.console.answer(&json!({"problems": problems}), || {
        let line = |problem: &Problem| {
            let images: Vec<_> = problem.images.iter().map(Reference::familiar).collect();
            if images.is_empty() { format!("{}\n", problem.message) } else { format!("{} ({})\n", problem.message, images.join(", ")) }
        };
        if problems.is_empty() { "no problems in the store\n".to_owned() } else { problems.iter().map(line).collect() }
    })?;
    if problems.is_empty() {
        return Ok(());
    }
    let is_as_built = problems.iter().all(|problem| problem.digest.is_none());
    let advice = match args.repair {
        _ if is_as_built => {
            "the bytes match their digests, so fetching them again repairs nothing: the image was built so; remove it with `sealift rmi`, \
             and get a new one from its builder"
        }
        false => "`sealift fsck --repair` fetches damaged and missing blobs from the images' registries, or `--from` an archive",
        true => "`sealift rmi` and `sealift pull` (or `load`, or `build`) the images named above, or name another source with `--from`",
    };
    bail!(Failure::verification(format!("the store has {}", count(problems.len(), "problem"))).hint(advice))
}

async fn check(store: &Store, layers: bool, ctx: &Context) -> Result<Vec<Problem>> {
    let (store, ctx) = (store.clone(), ctx.clone());
    tokio::task::spawn_blocking(move || {
        let mut problems = store.fsck(&ctx)?;
        if layers && problems.is_empty() {
            // signatures and bills have no layers to unpack
            for root in store.roots()?.into_iter().filter(|root| !belongs_to_image(root)) {
                ctx.check()?;
                let images = ref_name(&root).into_iter().collect();
                problems.extend(
                    check_layers(&store, &root, LayerVerification { ignore_cache: true, ..LayerVerification::default() }, &ctx)
                        .err()
                        .map(|error| Problem { digest: None, images, message: format!("{error:#}") }),
                );
            }
        }
        Ok(problems)
    })
    .await?
}

/// Fetches missing blobs until none is missing or no more arrive; returns the problems that are left.
async fn repair(mut problems: Vec<Problem>, args: &Args, store: &Store, cmd: &CommandContext) -> Result<Vec<Problem>> {
    loop {
        // a manifest that arrives names further blobs
        let missing = discard_damaged(&problems, store)?;
        if missing.is_empty() {
            return Ok(problems);
        }
        match args.from.as_ref().map(PathBuf::from).filter(|path| path.exists()) {
            Some(path) => fetch_from_archive(&path, missing.clone(), store, &cmd.ctx).await?,
            None => fetch_from_registry(&problems, args, store, cmd).await?,
        }
        let now = check(store, args.layers, &cmd.ctx).await?;
        if now.is_empty() || now == problems {
            return Ok(now);
        }
        let still: BTreeSet<Digest> = now.iter().filter_map(|problem| problem.digest).collect();
        if still == missing {
            return Ok(now);
        }
        problems = now;
    }
}

/// Deletes the damaged blobs among the problems; returns the digests that are missing then.
fn discard_damaged(problems: &[Problem], store: &Store) -> Result<BTreeSet<Digest>> {
    let mut missing = BTreeSet::new();
    for digest in problems.iter().filter_map(|problem| problem.digest) {
        store.discard_damaged(&digest)?;
        if store.size_of(&digest).is_none() {
            missing.insert(digest);
        }
    }
    Ok(missing)
}

async fn fetch_from_archive(path: &std::path::Path, missing: BTreeSet<Digest>, store: &Store, ctx: &Context) -> Result<()> {
    let (path, store, ctx) = (path.to_owned(), store.clone(), ctx.clone());
    tokio::task::spawn_blocking(move || {
        let archive = ImageArchive::open(&path)?;
        for digest in missing {
            match archive.size_of(&digest) {
                Some(size) => archive.fetch(&Blob { digest, size }, &store, &ctx)?,
                None => ctx.warn(format!("{} has no blob {digest}", path.display())),
            }
        }
        Ok(())
    })
    .await?
}

async fn fetch_from_registry(problems: &[Problem], args: &Args, store: &Store, cmd: &CommandContext) -> Result<()> {
    let client = args.registry.client()?;
    let affected: BTreeSet<&Reference> = problems.iter().flat_map(|problem| &problem.images).collect();
    for name in affected {
        let Some(root) = store.resolve(name)? else { continue };
        let source: Reference = match &args.from {
            Some(text) => text.parse().with_context(|| {
                Failure::usage(format!("`{text}` is neither a file nor an image name"))
                    .hint("write it like `registry.example.com/team/shop`")
            })?,
            None => name.clone(),
        };
        let source = source.with_digest(Digest::try_from(root.digest())?);
        if let Err(error) = client.pull(&source, &platforms_in_store(&root, store), store, &cmd.ctx).await {
            cmd.ctx.check()?;
            cmd.ctx.warn(format!("{}: {error:#}", name.familiar()));
        }
    }
    Ok(())
}

/// The platforms of which the store has a manifest; all if it has none.
fn platforms_in_store(root: &Descriptor, store: &Store) -> Vec<Platform> {
    let Ok(Content::Index(index)) = store.read_manifest(root) else { return Vec::new() };
    let is_here = |arm: &&Descriptor| Blob::try_from(*arm).is_ok_and(|blob| store.has(&blob));
    let arms = index.manifests();
    if index.artifact_type().is_some() || !arms.iter().any(|arm| is_here(&arm)) {
        return Vec::new();
    }
    arms.iter().filter(is_here).filter_map(|arm| arm.platform().clone()).collect()
}
