//! The list of parts of a split archive (`NAME.parts`, JSON).

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Blob, Hasher};

const VERSION: u32 = 2;
/// The size limit of a list in bytes; it has an entry for every blob.
const MAX_LIST: u64 = 64 << 20;
/// The file name extension of the list.
pub(super) const LIST: &str = "parts";

/// One part of a split archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its file name, in the directory of the list.
    pub file: String,
    /// Its digest and size; unknown if the list is missing.
    #[serde(flatten)]
    pub blob: Option<Blob>,
}

/// A blob of a split archive, or its metadata (everything before the blobs), with its offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its digest and size.
    #[serde(flatten)]
    pub blob: Blob,
    /// The offset of its first byte in the archive.
    pub offset: u64,
}

impl Entry {
    /// The offset of the byte after it.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.blob.size)
    }
}

/// The parts of a split archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartList {
    version: u32,
    /// The parts, in order.
    pub parts: Vec<Part>,
    /// The parity parts.
    #[serde(default)]
    pub parity: Vec<Part>,
    /// The metadata of the archive, then its blobs, by offset; empty if the list is missing.
    pub contents: Vec<Entry>,
    /// The directory of the files.
    #[serde(skip)]
    directory: PathBuf,
}

/// Finds the parts for a path: the list `NAME.parts`, any part of it, or a `NAME` that exists only in parts. `None` for an archive
/// that is not split.
///
/// Without a list, `NAME.001` stands for the numbered files up to the first gap.
pub fn find_parts(path: &Path) -> Result<Option<PartList>> {
    let archive = archive_path(path);
    let list = with_suffix(archive.as_deref().unwrap_or(path), LIST);
    if list.is_file() && (archive.is_some() || !path.exists()) {
        return PartList::read(&list).map(Some);
    }
    Ok(match archive {
        Some(archive) if path.extension().is_some_and(|number| number == "001") => PartList::from_numbered_files(&archive),
        _ => None,
    })
}

/// `NAME` of `NAME.001`, `NAME.p01` and `NAME.parts`.
fn archive_path(path: &Path) -> Option<PathBuf> {
    let ending = path.extension()?.to_str()?;
    let numbered = |digits: &str, least: usize| digits.len() >= least && digits.bytes().all(|digit| digit.is_ascii_digit());
    let is_part = ending == LIST || numbered(ending, 3) || ending.strip_prefix('p').is_some_and(|digits| numbered(digits, 2));
    is_part.then(|| path.with_extension(""))
}

/// Appends `.ending` to a path.
pub(super) fn with_suffix(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}

/// The path of a part, counted from 0.
pub(super) fn part_file(archive: &Path, number: usize) -> PathBuf {
    with_suffix(archive, &format!("{:03}", number + 1))
}

/// The path of a parity part, counted from 0.
pub(super) fn parity_file(archive: &Path, number: usize) -> PathBuf {
    with_suffix(archive, &format!("p{:02}", number + 1))
}

impl PartList {
    pub(super) fn new(parts: Vec<Part>, parity: Vec<Part>, contents: Vec<Entry>) -> PartList {
        PartList { version: VERSION, parts, parity, contents, directory: PathBuf::new() }
    }

    /// Reads and checks a list. A damaged one is an error of kind `Verification`.
    pub fn read(list: &Path) -> Result<PartList> {
        let damaged = |why: String| {
            Failure::verification(format!("{}: {why}", list.display()))
                .hint("copy it again, or delete it and load the file that ends in `.001`")
        };
        let mut bytes = Vec::new();
        fs_err::File::open(list)?.take(MAX_LIST).read_to_end(&mut bytes)?;
        let not_a_list = |error| damaged(format!("not a list of parts: {error}"));
        let version: Version = serde_json::from_slice(&bytes).map_err(not_a_list)?;
        ensure!(
            version.version == VERSION,
            damaged(format!("unsupported version {} of the list of parts: expected {VERSION}", version.version))
        );
        let mut parts: PartList = serde_json::from_slice(&bytes).map_err(not_a_list)?;
        for part in parts.parts.iter().chain(&parts.parity) {
            let is_file_name = Path::new(&part.file).file_name().is_some_and(|name| name == part.file.as_str());
            ensure!(is_file_name, damaged(format!("`{}` is not a file name", part.file)));
            ensure!(part.blob.is_some(), damaged(format!("no digest and size for part `{}`", part.file)));
        }
        ensure!(!parts.parts.is_empty(), damaged("it lists no parts".to_owned()));
        ensure!(parts.contents_fit(), damaged("the offsets of the blobs do not fit the parts".to_owned()));
        parts.directory = list.parent().map(Path::to_owned).unwrap_or_default();
        Ok(parts)
    }

    /// Whether the entries begin with the metadata at offset 0, do not overlap, and end within the parts.
    fn contents_fit(&self) -> bool {
        let total = self.parts.iter().filter_map(|part| part.blob).try_fold(0u64, |sum, blob| sum.checked_add(blob.size));
        let mut end = 0;
        let in_order = |entry: &Entry| entry.offset >= std::mem::replace(&mut end, entry.end());
        let same_size = self.parts[..self.parts.len() - 1].iter().all(|part| part.blob.map(|blob| blob.size) == Some(self.size(0)));
        same_size
            && self.size(0) > 0
            && self.contents.first().is_some_and(|metadata| metadata.offset == 0)
            && self.contents.iter().all(in_order)
            && total.is_some_and(|total| end <= total && end < u64::MAX)
    }

    /// The entry of the metadata.
    pub(super) fn metadata(&self) -> &Entry {
        &self.contents[0]
    }

    /// Whether an entry is a blob, and not the metadata.
    pub(super) fn is_blob(&self, entry: &Entry) -> bool {
        entry.offset > 0
    }

    /// The blobs of the archive.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Blob> + '_ {
        self.contents.iter().skip(1).map(|entry| entry.blob)
    }

    /// The size of a part in bytes.
    pub(super) fn size(&self, number: usize) -> u64 {
        self.parts[number].blob.map_or(0, |blob| blob.size)
    }

    /// The range of the archive that a part has. All parts but the last have the same size.
    pub(super) fn range(&self, number: usize) -> Range<u64> {
        let start = number as u64 * self.size(0);
        start..start + self.size(number)
    }

    /// The ranges of an entry in each of the parts that it spans.
    pub(super) fn ranges(&self, entry: &Entry) -> Vec<Range<u64>> {
        let size = self.size(0).max(1);
        let numbers = entry.offset / size..entry.end().div_ceil(size);
        let within = |number: u64| {
            let (start, end) = (entry.offset.max(number * size), entry.end().min((number + 1).saturating_mul(size)));
            start - entry.offset..end - entry.offset
        };
        numbers.map(within).collect()
    }

    /// A list of the numbered files, from the first to a gap; `None` if there is no first.
    fn from_numbered_files(archive: &Path) -> Option<PartList> {
        let files = (0..).map(|number| part_file(archive, number)).take_while(|path| path.is_file());
        let part = |path: PathBuf| Some(Part { file: path.file_name()?.to_str()?.to_owned(), blob: None });
        let parts = files.map(part).collect::<Option<Vec<_>>>()?;
        let directory = archive.parent().map(Path::to_owned).unwrap_or_default();
        (!parts.is_empty()).then(|| PartList { directory, ..PartList::new(parts, Vec::new(), Vec::new()) })
    }

    /// Whether there is a list, so that damaged parts can be recognized.
    pub fn is_listed(&self) -> bool {
        !self.contents.is_empty()
    }

    /// The paths of the parts, in order.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| self.path(part)).collect()
    }

    /// All parts, then all parity parts.
    pub(super) fn all(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(&self.parity)
    }

    /// The part with this number among [`PartList::all`].
    pub(super) fn part(&self, number: usize) -> &Part {
        self.parts.get(number).unwrap_or_else(|| &self.parity[number - self.parts.len()])
    }

    /// The path of a part.
    pub(super) fn path(&self, part: &Part) -> PathBuf {
        self.directory.join(&part.file)
    }

    /// The numbers (among [`PartList::all`]) of parts that do not exist or have another size.
    pub(super) fn missing(&self) -> BTreeSet<usize> {
        let exists = |part: &Part| {
            let found = std::fs::metadata(self.path(part)).ok().filter(std::fs::Metadata::is_file);
            found.is_some_and(|found| part.blob.is_none_or(|blob| blob.size == found.len()))
        };
        self.all().enumerate().filter(|(_, part)| !exists(part)).map(|(number, _)| number).collect()
    }

    /// The numbers of parts that are missing or damaged. Reads all parts.
    pub(super) fn find_damaged(&self, ctx: &Context) -> Result<BTreeSet<usize>> {
        let total = self.all().filter_map(|part| part.blob).fold(0u64, |sum, blob| sum.saturating_add(blob.size));
        let task = ctx.task("check parts", Some(total), Unit::Bytes);
        let mut damaged = self.missing();
        for (number, part) in self.all().enumerate() {
            if !damaged.contains(&number) && part.blob.is_some() && part.blob != self.hash(part, ctx)? {
                damaged.insert(number);
            }
            task.advance(part.blob.map_or(0, |blob| blob.size));
        }
        task.done("");
        Ok(damaged)
    }

    /// Digest and size of a part's file; `None` if it cannot be read.
    fn hash(&self, part: &Part, ctx: &Context) -> Result<Option<Blob>> {
        let Ok(mut file) = std::fs::File::open(self.path(part)) else { return Ok(None) };
        let (mut hasher, mut buffer) = (Hasher::new(io::sink()), vec![0; 256 << 10]);
        loop {
            ctx.check()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Some(hasher.finish().0)),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// The file names of parts, for messages.
    pub(super) fn names(&self, numbers: &BTreeSet<usize>) -> String {
        numbers.iter().map(|&number| format!("`{}`", self.part(number).file)).collect::<Vec<_>>().join(", ")
    }

    /// Whether the intact parity parts can replace all damaged parts.
    pub(super) fn can_rebuild(&self, damaged: &BTreeSet<usize>) -> bool {
        let lost = damaged.range(..self.parts.len()).count();
        lost <= self.parity.len() - damaged.range(self.parts.len()..).count()
    }

    /// Writes the list atomically and syncs it.
    pub(super) fn write(&self, list: &Path) -> Result<()> {
        crate::atomic_file::write(list, &serde_json::to_vec_pretty(self)?, 0o644).with_context(|| list.display().to_string())
    }
}

/// The version of a list, which is parsed first.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_recognized_by_their_extension() {
        for (path, archive) in [
            ("a/x.tar.001", Some("a/x.tar")),
            ("x.tar.1000", Some("x.tar")),
            ("x.tar.p01", Some("x.tar")),
            ("x.tar.parts", Some("x.tar")),
            ("x.tar", None),
            ("x.01", None),
            ("x.pxy", None),
            ("x", None),
        ] {
            assert_eq!(archive_path(Path::new(path)).as_deref(), archive.map(Path::new), "{path}");
        }
    }

    #[test]
    fn lists_with_files_in_other_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("x.parts");
        let blob = Blob::of(b"x");
        for (file, good) in [("x.001", true), ("../x.001", false), ("/etc/x.001", false), ("", false), ("a/b", false)] {
            let contents = vec![Entry { blob, offset: 0 }];
            PartList::new(vec![Part { file: file.to_owned(), blob: Some(blob) }], Vec::new(), contents).write(&list).unwrap();
            assert_eq!(PartList::read(&list).is_ok(), good, "{file}");
        }
        std::fs::write(&list, b"{}").unwrap();
        assert!(PartList::read(&list).is_err());
    }

    #[test]
    fn lists_with_impossible_offsets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("x.parts");
        let of = |size| Blob { size, ..Blob::of(b"x") };
        let at = |offset, size| Entry { blob: of(size), offset };
        let sizes = |sizes: &[u64]| sizes.iter().map(|size| Part { file: "x.001".to_owned(), blob: Some(of(*size)) }).collect::<Vec<_>>();
        for (case, parts, contents, good) in [
            ("good", sizes(&[10, 10, 5]), vec![at(0, 4), at(6, 10), at(16, 9)], true),
            ("no metadata", sizes(&[10]), vec![at(1, 4)], false),
            ("nothing", sizes(&[10]), vec![], false),
            ("over each other", sizes(&[10]), vec![at(0, 4), at(3, 4)], false),
            ("behind the end", sizes(&[10]), vec![at(0, 4), at(8, 3)], false),
            ("too large", sizes(&[10]), vec![at(0, 4), at(8, u64::MAX)], false),
            ("of several sizes", sizes(&[10, 9, 10]), vec![at(0, 4)], false),
            ("empty", sizes(&[0, 0]), vec![at(0, 0)], false),
            ("larger than all", sizes(&[u64::MAX, u64::MAX]), vec![at(0, 4)], false),
        ] {
            PartList::new(parts, Vec::new(), contents).write(&list).unwrap();
            assert_eq!(PartList::read(&list).is_ok(), good, "{case}");
        }
    }

    #[test]
    fn a_blob_that_spans_parts_has_a_range_in_each() {
        let of = |size| Some(Blob { size, ..Blob::of(b"x") });
        let parts = [10, 10, 5].map(|size| Part { file: "x.001".to_owned(), blob: of(size) });
        let parts = PartList::new(parts.to_vec(), Vec::new(), Vec::new());
        for (offset, size, cuts) in [(0, 4, &[0, 4][..]), (6, 4, &[0, 4]), (6, 5, &[0, 4, 5]), (9, 16, &[0, 1, 11, 16]), (10, 10, &[0, 10])]
        {
            let entry = Entry { blob: Blob { size, ..Blob::of(b"x") }, offset };
            let expected: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            assert_eq!(parts.ranges(&entry), expected, "{size} bytes at {offset}");
        }
    }
}
