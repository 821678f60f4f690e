//! The files of a rootfs that may name container images: manifests, charts and image lists, followed through the instructions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::charts::{Chart, find_charts};
use super::instruction_cache::InstructionCache;
use crate::error::Failure;
use crate::events::Context;
use crate::image::Digest;
use crate::layer::{Source, Tree};
use crate::workloads::{FileKind, RequiredImages, kustomization};

/// Files that may name container images, by their paths in the rootfs.
#[derive(Debug, Clone, Default)]
pub struct ImageSources {
    files: BTreeMap<PathBuf, Content>,
    /// [`HELM`], if it comes from the context.
    helm: Option<PathBuf>,
}

/// The path of the helm that a cluster image may contain to launch its charts.
pub const HELM: &str = "bin/helm";

/// A file's content.
#[derive(Debug, Clone)]
pub struct Content {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Where its bytes are; `None` if they are in layers only, as those that RUN wrote.
    pub source: Option<Source>,
}

impl ImageSources {
    /// Applies a layer. Files are told apart by their digests, so that unchanged ones are not read.
    pub fn apply(&mut self, layer: &Tree, cache: &InstructionCache, ctx: &Context) -> Result<()> {
        for (path, entry) in layer {
            match &entry.source {
                Source::Whiteout | Source::OpaqueDirectory => self.remove(path),
                Source::File(file, _) if FileKind::of(path).is_some() => {
                    let content = Content { digest: cache.files.digest(file, ctx)?, source: Some(entry.source.clone()) };
                    self.files.insert(path.clone(), content);
                }
                Source::Bytes(bytes) if FileKind::of(path).is_some() => {
                    let content = Content { digest: Digest::of(bytes), source: Some(entry.source.clone()) };
                    self.files.insert(path.clone(), content);
                }
                Source::Directory => {}
                _ => self.remove(path),
            }
            if let Source::File(file, _) = &entry.source
                && path == Path::new(HELM)
            {
                self.helm = Some(file.clone());
            }
        }
        Ok(())
    }

    /// Removes a file, or all below a directory.
    pub fn remove(&mut self, path: &Path) {
        self.files.retain(|other, _| !other.starts_with(path));
        self.helm.take_if(|_| Path::new(HELM).starts_with(path));
    }

    /// Adds a file whose bytes are in layers only.
    pub fn add_known(&mut self, path: PathBuf, digest: Digest) {
        self.files.insert(path, Content { digest, source: None });
    }

    /// The files that are in a layer, with their digests.
    pub fn within(&self, layer: &Tree) -> BTreeMap<PathBuf, Digest> {
        let inside = self.files.iter().filter(|(path, _)| layer.contains_key(*path));
        inside.map(|(path, content)| (path.clone(), content.digest)).collect()
    }

    /// Lists the container images that the files name; charts aside, which have to be rendered.
    pub fn required_images(&self, cache: &InstructionCache) -> Result<RequiredImages> {
        let charts: BTreeSet<PathBuf> = find_charts(self.files.keys().map(PathBuf::as_path)).into_iter().collect();
        let mut all = BTreeMap::new();
        for (path, content) in &self.files {
            let Some(kind) =
                FileKind::of(path).filter(|kind| !matches!(kind, FileKind::Chart | FileKind::PackedChart | FileKind::ChartPart))
            else {
                continue;
            };
            // the files of a chart name images only when it is rendered
            if kind != FileKind::List && path.ancestors().any(|dir| charts.contains(dir)) {
                continue;
            }
            let finds = cache.finds(&content.digest, kind, || match &content.source {
                Some(Source::File(file, _)) => Ok(fs_err::read(file)?),
                Some(Source::Bytes(bytes)) => Ok(bytes.clone()),
                _ => Err(Failure::failed(format!("{}: the build cache has lost this file, which an earlier RUN wrote", path.display()))
                    .hint("build again with `--no-cache`")
                    .into()),
            })?;
            all.insert(path.clone(), finds);
        }
        kustomization::apply(&mut all);
        let mut required = RequiredImages::default();
        all.iter().for_each(|(path, finds)| required.add_file(path, finds));
        Ok(required)
    }

    /// The charts among the files.
    pub fn charts(&self) -> Vec<Chart> {
        let roots = find_charts(self.files.keys().map(PathBuf::as_path));
        let files = |root: &Path| {
            self.files.iter().filter(|(path, _)| path.starts_with(root)).map(|(path, content)| (path.clone(), content.clone())).collect()
        };
        roots.into_iter().map(|path| Chart { files: files(&path), path }).collect()
    }

    /// The rootfs's own [`HELM`], if it is a file on this machine.
    pub fn helm(&self) -> Option<&Path> {
        self.helm.as_deref()
    }
}
