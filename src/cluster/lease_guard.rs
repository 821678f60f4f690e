//! A cluster held by this run: the lease on its first master, renewed while it lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::lease::{Lease, TERM};
use super::lease_holder;
use crate::events::Context;
use crate::host::{Exec, Host};
use crate::paths;

/// Between two looks at a lease that another run holds.
const PAUSE: Duration = Duration::from_secs(1);

/// A lease that this run holds.
pub struct LeaseGuard {
    holder: String,
    owner: String,
}

impl LeaseGuard {
    /// Takes the lease on the host. That of a run of this machine which has died is taken at once; that of any other run ends
    /// by itself unless it is renewed, which is waited for.
    ///
    /// # Errors
    /// Says who has it, if that run lives.
    pub async fn take(host: &Host, owner: &str, by_force: bool, ctx: &Context) -> Result<LeaseGuard> {
        let held = LeaseGuard { holder: lease_holder::own(), owner: owner.to_owned() };
        if by_force {
            held.ask(host, &["hold", "--break-lease"], ctx).await?;
        } else {
            held.wait(host, ctx).await?;
        }
        Ok(held)
    }

    async fn wait(&self, host: &Host, ctx: &Context) -> Result<()> {
        let mut first: Option<Lease> = None;
        let began = Instant::now();
        loop {
            let Err(refused) = self.ask(host, &["hold"], ctx).await else { return Ok(()) };
            let Some(other) = lease_on(host).await else { return Err(refused) };
            if lease_holder::has_died(&other.holder) {
                ctx.note(format!("goes on after {}, which was ended", other.owner));
                return self.ask(host, &["inherit", "--from", &other.holder], ctx).await;
            }
            match &first {
                Some(first) if lives(first, &other) || began.elapsed() > TERM * 2 => return Err(refused),
                Some(_) => {}
                None => {
                    let term = TERM.as_secs();
                    ctx.warn(format!("{} holds the cluster: waits up to {term} s whether that run still lives", other.owner));
                    first = Some(other);
                }
            }
            ctx.or_cancelled(async {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            })
            .await?;
        }
    }

    /// Does some work and renews the lease while it goes on; then gives it back, however it ended.
    pub async fn during<T>(&self, host: &Host, ctx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        let renew = async {
            loop {
                tokio::time::sleep(TERM / 4).await;
                if let Err(error) = self.ask(host, &["hold"], ctx).await {
                    return error;
                }
            }
        };
        let result = tokio::select! {
            result = work => result,
            error = renew => Err(error),
        };
        self.ask(host, &["release"], &unstoppable()).await.ok(); // it ends by itself
        result
    }

    async fn ask(&self, host: &Host, request: &[&str], ctx: &Context) -> Result<()> {
        let base = [paths::EXECUTABLE, "lease", "--holder", &self.holder, "--owner", &self.owner];
        let command = Exec::new(base.into_iter().chain(request.iter().copied())).quiet();
        let output = host.exec(&command, ctx).await?;
        if output.status == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut lines = said.lines();
        let why = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let hints = lines.filter_map(|line| line.strip_prefix("hint: "));
        Err(hints.fold(crate::error::Failure::failed(why), |failure, hint| failure.hint(hint)).into())
    }
}

/// The lease as it is on the host, if there is one.
async fn lease_on(host: &Host) -> Option<Lease> {
    serde_json::from_slice(&host.read_file(paths::LEASE).await.ok()??).ok()
}

/// Whether a lease that was seen earlier was renewed since, or taken by another run.
fn lives(earlier: &Lease, now: &Lease) -> bool {
    now.holder != earlier.holder || now.until > earlier.until
}

/// The same job, but not stopped by the user: for what must be tidied up at the end.
fn unstoppable() -> Context {
    Context::new(Arc::new(crate::events::Silent), CancellationToken::new(), std::num::NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lives_that_renews_its_lease_or_took_it_from_another() {
        let lease = |holder: &str, until| Lease { holder: holder.into(), owner: "o".into(), since: 5, until };
        let cases = [
            ("nothing happened", lease("a", 60), false),
            ("it was renewed", lease("a", 75), true),
            ("another has it", lease("b", 60), true),
        ];
        for (name, now, expected) in cases {
            assert_eq!(lives(&lease("a", 60), &now), expected, "{name}");
        }
    }
}
