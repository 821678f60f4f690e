//! Writes an archive in parts.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::{NamedTempFile, TempPath};

use super::parity::{check_counts, encode, parity_size};
use super::part_list::{LIST, Placed, extended, parity_file, part_file};
use super::{Part, Parts, Selection};
use crate::atomic_file;
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Blob, Hasher};
use crate::store::Store;

/// Parts have at least this many bytes.
pub const SMALLEST_PART: u64 = 64 << 10;

/// How many bytes an archive takes in parts of `part_size` bytes, with parity. Fails if that cannot be done.
pub fn check_split(archive_size: u64, part_size: u64, parity: usize) -> Result<u64> {
    ensure!(part_size >= SMALLEST_PART, Failure::usage(format!("`--split {part_size}` is too small")).hint("use at least 64K"));
    let pieces = usize::try_from(archive_size.div_ceil(part_size))?;
    check_counts(pieces, parity)?;
    Ok(archive_size + parity as u64 * parity_size(archive_size.min(part_size)))
}

/// Writes the selection as `whole.001`, `whole.002`…, each of `part_size` bytes but the last, `parity` parts that can replace any of them,
/// and the list. The parts are put in their places when all are whole; what an older archive of the same name had more is deleted.
pub fn save_parts(selection: &Selection, store: &Store, whole: &Path, part_size: u64, parity: usize, ctx: &Context) -> Result<Parts> {
    check_split(selection.archive_size(), part_size, parity)?;
    let mut splitter = Splitter { archive: whole, part_size, current: None, whole: Vec::new() };
    selection.write(store, &mut splitter, ctx)?;
    let pieces = splitter.finish()?;
    let parity = encode_all(&pieces, whole, parity, ctx)?;
    put_in_place(whole, pieces, parity, selection.contents()?)
}

fn directory_of(whole: &Path) -> PathBuf {
    whole.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// A part that is whole, but not in its place yet.
struct Written {
    path: TempPath,
    blob: Blob,
}

type Output = Hasher<BufWriter<NamedTempFile>>;

fn create(whole: &Path) -> io::Result<Output> {
    let file = atomic_file::draft(whole)?;
    Ok(Hasher::new(BufWriter::with_capacity(256 << 10, file)))
}

fn close(output: Output) -> io::Result<Written> {
    let (blob, out) = output.finish();
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.as_file().sync_all()?;
    Ok(Written { path: file.into_temp_path(), blob })
}

/// Cuts what is written into parts.
struct Splitter<'a> {
    archive: &'a Path,
    part_size: u64,
    current: Option<Output>,
    whole: Vec<Written>,
}

impl Splitter<'_> {
    fn finish(mut self) -> io::Result<Vec<Written>> {
        self.whole.extend(self.current.take().map(close).transpose()?);
        Ok(self.whole)
    }
}

impl Write for Splitter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => create(self.archive)?,
        };
        let room = usize::try_from(self.part_size - current.written()).unwrap_or(usize::MAX);
        let count = current.write(&bytes[..bytes.len().min(room)])?;
        if current.written() == self.part_size {
            self.whole.push(close(current)?);
        } else {
            self.current = Some(current);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn encode_all(pieces: &[Written], whole: &Path, parity: usize, ctx: &Context) -> Result<Vec<Written>> {
    if parity == 0 {
        return Ok(Vec::new());
    }
    let longest = pieces.iter().map(|piece| piece.blob.size).max().unwrap_or(0);
    let task = ctx.task(format!("make {parity} parity parts"), Some(parity_size(longest) * parity as u64), Unit::Bytes);
    let mut outputs = (0..parity).map(|_| create(whole)).collect::<io::Result<Vec<_>>>()?;
    let paths: Vec<PathBuf> = pieces.iter().map(|piece| piece.path.to_path_buf()).collect();
    encode(&paths, longest, &mut outputs, ctx, &task)?;
    let written = outputs.into_iter().map(close).collect::<io::Result<_>>()?;
    task.done("");
    Ok(written)
}

fn put_in_place(whole: &Path, pieces: Vec<Written>, parity: Vec<Written>, contents: Vec<Placed>) -> Result<Parts> {
    let list = extended(whole, LIST);
    let old = Parts::read(&list).ok();
    if list.exists() {
        // parts of two archives under one list would be taken for broken ones
        fs_err::remove_file(&list)?;
    }
    let place = |written: Vec<Written>, name: fn(&Path, usize) -> PathBuf| {
        written.into_iter().enumerate().map(|(number, part)| finish_part(part, &name(whole, number))).collect::<Result<Vec<_>>>()
    };
    let parts = Parts::new(place(pieces, part_file)?, place(parity, parity_file)?, contents);
    for stale in
        old.iter().flat_map(|old| old.all().map(move |part| (old, part))).filter(|(_, part)| parts.all().all(|new| new.file != part.file))
    {
        std::fs::remove_file(stale.0.path(stale.1)).ok();
    }
    atomic_file::sync_dir(&directory_of(whole))?;
    parts.write(&list)?;
    Ok(parts)
}

fn finish_part(part: Written, path: &Path) -> Result<Part> {
    part.path.persist(path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
    let file =
        path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{}: the file name is not UTF-8", path.display()))?;
    Ok(Part { file: file.to_owned(), blob: Some(part.blob) })
}
