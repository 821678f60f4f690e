//! Files of the rootfs that may name container images, followed through the instructions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::charts::{Chart, among};
use super::instruction_cache::InstructionCache;
use crate::events::Context;
use crate::image::Digest;
use crate::layer::{Source, Tree};
use crate::workloads::{FileKind, RequiredImages, kustomization};

/// The files, by path in the rootfs.
#[derive(Debug, Clone, Default)]
pub struct ImageSources {
    files: BTreeMap<PathBuf, Content>,
    /// `bin/helm`, if it comes from the context.
    helm: Option<PathBuf>,
}

/// Where images keep the helm that launches their charts.
pub const HELM: &str = "bin/helm";

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Content {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Where the bytes are; not known for what is only in layers, as RUN makes it.
    pub source: Option<Source>,
}

impl ImageSources {
    /// Lays a layer over them. Files are known by their digests, so that those that did not change need not be read.
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

    /// Adds what a RUN made.
    pub fn add_known(&mut self, path: PathBuf, digest: Digest) {
        self.files.insert(path, Content { digest, source: None });
    }

    /// Those that lie in a layer, with their digests.
    pub fn within(&self, layer: &Tree) -> BTreeMap<PathBuf, Digest> {
        let inside = self.files.iter().filter(|(path, _)| layer.contains_key(*path));
        inside.map(|(path, content)| (path.clone(), content.digest)).collect()
    }

    /// Reads what they name.
    pub fn wanted(&self, cache: &InstructionCache) -> Result<RequiredImages> {
        let charts: BTreeSet<PathBuf> = among(self.files.keys().map(PathBuf::as_path)).into_iter().collect();
        let mut all = BTreeMap::new();
        for (path, content) in &self.files {
            let Some(kind) =
                FileKind::of(path).filter(|kind| !matches!(kind, FileKind::Chart | FileKind::PackedChart | FileKind::ChartPart))
            else {
                continue;
            };
            // a chart's own files mean something only when it is rendered
            if kind != FileKind::List && path.ancestors().any(|dir| charts.contains(dir)) {
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
        let mut wanted = RequiredImages::default();
        all.iter().for_each(|(path, finds)| wanted.add_file(path, finds));
        Ok(wanted)
    }

    /// The charts among them, with their files.
    pub fn charts(&self) -> Vec<Chart> {
        let roots = among(self.files.keys().map(PathBuf::as_path));
        let files = |root: &Path| {
            self.files.iter().filter(|(path, _)| path.starts_with(root)).map(|(path, content)| (path.clone(), content.clone())).collect()
        };
        roots.into_iter().map(|path| Chart { files: files(&path), path }).collect()
    }

    /// The `helm` program that the rootfs brings, if it is a file on this machine.
    pub fn helm(&self) -> Option<&Path> {
        self.helm.as_deref()
    }
}
