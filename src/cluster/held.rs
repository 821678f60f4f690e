//! A cluster held by this run: the lease on its first master, renewed while it lives.

use std::sync::Arc;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::lease::TERM;
use super::names;
use crate::events::Job;
use crate::host::{Exec, Host};

/// A lease that this run holds.
pub struct Held {
    holder: String,
    owner: String,
}

impl Held {
    /// Takes the lease on the host, or says who has it.
    pub async fn take(host: &Host, owner: &str, by_force: bool, job: &Job) -> Result<Held> {
        let held = Held { holder: format!("{:016x}", rand::random::<u64>()), owner: owner.to_owned() };
        held.ask(host, if by_force { &["hold", "--break-lease"] } else { &["hold"] }, job).await?;
        Ok(held)
    }

    /// Does some work and renews the lease while it goes on; then gives it back, however it ended.
    pub async fn during<T>(&self, host: &Host, job: &Job, work: impl Future<Output = Result<T>>) -> Result<T> {
        let renew = async {
            loop {
                tokio::time::sleep(TERM / 4).await;
                if let Err(error) = self.ask(host, &["hold"], job).await {
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

    async fn ask(&self, host: &Host, request: &[&str], job: &Job) -> Result<()> {
        let base = [names::SEALIFT, "lease", "--holder", &self.holder, "--owner", &self.owner];
        let command = Exec::new(base.into_iter().chain(request.iter().copied())).quiet();
        let output = host.exec(&command, job).await?;
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

/// The same job, but not stopped by the user: for what must be tidied up at the end.
fn unstoppable() -> Job {
    Job::new(Arc::new(crate::events::Silent), CancellationToken::new(), std::num::NonZeroUsize::MIN)
}
