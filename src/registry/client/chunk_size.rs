//! The size of chunks in blob uploads, adapted to what a registry accepts.

use std::sync::atomic::{AtomicU64, Ordering};

/// The initial size in bytes; proxies in front of registries often refuse larger requests.
const INITIAL: u64 = 64 << 20;
/// The lower limit in bytes.
const MINIMUM: u64 = 1 << 20;

/// The current chunk size, shared by all uploads of a session.
#[derive(Debug)]
pub struct ChunkSize {
    size: AtomicU64,
}

impl Default for ChunkSize {
    fn default() -> Self {
        ChunkSize { size: AtomicU64::new(INITIAL) }
    }
}

impl ChunkSize {
    /// The size of a chunk in bytes; `u64::MAX` if the registry does not accept chunks.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Whether the registry accepts chunked uploads.
    pub fn is_supported(&self) -> bool {
        self.size() != u64::MAX
    }

    /// Reduces the size to a quarter of `refused` bytes, after such a chunk failed. Returns whether that is smaller.
    pub fn shrink(&self, refused: u64) -> bool {
        let smaller = (refused / 4).max(MINIMUM);
        self.size.fetch_min(smaller, Ordering::Relaxed);
        smaller < refused
    }

    /// Records that the registry does not accept chunks.
    pub fn set_unsupported(&self) {
        self.size.store(u64::MAX, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_shrink_to_a_mebibyte_and_no_further() {
        let chunks = ChunkSize::default();
        let mut sizes = vec![chunks.size() >> 20];
        while chunks.shrink(chunks.size()) {
            sizes.push(chunks.size() >> 20);
        }
        assert_eq!(sizes, [64, 16, 4, 1]);
        assert!(chunks.is_supported());
        chunks.set_unsupported();
        assert!(!chunks.is_supported());
    }
}
