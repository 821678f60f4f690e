//! What COPY --from takes out of a finished stage or an image.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::cache_key::CacheKey;
use super::context::{below, inside, left_out_parents};
use super::copy_destination::Item;
use super::ignore_file::{Patterns, glob};
use super::rootfs_view::RootfsView;
use super::stage_sources::FileSource;
use crate::error::Failure;
use crate::events::Context;
use crate::layer::{Layer, Source, Tree, flatten};
use crate::store::Store;

/// Paths and patterns, and what they are not to bring.
#[derive(Debug)]
pub struct Selection {
    /// Whose files.
    pub origin: FileSource,
    /// The sources as they were written.
    pub paths: Vec<String>,
    /// What is left out, relative to each source.
    pub exclude: Patterns,
    /// Whether the directories above the sources come along.
    pub parents: bool,
}

/// A rootfs that is finished.
#[derive(Clone, Copy)]
pub struct Finished<'a> {
    /// Its layers, lowest first.
    pub layers: &'a [Layer],
    /// Its paths.
    pub layout: &'a RootfsView,
}

/// Something that a source names.
struct Root {
    /// Its last name, as the source has it.
    name: PathBuf,
    /// Where it is, links followed.
    at: PathBuf,
    /// With `--parents`: where it is put, and the directories above that, each with its place.
    kept: PathBuf,
    above: Vec<(PathBuf, PathBuf)>,
}

impl Selection {
    /// Adds all that the selected files depend on.
    pub fn add_to(&self, key: &mut CacheKey, from: Finished<'_>) {
        self.paths.iter().for_each(|path| key.part(path));
        key.part(if self.parents { "with parents without" } else { "without" });
        self.exclude.lines().for_each(|line| key.part(line));
        key.part("of");
        from.layers.iter().for_each(|layer| key.part(layer.diff_id.to_string()));
    }

    /// The selected files; their bytes go into the directory `spool`.
    pub fn items(&self, from: Finished<'_>, spool: &Path, store: &Store, ctx: &Context) -> Result<Vec<Item>> {
        let mut roots = Vec::new();
        for path in &self.paths {
            roots.extend(self.roots(path, from.layout)?);
        }
        let wanted = |path: &Path| roots.iter().any(|root| path.starts_with(&root.at) || root.above.iter().any(|(_, at)| at == path));
        let tree = flatten(store, from.layers, wanted, spool, ctx)?;
        Ok(roots.into_iter().map(|root| self.item(root, &tree)).collect())
    }

    fn roots(&self, path: &str, layout: &RootfsView) -> Result<Vec<Root>> {
        let written = inside(path).unwrap_or_default();
        let left = left_out_parents(path);
        let root = |path: &Path| self.root(path, left, layout);
        let plain = root(&written);
        if layout.has(&plain.at) {
            return Ok(vec![plain]);
        }
        let Some((dir, pattern)) = split_pattern(&written) else {
            bail!(Failure::failed(format!("`{path}` is not there to be copied")).hint(nearest(&written, layout)));
        };
        let dir = layout.resolve(&dir);
        let matcher = glob(&pattern)?;
        let matches = |path: &&Path| path.strip_prefix(&dir).is_ok_and(|below| matcher.is_match(below));
        let found: Vec<Root> = layout.below(&dir).filter(matches).map(root).collect();
        if found.is_empty() {
            bail!(Failure::failed(format!("`{path}` matches nothing that could be copied")).hint(nearest(&dir, layout)));
        }
        Ok(found)
    }

    fn root(&self, path: &Path, left: usize, layout: &RootfsView) -> Root {
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        let (mut kept, mut above) = (PathBuf::new(), Vec::new());
        if self.parents {
            let left_out: PathBuf = path.components().take(left).collect();
            kept = path.components().skip(left).collect();
            let parents = kept.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            above = parents.map(|parent| (parent.to_owned(), layout.resolve(&left_out.join(parent)))).collect();
        }
        Root { name, at: layout.resolve(path), kept, above }
    }

    /// A part of the tree as one that stands alone: hard links into other parts become files.
    fn item(&self, root: Root, picked: &Tree) -> Item {
        let (mut tree, mut firsts) = (Tree::new(), HashMap::new());
        for (path, entry) in picked.range(root.at.clone()..).take_while(|(path, _)| path.starts_with(&root.at)) {
            let relative = path.strip_prefix(&root.at).unwrap_or(path);
            if !relative.as_os_str().is_empty() && self.exclude.match_path(relative) {
                continue;
            }
            let relative = below(&root.kept, relative);
            let mut entry = entry.clone();
            if let Source::Hardlink(first) = &entry.source {
                entry.source = picked.get(first).map_or(entry.source.clone(), |first| first.source.clone());
            }
            if let Source::File(bytes, _) = &entry.source {
                let first = firsts.entry(bytes.clone()).or_insert_with(|| relative.clone());
                if *first != relative {
                    entry.source = Source::Hardlink(first.clone());
                }
            }
            tree.insert(relative, entry);
        }
        let above = root.above.into_iter().filter_map(|(parent, at)| Some((parent, picked.get(&at)?.clone())));
        tree.extend(above.filter(|(_, entry)| entry.source == Source::Directory));
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

/// What is there instead: the names in the deepest directory of the path that exists.
fn nearest(path: &Path, layout: &RootfsView) -> String {
    let dir = path.ancestors().map(|above| layout.resolve(above)).find(|above| layout.is_dir(above)).unwrap_or_default();
    let inside: Vec<String> = layout.children(&dir).take(12).map(|name| name.display().to_string()).collect();
    match inside.as_slice() {
        [] => format!("/{} is empty there", dir.display()),
        names => format!("/{} has {} there", dir.display(), names.join(", ")),
    }
}
