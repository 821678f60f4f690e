//! `sealift save`

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, bytes};
use crate::archive::{Selection, select};
use crate::durable;
use crate::error::Failure;
use crate::events::Job;
use crate::image::Name;
use crate::store::Store;

/// Save images to an archive, to carry them on a disk
///
/// The archive is an OCI layout in a tar: `sealift load` and `skopeo copy oci-archive:…` read it. The same images give the
/// same bytes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive's file; `-` is stdout
    // has the id of the global option, whose place it takes in this command
    #[arg(id = "output", short, long, value_name = "FILE", required = true)]
    file: String,
    /// The images
    #[arg(required = true)]
    names: Vec<Name>,
}

/// Saves the images.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let (store, job) = (context.store()?, context.job.clone());
    tokio::task::spawn_blocking(move || {
        let _in_use = store.in_use()?;
        let selection = select(&store, &args.names)?;
        if args.file == "-" { to_stdout(&selection, &store, &job) } else { to_file(&selection, Path::new(&args.file), &store, &job) }
    })
    .await?
}

fn to_stdout(selection: &Selection, store: &Store, job: &Job) -> Result<()> {
    let stdout = io::stdout().lock();
    ensure!(!stdout.is_terminal(), Failure::usage("an archive is not for a terminal").hint("name a file with `-o FILE`, or pipe it on"));
    selection.write(store, BufWriter::with_capacity(1 << 20, stdout), job)
}

/// Writes the archive beside its place and moves it there when it is whole.
fn to_file(selection: &Selection, file: &Path, store: &Store, job: &Job) -> Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let place = || file.display().to_string();
    if !file.exists() || file.is_file() {
        check_room(&parent, selection.archive_size())?;
        let part = tempfile::Builder::new().prefix(".new-").tempfile_in(&parent).with_context(place)?;
        selection.write(store, BufWriter::with_capacity(1 << 20, part.as_file()), job).with_context(place)?;
        part.as_file().set_permissions(readable()).with_context(place)?;
        part.as_file().sync_all().with_context(place)?;
        part.persist(file).map_err(|error| error.error).with_context(place)?;
        durable::sync_dir(&parent)?;
    } else if file.is_dir() {
        bail!(Failure::usage(format!("{} is a directory", file.display())).hint("name a file, for example `-o images.tar`"));
    } else {
        // a pipe or a device
        let mut out = BufWriter::with_capacity(1 << 20, fs_err::File::options().write(true).open(file)?);
        selection.write(store, &mut out, job).with_context(place)?;
        out.flush().with_context(place)?;
    }
    job.note(format!("saved to {}, {}", file.display(), bytes(selection.archive_size())));
    Ok(())
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

fn check_room(directory: &Path, needed: u64) -> Result<()> {
    let statistics = rustix::fs::statvfs(directory).with_context(|| directory.display().to_string())?;
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize);
    let shown: PathBuf = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    ensure!(
        free >= needed,
        Failure::failed(format!("no room in {}: the archive needs {}, {} are free", shown.display(), bytes(needed), bytes(free)))
    );
    Ok(())
}
