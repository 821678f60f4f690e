//! Creates an empty store (OCI image layout: `oci-layout`, `index.json`, `blobs/`) and checks its version.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::atomic_file;
use crate::error::Failure;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciLayout {
    image_layout_version: String,
}

/// Makes sure that `root` is an OCI image layout of version 1.0.0; an empty or missing directory becomes one.
pub(super) fn open_or_create(root: &Path) -> Result<()> {
    if check_version(root)? {
        return Ok(());
    }
    fs_err::create_dir_all(root)?;
    // a directory with our file `lock` is a store that another process is creating, or was killed while creating
    // (checked last, because it is the first file of a new store)
    if fs_err::read_dir(root)?.next().is_some() && !root.join("lock").exists() {
        return Err(Failure::usage("not an image store: the directory is not empty and has no `oci-layout` file")
            .hint("use an empty or new directory with `--store DIR`")
            .into());
    }
    create(root)
}

fn create(root: &Path) -> Result<()> {
    let lock = File::options().create(true).append(true).open(root.join("lock"))?;
    lock.lock()?;
    if check_version(root)? {
        return Ok(());
    }
    fs_err::create_dir_all(root.join("blobs/sha256"))?;
    fs_err::create_dir_all(root.join("ingest"))?;
    if !root.join("index.json").exists() {
        atomic_file::write(&root.join("index.json"), EMPTY_INDEX, 0o644)?;
    }
    atomic_file::write(&root.join("oci-layout"), LAYOUT, 0o644)
}

/// Whether there is a layout; another version than 1.0.0 is an error.
fn check_version(root: &Path) -> Result<bool> {
    let text = match fs::read(root.join("oci-layout")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(anyhow::Error::from(error).context("oci-layout")),
    };
    match serde_json::from_slice::<OciLayout>(&text) {
        Ok(layout) if layout.image_layout_version == "1.0.0" => Ok(true),
        Ok(layout) => bail!(
            Failure::usage(format!("unsupported image layout version {}: expected 1.0.0", layout.image_layout_version))
                .hint("use another store with `--store DIR`")
        ),
        Err(error) => bail!(
            Failure::verification(format!("oci-layout is damaged: {error}"))
                .hint(r#"write `{"imageLayoutVersion":"1.0.0"}` to it, or use another store with `--store DIR`"#)
        ),
    }
}
