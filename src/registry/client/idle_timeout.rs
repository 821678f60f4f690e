//! Notices when nothing moves any more, however long the whole takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::error::Failure;

/// How long a registry may be silent while it sends or receives.
pub const IDLE: Duration = Duration::from_secs(30);
/// How long a registry may take to answer, for example to check a large blob that it has received.
pub const ANSWER: Duration = Duration::from_secs(300);

/// Beats when bytes move.
#[derive(Debug, Clone)]
pub struct IdleTimeout {
    began: Instant,
    last: Arc<AtomicU64>,
    patience: Duration,
}

impl IdleTimeout {
    /// A pulse that may pause this long.
    pub fn new(patience: Duration) -> Self {
        IdleTimeout { began: Instant::now(), last: Arc::default(), patience }
    }

    /// Something moved.
    pub fn beat(&self) {
        self.last.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Waits for `work` as long as the pulse beats; `what` says who was silent.
    pub async fn watch<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = self.silence() => {
                Err(Failure::network(format!("{what}: no data for {} s", self.patience.as_secs())).into())
            }
        }
    }

    async fn silence(&self) {
        loop {
            let since = Duration::from_millis(self.elapsed() - self.last.load(Ordering::Relaxed).min(self.elapsed()));
            match self.patience.checked_sub(since) {
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
    async fn silence_ends_the_wait_and_beats_prolong_it() {
        let pulse = IdleTimeout::new(Duration::from_millis(80));
        let beating = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                pulse.beat();
            }
        };
        assert!(pulse.watch("peer", beating).await.is_ok());
        let error = pulse.watch("peer", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::Network);
    }
}
