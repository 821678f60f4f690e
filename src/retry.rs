//! The one retry policy: a few tries with growing, jittered pauses, for failures that a second try can mend.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;

use crate::error::{Kind, kind_of};
use crate::events::Context;

/// How often and how patiently to try.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Tries in all, at least one.
    pub tries: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { tries: 5, first_pause: Duration::from_millis(300), longest_pause: Duration::from_secs(10) }
    }
}

/// Says how long to wait before the next try because the other end asked for it (HTTP 429, `Retry-After`).
#[derive(Debug, thiserror::Error)]
#[error("asked to wait {} s", .0.as_secs())]
pub struct RetryAfter(pub Duration);

/// Runs `attempt` until it succeeds, fails for good, or the tries are used up.
///
/// Only failures of [`Kind::Network`] are tried again. A [`RetryAfter`] in the error's chain lengthens the pause.
pub async fn retry<T, F>(policy: Policy, ctx: &Context, what: &str, attempt: impl FnMut(u32) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    retry_stuck(policy, ctx, what, || 0, attempt).await
}

/// As [`retry`], but the tries are counted anew whenever one of them came further, by what `progress` says: long work on a bad
/// line ends as long as it gets anywhere.
pub async fn retry_stuck<T, F>(
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
        if kind_of(&error) != Kind::Network || number >= policy.tries {
            return Err(error);
        }
        let asked = error.downcast_ref::<RetryAfter>().map_or(Duration::ZERO, |after| after.0);
        let wait = asked.max(pause.mul_f64(rand::rng().random_range(0.75..1.25)));
        tracing::info!("{what}: try {number} of {}: {error:#}; next in {wait:?}", policy.tries);
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
    async fn tries_are_counted_anew_when_one_came_further() {
        let policy = Policy { tries: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
        // how far each try comes; the work is done at 5
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
            let ended = retry_stuck(policy, &Context::silent(), "work", || place.get(), attempt).await;
            assert_eq!((ended.is_ok(), tried.get()), (done, tries), "{places:?}");
        }
    }
}
