//! `sealift load`

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::CommandContext;
use super::trust_args::PolicyArgs;
use crate::archive::{LoadOptions, LoadSummary, ensure_disk_space_for, find_parts, load, load_parts};
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::image::Reference;
use crate::store::Store;

/// Load images from an archive file
///
/// Reads archives of `sealift save`, `skopeo copy … oci-archive:…`, `oras backup`, `cosign save` (its directory in a tar), `docker save`
/// and `podman save`, also compressed with gzip or zstd. Every blob is verified. Interrupted, the same command resumes.
///
/// Of a split archive name any part, next to its list FILE.parts: the other parts in that directory are read too. Parts may also come
/// one after another, on several disks: missing parts are named, and loaded ones need not be there again (unless `prune` runs in
/// between). A damaged part is named, and only it needs to be copied again; lost and damaged parts are rebuilt if the archive has
/// enough parity parts.
///
/// Signatures and SBOMs are loaded too. If the trust policy refuses one image, no image gets a name in the store.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift load -i shop.tar\n  sealift load -i /media/disk/shop.tar.001\n  sealift load -i nginx.tar -t nginx:1.27\n  ssh build cat shop.tar | sealift load"
)]
pub struct Args {
    /// The archive file [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The name for the only image of the archive, instead of its name there
    #[arg(short, long, value_name = "NAME")]
    tag: Option<Reference>,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Loads the images.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let naming = LoadOptions { tag: args.tag, policy: args.policy.policy()?, ..LoadOptions::default() };
    let loaded: LoadSummary = tokio::task::spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let name = args.input.as_ref().map_or("stdin".to_owned(), |path| path.display().to_string());
        let loaded = match args.input.as_deref().map_or(Ok(None), find_parts)? {
            Some(parts) => load_parts(&store, &parts, &naming, &ctx),
            None => open(args.input.as_deref(), &store).and_then(|source| load(&store, source, &naming, &ctx)),
        };
        loaded.map_err(|error| name_archive(error, &name))
    })
    .await??;
    cmd.console.answer(&loaded, || loaded.images.iter().map(|name| format!("{}\n", name.familiar())).collect())
}

/// Puts the archive on top of an error, and what to do about a damaged one.
fn name_archive(error: anyhow::Error, name: &str) -> anyhow::Error {
    let kind = kind_of(&error);
    let failure = hints_of(&error).iter().fold(Failure::new(kind, format!("archive {name}")), Failure::hint);
    let has_no_hint = kind == Kind::Verification && failure.hints.is_empty();
    error.context(if has_no_hint {
        failure.hint("copy it again from where `sealift save` wrote it; blobs that verified are kept")
    } else {
        failure
    })
}

/// Opens the archive; of a file, checks first that its blobs fit the disk.
fn open(input: Option<&Path>, store: &Store) -> Result<Box<dyn Read>> {
    let mut file = match input.filter(|path| path.as_os_str() != "-") {
        Some(path) => open_file(path)?,
        None => {
            let stdin = io::stdin();
            ensure!(!stdin.is_terminal(), Failure::usage("no archive to load").hint("name its file with `-i FILE`"));
            File::from(stdin.as_fd().try_clone_to_owned()?)
        }
    };
    // a pipe cannot be read twice
    if file.metadata()?.is_file() {
        let begin = file.stream_position()?;
        ensure_disk_space_for(&file, store)?;
        file.seek(SeekFrom::Start(begin))?;
    }
    Ok(Box::new(file))
}

fn open_file(path: &Path) -> Result<File> {
    let name_file = "name the archive file, or any part of a split one";
    if path.is_dir() {
        let failure = Failure::usage("it is a directory, not an archive file");
        let is_layout = path.join("oci-layout").exists();
        return Err(match is_layout {
            true => {
                failure.hint(format!("an OCI layout directory is a store: `sealift images --store {0}` lists its images", path.display()))
            }
            false => failure.hint(name_file),
        }
        .into());
    }
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::failed(format!("{}: {error}", path.display())).hint(name_file),
        _ => Failure::failed(format!("{}: {error}", path.display())),
    };
    Ok(File::open(path).map_err(unreadable)?)
}
