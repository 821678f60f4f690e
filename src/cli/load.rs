//! `sealift load`

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::CommandContext;
use super::trust_args::PolicyArgs;
use crate::archive::{Loaded, Naming, ensure_room_for, find_parts, load, load_parts};
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::image::Reference;
use crate::store::Store;

/// Load images from an archive
///
/// Reads what `sealift save` and `skopeo copy … oci-archive:…` write. Every blob is verified. Interrupted, it keeps what arrived:
/// load again to go on.
///
/// Of a split archive name any part, beside the list that ends in `.parts`: the others are read where they are. They may also come one
/// after another, on several disks: what is still missing is named, and parts that are in need not be there again (unless `prune` comes
/// between). A part that is broken is named, and only it needs to be copied again; lost and broken parts are rebuilt while loading if
/// the archive has enough parity parts.
///
/// Signatures and SBOMs come along; of images that the trust policy refuses none is named.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive's file [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Name the one image of the archive so, instead of as the archive says
    #[arg(short, long, value_name = "NAME")]
    tag: Option<Reference>,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Loads the images.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let naming = Naming { tag: args.tag, policy: args.policy.policy()?, ..Naming::default() };
    let loaded: Loaded = tokio::task::spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let name = args.input.as_ref().map_or("stdin".to_owned(), |path| path.display().to_string());
        let loaded = match args.input.as_deref().map_or(Ok(None), find_parts)? {
            Some(parts) => load_parts(&store, &parts, &naming, &ctx),
            None => open(args.input.as_deref(), &store).and_then(|source| load(&store, source, &naming, &ctx)),
        };
        loaded.map_err(|error| of_archive(error, &name))
    })
    .await??;
    cmd.console.answer(&loaded, || loaded.images.iter().map(|name| format!("{}\n", name.familiar())).collect())
}

/// Says which archive it was, and what to do about a damaged one.
fn of_archive(error: anyhow::Error, name: &str) -> anyhow::Error {
    let kind = kind_of(&error);
    let failure = hints_of(&error).iter().fold(Failure::new(kind, format!("archive {name}")), Failure::hint);
    let unhelped = kind == Kind::Verification && failure.hints.is_empty();
    error.context(if unhelped {
        failure.hint("copy it again from where `sealift save` wrote it; what arrived whole is kept")
    } else {
        failure
    })
}

/// Opens the archive; one that is a file is looked through for the room that it needs.
fn open(input: Option<&Path>, store: &Store) -> Result<Box<dyn Read>> {
    let mut file = match input.filter(|path| path.as_os_str() != "-") {
        Some(path) => open_file(path)?,
        None => {
            let stdin = io::stdin();
            ensure!(!stdin.is_terminal(), Failure::usage("no archive to load").hint("name its file with `-i FILE`"));
            File::from(stdin.as_fd().try_clone_to_owned()?)
        }
    };
    // pipes cannot be looked at twice
    if file.metadata()?.is_file() {
        let begin = file.stream_position()?;
        ensure_room_for(&file, store)?;
        file.seek(SeekFrom::Start(begin))?;
    }
    Ok(Box::new(file))
}

fn open_file(path: &Path) -> Result<File> {
    let name_one = "name the archive's file, or any part of a split one";
    if path.is_dir() {
        let failure = Failure::usage("it is a directory, not an archive");
        let is_layout = path.join("oci-layout").exists();
        return Err(match is_layout {
            true => failure.hint(format!("an image layout is a store: `sealift images --store {0}` lists what is in {0}", path.display())),
            false => failure.hint(name_one),
        }
        .into());
    }
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::failed(format!("{}: {error}", path.display())).hint(name_one),
        _ => Failure::failed(format!("{}: {error}", path.display())),
    };
    Ok(File::open(path).map_err(unreadable)?)
}
