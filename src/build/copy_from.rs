//! COPY --from: selects files of a finished stage or an image.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::cache_key::CacheKey;
use super::context::{below, inside, parents_before_mark};
use super::copy_destination::Item;
use super::ignore_file::{Patterns, glob};
use super::rootfs_view::RootfsView;
use super::stage::LayeredRootfs;
use super::stage_sources::FileSource;
use crate::error::Failure;
use crate::events::Context;
use crate::layer::{Source, Tree, flatten};
use crate::store::Store;

/// Files to copy from a stage or an image.
#[derive(Debug)]
pub struct Selection {
    /// The stage or image.
    pub source: FileSource,
    /// Paths and patterns, as in the Kubefile.
    pub paths: Vec<String>,
    /// `--exclude`, relative to each path.
    pub exclude: Patterns,
    /// `--parents`: the directories above the paths are copied too.
    pub parents: bool,
}

/// A file or directory that is selected.
struct Root {
    /// The last component of its path, as in the Kubefile.
    name: PathBuf,
    /// Its path in the rootfs, links followed.
    real: PathBuf,
    /// With `--parents`: its path below the destination.
    target: PathBuf,
    /// With `--parents`: the directories above it, below the destination and in the rootfs.
    parents: Vec<(PathBuf, PathBuf)>,
}

impl Selection {
    /// Adds everything that the selected files depend on to a cache key.
    pub fn add_to(&self, key: &mut CacheKey, from: LayeredRootfs<'_>) {
        self.paths.iter().for_each(|path| key.part(path));
        key.part(if self.parents { "with parents without" } else { "without" });
        self.exclude.lines().for_each(|line| key.part(line));
        key.part("of");
        from.layers.iter().for_each(|layer| key.part(layer.diff_id.to_string()));
    }

    /// Reads the selected files; their contents go into the directory `spool`.
    ///
    /// # Errors
    /// Fails if a path does not exist, or a pattern matches nothing; the hint lists what is there.
    pub fn items(&self, from: LayeredRootfs<'_>, spool: &Path, store: &Store, ctx: &Context) -> Result<Vec<Item>> {
        let mut roots = Vec::new();
        for path in &self.paths {
            roots.extend(self.roots(path, from.view)?);
        }
        let is_selected =
            |path: &Path| roots.iter().any(|root| path.starts_with(&root.real) || root.parents.iter().any(|(_, real)| real == path));
        let tree = flatten(store, from.layers, is_selected, spool, ctx)?;
        Ok(roots.into_iter().map(|root| self.item(root, &tree)).collect())
    }

    fn roots(&self, path: &str, view: &RootfsView) -> Result<Vec<Root>> {
        let written = inside(path).unwrap_or_default();
        let skip = parents_before_mark(path);
        let root = |path: &Path| self.root(path, skip, view);
        let literal = root(&written);
        if view.has(&literal.real) {
            return Ok(vec![literal]);
        }
        let Some((dir, pattern)) = split_pattern(&written) else {
            bail!(Failure::failed(format!("`{path}` does not exist in {}", self.source)).hint(nearest(&written, view)));
        };
        let dir = view.resolve(&dir);
        let matcher = glob(&pattern)?;
        let matches = |path: &&Path| path.strip_prefix(&dir).is_ok_and(|below| matcher.is_match(below));
        let found: Vec<Root> = view.below(&dir).filter(matches).map(root).collect();
        if found.is_empty() {
            bail!(Failure::failed(format!("`{path}` matches nothing in {}", self.source)).hint(nearest(&dir, view)));
        }
        Ok(found)
    }

    fn root(&self, path: &Path, skip: usize, view: &RootfsView) -> Root {
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        let (mut target, mut parents) = (PathBuf::new(), Vec::new());
        if self.parents {
            let skipped: PathBuf = path.components().take(skip).collect();
            target = path.components().skip(skip).collect();
            let above = target.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            parents = above.map(|parent| (parent.to_owned(), view.resolve(&skipped.join(parent)))).collect();
        }
        Root { name, real: view.resolve(path), target, parents }
    }

    /// The part of the tree below a root. Hard links to files outside of it become files.
    fn item(&self, root: Root, selected: &Tree) -> Item {
        let (mut tree, mut firsts) = (Tree::new(), HashMap::new());
        for (path, entry) in selected.range(root.real.clone()..).take_while(|(path, _)| path.starts_with(&root.real)) {
            let relative = path.strip_prefix(&root.real).unwrap_or(path);
            if !relative.as_os_str().is_empty() && self.exclude.match_path(relative) {
                continue;
            }
            let relative = below(&root.target, relative);
            let mut entry = entry.clone();
            if let Source::Hardlink(first) = &entry.source {
                entry.source = selected.get(first).map_or(entry.source.clone(), |first| first.source.clone());
            }
            if let Source::File(bytes, _) = &entry.source {
                let first = firsts.entry(bytes.clone()).or_insert_with(|| relative.clone());
                if *first != relative {
                    entry.source = Source::Hardlink(first.clone());
                }
            }
            tree.insert(relative, entry);
        }
        let parents = root.parents.into_iter().filter_map(|(parent, real)| Some((parent, selected.get(&real)?.clone())));
        tree.extend(parents.filter(|(_, entry)| entry.source == Source::Directory));
        Item { name: root.name, tree }
    }
}

/// The directory before the first part with a wildcard, and the pattern below it.
fn split_pattern(path: &Path) -> Option<(PathBuf, String)> {
    let text = path.to_str()?;
    let first = text.find(['*', '?', '[', '\\'])?;
    let cut = text[..first].rfind('/').map_or(0, |slash| slash + 1);
    Some((PathBuf::from(&text[..cut]), text[cut..].to_owned()))
}

/// A hint with the names in the deepest directory of the path that exists.
fn nearest(path: &Path, view: &RootfsView) -> String {
    let dir = path.ancestors().map(|above| view.resolve(above)).find(|above| view.is_dir(above)).unwrap_or_default();
    let names: Vec<String> = view.children(&dir).take(12).map(|name| name.display().to_string()).collect();
    match names.as_slice() {
        [] => format!("/{} is empty there", dir.display()),
        names => format!("/{} contains {}", dir.display(), names.join(", ")),
    }
}
