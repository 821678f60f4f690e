//! Saves an archive in parts.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::{NamedTempFile, TempPath};

use super::parity::{check_counts, encode, parity_size};
use super::part_list::{Entry, LIST, parity_file, part_file, with_suffix};
use super::{Part, PartList, Selection};
use crate::atomic_file;
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Blob, Hasher};
use crate::store::Store;

/// The minimum size of a part in bytes.
pub const MIN_PART_SIZE: u64 = 64 << 10;

/// The size of an archive in bytes when it is split into parts of `part_size` bytes, parity included.
///
/// # Errors
/// `Usage` if the parts are too small or too many.
pub fn split_size(archive_size: u64, part_size: u64, parity: usize) -> Result<u64> {
    ensure!(part_size >= MIN_PART_SIZE, Failure::usage(format!("`--split {part_size}` is too small")).hint("use at least 64K"));
    let parts = usize::try_from(archive_size.div_ceil(part_size))?;
    check_counts(parts, parity)?;
    Ok(archive_size + parity as u64 * parity_size(archive_size.min(part_size)))
}

/// Writes the selection as `archive.001`, `archive.002`…, all of `part_size` bytes but the last, with `parity` parity parts and the list
/// `archive.parts`. Parts are renamed to their names when all are complete; surplus parts of an older archive are deleted.
pub fn save_parts(selection: &Selection, store: &Store, archive: &Path, part_size: u64, parity: usize, ctx: &Context) -> Result<PartList> {
    split_size(selection.archive_size(), part_size, parity)?;
    let mut splitter = Splitter { archive, part_size, current: None, parts: Vec::new() };
    selection.write(store, &mut splitter, ctx)?;
    let parts = splitter.finish()?;
    let parity = encode_all(&parts, archive, parity, ctx)?;
    publish(archive, parts, parity, selection.contents()?)
}

fn directory_of(archive: &Path) -> PathBuf {
    archive.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// A complete part in a temporary file.
struct FinishedPart {
    path: TempPath,
    blob: Blob,
}

type Output = Hasher<BufWriter<NamedTempFile>>;

fn create(archive: &Path) -> io::Result<Output> {
    let file = atomic_file::create_temporary(archive)?;
    Ok(Hasher::new(BufWriter::with_capacity(256 << 10, file)))
}

fn close(output: Output) -> io::Result<FinishedPart> {
    let (blob, out) = output.finish();
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.as_file().sync_all()?;
    Ok(FinishedPart { path: file.into_temp_path(), blob })
}

/// Splits what is written into parts.
struct Splitter<'a> {
    archive: &'a Path,
    part_size: u64,
    current: Option<Output>,
    parts: Vec<FinishedPart>,
}

impl Splitter<'_> {
    fn finish(mut self) -> io::Result<Vec<FinishedPart>> {
        self.parts.extend(self.current.take().map(close).transpose()?);
        Ok(self.parts)
    }
}

impl Write for Splitter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => create(self.archive)?,
        };
        let space = usize::try_from(self.part_size - current.written()).unwrap_or(usize::MAX);
        let count = current.write(&bytes[..bytes.len().min(space)])?;
        if current.written() == self.part_size {
            self.parts.push(close(current)?);
        } else {
            self.current = Some(current);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn encode_all(parts: &[FinishedPart], archive: &Path, parity: usize, ctx: &Context) -> Result<Vec<FinishedPart>> {
    if parity == 0 {
        return Ok(Vec::new());
    }
    let longest = parts.iter().map(|part| part.blob.size).max().unwrap_or(0);
    let task = ctx.task(format!("make {parity} parity parts"), Some(parity_size(longest) * parity as u64), Unit::Bytes);
    let mut outputs = (0..parity).map(|_| create(archive)).collect::<io::Result<Vec<_>>>()?;
    let paths: Vec<PathBuf> = parts.iter().map(|part| part.path.to_path_buf()).collect();
    encode(&paths, longest, &mut outputs, ctx, &task)?;
    let written = outputs.into_iter().map(close).collect::<io::Result<_>>()?;
    task.done("");
    Ok(written)
}

fn publish(archive: &Path, parts: Vec<FinishedPart>, parity: Vec<FinishedPart>, contents: Vec<Entry>) -> Result<PartList> {
    let list = with_suffix(archive, LIST);
    let old = PartList::read(&list).ok();
    if list.exists() {
        // with the old list, the new parts would look damaged
        fs_err::remove_file(&list)?;
    }
    let place = |written: Vec<FinishedPart>, name: fn(&Path, usize) -> PathBuf| {
        written.into_iter().enumerate().map(|(number, part)| finish_part(part, &name(archive, number))).collect::<Result<Vec<_>>>()
    };
    let parts = PartList::new(place(parts, part_file)?, place(parity, parity_file)?, contents);
    for stale in
        old.iter().flat_map(|old| old.all().map(move |part| (old, part))).filter(|(_, part)| parts.all().all(|new| new.file != part.file))
    {
        std::fs::remove_file(stale.0.path(stale.1)).ok();
    }
    atomic_file::sync_dir(&directory_of(archive))?;
    parts.write(&list)?;
    Ok(parts)
}

fn finish_part(part: FinishedPart, path: &Path) -> Result<Part> {
    part.path.persist(path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
    let file =
        path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{}: the file name is not UTF-8", path.display()))?;
    Ok(Part { file: file.to_owned(), blob: Some(part.blob) })
}
