//! The list of a split archive's parts, and where they are.

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
/// A list is at most this many bytes: it names every blob of the archive.
const MAX_LIST: u64 = 64 << 20;
/// What the list's name ends in.
pub(super) const LIST: &str = "parts";

/// One part of a split archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its file, beside the list.
    pub file: String,
    /// Its digest and size; unknown if the list is lost.
    #[serde(flatten)]
    pub blob: Option<Blob>,
}

/// A blob of a split archive, or its head (all that comes before the blobs), and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its digest and size.
    #[serde(flatten)]
    pub blob: Blob,
    /// The byte of the archive at which it begins.
    pub offset: u64,
}

impl Placed {
    /// The byte of the archive after it.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.blob.size)
    }
}

/// The parts of a split archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    version: u32,
    /// The pieces, in order.
    pub parts: Vec<Part>,
    /// What replaces lost ones.
    #[serde(default)]
    pub parity: Vec<Part>,
    /// The head of the archive, then its blobs, in the order in which they are there; unknown if the list is lost.
    pub contents: Vec<Placed>,
    /// Where they are.
    #[serde(skip)]
    directory: PathBuf,
}

/// The parts that a path means: the list `NAME.parts`, any numbered part of it, or a `NAME` that is there only in parts. `None` if the path
/// is that of an archive in one piece.
///
/// Without a list, `NAME.001` means it and the numbered files that follow without a gap.
pub fn find_parts(path: &Path) -> Result<Option<Parts>> {
    let whole = whole_of(path);
    let list = extended(whole.as_deref().unwrap_or(path), LIST);
    if list.is_file() && (whole.is_some() || !path.exists()) {
        return Parts::read(&list).map(Some);
    }
    Ok(match whole {
        Some(whole) if path.extension().is_some_and(|number| number == "001") => Parts::follow(&whole),
        _ => None,
    })
}

/// `NAME` of `NAME.001`, `NAME.p01` and `NAME.parts`.
fn whole_of(path: &Path) -> Option<PathBuf> {
    let ending = path.extension()?.to_str()?;
    let numbered = |digits: &str, least: usize| digits.len() >= least && digits.bytes().all(|digit| digit.is_ascii_digit());
    let is_part = ending == LIST || numbered(ending, 3) || ending.strip_prefix('p').is_some_and(|digits| numbered(digits, 2));
    is_part.then(|| path.with_extension(""))
}

/// `path` with an ending more.
pub(super) fn extended(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}

/// The name of a piece, counted from 0.
pub(super) fn part_file(whole: &Path, number: usize) -> PathBuf {
    extended(whole, &format!("{:03}", number + 1))
}

/// The name of a parity part, counted from 0.
pub(super) fn parity_file(whole: &Path, number: usize) -> PathBuf {
    extended(whole, &format!("p{:02}", number + 1))
}

impl Parts {
    pub(super) fn new(parts: Vec<Part>, parity: Vec<Part>, contents: Vec<Placed>) -> Parts {
        Parts { version: VERSION, parts, parity, contents, directory: PathBuf::new() }
    }

    /// Reads a list.
    pub fn read(list: &Path) -> Result<Parts> {
        let damaged = |why: String| {
            Failure::verification(format!("{}: {why}", list.display()))
                .hint("copy it again, or delete it and load the file that ends in `.001`")
        };
        let mut bytes = Vec::new();
        fs_err::File::open(list)?.take(MAX_LIST).read_to_end(&mut bytes)?;
        let no_list = |error| damaged(format!("not a list of parts: {error}"));
        let version: Version = serde_json::from_slice(&bytes).map_err(no_list)?;
        ensure!(
            version.version == VERSION,
            damaged(format!("unsupported version {} of the list of parts: expected {VERSION}", version.version))
        );
        let mut parts: Parts = serde_json::from_slice(&bytes).map_err(no_list)?;
        for part in parts.parts.iter().chain(&parts.parity) {
            let plain = Path::new(&part.file).file_name().is_some_and(|name| name == part.file.as_str());
            ensure!(plain, damaged(format!("`{}` is not a file name", part.file)));
            ensure!(part.blob.is_some(), damaged(format!("no digest and size for part `{}`", part.file)));
        }
        ensure!(!parts.parts.is_empty(), damaged("it lists no parts".to_owned()));
        ensure!(parts.contents_fit(), damaged("the offsets of the blobs do not fit the parts".to_owned()));
        parts.directory = list.parent().map(Path::to_owned).unwrap_or_default();
        Ok(parts)
    }

    /// Whether what is in the parts begins with the head, in order, and ends where they end.
    fn contents_fit(&self) -> bool {
        let total = self.parts.iter().filter_map(|part| part.blob).try_fold(0u64, |sum, blob| sum.checked_add(blob.size));
        let mut end = 0;
        let in_order = |placed: &Placed| placed.offset >= std::mem::replace(&mut end, placed.end());
        let alike = self.parts[..self.parts.len() - 1].iter().all(|part| part.blob.map(|blob| blob.size) == Some(self.size(0)));
        alike
            && self.size(0) > 0
            && self.contents.first().is_some_and(|head| head.offset == 0)
            && self.contents.iter().all(in_order)
            && total.is_some_and(|total| end <= total && end < u64::MAX)
    }

    /// The head of the archive.
    pub(super) fn head(&self) -> &Placed {
        &self.contents[0]
    }

    /// Whether this is a blob, and not the head.
    pub(super) fn is_blob(&self, placed: &Placed) -> bool {
        placed.offset > 0
    }

    /// The blobs of the archive.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Blob> + '_ {
        self.contents.iter().skip(1).map(|placed| placed.blob)
    }

    /// How many bytes a piece has.
    pub(super) fn size(&self, number: usize) -> u64 {
        self.parts[number].blob.map_or(0, |blob| blob.size)
    }

    /// Which bytes of the archive a piece has. All pieces but the last are of one size.
    pub(super) fn range(&self, number: usize) -> Range<u64> {
        let start = number as u64 * self.size(0);
        start..start + self.size(number)
    }

    /// Which bytes of something that is in the archive each piece has that has any.
    pub(super) fn ranges(&self, placed: &Placed) -> Vec<Range<u64>> {
        let size = self.size(0).max(1);
        let pieces = placed.offset / size..placed.end().div_ceil(size);
        let within = |piece: u64| {
            let (start, end) = (placed.offset.max(piece * size), placed.end().min((piece + 1).saturating_mul(size)));
            start - placed.offset..end - placed.offset
        };
        pieces.map(within).collect()
    }

    /// The numbered files that are there, from the first to a gap.
    fn follow(whole: &Path) -> Option<Parts> {
        let files = (0..).map(|number| part_file(whole, number)).take_while(|path| path.is_file());
        let part = |path: PathBuf| Some(Part { file: path.file_name()?.to_str()?.to_owned(), blob: None });
        let parts = files.map(part).collect::<Option<Vec<_>>>()?;
        let directory = whole.parent().map(Path::to_owned).unwrap_or_default();
        (!parts.is_empty()).then(|| Parts { directory, ..Parts::new(parts, Vec::new(), Vec::new()) })
    }

    /// Whether there is a list, so that parts can be told broken from whole.
    pub fn is_listed(&self) -> bool {
        !self.contents.is_empty()
    }

    /// The files of the pieces, in order.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| self.path(part)).collect()
    }

    /// All parts: pieces, then parity.
    pub(super) fn all(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(&self.parity)
    }

    /// The part with this number among [`Parts::all`].
    pub(super) fn part(&self, number: usize) -> &Part {
        self.parts.get(number).unwrap_or_else(|| &self.parity[number - self.parts.len()])
    }

    /// The file of a part.
    pub(super) fn path(&self, part: &Part) -> PathBuf {
        self.directory.join(&part.file)
    }

    /// The numbers (among [`Parts::all`]) of parts that are not there, or of another size.
    pub(super) fn missing(&self) -> BTreeSet<usize> {
        let is_there = |part: &Part| {
            let found = std::fs::metadata(self.path(part)).ok().filter(std::fs::Metadata::is_file);
            found.is_some_and(|found| part.blob.is_none_or(|blob| blob.size == found.len()))
        };
        self.all().enumerate().filter(|(_, part)| !is_there(part)).map(|(number, _)| number).collect()
    }

    /// The numbers of parts that are missing or broken: reads all of them.
    pub(super) fn broken(&self, ctx: &Context) -> Result<BTreeSet<usize>> {
        let total = self.all().filter_map(|part| part.blob).fold(0u64, |sum, blob| sum.saturating_add(blob.size));
        let task = ctx.task("check parts", Some(total), Unit::Bytes);
        let mut broken = self.missing();
        for (number, part) in self.all().enumerate() {
            if !broken.contains(&number) && part.blob.is_some() && part.blob != self.hash(part, ctx)? {
                broken.insert(number);
            }
            task.advance(part.blob.map_or(0, |blob| blob.size));
        }
        task.done("");
        Ok(broken)
    }

    /// What a part's file is; nothing if it cannot be read.
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

    /// The files of some parts, for messages.
    pub(super) fn names(&self, numbers: &BTreeSet<usize>) -> String {
        numbers.iter().map(|&number| format!("`{}`", self.part(number).file)).collect::<Vec<_>>().join(", ")
    }

    /// Whether the parity parts that are whole replace all pieces that are not.
    pub(super) fn can_rebuild(&self, broken: &BTreeSet<usize>) -> bool {
        let lost = broken.range(..self.parts.len()).count();
        lost <= self.parity.len() - broken.range(self.parts.len()..).count()
    }

    /// Writes the list, durably.
    pub(super) fn write(&self, list: &Path) -> Result<()> {
        crate::atomic_file::write(list, &serde_json::to_vec_pretty(self)?, 0o644).with_context(|| list.display().to_string())
    }
}

/// What every list begins with.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_endings() {
        for (path, whole) in [
            ("a/x.tar.001", Some("a/x.tar")),
            ("x.tar.1000", Some("x.tar")),
            ("x.tar.p01", Some("x.tar")),
            ("x.tar.parts", Some("x.tar")),
            ("x.tar", None),
            ("x.01", None),
            ("x.pxy", None),
            ("x", None),
        ] {
            assert_eq!(whole_of(Path::new(path)).as_deref(), whole.map(Path::new), "{path}");
        }
    }

    #[test]
    fn lists_that_name_files_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("x.parts");
        let blob = Blob::of(b"x");
        for (file, good) in [("x.001", true), ("../x.001", false), ("/etc/x.001", false), ("", false), ("a/b", false)] {
            let contents = vec![Placed { blob, offset: 0 }];
            Parts::new(vec![Part { file: file.to_owned(), blob: Some(blob) }], Vec::new(), contents).write(&list).unwrap();
            assert_eq!(Parts::read(&list).is_ok(), good, "{file}");
        }
        std::fs::write(&list, b"{}").unwrap();
        assert!(Parts::read(&list).is_err());
    }

    #[test]
    fn lists_whose_blobs_cannot_be_where_they_say_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("x.parts");
        let of = |size| Blob { size, ..Blob::of(b"x") };
        let at = |offset, size| Placed { blob: of(size), offset };
        let sizes = |sizes: &[u64]| sizes.iter().map(|size| Part { file: "x.001".to_owned(), blob: Some(of(*size)) }).collect::<Vec<_>>();
        for (case, parts, contents, good) in [
            ("good", sizes(&[10, 10, 5]), vec![at(0, 4), at(6, 10), at(16, 9)], true),
            ("no head", sizes(&[10]), vec![at(1, 4)], false),
            ("nothing", sizes(&[10]), vec![], false),
            ("over each other", sizes(&[10]), vec![at(0, 4), at(3, 4)], false),
            ("behind the end", sizes(&[10]), vec![at(0, 4), at(8, 3)], false),
            ("too large", sizes(&[10]), vec![at(0, 4), at(8, u64::MAX)], false),
            ("of several sizes", sizes(&[10, 9, 10]), vec![at(0, 4)], false),
            ("empty", sizes(&[0, 0]), vec![at(0, 0)], false),
            ("larger than all", sizes(&[u64::MAX, u64::MAX]), vec![at(0, 4)], false),
        ] {
            Parts::new(parts, Vec::new(), contents).write(&list).unwrap();
            assert_eq!(Parts::read(&list).is_ok(), good, "{case}");
        }
    }

    #[test]
    fn what_lies_across_pieces_has_a_range_in_each() {
        let of = |size| Some(Blob { size, ..Blob::of(b"x") });
        let parts = [10, 10, 5].map(|size| Part { file: "x.001".to_owned(), blob: of(size) });
        let parts = Parts::new(parts.to_vec(), Vec::new(), Vec::new());
        for (offset, size, cuts) in [(0, 4, &[0, 4][..]), (6, 4, &[0, 4]), (6, 5, &[0, 4, 5]), (9, 16, &[0, 1, 11, 16]), (10, 10, &[0, 10])]
        {
            let placed = Placed { blob: Blob { size, ..Blob::of(b"x") }, offset };
            let expected: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            assert_eq!(parts.ranges(&placed), expected, "{size} bytes at {offset}");
        }
    }
}
