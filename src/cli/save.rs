//! `sealift save`

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::byte_size::parse_size;
use super::{CommandContext, ImageArg, bytes, count};
use crate::archive::{Baseline, Inventory, Selection, save_parts, select, split_size};
use crate::atomic_file;
use crate::error::Failure;
use crate::events::Context;
use crate::store::Store;

/// Save images to an archive file
///
/// The archive is an OCI layout in a tar: `sealift load` and `skopeo copy oci-archive:…` read it. The same images give the
/// same bytes.
///
/// With `--base` or `--for` it is a delta: it leaves out blobs that the receiver has. `sealift load` refuses a delta where a blob that
/// it depends on is missing.
///
/// With `--split` it is written as numbered parts FILE.001, FILE.002 and so on, and the list FILE.parts; `sealift load -i FILE.001`
/// reads them all. `--parity N` adds N parts, each of which replaces any part that is lost or damaged. Joined with `cat`, the numbered
/// parts are the archive.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift save -o shop.tar shop:1.0\n  sealift save -o update.tar --base shop:1.0 shop:1.1\n  sealift save -o update.tar --for site.json shop:1.1\n  sealift save -o disk/shop.tar --split 4G --parity 2 shop:1.0"
)]
pub struct Args {
    /// The archive's file; `-` is stdout
    // has the id of the global option, whose place it takes in this command
    #[arg(id = "output", short, long, value_name = "FILE", required = true)]
    file: String,
    /// Leave out the blobs of this image: the receiver has it (repeatable)
    #[arg(long, value_name = "NAME", add = super::complete::images())]
    base: Vec<ImageArg>,
    /// Leave out the blobs in this inventory, which `sealift inventory` wrote at the receiver
    #[arg(long = "for", value_name = "INVENTORY")]
    inventory: Option<PathBuf>,
    /// Write parts of this size, for example 4G or 700M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split: Option<u64>,
    /// Add N parts that replace any lost or damaged ones
    #[arg(long, value_name = "N", default_value_t = 0, requires = "split")]
    parity: usize,
    /// The images in the store: their names or digests
    #[arg(required = true, value_name = "NAME", add = super::complete::images())]
    names: Vec<ImageArg>,
}

/// Saves the images.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    tokio::task::spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let names = args.names.iter().map(|name| name.only_name_in_store(&store)).collect::<Result<Vec<_>>>()?;
        let base = ImageArg::all_in_store(&args.base, &store)?;
        let mut selection = select(&store, &names)?;
        let known = Baseline::gather(&store, &base, args.inventory.as_deref().map(read_inventory).transpose()?.as_ref())?;
        let saved = selection.exclude(known)?;
        if saved > 0 {
            ctx.note(format!("left out: {} that the receiver has", bytes(saved)));
        }
        match (args.file.as_str(), args.split) {
            ("", _) => bail!(Failure::usage("the archive file has no name").hint("name it with `-o FILE`, or `-o -` for stdout")),
            ("-", None) => to_stdout(&selection, &store, &ctx),
            ("-", Some(_)) => bail!(Failure::usage("parts cannot be written to stdout").hint("name a file with `-o FILE`")),
            (file, None) => to_file(&selection, Path::new(file), &store, &ctx),
            (file, Some(size)) => to_parts(&selection, Path::new(file), size, args.parity, &store, &ctx),
        }
    })
    .await?
}

fn read_inventory(path: &Path) -> Result<Inventory> {
    let unreadable = |error| {
        Failure::usage(format!("inventory {}: {error}", path.display()))
            .hint("`sealift inventory -o FILE`, run at the receiver, writes one")
    };
    Inventory::parse(&std::fs::read(path).map_err(unreadable)?).with_context(|| path.display().to_string())
}

fn to_parts(selection: &Selection, file: &Path, size: u64, parity: usize, store: &Store, ctx: &Context) -> Result<()> {
    ensure!(!file.is_dir(), directory(file));
    atomic_file::remove_stale_temporaries(file);
    check_disk_space(&parent_of(file), split_size(selection.archive_size(), size, parity)?)?;
    let parts = save_parts(selection, store, file, size, parity, ctx).with_context(|| file.display().to_string())?;
    ctx.note(format!(
        "saved to {} in {} and {}, {}; `sealift load -i {}.001` loads them",
        file.display(),
        count(parts.parts.len(), "part"),
        count(parts.parity.len(), "parity part"),
        bytes(selection.archive_size()),
        file.display()
    ));
    Ok(())
}

fn parent_of(file: &Path) -> PathBuf {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn directory(file: &Path) -> Failure {
    Failure::usage(format!("{} is a directory", file.display())).hint("name a file, for example `-o images.tar`")
}

fn to_stdout(selection: &Selection, store: &Store, ctx: &Context) -> Result<()> {
    let stdout = io::stdout().lock();
    ensure!(
        !stdout.is_terminal(),
        Failure::usage("stdout is a terminal, and an archive is binary").hint("name a file with `-o FILE`, or pipe it")
    );
    selection.write(store, BufWriter::with_capacity(1 << 20, stdout), ctx)
}

/// Writes the archive beside its place and moves it there when it is whole.
fn to_file(selection: &Selection, file: &Path, store: &Store, ctx: &Context) -> Result<()> {
    let parent = parent_of(file);
    let path = || file.display().to_string();
    if !file.exists() || file.is_file() {
        atomic_file::remove_stale_temporaries(file);
        check_disk_space(&parent, selection.archive_size())?;
        let part = atomic_file::create_temporary(file).with_context(path)?;
        selection.write(store, BufWriter::with_capacity(1 << 20, part.as_file()), ctx).with_context(path)?;
        part.as_file().set_permissions(readable()).with_context(path)?;
        part.as_file().sync_all().with_context(path)?;
        part.persist(file).map_err(|error| error.error).with_context(path)?;
        atomic_file::sync_dir(&parent)?;
    } else if file.is_dir() {
        bail!(directory(file));
    } else {
        // a pipe or a device
        let mut out = BufWriter::with_capacity(1 << 20, fs_err::File::options().write(true).open(file)?);
        selection.write(store, &mut out, ctx).with_context(path)?;
        out.flush().with_context(path)?;
    }
    ctx.note(format!("saved to {}, {}", file.display(), bytes(selection.archive_size())));
    Ok(())
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

fn check_disk_space(directory: &Path, needed: u64) -> Result<()> {
    let statistics = rustix::fs::statvfs(directory).map_err(|error| {
        Failure::failed(format!("{}: {error}", directory.display())).hint("create the directory, or name another file with `-o`")
    })?;
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize);
    let shown: PathBuf = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    ensure!(
        free >= needed,
        Failure::failed(format!("no space left in {}: the archive needs {}, {} are free", shown.display(), bytes(needed), bytes(free)))
            .hint("free some space or save to another disk; `--base` and `--for` leave out what the receiver has")
    );
    Ok(())
}
