//! ADD of an archive: reads it as a tree. No file is written under a name from the archive.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tar::EntryType;

use crate::error::Failure;
use crate::layer::{Entry, Source, Tree};

/// The format of a file, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not an archive.
    Other,
    /// A tar.
    Tar,
    /// A tar in gzip.
    Gzip,
    /// A tar in zstd.
    Zstd,
    /// A tar in xz, decompressed by the machine's `xz`.
    Xz,
    /// A tar in bzip2, decompressed by the machine's `bzip2`.
    Bzip2,
}

/// Detects the format of a file. A compressed file is an archive if its name says so: `.tar.gz`, `.tgz`.
pub fn format_of(path: &Path) -> Result<Format> {
    format_by_name(path, path)
}

/// As [`format_of`], with the name that the file has in the image.
pub fn format_by_name(path: &Path, name: &Path) -> Result<Format> {
    let mut head = Vec::new();
    fs_err::File::open(path)?.take(512).read_to_end(&mut head)?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_tar = name.contains(".tar") || [".tgz", ".tzst", ".txz", ".tbz", ".tbz2"].iter().any(|ending| name.ends_with(ending));
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] if is_tar => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] if is_tar => Format::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] if is_tar => Format::Xz,
        [b'B', b'Z', b'h', ..] if is_tar => Format::Bzip2,
        _ if head.get(257..262) == Some(b"ustar") => Format::Tar,
        _ => Format::Other,
    })
}

/// Reads an archive. The contents of its files go into the directory `spool` under generated names.
///
/// # Errors
/// Fails if it is damaged, has a path that leads out of it, or a device; or if `xz` or `bzip2` is needed and not installed.
pub fn read(path: &Path, format: Format, spool: &Path) -> Result<Tree> {
    let file = fs_err::File::open(path)?.into_file();
    let buffered = |file| BufReader::with_capacity(1 << 20, file);
    match format {
        Format::Gzip => entries(flate2::read::MultiGzDecoder::new(buffered(file)), spool),
        Format::Zstd => entries(zstd::Decoder::with_buffer(buffered(file))?, spool),
        Format::Xz => decompressed_by("xz", file, spool),
        Format::Bzip2 => decompressed_by("bzip2", file, spool),
        Format::Tar | Format::Other => entries(buffered(file), spool),
    }
}

fn entries(archive: impl Read, spool: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        add(&mut tree, &name, &mut entry, spool).with_context(|| name.display().to_string())?;
    }
    Ok(tree)
}

/// Reads an archive that a program decompresses, as docker does with xz.
fn decompressed_by(program: &str, archive: File, spool: &Path) -> Result<Tree> {
    let mut child =
        Command::new(program).arg("-dc").stdin(archive).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| {
            Failure::failed(format!("cannot run `{program}`, which decompresses this archive"))
                .hint(format!("install `{program}`, or compress the archive with gzip or zstd"))
        })?;
    let mut tar = child.stdout.take().context("the program's output")?;
    let tree = entries(&mut tar, spool);
    // the rest after the end of the tar is read too, or the program ends with a broken pipe
    std::io::copy(&mut tar, &mut std::io::sink())?;
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(
        output.status.success(),
        Failure::verification(format!("{program}: {stderr}")).hint("the archive may be damaged: create or download it again")
    );
    tree
}

fn add(tree: &mut Tree, name: &Path, entry: &mut tar::Entry<'_, impl Read>, spool: &Path) -> Result<()> {
    let path = path_inside(name)?;
    let header = entry.header();
    let (mode, mtime, kind) = (header.mode()? & 0o7777, i64::try_from(header.mtime()?)?, header.entry_type());
    let target = || entry.link_name().ok().flatten().map(|name| name.into_owned()).context("is a link without a target");
    let source = match kind {
        EntryType::Directory => Source::Directory,
        EntryType::Symlink => Source::Symlink(target()?),
        EntryType::Link => Source::Hardlink(path_inside(&target()?)?),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => spooled(entry, spool)?,
        EntryType::XGlobalHeader => return Ok(()),
        other => bail!("has the unsupported entry type {other:?}: ADD takes files, directories and links"),
    };
    if let Source::Hardlink(first) = &source
        && !tree.contains_key(first)
    {
        bail!("is a hard link to {}, which is not in the archive before it", first.display());
    }
    tree.insert(path, Entry { source, mode, uid: 0, gid: 0, mtime, xattrs: Default::default() });
    Ok(())
}

/// The files of a chart's archive, without the top directory that all of them are in; `None` if it is not a chart.
pub fn chart(tree: Tree) -> Option<Tree> {
    let top = tree.keys().find(|path| path.ends_with("Chart.yaml") && path.components().count() == 2)?.parent()?.to_owned();
    let inside = |path: &Path| path.strip_prefix(&top).ok().map(Path::to_owned);
    let mut chart = Tree::new();
    for (path, mut entry) in tree {
        let Some(path) = inside(&path) else { continue };
        if let Source::Hardlink(first) = &mut entry.source {
            *first = inside(first)?;
        }
        chart.insert(path, entry);
    }
    Some(chart)
}

fn spooled(content: &mut impl Read, spool: &Path) -> Result<Source> {
    let (mut file, path) = tempfile::Builder::new().prefix("add-").tempfile_in(spool)?.keep()?;
    let size = std::io::copy(content, &mut file)?;
    Ok(Source::File(path, size))
}

fn path_inside(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => bail!("has a path outside of the archive"),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(dir: &Path, entries: &[(&str, EntryType, &str)]) -> PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(if *kind == EntryType::Regular { text.len() as u64 } else { 0 });
            if *kind != EntryType::Regular {
                header.set_link_name_literal(text).unwrap();
            }
            header.set_cksum();
            tar.append(&header, if *kind == EntryType::Regular { text.as_bytes() } else { b"" }).unwrap();
        }
        let path = dir.join("x.tar");
        std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
        path
    }

    #[test]
    fn archives_are_read_as_trees() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(
            dir.path(),
            &[("./a", EntryType::Regular, "hello"), ("/b", EntryType::Link, "a"), ("c", EntryType::Symlink, "../../etc")],
        );
        assert_eq!(format_of(&path).unwrap(), Format::Tar);
        let tree = read(&path, Format::Tar, dir.path()).unwrap();
        let Source::File(content, 5) = &tree[Path::new("a")].source else { panic!("a file of 5 bytes") };
        assert_eq!(std::fs::read(content).unwrap(), b"hello");
        assert_eq!(tree[Path::new("b")].source, Source::Hardlink("a".into()));
        assert_eq!(tree[Path::new("c")].source, Source::Symlink("../../etc".into()));
    }

    #[test]
    fn a_chart_is_read_without_its_top_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), &[("web/Chart.yaml", EntryType::Regular, "x"), ("web/templates/a", EntryType::Regular, "")]);
        let tree = chart(read(&path, Format::Tar, dir.path()).unwrap()).unwrap();
        assert_eq!(tree.keys().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), ["Chart.yaml", "templates/a"]);
        let path = archive(dir.path(), &[("Chart.yaml", EntryType::Regular, "x")]);
        assert_eq!(chart(read(&path, Format::Tar, dir.path()).unwrap()), None);
    }

    #[test]
    fn paths_outside_of_the_archive_are_refused() {
        for (entries, why) in [
            ([("../evil", EntryType::Regular, "x")], "outside"),
            ([("a/../../evil", EntryType::Regular, "x")], "outside"),
            ([("b", EntryType::Link, "../../etc/passwd")], "outside"),
            ([("b", EntryType::Link, "nowhere")], "not in the archive"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let error = read(&archive(dir.path(), &entries), Format::Tar, dir.path()).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
