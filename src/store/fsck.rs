//! Checks the whole store: every blob against its digest, every manifest against the blobs that it lists.

use std::collections::BTreeMap;
use std::io::{self, Read};

use anyhow::Result;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::Serialize;

use super::prune::{digest_of, entries};
use super::{Store, ref_name};
use crate::events::{Context, Unit};
use crate::image::{Algorithm, Blob, Content, Digest, Reference};

/// A damaged or missing blob, or an inconsistent manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The blob that is affected, if it is known.
    pub digest: Option<Digest>,
    /// The images that contain the blob.
    pub images: Vec<Reference>,
    /// What is wrong; `what` in JSON.
    #[serde(rename = "what")]
    pub message: String,
}

impl Store {
    /// Checks every blob and manifest, and returns the problems in the order of digests. An empty list means a sound store.
    pub fn fsck(&self, ctx: &Context) -> Result<Vec<Problem>> {
        let roots = self.roots()?;
        let mut findings = Findings::default();
        self.check_roots(&roots, &mut findings, ctx)?;
        for (digest, what) in self.check_bytes(ctx)? {
            findings.add(Some(digest), what);
        }
        if findings.list.is_empty() {
            return Ok(Vec::new());
        }
        // affected images are looked up only when there are problems: a map of all blobs of all images would fill the memory
        let mut affected = findings.affected();
        self.check_roots(&roots, &mut affected, ctx)?;
        Ok(findings.problems(&affected.reaches))
    }

    fn check_roots(&self, roots: &[Descriptor], findings: &mut Findings, ctx: &Context) -> Result<()> {
        for root in roots {
            ctx.check()?;
            findings.image = ref_name(root);
            self.check_descriptor(root, findings, true);
        }
        Ok(())
    }

    fn check_descriptor(&self, descriptor: &Descriptor, findings: &mut Findings, needed: bool) {
        let blob = match Blob::try_from(descriptor) {
            Ok(blob) => blob,
            Err(error) => return findings.add(None, format!("{error:#}")),
        };
        findings.reached(blob.digest);
        if self.size_of(&blob.digest).is_none() && !needed {
            return;
        }
        match self.read_manifest(descriptor) {
            // an index may list platforms that were not pulled
            Ok(Content::Index(index)) => {
                let whole = index.artifact_type().is_some();
                index.manifests().iter().for_each(|child| self.check_descriptor(child, findings, whole));
            }
            Ok(Content::Manifest(manifest)) => self.check_manifest(blob.digest, &manifest, findings),
            Ok(Content::Leaf) => {}
            Err(error) => findings.add(Some(blob.digest), format!("{error:#}")),
        }
    }

    fn check_manifest(&self, digest: Digest, manifest: &ImageManifest, findings: &mut Findings) {
        for child in std::iter::once(manifest.config()).chain(manifest.layers()) {
            let blob = match Blob::try_from(child) {
                Ok(blob) => blob,
                Err(error) => {
                    findings.add(Some(digest), format!("{error:#}"));
                    continue;
                }
            };
            findings.reached(blob.digest);
            match self.size_of(&blob.digest) {
                None => findings.add(Some(blob.digest), format!("blob {} is missing", blob.digest)),
                Some(size) if size != blob.size => {
                    findings.add(
                        Some(blob.digest),
                        format!("blob {} has {size} bytes, expected {} by manifest {digest}", blob.digest, blob.size),
                    );
                }
                Some(_) => {}
            }
        }
        if *manifest.config().media_type() == MediaType::ImageConfig {
            self.check_config(digest, manifest, findings);
        }
    }

    /// Checks that the config has one diff ID for each layer of the manifest.
    fn check_config(&self, digest: Digest, manifest: &ImageManifest, findings: &mut Findings) {
        let config = Blob::try_from(manifest.config()).and_then(|blob| self.read(&blob));
        // a config that cannot be read is reported with its blob
        let Ok(bytes) = config else { return };
        match serde_json::from_slice::<ImageConfiguration>(&bytes) {
            Ok(config) if config.rootfs().diff_ids().len() != manifest.layers().len() => findings.add(
                Some(digest),
                format!(
                    "manifest {digest} has {} layers, its config has {} diff IDs",
                    manifest.layers().len(),
                    config.rootfs().diff_ids().len()
                ),
            ),
            Ok(_) => {}
            Err(error) => findings.add(Some(digest), format!("config of manifest {digest} is invalid: {error}")),
        }
    }

    /// Hashes all blobs, in parallel.
    fn check_bytes(&self, ctx: &Context) -> Result<Vec<(Digest, String)>> {
        let blobs = self.blobs()?;
        let task = ctx.task("check blobs", Some(blobs.iter().map(|blob| blob.size).sum()), Unit::Bytes);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(ctx.jobs()).build()?;
        let damaged = pool.install(|| {
            let checked = blobs.par_iter().map_init(
                || vec![0; 256 << 10],
                |buffer, blob| {
                    ctx.check()?;
                    let read = self.reader(blob).and_then(|reader| read_to_end(reader, buffer));
                    task.advance(blob.size);
                    Ok(read.err().map(|error| (blob.digest, format!("{error:#}"))))
                },
            );
            checked.filter_map(Result::transpose).collect::<Result<Vec<_>>>()
        })?;
        task.done(format!("{} blobs", blobs.len()));
        Ok(damaged)
    }

    /// Deletes a blob if it does not match its digest; returns whether it did so.
    pub fn discard_damaged(&self, digest: &Digest) -> Result<bool> {
        let Some(size) = self.size_of(digest) else { return Ok(false) };
        let read = self.reader(&Blob { digest: *digest, size }).and_then(|mut reader| Ok(io::copy(&mut reader, &mut io::sink())?));
        if read.is_ok() {
            return Ok(false);
        }
        fs_err::remove_file(self.blob_path(digest))?;
        Ok(true)
    }

    /// The blobs in the store that images reach: those that `prune` keeps.
    pub fn reachable_blobs(&self) -> Result<Vec<Blob>> {
        let reached = self.reachable(&self.roots()?)?;
        Ok(reached.into_iter().filter_map(|digest| Some(Blob { digest, size: self.size_of(&digest)? })).collect())
    }

    /// All blobs in the store, with the size of their files in bytes.
    pub fn blobs(&self) -> Result<Vec<Blob>> {
        let mut blobs = Vec::new();
        for algorithm in Algorithm::ALL {
            for entry in entries(&self.blobs_dir(algorithm))? {
                if let Some(digest) = digest_of(&entry, algorithm) {
                    blobs.push(Blob { digest, size: entry.metadata()?.len() });
                }
            }
        }
        blobs.sort();
        Ok(blobs)
    }
}

fn read_to_end(mut reader: impl Read, buffer: &mut [u8]) -> Result<()> {
    while reader.read(buffer)? > 0 {}
    Ok(())
}

/// Problems found so far.
#[derive(Default)]
struct Findings {
    /// The image that is being checked.
    image: Option<Reference>,
    /// For each blob of interest, the images that reach it.
    reaches: BTreeMap<Digest, Vec<Reference>>,
    list: Vec<(Option<Digest>, Vec<Reference>, String)>,
}

impl Findings {
    /// Empty findings that collect which images reach the affected blobs.
    fn affected(&self) -> Findings {
        let reaches = self.list.iter().filter_map(|(digest, ..)| Some(((*digest)?, Vec::new()))).collect();
        Findings { reaches, ..Findings::default() }
    }

    fn reached(&mut self, digest: Digest) {
        if let (Some(name), Some(names)) = (&self.image, self.reaches.get_mut(&digest))
            && names.last() != Some(name)
        {
            names.push(name.clone());
        }
    }

    fn add(&mut self, digest: Option<Digest>, what: String) {
        self.list.push((digest, self.image.iter().cloned().collect(), what));
    }

    /// One problem for each finding, with all images that it affects.
    fn problems(self, reaches: &BTreeMap<Digest, Vec<Reference>>) -> Vec<Problem> {
        let problem = |(digest, images, what): (Option<Digest>, Vec<Reference>, String)| {
            let affected = digest.and_then(|digest| reaches.get(&digest).cloned());
            Problem { digest, images: affected.unwrap_or(images), message: what }
        };
        let mut problems: Vec<Problem> = self.list.into_iter().map(problem).collect();
        problems.sort();
        problems.dedup();
        problems
    }
}
