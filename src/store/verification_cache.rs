//! Caches results of verifying blobs (of layers, for example) by digest. `prune` deletes an entry with its blob.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Store;
use crate::image::Digest;

impl Store {
    /// The cached result for a blob; `None` if there is none, or it cannot be read.
    pub fn cached_verification<T: DeserializeOwned>(&self, digest: &Digest) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.verification_path(digest)).ok()?).ok()
    }

    /// Caches a result for a blob. Failures are only logged, since the result can be computed again, and nothing is synced: an entry
    /// that a crash damaged cannot be parsed.
    pub fn cache_verification(&self, digest: &Digest, result: &impl Serialize) {
        let Ok(bytes) = serde_json::to_vec(result) else { return };
        let dir = self.verification_cache_dir();
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir)?;
            std::fs::write(file.path(), &bytes)?;
            file.persist(self.verification_path(digest))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!("{} is not cached: {error}", dir.join(digest.hex()).display());
        }
    }

    pub(super) fn verification_cache_dir(&self) -> PathBuf {
        self.root.join("checked")
    }

    fn verification_path(&self, digest: &Digest) -> PathBuf {
        self.verification_cache_dir().join(digest.hex())
    }
}
