//! The build context: the directory that COPY, ADD and APP read from, without the files that its ignore file excludes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{FileType, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use super::ignore_file::{Patterns, glob};
use crate::error::Failure;
use crate::layer::{Entry, Source, Tree};

/// Always excluded: otherwise writing a lock file would change the image.
const LOCK_FILES: &str = "**/Kubefile.lock";

/// The context directory.
#[derive(Debug)]
pub struct BuildContext {
    root: PathBuf,
    ignore: Patterns,
    skipped: Mutex<BTreeSet<PathBuf>>,
}

/// A file or directory of the context that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The last component of its path, as in the Kubefile.
    pub name: PathBuf,
    /// Its path on this machine.
    pub path: PathBuf,
    /// Whether it is a directory: its content is copied.
    pub is_dir: bool,
    /// Its path in the context, links followed.
    inside: PathBuf,
    /// Its path in the context, as in the Kubefile.
    written: PathBuf,
}

impl BuildContext {
    /// Opens a directory, with the ignore file `own`, or else its `.kubeignore`, or else its `.dockerignore`.
    ///
    /// # Errors
    /// Fails if the directory does not exist, or a pattern is not valid.
    pub fn open(root: &Path, own: Option<&Path>) -> Result<Self> {
        let root = root.canonicalize().map_err(|error| {
            let failure = Failure::failed(format!("build context {}: {error}", root.display()));
            failure.hint("the last argument of `sealift build` is the context directory")
        })?;
        let files = own.map(Path::to_owned).into_iter().chain([".kubeignore", ".dockerignore"].map(|name| root.join(name)));
        let mut ignore = Patterns::parse(LOCK_FILES)?;
        for file in files {
            match fs_err::read_to_string(&file) {
                Ok(text) => {
                    ignore = Patterns::parse(&format!("{text}\n{LOCK_FILES}")).with_context(|| file.display().to_string())?;
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(BuildContext { root, ignore, skipped: Mutex::default() })
    }

    /// Its path on this machine.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Selects what a source names: a path, or everything that a pattern matches.
    ///
    /// # Errors
    /// Fails if there is nothing; the message continues the source: "`x` is not in the context".
    pub fn select(&self, source: &str) -> Result<Vec<Selected>> {
        let inside = inside(source)?;
        let is_pattern = source.contains(['*', '?', '[', '\\']);
        if !is_pattern || self.root.join(&inside).symlink_metadata().is_ok() {
            return Ok(vec![self.selected(inside)?]);
        }
        let pattern = inside.to_str().context("not UTF-8")?;
        let mut found = Vec::new();
        self.match_below(Path::new(""), &pattern.split('/').collect::<Vec<_>>(), &mut found)?;
        if found.is_empty() {
            bail!(not_found(format!("matches no file in the context {}", self.root.display())));
        }
        found.into_iter().map(|path| self.selected(path)).collect()
    }

    fn selected(&self, inside: PathBuf) -> Result<Selected> {
        if self.ignore.match_path(&inside) && !self.ignore.has_exceptions() {
            let failure = Failure::failed("is excluded by the context's ignore file");
            bail!(failure.hint("remove the pattern from the ignore file, or add an exception: `!PATH`"));
        }
        let path = self.root.join(&inside);
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!(not_found(format!("is not in the context {}", self.root.display())))
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let Ok(real_inside) = real.strip_prefix(&self.root) else {
            bail!(outside(format!("is a link to {}, outside of the context", real.display())));
        };
        if !real.is_dir() && !real.is_file() {
            bail!("is a socket, pipe or device: only files and directories can be copied");
        }
        let name = inside.file_name().map(PathBuf::from).unwrap_or_default();
        Ok(Selected { name, is_dir: real.is_dir(), inside: real_inside.to_owned(), path: real, written: inside })
    }

    fn match_below(&self, dir: &Path, pattern: &[&str], found: &mut Vec<PathBuf>) -> Result<()> {
        let Some((first, rest)) = pattern.split_first() else { return Ok(()) };
        if *first == "**" {
            self.match_below(dir, rest, found)?;
        }
        let matcher = glob(first)?;
        for (name, kind) in list(&self.root.join(dir))? {
            let path = dir.join(&name);
            if self.ignore.match_path(&path) {
                continue;
            }
            match (*first == "**", rest.is_empty()) {
                (true, false) if kind.is_dir() => self.match_below(&path, pattern, found)?,
                (true, false) => {}
                _ if !matcher.is_match(&name) => {}
                (_, true) => found.push(path),
                (_, false) => self.match_below(&path, rest, found)?,
            }
        }
        Ok(())
    }

    /// The tree of a selected file or directory, owned by root. Paths are relative to it; it has the empty path itself.
    pub fn tree(&self, selected: &Selected, exclude: &Patterns) -> Result<Tree> {
        let mut walk = Walk { context: self, exclude, base: &selected.inside, links: HashMap::new(), tree: Tree::new() };
        walk.add(&selected.inside, &fs_err::symlink_metadata(&selected.path)?)?;
        Ok(walk.tree)
    }

    /// As [`Self::tree`], below the directories of its path, without the first `skip` of them (`--parents`).
    pub fn tree_with_parents(&self, selected: &Selected, skip: usize, exclude: &Patterns) -> Result<Tree> {
        let target: PathBuf = selected.written.components().skip(skip).collect();
        let mut tree: Tree = self.tree(selected, exclude)?.into_iter().map(|(path, entry)| (below(&target, &path), entry)).collect();
        for entry in tree.values_mut() {
            if let Source::Hardlink(first) = &mut entry.source {
                *first = below(&target, first);
            }
        }
        let skipped: PathBuf = selected.written.components().take(skip).collect();
        for parent in target.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let path = self.root.join(&skipped).join(parent);
            tree.insert(parent.to_owned(), entry(Source::Directory, &fs_err::metadata(&path)?, &path));
        }
        Ok(tree)
    }

    /// The sockets, pipes and devices that trees do not include.
    pub fn skipped(&self) -> Vec<PathBuf> {
        self.skipped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().cloned().collect()
    }
}

struct Walk<'a> {
    context: &'a BuildContext,
    exclude: &'a Patterns,
    base: &'a Path,
    /// The first path of each inode with several hard links, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    tree: Tree,
}

impl Walk<'_> {
    fn add(&mut self, inside: &Path, metadata: &Metadata) -> Result<()> {
        let relative = inside.strip_prefix(self.base).unwrap_or(inside);
        let is_base = relative.as_os_str().is_empty();
        let is_excluded = !is_base && (self.context.ignore.match_path(inside) || self.exclude.match_path(relative));
        let path = self.context.root.join(inside);
        if !is_excluded {
            let Some(source) = self.source(relative, &path, metadata)? else { return Ok(()) };
            self.tree.insert(relative.to_owned(), entry(source, metadata, &path));
        }
        let may_contain_files = !is_excluded || self.context.ignore.has_exceptions() || self.exclude.has_exceptions();
        if metadata.is_dir() && may_contain_files {
            for (name, _) in list(&path)? {
                self.add(&inside.join(&name), &fs_err::symlink_metadata(path.join(&name))?)?;
            }
        }
        Ok(())
    }

    fn source(&mut self, relative: &Path, path: &Path, metadata: &Metadata) -> Result<Option<Source>> {
        let kind = metadata.file_type();
        Ok(Some(if kind.is_dir() {
            Source::Directory
        } else if kind.is_symlink() {
            Source::Symlink(fs_err::read_link(path)?)
        } else if kind.is_file() {
            if metadata.nlink() > 1 {
                let first = self.links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| relative.to_owned());
                if first != relative {
                    return Ok(Some(Source::Hardlink(first.clone())));
                }
            }
            Source::File(path.to_owned(), metadata.len())
        } else {
            let mut skipped = self.context.skipped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            skipped.insert(path.to_owned());
            return Ok(None);
        }))
    }
}

fn not_found(message: String) -> Failure {
    Failure::failed(message).hint("paths are relative to the context, the last argument of `sealift build`")
}

fn outside(message: impl Into<String>) -> Failure {
    Failure::failed(message).hint("copy the file into the context")
}

fn entry(source: Source, metadata: &Metadata, path: &Path) -> Entry {
    let capability = matches!(source, Source::File(..)).then(|| xattr::get(path, "security.capability").ok().flatten()).flatten();
    let xattrs: BTreeMap<_, _> = capability.map(|value| ("security.capability".to_owned(), value)).into_iter().collect();
    Entry { source, mode: metadata.mode() & 0o7777, uid: 0, gid: 0, mtime: metadata.mtime(), xattrs }
}

/// Joins a path to `dir`; the empty path gives `dir` without a slash at its end.
pub fn below(dir: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { dir.to_owned() } else { dir.join(path) }
}

/// The names in a directory, sorted, so that trees do not depend on the filesystem.
fn list(dir: &Path) -> Result<Vec<(PathBuf, FileType)>> {
    let mut names = Vec::new();
    for item in fs_err::read_dir(dir)? {
        let item = item?;
        names.push((PathBuf::from(item.file_name()), item.file_type()?));
    }
    names.sort_by(|(name, _), (other, _)| name.cmp(other));
    Ok(names)
}

/// The number of directories before the mark `/./` in a source: `--parents` does not create them, as in docker and rsync.
pub fn parents_before_mark(source: &str) -> usize {
    let before = source.trim_start_matches("./").split_once("/./").map_or("", |(before, _)| before);
    inside(before).map_or(0, |path| path.components().count())
}

/// A source's path relative to the context. A leading `/` is the context's root; `..` may not leave it.
pub fn inside(source: &str) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(source).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => bail!(outside("is outside of the context")),
            _ => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(files: &[&str], ignore: &str) -> (tempfile::TempDir, BuildContext) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        if !ignore.is_empty() {
            std::fs::write(dir.path().join(".dockerignore"), ignore).unwrap();
        }
        let context = BuildContext::open(dir.path(), None).unwrap();
        (dir, context)
    }

    fn names(context: &BuildContext, source: &str) -> Vec<String> {
        let selected = context.select(source).unwrap();
        selected.iter().map(|selected| selected.inside.display().to_string()).collect()
    }

    #[test]
    fn sources_select_paths_and_patterns() {
        let (_dir, context) = context(&["a.sh", "b.sh", "bin/kubelet", "bin/x/y.sh", "odd[1]"], "");
        for (source, expected) in [
            ("a.sh", vec!["a.sh"]),
            ("/a.sh", vec!["a.sh"]),
            ("./bin/../a.sh", vec!["a.sh"]),
            ("*.sh", vec!["a.sh", "b.sh"]),
            ("**/*.sh", vec!["a.sh", "b.sh", "bin/x/y.sh"]),
            ("bin/*", vec!["bin/kubelet", "bin/x"]),
            ("b?n", vec!["bin"]),
            ("odd[1]", vec!["odd[1]"]),
            (".", vec![""]),
        ] {
            assert_eq!(names(&context, source), expected, "{source}");
        }
        for (source, why) in [("../x", "outside"), ("none", "not in the context"), ("*.none", "matches no file"), ("a/../../b", "outside")]
        {
            let error = context.select(source).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{source}: {error:#}");
        }
    }

    #[test]
    fn links_out_of_the_context_are_refused_and_links_inside_are_followed() {
        let (dir, context) = context(&["real/a"], "");
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("in")).unwrap();
        assert!(context.select("out/passwd").unwrap_err().to_string().contains("outside of the context"));
        let selected = context.select("in").unwrap();
        assert!(selected[0].is_dir);
        let whole = context.tree(&context.select(".").unwrap()[0], &Patterns::default()).unwrap();
        assert_eq!(whole[Path::new("out")].source, Source::Symlink("/etc".into()));
    }

    #[test]
    fn trees_do_not_include_ignored_files() {
        let (_dir, context) = context(&["a", "docs/x", "docs/keep"], "docs/*\n!docs/keep\n");
        let tree = context.tree(&context.select(".").unwrap()[0], &Patterns::default()).unwrap();
        let paths: Vec<_> = tree.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["", ".dockerignore", "a", "docs", "docs/keep"]);
    }

    #[test]
    fn parents_are_copied_except_those_before_the_mark() {
        let (_dir, context) = context(&["a/b/c/x", "a/b/y"], "");
        for (source, expected) in [
            ("a/b/c/x", vec!["a", "a/b", "a/b/c", "a/b/c/x"]),
            ("a/b/c", vec!["a", "a/b", "a/b/c", "a/b/c/x"]),
            ("a/./b/c/x", vec!["b", "b/c", "b/c/x"]),
            ("./a/b/./c/x", vec!["c", "c/x"]),
            ("a/./*/y", vec!["b", "b/y"]),
        ] {
            let selected = context.select(source).unwrap();
            let tree = context.tree_with_parents(&selected[0], parents_before_mark(source), &Patterns::default()).unwrap();
            assert_eq!(tree.keys().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), expected, "{source}");
        }
    }

    #[test]
    fn a_second_name_of_a_file_is_a_hard_link() {
        let (dir, context) = context(&["a"], "");
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let tree = context.tree(&context.select(".").unwrap()[0], &Patterns::default()).unwrap();
        assert_eq!(tree[Path::new("b")].source, Source::Hardlink("a".into()));
    }
}
