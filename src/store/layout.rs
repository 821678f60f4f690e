//! The frame of the store: `oci-layout`, an empty index, the folders.

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

/// Makes sure that `root` is an OCI image layout of a version we know; an empty or missing directory becomes one.
pub(super) fn open_or_make(root: &Path) -> Result<()> {
    if check_version(root)? {
        return Ok(());
    }
    fs_err::create_dir_all(root)?;
    // `lock` is our own file: a directory with it is a store that another process makes or was killed making
    // (looked for last: one that is being made begins with it)
    if fs_err::read_dir(root)?.next().is_some() && !root.join("lock").exists() {
        return Err(Failure::usage("not an image store: the directory is not empty and has no `oci-layout` file")
            .hint("use an empty or new directory with `--store DIR`")
            .into());
    }
    make(root)
}

fn make(root: &Path) -> Result<()> {
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

/// Whether there is a layout; one of another version is an error.
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
