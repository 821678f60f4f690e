//! The agent's binaries: one file per architecture, named by digest on hosts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::error::Failure;
use crate::image::{Blob, Hasher, uname_arch};

/// Which file is the agent for which architecture. Clones share what they have hashed.
#[derive(Debug, Clone, Default)]
pub struct AgentBinaries {
    files: BTreeMap<String, PathBuf>,
    hashed: Arc<Mutex<BTreeMap<PathBuf, Blob>>>,
}

impl AgentBinaries {
    /// This process's own executable, for hosts of its architecture.
    pub fn own() -> Result<Self> {
        let own = std::env::current_exe().context("own executable")?;
        Ok(AgentBinaries::default().with(std::env::consts::ARCH, own))
    }

    /// Adds the file for an architecture, by any name that [`uname_arch`] knows: `x86_64`, `amd64`.
    pub fn with(mut self, arch: &str, file: impl Into<PathBuf>) -> Self {
        self.files.insert(uname_arch(arch).to_owned(), file.into());
        self
    }

    /// The file for an architecture, its digest and size. Blocks while the file is hashed, once.
    pub(super) fn find(&self, arch: &str) -> Result<(PathBuf, Blob)> {
        let file = self.files.get(uname_arch(arch)).ok_or_else(|| {
            let have: Vec<&str> = self.files.keys().map(String::as_str).collect();
            Failure::failed(format!("no sealift binary for architecture {arch} (there is one for {})", have.join(", ")))
                .hint(format!("run sealift on a machine of that architecture: it brings its own executable to hosts ({arch})"))
        })?;
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = hashed.get(file) {
            return Ok((file.clone(), *blob));
        }
        let blob = blob_of(file)?;
        hashed.insert(file.clone(), blob);
        Ok((file.clone(), blob))
    }
}

/// Digest and size of a file.
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
        assert!(error.to_string().contains("there is one for x86_64"));
        assert!(crate::error::hints_of(&error)[0].contains("run sealift on a machine of that architecture"));
    }
}
