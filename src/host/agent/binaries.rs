//! The sealift binaries that are uploaded to hosts as agents, one per architecture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::error::Failure;
use crate::image::{Blob, Hasher, uname_arch};

/// The file to upload for each architecture. Clones share the digests that they have computed.
#[derive(Debug, Clone, Default)]
pub struct AgentBinaries {
    files: BTreeMap<String, PathBuf>,
    digests: Arc<Mutex<BTreeMap<PathBuf, Blob>>>,
}

impl AgentBinaries {
    /// This process's own executable, for hosts of the same architecture.
    pub fn current_exe() -> Result<Self> {
        let own = std::env::current_exe().context("path of this executable")?;
        Ok(AgentBinaries::default().with(std::env::consts::ARCH, own))
    }

    /// Adds the file for an architecture, by any name that [`uname_arch`] knows: `x86_64`, `amd64`.
    pub fn with(mut self, arch: &str, file: impl Into<PathBuf>) -> Self {
        self.files.insert(uname_arch(arch).to_owned(), file.into());
        self
    }

    /// Returns the file for an architecture, with its digest and size. Blocks while the file is hashed, once.
    ///
    /// # Errors
    /// Fails if there is no file for it.
    pub(super) fn find(&self, arch: &str) -> Result<(PathBuf, Blob)> {
        let file = self.files.get(uname_arch(arch)).ok_or_else(|| {
            let available: Vec<&str> = self.files.keys().map(String::as_str).collect();
            Failure::failed(format!("no sealift binary for architecture {arch} (available: {})", available.join(", ")))
                .hint(format!("run sealift on a machine with architecture {arch}: it uploads its own executable to hosts"))
        })?;
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = digests.get(file) {
            return Ok((file.clone(), *blob));
        }
        let blob = blob_of(file)?;
        digests.insert(file.clone(), blob);
        Ok((file.clone(), blob))
    }
}

/// Computes digest and size of a file.
pub(super) fn blob_of(file: &Path) -> Result<Blob> {
    let mut hasher = Hasher::new(std::io::sink());
    std::io::copy(&mut fs_err::File::open(file)?, &mut hasher).with_context(|| file.display().to_string())?;
    Ok(hasher.finish().0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn binaries_are_found_by_either_name_and_hashed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sealift");
        std::fs::write(&file, b"elf").unwrap();
        let binaries = AgentBinaries::default().with("amd64", &file);
        assert_eq!(binaries.find("x86_64").unwrap().1.digest, Digest::of(b"elf"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(binaries.clone().find("amd64").unwrap().1.size, 3);
        let error = binaries.find("riscv64").unwrap_err();
        assert!(error.to_string().contains("available: x86_64"));
        assert!(crate::error::hints_of(&error)[0].contains("run sealift on a machine with architecture riscv64"));
    }
}
