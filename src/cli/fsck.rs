//! `sealift fsck`

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Descriptor, Platform};
use serde_json::json;

use super::{CommandContext, RegistryArgs};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Content, Digest, Reference};
use crate::layer::{LayerVerification, check_layers};
use crate::store::{Problem, Store, name_of};
use crate::workloads::ImageArchive;

/// Check every blob of the store
///
/// Exit code 6 if something is wrong. What is wrong is listed with the images that suffer from it.
///
/// With `--repair`, damaged blobs are deleted, and what is missing is fetched again from where the images' names say, or from the
/// archive, layout or registry given by `--from`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look into the layers of rootfs images too: tars, and the digests of what is in them
    #[arg(long)]
    layers: bool,
    /// Delete damaged blobs and fetch what is missing
    #[arg(long)]
    repair: bool,
    /// Where to fetch from: an archive, a layout directory, or an image's name without tag in a registry [default: the images' names]
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    from: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the store, and repairs it if asked to.
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
            if images.is_empty() { format!("{}\n", problem.what) } else { format!("{} ({})\n", problem.what, images.join(", ")) }
        };
        if problems.is_empty() { "the store is sound\n".to_owned() } else { problems.iter().map(line).collect() }
    })?;
    if problems.is_empty() {
        return Ok(());
    }
    let made_so = problems.iter().all(|problem| problem.digest.is_none());
    let advice = match args.repair {
        _ if made_so => {
            "the bytes are what their digests say, so fetching them again mends nothing: the image was made so; `sealift rmi` it, and ask \
             for a new one where it came from"
        }
        false => "`sealift fsck --repair` fetches what is damaged or missing from the images' registries, or `--from` an archive",
        true => "`sealift rmi` and `sealift pull` (or `load`, or `build`) the images named above, or name another source with `--from`",
    };
    bail!(
        Failure::verification(format!("the store has {} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" }))
            .hint(advice)
    )
}

async fn check(store: &Store, layers: bool, ctx: &Context) -> Result<Vec<Problem>> {
    let (store, ctx) = (store.clone(), ctx.clone());
    tokio::task::spawn_blocking(move || {
        let mut problems = store.fsck(&ctx)?;
        if layers && problems.is_empty() {
            for root in store.roots()? {
                ctx.check()?;
                let images = name_of(&root).into_iter().collect();
                problems.extend(
                    check_layers(&store, &root, LayerVerification { anew: true, ..LayerVerification::default() }, &ctx)
                        .err()
                        .map(|error| Problem { digest: None, images, what: format!("{error:#}") }),
                );
            }
        }
        Ok(problems)
    })
    .await?
}

/// Fetches what is missing until nothing is, or nothing more comes; what is wrong then.
async fn repair(mut problems: Vec<Problem>, args: &Args, store: &Store, cmd: &CommandContext) -> Result<Vec<Problem>> {
    loop {
        // a document that comes back names others
        let lacking = discard_damaged(&problems, store)?;
        if lacking.is_empty() {
            return Ok(problems);
        }
        match args.from.as_ref().map(PathBuf::from).filter(|path| path.exists()) {
            Some(path) => fetch_from_archive(&path, lacking.clone(), store, &cmd.ctx).await?,
            None => fetch_from_registry(&problems, args, store, cmd).await?,
        }
        let now = check(store, args.layers, &cmd.ctx).await?;
        if now.is_empty() || now == problems {
            return Ok(now);
        }
        let still: BTreeSet<Digest> = now.iter().filter_map(|problem| problem.digest).collect();
        if still == lacking {
            return Ok(now);
        }
        problems = now;
    }
}

/// Deletes the blobs among the problems whose bytes are wrong; the digests that are not here then.
fn discard_damaged(problems: &[Problem], store: &Store) -> Result<BTreeSet<Digest>> {
    let mut lacking = BTreeSet::new();
    for digest in problems.iter().filter_map(|problem| problem.digest) {
        store.discard_damaged(&digest)?;
        if store.size_of(&digest).is_none() {
            lacking.insert(digest);
        }
    }
    Ok(lacking)
}

async fn fetch_from_archive(path: &std::path::Path, lacking: BTreeSet<Digest>, store: &Store, ctx: &Context) -> Result<()> {
    let (path, store, ctx) = (path.to_owned(), store.clone(), ctx.clone());
    tokio::task::spawn_blocking(move || {
        let archive = ImageArchive::open(&path)?;
        for digest in lacking {
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
    let suffering: BTreeSet<&Reference> = problems.iter().flat_map(|problem| &problem.images).collect();
    for name in suffering {
        let Some(root) = store.resolve(name)? else { continue };
        let source: Reference = match &args.from {
            Some(text) => text.parse().with_context(|| Failure::usage(format!("`{text}` is neither a file nor an image's name")))?,
            None => name.clone(),
        };
        let source = source.with_digest(Digest::try_from(root.digest())?);
        if let Err(error) = client.pull(&source, &platforms_here(&root, store), store, &cmd.ctx).await {
            cmd.ctx.check()?;
            cmd.ctx.warn(format!("{}: {error:#}", name.familiar()));
        }
    }
    Ok(())
}

/// The platforms of which the store has something; all if that cannot be told.
fn platforms_here(root: &Descriptor, store: &Store) -> Vec<Platform> {
    let Ok(Content::Index(index)) = store.document(root) else { return Vec::new() };
    let is_here = |arm: &&Descriptor| Blob::try_from(*arm).is_ok_and(|blob| store.has(&blob));
    let arms = index.manifests();
    if index.artifact_type().is_some() || !arms.iter().any(|arm| is_here(&arm)) {
        return Vec::new();
    }
    arms.iter().filter(is_here).filter_map(|arm| arm.platform().clone()).collect()
}
