//! Holds the lease on a cluster during a run, and renews it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::lease::{DURATION, Lease, has_ended, new_holder};
use crate::error::Failure;
use crate::events::Context;
use crate::host::{Exec, Host};
use crate::paths;

/// How often to try again while another run holds the lease.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The lease on a cluster, held by this run.
pub struct LeaseGuard {
    holder: String,
    owner: String,
}

impl LeaseGuard {
    /// Acquires the lease on the first master. The lease of a run on this machine that has ended is taken over at once. The lease of
    /// any other run expires unless it is renewed: this waits up to a minute for it.
    ///
    /// # Errors
    /// Fails if another run is active; the error names its owner.
    pub async fn acquire(host: &Host, owner: &str, force: bool, ctx: &Context) -> Result<LeaseGuard> {
        let guard = LeaseGuard { holder: new_holder(), owner: owner.to_owned() };
        if force {
            guard.request(host, &["hold", "--break-lease"], ctx).await?;
        } else {
            guard.wait(host, ctx).await?;
        }
        Ok(guard)
    }

    async fn wait(&self, host: &Host, ctx: &Context) -> Result<()> {
        let mut first: Option<Lease> = None;
        let began = Instant::now();
        loop {
            let Err(error) = self.request(host, &["hold"], ctx).await else { return Ok(()) };
            let Some(other) = read_lease(host).await else { return Err(error) };
            if has_ended(&other.holder) {
                ctx.note(format!("taking over the lease of {}, which has ended", other.owner));
                return self.request(host, &["inherit", "--from", &other.holder], ctx).await;
            }
            match &first {
                Some(first) if is_active(first, &other) || began.elapsed() > DURATION * 2 => return Err(error),
                Some(_) => {}
                None => {
                    let seconds = DURATION.as_secs();
                    ctx.warn(format!(
                        "the cluster is locked by {}: waiting up to {seconds} s to see whether that run is active",
                        other.owner
                    ));
                    first = Some(other);
                }
            }
            ctx.or_cancelled(async {
                tokio::time::sleep(RETRY_INTERVAL).await;
                Ok(())
            })
            .await?;
        }
    }

    /// Runs `work` and renews the lease meanwhile. Releases the lease in the end, even if `work` fails.
    ///
    /// # Errors
    /// Fails as `work` does, or if the lease cannot be renewed: then `work` is stopped.
    pub async fn hold_during<T>(&self, host: &Host, ctx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        let renew = async {
            loop {
                tokio::time::sleep(DURATION / 4).await;
                if let Err(error) = self.request(host, &["hold"], ctx).await {
                    return error;
                }
            }
        };
        let result = tokio::select! {
            result = work => result,
            error = renew => Err(error),
        };
        self.request(host, &["release"], &not_cancelled()).await.ok(); // otherwise it expires
        result
    }

    async fn request(&self, host: &Host, arguments: &[&str], ctx: &Context) -> Result<()> {
        let base = [paths::EXECUTABLE, "lease", "--holder", &self.holder, "--owner", &self.owner];
        let command = Exec::new(base.into_iter().chain(arguments.iter().copied())).quiet();
        let output = host.exec(&command, ctx).await?;
        if output.status == 0 {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut lines = stderr.lines();
        let message = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let hints = lines.filter_map(|line| line.strip_prefix("hint: "));
        Err(hints.fold(Failure::failed(message), |failure, hint| failure.hint(hint)).into())
    }
}

/// The lease on the host, if there is one.
async fn read_lease(host: &Host) -> Option<Lease> {
    serde_json::from_slice(&host.read_file(paths::LEASE).await.ok()??).ok()
}

/// Whether a lease was renewed since it was read before, or acquired by another run.
fn is_active(earlier: &Lease, now: &Lease) -> bool {
    now.holder != earlier.holder || now.until > earlier.until
}

/// A context that an interrupt does not cancel, for the cleanup at the end.
fn not_cancelled() -> Context {
    Context::new(Arc::new(crate::events::Silent), CancellationToken::new(), std::num::NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_active_if_its_lease_was_renewed_or_acquired_by_another() {
        let lease = |holder: &str, until| Lease { holder: holder.into(), owner: "o".into(), since: 5, until };
        let cases = [
            ("nothing changed", lease("a", 60), false),
            ("it was renewed", lease("a", 75), true),
            ("another run acquired it", lease("b", 60), true),
        ];
        for (name, now, expected) in cases {
            assert_eq!(is_active(&lease("a", 60), &now), expected, "{name}");
        }
    }
}
