//! Files of the rootfs that may name container images, followed through the instructions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cache::Cache;
use super::charts::{Chart, among};
use crate::chart::{Files, archive};
use crate::events::Job;
use crate::image::Digest;
use crate::layer::{Source, Tree};
use crate::workloads::{Kind, Wanted, kustomization};

/// The files, by path in the rootfs.
#[derive(Debug, Clone, Default)]
pub struct Named {
    files: BTreeMap<PathBuf, Content>,
}

#[derive(Debug, Clone)]
struct Content {
    digest: Digest,
    /// Where the bytes are; not known for what a RUN of an earlier build made.
    source: Option<Source>,
}

impl Named {
    /// Lays a layer over them. Files are known by their digests, so that those that did not change need not be read.
    pub fn apply(&mut self, layer: &Tree, cache: &Cache, job: &Job) -> Result<()> {
        for (path, entry) in layer {
            match &entry.source {
                Source::Whiteout | Source::OpaqueDirectory => self.remove(path),
                Source::File(file, _) if Kind::of(path).is_some() => {
                    let content = Content { digest: cache.files.digest(file, job)?, source: Some(entry.source.clone()) };
                    self.files.insert(path.clone(), content);
                }
                Source::Bytes(bytes) if Kind::of(path).is_some() => {
                    let content = Content { digest: Digest::of(bytes), source: Some(entry.source.clone()) };
                    self.files.insert(path.clone(), content);
                }
                Source::Directory => {}
                _ => self.remove(path),
            }
        }
        Ok(())
    }

    /// Removes a file, or all below a directory.
    pub fn remove(&mut self, path: &Path) {
        self.files.retain(|other, _| !other.starts_with(path));
    }

    /// Adds what a RUN of an earlier build made.
    pub fn add_known(&mut self, path: PathBuf, digest: Digest) {
        self.files.insert(path, Content { digest, source: None });
    }

    /// Those that lie in a layer, with their digests.
    pub fn within(&self, layer: &Tree) -> BTreeMap<PathBuf, Digest> {
        let inside = self.files.iter().filter(|(path, _)| layer.contains_key(*path));
        inside.map(|(path, content)| (path.clone(), content.digest)).collect()
    }

    /// Reads what they name.
    pub fn wanted(&self, cache: &Cache) -> Result<Wanted> {
        let charts: BTreeSet<PathBuf> = among(self.files.keys().map(PathBuf::as_path)).into_iter().collect();
        let mut all = BTreeMap::new();
        for (path, content) in &self.files {
            let Some(kind) = Kind::of(path).filter(|kind| !matches!(kind, Kind::Chart | Kind::PackedChart | Kind::ChartPart)) else {
                continue;
            };
            // a chart's own files mean something only when it is rendered
            if kind != Kind::List && path.ancestors().any(|dir| charts.contains(dir)) {
                continue;
            }
            let finds = cache.finds(&content.digest, kind, || match &content.source {
                Some(Source::File(file, _)) => Ok(fs_err::read(file)?),
                Some(Source::Bytes(bytes)) => Ok(bytes.clone()),
                _ => anyhow::bail!("{}: what an earlier RUN made is forgotten; build with `--no-cache`", path.display()),
            })?;
            all.insert(path.clone(), finds);
        }
        kustomization::apply(&mut all);
        let mut wanted = Wanted::default();
        all.iter().for_each(|(path, finds)| wanted.add_file(path, finds));
        Ok(wanted)
    }

    /// The charts among them, with their files.
    pub fn charts(&self) -> Result<Vec<Chart>> {
        let roots = among(self.files.keys().map(PathBuf::as_path));
        roots.into_iter().map(|path| Ok(Chart { files: self.chart_files(&path)?, path })).collect()
    }

    /// The files of a chart by their paths in it; `None` if some are forgotten.
    fn chart_files(&self, root: &Path) -> Result<Option<Files>> {
        let mut files = Files::new();
        for (path, content) in self.files.iter().filter(|(path, _)| path.starts_with(root)) {
            let bytes = match &content.source {
                Some(Source::File(file, _)) => fs_err::read(file)?,
                Some(Source::Bytes(bytes)) => bytes.clone(),
                _ => return Ok(None),
            };
            match path.strip_prefix(root) {
                Ok(inside) if !inside.as_os_str().is_empty() => drop(files.insert(inside.to_string_lossy().into_owned(), bytes)),
                _ => return archive(&bytes).map(Some),
            }
        }
        Ok(Some(files))
    }
}
