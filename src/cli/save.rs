//! `sealift save`

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::byte_size::parse_size;
use super::{CommandContext, bytes};
use crate::archive::{Inventory, Known, Selection, check_split, save_parts, select};
use crate::atomic_file;
use crate::error::Failure;
use crate::events::Context;
use crate::image::Reference;
use crate::store::Store;

/// Save images to an archive, to carry them on a disk
///
/// The archive is an OCI layout in a tar: `sealift load` and `skopeo copy oci-archive:…` read it. The same images give the
/// same bytes.
///
/// With `--base` or `--for` it is a delta: it leaves out what the other end has, and `sealift load` refuses it where something
/// that it leans on is missing.
///
/// With `--split` it comes in numbered parts, FILE.001, FILE.002 and so on, and the list FILE.parts; `sealift load -i FILE.001` reads
/// them where they are. `--parity N` adds N parts, each of which replaces any one that is lost or broken. Joined with `cat`, the
/// numbered parts are the archive.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive's file; `-` is stdout
    // has the id of the global option, whose place it takes in this command
    #[arg(id = "output", short, long, value_name = "FILE", required = true)]
    file: String,
    /// Leave out what this image has, which the other end has too (repeatable)
    #[arg(long, value_name = "NAME")]
    base: Vec<Reference>,
    /// Leave out what the other end has, by the inventory that `sealift inventory` wrote there
    #[arg(long = "for", value_name = "INVENTORY")]
    inventory: Option<PathBuf>,
    /// Write parts of this size, for example 4G or 700M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split: Option<u64>,
    /// Add so many parts that replace any lost or broken ones
    #[arg(long, value_name = "N", default_value_t = 0, requires = "split")]
    parity: usize,
    /// The images
    #[arg(required = true)]
    names: Vec<Reference>,
}

/// Saves the images.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    tokio::task::spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let mut selection = select(&store, &args.names)?;
        let known = Known::gather(&store, &args.base, args.inventory.as_deref().map(read_inventory).transpose()?.as_ref())?;
        let saved = selection.leave_out(known)?;
        if saved > 0 {
            ctx.note(format!("left out: {} that the other end has", bytes(saved)));
        }
        match (args.file.as_str(), args.split) {
            ("", _) => bail!(Failure::usage("the archive's file has no name").hint("name it with `-o FILE`, or `-o -` for stdout")),
            ("-", None) => to_stdout(&selection, &store, &ctx),
            ("-", Some(_)) => bail!(Failure::usage("parts cannot go to stdout").hint("name their file with `-o FILE`")),
            (file, None) => to_file(&selection, Path::new(file), &store, &ctx),
            (file, Some(size)) => to_parts(&selection, Path::new(file), size, args.parity, &store, &ctx),
        }
    })
    .await?
}

fn read_inventory(path: &Path) -> Result<Inventory> {
    let unreadable = |error| {
        Failure::usage(format!("inventory {}: {error}", path.display())).hint("`sealift inventory -o FILE`, run on the site, writes one")
    };
    Inventory::parse(&std::fs::read(path).map_err(unreadable)?).with_context(|| path.display().to_string())
}

fn to_parts(selection: &Selection, file: &Path, size: u64, parity: usize, store: &Store, ctx: &Context) -> Result<()> {
    ensure!(!file.is_dir(), directory(file));
    atomic_file::sweep(file);
    check_room(&parent_of(file), check_split(selection.archive_size(), size, parity)?)?;
    let parts = save_parts(selection, store, file, size, parity, ctx).with_context(|| file.display().to_string())?;
    ctx.note(format!(
        "saved to {} in {} parts and {} parity parts, {}; `sealift load -i {}.001` loads them",
        file.display(),
        parts.parts.len(),
        parts.parity.len(),
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
    ensure!(!stdout.is_terminal(), Failure::usage("an archive is not for a terminal").hint("name a file with `-o FILE`, or pipe it on"));
    selection.write(store, BufWriter::with_capacity(1 << 20, stdout), ctx)
}

/// Writes the archive beside its place and moves it there when it is whole.
fn to_file(selection: &Selection, file: &Path, store: &Store, ctx: &Context) -> Result<()> {
    let parent = parent_of(file);
    let place = || file.display().to_string();
    if !file.exists() || file.is_file() {
        atomic_file::sweep(file);
        check_room(&parent, selection.archive_size())?;
        let part = atomic_file::draft(file).with_context(place)?;
        selection.write(store, BufWriter::with_capacity(1 << 20, part.as_file()), ctx).with_context(place)?;
        part.as_file().set_permissions(readable()).with_context(place)?;
        part.as_file().sync_all().with_context(place)?;
        part.persist(file).map_err(|error| error.error).with_context(place)?;
        atomic_file::sync_dir(&parent)?;
    } else if file.is_dir() {
        bail!(directory(file));
    } else {
        // a pipe or a device
        let mut out = BufWriter::with_capacity(1 << 20, fs_err::File::options().write(true).open(file)?);
        selection.write(store, &mut out, ctx).with_context(place)?;
        out.flush().with_context(place)?;
    }
    ctx.note(format!("saved to {}, {}", file.display(), bytes(selection.archive_size())));
    Ok(())
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

fn check_room(directory: &Path, needed: u64) -> Result<()> {
    let statistics = rustix::fs::statvfs(directory).map_err(|error| {
        Failure::failed(format!("{}: {error}", directory.display()))
            .hint("the directory of the archive must be there: make it, or name another")
    })?;
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize);
    let shown: PathBuf = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    ensure!(
        free >= needed,
        Failure::failed(format!("no room in {}: the archive needs {}, {} are free", shown.display(), bytes(needed), bytes(free)))
            .hint("make room or save to another disk; `--base` and `--for` leave out what the other end has")
    );
    Ok(())
}
