//! How much of a blob goes in one request.

use std::sync::atomic::{AtomicU64, Ordering};

/// Larger blobs go in chunks of this size; proxies before registries often refuse more in one request.
const FIRST: u64 = 64 << 20;
/// No chunk is made smaller.
const SMALLEST: u64 = 1 << 20;

/// The size of chunks, as a registry has shown what it takes; shared by all uploads of a session.
#[derive(Debug)]
pub struct ChunkSize {
    size: AtomicU64,
}

impl Default for ChunkSize {
    fn default() -> Self {
        ChunkSize { size: AtomicU64::new(FIRST) }
    }
}

impl ChunkSize {
    /// Bytes of a chunk; more than any blob has where the registry takes no chunks.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Whether the registry takes chunks at all.
    pub fn are_taken(&self) -> bool {
        self.size() != u64::MAX
    }

    /// A chunk of so many bytes was refused or broke off: the next ones are a quarter of that. Whether that is less.
    pub fn shrink(&self, refused: u64) -> bool {
        let smaller = (refused / 4).max(SMALLEST);
        self.size.fetch_min(smaller, Ordering::Relaxed);
        smaller < refused
    }

    /// The registry takes only whole blobs.
    pub fn give_up(&self) {
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
        assert!(chunks.are_taken());
        chunks.give_up();
        assert!(!chunks.are_taken());
    }
}
