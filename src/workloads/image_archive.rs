//! Container images that are on this machine already: OCI layout directories, tars of them (`oci-archive`), and files of `docker save`
//! (`docker-archive`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use super::docker_archive::{self, ManifestEntry};
use crate::error::{Failure, hints_of};
use crate::events::Context;
use crate::image::{ANNOTATION_REF_NAME, Blob, Digest, Reference};
use crate::store::{MAX_MANIFEST_SIZE, Store};

/// Where containerd writes the full name of an image; `ref.name` has only the tag then.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An archive or directory of container images, and what it contains.
#[derive(Debug)]
pub struct ImageArchive {
    path: PathBuf,
    images: Vec<Image>,
    /// Offset and size in bytes of each blob in a tar. `None` for a directory.
    blobs: Option<HashMap<Digest, (u64, u64)>>,
    /// The OCI manifests of the images of a docker archive, which has none itself.
    generated: HashMap<Digest, Vec<u8>>,
}

#[derive(Debug)]
struct Image {
    name: Option<Reference>,
    root: Descriptor,
}

impl ImageArchive {
    /// Opens a layout directory, or an uncompressed tar of one or of `docker save`, and lists its images.
    ///
    /// # Errors
    /// `Usage` if it is none of these.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = if path.is_dir() { Self::open_dir(path) } else { Self::open_tar(path) };
        opened.map_err(|error| {
            let mut failure = Failure::usage(format!("{} is not an archive of container images", path.display()));
            failure.hints = hints_of(&error).to_vec();
            if failure.hints.is_empty() {
                failure = failure.hint(
                    "give a directory with `oci-layout` and `index.json`, a tar of one (`skopeo copy docker://… oci-archive:…`), or a file \
                     of `docker save`",
                );
            }
            error.context(failure)
        })
    }

    fn open_dir(path: &Path) -> Result<Self> {
        let index = fs_err::read(path.join("index.json"))?;
        Ok(ImageArchive { path: path.to_owned(), images: images(&index)?, blobs: None, generated: HashMap::new() })
    }

    fn open_tar(path: &Path) -> Result<Self> {
        let mut file = fs_err::File::open(path)?;
        ensure_uncompressed(&mut file)?;
        let files = Files::list(file.file())?;
        if let Some(index) = files.document(file.file(), "index.json")? {
            return Ok(ImageArchive {
                path: path.to_owned(),
                images: images(&index)?,
                blobs: Some(files.blobs()),
                generated: HashMap::new(),
            });
        }
        let manifest = files.document(file.file(), "manifest.json")?.context("it contains neither index.json nor manifest.json")?;
        let mut archive =
            ImageArchive { path: path.to_owned(), images: Vec::new(), blobs: Some(HashMap::new()), generated: HashMap::new() };
        for saved in docker_archive::parse(&manifest)? {
            archive.add_docker_image(&saved, &files, file.file())?;
        }
        Ok(archive)
    }

    /// Adds an image of a docker archive, with a generated manifest. The digests of its layers are those in its config.
    fn add_docker_image(&mut self, saved: &ManifestEntry, files: &Files, file: &File) -> Result<()> {
        let config =
            files.document(file, &saved.config)?.with_context(|| format!("the archive does not contain the config `{}`", saved.config))?;
        let layers = saved
            .layers
            .iter()
            .map(|name| files.position(name).with_context(|| format!("the archive does not contain the layer `{name}`")));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let (manifest, diff_ids) = docker_archive::manifest(&config, layers.iter().map(|(_, size)| *size))?;
        let blobs = self.blobs.get_or_insert_default();
        blobs.extend(files.position(&saved.config).map(|position| (Digest::of(&config), position)));
        blobs.extend(diff_ids.into_iter().zip(layers));
        let blob = Blob::of(&manifest);
        let root = Descriptor::new(MediaType::ImageManifest, blob.size, blob.digest);
        self.generated.insert(blob.digest, manifest);
        let names = saved.repo_tags.iter().flatten().map(|text| text.parse().ok());
        self.images.extend(names.map(|name| Image { name, root: root.clone() }));
        Ok(())
    }

    /// The root (manifest or index) of the image with this name; of a name with a digest that with the digest.
    pub fn find(&self, name: &Reference) -> Option<&Descriptor> {
        let image = match name.digest() {
            Some(digest) => self.images.iter().find(|image| Digest::try_from(image.root.digest()).ok() == Some(digest)),
            None => self.images.iter().find(|image| image.name.as_ref() == Some(name)),
        };
        image.map(|image| &image.root)
    }

    /// The size of a blob in bytes; `None` if the archive does not contain it.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        match &self.blobs {
            None => std::fs::metadata(self.path.join("blobs").join(digest.blob_path())).ok().map(|metadata| metadata.len()),
            Some(blobs) => blobs.get(digest).map(|(_, size)| *size),
        }
    }

    /// Copies a blob into the store and verifies its digest. Does nothing if the store has it.
    pub fn fetch(&self, blob: &Blob, store: &Store, ctx: &Context) -> Result<()> {
        if store.has(blob) {
            return Ok(());
        }
        self.copy(blob, store, ctx).with_context(|| format!("blob {} from {}", blob.digest, self.path.display()))
    }

    fn copy(&self, blob: &Blob, store: &Store, ctx: &Context) -> Result<()> {
        let mut reader = self.reader(blob)?;
        let mut ingest = store.ingest(blob)?;
        std::io::copy(&mut (&mut reader).take(ingest.offset()), &mut std::io::sink())?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            ctx.check()?;
            match reader.read(&mut buffer)? {
                0 => return ingest.commit(),
                count => std::io::Write::write_all(&mut ingest, &buffer[..count])?,
            }
        }
    }

    fn reader(&self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        if let Some(manifest) = self.generated.get(&blob.digest) {
            return Ok(Box::new(manifest.as_slice()));
        }
        match &self.blobs {
            None => Ok(Box::new(File::open(self.path.join("blobs").join(blob.digest.blob_path()))?)),
            Some(blobs) => {
                let (offset, size) = *blobs.get(&blob.digest).context("the archive does not contain it")?;
                let mut file = File::open(&self.path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file.take(size)))
            }
        }
    }
}

/// Refuses a compressed tar: blobs are read at their offsets.
fn ensure_uncompressed(file: &mut fs_err::File) -> Result<()> {
    let mut start = [0; 4];
    let count = file.read(&mut start)?;
    file.rewind()?;
    let compressed = matches!(start[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]);
    ensure!(!compressed, Failure::usage("the archive is compressed").hint("decompress it first with `gunzip` or `zstd -d`"));
    Ok(())
}

/// The files of a tar.
#[derive(Default)]
struct Files {
    /// Offset and size in bytes.
    positions: HashMap<String, (u64, u64)>,
    /// Symbolic links: old versions of docker write a layer once, and links to it.
    links: HashMap<String, String>,
}

impl Files {
    fn list(file: &File) -> Result<Files> {
        let mut files = Files::default();
        let mut tar = tar::Archive::new(file);
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            match entry.link_name()?.filter(|_| entry.header().entry_type().is_symlink()) {
                Some(target) => drop(files.links.insert(name.clone(), link_target(&name, &target.to_string_lossy()))),
                None => drop(files.positions.insert(name, (entry.raw_file_position(), entry.size()))),
            }
        }
        Ok(files)
    }

    fn position(&self, name: &str) -> Option<(u64, u64)> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.positions.get(name).copied()
    }

    /// The content of a small file; `None` if the tar does not contain it.
    fn document(&self, mut file: &File, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((offset, size)) = self.position(name) else { return Ok(None) };
        ensure!(size <= MAX_MANIFEST_SIZE, Failure::verification(format!("`{name}` in the archive is larger than 4 MiB (limit)")));
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset))?;
        file.take(size).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The blobs of an OCI layout.
    fn blobs(&self) -> HashMap<Digest, (u64, u64)> {
        let blob = |(name, position): (&String, &(u64, u64))| Some((Digest::from_blob_path(name.strip_prefix("blobs/")?)?, *position));
        self.positions.iter().filter_map(blob).collect()
    }
}

/// The path in the archive that a symbolic link points to.
fn link_target(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn images(index: &[u8]) -> Result<Vec<Image>> {
    let index: ImageIndex = serde_json::from_slice(index).context("index.json")?;
    let image = |root: &Descriptor| {
        let annotation = |name| root.annotations().as_ref().and_then(|annotations| annotations.get(name));
        let text = annotation(ANNOTATION_CONTAINERD_NAME).or(annotation(ANNOTATION_REF_NAME));
        Image { name: text.and_then(|text| text.parse().ok()), root: root.clone() }
    };
    Ok(index.manifests().iter().map(image).collect())
}
