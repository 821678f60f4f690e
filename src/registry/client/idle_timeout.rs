//! An idle timeout: fails a transfer that makes no progress, however long the whole takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::error::Failure;

/// The idle timeout while data is sent or received.
pub const IDLE: Duration = Duration::from_secs(30);
/// The timeout for a response that takes time, for example while the registry verifies a large blob.
pub const RESPONSE: Duration = Duration::from_secs(300);

/// A timeout that restarts with each progress. Clones share their state.
#[derive(Debug, Clone)]
pub struct IdleTimeout {
    began: Instant,
    last: Arc<AtomicU64>,
    limit: Duration,
}

impl IdleTimeout {
    /// A timeout that expires after `limit` without progress.
    pub fn new(limit: Duration) -> Self {
        IdleTimeout { began: Instant::now(), last: Arc::default(), limit }
    }

    /// Restarts the timeout after progress.
    pub fn reset(&self) {
        self.last.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Waits for `work`, or fails with kind `Network` when the timeout expires; `what` describes the work.
    pub async fn wait_for<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = self.expired() => {
                Err(Failure::network(format!("{what}: no data for {} s", self.limit.as_secs())).into())
            }
        }
    }

    async fn expired(&self) {
        loop {
            let since = Duration::from_millis(self.elapsed() - self.last.load(Ordering::Relaxed).min(self.elapsed()));
            match self.limit.checked_sub(since) {
                Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
                _ => return,
            }
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timeout_expires_without_progress_and_restarts_with_it() {
        let idle = IdleTimeout::new(Duration::from_millis(80));
        let progress = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                idle.reset();
            }
        };
        assert!(idle.wait_for("peer", progress).await.is_ok());
        let error = idle.wait_for("peer", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::Network);
    }
}
