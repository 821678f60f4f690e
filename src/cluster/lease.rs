//! A lease on a cluster: two operators do not change it at once. Kept on the first master, by sealift itself there.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::error::Failure;

/// Who holds a cluster, and until when. Times are seconds since 1970 by the host's own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Names the run that holds it.
    pub holder: String,
    /// Who that is, for people: user, machine, process.
    pub owner: String,
    /// Since when.
    pub since: u64,
    /// Until when, unless it is renewed.
    pub until: u64,
}

/// What is asked of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To hold it, or to go on holding it.
    Hold {
        /// Takes it even from another that holds it.
        by_force: bool,
    },
    /// To hold it after a run that died.
    Inherit {
        /// That run; if meanwhile another holds it, it is not taken.
        from: String,
    },
    /// To give it back.
    Release,
}

/// So long a lease holds without being renewed.
pub const TERM: Duration = Duration::from_secs(60);

impl Lease {
    /// Carries out a request on the lease in `file`.
    ///
    /// # Errors
    /// Fails if another holds it.
    pub fn ask(file: &Path, holder: &str, owner: &str, request: Request) -> Result<()> {
        fs_err::create_dir_all(file.parent().context("a lease has a directory")?)?;
        let lock = fs_err::File::create(file.with_extension("lock"))?;
        lock.file().lock().context("lease")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let held: Option<Lease> = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match next(held, holder, owner, &request, now)? {
            Some(lease) => atomic_file::write(file, &serde_json::to_vec(&lease)?, 0o644),
            None => match fs_err::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
        }
    }
}

/// What a lease becomes; `None` if nobody holds it. Pure.
fn next(held: Option<Lease>, holder: &str, owner: &str, request: &Request, now: u64) -> Result<Option<Lease>> {
    let others = held.as_ref().filter(|lease| lease.holder != holder);
    let since = held.as_ref().filter(|lease| lease.holder == holder).map_or(now, |lease| lease.since);
    match (request, others) {
        (Request::Release, None) => Ok(None),
        (Request::Release, Some(_)) => Ok(held),
        (Request::Hold { by_force: false }, Some(other)) if other.until > now => Err(refusal(other, now)),
        (Request::Inherit { from }, Some(other)) if other.until > now && other.holder != *from => Err(refusal(other, now)),
        (Request::Hold { .. } | Request::Inherit { .. }, _) => {
            Ok(Some(Lease { holder: holder.to_owned(), owner: owner.to_owned(), since, until: now + TERM.as_secs() }))
        }
    }
}

fn refusal(other: &Lease, now: u64) -> anyhow::Error {
    Failure::failed(format!("{} has been changing this cluster for {} s", other.owner, now.saturating_sub(other.since)))
        .hint("wait until it is done, then run the same command again")
        .hint("`--break-lease` takes the cluster at once, if you know that nobody is at it")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_at_a_time_until_it_ends() {
        let lease = |holder: &str, until| Lease { holder: holder.into(), owner: "o".into(), since: 5, until };
        let hold = Request::Hold { by_force: false };
        let force = Request::Hold { by_force: true };
        let inherit = |from: &str| Request::Inherit { from: from.into() };
        let cases = [
            ("nobody's is taken", None, hold.clone(), Some(Some("a"))),
            ("one's own is renewed", Some(lease("a", 200)), hold.clone(), Some(Some("a"))),
            ("another's is refused", Some(lease("b", 200)), hold.clone(), None),
            ("another's that has ended is taken", Some(lease("b", 100)), hold, Some(Some("a"))),
            ("that of a run that died is taken", Some(lease("b", 200)), inherit("b"), Some(Some("a"))),
            ("it is not if another was quicker", Some(lease("c", 200)), inherit("b"), None),
            ("another's is taken by force", Some(lease("b", 200)), force, Some(Some("a"))),
            ("one's own is given back", Some(lease("a", 200)), Request::Release, Some(None)),
            ("another's stays", Some(lease("b", 200)), Request::Release, Some(Some("b"))),
        ];
        for (name, held, request, expected) in cases {
            let got = next(held, "a", "o", &request, 100).ok().map(|lease| lease.map(|lease| lease.holder));
            assert_eq!(got, expected.map(|holder| holder.map(str::to_owned)), "{name}");
        }
    }
}
