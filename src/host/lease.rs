//! The lease on a cluster, so that two operators do not change it at once: a file on a master, changed by the agent there.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::host_lock;
use crate::atomic_file;
use crate::error::Failure;
use crate::image::Digest;

/// How long another process may have the file locked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Who holds a cluster, and until when: the content of `lease.json`. Times are Unix seconds by the clock of the host that keeps it.
///
/// A lease that was released stays in the file, expired, so that the next number is higher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The identity of the run that holds it: machine, process, start of the process, and a random number.
    pub holder: String,
    /// Who started that run, for people: user, machine, process.
    pub owner: String,
    /// When it was acquired.
    pub since: u64,
    /// When it expires, unless it is renewed; 0 if it was released.
    pub until: u64,
    /// Higher than that of every earlier lease on the cluster; 0 in files of the first releases. Agents refuse changes of a run whose
    /// number is older than one that they have seen.
    #[serde(default)]
    pub number: u64,
}

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Acquires it, or renews it.
    Acquire {
        /// Takes it even from another holder.
        force: bool,
        /// A number that the new one must exceed.
        above: u64,
    },
    /// Takes it from a run that ended without releasing it.
    TakeOver {
        /// The holder that ended. The request is refused if another run has acquired the lease meanwhile.
        from: String,
    },
    /// Renews it, if nobody else has held it since.
    Renew,
    /// Releases it; does nothing if another run holds it.
    Release,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The run holds it.
    Held(Lease),
    /// Nobody does.
    Free,
    /// Another run does, or has since the last renewal.
    Refused {
        /// The lease of the other run.
        lease: Lease,
        /// For how many seconds that run has been changing the cluster.
        seconds: u64,
    },
}

/// The highest number of a lease that is taken for one: numbers grow from Unix seconds, and a higher one is damage.
pub const MAX_NUMBER: u64 = 1 << 40;

/// How long a lease is valid without being renewed.
pub const DURATION: Duration = Duration::from_secs(60);

impl Lease {
    /// Carries out a request of `holder` for the lease in `file`. Blocks.
    pub fn request(file: &Path, holder: &str, owner: &str, request: &Request) -> Result<Answer> {
        if matches!(request, Request::Release | Request::Renew) && !file.exists() {
            return Ok(Answer::Free);
        }
        let _lock = host_lock::lock(&file.with_extension("lock"), |waited| {
            ensure!(waited < LOCK_TIMEOUT, "lease: locked by another process for {} s", waited.as_secs());
            Ok(())
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let current: Option<Lease> = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // with a number that nothing exceeds, no host could tell older runs from newer ones
        let current = current.map(|lease| if lease.number > MAX_NUMBER { Lease { number: 0, ..lease } } else { lease });
        let (lease, answer) = next(current.as_ref(), holder, owner, request, now);
        if let Some(lease) = lease.filter(|lease| current.as_ref() != Some(lease)) {
            atomic_file::write(file, &serde_json::to_vec(&lease)?, 0o644)?;
        }
        Ok(answer)
    }
}

impl Answer {
    /// The lease, if this run holds it.
    ///
    /// # Errors
    /// Fails if another run does; the error names its owner.
    pub fn held(self) -> Result<Option<Lease>> {
        match self {
            Answer::Held(lease) => Ok(Some(lease)),
            Answer::Free => Ok(None),
            Answer::Refused { lease, seconds } => {
                // a lease from before anybody had one has a wrong time
                let since = if seconds < 365 * 86_400 { format!(", who has been changing it for {seconds} s") } else { String::new() };
                Err(Failure::failed(format!("the cluster is locked by {}{since}", lease.owner))
                    .hint("wait until that run has ended, then run the same command again")
                    .hint("if you are sure that no run is active, `--break-lease` breaks the lock")
                    .into())
            }
        }
    }
}

/// What to write after a request (`None`: nothing), and its answer. Pure.
fn next(current: Option<&Lease>, holder: &str, owner: &str, request: &Request, now: u64) -> (Option<Lease>, Answer) {
    let own = current.filter(|lease| lease.holder == holder);
    let other = current.filter(|lease| lease.holder != holder);
    let active = other.filter(|lease| lease.until > now);
    let refused = |lease: &Lease| (None, Answer::Refused { lease: lease.clone(), seconds: now.saturating_sub(lease.since) });
    let held = |above: u64| {
        let new = || current.map_or(0, |lease| lease.number).max(above).saturating_add(1).max(now);
        let number = own.map(|lease| lease.number).filter(|&number| number > above).unwrap_or_else(new);
        let since = own.map_or(now, |lease| lease.since);
        let lease = Lease { holder: holder.to_owned(), owner: owner.to_owned(), since, until: now + DURATION.as_secs(), number };
        (Some(lease.clone()), Answer::Held(lease))
    };
    match (request, active) {
        (Request::Release, _) => (own.map(|lease| Lease { until: 0, ..lease.clone() }), Answer::Free),
        (Request::Renew, _) => match (own, other) {
            (Some(lease), _) => held(lease.number.saturating_sub(1)),
            (None, Some(other)) => refused(other),
            (None, None) => (None, Answer::Free),
        },
        (Request::Acquire { force: false, .. }, Some(other)) => refused(other),
        (Request::TakeOver { from }, Some(other)) if other.holder != *from => refused(other),
        (Request::Acquire { above, .. }, _) => held(*above),
        (Request::TakeOver { .. }, _) => held(0),
    }
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
        let lease = |holder: &str, until| Lease { holder: holder.into(), owner: "o".into(), since: 5, until, number: 7 };
        let acquire = Request::Acquire { force: false, above: 0 };
        let force = Request::Acquire { force: true, above: 0 };
        let take_over = |from: &str| Request::TakeOver { from: from.into() };
        // who holds it afterwards
        let cases = [
            ("a free lease is acquired", None, acquire.clone(), Ok(Some("a"))),
            ("one's own lease is renewed", Some(lease("a", 200)), acquire.clone(), Ok(Some("a"))),
            ("another's lease is refused", Some(lease("b", 200)), acquire.clone(), Err("b")),
            ("an expired lease is acquired", Some(lease("b", 100)), acquire.clone(), Ok(Some("a"))),
            ("a released lease is acquired", Some(lease("b", 0)), acquire, Ok(Some("a"))),
            ("the lease of a run that ended is taken over", Some(lease("b", 200)), take_over("b"), Ok(Some("a"))),
            ("it is not if another run was faster", Some(lease("c", 200)), take_over("b"), Err("c")),
            ("another's lease is broken by force", Some(lease("b", 200)), force, Ok(Some("a"))),
            ("one's own lease is renewed even if it expired", Some(lease("a", 90)), Request::Renew, Ok(Some("a"))),
            ("a renewal is refused when another holds it", Some(lease("b", 200)), Request::Renew, Err("b")),
            ("a renewal is refused when another has held it", Some(lease("b", 0)), Request::Renew, Err("b")),
            ("a renewal acquires no lease", None, Request::Renew, Ok(None)),
            ("one's own lease is released", Some(lease("a", 200)), Request::Release, Ok(None)),
            ("another's lease is not released", Some(lease("b", 200)), Request::Release, Ok(None)),
        ];
        for (name, current, request, expected) in cases {
            let (written, answer) = next(current.as_ref(), "a", "o", &request, 100);
            let got = match &answer {
                Answer::Held(lease) => Ok(Some(lease.holder.as_str())),
                Answer::Free => Ok(None),
                Answer::Refused { lease, .. } => Err(lease.holder.as_str()),
            };
            assert_eq!(got, expected, "{name}");
            assert_eq!(answer.held().is_ok(), expected.is_ok(), "{name}");
            assert!(written.is_none_or(|lease| lease.holder == "a"), "{name}: only one's own lease is written");
        }
    }

    #[test]
    fn old_files_are_read_and_a_released_lease_keeps_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("home/lease.json");
        let request = |holder: &str, request: Request| Lease::request(&file, holder, "o", &request).unwrap();
        assert_eq!((request("a", Request::Release), request("a", Request::Renew)), (Answer::Free, Answer::Free));
        assert!(!file.parent().unwrap().exists(), "nothing is created for a lease that is gone");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(&file, r#"{"holder":"b","owner":"bob","since":1,"until":2}"#).unwrap();
        let number = |answer: Answer| answer.held().unwrap().unwrap().number;
        let acquire = Request::Acquire { force: false, above: 0 };
        let first = number(request("a", acquire.clone()));
        assert_eq!(number(request("a", Request::Renew)), first);
        request("a", Request::Release);
        let second = number(request("b", acquire.clone()));
        assert!(second > first && first > 1_700_000_000, "also when the file of an earlier number is lost");
        assert!(matches!(request("a", Request::Renew), Answer::Refused { .. }));
        assert_eq!(
            number(request("b", Request::Acquire { force: false, above: second + 10 })),
            second + 11,
            "a holder may raise its number"
        );
        assert_eq!(number(request("b", acquire)), second + 11);
    }

    #[test]
    fn a_number_that_nothing_exceeds_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lease.json");
        std::fs::write(&file, r#"{"holder":"b","owner":"bob","since":1,"until":2,"number":18446744073709551615}"#).unwrap();
        let number = |holder: &str| {
            let answer = Lease::request(&file, holder, "o", &Request::Acquire { force: true, above: 0 }).unwrap();
            answer.held().unwrap().unwrap().number
        };
        let first = number("a");
        assert!(first < MAX_NUMBER && number("c") > first);
    }

    proptest::proptest! {
        #[test]
        fn at_most_one_run_holds_it_and_every_acquisition_has_a_higher_number(
            requests in proptest::collection::vec((0..3usize, 0..5usize, 0..40u64), 1..60),
        ) {
            let (mut current, mut now, mut highest) = (None::<Lease>, 1000, 0);
            for (holder, kind, passed) in requests {
                now += passed;
                let holder = ["a", "b", "c"][holder];
                let before = current.clone();
                let request = match kind {
                    0 => Request::Acquire { force: false, above: 0 },
                    1 => Request::Acquire { force: true, above: 0 },
                    2 => Request::TakeOver { from: before.as_ref().map(|lease| lease.holder.clone()).unwrap_or_default() },
                    3 => Request::Renew,
                    _ => Request::Release,
                };
                let (written, answer) = next(before.as_ref(), holder, "o", &request, now);
                current = written.or(current);
                if let Answer::Held(lease) = answer {
                    proptest::prop_assert_eq!(current.as_ref(), Some(&lease));
                    let renewed = before.as_ref().is_some_and(|before| before.holder == holder);
                    let active = before.as_ref().is_some_and(|before| before.until > now);
                    proptest::prop_assert!(renewed || !active || kind == 1 || kind == 2);
                    let grown = if renewed { lease.number == highest } else { lease.number > highest };
                    proptest::prop_assert!(grown);
                    highest = lease.number;
                }
            }
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
