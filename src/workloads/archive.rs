//! Container images that are on this machine already: OCI layout directories and tars of them (`oci-archive`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageIndex};

use crate::error::Failure;
use crate::events::Job;
use crate::image::{ANNOTATION_REF_NAME, Blob, Digest, Name};
use crate::store::Store;

/// Containerd keeps the full name here; `ref.name` has only the tag then.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An OCI layout with container images.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    images: Vec<Image>,
    /// Where the blobs of a tar are: offset and size in bytes. `None` for a directory.
    places: Option<HashMap<Digest, (u64, u64)>>,
}

#[derive(Debug)]
struct Image {
    name: Option<Name>,
    root: Descriptor,
}

impl Archive {
    /// Opens a layout directory or an uncompressed tar of one, and reads its index.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = if path.is_dir() { Self::open_dir(path) } else { Self::open_tar(path) };
        opened.with_context(|| {
            Failure::usage(format!("{} is no OCI layout", path.display()))
                .hint("want a directory with `oci-layout` and `index.json`, or a tar of one (`skopeo copy docker://… oci-archive:…`)")
        })
    }

    fn open_dir(path: &Path) -> Result<Self> {
        let index = fs_err::read(path.join("index.json"))?;
        Ok(Archive { path: path.to_owned(), images: images(&index)?, places: None })
    }

    fn open_tar(path: &Path) -> Result<Self> {
        let (mut places, mut index) = (HashMap::new(), None);
        let mut tar = tar::Archive::new(fs_err::File::open(path)?);
        for entry in tar.entries_with_seek()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            if name == "index.json" {
                let mut bytes = Vec::new();
                (&mut entry).take(crate::store::MAX_DOCUMENT).read_to_end(&mut bytes)?;
                index = Some(bytes);
            } else if let Some(hex) = name.strip_prefix("blobs/sha256/")
                && let Ok(digest) = format!("sha256:{hex}").parse()
            {
                places.insert(digest, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Archive { path: path.to_owned(), images: images(&index.context("no index.json")?)?, places: Some(places) })
    }

    /// The root of the image with this name, or with the digest that the name gives.
    pub fn find(&self, wanted: &Name) -> Option<&Descriptor> {
        let image = match wanted.digest() {
            Some(digest) => self.images.iter().find(|image| Digest::try_from(image.root.digest()).ok() == Some(digest)),
            None => self.images.iter().find(|image| image.name.as_ref() == Some(wanted)),
        };
        image.map(|image| &image.root)
    }

    /// Copies a blob into the store, verified, unless it is there.
    pub fn fetch(&self, blob: &Blob, store: &Store, job: &Job) -> Result<()> {
        if store.has(blob) {
            return Ok(());
        }
        self.copy(blob, store, job).with_context(|| format!("blob {} from {}", blob.digest, self.path.display()))
    }

    fn copy(&self, blob: &Blob, store: &Store, job: &Job) -> Result<()> {
        let mut reader = self.reader(blob)?;
        let mut ingest = store.ingest(blob)?;
        std::io::copy(&mut (&mut reader).take(ingest.offset()), &mut std::io::sink())?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            job.check()?;
            match reader.read(&mut buffer)? {
                0 => return ingest.commit(),
                count => std::io::Write::write_all(&mut ingest, &buffer[..count])?,
            }
        }
    }

    fn reader(&self, blob: &Blob) -> Result<Box<dyn Read>> {
        match &self.places {
            None => Ok(Box::new(File::open(self.path.join("blobs/sha256").join(blob.digest.hex()))?)),
            Some(places) => {
                let (offset, size) = *places.get(&blob.digest).context("not in the archive")?;
                let mut file = File::open(&self.path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file.take(size)))
            }
        }
    }
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
