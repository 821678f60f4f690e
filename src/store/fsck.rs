//! Checks the whole store: every blob against its digest, every document against what it names.

use std::collections::BTreeMap;
use std::io::{self, Read};

use anyhow::Result;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::Serialize;

use super::prune::{digest_of, entries};
use super::{Store, name_of};
use crate::events::{Context, Unit};
use crate::image::{Algorithm, Blob, Content, Digest, Reference};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The blob, if it is about one.
    pub digest: Option<Digest>,
    /// The names of the images that suffer from it.
    pub images: Vec<Reference>,
    /// What is wrong.
    pub what: String,
}

impl Store {
    /// Checks every blob and document; what is wrong, in the order of digests. An empty list is a sound store.
    pub fn fsck(&self, ctx: &Context) -> Result<Vec<Problem>> {
        let roots = self.roots()?;
        let mut found = Findings::default();
        self.check_documents(&roots, &mut found, ctx)?;
        for (digest, what) in self.check_bytes(ctx)? {
            found.add(Some(digest), what);
        }
        if found.found.is_empty() {
            return Ok(Vec::new());
        }
        // which images suffer is asked only when something is wrong: all blobs of all images would fill the memory
        let mut suffering = found.suffering();
        self.check_documents(&roots, &mut suffering, ctx)?;
        Ok(found.problems(&suffering.reaches))
    }

    fn check_documents(&self, roots: &[Descriptor], found: &mut Findings, ctx: &Context) -> Result<()> {
        for root in roots {
            ctx.check()?;
            found.image = name_of(root);
            self.check_document(root, found, true);
        }
        Ok(())
    }

    fn check_document(&self, descriptor: &Descriptor, found: &mut Findings, needed: bool) {
        let blob = match Blob::try_from(descriptor) {
            Ok(blob) => blob,
            Err(error) => return found.add(None, format!("{error:#}")),
        };
        found.reached(blob.digest);
        if self.size_of(&blob.digest).is_none() && !needed {
            return;
        }
        match self.document(descriptor) {
            // an index may list platforms that nobody fetched
            Ok(Content::Index(index)) => {
                let whole = index.artifact_type().is_some();
                index.manifests().iter().for_each(|child| self.check_document(child, found, whole));
            }
            Ok(Content::Manifest(manifest)) => self.check_manifest(blob.digest, &manifest, found),
            Ok(Content::Leaf) => {}
            Err(error) => found.add(Some(blob.digest), format!("{error:#}")),
        }
    }

    fn check_manifest(&self, digest: Digest, manifest: &ImageManifest, found: &mut Findings) {
        for child in std::iter::once(manifest.config()).chain(manifest.layers()) {
            let blob = match Blob::try_from(child) {
                Ok(blob) => blob,
                Err(error) => {
                    found.add(Some(digest), format!("{error:#}"));
                    continue;
                }
            };
            found.reached(blob.digest);
            match self.size_of(&blob.digest) {
                None => found.add(Some(blob.digest), format!("blob {} is missing", blob.digest)),
                Some(size) if size != blob.size => {
                    found.add(
                        Some(blob.digest),
                        format!("blob {} has {size} bytes, expected {} by manifest {digest}", blob.digest, blob.size),
                    );
                }
                Some(_) => {}
            }
        }
        if *manifest.config().media_type() == MediaType::ImageConfig {
            self.check_config(digest, manifest, found);
        }
    }

    /// What no other client checks: that the config names as many layers as the manifest has.
    fn check_config(&self, digest: Digest, manifest: &ImageManifest, found: &mut Findings) {
        let config = Blob::try_from(manifest.config()).and_then(|blob| self.read(&blob));
        // a config that cannot be read is a finding about its bytes
        let Ok(bytes) = config else { return };
        match serde_json::from_slice::<ImageConfiguration>(&bytes) {
            Ok(config) if config.rootfs().diff_ids().len() != manifest.layers().len() => found.add(
                Some(digest),
                format!(
                    "manifest {digest} has {} layers, its config has {} diff IDs",
                    manifest.layers().len(),
                    config.rootfs().diff_ids().len()
                ),
            ),
            Ok(_) => {}
            Err(error) => found.add(Some(digest), format!("config of manifest {digest} is invalid: {error}")),
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

    /// Deletes a blob whose bytes are not what its digest says; whether it was so.
    pub fn discard_damaged(&self, digest: &Digest) -> Result<bool> {
        let Some(size) = self.size_of(digest) else { return Ok(false) };
        let read = self.reader(&Blob { digest: *digest, size }).and_then(|mut reader| Ok(io::copy(&mut reader, &mut io::sink())?));
        if read.is_ok() {
            return Ok(false);
        }
        fs_err::remove_file(self.blob_path(digest))?;
        Ok(true)
    }

    /// The blobs that names keep and that are here: what `prune` takes nothing of.
    pub fn reachable_blobs(&self) -> Result<Vec<Blob>> {
        let reached = self.reachable(&self.roots()?)?;
        Ok(reached.into_iter().filter_map(|digest| Some(Blob { digest, size: self.size_of(&digest)? })).collect())
    }

    /// All blobs that are here, with the size they have.
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

/// What was found.
#[derive(Default)]
struct Findings {
    /// The image that is looked at.
    image: Option<Reference>,
    /// The images that reach the blobs that are asked about.
    reaches: BTreeMap<Digest, Vec<Reference>>,
    found: Vec<(Option<Digest>, Vec<Reference>, String)>,
}

impl Findings {
    /// Asks which images reach the blobs that something is wrong with.
    fn suffering(&self) -> Findings {
        let reaches = self.found.iter().filter_map(|(digest, ..)| Some(((*digest)?, Vec::new()))).collect();
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
        self.found.push((digest, self.image.iter().cloned().collect(), what));
    }

    /// One problem for each finding, with all images that suffer from it.
    fn problems(self, reaches: &BTreeMap<Digest, Vec<Reference>>) -> Vec<Problem> {
        let problem = |(digest, images, what): (Option<Digest>, Vec<Reference>, String)| {
            let suffering = digest.and_then(|digest| reaches.get(&digest).cloned());
            Problem { digest, images: suffering.unwrap_or(images), what }
        };
        let mut problems: Vec<Problem> = self.found.into_iter().map(problem).collect();
        problems.sort();
        problems.dedup();
        problems
    }
}
