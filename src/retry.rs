//! The one retry policy: a few attempts with exponential backoff and jitter, for network failures only.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;

use crate::error::{Kind, kind_of};
use crate::events::Context;

/// How often to try, and how long to wait between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// The pause after the first attempt; each further one is twice as long.
    pub first_pause: Duration,
    /// The upper limit of a pause.
    pub longest_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { attempts: 5, first_pause: Duration::from_millis(300), longest_pause: Duration::from_secs(10) }
    }
}

/// The wait that a server requests before the next attempt (`Retry-After`, RFC 9110 section 10.2.3).
#[derive(Debug, thiserror::Error)]
#[error("the server requests a wait of {} s", .0.as_secs())]
pub struct RetryAfter(pub Duration);

/// Runs `attempt` until it succeeds, fails with another kind than `Network`, or no attempts are left.
///
/// `what` names the work in the log. A [`RetryAfter`] in the error's chain lengthens the pause.
pub async fn retry<T, F>(policy: Policy, ctx: &Context, what: &str, attempt: impl FnMut(u32) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    retry_while_progressing(policy, ctx, what, || 0, attempt).await
}

/// As [`retry`], but starts counting again after an attempt that raised `progress`: a long transfer over a bad line finishes as
/// long as each few attempts move some bytes.
pub async fn retry_while_progressing<T, F>(
    policy: Policy,
    ctx: &Context,
    what: &str,
    progress: impl Fn() -> u64,
    mut attempt: impl FnMut(u32) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let (mut pause, mut number, mut reached) = (policy.first_pause, 0, progress());
    loop {
        number += 1;
        let error = match ctx.or_cancelled(attempt(number)).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let now = progress();
        if now > reached {
            (pause, number, reached) = (policy.first_pause, 1, now);
        }
        if kind_of(&error) != Kind::Network || number >= policy.attempts {
            return Err(error);
        }
        let requested = error.downcast_ref::<RetryAfter>().map_or(Duration::ZERO, |after| after.0);
        let wait = requested.max(pause.mul_f64(rand::rng().random_range(0.75..1.25)));
        tracing::info!("{what}: attempt {number} of {}: {error:#}; next in {wait:?}", policy.attempts);
        ctx.or_cancelled(async {
            tokio::time::sleep(wait).await;
            Ok(())
        })
        .await?;
        pause = (pause * 2).min(policy.longest_pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use std::cell::Cell;

    #[tokio::test]
    async fn attempts_are_counted_again_after_progress() {
        let policy = Policy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
        // how far each attempt comes; the work is done at 5
        for (places, done, tries) in
            [(vec![1, 2, 2, 3, 3, 4, 5], true, 7), (vec![1, 1, 1, 5], false, 3), (vec![0, 0, 0, 5], false, 3), (vec![5], true, 1)]
        {
            let (place, tried) = (Cell::new(0), Cell::new(0));
            let attempt = |_| {
                place.set(places[tried.get()]);
                tried.set(tried.get() + 1);
                let done = place.get() == 5;
                async move { if done { Ok(()) } else { Err(Failure::network("broke").into()) } }
            };
            let ended = retry_while_progressing(policy, &Context::silent(), "work", || place.get(), attempt).await;
            assert_eq!((ended.is_ok(), tried.get()), (done, tries), "{places:?}");
        }
    }
}
