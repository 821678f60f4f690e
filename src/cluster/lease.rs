//! The lease on a cluster, so that two operators do not change it at once: a file on the first master, changed by `sealift lease` there.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::error::Failure;
use crate::image::Digest;

/// Who holds a cluster, and until when: the content of `lease.json`. Times are Unix seconds by the clock of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The identity of the run that holds it: see [`new_holder`].
    pub holder: String,
    /// Who started that run, for people: user, machine, process.
    pub owner: String,
    /// When it was acquired.
    pub since: u64,
    /// When it expires, unless it is renewed.
    pub until: u64,
}

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Acquires it, or renews it.
    Acquire {
        /// Takes it even from another holder.
        force: bool,
    },
    /// Takes it from a run that ended without releasing it.
    TakeOver {
        /// The holder that ended. The request fails if another run has acquired the lease meanwhile.
        from: String,
    },
    /// Releases it; does nothing if another run holds it.
    Release,
}

/// How long a lease is valid without being renewed.
pub const DURATION: Duration = Duration::from_secs(60);

impl Lease {
    /// Carries out a request of `holder` for the lease in `file`.
    ///
    /// # Errors
    /// Fails if another run holds it.
    pub fn request(file: &Path, holder: &str, owner: &str, request: Request) -> Result<()> {
        fs_err::create_dir_all(file.parent().context("lease file without a directory")?)?;
        let lock = fs_err::File::create(file.with_extension("lock"))?;
        lock.file().lock().context("lease")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let current: Option<Lease> = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match next(current, holder, owner, &request, now)? {
            Some(lease) => atomic_file::write(file, &serde_json::to_vec(&lease)?, 0o644),
            None => match fs_err::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
        }
    }
}

/// The lease after a request; `None` if it is free. Pure.
fn next(current: Option<Lease>, holder: &str, owner: &str, request: &Request, now: u64) -> Result<Option<Lease>> {
    let others = current.as_ref().filter(|lease| lease.holder != holder);
    let since = current.as_ref().filter(|lease| lease.holder == holder).map_or(now, |lease| lease.since);
    match (request, others) {
        (Request::Release, None) => Ok(None),
        (Request::Release, Some(_)) => Ok(current),
        (Request::Acquire { force: false }, Some(other)) if other.until > now => Err(locked(other, now)),
        (Request::TakeOver { from }, Some(other)) if other.until > now && other.holder != *from => Err(locked(other, now)),
        (Request::Acquire { .. } | Request::TakeOver { .. }, _) => {
            Ok(Some(Lease { holder: holder.to_owned(), owner: owner.to_owned(), since, until: now + DURATION.as_secs() }))
        }
    }
}

fn locked(other: &Lease, now: u64) -> anyhow::Error {
    Failure::failed(format!("the cluster is locked by {}, who has been changing it for {} s", other.owner, now.saturating_sub(other.since)))
        .hint("wait until that run has ended, then run the same command again")
        .hint("if you are sure that no run is active, `--break-lease` breaks the lock")
        .into()
}

/// A new holder identity for a run of this process: `<machine>.<process>.<start of the process>.<random>`.
pub fn new_holder() -> String {
    let process = std::process::id();
    let started = start_of(process).unwrap_or_default();
    format!("{}.{process}.{started}.{:08x}", machine_id().unwrap_or_else(|| "unknown".to_owned()), rand::random::<u32>())
}

/// Whether the process of a holder is known to have ended. `false` for holders on other machines.
pub fn has_ended(holder: &str) -> bool {
    let mut fields = holder.split('.');
    let (Some(machine), Some(process), Some(started)) = (fields.next(), fields.next(), fields.next()) else { return false };
    let (Ok(process), Ok(started)) = (process.parse(), started.parse::<u64>()) else { return false };
    machine_id().is_some_and(|own| own == machine) && start_of(process) != Some(started)
}

/// Identifies this machine until its next boot. A container with its own PID namespace counts as a machine.
fn machine_id() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pid_namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(Digest::of(format!("{boot}{}", pid_namespace.display()).as_bytes()).short())
}

/// When a process started, in clock ticks since boot; `None` if it does not run (proc_pid_stat(5)).
fn start_of(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    fields.nth(18).filter(|_| !ended)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_holds_a_lease_until_it_releases_it_or_it_expires() {
        let lease = |holder: &str, until| Lease { holder: holder.into(), owner: "o".into(), since: 5, until };
        let acquire = Request::Acquire { force: false };
        let force = Request::Acquire { force: true };
        let take_over = |from: &str| Request::TakeOver { from: from.into() };
        let cases = [
            ("a free lease is acquired", None, acquire.clone(), Some(Some("a"))),
            ("one's own lease is renewed", Some(lease("a", 200)), acquire.clone(), Some(Some("a"))),
            ("another's lease is refused", Some(lease("b", 200)), acquire.clone(), None),
            ("an expired lease is acquired", Some(lease("b", 100)), acquire, Some(Some("a"))),
            ("the lease of a run that ended is taken over", Some(lease("b", 200)), take_over("b"), Some(Some("a"))),
            ("it is not if another run was faster", Some(lease("c", 200)), take_over("b"), None),
            ("another's lease is broken by force", Some(lease("b", 200)), force, Some(Some("a"))),
            ("one's own lease is released", Some(lease("a", 200)), Request::Release, Some(None)),
            ("another's lease is not released", Some(lease("b", 200)), Request::Release, Some(Some("b"))),
        ];
        for (name, current, request, expected) in cases {
            let got = next(current, "a", "o", &request, 100).ok().map(|lease| lease.map(|lease| lease.holder));
            assert_eq!(got, expected.map(|holder| holder.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn only_a_holder_on_this_machine_whose_process_is_gone_has_ended() {
        let own = new_holder();
        assert!(!has_ended(&own));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let theirs = format!("{}.{}.{}.1", machine_id().unwrap(), child.id(), start_of(child.id()).unwrap());
        assert!(!has_ended(&theirs));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&theirs));
        let elsewhere = theirs.replacen(&machine_id().unwrap(), "0123456789ab", 1);
        for unknown in [elsewhere.as_str(), "00c0ffee00c0ffee", ""] {
            assert!(!has_ended(unknown), "{unknown}");
        }
        let another_process_with_its_id = format!("{}.{}.1.1", machine_id().unwrap(), std::process::id());
        assert!(has_ended(&another_process_with_its_id));
    }
}
