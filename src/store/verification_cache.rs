//! What was found out about blobs, so that it need not be found out again. It is true of a digest, wherever its bytes are, and goes
//! when `prune` deletes the blob.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Store;
use crate::image::Digest;

impl Store {
    /// What is known about a blob; none if that is nothing, or cannot be read.
    pub fn verification<T: DeserializeOwned>(&self, digest: &Digest) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.finding_path(digest)).ok()?).ok()
    }

    /// Keeps what is known about a blob. Where it cannot be kept it is found out again the next time, so there is no error; nor is it
    /// synced: what a crash tears cannot be read.
    pub fn keep_verification(&self, digest: &Digest, finding: &impl Serialize) {
        let Ok(bytes) = serde_json::to_vec(finding) else { return };
        let dir = self.checked_dir();
        let keep = || -> std::io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir)?;
            std::fs::write(file.path(), &bytes)?;
            file.persist(self.finding_path(digest))?;
            Ok(())
        };
        if let Err(error) = keep() {
            tracing::debug!("{} is not kept: {error}", dir.join(digest.hex()).display());
        }
    }

    pub(super) fn checked_dir(&self) -> PathBuf {
        self.root.join("checked")
    }

    fn finding_path(&self, digest: &Digest) -> PathBuf {
        self.checked_dir().join(digest.hex())
    }
}
